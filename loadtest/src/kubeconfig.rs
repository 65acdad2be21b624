//! The webhook kubeconfig of an API server: where the webhook is, whom it is trusted by, and what the API server shows of itself.
//!
//! Kubernetes: <https://kubernetes.io/docs/reference/access-authn-authz/authentication/#webhook-token-authentication>. Of the current context only what
//! a webhook has to do with is read; aliases are not followed, for nobody writes them there.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use granit_parser::{Event, Parser};
use serde_json::{Map, Value};

/// What a webhook kubeconfig says. Debug hides the key.
#[derive(Clone, Eq, PartialEq)]
pub struct Kubeconfig {
    /// `clusters[].cluster.server`
    pub server: String,
    /// `certificate-authority` or `certificate-authority-data`, PEM.
    pub ca_pem: Vec<u8>,
    /// `client-certificate` and `client-key`, or their data, PEM.
    pub client: Option<(Vec<u8>, Vec<u8>)>,
}

impl std::fmt::Debug for Kubeconfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kubeconfig").field("server", &self.server).finish_non_exhaustive()
    }
}

impl Kubeconfig {
    /// Reads the file, and those that it names.
    ///
    /// # Errors
    ///
    /// [`KubeconfigError`].
    pub fn load(path: &Path) -> Result<Self, KubeconfigError> {
        let text = read(path)?;
        let text = String::from_utf8(text).map_err(|_| KubeconfigError::Form("not UTF-8"))?;
        Self::parse(&text, path.parent().unwrap_or_else(|| Path::new("")))
    }

    /// Names of files in it are from `folder`.
    fn parse(text: &str, folder: &Path) -> Result<Self, KubeconfigError> {
        let root = tree(text)?;
        let named = |list: &str, name: &str, kind: &str| -> Option<Value> {
            let entries = root.get(list)?.as_array()?;
            entries.iter().find(|entry| entry.get("name").and_then(Value::as_str) == Some(name))?.get(kind).cloned()
        };
        let current = root.get("current-context").and_then(Value::as_str).ok_or(KubeconfigError::Form("there is no current-context"))?;
        let context = named("contexts", current, "context").ok_or(KubeconfigError::Form("there is no context of that name"))?;
        let of_context = |key: &str| context.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let cluster = named("clusters", &of_context("cluster"), "cluster").ok_or(KubeconfigError::Form("its context has no cluster"))?;
        let server = cluster.get("server").and_then(Value::as_str).ok_or(KubeconfigError::Form("its cluster has no server"))?;
        let ca_pem =
            pem(&cluster, "certificate-authority", folder)?.ok_or(KubeconfigError::Form("its cluster has no certificate-authority"))?;
        let user = named("users", &of_context("user"), "user").unwrap_or_default();
        let client = pem(&user, "client-certificate", folder)?.zip(pem(&user, "client-key", folder)?);
        Ok(Self { server: server.into(), ca_pem, client })
    }
}

/// The file that `key` names, or what `key-data` holds.
fn pem(entry: &Value, key: &'static str, folder: &Path) -> Result<Option<Vec<u8>>, KubeconfigError> {
    if let Some(data) = entry.get(format!("{key}-data")).and_then(Value::as_str) {
        return STANDARD.decode(data).map(Some).map_err(|_| KubeconfigError::Form("a …-data is not base64"));
    }
    entry.get(key).and_then(Value::as_str).map(|path| read(&folder.join(path))).transpose()
}

fn read(path: &Path) -> Result<Vec<u8>, KubeconfigError> {
    std::fs::read(path).map_err(|source| KubeconfigError::Read { path: path.to_owned(), source })
}

/// YAML as JSON, with each scalar a text.
fn tree(text: &str) -> Result<Value, KubeconfigError> {
    enum Open {
        List(Vec<Value>),
        Map(Map<String, Value>, Option<String>),
    }
    let mut open: Vec<Open> = Vec::new();
    let mut root = Value::Null;
    for event in Parser::new_from_str(text) {
        let (event, _) = event.map_err(|_| KubeconfigError::Form("not YAML"))?;
        let done = match event {
            Event::Scalar(value, ..) => Value::from(value.into_owned()),
            Event::SequenceStart(..) => {
                open.push(Open::List(Vec::new()));
                continue;
            }
            Event::MappingStart(..) => {
                open.push(Open::Map(Map::new(), None));
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some(Open::List(list)) => list.into(),
                Some(Open::Map(map, _)) => map.into(),
                None => continue,
            },
            Event::Alias(..) => return Err(KubeconfigError::Form("it has an alias")),
            _ => continue,
        };
        match open.last_mut() {
            Some(Open::List(list)) => list.push(done),
            Some(Open::Map(map, key)) => match key.take() {
                Some(name) => drop(map.insert(name, done)),
                None => *key = Some(done.as_str().ok_or(KubeconfigError::Form("a key is not a text"))?.to_owned()),
            },
            None => root = done,
        }
    }
    Ok(root)
}

/// Why a kubeconfig could not be used.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum KubeconfigError {
    /// Not a kubeconfig, or one that lacks what a webhook's has.
    #[error("that is no kubeconfig of a webhook: {0}")]
    Form(&'static str),
    /// It, or a file that it names, could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
apiVersion: v1
clusters:
  - name: aws-iam-authenticator
    cluster:
      certificate-authority-data: Q0E=
      server: https://localhost:21362/authenticate
users:
  - name: apiserver
    user: {client-certificate: client.pem, client-key: "client-key.pem"}
contexts:
- name: webhook
  context: {cluster: aws-iam-authenticator, user: apiserver}
current-context: webhook
"#;

    #[test]
    fn reads_what_arngate_writes_and_the_files_that_it_names() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [("kubeconfig.yaml", TEXT), ("client.pem", "certificate"), ("client-key.pem", "key")] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let read = Kubeconfig::load(&folder.path().join("kubeconfig.yaml")).unwrap();
        let client = Some((b"certificate".to_vec(), b"key".to_vec()));
        assert_eq!(read, Kubeconfig { server: "https://localhost:21362/authenticate".into(), ca_pem: b"CA".to_vec(), client });
        assert!(!format!("{read:?}").contains("key"));
    }

    #[test]
    fn says_what_is_missing() {
        let error = |text: &str| Kubeconfig::parse(text, Path::new("/nowhere")).unwrap_err().to_string();
        assert!(error(TEXT).contains("/nowhere/client.pem"));
        for (text, expected) in [
            ("", "there is no current-context"),
            (": : :\n- [", "not YAML"),
            ("current-context: x", "there is no context"),
            (&TEXT.replace("server:", "host:"), "has no server"),
            (&TEXT.replace("certificate-authority-data", "ca"), "has no certificate-authority"),
            (&TEXT.replace("Q0E=", "???"), "not base64"),
        ] {
            assert!(error(text).contains(expected), "{text}: {}", error(text));
        }
    }
}
