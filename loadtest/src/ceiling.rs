//! The most that a webhook over hyper and rustls can do on this machine: a server that reads the question, and gives the same answer to all.
//!
//! TLS library, ciphers, protocols, windows and stream limits are those of arngate's own listener (`http::tls` and `http::serve`'s default `Limits`
//! in its server library; repeated here, for this crate does not depend on it), and so is the runtime. Nothing else is done: no limits on
//! connections, no drain, no counts.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::NoServerSessionStorage;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::certificate::{Certificate, MakeError};

/// Who is told to everybody by [`canned_reply`].
pub const ARN: &str = "arn:aws:sts::123456789012:assumed-role/loadtest-000000/session-000000";

/// How long nobody is accepted after that has failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// A TokenReview that lets [`ARN`] in, in the form of aws-iam-authenticator, of so many bytes in all where that is more than it takes anyway:
/// the username is as long as needed.
#[must_use]
pub fn canned_reply(bytes: usize) -> Bytes {
    let reply = |username: &str| {
        format!(
            r#"{{"kind":"TokenReview","apiVersion":"authentication.k8s.io/v1","status":{{"authenticated":true,"user":{{"username":"{username}","uid":"aws-iam-authenticator:123456789012:AROALOADTEST000000000","groups":["system:masters"],"extra":{{"accessKeyId":["ASIALOADTEST00000000"],"arn":["{ARN}"],"canonicalArn":["arn:aws:iam::123456789012:role/loadtest-000000"],"principalId":["AROALOADTEST000000000"],"sessionName":["session-000000"],"sigs.k8s.io/aws-iam-authenticator/principalId":["AROALOADTEST000000000"]}}}}}}}}"#
        )
    };
    let short = reply("u");
    Bytes::from(reply(&"u".repeat(1 + bytes.saturating_sub(short.len()))))
}

/// A ceiling that has its port, but serves nobody yet.
#[derive(Debug)]
pub struct Ceiling {
    listener: TcpListener,
    address: SocketAddr,
    acceptor: Acceptor,
    certificate: Certificate,
    reply: Bytes,
}

impl Ceiling {
    /// Takes a port on 127.0.0.1 (0: any that is free), and makes a certificate.
    ///
    /// # Errors
    ///
    /// [`StartError`].
    pub async fn bind(port: u16, reply: Bytes) -> Result<Self, StartError> {
        let bound = |source| StartError::Bind { port, source };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.map_err(bound)?;
        let address = listener.local_addr().map_err(bound)?;
        let certificate = Certificate::loopback()?;
        let acceptor = Acceptor::new(&certificate).map_err(|error| StartError::Tls(error.to_string()))?;
        Ok(Self { listener, address, acceptor, certificate, reply })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// What clients have to trust, PEM.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.certificate.certificate_pem
    }

    /// Answers everybody, until dropped.
    pub async fn serve(self) -> Infallible {
        loop {
            match self.listener.accept().await {
                Ok((tcp, _)) => {
                    tokio::spawn(serve_connection(tcp, self.acceptor.0.clone(), self.reply.clone()));
                }
                // Gone already, or a want of descriptors, against which only time helps.
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            }
        }
    }
}

struct Acceptor(TlsAcceptor);

impl Acceptor {
    fn new(certificate: &Certificate) -> Result<Self, Box<dyn std::error::Error>> {
        let chain = CertificateDer::from_pem_slice(certificate.certificate_pem.as_bytes())?;
        let key = PrivateKeyDer::from_pem_slice(certificate.key_pem.as_bytes())?;
        let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .with_no_client_auth()
            .with_single_cert(vec![chain], key)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.ticketer = rustls::crypto::ring::Ticketer::new()?;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }
}

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Acceptor(..)")
    }
}

async fn serve_connection(tcp: TcpStream, acceptor: TlsAcceptor, reply: Bytes) {
    let _ = tcp.set_nodelay(true);
    let Ok(tls) = acceptor.accept(tcp).await else { return };
    let h2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
    let service = service_fn(move |request| answer(request, reply.clone()));
    let mut builder = auto::Builder::new(TokioExecutor::new());
    let builder = if h2 {
        builder
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(Duration::from_secs(60))
            .keep_alive_timeout(Duration::from_secs(20))
            .max_concurrent_streams(1024)
            .initial_stream_window_size(64 << 10)
            .initial_connection_window_size(512 << 10)
            .max_header_list_size(16 << 10)
            .max_send_buf_size(64 << 10);
        builder.http2_only()
    } else {
        builder.http1().timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(60)).max_buf_size(16 << 10);
        builder.http1_only()
    };
    // How a connection ends is its client's to see.
    let _ = builder.serve_connection(TokioIo::new(tls), service).await;
}

async fn answer(request: Request<Incoming>, reply: Bytes) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let mut body = request.into_body();
    while let Some(frame) = body.frame().await {
        frame?;
    }
    let mut response = Response::new(Full::new(reply));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=UTF-8"));
    Ok(response)
}

/// Why a ceiling did not start.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The port cannot be had.
    #[error("cannot listen on 127.0.0.1:{port}")]
    Bind {
        /// The port that was asked for.
        port: u16,
        /// Why not.
        source: std::io::Error,
    },
    /// No certificate.
    #[error(transparent)]
    Certificate(#[from] MakeError),
    /// TLS cannot be set up.
    #[error("cannot set up TLS for the ceiling: {0}")]
    Tls(String),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::{Outcome, judge};
    use crate::question::{Expected, Needle};

    #[test]
    fn the_reply_is_as_long_as_asked_and_lets_its_arn_in() {
        for bytes in [0, 700, 2000] {
            let reply = canned_reply(bytes);
            assert!(reply.len() == bytes || bytes == 0, "{} for {bytes}", reply.len());
            assert_eq!(judge(200, &reply, &Expected::Identity(Arc::new(Needle::new(ARN)))).outcome, Outcome::Allowed);
        }
    }
}
