//! `arngate token`: a token for kubectl.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{ArgAction, Args};
use zeroize::Zeroizing;

use super::{ConfigFile, Context, Stray, boolean, complain, print_line};
use crate::client::credentials::{self, Request, Role, Session, variable};
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
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", hide_default_value = true,
          value_name = "BOOL", value_parser = boolean, action = ArgAction::Set)]
    token_only: bool,
    /// Name the role's session as the session of the credentials that assume it
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", hide_default_value = true,
          value_name = "BOOL", value_parser = boolean, action = ArgAction::Set)]
    forward_session_name: bool,
    /// Keep credentials on disk until they expire (not in this version: a warning, and no cache)
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", hide_default_value = true,
          value_name = "BOOL", value_parser = boolean, action = ArgAction::Set)]
    cache: bool,
    #[command(flatten)]
    stray: Stray,
}

impl Token {
    pub(super) fn run(self, context: &Context) -> ExitCode {
        self.stray.warn();
        let config = match ConfigFile::read(context.global.config.as_deref()) {
            Ok(config) => config,
            Err(error) => {
                complain(format_args!("{error:#}"));
                return ExitCode::FAILURE;
            }
        };
        let Some(cluster_id) = context.cluster_id(&config) else {
            return context.complain_with_usage("token", "Error: cluster ID not specified");
        };
        let session_name = self.session_name.as_ref().or(config.session_name.as_ref()).filter(|name| !name.is_empty());
        if self.forward_session_name && session_name.is_some() {
            return context.complain_with_usage("token", "Error: cannot specify both --forward-session-name and --session-name parameter");
        }
        if self.cache {
            complain("Warning: --cache is not in this version; the token is made without it");
        }
        let request = self.request(context, &config, session_name);
        match make(&request, &cluster_id, self.token_only, context) {
            Ok(line) => print_line(&line),
            Err(error) => {
                complain(format_args!("could not get token: {error:#}"));
                ExitCode::FAILURE
            }
        }
    }

    fn request(&self, context: &Context, config: &ConfigFile, session_name: Option<&String>) -> Request {
        let given = |flag: Option<&String>, file: Option<&String>| flag.or(file).filter(|value| !value.is_empty()).cloned();
        let session = match session_name {
            _ if self.forward_session_name => Session::Forwarded,
            Some(name) => Session::Named(name.clone()),
            None => Session::Unnamed,
        };
        let external_id = given(self.external_id.as_ref(), config.external_id.as_ref());
        let role = context.from_flag_env_or(self.role.as_ref(), "DEFAULT_ROLE", config.role.as_ref());
        Request { region: given(self.region.as_ref(), config.region.as_ref()), role: role.map(|arn| Role { arn, external_id, session }) }
    }
}

/// The line to print. It holds a bearer token, so it is overwritten after use.
fn make(request: &Request, cluster_id: &str, token_only: bool, context: &Context) -> anyhow::Result<Zeroizing<String>> {
    let signer = credentials::load(request, &context.env)?;
    let now = instant::now();
    let host = presign::host(&signer.region, signer.endpoint).with_context(|| format!("region {:?}", signer.region))?;
    let token = presign::sign(host, &signer.credentials, cluster_id, now)?;
    if token_only {
        return Ok(token);
    }
    let credentials_end = signer.credentials.expiry().map(instant::from_system_time);
    let info = variable(&context.env, &[exec_credential::EXEC_INFO]);
    Ok(Zeroizing::new(exec_credential::format(&token, now, credentials_end, info.as_deref())?))
}
