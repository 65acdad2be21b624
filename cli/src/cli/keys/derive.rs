//! `arngate keys derive`: a bundle from one's own static keys.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use arngate_core::UnixSeconds;
use arngate_core::arn::Arn;
use arngate_server::bootstrap::atomic_file;
use arngate_server::prover::offline::{Bundle, DERIVED_DAYS_MAX, Day, Derivation, PrincipalError};
use aws_credential_types::Credentials;
use clap::Args;

use crate::cli::{Context, complain};
use crate::client::credentials;
use crate::instant;

/// What a reader of a bundle can do, told each time that one is made.
const WARNING: &str = "\
Warning: whoever reads this bundle IS this IAM user towards STS, for its days and regions. He can log in to every cluster that maps the
user, and he can call GetSessionToken and AssumeRole, whose credentials work everywhere. Use one IAM user without permissions for each
edge cluster, derive few days, and guard the file like a private key. A key that is deactivated in IAM goes on working offline until it
leaves the bundle.";

/// Derive signing keys from your own static keys, and print them as a bundle
///
/// The keys come from the environment or the profile, and must be an IAM user's. The secret itself is not in the bundle.
#[derive(Args, Debug)]
pub(super) struct Derive {
    /// ARN of the IAM user that the keys belong to
    #[arg(long, value_name = "ARN")]
    arn: String,
    /// Unique id of that user (AIDA…), as `aws sts get-caller-identity` shows it
    #[arg(long, value_name = "ID")]
    user_id: String,
    /// Regions whose STS endpoints tokens are signed for
    #[arg(long, value_name = "REGION", value_delimiter = ',', required = true)]
    region: Vec<String>,
    /// Days to derive keys for, 14 at most
    #[arg(long, value_name = "NUMBER", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=i64::from(DERIVED_DAYS_MAX)))]
    days: u8,
    /// First day in UTC, as 2026-11-24 [default: today]
    #[arg(long, value_name = "DAY", value_parser = day)]
    from: Option<UnixSeconds>,
    /// Write to FILE, readable by you alone, instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

fn day(text: &str) -> Result<UnixSeconds, String> {
    instant::parse_day(text).ok_or_else(|| "expected a day as 2026-11-24".to_owned())
}

impl Derive {
    pub(super) fn run(&self, context: &Context) -> anyhow::Result<()> {
        let keys = credentials::static_keys(&context.env)?;
        let keys =
            keys.context("there are no static keys in the environment or the profile; roles, SSO and processes give temporary ones")?;
        let bundle = self.bundle(&keys, self.from.unwrap_or_else(instant::now))?.to_yaml();
        complain(WARNING);
        match &self.output {
            Some(path) => write_private(path, bundle.as_bytes()).with_context(|| format!("could not write {}", path.display())),
            None => Ok(io::stdout().lock().write_all(bundle.as_bytes())?),
        }
    }

    fn bundle(&self, keys: &Credentials, from: UnixSeconds) -> anyhow::Result<Bundle> {
        ensure!(keys.session_token().is_none(), "these are temporary credentials, which go with a session token that only STS can open");
        let arn = Arn::parse(&self.arn).context("--arn")?;
        let regions: Vec<&str> = self.region.iter().map(String::as_str).collect();
        let derivation = Derivation {
            access_key_id: keys.access_key_id(),
            secret: keys.secret_access_key().as_bytes(),
            arn: &self.arn,
            user_id: &self.user_id,
            regions: &regions,
            first_day: Day::of(from).context("--from: no such day")?,
            days: self.days,
        };
        // The error says what is wrong and not with which of the flags, for it may as well be a line of a file.
        Bundle::derive(arn.partition(), &derivation).map_err(|error| {
            let flag = match error {
                PrincipalError::AccessKey(_) | PrincipalError::Temporary => "access key",
                PrincipalError::Arn(_) | PrincipalError::NotAUser(_) | PrincipalError::Partition { .. } => "--arn",
                PrincipalError::Days | PrincipalError::Date => "--days",
                PrincipalError::NoRegion | PrincipalError::Region { .. } | PrincipalError::RegionElsewhere { .. } => "--region",
                PrincipalError::UserId(_) => "--user-id",
                _ => "bundle",
            };
            anyhow::Error::new(error).context(flag)
        })
    }
}

/// Writes a file that nobody else can read, whole or not at all: a server may be watching it.
fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    atomic_file::replace(path, content, 0o600)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::cli::keys::write_summary;

    fn derive(arn: &str, regions: &[&str], days: u8) -> Derive {
        let region = regions.iter().copied().map(str::to_owned).collect();
        Derive { arn: arn.to_owned(), user_id: "AIDACKCEVSQ6C2EXAMPLE".to_owned(), region, days, from: None, output: None }
    }

    fn keys(id: &str, session_token: Option<&str>) -> Credentials {
        let mut keys = Credentials::builder().access_key_id(id).secret_access_key("made-up-secret").provider_name("test");
        keys.set_session_token(session_token.map(str::to_owned));
        keys.build()
    }

    const USER: &str = "arn:aws:iam::123456789012:user/edge-operator";

    fn noon() -> UnixSeconds {
        instant::parse("2026-11-24T12:00:00Z").unwrap()
    }

    #[test]
    fn a_bundle_holds_a_key_for_each_day_and_region_and_no_secret() {
        let bundle = derive(USER, &["us-east-1", "eu-west-1", "us-east-1"], 2).bundle(&keys("AKIAIOSFODNN7EXAMPLE", None), noon()).unwrap();
        let yaml = bundle.to_yaml();
        insta::assert_snapshot!(*yaml, @r#"
        apiVersion: arngate/v1alpha1
        kind: SigningKeyBundle
        principals:
        - accessKeyID: "AKIAIOSFODNN7EXAMPLE"
          arn: "arn:aws:iam::123456789012:user/edge-operator"
          userID: "AIDACKCEVSQ6C2EXAMPLE"
          signingKeys:
          - {date: "20261124", region: "eu-west-1", key: "5FbvaUElPWewzg+NjV6byk6rq1Kym5xjk1eZzjZ4UXs="}
          - {date: "20261124", region: "us-east-1", key: "Y9Y5Jk8IP9BM/hd4GGgeR4l1CCKI1s9EHlZXRx3oEFc="}
          - {date: "20261125", region: "eu-west-1", key: "2ennsJkDJuv4GMdNtmH4f77O9ZnlQsTjr9svIv9bJgk="}
          - {date: "20261125", region: "us-east-1", key: "EnDdhFK8Ck8WfrFDVGuFptz/bLf73NOih5PBv4t9oIw="}
        "#);
        assert!(!yaml.contains("made-up-secret"));
    }

    #[test]
    fn a_summary_tells_until_when_and_no_key() {
        let bundle = derive(USER, &["us-east-1", "eu-west-1"], 2).bundle(&keys("AKIAIOSFODNN7EXAMPLE", None), noon()).unwrap();
        let summary = |now: UnixSeconds| {
            let mut out = Vec::new();
            write_summary(&bundle, now, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        insta::assert_snapshot!(summary(noon()), @"
        AKIAIOSFODNN7EXAMPLE
          user     arn:aws:iam::123456789012:user/edge-operator
          user id  AIDACKCEVSQ6C2EXAMPLE
          keys     eu-west-1, 20261124 to 20261125
          keys     us-east-1, 20261124 to 20261125
          ends     2026-11-26T00:00:00Z
        ");
        assert!(summary(noon().saturating_add(2 * 86_400)).contains("2026-11-26T00:00:00Z: all of them have ended"));
    }

    #[test]
    fn what_must_not_be_in_a_bundle_is_refused() {
        let error = |arn: &str, region: &str, id: &str, session_token: Option<&str>| {
            let refused = derive(arn, &[region], 1).bundle(&keys(id, session_token), noon());
            format!("{:#}", refused.unwrap_err())
        };
        let id = "AKIAIOSFODNN7EXAMPLE";
        insta::assert_snapshot!(error(USER, "us-east-1", "ASIAIOSFODNN7EXAMPLE", None), @"access key: ASIA… keys are temporary and go with a session token, which only STS can prove; a bundle takes the keys of IAM users only");
        insta::assert_snapshot!(error(USER, "us-east-1", id, Some("made-up")), @"these are temporary credentials, which go with a session token that only STS can open");
        insta::assert_snapshot!(error("arn:aws:iam::123456789012:root", "us-east-1", id, None), @"--arn: this is the root of an account; a bundle takes the keys of IAM users only");
        insta::assert_snapshot!(error("arn:aws:iam::123456789012:role/Admin", "us-east-1", id, None), @"--arn: this is a role; a bundle takes the keys of IAM users only");
        insta::assert_snapshot!(error("arn:aws:sts::123456789012:assumed-role/Admin/me", "us-east-1", id, None), @"--arn: this is a role; a bundle takes the keys of IAM users only");
        insta::assert_snapshot!(error("alice", "us-east-1", id, None), @"--arn: not an ARN: expected arn:partition:service::account:resource");
        insta::assert_snapshot!(error(USER, "cn-north-1", id, None), @"--region: this is a region of the partition aws-cn; expected aws");
        insta::assert_snapshot!(error(USER, "Moon", id, None), @"--region: this is no region of the partition aws");
    }

    #[cfg(unix)]
    #[test]
    fn a_bundle_file_is_its_owners_alone_also_where_there_was_one() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bundle.yaml");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        write_private(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
