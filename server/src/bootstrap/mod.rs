//! What must be on the disk before an API server can ask us: certificate, key, webhook kubeconfig.
//!
//! `arngate init` and the server's start call this, and whoever writes a file that somebody may be reading calls [`atomic_file`]; nothing here is on the path of a request.
//!
//! upstream: `GenerateFiles` in pkg/config/config.go.

pub mod atomic_file;
pub mod certs;
pub mod kubeconfig;
pub mod x509;

use std::path::Path;

use arngate_core::UnixSeconds;
use thiserror::Error;

/// What [`init`] works from.
#[derive(Clone, Copy, Debug)]
pub struct Init<'a> {
    /// Folder of `cert.pem` and `key.pem`.
    pub state_dir: &'a Path,
    /// Where the webhook kubeconfig goes.
    pub kubeconfig: &'a Path,
    /// What certificate and kubeconfig call us.
    pub hostname: &'a str,
    /// The address that we listen on.
    pub address: &'a str,
    /// The port that we listen on.
    pub port: u16,
    /// What the kubeconfig names for the API server to show.
    pub client: Option<kubeconfig::ClientFiles<'a>>,
}

/// Why [`init`] failed.
#[derive(Debug, Error)]
pub enum InitError {
    /// See [`certs::CertError`].
    #[error(transparent)]
    Certificate(#[from] certs::CertError),
    /// See [`kubeconfig::KubeconfigError`].
    #[error(transparent)]
    Kubeconfig(#[from] kubeconfig::KubeconfigError),
}

/// Loads or makes certificate and key, and writes the webhook kubeconfig that trusts it.
///
/// # Errors
///
/// The first step that failed; files that are there by then are good and stay.
pub fn init(init: &Init<'_>, now: UnixSeconds) -> Result<certs::ServingCert, InitError> {
    let names = certs::Names { address: init.address, hostname: init.hostname };
    let cert = certs::load_or_generate(init.state_dir, names, now)?;
    let server = kubeconfig::server_url(init.hostname, init.port);
    kubeconfig::write(init.kubeconfig, &kubeconfig::render(cert.leaf_der(), &server, init.client))?;
    Ok(cert)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn init_leaves_what_the_server_then_loads() {
        let folder = tempfile::tempdir().unwrap();
        let kubeconfig = folder.path().join("kubeconfig.yaml");
        let what = Init {
            state_dir: folder.path(),
            kubeconfig: &kubeconfig,
            hostname: "localhost",
            address: "127.0.0.1",
            port: 21362,
            client: None,
        };
        let now = UnixSeconds::new(1_795_521_600);
        let made = init(&what, now).unwrap();
        assert_eq!(made.origin(), certs::Origin::Generated);
        let again = init(&what, now).unwrap();
        assert_eq!(again.origin(), certs::Origin::Loaded);
        assert_eq!(made.leaf_der(), again.leaf_der());
        assert!(std::fs::read_to_string(kubeconfig).unwrap().contains("server: https://localhost:21362/authenticate\n"));
    }
}
