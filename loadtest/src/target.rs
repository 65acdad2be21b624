//! Whom the questions are for: where it listens, whom it is trusted by, and in which words it is asked.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;

use hyper::Uri;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

/// The version of HTTP.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Http {
    /// HTTP/1.1: one question at a time on a connection.
    One,
    /// HTTP/2: many, as kube-apiserver does it.
    Two,
}

impl Http {
    /// `h1` or `h2`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::One => "h1",
            Self::Two => "h2",
        }
    }

    const fn alpn(self) -> &'static [u8] {
        match self {
            Self::One => b"http/1.1",
            Self::Two => b"h2",
        }
    }
}

impl FromStr for Http {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        match text {
            "h1" => Ok(Self::One),
            "h2" => Ok(Self::Two),
            _ => Err("expected h1 or h2"),
        }
    }
}

/// A webhook that can be asked.
#[derive(Clone)]
pub struct Target {
    /// The URL of the webhook.
    pub uri: Uri,
    /// Where to connect.
    pub address: SocketAddr,
    /// Whom its certificate must name.
    pub(crate) server_name: ServerName<'static>,
    /// How TLS is spoken.
    pub(crate) tls: Arc<ClientConfig>,
    /// What is spoken in it.
    pub http: Http,
}

impl Target {
    /// The target at `url`, whose certificate leads to one in `ca_pem` (or is one of them), asked with `identity` (certificate chain and key, PEM) if it
    /// wants to know who asks.
    ///
    /// # Errors
    ///
    /// [`TargetError`].
    pub fn new(url: &str, ca_pem: &[u8], identity: Option<(&[u8], &[u8])>, http: Http) -> Result<Self, TargetError> {
        let uri: Uri = url.parse().map_err(|_| TargetError::Url)?;
        let host = uri.host().ok_or(TargetError::Url)?.trim_start_matches('[').trim_end_matches(']').to_owned();
        if uri.scheme_str() != Some("https") {
            return Err(TargetError::Url);
        }
        let server_name = ServerName::try_from(host.clone()).map_err(|_| TargetError::Url)?;
        let port = uri.port_u16().unwrap_or(443);
        let resolved = std::net::ToSocketAddrs::to_socket_addrs(&(host.as_str(), port));
        let address = resolved.ok().and_then(|mut found| found.next()).ok_or_else(|| TargetError::Resolve(host.clone()))?;
        Ok(Self { uri, address, server_name, tls: Arc::new(client_config(ca_pem, identity, http)?), http })
    }

    /// Whether it is on this machine.
    #[must_use]
    pub const fn is_loopback(&self) -> bool {
        self.address.ip().is_loopback()
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target").field("uri", &self.uri).field("address", &self.address).field("http", &self.http).finish_non_exhaustive()
    }
}

fn client_config(ca_pem: &[u8], identity: Option<(&[u8], &[u8])>, http: Http) -> Result<ClientConfig, TargetError> {
    let trusted = CertificateDer::pem_slice_iter(ca_pem).collect::<Result<Vec<_>, _>>().map_err(|_| TargetError::Ca)?;
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(trusted.iter().cloned());
    if added == 0 {
        return Err(TargetError::Ca);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let by_chain = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .build()
        .map_err(|error| TargetError::Tls(error.to_string()))?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| TargetError::Tls(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(ChainOrItself { by_chain, trusted }));
    let mut config = match identity {
        Some((chain, key)) => {
            let chain = CertificateDer::pem_slice_iter(chain).collect::<Result<Vec<_>, _>>().map_err(|_| TargetError::Identity)?;
            let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| TargetError::Identity)?;
            builder.with_client_auth_cert(chain, key).map_err(|_| TargetError::Identity)?
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![http.alpn().to_vec()];
    Ok(config)
}

/// Takes what webpki takes, and besides a certificate that is itself one of the trusted, where webpki will not have it only because it calls itself a
/// CA: aws-iam-authenticator makes such ones, and Go's and OpenSSL's clients take them.
#[derive(Debug)]
struct ChainOrItself {
    by_chain: Arc<WebPkiServerVerifier>,
    trusted: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for ChainOrItself {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match self.by_chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(rustls::Error::InvalidCertificate(CertificateError::Other(error)))
                if error.to_string().contains("CaUsedAsEndEntity") && self.trusted.iter().any(|trusted| trusted == end_entity) =>
            {
                Ok(ServerCertVerified::assertion())
            }
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.by_chain.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.by_chain.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.by_chain.supported_verify_schemes()
    }
}

/// Why there is no such target.
#[non_exhaustive]
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TargetError {
    /// No certificate to trust.
    #[error("there is no PEM certificate to trust the target by")]
    Ca,
    /// No certificate and key to show.
    #[error("the client's certificate and key are no PEM that fit each other")]
    Identity,
    /// No address.
    #[error("the host {0} has no address")]
    Resolve(String),
    /// TLS cannot be set up.
    #[error("cannot set up TLS: {0}")]
    Tls(String),
    /// Not an https URL.
    #[error("expected the URL of a webhook, as in https://127.0.0.1:21362/authenticate")]
    Url,
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
    use rustls::ServerConnection;

    use super::*;
    use crate::certificate::Certificate;

    /// What a client that trusts `ca_pem` says to a server with that certificate.
    fn handshake(ca_pem: &str, certificate_pem: &str, key_pem: &str) -> Result<(), rustls::Error> {
        let chain = CertificateDer::from_pem_slice(certificate_pem.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).unwrap();
        let mut server = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![chain], key)
            .unwrap();
        server.alpn_protocols = vec![b"h2".to_vec()];
        let target = Target::new("https://127.0.0.1:1/", ca_pem.as_bytes(), None, Http::Two).unwrap();
        let mut client = rustls::ClientConnection::new(Arc::clone(&target.tls), target.server_name.clone()).unwrap();
        let mut server = ServerConnection::new(Arc::new(server)).unwrap();
        let mut wire = Vec::new();
        for _ in 0..8 {
            wire.clear();
            while client.wants_write() {
                client.write_tls(&mut wire).unwrap();
            }
            server.read_tls(&mut wire.as_slice()).unwrap();
            let _ = server.process_new_packets();
            wire.clear();
            while server.wants_write() {
                server.write_tls(&mut wire).unwrap();
            }
            client.read_tls(&mut wire.as_slice()).unwrap();
            client.process_new_packets()?;
        }
        assert!(!client.is_handshaking());
        Ok(())
    }

    /// A certificate that calls itself a CA, as aws-iam-authenticator makes it.
    fn self_made() -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    #[test]
    fn takes_a_trusted_certificate_also_if_it_calls_itself_a_ca() {
        let (certificate, key) = self_made();
        assert_eq!(handshake(&certificate, &certificate, &key), Ok(()));
        let ours = Certificate::loopback().unwrap();
        assert_eq!(handshake(&ours.certificate_pem, &ours.certificate_pem, &ours.key_pem), Ok(()));
    }

    #[test]
    fn takes_no_other() {
        let ((trusted, _), (other, key)) = (self_made(), self_made());
        let error = handshake(&trusted, &other, &key).unwrap_err();
        assert!(matches!(error, rustls::Error::InvalidCertificate(_)), "{error}");
    }

    #[test]
    fn only_https_urls_are_targets() {
        let ours = Certificate::loopback().unwrap().certificate_pem;
        let error = |url: &str| Target::new(url, ours.as_bytes(), None, Http::One).unwrap_err();
        for url in ["", "127.0.0.1:1", "http://127.0.0.1/", "/authenticate", "https://"] {
            assert_eq!(error(url), TargetError::Url, "{url}");
        }
        assert!(Target::new("https://[::1]:1/", ours.as_bytes(), None, Http::One).is_ok_and(|target| target.is_loopback()));
        assert!(Target::new("https://192.0.2.1:1/", ours.as_bytes(), None, Http::One).is_ok_and(|target| !target.is_loopback()));
    }
}
