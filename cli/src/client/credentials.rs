//! Whose token it is: credentials, and the region they sign for.
//!
//! Who wins is the reference's order, which is that of the AWS SDK for Go: keys in the environment, a web identity in the environment, then
//! the profile (its role, its static keys, SSO, login, process), container, instance metadata. Static keys are read here, from the
//! environment and two files; all else is the AWS SDK's, in [`sts`].

use std::borrow::Cow;
use std::time::UNIX_EPOCH;

use anyhow::{Context as _, bail};
use arngate_core::UnixSeconds;
use aws_config::profile::{Profile, ProfileSet};
use aws_credential_types::Credentials;
use aws_runtime::env_config::file::EnvConfigFiles;
use aws_types::os_shim_internal::Fs;

use super::presign::Endpoint;
use super::sts;
use crate::env::Env;

/// Where a region comes from when nobody names one.
///
/// upstream: `GetWithOptions` in pkg/token/token.go.
pub(super) const DEFAULT_REGION: &str = "us-east-1";

/// What the caller asks for, by flags or configuration file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Request {
    pub(crate) region: Option<String>,
    pub(crate) role: Option<Role>,
    /// Whether there is somebody who can be asked for an MFA code.
    pub(crate) is_attended: bool,
}

/// A role to assume before signing.
#[derive(Clone, Debug)]
pub(crate) struct Role {
    pub(crate) arn: String,
    pub(crate) external_id: Option<String>,
    pub(crate) session: Session,
    /// For how long, in seconds.
    pub(crate) secs: i32,
    /// On whose behalf: sent in headers, for the role's trust policy to ask for.
    pub(crate) source_arn: Option<String>,
}

/// What the session of an assumed role is called.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Session {
    /// As the session of the credentials that assume it, where those are a role's.
    Forwarded,
    /// As the caller says.
    Named(String),
    /// As we say.
    Unnamed,
}

/// What a token is signed with.
#[derive(Debug)]
pub(crate) struct Signer {
    pub(crate) credentials: Credentials,
    pub(crate) region: String,
    pub(crate) endpoint: Endpoint,
}

/// What environment and profile files say, read once.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) profiles: ProfileSet,
    pub(super) endpoint: Endpoint,
    pub(super) region: Option<String>,
    /// A file of certificates that are trusted beside the platform's roots.
    pub(super) ca_bundle: Option<String>,
    pub(super) has_web_identity: bool,
    static_keys: Option<Credentials>,
}

/// Finds credentials and region.
///
/// # Errors
///
/// A sentence for people: which file, variable, profile or call failed.
pub(crate) fn load(request: &Request, env: &Env) -> anyhow::Result<Signer> {
    let mut settings = Settings::read(env, &Fs::real()).context("could not create config")?;
    settings.region = request.region.clone().or(settings.region);
    match (settings.static_keys.take(), &request.role) {
        (Some(credentials), None) => {
            let region = settings.region.unwrap_or_else(|| DEFAULT_REGION.to_owned());
            Ok(Signer { credentials, region, endpoint: settings.endpoint })
        }
        (static_keys, role) => sts::resolve(settings, static_keys, role.as_ref(), request.is_attended),
    }
}

/// The static keys that a token would be signed with, if that is what it would be signed with.
///
/// # Errors
///
/// As [`load`].
pub(crate) fn static_keys(env: &Env) -> anyhow::Result<Option<Credentials>> {
    Ok(Settings::read(env, &Fs::real())?.static_keys)
}

/// When credentials end, if they do, cut to whole seconds.
pub(crate) fn end(credentials: &Credentials) -> Option<UnixSeconds> {
    let seconds = match credentials.expiry()?.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_secs()).map_or(i64::MIN, |seconds| -seconds),
    };
    Some(UnixSeconds::new(seconds))
}

impl Settings {
    fn read(env: &Env, fs: &Fs) -> anyhow::Result<Self> {
        let profiles = read_profiles(env, fs)?;
        let selected = profiles.selected_profile();
        let profile = profiles.get_profile(selected);
        if profile.is_none() && selected != "default" {
            bail!("failed to get shared config profile, {selected}");
        }
        let from_profile = |name| profile.and_then(|profile| profile.get(name)).filter(|value| !value.is_empty());
        let region = env.first(&["AWS_REGION", "AWS_DEFAULT_REGION"]).or_else(|| from_profile("region").map(str::to_owned));
        let ca_bundle = env.first(&["AWS_CA_BUNDLE"]).or_else(|| from_profile("ca_bundle").map(str::to_owned));
        let endpoint = Endpoint {
            fips: switch(env, "AWS_USE_FIPS_ENDPOINT", from_profile("use_fips_endpoint"))?,
            dual_stack: switch(env, "AWS_USE_DUALSTACK_ENDPOINT", from_profile("use_dualstack_endpoint"))?,
        };
        let has_web_identity = env.first(&["AWS_WEB_IDENTITY_TOKEN_FILE"]).is_some();
        let from_env = environment_keys(env);
        let static_keys = if from_env.is_none() && !has_web_identity { profile.and_then(profile_keys) } else { from_env };
        Ok(Self { endpoint, region, ca_bundle, has_web_identity, static_keys, profiles })
    }
}

/// Reads `~/.aws/config` and `~/.aws/credentials`, or what the SDK's variables name instead.
fn read_profiles(env: &Env, fs: &Fs) -> anyhow::Result<ProfileSet> {
    // The Go SDK heeds AWS_DEFAULT_PROFILE too, the Rust one does not.
    // And to the latter an empty variable is a profile without a name.
    let selected = env.first(&["AWS_PROFILE", "AWS_DEFAULT_PROFILE"]).map_or(Cow::Borrowed("default"), Cow::Owned);
    let files = EnvConfigFiles::default();
    // Nothing here waits: the SDK reads files with blocking calls. So this runtime needs neither I/O nor timers nor threads.
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(aws_config::profile::load(fs, &env.into(), &files, Some(selected))).context("failed to load shared config file")
}

/// A setting that is `true` or `false`, in the environment or else in the profile.
fn switch(env: &Env, name: &str, from_profile: Option<&str>) -> anyhow::Result<bool> {
    let from_env = env.first(&[name]);
    let Some(value) = from_env.as_deref().or(from_profile) else { return Ok(false) };
    if value.eq_ignore_ascii_case("true") {
        Ok(true)
    } else if value.eq_ignore_ascii_case("false") {
        Ok(false)
    } else if from_env.is_some() {
        bail!("invalid value for environment variable, {name}={value}, need true, false")
    } else {
        bail!("invalid value {value} in the profile for what {name} sets, need true, false")
    }
}

/// Keys in the environment; the second names are the Go SDK's.
fn environment_keys(env: &Env) -> Option<Credentials> {
    let access_key_id = env.first(&["AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY"])?;
    let secret = env.first(&["AWS_SECRET_ACCESS_KEY", "AWS_SECRET_KEY"])?;
    let mut credentials = Credentials::builder().access_key_id(access_key_id).secret_access_key(secret).provider_name("Environment");
    credentials.set_session_token(env.first(&["AWS_SESSION_TOKEN"]));
    Some(credentials.build())
}

/// Keys in a profile that assumes no role.
fn profile_keys(profile: &Profile) -> Option<Credentials> {
    let is_role = profile.get("role_arn").is_some_and(|arn| !arn.is_empty());
    if is_role { None } else { own_keys(profile) }
}

/// Keys in a profile.
pub(super) fn own_keys(profile: &Profile) -> Option<Credentials> {
    let value = |name| profile.get(name).filter(|value| !value.is_empty());
    let access_key_id = value("aws_access_key_id")?;
    let secret = value("aws_secret_access_key")?;
    let mut credentials = Credentials::builder().access_key_id(access_key_id).secret_access_key(secret).provider_name("Profile");
    credentials.set_session_token(value("aws_session_token").map(str::to_owned));
    Some(credentials.build())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "
[default]
region = eu-west-3
[profile fips]
region = us-east-2
use_fips_endpoint = true
aws_access_key_id = AKIAPROFILEFIPS00000
aws_secret_access_key = made-up
[profile role]
role_arn = arn:aws:iam::123456789012:role/Admin
source_profile = default
aws_access_key_id = AKIAUNUSEDUNUSED0000
aws_secret_access_key = made-up
";
    const CREDENTIALS: &str = "
[default]
aws_access_key_id = AKIADEFAULTPROFILE00
aws_secret_access_key = made-up
[temporary]
aws_access_key_id = ASIATEMPORARYPROFILE
aws_secret_access_key = made-up
aws_session_token = made-up-token
credential_process = /bin/false
";

    fn read(variables: &[(&str, &str)]) -> anyhow::Result<Settings> {
        let variables: Vec<_> = [("HOME", "/home/test")].into_iter().chain(variables.iter().copied()).collect();
        let fs = Fs::from_slice(&[("/home/test/.aws/config", CONFIG), ("/home/test/.aws/credentials", CREDENTIALS)]);
        Settings::read(&Env::made_up(&variables), &fs)
    }

    fn key_and_region(variables: &[(&str, &str)]) -> (Option<String>, Option<String>) {
        let settings = read(variables).unwrap();
        (settings.static_keys.map(|keys| keys.access_key_id().to_owned()), settings.region)
    }

    const KEYS: [(&str, &str); 2] = [("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE"), ("AWS_SECRET_ACCESS_KEY", "made-up")];

    fn with_keys<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        KEYS.iter().chain(more).copied().collect()
    }

    #[test]
    fn keys_in_the_environment_win_over_the_profile_whose_region_still_counts() {
        let (key, region) = key_and_region(&with_keys(&[("AWS_PROFILE", "fips")]));
        assert_eq!((key.as_deref(), region.as_deref()), (Some("AKIAIOSFODNN7EXAMPLE"), Some("us-east-2")));
        assert!(read(&with_keys(&[("AWS_PROFILE", "fips")])).unwrap().endpoint.fips);
    }

    #[test]
    fn regions_come_from_the_environment_before_the_profile() {
        for (variables, expected) in [
            (&[][..], "eu-west-3"),
            (&[("AWS_DEFAULT_REGION", "ap-east-1")], "ap-east-1"),
            (&[("AWS_DEFAULT_REGION", "ap-east-1"), ("AWS_REGION", "sa-east-1")], "sa-east-1"),
            (&[("AWS_REGION", "")], "eu-west-3"),
        ] {
            assert_eq!(key_and_region(variables), (Some("AKIADEFAULTPROFILE00".to_owned()), Some(expected.to_owned())));
        }
    }

    #[test]
    fn an_empty_variable_is_none() {
        let (key, region) = key_and_region(&[("AWS_PROFILE", ""), ("AWS_ACCESS_KEY_ID", ""), ("AWS_SECRET_ACCESS_KEY", "")]);
        assert_eq!((key.as_deref(), region.as_deref()), (Some("AKIADEFAULTPROFILE00"), Some("eu-west-3")));
        let keys = read(&with_keys(&[("AWS_SESSION_TOKEN", "")])).unwrap().static_keys.unwrap();
        assert_eq!(keys.session_token(), None);
    }

    #[test]
    fn half_a_pair_of_keys_does_not_count() {
        let (key, _) = key_and_region(&[("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")]);
        assert_eq!(key.as_deref(), Some("AKIADEFAULTPROFILE00"));
    }

    #[test]
    fn static_keys_of_a_profile_win_over_its_process_and_bring_their_session_token() {
        let keys = read(&[("AWS_PROFILE", "temporary")]).unwrap().static_keys.unwrap();
        assert_eq!((keys.access_key_id(), keys.session_token()), ("ASIATEMPORARYPROFILE", Some("made-up-token")));
        let by_second_name = read(&[("AWS_DEFAULT_PROFILE", "temporary")]).unwrap();
        assert!(by_second_name.static_keys.is_some());
    }

    #[test]
    fn a_profile_with_a_role_has_no_static_keys() {
        assert!(read(&[("AWS_PROFILE", "role")]).unwrap().static_keys.is_none());
    }

    #[test]
    fn a_web_identity_wins_over_the_profile_but_not_over_keys() {
        let web = ("AWS_WEB_IDENTITY_TOKEN_FILE", "/token");
        assert!(read(&[web]).unwrap().static_keys.is_none());
        assert!(read(&with_keys(&[web])).unwrap().static_keys.is_some());
    }

    #[test]
    fn says_which_profile_or_variable_is_wrong() {
        let error = |variables: &[(&str, &str)]| format!("{:#}", read(variables).unwrap_err());
        assert_eq!(error(&[("AWS_PROFILE", "nope")]), "failed to get shared config profile, nope");
        assert_eq!(
            error(&[("AWS_USE_FIPS_ENDPOINT", "yes")]),
            "invalid value for environment variable, AWS_USE_FIPS_ENDPOINT=yes, need true, false"
        );
    }

    #[test]
    fn a_machine_without_files_has_no_settings() {
        let settings = Settings::read(&Env::made_up(&[("HOME", "/nowhere")]), &Fs::from_slice(&[])).unwrap();
        assert!(settings.static_keys.is_none() && settings.region.is_none());
    }

    #[test]
    fn debug_hides_secrets() {
        let text = format!("{:?}", read(&with_keys(&[("AWS_SESSION_TOKEN", "secret-session-token")])).unwrap().static_keys);
        assert!(!text.contains("made-up") && !text.contains("secret-session-token"), "{text}");
    }
}
