//! A former release on the schema of this one: every step after the last release only adds.
//!
//! Nothing of the former release is built here (`scripts/rollback` does that): its schema is made by
//! the steps that it had, and whatever it wrote then must be accepted after all the others.

use std::collections::{BTreeMap, BTreeSet};

use mortise_migrations::{ENDS_FORMER, Migrator, STEPS_OF_LAST_RELEASE};
use sea_orm_migration::MigratorTrait as _;
use sea_orm_migration::sea_orm::{
    ConnectionTrait, Database, DatabaseBackend, DatabaseConnection, QueryResult, Statement,
};

use crate::support::postgres;

/// A column.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Column {
    kind: String,
    is_needed: bool,
    default: Option<String>,
}

/// What a table asks of whoever writes to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Table {
    columns: BTreeMap<String, Column>,
    /// The columns of each unique index, the primary key among them, with its condition.
    unique: BTreeSet<(Vec<String>, String)>,
    /// Checks, foreign keys and triggers, as the database writes them.
    rules: BTreeSet<String>,
}

type Schema = BTreeMap<String, Table>;

/// A database of its own for one test.
struct Place {
    connection: DatabaseConnection,
    _folder: Option<tempfile::TempDir>,
    _database: Option<postgres::Database>,
}

impl Place {
    async fn sqlite() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let url = format!("sqlite://{}/a.db?mode=rwc", folder.path().display());
        let connection = Database::connect(url).await.expect("a database");
        Self { connection, _folder: Some(folder), _database: None }
    }

    async fn postgres() -> Option<Self> {
        let database = postgres::database().await?;
        let connection = Database::connect(database.url()).await.expect("a database");
        Some(Self { connection, _folder: None, _database: Some(database) })
    }

    async fn rows(&self, sql: impl Into<String>) -> Vec<QueryResult> {
        let sql = sql.into();
        let backend = self.connection.get_database_backend();
        let statement = Statement::from_string(backend, sql.clone());
        self.connection
            .query_all_raw(statement)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    async fn texts(&self, sql: impl Into<String>) -> Vec<String> {
        let rows = self.rows(sql).await;
        rows.iter().map(|row| row.try_get_by_index(0).expect("a text")).collect()
    }

    async fn execute(&self, sql: &str) -> Result<(), String> {
        let done = self.connection.execute_unprepared(sql).await;
        done.map(|_| ()).map_err(|error| format!("{sql}: {error}"))
    }

    async fn schema(&self) -> Schema {
        match self.connection.get_database_backend() {
            DatabaseBackend::Sqlite => self.schema_of_sqlite().await,
            _ => self.schema_of_postgres().await,
        }
    }

    async fn schema_of_sqlite(&self) -> Schema {
        let tables = "select name from sqlite_master where type = 'table' \
                      and name not like 'sqlite_%' and name <> 'seaql_migrations'";
        let mut schema = Schema::new();
        for name in self.texts(tables).await {
            let mut table = Table::default();
            for row in self.rows(format!("pragma table_info('{name}')")).await {
                let text = |column: &str| row.try_get::<String>("", column).expect("a text");
                let number = |column: &str| row.try_get::<i32>("", column).expect("a number");
                let column = Column {
                    kind: text("type"),
                    is_needed: number("notnull") == 1 || number("pk") > 0,
                    default: row.try_get("", "dflt_value").expect("a text or nothing"),
                };
                table.columns.insert(text("name"), column);
            }
            for row in self.rows(format!("pragma index_list('{name}')")).await {
                if row.try_get::<i32>("", "unique").expect("a number") == 1 {
                    let index: String = row.try_get("", "name").expect("a name");
                    let columns = self
                        .texts(format!(
                            "select coalesce(name, '(an expression)') from pragma_index_info('{index}')"
                        ))
                        .await;
                    let made = self
                        .texts(format!(
                            "select coalesce(sql, '') from sqlite_master where name = '{index}'"
                        ))
                        .await;
                    let condition = made.first().and_then(|sql| sql.split_once(" where "));
                    let condition = condition.map_or(String::new(), |(_, text)| text.to_owned());
                    table.unique.insert((columns, condition));
                }
            }
            let made = self
                .texts(format!(
                    "select sql from sqlite_master where type = 'table' and name = '{name}'"
                ))
                .await;
            // What a table checks stands in its text alone, between brackets that may nest.
            table.rules.extend(made.iter().flat_map(|sql| checks_of(sql)));
            for row in self.rows(format!("pragma foreign_key_list('{name}')")).await {
                let to: String = row.try_get("", "table").expect("a name");
                let from: String = row.try_get("", "from").expect("a name");
                table.rules.insert(format!("{from} references {to}"));
            }
            table.rules.extend(
                self.texts(format!(
                    "select sql from sqlite_master where type = 'trigger' and tbl_name = '{name}'"
                ))
                .await,
            );
            schema.insert(name, table);
        }
        schema
    }

    async fn schema_of_postgres(&self) -> Schema {
        let mut schema = Schema::new();
        let columns = "select table_name::text, column_name::text, udt_name::text, \
                       is_nullable::text, column_default::text from information_schema.columns \
                       where table_schema = current_schema() and table_name <> 'seaql_migrations'";
        for row in self.rows(columns).await {
            let text = |at: usize| row.try_get_by_index::<String>(at).expect("a text");
            let column = Column {
                kind: text(2),
                is_needed: text(3) == "NO",
                default: row.try_get_by_index(4).expect("a text or nothing"),
            };
            schema.entry(text(0)).or_default().columns.insert(text(1), column);
        }
        let unique = "select t.relname::text, coalesce((select string_agg(coalesce(a.attname, \
                          '(an expression)')::text, ',' order by k.place) \
                        from unnest(i.indkey) with ordinality k(number, place) \
                        left join pg_attribute a on a.attrelid = t.oid and a.attnum = k.number), ''), \
                        coalesce(pg_get_expr(i.indpred, i.indrelid), '') \
                      from pg_index i join pg_class t on t.oid = i.indrelid \
                      join pg_namespace n on n.oid = t.relnamespace \
                      where i.indisunique and n.nspname = current_schema()";
        let rules = "select t.relname::text, pg_get_constraintdef(c.oid) from pg_constraint c \
                       join pg_class t on t.oid = c.conrelid \
                       join pg_namespace n on n.oid = t.relnamespace \
                       where c.contype in ('c', 'f', 'x') and n.nspname = current_schema() \
                     union all select t.relname::text, pg_get_triggerdef(g.oid) from pg_trigger g \
                       join pg_class t on t.oid = g.tgrelid \
                       join pg_namespace n on n.oid = t.relnamespace \
                       where not g.tgisinternal and n.nspname = current_schema()";
        for row in self.rows(unique).await {
            let text = |at: usize| row.try_get_by_index::<String>(at).expect("a text");
            if let Some(table) = schema.get_mut(&text(0)) {
                let columns = text(1).split(',').map(str::to_owned).collect();
                table.unique.insert((columns, text(2)));
            }
        }
        for row in self.rows(rules).await {
            let text = |at: usize| row.try_get_by_index::<String>(at).expect("a text");
            if let Some(table) = schema.get_mut(&text(0)) {
                table.rules.insert(text(1));
            }
        }
        schema
    }

    /// Writes a row into each table of a schema, by its columns alone, as a release does that knows
    /// no others. Rows of different rounds have nothing in common. Says which were refused.
    async fn write(&self, schema: &Schema, round: u8) -> BTreeSet<String> {
        let is_postgres = self.connection.get_database_backend() == DatabaseBackend::Postgres;
        let mut refused = BTreeSet::new();
        for (name, table) in schema {
            let columns: Vec<&str> = table.columns.keys().map(String::as_str).collect();
            let values: Vec<String> = table
                .columns
                .values()
                .map(|column| value(&column.kind, is_postgres, round))
                .collect();
            let columns = columns.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>();
            let sql = format!(
                "insert into {name} ({}) values ({})",
                columns.join(", "),
                values.join(", ")
            );
            if let Err(why) = self.execute(&sql).await {
                refused.insert(format!("{name}: {why}"));
            }
        }
        refused
    }
}

/// A value that a column of this kind takes, another one in each round.
fn value(kind: &str, is_postgres: bool, round: u8) -> String {
    let bytes = format!("{round:02x}").repeat(16);
    match (kind.to_ascii_lowercase().as_str(), is_postgres) {
        ("uuid", true) => format!("'{bytes}'::uuid"),
        ("bytea", true) => format!("'\\x{bytes}'::bytea"),
        ("blob", false) => format!("x'{bytes}'"),
        ("int2" | "int4" | "int8" | "integer" | "bigint" | "smallint" | "float8" | "real", _) => {
            round.to_string()
        }
        ("bool", true) => "true".to_owned(),
        _ => format!("'{{\"round\":{round}}}'"),
    }
}

/// The checks in the text that made a table.
fn checks_of(sql: &str) -> Vec<String> {
    let mut checks = Vec::new();
    let lower = sql.to_ascii_lowercase();
    for (at, _) in lower.match_indices("check (") {
        let mut depth = 0;
        let end = lower[at..].char_indices().find(|(_, letter)| {
            depth += i32::from(*letter == '(') - i32::from(*letter == ')');
            *letter == ')' && depth == 0
        });
        checks.push(end.map_or(&lower[at..], |(end, _)| &lower[at..=at + end]).to_owned());
    }
    checks
}

/// What of a new schema a program cannot live with that knows only the old one.
fn faults(old: &Schema, new: &Schema) -> Vec<String> {
    let mut faults = Vec::new();
    for (name, before) in old {
        let Some(after) = new.get(name) else {
            faults.push(format!("{name} is gone"));
            continue;
        };
        for (column, was) in &before.columns {
            match after.columns.get(column) {
                None => faults.push(format!("{name}.{column} is gone")),
                Some(is) if is.kind != was.kind => {
                    faults.push(format!("{name}.{column} was {} and is {}", was.kind, is.kind));
                }
                Some(is) if is.is_needed && !was.is_needed => {
                    faults.push(format!("{name}.{column} must be given now"));
                }
                Some(is) if is.is_needed && was.default.is_some() && is.default.is_none() => {
                    faults.push(format!("{name}.{column} has no default any more"));
                }
                Some(_) => {}
            }
        }
        for (column, is) in &after.columns {
            let is_new = !before.columns.contains_key(column);
            if is_new && is.is_needed && is.default.is_none() {
                faults.push(format!("{name}.{column} is new and must be given"));
            }
        }
        for (columns, condition) in after.unique.difference(&before.unique) {
            // A new column that nobody fills is null, and null is like nothing else.
            let is_left_empty = columns.iter().any(|column| {
                let is_new = !before.columns.contains_key(column);
                let by_default = after.columns.get(column).and_then(|is| is.default.as_deref());
                is_new && by_default.is_none()
            });
            if !is_left_empty {
                faults.push(format!("{name}: {columns:?} must be unique now ({condition})"));
            }
        }
        faults.extend(
            after
                .rules
                .difference(&before.rules)
                .map(|rule| format!("{name} has a new rule: {rule}")),
        );
    }
    faults
}

async fn later_steps_only_add(place: &Place) {
    Migrator::up(&place.connection, Some(STEPS_OF_LAST_RELEASE))
        .await
        .expect("the release's steps");
    let old = place.schema().await;
    assert!(old.len() > 30, "the release has its tables: {:?}", old.keys());
    let refused_before = place.write(&old, 1).await;
    // One table takes a single row only, which is there already or has the number 1.
    assert!(refused_before.len() <= 3, "{refused_before:#?}");
    Migrator::up(&place.connection, None).await.expect("all steps");
    let new = place.schema().await;
    assert_eq!(faults(&old, &new), Vec::<String>::new());
    let tables = |refused: &BTreeSet<String>| -> BTreeSet<String> {
        refused.iter().filter_map(|why| Some(why.split_once(':')?.0.to_owned())).collect()
    };
    // A table with a single row has it now, where it took one before.
    let singletons: BTreeSet<String> = old
        .iter()
        .filter(|(_, table)| table.columns.contains_key("singleton"))
        .map(|(name, _)| name.clone())
        .collect();
    let refused_after = place.write(&old, 2).await;
    let worse: Vec<_> = tables(&refused_after)
        .difference(&tables(&refused_before))
        .filter(|table| !singletons.contains(*table))
        .cloned()
        .collect();
    assert_eq!(worse, Vec::<String>::new(), "{refused_after:#?}");

    // What would be found: each of these breaks a former release.
    for (breaks, sql) in [
        ("is gone", "drop table inspected_requests"),
        ("is gone", "alter table inspectors drop column name"),
        ("must be unique now", "create unique index a_new_rule on api_tokens (role)"),
    ] {
        place.execute(sql).await.unwrap_or_else(|why| panic!("{why}"));
        let found = faults(&old, &place.schema().await);
        assert!(found.iter().any(|fault| fault.contains(breaks)), "{sql}: {found:?}");
    }
    let sql = "alter table audit add column needed integer not null default 1";
    place.execute(sql).await.expect("a column");
    let found = faults(&old, &place.schema().await);
    assert!(!found.iter().any(|fault| fault.contains("audit")), "a default will do: {found:?}");
    if place.connection.get_database_backend() == DatabaseBackend::Postgres {
        for (breaks, sql) in [
            ("must be given now", "alter table inspectors alter column org_id set not null"),
            ("new and must be given", "alter table audit alter column needed drop default"),
            ("new rule", "alter table notices add check (length(kind) < 100)"),
            ("was text", "alter table notices alter column subject type varchar(64)"),
        ] {
            place.execute(sql).await.unwrap_or_else(|why| panic!("{why}"));
            let found = faults(&old, &place.schema().await);
            assert!(found.iter().any(|fault| fault.contains(breaks)), "{sql}: {found:?}");
        }
    }
}

#[tokio::test]
async fn steps_after_the_last_release_only_add_on_sqlite() {
    later_steps_only_add(&Place::sqlite().await).await;
}

#[tokio::test]
async fn steps_after_the_last_release_only_add_on_postgresql() {
    let Some(place) = Place::postgres().await else { return };
    later_steps_only_add(&place).await;
}

/// A program starts where a later release has been, unless a step's name says that it cannot.
#[tokio::test]
async fn a_later_releases_steps_are_no_hindrance_unless_they_say_so() {
    let place = Place::sqlite().await;
    Migrator::up(&place.connection, None).await.expect("all steps");
    let remember = async |name: &str| {
        let sql = format!("insert into seaql_migrations values ('{name}', 0)");
        place.execute(&sql).await.expect("a row");
    };
    remember("m20991231_000099_later").await;
    Migrator::up(&place.connection, None).await.expect("it goes on");
    let pending = Migrator::get_pending_migrations(&place.connection).await.expect("a list");
    assert!(pending.is_empty());
    let applied = Migrator::get_applied_migrations(&place.connection).await.expect("a list");
    assert_eq!(applied.len(), Migrator::migrations().len());
    remember(&format!("m20991231_000100_rebuilt{ENDS_FORMER}")).await;
    let refused = Migrator::up(&place.connection, None).await.expect_err("it cannot go on");
    let told = refused.to_string();
    assert!(told.contains("000100_rebuilt") && told.contains("later release"), "{told}");
}

#[test]
fn checks_are_found_between_their_brackets() {
    let sql = "CREATE TABLE a (n integer check (n > (1 + 2)), m integer, check (m in (1, 2)))";
    assert_eq!(checks_of(sql), ["check (n > (1 + 2))", "check (m in (1, 2))"]);
    assert_eq!(checks_of("create table a (n integer)"), Vec::<String>::new());
}
