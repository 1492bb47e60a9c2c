//! Locales, widgets, domains, the content security policy and the lifecycle callbacks.

use std::collections::{BTreeMap, BTreeSet};

use super::super::code;
use super::super::diagnostic::{Finding, Severity};
use super::super::json::{Cursor, Document, shown};
use super::super::nearest::Guesses;
use super::Package;
use super::address::{Template, absolute, check_callback, check_host};
use super::names;

/// A secret shorter than this is easily guessed.
const SHORTEST_SECRET: usize = 16;

pub(super) fn check(package: &Package<'_>, document: &Document, report: &mut impl FnMut(Finding)) {
    let root = document.cursor();
    check_locales(&root, report);
    check_widgets(package, &root, report);
    check_domains(package, &root, report);
    check_content_security(package, &root, report);
    check_callbacks(package, &root, report);
    check_secret(&root, report);
    names::unique(root.get("connectors").iter().flat_map(Cursor::items), "connectionName", report);
    names::unique(root.get("connectors").iter().flat_map(Cursor::items), "serviceName", report);
}

fn check_locales(root: &Cursor<'_>, report: &mut impl FnMut(Finding)) {
    let Some(list) = root.get("locale") else { return };
    let mut seen = BTreeMap::new();
    let mut texts = 0;
    for locale in list.items() {
        let Some(text) = locale.text() else { continue };
        texts += 1;
        if let Some(first) = seen.insert(text, locale.pointer().to_owned()) {
            let message = format!("the locale `{}` is named twice", shown(text));
            report(
                Finding::warning(code::LOCALE_DUPLICATE, locale.at_value(), message)
                    .suggest("remove one of them")
                    .related(&locale.at_value().file, first),
            );
        }
    }
    let is_list = matches!(list.kind(), super::super::json::Kind::List(_));
    if is_list && !seen.contains_key("en") && texts == list.items().count() {
        let message = "`locale` does not name `en`, which every extension must be translated to";
        report(
            Finding::error(code::LOCALE_DEFAULT_MISSING, list.at_key(), message)
                .suggest("add `\"en\"`"),
        );
    }
}

fn check_widgets(package: &Package<'_>, root: &Cursor<'_>, report: &mut impl FnMut(Finding)) {
    let Some(widgets) = root.get("modules").and_then(|modules| modules.get("widgets")) else {
        return;
    };
    names::unique(widgets.items(), "name", report);
    for widget in widgets.items() {
        if let Some(url) = widget.get("url") {
            check_page(package, &url, report);
        }
        for (_, url) in widget.get("other_dc_urls").iter().flat_map(Cursor::members) {
            check_page(package, &url, report);
        }
    }
}

/// A page: a file from the root of the package, a URL, or a placeholder.
fn check_page(package: &Package<'_>, page: &Cursor<'_>, report: &mut impl FnMut(Finding)) {
    let Some(text) = page.text().filter(|text| !text.is_empty() && !text.starts_with(['/', '{']))
    else {
        return;
    };
    let url = absolute(text).ok().filter(|url| matches!(url.scheme(), "https" | "http"));
    if let Some(url) = url {
        check_host(page, &url, package.policy, Severity::Warning, report);
        return;
    }
    let message = format!("`{}` is neither a file of the package nor a URL", shown(text));
    let finding = Finding::error(code::WIDGET_URL, page.at_value(), message);
    let path = text.trim_start_matches("./");
    let is_path = package.source.files.contains_key(path) || path.starts_with("app/");
    report(finding.suggest(if is_path {
        format!("write `/{}`", shown(path))
    } else {
        "write a path from the package's root, such as `/app/widget.html`".to_owned()
    }));
}

fn check_domains(package: &Package<'_>, root: &Cursor<'_>, report: &mut impl FnMut(Finding)) {
    let parameters: BTreeSet<&str> = (root.get("config").iter().flat_map(Cursor::items))
        .filter_map(|parameter| parameter.text_of("name"))
        .collect();
    let mut guesses = Guesses::default();
    for domain in root.get("whiteListedDomains").iter().flat_map(Cursor::items) {
        let Some(text) = domain.text() else { continue };
        let template = Template::read(text);
        for name in template.names.iter().collect::<BTreeSet<_>>() {
            if !parameters.contains(name) {
                let message = format!("there is no parameter `{}` in `config`", shown(name));
                let hint = guesses.nearest(name, parameters.iter().copied()).map_or_else(
                    || "add the parameter to `config`".to_owned(),
                    |near| format!("did you mean `{{{{{near}}}}}`?"),
                );
                report(
                    Finding::warning(code::DOMAIN_PLACEHOLDER_UNKNOWN, domain.at_value(), message)
                        .suggest(hint)
                        .related(&domain.at_value().file, "/config"),
                );
            }
        }
        match absolute(&template.filled) {
            Ok(url) if matches!(url.scheme(), "https" | "http" | "wss") => {
                if !template.open_host {
                    check_host(&domain, &url, package.policy, Severity::Warning, report);
                }
            }
            outcome => {
                let reason = match outcome {
                    Ok(url) => format!("its scheme is {}", shown(url.scheme())),
                    Err(reason) => reason,
                };
                let message = format!("`{}` is not a domain to call: {reason}", shown(text));
                report(
                    Finding::error(code::DOMAIN_INVALID, domain.at_value(), message)
                        .suggest("write a URL that begins with `https://`, `http://` or `wss://`"),
                );
            }
        }
    }
}

fn check_content_security(
    package: &Package<'_>,
    root: &Cursor<'_>,
    report: &mut impl FnMut(Finding),
) {
    let Some(list) = root.get("cspDomains").and_then(|policy| policy.get("connect-src")) else {
        return;
    };
    let mut seen = BTreeMap::new();
    for source in list.items() {
        let Some(text) = source.text() else { continue };
        if let Some(first) = seen.insert(text, source.pointer().to_owned()) {
            let message = format!("`{}` is in this list twice", shown(text));
            report(
                Finding::error(code::CSP_DUPLICATE, source.at_value(), message)
                    .suggest("remove one of them")
                    .related(&source.at_value().file, first),
            );
            continue;
        }
        if text == "blob:" {
            continue;
        }
        let template = Template::read(text);
        match absolute(&template.filled) {
            Ok(url) if !template.open_host => {
                check_host(&source, &url, package.policy, Severity::Warning, report);
            }
            Ok(_) => {}
            Err(reason) => {
                let message = format!("`{}` is not a source to connect to: {reason}", shown(text));
                report(
                    Finding::error(code::CSP_INVALID, source.at_value(), message)
                        .suggest("write a URL such as `https://api.example.com`, or `blob:`"),
                );
            }
        }
    }
}

fn check_callbacks(package: &Package<'_>, root: &Cursor<'_>, report: &mut impl FnMut(Finding)) {
    for (_, url) in root.get("callbackListener").iter().flat_map(Cursor::members) {
        check_callback(&url, package.policy, report);
    }
    for name in ["installationValidator", "incomingWebhook"] {
        let endpoint = root.get("mortise").and_then(|block| block.get(name));
        if let Some(url) = endpoint.and_then(|endpoint| endpoint.get("url")) {
            check_callback(&url, package.policy, report);
        }
    }
    for client in root.get("TPAOauth").iter().flat_map(Cursor::items) {
        for name in ["authoriseUrl", "tokenUrl", "revokeUrl"] {
            if let Some(url) = client.get(name) {
                check_provider_url(package, &url, report);
            }
        }
    }
}

fn check_provider_url(
    package: &Package<'_>,
    cursor: &Cursor<'_>,
    report: &mut impl FnMut(Finding),
) {
    let Some(text) = cursor.text().filter(|text| !text.is_empty()) else { return };
    match absolute(text) {
        Ok(url) => check_host(cursor, &url, package.policy, Severity::Warning, report),
        Err(reason) => {
            let message = format!("`{}` is not an absolute URL: {reason}", shown(text));
            report(
                Finding::error(code::URL_INVALID, cursor.at_value(), message)
                    .suggest("write the whole address, such as `https://login.example.com/token`"),
            );
        }
    }
}

fn check_secret(root: &Cursor<'_>, report: &mut impl FnMut(Finding)) {
    let Some(secret) = root.get("secret") else { return };
    let length = secret.text().map_or(0, |text| text.chars().count());
    if (1..SHORTEST_SECRET).contains(&length) {
        let message = format!("a secret of {length} characters is easily guessed");
        report(
            Finding::warning(code::SECRET_WEAK, secret.at_value(), message)
                .suggest(format!("use at least {SHORTEST_SECRET} random characters")),
        );
    }
}
