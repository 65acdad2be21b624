//! Connections to a target, and questions over them.
//!
//! The load that is put on a target is made elsewhere, against the trait [`Ask`]: over a [`Caller`] here, and over whatever a test likes there.

mod h2;

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use crate::target::{Http, Target};

/// Largest answer that is read, in bytes. A TokenReview has one or two thousand.
pub const ANSWER_MAX_BYTES: usize = 1 << 20;

/// How long a connection may take to be made, with TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a caller waits after a connection could not be made, before the next attempt: without it a target that is down would be
/// knocked at a hundred thousand times a second.
const RECONNECT_PAUSE: Duration = Duration::from_millis(20);

/// An answer, whole.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The body.
    pub body: Bytes,
}

/// Why there is no answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Failure {
    /// The connection could not be made, or ended too early.
    CutOff(String),
    /// More than [`ANSWER_MAX_BYTES`].
    TooLarge,
}

/// Who can ask one question at a time.
pub trait Ask: Send + 'static {
    /// Asks, and waits for the whole answer.
    fn ask(&mut self, body: Bytes) -> impl Future<Output = Result<Answer, Failure>> + Send;
}

/// What all connections to a target have in common.
#[derive(Debug)]
struct Line {
    target: Target,
    /// Of HTTP/1.1: path and query.
    uri: Uri,
    headers: HeaderMap,
    /// Of HTTP/2.
    head: h2::Head,
}

/// A connection that is made when it is needed, and made anew when it has ended.
#[derive(Clone, Debug)]
pub struct Link {
    line: Arc<Line>,
    /// With HTTP/2, what all callers share.
    shared: Arc<Mutex<Shared>>,
}

/// A connection that many use, or why there is none.
#[derive(Debug, Default)]
struct Shared {
    open: Option<h2::Client>,
    /// When the last attempt to make one failed, and why.
    failed: Option<(Instant, Failure)>,
}

impl Link {
    /// A connection to `target`; nothing is done yet.
    #[must_use]
    pub fn new(target: Target) -> Self {
        const CONTENT: &str = "application/json";
        const ACCEPTED: &str = "application/json, */*";
        const AGENT: &str = concat!("arngate-loadtest/", env!("CARGO_PKG_VERSION"));
        let authority = target.uri.authority().map_or("localhost", |authority| authority.as_str()).to_owned();
        let path = target.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(CONTENT));
        headers.insert(ACCEPT, HeaderValue::from_static(ACCEPTED));
        headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        headers.insert(HOST, HeaderValue::from_str(&authority).unwrap_or(HeaderValue::from_static("localhost")));
        let uri = path.parse().unwrap_or_default();
        let head = h2::Head { authority, path, content_type: CONTENT, accept: ACCEPTED, user_agent: AGENT };
        Self { line: Arc::new(Line { target, uri, headers, head }), shared: Arc::default() }
    }

    /// Who asks over this connection: with HTTP/2 any number of callers share it, else each has one of its own.
    #[must_use]
    pub fn caller(&self) -> Caller {
        Caller { link: self.clone(), sender: None, method: Method::POST }
    }

    /// The same with GET instead of POST.
    #[must_use]
    pub fn getter(&self) -> Caller {
        Caller { link: self.clone(), sender: None, method: Method::GET }
    }

    async fn open(&self) -> Result<Sender, Failure> {
        let target = &self.line.target;
        match target.http {
            Http::One => open_or_pause(connect_h1(target)).await.map(Sender::One),
            Http::Two => {
                let since = Instant::now();
                // Held while the connection is made: the others that share it would only do the same.
                let mut shared = self.shared.lock().await;
                if let Some(open) = shared.open.as_ref().filter(|open| !open.is_closed()) {
                    return Ok(Sender::Two(open.clone()));
                }
                // And who has waited for an attempt that failed would fail as well, one after the other.
                if let Some((_, failure)) = shared.failed.as_ref().filter(|(at, _)| *at >= since) {
                    return Err(failure.clone());
                }
                let made = open_or_pause(connect_h2(&self.line)).await;
                if let Err(failure) = &made {
                    shared.failed = Some((Instant::now(), failure.clone()));
                }
                let made = made?;
                shared.open = Some(made.clone());
                Ok(Sender::Two(made))
            }
        }
    }
}

async fn open_or_pause<T>(connecting: impl Future<Output = Result<T, String>>) -> Result<T, Failure> {
    let made = tokio::time::timeout(CONNECT_TIMEOUT, connecting).await;
    match made.unwrap_or_else(|_| Err("no connection within 5 s".into())) {
        Ok(made) => Ok(made),
        Err(reason) => {
            tokio::time::sleep(RECONNECT_PAUSE).await;
            Err(Failure::CutOff(reason))
        }
    }
}

type Tls = tokio_rustls::client::TlsStream<TcpStream>;

async fn connect_tls(target: &Target) -> Result<Tls, String> {
    let tcp = TcpStream::connect(target.address).await.map_err(|error| format!("cannot connect: {}", error.kind()))?;
    let _ = tcp.set_nodelay(true);
    let tls = TlsConnector::from(Arc::clone(&target.tls)).connect(target.server_name.clone(), tcp).await;
    tls.map_err(|error| format!("TLS: {error}"))
}

async fn connect_h1(target: &Target) -> Result<http1::SendRequest<Full<Bytes>>, String> {
    let tls = connect_tls(target).await?;
    let (sender, connection) = http1::handshake(TokioIo::new(tls)).await.map_err(|error| told(&error))?;
    // How it ends is told to whoever waits for an answer.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

async fn connect_h2(line: &Line) -> Result<h2::Client, String> {
    let tls = connect_tls(&line.target).await?;
    if tls.get_ref().1.alpn_protocol() != Some(b"h2") {
        return Err("the target does not speak HTTP/2".into());
    }
    h2::Client::handshake(tls, &line.head).await
}

/// An error of HTTP and its innermost cause: `connection error: Connection reset by peer`.
fn told(error: &hyper::Error) -> String {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    let (outer, inner) = (error.to_string(), innermost.to_string());
    if outer == inner { outer } else { format!("{outer}: {inner}") }
}

#[derive(Debug)]
enum Sender {
    One(http1::SendRequest<Full<Bytes>>),
    Two(h2::Client),
}

impl Sender {
    /// Ready for a question; not so when the connection has ended.
    async fn ready(&mut self) -> bool {
        match self {
            Self::One(sender) => sender.ready().await.is_ok(),
            Self::Two(client) => !client.is_closed(),
        }
    }
}

/// Asks over a [`Link`].
#[derive(Debug)]
pub struct Caller {
    link: Link,
    sender: Option<Sender>,
    method: Method,
}

impl Caller {
    /// Makes the connection, if it is not there.
    ///
    /// # Errors
    ///
    /// [`Failure::CutOff`], with the reason.
    pub async fn connect(&mut self) -> Result<(), Failure> {
        self.ready().await.map(drop)
    }

    async fn ready(&mut self) -> Result<&mut Sender, Failure> {
        let usable = match &mut self.sender {
            Some(sender) => sender.ready().await,
            None => false,
        };
        if !usable {
            self.sender = None;
        }
        match self.sender {
            Some(ref mut sender) => Ok(sender),
            None => Ok(self.sender.insert(self.link.open().await?)),
        }
    }
}

impl Ask for Caller {
    async fn ask(&mut self, body: Bytes) -> Result<Answer, Failure> {
        let line = Arc::clone(&self.link.line);
        let method = self.method.clone();
        let sender = match self.ready().await? {
            Sender::One(sender) => sender,
            Sender::Two(client) => match client.ask(body.clone()).await {
                Err(h2::Refused::NotTaken(_)) => match self.ready().await? {
                    Sender::Two(client) => return client.ask(body).await.map_err(failure_of),
                    Sender::One(sender) => sender,
                },
                other => return other.map_err(failure_of),
            },
        };
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = line.uri.clone();
        *request.headers_mut() = line.headers.clone();
        let response = sender.send_request(request).await.map_err(|error| Failure::CutOff(told(&error)))?;
        let status = response.status().as_u16();
        Ok(Answer { status, body: whole(response.into_body()).await? })
    }
}

fn failure_of(refused: h2::Refused) -> Failure {
    match refused {
        h2::Refused::Failed(failure) => failure,
        h2::Refused::NotTaken(reason) => Failure::CutOff(reason),
    }
}

/// All of a body: without a copy where it comes in one piece.
async fn whole(mut body: Incoming) -> Result<Bytes, Failure> {
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while !body.is_end_stream()
        && let Some(frame) = body.frame().await
    {
        let Ok(data) = frame.map_err(|error| Failure::CutOff(told(&error)))?.into_data() else { continue };
        if first.is_empty() {
            first = data;
            continue;
        }
        if rest.is_empty() {
            rest.extend_from_slice(&first);
        }
        rest.extend_from_slice(&data);
        if rest.len() > ANSWER_MAX_BYTES {
            return Err(Failure::TooLarge);
        }
    }
    Ok(if rest.is_empty() { first } else { rest.freeze() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_target_that_takes_a_connection_and_says_nothing_is_given_up() {
        let made = open_or_pause(std::future::pending::<Result<(), String>>()).await;
        assert_eq!(made, Err(Failure::CutOff("no connection within 5 s".into())));
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_wait_for_a_connection_share_its_failure() {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let certificate = crate::certificate::Certificate::loopback().unwrap();
        let target = Target::new(&format!("https://{closed}/"), certificate.certificate_pem.as_bytes(), None, Http::Two).unwrap();
        let link = Link::new(target);
        let begin = Instant::now();
        let mut asking = tokio::task::JoinSet::new();
        for _ in 0..100 {
            let mut caller = link.caller();
            asking.spawn(async move { caller.ask(Bytes::new()).await.map(drop) });
        }
        for failed in asking.join_all().await {
            assert_eq!(failed, Err(Failure::CutOff("cannot connect: connection refused".into())));
        }
        // One pause each would be two seconds.
        assert!(begin.elapsed() < RECONNECT_PAUSE * 3, "{:?}", begin.elapsed());
    }
}
