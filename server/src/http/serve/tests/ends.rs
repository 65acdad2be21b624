//! How connections end: by silence, to make room, and at a stop.

use super::*;

#[tokio::test]
async fn what_is_under_way_at_the_stop_is_answered() {
    for protocol in ["h2", "http/1.1"] {
        let (entered, go_on, handler) = hold("/");
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
    let mut server = start_on(listener, false, no_hurry(), echo);
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
    // Also whoever has asked before.
    for more in ["", "GET / HTTP/1.1\r\nhost:"] {
        let mut known = server.connect().await;
        known.write_all(format!("GET / HTTP/1.1\r\nhost: x\r\n\r\n{more}").as_bytes()).await.unwrap();
        let said = String::from_utf8(soon(until_closed(&mut known)).await).unwrap();
        assert!(said.starts_with("HTTP/1.1 200 OK\r\n") && said.ends_with("HTTP/1.1 /"), "{said}");
    }
}

#[tokio::test]
async fn a_silent_peer_of_http_2_is_asked_whether_it_is_there() {
    let short = Duration::from_millis(20);
    let limits = Limits { request_head: NEVER, ping_interval: short, ping_timeout: short, ..Limits::default() };
    let server = start(true, limits, echo).await;
    let mut gone = Plain::greet(&server).await;
    soon(until_closed(&mut gone.0)).await;
}

#[tokio::test]
async fn whoever_greets_and_asks_nothing_is_closed_though_he_takes_no_leave() {
    let short = Duration::from_millis(20);
    let limits = Limits { request_head: short, drain_first_request: short, ping_interval: NEVER, drain: NEVER, ..Limits::default() };
    let server = start(true, limits, echo).await;
    // Whether or not he has come as far as to greet.
    let mut stream = server.connect_tls("h2").await;
    let _ = stream.write_all(GREETING).await;
    soon(until_closed(&mut stream)).await;
}

#[tokio::test]
async fn whoever_has_asked_in_time_is_not_closed_for_taking_his_time_with_the_rest() {
    let (entered, go_on, handler) = hold("/wait");
    let server = start(false, Limits { request_head: Duration::from_millis(50), ..Limits::default() }, handler).await;
    let mut busy = server.connect().await;
    // Both heads at once, so that the second is not late.
    busy.write_all(b"GET /wait HTTP/1.1\r\nhost: x\r\n\r\nGET /next HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    entered.notified().await;
    // Who has connected later and says nothing has had his time, and so has the first.
    soon(until_closed(&mut server.connect().await)).await;
    go_on.notify_one();
    let answers = String::from_utf8(soon(until_closed(&mut busy)).await).unwrap();
    assert_eq!(answers.matches("answered").count(), 2, "{answers}");
}

#[tokio::test]
async fn whoever_has_asked_nothing_makes_room_however_far_he_has_come() {
    let limits = Limits {
        handshake: NEVER,
        request_head: NEVER,
        ping_interval: NEVER,
        drain: NEVER,
        drain_first_request: Duration::from_millis(20),
        max_connections: 1,
        ..Limits::default()
    };
    for stage in ["connected", "with TLS", "greeted"] {
        let server = start(true, limits, echo).await;
        let mut silent: Box<dyn AsyncRead + Unpin> = match stage {
            "connected" => Box::new(server.connect().await),
            "with TLS" => Box::new(server.connect_tls("h2").await),
            _ => Box::new(Plain::greet(&server).await.0),
        };
        let second = soon(server.connect_tls("http/1.1")).await;
        soon(until_closed(&mut silent)).await;
        assert!(soon(exchange(second)).await.starts_with("HTTP/1.1 200 OK\r\n"), "{stage}");
    }
}

#[tokio::test]
async fn a_stop_waits_a_moment_for_the_request_of_whoever_has_greeted_and_no_longer() {
    let limits = Limits {
        request_head: NEVER,
        ping_interval: NEVER,
        drain: NEVER,
        drain_first_request: Duration::from_millis(200),
        ..Limits::default()
    };
    let mut server = start(true, limits, echo).await;
    let mut greeted = Plain::greet(&server).await.0;
    let mut late = server.connect_tls("h2").await;
    server.stop();
    while TcpStream::connect(server.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    // If he still comes in time, his time begins anew.
    let _ = late.write_all(GREETING).await;
    soon(until_closed(&mut greeted)).await;
    soon(until_closed(&mut late)).await;
    assert_eq!(soon(server.ended).await.unwrap(), Drained { cut_off: 0 });
}

#[tokio::test]
async fn whoever_asks_in_the_moment_in_which_he_is_told_to_go_is_answered() {
    let usual = Limits { ping_interval: NEVER, drain: NEVER, drain_first_request: Duration::from_millis(500), ..Limits::default() };
    // For he has asked nothing in time, and to make room, once he has asked something.
    for (limits, asked) in [
        (Limits { request_head: Duration::from_millis(300), ..usual }, false),
        (Limits { request_head: NEVER, max_connections: 1, ..usual }, true),
    ] {
        let (entered, go_on, handler) = hold("/");
        let server = start(true, limits, handler).await;
        let mut peer = Plain::greet(&server).await;
        let _second = if asked {
            go_on.notify_one();
            peer.ask(1).await;
            soon(peer.until(Plain::HEADERS, 1)).await;
            entered.notified().await;
            Some(server.connect().await)
        } else {
            None
        };
        soon(peer.until(Plain::GOAWAY, 0)).await;
        peer.ask(3).await;
        soon(entered.notified()).await;
        // Elsewhere somebody is given as long as he is from now on, and twice.
        let mut elsewhere = start(true, limits, echo).await;
        let mut other = Plain::greet(&elsewhere).await;
        elsewhere.stop();
        soon(until_closed(&mut other.0)).await;
        go_on.notify_one();
        soon(peer.until(Plain::HEADERS, 3)).await;
    }
}

#[tokio::test]
async fn whoever_has_to_make_room_has_an_end_whatever_he_has_asked_meanwhile() {
    let short = Duration::from_millis(20);
    let limits = Limits {
        max_connections: 1,
        request_head: NEVER,
        ping_interval: NEVER,
        drain: short,
        drain_first_request: Duration::from_millis(500),
        ..Limits::default()
    };
    let (taken, entered) = (Arc::new(std::sync::atomic::AtomicBool::new(false)), Arc::new(Notify::new()));
    let handler = {
        let entered = Arc::clone(&entered);
        move |peer: Peer, request: Request<Incoming>| {
            let (is_first, entered) = (!taken.swap(true, std::sync::atomic::Ordering::Relaxed), Arc::clone(&entered));
            async move {
                if !is_first {
                    entered.notify_one();
                    std::future::pending::<()>().await;
                }
                echo(peer, request).await
            }
        }
    };
    let server = start(true, limits, handler).await;
    let mut peer = Plain::greet(&server).await;
    peer.ask(1).await;
    soon(peer.until(Plain::HEADERS, 1)).await;
    let _second = server.connect().await;
    soon(peer.until(Plain::GOAWAY, 0)).await;
    peer.ask(3).await;
    soon(entered.notified()).await;
    soon(until_closed(&mut peer.0)).await;
}

#[tokio::test]
async fn the_idle_make_room_and_the_busy_do_not() {
    let (entered, go_on, handler) = hold("/wait");
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
async fn a_greeting_without_end_is_given_up() {
    let server = start(true, Limits { handshake: NEVER, ..Limits::default() }, echo).await;
    let mut stream = server.connect().await;
    // A record of 16 kB with a ClientHello of 60 kB, as its heads say.
    stream.write_all(&[0x16, 3, 1, 0x40, 0, 1, 0, 0xea, 0x60]).await.unwrap();
    stream.write_all(&[0; 9 << 10]).await.unwrap();
    soon(until_closed(&mut stream)).await;
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
    let mut server = start(true, no_hurry(), handler).await;
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
