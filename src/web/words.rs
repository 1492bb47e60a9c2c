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
        "lifted" => "Your suspension is lifted.",
        "consented" => "You agreed. The new version serves now.",
        "uninstalled" => "Uninstalled. No request of it begins any more.",
        "dismissed" => "Put aside. It comes back when it happens again.",
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
}
