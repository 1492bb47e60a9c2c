//! From intake to delivery in a closed loop.

use super::Outcome;
use super::measure::{Figures, Shape, Stage};

/// Warms up and measures.
pub(crate) async fn run(stage: &Stage, shape: Shape, warm_up: usize) -> Outcome<Vec<Figures>> {
    stage.warm_up(Shape { events: warm_up, ..shape }).await?;
    let (figures, _) = stage.closed(shape).await?;
    Ok(vec![figures])
}
