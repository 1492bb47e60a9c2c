//! Latency at a rate that leaves the machine idle most of the time.

use super::Outcome;
use super::arguments::Sizes;
use super::load::Orgs;
use super::measure::{Figures, Shape, Stage};

/// Events a second.
const RATE: u32 = 100;

/// Warms up and measures.
pub(crate) async fn run(stage: &Stage, sizes: Sizes) -> Outcome<Vec<Figures>> {
    stage.warm_up(Shape::singles(sizes.warm_up)).await?;
    let (figures, _) = stage.open(sizes.paced, RATE, Orgs { first: 0, count: 1 }).await?;
    Ok(vec![figures])
}
