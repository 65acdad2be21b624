//! `arngate token`: a token for kubectl.

use std::process::ExitCode;

use anyhow::Context as _;
use arngate_server::config::{ClientConfig, Overrides};
use clap::Args;
use zeroize::Zeroizing;

use super::{Context, Stray, boolean, complain, escaped, print_line};
use crate::client::credentials::{self, Request, Role, Session};
use crate::client::sts::ROLE_SECS;
use crate::client::{exec_credential, presign};
use crate::instant;

/// Authenticate with AWS IAM and print a token for Kubernetes
///
/// Signs with the credentials that the AWS SDKs would use: environment, web identity, profile (role, static keys, SSO, login, process),
/// container, instance metadata.
#[derive(Args, Debug)]
pub(super) struct Token {
    /// AWS region whose STS endpoint the token is for [default: AWS_REGION, AWS_DEFAULT_REGION, the profile's, the instance's, us-east-1]
    #[arg(long, value_name = "REGION", allow_hyphen_values = true)]
    region: Option<String>,
    /// Assume this IAM role before signing [env: DEFAULT_ROLE]
    #[arg(short, long, value_name = "ARN", allow_hyphen_values = true)]
    role: Option<String>,
    /// External ID to assume the role with
    #[arg(short, long, value_name = "ID", allow_hyphen_values = true)]
    external_id: Option<String>,
    /// Name of the role's session
    #[arg(short, long, value_name = "NAME", allow_hyphen_values = true)]
    session_name: Option<String>,
    /// Print the token alone, for tools that take a bearer token
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", value_parser = boolean)]
    token_only: Option<bool>,
    /// Name the role's session as the session of the credentials that assume it
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", value_parser = boolean)]
    forward_session_name: Option<bool>,
    /// Keep credentials on disk until they expire (not in this version: a warning, and no cache)
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", value_parser = boolean)]
    cache: Option<bool>,
    #[command(flatten)]
    stray: Stray,
}

impl Token {
    pub(super) fn run(self, context: &Context) -> ExitCode {
        self.stray.warn();
        let Some(config) = context.client_config(&self.overrides(context)) else { return ExitCode::FAILURE };
        let Some(cluster_id) = config.cluster_id.clone() else {
            return context.complain_with_usage("token", "Error: cluster ID not specified");
        };
        if config.forward_session_name && config.session_name.is_some() {
            return context.complain_with_usage("token", "Error: cannot specify both --forward-session-name and --session-name parameter");
        }
        if config.cache {
            complain("Warning: --cache is not in this version; the token is made without it");
        }
        let token_only = config.token_only;
        match make(&request(config), &cluster_id, token_only, context) {
            Ok(line) => print_line(&line),
            Err(error) => {
                complain(format_args!("could not get token: {}", escaped(&error)));
                ExitCode::FAILURE
            }
        }
    }

    fn overrides(&self, context: &Context) -> Overrides {
        Overrides {
            cache: self.cache,
            external_id: self.external_id.clone(),
            forward_session_name: self.forward_session_name,
            region: self.region.clone(),
            role: self.role.clone(),
            session_name: self.session_name.clone(),
            token_only: self.token_only,
            ..context.overrides()
        }
    }
}

fn request(config: ClientConfig) -> Request {
    let session = match config.session_name {
        _ if config.forward_session_name => Session::Forwarded,
        Some(name) => Session::Named(name),
        None => Session::Unnamed,
    };
    let role = config.role.map(|arn| Role { arn, external_id: config.external_id, session, secs: ROLE_SECS, source_arn: None });
    Request { region: config.region, role, is_attended: true }
}

/// The line to print. It holds a bearer token, so it is overwritten after use.
fn make(request: &Request, cluster_id: &str, token_only: bool, context: &Context) -> anyhow::Result<Zeroizing<String>> {
    let signer = credentials::load(request, &context.env)?;
    let now = instant::now();
    let host = presign::host(&signer.region, signer.endpoint).with_context(|| format!("region {:?}", signer.region))?;
    let token = presign::sign(host, &signer.credentials, cluster_id, now)?;
    let credentials_end = credentials::end(&signer.credentials);
    if let Some(end) = credentials_end.filter(|end| *end <= now) {
        let end = instant::format(end);
        complain(format_args!(
            "Warning: the credentials ended at {end}, so that STS will refuse the token: get new ones, or set the clock"
        ));
    }
    if token_only {
        return Ok(token);
    }
    let info = context.env.first(&[exec_credential::EXEC_INFO]);
    Ok(Zeroizing::new(exec_credential::format(&token, now, credentials_end, info.as_deref())?))
}
