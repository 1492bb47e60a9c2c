//! Scopes and connectors.

use std::collections::BTreeMap;

use super::super::code;
use super::super::diagnostic::Finding;
use super::super::json::{Cursor, Document, shown};
use super::super::policy::Denials;
use super::Package;

/// The service that `zohoAuthorisation` alone may name.
pub(crate) const OWN_SERVICE: &str = "zlabs_integration";

pub(super) fn check(package: &Package<'_>, document: &Document, report: &mut impl FnMut(Finding)) {
    let root = document.cursor();
    let denials = package.policy.denials();
    if let Some(scopes) = root.get("zohoAuthorisation").and_then(|declared| declared.get("scope")) {
        check_scopes(&denials, &scopes, report);
    }
    if let Some(scopes) = root.get("deskOauth").and_then(|declared| declared.get("scopes")) {
        check_scopes(&denials, &scopes, report);
    }
    for client in root.get("TPAOauth").iter().flat_map(Cursor::items) {
        if let Some(scopes) = client.get("scopes") {
            check_scopes(&denials, &scopes, report);
        }
    }
    for connector in root.get("connectors").iter().flat_map(Cursor::items) {
        if let Some(scopes) = connector.get("scope") {
            check_scopes(&denials, &scopes, report);
        }
        if let Some(service) = connector.get("serviceName")
            && service.text() == Some(OWN_SERVICE)
        {
            let message = format!("a connector cannot be for `{OWN_SERVICE}`");
            report(
                Finding::error(code::CONNECTOR_RESERVED_SERVICE, service.at_value(), message)
                    .suggest("move the connector's scopes to `zohoAuthorisation`")
                    .related(&service.at_value().file, "/zohoAuthorisation"),
            );
        }
    }
}

fn check_scopes(denials: &Denials<'_>, scopes: &Cursor<'_>, report: &mut impl FnMut(Finding)) {
    let mut seen = BTreeMap::new();
    for scope in scopes.items() {
        let Some(text) = scope.text() else { continue };
        if let Some(denied) = denials.denial(text) {
            let message = format!("no extension may hold the scope `{}`", shown(text));
            report(
                Finding::error(code::SCOPE_DENIED, scope.at_value(), message)
                    .suggest(format!("remove it; the operator denies `{}`", shown(denied))),
            );
        }
        if let Some(first) = seen.insert(text, scope.pointer().to_owned()) {
            let message = format!("the scope `{}` is named twice", shown(text));
            report(
                Finding::warning(code::SCOPE_DUPLICATE, scope.at_value(), message)
                    .suggest("remove one of them")
                    .related(&scope.at_value().file, first),
            );
        }
    }
}
