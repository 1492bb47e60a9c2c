//! What all dialects share in making a request.

use super::{Dialect, Occasion, RenderError, Rendered};

pub(super) fn render(
    _dialect: Dialect,
    _occasion: &Occasion<'_>,
) -> Result<Rendered, RenderError> {
    Err(RenderError::Event { part: "payload" })
}
