//! A million deliveries wait for an endpoint that refuses: what do others notice, and how fast is
//! it worked off once it recovers?
//!
//! The backlog is made by public means alone: the endpoint answers 503, so its breaker opens and
//! what is accepted for it waits in the database. Then it answers 200 again.

use std::time::Duration;

use mortise::seam::Clock;

use super::Outcome;
use super::arguments::Sizes;
use super::event::org;
use super::load::Orgs;
use super::measure::{Figures, Shape, Stage};
use super::process::ratio;
use super::receiver::Trouble;

/// How many orgs, each with a webhook.
pub(crate) const ORGS: usize = 2;

/// The one whose webhook refuses.
const REFUSING: Orgs = Orgs { first: 1, count: 1 };

/// Settings under which a recovered endpoint is noticed soon. What failed comes again only after
/// the rest was accepted, or it would use up its attempts before the endpoint recovers.
pub(crate) fn settings(quick: bool) -> [(&'static str, &'static str); 3] {
    let schedule = if quick { "3s,3s,3s,3s" } else { "20s,20s,20s,20s" };
    [
        ("delivery.schedule", schedule),
        ("delivery.breaker.pause", "2s"),
        ("delivery.breaker.pause_limit", "2s"),
    ]
}

/// Throughput of one org without and with a backlog of another, and the backlog's end.
pub(crate) async fn run(stage: &Stage, sizes: Sizes) -> Outcome<Vec<Figures>> {
    let singles = Shape::singles(sizes.singles);
    stage.warm_up(Shape::singles(sizes.warm_up)).await?;
    stage.warm_up(Shape { orgs: REFUSING, ..Shape::singles(100) }).await?;
    let (mut before, _) = stage.closed(singles).await?;
    "new events, nothing waits".clone_into(&mut before.part);

    stage.receiver.trouble(&org(REFUSING.first), Trouble::Refuses);
    let backlog = stage.begin(sizes.backlog).await?;
    let shape = Shape { orgs: REFUSING, ..Shape::arrays(sizes.backlog) };
    let refused = stage.send(&backlog, shape).await?;
    let intake = backlog.ledger.intake_span();
    eprintln!("{} wait after {:.0} s", sizes.backlog, intake.as_secs_f64());

    let (mut during, _) = stage.closed(singles).await?;
    "new events, the backlog waits".clone_into(&mut during.part);

    eprintln!("{:.0} new events a second beside them", during.deliveries_per_second);
    let waiting = backlog.ledger.deliveries() - usize::try_from(backlog.ledger.arrivals())?;
    let relieved = backlog.ledger.now();
    stage.receiver.trouble("", Trouble::None);
    // The CPU of the drain alone: the run's own began with the intake.
    let reading = stage.watched.read()?;
    stage.drain(&backlog.ledger).await;
    let usage = reading.until(&stage.watched.read()?);
    let mut drain = stage.end(&backlog, refused).await?;
    "the backlog is worked off".clone_into(&mut drain.part);
    let deliveries = drain.deliveries;
    let micros =
        |span: Duration| ratio(u64::try_from(span.as_micros()).unwrap_or(u64::MAX), deliveries);
    drain.cpu_server = micros(usage.server);
    drain.cpu_database = micros(usage.database);
    drain.cpu_driver = micros(usage.driver);
    drain.idle = usage.idle;
    drain.stolen = usage.stolen;
    drain.foreign = usage.foreign;
    // Between the first and the last hundredth, since the end waits for a few retries.
    let [first, early, late, last] = {
        let [early, late] = backlog.ledger.arrived_at([10, 990]);
        let [first, last] = backlog.ledger.arrived_at([0, 1_000]);
        [first, early, late, last]
    };
    let span = Duration::from_nanos(late.saturating_sub(early)).as_secs_f64();
    drain.seconds = span;
    drain.deliveries_per_second = ratio(deliveries, 1) * 0.98 / span.max(1e-9);
    let seconds = |from: u64, to: u64| Duration::from_nanos(to.saturating_sub(from)).as_secs_f64();
    drain.note("waiting", waiting);
    drain.note("intakeEventsPerSecond", ratio(drain.events, 1) / intake.as_secs_f64().max(1e-9));
    drain.note("secondsToFirstArrival", seconds(relieved, first));
    drain.note("secondsToLastArrival", seconds(relieved, last));

    Clock::default().sleep(Duration::from_secs(1)).await;
    let (mut after, _) = stage.closed(singles).await?;
    "new events, worked off".clone_into(&mut after.part);
    let kept = during.deliveries_per_second / before.deliveries_per_second.max(1e-9);
    during.note("ratioToNothingWaiting", kept);
    Ok(vec![before, during, drain, after])
}
