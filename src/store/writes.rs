//! Writes that nothing in their own transaction reads: collected, and made together.
//!
//! PostgreSQL is a round trip away, and each one is made while locks are held. What nobody reads
//! before the commit is kept back and goes out as one statement, with a part for each write. All
//! parts see the database as it was before the statement, and in no order: so no two may touch the
//! same row. SQLite is in this process; there they are made one after the other.

use std::collections::BTreeMap;
use std::fmt;

use sea_orm::{
    ConnectionTrait, DatabaseBackend, DatabaseTransaction, QueryTrait, Statement, Value, Values,
};

use super::error::StoreError;

/// How many parameters one statement has at the most; PostgreSQL takes 65,535.
const MOST_PARAMETERS: usize = 20_000;

/// The end of a chain of the audit, as the transaction that holds its head leaves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ChainEnd {
    pub(crate) sequence: i64,
    pub(crate) digest: Vec<u8>,
}

/// What a transaction has kept back.
#[derive(Default)]
pub(super) struct KeptBack {
    statements: Vec<Statement>,
    /// The chains whose heads it holds, and whether the table says so yet.
    chains: BTreeMap<String, (ChainEnd, bool)>,
}

impl fmt::Debug for KeptBack {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What is written may be somebody's.
        formatter
            .debug_struct("KeptBack")
            .field("statements", &self.statements.len())
            .field("chains", &self.chains.len())
            .finish()
    }
}

impl KeptBack {
    pub(super) fn keep(&mut self, query: &impl QueryTrait, backend: DatabaseBackend) {
        self.statements.push(query.build(backend));
    }

    pub(super) fn chain_end(&self, chain: &str) -> Option<ChainEnd> {
        self.chains.get(chain).map(|(end, _)| end.clone())
    }

    pub(super) fn set_chain_end(&mut self, chain: &str, end: ChainEnd) {
        self.chains.insert(chain.to_owned(), (end, false));
    }

    /// All that is to be written; nothing is kept back any more.
    pub(super) fn take(&mut self, backend: DatabaseBackend) -> Vec<Statement> {
        let mut all = std::mem::take(&mut self.statements);
        for (chain, (end, is_written)) in &mut self.chains {
            if !std::mem::replace(is_written, true) {
                let sql = "update audit_heads set sequence = $1, digest = $2 where chain = $3";
                let values: [Value; 3] =
                    [end.sequence.into(), end.digest.clone().into(), chain.clone().into()];
                all.push(Statement::from_sql_and_values(backend, sql, values));
            }
        }
        all
    }
}

/// Makes writes that were kept back.
pub(super) async fn make(
    transaction: &DatabaseTransaction,
    statements: Vec<Statement>,
) -> Result<(), StoreError> {
    if transaction.get_database_backend() != DatabaseBackend::Postgres {
        for statement in statements {
            transaction.execute_raw(statement).await?;
        }
        return Ok(());
    }
    let mut together: Vec<Statement> = Vec::new();
    let mut parameters = 0;
    for statement in statements {
        let more = parameters_of(&statement);
        if !together.is_empty() && parameters + more > MOST_PARAMETERS {
            transaction.execute_raw(combined(std::mem::take(&mut together))).await?;
            parameters = 0;
        }
        parameters += more;
        together.push(statement);
    }
    if !together.is_empty() {
        transaction.execute_raw(combined(together)).await?;
    }
    Ok(())
}

fn parameters_of(statement: &Statement) -> usize {
    statement.values.as_ref().map_or(0, |values| values.0.len())
}

/// One statement of PostgreSQL that does what several do.
fn combined(mut statements: Vec<Statement>) -> Statement {
    if statements.len() == 1
        && let Some(only) = statements.pop()
    {
        return only;
    }
    let mut parts = Vec::with_capacity(statements.len());
    let mut all: Vec<Value> = Vec::new();
    for (number, Statement { sql, values, .. }) in statements.into_iter().enumerate() {
        parts.push(format!("w{number} as ({})", shifted(&sql, all.len())));
        all.extend(values.map(|Values(values)| values).unwrap_or_default());
    }
    let sql = format!("with {} select 1", parts.join(", "));
    Statement::from_sql_and_values(DatabaseBackend::Postgres, sql, all)
}

/// A statement whose parameters are numbered from beyond `by`. What is quoted is left alone.
fn shifted(sql: &str, by: usize) -> String {
    let mut text = String::with_capacity(sql.len() + 16);
    let mut quote: Option<char> = None;
    let mut rest = sql.chars().peekable();
    while let Some(character) = rest.next() {
        text.push(character);
        match quote {
            Some(open) if character == open => quote = None,
            None if character == '\'' || character == '"' => quote = Some(character),
            None if character == '$' => {
                let mut number = 0_usize;
                let mut is_parameter = false;
                while let Some(digit) = rest.peek().and_then(|one| one.to_digit(10)) {
                    number = number.saturating_mul(10).saturating_add(digit as usize);
                    is_parameter = true;
                    rest.next();
                }
                if is_parameter {
                    text.push_str(&number.saturating_add(by).to_string());
                }
            }
            Some(_) | None => {}
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statement(sql: &str, values: impl IntoIterator<Item = Value>) -> Statement {
        Statement::from_sql_and_values(DatabaseBackend::Postgres, sql, values)
    }

    #[test]
    fn parameters_are_numbered_on_and_what_is_quoted_is_left() {
        for (sql, by, wanted) in [
            ("insert into a values ($1, $2)", 0, "insert into a values ($1, $2)"),
            ("insert into a values ($1, $12)", 3, "insert into a values ($4, $15)"),
            ("select '$1', \"$1\", $1", 1, "select '$1', \"$1\", $2"),
            ("select 'it''s $1', $1, '$'", 9, "select 'it''s $1', $10, '$'"),
            ("select $", 1, "select $"),
        ] {
            assert_eq!(shifted(sql, by), wanted);
        }
    }

    #[test]
    fn several_are_one_and_one_is_itself() {
        let one = || statement("insert into a values ($1)", [7.into()]);
        assert_eq!(combined(vec![one()]).sql, "insert into a values ($1)");
        let both = combined(vec![one(), statement("update b set c = $1", ["x".into()])]);
        assert_eq!(
            both.sql,
            "with w0 as (insert into a values ($1)), w1 as (update b set c = $2) select 1"
        );
        assert_eq!(both.values.unwrap().0, [Value::from(7), Value::from("x")]);
    }

    #[test]
    fn a_head_is_written_once_for_each_change() {
        let backend = DatabaseBackend::Postgres;
        let mut kept = KeptBack::default();
        kept.set_chain_end("1", ChainEnd { sequence: 4, digest: vec![1] });
        kept.set_chain_end("1", ChainEnd { sequence: 5, digest: vec![2] });
        assert_eq!(kept.take(backend).len(), 1);
        assert!(kept.take(backend).is_empty());
        assert_eq!(kept.chain_end("1").map(|end| end.sequence), Some(5));
        assert_eq!(kept.chain_end("2"), None);
    }
}
