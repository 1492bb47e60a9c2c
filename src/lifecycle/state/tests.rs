//! The laws of the table, against a small model of the world.

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
        prop_assert!(self.state.phase.is_live() || !next.phase.is_live(), "nothing rises again");
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
                Effect::TellAuthorized | Effect::TellUninstalled | Effect::RevokeCredentials => {}
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
