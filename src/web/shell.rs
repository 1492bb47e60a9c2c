//! What a page has around its content: title, navigation, who looks, and the way out.

use uuid::Uuid;

use super::Pages;
use super::visit::Visitor;
use super::words;
use crate::api::Role;
use crate::seam::Randomness;

/// An entry of the navigation.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) href: &'static str,
    pub(super) label: &'static str,
    pub(super) is_current: bool,
}

/// What a page has around its content.
#[derive(Clone, Debug)]
pub(super) struct Shell {
    pub(super) title: String,
    /// The path of the page.
    pub(super) path: String,
    pub(super) entries: Vec<Entry>,
    /// Who looks; nobody on the pages before the sign-in.
    pub(super) who: Option<Who>,
    pub(super) form_token: String,
    /// What was just done.
    pub(super) done: &'static str,
    pub(super) style: &'static str,
    pub(super) script: &'static str,
    pub(super) mark: &'static str,
    randomness: Randomness,
}

/// Who looks.
#[derive(Clone, Debug)]
pub(super) struct Who {
    pub(super) name: String,
    pub(super) role: &'static str,
    /// The org or vendor that he sees.
    pub(super) place: String,
}

const ORG: &[(&str, &str)] = &[
    ("/pages", "Extensions"),
    ("/pages/webhooks", "Webhooks"),
    ("/pages/rules", "Rules"),
    ("/pages/recipes", "Recipes"),
    ("/pages/deliveries", "Deliveries"),
    ("/pages/events", "Why not?"),
];

const VENDOR: &[(&str, &str)] = &[
    ("/pages", "Extensions"),
    ("/pages/installations", "Installations"),
    ("/pages/webhooks", "Webhooks"),
    ("/pages/deliveries", "Deliveries"),
    ("/pages/jobs", "Jobs"),
    ("/pages/journal", "Journal"),
    ("/pages/event-types", "Event types"),
    ("/pages/publish", "Publish"),
];

const OPERATOR: &[(&str, &str)] = &[
    ("/pages", "Operation"),
    ("/pages/extensions", "Extensions"),
    ("/pages/installations", "Installations"),
    ("/pages/webhooks", "Webhooks"),
    ("/pages/deliveries", "Deliveries"),
    ("/pages/events", "Why not?"),
    ("/pages/jobs", "Jobs"),
    ("/pages/journal", "Journal"),
    ("/pages/tokens", "Tokens"),
    ("/pages/findings", "Findings"),
    ("/pages/audit", "Audit"),
];

fn entries(role: Role, path: &str) -> Vec<Entry> {
    let all = match role {
        Role::Admin | Role::Viewer => ORG,
        Role::Vendor => VENDOR,
        Role::Operator => OPERATOR,
        Role::Marketplace | Role::Host => &[],
    };
    // Pages that are reached from the first one belong to it where they have no entry of their own.
    let belongs_to_first = match role {
        Role::Admin | Role::Viewer => {
            path.starts_with("/pages/installations") || path.starts_with("/pages/notices")
        }
        Role::Vendor => path.starts_with("/pages/extensions"),
        _ => false,
    };
    let path = if belongs_to_first { "/pages" } else { path };
    // The entry whose address is the longest beginning of the path.
    let current = all
        .iter()
        .map(|(href, _)| *href)
        .filter(|href| {
            let rest = path.strip_prefix(href);
            rest.is_some_and(|rest| rest.is_empty() || (rest.starts_with('/') && *href != "/pages"))
        })
        .max_by_key(|href| href.len());
    all.iter()
        .map(|(href, label)| Entry { href, label, is_current: current == Some(*href) })
        .collect()
}

impl Shell {
    pub(super) fn new(pages: &Pages, visitor: Option<&Visitor>, title: String, path: &str) -> Self {
        let who = visitor.map(|visitor| {
            let seen = &visitor.session.visitor;
            let place = seen.org.as_ref().map(ToString::to_string);
            let place = place.or_else(|| seen.vendor.as_ref().map(ToString::to_string));
            let name = seen.display_name.clone().or_else(|| seen.subject.clone());
            Who {
                name: name.unwrap_or_else(|| "token".to_owned()),
                role: words::role(seen.role),
                place: place.unwrap_or_default(),
            }
        });
        Self {
            title,
            path: path.to_owned(),
            entries: visitor
                .map(|visitor| entries(visitor.session.visitor.role, path))
                .unwrap_or_default(),
            who,
            form_token: visitor.map(|visitor| visitor.form_token.to_string()).unwrap_or_default(),
            done: "",
            style: super::assets::STYLE.path(),
            script: super::assets::SCRIPT.path(),
            mark: super::assets::MARK.path(),
            randomness: pages.state().seam().randomness.clone(),
        }
    }

    /// Says what was just done, by the word in the address; nothing for other words.
    pub(super) fn done(mut self, word: &str) -> Self {
        self.done = words::done(word);
        self
    }

    /// What names a form: sent twice, it is carried out once.
    pub(super) fn key(&self) -> Uuid {
        self.randomness.id()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_entry_is_the_current_one() {
        for (path, current) in [
            ("/pages", "Operation"),
            ("/pages/webhooks", "Webhooks"),
            ("/pages/webhooks/1", "Webhooks"),
            ("/pages/tokens/new", "Tokens"),
            ("/pages/events/1", "Why not?"),
        ] {
            let marked: Vec<_> = entries(Role::Operator, path)
                .into_iter()
                .filter(|entry| entry.is_current)
                .map(|entry| entry.label)
                .collect();
            assert_eq!(marked, [current], "{path}");
        }
    }
}
