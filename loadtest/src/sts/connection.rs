//! From a connection to an answer.

use std::cell::Cell;
use std::convert::Infallible;
use std::future;
use std::pin::{Pin, pin};
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use arngate_core::UnixSeconds;
use arngate_core::presigned::CLUSTER_ID_HEADER;
use hyper::body::Incoming;
use hyper::header::{ACCEPT, HOST, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Request, Response, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::answer::Answer;
use super::behaviour::Behaviour;
use super::certificate::Authority;
use super::count::Outcome;
use super::document::{Format, ServiceError};
use super::express::{self, Handover};
use super::payload::Payload;
use super::script::Step;
use super::socket::{Fate, Socket};
use super::verdict::{self, Call, Verdict};
use super::{Last, Received, Shared, StartError, Stop, TlsError};

/// How long nobody is accepted after that has failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// How long answers have to reach their clients when the fake is stopped.
const STOP_GRACE: Duration = Duration::from_secs(1);

/// TLS with a new authority, and that authority's certificate as PEM.
pub(crate) fn acceptor(extra_hosts: Vec<String>) -> Result<(TlsAcceptor, String), StartError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let authority = Authority::new(&provider, extra_hosts)?;
    let ca_pem = authority.ca_pem().to_owned();
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| StartError::Tls(TlsError(error.to_string())))?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(authority));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok((TlsAcceptor::from(Arc::new(config)), ca_pem))
}

/// Takes connections until told to stop, then waits for their ends, though not for long.
pub(super) async fn accept(listener: TcpListener, acceptor: TlsAcceptor, shared: Arc<Shared>, mut stop: Stop) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((tcp, _)) = accepted else {
                    // A client that has gone already, or a want of descriptors, against which only time helps.
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                };
                connections.spawn(serve(tcp, acceptor.clone(), Arc::clone(&shared), stop.clone()));
            }
            Some(_) = connections.join_next() => {}
            () = stop.called() => break,
        }
    }
    drop(listener);
    // A client may read slowly, or never; what is left is dropped, and with it the connections.
    let drained = async { while connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(STOP_GRACE, drained).await;
}

/// Serves a connection to its end.
async fn serve(tcp: TcpStream, acceptor: TlsAcceptor, shared: Arc<Shared>, mut stop: Stop) {
    let fate = Arc::new(Fate::default());
    // Answers are small and written at once; waiting for more would only add to what clients measure.
    let _ = tcp.set_nodelay(true);
    let tls = tokio::select! {
        tls = acceptor.accept(Socket::new(tcp, Arc::clone(&fate))) => tls,
        () = stop.called() => return,
    };
    // A client that does not trust us has told so to its own user.
    let Ok(mut tls) = tls else { return };
    shared.counters.connection();

    let link = Arc::new(Link { shared, fate, stop: stop.clone() });
    if tls.get_ref().1.alpn_protocol() == Some(b"h2") {
        return serve_all(tls, link, None, stop).await;
    }
    // What goes wrong here is the client's to see, as it is below.
    let Ok(Handover { unread, judged }) = express::serve(&mut tls, &link, &mut stop).await else { return };
    let (rest, out) = tokio::io::split(tls);
    serve_all(tokio::io::join(std::io::Cursor::new(unread).chain(rest), out), link, judged, stop).await;
}

/// Serves what there may be on a connection, of whose first call it may be known already what to do with it.
async fn serve_all<T>(io: T, link: Arc<Link>, judged: Option<(Judged, Step)>, mut stop: Stop)
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let fate = Arc::clone(&link.fate);
    let judged = Cell::new(judged);
    let service = hyper::service::service_fn(move |request| link.take(request, judged.take()));
    let builder = auto::Builder::new(TokioExecutor::new());
    let mut connection = pin!(builder.serve_connection(TokioIo::new(io), service));
    // What goes wrong on a connection is the client's to see: it is a fake that breaks them on purpose.
    tokio::select! {
        // First the connection, so that a call that is counted is taken before there is a stop.
        biased;
        _ = connection.as_mut() => {}
        () = fate.sealed() => {}
        () = stop.called() => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                _ = connection => {}
                () = fate.sealed() => {}
            }
        }
    }
}

const CLUSTER_ID: HeaderName = HeaderName::from_static(CLUSTER_ID_HEADER);

/// What the calls of a connection share.
#[derive(Debug)]
pub(super) struct Link {
    shared: Arc<Shared>,
    fate: Arc<Fate>,
    stop: Stop,
}

impl Link {
    /// What matters of a call to this fake.
    pub(super) fn call<'a>(&self, method: &'a str, path: &'a str, host: &'a str, query: &'a str, cluster_id: Option<&'a str>) -> Call<'a> {
        Call { method, path, host: without_port(host, self.shared.port), query, cluster_id }
    }

    /// Judges a call, counts it, and tells what is to be done with it.
    pub(super) fn judge(self: &Arc<Self>, call: &Call<'_>, remember: impl FnOnce(&mut Last)) -> (Judged, Step) {
        let shared = &*self.shared;
        let now = shared.clock.now();
        let verdict = verdict::judge(call, &shared.credentials, &shared.extra_hosts, now);
        remember(&mut shared.last.lock().unwrap_or_else(PoisonError::into_inner));
        let step = shared.script().next();
        verdict.count(&shared.counters);
        let number = shared.counters.begin(call.query);
        (Judged { verdict, number, now, link: UnderWay(Arc::clone(self)) }, step)
    }

    /// Takes a call, and does with it what the script says: at once, if there is nothing to wait for.
    fn take(self: &Arc<Self>, request: Request<Incoming>, judged: Option<(Judged, Step)>) -> Answering {
        let (parts, body) = request.into_parts();
        let parts = Arc::new(parts);
        let (judged, step) = judged.unwrap_or_else(|| {
            // One that has other characters could not be signed either.
            let cluster_id = only(parts.headers.get_all(&CLUSTER_ID).iter()).and_then(|id| id.to_str().ok());
            let query = parts.uri.query().unwrap_or_default();
            let call = self.call(parts.method.as_str(), parts.uri.path(), host_of(&parts), query, cluster_id);
            self.judge(&call, |last| *last = Last::Parts(Arc::clone(&parts)))
        });
        let taken = Taken { judged, parts, _body: body };
        if step.is_now() { Answering::Now(Some(taken.answer(step.behaviour))) } else { Answering::Later(Box::pin(taken.follow(step))) }
    }
}

/// An answer that is there, or one to wait for.
enum Answering {
    Now(Option<Response<Payload>>),
    Later(Pin<Box<dyn Future<Output = Response<Payload>> + Send>>),
}

impl Future for Answering {
    type Output = Result<Response<Payload>, Infallible>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Self::Now(response) => response.take().map_or(Poll::Pending, |response| Poll::Ready(Ok(response))),
            Self::Later(answering) => answering.as_mut().poll(context).map(Ok),
        }
    }
}

/// The connection of a call that is under way, until this is dropped.
#[derive(Debug)]
struct UnderWay(Arc<Link>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.shared.counters.leave();
    }
}

/// A call that is judged and counted, but not answered.
#[derive(Debug)]
pub(super) struct Judged {
    pub(super) verdict: Verdict,
    pub(super) number: u64,
    now: UnixSeconds,
    link: UnderWay,
}

impl Judged {
    /// The value of Date.
    pub(super) fn date(&self) -> Option<HeaderValue> {
        self.link.0.shared.dates.at(self.now)
    }

    /// The identity was told.
    pub(super) fn has_answered(self) {
        self.link.0.shared.counters.end(Outcome::Answered);
    }
}

/// The same, and its request.
struct Taken {
    judged: Judged,
    parts: Arc<Parts>,
    /// Held until there is an answer, so that nothing is said about it earlier.
    _body: Incoming,
}

impl Taken {
    /// Waits as told, and then answers, or ends the connection instead.
    async fn follow(self, step: Step) -> Response<Payload> {
        let Link { shared, fate, stop } = &*self.judged.link.0;
        let mut stop = stop.clone();
        let delay = step.whole_delay();
        let waiting = async {
            if let Some(gate) = &step.gate {
                gate.enter().await;
            }
            // Not for nothing: the timer of tokio counts in milliseconds, and the next one would be late.
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
        };
        tokio::select! {
            () = waiting => {}
            () = stop.called() => return end(shared, fate, Outcome::Hung, false).await,
        }
        match step.behaviour {
            Behaviour::CloseWithoutAnswer => end(shared, fate, Outcome::Closed, false).await,
            Behaviour::Reset => end(shared, fate, Outcome::Reset, true).await,
            Behaviour::Hang => {
                shared.counters.end(Outcome::Hung);
                stop.called().await;
                fate.end(false);
                future::pending().await
            }
            answers => self.answer(answers),
        }
    }

    /// The answer of a behaviour that is one, counted.
    fn answer(self, behaviour: Behaviour) -> Response<Payload> {
        let Judged { verdict, number, .. } = &self.judged;
        let accept = self.parts.headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
        let answer = Answer::new(Format::from_accept(accept), *number, self.judged.date());
        let (outcome, response) = match behaviour {
            Behaviour::Answer | Behaviour::Delay(_) => answer.verdict(verdict),
            Behaviour::AnswerAs(identity) => answer.instead(verdict, |_| identity),
            Behaviour::OtherPartition => answer.in_other_partition(verdict),
            Behaviour::Oversize(bytes) => {
                let (outcome, response) = answer.verdict(verdict);
                (outcome, response.map(|body| Payload::padded_to(body.whole(), bytes)))
            }
            Behaviour::Truncated => {
                let (outcome, response) = answer.verdict(verdict);
                (outcome, response.map(|body| Payload::half_of(&body.whole())))
            }
            Behaviour::Throttle => (Outcome::Throttled, answer.error(&ServiceError::throttling())),
            Behaviour::Status(status) => (Outcome::Error, answer.error(&ServiceError::of_status(status))),
            Behaviour::Error { status, code, message } => (Outcome::Error, answer.error(&ServiceError { status, code, message })),
            Behaviour::Garbage => (Outcome::Error, answer.garbage()),
            Behaviour::ProxyPage => (Outcome::Error, answer.proxy_page()),
            Behaviour::Raw { status, content_type, body } => {
                (Outcome::Error, answer.with(status, HeaderValue::from_str(&content_type).ok(), body))
            }
            Behaviour::Redirect => (Outcome::Error, answer.redirect(host_of(&self.parts))),
            Behaviour::CloseWithoutAnswer | Behaviour::Hang | Behaviour::Reset => unreachable!("these give no answer"),
        };
        self.judged.link.0.shared.counters.end(outcome);
        response
    }
}

/// Ends the connection instead of answering.
async fn end(shared: &Shared, fate: &Fate, outcome: Outcome, reset: bool) -> Response<Payload> {
    shared.counters.end(outcome);
    fate.end(reset);
    // The connection is dropped, and we with it.
    future::pending().await
}

/// Host or `:authority`, as sent.
fn host_of(parts: &Parts) -> &str {
    let header = || parts.headers.get(HOST).and_then(|host| host.to_str().ok());
    parts.uri.authority().map(hyper::http::uri::Authority::as_str).or_else(header).unwrap_or_default()
}

impl Received {
    pub(super) fn of(parts: &Parts) -> Self {
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        Self {
            method: parts.method.as_str().to_owned(),
            host: host_of(parts).to_owned(),
            path: parts.uri.path().to_owned(),
            query: parts.uri.query().unwrap_or_default().to_owned(),
            headers: parts.headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect(),
            is_http2: parts.version == Version::HTTP_2,
        }
    }
}

/// The host that was signed for. A client names no port of STS, for it is the usual one; here that is the port on which we listen, and a
/// client that names it means the same.
fn without_port(host: &str, port: u16) -> &str {
    match host.rsplit_once(':') {
        Some((name, text)) if text.parse() == Ok(port) => name,
        _ => host,
    }
}

fn only<T>(mut items: impl Iterator<Item = T>) -> Option<T> {
    let first = items.next()?;
    if items.next().is_some() { None } else { Some(first) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strips_its_own_port_only() {
        assert_eq!(without_port("sts.amazonaws.com:8443", 8443), "sts.amazonaws.com");
        assert_eq!(without_port("sts.amazonaws.com:443", 8443), "sts.amazonaws.com:443");
        assert_eq!(without_port("sts.amazonaws.com", 8443), "sts.amazonaws.com");
    }
}
