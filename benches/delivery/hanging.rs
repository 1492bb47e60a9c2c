//! One webhook in ten hangs: what do the others notice?

use super::Outcome;
use super::arguments::Sizes;
use super::event::org;
use super::ledger::From;
use super::load::Orgs;
use super::measure::{Figures, Shape, Stage};
use super::process::ratio;
use super::receiver::Trouble;

/// How many orgs, each with a webhook.
pub(crate) const ORGS: usize = 10;

/// The one whose webhook hangs.
const HANGING: usize = ORGS - 1;

/// Settings under which what hung is sent again soon, so that the run has an end.
pub(crate) const SETTINGS: [(&str, &str); 3] = [
    ("delivery.schedule", "2s,2s,2s,2s"),
    ("delivery.breaker.pause", "2s"),
    ("delivery.breaker.pause_limit", "2s"),
];

/// The same run twice: with all webhooks healthy, and with one that hangs.
pub(crate) async fn run(stage: &Stage, sizes: Sizes) -> Outcome<Vec<Figures>> {
    let orgs = Orgs { first: 0, count: ORGS };
    stage.warm_up(Shape { orgs, ..Shape::singles(sizes.warm_up) }).await?;
    let mut all = Vec::new();
    for (part, trouble) in [("none hangs", Trouble::None), ("one hangs", Trouble::Hangs)] {
        let run = stage.begin(sizes.hanging).await?;
        stage.receiver.trouble(&org(HANGING), trouble);
        let refused = stage.pace(&run, sizes.hanging_rate, orgs).await?;
        let healthy = |event: usize| event % ORGS != HANGING;
        let sent_in = run.ledger.intake_span().as_secs_f64();
        stage.receiver.trouble("", Trouble::None);
        stage.drain(&run.ledger).await;
        let mut figures = stage.end(&run, refused).await?;
        part.clone_into(&mut figures.part);
        // The figures of the healthy ones; the others wait until the hanging ends.
        let sent = run.ledger.latencies(From::Sent, healthy);
        figures.sent_to_arrival = sent.usual();
        figures.accepted_to_arrival = run.ledger.latencies(From::Accepted, healthy).usual();
        figures.planned_to_arrival = Some(run.ledger.latencies(From::Planned, healthy).usual());
        // What hung arrives later, which says nothing about the rate.
        figures.seconds = sent_in;
        figures.deliveries_per_second = ratio(figures.deliveries, 1) / sent_in.max(1e-9);
        all.push(figures);
    }
    Ok(all)
}
