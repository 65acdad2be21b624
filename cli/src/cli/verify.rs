//! `arngate verify`: whose token it is, for debugging.
//!
//! upstream: cmd/aws-iam-authenticator/verify.go.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use arngate_core::limits::DEFAULT_MAX_AHEAD_SECS;
use arngate_server::clock::{Clock as _, SystemClock};
use arngate_server::config::{ClientConfig, Overrides};
use arngate_server::prover::offline::{Bundle, Keyring};
use arngate_server::prover::sts::{self, Client, Roots};
use arngate_server::prover::{Chain, OwnedToken, Prover, Realm, VerifiedIdentity, prove};
use arngate_server::telemetry::escape::Escaped;
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
        match self.verify(token, cluster_id, &config, context) {
            Ok(verified) => print_line(&verified.to_text(&self.output)),
            Err(error) => {
                complain(format_args!("could not verify token: {}", escaped(&error)));
                ExitCode::FAILURE
            }
        }
    }

    fn verify(&self, token: &str, cluster_id: &str, config: &ClientConfig, context: &Context) -> anyhow::Result<Verified> {
        let prover = match &self.offline {
            Some(path) => {
                // One line, however many errors there are.
                let bundle = Bundle::load(path, config.partition)
                    .map_err(|errors| anyhow::anyhow!("the bundle cannot be used: {}", errors.to_string().replace('\n', "; ")))?;
                Prover::Offline(Arc::new(Keyring::new(bundle)))
            }
            None => Prover::Sts(sts_client(context)?),
        };
        // The reference asks instance metadata for the region, for seconds where there is none.
        let own_region = config.region.clone().or_else(|| context.env.first(&["AWS_REGION", "AWS_DEFAULT_REGION"]));
        let chain = Chain::new(vec![prover])?;
        let realm = Realm::new(cluster_id, config.partition, own_region.as_deref(), DEFAULT_MAX_AHEAD_SECS, chain)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let token = OwnedToken::new(token.to_owned().into());
        let proved = runtime.block_on(prove(Arc::new(realm), token, SystemClock::new().now()));
        runtime.shutdown_background();
        Ok(Verified::of(&proved?))
    }
}

/// As the server asks STS: straight, or through the proxy of the environment.
fn sts_client(context: &Context) -> anyhow::Result<Client> {
    let ca_files: Vec<_> = context.env.first(&["AWS_CA_BUNDLE"]).map(PathBuf::from).into_iter().collect();
    Ok(Client::new(sts::Config { roots: Roots::load(&ca_files)?, proxy: context.proxy(), ..sts::Config::default() }, Arc::new(()))?)
}

impl Verified {
    fn of(proved: &VerifiedIdentity) -> Self {
        let identity = proved.identity();
        Self {
            arn: identity.arn().to_owned(),
            canonical_arn: identity.canonical_arn().to_string(),
            account_id: identity.account_id().to_owned(),
            user_id: identity.user_id().to_owned(),
            session_name: identity.session_name().to_owned(),
            access_key_id: proved.access_key_id().to_owned(),
            sts_endpoint: proved.sts_host().to_owned(),
        }
    }

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
        // As Go writes it, `<`, `>` and `&` are escapes; and so is all that is not ASCII, which might turn a terminal's reading direction.
        let mut text = String::with_capacity(out.len());
        for unit in String::from_utf8_lossy(&out).encode_utf16() {
            match u8::try_from(unit).ok().filter(u8::is_ascii).map(char::from) {
                Some(plain) if !matches!(plain, '<' | '>' | '&') => text.push(plain),
                // Writing to a string does not fail.
                _ => _ = write!(text, "\\u{unit:04x}"),
            }
        }
        text
    }

    /// As Go's `%+v` of a pointer to a struct.
    fn to_go(&self) -> String {
        // All but the user id are ASCII by the core's grammar.
        format!(
            "&{{ARN:{} CanonicalARN:{} AccountID:{} UserID:{} SessionName:{} AccessKeyID:{} STSEndpoint:{}}}",
            self.arn,
            self.canonical_arn,
            self.account_id,
            Escaped(&self.user_id),
            self.session_name,
            self.access_key_id,
            self.sts_endpoint
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
    fn what_might_move_a_terminal_is_escaped() {
        let verified = Verified { user_id: "<\u{202e}\u{1f600}&>".to_owned(), ..verified() };
        assert!(verified.to_text("json").contains(r#""UserID": "\u003c\u202e\ud83d\ude00\u0026\u003e""#), "{}", verified.to_text("json"));
        assert!(!verified.to_text("").contains('\u{202e}'));
    }

    #[test]
    fn text_is_gos() {
        insta::assert_snapshot!(verified().to_text(""), @"&{ARN:arn:aws:sts::123456789012:assumed-role/Admin/alice CanonicalARN:arn:aws:iam::123456789012:role/Admin AccountID:123456789012 UserID:AROAEXAMPLEEXAMPLE SessionName:alice AccessKeyID:ASIAIOSFODNN7EXAMPLE STSEndpoint:sts.eu-west-1.amazonaws.com}");
    }
}
