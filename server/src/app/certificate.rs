//! The serving certificate on the disk, and the webhook kubeconfig that trusts it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::ready::Ready;
use crate::bootstrap::certs;
use crate::bootstrap::kubeconfig::{self, ClientFiles, KubeconfigError};
use crate::config::WebhookClientSettings;
use crate::http::tls::CurrentCert;
use crate::watch::{Looks, Source};

/// What to say of a certificate that was found and is made out to others than the kubeconfig names.
pub const NOT_FOR_HOSTNAME: &str = "the certificate that is there is not for this host name, which the webhook kubeconfig uses: \
    API servers will not connect; set server.hostname, or delete cert.pem and key.pem, so that new ones are made";

/// The file by which the API server finds us. It is written once the port is known, and not at all where we cannot listen: a second server that
/// was started by mistake leaves the first one's alone.
#[derive(Clone, Debug)]
pub struct WebhookKubeconfig {
    /// Where it goes.
    pub path: PathBuf,
    /// The host that it names.
    pub hostname: String,
    /// What it names for the API server to show.
    pub client: Option<WebhookClientSettings>,
}

impl WebhookKubeconfig {
    pub(super) fn write(&self, certificate: &certs::ServingCert, port: u16) -> Result<(), KubeconfigError> {
        if !certificate.is_for(&self.hostname) {
            tracing::warn!(hostname = self.hostname, "{NOT_FOR_HOSTNAME}");
        }
        let url = kubeconfig::server_url(&self.hostname, port);
        kubeconfig::write(&self.path, &kubeconfig::render(certificate.leaf_der(), &url, self.client.as_ref().map(client_files)))?;
        let path = self.path.display();
        tracing::info!(
            "reconfigure your apiserver with `--authentication-token-webhook-config-file={path}` to enable (assuming default hostPath mounts)"
        );
        Ok(())
    }
}

pub(super) fn client_files(client: &WebhookClientSettings) -> ClientFiles<'_> {
    ClientFiles { certificate: &client.certificate, key: &client.key }
}

/// Certificate and key on the disk, and all that follows when they change.
pub(super) struct CertificateFiles {
    pub(super) state_dir: PathBuf,
    pub(super) current: Arc<CurrentCert>,
    pub(super) ready: Arc<Ready>,
    pub(super) kubeconfig: Option<WebhookKubeconfig>,
    pub(super) port: u16,
}

impl CertificateFiles {
    pub(super) fn source(self, looks: Looks) -> Source {
        let paths = certificate_paths(&self.state_dir).into();
        Source::new("certificate", paths, looks, move || self.reload())
    }

    fn reload(&self) -> Result<String, String> {
        let certificate = certs::load(&self.state_dir).map_err(|error| error.to_string())?;
        let [path, key] = certificate_paths(&self.state_dir);
        let certificate = certificate.ok_or_else(|| format!("{} or {} is missing", path.display(), key.display()))?;
        let is_another = self.current.current().cert != certificate.certified_key().cert;
        self.current.replace(certificate.certified_key());
        self.ready.serves(&certificate);
        if let (Some(kubeconfig), true) = (&self.kubeconfig, is_another) {
            match kubeconfig.write(&certificate, self.port) {
                Ok(()) => tracing::warn!("the webhook kubeconfig trusts the new certificate: API servers read it when they start"),
                Err(error) => tracing::error!(%error, "the webhook kubeconfig still trusts the certificate before this one"),
            }
        }
        Ok(path.display().to_string())
    }
}

pub(super) fn certificate_paths(state_dir: &Path) -> [PathBuf; 2] {
    [certs::certificate_path(state_dir), certs::key_path(state_dir)]
}
