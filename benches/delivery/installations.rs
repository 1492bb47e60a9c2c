//! Ten thousand installations, each in an org of its own with a webhook.

use mortise::seam::Clock;

use super::Outcome;
use super::arguments::Sizes;
use super::load::Orgs;
use super::measure::{Figures, Shape, Stage};
use super::process::{self, ratio};
use super::world;

/// Makes them, and measures events over all of them against events for one.
pub(crate) async fn run(stage: &Stage, sizes: Sizes) -> Outcome<Vec<Figures>> {
    let clock = Clock::default();
    stage.warm_up(Shape::singles(sizes.warm_up)).await?;
    let (before_mib, _) = process::memory(stage.watched.server);
    let reading = stage.watched.read()?;
    let counts = stage.counters.read().await?;
    let begin = clock.instant();
    world::install_from(&stage.server, 1, sizes.installations).await?;
    let seconds = begin.elapsed().as_secs_f64();
    eprintln!("{} installations after {seconds:.0} s", sizes.installations);
    let usage = reading.until(&stage.watched.read()?);
    let counts = counts.until(&stage.counters.read().await?);
    let (after_mib, peak_mib) = process::memory(stage.watched.server);
    let installations = u64::try_from(sizes.installations)?;
    let mut installing = Figures { part: "installing".to_owned(), seconds, ..Figures::default() };
    installing.peak_mib = peak_mib;
    let micros = |span: std::time::Duration| {
        ratio(u64::try_from(span.as_micros()).unwrap_or(u64::MAX), installations)
    };
    installing.cpu_server = micros(usage.server);
    installing.cpu_database = micros(usage.database);
    installing.cpu_driver = micros(usage.driver);
    installing.idle = usage.idle;
    installing.stolen = usage.stolen;
    installing.foreign = usage.foreign;
    installing.commits_per_event = ratio(counts.commits, installations);
    installing.note("installations", installations);
    installing.note("installationsPerSecond", ratio(installations, 1) / seconds.max(1e-9));
    installing.note("memoryBeforeMiB", before_mib);
    installing.note("memoryAfterMiB", after_mib);

    let orgs = Orgs { first: 1, count: sizes.installations };
    let (mut first, _) =
        stage.closed(Shape { orgs, ..Shape::singles(sizes.installations) }).await?;
    "the first event of each".clone_into(&mut first.part);
    let (mut over_all, _) = stage.closed(Shape { orgs, ..Shape::singles(sizes.singles) }).await?;
    "events over all".clone_into(&mut over_all.part);
    let (mut for_one, _) = stage.closed(Shape::singles(sizes.singles)).await?;
    "events for one".clone_into(&mut for_one.part);
    Ok(vec![installing, first, over_all, for_one])
}
