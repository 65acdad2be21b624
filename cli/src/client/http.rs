//! The HTTP client of the AWS SDK: rustls with ring, the platform's roots and `AWS_CA_BUNDLE`, proxies from the environment.
//!
//! Plain `http` is spoken to the metadata services of the machine alone (instance, ECS, EKS pod identity): these are on the link, and no
//! proxy may see what they answer. `HTTP_PROXY` therefore has no effect here.

use std::path::Path;
use std::sync::OnceLock;

use anyhow::Context as _;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_http_client::{Connector, ConnectorBuilder};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;

/// A client that trusts the platform's roots and those in the file `ca_bundle`.
pub(super) fn client(ca_bundle: Option<&Path>) -> anyhow::Result<SharedHttpClient> {
    let mut trust = TrustStore::default();
    if let Some(path) = ca_bundle {
        let pem = read_certificates(path).with_context(|| format!("failed to load custom CA bundle PEM file {}", path.display()))?;
        trust.add_pem_certificate(pem);
    }
    let tls = TlsContext::builder().with_trust_store(trust).build()?;
    Ok(SharedHttpClient::new(Client { tls }))
}

/// Reads a PEM file and sees that it is one: the SDK's client would panic on it.
fn read_certificates(path: &Path) -> anyhow::Result<Vec<u8>> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject as _;

    let pem = std::fs::read(path)?;
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        roots.add(certificate?)?;
    }
    anyhow::ensure!(!roots.is_empty(), "it holds no certificate");
    Ok(pem)
}

#[derive(Debug)]
struct Client {
    tls: TlsContext,
}

impl HttpClient for Client {
    fn http_connector(&self, settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        // Not cached: a command makes a handful of requests, and the settings differ between metadata and STS.
        let mut builder = Connector::builder().connector_settings(settings.clone());
        builder.set_sleep_impl(components.sleep_impl());
        SharedHttpConnector::new(ByScheme { builder, tls: self.tls.clone(), plain: OnceLock::new(), encrypted: OnceLock::new() })
    }
}

/// Two connectors, each built when the first request for its scheme comes.
#[derive(Debug)]
struct ByScheme {
    builder: ConnectorBuilder,
    tls: TlsContext,
    plain: OnceLock<Connector>,
    encrypted: OnceLock<Connector>,
}

impl HttpConnector for ByScheme {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let is_plain = request.uri().get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("http://"));
        let connector = if is_plain {
            self.plain.get_or_init(|| self.builder.clone().build_http())
        } else {
            self.encrypted.get_or_init(|| {
                let builder = self.builder.clone().proxy_config(ProxyConfig::from_env());
                builder.tls_provider(Provider::Rustls(CryptoMode::Ring)).tls_context(self.tls.clone()).build()
            })
        };
        connector.call(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_that_cannot_be_used_is_an_error_with_its_name() {
        let error = |path: &Path| format!("{:#}", client(Some(path)).unwrap_err());
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("missing.pem");
        assert!(error(&missing).starts_with("failed to load custom CA bundle PEM file "), "{}", error(&missing));
        let empty = folder.path().join("empty.pem");
        std::fs::write(&empty, "no certificate here").unwrap();
        assert!(error(&empty).ends_with("it holds no certificate"), "{}", error(&empty));
        let broken = folder.path().join("broken.pem");
        std::fs::write(&broken, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
        assert!(client(Some(&broken)).is_err());
    }
}
