//! One connection, from a name to TLS.
//!
//! Whatever the way, SNI and the certificate check are for the host that is asked, since the host is what was signed.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::{Ipv6Addr, SocketAddr, ToSocketAddrs as _};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use std::vec;

use arngate_core::StsHosts;
use hyper::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tower_service::Service;

use super::roots::Roots;
use super::{ConfigError, Settings};
use crate::document::reader::integer;
use crate::one_part::OnePart;

/// Where AWS listens.
const PORT: u16 = 443;

/// Look-ups at a time. The resolver of the C library cannot be interrupted, and each look-up keeps a thread for as long as it takes; a
/// resolver that hangs must not fill the process with threads.
const LOOK_UPS: usize = 16;

/// Where to *connect* for a host of AWS: a private endpoint, a relay, a test. SNI, Host and the certificate check stay those of the host.
///
/// Such a connection is direct, whatever proxies the environment names: the operator has said where it goes.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct Endpoints(BTreeMap<Box<str>, Authority>);

impl fmt::Debug for Endpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Endpoints {
    /// Says where to connect for `host`, which must be one of STS.
    ///
    /// # Syntax
    ///
    /// ```text
    /// url = "https://" ( dns-name / IPv4 / "[" IPv6 "]" ) ":" port
    /// ```
    ///
    /// Path, query and user would have no meaning: what is sent was signed, and stays as it is.
    ///
    /// # Errors
    ///
    /// [`EndpointError`].
    pub fn insert(&mut self, host: &str, url: &str, hosts: &StsHosts<'_>) -> Result<(), EndpointError> {
        hosts.judge(host).map_err(EndpointError::Host)?;
        self.insert_judged(host, url)
    }

    /// [`Self::insert`] for a host that the caller has judged.
    pub(crate) fn insert_judged(&mut self, host: &str, url: &str) -> Result<(), EndpointError> {
        let authority = Authority::parse(url).ok_or(EndpointError::Url)?;
        if self.0.insert(host.into(), authority).is_some() { Err(EndpointError::Repeated) } else { Ok(()) }
    }

    /// Takes those of `others` too; where both have a host, these count.
    pub fn override_with(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    /// Where to connect for `host`, written as `host:port`, if that was said.
    #[must_use]
    pub fn of(&self, host: &str) -> Option<impl fmt::Display> {
        self.0.get(host)
    }
}

/// Why a host cannot be connected to elsewhere.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum EndpointError {
    /// Not a host of ours.
    #[error(transparent)]
    Host(arngate_core::Error),
    /// The host has another endpoint already.
    #[error("the host is there twice")]
    Repeated,
    /// Not where one can connect to.
    #[error("expected https://host:port and nothing else")]
    Url,
}

/// A host, as a URI has it, and a port.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Authority {
    host: Box<str>,
    port: u16,
}

impl Authority {
    fn parse(url: &str) -> Option<Self> {
        let (host, port) = url.strip_prefix("https://")?.rsplit_once(':')?;
        let is_host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(address) => address.parse::<Ipv6Addr>().is_ok(),
            // An IPv6 address needs its brackets: without them nobody knows where the port begins.
            None => !host.contains(':') && ServerName::try_from(host).is_ok(),
        };
        let port = integer(1..=u16::MAX)(port).ok()?;
        is_host.then(|| Self { host: host.into(), port })
    }

    /// For [`HttpConnector`], which looks at the host and the port only.
    fn to_uri(&self) -> Result<Uri, ConnectError> {
        format!("http://{self}").parse().map_err(|_| ConnectError::lasting("the host makes no URI"))
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// The proxy settings of the environment, as they were found there.
#[derive(Clone, Default)]
pub struct ProxySettings {
    /// `HTTPS_PROXY`, else `https_proxy`: `http://user:password@host:port` or `https://…`. Empty: none.
    pub https: String,
    /// `NO_PROXY`, else `no_proxy`: domains, addresses and networks with commas between; `*` is all.
    pub no: String,
}

impl fmt::Debug for ProxySettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL may hold a password.
        f.debug_struct("ProxySettings").field("https", &!self.https.is_empty()).field("no", &self.no).finish()
    }
}

impl ProxySettings {
    fn matcher(&self) -> Result<Matcher, ConfigError> {
        // The matcher takes what it cannot read for no proxy at all, and we would go around the one that somebody meant.
        let any = Uri::from_static("https://sts.amazonaws.com");
        let everywhere = Matcher::builder().https(self.https.as_str()).build().intercept(&any);
        let scheme = everywhere.as_ref().and_then(|proxy| proxy.uri().scheme_str());
        if !self.https.is_empty() && !matches!(scheme, Some("http" | "https")) {
            return Err(ConfigError::Proxy);
        }
        Ok(Matcher::builder().https(self.https.as_str()).no(self.no.as_str()).build())
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// DNS does not know the name.
    #[error("there is no such host in DNS")]
    NoSuchHost,
    /// With whom, and why.
    #[error("{told}")]
    Other { told: String, passing: bool },
}

impl ConnectError {
    /// What will be the same in a moment.
    pub(crate) fn lasting(told: impl Into<String>) -> Self {
        Self::Other { told: told.into(), passing: false }
    }

    /// An error of the peer's or of the network.
    fn of(peer: &dyn fmt::Display, error: &(dyn Error + 'static)) -> Self {
        Self::Other { told: format!("{peer}: {}", chain(error)), passing: is_reset(error) }
    }

    /// This error, when it was on the way to a proxy.
    fn through(self, proxy: &Authority) -> Self {
        match self {
            // A proxy that does not exist is no statement about the host.
            Self::NoSuchHost => Self::lasting(format!("proxy {proxy}: {self}")),
            Self::Other { told, passing } => Self::Other { told: format!("proxy {told}"), passing },
        }
    }
}

/// Whether a peer was there and broke off.
fn is_reset(error: &(dyn Error + 'static)) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    find::<io::Error>(error).is_some_and(|error| matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof))
}

/// Looks a name up, for as long as that takes.
pub(crate) type Resolve = fn(&str) -> io::Result<vec::IntoIter<SocketAddr>>;

/// Look-ups at a time of hosts that only fit by shape: whoever makes up names keeps nobody from resolving those that exist.
const LOOK_UPS_BY_SHAPE: usize = 4;

/// Makes connections.
pub(crate) struct Connector {
    shared: Arc<Shared>,
    /// Whether nobody knows the host that it connects to.
    only_by_shape: bool,
    /// Connections that this one and its clones have made and that are still there.
    open: Arc<AtomicUsize>,
}

struct Shared {
    endpoints: Endpoints,
    matcher: Matcher,
    roots: Roots,
    connect_timeout: Duration,
    attempt_timeout: Duration,
    http: HttpConnector<Resolver>,
    http_by_shape: HttpConnector<Resolver>,
    /// Connections of all connectors.
    open: Arc<AtomicUsize>,
    /// Byte streams of a test, in place of all sockets.
    #[cfg(test)]
    script: Option<Script>,
}

/// Makes the byte stream to a host, or the error.
#[cfg(test)]
pub(crate) type Script = Arc<dyn Fn(&str) -> Result<tokio::io::DuplexStream, ConnectError> + Send + Sync>;

impl Connector {
    pub(crate) fn new(settings: &Settings, roots: Roots) -> Result<Self, ConfigError> {
        Self::with_resolver(settings, roots, |host| (host, 0).to_socket_addrs())
    }

    pub(crate) fn with_resolver(settings: &Settings, roots: Roots, resolve: Resolve) -> Result<Self, ConfigError> {
        let (places, by_shape) = (Arc::new(Semaphore::new(LOOK_UPS)), Arc::new(Semaphore::new(LOOK_UPS_BY_SHAPE)));
        let http = |by_shape| {
            let mut http = HttpConnector::new_with_resolver(Resolver { resolve, by_shape, places: Arc::clone(&places) });
            http.enforce_http(false);
            http.set_nodelay(true);
            http
        };
        let shared = Shared {
            endpoints: settings.endpoints.clone(),
            matcher: settings.proxy.matcher()?,
            roots,
            connect_timeout: settings.connect_timeout,
            attempt_timeout: settings.attempt_timeout,
            http: http(None),
            http_by_shape: http(Some(by_shape)),
            open: Arc::default(),
            #[cfg(test)]
            script: None,
        };
        Ok(Self { shared: Arc::new(shared), only_by_shape: false, open: Arc::default() })
    }

    /// One that connects to what a test says, without any socket: so that time can stand still.
    #[cfg(test)]
    pub(crate) fn scripted(settings: &Settings, roots: Roots, script: Script) -> Result<Self, ConfigError> {
        let Self { shared, only_by_shape, open } = Self::new(settings, roots)?;
        let shared = Arc::into_inner(shared).map(|shared| Arc::new(Shared { script: Some(script), ..shared }));
        Ok(Self { shared: shared.expect("nobody else has it yet"), only_by_shape, open })
    }

    /// One for one host, which counts what it opens.
    pub(crate) fn for_host(&self, only_by_shape: bool) -> Self {
        Self { shared: Arc::clone(&self.shared), only_by_shape, open: Arc::default() }
    }

    /// Connections that it has opened and that are still there.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Connections to all hosts.
    pub(crate) fn open_to_all(&self) -> usize {
        self.shared.open.load(Ordering::Relaxed)
    }

    /// All of a connection to the port for HTTPS of a host, within the time of an attempt.
    pub(crate) async fn connect(&self, host: &str) -> Result<PooledStream, ConnectError> {
        let shared = &*self.shared;
        let counted = Counted([Arc::clone(&self.open), Arc::clone(&shared.open)]).begin();
        let http = if self.only_by_shape { &shared.http_by_shape } else { &shared.http };
        let connecting = async { shared.tls(host, shared.transport(host, http).await?).await };
        match timeout(shared.attempt_timeout, connecting).await {
            Ok(connected) => Ok(PooledStream { stream: TokioIo::new(connected?), _counted: counted }),
            Err(_) => {
                let told = format!("no connection on which {host} speaks TLS within {} ms", shared.attempt_timeout.as_millis());
                Err(ConnectError::Other { told, passing: true })
            }
        }
    }
}

/// A connection that is counted, from before it is there.
struct Counted([Arc<AtomicUsize>; 2]);

impl Counted {
    fn begin(self) -> Self {
        self.0.iter().for_each(|count| {
            count.fetch_add(1, Ordering::Relaxed);
        });
        self
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.iter().for_each(|count| {
            count.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

impl Shared {
    /// A way to the host on which TLS can be spoken.
    async fn transport(&self, host: &str, http: &HttpConnector<Resolver>) -> Result<Box<dyn Transport>, ConnectError> {
        #[cfg(test)]
        if let Some(script) = &self.script {
            return Ok(Box::new(script(host)?));
        }
        if let Some(endpoint) = self.endpoints.0.get(host) {
            return match self.tcp(endpoint, &self.http).await {
                Ok(stream) => Ok(Box::new(stream)),
                // A name that the operator gave is no statement about the token's host.
                Err(error @ ConnectError::NoSuchHost) => Err(ConnectError::lasting(format!("{endpoint}: {error}"))),
                Err(error) => Err(error),
            };
        }
        let target = Authority { host: host.into(), port: PORT };
        let uri: Uri = format!("https://{host}").parse().map_err(|_| ConnectError::lasting("the host makes no URI"))?;
        match self.matcher.intercept(&uri) {
            Some(proxy) => self.tunnel(&proxy, &target).await,
            None => Ok(Box::new(self.tcp(&target, http).await?)),
        }
    }

    /// DNS and TCP, within the time for connecting. hyper-util tries IPv6 and IPv4 side by side.
    async fn tcp(&self, to: &Authority, http: &HttpConnector<Resolver>) -> Result<tokio::net::TcpStream, ConnectError> {
        let connecting = http.clone().call(to.to_uri()?);
        match timeout(self.connect_timeout, connecting).await {
            Ok(Ok(stream)) => Ok(stream.into_inner()),
            Ok(Err(error)) if find::<NoSuchName>(&error).is_some() => Err(ConnectError::NoSuchHost),
            Ok(Err(error)) => Err(ConnectError::of(to, &error)),
            Err(_) => {
                let told = format!("{to}: no TCP connection within {} ms", self.connect_timeout.as_millis());
                Err(ConnectError::Other { told, passing: true })
            }
        }
    }

    /// A CONNECT tunnel.
    async fn tunnel(&self, proxy: &Intercept, target: &Authority) -> Result<Box<dyn Transport>, ConnectError> {
        let uri = proxy.uri();
        let is_https = uri.scheme_str() == Some("https");
        let host = uri.host().unwrap_or_default();
        let to = Authority { host: host.into(), port: uri.port_u16().unwrap_or(if is_https { PORT } else { 80 }) };
        let tcp = self.tcp(&to, &self.http).await.map_err(|error| error.through(&to))?;
        let transport: Box<dyn Transport> =
            if is_https { Box::new(self.tls(host, Box::new(tcp)).await.map_err(|error| error.through(&to))?) } else { Box::new(tcp) };
        let mut tunnel = Tunnel::new(uri.clone(), Ready(Some(transport)));
        if let Some(auth) = proxy.basic_auth() {
            tunnel = tunnel.with_auth(auth.clone());
        }
        let established = tunnel.call(target.to_uri()?).await.map_err(|error| ConnectError::of(&format_args!("proxy {to}"), &error))?;
        Ok(established.into_inner())
    }

    async fn tls(&self, host: &str, transport: Box<dyn Transport>) -> Result<TlsStream<OnePart<Box<dyn Transport>>>, ConnectError> {
        let failed = |error: &(dyn Error + 'static)| ConnectError::of(&format_args!("TLS with {host}"), error);
        let client = self.roots.client().await.map_err(|error| failed(&error))?;
        let name = ServerName::try_from(host.trim_start_matches('[').trim_end_matches(']').to_owned()).map_err(|error| failed(&error))?;
        TlsConnector::from(client).connect(name, OnePart(transport)).await.map_err(|error| failed(&error))
    }
}

/// A byte stream, whichever.
trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

/// The one connection that [`Tunnel`] is to go through: it is there already.
struct Ready(Option<Box<dyn Transport>>);

impl Service<Uri> for Ready {
    type Response = TokioIo<Box<dyn Transport>>;
    type Error = io::Error;
    type Future = std::future::Ready<io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        std::future::ready(self.0.take().map(TokioIo::new).ok_or_else(|| io::ErrorKind::NotConnected.into()))
    }
}

/// A TLS stream as the pool wants it. It is HTTP/1.1 always: the services of AWS that we ask speak nothing else.
pub(crate) struct PooledStream {
    stream: TokioIo<TlsStream<OnePart<Box<dyn Transport>>>>,
    _counted: Counted,
}

impl Read for PooledStream {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl Write for PooledStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// The platform's resolver, with a bound on what is under way.
#[derive(Clone)]
struct Resolver {
    resolve: Resolve,
    /// Fewer places, to be had before one of the others: those who wait for these take none of the others.
    by_shape: Option<Arc<Semaphore>>,
    places: Arc<Semaphore>,
}

impl Service<Name> for Resolver {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let Self { resolve, by_shape, places } = self.clone();
        Box::pin(async move {
            let by_shape = match by_shape {
                Some(by_shape) => Some(by_shape.acquire_owned().await.map_err(io::Error::other)?),
                None => None,
            };
            let place = places.acquire_owned().await.map_err(io::Error::other)?;
            let looked_up = tokio::task::spawn_blocking(move || {
                // Kept until the look-up ends, even when nobody waits for it any more.
                let _places = (place, by_shape);
                resolve(name.as_str())
            });
            match looked_up.await.map_err(io::Error::other)? {
                Err(error) if tells_that_the_name_does_not_exist(&error) => Err(io::Error::other(NoSuchName)),
                found => found,
            }
        })
    }
}

/// A name that does not exist (NXDOMAIN).
#[derive(Debug, thiserror::Error)]
#[error("the name does not exist")]
struct NoSuchName;

/// Whether the C library said EAI_NONAME. Its code does not come through the standard library, only its text, which is the same in every
/// locale, since nobody calls `setlocale` here. What is not in the list counts as trouble with DNS: the careful side, since then nobody is
/// refused.
fn tells_that_the_name_does_not_exist(error: &io::Error) -> bool {
    const TEXTS: [&str; 3] = [
        "Name or service not known",                    // glibc
        "Name does not resolve",                        // musl
        "nodename nor servname provided, or not known", // Apple, BSD
    ];
    let text = error.to_string();
    TEXTS.iter().any(|known| text.ends_with(known))
}

/// The first error of that type among an error and its causes.
fn find<'e, E: Error + 'static>(error: &'e (dyn Error + 'static)) -> Option<&'e E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        // An io::Error that wraps another names that one's cause as its own, and so hides it.
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref).map(|inner| inner as &(dyn Error + 'static));
        next = wrapped.or_else(|| error.source());
    }
    None
}

/// An error and its causes in one line, of 256 bytes at most: what others wrote (names in a certificate) is in it.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    const MAX_BYTES: usize = 256;
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let told = cause.to_string();
        // rustls sends its readers to its manual; an operator's log is no place for that.
        let told = told.split(": https://docs.rs/").next().unwrap_or_default();
        if !text.ends_with(told) {
            text = format!("{text}: {told}");
        }
        next = cause.source();
    }
    if text.len() > MAX_BYTES {
        text.truncate(text.floor_char_boundary(MAX_BYTES));
        text.push('…');
    }
    text
}
