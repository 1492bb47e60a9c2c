//! The statements of the group commit on PostgreSQL, put together from what a group has to write.
//!
//! A group under load has events and results, a lone event has either: a node of a plan that has
//! nothing to do is still set up and taken down, which takes as long as a row. Arrays are unnested
//! in the list of a `select` and not in its `from`, where each of them would be copied to a store of
//! its own first.

use std::fmt::Write as _;
use std::sync::OnceLock;

/// What a group has to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parts {
    /// Events, and their deliveries.
    pub(super) events: Events,
    /// Deliveries among them that go in order.
    pub(super) ordered: bool,
    /// Results of first attempts.
    pub(super) results: bool,
}

/// Which events a group has to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Events {
    /// None.
    None,
    /// None with a key of its caller.
    Plain,
    /// Some with keys of their callers: the first one wins.
    Keyed,
}

/// The columns of `events` with the types of their arrays, in the order of binding.
const EVENT: [(&str, &str); 12] = [
    ("id", "uuid"),
    ("org_id", "text"),
    ("event_type", "text"),
    ("department_id", "text"),
    ("event_time", "bigint"),
    ("origin", "smallint"),
    ("source_id", "text"),
    ("actor", "text"),
    ("event_key", "text"),
    ("accepted_at", "bigint"),
    ("payload", "bytea"),
    ("previous", "bytea"),
];

/// The same of `deliveries`.
const DELIVERY: [(&str, &str); 8] = [
    ("id", "uuid"),
    ("event_id", "uuid"),
    ("endpoint_id", "uuid"),
    ("generation", "integer"),
    ("state", "smallint"),
    ("due_at", "bigint"),
    ("claim", "bigint"),
    ("created_at", "bigint"),
];

/// What ordered deliveries have beside it: how many of their endpoint come behind them in the group.
const ORDERED: [(&str, &str); 2] = [("ordered", "smallint"), ("behind", "bigint")];

/// How many numbers each ordered endpoint needs.
const SEQUENCE: [(&str, &str); 2] = [("id", "uuid"), ("count", "bigint")];

/// Results of first attempts.
const RESULT: [(&str, &str); 8] = [
    ("id", "uuid"),
    ("state", "smallint"),
    ("due_at", "bigint"),
    ("at", "bigint"),
    ("status", "integer"),
    ("micros", "bigint"),
    ("error", "text"),
    ("detail", "text"),
];

/// Counts the parameters. `$1` is the epoch, everywhere.
struct Numbers(u32);

impl Numbers {
    /// Arrays as rows: `select unnest($2::uuid[]) as id, …`.
    fn rows(&mut self, columns: &[(&str, &str)]) -> String {
        let mut rows = "select ".to_owned();
        for (index, (name, kind)) in columns.iter().enumerate() {
            self.0 += 1;
            let comma = if index == 0 { "" } else { ", " };
            // Writing to a `String` never fails.
            let _written = write!(rows, "{comma}unnest(${}::{kind}[]) as {name}", self.0);
        }
        rows
    }
}

fn names(columns: &[(&str, &str)]) -> String {
    columns.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

impl Parts {
    /// The statement. Its parameters: the epoch; then, each where its part is there, [`EVENT`], for
    /// keyed ones the number of deliveries, [`SEQUENCE`], [`DELIVERY`], [`ORDERED`], [`RESULT`].
    ///
    /// With keys it returns the events that are new (`true`) and the deliveries whose result was
    /// written (`false`); without, the rows that it affected are the latter, where it has results.
    pub(super) fn statement(self) -> &'static str {
        static STATEMENTS: [OnceLock<String>; 12] = [const { OnceLock::new() }; 12];
        let index =
            self.events as usize * 4 + usize::from(self.ordered) * 2 + usize::from(self.results);
        STATEMENTS[index].get_or_init(|| self.build())
    }

    fn build(self) -> String {
        let mut numbers = Numbers(1);
        let mut with = Vec::new();
        let mut last = String::new();
        let is_keyed = self.events == Events::Keyed;
        if self.events != Events::None {
            // A node that was taken for dead while it waited hands nothing over in memory any more:
            // `alive` is nothing then, and its rows wait in the table. The lock keeps whoever takes
            // over waiting for this statement, and so from missing its rows.
            with.push(
                "alive as materialized (select 1 from nodes where epoch = $1 for share)".to_owned(),
            );
            let events = if is_keyed {
                keyed_events(&mut numbers, &mut with)
            } else {
                format!(
                    "insert into events ({}) {} on conflict (id) do nothing",
                    names(&EVENT),
                    numbers.rows(&EVENT)
                )
            };
            with.push(format!("e as ({events})"));
            if self.ordered {
                // The row of each ordered endpoint is locked until the commit, so that its numbers
                // become visible in their order.
                with.push(format!(
                    "s as (
    insert into endpoint_sequences (endpoint_id, last)
    select u.id, u.count from ({}) u order by u.id
    on conflict (endpoint_id) do update set last = endpoint_sequences.last + excluded.last
    returning endpoint_id, last
)",
                    numbers.rows(&SEQUENCE)
                ));
            }
            last = self.deliveries(&mut numbers);
        }
        if self.results {
            if self.events != Events::None {
                with.push(format!("d as ({last})"));
            }
            last = format!(
                "update deliveries d set state = r.state, due_at = r.due_at, claim = null,
    ordered = case when r.state in (0, 1) then d.ordered end, attempts = 1,
    first_at = r.at, first_status = r.status, first_micros = r.micros, first_error = r.error,
    first_detail = r.detail
from ({}) r where d.id = r.id and d.claim = $1 and d.attempts = 0",
                numbers.rows(&RESULT)
            );
        }
        if is_keyed {
            let kind = if self.results { "r" } else { "d" };
            let returning = if self.results { " returning d.id" } else { "" };
            with.push(format!("{kind} as ({last}{returning})"));
            let results = if self.results { " union all select id, false from r" } else { "" };
            last = format!("select id, true from e{results}");
        }
        if with.is_empty() { last } else { format!("with {}\n{last}", with.join(", ")) }
    }

    fn deliveries(self, numbers: &mut Numbers) -> String {
        let mut columns = DELIVERY.to_vec();
        let (ordered, sequence) = if self.ordered {
            columns.extend(ORDERED);
            let of_endpoint = "(select s.last from s where s.endpoint_id = u.endpoint_id)";
            (
                "u.ordered",
                format!("case when u.ordered is null then 0 else {of_endpoint} - u.behind end"),
            )
        } else {
            ("null", "0".to_owned())
        };
        // `is true` keeps the list a hashed one: as a join, with hash joins switched off, it would
        // compare each with each.
        let of_new_events = if self.events == Events::Keyed {
            "\n    where (u.event_id in (select id from e)) is true"
        } else {
            ""
        };
        format!(
            "insert into deliveries (id, event_id, endpoint_id, generation, state, due_at, claim, \
             ordered, created_at, sequence)
    select u.id, u.event_id, u.endpoint_id, u.generation, u.state,
        case when exists (select 1 from alive) then u.due_at else coalesce(u.due_at, u.created_at) end,
        case when exists (select 1 from alive) then u.claim end, {ordered}, u.created_at, {sequence}
    from ({}) u{of_new_events}
    on conflict (id) do nothing",
            numbers.rows(&columns)
        )
    }
}

/// Enters the keys first; the events whose keys were new, and those without, follow.
fn keyed_events(numbers: &mut Numbers, with: &mut Vec<String>) -> String {
    let columns = [&EVENT[..], &[("deliveries", "integer")]].concat();
    with.push(format!("input as ({})", numbers.rows(&columns)));
    with.push(
        "k as (
    insert into event_keys (org_id, event_key, event_id, deliveries, accepted_at)
    select org_id, event_key, id, deliveries, accepted_at from input where event_key is not null
    order by org_id, event_key, id
    on conflict do nothing
    returning event_id
)"
        .to_owned(),
    );
    format!(
        "insert into events ({0}) select {0} from input
    where event_key is null or id in (select event_id from k)
    on conflict (id) do nothing returning id",
        names(&EVENT)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(statement: &str) -> u32 {
        let numbers = statement.split('$').skip(1).filter_map(|rest| {
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            digits.parse().ok()
        });
        numbers.max().unwrap_or(0)
    }

    #[test]
    fn each_part_brings_its_parameters_and_no_others() {
        let only = Parts { events: Events::None, ordered: false, results: false };
        let results = Parts { results: true, ..only };
        assert_eq!(parameters(results.statement()), 1 + 8);
        assert!(
            results.statement().starts_with("update deliveries"),
            "no plan for what is not there"
        );
        let events = Parts { events: Events::Plain, ..only };
        assert_eq!(parameters(events.statement()), 1 + 12 + 8);
        assert!(!events.statement().contains("endpoint_sequences"));
        assert_eq!(parameters(Parts { results: true, ..events }.statement()), 1 + 12 + 8 + 8);
        let ordered = Parts { ordered: true, ..events };
        assert_eq!(parameters(ordered.statement()), 1 + 12 + 2 + 8 + 2);
        let all = Parts { events: Events::Keyed, results: true, ..ordered };
        assert_eq!(parameters(all.statement()), 1 + 13 + 2 + 8 + 2 + 8);
        assert!(all.statement().ends_with("union all select id, false from r"));
    }
}
