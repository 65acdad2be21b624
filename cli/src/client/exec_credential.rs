//! What `kubectl` reads from an exec plugin.
//!
//! Kubernetes: <https://kubernetes.io/docs/reference/config-api/client-authentication.v1/>; upstream: `FormatJSON` in pkg/token/token.go.

use arngate_core::UnixSeconds;
use serde::{Deserialize, Serialize};

use crate::instant;

/// The variable in which kubectl says what it wants.
pub(crate) const EXEC_INFO: &str = "KUBERNETES_EXEC_INFO";

/// How long a token may be used, in seconds: a minute less than STS honours it.
///
/// upstream: `tokenExpiration` in pkg/token/token.go.
const USE_SECS: i64 = 14 * 60;

#[derive(Deserialize)]
struct ExecInfo {
    #[serde(rename = "apiVersion")]
    api_version: String,
}

#[derive(Serialize)]
struct ExecCredential<'a> {
    kind: &'static str,
    #[serde(rename = "apiVersion")]
    api_version: &'static str,
    spec: Spec,
    status: Status<'a>,
}

#[derive(Serialize)]
struct Spec {
    interactive: bool,
}

#[derive(Serialize)]
struct Status<'a> {
    #[serde(rename = "expirationTimestamp")]
    expiration_timestamp: String,
    token: &'a str,
}

/// The version that `info`, the value of [`EXEC_INFO`], asks for; v1beta1 where it asks for none that we know.
fn api_version(info: Option<&str>) -> &'static str {
    const V1BETA1: &str = "client.authentication.k8s.io/v1beta1";
    let known = ["client.authentication.k8s.io/v1", V1BETA1, "client.authentication.k8s.io/v1alpha1"];
    let asked = info.and_then(|info| serde_json::from_str::<ExecInfo>(info).ok());
    asked.and_then(|asked| known.into_iter().find(|known| asked.api_version == *known)).unwrap_or(V1BETA1)
}

/// The ExecCredential of a token, on one line.
///
/// `credentials_end` is when the credentials that signed it expire: the token is worthless from then on, whatever its own life.
pub(crate) fn format(
    token: &str,
    now: UnixSeconds,
    credentials_end: Option<UnixSeconds>,
    info: Option<&str>,
) -> serde_json::Result<String> {
    let end = now.saturating_add(USE_SECS);
    let end = credentials_end.map_or(end, |credentials_end| end.min(credentials_end));
    serde_json::to_string(&ExecCredential {
        kind: "ExecCredential",
        api_version: api_version(info),
        spec: Spec { interactive: false },
        status: Status { expiration_timestamp: instant::format(end), token },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_noon(credentials_end: Option<&str>, info: Option<&str>) -> String {
        let now = instant::parse("2026-11-24T12:00:00Z").unwrap();
        format("k8s-aws-v1.abc", now, credentials_end.and_then(instant::parse), info).unwrap()
    }

    #[test]
    fn is_the_references_line_byte_for_byte() {
        insta::assert_snapshot!(at_noon(None, None), @r#"{"kind":"ExecCredential","apiVersion":"client.authentication.k8s.io/v1beta1","spec":{"interactive":false},"status":{"expirationTimestamp":"2026-11-24T12:14:00Z","token":"k8s-aws-v1.abc"}}"#);
    }

    #[test]
    fn echoes_the_versions_that_kubectl_has() {
        for version in ["v1", "v1beta1", "v1alpha1"] {
            let info = format!(
                r#"{{"kind":"ExecCredential","apiVersion":"client.authentication.k8s.io/{version}","spec":{{"interactive":true}}}}"#
            );
            assert!(
                at_noon(None, Some(&info)).contains(&format!(r#""apiVersion":"client.authentication.k8s.io/{version}","#)),
                "{version}"
            );
        }
    }

    #[test]
    fn falls_back_to_v1beta1() {
        for info in ["", "{", "[]", "null", "{}", r#"{"apiVersion":"client.authentication.k8s.io/v2"}"#, r#"{"apiVersion":1}"#] {
            assert!(at_noon(None, Some(info)).contains(r#""apiVersion":"client.authentication.k8s.io/v1beta1","#), "{info}");
        }
    }

    #[test]
    fn ends_with_the_credentials_where_those_end_first() {
        assert!(at_noon(Some("2026-11-24T12:05:00Z"), None).contains("\"2026-11-24T12:05:00Z\""));
        assert!(at_noon(Some("2026-11-24T18:00:00Z"), None).contains("\"2026-11-24T12:14:00Z\""));
    }
}
