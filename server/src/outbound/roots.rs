//! Which certificates AWS is believed: the platform's roots, and those of the files that were named.
//!
//! Files that were named are read at once, and a bad one is an error. The platform's are read with the first connection: a server that only
//! proves offline needs none, and starting must not wait.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::OnceCell;

use super::ConfigError;

/// TLS sessions that are kept to be resumed. There are few hosts; rustls' own default would keep 256.
const SESSIONS: usize = 32;

/// The roots, and the TLS client that is made of them once. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct Roots(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    named: RootCertStore,
    client: OnceCell<Arc<ClientConfig>>,
}

impl Default for Shared {
    fn default() -> Self {
        Self { named: RootCertStore::empty(), client: OnceCell::new() }
    }
}

impl Roots {
    /// The platform's, and those in these PEM files.
    ///
    /// # Errors
    ///
    /// [`ConfigError::CaFile`].
    pub fn load(files: &[PathBuf]) -> Result<Self, ConfigError> {
        let mut named = RootCertStore::empty();
        for path in files {
            add_file(&mut named, path)?;
        }
        Ok(Self(Arc::new(Shared { named, client: OnceCell::new() })))
    }

    /// The TLS client.
    pub(crate) async fn client(&self) -> Result<Arc<ClientConfig>, rustls::Error> {
        let make = || async {
            let named = self.0.named.clone();
            // Reading and parsing 150 certificates takes milliseconds, which belong on no worker.
            tokio::task::spawn_blocking(|| make_client(named))
                .await
                .map_err(|_| rustls::Error::General("no TLS roots could be read".into()))?
        };
        self.0.client.get_or_try_init(make).await.cloned()
    }
}

fn add_file(roots: &mut RootCertStore, path: &Path) -> Result<(), ConfigError> {
    let bad = |cause: String| ConfigError::CaFile { path: path.into(), cause };
    let before = roots.len();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| bad(error.to_string()))? {
        let certificate = certificate.map_err(|error| bad(error.to_string()))?;
        roots.add(certificate).map_err(|error| bad(error.to_string()))?;
    }
    if roots.len() == before { Err(bad("no certificate in it".into())) } else { Ok(()) }
}

fn make_client(mut roots: RootCertStore) -> Result<Arc<ClientConfig>, rustls::Error> {
    let platform = rustls_native_certs::load_native_certs();
    for error in &platform.errors {
        tracing::warn!(%error, "could not read some of the platform's TLS roots");
    }
    // Stores hold relics that no longer parse; rustls' own advice is to go on without them.
    roots.add_parsable_certificates(platform.certs);
    if roots.is_empty() {
        tracing::warn!("no TLS roots: the platform has none and no CA file is set, so no connection to AWS can be made");
    }
    let provider = CryptoProvider::get_default().map_or_else(|| Arc::new(ring::default_provider()), Arc::clone);
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.alpn_protocols = vec![b"http/1.1".to_vec()];
    client.resumption = Resumption::in_memory_sessions(SESSIONS);
    Ok(Arc::new(client))
}
