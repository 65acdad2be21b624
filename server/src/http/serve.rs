//! Listening, accepting, serving, draining.
//!
//! [`serve`] takes connections until it is told to stop, and answers what it has taken: a request that has reached us is never dropped by a restart.
//! It knows nothing of what is served; a [`Handler`] is given each request and the [`Peer`] that sent it. Whatever a peer can do by being slow,
//! silent or many has a bound in [`Limits`].
//!
//! Left to others: what a panic in a request becomes (the handler's; here it would end that connection alone), and the size of a body.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::body::{Body, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Peer {
    /// Address and port; IPv4 is IPv4, also on a listener of both families.
    pub address: SocketAddr,
}

impl Peer {
    fn new(address: SocketAddr) -> Self {
        Self { address: SocketAddr::new(address.ip().to_canonical(), address.port()) }
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
    /// Largest request head, in bytes. Default 16 KiB: an API server's has some 200.
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
            max_head: 16 << 10,
        }
    }
}

/// Answers requests. Implemented by every async function from [`Peer`] and request to response.
pub trait Handler: Clone + Send + Sync + 'static {
    /// The body of an answer.
    type Body: Body<Data: Send, Error: Into<BoxError>> + Send + 'static;

    /// What becomes the answer.
    type Answer: Future<Output = Response<Self::Body>> + Send + 'static;

    /// Answers one request.
    fn handle(&self, peer: Peer, request: Request<Incoming>) -> Self::Answer;
}

impl<F, R, B> Handler for F
where
    F: Fn(Peer, Request<Incoming>) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    type Body = B;
    type Answer = R;

    fn handle(&self, peer: Peer, request: Request<Incoming>) -> R {
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

/// An address that could not be listened on.
#[derive(Debug, Error)]
#[error("could not listen on {address}: {why}")]
pub struct BindError {
    address: String,
    why: String,
    kind: io::ErrorKind,
}

impl BindError {
    fn new(address: &str, port: u16, error: &io::Error) -> Self {
        let why = match error.kind() {
            io::ErrorKind::AddrInUse => "another process listens there".to_owned(),
            io::ErrorKind::AddrNotAvailable => "this machine has no such address".to_owned(),
            io::ErrorKind::PermissionDenied if port < 1024 => "not permitted (ports below 1024 need CAP_NET_BIND_SERVICE)".to_owned(),
            _ => error.to_string(),
        };
        Self { address: join_host_port(address, port), why, kind: error.kind() }
    }

    /// The kind of the system's error.
    #[must_use]
    pub const fn kind(&self) -> io::ErrorKind {
        self.kind
    }
}

/// upstream: `net.JoinHostPort`, for messages.
fn join_host_port(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Listens on `address`, an IP literal or a name that resolves to one; empty for all interfaces, of both families. Port 0 takes a free one.
///
/// # Errors
///
/// [`BindError`], with address, port and cause.
pub async fn bind(address: &str, port: u16) -> Result<TcpListener, BindError> {
    let failed = |error: &io::Error| BindError::new(address, port, error);
    if address.is_empty() {
        let both = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        return match listen(both) {
            // A kernel without IPv6 says so when it is asked for a socket, or for the address.
            Err(error) if !matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied) => {
                listen(SocketAddr::from(([0, 0, 0, 0], port))).map_err(|error| failed(&error))
            }
            other => other.map_err(|error| failed(&error)),
        };
    }
    if let Ok(ip) = address.parse::<IpAddr>() {
        return listen(SocketAddr::new(ip, port)).map_err(|error| failed(&error));
    }
    let mut resolved = tokio::net::lookup_host((address, port)).await.map_err(|error| failed(&error))?;
    // As Go: IPv4 before IPv6, and one of them only.
    let first = resolved.next().ok_or_else(|| failed(&io::Error::other("the name has no address")))?;
    let chosen = if first.is_ipv4() { first } else { resolved.find(SocketAddr::is_ipv4).unwrap_or(first) };
    listen(chosen).map_err(|error| failed(&error))
}

/// Connections that the kernel may hold for us until we accept them. It takes less where `net.core.somaxconn` says so (4 096 by default).
const BACKLOG: i32 = 4096;

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // `::` takes both families, whatever net.ipv6.bindv6only says, as in Go.
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    // A restart must not wait for the last connections of the process before it to time out.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket.into())
}

/// Serves `handler` on `listener` until `shutdown` is ready, then drains: whoever has connected is still answered, whoever is idle is told to go.
///
/// Without `tls` the connections are plain HTTP/1.1.
pub async fn serve<H: Handler>(
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    handler: H,
    limits: Limits,
    refusals: Arc<dyn Refusals>,
    shutdown: impl Future<Output = ()> + Send,
) -> Drained {
    let server =
        Server { tls: tls.map(TlsAcceptor::from), handler, limits, connections: Arc::default(), stop: watch::Sender::new(false), refusals };
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

/// Closes the listener and gives those whom the kernel has accepted for us already: they would be reset with it, their requests unanswered.
///
/// The system is asked itself, for the runtime may not know of the latest yet.
fn waiting(listener: TcpListener) -> Vec<(TcpStream, SocketAddr)> {
    let Ok(listener) = listener.into_std() else { return Vec::new() };
    let mut waiting = Vec::new();
    for _ in 0..BACKLOG {
        match listener.accept() {
            Ok((stream, address)) => {
                let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
                waiting.extend(stream.ok().map(|stream| (stream, address)));
            }
            Err(error) if Backoff::default().after(&error).is_none() => {}
            Err(_) => break,
        }
    }
    waiting
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

/// How long to wait after an accept that failed.
///
/// upstream: net/http's `Server.Serve`: 5 ms, doubled to 1 s.
#[derive(Debug, Default)]
struct Backoff {
    last: Option<Duration>,
}

impl Backoff {
    /// `None`: go on at once, the fault was that connection's alone.
    fn after(&mut self, error: &io::Error) -> Option<Duration> {
        use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
        if matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted) {
            return None;
        }
        // Out of descriptors or memory: others must give some back first, and we would only burn the processor until they do.
        let pause = self.last.map_or(Duration::from_millis(5), |last| (last * 2).min(Duration::from_secs(1)));
        self.last = Some(pause);
        Some(pause)
    }
}

struct Server<H> {
    tls: Option<TlsAcceptor>,
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

/// Who is connected, so that the one that is idle longest can be found.
#[derive(Debug, Default)]
struct Connections {
    activities: Mutex<Vec<Arc<Activity>>>,
    /// Goes up by one with everything that happens: who was last active at the smallest turn is idle longest. The order is all that matters, and no clock
    /// is read for each request.
    turn: AtomicU64,
}

/// What one connection does, as others see it.
#[derive(Debug)]
struct Activity {
    /// Requests without an answer so far.
    in_flight: AtomicU32,
    /// The turn of the last request's end, or else of the connection's begin.
    last_turn: AtomicU64,
    /// A request has come.
    asked: AtomicBool,
    first_request: Notify,
    /// Set when it must make room.
    evicted: AtomicBool,
    evict: Notify,
}

/// A connection's entry; gone with the connection.
#[derive(Debug)]
struct Place {
    connections: Arc<Connections>,
    activity: Arc<Activity>,
}

impl Connections {
    /// `None`: full, and nobody is idle.
    fn take_place(self: &Arc<Self>, max: usize) -> Option<Place> {
        let mut activities = self.activities.lock().unwrap_or_else(PoisonError::into_inner);
        if activities.len() >= max {
            // Those who were told to go have until the end of their last answer, but while they stay no more than as many again may come in.
            if activities.len() >= max.saturating_mul(2) {
                return None;
            }
            let leaving = activities.iter().filter(|activity| activity.evicted.load(Ordering::Relaxed)).count();
            if activities.len() - leaving >= max {
                let idle = activities.iter().filter(|activity| activity.is_idle());
                // Whoever never asked anything goes before whoever did: a crowd of silent connections must not push the API server's out.
                let longest =
                    idle.min_by_key(|activity| (activity.asked.load(Ordering::Relaxed), activity.last_turn.load(Ordering::Relaxed)))?;
                longest.evicted.store(true, Ordering::Relaxed);
                longest.evict.notify_one();
            }
        }
        let activity = Arc::new(Activity {
            in_flight: AtomicU32::new(0),
            last_turn: AtomicU64::new(self.next_turn()),
            asked: AtomicBool::new(false),
            first_request: Notify::new(),
            evicted: AtomicBool::new(false),
            evict: Notify::new(),
        });
        activities.push(Arc::clone(&activity));
        Some(Place { connections: Arc::clone(self), activity })
    }

    fn next_turn(&self) -> u64 {
        self.turn.fetch_add(1, Ordering::Relaxed)
    }
}

impl Activity {
    fn is_idle(&self) -> bool {
        self.in_flight.load(Ordering::Relaxed) == 0 && !self.evicted.load(Ordering::Relaxed)
    }
}

impl Place {
    fn begin_request(self: &Arc<Self>) -> InFlight {
        let activity = &self.activity;
        activity.in_flight.fetch_add(1, Ordering::Relaxed);
        if !activity.asked.swap(true, Ordering::Relaxed) {
            activity.first_request.notify_one();
        }
        InFlight(Arc::clone(self))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut activities = self.connections.activities.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = activities.iter().position(|activity| Arc::ptr_eq(activity, &self.activity)) {
            activities.swap_remove(index);
        }
    }
}

/// A request on its way; ends also when its caller hangs up.
struct InFlight(Arc<Place>);

impl Drop for InFlight {
    fn drop(&mut self) {
        let Place { connections, activity } = &*self.0;
        activity.last_turn.store(connections.next_turn(), Ordering::Relaxed);
        activity.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One connection, from the accept to its end.
struct Connection<H> {
    peer: Peer,
    tls: Option<TlsAcceptor>,
    handler: H,
    limits: Limits,
    place: Arc<Place>,
    stop: watch::Receiver<bool>,
}

impl<H: Handler> Connection<H> {
    async fn run(self, stream: TcpStream) {
        // Answers are small and must not wait for more.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(client = %self.peer.address, %error, "connection was gone at once");
            return;
        }
        let Some(acceptor) = self.tls.clone() else { return self.speak(stream, false).await };
        let mut stop = self.stop.clone();
        let too_late = async {
            // A sender that is gone says the same.
            let _ = stop.wait_for(|stop| *stop).await;
            sleep(self.limits.drain_first_request).await;
        };
        let handshake = tokio::select! {
            handshake = timeout(self.limits.handshake, acceptor.accept(stream)) => handshake,
            () = self.place.activity.evict.notified() => return,
            () = too_late => return tracing::debug!(client = %self.peer.address, "TLS handshake was not done in time before the end"),
        };
        match handshake {
            Ok(Ok(stream)) => {
                // Both sides know from the handshake what they speak, so nobody can keep us guessing.
                let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                self.speak(stream, h2).await;
            }
            Ok(Err(error)) => tracing::debug!(client = %self.peer.address, %error, "TLS handshake failed"),
            Err(_) => tracing::debug!(client = %self.peer.address, "TLS handshake took too long"),
        }
    }

    async fn speak(mut self, stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, h2: bool) {
        let builder = self.builder(h2);
        let (peer, handler, place) = (self.peer, self.handler.clone(), Arc::clone(&self.place));
        let service = service_fn(move |request| {
            let in_flight = place.begin_request();
            let answer = handler.handle(peer, request);
            async move {
                let answer = answer.await;
                drop(in_flight);
                Ok::<_, std::convert::Infallible>(answer)
            }
        });
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
        let activity = &self.place.activity;

        // Until the first request: a connection that was made was made for one, so a stop does not end it yet, but it may not take for ever.
        let mut allowed = pin!(sleep(self.limits.request_head));
        let mut stopping = *self.stop.borrow_and_update();
        let mut grace = pin!(sleep(self.limits.drain_first_request));
        let mut closing = loop {
            tokio::select! {
                ended = connection.as_mut() => return self.log_end(ended),
                () = activity.first_request.notified() => break stopping,
                () = allowed.as_mut() => return tracing::debug!(client = %self.peer.address, "connection without a request"),
                () = activity.evict.notified() => break true,
                () = grace.as_mut(), if stopping => break true,
                _ = self.stop.changed(), if !stopping => {
                    stopping = true;
                    grace.as_mut().reset(tokio::time::Instant::now() + self.limits.drain_first_request);
                }
            }
        };
        while !closing {
            tokio::select! {
                ended = connection.as_mut() => return self.log_end(ended),
                () = activity.evict.notified() => closing = true,
                _ = self.stop.changed() => closing = true,
            }
        }
        connection.as_mut().graceful_shutdown();
        // A peer that never spoke does not take leave either: HTTP/2 would wait for its greeting.
        if !activity.asked.load(Ordering::Relaxed) {
            match timeout(self.limits.drain_first_request, connection.as_mut()).await {
                Ok(ended) => return self.log_end(ended),
                Err(_) if activity.asked.load(Ordering::Relaxed) => {}
                Err(_) => return tracing::debug!(client = %self.peer.address, "connection without a request"),
            }
        }
        // What is under way is answered, then the connection ends. A peer that does not read its answers is cut off: here if it had to make room, after a
        // stop by `drain`, which counts it.
        if activity.evicted.load(Ordering::Relaxed) {
            match timeout(self.limits.drain, connection).await {
                Ok(ended) => self.log_end(ended),
                Err(_) => tracing::debug!(client = %self.peer.address, "connection did not end in time"),
            }
        } else {
            let ended = connection.await;
            self.log_end(ended);
        }
    }

    fn builder(&self, h2: bool) -> auto::Builder<TokioExecutor> {
        let limits = &self.limits;
        let mut builder = auto::Builder::new(TokioExecutor::new());
        if h2 {
            builder
                .http2()
                .timer(TokioTimer::new())
                .keep_alive_interval(limits.ping_interval)
                .keep_alive_timeout(limits.ping_timeout)
                .max_concurrent_streams(limits.max_streams)
                .initial_stream_window_size(limits.stream_window)
                .initial_connection_window_size(limits.connection_window)
                .max_header_list_size(limits.max_head)
                // An answer has one or two kB; the default of 400 kB a stream is for downloads.
                .max_send_buf_size(64 << 10);
            builder.http2_only()
        } else {
            let head = usize::try_from(limits.max_head).unwrap_or(usize::MAX);
            // hyper wants at least 8 KiB.
            builder.http1().timer(TokioTimer::new()).header_read_timeout(limits.request_head).max_buf_size(head.max(8 << 10));
            builder.http1_only()
        }
    }

    fn log_end(&self, ended: Result<(), BoxError>) {
        // Every way a peer can hang up comes here, so it is nothing to warn about.
        if let Err(error) = ended {
            tracing::debug!(client = %self.peer.address, %error, "connection failed");
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::{BodyExt as _, Empty, Full};
    use hyper::client::conn::{http1, http2};
    use rustls::pki_types::ServerName;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::sync::oneshot;
    use tokio::task::JoinHandle;

    use super::*;
    use crate::http::tls::tests::{client_config, server_config};
    use crate::metrics::Metrics;

    /// A server on loopback that can be stopped.
    struct Running {
        address: SocketAddr,
        metrics: Arc<Metrics>,
        stop: Option<oneshot::Sender<()>>,
        ended: JoinHandle<Drained>,
    }

    async fn start(tls: bool, limits: Limits, handler: impl Handler) -> Running {
        start_on(bind("127.0.0.1", 0).await.unwrap(), tls, limits, handler)
    }

    fn start_on(listener: TcpListener, tls: bool, limits: Limits, handler: impl Handler) -> Running {
        let address = listener.local_addr().unwrap();
        let metrics = Arc::new(Metrics::new());
        let refusals = Arc::clone(&metrics) as Arc<dyn Refusals>;
        let (stop, stopped) = oneshot::channel();
        let tls = tls.then(server_config);
        let ended =
            tokio::spawn(async move { serve(listener, tls, handler, limits, refusals, async { stopped.await.unwrap_or_default() }).await });
        Running { address, metrics, stop: Some(stop), ended }
    }

    impl Running {
        fn stop(&mut self) {
            self.stop.take().unwrap().send(()).unwrap();
        }

        async fn connect(&self) -> TcpStream {
            TcpStream::connect(self.address).await.unwrap()
        }

        async fn connect_tls(&self, protocol: &str) -> tokio_rustls::client::TlsStream<TcpStream> {
            let connector = tokio_rustls::TlsConnector::from(client_config(protocol));
            connector.connect(ServerName::try_from("localhost").unwrap(), self.connect().await).await.unwrap()
        }
    }

    /// Says who asked for what, and over what.
    async fn echo(peer: Peer, request: Request<Incoming>) -> Response<Full<Bytes>> {
        Response::new(Full::from(format!("{} {:?} {}", peer.address, request.version(), request.uri().path())))
    }

    fn request(path: &str) -> Request<Empty<Bytes>> {
        Request::get(format!("https://localhost{path}")).header("host", "localhost").body(Empty::new()).unwrap()
    }

    async fn text(response: Response<Incoming>) -> String {
        String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    /// Sends a request over HTTP/1.1 as text, and gives all that comes until the end.
    async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> String {
        stream.write_all(b"GET /late HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// Waits until the other side closes; what it said before.
    async fn until_closed(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
        let mut rest = Vec::new();
        // A reset is a close too.
        let _ = stream.read_to_end(&mut rest).await;
        rest
    }

    #[tokio::test]
    async fn answers_over_h2_and_over_http_1_and_tells_who_asked() {
        let server = start(true, Limits::default(), echo).await;

        let stream = server.connect_tls("h2").await;
        let us = stream.get_ref().0.local_addr().unwrap();
        let (mut client, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        for path in ["/a", "/b"] {
            let answer = client.send_request(request(path)).await.unwrap();
            assert_eq!(text(answer).await, format!("{us} HTTP/2.0 {path}"));
        }

        let stream = server.connect_tls("http/1.1").await;
        let us = stream.get_ref().0.local_addr().unwrap();
        let (mut client, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        for path in ["/a", "/b"] {
            let answer = client.send_request(request(path)).await.unwrap();
            assert_eq!(text(answer).await, format!("{us} HTTP/1.1 https://localhost{path}").replace("https://localhost", ""));
        }
    }

    #[tokio::test]
    async fn what_is_under_way_at_the_stop_is_answered() {
        for protocol in ["h2", "http/1.1"] {
            let (entered, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
            let handler = {
                let (entered, go_on) = (Arc::clone(&entered), Arc::clone(&go_on));
                move |_: Peer, _: Request<Incoming>| {
                    let (entered, go_on) = (Arc::clone(&entered), Arc::clone(&go_on));
                    async move {
                        entered.notify_one();
                        go_on.notified().await;
                        Response::new(Full::<Bytes>::from("answered"))
                    }
                }
            };
            let mut server = start(true, Limits::default(), handler).await;
            let stream = server.connect_tls(protocol).await;
            let answer = if protocol == "h2" {
                let (mut client, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
                tokio::spawn(connection);
                tokio::spawn(async move { client.send_request(request("/")).await })
            } else {
                let (mut client, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
                tokio::spawn(connection);
                tokio::spawn(async move { client.send_request(request("/")).await })
            };
            entered.notified().await;
            server.stop();
            while TcpStream::connect(server.address).await.is_ok() {
                tokio::task::yield_now().await;
            }
            go_on.notify_one();
            assert_eq!(text(answer.await.unwrap().unwrap()).await, "answered", "{protocol}");
            assert_eq!(server.ended.await.unwrap(), Drained { cut_off: 0 }, "{protocol}");
        }
    }

    #[tokio::test]
    async fn who_has_connected_before_the_stop_may_still_ask() {
        let listener = bind("127.0.0.1", 0).await.unwrap();
        // Nobody accepts yet: this one waits in the kernel.
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut server = start_on(listener, false, Limits::default(), echo);
        server.stop();
        assert!(exchange(stream).await.starts_with("HTTP/1.1 200 OK\r\n"));
        assert_eq!(server.ended.await.unwrap(), Drained { cut_off: 0 });
    }

    #[tokio::test]
    async fn a_stop_does_not_wait_for_those_who_are_idle_or_silent() {
        let limits = Limits { drain_first_request: Duration::from_millis(20), ..Limits::default() };
        let mut server = start(true, limits, echo).await;
        let (mut client, connection) =
            http2::handshake::<_, _, Empty<Bytes>>(TokioExecutor::new(), TokioIo::new(server.connect_tls("h2").await)).await.unwrap();
        let connection = tokio::spawn(connection);
        client.send_request(request("/")).await.unwrap();
        let mut silent = server.connect_tls("h2").await;
        // Whether or not it has been accepted by then.
        let mut without_tls = server.connect().await;
        server.stop();
        connection.await.unwrap().unwrap();
        until_closed(&mut silent).await;
        until_closed(&mut without_tls).await;
        assert_eq!(server.ended.await.unwrap(), Drained { cut_off: 0 });
    }

    #[tokio::test]
    async fn the_drain_has_an_end() {
        let entered = Arc::new(Notify::new());
        let handler = {
            let entered = Arc::clone(&entered);
            move |_: Peer, _: Request<Incoming>| {
                entered.notify_one();
                std::future::pending::<Response<Full<Bytes>>>()
            }
        };
        let mut server = start(false, Limits { drain: Duration::from_millis(20), ..Limits::default() }, handler).await;
        let mut stream = server.connect().await;
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        entered.notified().await;
        server.stop();
        assert_eq!(server.ended.await.unwrap(), Drained { cut_off: 1 });
        assert_eq!(until_closed(&mut stream).await, b"");
    }

    #[tokio::test]
    async fn whoever_is_silent_is_closed() {
        let short = Duration::from_millis(20);
        let server = start(true, Limits { handshake: short, ..Limits::default() }, echo).await;
        until_closed(&mut server.connect().await).await;

        let server = start(true, Limits { request_head: short, ..Limits::default() }, echo).await;
        for protocol in ["h2", "http/1.1"] {
            until_closed(&mut server.connect_tls(protocol).await).await;
        }

        let server = start(false, Limits { request_head: short, ..Limits::default() }, echo).await;
        let mut half = server.connect().await;
        half.write_all(b"GET / HTTP/1.1\r\nhost:").await.unwrap();
        until_closed(&mut half).await;
    }

    #[tokio::test]
    async fn plain_text_or_garbage_on_the_tls_port_harms_nobody_else() {
        let server = start(true, Limits::default(), echo).await;
        let mut wrong = server.connect().await;
        wrong.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
        until_closed(&mut wrong).await;
        assert!(exchange(server.connect_tls("http/1.1").await).await.starts_with("HTTP/1.1 200 OK\r\n"));
    }

    #[tokio::test]
    async fn the_idle_make_room_and_the_busy_do_not() {
        let (entered, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let handler = {
            let (entered, go_on) = (Arc::clone(&entered), Arc::clone(&go_on));
            move |_: Peer, request: Request<Incoming>| {
                let (entered, go_on) = (Arc::clone(&entered), Arc::clone(&go_on));
                async move {
                    if request.uri().path() == "/wait" {
                        entered.notify_one();
                        go_on.notified().await;
                    }
                    Response::new(Full::<Bytes>::from("answered"))
                }
            }
        };
        let server = start(false, Limits { max_connections: 1, ..Limits::default() }, handler).await;

        let (mut idle, connection) = http1::handshake(TokioIo::new(server.connect().await)).await.unwrap();
        let idle_ended = tokio::spawn(connection);
        let answer = idle.send_request(request("/")).await.unwrap();
        assert_eq!(text(answer).await, "answered");

        let mut busy = server.connect().await;
        idle_ended.await.unwrap().unwrap();
        busy.write_all(b"GET /wait HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        entered.notified().await;

        assert_eq!(until_closed(&mut server.connect().await).await, b"");
        assert!(server.metrics.encode().contains("arngate_connections_refused_total 1\n"));
        go_on.notify_one();
        assert!(until_closed(&mut busy).await.ends_with(b"answered"));
    }

    #[test]
    fn room_is_made_by_who_never_asked_before_who_is_idle_longest() {
        let connections = Arc::new(Connections::default());
        let connect = || connections.take_place(3).map(Arc::new);
        let places: Vec<_> = (0..3).map(|_| connect().unwrap()).collect();
        drop(places[0].begin_request());
        let busy = places[2].begin_request();
        let evicted = |index: usize| places[index].activity.evicted.load(Ordering::Relaxed);

        let fourth = connect().unwrap();
        assert_eq!([evicted(0), evicted(1), evicted(2)], [false, true, false]);
        let asked = fourth.begin_request();
        let _fifth = connect().unwrap();
        assert_eq!([evicted(0), evicted(1), evicted(2)], [true, true, false]);
        drop((busy, asked));
        let _sixth = connect().unwrap();
        assert!(connect().is_none(), "no more than twice as many, whatever they were told");
    }

    #[tokio::test]
    async fn says_why_it_cannot_listen() {
        let taken = bind("127.0.0.1", 0).await.unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = bind("127.0.0.1", port).await.unwrap_err();
        assert_eq!(error.to_string(), format!("could not listen on 127.0.0.1:{port}: another process listens there"));
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        let error = bind("192.0.2.1", 1234).await.unwrap_err();
        assert_eq!(error.to_string(), "could not listen on 192.0.2.1:1234: this machine has no such address");
        let denied = BindError::new("::", 443, &io::Error::from(io::ErrorKind::PermissionDenied));
        assert_eq!(denied.to_string(), "could not listen on [::]:443: not permitted (ports below 1024 need CAP_NET_BIND_SERVICE)");
    }

    #[tokio::test]
    async fn listens_on_all_interfaces_of_both_families_where_no_address_is_given() {
        let server = start_on(bind("", 0).await.unwrap(), false, Limits::default(), echo);
        let stream = TcpStream::connect(("127.0.0.1", server.address.port())).await.unwrap();
        let us = stream.local_addr().unwrap();
        let answer = exchange(stream).await;
        assert!(answer.ends_with(&format!("{us} HTTP/1.1 /late")), "IPv4 is told as IPv4: {answer}");
        // Absent where the machine has no IPv6.
        if let Ok(stream) = TcpStream::connect(("::1", server.address.port())).await {
            assert!(exchange(stream).await.ends_with("HTTP/1.1 /late"));
        }
    }

    #[test]
    fn waits_longer_and_longer_while_descriptors_are_short() {
        let mut backoff = Backoff::default();
        let full = io::Error::from_raw_os_error(24);
        let pauses: Vec<_> = (0..10).map(|_| backoff.after(&full).unwrap().as_millis()).collect();
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
        assert_eq!(backoff.after(&io::Error::from(io::ErrorKind::ConnectionAborted)), None);
    }
}
