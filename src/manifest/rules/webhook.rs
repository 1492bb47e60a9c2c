//! The webhook of an extension, and what it needs in the manifest.

use uuid::Uuid;

use super::super::code;
use super::super::diagnostic::Finding;
use super::super::json::{Cursor, Document, Kind, shown};
use super::super::schema::is_departments;
use super::super::source::MANIFEST_FILE;
use super::Package;
use super::address::{check_callback, check_reserved_parameters};

/// The scope that lets an extension receive events.
pub(crate) const EVENTS_SCOPE: &str = "Desk.events.ALL";

pub(super) fn check(package: &Package<'_>, document: &Document, report: &mut impl FnMut(Finding)) {
    let Some(webhook) = document.cursor().get("webhook") else { return };
    if matches!(webhook.kind(), Kind::Object(_)) {
        check_manifest(package, &webhook, report);
    }
    if let Some(url) = webhook.get("url") {
        check_callback(&url, package.policy, report);
        check_reserved_parameters(&url, report);
    }
    if let Some(id) = webhook.get("ignoreSourceId") {
        check_source_id(&id, report);
    }
    if let Some(subscriptions) = webhook.get("subscriptions") {
        check_subscriptions(&subscriptions, report);
    }
}

fn check_manifest(package: &Package<'_>, webhook: &Cursor<'_>, report: &mut impl FnMut(Finding)) {
    let Some(manifest) = package.manifest else { return };
    let root = manifest.cursor();
    if !matches!(root.kind(), Kind::Object(_)) {
        return;
    }
    let scopes = root.get("zohoAuthorisation").and_then(|declared| declared.get("scope"));
    let readable = scopes.as_ref().is_none_or(|scopes| matches!(scopes.kind(), Kind::List(_)));
    let mut texts = scopes.iter().flat_map(Cursor::items).filter_map(|scope| scope.text());
    if readable && !texts.any(|scope| scope == EVENTS_SCOPE) {
        let message = format!("a webhook needs the scope `{EVENTS_SCOPE}` in `zohoAuthorisation`");
        report(
            Finding::error(code::WEBHOOK_SCOPE_MISSING, webhook.at_key(), message)
                .suggest(format!("add `\"{EVENTS_SCOPE}\"` to `zohoAuthorisation.scope`"))
                .related(MANIFEST_FILE, "/zohoAuthorisation/scope"),
        );
    }
    let declared = root.get("type");
    let personal = match &declared {
        None => true,
        Some(declared) => declared.text() == Some("personal"),
    };
    if personal {
        let message = match declared {
            Some(_) => "a webhook needs an extension of the type `org`, and this one is `personal`",
            None => "a webhook needs an extension of the type `org`, and this one names no type",
        };
        report(
            Finding::error(code::WEBHOOK_ORG_TYPE, webhook.at_key(), message)
                .suggest("write `\"type\": \"org\"`")
                .related(MANIFEST_FILE, "/type"),
        );
    }
}

fn check_source_id(id: &Cursor<'_>, report: &mut impl FnMut(Finding)) {
    let Some(text) = id.text() else { return };
    let hyphenated = text.len() == 36 && Uuid::try_parse(text).is_ok();
    if !hyphenated {
        let message = match text {
            "" => "`ignoreSourceId` must not be empty".to_owned(),
            _ => format!("`{}` is not a UUID", shown(text)),
        };
        report(Finding::error(code::WEBHOOK_SOURCE_ID, id.at_value(), message).suggest(
            "make a UUID once, such as `2c7e1f7e-6a5b-4b0e-9a53-0d2f9d1c7e41`, and keep it",
        ));
    }
}

fn check_subscriptions(subscriptions: &Cursor<'_>, report: &mut impl FnMut(Finding)) {
    let mut count = 0;
    for (event, options) in subscriptions.members() {
        count += 1;
        for (key, option) in options.members() {
            if is_departments(key) {
                let message = format!("the departments of `{}` are ignored", shown(event));
                report(
                    Finding::warning(code::WEBHOOK_DEPARTMENTS_IGNORED, option.at_key(), message)
                        .suggest(
                            "remove it: administrators choose departments at the installation",
                        ),
                );
            }
        }
    }
    if count == 0 && matches!(subscriptions.kind(), Kind::Object(_)) {
        let message = "the webhook subscribes to nothing and will receive nothing";
        report(
            Finding::warning(code::WEBHOOK_NOTHING_SUBSCRIBED, subscriptions.at_key(), message)
                .suggest("name an event, such as `\"Ticket_Add\": null`"),
        );
    }
}
