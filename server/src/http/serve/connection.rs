//! One connection: TLS, then requests, until one side has had enough.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt as _;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::batch::{AtOnce, Batched};
use super::connections::Place;
use super::meter::Meter;
use super::{Handler, Limits, Peer};
use crate::http::tls::Tls;
use crate::one_part::OnePart;

/// What a peer may send until TLS is set up, in bytes. A greeting has 300 to 2 000, and rustls would keep 64 KiB of one that does not end.
const HANDSHAKE_MAX_BYTES: usize = 8 << 10;

/// The same where it may show a certificate, with those that signed it.
const HANDSHAKE_WITH_CERTIFICATE_MAX_BYTES: usize = 24 << 10;

/// One connection, from the accept to its end.
pub(super) struct Connection<H> {
    pub(super) peer: Peer,
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) handler: H,
    pub(super) limits: Limits,
    pub(super) place: Arc<Place>,
    pub(super) stop: watch::Receiver<bool>,
}

impl<H: Handler> Connection<H> {
    /// Each step holds only what it needs, in a box of its own where that is much: those who connect and do nothing are many, and what the later steps
    /// need (buffers above all) is there once something has come for them.
    pub(super) async fn run(mut self, stream: TcpStream) {
        // Answers are small and must not wait for more.
        if let Err(error) = stream.set_nodelay(true) {
            return self.tell(&error, "connection was gone at once");
        }
        let Some(tls) = self.tls.take() else {
            if self.wait(self.limits.request_head, "connection without a request", first_bytes(&stream)).await.is_some() {
                Box::pin(self.speak(stream, Protocol::Http1)).await;
            }
            return;
        };
        let Some(stream) = self.wait(self.limits.handshake, "no TLS handshake", handshake(&tls, stream)).await else {
            return;
        };
        let mut stream = match stream {
            Ok(stream) => stream,
            Err(error) => return self.tell(&error, "TLS handshake failed"),
        };
        self.peer.standing = tls.standing(stream.get_ref().1);
        drop(tls);
        // Both sides know from the handshake what they speak, so nobody can keep us guessing.
        let protocol = if stream.get_ref().1.alpn_protocol() == Some(b"h2") { Protocol::Http2 } else { Protocol::Http1 };
        match self.wait(self.limits.request_head, "connection without a request", async { stream.fill_buf().await.map(|_| ()) }).await {
            Some(Ok(())) => Box::pin(self.speak(stream, protocol)).await,
            Some(Err(error)) => self.tell(&error, "connection failed"),
            None => {}
        }
    }

    /// What a connection that has not asked anything yet is waiting for; none, and the log tells `otherwise`, where that takes too long, or where it has to go before.
    async fn wait<T>(&mut self, allowed: Duration, otherwise: &'static str, what: impl Future<Output = T>) -> Option<T> {
        let Self { stop, place, limits, .. } = self;
        let end = async {
            // A sender that is gone says the same.
            let _ = stop.wait_for(|stop| *stop).await;
            sleep(limits.drain_first_request).await;
        };
        tokio::select! {
            came = timeout(allowed, what) => match came {
                Ok(came) => return Some(came),
                Err(_) => tracing::debug!(client = %self.peer.address, "{otherwise} in time"),
            },
            () = place.activity.evict.notified() => {}
            () = end => tracing::debug!(client = %self.peer.address, "{otherwise} in time before the end"),
        }
        None
    }

    async fn speak(self, stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, protocol: Protocol) {
        let (peer, handler, place, limits) = (self.peer, self.handler.clone(), Arc::clone(&self.place), self.limits);
        let service = service_fn(move |request| {
            let in_flight = place.begin_request();
            // Not an async block: that would have room for the request's future twice, where it is kept and where it is awaited.
            handler.handle(peer, request).map(move |answer| {
                drop(in_flight);
                Ok::<_, std::convert::Infallible>(answer)
            })
        });
        match protocol {
            Protocol::Http1 => {
                let connection = http1(&limits).serve_connection(TokioIo::new(stream), service);
                Box::pin(self.attend(connection, http1::Connection::graceful_shutdown)).await;
            }
            Protocol::Http2 => {
                let connection = Batched::new(stream, |stream| http2(&limits).serve_connection(TokioIo::new(stream), service));
                Box::pin(self.attend(connection, |connection| connection.get_mut().connection().graceful_shutdown())).await;
            }
        }
    }

    /// Sees a connection to its end. `shut_down` lets it answer what is under way, and then end.
    async fn attend<C: Future<Output = hyper::Result<()>>>(mut self, connection: C, shut_down: fn(Pin<&mut C>)) {
        let mut connection = pin!(connection);
        let activity = &self.place.activity;

        // Until the first request: a connection that was made was made for one, so a stop does not end it yet, but it may not take for ever.
        let mut stopping = *self.stop.borrow_and_update();
        let mut allowed = pin!(sleep(if stopping { self.limits.drain_first_request } else { self.limits.request_head }));
        let mut closing = loop {
            tokio::select! {
                ended = connection.as_mut() => return self.log_end(ended),
                () = activity.first_request.notified() => break stopping,
                () = allowed.as_mut() => break true,
                () = activity.evict.notified() => break true,
                _ = self.stop.changed(), if !stopping => {
                    stopping = true;
                    allowed.as_mut().reset(tokio::time::Instant::now() + self.limits.drain_first_request);
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
        shut_down(connection.as_mut());
        // A peer that never spoke does not take leave either: HTTP/2 would wait for its greeting.
        if !activity.asked.load(Ordering::Relaxed) {
            match timeout(self.limits.drain_first_request, connection.as_mut()).await {
                Ok(ended) => return self.log_end(ended),
                Err(_) if activity.asked.load(Ordering::Relaxed) => {}
                Err(_) => return tracing::debug!(client = %self.peer.address, "connection without a request"),
            }
        }
        // What is under way is answered, then the connection ends. A peer that does not read its answers is cut off: here if it had to make room, after a
        // stop by `drain`, which counts it. Who has to make room was idle, and only has to take leave, unless he has asked in that very moment.
        if activity.evicted.load(Ordering::Relaxed) {
            let mut left = timeout(self.limits.drain_first_request, connection.as_mut()).await;
            if left.is_err() && activity.in_flight.load(Ordering::Relaxed) > 0 {
                left = timeout(self.limits.drain, connection).await;
            }
            match left {
                Ok(ended) => self.log_end(ended),
                Err(_) => tracing::debug!(client = %self.peer.address, "connection did not end in time"),
            }
        } else {
            let ended = connection.await;
            self.log_end(ended);
        }
    }

    fn log_end(&self, ended: hyper::Result<()>) {
        // Every way a peer can hang up comes here, so it is nothing to warn about.
        if let Err(error) = ended {
            self.tell(&error, "connection failed");
        }
    }

    fn tell(&self, error: &dyn std::error::Error, what: &'static str) {
        tracing::debug!(client = %self.peer.address, %error, "{what}");
    }
}

async fn handshake(tls: &Tls, stream: TcpStream) -> io::Result<Box<TlsStream<Meter<OnePart<TcpStream>>>>> {
    let acceptor = TlsAcceptor::from(Arc::clone(&tls.config));
    let most = if tls.clients.is_some() { HANDSHAKE_WITH_CERTIFICATE_MAX_BYTES } else { HANDSHAKE_MAX_BYTES };
    // rustls makes room for a record before it reads, so nothing is begun for those who send nothing.
    first_bytes(&stream).await?;
    let mut stream = Box::new(Box::pin(acceptor.accept(Meter::new(OnePart(stream), most))).await?);
    stream.get_mut().0.lift();
    Ok(stream)
}

/// Waits until something has come, or the other side has ended; takes nothing of it.
///
/// Not `readable`: tokio takes what was accepted to be so from the first, until somebody has looked.
async fn first_bytes(stream: &TcpStream) -> io::Result<()> {
    stream.peek(&mut [0]).await.map(|_| ())
}

/// What is spoken on a connection.
#[derive(Clone, Copy, Debug)]
enum Protocol {
    Http1,
    Http2,
}

fn http1(limits: &Limits) -> http1::Builder {
    let head = usize::try_from(limits.max_head).unwrap_or(usize::MAX);
    let mut builder = http1::Builder::new();
    // hyper wants at least 8 KiB.
    builder.timer(TokioTimer::new()).header_read_timeout(limits.request_head).max_buf_size(head.max(8 << 10));
    builder
}

fn http2(limits: &Limits) -> http2::Builder<AtOnce> {
    let mut builder = http2::Builder::new(AtOnce);
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(limits.ping_interval)
        .keep_alive_timeout(limits.ping_timeout)
        .max_concurrent_streams(limits.max_streams)
        .initial_stream_window_size(limits.stream_window)
        .initial_connection_window_size(limits.connection_window)
        .max_header_list_size(limits.max_head)
        // An answer has one or two kB; the default of 400 kB a stream is for downloads.
        .max_send_buf_size(64 << 10);
    builder
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::super::bind;
    use super::*;

    #[tokio::test]
    async fn nothing_is_begun_for_one_who_has_sent_nothing() {
        let listener = bind("127.0.0.1", 0).await.unwrap();
        for says_something in [true, false] {
            let (client, accepted) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
            let (mut client, (mut stream, _)) = (client.unwrap(), accepted.unwrap());
            for _ in 0..3 {
                assert!(first_bytes(&stream).now_or_never().is_none(), "nothing has come");
                tokio::task::yield_now().await;
            }
            if says_something {
                client.write_all(b"x").await.unwrap();
                first_bytes(&stream).await.unwrap();
            }
            drop(client);
            first_bytes(&stream).await.unwrap();
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await.unwrap();
            assert_eq!(rest, if says_something { &b"x"[..] } else { b"" }, "it is still there to be read");
        }
    }
}
