//! `arngate server --dev`: a server to try out, and what to try with it.
//!
//! No AWS, no files, no root: a throw-away access key is made, signing keys are derived from it for the next fortnight, its user is mapped, and all
//! of it is kept in memory. What is printed holds the throw-away secret, once, where the client needs it; no log does.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use arngate_core::endpoint::Fips;
use arngate_core::sigv4::{Presign, SigningKey};
use arngate_core::time::AmzDate;
use arngate_core::{ClusterId, Partition, StsHost, token};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::crypto::ring;
use zeroize::Zeroizing;

use crate::app::{Service, StartError};
use crate::bootstrap::certs;
use crate::clock::{Clock, SystemClock};
use crate::ec2;
use crate::http::respond::DenyStatus;
use crate::http::serve::{Limits, Sharing};
use crate::http::webhook::AccessLog;
use crate::identity_cache;
use crate::mapping::{Backend, BackendMode, Followers, Mapping, Names, Policy, Store};
use crate::memory::{Bounds, MemoryLimit};
use crate::metrics::Metrics;
use crate::prover::offline::{Bundle, DERIVED_DAYS_MAX, Day, Derivation, Keyring};
use crate::prover::{Chain, Prover, Realm};
use crate::telemetry::Log;

/// The cluster that tokens are for, unless another is named.
pub const CLUSTER_ID: &str = "arngate-dev";
const REGION: &str = "us-east-1";
const ARN: &str = "arn:aws:iam::123456789012:user/dev";
const USER_ID: &str = "AIDADEVDEVDEVDEVDEVDE";
const USERNAME: &str = "dev";
const GROUP: &str = "arngate:developers";

/// Why there is nothing to try out.
#[derive(Debug, thiserror::Error)]
pub enum DevError {
    /// The machine gives no random numbers.
    #[error("the system has no random numbers")]
    Random,
    /// The machine's clock is where no token can be.
    #[error("the system's clock is outside the years 1970 to 9999")]
    Clock,
    /// As with any other server.
    #[error(transparent)]
    Start(#[from] StartError),
}

/// A throw-away access key.
struct AccessKey {
    id: String,
    secret: Zeroizing<String>,
}

impl AccessKey {
    fn random() -> Result<Self, DevError> {
        // Ids are AKIA and 16 of base32, secrets 40 characters of base64, as AWS makes them.
        const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
        let mut bytes = Zeroizing::new([0_u8; 46]);
        ring::default_provider().secure_random.fill(&mut *bytes).map_err(|_| DevError::Random)?;
        let (id, secret) = bytes.split_at(16);
        let id = id.iter().map(|byte| char::from(BASE32[usize::from(byte % 32)])).collect::<String>();
        Ok(Self { id: format!("AKIA{id}"), secret: Zeroizing::new(STANDARD.encode(secret)) })
    }
}

/// A server to try out.
#[derive(Debug)]
pub struct Dev {
    service: Service,
    trial: Trial,
}

impl Dev {
    /// Makes key, bundle, mapping and certificate, for a server on loopback.
    ///
    /// # Errors
    ///
    /// [`DevError`].
    pub fn new(cluster_id: &str, port: u16, log: Log) -> Result<Self, DevError> {
        let clock = SystemClock::new();
        let key = AccessKey::random()?;
        let first_day = Day::of(clock.now().unix).ok_or(DevError::Clock)?;
        let derivation = Derivation {
            access_key_id: &key.id,
            secret: key.secret.as_bytes(),
            arn: ARN,
            user_id: USER_ID,
            regions: &[REGION],
            first_day,
            days: DERIVED_DAYS_MAX,
        };
        let bundle = Bundle::derive(Partition::Aws, &derivation).map_err(|_| DevError::Clock)?;
        let chain = Chain::new(vec![Prover::Offline(Arc::new(Keyring::new(bundle)))]).map_err(StartError::from)?;
        let realm = Realm::new(cluster_id, Partition::Aws, Some(REGION), arngate_core::limits::DEFAULT_MAX_AHEAD_SECS, chain);

        let names = Names { username: USERNAME.into(), groups: vec![GROUP.into()], ..Names::default() };
        let mapping = Mapping::for_arn(ARN.into(), false, names);
        let mappings = Arc::new(Store::new(Policy::of([BackendMode::MountedFile])));
        mappings.publish(BackendMode::MountedFile, Backend::new(mapping.into_iter().collect(), [].into()));

        let address = IpAddr::from(Ipv4Addr::LOCALHOST);
        let names = certs::Names { address: &address.to_string(), hostname: "localhost" };
        let certificate = certs::generate(names, clock.now().unix).map_err(StartError::from)?;
        let certificate_pem = certificate.leaf_pem();
        let service = Service {
            realm: realm.map_err(StartError::from)?,
            mappings,
            followers: Followers::default(),
            modes_path: None,
            certificate,
            certificate_files: None,
            clients: None,
            sources: Vec::new(),
            address,
            port,
            sharing: Sharing::Alone,
            kubeconfig: None,
            admin: None,
            limits: Limits::default(),
            bounds: Bounds::under(MemoryLimit::NONE),
            deny_status: DenyStatus::Ok,
            access_log: AccessLog::All,
            log,
            metrics: Arc::new(Metrics::new()),
            cache: identity_cache::Settings::default(),
            ec2: ec2::Names::nobodys(Arc::new(clock)),
            clock: Arc::new(clock),
        };
        Ok(Self { service, trial: Trial { key, cluster_id: cluster_id.to_owned(), certificate_pem, clock } })
    }

    /// Takes it apart: the server, and what to try once it listens.
    #[must_use]
    pub fn split(self) -> (Service, Trial) {
        (self.service, self.trial)
    }
}

/// What there is to try.
pub struct Trial {
    key: AccessKey,
    cluster_id: String,
    certificate_pem: String,
    clock: SystemClock,
}

impl std::fmt::Debug for Trial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trial").field("cluster_id", &self.cluster_id).finish_non_exhaustive()
    }
}

impl Trial {
    /// The text to print once the server listens on `address`; `program` is what a kubeconfig runs for a token, if it makes any. It holds the throw-away secret.
    ///
    /// # Errors
    ///
    /// [`DevError::Clock`].
    pub fn instructions(&self, address: SocketAddr, program: Option<&str>) -> Result<Zeroizing<String>, DevError> {
        let token = self.token()?;
        // The certificate goes along inside the command, so that there is no file to clean up; a shell with <( ) reads it from there.
        let pem = self.certificate_pem.lines().fold(String::new(), |lines, line| lines + " '" + line + "'");
        let review = format!(r#"{{"apiVersion":"authentication.k8s.io/v1","kind":"TokenReview","spec":{{"token":"{token}"}}}}"#);
        let mut text = Zeroizing::new(String::with_capacity(8 << 10));
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            r#"arngate is listening on https://{address}/authenticate

    THIS IS FOR TRYING OUT. Its keys and mappings are made up, live in memory, and end with it.

A token, signed with throw-away AWS credentials; it is good for 15 minutes:

{token}

Ask who that is, as kube-apiserver would (in bash or zsh):

curl -sS --noproxy '*' --cacert <(printf '%s\n'{pem}) -H 'Content-Type: application/json' --data '{review}' https://{address}/authenticate

Expect "authenticated":true and the user "{USERNAME}" in group "{GROUP}", made of {ARN}.
Change a character of the token, and expect "authenticated":false with the reason.
"#,
        );
        if let Some(program) = program {
            let _ = writeln!(
                text,
                r#"A kubeconfig user that signs a new token each time it is needed:

users:
- name: {USERNAME}
  user:
    exec:
      apiVersion: client.authentication.k8s.io/v1
      command: {program}
      args: [token, --cluster-id, {cluster_id}, --region, {REGION}]
      env:
      - {{name: AWS_ACCESS_KEY_ID, value: {id}}}
      - {{name: AWS_SECRET_ACCESS_KEY, value: {secret}}}
      - {{name: AWS_SESSION_TOKEN, value: ""}}
      - {{name: AWS_PROFILE, value: ""}}
      - {{name: DEFAULT_ROLE, value: ""}}
      interactiveMode: Never
"#,
                program = serde_json::Value::from(program),
                cluster_id = serde_json::Value::from(self.cluster_id.as_str()),
                id = self.key.id,
                secret = serde_json::Value::from(self.key.secret.as_str()),
            );
        }
        Ok(text)
    }

    /// A token of the throw-away key, signed now.
    fn token(&self) -> Result<String, DevError> {
        let date = AmzDate::from_unix(self.clock.now().unix).ok_or(DevError::Clock)?;
        let key = SigningKey::derive(self.key.secret.as_bytes(), date.day(), REGION);
        let host = StsHost::regional(Partition::Aws, REGION, Fips::No);
        let cluster_id = ClusterId::parse(&self.cluster_id).map_err(StartError::from)?;
        let (mut url, mut text) = (String::new(), String::new());
        let signed = host.map(|host| {
            let presign = Presign { host, access_key_id: &self.key.id, session_token: None, cluster_id, date, expires_secs: 60 };
            presign.write_url(&key, &mut url).and_then(|()| token::encode(&url, &mut text))
        });
        debug_assert!(matches!(signed, Ok(Ok(()))), "made of constants");
        Ok(text)
    }
}
