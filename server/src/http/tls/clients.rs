//! Which clients may ask: those with a certificate of an authority that the operator named, made out to a name that he named.
//!
//! A certificate is asked for and not demanded, for probes have none. The handshake only takes proof that the client holds the key of what it shows
//! ([`Asked`]); whom to believe is decided right after it, once for the connection ([`Clients::standing`]), with the authorities that are in force then.
//! So a certificate of somebody else's is a 401 that says why, and not a handshake that fails with the API server trying for half a minute; and a
//! connection that resumes an old session is judged like any other.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use arngate_core::UnixSeconds;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConnection, SignatureScheme};
use thiserror::Error;

use crate::bootstrap::x509::Summary;

/// Largest file of authorities that is read, in bytes.
const FILE_MAX_BYTES: usize = 1 << 20;

/// What TLS found out about a client.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Standing {
    /// It showed a certificate that is accepted.
    Accepted,
    /// It showed none, or one that is not accepted.
    Unknown,
    /// Nobody is asked for a certificate.
    Unasked,
}

impl Standing {
    /// Whether such a client may ask about tokens.
    #[must_use]
    pub const fn may_ask(self) -> bool {
        matches!(self, Self::Accepted | Self::Unasked)
    }
}

/// Why the authorities cannot be used.
#[derive(Debug, Error)]
#[error("{}: {why}", .path.display())]
pub struct AuthoritiesError {
    path: PathBuf,
    why: String,
}

/// Who may ask.
pub struct Clients {
    authorities: ArcSwap<Verifier>,
    names: Vec<String>,
}

/// In a struct, for `ArcSwap` holds sized values only.
struct Verifier(Arc<dyn ClientCertVerifier>);

impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clients").field("names", &self.names).finish_non_exhaustive()
    }
}

impl Clients {
    /// Those with a certificate of an authority in `ca_file`, made out to one of `names`.
    ///
    /// # Errors
    ///
    /// [`AuthoritiesError`].
    pub fn load(ca_file: &Path, names: Vec<String>) -> Result<Self, AuthoritiesError> {
        Ok(Self { authorities: ArcSwap::from_pointee(Verifier(load(ca_file)?)), names })
    }

    /// Reads the authorities again; those in force stay where that fails. Connections that are open keep their standing.
    ///
    /// # Errors
    ///
    /// [`AuthoritiesError`].
    pub fn reload(&self, ca_file: &Path) -> Result<(), AuthoritiesError> {
        self.authorities.store(Arc::new(Verifier(load(ca_file)?)));
        Ok(())
    }

    /// Who is at the other end of a connection whose handshake is done.
    #[must_use]
    pub fn standing(&self, connection: &ServerConnection, now: UnixSeconds) -> Standing {
        match connection.peer_certificates().map(|chain| self.accepted_name(chain, now)) {
            Some(Ok(name)) => {
                tracing::debug!(%name, "client certificate accepted");
                Standing::Accepted
            }
            Some(Err(why)) => {
                tracing::debug!(%why, "client certificate not accepted");
                Standing::Unknown
            }
            None => Standing::Unknown,
        }
    }

    fn accepted_name(&self, chain: &[CertificateDer<'_>], now: UnixSeconds) -> Result<&str, String> {
        let (leaf, intermediates) = chain.split_first().ok_or_else(|| "there is none".to_owned())?;
        let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(u64::try_from(now.as_i64()).unwrap_or_default()));
        let authorities = self.authorities.load();
        authorities.0.verify_client_cert(leaf, intermediates, now).map_err(|error| error.to_string())?;
        let summary = Summary::parse(leaf).ok_or_else(|| "its names cannot be read".to_owned())?;
        let accepted = self.names.iter().find(|name| summary.names.contains(name));
        accepted.map(String::as_str).ok_or_else(|| "its names are not among server.clientNames".to_owned())
    }
}

fn load(path: &Path) -> Result<Arc<dyn ClientCertVerifier>, AuthoritiesError> {
    let failed = |why: String| AuthoritiesError { path: path.to_owned(), why };
    let pem = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
    if pem.len() > FILE_MAX_BYTES {
        return Err(failed(format!("more than {FILE_MAX_BYTES} bytes")));
    }
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|_| failed("a PEM block is damaged".to_owned()))?;
        roots.add(certificate).map_err(|error| failed(format!("not the certificate of an authority: {error}")))?;
    }
    if roots.is_empty() {
        return Err(failed("no certificate in it (want PEM, `-----BEGIN CERTIFICATE-----`)".to_owned()));
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(ring::default_provider()));
    builder.build().map_err(|error| failed(error.to_string()))
}

/// Asks for a certificate, and takes any whose key the client holds.
#[derive(Debug)]
pub(super) struct Asked(pub(super) Arc<CryptoProvider>);

impl ClientCertVerifier for Asked {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    /// None: they may change, and clients with one certificate show it whatever is hinted.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    /// Not here: see [`Clients::standing`].
    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rustls::client::ResolvesClientCert;
    use rustls::sign::{CertifiedKey, SingleCertAndKey};
    use rustls::{ClientConfig, SupportedProtocolVersion, version};

    use super::super::tests::{Authority, ClientPair, client_config_with, client_of, handshake, server_tls, try_handshake};
    use super::*;

    const NAME: &str = "kube-apiserver";
    /// 2026-11-24T12:00:00Z
    const NOON: UnixSeconds = UnixSeconds::new(1_795_521_600);

    fn clients(authority: &Authority) -> Arc<Clients> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(&file, authority.pem()).unwrap();
        Arc::new(Clients::load(file.path(), vec![NAME.to_owned()]).unwrap())
    }

    fn standing(clients: &Arc<Clients>, shown: ClientPair, now: UnixSeconds) -> Standing {
        let (_client, server) = handshake(&client_config_with(Some(shown)), &server_tls(Some(Arc::clone(clients))).config);
        clients.standing(&server, now)
    }

    #[test]
    fn a_certificate_counts_while_it_is_good_and_not_before_or_after() {
        let authority = Authority::new("ours");
        let clients = clients(&authority);
        for (years, expected) in [(2026..=2027, Standing::Accepted), (2020..=2026, Standing::Unknown), (2027..=2030, Standing::Unknown)] {
            let shown = authority.issue_for(Some(NAME), &[], years.clone());
            assert_eq!(standing(&clients, shown, NOON), expected, "{years:?}");
        }
    }

    #[test]
    fn an_authority_may_stand_between_if_its_certificate_is_shown() {
        let root = Authority::new("root");
        let between = root.intermediate("between");
        let (mut chain, key) = between.issue(Some(NAME), &[]);
        assert_eq!(standing(&clients(&root), (chain.clone(), key.clone_key()), NOON), Standing::Unknown);
        chain.push(between.der());
        assert_eq!(standing(&clients(&root), (chain, key), NOON), Standing::Accepted);
    }

    #[test]
    fn whoever_shows_a_certificate_holds_its_key() {
        let authority = Authority::new("ours");
        let server = server_tls(Some(clients(&authority))).config;
        let (chain, key) = authority.issue(Some(NAME), &[]);
        let (_, other) = authority.issue(Some(NAME), &[]);
        for of in [&version::TLS12, &version::TLS13] {
            let shows = |key| {
                let key = CertifiedKey::new(chain.clone(), ring::sign::any_supported_type(key).unwrap());
                try_handshake(&showing(of, Arc::new(SingleCertAndKey::from(key))), &server).map(|_| ())
            };
            assert_eq!(shows(&key), Ok(()), "{of:?}");
            assert!(matches!(shows(&other), Err(rustls::Error::InvalidCertificate(_) | rustls::Error::PeerMisbehaved(_))), "{of:?}");
        }
    }

    fn showing(version: &'static SupportedProtocolVersion, resolver: Arc<dyn ResolvesClientCert>) -> Arc<ClientConfig> {
        let mut config = ClientConfig::clone(&client_of(&[version], &["h2"]));
        config.client_auth_cert_resolver = resolver;
        Arc::new(config)
    }

    #[test]
    fn a_file_that_names_no_authorities_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let why = |content: &[u8]| {
            fs::write(&file, content).unwrap();
            let error = Clients::load(file.path(), Vec::new()).unwrap_err().to_string();
            error.strip_prefix(&format!("{}: ", file.path().display())).unwrap().to_owned()
        };
        let good = Authority::new("ours").pem();
        assert_eq!(why(b""), "no certificate in it (want PEM, `-----BEGIN CERTIFICATE-----`)");
        assert_eq!(why(good.replace("MII", "!!!").as_bytes()), "a PEM block is damaged");
        assert!(
            why(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").starts_with("not the certificate of an authority: ")
        );
        let mut large = good.into_bytes();
        large.resize(FILE_MAX_BYTES + 1, b'\n');
        assert_eq!(why(&large), "more than 1048576 bytes");
        large.pop();
        fs::write(&file, &large).unwrap();
        assert!(Clients::load(file.path(), Vec::new()).is_ok());
        fs::remove_file(file.path()).unwrap();
        assert!(Clients::load(file.path(), Vec::new()).is_err());
    }
}
