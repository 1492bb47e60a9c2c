//! The life of an installation as one pure, total table.
//!
//! A state here is the pair of a phase and the set of those who hold the installation suspended.
//! [`step`] answers for every state and every command: a new state with its effects, nothing to do,
//! or a refusal with its reason. Nothing else decides what may follow what.

use std::fmt;

/// Where an installation is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Installed; waits for the org to authorise it.
    PendingAuthorization,
    /// Authorised, or nothing to authorise: its webhook exists.
    Active,
    /// Taken out; nothing of it works any more.
    Uninstalled,
    /// What the org asked to erase is erased.
    Erased,
}

impl Phase {
    /// All phases.
    pub const ALL: [Self; 4] =
        [Self::PendingAuthorization, Self::Active, Self::Uninstalled, Self::Erased];

    /// The name in the table.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PendingAuthorization => "pendingAuthorization",
            Self::Active => "active",
            Self::Uninstalled => "uninstalled",
            Self::Erased => "erased",
        }
    }

    /// Reads the name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|phase| phase.name() == name)
    }

    /// Whether the installation can still do anything.
    pub const fn is_live(self) -> bool {
        matches!(self, Self::PendingAuthorization | Self::Active)
    }
}

/// Who can hold an installation suspended. Each lifts its own suspension only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Holder {
    /// The org's administrator.
    Admin,
    /// The vendor.
    Vendor,
    /// The marketplace.
    Marketplace,
    /// The operator, by the kill switch over all orgs.
    Operator,
}

impl Holder {
    /// All holders.
    pub const ALL: [Self; 4] = [Self::Admin, Self::Vendor, Self::Marketplace, Self::Operator];

    const fn bit(self) -> u8 {
        match self {
            Self::Admin => 1,
            Self::Vendor => 2,
            Self::Marketplace => 4,
            Self::Operator => 8,
        }
    }

    /// The name in answers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Vendor => "vendor",
            Self::Marketplace => "marketplace",
            Self::Operator => "operator",
        }
    }
}

/// Those who hold an installation suspended.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Holders(u8);

impl Holders {
    /// Nobody.
    pub const NONE: Self = Self(0);

    /// Reads the number in the table; unknown bits are dropped.
    pub fn from_number(number: i32) -> Self {
        Self(u8::try_from(number & 0x0f).unwrap_or(0))
    }

    /// The number in the table.
    pub fn number(self) -> i32 {
        i32::from(self.0)
    }

    /// Whether nobody holds it.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether `holder` is among them.
    pub const fn contains(self, holder: Holder) -> bool {
        self.0 & holder.bit() != 0
    }

    /// These and one more.
    #[must_use]
    pub const fn with(self, holder: Holder) -> Self {
        Self(self.0 | holder.bit())
    }

    /// These without one.
    #[must_use]
    pub const fn without(self, holder: Holder) -> Self {
        Self(self.0 & !holder.bit())
    }

    /// Their names.
    pub fn names(self) -> Vec<&'static str> {
        Holder::ALL.into_iter().filter(|holder| self.contains(*holder)).map(Holder::name).collect()
    }
}

impl fmt::Debug for Holders {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.names()).finish()
    }
}

/// A state of an installation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// Where it is in its life.
    pub phase: Phase,
    /// Who holds it suspended.
    pub suspended_by: Holders,
}

impl State {
    /// The name in answers: a suspended installation says so.
    pub fn name(self) -> &'static str {
        if self.phase == Phase::Active && !self.suspended_by.is_empty() {
            "suspended"
        } else {
            self.phase.name()
        }
    }

    /// Whether deliveries are made.
    pub fn delivers(self) -> bool {
        self.phase == Phase::Active && self.suspended_by.is_empty()
    }
}

/// What somebody wants of an installation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// The org authorised it.
    Authorize,
    /// Departments or parameters change.
    Configure,
    /// Somebody suspends it.
    Suspend(Holder),
    /// Somebody lifts their suspension.
    Resume(Holder),
    /// One of its connections was authorised again.
    Reauthorize,
    /// A connection to somebody else was authorised.
    Connect,
    /// A connection to somebody else was taken back.
    Disconnect,
    /// It is taken out.
    Uninstall,
    /// What the org asked to erase is due.
    Erase,
}

impl Command {
    /// The name in history and audit.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Authorize => "authorize",
            Self::Configure => "configure",
            Self::Suspend(_) => "suspend",
            Self::Resume(_) => "resume",
            Self::Reauthorize => "reauthorize",
            Self::Connect => "connect",
            Self::Disconnect => "disconnect",
            Self::Uninstall => "uninstall",
            Self::Erase => "erase",
        }
    }
}

/// What a transition brings about, in its own transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// The webhooks of the package come into being.
    ProvisionWebhooks,
    /// They are removed, with everything that waits for them.
    RemoveWebhooks,
    /// What is queued is held.
    HoldDeliveries,
    /// What is held goes on.
    ReleaseDeliveries,
    /// Tokens go into the revocation job, secrets are made unusable.
    RevokeCredentials,
    /// The vendor is told of the authorisation.
    TellAuthorized,
    /// The vendor is told of the end.
    TellUninstalled,
}

/// What the table answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The installation goes on to a state.
    To(State, &'static [Effect]),
    /// It is so already.
    Nothing,
    /// It cannot be, and why.
    Refused(&'static str),
}

/// The table.
pub fn step(state: State, command: Command) -> Step {
    use Command::{
        Authorize, Configure, Connect, Disconnect, Erase, Reauthorize, Resume, Suspend, Uninstall,
    };
    use Effect::{
        HoldDeliveries, ProvisionWebhooks, ReleaseDeliveries, RemoveWebhooks, RevokeCredentials,
        TellAuthorized, TellUninstalled,
    };
    use Phase::{Active, Erased, PendingAuthorization, Uninstalled};

    let State { phase, suspended_by } = state;
    let to = |phase, suspended_by, effects| Step::To(State { phase, suspended_by }, effects);
    match (phase, command) {
        (PendingAuthorization, Authorize) => {
            to(Active, suspended_by, &[ProvisionWebhooks, TellAuthorized])
        }
        (Active, Authorize) => Step::Refused("it is authorised already"),

        (PendingAuthorization | Active, Configure)
        | (Active, Reauthorize | Connect | Disconnect) => to(phase, suspended_by, &[]),
        (PendingAuthorization, Reauthorize | Connect | Disconnect) => {
            Step::Refused("it was not authorised yet: authorise it first")
        }

        (PendingAuthorization | Active, Suspend(holder)) => {
            if suspended_by.contains(holder) {
                Step::Nothing
            } else if suspended_by.is_empty() && phase == Active {
                to(phase, suspended_by.with(holder), &[HoldDeliveries])
            } else {
                to(phase, suspended_by.with(holder), &[])
            }
        }
        (PendingAuthorization | Active, Resume(holder)) => {
            if !suspended_by.contains(holder) {
                Step::Nothing
            } else if suspended_by.without(holder).is_empty() && phase == Active {
                to(phase, suspended_by.without(holder), &[ReleaseDeliveries])
            } else {
                to(phase, suspended_by.without(holder), &[])
            }
        }

        (PendingAuthorization | Active, Uninstall) => {
            to(Uninstalled, Holders::NONE, &[RemoveWebhooks, RevokeCredentials, TellUninstalled])
        }
        (Uninstalled | Erased, Uninstall) | (Erased, Erase) => Step::Nothing,

        (Uninstalled, Erase) => to(Erased, Holders::NONE, &[]),
        (PendingAuthorization | Active, Erase) => {
            Step::Refused("it is still installed: uninstall it first")
        }

        (
            Uninstalled | Erased,
            Authorize | Configure | Reauthorize | Connect | Disconnect | Suspend(_) | Resume(_),
        ) => Step::Refused("it is uninstalled: install the extension again"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_command() -> impl Strategy<Value = Command> {
        let holder = prop::sample::select(Holder::ALL.to_vec());
        prop_oneof![
            Just(Command::Authorize),
            Just(Command::Configure),
            Just(Command::Reauthorize),
            Just(Command::Connect),
            Just(Command::Disconnect),
            holder.clone().prop_map(Command::Suspend),
            holder.prop_map(Command::Resume),
            Just(Command::Uninstall),
            Just(Command::Erase),
        ]
    }

    proptest! {
        #[test]
        fn any_sequence_keeps_the_laws(commands in prop::collection::vec(any_command(), 0..60)) {
            let mut state = State { phase: Phase::PendingAuthorization, suspended_by: Holders::NONE };
            // The reference model: does the webhook exist, and what is held?
            let mut webhooks = false;
            let mut held = false;
            let mut ended = false;
            for command in commands {
                match step(state, command) {
                    Step::To(next, effects) => {
                        prop_assert!(!(ended && next.phase.is_live()), "nothing rises again");
                        for effect in effects {
                            match effect {
                                Effect::ProvisionWebhooks => { prop_assert!(!webhooks); webhooks = true; }
                                Effect::RemoveWebhooks => { webhooks = false; held = false; }
                                Effect::HoldDeliveries => { prop_assert!(webhooks && !held); held = true; }
                                Effect::ReleaseDeliveries => { prop_assert!(webhooks); held = false; }
                                _ => {}
                            }
                        }
                        state = next;
                    }
                    Step::Nothing | Step::Refused(_) => {}
                }
                ended |= state.phase == Phase::Uninstalled;
                prop_assert_eq!(webhooks, state.phase == Phase::Active);
                prop_assert!(!held || !state.delivers(), "what is held is not delivered");
                prop_assert!(!state.delivers() || webhooks);
            }
        }

        #[test]
        fn holders_lift_only_their_own(mine in 0..4_usize, other in 0..4_usize) {
            let (mine, other) = (Holder::ALL[mine], Holder::ALL[other]);
            let active = State { phase: Phase::Active, suspended_by: Holders::NONE };
            let Step::To(suspended, _) = step(active, Command::Suspend(mine)) else {
                return Err(TestCaseError::fail("an active installation can be suspended"));
            };
            let lifted = step(suspended, Command::Resume(other));
            prop_assert_eq!(matches!(lifted, Step::To(state, _) if state.delivers()), mine == other);
        }
    }

    #[test]
    fn uninstalling_twice_is_nothing() {
        let gone = State { phase: Phase::Uninstalled, suspended_by: Holders::NONE };
        assert_eq!(step(gone, Command::Uninstall), Step::Nothing);
    }
}
