//! The whole of it, on loopback.

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

#[tokio::test]
async fn an_idle_peer_that_does_not_take_leave_makes_room_all_the_same() {
    let limits = Limits {
        max_connections: 1,
        drain: Duration::from_secs(3600),
        drain_first_request: Duration::from_millis(10),
        ..Limits::default()
    };
    let server = start(true, limits, echo).await;
    let socket = server.connect().await.into_std().unwrap();
    let mut watched = TcpStream::from_std(socket.try_clone().unwrap()).unwrap();
    let connector = tokio_rustls::TlsConnector::from(client_config("h2"));
    let stream = connector.connect(ServerName::try_from("localhost").unwrap(), TcpStream::from_std(socket).unwrap()).await.unwrap();
    let (mut idle, mut connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let answer = idle.send_request(request("/"));
    tokio::select! {
        answer = answer => assert_eq!(answer.unwrap().status(), 200),
        _ = &mut connection => panic!("the connection ended"),
    }
    // From now on nobody looks at it on our side.
    let _second = server.connect().await;
    until_closed(&mut watched).await;
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
async fn a_greeting_without_end_is_given_up() {
    let server = start(true, Limits::default(), echo).await;
    let mut stream = server.connect().await;
    // A record of 16 kB with a ClientHello of 60 kB, as its heads say.
    stream.write_all(&[0x16, 3, 1, 0x40, 0, 1, 0, 0xea, 0x60]).await.unwrap();
    stream.write_all(&[0; 9 << 10]).await.unwrap();
    until_closed(&mut stream).await;
}

/// Asks over and over; how many answers came until the connection ended.
async fn ask_until_closed(server: &Running, protocol: &str) -> usize {
    let stream = TokioIo::new(server.connect_tls(protocol).await);
    let mut answers = 0;
    if protocol == "h2" {
        let (client, connection) = http2::handshake::<_, _, Empty<Bytes>>(TokioExecutor::new(), stream).await.unwrap();
        tokio::spawn(connection);
        let streams = (0..8).map(|_| {
            let mut client = client.clone();
            async move {
                let mut answers = 0;
                while client.ready().await.is_ok() {
                    let Ok(answer) = client.send_request(request("/")).await else { break };
                    assert!(text(answer).await.contains("HTTP/2.0 /"));
                    answers += 1;
                }
                answers
            }
        });
        drop(client.clone());
        answers += futures_util::future::join_all(streams).await.into_iter().sum::<usize>();
    } else {
        let (mut client, connection) = http1::handshake::<_, Empty<Bytes>>(stream).await.unwrap();
        tokio::spawn(connection);
        while client.ready().await.is_ok() {
            let Ok(answer) = client.send_request(request("/")).await else { break };
            assert!(text(answer).await.contains("HTTP/1.1"));
            answers += 1;
        }
    }
    answers
}

#[tokio::test]
async fn a_stop_under_load_loses_no_request_that_was_accepted() {
    let taken = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let half_time = Arc::new(Notify::new());
    let handler = {
        let (taken, half_time) = (Arc::clone(&taken), Arc::clone(&half_time));
        move |peer: Peer, request: Request<Incoming>| {
            if taken.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 500 {
                half_time.notify_one();
            }
            async move {
                tokio::task::yield_now().await;
                echo(peer, request).await
            }
        }
    };
    let mut server = start(true, Limits::default(), handler).await;
    let stop = server.stop.take().unwrap();
    let clients =
        futures_util::future::join_all((0..8).map(|index| ask_until_closed(&server, if index % 2 == 0 { "h2" } else { "http/1.1" })));
    let stopping = async {
        half_time.notified().await;
        stop.send(()).unwrap();
    };
    let (answers, ()) = tokio::join!(clients, stopping);
    assert_eq!(server.ended.await.unwrap(), Drained { cut_off: 0 });
    assert_eq!(answers.iter().sum::<usize>(), taken.load(std::sync::atomic::Ordering::Relaxed));
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
    let mut first = start_on(first, false, Limits::default(), echo);
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
