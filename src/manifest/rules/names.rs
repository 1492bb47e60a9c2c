//! Names that must be unique.

use std::collections::BTreeMap;

use super::super::code;
use super::super::diagnostic::Finding;
use super::super::json::{Cursor, Document, shown};

/// Tells every name that an earlier item has already.
pub(super) fn unique<'d>(
    items: impl Iterator<Item = Cursor<'d>>,
    key: &str,
    report: &mut impl FnMut(Finding),
) {
    let mut seen = BTreeMap::new();
    for item in items {
        if let Some(name) = item.get(key) {
            note(&mut seen, &name, key, report);
        }
    }
}

fn note<'d>(
    seen: &mut BTreeMap<&'d str, String>,
    name: &Cursor<'d>,
    key: &str,
    report: &mut impl FnMut(Finding),
) {
    let Some(text) = name.text().filter(|text| !text.is_empty()) else { return };
    if let Some(first) = seen.get(text) {
        let message = format!("another `{key}` is `{}` too", shown(text));
        report(
            Finding::error(code::NAME_DUPLICATE, name.at_value(), message)
                .suggest("give each its own")
                .related(&name.at_value().file, first.as_str()),
        );
    } else {
        seen.insert(text, name.pointer().to_owned());
    }
}

/// Resource names are unique over all kinds of resources, since upgrades go by them alone.
pub(super) fn check_resources(document: &Document, report: &mut impl FnMut(Finding)) {
    let root = document.cursor();
    let mut seen = BTreeMap::new();
    for (_, kind) in root.members() {
        let single = kind.get("resourceName");
        let several = kind.items().filter_map(|item| item.get("resourceName"));
        for name in single.into_iter().chain(several) {
            note(&mut seen, &name, "resourceName", report);
        }
    }
    unique(root.get("permissions").iter().flat_map(Cursor::items), "apiName", report);
}
