//! What a page has around its content: title, navigation, who looks, and the way out.

use http::Method;
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
    /// The first page that works for who looks; empty where there is none.
    pub(super) first: &'static str,
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

/// A place in the navigation.
#[derive(Clone, Debug)]
struct Tab {
    href: &'static str,
    label: &'static str,
    /// What of the API its page cannot do without: a token that is narrowed to other scopes does not
    /// see it.
    method: Method,
    route: &'static str,
}

const fn tab(href: &'static str, label: &'static str, route: &'static str) -> Tab {
    Tab { href, label, method: Method::GET, route }
}

const ORG: &[Tab] = &[
    tab("/pages", "Extensions", "/installations"),
    tab("/pages/webhooks", "Webhooks", "/webhooks"),
    tab("/pages/rules", "Rules", "/triggers"),
    tab("/pages/recipes", "Recipes", "/recipes"),
    tab("/pages/deliveries", "Deliveries", "/deliveries"),
    tab("/pages/events", "Why not?", "/events/{eventId}"),
    tab("/pages/event-types", "Event types", "/event-types"),
];

const VENDOR: &[Tab] = &[
    tab("/pages", "Extensions", "/extensions"),
    tab("/pages/installations", "Installations", "/installations"),
    tab("/pages/webhooks", "Webhooks", "/webhooks"),
    tab("/pages/deliveries", "Deliveries", "/deliveries"),
    tab("/pages/jobs", "Jobs", "/jobs"),
    tab("/pages/journal", "Journal", "/journal"),
    tab("/pages/event-types", "Event types", "/event-types"),
    Tab {
        href: "/pages/publish",
        label: "Publish",
        method: Method::POST,
        route: "/extensions/validate",
    },
];

const OPERATOR: &[Tab] = &[
    tab("/pages", "Operation", "/operation"),
    tab("/pages/extensions", "Extensions", "/extensions"),
    tab("/pages/installations", "Installations", "/installations"),
    tab("/pages/webhooks", "Webhooks", "/webhooks"),
    tab("/pages/rules", "Rules", "/triggers"),
    tab("/pages/deliveries", "Deliveries", "/deliveries"),
    tab("/pages/events", "Why not?", "/events/{eventId}"),
    tab("/pages/jobs", "Jobs", "/jobs"),
    tab("/pages/journal", "Journal", "/journal"),
    tab("/pages/event-types", "Event types", "/event-types"),
    tab("/pages/tokens", "Tokens", "/tokens"),
    tab("/pages/findings", "Findings", "/reconcile"),
    tab("/pages/audit", "Audit", "/audit"),
];

const fn tabs(role: Role) -> &'static [Tab] {
    match role {
        Role::Admin | Role::Viewer => ORG,
        Role::Vendor => VENDOR,
        Role::Operator => OPERATOR,
        Role::Marketplace | Role::Host => &[],
    }
}

/// The pages that somebody has, in the order of the navigation.
fn tabs_of(visitor: &Visitor) -> impl Iterator<Item = &'static Tab> {
    let all = tabs(visitor.session.visitor.role).iter();
    all.filter(move |tab| visitor.may(&tab.method, tab.route))
}

/// The first page that works for somebody; nothing where his scopes open none.
pub(super) fn first_page(visitor: &Visitor) -> Option<&'static str> {
    tabs_of(visitor).next().map(|tab| tab.href)
}

fn entries(role: Role, tabs: impl Iterator<Item = &'static Tab>, path: &str) -> Vec<Entry> {
    // Pages that are reached from the first one belong to it where they have no entry of their own.
    let belongs_to_first = match role {
        Role::Admin | Role::Viewer => {
            path.starts_with("/pages/installations") || path.starts_with("/pages/notices")
        }
        Role::Vendor => path.starts_with("/pages/extensions") || path.starts_with("/pages/notices"),
        Role::Operator => path.starts_with("/pages/notices"),
        Role::Marketplace | Role::Host => false,
    };
    let path = if belongs_to_first { "/pages" } else { path };
    let all: Vec<&Tab> = tabs.collect();
    // The entry whose address is the longest beginning of the path.
    let current = all
        .iter()
        .map(|tab| tab.href)
        .filter(|href| {
            let rest = path.strip_prefix(href);
            rest.is_some_and(|rest| rest.is_empty() || (rest.starts_with('/') && *href != "/pages"))
        })
        .max_by_key(|href| href.len());
    all.into_iter()
        .map(|tab| Entry {
            href: tab.href,
            label: tab.label,
            is_current: current == Some(tab.href),
        })
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
            first: visitor.and_then(first_page).unwrap_or_default(),
            entries: visitor
                .map(|visitor| entries(visitor.session.visitor.role, tabs_of(visitor), path))
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
    use crate::api::access::may;
    use crate::web::{PageRoute, Visitors, table};

    /// An entry whose route is misspelled would be seen by nobody.
    #[test]
    fn every_entry_is_there_for_its_role() {
        for role in [Role::Operator, Role::Vendor, Role::Admin, Role::Viewer] {
            for tab in tabs(role) {
                let route = format!("/api/v1{}", tab.route);
                assert!(may(role, None, &tab.method, &route), "{role} {}", tab.href);
                let is_there = |page: &PageRoute| {
                    page.path == tab.href
                        && matches!(page.visitors, Visitors::Roles(roles) if roles.contains(&role))
                };
                assert!(table().iter().any(is_there), "{role} {}", tab.href);
            }
        }
    }

    #[test]
    fn one_entry_is_the_current_one() {
        for (path, current) in [
            ("/pages", "Operation"),
            ("/pages/webhooks", "Webhooks"),
            ("/pages/webhooks/1", "Webhooks"),
            ("/pages/tokens/new", "Tokens"),
            ("/pages/events/1", "Why not?"),
            ("/pages/event-types/Ticket_Add", "Event types"),
            ("/pages/notices", "Operation"),
        ] {
            let marked: Vec<_> = entries(Role::Operator, OPERATOR.iter(), path)
                .into_iter()
                .filter(|entry| entry.is_current)
                .map(|entry| entry.label)
                .collect();
            assert_eq!(marked, [current], "{path}");
        }
    }
}
