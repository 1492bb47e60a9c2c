//! The last question before a request leaves: may it still begin?

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// Asked right before the first byte of a request is written, when the connection stands; answers
/// whether the request may still begin.
///
/// It must be quick and must not block.
#[derive(Clone)]
pub struct Gate(Arc<dyn Fn() -> bool + Send + Sync>);

impl Gate {
    /// A gate that asks the function.
    pub fn new(is_open: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(is_open))
    }

    pub(super) fn is_open(&self) -> bool {
        (self.0)()
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Gate")
    }
}

/// The gate was closed.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("withdrawn before the first byte was sent")]
pub(super) struct Withdrawn;

/// A body that asks the gate when it is first read.
///
/// The HTTP/1 connection reads the body before it writes out the head that it has prepared, so an
/// error here ends the exchange with nothing sent. An empty body is never read: whoever sends one
/// asks [`GatedBody::may_begin`] when the connection stands.
pub(super) struct GatedBody {
    gate: Option<Gate>,
    bytes: Option<Bytes>,
}

impl GatedBody {
    /// A body that asks `gate`, where there is one. For an empty one it is asked here too: there is
    /// no need to connect for what may not begin.
    pub(super) fn new(gate: Option<Gate>, bytes: Bytes) -> Result<Self, Withdrawn> {
        let body = Self { gate, bytes: Some(bytes).filter(|bytes| !bytes.is_empty()) };
        body.may_begin()?;
        Ok(body)
    }

    /// Asks the gate of an empty body; another one asks when it is read.
    pub(super) fn may_begin(&self) -> Result<(), Withdrawn> {
        match &self.gate {
            Some(gate) if self.bytes.is_none() && !gate.is_open() => Err(Withdrawn),
            _ => Ok(()),
        }
    }
}

impl Body for GatedBody {
    type Data = Bytes;
    type Error = Withdrawn;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Withdrawn>>> {
        let Some(bytes) = self.bytes.take() else {
            return Poll::Ready(None);
        };
        if self.gate.as_ref().is_none_or(Gate::is_open) {
            Poll::Ready(Some(Ok(Frame::data(bytes))))
        } else {
            Poll::Ready(Some(Err(Withdrawn)))
        }
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}
