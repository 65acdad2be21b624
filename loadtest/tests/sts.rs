//! The fake STS as a real client sees it: hyper on rustls, by HTTP/1.1 and HTTP/2.

use std::io;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use arngate_core::endpoint::Fips;
use arngate_core::time::AmzDate;
use arngate_core::{ClusterId, Partition, StsHost};
use arngate_loadtest::clock::Clock;
use arngate_loadtest::credential::{CallerIdentity, Credential, EXAMPLE_ACCESS_KEY_ID};
use arngate_loadtest::sts::{Behaviour, Config, FakeSts, Outcome, StartError};
use arngate_loadtest::token;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::{http1, http2};
use hyper::{Request, Response, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const NOW: &[u8] = b"20261124T120000Z";
const HOST: &str = "sts.amazonaws.com";

fn now() -> AmzDate {
    AmzDate::parse(NOW).unwrap()
}

fn cluster() -> ClusterId<'static> {
    ClusterId::parse("prod").unwrap()
}

async fn start() -> FakeSts {
    let credentials = [Credential::example_user(), Credential::example_role()];
    FakeSts::start(Config::new(Clock::fixed(now().unix())).with_credentials(credentials)).await.unwrap()
}

async fn tls(sts: &FakeSts, host: &str, protocol: &[u8]) -> io::Result<TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(sts.ca_pem().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    let tcp = TcpStream::connect(sts.addr()).await?;
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(host.to_owned()).unwrap(), tcp).await
}

/// A kept connection.
enum Client {
    Http1(http1::SendRequest<Empty<Bytes>>),
    Http2(http2::SendRequest<Empty<Bytes>>),
}

impl Client {
    async fn http1(sts: &FakeSts) -> Self {
        let io = TokioIo::new(tls(sts, HOST, b"http/1.1").await.unwrap());
        let (sender, connection) = http1::handshake(io).await.unwrap();
        tokio::spawn(connection);
        Self::Http1(sender)
    }

    async fn http2(sts: &FakeSts) -> Self {
        let io = TokioIo::new(tls(sts, HOST, b"h2").await.unwrap());
        let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
        tokio::spawn(connection);
        Self::Http2(sender)
    }

    async fn send(&mut self, mut request: Request<Empty<Bytes>>) -> hyper::Result<Response<Incoming>> {
        match self {
            Self::Http1(sender) => {
                let host = request.uri().authority().unwrap().as_str().parse().unwrap();
                request.headers_mut().insert("host", host);
                *request.uri_mut() = request.uri().path_and_query().unwrap().as_str().parse().unwrap();
                sender.ready().await?;
                sender.send_request(request).await
            }
            Self::Http2(sender) => {
                *request.version_mut() = Version::HTTP_2;
                sender.ready().await?;
                sender.send_request(request).await
            }
        }
    }

    /// Asks for the user's identity, in JSON.
    async fn ask(&mut self) -> hyper::Result<Response<Incoming>> {
        self.send(request(&user_url(), "application/json")).await
    }
}

fn user_url() -> String {
    token::sign_url(&Credential::example_user(), StsHost::global(), cluster(), now(), 60)
}

fn request(url: &str, accept: &str) -> Request<Empty<Bytes>> {
    Request::get(url).header("x-k8s-aws-id", "prod").header("accept", accept).body(Empty::new()).unwrap()
}

async fn body_of(response: Response<Incoming>) -> Bytes {
    response.into_body().collect().await.unwrap().to_bytes()
}

/// Status line, headers and body of an answer, for a snapshot.
async fn whole(response: Response<Incoming>) -> String {
    let mut lines = vec![response.status().to_string()];
    let headers = response.headers().iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()));
    lines.extend(headers.filter(|header| !header.starts_with("content-length:")));
    lines[1..].sort();
    lines.push(String::new());
    lines.push(String::from_utf8(body_of(response).await.to_vec()).unwrap());
    lines.join("\n")
}

#[tokio::test]
async fn tells_the_signer_over_both_protocols_and_in_both_formats() {
    let sts = start().await;
    let mut http1 = Client::http1(&sts).await;
    let json = whole(http1.ask().await.unwrap()).await;
    insta::assert_snapshot!(json, @r#"
    200 OK
    content-type: application/json
    date: Tue, 24 Nov 2026 12:00:00 GMT
    x-amzn-requestid: 00000000-0000-4000-8000-000000000001

    {"GetCallerIdentityResponse":{"GetCallerIdentityResult":{"Account":"123456789012","Arn":"arn:aws:iam::123456789012:user/Alice","UserId":"AIDACKCEVSQ6C2EXAMPLE"},"ResponseMetadata":{"RequestId":"00000000-0000-4000-8000-000000000001"}}}
    "#);
    let mut http2 = Client::http2(&sts).await;
    let url = token::sign_url(&Credential::example_role(), StsHost::global(), cluster(), now(), 0);
    let xml = whole(http2.send(request(&url, "*/*")).await.unwrap()).await;
    insta::assert_snapshot!(xml, @r#"
    200 OK
    content-type: text/xml
    date: Tue, 24 Nov 2026 12:00:00 GMT
    x-amzn-requestid: 00000000-0000-4000-8000-000000000002

    <GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
      <GetCallerIdentityResult>
        <Arn>arn:aws:sts::123456789012:assumed-role/Admin/jane@example.com</Arn>
        <UserId>AROACKCEVSQ6C2EXAMPLE:jane@example.com</UserId>
        <Account>123456789012</Account>
      </GetCallerIdentityResult>
      <ResponseMetadata>
        <RequestId>00000000-0000-4000-8000-000000000002</RequestId>
      </ResponseMetadata>
    </GetCallerIdentityResponse>
    "#);

    let counts = sts.counts();
    assert_eq!((counts.calls, counts.connections, sts.calls_ended(Outcome::Answered)), (2, 2, 2));
    assert_eq!((sts.calls_of(EXAMPLE_ACCESS_KEY_ID), sts.calls_of("ASIAIOSFODNN7EXAMPLE"), sts.calls_of("AKIA")), (1, 1, 0));
    let last = sts.last_request().unwrap();
    assert!(last.is_http2 && last.host == HOST && last.path == "/" && url.ends_with(&last.query));
    assert_eq!(last.headers, [("x-k8s-aws-id".into(), "prod".into()), ("accept".into(), "*/*".into())]);
    assert!(!format!("{last:?}").contains("Signature"), "{last:?}");
}

#[tokio::test]
async fn has_a_certificate_for_each_host_of_sts_and_for_no_other() {
    let config = Config::new(Clock::fixed(now().unix()));
    let sts = FakeSts::start(Config { extra_hosts: vec!["sts.internal.example".into()], ..config }).await.unwrap();
    let regions = Partition::ALL.into_iter().flat_map(|p| p.known_regions().iter().map(move |region| (p, *region)));
    let hosts = regions.map(|(partition, region)| StsHost::regional(partition, region, Fips::No).unwrap().to_string());
    let others = ["sts.amazonaws.com", "sts-fips.us-east-1.api.aws", "sts.internal.example", "localhost", "127.0.0.1"];
    for host in hosts.step_by(5).chain(others.map(String::from)) {
        tls(&sts, &host, b"h2").await.unwrap_or_else(|error| panic!("{host}: {error}"));
    }
    for host in ["example.com", "sts.amazonaws.com.example.com"] {
        assert!(tls(&sts, host, b"h2").await.is_err(), "{host}");
    }
}

#[tokio::test]
async fn refuses_as_sts_does() {
    let sts = start().await;
    let mut client = Client::http2(&sts).await;
    let url = user_url();
    let spoilt = if url.ends_with('0') { format!("{}1", &url[..url.len() - 1]) } else { format!("{}0", &url[..url.len() - 1]) };
    let answer = whole(client.send(request(&spoilt, "*/*")).await.unwrap()).await;
    insta::assert_snapshot!(answer, @r#"
    403 Forbidden
    content-type: text/xml
    date: Tue, 24 Nov 2026 12:00:00 GMT
    x-amzn-requestid: 00000000-0000-4000-8000-000000000001

    <ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
      <Error>
        <Type>Sender</Type>
        <Code>SignatureDoesNotMatch</Code>
        <Message>The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details.</Message>
      </Error>
      <RequestId>00000000-0000-4000-8000-000000000001</RequestId>
    </ErrorResponse>
    "#);

    let mut other_cluster = request(&url, "application/json");
    other_cluster.headers_mut().insert("x-k8s-aws-id", "staging".parse().unwrap());
    let answer = whole(client.send(other_cluster).await.unwrap()).await;
    insta::assert_snapshot!(answer, @r#"
    403 Forbidden
    content-type: application/json
    date: Tue, 24 Nov 2026 12:00:00 GMT
    x-amzn-requestid: 00000000-0000-4000-8000-000000000002

    {"Error":{"Code":"SignatureDoesNotMatch","Message":"The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details.","Type":"Sender"},"RequestId":"00000000-0000-4000-8000-000000000002"}
    "#);

    let mut twice = request(&url, "application/json");
    twice.headers_mut().append("x-k8s-aws-id", "prod".parse().unwrap());
    assert_eq!(client.send(twice).await.unwrap().status(), 403);

    let identity = Credential::example_user().identity().clone();
    let stranger = Credential::new("AKIAI44QH8DHBEXAMPLE", "secret", identity).unwrap();
    let url = token::sign_url(&stranger, StsHost::global(), cluster(), now(), 60);
    let answer = whole(client.send(request(&url, "application/json")).await.unwrap()).await;
    insta::assert_snapshot!(answer, @r#"
    403 Forbidden
    content-type: application/json
    date: Tue, 24 Nov 2026 12:00:00 GMT
    x-amzn-requestid: 00000000-0000-4000-8000-000000000004

    {"Error":{"Code":"InvalidClientTokenId","Message":"The security token included in the request is invalid","Type":"Sender"},"RequestId":"00000000-0000-4000-8000-000000000004"}
    "#);
    sts.put_credential(stranger);
    assert_eq!(client.send(request(&url, "*/*")).await.unwrap().status(), 200, "once it is known");
    assert!(sts.remove_credential("AKIAI44QH8DHBEXAMPLE"));
    assert_eq!(client.send(request(&url, "*/*")).await.unwrap().status(), 403, "and no longer");

    let mut post = request(&user_url(), "*/*");
    *post.method_mut() = hyper::Method::POST;
    let answer = client.send(post).await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers()["allow"].to_str().unwrap()), (405, "GET"));

    let counts = sts.stop().await;
    let outcome = |outcome: Outcome| counts.outcomes[outcome.label()];
    assert_eq!(outcome(Outcome::SignatureDoesNotMatch), 3);
    assert_eq!((outcome(Outcome::InvalidClientTokenId), outcome(Outcome::Answered), outcome(Outcome::Malformed)), (2, 1, 1));
    assert_eq!(counts.access_keys["AKIAI44QH8DHBEXAMPLE"], 3);
}

#[tokio::test]
async fn takes_its_own_port_in_host_for_the_usual_one() {
    let sts = start().await;
    let mut client = Client::http1(&sts).await;
    let named = |port: u16| user_url().replacen(HOST, &format!("{HOST}:{port}"), 1);
    assert_eq!(client.send(request(&named(sts.addr().port()), "*/*")).await.unwrap().status(), 200);
    assert_eq!(client.send(request(&named(1), "*/*")).await.unwrap().status(), 404);
}

#[tokio::test]
async fn misbehaves_in_words_as_told() {
    let sts = start().await;
    let mut client = Client::http1(&sts).await;
    let mut answers = Vec::new();
    for behaviour in [
        Behaviour::Throttle,
        Behaviour::Status(503),
        Behaviour::error(503, "SlowDown", "Please reduce your request rate."),
        Behaviour::Redirect,
        Behaviour::ProxyPage,
        Behaviour::OtherPartition,
        Behaviour::AnswerAs(CallerIdentity::of_arn("arn:aws:iam::999999999999:root", "999999999999").unwrap()),
        Behaviour::Raw { status: 429, content_type: "text/plain".into(), body: Bytes::new() },
    ] {
        sts.queue(1, behaviour);
        answers.push(whole(client.ask().await.unwrap()).await);
    }
    insta::assert_snapshot!(answers.join("\n----\n"), @r#"
    400 Bad Request
    content-type: application/json
    date: Tue, 24 Nov 2026 12:00:00 GMT
    x-amzn-requestid: 00000000-0000-4000-8000-000000000001

    {"Error":{"Code":"Throttling","Message":"Rate exceeded","Type":"Sender"},"RequestId":"00000000-0000-4000-8000-000000000001"}
    ----
    503 Service Unavailable
    content-type: application/json
    date: Tue, 24 Nov 2026 12:00:00 GMT
    x-amzn-requestid: 00000000-0000-4000-8000-000000000002

    {"Error":{"Code":"ServiceUnavailable","Message":"The request has failed due to a temporary failure of the server.","Type":"Receiver"},"RequestId":"00000000-0000-4000-8000-000000000002"}
    ----
    503 Service Unavailable
    content-type: application/json
    date: Tue, 24 Nov 2026 12:00:00 GMT
    x-amzn-requestid: 00000000-0000-4000-8000-000000000003

    {"Error":{"Code":"SlowDown","Message":"Please reduce your request rate.","Type":"Receiver"},"RequestId":"00000000-0000-4000-8000-000000000003"}
    ----
    302 Found
    content-type: text/html
    date: Tue, 24 Nov 2026 12:00:00 GMT
    location: https://sts.amazonaws.com/redirected
    x-amzn-requestid: 00000000-0000-4000-8000-000000000004


    ----
    403 Forbidden
    content-type: text/html; charset=utf-8
    date: Tue, 24 Nov 2026 12:00:00 GMT
    x-amzn-requestid: 00000000-0000-4000-8000-000000000005

    <!DOCTYPE html>
    <html><head><title>403 Forbidden</title></head><body><h1>Access denied</h1><p>This web proxy does not let you reach that host. Throttling is for GetCallerIdentity.</p></body></html>

    ----
    200 OK
    content-type: application/json
    date: Tue, 24 Nov 2026 12:00:00 GMT
    x-amzn-requestid: 00000000-0000-4000-8000-000000000006

    {"GetCallerIdentityResponse":{"GetCallerIdentityResult":{"Account":"123456789012","Arn":"arn:aws-cn:iam::123456789012:user/Alice","UserId":"AIDACKCEVSQ6C2EXAMPLE"},"ResponseMetadata":{"RequestId":"00000000-0000-4000-8000-000000000006"}}}
    ----
    200 OK
    content-type: application/json
    date: Tue, 24 Nov 2026 12:00:00 GMT
    x-amzn-requestid: 00000000-0000-4000-8000-000000000007

    {"GetCallerIdentityResponse":{"GetCallerIdentityResult":{"Account":"999999999999","Arn":"arn:aws:iam::999999999999:root","UserId":"999999999999"},"ResponseMetadata":{"RequestId":"00000000-0000-4000-8000-000000000007"}}}
    ----
    429 Too Many Requests
    content-type: text/plain
    date: Tue, 24 Nov 2026 12:00:00 GMT
    x-amzn-requestid: 00000000-0000-4000-8000-000000000008
    "#);
    sts.queue(1, Behaviour::Garbage);
    let answer = client.ask().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers()["content-type"].to_str().unwrap()), (200, "application/json"));
    let body = body_of(answer).await;
    assert!(std::str::from_utf8(&body).is_err() && serde_json::from_slice::<serde_json::Value>(&body).is_err());
    assert_eq!(client.ask().await.unwrap().status(), 200, "then as before, on the same connection");
    assert_eq!(sts.counts().connections, 1);
    assert_eq!((sts.calls_ended(Outcome::Throttled), sts.calls_ended(Outcome::Error)), (1, 6));
}

#[tokio::test]
async fn sends_too_much_without_saying_so_first() {
    let sts = start().await;
    sts.set_behaviour(Behaviour::Oversize(1_000_000));
    for mut client in [Client::http1(&sts).await, Client::http2(&sts).await] {
        let answer = client.ask().await.unwrap();
        assert!(!answer.headers().contains_key("content-length"));
        let body = body_of(answer).await;
        assert_eq!(body.len(), 1_000_000);
        let value: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(value["GetCallerIdentityResponse"]["GetCallerIdentityResult"]["Account"], "123456789012");
    }
}

#[tokio::test]
async fn breaks_off_in_the_middle_of_the_body() {
    let sts = start().await;
    sts.set_behaviour(Behaviour::Truncated);
    for mut client in [Client::http1(&sts).await, Client::http2(&sts).await] {
        let answer = client.ask().await.unwrap();
        let announced: usize = answer.headers()["content-length"].to_str().unwrap().parse().unwrap();
        assert_eq!(answer.status(), 200);
        let mut body = answer.into_body();
        let mut received = 0;
        let error = loop {
            match body.frame().await {
                Some(Ok(frame)) => received += frame.data_ref().map_or(0, Bytes::len),
                Some(Err(error)) => break error,
                None => panic!("the body ended as if it were whole"),
            }
        };
        assert_eq!(received, announced / 2, "{error}");
    }
}

/// What the operating system says in the end of a chain of errors.
fn io_kind(error: &hyper::Error) -> Option<io::ErrorKind> {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(error) = cause.downcast_ref::<io::Error>() {
            return Some(error.kind());
        }
        source = cause.source();
    }
    None
}

#[tokio::test]
async fn resets_and_closes_connections() {
    let sts = start().await;
    for (behaviour, is_reset) in [(Behaviour::Reset, true), (Behaviour::CloseWithoutAnswer, false)] {
        for mut client in [Client::http1(&sts).await, Client::http2(&sts).await] {
            sts.queue(1, behaviour.clone());
            let error = client.ask().await.unwrap_err();
            assert_eq!(io_kind(&error) == Some(io::ErrorKind::ConnectionReset), is_reset, "{behaviour:?}: {error:?}");
        }
    }
    assert_eq!((sts.calls_ended(Outcome::Reset), sts.calls_ended(Outcome::Closed)), (2, 2));
    // Nothing of them is left.
    while sts.in_flight() != 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn holds_answers_at_a_gate() {
    let sts = start().await;
    let gate = sts.hold();
    let mut asking = Vec::new();
    for _ in 0..3 {
        let mut client = Client::http2(&sts).await;
        asking.push(tokio::spawn(async move { client.ask().await.unwrap().status() }));
    }
    gate.wait_held(3).await;
    assert_eq!((gate.held(), sts.in_flight(), sts.calls(), sts.calls_ended(Outcome::Answered)), (3, 3, 3, 0));
    asking.remove(0).abort();
    // The client is gone, and so is its call.
    while gate.held() != 2 {
        tokio::task::yield_now().await;
    }
    gate.pass(1);
    gate.open();
    for asking in asking {
        assert_eq!(asking.await.unwrap(), 200);
    }
    assert_eq!((sts.calls_ended(Outcome::Answered), sts.counts().peak_in_flight), (2, 3));
}

#[tokio::test]
async fn hangs_until_it_is_stopped() {
    let sts = start().await;
    sts.set_behaviour(Behaviour::Hang);
    let mut client = Client::http1(&sts).await;
    let asking = tokio::spawn(async move { client.ask().await.map(|answer| answer.status()) });
    sts.wait_for_calls(1).await;
    let addr = sts.addr();
    let counts = sts.stop().await;
    assert!(asking.await.unwrap().is_err());
    assert_eq!(counts.outcomes["hung"], 1);
    assert!(TcpStream::connect(addr).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn stops_with_idle_connections_and_when_dropped() {
    let sts = start().await;
    let mut client = Client::http2(&sts).await;
    assert_eq!(client.ask().await.unwrap().status(), 200);
    let idle = TcpStream::connect(sts.addr()).await.unwrap();
    sts.stop().await;
    assert!(client.ask().await.is_err());
    drop(idle);

    let sts = start().await;
    sts.set_behaviour(Behaviour::Hang);
    let mut client = Client::http2(&sts).await;
    let asking = tokio::spawn(async move { client.ask().await.map(|answer| answer.status()) });
    sts.wait_for_calls(1).await;
    drop(sts);
    assert!(asking.await.unwrap().is_err());
}

#[tokio::test(start_paused = true)]
async fn answers_later_by_the_clock_of_the_runtime() {
    let sts = start().await;
    sts.set_delay(Duration::from_secs(3));
    sts.queue(1, Behaviour::Delay(Duration::from_secs(4)));
    let mut client = Client::http1(&sts).await;
    for expected in [7, 3] {
        let before = tokio::time::Instant::now();
        assert_eq!(client.ask().await.unwrap().status(), 200);
        assert_eq!(before.elapsed().as_secs(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn stops_though_an_answer_is_not_due_or_not_read() {
    let sts = start().await;
    sts.queue(1, Behaviour::Oversize(u64::MAX));
    let mut client = Client::http1(&sts).await;
    let unread = client.ask().await.unwrap();
    sts.queue(1, Behaviour::Delay(Duration::from_secs(3600)));
    let mut client = Client::http2(&sts).await;
    let asking = tokio::spawn(async move { client.ask().await.map(|answer| answer.status()) });
    // From here to the stop nothing waits for I/O, in which time would pass: the clock jumps to the next timer.
    sts.wait_for_calls(2).await;
    let before = tokio::time::Instant::now();
    let counts = sts.stop().await;
    assert!(asking.await.unwrap().is_err());
    assert_eq!((before.elapsed().as_secs(), counts.outcomes["hung"], counts.outcomes["answered"]), (1, 1, 1));
    drop(unread);
}

#[tokio::test]
async fn misbehaves_with_every_nth_call() {
    let sts = start().await;
    sts.set_behaviour_every(NonZeroU64::new(3).unwrap(), Behaviour::Throttle);
    let mut client = Client::http2(&sts).await;
    let mut statuses = Vec::new();
    for _ in 0..6 {
        statuses.push(client.ask().await.unwrap().status().as_u16());
    }
    assert_eq!(statuses, [200, 200, 400, 200, 200, 400]);
}

#[tokio::test]
async fn says_so_where_it_cannot_start() {
    let sts = start().await;
    let config = Config::new(Clock::fixed(now().unix()));
    let error = FakeSts::start(Config { port: sts.addr().port(), ..config }).await.unwrap_err();
    assert!(matches!(error, StartError::Bind { .. }), "{error:?}");
    assert_eq!(error.to_string(), format!("cannot listen on 127.0.0.1:{}", sts.addr().port()));
}

/// A head as clients of STS send it, with more headers.
fn head(query: &str, more: &str) -> String {
    format!("GET /?{query} HTTP/1.1\r\nHost: {HOST}\r\nX-K8s-Aws-Id: prod\r\nAccept: application/json\r\n{more}\r\n")
}

fn user_query() -> String {
    user_url().split_once('?').unwrap().1.to_owned()
}

/// Reads so many answers with a Content-Length.
async fn read_answers(tls: &mut TlsStream<TcpStream>, answers: usize) -> Vec<String> {
    let mut received = String::new();
    let mut whole = Vec::new();
    while whole.len() < answers {
        let mut buffer = [0; 4096];
        let bytes = tls.read(&mut buffer).await.unwrap();
        assert!(bytes > 0, "cut off after {received}");
        received += str::from_utf8(&buffer[..bytes]).unwrap();
        while let Some((head, rest)) = received.split_once("\r\n\r\n") {
            let length: usize = head.split_once("content-length: ").unwrap().1.split("\r\n").next().unwrap().parse().unwrap();
            if rest.len() < length {
                break;
            }
            let answer = received[..head.len() + 4 + length].to_owned();
            received.drain(..answer.len());
            whole.push(answer);
        }
    }
    assert_eq!(received, "");
    whole
}

fn without_number(answer: &str) -> String {
    let (_, rest) = answer.split_once("x-amzn-requestid: ").unwrap();
    answer.replace(&rest[..36], "ID")
}

#[tokio::test]
async fn a_plain_call_is_answered_in_the_bytes_that_hyper_sends() {
    let sts = start().await;
    let role = token::sign_url(&Credential::example_role(), StsHost::global(), cluster(), now(), 0);
    for query in [user_query(), role.split_once('?').unwrap().1.to_owned()] {
        for accept in ["application/json", "*/*"] {
            let head = |more| head(&query, more).replace("application/json", accept);
            let mut answers = Vec::new();
            for more in ["", "Connection: keep-alive\r\n"] {
                let mut tls = tls(&sts, HOST, b"http/1.1").await.unwrap();
                tls.write_all(head(more).as_bytes()).await.unwrap();
                answers.extend(read_answers(&mut tls, 1).await);
            }
            assert!(answers[0].contains("arn:aws:"), "{}", answers[0]);
            assert_eq!(without_number(&answers[0]), without_number(&answers[1]));
        }
    }
    assert_eq!((sts.calls(), sts.calls_ended(Outcome::Answered), sts.in_flight()), (8, 8, 0));
}

#[tokio::test]
async fn calls_may_come_in_pieces_or_many_at_once() {
    let sts = start().await;
    let mut tls = tls(&sts, HOST, b"http/1.1").await.unwrap();
    let query = user_query();
    for byte in head(&query, "").as_bytes() {
        tls.write_all(&[*byte]).await.unwrap();
        tls.flush().await.unwrap();
    }
    let first = read_answers(&mut tls, 1).await;
    // The third of these is misbehaved with, after which hyper answers on this connection; the fifth has a body.
    sts.queue(2, Behaviour::Answer);
    sts.queue(1, Behaviour::Throttle);
    let all = [head(&query, "").repeat(4), head(&query, "Content-Length: 2\r\n"), "{}".into(), head(&query, "X-Other: 1\r\n")].concat();
    tls.write_all(all.as_bytes()).await.unwrap();
    let answers = [first, read_answers(&mut tls, 6).await].concat();
    let numbers: Vec<_> = (1..=7).map(|number| format!("x-amzn-requestid: 00000000-0000-4000-8000-{number:012x}\r\n")).collect();
    for (answer, number) in answers.iter().zip(&numbers) {
        assert!(answer.contains(number), "{answer}");
        let expected = if number == &numbers[3] { "HTTP/1.1 400 Bad Request\r\n" } else { "HTTP/1.1 200 OK\r\n" };
        assert!(answer.starts_with(expected), "{answer}");
    }
    let counts = sts.counts();
    assert_eq!((counts.calls, counts.outcomes["answered"], counts.outcomes["throttled"], counts.peak_in_flight), (7, 6, 1, 1));
    assert_eq!((counts.tokens, counts.peak_calls_of_a_token, counts.connections), (1, 7, 1));
}

#[tokio::test]
async fn the_last_request_is_told_as_it_came() {
    let sts = start().await;
    for more in ["X-Two: a\r\nX-One: \u{e9}\r\nx-two:b\r\n", "Connection: close\r\nX-Two: a\r\nX-One: \u{e9}\r\nx-two:b\r\n"] {
        let mut tls = tls(&sts, HOST, b"http/1.1").await.unwrap();
        tls.write_all(head(&user_query(), more).as_bytes()).await.unwrap();
        read_answers(&mut tls, 1).await;
        if more.contains("close") {
            assert_eq!(tls.read(&mut [0; 1]).await.unwrap(), 0, "closed as it was asked for");
        }
        let last = sts.last_request().unwrap();
        assert!(!last.is_http2 && last.method == "GET" && last.host == HOST && last.path == "/" && last.query == user_query());
        let names = |name: &(String, String)| (name.0 != "connection").then(|| format!("{}={}", name.0, name.1));
        let headers: Vec<_> = last.headers.iter().filter_map(names).collect();
        assert_eq!(headers.join(" "), "host=sts.amazonaws.com x-k8s-aws-id=prod accept=application/json x-two=a x-two=b x-one=\u{e9}");
    }
}

#[tokio::test]
async fn a_call_that_is_not_as_usual_is_judged_once() {
    let sts = start().await;
    let query = user_query();
    let spoilt = format!("{}0", &query[..query.len() - 1]);
    let spoilt = if spoilt == query { format!("{}1", &query[..query.len() - 1]) } else { spoilt };
    for (head, status) in [
        (head(&spoilt, ""), "403"),
        (head(&query, "").replace("prod", "other"), "403"),
        (head(&query, "X-K8s-Aws-Id: prod\r\n"), "403"),
        (head(&query, "").replace("GET /?", "GET /x?"), "404"),
        (head(&query, "").replace("GET", "POST"), "405"),
        (head(&query, "").replace("&X-Amz-Date=", "&X-Amz-Date=x"), "400"),
        (head(&query, "").replace("HTTP/1.1", "HTTP/1.0"), "200"),
        (head(&query, "").replace("GET /?", &format!("GET https://{HOST}/?")), "200"),
    ] {
        let before = sts.calls();
        let mut tls = tls(&sts, HOST, b"http/1.1").await.unwrap();
        tls.write_all(head.as_bytes()).await.unwrap();
        let answers = read_answers(&mut tls, 1).await;
        assert_eq!(&answers[0][9..12], status, "{head}{}", answers[0]);
        assert_eq!((sts.calls(), sts.in_flight()), (before + 1, 0), "{head}");
    }
    let ended: u64 = sts.counts().outcomes.values().sum();
    assert_eq!(ended, sts.calls());
}
