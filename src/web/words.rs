//! The words of the pages: names of the API as people say them.

use crate::api::Role;

/// How a state is coloured. The word says it too, so colour is never all there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    /// As it should be.
    Good,
    /// On its way, or waiting for somebody.
    Waiting,
    /// Somebody should look.
    Bad,
    /// Neither.
    Plain,
}

impl Tone {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Waiting => "waiting",
            Self::Bad => "bad",
            Self::Plain => "plain",
        }
    }
}

/// A state in words, with its tone; nothing where it is not one of ours.
pub(super) fn state(name: &str) -> Option<(&'static str, Tone)> {
    use Tone::{Bad, Good, Plain, Waiting};
    Some(match name {
        "active" => ("Active", Good),
        "pendingAuthorization" => ("Waits for authorisation", Waiting),
        "suspended" => ("Suspended", Waiting),
        "uninstalled" => ("Uninstalled", Plain),
        "erased" => ("Erased", Plain),
        "ok" => ("Healthy", Good),
        "failing" => ("Failing", Bad),
        "paused" => ("Paused", Waiting),
        "gone" => ("Gone", Bad),
        "disabled" => ("Disabled", Bad),
        "unreadable" => ("Not readable here", Bad),
        "broken" => ("Broken", Bad),
        "none" => ("Not connected", Plain),
        "pending" => ("On its way", Waiting),
        "held" => ("Held", Waiting),
        "delivered" => ("Delivered", Good),
        "failed" => ("Failed", Bad),
        "cancelled" => ("Cancelled", Plain),
        "expired" => ("Older than what is kept", Plain),
        "queued" => ("Queued", Waiting),
        "running" => ("Running", Waiting),
        "done" => ("Done", Good),
        "valid" => ("Valid", Good),
        "invalid" => ("Not valid", Bad),
        "withdrawn" => ("Withdrawn", Plain),
        "published" => ("Published", Good),
        "live" => ("Live", Good),
        "revoked" => ("Revoked", Plain),
        "ended" => ("Ended", Plain),
        "error" => ("Error", Bad),
        "warning" => ("Warning", Waiting),
        "refused" => ("Not sent", Bad),
        _ => return None,
    })
}

/// A role as people call it.
pub(super) const fn role(role: Role) -> &'static str {
    match role {
        Role::Operator => "Operator",
        Role::Marketplace => "Marketplace",
        Role::Host => "Host",
        Role::Vendor => "Vendor",
        Role::Admin => "Administrator",
        Role::Viewer => "Viewer",
    }
}

/// What was just done, by the word that stands in the address after it.
pub(super) fn done(word: &str) -> &'static str {
    match word {
        "suspended" => "Suspended. Nothing is delivered until it is resumed; what comes is held.",
        "resumed" => "Resumed. What was held goes on.",
        "lifted" => "Your suspension is lifted. Where somebody else holds it, it stays held.",
        "consented" => "You agreed. The new version serves now.",
        "uninstalled" => "Uninstalled. No request of it begins any more.",
        "dismissed" => "Put aside. It comes back when it happens again.",
        "suspended-everywhere" => {
            "Suspended in all orgs. Nothing of it is delivered anywhere; what comes is held."
        }
        "retried" => "On its way again.",
        "recovering" => "Begun. The deliveries go out at a steady pace.",
        "cancelled" => "Called off.",
        "reactivated" => "Live again.",
        "rotated" => "A new secret signs now. Copy it into your receiver before the old one ends.",
        "redelivered" => "The callback is on its way again.",
        "withdrawn" => "Withdrawn. Nobody installs this version any more.",
        "revoked" => "Revoked. No node takes it any more.",
        "compared" => "Compared.",
        "signed-out" => "You are signed out.",
        "signed-out-everywhere" => {
            "You are signed out everywhere, and links that were not used yet do not work any more."
        }
        "created" => "It is there.",
        "saved" => "Saved.",
        "switched-on" => "Switched on.",
        "switched-off" => "Switched off.",
        "deleted" => "Deleted.",
        _ => "",
    }
}

/// A command of the history as people say it.
pub(super) fn command(name: &str) -> String {
    let known = match name {
        "install" => "Installed",
        "authorize" => "Authorised",
        "reauthorize" => "Authorised again",
        "configure" => "Configured",
        "upgrade" => "Upgraded, or asked to",
        "consent" => "Upgrade agreed to",
        "suspend" => "Suspended",
        "resume" => "Resumed",
        "uninstall" => "Uninstalled",
        "erase" => "Erased",
        "reconcile" => "Repaired",
        _ => return name.to_owned(),
    };
    known.to_owned()
}

/// What a class of errors means, in plain words.
pub(super) fn error(class: &str) -> Option<&'static str> {
    Some(match class {
        "status" => "The endpoint answered, but not with success.",
        "interrupted" => "The attempt was broken off by this server.",
        _ => return None,
    })
}

/// The dialects, with what people call them.
pub(super) const DIALECTS: &[(&str, &str)] = &[
    ("desk", "Zoho Desk"),
    ("standard", "Standard Webhooks"),
    ("zendesk", "Zendesk"),
    ("dzdesk", "dzdesk"),
    ("assist", "Zoho Assist"),
];

/// The ways to tell an endpoint who calls, with what people call them.
pub(super) const AUTHENTICATIONS: &[(&str, &str)] = &[
    ("none", "Not at all; it can verify the signature"),
    ("basic", "User name and password"),
    ("bearer", "A bearer token"),
    ("apiKey", "A key in a header"),
    ("oauth2ClientCredentials", "OAuth 2.0 client credentials"),
    ("mtls", "A client certificate (mutual TLS)"),
];

/// The operators of conditions, with what people call them.
pub(super) const OPERATORS: &[(&str, &str)] = &[
    ("is", "is"),
    ("isNot", "is not"),
    ("includes", "includes"),
    ("notIncludes", "does not include"),
    ("lessThan", "is less than"),
    ("greaterThan", "is greater than"),
    ("present", "is there"),
    ("notPresent", "is not there"),
    ("changed", "changed"),
    ("notChanged", "did not change"),
    ("changedTo", "changed to"),
    ("changedFrom", "changed from"),
];

/// What people call one of a list; nothing where it is none of it.
fn called(list: &[(&str, &'static str)], name: &str) -> Option<&'static str> {
    list.iter().find(|(known, _)| *known == name).map(|(_, label)| *label)
}

/// A dialect as people call it.
pub(super) fn dialect(name: &str) -> &str {
    called(DIALECTS, name).unwrap_or(name)
}

/// A way to tell an endpoint who calls, as people call it.
pub(super) fn authentication(kind: &str) -> &'static str {
    called(AUTHENTICATIONS, kind).unwrap_or("In a way that this page does not know")
}

/// An operator of a condition as people say it.
pub(super) fn operator(name: &str) -> &str {
    called(OPERATORS, name).unwrap_or(name)
}

/// Whether an operator compares with a value.
pub(super) fn takes_value(operator: &str) -> bool {
    !["present", "notPresent", "changed", "notChanged"].contains(&operator)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::claims::DeliveryState;

    #[test]
    fn every_state_of_a_delivery_has_words() {
        for known in DeliveryState::ALL {
            assert!(state(known.name()).is_some(), "{}", known.name());
        }
        assert_eq!(state("<script>"), None);
        assert_eq!(done("<script>"), "");
    }

    #[test]
    fn every_dialect_has_words() {
        for known in crate::dialect::Dialect::ALL {
            assert!(called(DIALECTS, known.as_str()).is_some(), "{}", known.as_str());
        }
        assert_eq!((dialect("x"), operator("isNot")), ("x", "is not"));
    }

    #[test]
    fn every_operator_has_words_and_says_whether_it_takes_a_value() {
        for (name, _) in OPERATORS {
            let value =
                if takes_value(name) { serde_json::json!("x") } else { serde_json::Value::Null };
            let one = serde_json::json!({ "field": "payload.a", "operator": name, "value": value });
            let read = serde_json::from_value(serde_json::json!({ "all": [one] }));
            let mut read: crate::webhook::conditions::Conditions = read.unwrap();
            let find = |_: &str| Err(None);
            assert!(read.check(&find).is_empty(), "{name}");
        }
    }
}
