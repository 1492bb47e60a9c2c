//! The names by which calls refer to connections: each leads to one, and the host's is the host's. A
//! token is found by its name, so a name that led to two could lead it to the wrong one.

use std::collections::BTreeMap;

use super::super::code;
use super::super::diagnostic::Finding;
use super::super::json::{Cursor, Document, shown};
use super::super::own_servers::HOST_CONNECTION;

pub(super) fn check(document: &Document, report: &mut impl FnMut(Finding)) {
    let root = document.cursor();
    let connectors = root.get("connectors");
    let connectors = connectors.iter().flat_map(Cursor::items);
    let names: Vec<Cursor<'_>> =
        connectors.filter_map(|connector| connector.get("connectionLinkName")).collect();
    let servers = root.get("TPAOauth");
    let servers = servers.iter().flat_map(Cursor::items);
    let own: Vec<Cursor<'_>> = servers.filter_map(|server| server.get("name")).collect();
    for name in names.iter().chain(&own) {
        check_reserved(name, report);
    }
    let host = root.get("zohoAuthorisation").and_then(|host| host.get("connectionLinkName"));
    let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
    for name in host.iter().chain(&names) {
        let Some(text) = name.text().filter(|text| !text.is_empty()) else { continue };
        let Some(first) = seen.get(text) else {
            seen.insert(text, name.pointer());
            continue;
        };
        let message = format!("another connection has the link name `{}` too", shown(text));
        report(
            Finding::error(code::CONNECTION_LINK_NAME_DUPLICATE, name.at_value(), message)
                .suggest("give each its own: calls refer to connections by it")
                .related(&name.at_value().file, *first),
        );
    }
}

fn check_reserved(name: &Cursor<'_>, report: &mut impl FnMut(Finding)) {
    if name.text() != Some(HOST_CONNECTION) {
        return;
    }
    let message = format!("`{HOST_CONNECTION}` is the name of the connection to the help desk");
    report(
        Finding::error(code::CONNECTION_NAME_RESERVED, name.at_value(), message)
            .suggest("choose another name"),
    );
}
