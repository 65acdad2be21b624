//! `arngate verify`: whose token it is, for debugging.
//!
//! upstream: cmd/aws-iam-authenticator/verify.go.

use std::path::PathBuf;
use std::process::ExitCode;

use arngate_core::Partition;
use arngate_server::config::Overrides;
use clap::Args;

use super::{Context, Stray, complain, escaped, print_line};

/// Verify a token, and print whose it is
///
/// Asks STS, as the server does; with --offline the keys of a bundle prove it, and nothing is sent anywhere.
#[derive(Args, Debug)]
pub(super) struct Verify {
    /// The token
    #[arg(short, long, value_name = "TOKEN", allow_hyphen_values = true)]
    token: Option<String>,
    /// Output format: json, or Go's form of the same
    #[arg(short, long, value_name = "FORMAT", default_value = "", hide_default_value = true)]
    output: String,
    /// AWS partition [default: aws]
    #[arg(long, value_name = "PARTITION")]
    partition: Option<String>,
    /// Prove the token with the keys of this bundle, a file or a folder, instead of asking STS
    #[arg(long, value_name = "BUNDLE")]
    offline: Option<PathBuf>,
    #[command(flatten)]
    stray: Stray,
}

/// Who signed a token: the reference's `Identity`.
#[derive(Debug, serde::Serialize)]
#[serde(rename_all = "PascalCase")]
struct Verified {
    #[serde(rename = "ARN")]
    arn: String,
    #[serde(rename = "CanonicalARN")]
    canonical_arn: String,
    #[serde(rename = "AccountID")]
    account_id: String,
    #[serde(rename = "UserID")]
    user_id: String,
    session_name: String,
    #[serde(rename = "AccessKeyID")]
    access_key_id: String,
    #[serde(rename = "STSEndpoint")]
    sts_endpoint: String,
}

impl Verify {
    pub(super) fn run(self, context: &Context) -> ExitCode {
        self.stray.warn();
        let Some(token) = self.token.as_deref().filter(|token| !token.is_empty()) else {
            return context.complain_with_usage("verify", "error: token not specified");
        };
        let overrides = Overrides { partition: self.partition.clone(), ..context.overrides() };
        let Some(config) = context.client_config(&overrides) else { return ExitCode::FAILURE };
        let Some(cluster_id) = &config.cluster_id else {
            return context.complain_with_usage("verify", "error: cluster ID not specified");
        };
        match self.verify(token, cluster_id, config.partition) {
            Ok(verified) => print_line(&verified.to_text(&self.output)),
            Err(error) => {
                complain(format_args!("could not verify token: {}", escaped(&error)));
                ExitCode::FAILURE
            }
        }
    }

    fn verify(&self, _token: &str, _cluster_id: &str, _partition: Partition) -> anyhow::Result<Verified> {
        anyhow::bail!("this build has no prover")
    }
}

impl Verified {
    fn to_text(&self, output: &str) -> String {
        if output == "json" { self.to_json() } else { self.to_go() }
    }

    /// As Go's `json.MarshalIndent` with four blanks.
    fn to_json(&self) -> String {
        let mut out = Vec::new();
        let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
        let mut serializer = serde_json::Serializer::with_formatter(&mut out, formatter);
        // Seven texts, written to memory: there is nothing to fail.
        let _ = serde::Serialize::serialize(self, &mut serializer);
        String::from_utf8(out).unwrap_or_default()
    }

    /// As Go's `%+v` of a pointer to a struct.
    fn to_go(&self) -> String {
        format!(
            "&{{ARN:{} CanonicalARN:{} AccountID:{} UserID:{} SessionName:{} AccessKeyID:{} STSEndpoint:{}}}",
            self.arn, self.canonical_arn, self.account_id, self.user_id, self.session_name, self.access_key_id, self.sts_endpoint
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verified() -> Verified {
        Verified {
            arn: "arn:aws:sts::123456789012:assumed-role/Admin/alice".to_owned(),
            canonical_arn: "arn:aws:iam::123456789012:role/Admin".to_owned(),
            account_id: "123456789012".to_owned(),
            user_id: "AROAEXAMPLEEXAMPLE".to_owned(),
            session_name: "alice".to_owned(),
            access_key_id: "ASIAIOSFODNN7EXAMPLE".to_owned(),
            sts_endpoint: "sts.eu-west-1.amazonaws.com".to_owned(),
        }
    }

    #[test]
    fn json_is_the_references() {
        insta::assert_snapshot!(verified().to_text("json"), @r#"
        {
            "ARN": "arn:aws:sts::123456789012:assumed-role/Admin/alice",
            "CanonicalARN": "arn:aws:iam::123456789012:role/Admin",
            "AccountID": "123456789012",
            "UserID": "AROAEXAMPLEEXAMPLE",
            "SessionName": "alice",
            "AccessKeyID": "ASIAIOSFODNN7EXAMPLE",
            "STSEndpoint": "sts.eu-west-1.amazonaws.com"
        }
        "#);
    }

    #[test]
    fn text_is_gos() {
        insta::assert_snapshot!(verified().to_text(""), @"&{ARN:arn:aws:sts::123456789012:assumed-role/Admin/alice CanonicalARN:arn:aws:iam::123456789012:role/Admin AccountID:123456789012 UserID:AROAEXAMPLEEXAMPLE SessionName:alice AccessKeyID:ASIAIOSFODNN7EXAMPLE STSEndpoint:sts.eu-west-1.amazonaws.com}");
    }
}
