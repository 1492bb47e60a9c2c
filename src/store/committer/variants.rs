//! What deliveries tell of, written in the commit of the deliveries: only where one has something of
//! its own to tell, so that what is written of all others stays as it is.

use rusqlite::{Connection, params};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{NewEvent, Written};

/// Whether anything is to be written.
pub(super) fn are_there(events: &[&NewEvent]) -> bool {
    events.iter().flat_map(|event| &event.deliveries).any(|delivery| delivery.variant.is_some())
}

/// Writes those of one new event, on SQLite.
pub(super) fn insert(connection: &Connection, event: &NewEvent) -> rusqlite::Result<()> {
    for delivery in &event.deliveries {
        let Some(variant) = &delivery.variant else { continue };
        connection
            .prepare_cached(
                "insert into delivery_variants (delivery_id, variant) values (?1, ?2) \
                 on conflict do nothing",
            )?
            .execute(params![delivery.id.as_bytes(), &**variant])?;
    }
    Ok(())
}

/// Writes those of a group's new events, on PostgreSQL. What an answer that was lost has written is
/// there already.
pub(super) async fn write(
    connection: &mut PgConnection,
    events: &[&NewEvent],
    written: &[Written],
) -> Result<(), sqlx::Error> {
    let (ids, variants): (Vec<Uuid>, Vec<&str>) = events
        .iter()
        .zip(written)
        .filter(|(_, written)| **written == Written::New)
        .flat_map(|(event, _)| &event.deliveries)
        .filter_map(|delivery| Some((delivery.id, delivery.variant.as_deref()?)))
        .unzip();
    sqlx::query(
        "insert into delivery_variants (delivery_id, variant)
         select * from unnest($1::uuid[], $2::text[]) on conflict do nothing",
    )
    .bind(ids)
    .bind(variants)
    .execute(connection)
    .await?;
    Ok(())
}
