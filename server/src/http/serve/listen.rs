//! Addresses to listen on, and what may go wrong while accepting.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};

/// An address that could not be listened on.
#[derive(Debug, Error)]
#[error("could not listen on {address}: {why}")]
pub struct BindError {
    address: String,
    why: String,
    kind: io::ErrorKind,
}

impl BindError {
    fn new(address: &str, port: u16, error: &io::Error) -> Self {
        let why = match error.kind() {
            io::ErrorKind::AddrInUse => "another process listens there".to_owned(),
            io::ErrorKind::AddrNotAvailable => "this machine has no such address".to_owned(),
            io::ErrorKind::PermissionDenied if port < 1024 => "not permitted (ports below 1024 need CAP_NET_BIND_SERVICE)".to_owned(),
            _ => error.to_string(),
        };
        Self { address: join_host_port(address, port), why, kind: error.kind() }
    }

    /// The kind of the system's error.
    #[must_use]
    pub const fn kind(&self) -> io::ErrorKind {
        self.kind
    }
}

/// upstream: `net.JoinHostPort`, for messages.
fn join_host_port(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Listens on `address`, an IP literal or a name that resolves to one; empty for all interfaces, of both families. Port 0 takes a free one.
///
/// # Errors
///
/// [`BindError`], with address, port and cause.
pub async fn bind(address: &str, port: u16) -> Result<TcpListener, BindError> {
    bind_for(address, port, Sharing::Alone).await
}

/// Whether others may listen on the same address and port.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sharing {
    /// Nobody.
    Alone,
    /// Other processes of the same user that say so too (`SO_REUSEPORT`); the kernel spreads new connections over all of them.
    WithOthers,
}

/// As [`bind`], alone or with others.
///
/// # Errors
///
/// As [`bind`].
pub async fn bind_for(address: &str, port: u16, sharing: Sharing) -> Result<TcpListener, BindError> {
    let listen = |address| listen(address, sharing);
    let failed = |error: &io::Error| BindError::new(address, port, error);
    if address.is_empty() {
        let both = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        return match listen(both) {
            // A kernel without IPv6 says so when it is asked for a socket, or for the address.
            Err(error) if !matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied) => {
                listen(SocketAddr::from(([0, 0, 0, 0], port))).map_err(|error| failed(&error))
            }
            other => other.map_err(|error| failed(&error)),
        };
    }
    if let Ok(ip) = address.parse::<IpAddr>() {
        return listen(SocketAddr::new(ip, port)).map_err(|error| failed(&error));
    }
    let mut resolved = tokio::net::lookup_host((address, port)).await.map_err(|error| failed(&error))?;
    // As Go: IPv4 before IPv6, and one of them only.
    let first = resolved.next().ok_or_else(|| failed(&io::Error::other("the name has no address")))?;
    let chosen = if first.is_ipv4() { first } else { resolved.find(SocketAddr::is_ipv4).unwrap_or(first) };
    listen(chosen).map_err(|error| failed(&error))
}

/// Connections that the kernel may hold for us until we accept them. It takes less where `net.core.somaxconn` says so (4 096 by default).
const BACKLOG: i32 = 4096;

fn listen(address: SocketAddr, sharing: Sharing) -> io::Result<TcpListener> {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // `::` takes both families, whatever net.ipv6.bindv6only says, as in Go.
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    // A restart must not wait for the last connections of the process before it to time out.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    #[cfg(unix)]
    if sharing == Sharing::WithOthers {
        socket.set_reuse_port(true)?;
    }
    #[cfg(not(unix))]
    let _ = sharing;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket.into())
}

/// Closes the listener and gives those whom the kernel has accepted for us already: they would be reset with it, their requests unanswered.
///
/// The system is asked itself, for the runtime may not know of the latest yet.
pub(super) fn waiting(listener: TcpListener) -> Vec<(TcpStream, SocketAddr)> {
    let Ok(listener) = listener.into_std() else { return Vec::new() };
    let mut waiting = Vec::new();
    for _ in 0..BACKLOG {
        match listener.accept() {
            Ok((stream, address)) => {
                let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
                waiting.extend(stream.ok().map(|stream| (stream, address)));
            }
            Err(error) if Backoff::default().after(&error).is_none() => {}
            Err(_) => break,
        }
    }
    waiting
}

/// How long to wait after an accept that failed.
///
/// upstream: net/http's `Server.Serve`: 5 ms, doubled to 1 s.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    last: Option<Duration>,
}

impl Backoff {
    /// `None`: go on at once, the fault was that connection's alone.
    pub(super) fn after(&mut self, error: &io::Error) -> Option<Duration> {
        use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
        if matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted) {
            return None;
        }
        // Out of descriptors or memory: others must give some back first, and we would only burn the processor until they do.
        let pause = self.last.map_or(Duration::from_millis(5), |last| (last * 2).min(Duration::from_secs(1)));
        self.last = Some(pause);
        Some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn says_why_it_cannot_listen() {
        let taken = bind("127.0.0.1", 0).await.unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = bind("127.0.0.1", port).await.unwrap_err();
        assert_eq!(error.to_string(), format!("could not listen on 127.0.0.1:{port}: another process listens there"));
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        let error = bind("192.0.2.1", 1234).await.unwrap_err();
        assert_eq!(error.to_string(), "could not listen on 192.0.2.1:1234: this machine has no such address");
        let denied = BindError::new("::", 443, &io::Error::from(io::ErrorKind::PermissionDenied));
        assert_eq!(denied.to_string(), "could not listen on [::]:443: not permitted (ports below 1024 need CAP_NET_BIND_SERVICE)");
    }

    #[tokio::test]
    async fn who_starts_again_does_not_wait_for_the_connections_from_before() {
        let before = bind("127.0.0.1", 0).await.unwrap();
        let address = before.local_addr().unwrap();
        let (client, accepted) = tokio::join!(TcpStream::connect(address), before.accept());
        // Whoever closes first has to remember the connection for a while.
        drop(accepted.unwrap());
        drop(client.unwrap());
        drop(before);
        assert_eq!(bind("127.0.0.1", address.port()).await.unwrap().local_addr().unwrap(), address);
    }

    #[test]
    fn waits_longer_and_longer_while_descriptors_are_short() {
        let mut backoff = Backoff::default();
        let full = io::Error::from_raw_os_error(24);
        let pauses: Vec<_> = (0..10).map(|_| backoff.after(&full).unwrap().as_millis()).collect();
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
        assert_eq!(backoff.after(&io::Error::from(io::ErrorKind::ConnectionAborted)), None);
    }
}
