//! HTTP/2 as far as a generator needs it: the same request again and again, of which only the body changes, over one connection.
//!
//! hyper's client takes twice the processor time of h2load for each question, and a generator that is the bottleneck measures itself. This one has its
//! header block ready (in the peer's dynamic table after the first request), tells the peer to use no table of its own, so that the status is all that has
//! to be decoded, and writes what is asked in one turn at once. RFC 9113 and RFC 7541; push, priorities and CONTINUATION are left out, and an answer that
//! comes with the latter is an error of its connection.

mod hpack;

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;

pub(super) use self::hpack::Head;
use super::{ANSWER_MAX_BYTES, Answer, Failure};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Largest frame that we let the peer send, in bytes: the least that may be set.
const FRAME_MAX_BYTES: usize = 16_384;

/// What a peer may send on a stream: more than the largest answer that is read, so that no stream's window is ever opened further.
const STREAM_WINDOW: u32 = 2 << 20;

/// What it may send on the connection before that is opened again, in bytes.
const CONNECTION_WINDOW: u32 = 1 << 30;

/// RFC 9113 section 6.9.2: what both have at first.
const FIRST_WINDOW: u32 = 65_535;

/// Room for what is read, in bytes: the rest of a frame, and then a record of TLS.
const READ_BYTES: usize = 2 * (9 + FRAME_MAX_BYTES);

mod frame {
    pub(super) const DATA: u8 = 0;
    pub(super) const HEADERS: u8 = 1;
    pub(super) const RST_STREAM: u8 = 3;
    pub(super) const SETTINGS: u8 = 4;
    pub(super) const PING: u8 = 6;
    pub(super) const GOAWAY: u8 = 7;
    pub(super) const WINDOW_UPDATE: u8 = 8;

    pub(super) const END_STREAM: u8 = 1;
    pub(super) const ACK: u8 = 1;
    pub(super) const END_HEADERS: u8 = 4;
    pub(super) const PADDED: u8 = 8;
    pub(super) const PRIORITY: u8 = 32;
}

/// RFC 9113 section 7: `CANCEL`.
const CANCEL: u32 = 8;

/// Why there is no answer.
#[derive(Clone, Debug)]
pub(super) enum Refused {
    /// The question may have been taken.
    Failed(Failure),
    /// The connection ended without it having been taken: it may be asked again over another one, as clients do (RFC 9113 section 8.7).
    NotTaken(String),
}

impl Refused {
    fn cut_off(reason: impl Into<String>) -> Self {
        Self::Failed(Failure::CutOff(reason.into()))
    }
}

type Outcome = Result<Answer, Refused>;

/// A question that waits for a stream.
#[derive(Debug)]
struct Waiting {
    body: Bytes,
    answer: oneshot::Sender<Outcome>,
    ticket: u64,
}

/// A stream that waits for its answer.
#[derive(Debug)]
struct Stream {
    answer: oneshot::Sender<Outcome>,
    ticket: u64,
    status: u16,
    body: Bytes,
    rest: BytesMut,
}

#[derive(Debug)]
struct State {
    out: Vec<u8>,
    waiting: VecDeque<Waiting>,
    streams: HashMap<u32, Stream>,
    next_id: u32,
    next_ticket: u64,
    /// The header block, without the length of the body.
    block: Vec<u8>,
    /// Whether the block is the first one, after which the peer's table has it.
    indexed: bool,
    max_streams: usize,
    window: i64,
    stream_window: i64,
    peer_frame_max: usize,
    received: u32,
    /// No new streams; the reason.
    closed: Option<String>,
    driver: Option<Waker>,
}

/// A connection that any number may ask over.
#[derive(Clone, Debug)]
pub(super) struct Client(Arc<Mutex<State>>);

impl Client {
    /// Begins a connection, and waits for the peer's settings.
    pub(super) async fn handshake<T>(mut io: T, head: &Head) -> Result<Self, String>
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let mut out = PREFACE.to_vec();
        let settings = [(1_u16, 0_u32), (2, 0), (4, STREAM_WINDOW)];
        header(&mut out, settings.len() * 6, frame::SETTINGS, 0, 0);
        for (name, value) in settings {
            out.extend_from_slice(&name.to_be_bytes());
            out.extend_from_slice(&value.to_be_bytes());
        }
        window_update(&mut out, CONNECTION_WINDOW - FIRST_WINDOW);
        let state = State {
            out,
            waiting: VecDeque::new(),
            streams: HashMap::new(),
            next_id: 1,
            next_ticket: 0,
            block: head.first(),
            indexed: true,
            // Until it says otherwise there is no limit; until it says anything there are no streams.
            max_streams: 0,
            window: FIRST_WINDOW.into(),
            stream_window: FIRST_WINDOW.into(),
            peer_frame_max: FRAME_MAX_BYTES,
            received: 0,
            closed: None,
            driver: None,
        };
        let client = Self(Arc::new(Mutex::new(state)));
        let mut driver =
            Driver { client: client.clone(), read: vec![0; READ_BYTES].into(), filled: 0, writing: Vec::new(), written: 0, dirty: false };
        poll_fn(|context| {
            if client.state().max_streams > 0 {
                return Poll::Ready(Ok(()));
            }
            match driver.poll(Pin::new(&mut io), context) {
                Poll::Ready(reason) => Poll::Ready(Err(reason)),
                Poll::Pending if client.state().max_streams > 0 => Poll::Ready(Ok(())),
                Poll::Pending => Poll::Pending,
            }
        })
        .await?;
        let closing = client.clone();
        tokio::spawn(async move {
            let reason = poll_fn(|context| driver.poll(Pin::new(&mut io), context)).await;
            closing.state().fail_all(&reason);
        });
        Ok(client)
    }

    /// Whether a new one is needed.
    pub(super) fn is_closed(&self) -> bool {
        self.state().closed.is_some()
    }

    /// Asks, and waits for the whole answer.
    pub(super) async fn ask(&self, body: Bytes) -> Outcome {
        let (answer, answered) = oneshot::channel();
        let ticket = {
            let mut state = self.state();
            if let Some(reason) = &state.closed {
                return Err(Refused::NotTaken(reason.clone()));
            }
            let ticket = state.next_ticket;
            state.next_ticket += 1;
            state.waiting.push_back(Waiting { body, answer, ticket });
            state.send_waiting();
            ticket
        };
        let mut guard = GiveUp { client: self, ticket: Some(ticket) };
        let outcome = answered.await;
        guard.ticket = None;
        outcome.unwrap_or_else(|_| Err(Refused::cut_off("the connection is gone")))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Cancels a question whose asker has gone.
struct GiveUp<'a> {
    client: &'a Client,
    ticket: Option<u64>,
}

impl Drop for GiveUp<'_> {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else { return };
        let mut state = self.client.state();
        state.waiting.retain(|waiting| waiting.ticket != ticket);
        let id = state.streams.iter().find(|(_, stream)| stream.ticket == ticket).map(|(id, _)| *id);
        if let Some(id) = id {
            state.streams.remove(&id);
            state.reset(id);
            state.send_waiting();
        }
    }
}

fn header(out: &mut Vec<u8>, length: usize, kind: u8, flags: u8, stream: u32) {
    let [_, length @ ..] = (length as u32).to_be_bytes();
    out.extend_from_slice(&length);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
}

fn window_update(out: &mut Vec<u8>, by: u32) {
    header(out, 4, frame::WINDOW_UPDATE, 0, 0);
    out.extend_from_slice(&by.to_be_bytes());
}

impl State {
    /// Opens streams for those who wait, as many as there may be.
    fn send_waiting(&mut self) {
        let before = self.out.len();
        while self.streams.len() < self.max_streams && self.closed.is_none() {
            let fits = |waiting: &mut Waiting| i64::try_from(waiting.body.len()).is_ok_and(|bytes| bytes <= self.window);
            let Some(Waiting { body, answer, ticket }) = self.waiting.pop_front_if(fits) else { break };
            let bytes = i64::try_from(body.len()).unwrap_or(i64::MAX);
            if bytes > self.stream_window {
                let _ = answer.send(Err(Refused::cut_off("the target's window is smaller than a question")));
                continue;
            }
            self.window -= bytes;
            let id = self.next_id;
            self.next_id += 2;
            if self.next_id > u32::MAX / 2 {
                self.closed = Some("all stream numbers are used up".into());
            }
            self.write_question(id, &body);
            self.streams.insert(id, Stream { answer, ticket, status: 0, body: Bytes::new(), rest: BytesMut::new() });
        }
        if self.out.len() > before
            && let Some(driver) = self.driver.take()
        {
            driver.wake();
        }
    }

    fn write_question(&mut self, id: u32, body: &[u8]) {
        let mut room = [0; hpack::CONTENT_LENGTH_BYTES];
        let length = hpack::content_length(body.len(), &mut room);
        header(&mut self.out, self.block.len() + length.len(), frame::HEADERS, frame::END_HEADERS, id);
        self.out.extend_from_slice(&self.block);
        self.out.extend_from_slice(length);
        if self.indexed {
            self.block.clear();
            self.block.extend_from_slice(&Head::later());
            self.indexed = false;
        }
        let mut chunks = body.chunks(self.peer_frame_max).peekable();
        while let Some(chunk) = chunks.next() {
            let flags = if chunks.peek().is_none() { frame::END_STREAM } else { 0 };
            header(&mut self.out, chunk.len(), frame::DATA, flags, id);
            self.out.extend_from_slice(chunk);
        }
        if body.is_empty() {
            header(&mut self.out, 0, frame::DATA, frame::END_STREAM, id);
        }
    }

    fn reset(&mut self, id: u32) {
        header(&mut self.out, 4, frame::RST_STREAM, 0, id);
        self.out.extend_from_slice(&CANCEL.to_be_bytes());
        if let Some(driver) = self.driver.take() {
            driver.wake();
        }
    }

    fn fail_all(&mut self, reason: &str) {
        self.closed.get_or_insert_with(|| reason.to_owned());
        let streams = self.streams.drain().map(|(_, stream)| stream.answer);
        for answer in streams.chain(self.waiting.drain(..).map(|waiting| waiting.answer)) {
            let _ = answer.send(Err(Refused::cut_off(reason)));
        }
    }

    fn finish(&mut self, id: u32, failure: Option<Refused>) {
        let Some(Stream { answer, status, body, rest, .. }) = self.streams.remove(&id) else { return };
        let outcome = match failure {
            Some(failure) => Err(failure),
            None if status == 0 => Err(Refused::cut_off("an answer without a status")),
            None => Ok(Answer { status, body: if rest.is_empty() { body } else { rest.freeze() } }),
        };
        // Who asked may have gone.
        let _ = answer.send(outcome);
        self.send_waiting();
    }

    /// One frame; an error ends the connection.
    fn frame(&mut self, kind: u8, flags: u8, id: u32, mut payload: &[u8]) -> Result<(), String> {
        let broken = || "a frame that is too short".to_owned();
        match kind {
            frame::DATA => {
                self.received += payload.len() as u32;
                if self.received > CONNECTION_WINDOW / 2 {
                    window_update(&mut self.out, std::mem::take(&mut self.received));
                }
                unpad(flags, &mut payload).ok_or_else(broken)?;
                self.data(id, flags, payload);
            }
            frame::HEADERS => {
                if flags & frame::END_HEADERS == 0 {
                    return Err("an answer whose header is longer than a frame".into());
                }
                unpad(flags, &mut payload).ok_or_else(broken)?;
                if flags & frame::PRIORITY != 0 {
                    payload = payload.get(5..).ok_or_else(broken)?;
                }
                if let Some(stream) = self.streams.get_mut(&id) {
                    // 1xx comes before the answer, trailers after it.
                    if stream.status < 200 {
                        stream.status = hpack::status_of(payload).ok_or("an answer whose status cannot be read")?;
                    }
                    if flags & frame::END_STREAM != 0 {
                        self.finish(id, None);
                    }
                }
            }
            frame::RST_STREAM => {
                let code = payload.try_get_u32().map_err(|_| broken())?;
                self.finish(id, Some(Refused::cut_off(format!("stream reset by the target (error {code})"))));
            }
            frame::SETTINGS if flags & frame::ACK == 0 => self.settings(payload).ok_or_else(broken)?,
            frame::PING if flags & frame::ACK == 0 => {
                header(&mut self.out, payload.len(), frame::PING, frame::ACK, 0);
                self.out.extend_from_slice(payload);
            }
            frame::GOAWAY => {
                let last = payload.try_get_u32().map_err(|_| broken())?;
                let code = payload.try_get_u32().map_err(|_| broken())?;
                self.go_away(last, code);
            }
            frame::WINDOW_UPDATE if id == 0 => {
                self.window += i64::from(payload.try_get_u32().map_err(|_| broken())?);
                self.send_waiting();
            }
            _ => {}
        }
        Ok(())
    }

    fn data(&mut self, id: u32, flags: u8, payload: &[u8]) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if stream.body.is_empty() {
            stream.body = Bytes::copy_from_slice(payload);
        } else if !payload.is_empty() {
            if stream.rest.is_empty() {
                stream.rest.extend_from_slice(&stream.body);
            }
            stream.rest.extend_from_slice(payload);
        }
        if stream.rest.len() > ANSWER_MAX_BYTES {
            self.reset(id);
            self.finish(id, Some(Refused::Failed(Failure::TooLarge)));
        } else if flags & frame::END_STREAM != 0 {
            self.finish(id, None);
        }
    }

    fn settings(&mut self, mut payload: &[u8]) -> Option<()> {
        let first = self.max_streams == 0;
        if first {
            self.max_streams = usize::MAX;
        }
        while !payload.is_empty() {
            let (name, value) = (payload.try_get_u16().ok()?, payload.try_get_u32().ok()?);
            match name {
                // Our five entries have some 400 bytes; a peer that has no room for them is told all of it each time.
                1 if value < 1024 && first => {
                    self.indexed = false;
                    let plain = std::mem::take(&mut self.block);
                    // The same literals, without indexing: of its four bits of prefix the name's number may need more.
                    self.block = hpack::without_indexing(&plain);
                }
                3 => self.max_streams = usize::try_from(value).unwrap_or(usize::MAX).max(1),
                4 => self.stream_window = value.into(),
                5 => self.peer_frame_max = usize::try_from(value).unwrap_or(FRAME_MAX_BYTES).max(FRAME_MAX_BYTES),
                _ => {}
            }
        }
        header(&mut self.out, 0, frame::SETTINGS, frame::ACK, 0);
        self.send_waiting();
        Some(())
    }

    fn go_away(&mut self, last: u32, code: u32) {
        let reason = format!("the target took leave (GOAWAY, error {code})");
        self.closed.get_or_insert_with(|| reason.clone());
        let unseen: Vec<_> = self.streams.keys().copied().filter(|id| *id > last).collect();
        for id in unseen {
            self.finish(id, Some(Refused::NotTaken(reason.clone())));
        }
        for waiting in self.waiting.drain(..) {
            let _ = waiting.answer.send(Err(Refused::NotTaken(reason.clone())));
        }
    }
}

/// Takes off padding; none where there is less than it says.
fn unpad(flags: u8, payload: &mut &[u8]) -> Option<()> {
    if flags & frame::PADDED != 0 {
        let padding = usize::from(payload.try_get_u8().ok()?);
        *payload = payload.get(..payload.len().checked_sub(padding)?)?;
    }
    Some(())
}

/// Moves bytes between a connection and its state.
struct Driver {
    client: Client,
    read: Box<[u8]>,
    /// How much of it is to be looked at.
    filled: usize,
    writing: Vec<u8>,
    written: usize,
    dirty: bool,
}

impl Driver {
    /// Ready with the reason when the connection has ended.
    fn poll<T: AsyncRead + AsyncWrite>(&mut self, mut io: Pin<&mut T>, context: &mut Context<'_>) -> Poll<String> {
        if let Poll::Ready(reason) = self.poll_read(io.as_mut(), context) {
            return Poll::Ready(reason);
        }
        loop {
            if self.written == self.writing.len() {
                self.writing.clear();
                self.written = 0;
                let mut state = self.client.state();
                std::mem::swap(&mut self.writing, &mut state.out);
                if self.writing.is_empty() {
                    state.driver = Some(context.waker().clone());
                    break;
                }
            }
            match io.as_mut().poll_write(context, &self.writing[self.written..]) {
                Poll::Ready(Ok(bytes)) if bytes > 0 => {
                    self.written += bytes;
                    self.dirty = true;
                }
                Poll::Ready(Ok(_)) => return Poll::Ready("connection closed".into()),
                Poll::Ready(Err(error)) => return Poll::Ready(format!("connection error: {}", error.kind())),
                Poll::Pending => return Poll::Pending,
            }
        }
        if self.dirty {
            match io.poll_flush(context) {
                Poll::Ready(Ok(())) => self.dirty = false,
                Poll::Ready(Err(error)) => return Poll::Ready(format!("connection error: {}", error.kind())),
                Poll::Pending => {}
            }
        }
        Poll::Pending
    }

    fn poll_read<T: AsyncRead>(&mut self, mut io: Pin<&mut T>, context: &mut Context<'_>) -> Poll<String> {
        loop {
            let mut buffer = ReadBuf::new(&mut self.read[self.filled..]);
            match io.as_mut().poll_read(context, &mut buffer) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(format!("connection error: {}", error.kind())),
                Poll::Ready(Ok(())) if buffer.filled().is_empty() => return Poll::Ready("connection closed before the answer".into()),
                Poll::Ready(Ok(())) => self.filled += buffer.filled().len(),
            }
            let mut state = self.client.state();
            let mut rest = &self.read[..self.filled];
            while let Some(([a, b, c, kind, flags, id @ ..], tail)) = rest.split_first_chunk::<9>() {
                let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
                if length > FRAME_MAX_BYTES {
                    return Poll::Ready("a frame that is larger than allowed: perhaps it is no HTTP/2".into());
                }
                let Some((payload, tail)) = tail.split_at_checked(length) else { break };
                if let Err(reason) = state.frame(*kind, *flags, u32::from_be_bytes(*id) & 0x7fff_ffff, payload) {
                    return Poll::Ready(reason);
                }
                rest = tail;
            }
            drop(state);
            // Less than a frame, so that there is always room.
            let left = rest.len();
            self.read.copy_within(self.filled - left..self.filled, 0);
            self.filled = left;
        }
    }
}
