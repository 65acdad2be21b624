//! One connection: TLS, then requests, until one side has had enough.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::connections::Place;
use super::{BoxError, Handler, Limits, Peer};

/// One connection, from the accept to its end.
pub(super) struct Connection<H> {
    pub(super) peer: Peer,
    pub(super) tls: Option<TlsAcceptor>,
    pub(super) handler: H,
    pub(super) limits: Limits,
    pub(super) place: Arc<Place>,
    pub(super) stop: watch::Receiver<bool>,
}

impl<H: Handler> Connection<H> {
    pub(super) async fn run(self, stream: TcpStream) {
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
