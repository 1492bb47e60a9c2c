//! Whether everything that is sealed opens.

use sea_orm::{ConnectionTrait, Statement};

use super::columns::{Bound, KeyValue, SEALED_COLUMNS, SealedColumn};
use crate::crypto::{KeyRing, KeyStoreError, Keys};
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
///
/// The data keys are read anew after each page: what a rotation seals meanwhile is no damage. What
/// does not open then was read under a key that has been retired since, or is damaged: it is read
/// once more.
pub(crate) async fn examine_sealed(store: &Store, keys: &Keys) -> Result<Examined, KeyStoreError> {
    let mut examined = Examined::default();
    for column in SEALED_COLUMNS {
        let mut looked_at = 0;
        let mut unreadable = 0;
        let mut after: Option<Vec<KeyValue>> = None;
        loop {
            let page = page(store, column, after.as_deref()).await?;
            let is_last = page.len() < PAGE;
            keys.reload(store).await?;
            for (key, sealed, bound) in &page {
                looked_at += 1;
                let opens = column.opens(&keys.ring, bound, sealed)
                    || opens_now(store, keys, column, key).await?;
                if opens {
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

/// Whether a value opens as it stands now; one that is gone holds nobody.
async fn opens_now(
    store: &Store,
    keys: &Keys,
    column: &SealedColumn,
    key: &[KeyValue],
) -> Result<bool, KeyStoreError> {
    let row = one(store, column, key).await?;
    keys.reload(store).await?;
    Ok(row.is_none_or(|(sealed, bound)| column.opens(&keys.ring, &bound, &sealed)))
}

async fn one(
    store: &Store,
    column: &SealedColumn,
    key: &[KeyValue],
) -> Result<Option<(Vec<u8>, Bound)>, StoreError> {
    let names =
        column.key.iter().zip(1..).map(|(part, place)| format!("{} = ${place}", part.name()));
    let sql = format!(
        "select {} from {} where {} and {}",
        column.sealed_list(),
        column.table,
        column.is_sealed(),
        names.collect::<Vec<_>>().join(" and "),
    );
    let values = key.iter().map(KeyValue::value);
    let statement = Statement::from_sql_and_values(store.dialect(), sql, values);
    let row = store.reader().query_one_raw(statement).await?;
    row.map(|row| column.read_sealed(&row, 0, key)).transpose()
}

impl SealedColumn {
    fn opens(&self, ring: &KeyRing, bound: &Bound, sealed: &[u8]) -> bool {
        bound.places().any(|place| ring.unseal(self.purpose, &place, sealed).is_ok())
    }
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
