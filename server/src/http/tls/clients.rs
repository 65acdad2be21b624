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
