//! The one table of pages: who may see what, and who serves it. The router is made from it, so a
//! page without a row does not exist.

use axum::handler::Handler;
use axum::routing::MethodRouter;
use http::Method;

use super::pages::{
    audit, deliveries, event_types, events, extensions, findings, home, installations, jobs,
    journal, notices, own, publish, recipes, rules, sign_in, tokens, webhooks,
};
use super::{Pages, assets, live};
use crate::api::Role;
use crate::api::handler::erased;

/// For whom a page exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visitors {
    /// Everybody, without a session.
    Everybody,
    /// Sessions of one of these roles.
    Roles(&'static [Role]),
}

/// A row of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageRoute {
    /// The method. GET changes nothing, and every POST is a form of ours.
    pub method: Method,
    /// The path, as the router writes it.
    pub path: &'static str,
    /// For whom it exists.
    pub visitors: Visitors,
    /// What it is.
    pub doc: &'static str,
}

/// What a form of a page may bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Brings {
    /// A token or nothing: whoever sends it is not known yet.
    Little,
    /// Fields.
    Fields,
    /// Fields and a package.
    Package,
}

/// Who may come in, with what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gate {
    pub(super) visitors: Visitors,
    pub(super) brings: Brings,
}

impl PageRoute {
    /// What the frame asks of whoever comes.
    pub(super) fn gate(&self) -> Gate {
        let brings = match (self.visitors, self.path) {
            (Visitors::Everybody, _) => Brings::Little,
            (_, "/pages/publish") => Brings::Package,
            _ => Brings::Fields,
        };
        Gate { visitors: self.visitors, brings }
    }
}

use Role::{Admin, Operator, Vendor, Viewer};
use Visitors::{Everybody, Roles};

const SIGNED_IN: Visitors = Roles(&[Operator, Vendor, Admin, Viewer]);
const OF_AN_ORG: Visitors = Roles(&[Operator, Admin, Viewer]);
const ACTING: Visitors = Roles(&[Operator, Vendor, Admin]);
const DECIDING: Visitors = Roles(&[Operator, Admin]);
const OWNING: Visitors = Roles(&[Operator, Vendor]);
const OPERATING: Visitors = Roles(&[Operator]);

type Row = (PageRoute, MethodRouter<Pages>);

fn get<H: Handler<T, Pages>, T>(handler: H) -> MethodRouter<Pages> {
    axum::routing::get(erased(handler))
}

fn post<H: Handler<T, Pages>, T>(handler: H) -> MethodRouter<Pages> {
    axum::routing::post(erased(handler))
}

fn shown(
    path: &'static str,
    visitors: Visitors,
    doc: &'static str,
    handler: MethodRouter<Pages>,
) -> Row {
    (PageRoute { method: Method::GET, path, visitors, doc }, handler)
}

fn sent(
    path: &'static str,
    visitors: Visitors,
    doc: &'static str,
    handler: MethodRouter<Pages>,
) -> Row {
    (PageRoute { method: Method::POST, path, visitors, doc }, handler)
}

/// Every page with who serves it.
#[rustfmt::skip]
pub(super) fn handlers() -> Vec<Row> {
    vec![
        shown("/", Everybody, "Leads to the pages", get(sign_in::root)),
        shown("/assets/{name}", Everybody, "Stylesheet and script", get(assets::show)),
        shown("/sign-in", Everybody, "Sign in with a token", get(sign_in::ask)),
        sent("/sign-in", Everybody, "Begins a session by a token", post(sign_in::by_token)),
        shown("/portal/{secret}", Everybody, "A one-time link: shows a button", get(sign_in::link)),
        sent("/portal/{secret}", Everybody, "Uses a one-time link up", post(sign_in::by_link)),
        sent("/sign-out", SIGNED_IN, "Ends the session", post(sign_in::out)),
        shown("/pages/session", SIGNED_IN, "Who one is here, and where one is signed in", get(sign_in::own)),
        sent("/sign-out/everywhere", SIGNED_IN, "Ends all sessions of who asks", post(sign_in::out_everywhere)),

        shown("/pages", SIGNED_IN, "What matters to the role", get(home::show)),
        shown("/pages/notices", SIGNED_IN, "All notices", get(notices::list)),
        sent("/pages/notices/{id}/dismiss", ACTING, "Puts a notice aside", post(notices::dismiss)),

        shown("/pages/installations", SIGNED_IN, "Installations", get(installations::list)),
        shown("/pages/installations/{id}", SIGNED_IN, "An installation", get(installations::show)),
        sent("/pages/installations/{id}/suspend", ACTING, "Suspends in one's own name", post(installations::suspend)),
        sent("/pages/installations/{id}/resume", ACTING, "Lifts one's own suspension", post(installations::resume)),
        sent("/pages/installations/{id}/consent", DECIDING, "Agrees to an upgrade that waits", post(installations::consent)),
        sent("/pages/installations/{id}/authorization", DECIDING, "Begins an authorisation", post(installations::authorization)),
        shown("/pages/installations/{id}/uninstall", DECIDING, "What uninstalling will do", get(installations::before_uninstall)),
        sent("/pages/installations/{id}/uninstall", DECIDING, "Uninstalls", post(installations::uninstall)),

        shown("/pages/webhooks", SIGNED_IN, "Webhooks", get(webhooks::list)),
        shown("/pages/webhooks/{id}", SIGNED_IN, "A webhook", get(webhooks::show)),
        shown("/pages/webhooks/{id}/live", SIGNED_IN, "A webhook as it happens", get(live::webhook)),
        shown("/pages/webhooks/{id}/test", ACTING, "What can be sent as a test", get(webhooks::before_test)),
        sent("/pages/webhooks/{id}/test", ACTING, "Sends a sample event", post(webhooks::test)),
        sent("/pages/webhooks/{id}/ping", ACTING, "Pings", post(webhooks::ping)),
        sent("/pages/webhooks/{id}/recover", ACTING, "Delivers many again", post(webhooks::recover)),
        sent("/pages/webhooks/{id}/reactivate", ACTING, "Makes a webhook live again", post(webhooks::reactivate)),

        shown("/pages/webhooks/new", DECIDING, "Make a webhook of the org's own", get(own::new)),
        sent("/pages/webhooks", DECIDING, "Makes one, or tries it", post(own::create)),
        shown("/pages/webhooks/{id}/edit", DECIDING, "Change an own webhook", get(own::edit)),
        sent("/pages/webhooks/{id}/edit", DECIDING, "Changes it, or tries it", post(own::change)),
        sent("/pages/webhooks/{id}/clone", DECIDING, "Copies an own webhook", post(own::copy)),
        sent("/pages/webhooks/{id}/switch", DECIDING, "Switches an own webhook on or off", post(own::switch)),
        shown("/pages/webhooks/{id}/delete", DECIDING, "What deleting will do", get(own::before_delete)),
        sent("/pages/webhooks/{id}/delete", DECIDING, "Deletes an own webhook", post(own::delete)),

        shown("/pages/recipes", OF_AN_ORG, "Webhooks with two values to type in", get(recipes::list)),
        shown("/pages/recipes/{id}", DECIDING, "Asks for the values of one", get(recipes::show)),
        sent("/pages/recipes/{id}", DECIDING, "Tries it, and makes what passes", post(recipes::apply)),

        shown("/pages/rules", OF_AN_ORG, "Triggers and automations", get(rules::list)),
        shown("/pages/rules/{kind}/new", DECIDING, "Make a trigger or automation", get(rules::new)),
        sent("/pages/rules/{kind}", DECIDING, "Makes one", post(rules::create)),
        shown("/pages/rules/{kind}/{id}", OF_AN_ORG, "A trigger or automation", get(rules::show)),
        sent("/pages/rules/{kind}/{id}", DECIDING, "Changes it", post(rules::change)),
        sent("/pages/rules/{kind}/{id}/switch", DECIDING, "Switches it on or off", post(rules::switch)),
        sent("/pages/rules/{kind}/{id}/delete", DECIDING, "Deletes it", post(rules::delete)),

        shown("/pages/event-types", SIGNED_IN, "Event types", get(event_types::list)),
        shown("/pages/event-types/{name}", SIGNED_IN, "An event type with a sample", get(event_types::show)),

        shown("/pages/deliveries", SIGNED_IN, "Deliveries", get(deliveries::list)),
        shown("/pages/deliveries/{id}", SIGNED_IN, "A delivery with its attempts", get(deliveries::show)),
        sent("/pages/deliveries/{id}/retry", ACTING, "Delivers again", post(deliveries::retry)),
        shown("/pages/events", OF_AN_ORG, "Why an event did not arrive", get(events::ask)),
        shown("/pages/events/{id}", OF_AN_ORG, "An event and what became of it", get(events::show)),

        shown("/pages/jobs", SIGNED_IN, "Jobs", get(jobs::list)),
        shown("/pages/jobs/{id}", SIGNED_IN, "A job with its progress", get(jobs::show)),
        sent("/pages/jobs/{id}/cancel", ACTING, "Calls a job off", post(jobs::cancel)),

        shown("/pages/extensions", OWNING, "Extensions", get(extensions::list)),
        shown("/pages/extensions/{key}", OWNING, "An extension with its versions", get(extensions::show)),
        shown("/pages/extensions/{key}/compare", OWNING, "Two versions beside each other", get(extensions::compare)),
        shown("/pages/extensions/{key}/suspend", OWNING, "What suspending in all orgs will do", get(extensions::before_suspend)),
        sent("/pages/extensions/{key}/suspend", OWNING, "Suspends it in all orgs", post(extensions::suspend)),
        sent("/pages/extensions/{key}/resume", OWNING, "Lifts that", post(extensions::resume)),
        sent("/pages/extensions/{key}/secret", OWNING, "Shows the signing secret", post(extensions::secret)),
        sent("/pages/extensions/{key}/rotate", OWNING, "Replaces the signing secret", post(extensions::rotate)),
        sent("/pages/extensions/{key}/withdraw", OWNING, "Withdraws a version", post(extensions::withdraw)),
        shown("/pages/publish", OWNING, "Publish a version", get(publish::ask)),
        sent("/pages/publish", OWNING, "Checks a package, or publishes it", post(publish::publish)),
        shown("/pages/journal", OWNING, "Lifecycle events", get(journal::list)),
        sent("/pages/journal/{id}/redeliver", OWNING, "Sends a callback again", post(journal::redeliver)),

        shown("/pages/tokens", OPERATING, "API tokens", get(tokens::list)),
        sent("/pages/tokens", OPERATING, "Makes a token", post(tokens::create)),
        sent("/pages/tokens/{id}/revoke", OPERATING, "Revokes a token", post(tokens::revoke)),
        shown("/pages/findings", OPERATING, "What the reconciler found", get(findings::show)),
        sent("/pages/findings", OPERATING, "Compares anew, and repairs where asked to", post(findings::compare)),
        shown("/pages/audit", OPERATING, "The audit", get(audit::search)),
    ]
}

/// Every page, for those who walk over them.
pub fn table() -> Vec<PageRoute> {
    handlers().into_iter().map(|(route, _)| route).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_something_is_a_form_of_somebody_with_a_session() {
        for route in table() {
            let is_way_in = ["/sign-in", "/portal/{secret}"].contains(&route.path);
            if route.method == Method::POST && !is_way_in {
                let Roles(roles) = route.visitors else { panic!("{} is open", route.path) };
                let is_way_out = route.path.starts_with("/sign-out");
                assert!(
                    is_way_out || !roles.contains(&Viewer),
                    "{}: a viewer only looks",
                    route.path
                );
            }
            let is_below = route.path.starts_with("/pages");
            assert!(!is_below || route.visitors != Everybody, "{} is open", route.path);
        }
    }

    #[test]
    fn no_row_is_there_twice() {
        let mut seen = Vec::new();
        for route in table() {
            let name = format!("{} {}", route.method, route.path);
            assert!(!seen.contains(&name), "{name}");
            seen.push(name);
        }
    }
}
