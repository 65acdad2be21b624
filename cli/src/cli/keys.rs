//! `arngate keys`: bundles of signing keys, with which a server proves tokens without asking STS.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail, ensure};
use arngate_core::arn::{Arn, Principal};
use arngate_core::presigned::AccessKeyId;
use arngate_core::sigv4::SigningKey;
use arngate_core::time::AmzDate;
use arngate_core::{Partition, UnixSeconds};
use aws_credential_types::Credentials;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use zeroize::Zeroizing;

use super::{Context, complain, escaped};
use crate::client::credentials;
use crate::instant;

/// Longest time that keys are derived for, in days: who reads a bundle is that user for so long.
const MAX_DAYS: u32 = 14;

const DAY_SECS: i64 = 86_400;

/// What a reader of a bundle can do, told each time that one is made.
const WARNING: &str = "\
Warning: whoever reads this bundle IS this IAM user towards STS, for its days and regions. He can log in to every cluster that maps the
user, and he can call GetSessionToken and AssumeRole, whose credentials work everywhere. Use one IAM user without permissions for each
edge cluster, derive few days, and guard the file like a private key. A key that is deactivated in IAM goes on working offline until it
leaves the bundle.";

/// Make and show bundles of signing keys for offline proof
#[derive(Args, Debug)]
pub(super) struct Keys {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Derive(Derive),
    Inspect(Inspect),
}

/// Derive signing keys from your own static keys, and print them as a bundle
///
/// The keys come from the environment or the profile, and must be an IAM user's. The secret itself is not in the bundle.
#[derive(Args, Debug)]
struct Derive {
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
    #[arg(long, value_name = "NUMBER", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_DAYS)))]
    days: u32,
    /// First day in UTC, as 2026-11-24 [default: today]
    #[arg(long, value_name = "DAY", value_parser = day)]
    from: Option<UnixSeconds>,
    /// Write to FILE, readable by you alone, instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Show whose keys a bundle holds, and until when; never the keys
#[derive(Args, Debug)]
struct Inspect {
    /// A bundle, or a folder of them
    #[arg(value_name = "BUNDLE")]
    bundle: PathBuf,
    /// AWS partition of the server that reads it
    #[arg(long, value_name = "PARTITION", default_value = "aws", value_parser = super::inspect::partition)]
    partition: Partition,
}

fn day(text: &str) -> Result<UnixSeconds, String> {
    instant::parse_day(text).ok_or_else(|| "expected a day as 2026-11-24".to_owned())
}

impl Keys {
    pub(super) fn run(self, context: &Context) -> ExitCode {
        let (done, failure) = match &self.command {
            Command::Derive(derive) => (derive.run(context), "could not derive keys"),
            Command::Inspect(inspect) => (inspect.run(), "could not read the bundle"),
        };
        match done {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                complain(format_args!("{failure}: {}", escaped(&error)));
                ExitCode::FAILURE
            }
        }
    }
}

impl Derive {
    fn run(&self, context: &Context) -> anyhow::Result<()> {
        let keys = credentials::static_keys(&context.env)?;
        let keys =
            keys.context("there are no static keys in the environment or the profile; roles, SSO and processes give temporary ones")?;
        let bundle = self.bundle(&keys, self.from.unwrap_or_else(instant::now))?;
        complain(WARNING);
        match &self.output {
            Some(path) => write_private(path, bundle.as_bytes()).with_context(|| format!("could not write {}", path.display())),
            None => Ok(io::stdout().lock().write_all(bundle.as_bytes())?),
        }
    }

    /// The bundle as YAML, which the server reads.
    fn bundle(&self, keys: &Credentials, from: UnixSeconds) -> anyhow::Result<Zeroizing<String>> {
        let id = AccessKeyId::parse(keys.access_key_id())?;
        ensure!(!id.is_temporary() && keys.session_token().is_none(), "these are temporary credentials, which only STS can prove");
        let arn = Arn::parse(&self.arn)?;
        match arn.principal() {
            Principal::User { .. } => {}
            Principal::Root => bail!("the account's root must not be handed out: use an IAM user without permissions"),
            Principal::AssumedRole { .. } | Principal::FederatedUser { .. } | Principal::Role { .. } => {
                bail!("{} is not an IAM user; roles have temporary credentials, which only STS can prove", self.arn)
            }
        }
        let is_id = |byte: u8| byte.is_ascii_alphanumeric();
        ensure!(
            !self.user_id.is_empty() && self.user_id.len() <= 128 && self.user_id.bytes().all(is_id),
            "--user-id is not one: expected AIDA…"
        );
        for region in &self.region {
            let partition = arn.partition();
            let fits = partition.known_regions().contains(&region.as_str()) || partition.has_shape_of(region);
            ensure!(fits, "{region:?} is not a region of partition {partition}, which the ARN belongs to");
        }

        let mut out = Zeroizing::new(String::with_capacity(512 + 128 * self.region.len() * 14));
        write!(
            out,
            "apiVersion: arngate/v1alpha1\nkind: SigningKeyBundle\nprincipals:\n- accessKeyID: {id}\n  arn: {}\n  userID: {}\n  signingKeys:\n",
            serde_json::to_string(arn.as_str())?,
            self.user_id
        )?;
        for offset in 0..i64::from(self.days) {
            let date = AmzDate::from_unix(from.saturating_add(offset * DAY_SECS)).context("no such day")?;
            let mut regions: Vec<_> = self.region.iter().collect();
            regions.sort();
            regions.dedup();
            for region in regions {
                let key = SigningKey::derive(keys.secret_access_key().as_bytes(), date.day(), region);
                let key = Zeroizing::new(STANDARD.encode(*key.to_bytes()));
                writeln!(out, "  - {{date: \"{}\", region: {region}, key: {}}}", date.day(), *key)?;
            }
        }
        Ok(out)
    }
}

impl Inspect {
    fn run(&self) -> anyhow::Result<()> {
        bail!("{} for partition {}: this build has no offline prover", self.bundle.display(), self.partition)
    }
}

/// Writes a file that nobody else can read, whole or not at all: a server may be watching it.
fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let new = path.with_file_name(name);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&new)?;
    let written = file.write_all(content).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        // The reason to tell is the first one.
        let _ = fs::remove_file(&new);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    fn derive(arn: &str, regions: &[&str], days: u32) -> Derive {
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
        insta::assert_snapshot!(*bundle, @r#"
        apiVersion: arngate/v1alpha1
        kind: SigningKeyBundle
        principals:
        - accessKeyID: AKIAIOSFODNN7EXAMPLE
          arn: "arn:aws:iam::123456789012:user/edge-operator"
          userID: AIDACKCEVSQ6C2EXAMPLE
          signingKeys:
          - {date: "20261124", region: eu-west-1, key: 5FbvaUElPWewzg+NjV6byk6rq1Kym5xjk1eZzjZ4UXs=}
          - {date: "20261124", region: us-east-1, key: Y9Y5Jk8IP9BM/hd4GGgeR4l1CCKI1s9EHlZXRx3oEFc=}
          - {date: "20261125", region: eu-west-1, key: 2ennsJkDJuv4GMdNtmH4f77O9ZnlQsTjr9svIv9bJgk=}
          - {date: "20261125", region: us-east-1, key: EnDdhFK8Ck8WfrFDVGuFptz/bLf73NOih5PBv4t9oIw=}
        "#);
        assert!(!bundle.contains("made-up-secret"));
    }

    #[test]
    fn what_must_not_be_in_a_bundle_is_refused() {
        let error = |arn: &str, region: &str, id: &str, session_token: Option<&str>| {
            let refused = derive(arn, &[region], 1).bundle(&keys(id, session_token), noon());
            refused.unwrap_err().to_string()
        };
        let id = "AKIAIOSFODNN7EXAMPLE";
        insta::assert_snapshot!(error(USER, "us-east-1", "ASIAIOSFODNN7EXAMPLE", None), @"these are temporary credentials, which only STS can prove");
        insta::assert_snapshot!(error(USER, "us-east-1", id, Some("made-up")), @"these are temporary credentials, which only STS can prove");
        insta::assert_snapshot!(error("arn:aws:iam::123456789012:root", "us-east-1", id, None), @"the account's root must not be handed out: use an IAM user without permissions");
        insta::assert_snapshot!(error("arn:aws:iam::123456789012:role/Admin", "us-east-1", id, None), @"arn:aws:iam::123456789012:role/Admin is not an IAM user; roles have temporary credentials, which only STS can prove");
        insta::assert_snapshot!(error("arn:aws:sts::123456789012:assumed-role/Admin/me", "us-east-1", id, None), @"arn:aws:sts::123456789012:assumed-role/Admin/me is not an IAM user; roles have temporary credentials, which only STS can prove");
        insta::assert_snapshot!(error("alice", "us-east-1", id, None), @"not an ARN: expected arn:partition:service::account:resource");
        insta::assert_snapshot!(error(USER, "cn-north-1", id, None), @r#""cn-north-1" is not a region of partition aws, which the ARN belongs to"#);
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
