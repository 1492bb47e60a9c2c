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
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What the world does: commands with the version that they speak of, and the generation.
    #[derive(Clone, Copy, Debug)]
    enum Call {
        Of(Command),
        /// A version; whether it asks for more than the present one.
        Upgrade(u8, bool),
        /// Consent to a version: an old answer may come late.
        Consent(u8),
        Reinstall,
    }

    fn any_call() -> impl Strategy<Value = Call> {
        let holder = prop::sample::select(Holder::ALL.to_vec());
        prop_oneof![
            3 => Just(Call::Of(Command::Authorize)),
            1 => Just(Call::Of(Command::Configure)),
            1 => Just(Call::Of(Command::Reauthorize)),
            1 => Just(Call::Of(Command::Connect)),
            1 => Just(Call::Of(Command::Disconnect)),
            2 => holder.clone().prop_map(|holder| Call::Of(Command::Suspend(holder))),
            2 => holder.prop_map(|holder| Call::Of(Command::Resume(holder))),
            1 => Just(Call::Of(Command::Uninstall)),
            1 => Just(Call::Of(Command::Erase)),
            1 => Just(Call::Of(Command::WithdrawUpgrade)),
            1 => Just(Call::Of(Command::ExpireUpgrade)),
            4 => (0..6_u8, any::<bool>()).prop_map(|(version, more)| Call::Upgrade(version, more)),
            4 => (0..6_u8).prop_map(Call::Consent),
            1 => Just(Call::Reinstall),
        ]
    }

    /// Calls as they arrive: some of them once more, later.
    fn arriving() -> impl Strategy<Value = Vec<Call>> {
        prop::collection::vec((any_call(), 0..12_usize, any::<bool>()), 0..60).prop_map(|sent| {
            let mut arriving: Vec<(usize, Call)> = Vec::new();
            for (place, (call, delay, comes_again)) in sent.into_iter().enumerate() {
                arriving.push((place, call));
                if comes_again {
                    arriving.push((place + delay, call));
                }
            }
            arriving.sort_by_key(|(place, _)| *place);
            arriving.into_iter().map(|(_, call)| call).collect()
        })
    }

    /// The reference model: an installation told as a story, without the table.
    #[derive(Debug)]
    struct Model {
        generation: u32,
        live: bool,
        authorised: bool,
        serving: u8,
        waiting: Option<u8>,
        holders: Vec<Holder>,
    }

    impl Model {
        const fn new(generation: u32) -> Self {
            let holders = Vec::new();
            Self { generation, live: true, authorised: false, serving: 0, waiting: None, holders }
        }

        fn tell(&mut self, call: Call) {
            if let Call::Reinstall = call {
                if !self.live {
                    *self = Self::new(self.generation + 1);
                }
                return;
            }
            if !self.live {
                return;
            }
            match call {
                Call::Upgrade(version, _) if version == self.serving => self.waiting = None,
                Call::Upgrade(version, more) if more && self.authorised => {
                    self.waiting = Some(version);
                }
                Call::Upgrade(version, _) => {
                    self.serving = version;
                    self.waiting = None;
                }
                Call::Consent(version) if self.waiting == Some(version) => {
                    self.serving = version;
                    self.waiting = None;
                }
                Call::Of(Command::WithdrawUpgrade | Command::ExpireUpgrade) => self.waiting = None,
                Call::Of(Command::Authorize) => self.authorised = true,
                Call::Of(Command::Suspend(holder)) if !self.holders.contains(&holder) => {
                    self.holders.push(holder);
                }
                Call::Of(Command::Resume(holder)) => self.holders.retain(|one| *one != holder),
                Call::Of(Command::Uninstall) => {
                    self.live = false;
                    self.waiting = None;
                    self.holders.clear();
                }
                _ => {}
            }
        }
    }

    /// What carries out the effects of the table.
    #[derive(Debug)]
    struct World {
        state: State,
        generation: u32,
        serving: u8,
        waiting: Option<u8>,
        webhook: bool,
        held: bool,
        told_of: u8,
    }

    impl World {
        fn take(&mut self, command: Command, version: u8) -> Result<(), TestCaseError> {
            let Step::To(next, effects) = step(self.state, command) else { return Ok(()) };
            prop_assert!(
                self.state.phase.is_live() || !next.phase.is_live(),
                "nothing rises again"
            );
            for effect in effects {
                match effect {
                    Effect::ProvisionWebhooks => {
                        prop_assert!(!self.webhook, "never two webhooks");
                        self.webhook = true;
                    }
                    Effect::RemoveWebhooks => {
                        self.webhook = false;
                        self.held = false;
                    }
                    Effect::HoldDeliveries => {
                        prop_assert!(self.webhook && !self.held);
                        self.held = true;
                    }
                    Effect::ReleaseDeliveries => {
                        prop_assert!(self.webhook);
                        self.held = false;
                    }
                    Effect::Retarget => {
                        prop_assert!(!self.webhook, "nothing serves before it is authorised");
                        self.serving = version;
                    }
                    Effect::ApplyUpgrade => {
                        prop_assert!(self.webhook && self.waiting.is_none());
                        self.serving = version;
                    }
                    Effect::AwaitConsent => {
                        prop_assert!(self.waiting.is_none(), "the former one is settled first");
                        self.waiting = Some(version);
                    }
                    Effect::SettleUpgrade(_) => {
                        prop_assert!(self.waiting.take().is_some(), "settled once");
                    }
                    Effect::TellUpdated => self.told_of = self.serving,
                    Effect::TellAuthorized
                    | Effect::TellUninstalled
                    | Effect::RevokeCredentials => {}
                }
            }
            self.state = next;
            Ok(())
        }

        /// As the lifecycle asks the table.
        fn call(&mut self, call: Call) -> Result<(), TestCaseError> {
            match call {
                Call::Of(command) => self.take(command, 0),
                Call::Upgrade(version, _) if version == self.serving => {
                    self.take(Command::WithdrawUpgrade, version)
                }
                Call::Upgrade(version, needs_consent) => {
                    self.take(Command::Upgrade { needs_consent }, version)
                }
                Call::Consent(version) if self.waiting == Some(version) => {
                    self.take(Command::Consent, version)
                }
                // It is for an upgrade that another one superseded.
                Call::Consent(_) => Ok(()),
                Call::Reinstall if self.state.phase.is_live() => Ok(()),
                Call::Reinstall => {
                    *self = Self {
                        state: State::of(Phase::PendingAuthorization),
                        generation: self.generation + 1,
                        serving: 0,
                        waiting: None,
                        webhook: false,
                        held: false,
                        told_of: 0,
                    };
                    Ok(())
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]

        #[test]
        fn any_sequence_follows_the_story(calls in arriving()) {
            let mut model = Model::new(1);
            let mut world = World {
                state: State::of(Phase::PendingAuthorization),
                generation: 1, serving: 0, waiting: None, webhook: false, held: false, told_of: 0,
            };
            for call in calls {
                let before = world.generation;
                model.tell(call);
                world.call(call)?;
                let state = world.state;
                prop_assert!(world.generation >= before, "a generation only grows");
                prop_assert_eq!(world.generation, model.generation);
                prop_assert_eq!(state.phase.is_live(), model.live);
                prop_assert_eq!(world.serving, model.serving);
                prop_assert_eq!(world.told_of, world.serving, "the vendor knows what serves");
                prop_assert_eq!(world.waiting, model.waiting);
                prop_assert_eq!(world.waiting.is_some(), state.upgrade_waits);
                prop_assert_eq!(world.webhook, state.phase == Phase::Active);
                prop_assert_eq!(world.webhook, model.live && model.authorised);
                prop_assert_eq!(state.suspended_by.is_empty(), model.holders.is_empty());
                prop_assert!(!world.held || !state.delivers(), "what is held is not delivered");
                prop_assert!(!state.delivers() || world.webhook);
                prop_assert!(!state.upgrade_waits || state.phase == Phase::Active);
            }
        }

        #[test]
        fn the_table_is_total_and_keeps_what_it_does_not_name(
            phase in prop::sample::select(Phase::ALL.to_vec()),
            holders in 0..16_i32,
            upgrade_waits in any::<bool>(),
            call in any_call(),
        ) {
            prop_assume!(phase == Phase::Active || !upgrade_waits);
            let before = State { phase, suspended_by: Holders::from_number(holders), upgrade_waits };
            let command = match call {
                Call::Of(command) => command,
                Call::Upgrade(_, needs_consent) => Command::Upgrade { needs_consent },
                Call::Consent(_) | Call::Reinstall => Command::Consent,
            };
            if let Step::To(after, effects) = step(before, command) {
                let removal = effects.iter().position(|effect| *effect == Effect::RemoveWebhooks);
                prop_assert_eq!(removal.is_some(), phase.is_live() && !after.phase.is_live());
                if after.phase.is_live() && !matches!(command, Command::Suspend(_) | Command::Resume(_)) {
                    prop_assert_eq!(after.suspended_by, before.suspended_by);
                }
                let settles = effects.iter().any(|effect| matches!(effect, Effect::SettleUpgrade(_)));
                let awaits = effects.contains(&Effect::AwaitConsent);
                prop_assert_eq!(after.upgrade_waits, awaits || (upgrade_waits && !settles && after.phase.is_live()));
            }
        }

        #[test]
        fn holders_lift_only_their_own(mine in 0..4_usize, other in 0..4_usize) {
            let (mine, other) = (Holder::ALL[mine], Holder::ALL[other]);
            let active = State::of(Phase::Active);
            let Step::To(suspended, _) = step(active, Command::Suspend(mine)) else {
                return Err(TestCaseError::fail("an active installation can be suspended"));
            };
            let lifted = step(suspended, Command::Resume(other));
            prop_assert_eq!(matches!(lifted, Step::To(state, _) if state.delivers()), mine == other);
        }
    }

    #[test]
    fn the_kill_switch_is_held_apart() {
        let held = Holders::NONE.with(Holder::Operator).with_switch(Holder::Operator);
        assert_eq!(held.names(), ["operator"]);
        let alone = held.without_switch(Holder::Operator);
        assert!(alone.contains(Holder::Operator) && !alone.contains_switch(Holder::Operator));
        let switched = held.without(Holder::Operator);
        let state = State { suspended_by: switched, ..State::of(Phase::Active) };
        assert!(!switched.is_empty() && !state.delivers());
        assert_eq!(step(state, Command::Resume(Holder::Operator)), Step::Nothing);
        assert_eq!(Holders::from_number(held.number()), held);
    }

    #[test]
    fn uninstalling_twice_is_nothing() {
        let gone = State::of(Phase::Uninstalled);
        assert_eq!(step(gone, Command::Uninstall), Step::Nothing);
    }
}
