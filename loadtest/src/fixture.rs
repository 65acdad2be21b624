//! Files for a target: its configuration with mappings for a [`Cast`], its certificate, a bundle of offline keys, and the credentials for a fake STS.
//!
//! The configuration is that of arngate and of aws-iam-authenticator, which reads over what it does not know.

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use arngate_core::UnixSeconds;
use arngate_core::sigv4::SigningKey;
use arngate_core::time::AmzDate;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::certificate::Certificate;
use crate::credential::Credential;
use crate::population::{ACCOUNT, Population, Shape};
use crate::supply::Cast;

/// Seconds of a day.
const DAY_SECS: i64 = 24 * 60 * 60;

/// What is written.
#[derive(Clone, Debug)]
pub struct Fixture {
    /// Who is to be let in.
    pub cast: Cast,
    /// `clusterID`.
    pub cluster_id: String,
    /// The host of STS that tokens are signed for.
    pub sts_host: String,
    /// Its region, for the bundle.
    pub region: String,
    /// Where the fake STS listens, and the file of its certificate.
    pub sts: Option<(SocketAddr, PathBuf)>,
    /// Whether tokens are proved by the bundle instead.
    pub offline: bool,
    /// Further lines under `server:`, with two blanks before each.
    pub settings: String,
}

/// Where the files are.
#[derive(Clone, Debug)]
pub struct Files {
    /// `config.yaml`.
    pub config: PathBuf,
    /// `credentials.json`, for `arngate-loadtest sts --credentials`.
    pub credentials: PathBuf,
    /// `state`: the state directory with `cert.pem` and `key.pem`.
    pub state: PathBuf,
    /// `state/cert.pem`: what clients have to trust.
    pub ca: PathBuf,
}

impl Files {
    /// Writes a certificate and its key, in place of those that were there.
    ///
    /// # Errors
    ///
    /// Whatever the file system says.
    pub fn write_certificate(&self) -> io::Result<()> {
        let certificate = Certificate::loopback().map_err(io::Error::other)?;
        let (key, beside) = (self.state.join("key.pem"), self.state.join("cert.pem.new"));
        write_private(&key.with_extension("pem.new"), &certificate.key_pem)?;
        std::fs::write(&beside, &certificate.certificate_pem)?;
        // As whoever rotates them does it: a new file takes the place of an old one, and for an instant the two do not fit.
        std::fs::rename(key.with_extension("pem.new"), &key)?;
        std::fs::rename(&beside, &self.ca)
    }
}

impl Fixture {
    /// Writes all files into `folder`, which is made if it is not there.
    ///
    /// # Errors
    ///
    /// Whatever the file system says.
    pub fn write(&self, folder: &Path, now: UnixSeconds) -> io::Result<Files> {
        let state = folder.join("state");
        std::fs::create_dir_all(&state)?;
        let files = Files {
            config: folder.join("config.yaml"),
            credentials: folder.join("credentials.json"),
            ca: state.join("cert.pem"),
            state: state.clone(),
        };
        files.write_certificate()?;
        let credentials = self.cast.credentials();
        write_private(&files.credentials, &credentials_json(&credentials))?;
        let bundle = folder.join("bundle.yaml");
        if self.offline {
            write_private(&bundle, &self.bundle(now))?;
        }
        std::fs::write(&files.config, self.config(&bundle))?;
        Ok(files)
    }

    /// The configuration, with a bundle at `bundle` if that is to prove tokens.
    #[must_use]
    pub fn config(&self, bundle: &Path) -> String {
        let mut text = format!("clusterID: {}\nserver:\n", self.cluster_id);
        // A String takes all.
        let _ = self.write_mappings(&mut text);
        if let Some((address, ca)) = &self.sts {
            let _ = write!(text, "  sts:\n    endpoints: {{{}: \"https://{address}\"}}\n    caFile: {}\n", self.sts_host, ca.display());
        }
        if self.offline {
            let _ = write!(text, "  provers: [offline]\n  offline: {{bundle: {}}}\n", bundle.display());
        }
        text += &self.settings;
        text
    }

    fn write_mappings(&self, text: &mut String) -> std::fmt::Result {
        let Population { shape, mappings, .. } = self.cast.regulars;
        let sessions = self.cast.sessions();
        let roles = match shape {
            Shape::Sessions { .. } => mappings,
            Shape::Users => sessions.identities.min(mappings),
        };
        if shape == Shape::Users {
            text.push_str("  mapUsers:\n");
            for number in 0..mappings {
                writeln!(
                    text,
                    "  - {{userARN: \"arn:aws:iam::{ACCOUNT}:user/loadtest-{number:06}\", username: \"loadtest-{number:06}\", groups: [developers]}}"
                )?;
            }
            if self.cast.newcomers > 0 || self.cast.regulars.identities > mappings {
                writeln!(text, "  mapAccounts: [\"{ACCOUNT}\"]")?;
            }
        }
        text.push_str("  mapRoles:\n");
        for number in 0..roles {
            writeln!(
                text,
                "  - {{roleARN: \"arn:aws:iam::{ACCOUNT}:role/loadtest-{number:06}\", username: \"loadtest-{number:06}:{{{{SessionName}}}}\", groups: [developers]}}"
            )?;
        }
        Ok(())
    }

    /// Keys of all users for yesterday, today and tomorrow.
    fn bundle(&self, now: UnixSeconds) -> String {
        let mut text = String::from("apiVersion: arngate/v1alpha1\nkind: SigningKeyBundle\nprincipals:\n");
        for number in 0..self.cast.regulars.identities.saturating_add(self.cast.newcomers) {
            let credential = self.cast.regulars.credential(number);
            let identity = credential.identity();
            let _ = write!(
                text,
                "- accessKeyID: {}\n  arn: \"{}\"\n  userID: {}\n  signingKeys:\n",
                credential.access_key_id(),
                identity.arn,
                identity.user_id
            );
            for day in [-DAY_SECS, 0, DAY_SECS] {
                let Some(date) = AmzDate::from_unix(now.saturating_add(day)) else { continue };
                let key = SigningKey::derive(credential.secret().as_bytes(), date.day(), &self.region);
                let key = STANDARD.encode(key.to_bytes().as_slice());
                let _ = writeln!(text, "  - {{date: \"{}\", region: {}, key: \"{key}\"}}", date.day(), self.region);
            }
        }
        text
    }
}

/// The file that [`Credential::load`] reads.
fn credentials_json(credentials: &[Credential]) -> String {
    let entry = |credential: &Credential| {
        let identity = credential.identity();
        let mut entry = serde_json::json!({
            "accessKeyId": credential.access_key_id(),
            "secretAccessKey": credential.secret(),
            "account": identity.account,
            "arn": identity.arn,
            "userId": identity.user_id,
        });
        if let Some(token) = credential.session_token() {
            entry["sessionToken"] = token.into();
        }
        entry
    };
    serde_json::Value::from_iter(credentials.iter().map(entry)).to_string()
}

/// A file for its owner alone, as whoever reads keys insists.
fn write_private(path: &Path, text: &str) -> io::Result<()> {
    use std::io::Write as _;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)?.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixture(shape: Shape) -> Fixture {
        let cast = Cast { regulars: Population { shape, identities: 3, mappings: 2, seed: 1 }, newcomers: 1 };
        Fixture {
            cast,
            cluster_id: "prod".into(),
            sts_host: "sts.eu-west-1.amazonaws.com".into(),
            region: "eu-west-1".into(),
            sts: None,
            offline: shape == Shape::Users,
            settings: String::new(),
        }
    }

    #[test]
    fn what_is_written_for_the_fake_sts_is_what_it_reads() {
        let folder = tempfile::tempdir().unwrap();
        let fixture = fixture(Shape::Sessions { session_token_chars: 20 });
        let files = fixture.write(folder.path(), UnixSeconds::new(1_795_521_600)).unwrap();
        let (read, known) = (Credential::load(&files.credentials).unwrap(), fixture.cast.credentials());
        assert_eq!((read.len(), known.len()), (68, 68));
        for (read, known) in read.iter().zip(&known) {
            assert_eq!(
                (read.access_key_id(), read.secret(), read.session_token(), read.identity()),
                (known.access_key_id(), known.secret(), known.session_token(), known.identity())
            );
        }
    }

    #[test]
    fn a_configuration_maps_as_many_as_it_is_told() {
        insta::assert_snapshot!(fixture(Shape::Sessions { session_token_chars: 20 }).config(Path::new("bundle.yaml")), @r#"
        clusterID: prod
        server:
          mapRoles:
          - {roleARN: "arn:aws:iam::123456789012:role/loadtest-000000", username: "loadtest-000000:{{SessionName}}", groups: [developers]}
          - {roleARN: "arn:aws:iam::123456789012:role/loadtest-000001", username: "loadtest-000001:{{SessionName}}", groups: [developers]}
        "#);
        insta::assert_snapshot!(fixture(Shape::Users).config(Path::new("bundle.yaml")), @r#"
        clusterID: prod
        server:
          mapUsers:
          - {userARN: "arn:aws:iam::123456789012:user/loadtest-000000", username: "loadtest-000000", groups: [developers]}
          - {userARN: "arn:aws:iam::123456789012:user/loadtest-000001", username: "loadtest-000001", groups: [developers]}
          mapAccounts: ["123456789012"]
          mapRoles:
          - {roleARN: "arn:aws:iam::123456789012:role/loadtest-000000", username: "loadtest-000000:{{SessionName}}", groups: [developers]}
          - {roleARN: "arn:aws:iam::123456789012:role/loadtest-000001", username: "loadtest-000001:{{SessionName}}", groups: [developers]}
          provers: [offline]
          offline: {bundle: bundle.yaml}
        "#);
    }

    #[cfg(unix)]
    #[test]
    fn keys_are_for_their_owner_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        fixture(Shape::Users).write(folder.path(), UnixSeconds::new(1_795_521_600)).unwrap();
        for name in ["bundle.yaml", "credentials.json", "state/key.pem"] {
            assert_eq!(std::fs::metadata(folder.path().join(name)).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
        }
    }
}
