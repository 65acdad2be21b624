//! Answers of HTTP/2 leave together: one TLS record and one system call for all that became ready while the connection was looked at once.
//!
//! h2 flushes after every frame of data, which for answers of less than a kilobyte makes a record, a `write` and a wake-up of the peer for each; with sixty-four
//! requests under way that is a third of what a request costs. [`Held`] takes what is written and keeps it; [`Batched`] looks at the connection and then lets all of it
//! go. Nothing waits for what is not there yet: whoever is alone is sent at once.
//!
//! For that, answers have to be there when the connection has been looked at. Those that need not wait are: [`AtOnce`] gives each request one chance to be answered where it is
//! read, and makes a task only of one that has to wait. Those that had to wait come one by one, each from a task of its own, and tokio runs the connection right after
//! each of them; so these are held until all tasks that are ready now have had their turn ([`Later`]).

use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker, ready};

use futures_util::task::AtomicWaker;
use hyper::rt::Executor;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is held at most, in bytes: as much as a TLS record takes (RFC 8446, section 5.1).
const HELD_MAX_BYTES: usize = 16 << 10;

/// Room that is kept from one time to the next, in bytes; a silent connection should cost little.
const KEPT_BYTES: usize = 4 << 10;

/// Runs what can be run to its end at once, and makes a task of what has to wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct AtOnce;

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for AtOnce {
    fn execute(&self, future: F) {
        let mut future = Box::pin(future);
        // Nobody need be woken: what is not ready is polled again, with a waker, by the task that it becomes.
        if future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            tokio::spawn(future);
        }
    }
}

#[derive(Debug)]
struct Inner<S> {
    stream: S,
    /// What was written and has not left; `sent` of it has.
    held: Vec<u8>,
    sent: usize,
    /// Whether something was read since it was asked last.
    has_read: bool,
}

impl<S: AsyncWrite + Unpin> Inner<S> {
    /// Takes as much as there is room for.
    fn take(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(HELD_MAX_BYTES.saturating_sub(self.held.len()));
        self.held.extend_from_slice(bytes.get(..taken).unwrap_or_default());
        taken
    }

    /// Lets all of it go.
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.held.is_empty() {
            return Poll::Ready(Ok(()));
        }
        while let Some(rest) = self.held.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match ready!(Pin::new(&mut self.stream).poll_write(context, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.sent += written,
            }
        }
        ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        self.sent = 0;
        self.held.clear();
        if self.held.capacity() > KEPT_BYTES {
            self.held = Vec::new();
        }
        Poll::Ready(Ok(()))
    }
}

/// A stream that keeps what is written to it until its [`Batched`] lets it go.
#[derive(Debug)]
pub(super) struct Held<S>(Arc<Mutex<Inner<S>>>);

impl<S> Held<S> {
    fn lock(&self) -> MutexGuard<'_, Inner<S>> {
        // One task has both ends, so nobody ever waits here; a panic in the stream ends the connection with it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Held<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let filled = buffer.filled().len();
        let mut inner = self.lock();
        let polled = Pin::new(&mut inner.stream).poll_read(context, buffer);
        inner.has_read |= buffer.filled().len() > filled;
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Held<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(self: Pin<&mut Self>, context: &mut Context<'_>, pieces: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let mut inner = self.lock();
        if inner.held.len() >= HELD_MAX_BYTES {
            ready!(inner.poll_send(context))?;
        }
        Poll::Ready(Ok(pieces.iter().map(|piece| inner.take(piece)).sum()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Not yet.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.lock();
        ready!(inner.poll_send(context))?;
        Pin::new(&mut inner.stream).poll_shutdown(context)
    }
}

/// Wakes a task once those that are ready before it have had their turn.
#[derive(Debug, Default)]
struct Later {
    is_due: AtomicBool,
    task: AtomicWaker,
}

impl Later {
    /// Has the task of `context` woken, by the end of this round of the scheduler.
    fn ask(self: &Arc<Self>, context: &Context<'_>) {
        self.task.register(context.waker());
        let waker = Waker::from(Arc::clone(self));
        // It yields when it is polled for the first time: tokio keeps the waker until it has nothing else to run, or has run for a while.
        let _ = pin!(tokio::task::yield_now()).poll(&mut Context::from_waker(&waker));
    }
}

impl Wake for Later {
    fn wake(self: Arc<Self>) {
        self.is_due.store(true, Ordering::Release);
        self.task.wake();
    }
}

/// A connection over a [`Held`] stream: whenever it has been looked at, what it has written leaves.
#[derive(Debug)]
pub(super) struct Batched<C, S> {
    connection: Pin<Box<C>>,
    held: Held<S>,
    later: Arc<Later>,
    /// Whether it is to be woken later.
    is_asked: bool,
}

impl<C, S> Batched<C, S> {
    /// Makes a connection of a stream.
    pub(super) fn new(stream: S, connect: impl FnOnce(Held<S>) -> C) -> Self {
        let inner = Arc::new(Mutex::new(Inner { stream, held: Vec::new(), sent: 0, has_read: false }));
        Self { connection: Box::pin(connect(Held(Arc::clone(&inner)))), held: Held(inner), later: Arc::default(), is_asked: false }
    }

    /// The connection.
    pub(super) fn connection(&mut self) -> Pin<&mut C> {
        self.connection.as_mut()
    }
}

impl<C: Future, S: AsyncWrite + Unpin> Future for Batched<C, S> {
    type Output = C::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<C::Output> {
        let this = &mut *self;
        let polled = this.connection.as_mut().poll(context);
        let is_due = this.later.is_due.swap(false, Ordering::Acquire);
        this.is_asked &= !is_due;
        let mut inner = this.held.lock();
        let has_read = std::mem::take(&mut inner.has_read);
        if inner.held.is_empty() {
            return polled;
        }
        if has_read || is_due || polled.is_ready() {
            // Where the peer is slow to read, this task is woken once he has read; where he is gone, the connection learns it with what it reads or writes next.
            let _ = inner.poll_send(context);
        } else if !std::mem::replace(&mut this.is_asked, true) {
            this.later.ask(context);
        } else {
            this.later.task.register(context.waker());
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    /// Counts how often it is written to.
    #[derive(Debug)]
    struct Counted<S>(S, Arc<Mutex<Vec<usize>>>);

    impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
        fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            let written = ready!(Pin::new(&mut self.0).poll_write(context, bytes))?;
            self.1.lock().unwrap().push(written);
            Poll::Ready(Ok(written))
        }

        fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_flush(context)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_shutdown(context)
        }
    }

    impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
        fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_read(context, buffer)
        }
    }

    #[tokio::test]
    async fn what_is_written_in_one_look_leaves_in_one_piece_and_at_once() {
        let (near, mut far) = duplex(1 << 20);
        let writes: Arc<Mutex<Vec<usize>>> = Arc::default();
        let connection = Batched::new(Counted(near, Arc::clone(&writes)), |mut held| async move {
            held.read_u8().await.unwrap();
            for _ in 0..5 {
                held.write_all(&[b'a'; 700]).await.unwrap();
                held.flush().await.unwrap();
            }
            tokio::task::yield_now().await;
            held.write_all(b"z").await.unwrap();
            std::future::pending::<()>().await;
        });
        let connection = tokio::spawn(connection);
        far.write_u8(b'?').await.unwrap();
        let mut read = vec![0; 3501];
        far.read_exact(&mut read).await.unwrap();
        assert_eq!(*writes.lock().unwrap(), [3500, 1]);
        connection.abort();
    }

    #[tokio::test]
    async fn what_need_not_wait_is_done_at_once_and_all_else_later() {
        let (now, later) = (Arc::new(Mutex::new(false)), tokio::sync::oneshot::channel());
        let (told, gate) = (Arc::clone(&now), tokio::sync::oneshot::channel::<()>());
        AtOnce.execute(async move { *told.lock().unwrap() = true });
        assert!(*now.lock().unwrap());
        AtOnce.execute(async move {
            gate.1.await.unwrap();
            later.0.send(()).unwrap();
        });
        gate.0.send(()).unwrap();
        later.1.await.unwrap();
    }

    #[tokio::test]
    async fn answers_of_tasks_that_are_ready_together_leave_together() {
        let (near, mut far) = duplex(1 << 20);
        let writes: Arc<Mutex<Vec<usize>>> = Arc::default();
        let (answers, mut answered) = tokio::sync::mpsc::unbounded_channel::<u8>();
        let connection = Batched::new(Counted(near, Arc::clone(&writes)), |mut held| async move {
            while let Some(answer) = answered.recv().await {
                held.write_all(&[answer; 100]).await.unwrap();
                held.flush().await.unwrap();
            }
        });
        let connection = tokio::spawn(connection);
        tokio::task::yield_now().await;
        for round in 0..3 {
            for task in 0..5 {
                let answers = answers.clone();
                tokio::spawn(async move { answers.send(round * 5 + task).unwrap() });
            }
            let mut read = [0; 500];
            far.read_exact(&mut read).await.unwrap();
            assert!(read.iter().all(|byte| (round * 5..round * 5 + 5).contains(byte)));
        }
        assert_eq!(*writes.lock().unwrap(), [500, 500, 500]);
        drop(answers);
        connection.await.unwrap();
    }

    #[tokio::test]
    async fn nothing_is_lost_where_the_peer_reads_slowly_and_the_end_is_sent() {
        const LENGTH: usize = 300_000;
        let (near, mut far) = duplex(1000);
        let connection = Batched::new(near, |mut held| async move {
            for number in 0..LENGTH {
                held.write_all(&[number.to_le_bytes()[0]]).await.unwrap();
            }
            held.shutdown().await.unwrap();
        });
        let connection = tokio::spawn(connection);
        let mut read = Vec::new();
        far.read_to_end(&mut read).await.unwrap();
        assert!(read.len() == LENGTH && read.iter().enumerate().all(|(number, byte)| number.to_le_bytes()[0] == *byte));
        connection.await.unwrap();
    }

    #[tokio::test]
    async fn little_is_kept_between_two_batches() {
        let (near, mut far) = duplex(1 << 20);
        let mut inner = Inner { stream: near, held: Vec::new(), sent: 0, has_read: false };
        inner.take(&[0; HELD_MAX_BYTES]);
        assert_eq!(inner.take(b"more"), 0, "no more than a record");
        poll_fn(|context| inner.poll_send(context)).await.unwrap();
        assert_eq!(inner.held.capacity(), 0);
        far.read_exact(&mut [0; HELD_MAX_BYTES]).await.unwrap();
    }
}
