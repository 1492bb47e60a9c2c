//! What keeps automations from firing, written in the commit of the event that does: only where an
//! automation of the org asks for it.

use rusqlite::{Connection, params};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{NewEvent, Written};

/// Whether anything is to be written.
pub(super) fn are_there(events: &[&NewEvent]) -> bool {
    events.iter().any(|event| !event.marks.is_empty())
}

/// Writes those of one new event, on SQLite.
pub(super) fn insert(connection: &Connection, event: &NewEvent) -> rusqlite::Result<()> {
    for mark in &event.marks {
        connection
            .prepare_cached(
                "insert into automation_marks (event_id, rule_id, subject, at) \
                 values (?1, ?2, ?3, ?4) on conflict do nothing",
            )?
            .execute(params![
                event.id.as_bytes(),
                mark.rule_id.as_bytes(),
                mark.subject,
                event.accepted_at.micros()
            ])?;
    }
    Ok(())
}

/// Writes those of a group's new events, on PostgreSQL.
pub(super) async fn write(
    connection: &mut PgConnection,
    events: &[&NewEvent],
    written: &[Written],
) -> Result<(), sqlx::Error> {
    let mut rows: (Vec<Uuid>, Vec<Uuid>, Vec<&str>, Vec<i64>) = Default::default();
    for (event, written) in events.iter().zip(written) {
        if *written != Written::New {
            continue;
        }
        for mark in &event.marks {
            rows.0.push(event.id);
            rows.1.push(mark.rule_id);
            rows.2.push(&mark.subject);
            rows.3.push(event.accepted_at.micros());
        }
    }
    sqlx::query(
        "insert into automation_marks (event_id, rule_id, subject, at)
         select * from unnest($1::uuid[], $2::uuid[], $3::text[], $4::bigint[])
         on conflict do nothing",
    )
    .bind(rows.0)
    .bind(rows.1)
    .bind(rows.2)
    .bind(rows.3)
    .execute(connection)
    .await?;
    Ok(())
}
