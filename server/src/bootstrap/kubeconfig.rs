//! The kubeconfig by which kube-apiserver finds us (`--authentication-token-webhook-config-file`).
//!
//! upstream: pkg/config/kubeconfig/kubeconfig.go; with apiVersion and kind, which the reference leaves out and every kubeconfig should have.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use rustls::pki_types::CertificateDer;
use thiserror::Error;

use super::{atomic_file, certs};

/// The key pair with which the API server shows who it is, by path: we never make one.
#[derive(Clone, Copy, Debug)]
pub struct ClientFiles<'a> {
    /// Path of the certificate, as the API server sees it.
    pub certificate: &'a str,
    /// Path of the key, as the API server sees it.
    pub key: &'a str,
}

/// The kubeconfig could not be written.
#[derive(Debug, Error)]
#[error("could not write webhook kubeconfig {}: {cause}", .path.display())]
pub struct KubeconfigError {
    path: PathBuf,
    cause: io::Error,
}

/// `https://<hostname>:<port>/authenticate`, brackets around an IPv6 address.
#[must_use]
pub fn server_url(hostname: &str, port: u16) -> String {
    if hostname.parse::<Ipv6Addr>().is_ok() {
        format!("https://[{hostname}]:{port}/authenticate")
    } else {
        format!("https://{hostname}:{port}/authenticate")
    }
}

/// The text of the kubeconfig that trusts `leaf` at `server`.
#[must_use]
pub fn render(leaf: &CertificateDer<'_>, server: &str, client: Option<ClientFiles<'_>>) -> String {
    let authority = base64::engine::general_purpose::STANDARD.encode(certs::pem_certificate(leaf));
    let mut user = String::new();
    if let Some(client) = client {
        let (certificate, key) = (scalar(client.certificate), scalar(client.key));
        write!(user, "\n    user:\n      client-certificate: {certificate}\n      client-key: {key}").unwrap_or_default();
    }
    let server = scalar(server);
    format!(
        "apiVersion: v1
kind: Config
clusters:
  - name: aws-iam-authenticator
    cluster:
      certificate-authority-data: {authority}
      server: {server}
# user refers to the API server client
users:
  - name: apiserver{user}
current-context: webhook
contexts:
- name: webhook
  context:
    cluster: aws-iam-authenticator
    user: apiserver
"
    )
}

/// A YAML scalar: plain where that is certain to be read back as the same text, else in double quotes as JSON, which YAML reads.
fn scalar(text: &str) -> Cow<'_, str> {
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._/:[]@+".contains(&byte))
        && !text.ends_with(':');
    if plain { Cow::Borrowed(text) } else { Cow::Owned(serde_json::Value::from(text).to_string()) }
}

/// Writes `text` to `path`, at once rather than bit by bit; a file that holds it already is left alone.
///
/// Where the file cannot be replaced (installers mount it as a single file, or its folder is not ours) it is written in place, as the reference does.
///
/// # Errors
///
/// [`KubeconfigError`], with the file and the cause.
pub fn write(path: &Path, text: &str) -> Result<(), KubeconfigError> {
    if fs::read(path).is_ok_and(|there| there == text.as_bytes()) {
        return Ok(());
    }
    tracing::info!(kubeconfigPath = %path.display(), "writing webhook kubeconfig file");
    // Through a link: its target is what somebody else reads.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    atomic_file::replace(&target, text.as_bytes(), 0o644).or_else(|replace| {
        let in_place = fs::OpenOptions::new().write(true).truncate(true).open(&target);
        // The first cause tells more: a folder that is missing, a file system that is read-only.
        let mut file = in_place.map_err(|_| KubeconfigError { path: path.to_owned(), cause: replace })?;
        io::Write::write_all(&mut file, text.as_bytes()).map_err(|cause| KubeconfigError { path: path.to_owned(), cause })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_the_references_with_version_and_kind() {
        let leaf = CertificateDer::from(vec![0x30; 60]);
        insta::assert_snapshot!(render(&leaf, &server_url("localhost", 21362), None));
    }

    #[test]
    fn names_the_files_of_the_api_servers_own_key_pair() {
        let leaf = CertificateDer::from(vec![0x30; 3]);
        let client = ClientFiles { certificate: "/etc/kubernetes/pki/client.crt", key: "C:\\pki: \"x\" #1" };
        let text = render(&leaf, &server_url("::1", 1), Some(client));
        assert!(text.contains("  - name: apiserver\n    user:\n      client-certificate: /etc/kubernetes/pki/client.crt\n      client-key: \"C:\\\\pki: \\\"x\\\" #1\"\n"), "{text}");
        assert!(text.contains("      server: https://[::1]:1/authenticate\n"));
    }

    #[test]
    fn the_authority_is_the_certificate_as_base64_of_pem() {
        let leaf = CertificateDer::from(vec![1, 2, 3]);
        let text = render(&leaf, "https://localhost:1/authenticate", None);
        let data = text.lines().find_map(|line| line.trim().strip_prefix("certificate-authority-data: ")).unwrap();
        let pem = base64::engine::general_purpose::STANDARD.decode(data).unwrap();
        assert_eq!(pem, b"-----BEGIN CERTIFICATE-----\nAQID\n-----END CERTIFICATE-----\n");
    }

    #[test]
    fn writes_only_what_is_new() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kubeconfig.yaml");
        write(&path, "a").unwrap();
        let before = fs::metadata(&path).unwrap().modified().unwrap();
        write(&path, "a").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), before);
        write(&path, "b").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "b");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn writes_through_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let (target, link) = (folder.path().join("target"), folder.path().join("link"));
        fs::write(&target, "old, and longer").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        write(&link, "new").unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "new");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    }

    #[test]
    fn names_the_file_that_it_could_not_write() {
        let path = Path::new("/nowhere/at/all/kubeconfig.yaml");
        let error = write(path, "a").unwrap_err().to_string();
        assert_eq!(error, "could not write webhook kubeconfig /nowhere/at/all/kubeconfig.yaml: No such file or directory (os error 2)");
    }
}
