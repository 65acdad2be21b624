//! TLS for the webhook: which versions, which certificate, which protocol above.

mod clients;

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use thiserror::Error;

use self::clients::Asked;
pub use self::clients::{AuthoritiesError, Clients, Standing};
use crate::clock::Clock;

/// The certificate that the next handshake shows; can be exchanged while connections are open.
///
/// There is one certificate, whatever name the client asks for: an API server that reaches us by address sends none.
#[derive(Debug)]
pub struct CurrentCert {
    key: ArcSwap<CertifiedKey>,
}

impl CurrentCert {
    /// Begins with `key`.
    #[must_use]
    pub fn new(key: Arc<CertifiedKey>) -> Self {
        Self { key: ArcSwap::new(key) }
    }

    /// Shows `key` from the next handshake on; connections that are open keep theirs.
    pub fn replace(&self, key: Arc<CertifiedKey>) {
        self.key.store(key);
    }

    /// What is shown now.
    #[must_use]
    pub fn current(&self) -> Arc<CertifiedKey> {
        self.key.load_full()
    }
}

impl ResolvesServerCert for CurrentCert {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
}

/// TLS as a listener needs it.
#[derive(Clone, Debug)]
pub struct Tls {
    /// What is spoken.
    pub config: Arc<ServerConfig>,
    /// Who may ask; none: everybody.
    pub clients: Option<Arc<Clients>>,
    /// Tells whether a client's certificate is still good.
    pub clock: Arc<dyn Clock>,
}

impl Tls {
    /// TLS with a certificate, for those clients.
    ///
    /// # Errors
    ///
    /// [`TlsError`].
    pub fn new(cert: Arc<CurrentCert>, clients: Option<Arc<Clients>>, clock: Arc<dyn Clock>) -> Result<Self, TlsError> {
        Ok(Self { config: server_config(cert, clients.is_some())?, clients, clock })
    }

    /// Who is at the other end of a connection whose handshake is done.
    #[must_use]
    pub fn standing(&self, connection: &rustls::ServerConnection) -> Standing {
        self.clients.as_ref().map_or(Standing::Unasked, |clients| clients.standing(connection, self.clock.now().unix))
    }
}

/// TLS could not be set up: the system gives no random numbers.
#[derive(Debug, Error)]
#[error("could not set up TLS: {0}")]
pub struct TlsError(String);

/// TLS 1.2 and 1.3 by ring, h2 before http/1.1; clients are asked for a certificate if `ask`.
///
/// Sessions are resumed by tickets, whose key lives in this process alone and changes every six hours (rustls' ticketer): a client that connects for
/// every request saves our signature, and nothing is kept for those that never come back. No early data: a TokenReview must not be replayed.
///
/// # Errors
///
/// [`TlsError`].
fn server_config(cert: Arc<CurrentCert>, ask: bool) -> Result<Arc<ServerConfig>, TlsError> {
    let failed = |error: rustls::Error| TlsError(error.to_string());
    // Named, not the process' default: that one is whoever's came first.
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(failed)?;
    let builder = if ask { builder.with_client_cert_verifier(Arc::new(Asked(provider))) } else { builder.with_no_client_auth() };
    let mut config = builder.with_cert_resolver(cert);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.ticketer = ring::Ticketer::new().map_err(failed)?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(Arc::new(config))
}

#[cfg(test)]
pub(super) mod tests {
    use std::ops::RangeInclusive;
    use std::sync::LazyLock;

    use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
    use rustls::{ClientConfig, ClientConnection, ProtocolVersion, RootCertStore, ServerConnection};

    use super::*;
    use crate::bootstrap::certs::{Names, ServingCert, generate};
    use crate::clock::SystemClock;

    /// Two for all tests, so that a client can know them beforehand.
    static SERVING: LazyLock<[ServingCert; 2]> = LazyLock::new(|| {
        let names = Names { address: "127.0.0.1", hostname: "localhost" };
        [(); 2].map(|()| generate(names, arngate_core::UnixSeconds::new(1_795_521_600)).unwrap())
    });

    fn cert() -> Arc<CertifiedKey> {
        SERVING[0].certified_key()
    }

    /// A server with a certificate of its own.
    pub(in crate::http) fn server_config() -> Arc<ServerConfig> {
        super::server_config(Arc::new(CurrentCert::new(cert())), false).unwrap()
    }

    /// One of two.
    pub(in crate::http) fn certificate(index: usize) -> Arc<CertifiedKey> {
        SERVING[index].certified_key()
    }

    /// A listener's TLS, and the certificate that it shows.
    pub(in crate::http) fn server_tls_with_current() -> (Tls, Arc<CurrentCert>) {
        let current = Arc::new(CurrentCert::new(cert()));
        (Tls::new(Arc::clone(&current), None, Arc::new(SystemClock::new())).unwrap(), current)
    }

    /// Whoever signs certificates of clients.
    pub(in crate::http) struct Authority(rcgen::CertifiedIssuer<'static, rcgen::KeyPair>);

    impl Authority {
        pub(in crate::http) fn new(name: &str) -> Self {
            let mut params = rcgen::CertificateParams::default();
            params.distinguished_name.push(rcgen::DnType::CommonName, name);
            params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            Self(rcgen::CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate().unwrap()).unwrap())
        }

        pub(in crate::http) fn pem(&self) -> String {
            self.0.pem()
        }

        /// An authority that this one has signed.
        pub(in crate::http) fn intermediate(&self, name: &str) -> Self {
            let mut params = rcgen::CertificateParams::default();
            params.distinguished_name.push(rcgen::DnType::CommonName, name);
            params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            Self(rcgen::CertifiedIssuer::signed_by(params, rcgen::KeyPair::generate().unwrap(), &self.0).unwrap())
        }

        pub(in crate::http) fn der(&self) -> CertificateDer<'static> {
            self.0.der().clone()
        }

        pub(in crate::http) fn issue(&self, common_name: Option<&str>, names: &[&str]) -> ClientPair {
            self.issue_for(common_name, names, 1975..=4096)
        }

        /// The same, good from the first day of one year to the first day of another.
        pub(in crate::http) fn issue_for(&self, common_name: Option<&str>, names: &[&str], years: RangeInclusive<i32>) -> ClientPair {
            let mut params = rcgen::CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
            params.distinguished_name = rcgen::DistinguishedName::new();
            if let Some(name) = common_name {
                params.distinguished_name.push(rcgen::DnType::CommonName, name);
            }
            params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
            params.not_before = rcgen::date_time_ymd(*years.start(), 1, 1);
            params.not_after = rcgen::date_time_ymd(*years.end(), 1, 1);
            let key = rcgen::KeyPair::generate().unwrap();
            let certificate = params.signed_by(&key, &self.0).unwrap();
            (vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(key.serialized_der().to_vec().into()))
        }
    }

    /// A certificate and those that signed it, and its key.
    pub(in crate::http) type ClientPair = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

    /// A client that shows a certificate, if it has one.
    pub(in crate::http) fn client_config_with(pair: Option<ClientPair>) -> Arc<ClientConfig> {
        let roots = ClientConfig::builder_with_provider(Arc::new(ring::default_provider())).with_safe_default_protocol_versions().unwrap();
        let mut store = RootCertStore::empty();
        for serving in SERVING.iter() {
            store.add(serving.leaf_der().clone()).unwrap();
        }
        let builder = roots.with_root_certificates(store);
        let mut with = match pair {
            Some((chain, key)) => builder.with_client_auth_cert(chain, key).unwrap(),
            None => builder.with_no_client_auth(),
        };
        with.alpn_protocols = vec![b"http/1.1".to_vec()];
        Arc::new(with)
    }

    /// The same, as a listener needs it.
    pub(in crate::http) fn server_tls(clients: Option<Arc<Clients>>) -> Tls {
        Tls::new(Arc::new(CurrentCert::new(cert())), clients, Arc::new(SystemClock::new())).unwrap()
    }

    /// A client that asks for one protocol.
    pub(in crate::http) fn client_config(protocol: &str) -> Arc<ClientConfig> {
        client_of(&[&rustls::version::TLS13, &rustls::version::TLS12], &[protocol])
    }

    pub(in crate::http) fn client_of(versions: &[&'static rustls::SupportedProtocolVersion], protocols: &[&str]) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        for serving in SERVING.iter() {
            roots.add(serving.leaf_der().clone()).unwrap();
        }
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Arc::new(config)
    }

    /// A handshake in memory that comes to its end.
    pub(in crate::http) fn handshake(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>) -> (ClientConnection, ServerConnection) {
        try_handshake(client, server).unwrap()
    }

    /// The same, or why the server will not have it.
    pub(in crate::http) fn try_handshake(
        client: &Arc<ClientConfig>,
        server: &Arc<ServerConfig>,
    ) -> Result<(ClientConnection, ServerConnection), rustls::Error> {
        let mut client = ClientConnection::new(Arc::clone(client), ServerName::try_from("localhost").unwrap()).unwrap();
        let mut server = ServerConnection::new(Arc::clone(server)).unwrap();
        loop {
            let mut wire = Vec::new();
            client.write_tls(&mut wire).unwrap();
            server.read_tls(&mut wire.as_slice()).unwrap();
            server.process_new_packets()?;
            let mut wire_back = Vec::new();
            server.write_tls(&mut wire_back).unwrap();
            client.read_tls(&mut wire_back.as_slice()).unwrap();
            client.process_new_packets().unwrap();
            if wire.is_empty() && wire_back.is_empty() {
                return Ok((client, server));
            }
        }
    }

    #[test]
    fn speaks_tls_1_2_and_1_3_and_prefers_h2() {
        let server = server_config();
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            let (client, _) = handshake(&client_of(&[version], &["http/1.1", "h2"]), &server);
            assert_eq!(client.protocol_version(), Some(version.version));
            assert_eq!(client.alpn_protocol(), Some(&b"h2"[..]));
        }
        let (client, _) = handshake(&client_of(&[&rustls::version::TLS13, &rustls::version::TLS12], &[]), &server);
        assert_eq!((client.protocol_version(), client.alpn_protocol()), (Some(ProtocolVersion::TLSv1_3), None));
    }

    #[test]
    fn the_next_handshake_shows_the_new_certificate() {
        let (first, second) = (cert(), SERVING[1].certified_key());
        let current = Arc::new(CurrentCert::new(Arc::clone(&first)));
        let server = super::server_config(Arc::clone(&current), false).unwrap();
        let shown = || {
            let (client, _) = handshake(&client_config("h2"), &server);
            client.peer_certificates().unwrap().to_vec()
        };
        assert_eq!(shown(), first.cert);
        current.replace(Arc::clone(&second));
        assert_eq!(shown(), second.cert);
        assert_ne!(first.cert, second.cert);
    }

    #[test]
    fn a_client_that_comes_back_resumes() {
        let server = server_config();
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            let client = client_of(&[version], &["h2"]);
            let (first, _) = handshake(&client, &server);
            let (second, _) = handshake(&client, &server);
            assert_eq!(
                (first.handshake_kind(), second.handshake_kind()),
                (Some(rustls::HandshakeKind::Full), Some(rustls::HandshakeKind::Resumed)),
                "{version:?}"
            );
        }
    }
}
