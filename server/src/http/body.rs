//! Request bodies: how much of one is read, for how long, and how much of all of them is held at once.
//!
//! A body that comes in one piece, as those of an API server do, is looked at where it lies and given up before anything is waited for; it costs nothing
//! here. What has to be waited for, and what comes in more pieces and is gathered, takes room: [`Bodies`] has so much for all requests, and who finds none is
//! told so (503), once the rest of what he sends was thrown away if there is room for that wait.

use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::poll_immediate;
use http_body_util::BodyExt as _;
use hyper::body::Body;
use prometheus_client::metrics::counter::Counter;
use tokio::time::{Instant, timeout_at};

use super::respond::Malformed;

/// Largest request body, in bytes: sixteen times the longest token of ours, so that other people's tokens are refused by what they are.
pub const BODY_MAX_BYTES: usize = 64 << 10;

/// How much of a body that is too large is read, and thrown away, before the answer, in bytes.
pub const BODY_DISCARD_MAX_BYTES: usize = 8 << 20;

/// How long a body may take, from the head on. An API server sends both at once; whoever sends a body drop by drop would keep his connection
/// busy, which is not closed to make room for others.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// What a TokenReview with a token of ours has at most, in bytes: larger bodies cannot let anybody in, and share half of the room.
const USUAL_MAX_BYTES: usize = 8 << 10;

/// What a request takes that has to be waited for, its body apart, in bytes: a task, a stream, a timer. Measured: 2.8 kB with HTTP/2 where a proof is waited for,
/// which needs no timer.
const WAITING_BYTES: usize = 4 << 10;

/// Reads bodies, as far as there is room for all of them.
#[derive(Debug)]
pub struct Bodies {
    max_bytes: usize,
    held: AtomicUsize,
    refused: Counter,
}

impl Bodies {
    /// Room for so many bytes; `refused` counts those who found none.
    #[must_use]
    pub const fn new(max_bytes: usize, refused: Counter) -> Self {
        Self { max_bytes, held: AtomicUsize::new(0), refused }
    }

    /// Reads a body, up to [`BODY_MAX_BYTES`] and for [`BODY_TIMEOUT`].
    ///
    /// # Errors
    ///
    /// [`Malformed`]; what is too large or finds no room was then read to its end, or as much of it as [`BODY_DISCARD_MAX_BYTES`] and the time allow, for
    /// whoever is still sending when the answer comes may never see it: the stream or the connection is reset.
    pub async fn read<B>(&self, mut body: B) -> Result<Bytes, Malformed>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        // No clock, no timer and no room for those who have sent all of it.
        let mut deadline = None;
        let mut waiting = Room { bodies: self, bytes: 0 };
        let gathered = {
            let mut gathering = pin!(gather(self, &mut body));
            match poll_immediate(&mut gathering).await {
                Some(gathered) => gathered,
                None => {
                    if !waiting.grow_to(WAITING_BYTES, self.max_bytes) {
                        self.refused.inc();
                        return Err(Malformed::NoRoom);
                    }
                    let until = *deadline.insert(Instant::now() + BODY_TIMEOUT);
                    timeout_at(until, gathering).await.unwrap_or(Err(Stopped { why: Malformed::Slow, length: 0 }))
                }
            }
        };
        let Stopped { why, length } = match gathered {
            Ok(whole) => return Ok(whole),
            Err(stopped) => stopped,
        };
        if why == Malformed::NoRoom {
            self.refused.inc();
        }
        if matches!(why, Malformed::NoRoom | Malformed::TooLarge) && waiting.grow_to(WAITING_BYTES, self.max_bytes) {
            // However it ends, the answer is the same.
            let deadline = deadline.unwrap_or_else(|| Instant::now() + BODY_TIMEOUT);
            let _ = timeout_at(deadline, discard(&mut body, length)).await;
        }
        Err(why)
    }

    /// The bytes that are held now.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }
}

/// Why a body was not read to its end, and how much of it was.
struct Stopped {
    why: Malformed,
    length: usize,
}

async fn gather<B>(bodies: &Bodies, body: &mut B) -> Result<Bytes, Stopped>
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut gathered = Gathered { room: Room { bodies, bytes: 0 }, bytes: Vec::new() };
    loop {
        let length = gathered.bytes.len();
        let stopped = |why| Stopped { why, length };
        let Some(frame) = body.frame().await else { return Ok(gathered.into_bytes()) };
        let Ok(data) = frame.map_err(|_| stopped(Malformed::Broken))?.into_data() else { continue };
        let length = length.saturating_add(data.len());
        if length > BODY_MAX_BYTES {
            return Err(Stopped { why: Malformed::TooLarge, length });
        }
        // Nearly all come in one piece, which then need not be copied.
        if body.is_end_stream() && gathered.bytes.is_empty() {
            return Ok(data);
        }
        let more = body.size_hint().exact().and_then(|more| usize::try_from(more).ok());
        if !gathered.push(&data, more) {
            return Err(Stopped { why: Malformed::NoRoom, length });
        }
    }
}

/// The pieces of one body so far, and the room that they have taken.
struct Gathered<'a> {
    room: Room<'a>,
    bytes: Vec<u8>,
}

impl Gathered<'_> {
    /// Whether there was room. `more` is what will come after the piece, if it was said.
    fn push(&mut self, piece: &[u8], more: Option<usize>) -> bool {
        let needed = self.bytes.len() + piece.len();
        if needed > self.room.bytes {
            // Whoever announces much has not sent it yet: room is taken as it is needed, in steps that double.
            let step = needed.max(self.room.bytes * 2);
            let room = more.map_or(step, |more| step.min(needed.saturating_add(more)).max(needed));
            let max = self.room.bodies.max_bytes;
            if !self.room.grow_to(room, if room > USUAL_MAX_BYTES { max / 2 } else { max }) {
                return false;
            }
            self.bytes.reserve_exact(room - self.bytes.len());
        }
        self.bytes.extend_from_slice(piece);
        true
    }

    fn into_bytes(self) -> Bytes {
        Bytes::from(self.bytes)
    }
}

/// Room that was taken; given back with it.
struct Room<'a> {
    bodies: &'a Bodies,
    bytes: usize,
}

impl Room<'_> {
    /// Whether there was so much, with no more than `max` taken by all.
    fn grow_to(&mut self, bytes: usize, max: usize) -> bool {
        let (held, step) = (&self.bodies.held, bytes.saturating_sub(self.bytes));
        if held.fetch_add(step, Ordering::Relaxed).saturating_add(step) > max {
            held.fetch_sub(step, Ordering::Relaxed);
            return false;
        }
        self.bytes += step;
        true
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.bodies.held.fetch_sub(self.bytes, Ordering::Relaxed);
        }
    }
}

/// Reads on and keeps nothing.
async fn discard<B>(body: &mut B, mut length: usize)
where
    B: Body<Data = Bytes> + Unpin,
{
    while length <= BODY_DISCARD_MAX_BYTES {
        match body.frame().await {
            Some(Ok(frame)) => length = length.saturating_add(frame.data_ref().map_or(0, Bytes::len)),
            Some(Err(_)) | None => break,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::{FutureExt as _, StreamExt as _, stream};
    use http_body_util::{Full, StreamBody};
    use hyper::body::Frame;

    use super::*;

    fn body_of(frames: impl stream::Stream<Item = Vec<u8>> + Unpin) -> impl Body<Data = Bytes, Error = Infallible> + Unpin {
        StreamBody::new(frames.map(|data| Ok::<_, Infallible>(Frame::data(Bytes::from(data)))))
    }

    fn bodies(max_bytes: usize) -> Bodies {
        Bodies::new(max_bytes, Counter::default())
    }

    async fn read_frames(frames: impl stream::Stream<Item = Vec<u8>> + Unpin) -> Result<Bytes, Malformed> {
        bodies(4 * BODY_MAX_BYTES).read(body_of(frames)).await
    }

    #[tokio::test]
    async fn joins_the_pieces_of_a_body_up_to_its_bound() {
        assert_eq!(read_frames(stream::iter([])).await.unwrap(), "");
        assert_eq!(read_frames(stream::iter([b"abc".to_vec()])).await.unwrap(), "abc");
        assert_eq!(read_frames(stream::iter([b"".to_vec(), b"a".to_vec(), b"".to_vec(), b"bc".to_vec()])).await.unwrap(), "abc");
        let half = vec![b'a'; BODY_MAX_BYTES / 2];
        assert_eq!(read_frames(stream::iter([half.clone(), half.clone()])).await.unwrap().len(), BODY_MAX_BYTES);
        assert_eq!(read_frames(stream::iter([half.clone(), half, b"a".to_vec()])).await, Err(Malformed::TooLarge));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_is_given_up() {
        let start = Instant::now();
        assert_eq!(read_frames(stream::iter([b"{".to_vec()]).chain(stream::pending())).await, Err(Malformed::Slow));
        assert_eq!(start.elapsed(), BODY_TIMEOUT);
        let answer = Malformed::Slow.answer();
        assert_eq!(
            (answer.response.status().as_u16(), Malformed::Slow.to_string().as_str()),
            (408, "the request body did not come within 10 s")
        );
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_none_whatever_had_come() {
        for pieces in [vec![], vec![b"{}".to_vec()]] {
            let frames = stream::iter(pieces).map(|data| Ok(Frame::data(Bytes::from(data)))).chain(stream::iter([Err("reset")]));
            assert_eq!(bodies(4 * BODY_MAX_BYTES).read(StreamBody::new(frames)).await, Err(Malformed::Broken));
        }
    }

    #[tokio::test]
    async fn a_body_in_one_piece_takes_no_room() {
        assert_eq!(bodies(0).read(Full::new(Bytes::from_static(b"abc"))).await.unwrap(), "abc");
    }

    #[tokio::test]
    async fn who_finds_no_room_is_told_once_the_rest_was_thrown_away() {
        let bodies = bodies(28 << 10);
        let stalled = || Box::pin(bodies.read(body_of(stream::iter([vec![b'a'; 8 << 10]]).chain(stream::pending()))));
        let (mut first, mut second) = (stalled(), stalled());
        assert!((&mut first).now_or_never().is_none() && (&mut second).now_or_never().is_none());
        assert_eq!(bodies.held_bytes(), 24 << 10, "what was sent, and the wait for the rest");

        let mut left = 5;
        let third = body_of(stream::iter(std::iter::from_fn(|| {
            left -= 1;
            (left >= 0).then(|| vec![b'a'; 4 << 10])
        })));
        assert_eq!(bodies.read(third).await, Err(Malformed::NoRoom));
        assert!(left < 0, "{left} pieces were not read");
        assert_eq!(bodies.refused.get(), 1);
        assert_eq!(Malformed::NoRoom.answer().response.status(), 503);

        // Whoever hangs up gives his room back.
        drop(first);
        assert_eq!(bodies.held_bytes(), 12 << 10);
        assert_eq!(bodies.read(body_of(stream::iter([b"a".to_vec(), b"b".to_vec()]))).await.unwrap(), "ab");
        drop(second);
        assert_eq!(bodies.held_bytes(), 0);
    }

    #[tokio::test]
    async fn where_there_is_no_room_to_wait_nobody_is_waited_for() {
        let bodies = bodies(WAITING_BYTES);
        let mut first = Box::pin(bodies.read(body_of(stream::pending())));
        assert!((&mut first).now_or_never().is_none());
        assert_eq!(bodies.read(body_of(stream::pending())).now_or_never(), Some(Err(Malformed::NoRoom)));
        assert_eq!(bodies.refused.get(), 1);
        assert_eq!(bodies.read(Full::new(Bytes::from_static(b"abc"))).now_or_never().unwrap().unwrap(), "abc");
    }

    #[tokio::test]
    async fn bodies_that_are_larger_than_ours_have_half_of_the_room() {
        let bodies = bodies(64 << 10);
        let piece = || vec![b'a'; 8 << 10];
        let mut large = Box::pin(bodies.read(body_of(stream::iter([piece(), piece(), piece()]).chain(stream::pending()))));
        assert!((&mut large).now_or_never().is_none());
        assert_eq!(bodies.held_bytes(), (32 << 10) + WAITING_BYTES);
        assert_eq!(bodies.read(body_of(stream::iter([piece(), piece()]))).await, Err(Malformed::NoRoom));
        assert_eq!(bodies.read(body_of(stream::iter([b"a".to_vec(), piece()[1..].to_vec()]))).await.unwrap().len(), 8 << 10);
    }

    #[tokio::test]
    async fn what_is_too_large_is_read_on_and_thrown_away_as_far_as_its_bound() {
        const PIECE: usize = 32 << 10;
        // Three pieces are too large, and the last that is read is the first beyond the bound.
        for (sent, read) in [(3, 3), (10, 10), (10_000, BODY_DISCARD_MAX_BYTES / PIECE + 1)] {
            let mut count = 0;
            let frames = stream::iter(std::iter::from_fn(|| {
                count += 1;
                (count <= sent).then(|| vec![b'a'; PIECE])
            }));
            let bodies = bodies(4 * BODY_MAX_BYTES);
            assert_eq!(bodies.read(body_of(frames)).await, Err(Malformed::TooLarge));
            assert_eq!((count.min(sent), bodies.held_bytes()), (read, 0));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_thrown_away_has_an_end_too() {
        let bodies = bodies(WAITING_BYTES);
        let start = Instant::now();
        let body = body_of(stream::iter([vec![b'{'; 5 << 10]]).chain(stream::pending()));
        assert_eq!(bodies.read(body).await, Err(Malformed::NoRoom));
        assert_eq!(start.elapsed(), BODY_TIMEOUT);
    }
}
