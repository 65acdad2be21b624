//! Listening, accepting, serving, draining.
//!
//! [`serve`] takes connections until it is told to stop, and answers what it has taken: a request that has reached us is never dropped by a restart.
//! It knows nothing of what is served; a [`Handler`] is given each request and the [`Peer`] that sent it. Whatever a peer can do by being slow,
//! silent or many has a bound in [`Limits`].
//!
//! Left to others: what a panic in a request becomes (the handler's; here it would end that connection alone), and the size of a body.

mod batch;
mod connection;
mod connections;
mod listen;
mod meter;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::{Body, Incoming};
use hyper::{Request, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use self::connection::Connection;
use self::connections::Connections;
use self::listen::{Backoff, waiting};
pub use self::listen::{BindError, Sharing, bind, bind_for};
use super::tls::{Standing, Tls};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Peer {
    /// Address and port; IPv4 is IPv4, also on a listener of both families.
    pub address: SocketAddr,
    /// What its certificate says, if it was asked for one.
    pub standing: Standing,
}

impl Peer {
    fn new(address: SocketAddr) -> Self {
        Self { address: SocketAddr::new(address.ip().to_canonical(), address.port()), standing: Standing::Unasked }
    }

    /// Whether the peer is on this machine (for a pod: in this network namespace).
    #[must_use]
    pub const fn is_loopback(&self) -> bool {
        self.address.ip().is_loopback()
    }
}

/// Bounds on what a peer can make us hold or wait for.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long TLS may take, from the accept on. Default 10 s: a round trip or two, on a bad link.
    pub handshake: Duration,
    /// How long a connection may be open before its first request; and with HTTP/1.1, how long the head of any request may take, the pause before it
    /// included. Default 60 s: the reference's `ReadHeaderTimeout`.
    pub request_head: Duration,
    /// How often a silent HTTP/2 peer is asked whether it is there. Default 60 s.
    pub ping_interval: Duration,
    /// How long it may take to say so. Default 20 s.
    pub ping_timeout: Duration,
    /// How long requests may go on after the stop. Default 10 s: longer than our deadline for STS, less than the 30 s that Kubernetes waits before
    /// it kills.
    pub drain: Duration,
    /// How long, after the stop, a new connection may take for TLS, and then to send the request that it was made for. Default 1 s each.
    pub drain_first_request: Duration,
    /// Connections at once, those in the handshake included. Beyond it the one that has been idle longest is closed for the new one (first
    /// of those that never sent a request), and where none is idle the new one is. Default 8 192; whoever knows the memory limit sets less.
    pub max_connections: usize,
    /// Requests at once on one HTTP/2 connection. Default 1 024: an API server sends all of its questions over one.
    pub max_streams: u32,
    /// What a peer may send on one stream before we read it, in bytes. Default 64 KiB, HTTP/2's own.
    pub stream_window: u32,
    /// The same over all streams of a connection. Default 512 KiB: at two hundred TokenReviews of 2.5 kB the peer is still not held up.
    pub connection_window: u32,
    /// Largest request head, in bytes. Default 8 KiB, the least that hyper takes: an API server's has some 200. With HTTP/1.1 it is also what is read at
    /// once, and so what a connection that has asked something holds on to.
    pub max_head: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            request_head: Duration::from_secs(60),
            ping_interval: Duration::from_secs(60),
            ping_timeout: Duration::from_secs(20),
            drain: Duration::from_secs(10),
            drain_first_request: Duration::from_secs(1),
            max_connections: 8192,
            max_streams: 1024,
            stream_window: 64 << 10,
            connection_window: 512 << 10,
            max_head: 8 << 10,
        }
    }
}

/// Answers requests. Implemented by every async function from [`Peer`] and request to response.
pub trait Handler: Clone + Send + Sync + 'static {
    /// The body of an answer.
    type Body: Body<Data: Send, Error: Into<BoxError>> + Send + 'static;

    /// Answers one request. What comes of it is not boxed: it lives where hyper keeps its stream.
    fn handle(&self, peer: Peer, request: Request<Incoming>) -> impl Future<Output = Response<Self::Body>> + Send + use<Self>;
}

impl<F, R, B> Handler for F
where
    F: Fn(Peer, Request<Incoming>) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    type Body = B;

    fn handle(&self, peer: Peer, request: Request<Incoming>) -> impl Future<Output = Response<B>> + Send + use<F, R, B> {
        self(peer, request)
    }
}

/// Told of connections that found no place; a counter, as a rule.
pub trait Refusals: fmt::Debug + Send + Sync {
    /// A connection was closed at once because there were too many.
    fn connection_refused(&self);
}

impl Refusals for crate::metrics::Metrics {
    fn connection_refused(&self) {
        Self::connection_refused(self);
    }
}

/// How a [`serve`] ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Drained {
    /// Connections that were cut off because the deadline came before their answers.
    pub cut_off: usize,
}

/// Serves `handler` on `listener` until `shutdown` is ready, then drains: whoever has connected is still answered, whoever is idle is told to go.
///
/// Without `tls` the connections are plain HTTP/1.1.
pub async fn serve<H: Handler>(
    listener: TcpListener,
    tls: Option<Tls>,
    handler: H,
    limits: Limits,
    refusals: Arc<dyn Refusals>,
    shutdown: impl Future<Output = ()> + Send,
) -> Drained {
    let server = Server { tls: tls.map(Arc::new), handler, limits, connections: Arc::default(), stop: watch::Sender::new(false), refusals };
    let mut tasks = JoinSet::new();
    let mut backoff = Backoff::default();
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            biased;
            () = &mut shutdown => break,
            Some(ended) = tasks.join_next(), if !tasks.is_empty() => log_panic(ended),
            accepted = listener.accept() => match accepted {
                Ok((stream, address)) => {
                    backoff = Backoff::default();
                    server.begin(stream, address, &mut tasks);
                }
                Err(error) => if let Some(pause) = backoff.after(&error) {
                    tracing::warn!(%error, pauseMs = pause.as_millis(), "could not accept a connection");
                    tokio::select! {
                        () = &mut shutdown => break,
                        () = sleep(pause) => {}
                    }
                }
            },
        }
    }
    server.stop.send_replace(true);
    for (stream, address) in waiting(listener) {
        server.begin(stream, address, &mut tasks);
    }
    drain(tasks, limits.drain).await
}

async fn drain(mut tasks: JoinSet<()>, deadline: Duration) -> Drained {
    let all = async {
        while let Some(ended) = tasks.join_next().await {
            log_panic(ended);
        }
    };
    if timeout(deadline, all).await.is_ok() {
        return Drained { cut_off: 0 };
    }
    let cut_off = tasks.len();
    tasks.shutdown().await;
    Drained { cut_off }
}

fn log_panic(ended: Result<(), tokio::task::JoinError>) {
    // The panic's own text may quote the request, so it stays with the panic hook.
    if ended.is_err_and(|error| error.is_panic()) {
        tracing::error!("a connection ended in a panic");
    }
}

struct Server<H> {
    tls: Option<Arc<Tls>>,
    handler: H,
    limits: Limits,
    connections: Arc<Connections>,
    stop: watch::Sender<bool>,
    refusals: Arc<dyn Refusals>,
}

impl<H: Handler> Server<H> {
    /// Starts the task of a new connection, if there is a place for it.
    fn begin(&self, stream: TcpStream, address: SocketAddr, tasks: &mut JoinSet<()>) {
        let Some(place) = self.connections.take_place(self.limits.max_connections) else {
            self.refusals.connection_refused();
            return;
        };
        let connection = Connection {
            peer: Peer::new(address),
            tls: self.tls.clone(),
            handler: self.handler.clone(),
            limits: self.limits,
            place: Arc::new(place),
            stop: self.stop.subscribe(),
        };
        tasks.spawn(connection.run(stream));
    }
}
