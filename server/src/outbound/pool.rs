//! Connections to one host, kept for the next question.
//!
//! Whoever asks drives his connection himself: request, TLS and answer are one task, and nobody has to be woken in between. hyper-util's pooled client has a task for
//! each connection, and a hop to it and back for each question. What follows from it is that nobody sees to a connection while it is kept: whether the peer has
//! closed it is looked at when it is wanted again, and what is not wanted for [`IDLE`] is closed by one task for all.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response};
use tokio::time::{Instant, sleep_until};

use super::connector::{ConnectError, Connector, PooledStream};

/// Longest head of an answer, in bytes; STS and EC2 send some 300 to 400.
const HEAD_MAX_BYTES: usize = 16 * 1024;

/// How long a connection is kept without a request. STS and EC2 have to be asked again within minutes where clients come at all, and
/// gateways on the way (NAT, load balancers) forget what is silent for longer.
pub(crate) const IDLE: Duration = Duration::from_secs(50);

/// Connections to one host.
pub(crate) struct Pool {
    name: Box<str>,
    connector: Connector,
    /// How many are kept.
    most: usize,
    idle: Mutex<Idle>,
}

#[derive(Default)]
struct Idle {
    /// The last one to come back is the first to go out, so that as few as possible are kept.
    links: Vec<(Instant, Box<Link>)>,
    /// Whether a task closes those that nobody wants.
    is_swept: bool,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum NoAnswer {
    /// There was no connection.
    Connect(ConnectError),
    /// It was lost, or what came is no HTTP.
    Http(hyper::Error),
}

/// Why a body was not read to its end.
#[derive(Debug)]
pub(crate) enum Broken {
    /// The connection was lost.
    Http(hyper::Error),
    /// It is longer than is read.
    TooLarge,
}

impl Pool {
    /// No connection yet to the host of that name; `most` are kept.
    pub(crate) fn new(name: &str, connector: Connector, most: usize) -> Self {
        Self { name: name.into(), connector, most, idle: Mutex::default() }
    }

    /// The host's name.
    pub(crate) fn host(&self) -> &str {
        &self.name
    }

    /// Connections that are there, kept or in use.
    pub(crate) fn open(&self) -> usize {
        self.connector.open()
    }

    /// Closes what is kept.
    pub(crate) fn hang_up(&self) {
        let kept = std::mem::take(&mut self.lock().links);
        drop(kept);
    }

    /// Sends a request, and waits for the head of its answer.
    pub(crate) async fn ask(self: &Arc<Self>, request: impl Fn() -> Request<Full<Bytes>>) -> Result<Answer, NoAnswer> {
        while let Some(mut link) = self.take() {
            match link.ask(request()).await {
                Ok(response) => return Ok(Answer::new(self, link, response)),
                // The peer has closed it while it was kept: nothing of the request has left.
                Err(error) if error.is_canceled() => {}
                Err(error) => return Err(NoAnswer::Http(error)),
            }
        }
        let mut link = Box::pin(Link::connect(&self.connector, &self.name)).await?;
        match link.ask(request()).await {
            Ok(response) => Ok(Answer::new(self, link, response)),
            Err(error) => Err(NoAnswer::Http(error)),
        }
    }

    /// A connection that is kept. Whether the peer has closed it meanwhile shows when it is asked.
    fn take(&self) -> Option<Box<Link>> {
        self.lock().links.pop().map(|(_, link)| link)
    }

    /// Keeps a connection.
    fn keep(self: &Arc<Self>, link: Box<Link>) {
        let mut idle = self.lock();
        if idle.links.len() < self.most {
            idle.links.push((Instant::now(), link));
            if !std::mem::replace(&mut idle.is_swept, true) {
                tokio::spawn(Self::sweep(Arc::downgrade(self)));
            }
        }
    }

    /// Closes what nobody wants, until nothing is kept.
    async fn sweep(pool: Weak<Self>) {
        let mut next = Instant::now() + IDLE;
        loop {
            sleep_until(next).await;
            let Some(pool) = pool.upgrade() else { return };
            let mut idle = pool.lock();
            let now = Instant::now();
            // Those that have been here for the longest time come first.
            let stale = idle.links.partition_point(|(since, _)| now.duration_since(*since) >= IDLE);
            let closed: Vec<_> = idle.links.drain(..stale).collect();
            match idle.links.first() {
                Some((since, _)) => next = *since + IDLE,
                None => {
                    *idle = Idle::default();
                    return;
                }
            }
            drop(idle);
            drop(closed);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Idle> {
        // Nothing under it panics half-way.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An answer of which the head is there.
pub(crate) struct Answer {
    pool: Arc<Pool>,
    /// None once it is kept.
    link: Option<Box<Link>>,
    response: Response<Incoming>,
}

impl Answer {
    fn new(pool: &Arc<Pool>, link: Box<Link>, response: Response<Incoming>) -> Self {
        Self { pool: Arc::clone(pool), link: Some(link), response }
    }

    /// The head.
    pub(crate) fn head(&mut self) -> &mut Response<Incoming> {
        &mut self.response
    }

    /// The next piece of the body. At its end there is none, and the connection is kept; else it is closed.
    pub(crate) async fn next(&mut self) -> Option<hyper::Result<Bytes>> {
        let link = self.link.as_mut()?;
        while let Some(frame) = link.drive(self.response.frame()).await {
            match frame.map(|frame| frame.into_data().ok()) {
                Ok(Some(data)) => return Some(Ok(data)),
                Ok(None) => {}
                Err(error) => return Some(Err(error)),
            }
        }
        if let Some(link) = self.link.take_if(|link| link.is_ready()) {
            self.pool.keep(link);
        }
        None
    }

    /// Reads the body, of so many bytes at most.
    pub(crate) async fn read(&mut self, max_bytes: usize) -> Result<Bytes, Broken> {
        let mut read = Bytes::new();
        while let Some(data) = self.next().await {
            let data = data.map_err(Broken::Http)?;
            if read.len() + data.len() > max_bytes {
                return Err(Broken::TooLarge);
            }
            // Most are one piece.
            read = if read.is_empty() { data } else { BytesMut::from_iter(read.iter().chain(&data)).freeze() };
        }
        Ok(read)
    }
}

/// One connection.
struct Link {
    requests: SendRequest<Full<Bytes>>,
    driver: http1::Connection<PooledStream, Full<Bytes>>,
    has_ended: bool,
}

impl Link {
    async fn connect(connector: &Connector, host: &str) -> Result<Box<Self>, NoAnswer> {
        let wire = connector.connect(host).await.map_err(NoAnswer::Connect)?;
        let (requests, driver) = http1::Builder::new().max_buf_size(HEAD_MAX_BYTES).handshake(wire).await.map_err(NoAnswer::Http)?;
        Ok(Box::new(Self { requests, driver, has_ended: false }))
    }

    /// Sends a request now; what is given waits for the answer.
    fn ask(&mut self, request: Request<Full<Bytes>>) -> impl Future<Output = hyper::Result<Response<Incoming>>> + Send {
        let answer = Box::pin(self.requests.send_request(request));
        self.drive(answer)
    }

    /// Waits for what the connection brings about.
    fn drive<F: Future + Unpin>(&mut self, mut what: F) -> impl Future<Output = F::Output> {
        std::future::poll_fn(move |context| {
            if let Poll::Ready(done) = Pin::new(&mut what).poll(context) {
                return Poll::Ready(done);
            }
            self.poll(context);
            Pin::new(&mut what).poll(context)
        })
    }

    /// Moves the connection on. How it ended is told to whoever waits for something of it.
    fn poll(&mut self, context: &mut Context<'_>) {
        self.has_ended = self.has_ended || Pin::new(&mut self.driver).poll(context).is_ready();
    }

    /// Whether it takes a request, as far as can be seen from here.
    fn is_ready(&mut self) -> bool {
        self.poll(&mut Context::from_waker(Waker::noop()));
        !self.has_ended && self.requests.is_ready()
    }
}
