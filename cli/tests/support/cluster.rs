//! A cluster as its users see it: a fake STS that knows them, kubectl that runs `arngate token`, and who the API server takes them for.

use std::collections::BTreeSet;
use std::fs;

use arngate_core::endpoint::Fips;
use arngate_core::time::AmzDate;
use arngate_core::{ClusterId, Partition, StsHost};
use arngate_loadtest::clock::Clock;
use arngate_loadtest::credential::{CallerIdentity, Credential, EXAMPLE_SECRET};
use arngate_loadtest::sts::{Config, FakeSts};
use arngate_loadtest::token::sign_token_expiring;
use libtest_mimic::Failed;
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::kube::{ApiServer, Exec};
use super::{Outcome, arngate};

pub(crate) const CLUSTER_ID: &str = "prod.example.com";

/// The region whose STS is faked.
pub(crate) const REGION: &str = "eu-west-1";

/// A fake STS that knows some credentials.
pub(crate) struct Aws {
    _runtime: Runtime,
    pub(crate) sts: FakeSts,
    folder: TempDir,
}

impl Aws {
    pub(crate) fn knowing(known: impl IntoIterator<Item = Credential>) -> Result<Self, Failed> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let sts = runtime.block_on(FakeSts::start(Config::new(Clock::system()).with_credentials(known)))?;
        let folder = tempfile::tempdir()?;
        fs::write(folder.path().join("ca.pem"), sts.ca_pem())?;
        Ok(Self { _runtime: runtime, sts, folder })
    }

    /// The settings, below `server`, of a webhook that asks it.
    pub(crate) fn settings(&self) -> String {
        let (address, ca) = (self.sts.addr(), self.folder.path().join("ca.pem"));
        format!("  sts:\n    endpoints: {{sts.{REGION}.amazonaws.com: 'https://{address}'}}\n    caFile: {}\n", ca.display())
    }
}

/// The keys of an IAM user of this name.
pub(crate) fn iam_user(name: &str) -> Result<Credential, Failed> {
    let identity = CallerIdentity::of_arn(format!("arn:aws:iam::123456789012:user/{name}"), format!("AIDA{}", name.to_uppercase()))?;
    Ok(Credential::new(format!("AKIAIOSFODNN7{:X<8}", name.to_uppercase()), EXAMPLE_SECRET, identity)?)
}

/// What a client of AWS needs in its environment.
pub(crate) fn variables(credential: &Credential) -> Vec<(&str, &str)> {
    let mut variables = vec![
        ("AWS_ACCESS_KEY_ID", credential.access_key_id()),
        ("AWS_SECRET_ACCESS_KEY", credential.secret()),
        ("AWS_REGION", REGION),
        ("AWS_EC2_METADATA_DISABLED", "true"),
    ];
    variables.extend(credential.session_token().map(|token| ("AWS_SESSION_TOKEN", token)));
    variables
}

/// kubectl with a kubeconfig that runs `arngate token` with the keys of `credential`.
pub(crate) fn kubectl(server: &ApiServer, credential: &Credential, arguments: &[&str]) -> Result<Outcome, Failed> {
    let exec = Exec {
        api_version: "client.authentication.k8s.io/v1",
        command: env!("CARGO_BIN_EXE_arngate"),
        arguments: &["token", "-i", CLUSTER_ID],
        variables: &variables(credential),
    };
    server.kubectl(&exec, arguments)
}

/// Who the API server takes `credential` for: name, uid, groups in any order, extra.
pub(crate) fn who_am_i(server: &ApiServer, credential: &Credential) -> Result<Value, Failed> {
    who_it_says(server, &kubectl(server, credential, &WHO_AM_I)?)
}

/// What asks who one is.
pub(crate) const WHO_AM_I: [&str; 4] = ["auth", "whoami", "-o", "json"];

/// What [`WHO_AM_I`] came to.
pub(crate) fn who_it_says(server: &ApiServer, outcome: &Outcome) -> Result<Value, Failed> {
    if outcome.code != 0 {
        return Err(format!("{}\n{}", outcome.stderr, server.log()).into());
    }
    let mut review: Value = serde_json::from_str(&outcome.stdout)?;
    let mut user = review["status"]["userInfo"].take();
    let groups: BTreeSet<String> = serde_json::from_value(user["groups"].take())?;
    user["groups"] = groups.into_iter().collect();
    Ok(user)
}

/// A token of `credential`, made by our own client.
pub(crate) fn token(credential: &Credential) -> String {
    let mut call = arngate().arguments("token --token-only -i").argument(CLUSTER_ID);
    for (name, value) in variables(credential) {
        call = call.variable(name, value);
    }
    call.run().stdout.trim_end().to_owned()
}

/// A token of which there is no other: X-Amz-Expires is signed, and otherwise of no account.
pub(crate) fn token_expiring(credential: &Credential, age_secs: i64, expires_secs: u16) -> Result<String, Failed> {
    let host = StsHost::regional(Partition::Aws, REGION, Fips::No)?;
    let date = AmzDate::from_unix(Clock::system().now().saturating_add(-age_secs)).ok_or("no year of four digits")?;
    Ok(sign_token_expiring(credential, host, ClusterId::parse(CLUSTER_ID)?, date, expires_secs))
}

pub(crate) fn equal<T: PartialEq + std::fmt::Debug>(found: T, expected: T) -> Result<(), Failed> {
    if found == expected { Ok(()) } else { Err(format!("expected {expected:?}\nfound    {found:?}").into()) }
}
