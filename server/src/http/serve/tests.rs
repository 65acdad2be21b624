//! The whole of it, on loopback.

mod ends;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

use super::*;
use crate::http::tls::tests::{client_config, server_tls};
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
    start_with(listener, tls.then(|| server_tls(None)), limits, handler)
}

fn start_with(listener: TcpListener, tls: Option<Tls>, limits: Limits, handler: impl Handler) -> Running {
    let address = listener.local_addr().unwrap();
    let metrics = Arc::new(Metrics::new());
    let refusals = Arc::clone(&metrics) as Arc<dyn Refusals>;
    let (stop, stopped) = oneshot::channel();
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

/// Answers, but to a request for `held` only once it is told to go on; it tells when it has one.
fn hold(held: &'static str) -> (Arc<Notify>, Arc<Notify>, impl Handler) {
    let (entered, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let notices = (Arc::clone(&entered), Arc::clone(&go_on));
    let handler = move |_: Peer, request: Request<Incoming>| {
        let (entered, go_on) = notices.clone();
        async move {
            if request.uri().path() == held {
                entered.notify_one();
                go_on.notified().await;
            }
            Response::new(Full::<Bytes>::from("answered"))
        }
    };
    (entered, go_on, handler)
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

/// So long that no test comes to its end.
const NEVER: Duration = Duration::from_secs(86_400);

/// Who has connected may take his time at the stop as well: a machine that has other things to do can take any.
fn no_hurry() -> Limits {
    Limits { drain: NEVER, drain_first_request: NEVER, ..Limits::default() }
}

/// Waits for what must come. The bound is no measure: without it a test that fails would not end.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(60), what).await.expect("it does not come")
}

/// The preface of HTTP/2, and SETTINGS that set nothing (RFC 9113, section 3.4).
const GREETING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// A peer of HTTP/2 that does only what he is told, and so takes no leave.
struct Plain(tokio_rustls::client::TlsStream<TcpStream>);

impl Plain {
    const HEADERS: u8 = 1;
    const GOAWAY: u8 = 7;

    /// Says his greeting and hears ours.
    async fn greet(server: &Running) -> Self {
        let mut stream = server.connect_tls("h2").await;
        stream.write_all(GREETING).await.unwrap();
        let mut plain = Self(stream);
        plain.frame().await;
        plain
    }

    /// The next frame: its type, its stream, and what is in it.
    async fn frame(&mut self) -> (u8, u32, Vec<u8>) {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).await.unwrap();
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length.try_into().unwrap()];
        self.0.read_exact(&mut payload).await.unwrap();
        (head[3], u32::from_be_bytes([head[5], head[6], head[7], head[8]]), payload)
    }

    async fn until(&mut self, kind: u8, stream: u32) {
        while !matches!(self.frame().await, (found, of, _) if (found, of) == (kind, stream)) {}
    }

    /// `GET /` of an `https://localhost`, all of it in one frame.
    async fn ask(&mut self, stream: u8) {
        let head = [0, 0, 14, Self::HEADERS, 0x5, 0, 0, 0, stream, 0x82, 0x87, 0x84, 0x41, 9];
        self.0.write_all(&[&head, &b"localhost"[..]].concat()).await.unwrap();
    }
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
async fn a_peer_of_http_2_is_told_its_limits() {
    let limits = Limits { max_streams: 77, stream_window: 70_001, connection_window: 300_003, max_head: 9001, ..Limits::default() };
    let server = start(true, limits, echo).await;
    let mut stream = server.connect_tls("h2").await;
    stream.write_all(GREETING).await.unwrap();
    let mut peer = Plain(stream);
    let mut told = Vec::new();
    // RFC 9113, sections 6.5.2 and 6.9: what SETTINGS set, and how much more than 65 535 bytes the connection takes.
    while !told.iter().any(|(which, _)| *which == 0) {
        let (kind, stream, payload) = soon(peer.frame()).await;
        match (kind, stream) {
            (4, 0) => told.extend(payload.chunks(6).map(|set| (u32::from(set[1]), u32::from_be_bytes([set[2], set[3], set[4], set[5]])))),
            (8, 0) => told.push((0, u32::from_be_bytes([payload[0], payload[1], payload[2], payload[3]]))),
            _ => {}
        }
    }
    let of = |which| told.iter().find(|(found, _)| *found == which).map(|(_, value)| *value);
    assert_eq!([of(3), of(4), of(6), of(0)], [Some(77), Some(70_001), Some(9001), Some(300_003 - 65_535)], "{told:?}");
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let server = start(true, Limits::default(), echo).await;
    for (length, status) in [(7 << 10, 200), (9 << 10, 431)] {
        let mut asked = request("/");
        asked.headers_mut().insert("x-long", "a".repeat(length).parse().unwrap());
        let (mut client, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(server.connect_tls("h2").await)).await.unwrap();
        tokio::spawn(connection);
        assert_eq!(soon(client.send_request(asked)).await.unwrap().status(), status, "HTTP/2, {length}");
        // Whoever is refused is not read to his end, and may be reset before he has seen why.
        let mut stream = server.connect_tls("http/1.1").await;
        let head = format!("GET / HTTP/1.1\r\nhost: x\r\nx-long: {}\r\n\r\n", "a".repeat(length));
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut line = [0; 12];
        let is_answered = soon(stream.read_exact(&mut line)).await.is_ok();
        let line = String::from_utf8_lossy(&line);
        assert!(line == format!("HTTP/1.1 {status}") || (status == 431 && !is_answered), "{length}: {line}");
    }
}

#[tokio::test]
async fn a_panic_ends_its_connection_alone_and_is_told_without_what_was_asked() {
    let told = crate::telemetry::Captured::default();
    let clock = Arc::new(crate::clock::SystemClock::new());
    let log = crate::telemetry::Log::new(crate::telemetry::Format::Text, crate::telemetry::Level::Info, clock, told.clone());
    let _guard =
        tracing::subscriber::set_default(tracing_subscriber::layer::SubscriberExt::with(tracing_subscriber::registry(), log.layer()));
    let handler = |peer: Peer, request: Request<Incoming>| async move {
        assert!(request.uri().path() == "/late", "on purpose");
        echo(peer, request).await
    };
    let server = start(false, Limits::default(), handler).await;
    let mut unlucky = server.connect().await;
    unlucky.write_all(b"GET /secret HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    assert_eq!(soon(until_closed(&mut unlucky)).await, b"");
    assert!(exchange(server.connect().await).await.starts_with("HTTP/1.1 200 OK\r\n"));
    let told = told.text();
    assert!(told.ends_with("level=error msg=\"a connection ended in a panic\"\n") && told.lines().count() == 1, "{told}");
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

#[tokio::test]
async fn a_new_certificate_under_load_ends_no_connection() {
    let (tls, current) = crate::http::tls::tests::server_tls_with_current();
    let server = start_with(bind("127.0.0.1", 0).await.unwrap(), Some(tls), Limits::default(), echo);
    let (mut client, connection) =
        http2::handshake::<_, _, Empty<Bytes>>(TokioExecutor::new(), TokioIo::new(server.connect_tls("h2").await)).await.unwrap();
    tokio::spawn(connection);
    let shown = |stream: &tokio_rustls::client::TlsStream<TcpStream>| stream.get_ref().1.peer_certificates().unwrap().to_vec();
    for round in 0..20 {
        let certificate = crate::http::tls::tests::certificate(round % 2);
        current.replace(Arc::clone(&certificate));
        assert!(text(client.send_request(request("/")).await.unwrap()).await.contains("HTTP/2.0 /"));
        let newcomer = server.connect_tls("http/1.1").await;
        assert_eq!(shown(&newcomer), certificate.cert, "round {round}");
        assert!(exchange(newcomer).await.starts_with("HTTP/1.1 200 OK\r\n"));
    }
}

#[tokio::test]
async fn a_client_is_judged_by_authority_and_name_once_for_each_connection() {
    use crate::http::tls::tests::{Authority, client_config_with};
    use crate::http::tls::{Clients, Standing};

    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let folder = tempfile::tempdir().unwrap();
    let ca_file = folder.path().join("ca.pem");
    std::fs::write(&ca_file, ours.pem()).unwrap();
    let clients = Arc::new(Clients::load(&ca_file, vec!["kube-apiserver".into(), "other.example".into()]).unwrap());
    let standing = |peer: Peer, _: Request<Incoming>| async move { Response::new(Full::<Bytes>::from(format!("{:?}", peer.standing))) };
    let server = start_with(bind("127.0.0.1", 0).await.unwrap(), Some(server_tls(Some(Arc::clone(&clients)))), Limits::default(), standing);
    let found = async |config: Arc<rustls::ClientConfig>| {
        let connector = tokio_rustls::TlsConnector::from(config);
        let stream = connector.connect(ServerName::try_from("localhost").unwrap(), server.connect().await).await.unwrap();
        let answer = exchange(stream).await;
        answer.rsplit("\r\n").next().unwrap().to_owned()
    };
    let accepted = format!("{:?}", Standing::Accepted);
    let known = client_config_with(Some(ours.issue(Some("kube-apiserver"), &[])));
    assert_eq!(found(Arc::clone(&known)).await, accepted);
    assert_eq!(found(Arc::clone(&known)).await, accepted, "and when it resumes");
    assert_eq!(found(client_config_with(Some(ours.issue(None, &["other.example"])))).await, accepted);
    // A certificate may be as large as some are: 12 kB.
    let names: Vec<_> =
        (0..400).map(|number| format!("api-server-{number}.kubernetes.example")).chain(["other.example".to_owned()]).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    assert_eq!(found(client_config_with(Some(ours.issue(None, &names)))).await, accepted);
    for stranger in [
        None,
        Some(ours.issue(Some("kubelet"), &["kubelet.example"])),
        Some(ours.issue(Some("kube-apiserver.example"), &["kube-apiserver.example"])),
        Some(theirs.issue(Some("kube-apiserver"), &[])),
    ] {
        assert_eq!(found(client_config_with(stranger)).await, "Unknown");
    }

    // What is in force when the connection begins counts, also for a session from before.
    std::fs::write(&ca_file, theirs.pem()).unwrap();
    clients.reload(&ca_file).unwrap();
    assert_eq!(found(Arc::clone(&known)).await, "Unknown");
    assert_eq!(found(client_config_with(Some(theirs.issue(Some("kube-apiserver"), &[])))).await, accepted);
    std::fs::write(&ca_file, "nothing").unwrap();
    let error = clients.reload(&ca_file).unwrap_err().to_string();
    assert!(error.ends_with("ca.pem: no certificate in it (want PEM, `-----BEGIN CERTIFICATE-----`)"), "{error}");
    assert_eq!(found(client_config_with(Some(theirs.issue(Some("kube-apiserver"), &[])))).await, accepted, "the last good ones stay");
}

#[tokio::test]
async fn two_listen_on_one_port_if_both_say_so_and_the_next_takes_over() {
    let listen = |port| bind_for("127.0.0.1", port, Sharing::WithOthers);
    let first = listen(0).await.unwrap();
    let port = first.local_addr().unwrap().port();
    assert_eq!(bind("127.0.0.1", port).await.unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
    let second = listen(port).await.unwrap();
    let queued: Vec<_> = futures_util::future::join_all((0..32).map(|_| TcpStream::connect(("127.0.0.1", port)))).await;
    let mut first = start_on(first, false, no_hurry(), echo);
    let second = start_on(second, false, Limits::default(), echo);
    first.stop();
    // Those who waited at the first are answered by it, and all others by the second.
    for stream in queued {
        assert!(exchange(stream.unwrap()).await.starts_with("HTTP/1.1 200 OK\r\n"));
    }
    assert_eq!(first.ended.await.unwrap(), Drained { cut_off: 0 });
    for _ in 0..32 {
        assert!(exchange(second.connect().await).await.starts_with("HTTP/1.1 200 OK\r\n"));
    }
}
