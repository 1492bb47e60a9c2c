//! The life of an installation as one pure, total table.
//!
//! A state here is a phase, the set of those who hold the installation suspended, and whether an
//! upgrade waits for consent. [`step`] answers for every state and every command: a new state with its effects, nothing to do,
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
    /// The operator.
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

/// How far the bits of the kill switch lie above those of single installations.
const SWITCH: u32 = 4;

/// Those who hold an installation suspended: it alone, or its extension as a whole.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Holders(u8);

impl Holders {
    /// Nobody.
    pub const NONE: Self = Self(0);

    /// Reads the number in the table; unknown bits are dropped.
    pub fn from_number(number: i32) -> Self {
        Self(u8::try_from(number & 0xff).unwrap_or(0))
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

    /// Whether `holder` holds the whole extension by the kill switch, and this installation with it.
    pub const fn contains_switch(self, holder: Holder) -> bool {
        self.0 & (holder.bit() << SWITCH) != 0
    }

    /// Whether somebody holds this installation alone, and not only its extension.
    pub const fn hold_alone(self) -> bool {
        self.0 & ((1 << SWITCH) - 1) != 0
    }

    /// These and one who holds the whole extension: lifted by lifting that, and by nothing else.
    #[must_use]
    pub const fn with_switch(self, holder: Holder) -> Self {
        Self(self.0 | (holder.bit() << SWITCH))
    }

    /// These without one who held the whole extension.
    #[must_use]
    pub const fn without_switch(self, holder: Holder) -> Self {
        Self(self.0 & !(holder.bit() << SWITCH))
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
        Holder::ALL
            .into_iter()
            .filter(|holder| self.contains(*holder) || self.contains_switch(*holder))
            .map(Holder::name)
            .collect()
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
    /// Whether an upgrade waits for consent; the version before it serves meanwhile.
    pub upgrade_waits: bool,
}

impl State {
    /// The state of an installation in a phase that nobody holds and for which nothing waits.
    pub const fn of(phase: Phase) -> Self {
        Self { phase, suspended_by: Holders::NONE, upgrade_waits: false }
    }

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
    /// Another version is to serve.
    Upgrade {
        /// It asks for more than the present one.
        needs_consent: bool,
    },
    /// The org agreed to the upgrade that waits.
    Consent,
    /// The upgrade that waits is not wanted any more.
    WithdrawUpgrade,
    /// Nobody agreed to the upgrade that waits in time.
    ExpireUpgrade,
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
            Self::Upgrade { .. } => "upgrade",
            Self::Consent => "consent",
            Self::WithdrawUpgrade => "withdrawUpgrade",
            Self::ExpireUpgrade => "expireUpgrade",
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

/// What becomes of an upgrade that waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Settlement {
    /// The org agreed.
    Given,
    /// Another upgrade took its place.
    Superseded,
    /// It is not wanted any more.
    Withdrawn,
    /// Its deadline passed.
    Expired,
    /// The installation went.
    Uninstalled,
}

impl Settlement {
    /// The name in the table and in answers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Given => "given",
            Self::Superseded => "superseded",
            Self::Withdrawn => "withdrawn",
            Self::Expired => "expired",
            Self::Uninstalled => "uninstalled",
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
    /// What waits to be authorised is another version: all authorisations under way end.
    Retarget,
    /// Another version serves: what it no longer declares goes, then the rest changes or comes.
    ApplyUpgrade,
    /// An upgrade waits for consent, and people are told.
    AwaitConsent,
    /// The upgrade that waited does not any more.
    SettleUpgrade(Settlement),
    /// The vendor is told of the version.
    TellUpdated,
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
        Authorize, Configure, Connect, Consent, Disconnect, Erase, ExpireUpgrade, Reauthorize,
        Resume, Suspend, Uninstall, Upgrade, WithdrawUpgrade,
    };
    use Effect::{
        ApplyUpgrade, AwaitConsent, HoldDeliveries, ProvisionWebhooks, ReleaseDeliveries,
        RemoveWebhooks, Retarget, RevokeCredentials, SettleUpgrade, TellAuthorized,
        TellUninstalled, TellUpdated,
    };
    use Phase::{Active, Erased, PendingAuthorization, Uninstalled};
    use Settlement::{Expired, Given, Superseded, Withdrawn};

    let State { phase, suspended_by, upgrade_waits } = state;
    let to = |phase, suspended_by, effects| {
        Step::To(State { phase, suspended_by, upgrade_waits }, effects)
    };
    let upgraded = |upgrade_waits, effects| Step::To(State { upgrade_waits, ..state }, effects);
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
        // Whoever authorises agrees to the version that is shown to him then.
        (PendingAuthorization, Upgrade { .. }) => upgraded(false, &[Retarget, TellUpdated]),
        (Active, Upgrade { needs_consent: true }) if upgrade_waits => {
            upgraded(true, &[SettleUpgrade(Superseded), AwaitConsent])
        }
        (Active, Upgrade { needs_consent: true }) => upgraded(true, &[AwaitConsent]),
        (Active, Upgrade { needs_consent: false }) if upgrade_waits => {
            upgraded(false, &[SettleUpgrade(Superseded), ApplyUpgrade, TellUpdated])
        }
        (Active, Upgrade { needs_consent: false }) => upgraded(false, &[ApplyUpgrade, TellUpdated]),

        (Active, Consent) if upgrade_waits => {
            upgraded(false, &[SettleUpgrade(Given), ApplyUpgrade, TellUpdated])
        }
        (PendingAuthorization | Active, Consent) => {
            Step::Refused("no upgrade of it waits for consent")
        }
        (PendingAuthorization | Active, WithdrawUpgrade) if upgrade_waits => {
            upgraded(false, &[SettleUpgrade(Withdrawn)])
        }
        (PendingAuthorization | Active, ExpireUpgrade) if upgrade_waits => {
            upgraded(false, &[SettleUpgrade(Expired)])
        }
        (_, WithdrawUpgrade | ExpireUpgrade)
        | (Uninstalled | Erased, Uninstall)
        | (Erased, Erase) => Step::Nothing,

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

        (PendingAuthorization | Active, Uninstall) => Step::To(
            State::of(Uninstalled),
            if upgrade_waits {
                &[
                    SettleUpgrade(Settlement::Uninstalled),
                    RemoveWebhooks,
                    RevokeCredentials,
                    TellUninstalled,
                ]
            } else {
                &[RemoveWebhooks, RevokeCredentials, TellUninstalled]
            },
        ),

        (Uninstalled, Erase) => Step::To(State::of(Erased), &[]),
        (PendingAuthorization | Active, Erase) => {
            Step::Refused("it is still installed: uninstall it first")
        }

        (
            Uninstalled | Erased,
            Authorize
            | Configure
            | Upgrade { .. }
            | Consent
            | Reauthorize
            | Connect
            | Disconnect
            | Suspend(_)
            | Resume(_),
        ) => Step::Refused("it is uninstalled: install the extension again"),
    }
}

#[cfg(test)]
mod tests;
