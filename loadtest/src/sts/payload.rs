//! Bodies: whole ones, endless ones, and ones that break off.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

/// Blanks that are sent at a time, in bytes.
const CHUNK_BYTES: u64 = 16 * 1024;

static BLANKS: [u8; 16 * 1024] = [b' '; 16 * 1024];

/// The body of an answer.
#[derive(Debug)]
pub(super) enum Payload {
    /// These bytes; then it is empty.
    Whole(Bytes),
    /// These bytes, then so many blanks, of a length that is not announced.
    Padded { head: Bytes, blanks: u64 },
    /// Half of these bytes, after their whole length was announced.
    Broken { head: Bytes, announced: u64, flushed: bool },
}

impl Payload {
    pub(super) fn padded_to(head: Bytes, total_bytes: u64) -> Self {
        let length = u64::try_from(head.len()).unwrap_or(u64::MAX);
        Self::Padded { head, blanks: total_bytes.saturating_sub(length) }
    }

    pub(super) fn half_of(body: &Bytes) -> Self {
        let announced = u64::try_from(body.len()).unwrap_or(u64::MAX);
        Self::Broken { head: body.slice(..body.len() / 2), announced, flushed: false }
    }

    /// The bytes of a body of which nothing was sent.
    pub(super) fn whole(self) -> Bytes {
        match self {
            Self::Whole(bytes) | Self::Padded { head: bytes, .. } | Self::Broken { head: bytes, .. } => bytes,
        }
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let data = |bytes| Poll::Ready(Some(Ok(Frame::data(bytes))));
        match self.get_mut() {
            Self::Whole(bytes) | Self::Padded { head: bytes, .. } | Self::Broken { head: bytes, .. } if !bytes.is_empty() => {
                data(std::mem::take(bytes))
            }
            Self::Whole(_) | Self::Padded { blanks: 0, .. } => Poll::Ready(None),
            Self::Padded { blanks, .. } => {
                let chunk = CHUNK_BYTES.min(*blanks);
                *blanks -= chunk;
                data(Bytes::from_static(&BLANKS[..usize::try_from(chunk).unwrap_or(BLANKS.len())]))
            }
            Self::Broken { flushed, .. } if !*flushed => {
                // One more turn, in which hyper sends what it has; an error at once would take it back.
                *flushed = true;
                context.waker().wake_by_ref();
                Poll::Pending
            }
            Self::Broken { .. } => Poll::Ready(Some(Err(io::Error::other("the fake STS breaks off here")))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(u64::try_from(bytes.len()).unwrap_or(u64::MAX)),
            Self::Padded { .. } => SizeHint::default(),
            Self::Broken { announced, .. } => SizeHint::with_exact(*announced),
        }
    }
}
