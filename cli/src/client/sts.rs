//! Credentials that a network call makes: the AWS SDK's providers, and roles assumed through STS.
//!
//! Roles in profiles are assumed here and not by the SDK's profile provider, which knows neither `mfa_serial` nor `duration_seconds`.

use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::ecs::EcsCredentialsProvider;
use aws_config::imds;
use aws_config::profile::{Profile, ProfileFileCredentialsProvider};
use aws_config::provider_config::ProviderConfig;
use aws_config::web_identity_token::WebIdentityTokenCredentialsProvider;
use aws_config::{AppName, BehaviorVersion, Region};
use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials;
use aws_smithy_runtime_api::client::http::SharedHttpClient;

use super::credentials::{DEFAULT_REGION, Role, Session, Settings, Signer, own_keys};
use super::{http, mfa};
use crate::instant;

/// How long to wait for a connection to instance metadata. It is on the link and answers within milliseconds, or there is none; asked twice at
/// most (region and credentials), so that a machine outside EC2 waits a second.
const METADATA_CONNECT: Duration = Duration::from_millis(500);

/// How long to wait for the region from instance metadata, in all.
const METADATA_REGION: Duration = Duration::from_secs(1);

/// How long a role is assumed for unless a profile says otherwise, in seconds: the least that STS allows, and as long as a token lives.
///
/// upstream: `DefaultDuration` in the Go SDK's stscreds.
pub(crate) const ROLE_SECS: i32 = 900;

/// On whose behalf a role is assumed: a trust policy may ask for it, against a deputy that is confused. upstream: pkg/ec2provider.
///
/// AWS: <https://docs.aws.amazon.com/IAM/latest/UserGuide/confused-deputy.html>.
const SOURCE_ARN: &str = "x-amz-source-arn";
const SOURCE_ACCOUNT: &str = "x-amz-source-account";

/// Profiles that may stand behind each other before it counts as a loop.
const MAX_CHAIN: usize = 16;

/// Finds credentials where static keys alone do not do. `static_keys`, if there are any, stand for what the environment or the profile gives.
pub(super) fn resolve(
    settings: Settings,
    static_keys: Option<Credentials>,
    role: Option<&Role>,
    is_attended: bool,
) -> anyhow::Result<Signer> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let resolved = runtime.block_on(async {
        let session = Resolver::new(settings, static_keys.is_some(), is_attended).await?;
        let base = match static_keys {
            Some(keys) => keys,
            None => session.base().await?,
        };
        let credentials = match role {
            Some(role) => session.assume(base, role).await?,
            None => base,
        };
        Ok(Signer { credentials, region: session.region, endpoint: session.settings.endpoint })
    });
    // A look-up of a name may still run; nobody waits for it.
    runtime.shutdown_background();
    resolved
}

/// Settings with a region and an HTTP client: what every call needs.
struct Resolver {
    settings: Settings,
    region: String,
    http: SharedHttpClient,
    /// Whether there is somebody who can be asked for an MFA code.
    is_attended: bool,
}

/// What AssumeRole is asked.
struct AssumeRole<'a> {
    arn: &'a str,
    external_id: Option<&'a str>,
    session_name: String,
    secs: i32,
    mfa_serial: Option<&'a str>,
    source_arn: Option<&'a str>,
}

impl Resolver {
    async fn new(mut settings: Settings, has_keys: bool, is_attended: bool) -> anyhow::Result<Self> {
        let http = http::client(settings.ca_bundle.as_deref().map(Path::new))?;
        let region = match settings.region.take() {
            Some(region) => Some(region),
            // Keys that were given are of no machine, so no machine is asked.
            None if has_keys => None,
            None => metadata_region(&http).await,
        };
        Ok(Self { settings, region: region.unwrap_or_else(|| DEFAULT_REGION.to_owned()), http, is_attended })
    }

    fn provider_config(&self) -> ProviderConfig {
        let endpoint = self.settings.endpoint;
        provider_config(&self.http)
            .with_region(Some(Region::new(self.region.clone())))
            .with_use_fips(Some(endpoint.fips))
            .with_use_dual_stack(Some(endpoint.dual_stack))
    }

    /// Credentials before `--role`: web identity from the environment, the profile, container, instance.
    async fn base(&self) -> anyhow::Result<Credentials> {
        if self.settings.has_web_identity {
            let provider = WebIdentityTokenCredentialsProvider::builder().configure(&self.provider_config()).build();
            return provide(&provider).await.context("web identity");
        }
        let selected = self.settings.profiles.selected_profile();
        match self.settings.profiles.get_profile(selected) {
            Some(profile) if assumes_role(profile) => self.profile_role(profile).await,
            _ => {
                let metadata = imds::Client::builder().configure(&self.provider_config()).connect_timeout(METADATA_CONNECT).build();
                let chain = DefaultCredentialsChain::builder()
                    .configure(self.provider_config())
                    .region(Region::new(self.region.clone()))
                    .profile_name(selected)
                    .imds_client(metadata);
                provide(&chain.build().await).await.with_context(|| format!("no credentials found (profile {selected})"))
            }
        }
    }

    /// The credentials of a profile that assumes a role: those behind it first, then role by role.
    async fn profile_role(&self, profile: &Profile) -> anyhow::Result<Credentials> {
        let mut roles = Vec::new();
        let mut current = profile;
        let mut credentials = loop {
            if roles.len() == MAX_CHAIN {
                bail!("profile {}: its source profiles form a loop", profile.name());
            }
            roles.push(current);
            let name = current.name();
            match (current.get("source_profile"), current.get("credential_source")) {
                (Some(_), Some(_)) => bail!("profile {name} has both source_profile and credential_source"),
                (Some(source), None) if source != name => {
                    let next = self.settings.profiles.get_profile(source);
                    let next = next.with_context(|| format!("profile {name}: there is no source_profile {source}"))?;
                    // Static keys of a source win over its role, as in the SDKs.
                    if let Some(keys) = own_keys(next) {
                        break keys;
                    }
                    if !assumes_role(next) {
                        let provider = ProfileFileCredentialsProvider::builder().configure(&self.provider_config()).profile_name(source);
                        break provide(&provider.build()).await.with_context(|| format!("profile {source}"))?;
                    }
                    current = next;
                }
                (None, Some(source)) => break self.named_source(source).await.with_context(|| format!("profile {name}"))?,
                (Some(_), None) | (None, None) => {
                    break own_keys(current).with_context(|| {
                        format!("profile {name} has a role_arn, but neither source_profile nor credential_source nor keys of its own")
                    })?;
                }
            }
        };
        for profile in roles.into_iter().rev() {
            let value = |name| profile.get(name).filter(|value: &&str| !value.is_empty());
            let asked = AssumeRole {
                arn: value("role_arn").unwrap_or_default(),
                external_id: value("external_id"),
                session_name: value("role_session_name").map_or_else(default_session_name, str::to_owned),
                secs: duration_secs(value("duration_seconds"), profile.name())?,
                mfa_serial: value("mfa_serial"),
                source_arn: None,
            };
            let assumed = self.call_assume_role(credentials, asked).await;
            credentials = assumed.with_context(|| format!("profile {}", profile.name()))?;
        }
        Ok(credentials)
    }

    /// The credentials that `credential_source` names.
    async fn named_source(&self, source: &str) -> anyhow::Result<Credentials> {
        let config = self.provider_config();
        match source {
            "Ec2InstanceMetadata" => provide(&imds::credentials::ImdsCredentialsProvider::builder().configure(&config).build()).await,
            "EcsContainer" => provide(&EcsCredentialsProvider::builder().configure(&config).build()).await,
            "Environment" => provide(&aws_config::environment::EnvironmentVariableCredentialsProvider::new()).await,
            _ => bail!("credential_source {source} is none of Ec2InstanceMetadata, EcsContainer, Environment"),
        }
        .with_context(|| format!("credential_source {source}"))
    }

    /// Assumes the role of `--role`.
    async fn assume(&self, base: Credentials, role: &Role) -> anyhow::Result<Credentials> {
        let session_name = match &role.session {
            Session::Named(name) => name.clone(),
            Session::Unnamed => default_session_name(),
            Session::Forwarded => {
                let caller = self.client(base.clone()).await.get_caller_identity().send().await;
                let caller = caller.map_err(|error| anyhow!(chain(&error))).context("operation GetCallerIdentity")?;
                let session = caller.user_id().and_then(|id| id.split_once(':')).map(|(_, session)| session);
                session.filter(|session| !session.contains(':')).map_or_else(default_session_name, str::to_owned)
            }
        };
        let external_id = role.external_id.as_deref();
        let source_arn = role.source_arn.as_deref();
        let asked = AssumeRole { arn: &role.arn, external_id, session_name, secs: role.secs, mfa_serial: None, source_arn };
        self.call_assume_role(base, asked).await
    }

    async fn call_assume_role(&self, base: Credentials, asked: AssumeRole<'_>) -> anyhow::Result<Credentials> {
        if asked.mfa_serial.is_some() && !self.is_attended {
            bail!("{} wants an MFA code, and there is nobody to be asked for one", asked.arn);
        }
        let code = asked.mfa_serial.map(|_| mfa::ask(&mut std::io::stderr(), &mut std::io::stdin().lock())).transpose()?;
        let request = self
            .client(base)
            .await
            .assume_role()
            .role_arn(asked.arn)
            .role_session_name(asked.session_name)
            .duration_seconds(asked.secs)
            .set_external_id(asked.external_id.map(str::to_owned))
            .set_serial_number(asked.mfa_serial.map(str::to_owned))
            .set_token_code(code);
        let source = asked.source_arn.and_then(|arn| Some([(SOURCE_ARN, arn), (SOURCE_ACCOUNT, arngate_server::ec2::account_of(arn)?)]));
        let source = source.map(|headers| headers.map(|(name, value)| (name, value.to_owned())));
        // Before it is signed, so that these are, too.
        let request = request.customize().mutate_request(move |request| {
            for (name, value) in source.iter().flatten() {
                request.headers_mut().insert(*name, value.clone());
            }
        });
        let answer = request.send().await.map_err(|error| anyhow!(chain(&error)));
        let answer = answer.with_context(|| format!("operation AssumeRole of {}", asked.arn))?;
        let given = answer.credentials.context("STS answered without credentials")?;
        let mut credentials = Credentials::builder()
            .access_key_id(given.access_key_id)
            .secret_access_key(given.secret_access_key)
            .session_token(given.session_token)
            .provider_name("AssumeRole");
        credentials.set_expiry(given.expiration.try_into().ok());
        Ok(credentials.build())
    }

    /// An STS client; the SDK reads AWS_ENDPOINT_URL, AWS_ENDPOINT_URL_STS and the profile's equivalents for it.
    async fn client(&self, credentials: Credentials) -> aws_sdk_sts::Client {
        let endpoint = self.settings.endpoint;
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .http_client(self.http.clone())
            .region(Region::new(self.region.clone()))
            .profile_name(self.settings.profiles.selected_profile())
            .use_fips(endpoint.fips)
            .use_dual_stack(endpoint.dual_stack)
            .credentials_provider(credentials);
        if let Ok(name) = AppName::new("arngate") {
            loader = loader.app_name(name);
        }
        aws_sdk_sts::Client::new(&loader.load().await)
    }
}

fn provider_config(http: &SharedHttpClient) -> ProviderConfig {
    ProviderConfig::without_region().with_http_client(http.clone())
}

/// The region of the EC2 instance that we are on; nothing outside EC2, after half a second.
async fn metadata_region(http: &SharedHttpClient) -> Option<String> {
    let config = provider_config(http);
    let client = imds::Client::builder()
        .configure(&config)
        .connect_timeout(METADATA_CONNECT)
        .operation_timeout(METADATA_REGION)
        .max_attempts(1)
        .build();
    let provider = imds::region::ImdsRegionProvider::builder().configure(&config).imds_client(client).build();
    provider.region().await.map(|region| region.as_ref().to_owned())
}

async fn provide(provider: &impl ProvideCredentials) -> anyhow::Result<Credentials> {
    provider.provide_credentials().await.map_err(|error| anyhow!(chain(&error)))
}

/// A profile whose role is assumed with other credentials; one with a web identity is the SDK's.
fn assumes_role(profile: &Profile) -> bool {
    let has = |name| profile.get(name).is_some_and(|value| !value.is_empty());
    has("role_arn") && !has("web_identity_token_file")
}

/// `duration_seconds` of a profile, but not less than STS allows.
fn duration_secs(text: Option<&str>, profile: &str) -> anyhow::Result<i32> {
    let secs = text.map(str::parse::<i32>).transpose();
    let secs = secs.with_context(|| format!("profile {profile}: duration_seconds is not a number"))?;
    Ok(secs.unwrap_or(ROLE_SECS).max(ROLE_SECS))
}

fn default_session_name() -> String {
    format!("arngate-{}", instant::now().as_i64())
}

/// An error of the SDK with its causes, on one line. Their `Debug` form, which the SDK's own helper adds, may hold an answer of STS with its
/// secrets; and one that quotes a whole request (an endpoint that is no URL) is cut before it, for external ids and tokens are in that.
fn chain(error: &dyn Error) -> String {
    let mut text = without_request(&error.to_string()).to_owned();
    let mut source = error.source();
    while let Some(cause) = source {
        // Writing to a string does not fail.
        let _ = write!(text, ": {}", without_request(&cause.to_string()));
        source = cause.source();
    }
    // The chain of credential providers tells of each on a line of its own.
    text.lines().map(str::trim).fold(String::with_capacity(text.len()), |mut line, part| {
        let separator = if line.is_empty() || part.is_empty() {
            ""
        } else if line.ends_with(':') {
            " "
        } else {
            "; "
        };
        line += separator;
        line + part
    })
}

fn without_request(text: &str) -> &str {
    let end = text.find("`Request {").map(|end| text[..end].trim_end().trim_end_matches(" to request"));
    end.unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_assumed_for_a_quarter_of_an_hour_unless_the_profile_says_longer() {
        assert_eq!(duration_secs(None, "p").unwrap(), 900);
        assert_eq!(duration_secs(Some("3600"), "p").unwrap(), 3600);
        assert_eq!(duration_secs(Some("60"), "p").unwrap(), 900);
        assert_eq!(duration_secs(Some("1h"), "p").unwrap_err().to_string(), "profile p: duration_seconds is not a number");
    }

    #[test]
    fn an_error_is_told_with_its_causes() {
        let cause = std::io::Error::other("no route to host");
        let error = aws_credential_types::provider::error::CredentialsError::provider_error(cause);
        assert_eq!(chain(&error), "an error occurred while loading credentials: no route to host");
        let quoting = std::io::Error::other("failed to apply endpoint `foo` to request `Request { body: ExternalId=secret }`: no scheme");
        assert_eq!(chain(&quoting), "failed to apply endpoint `foo`");
        assert_eq!(chain(&std::io::Error::other("attempted:\n  one: no\n  two: no\n")), "attempted: one: no; two: no");
    }
}
