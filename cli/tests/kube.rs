//! Logins through a real Kubernetes API server: kubectl runs `arngate token`, kube-apiserver asks our webhook.
//!
//! `cli/tests/kube/README.md` tells where the programs come from. Where they are absent these tests are ignored, with the reason;
//! `ARNGATE_REQUIRE=kube` makes absence a failure.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::process::ExitCode;

use arngate_loadtest::clock::Clock;
use arngate_loadtest::credential::{CallerIdentity, Credential, EXAMPLE_SECRET};
use arngate_loadtest::sts::{Config, FakeSts};
use libtest_mimic::{Arguments, Failed};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use self::support::arngate;
use self::support::foreign::Foreign;
use self::support::kube::{ApiServer, Asking, Binaries, Exec};
use self::support::server::Server;

const CLUSTER_ID: &str = "prod.example.com";

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let kube = Foreign::new("kube", Binaries::find(), Binaries::ABSENCE);
    let trials = vec![
        kube.trial("users_log_in_through_sts_with_v1", |kube| log_in_through_sts(kube, "v1")),
        kube.trial("users_log_in_through_sts_with_v1beta1", |kube| log_in_through_sts(kube, "v1beta1")),
        kube.trial("a_user_logs_in_with_offline_keys", log_in_offline),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// A cluster with groups for a user and for a role.
const MAPPINGS: &str = "
clusterID: prod.example.com
server:
  mapUsers:
  - {userARN: arn:aws:iam::123456789012:user/Alice, username: alice, groups: [system:masters, dev ops]}
  mapRoles:
  - {roleARN: arn:aws:iam::123456789012:role/Admin, username: 'admin:{{SessionName}}', groups: ['admins:{{AccountID}}']}
";

/// A fake STS that knows a user, a role's session, and somebody whom nobody has mapped.
struct Aws {
    _runtime: Runtime,
    sts: FakeSts,
    folder: TempDir,
}

impl Aws {
    fn start() -> Result<Self, Failed> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let known = [Credential::example_user(), Credential::example_role(), stranger()?];
        let sts = runtime.block_on(FakeSts::start(Config::new(Clock::system()).with_credentials(known)))?;
        let folder = tempfile::tempdir()?;
        fs::write(folder.path().join("ca.pem"), sts.ca_pem())?;
        Ok(Self { _runtime: runtime, sts, folder })
    }

    /// A webhook that asks it.
    fn webhook(&self) -> Server {
        let (address, ca) = (self.sts.addr(), self.folder.path().join("ca.pem"));
        let sts = format!("  sts:\n    endpoints: {{sts.eu-west-1.amazonaws.com: 'https://{address}'}}\n    caFile: {}\n", ca.display());
        Server::start(&format!("{MAPPINGS}{sts}"))
    }
}

fn stranger() -> Result<Credential, Failed> {
    let identity = CallerIdentity::of_arn("arn:aws:iam::123456789012:user/Stranger", "AIDAEXAMPLE")?;
    Ok(Credential::new("AKIAIOSFODNN7STRANGE", EXAMPLE_SECRET, identity)?)
}

/// kubectl with a kubeconfig that runs `arngate token` with the keys of `credential`.
fn kubectl(server: &ApiServer, credential: &Credential, arguments: &[&str]) -> Result<support::Outcome, Failed> {
    let mut variables = vec![
        ("AWS_ACCESS_KEY_ID", credential.access_key_id()),
        ("AWS_SECRET_ACCESS_KEY", credential.secret()),
        ("AWS_REGION", "eu-west-1"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
    ];
    variables.extend(credential.session_token().map(|token| ("AWS_SESSION_TOKEN", token)));
    let exec = Exec {
        api_version: "client.authentication.k8s.io/v1",
        command: env!("CARGO_BIN_EXE_arngate"),
        arguments: &["token", "-i", CLUSTER_ID],
        variables: &variables,
    };
    server.kubectl(&exec, arguments)
}

/// Who the API server takes `credential` for: name, uid, groups in any order, extra.
fn who_am_i(server: &ApiServer, credential: &Credential) -> Result<Value, Failed> {
    let outcome = kubectl(server, credential, &["auth", "whoami", "-o", "json"])?;
    if outcome.code != 0 {
        return Err(format!("{}\n{}", outcome.stderr, server.log()).into());
    }
    let mut review: Value = serde_json::from_str(&outcome.stdout)?;
    let mut user = review["status"]["userInfo"].take();
    let groups: BTreeSet<String> = serde_json::from_value(user["groups"].take())?;
    user["groups"] = groups.into_iter().collect();
    Ok(user)
}

/// What the example user is mapped to.
fn alice() -> Value {
    json!({
        "username": "alice",
        "uid": "aws-iam-authenticator:123456789012:AIDACKCEVSQ6C2EXAMPLE",
        "groups": ["dev ops", "system:authenticated", "system:masters"],
        "extra": {
            "accessKeyId": ["AKIAIOSFODNN7EXAMPLE"],
            "arn": ["arn:aws:iam::123456789012:user/Alice"],
            "canonicalArn": ["arn:aws:iam::123456789012:user/Alice"],
            "principalId": ["AIDACKCEVSQ6C2EXAMPLE"],
            "sessionName": [""],
            "sigs.k8s.io/aws-iam-authenticator/principalId": ["AIDACKCEVSQ6C2EXAMPLE"],
        },
    })
}

/// What the example role's session is mapped to.
fn jane() -> Value {
    json!({
        "username": "admin:jane-example.com",
        "uid": "aws-iam-authenticator:123456789012:AROACKCEVSQ6C2EXAMPLE",
        "groups": ["admins:123456789012", "system:authenticated"],
        "extra": {
            "accessKeyId": ["ASIAIOSFODNN7EXAMPLE"],
            "arn": ["arn:aws:sts::123456789012:assumed-role/Admin/jane@example.com"],
            "canonicalArn": ["arn:aws:iam::123456789012:role/Admin"],
            "principalId": ["AROACKCEVSQ6C2EXAMPLE"],
            "sessionName": ["jane@example.com"],
            "sigs.k8s.io/aws-iam-authenticator/principalId": ["AROACKCEVSQ6C2EXAMPLE"],
        },
    })
}

fn equal<T: PartialEq + std::fmt::Debug>(found: T, expected: T) -> Result<(), Failed> {
    if found == expected { Ok(()) } else { Err(format!("expected {expected:?}\nfound    {found:?}").into()) }
}

fn log_in_through_sts(kube: &Binaries, version: &str) -> Result<(), Failed> {
    let aws = Aws::start()?;
    let webhook = aws.webhook();
    let server = ApiServer::start(kube, Asking { kubeconfig: &webhook.kubeconfig(), version, cache_ttl: Some("0s") })?;
    let (user, role) = (Credential::example_user(), Credential::example_role());
    equal(who_am_i(&server, &user)?, alice())?;
    equal(who_am_i(&server, &role)?, jane())?;

    // Groups are what access is given by.
    let namespaces = ["get", "namespaces", "-o", "name"];
    let allowed = kubectl(&server, &user, &namespaces)?;
    equal((allowed.code, allowed.stdout.lines().any(|line| line == "namespace/default")), (0, true))?;
    let forbidden = kubectl(&server, &role, &namespaces)?;
    equal((forbidden.code, forbidden.stderr.contains(r#"User "admin:jane-example.com" cannot list resource "namespaces""#)), (1, true))?;

    let before = aws.sts.calls();
    let unmapped = kubectl(&server, &stranger()?, &["auth", "whoami"])?;
    equal((unmapped.code, unmapped.stderr.contains("You must be logged in to the server")), (1, true))?;
    equal(aws.sts.calls() > before, true)?;
    equal(server.log_in(&token(&stranger()?))?, 401)?;
    equal(server.log_in(&token(&user))?, 200)
}

fn log_in_offline(kube: &Binaries) -> Result<(), Failed> {
    let user = Credential::example_user();
    let folder = tempfile::tempdir()?;
    let bundle = folder.path().join("keys.yaml");
    let line = "keys derive --arn arn:aws:iam::123456789012:user/Alice --user-id AIDACKCEVSQ6C2EXAMPLE --region eu-west-1 -o";
    let call = arngate().variable("AWS_ACCESS_KEY_ID", user.access_key_id()).variable("AWS_SECRET_ACCESS_KEY", user.secret());
    let derived = call.arguments(line).argument(&bundle).run();
    equal(derived.code, 0)?;
    let webhook = Server::start(&format!("{MAPPINGS}  provers: [offline]\n  offline: {{bundle: {}}}\n", bundle.display()));

    let server = ApiServer::start(kube, Asking { kubeconfig: &webhook.kubeconfig(), version: "v1", cache_ttl: None })?;
    equal(who_am_i(&server, &user)?, alice())?;
    // Nobody but STS can prove a role's session.
    equal(server.log_in(&token(&Credential::example_role()))?, 401)
}

/// A token of `credential`, made by our own client.
fn token(credential: &Credential) -> String {
    let mut call = arngate().arguments("token --token-only --region eu-west-1 -i").argument(CLUSTER_ID);
    call = call.variable("AWS_ACCESS_KEY_ID", credential.access_key_id()).variable("AWS_SECRET_ACCESS_KEY", credential.secret());
    if let Some(session_token) = credential.session_token() {
        call = call.variable("AWS_SESSION_TOKEN", session_token);
    }
    call.run().stdout.trim_end().to_owned()
}
