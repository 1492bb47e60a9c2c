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
/// It must be quick and must not block. A request without a body is asked about before connecting
/// only.
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
/// error here ends the exchange with nothing sent.
pub(super) struct GatedBody {
    gate: Option<Gate>,
    bytes: Option<Bytes>,
}

impl GatedBody {
    /// A body that asks `gate`, where there is one. An empty body is never read, so that its gate
    /// is asked here.
    pub(super) fn new(gate: Option<Gate>, bytes: Bytes) -> Result<Self, Withdrawn> {
        if !bytes.is_empty() {
            return Ok(Self { gate, bytes: Some(bytes) });
        }
        match gate {
            Some(gate) if !gate.is_open() => Err(Withdrawn),
            _ => Ok(Self { gate: None, bytes: None }),
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
