//! A body that tells how much of it is on its way.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// Who is told, in bytes from the beginning.
pub(crate) type Watch = Arc<dyn Fn(u64) + Send + Sync>;

/// How much is handed over at a time, in bytes.
const PIECE: usize = 64 << 10;

/// A body in pieces.
pub(crate) struct Watched {
    left: Bytes,
    sent: u64,
    watch: Watch,
}

impl Watched {
    pub(crate) fn new(body: Bytes, watch: Watch) -> Self {
        watch(0);
        Self { left: body, sent: 0, watch }
    }
}

impl Body for Watched {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        // A piece is asked for when the one before is on its way.
        (self.watch)(self.sent);
        if self.left.is_empty() {
            return Poll::Ready(None);
        }
        let length = self.left.len().min(PIECE);
        let piece = self.left.split_to(length);
        self.sent += length as u64;
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        // Not before the end was told of.
        false
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::task::Waker;

    use super::*;

    #[test]
    fn every_byte_is_told_of_once_it_is_on_its_way() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&told);
        let watch = Arc::new(move |sent| kept.lock().expect("no panic").push(sent));
        let mut body = Watched::new(Bytes::from(vec![7; PIECE + 3]), watch);
        assert_eq!(body.size_hint().exact(), Some(PIECE as u64 + 3));
        let mut context = Context::from_waker(Waker::noop());
        let mut whole = Vec::new();
        while let Poll::Ready(Some(Ok(frame))) = Pin::new(&mut body).poll_frame(&mut context) {
            whole.extend_from_slice(&frame.into_data().expect("bytes"));
        }
        assert_eq!(whole, vec![7; PIECE + 3]);
        let end = PIECE as u64 + 3;
        assert_eq!(*told.lock().expect("no panic"), [0, 0, PIECE as u64, end]);
    }
}
