//! Which scenarios there are, and in which order they run.

use std::path::{Path, PathBuf};

use mortise::development::{
    Decision, DevelopmentAuthorizationServer, DevelopmentAuthorizationServerOptions,
};

use super::arguments::Arguments;
use super::ceiling::{self, Client};
use super::cluster::{self, Cluster};
use super::counters::Counters;
use super::machine::{self, Machine};
use super::measure::{Figures, Shape, Stage};
use super::receiver::Receiver;
use super::server::{Program, Server};
use super::{Failure, Outcome, backlog, hanging, installations, paced, report, throughput};

/// How many webhooks an event goes to where it goes to several.
const FAN_OUT: usize = 5;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Single,
    Arrays,
    KeyedSingle,
    KeyedArrays,
    FanOutSingle,
    FanOutArrays,
    Paced,
    Hanging,
    Backlog,
    Installations,
}

impl Kind {
    fn resembles_another(self) -> bool {
        matches!(
            self,
            Self::KeyedSingle | Self::KeyedArrays | Self::FanOutSingle | Self::FanOutArrays
        )
    }
}

const KINDS: [(Kind, &str); 10] = [
    (Kind::Single, "single"),
    (Kind::Arrays, "arrays"),
    (Kind::KeyedSingle, "keyed.single"),
    (Kind::KeyedArrays, "keyed.arrays"),
    (Kind::FanOutSingle, "fanout.single"),
    (Kind::FanOutArrays, "fanout.arrays"),
    (Kind::Paced, "paced"),
    (Kind::Hanging, "hanging"),
    (Kind::Backlog, "backlog"),
    (Kind::Installations, "installations"),
];

/// A database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Database {
    Sqlite,
    Postgres,
}

/// A scenario.
#[derive(Clone, Debug)]
struct Scenario {
    name: String,
    kind: Kind,
    database: Database,
}

/// The name of the bare loops.
const BARE: &str = "bare";

fn scenarios() -> Vec<Scenario> {
    KINDS
        .into_iter()
        .flat_map(|(kind, name)| {
            [(Database::Sqlite, "sqlite"), (Database::Postgres, "postgres")]
                .map(|(database, of)| Scenario { name: format!("{name}.{of}"), kind, database })
        })
        .collect()
}

/// Whether a name has all parts of one of the selectors. `single` means neither `keyed.single` nor
/// `fanout.single`: a family is meant where it is named, or where only a database is.
fn is_selected(name: &str, only: &[String]) -> bool {
    let parts: Vec<&str> = name.split('.').collect();
    let family = parts.first().filter(|first| ["keyed", "fanout"].contains(first));
    let fits = |selector: &String| {
        let wanted: Vec<&str> = selector.split('.').collect();
        let is_database = |part: &&str| ["sqlite", "postgres"].contains(part);
        wanted.iter().all(|part| parts.contains(part))
            && family.is_none_or(|family| wanted.contains(family) || wanted.iter().all(is_database))
    };
    only.is_empty() || only.iter().any(fits)
}

/// What all scenarios share.
struct Hall {
    arguments: Arguments,
    folder: PathBuf,
    cluster: Option<Cluster>,
    receiver: Receiver,
    provider: DevelopmentAuthorizationServer,
    settings: Vec<(String, String)>,
    made: std::cell::Cell<usize>,
}

/// Runs what was asked for. False where something was lost.
pub(crate) async fn run(arguments: &Arguments) -> Outcome<bool> {
    // Unless they are asked for, the short form leaves out what resembles another.
    let is_left_out = |scenario: &Scenario| {
        arguments.quick && arguments.only.is_empty() && scenario.kind.resembles_another()
    };
    let selected: Vec<Scenario> = scenarios()
        .into_iter()
        .filter(|scenario| is_selected(&scenario.name, &arguments.only) && !is_left_out(scenario))
        .collect();
    let with_bare = is_selected(BARE, &arguments.only);
    if arguments.list {
        println!("{BARE}");
        for scenario in scenarios() {
            println!("{}", scenario.name);
        }
        return Ok(true);
    }
    if selected.is_empty() && !with_bare {
        return Err(Failure::from("no scenario has such a name: see --list"));
    }
    let temporary = match &arguments.folder {
        Some(folder) => tempfile::Builder::new().prefix("delivery-").tempdir_in(folder)?,
        None => tempfile::Builder::new().prefix("delivery-").tempdir()?,
    };
    let folder = temporary.path().to_owned();
    // PostgreSQL runs as another account where we are root.
    std::fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    if arguments.keep {
        println!("kept: {}", temporary.keep().display());
    }
    let wants_postgres = selected.iter().any(|scenario| scenario.database == Database::Postgres);
    let cluster = match cluster::programs() {
        Some(programs) if wants_postgres => {
            Some(Cluster::start(&programs, &folder, arguments.statements).await?)
        }
        None if wants_postgres => {
            return Err(Failure::from(
                "there is no PostgreSQL server: install one, or choose --only sqlite",
            ));
        }
        _ => None,
    };
    let provider =
        DevelopmentAuthorizationServer::start(DevelopmentAuthorizationServerOptions::default());
    let provider = provider.await?;
    provider.conduct(|conduct| conduct.auto = Some(Decision::Approve));
    let settings = arguments
        .set
        .iter()
        .map(|setting| {
            let (key, value) = setting.split_once('=').ok_or("--set takes key=value")?;
            Ok((key.to_owned(), value.to_owned()))
        })
        .collect::<Outcome<_>>()?;
    let hall = Hall {
        arguments: arguments.clone(),
        folder,
        cluster,
        receiver: Receiver::start()?,
        provider,
        settings,
        made: std::cell::Cell::new(0),
    };
    hall.all(&selected, with_bare).await
}

impl Hall {
    async fn all(&self, selected: &[Scenario], with_bare: bool) -> Outcome<bool> {
        let machine = Machine::look(&self.folder, self.cluster.as_ref())?;
        machine.print();
        let programs = Program::of(&self.arguments.server);
        let mut ceilings = Vec::new();
        let mut all: Vec<Figures> = Vec::new();
        if with_bare {
            for (name, client) in [("reqwest", Client::Reqwest), ("hyper", Client::Hyper)] {
                self.bare(client).await?;
                let per_second = self.bare(client).await?;
                println!("bare POST loop, {name}: {per_second:.0}/s");
                ceilings.push((name.to_owned(), per_second));
            }
        }
        report::print_heading();
        for _ in 0..self.arguments.repeat {
            for scenario in selected {
                for program in &programs {
                    for figures in self.one(scenario, program).await? {
                        report::print(&figures);
                        all.push(figures);
                    }
                    if let Some(path) = &self.arguments.json {
                        report::write(path, &machine, &ceilings, &all)?;
                    }
                }
            }
        }
        if self.arguments.repeat > 1 {
            report::print_medians(&all);
        }
        if let Some(path) = &self.arguments.json {
            report::write(path, &machine, &ceilings, &all)?;
        }
        Ok(all.iter().all(Figures::is_whole))
    }

    async fn bare(&self, client: Client) -> Outcome<f64> {
        let (requests, connections) = (self.arguments.sizes().bare, self.arguments.connections);
        ceiling::bare(&self.receiver, client, requests, connections).await
    }

    /// One scenario on a fresh database with a fresh server.
    async fn one(&self, scenario: &Scenario, program: &Program) -> Outcome<Vec<Figures>> {
        let number = self.made.get() + 1;
        self.made.set(number);
        let folder = self.folder.join(format!("{number}-{}", scenario.name));
        std::fs::create_dir(&folder)?;
        let database = format!("bench_{number}");
        let outcome = Box::pin(self.staged(scenario, program, &folder, &database)).await;
        if let (Some(cluster), Database::Postgres) = (&self.cluster, scenario.database) {
            cluster.drop_database(&database).await?;
        }
        if !self.arguments.keep {
            std::fs::remove_dir_all(&folder)?;
        }
        outcome
    }

    async fn staged(
        &self,
        scenario: &Scenario,
        program: &Program,
        folder: &Path,
        database: &str,
    ) -> Outcome<Vec<Figures>> {
        let with_statements = self.arguments.statements;
        let (url, watched, counters) = match (scenario.database, &self.cluster) {
            (Database::Postgres, Some(cluster)) => {
                cluster.create(database, with_statements).await?;
                let url = cluster.url(database);
                let counters = Counters::Postgres { url: url.clone(), with_statements };
                (Some(url), Some(cluster.id()), counters)
            }
            _ => (None, None, Counters::Sqlite { file: folder.join("mortise.db") }),
        };
        let special = match scenario.kind {
            Kind::Hanging => hanging::SETTINGS.to_vec(),
            Kind::Backlog => backlog::settings(self.arguments.quick).to_vec(),
            _ => Vec::new(),
        };
        let mut settings: Vec<(String, String)> =
            special.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        settings.extend(self.settings.iter().cloned());
        let server =
            Server::start(program, url.as_deref(), folder, &self.provider, &settings).await?;
        let stage = Stage::furnish(
            server,
            self.receiver.clone(),
            counters,
            watched,
            self.arguments.connections,
            match scenario.kind {
                Kind::FanOutSingle | Kind::FanOutArrays => (FAN_OUT, 1),
                Kind::Hanging => (1, hanging::ORGS),
                Kind::Backlog => (1, backlog::ORGS),
                _ => (1, 1),
            },
        )
        .await?;
        // The disk and the machine drift: both are looked at right before.
        let fsync_ms = machine::fsync(folder)?;
        let bare = self.bare(Client::Reqwest).await?;
        let mut all = self.act(&stage, scenario.kind).await?;
        for figures in &mut all {
            scenario.name.clone_into(&mut figures.scenario);
            program.name.clone_into(&mut figures.server);
            if figures.deliveries > 0 && !matches!(scenario.kind, Kind::Paced | Kind::Hanging) {
                figures.ratio_to_bare = Some(figures.deliveries_per_second / bare);
            }
            figures.note("barePerSecond", bare.round());
            figures.note("fsyncMs", (fsync_ms * 1e3).round() / 1e3);
        }
        for line in stage.counters.statements().await? {
            println!("    {line}");
        }
        let warnings = stage.server.warnings();
        if let Some(first) = warnings.first() {
            println!("    the server warned {} times, first: {first:.200}", warnings.len());
        }
        Ok(all)
    }

    async fn act(&self, stage: &Stage, kind: Kind) -> Outcome<Vec<Figures>> {
        let sizes = self.arguments.sizes();
        let (singles, arrays) = (Shape::singles(sizes.singles), Shape::arrays(sizes.in_arrays));
        let fewer = |shape: Shape| Shape { events: shape.events / FAN_OUT, ..shape };
        let shape = match kind {
            Kind::Single => singles,
            Kind::Arrays => arrays,
            Kind::KeyedSingle => Shape { keyed: true, ..singles },
            Kind::KeyedArrays => Shape { keyed: true, ..arrays },
            Kind::FanOutSingle => fewer(singles),
            Kind::FanOutArrays => fewer(arrays),
            Kind::Paced => return paced::run(stage, sizes).await,
            Kind::Hanging => return Box::pin(hanging::run(stage, sizes)).await,
            Kind::Backlog => return Box::pin(backlog::run(stage, sizes)).await,
            Kind::Installations => return Box::pin(installations::run(stage, sizes)).await,
        };
        throughput::run(stage, shape, sizes.warm_up).await
    }
}
