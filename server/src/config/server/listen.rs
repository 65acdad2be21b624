//! Settings of who may come, where, and what he is shown.

use std::net::{IpAddr, Ipv4Addr};

use super::{Reader, path};
use crate::config::layer::list;
use crate::config::network::{AdminAddress, address, admin_address, hostname};
use crate::config::settings::{AdminSettings, BootstrapSettings, ClientSettings, ListenSettings, WebhookClientSettings};
use crate::document::Section;
use crate::document::reader::integer;

/// upstream: `DefaultPort` in cmd/aws-iam-authenticator/server.go.
const DEFAULT_PORT: u16 = 21362;

/// upstream: the health listener in pkg/server/server.go.
const DEFAULT_ADMIN_PORT: u16 = 21363;

impl<'a> Reader<'a> {
    pub(super) fn listen(&self, server: &mut Section<'a>) -> ListenSettings {
        let o = self.overrides;
        let ip = self.read("--address", o.address.as_ref(), server, "address", address);
        let port = self.read("--port", o.port.as_ref(), server, "port", integer(0..=u16::MAX));
        ListenSettings {
            address: ip.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            port: port.unwrap_or(DEFAULT_PORT),
            reuse_port: self.switch(o.reuse_port, server, "reusePort", false),
        }
    }

    /// Who may ask, and where the API server learns what to show for it.
    pub(super) fn clients_and_bootstrap(&self, server: &mut Section<'a>) -> (Option<ClientSettings>, BootstrapSettings) {
        let o = self.overrides;
        let ca_file = Self::text("--client-ca-file", o.client_ca_file.as_ref(), server, "clientCAFile");
        let field = server.take("clientNames");
        let names = list("--client-names", &o.client_names, field.as_ref()).unwrap_or_default();
        let mut section = server.section("webhookClient");
        let certificate = Self::text("--webhook-client-certificate", o.webhook_client_certificate.as_ref(), &mut section, "certificate");
        let key = Self::text("--webhook-client-key", o.webhook_client_key.as_ref(), &mut section, "key");
        section.finish();

        let webhook_client = match (certificate, key) {
            (Some(certificate), Some(key)) => {
                Some((certificate.place, WebhookClientSettings { certificate: certificate.text, key: key.text }))
            }
            (None, None) => None,
            (Some(alone), None) => {
                self.findings.error(alone.place, "needs its key beside it: server.webhookClient.key");
                None
            }
            (None, Some(alone)) => {
                self.findings.error(alone.place, "needs its certificate beside it: server.webhookClient.certificate");
                None
            }
        };
        let mut bootstrap = self.bootstrap(server);
        match (&ca_file, names.first()) {
            (Some(ca_file), None) => {
                self.findings
                    .error(ca_file.place.clone(), "needs server.clientNames: without, whoever has a certificate of that authority may ask");
            }
            (None, Some(name)) => self.findings.error(name.place.clone(), "needs server.clientCAFile"),
            _ => {}
        }
        match (&ca_file, &webhook_client) {
            (Some(ca_file), None) if !bootstrap.kubeconfig_pregenerated => self.findings.error(
                ca_file.place.clone(),
                "needs server.webhookClient with certificate and key: the webhook kubeconfig must name what the API server is to show",
            ),
            (None, Some((place, _))) => self.findings.warn(place.clone(), "nobody is asked for a certificate without server.clientCAFile"),
            (_, Some((place, _))) if bootstrap.kubeconfig_pregenerated => {
                self.findings.warn(place.clone(), "has no effect, for the webhook kubeconfig is made by `init`");
            }
            _ => {}
        }
        bootstrap.webhook_client = webhook_client.map(|(_, client)| client);
        let names = names.into_iter().map(|name| name.text).collect();
        (ca_file.map(|ca_file| ClientSettings { ca_file: path(ca_file), names }), bootstrap)
    }

    fn bootstrap(&self, server: &mut Section<'a>) -> BootstrapSettings {
        let o = self.overrides;
        let host = self.read("--hostname", o.hostname.as_ref(), server, "hostname", hostname);
        let state_dir = Self::text("--state-dir", o.state_dir.as_ref(), server, "stateDir");
        let kubeconfig = Self::text("--generate-kubeconfig", o.generate_kubeconfig.as_ref(), server, "generateKubeconfig");
        BootstrapSettings {
            hostname: host.unwrap_or_else(|| "localhost".into()),
            state_dir: state_dir.map_or_else(|| "/var/aws-iam-authenticator".into(), path),
            generate_kubeconfig: kubeconfig.map_or_else(|| "/etc/kubernetes/aws-iam-authenticator/kubeconfig.yaml".into(), path),
            kubeconfig_pregenerated: self.switch(o.kubeconfig_pregenerated, server, "kubeconfigPregenerated", false),
            webhook_client: None,
        }
    }

    pub(super) fn admin(&self, mut section: Section<'a>) -> AdminSettings {
        let address = self.read("--admin-address", self.overrides.admin_address.as_ref(), &mut section, "address", admin_address);
        section.finish();
        AdminSettings { address: address.unwrap_or(AdminAddress { ip: None, port: DEFAULT_ADMIN_PORT }), is_set: address.is_some() }
    }
}
