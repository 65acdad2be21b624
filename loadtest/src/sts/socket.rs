//! A TCP stream that its owner can reset.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;

/// The end that a call has chosen for its connection.
#[derive(Debug, Default)]
pub(super) struct Fate {
    reset: AtomicBool,
    sealed: Notify,
}

impl Fate {
    /// Ends the connection: with a FIN, or with a RST.
    pub(super) fn end(&self, reset: bool) {
        self.reset.fetch_or(reset, Ordering::Relaxed);
        self.sealed.notify_one();
    }

    /// Waits for the end.
    pub(super) async fn sealed(&self) {
        self.sealed.notified().await;
    }
}

/// A stream that is reset when dropped, if its fate says so.
#[derive(Debug)]
pub(super) struct Socket {
    tcp: TcpStream,
    fate: Arc<Fate>,
}

impl Socket {
    pub(super) fn new(tcp: TcpStream, fate: Arc<Fate>) -> Self {
        Self { tcp, fate }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.fate.reset.load(Ordering::Relaxed) {
            // Without lingering, close(2) sends a RST (socket(7), SO_LINGER). Where that fails, a FIN is all we can do.
            let _ = self.tcp.set_zero_linger();
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(context, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(context, bytes)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match bytes {
            // A record of TLS: write(2) has less to do than writev(2).
            [one] => Pin::new(&mut self.tcp).poll_write(context, one),
            many => Pin::new(&mut self.tcp).poll_write_vectored(context, many),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(context)
    }
}
