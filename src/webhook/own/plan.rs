//! What an org may have of its own: how many webhooks, how many for one event, how often they are
//! called, and in which dialects. Extensions' webhooks count in none of it.

use std::collections::BTreeMap;

use sea_orm::sea_query::OnConflict;
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QuerySelect,
};
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use super::definition::FieldFault;
use super::{KIND, OwnRefusal};
use crate::dialect::{self, Dialect};
use crate::seam::Timestamp;
use crate::store::entity::{org_plan, webhook};
use crate::store::{StoreError, UnitOfWork};

/// How many own webhooks an org may have where nobody said otherwise.
const WEBHOOKS: u32 = 20;

/// How many of them for one event.
const WEBHOOKS_PER_EVENT: u32 = 10;

/// The most that a plan may allow of either.
const MOST: u32 = 10_000;

/// The highest rate that a plan may name.
const MOST_PER_MINUTE: u32 = 10_000_000;

/// What an org may have of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// How many webhooks.
    pub webhooks: u32,
    /// How many of them for one event.
    pub webhooks_per_event: u32,
    /// How many deliveries of all its own webhooks together begin in a minute; what is over that
    /// waits.
    pub invocations_per_minute: Option<u32>,
    /// The dialects; all where there is no list.
    pub dialects: Option<Vec<Dialect>>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            webhooks: WEBHOOKS,
            webhooks_per_event: WEBHOOKS_PER_EVENT,
            invocations_per_minute: None,
            dialects: None,
        }
    }
}

/// A plan as it is asked for. What is left out or null is as for everybody.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PlanRequest {
    /// How many own webhooks; 20 where nobody says otherwise.
    #[serde(default)]
    pub webhooks: Option<u32>,
    /// How many of them may be for one event; 10 where nobody says otherwise.
    #[serde(default)]
    pub webhooks_per_event: Option<u32>,
    /// How many deliveries of all own webhooks of the org together begin in a minute, on all nodes;
    /// what is over that waits. No limit where nobody says otherwise.
    #[serde(default)]
    pub invocations_per_minute: Option<u32>,
    /// The dialects that own webhooks may have; all where nobody says otherwise.
    #[serde(default)]
    pub dialects: Option<Vec<String>>,
}

impl PlanRequest {
    /// Checks it; all faults at once.
    pub fn check(&self) -> Result<Plan, Vec<FieldFault>> {
        let mut faults = Vec::new();
        for (pointer, given, most) in [
            ("/webhooks", self.webhooks, MOST),
            ("/webhooksPerEvent", self.webhooks_per_event, MOST),
        ] {
            if given.is_some_and(|given| given > most) {
                faults.push(FieldFault::new(pointer, format!("must be at most {most}")));
            }
        }
        if self.invocations_per_minute.is_some_and(|rate| rate == 0 || rate > MOST_PER_MINUTE) {
            let message = format!("must be 1 to {MOST_PER_MINUTE}");
            faults.push(FieldFault::new("/invocationsPerMinute", message));
        }
        let dialects = self.dialects.as_ref().map(|names| {
            let read = |(index, name): (usize, &String)| {
                let known = Dialect::from_name(name);
                if known.is_none() {
                    let names = Dialect::ALL.map(Dialect::as_str).join(", ");
                    let message = format!("must be one of: {names}");
                    faults.push(FieldFault::new(format!("/dialects/{index}"), message));
                }
                known
            };
            let mut dialects: Vec<Dialect> = names.iter().enumerate().filter_map(read).collect();
            dialects.sort_unstable_by_key(|one| one.as_str());
            dialects.dedup();
            dialects
        });
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(Plan {
            webhooks: self.webhooks.unwrap_or(WEBHOOKS),
            webhooks_per_event: self.webhooks_per_event.unwrap_or(WEBHOOKS_PER_EVENT),
            invocations_per_minute: self.invocations_per_minute,
            dialects,
        })
    }
}

/// How much of a plan is used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlanUse {
    /// Own webhooks, those that are switched off too.
    pub webhooks: u32,
    /// Those that are switched on.
    pub enabled: u32,
    /// The same for each event, by dialect and name.
    pub per_event: BTreeMap<String, u32>,
    /// Those of them that are switched on.
    pub enabled_per_event: BTreeMap<String, u32>,
}

/// An own webhook as far as it counts.
#[derive(Clone, Debug)]
pub(super) struct Counted {
    pub(super) id: Uuid,
    pub(super) dialect: String,
    pub(super) is_enabled: bool,
    pub(super) events: Vec<String>,
}

/// The events of a webhook, told apart by dialect; one that has two names there once.
pub(super) fn event_keys<'n>(
    dialect: &str,
    names: impl IntoIterator<Item = &'n str>,
) -> Vec<String> {
    let known = Dialect::from_name(dialect);
    let counted = |name: &'n str| {
        known.map_or_else(|| vec![name], |dialect| dialect::counted_as(dialect, name))
    };
    let mut keys: Vec<String> =
        names.into_iter().flat_map(counted).map(|name| format!("{dialect}:{name}")).collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// The own webhooks of an org, oldest first.
pub(super) async fn counted(
    connection: &impl ConnectionTrait,
    org_id: &str,
) -> Result<Vec<Counted>, StoreError> {
    use sea_orm::QueryOrder as _;
    let rows = webhook::Entity::find()
        .filter(webhook::Column::OrgId.eq(org_id))
        .filter(webhook::Column::Kind.eq(KIND))
        .order_by_asc(webhook::Column::Id)
        .all(connection)
        .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let subscriptions: BTreeMap<String, Value> =
                serde_json::from_str(&row.subscriptions).unwrap_or_default();
            Counted {
                id: row.id,
                events: event_keys(&row.dialect, subscriptions.keys().map(String::as_str)),
                dialect: row.dialect,
                is_enabled: row.is_enabled != 0,
            }
        })
        .collect())
}

impl PlanUse {
    /// Counts webhooks.
    pub(super) fn of<'c>(all: impl IntoIterator<Item = &'c Counted>) -> Self {
        let mut used = Self::default();
        for one in all {
            used.webhooks += 1;
            used.enabled += u32::from(one.is_enabled);
            for event in &one.events {
                *used.per_event.entry(event.clone()).or_default() += 1;
                if one.is_enabled {
                    *used.enabled_per_event.entry(event.clone()).or_default() += 1;
                }
            }
        }
        used
    }
}

impl Plan {
    /// Whether a dialect is among the allowed.
    pub fn allows(&self, dialect: Dialect) -> bool {
        self.dialects.as_ref().is_none_or(|allowed| allowed.contains(&dialect))
    }

    /// Whether one more webhook of these events may be there, beside those that are used already.
    /// `former` are the events that it had before; nothing where it is new. What it gains counts among
    /// all, switched on or off; what it had counts among the enabled only, since others may be over
    /// the plan, switched off.
    pub(super) fn admits(
        &self,
        used: &PlanUse,
        dialect: Dialect,
        events: &[String],
        former: Option<&[String]>,
        is_enabled: bool,
    ) -> Result<(), OwnRefusal> {
        if !self.allows(dialect) {
            return Err(OwnRefusal::Dialect { dialect });
        }
        let is_full = |limit: u32, is_gained: bool, all: u32, enabled: u32| {
            (is_gained && all >= limit) || (is_enabled && enabled >= limit)
        };
        if is_full(self.webhooks, former.is_none(), used.webhooks, used.enabled) {
            return Err(OwnRefusal::TooMany { limit: self.webhooks });
        }
        let count = |counts: &BTreeMap<String, u32>, event: &String| {
            counts.get(event).copied().unwrap_or(0)
        };
        let over = events.iter().find(|event| {
            let is_gained = former.is_none_or(|former| !former.contains(event));
            let all = count(&used.per_event, event);
            let enabled = count(&used.enabled_per_event, event);
            is_full(self.webhooks_per_event, is_gained, all, enabled)
        });
        match over {
            None => Ok(()),
            Some(event) => Err(OwnRefusal::TooManyOfEvent {
                event: event.split_once(':').map_or(event.as_str(), |(_, name)| name).to_owned(),
                limit: self.webhooks_per_event,
            }),
        }
    }

    /// Which of some webhooks the plan leaves no room for: the newest, and those in a dialect that it
    /// does not allow. They come oldest first.
    pub(super) fn surplus(&self, all: &[Counted]) -> Vec<Uuid> {
        let mut kept = PlanUse::default();
        let mut surplus = Vec::new();
        for one in all.iter().filter(|one| one.is_enabled) {
            let dialect = Dialect::from_name(&one.dialect);
            let fits = dialect.is_some_and(|dialect| {
                self.admits(&kept, dialect, &one.events, Some(&one.events), true).is_ok()
            });
            if fits {
                kept.enabled += 1;
                for event in &one.events {
                    *kept.enabled_per_event.entry(event.clone()).or_default() += 1;
                }
            } else {
                surplus.push(one.id);
            }
        }
        surplus
    }
}

fn count_of(stored: Option<i32>, usual: u32) -> u32 {
    stored.map_or(usual, |stored| u32::try_from(stored).unwrap_or(0))
}

/// The plan of a row.
pub(super) fn of_row(row: &org_plan::Model) -> Plan {
    let names: Option<Vec<String>> =
        row.dialects.as_deref().and_then(|text| serde_json::from_str(text).ok());
    Plan {
        webhooks: count_of(row.webhooks, WEBHOOKS),
        webhooks_per_event: count_of(row.webhooks_per_event, WEBHOOKS_PER_EVENT),
        invocations_per_minute: row
            .invocations_per_minute
            .and_then(|rate| u32::try_from(rate).ok())
            .filter(|rate| *rate > 0),
        // A dialect of a later release is none that this one could serve.
        dialects: names
            .map(|names| names.iter().filter_map(|name| Dialect::from_name(name)).collect()),
    }
}

/// The plan of an org, as it is.
pub(crate) async fn read(
    connection: &impl ConnectionTrait,
    org_id: &str,
) -> Result<Plan, StoreError> {
    let row = org_plan::Entity::find_by_id(org_id).one(connection).await?;
    Ok(row.as_ref().map(of_row).unwrap_or_default())
}

/// The plan of an org under its lock: whoever has it is the only one who changes the org's own
/// webhooks. The row is made where there is none.
pub(super) async fn lock(
    work: &UnitOfWork,
    org_id: &str,
    now: Timestamp,
) -> Result<Plan, StoreError> {
    let new = org_plan::ActiveModel {
        org_id: Set(org_id.to_owned()),
        webhooks: Set(None),
        webhooks_per_event: Set(None),
        invocations_per_minute: Set(None),
        dialects: Set(None),
        modified_by: Set(None),
        modified_at: Set(now.micros()),
    };
    let inserted = org_plan::Entity::insert(new)
        .on_conflict(OnConflict::new().do_nothing().to_owned())
        .exec_without_returning(work.connection())
        .await;
    match inserted {
        Ok(_) | Err(sea_orm::DbErr::RecordNotInserted) => {}
        Err(error) => return Err(error.into()),
    }
    let row = org_plan::Entity::find_by_id(org_id)
        .lock_exclusive()
        .one(work.connection())
        .await?
        .ok_or(StoreError::Corrupt { what: "plan" })?;
    Ok(of_row(&row))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(number: u128, dialect: &str, is_enabled: bool, events: &[&str]) -> Counted {
        Counted {
            id: Uuid::from_u128(number),
            dialect: dialect.to_owned(),
            is_enabled,
            events: event_keys(dialect, events.iter().copied()),
        }
    }

    #[test]
    fn the_newest_surplus_goes_and_what_is_off_counts_for_nothing() {
        let all = [
            one(1, "desk", true, &["Ticket_Add"]),
            one(2, "desk", false, &["Ticket_Add"]),
            one(3, "desk", true, &["Ticket_Add", "Contact_Add"]),
            one(4, "assist", true, &["Device Online"]),
            one(5, "desk", true, &["Contact_Add"]),
        ];
        let of = |plan: Plan| -> Vec<u128> {
            plan.surplus(&all).into_iter().map(|id| id.as_u128()).collect()
        };
        assert!(of(Plan::default()).is_empty());
        assert_eq!(of(Plan { webhooks: 2, ..Plan::default() }), [4, 5]);
        // The third is over the second event's count, so it leaves room for the fifth.
        assert_eq!(of(Plan { webhooks_per_event: 1, ..Plan::default() }), [3]);
        assert_eq!(of(Plan { dialects: Some(vec![Dialect::Desk]), ..Plan::default() }), [4]);
        assert_eq!(of(Plan { webhooks: 0, ..Plan::default() }), [1, 3, 4, 5]);
    }

    #[test]
    fn a_new_one_counts_among_all_and_an_enabled_one_among_the_enabled() {
        let all = [one(1, "desk", true, &["Ticket_Add"]), one(2, "desk", false, &["Ticket_Add"])];
        let used = PlanUse::of(&all);
        assert_eq!((used.webhooks, used.enabled), (2, 1));
        let plan = Plan { webhooks: 2, webhooks_per_event: 2, ..Plan::default() };
        let events = event_keys("desk", ["Contact_Add"]);
        let admits = |plan: &Plan, events: &[String], is_new: bool, is_enabled| {
            let former = (!is_new).then_some(events);
            plan.admits(&used, Dialect::Desk, events, former, is_enabled).is_ok()
        };
        assert!(!admits(&plan, &events, true, true) && !admits(&plan, &events, true, false));
        assert!(admits(&plan, &events, false, true));
        let plan = Plan { webhooks: 1, ..plan };
        assert!(!admits(&plan, &events, false, true) && admits(&plan, &events, false, false));
        let plan = Plan { webhooks: 9, webhooks_per_event: 1, ..plan };
        assert!(admits(&plan, &events, true, true));
        assert!(!admits(&plan, &event_keys("desk", ["Ticket_Add"]), false, true));
        // What a change adds counts as what is new does, also of one that is off.
        let tickets = event_keys("desk", ["Ticket_Add"]);
        let moved = |former: &[String]| {
            plan.admits(&used, Dialect::Desk, &tickets, Some(former), false).is_ok()
        };
        assert!(moved(&tickets) && !moved(&events));
        // Zendesk's name and the host's are one event.
        assert_eq!(
            event_keys("zendesk", ["Ticket_Add", "zen:event-type:ticket.created"]),
            ["zendesk:zen:event-type:ticket.created"]
        );
        // Another dialect's event of the same name is another event.
        assert!(admits(&plan, &event_keys("zendesk", ["Ticket_Add"]), true, true));
    }

    #[test]
    fn a_plan_is_checked_as_a_whole() {
        let wrong = PlanRequest {
            webhooks: Some(MOST + 1),
            webhooks_per_event: Some(0),
            invocations_per_minute: Some(0),
            dialects: Some(vec!["desk".to_owned(), "dsk".to_owned()]),
        };
        let faults = wrong.check().unwrap_err();
        let places: Vec<_> = faults.iter().map(|fault| fault.pointer.as_str()).collect();
        assert_eq!(places, ["/webhooks", "/invocationsPerMinute", "/dialects/1"]);
        assert_eq!(PlanRequest::default().check(), Ok(Plan::default()));
    }
}
