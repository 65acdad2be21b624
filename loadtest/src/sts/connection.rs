//! From a connection to an answer.

use std::convert::Infallible;
use std::future;
use std::pin::pin;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use arngate_core::presigned::{AccessKeyId, CLUSTER_ID_HEADER};
use arngate_core::{UnixSeconds, time::AmzDate};
use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{ACCEPT, ALLOW, CONTENT_TYPE, DATE, HOST, HeaderValue, LOCATION};
use hyper::{Request, Response, StatusCode, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::behaviour::Behaviour;
use super::certificate::Authority;
use super::count::Outcome;
use super::document::{Format, ServiceError};
use super::payload::Payload;
use super::socket::{Fate, Socket};
use super::verdict::{self, Call, Verdict};
use super::{Received, Shared, StartError, Stop, TlsError};
use crate::credential::CallerIdentity;

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
    let Ok(tls) = tls else { return };
    shared.counters.connection();

    let service = {
        let (fate, stop) = (Arc::clone(&fate), stop.clone());
        hyper::service::service_fn(move |request| {
            let (shared, fate, stop) = (Arc::clone(&shared), Arc::clone(&fate), stop.clone());
            async move { Ok::<_, Infallible>(handle(&request, &shared, &fate, stop).await) }
        })
    };
    let builder = auto::Builder::new(TokioExecutor::new());
    let mut connection = pin!(builder.serve_connection(TokioIo::new(tls), service));
    // What goes wrong on a connection is the client's to see: it is a fake that breaks them on purpose.
    tokio::select! {
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

/// Takes a call, and does with it what the script says.
async fn handle(request: &Request<Incoming>, shared: &Shared, fate: &Fate, mut stop: Stop) -> Response<Payload> {
    let now = shared.clock.now();
    let received = Arc::new(receive(request));
    let host = without_port(&received.host, shared.port);
    let cluster_id = only(received.headers.iter().filter(|(name, _)| name == CLUSTER_ID_HEADER)).map(|(_, value)| value.as_str());
    let call = Call { method: &received.method, path: &received.path, host, query: &received.query, cluster_id };
    let verdict = verdict::judge(&call, &shared.credentials, &shared.extra_hosts, now);
    *shared.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&received));
    let step = shared.script().next();
    let (number, _in_flight) = shared.counters.begin(verdict.access_key_id.as_ref().map(AccessKeyId::as_str), &received.query);

    let delay = match step.behaviour {
        Behaviour::Delay(delay) => step.delay.saturating_add(delay),
        _ => step.delay,
    };
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

    let accept = request.headers().get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let answer = Answer { format: Format::from_accept(accept), request_id: request_id(number), now };
    let (outcome, response) = match step.behaviour {
        Behaviour::CloseWithoutAnswer => return end(shared, fate, Outcome::Closed, false).await,
        Behaviour::Reset => return end(shared, fate, Outcome::Reset, true).await,
        Behaviour::Hang => {
            shared.counters.end(Outcome::Hung);
            stop.called().await;
            fate.end(false);
            return future::pending().await;
        }
        Behaviour::Answer | Behaviour::Delay(_) => answer.verdict(verdict, None),
        Behaviour::AnswerAs(identity) => answer.verdict(verdict, Some(identity)),
        Behaviour::OtherPartition => {
            let identity = verdict.result.as_ref().ok().map(|credential| in_other_partition(credential.identity()));
            answer.verdict(verdict, identity)
        }
        Behaviour::Oversize(bytes) => {
            let (outcome, response) = answer.verdict(verdict, None);
            (outcome, response.map(|body| Payload::padded_to(whole(body), bytes)))
        }
        Behaviour::Truncated => {
            let (outcome, response) = answer.verdict(verdict, None);
            (outcome, response.map(|body| Payload::half_of(&whole(body))))
        }
        Behaviour::Throttle => (Outcome::Throttled, answer.error(&ServiceError::throttling())),
        Behaviour::Status(status) => (Outcome::Error, answer.error(&ServiceError::of_status(status))),
        Behaviour::Error { status, code, message } => (Outcome::Error, answer.error(&ServiceError { status, code, message })),
        Behaviour::Garbage => (Outcome::Error, answer.with(200, answer.format.content_type(), Bytes::from_static(GARBAGE))),
        Behaviour::ProxyPage => (Outcome::Error, answer.with(403, "text/html; charset=utf-8", Bytes::from_static(PROXY_PAGE.as_bytes()))),
        Behaviour::Raw { status, content_type, body } => (Outcome::Error, answer.with(status, &content_type, body)),
        Behaviour::Redirect => {
            let mut response = answer.with(302, "text/html", Bytes::new());
            if let Ok(location) = HeaderValue::try_from(format!("https://{}/redirected", received.host)) {
                response.headers_mut().insert(LOCATION, location);
            }
            (Outcome::Error, response)
        }
    };
    shared.counters.end(outcome);
    response
}

/// Ends the connection instead of answering.
async fn end(shared: &Shared, fate: &Fate, outcome: Outcome, reset: bool) -> Response<Payload> {
    shared.counters.end(outcome);
    fate.end(reset);
    // The connection is dropped, and we with it.
    future::pending().await
}

fn receive(request: &Request<Incoming>) -> Received {
    let uri = request.uri();
    let header = || request.headers().get(HOST).and_then(|host| host.to_str().ok());
    let host = uri.authority().map(hyper::http::uri::Authority::as_str).or_else(header).unwrap_or_default();
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    Received {
        method: request.method().as_str().to_owned(),
        host: host.to_owned(),
        path: uri.path().to_owned(),
        query: uri.query().unwrap_or_default().to_owned(),
        headers: request.headers().iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect(),
        is_http2: request.version() == Version::HTTP_2,
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

/// In the form of AWS, and telling the number of the call.
fn request_id(number: u64) -> String {
    format!("00000000-0000-4000-8000-{number:012x}")
}

fn in_other_partition(identity: &CallerIdentity) -> CallerIdentity {
    let (partition, rest) = identity.arn.strip_prefix("arn:").and_then(|rest| rest.split_once(':')).unwrap_or(("", &identity.arn));
    let other = if partition == "aws-cn" { "aws" } else { "aws-cn" };
    CallerIdentity { arn: format!("arn:{other}:{rest}"), ..identity.clone() }
}

/// What an answer needs besides what it says.
struct Answer {
    format: Format,
    request_id: String,
    now: UnixSeconds,
}

impl Answer {
    /// What STS says, and how that counts; about somebody else, if told so.
    fn verdict(&self, verdict: Verdict, instead: Option<CallerIdentity>) -> (Outcome, Response<Payload>) {
        match verdict.result {
            Ok(credential) => {
                let identity = instead.as_ref().unwrap_or_else(|| credential.identity());
                let body = self.format.identity(identity, &self.request_id);
                (Outcome::Answered, self.with(200, self.format.content_type(), body.into()))
            }
            Err(refusal) => (refusal.outcome, self.error(&refusal.error)),
        }
    }

    fn error(&self, error: &ServiceError) -> Response<Payload> {
        let body = self.format.error(error, &self.request_id);
        let mut response = self.with(error.status, self.format.content_type(), body.into());
        if error.status == 405 {
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
        }
        response
    }

    fn with(&self, status: u16, content_type: &str, body: Bytes) -> Response<Payload> {
        let mut response = Response::new(Payload::Whole(body));
        *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        for (name, value) in [("x-amzn-requestid", self.request_id.as_str()), (CONTENT_TYPE.as_str(), content_type)] {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        }
        if let Some(date) = http_date(self.now).and_then(|date| HeaderValue::try_from(date).ok()) {
            headers.insert(DATE, date);
        }
        response
    }
}

fn whole(body: Payload) -> Bytes {
    match body {
        Payload::Whole(bytes) | Payload::Padded { head: bytes, .. } | Payload::Broken { head: bytes, .. } => bytes,
    }
}

/// `Tue, 24 Nov 2026 12:00:00 GMT`, RFC 9110 section 5.6.7.
fn http_date(now: UnixSeconds) -> Option<String> {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let date = AmzDate::from_unix(now)?;
    let text = date.as_str();
    let weekday = DAYS.get(usize::try_from(now.as_i64().div_euclid(86_400).rem_euclid(7)).ok()?)?;
    let month = MONTHS.get(text.get(4..6)?.parse::<usize>().ok()?.checked_sub(1)?)?;
    let part = |range: std::ops::Range<usize>| text.get(range).unwrap_or_default();
    Some(format!("{weekday}, {} {month} {} {}:{}:{} GMT", part(6..8), part(0..4), part(9..11), part(11..13), part(13..15)))
}

/// What JSON, XML and UTF-8 all refuse, and terminals had better not see.
const GARBAGE: &[u8] = b"\x1b]0;\xff\xfe{\"GetCallerIdentityResponse\":<\x00\r\n";

const PROXY_PAGE: &str = "<!DOCTYPE html>\n<html><head><title>403 Forbidden</title></head><body><h1>Access denied</h1><p>This web proxy does \
                          not let you reach that host. Throttling is for GetCallerIdentity.</p></body></html>\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_the_date_as_http_wants_it() {
        assert_eq!(http_date(UnixSeconds::new(784_111_777)).unwrap(), "Sun, 06 Nov 1994 08:49:37 GMT", "the example of RFC 9110");
        assert_eq!(http_date(UnixSeconds::new(0)).unwrap(), "Thu, 01 Jan 1970 00:00:00 GMT");
    }

    #[test]
    fn strips_its_own_port_only() {
        assert_eq!(without_port("sts.amazonaws.com:8443", 8443), "sts.amazonaws.com");
        assert_eq!(without_port("sts.amazonaws.com:443", 8443), "sts.amazonaws.com:443");
        assert_eq!(without_port("sts.amazonaws.com", 8443), "sts.amazonaws.com");
    }

    #[test]
    fn changes_the_partition_and_nothing_else() {
        let identity = |arn: &str| CallerIdentity { account: "123456789012".into(), arn: arn.into(), user_id: "AIDA".into() };
        let other = |arn: &str| in_other_partition(&identity(arn)).arn;
        assert_eq!(other("arn:aws:iam::123456789012:user/Bob"), "arn:aws-cn:iam::123456789012:user/Bob");
        assert_eq!(other("arn:aws-cn:iam::123456789012:user/Bob"), "arn:aws:iam::123456789012:user/Bob");
    }
}
