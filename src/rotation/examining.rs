//! Whether everything that is sealed opens.

use sea_orm::{ConnectionTrait, Statement};

use super::columns::{Bound, KeyValue, SEALED_COLUMNS, SealedColumn};
use crate::crypto::KeyRing;
use crate::store::{Store, StoreError};

/// How many rows one query reads.
const PAGE: usize = 500;

/// How many values of a column are opened at the most.
const MOST: u64 = 100_000;

/// What came of opening everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Examined {
    /// How many values opened.
    pub(crate) opened: u64,
    /// Where there are some that do not, as `table.column`, and how many.
    pub(crate) unreadable: Vec<(String, u64)>,
    /// Whether there was more than is looked at.
    pub(crate) is_cut: bool,
}

/// Opens what is sealed, up to a bound for each column. Nothing of it is shown or kept.
pub(crate) async fn examine_sealed(store: &Store, ring: &KeyRing) -> Result<Examined, StoreError> {
    let mut examined = Examined::default();
    for column in SEALED_COLUMNS {
        let mut looked_at = 0;
        let mut unreadable = 0;
        let mut after: Option<Vec<KeyValue>> = None;
        loop {
            let page = page(store, column, after.as_deref()).await?;
            let is_last = page.len() < PAGE;
            for (_, sealed, bound) in &page {
                looked_at += 1;
                if ring.unseal(column.purpose, &bound.as_data(), sealed).is_ok() {
                    examined.opened += 1;
                } else {
                    unreadable += 1;
                }
            }
            after = page.into_iter().next_back().map(|(key, ..)| key);
            if is_last {
                break;
            }
            if looked_at >= MOST {
                examined.is_cut = true;
                break;
            }
        }
        if unreadable > 0 {
            let name = format!("{}.{}", column.table, column.column);
            examined.unreadable.push((name, unreadable));
        }
    }
    Ok(examined)
}

/// A row's key, its ciphertext, and what that is bound to.
type Row = (Vec<KeyValue>, Vec<u8>, Bound);

async fn page(
    store: &Store,
    column: &SealedColumn,
    after: Option<&[KeyValue]>,
) -> Result<Vec<Row>, StoreError> {
    let sql = format!(
        "select {}, {} from {} where {} {} order by {} limit {PAGE}",
        column.key_list(),
        column.sealed_list(),
        column.table,
        column.is_sealed(),
        column.beyond(after),
        column.key_list(),
    );
    let values = after.unwrap_or_default().iter().map(KeyValue::value);
    let statement = Statement::from_sql_and_values(store.dialect(), sql, values);
    let rows = store.reader().query_all_raw(statement).await?;
    rows.iter()
        .map(|row| {
            let key = column.read_key(row)?;
            let (sealed, bound) = column.read_sealed(row, key.len(), &key)?;
            Ok((key, sealed, bound))
        })
        .collect()
}
