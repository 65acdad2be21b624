//! The plain listener for probes: `:21363`.
//!
//! Like the reference's it says `ok` on every path, to everybody, as long as the process runs. `/readyz` says `ok`, or `not ready` with 503. What would tell
//! more, `/metrics` and `?verbose`, is for peers on loopback, or for all once the operator has chosen the address: on its default, all interfaces, an upgrade
//! from the reference must not show the network more than before. To all others such a request is like any other path.
//!
//! A port in use is a warning, for the webhook can do without; see [`listen`].
//!
//! upstream: `healthzHandler` and `Run` in pkg/server/server.go.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use hyper::{Method, Response, StatusCode};
use tokio::net::TcpListener;

use super::respond::{Reply, page, text};
use super::serve::{self, Drained, Limits, Peer, Refusals, Sharing};
use crate::metrics::{self, Metrics};

/// The port where the reference has its health check.
pub const DEFAULT_PORT: u16 = 21363;

/// One thing that readiness depends on, or that is worth knowing beside.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Check {
    /// What it is, in a word or two.
    pub name: &'static str,
    /// Whether it is so.
    pub ok: bool,
    /// Whether we are not ready without it; STS is not, for a webhook must not leave the rotation because AWS is slow.
    pub required: bool,
}

/// Tells whether we can do our work.
pub trait Readiness: fmt::Debug + Send + Sync {
    /// All checks, in a fixed order; quick, and without I/O.
    fn checks(&self) -> Vec<Check>;
}

/// Who may see more than `ok`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Audience {
    /// The address was set by the operator: everybody who reaches it.
    Everybody,
    /// The default address: peers on loopback.
    Loopback,
}

/// What the listener answers from; clones are cheap.
#[derive(Clone, Debug)]
pub struct Admin {
    audience: Audience,
    metrics: Arc<Metrics>,
    readiness: Arc<dyn Readiness>,
}

impl Admin {
    /// Answers from `metrics` and `readiness`.
    #[must_use]
    pub const fn new(audience: Audience, metrics: Arc<Metrics>, readiness: Arc<dyn Readiness>) -> Self {
        Self { audience, metrics, readiness }
    }

    /// The answer to one request.
    #[must_use]
    pub fn answer(&self, peer: Peer, method: &Method, path: &str, query: Option<&str>) -> Response<Reply> {
        let trusted = self.audience == Audience::Everybody || peer.is_loopback();
        let reading = *method == Method::GET || *method == Method::HEAD;
        // Kubernetes' own components take `?verbose` with and without a value.
        let verbose =
            trusted && reading && query.is_some_and(|query| query.split('&').any(|pair| pair.split('=').next() == Some("verbose")));
        match path {
            "/metrics" if trusted && reading => page(StatusCode::OK, metrics::CONTENT_TYPE, self.metrics.encode()),
            "/readyz" => self.readiness(verbose),
            _ => text(StatusCode::OK, "ok"),
        }
    }

    fn readiness(&self, verbose: bool) -> Response<Reply> {
        let checks = self.readiness.checks();
        let ready = checks.iter().all(|check| check.ok || !check.required);
        let (status, word) = if ready { (StatusCode::OK, "ok") } else { (StatusCode::SERVICE_UNAVAILABLE, "not ready") };
        if !verbose {
            return text(status, word);
        }
        let mut lines = String::new();
        for Check { name, ok, required } in checks {
            let (sign, word) = if ok { ("+", "ok") } else { ("-", "failed") };
            let note = if required { "" } else { " (not required)" };
            writeln!(lines, "[{sign}]{name} {word}{note}").unwrap_or_else(|fmt::Error| ());
        }
        lines.push_str(word);
        lines.push('\n');
        text(status, lines)
    }
}

/// Listens where probes look, or warns and does without.
pub async fn listen(address: &str, port: u16, sharing: Sharing) -> Option<TcpListener> {
    match serve::bind_for(address, port, sharing).await {
        Ok(listener) => Some(listener),
        Err(error) => {
            tracing::warn!(%error, "health checks and metrics on their own port are off");
            None
        }
    }
}

/// Bounds for the listener of probes: a kubelet and a Prometheus or two, so few connections will do, and they cannot crowd out the webhook's memory.
#[must_use]
pub fn limits() -> Limits {
    Limits { max_connections: 32, max_head: 8 << 10, ..Limits::default() }
}

/// Answers probes on `listener` until `shutdown`.
pub async fn serve(listener: TcpListener, admin: Admin, refusals: Arc<dyn Refusals>, shutdown: impl Future<Output = ()> + Send) -> Drained {
    let handler = move |peer, request: hyper::Request<hyper::body::Incoming>| {
        let answer = admin.answer(peer, request.method(), request.uri().path(), request.uri().query());
        std::future::ready(answer)
    };
    serve::serve(listener, None, handler, limits(), refusals, shutdown).await
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::http::tls::Standing;

    #[derive(Debug)]
    struct Checks(Vec<Check>);

    impl Readiness for Checks {
        fn checks(&self) -> Vec<Check> {
            self.0.clone()
        }
    }

    fn admin(audience: Audience, mappings: bool) -> Admin {
        let checks = vec![Check { name: "mappings", ok: mappings, required: true }, Check { name: "sts", ok: false, required: false }];
        Admin::new(audience, Arc::new(Metrics::new()), Arc::new(Checks(checks)))
    }

    async fn ask(admin: &Admin, peer: &str, target: &str) -> (u16, String) {
        let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        let answer = admin.answer(Peer { address: peer.parse().unwrap(), standing: Standing::Unasked }, &Method::GET, path, query);
        let status = answer.status().as_u16();
        (status, String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap())
    }

    const NEAR: &str = "127.0.0.1:1234";
    const FAR: &str = "192.0.2.1:1234";

    #[tokio::test]
    async fn says_ok_on_every_path_to_everybody() {
        for peer in [NEAR, FAR, "[::1]:1234", "[2001:db8::1]:1234"] {
            for target in ["/", "/healthz", "/livez?verbose", "/anything?x=y", "/readyz"] {
                assert_eq!(ask(&admin(Audience::Loopback, true), peer, target).await, (200, "ok".to_owned()), "{peer} {target}");
            }
        }
    }

    #[tokio::test]
    async fn is_not_ready_without_what_is_required() {
        for peer in [NEAR, FAR] {
            assert_eq!(ask(&admin(Audience::Loopback, false), peer, "/readyz").await, (503, "not ready".to_owned()));
            assert_eq!(ask(&admin(Audience::Loopback, false), peer, "/healthz").await, (200, "ok".to_owned()));
        }
    }

    #[tokio::test]
    async fn tells_more_on_loopback_or_where_the_operator_chose_the_address() {
        for (audience, peer) in [(Audience::Loopback, NEAR), (Audience::Loopback, "[::1]:1"), (Audience::Everybody, FAR)] {
            let (status, text) = ask(&admin(audience, false), peer, "/readyz?verbose").await;
            assert_eq!((status, text.as_str()), (503, "[-]mappings failed\n[-]sts failed (not required)\nnot ready\n"));
            let (status, text) = ask(&admin(audience, true), peer, "/readyz?timeout=1s&verbose=1").await;
            assert_eq!((status, text.as_str()), (200, "[+]mappings ok\n[-]sts failed (not required)\nok\n"));
            let (status, text) = ask(&admin(audience, true), peer, "/metrics").await;
            assert!(status == 200 && text.contains("arngate_build_info{"), "{text}");
        }
        assert_eq!(ask(&admin(Audience::Loopback, true), FAR, "/metrics").await, (200, "ok".to_owned()));
        let near = Peer { address: NEAR.parse().unwrap(), standing: Standing::Unasked };
        let posted = admin(Audience::Everybody, true).answer(near, &Method::POST, "/metrics", None);
        assert_eq!(posted.into_body().collect().await.unwrap().to_bytes(), "ok", "who writes reads nothing");
        assert_eq!(ask(&admin(Audience::Loopback, false), FAR, "/readyz?verbose").await, (503, "not ready".to_owned()));
    }

    #[tokio::test]
    async fn a_busy_port_is_not_the_end() {
        let taken = listen("127.0.0.1", 0, Sharing::Alone).await.unwrap();
        assert!(listen("127.0.0.1", taken.local_addr().unwrap().port(), Sharing::Alone).await.is_none());
    }

    #[tokio::test]
    async fn a_crowd_of_silent_connections_keeps_no_probe_out_and_is_kept_small() {
        let listener = listen("127.0.0.1", 0, Sharing::Alone).await.unwrap();
        let address = listener.local_addr().unwrap();
        let served = tokio::spawn(serve(listener, admin(Audience::Loopback, true), Arc::new(Metrics::new()), std::future::pending()));
        let mut crowd = Vec::new();
        for _ in 0..32 {
            crowd.push(tokio::net::TcpStream::connect(address).await.unwrap());
        }
        let mut probe = tokio::net::TcpStream::connect(address).await.unwrap();
        probe.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        probe.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("ok"), "{answer}");
        // Sooner than his time is over: he has made room.
        let closed = tokio::time::timeout(limits().request_head / 2, crowd[0].read_u8()).await;
        assert!(closed.is_ok_and(|read| read.is_err()));
        served.abort();
    }

    #[tokio::test]
    async fn answers_on_the_wire_with_the_type_that_prometheus_wants() {
        let listener = listen("127.0.0.1", 0, Sharing::Alone).await.unwrap();
        let address = listener.local_addr().unwrap();
        let metrics = Arc::new(Metrics::new());
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let served = tokio::spawn(serve(listener, admin(Audience::Loopback, true), metrics, async { stopped.await.unwrap_or_default() }));
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\ncontent-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{answer}");
        stop.send(()).unwrap();
        assert_eq!(served.await.unwrap(), Drained { cut_off: 0 });
    }
}
