//! The name of every rule, and its page.

/// Pairs a code with its page.
macro_rules! page {
    ($code:literal) => {
        ($code, include_str!(concat!("../../docs/rules/", $code, ".md")))
    };
}

/// Defines a constant for each rule that code knows, and their table.
macro_rules! codes {
    ($($name:ident = $code:literal,)+) => {
        $(pub(crate) const $name: &str = $code;)+

        const OF_CODE: &[(&str, &str)] = &[$(page!($code)),+];
    };
}

/// The rules that only the schemas name.
const OF_SCHEMAS: &[(&str, &str)] = &[
    page!("widget.location"),
    page!("csp.connect-src-missing"),
    page!("authorisation.type-missing"),
    page!("authorisation.type-unknown"),
    page!("authorisation.service-name"),
    page!("config.key-missing"),
    page!("callback.secret-missing"),
];

codes! {
    JSON_SYNTAX = "json.syntax",
    JSON_TRAILING_COMMA = "json.trailing-comma",
    JSON_MISSING_COMMA = "json.missing-comma",
    JSON_COMMENT = "json.comment",
    JSON_STRING = "json.string",
    JSON_NUMBER = "json.number",
    JSON_DUPLICATE_KEY = "json.duplicate-key",
    JSON_BYTE_ORDER_MARK = "json.byte-order-mark",
    JSON_ENCODING = "json.encoding",
    JSON_TRUNCATED = "json.truncated",
    JSON_TOO_DEEP = "json.too-deep",
    JSON_TOO_LARGE = "json.too-large",
    JSON_EMPTY = "json.empty",
    PACKAGE_FILE_MISSING = "package.file-missing",
    PACKAGE_APP_MISSING = "package.app-missing",
    PACKAGE_TOO_MANY_FILES = "package.too-many-files",
    PACKAGE_FILE_TOO_LARGE = "package.file-too-large",
    PACKAGE_TOO_LARGE = "package.too-large",
    PACKAGE_FILE_NAME = "package.file-name",
    PACKAGE_ENTRY_PATH = "package.entry-path",
    PACKAGE_SYMLINK = "package.symlink",
    PACKAGE_DUPLICATE_ENTRY = "package.duplicate-entry",
    PACKAGE_ENCRYPTED = "package.encrypted",
    PACKAGE_COMPRESSION_RATIO = "package.compression-ratio",
    PACKAGE_UNREADABLE = "package.unreadable",
    KEY_MISSING = "key.missing",
    KEY_UNKNOWN = "key.unknown",
    VALUE_TYPE = "value.type",
    VALUE_NOT_LISTED = "value.not-listed",
    VALUE_EMPTY = "value.empty",
    VALUE_TOO_LONG = "value.too-long",
    VALUE_TOO_MANY = "value.too-many",
    VALUE_TOO_FEW = "value.too-few",
    NAME_PATTERN = "name.pattern",
    NAME_DUPLICATE = "name.duplicate",
    LOCALE_DEFAULT_MISSING = "locale.default-missing",
    LOCALE_DUPLICATE = "locale.duplicate",
    LOCALE_TRANSLATION_MISSING = "locale.translation-missing",
    LOCALE_TRANSLATION_UNREADABLE = "locale.translation-unreadable",
    FILE_MISSING = "file.missing",
    FILE_NOT_AN_IMAGE = "file.not-an-image",
    WIDGET_URL = "widget.url",
    URL_INVALID = "url.invalid",
    URL_SCHEME = "url.scheme",
    URL_NOT_PUBLIC = "url.not-public",
    URL_DOCUMENTATION_HOST = "url.documentation-host",
    URL_CREDENTIALS = "url.credentials",
    URL_FRAGMENT = "url.fragment",
    URL_RESERVED_PARAMETER = "url.reserved-parameter",
    DOMAIN_INVALID = "domain.invalid",
    DOMAIN_PLACEHOLDER_UNKNOWN = "domain.placeholder-unknown",
    CSP_INVALID = "csp.invalid",
    CSP_DUPLICATE = "csp.duplicate",
    SCOPE_DENIED = "scope.denied",
    SCOPE_DUPLICATE = "scope.duplicate",
    CONNECTOR_RESERVED_SERVICE = "connector.reserved-service",
    CONNECTION_LINK_NAME_DUPLICATE = "connection.link-name-duplicate",
    CONNECTION_NAME_RESERVED = "connection.name-reserved",
    CONFIG_SECRET_VISIBLE = "config.secret-visible",
    CONFIG_SECRET_DEFAULT = "config.secret-default",
    CONFIG_OPTIONS_MISSING = "config.options-missing",
    CALLBACK_EVENT_UNKNOWN = "callback.event-unknown",
    SECRET_WEAK = "secret.weak",
    SECRET_IN_SOURCE = "secret.in-source",
    WEBHOOK_SCOPE_MISSING = "webhook.scope-missing",
    WEBHOOK_ORG_TYPE = "webhook.org-type",
    WEBHOOK_EVENT_UNKNOWN = "webhook.event-unknown",
    WEBHOOK_OPTION_UNSUPPORTED = "webhook.option-unsupported",
    WEBHOOK_DEPARTMENTS_IGNORED = "webhook.departments-ignored",
    WEBHOOK_SOURCE_ID = "webhook.source-id",
    WEBHOOK_NOTHING_SUBSCRIBED = "webhook.nothing-subscribed",
    WEBHOOK_DELIVERY_OPTION = "webhook.delivery-option",
    REPORT_CUT_SHORT = "report.cut-short",
}

/// The codes of all rules.
pub fn codes() -> impl Iterator<Item = &'static str> {
    OF_CODE.iter().chain(OF_SCHEMAS).map(|&(code, _)| code)
}

/// The page of a rule in Markdown: what it says, why, and a bad and a good example.
pub fn explain(code: &str) -> Option<&'static str> {
    (OF_CODE.iter().chain(OF_SCHEMAS)).find(|&&(known, _)| known == code).map(|&(_, page)| page)
}

/// Where the page of a rule is, from the root of the repository.
pub(crate) fn page_path(code: &str) -> String {
    format!("docs/rules/{code}.md")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_code_has_a_page_and_every_page_a_code() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/rules");
        let pages: BTreeSet<_> = std::fs::read_dir(folder)
            .expect("the pages")
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"))
            .filter_map(|name| name.strip_suffix(".md").map(str::to_owned))
            .filter(|name| name != "README")
            .collect();
        assert_eq!(pages, codes().map(str::to_owned).collect());
    }

    #[test]
    fn pages_begin_with_their_code() {
        for code in codes() {
            let page = explain(code).expect("a page");
            assert!(page.starts_with(&format!("# {code}\n")), "{code}");
        }
        assert_eq!(explain("no.such-rule"), None);
    }
}
