//! Mappings from every source, in a cluster with a real Kubernetes API server: aws-auth and the CRD as the API server tells of them, files beside them, and
//! `arngate add` and `arngate remove`.
//!
//! `cli/tests/kube/README.md` tells where the programs come from. Where they are absent these tests are ignored, with the reason;
//! `ARNGATE_REQUIRE=kube,reference,aws` makes absence a failure.

mod support;

use std::fs;
use std::os::unix::fs::symlink;
use std::panic::Location;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use arngate_loadtest::credential::Credential;
use libtest_mimic::{Arguments, Failed};
use serde_json::{Value, json};
use tempfile::TempDir;

use self::support::cluster::{
    Aws, CLUSTER_ID, REGION, WHO_AM_I, equal, iam_user, kubectl, token, token_expiring, variables, who_am_i, who_it_says,
};
use self::support::foreign::{Foreign, in_path};
use self::support::kube::{ApiServer, Asking, Binaries, Exec, HeldPort};
use self::support::server::Server;
use self::support::{Outcome, arngate};

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let kube = || Foreign::new("kube", Binaries::find(), Binaries::ABSENCE);
    let with = |name, program| Foreign::new(name, Binaries::find().zip(in_path(program)), "no kube-apiserver, or none of the program");
    let trials = vec![
        kube().trial("a_mapping_admits_and_its_end_refuses_with_v1", |kube| comes_and_goes(kube, "v1")),
        kube().trial("a_mapping_admits_and_its_end_refuses_with_v1beta1", |kube| comes_and_goes(kube, "v1beta1")),
        kube().trial("with_the_usual_cache_a_token_that_was_admitted_is_remembered", usual_cache),
        kube().trial("an_api_server_that_is_away_and_comes_back_is_no_denial", away_and_back),
        kube().trial("of_all_backends_the_first_in_order_counts", every_order),
        kube().trial("what_cannot_be_read_is_told_as_an_event_and_locks_nobody_out", bad_source),
        kube().trial("add_and_remove_write_aws_auth", add_and_remove),
        kube().trial("explain_and_lint_read_a_cluster", explain_and_lint),
        kube().trial("whoever_is_slower_tries_again", conflicts),
        // Prints figures, and judges none.
        kube().trial("what_following_a_cluster_takes", what_it_takes).with_ignored_flag(true),
        kube().trial("the_argument_lists_of_installers_start_and_serve", installers),
        with("reference", "aws-iam-authenticator")
            .trial("the_reference_s_client_logs_in", |(kube, program)| other_client(kube, program, &["token", "-i", CLUSTER_ID])),
        with("aws", "aws").trial("aws_eks_get_token_logs_in", |(kube, program)| {
            other_client(kube, program, &["eks", "get-token", "--cluster-name", CLUSTER_ID, "--output", "json"])
        }),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Longest wait for something that another process does: a bound, not a measure.
const PATIENCE: Duration = Duration::from_secs(30);

/// The error of a denial for want of a mapping.
const NOT_MAPPED: &str = "identity is not mapped";

/// The ServiceAccount of `deploy/kubernetes`.
const ACCOUNT: &str = "arngate";

/// Asks until the answer is the expected one.
fn until<T: PartialEq + std::fmt::Debug>(patience: Duration, expected: &T, ask: impl Fn() -> Result<T, Failed>) -> Result<(), Failed> {
    #[expect(clippy::disallowed_methods, reason = "a bound for what other processes do")]
    let now = std::time::Instant::now;
    let began = now();
    loop {
        let found = ask()?;
        if found == *expected {
            return Ok(());
        }
        if began.elapsed() > patience {
            return Err(format!("expected {expected:?}, and after {patience:?} it was {found:?}").into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A webhook that follows a cluster which may not be there yet.
struct Webhook {
    server: Server,
    folder: TempDir,
}

impl Webhook {
    /// `modes` as settings list them; `settings` come below `server`.
    fn start(aws: &Aws, modes: &str, settings: &str) -> Result<Self, Failed> {
        let folder = tempfile::tempdir()?;
        let config = config(aws, modes, &folder.path().join("kubeconfig"), settings);
        Ok(Self { server: Server::start(&config), folder })
    }

    /// Installs what `deploy/kubernetes` has, and gives the webhook that ServiceAccount and nothing else.
    fn install(&self, server: &ApiServer) -> Result<(), Failed> {
        install(server)?;
        let kubeconfig = server.kubeconfig_of(ACCOUNT)?;
        fs::write(self.folder.path().join("kubeconfig"), kubeconfig)?;
        Ok(())
    }

    /// How a question about a token of theirs is answered: the username, or the status and the error.
    fn answer(&self, credential: &Credential) -> Result<String, Failed> {
        let (status, body) = self.server.review(&token(credential));
        if status != 200 {
            return Ok(status.to_string());
        }
        let review: Value = serde_json::from_str(&body)?;
        let username = review["status"]["user"]["username"].as_str();
        Ok(username.or_else(|| review["status"]["error"].as_str()).unwrap_or_default().to_owned())
    }
}

fn config(aws: &Aws, modes: &str, kubeconfig: &Path, settings: &str) -> String {
    let (sts, kubeconfig) = (aws.settings(), kubeconfig.display());
    format!("clusterID: {CLUSTER_ID}\nserver:\n  backendMode: [{modes}]\n  kubeconfig: {kubeconfig}\n{sts}{settings}")
}

fn install(server: &ApiServer) -> Result<(), Failed> {
    let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/kubernetes");
    server.as_admin(&["apply", "-k", &manifests.to_string_lossy()], "")?;
    server.as_admin(&["wait", "--for=condition=Established", "--timeout=60s", "crd/iamidentitymappings.iamauthenticator.k8s.aws"], "")?;
    Ok(())
}

fn apply(server: &ApiServer, object: &Value) -> Result<(), Failed> {
    server.as_admin(&["apply", "-f", "-"], &object.to_string()).map(drop)
}

/// aws-auth with users of these names.
fn aws_auth(users: &[&str]) -> Value {
    let entry =
        |name: &&str| format!("- userarn: arn:aws:iam::123456789012:user/{name}\n  username: aws-auth:{name}\n  groups:\n  - devs\n");
    let users: String = users.iter().map(entry).collect();
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "aws-auth", "namespace": "kube-system"}, "data": {"mapUsers": users}})
}

/// The same in the configuration file.
fn in_file(user: &str) -> String {
    format!("  mapUsers:\n  - {{userARN: 'arn:aws:iam::123456789012:user/{user}', username: 'file:{user}'}}\n")
}

/// The same in the dynamic file.
fn in_dynamic_file(user: &str) -> String {
    let mapping =
        json!({"userarn": format!("arn:aws:iam::123456789012:user/{user}"), "username": format!("dynamic:{user}"), "groups": ["devs"]});
    json!({"LastUpdatedDateTime": "0", "Version": "1", "mapUsers": [mapping]}).to_string()
}

/// An IAMIdentityMapping for a user of this name.
fn custom_resource(name: &str) -> Value {
    json!({
        "apiVersion": "iamauthenticator.k8s.aws/v1alpha1",
        "kind": "IAMIdentityMapping",
        "metadata": {"name": name.to_lowercase()},
        "spec": {"arn": format!("arn:aws:iam::123456789012:user/{name}"), "username": format!("crd:{name}"), "groups": ["devs"]},
    })
}

/// The whole user that somebody of a source is.
fn user(source: &str, name: &str, groups: &[&str]) -> Value {
    let arn = format!("arn:aws:iam::123456789012:user/{name}");
    let id = format!("AIDA{}", name.to_uppercase());
    let mut groups: Vec<_> = groups.iter().copied().chain(["system:authenticated"]).collect();
    groups.sort_unstable();
    json!({
        "username": format!("{source}:{name}"),
        "uid": format!("aws-iam-authenticator:123456789012:{id}"),
        "groups": groups,
        "extra": {
            "accessKeyId": [format!("AKIAIOSFODNN7{:X<8}", name.to_uppercase())],
            "arn": [arn],
            "canonicalArn": [arn],
            "principalId": [id],
            "sessionName": [""],
            "sigs.k8s.io/aws-iam-authenticator/principalId": [id],
        },
    })
}

/// Whether a mapping acts that was just made or taken away. Each question has a token of its own: whom it has admitted, kube-apiserver remembers for 10 s
/// whatever its settings (`TokenSuccessCacheTTL`).
#[track_caller]
fn acts(server: &ApiServer, credential: &Credential, admitted: bool) -> Result<(), Failed> {
    let place = Location::caller();
    let done = until(PATIENCE, &if admitted { 200 } else { 401 }, || Ok(server.log_in(&another_token(credential)?)?));
    done.map_err(|error| format!("{place}: {}", error.message().unwrap_or_default()).into())
}

fn comes_and_goes(kube: &Binaries, version: &str) -> Result<(), Failed> {
    let [file, bob, carol, dan] = ["File", "Bob", "Carol", "Dan"].map(iam_user);
    let (file, bob, carol, dan) = (file?, bob?, carol?, dan?);
    let aws = Aws::knowing([file.clone(), bob.clone(), carol.clone(), dan.clone()])?;
    let files = tempfile::tempdir()?;
    let dynamic = files.path().join("dynamic.json");
    let modes = "MountedFile, EKSConfigMap, CRD, DynamicFile";
    let settings = |user: &str| format!("  dynamicfilepath: {}\n{}", dynamic.display(), in_file(user));
    let webhook = Webhook::start(&aws, modes, &settings("File"))?;
    equal((webhook.answer(&file)?.as_str(), webhook.answer(&bob)?.as_str()), ("file:File", "503"))?;

    let server = ApiServer::start(kube, Asking { kubeconfig: &webhook.server.kubeconfig(), version, cache_ttl: Some("0s") })?;
    webhook.install(&server)?;
    server.as_admin(&["create", "clusterrole", "pods", "--verb=list", "--resource=pods"], "")?;
    server.as_admin(&["create", "clusterrolebinding", "devs", "--clusterrole=pods", "--group=devs"], "")?;
    until(PATIENCE, &NOT_MAPPED.to_owned(), || webhook.answer(&bob))?;
    equal((server.log_in(&token(&bob))?, server.log_in(&token(&carol))?), (401, 401))?;
    let unmapped = kubectl(&server, &bob, &["auth", "whoami"])?;
    equal((unmapped.code, unmapped.stderr.contains("You must be logged in to the server")), (1, true))?;

    apply(&server, &aws_auth(&["Bob"]))?;
    acts(&server, &bob, true)?;
    apply(&server, &custom_resource("Carol"))?;
    acts(&server, &carol, true)?;
    equal(who_am_i(&server, &file)?, user("file", "File", &[]))?;
    equal(who_am_i(&server, &bob)?, user("aws-auth", "Bob", &["devs"]))?;
    equal(who_am_i(&server, &carol)?, user("crd", "Carol", &["devs"]))?;
    // Groups are what access is given by.
    let pods = ["get", "pods", "--all-namespaces"];
    let allowed = |credential| Ok::<_, Failed>(kubectl(&server, credential, &pods)?.code);
    equal((allowed(&file)?, allowed(&bob)?, allowed(&carol)?), (1, 0, 0))?;
    let status = ["get", "iamidentitymapping", "carol", "-o", "jsonpath={.status.canonicalARN}"];
    until(PATIENCE, &"arn:aws:iam::123456789012:user/carol".to_owned(), || server.as_admin(&status, ""))?;

    server.as_admin(&["delete", "iamidentitymapping", "carol"], "")?;
    acts(&server, &carol, false)?;
    apply(&server, &aws_auth(&["Carol"]))?;
    acts(&server, &bob, false)?;
    acts(&server, &carol, true)?;
    let remembered = token(&carol);
    equal(server.log_in(&remembered)?, 200)?;
    server.as_admin(&["delete", "configmap", "-n", "kube-system", "aws-auth"], "")?;
    acts(&server, &carol, false)?;
    until(PATIENCE, &401, || Ok(server.log_in(&remembered)?))?;
    acts(&server, &file, true)?;

    // Files beside them, the one in place and the other by a rename.
    let config = |user| config(&aws, modes, &webhook.folder.path().join("kubeconfig"), &settings(user));
    fs::write(webhook.server.folder.path().join("config.yaml"), config("Dan"))?;
    acts(&server, &dan, true)?;
    acts(&server, &file, false)?;
    fs::write(files.path().join("next"), in_dynamic_file("File"))?;
    fs::rename(files.path().join("next"), &dynamic)?;
    acts(&server, &file, true)?;
    equal(who_am_i(&server, &file)?, user("dynamic", "File", &["devs"]))?;
    fs::remove_file(&dynamic)?;
    acts(&server, &file, false)?;
    // It was given no more than it needs, and that was enough.
    let log = webhook.server.log();
    equal((log.contains("forbidden"), log.contains("are written")), (false, false))
}

fn usual_cache(kube: &Binaries) -> Result<(), Failed> {
    let bob = iam_user("Bob")?;
    let aws = Aws::knowing([bob.clone()])?;
    let webhook = Webhook::start(&aws, "EKSConfigMap", "")?;
    let server = ApiServer::start(kube, Asking { kubeconfig: &webhook.server.kubeconfig(), version: "v1", cache_ttl: None })?;
    webhook.install(&server)?;
    until(PATIENCE, &NOT_MAPPED.to_owned(), || webhook.answer(&bob))?;
    // A denial is not remembered: the very token is good once there is a mapping.
    let remembered = token(&bob);
    equal(server.log_in(&remembered)?, 401)?;
    apply(&server, &aws_auth(&["Bob"]))?;
    until(PATIENCE, &200, || Ok(server.log_in(&remembered)?))?;
    // Whom it has admitted the API server remembers for two minutes; another token is another question.
    apply(&server, &aws_auth(&[]))?;
    acts(&server, &bob, false)?;
    equal(server.log_in(&remembered)?, 200)
}

/// A token that was not used before: those of one second are the same.
fn another_token(credential: &Credential) -> Result<String, Failed> {
    use std::sync::atomic::{AtomicU16, Ordering};
    static SERIAL: AtomicU16 = AtomicU16::new(1);
    token_expiring(credential, 0, SERIAL.fetch_add(1, Ordering::Relaxed) % 900)
}

fn away_and_back(kube: &Binaries) -> Result<(), Failed> {
    let [bob, eve] = ["Bob", "Eve"].map(iam_user);
    let (bob, eve) = (bob?, eve?);
    let aws = Aws::knowing([bob.clone(), eve.clone()])?;
    let webhook = Webhook::start(&aws, "EKSConfigMap, CRD", "")?;
    let asking = Asking { kubeconfig: &webhook.server.kubeconfig(), version: "v1", cache_ttl: Some("0s") };
    let mut server = ApiServer::start(kube, asking)?;
    webhook.install(&server)?;
    apply(&server, &aws_auth(&["Bob"]))?;
    until(PATIENCE, &NOT_MAPPED.to_owned(), || webhook.answer(&eve))?;
    server.stop();
    // What was known is known.
    equal((webhook.answer(&bob)?.as_str(), webhook.answer(&eve)?.as_str()), ("aws-auth:Bob", NOT_MAPPED))?;
    // A webhook that starts now knows nothing, and says so.
    let config = config(&aws, "EKSConfigMap, CRD", &webhook.folder.path().join("kubeconfig"), "");
    let late = Webhook { server: Server::start(&config), folder: tempfile::tempdir()? };
    equal((late.answer(&bob)?.as_str(), late.answer(&eve)?.as_str()), ("503", "503"))?;
    server.start_again()?;
    for webhook in [&webhook, &late] {
        until(PATIENCE, &"aws-auth:Bob".to_owned(), || webhook.answer(&bob))?;
        until(PATIENCE, &NOT_MAPPED.to_owned(), || webhook.answer(&eve))?;
    }
    apply(&server, &custom_resource("Eve"))?;
    for webhook in [&webhook, &late] {
        until(PATIENCE, &"crd:Eve".to_owned(), || webhook.answer(&eve))?;
    }
    acts(&server, &eve, true)
}

fn every_order(kube: &Binaries) -> Result<(), Failed> {
    let bob = iam_user("Bob")?;
    let aws = Aws::knowing([bob.clone()])?;
    let first = Webhook::start(&aws, "EKSConfigMap", "")?;
    let server = ApiServer::start(kube, Asking { kubeconfig: &first.server.kubeconfig(), version: "v1", cache_ttl: Some("0s") })?;
    first.install(&server)?;
    apply(&server, &aws_auth(&["Bob"]))?;
    apply(&server, &custom_resource("Bob"))?;
    let dynamic = first.folder.path().join("dynamic.json");
    fs::write(&dynamic, in_dynamic_file("Bob"))?;
    let settings = format!("  dynamicfilepath: {}\n{}", dynamic.display(), in_file("Bob"));
    let modes = [("MountedFile", "file"), ("EKSConfigMap", "aws-auth"), ("CRD", "crd"), ("DynamicFile", "dynamic")];
    for order in orders(&modes) {
        let list = order.iter().map(|(mode, _)| *mode).collect::<Vec<_>>().join(", ");
        let config = config(&aws, &list, &first.folder.path().join("kubeconfig"), &settings);
        let webhook = Webhook { server: Server::start(&config), folder: tempfile::tempdir()? };
        let expected = format!("{}:Bob", order[0].1);
        until(PATIENCE, &expected, || webhook.answer(&bob)).map_err(|error| format!("{list}: {error:?}"))?;
    }
    Ok(())
}

/// All orders of some things.
fn orders<T: Copy>(things: &[T]) -> Vec<Vec<T>> {
    if things.is_empty() {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for index in 0..things.len() {
        let mut rest = things.to_vec();
        let first = rest.remove(index);
        all.extend(orders(&rest).into_iter().map(|rest| [vec![first], rest].concat()));
    }
    all
}

fn bad_source(kube: &Binaries) -> Result<(), Failed> {
    let bob = iam_user("Bob")?;
    let aws = Aws::knowing([bob.clone()])?;
    let webhook = Webhook::start(&aws, "EKSConfigMap, CRD", "")?;
    let server = ApiServer::start(kube, Asking { kubeconfig: &webhook.server.kubeconfig(), version: "v1", cache_ttl: Some("0s") })?;
    webhook.install(&server)?;
    apply(&server, &aws_auth(&["Bob"]))?;
    until(PATIENCE, &"aws-auth:Bob".to_owned(), || webhook.answer(&bob))?;
    let mut bad = aws_auth(&["Bob"]);
    bad["data"]["mapUsers"] = "- userarn: [secret\n".into();
    apply(&server, &bad)?;
    let mut odd = custom_resource("Odd");
    odd["spec"]["arn"] = "arn:aws:iam::12345:user/secret".into();
    apply(&server, &odd)?;
    let events = [
        "get",
        "events",
        "-n",
        "kube-system",
        "-o",
        "jsonpath={range .items[?(@.reason==\"InvalidMapping\")]}{.involvedObject.kind} {.involvedObject.name} {.source.component}: {.message}\n{end}",
    ];
    let lines = || Ok::<_, Failed>(server.as_admin(&events, "")?.lines().count());
    until(PATIENCE, &2, lines)?;
    let told = server.as_admin(&events, "")?;
    equal(told.contains("ConfigMap aws-auth arngate: invalid mappings: mapUsers (line 1); "), true)?;
    equal(told.contains("IAMIdentityMapping odd arngate: invalid mappings: spec.arn; "), true)?;
    equal(told.contains("secret"), false)?;
    equal(webhook.answer(&bob)?.as_str(), "aws-auth:Bob")?;
    equal(server.log_in(&token(&bob))?, 200)
}

/// `explain --live` sees what a server would, and `lint` takes what kubectl prints.
fn explain_and_lint(kube: &Binaries) -> Result<(), Failed> {
    let (server, _webhook, kubeconfig) = cluster(kube)?;
    install(&server)?;
    let mut config_map = aws_auth(&["Bob"]);
    config_map["data"]["mapRoles"] = "# nodes\n- rolearn: arn:aws:iam::123456789012:role/Node\n  user: node\n".into();
    apply(&server, &config_map)?;
    apply(&server, &custom_resource("Carol"))?;
    let explain = |name: &str| -> Result<Value, Failed> {
        let line = format!("explain --live -o json --backend-mode EKSConfigMap,CRD --arn arn:aws:iam::123456789012:user/{name}");
        let outcome = as_administrator(&kubeconfig, &line, "");
        equal(outcome.code, 0)?;
        Ok(serde_json::from_str(&outcome.stdout)?)
    };
    for (name, username, extents) in
        [("Bob", "aws-auth:Bob", ["rule-decides", "not-reached"]), ("Carol", "crd:Carol", ["nothing-for-it", "rule-decides"])]
    {
        let told = explain(name)?;
        equal((&told["outcome"]["result"], &told["outcome"]["username"]), (&json!("mapped"), &json!(username)))?;
        equal([&told["backends"][0]["extent"], &told["backends"][1]["extent"]], [&json!(extents[0]), &json!(extents[1])])?;
        equal(&told["backends"][0]["source"], &json!("the cluster"))?;
    }
    equal(&explain("Mallory")?["outcome"]["result"], &json!("not-mapped"))?;

    for format in ["yaml", "json"] {
        let export = server.as_admin(&["get", "configmap,iamidentitymapping", "-A", "-o", format], "")?;
        let outcome = arngate().arguments("lint -").input(export.clone()).run();
        equal((outcome.code, outcome.stdout.contains("unknown key \"user\"")), (1, true))?;
        if format == "yaml" {
            let line = export.lines().position(|line| line.trim() == "user: node").map(|index| index + 1);
            let told = format!("<stdin>:{}: warning: mapRoles[0]: unknown key", line.unwrap_or_default());
            equal((outcome.stdout.contains(&told), line.is_some()), (true, true))?;
        }
    }
    Ok(())
}

/// What `arngate` with these arguments came to, as an administrator of the cluster.
fn as_administrator(kubeconfig: &Path, line: &str, input: &str) -> Outcome {
    arngate().arguments(line).argument("--kubeconfig").argument(kubeconfig).input(input).run()
}

/// A cluster of which the webhook is of no interest.
fn cluster(kube: &Binaries) -> Result<(ApiServer, Webhook, PathBuf), Failed> {
    let aws = Aws::knowing([])?;
    let webhook = Webhook::start(&aws, "MountedFile", "")?;
    let server = ApiServer::start(kube, Asking { kubeconfig: &webhook.server.kubeconfig(), version: "v1", cache_ttl: None })?;
    let kubeconfig = server.admin_kubeconfig()?;
    Ok((server, webhook, kubeconfig))
}

const DATA: [&str; 6] = ["get", "configmap", "-n", "kube-system", "aws-auth", "-o=jsonpath={.data.mapRoles}"];

fn add_and_remove(kube: &Binaries) -> Result<(), Failed> {
    let (server, _webhook, kubeconfig) = cluster(kube)?;
    let run = |line: &str, input: &str| as_administrator(&kubeconfig, line, input);
    let add = "add role --rolearn arn:aws:iam::123456789012:role/Dev --username dev:{{SessionName}} --groups devs,system:x";

    // There is no aws-auth, and it is not made unless somebody says so.
    let outcome = run(add, "n\n");
    equal((outcome.code, outcome.stderr.as_str()), (0, ""))?;
    let question = "mapRoles of kube-system/aws-auth (which does not exist yet):\n\
        + - rolearn: arn:aws:iam::123456789012:role/Dev\n+   username: \"dev:{{SessionName}}\"\n+   groups:\n+   - devs\n+   - system:x\n\n\
        Ready to add \"add rolearn arn:aws:iam::123456789012:role/Dev, username dev:{{SessionName}}, groups [devs system:x]\", should we continue? [y/N]: ";
    equal(
        outcome.stdout,
        format!(
            "{question}cancelled \"add rolearn arn:aws:iam::123456789012:role/Dev, username dev:{{{{SessionName}}}}, groups [devs system:x]\"\n"
        ),
    )?;
    equal(run(add, "").stderr.as_str(), "error reading input: EOF\n")?;
    let outcome = run(add, "y\n");
    equal((outcome.code, outcome.stdout.starts_with(question)), (0, true))?;
    equal(outcome.stdout.contains("updated configmap:\n\napiVersion: v1\nkind: ConfigMap\n"), true)?;
    let dev = "- rolearn: arn:aws:iam::123456789012:role/Dev\n  username: \"dev:{{SessionName}}\"\n  groups:\n  - devs\n  - system:x\n";
    equal(server.as_admin(&DATA, "")?.as_str(), dev)?;
    let outcome = run(add, "y\n");
    equal((outcome.code, outcome.stderr.as_str()), (1, "cannot add duplicate role ARN \"arn:aws:iam::123456789012:role/Dev\"\n"))?;

    // What others wrote stays as it is, and so does all that is not ours.
    let theirs = "# nodes\n- {rolearn: 'arn:aws:iam::123456789012:role/Node', extra: 1}   # keep\n\n";
    let mut config_map = aws_auth(&["Bob"]);
    config_map["metadata"]["labels"] = json!({"theirs": "yes"});
    config_map["data"]["mapRoles"] = theirs.into();
    config_map["data"]["unknown"] = "x".into();
    apply(&server, &config_map)?;
    let sso = "role --prompt=false --sso permissionSetName=Admin,accountID=012345678901";
    equal(run(&format!("add {sso} --username admin --groups system:masters"), "").code, 0)?;
    let added = "- sso:\n    permissionSetName: Admin\n    accountID: \"012345678901\"\n  username: admin\n  groups:\n  - system:masters\n";
    equal(server.as_admin(&DATA, "")?, format!("{}{added}\n", theirs.strip_suffix('\n').unwrap_or_default()))?;
    equal(run(&format!("remove {sso}"), "").code, 0)?;
    equal(server.as_admin(&DATA, "")?.as_str(), theirs)?;
    let outcome = run(&format!("remove {sso}"), "");
    equal((outcome.code, outcome.stderr.as_str()), (1, "there is no entry for SSO permission set \"Admin\" of account 012345678901\n"))?;
    let outcome = run("remove user --userarn arn:aws:iam::123456789012:user/bob", "yes\n");
    equal((outcome.code, outcome.stdout.contains("- - userarn: arn:aws:iam::123456789012:user/Bob\n")), (0, true))?;
    let left: Value = serde_json::from_str(&server.as_admin(&["get", "configmap", "-n", "kube-system", "aws-auth", "-o", "json"], "")?)?;
    equal(
        (&left["data"], &left["metadata"]["labels"]),
        (&json!({"mapRoles": theirs, "mapUsers": "", "unknown": "x"}), &json!({"theirs": "yes"})),
    )?;

    // What cannot be read is not touched.
    config_map["data"]["mapRoles"] = "- rolearn: [".into();
    apply(&server, &config_map)?;
    let outcome = run(add, "y\n");
    equal((outcome.code, outcome.stderr.contains("mapRoles cannot be read: mend it before you change it")), (1, true))?;
    equal(server.as_admin(&DATA, "")?.as_str(), "- rolearn: [")?;

    // Other ways to a cluster.
    let user = "add user --prompt=false --userarn arn:aws:iam::123456789012:user/Zoe --username zoe --groups g";
    let by_variable = arngate().variable("KUBECONFIG", &kubeconfig).arguments(user).run();
    equal(by_variable.code, 0)?;
    let again = "add user --prompt=false --userarn arn:aws:iam::123456789012:user/Yan --username yan --groups g";
    equal(run(&format!("{again} --kubeconfig-context other"), "").stderr.contains("it has no context other"), true)?;
    equal(run(&format!("{again} --master-url https://127.0.0.1:1"), "").stderr.contains("the API server cannot be reached"), true)?;
    equal(run(&format!("{again} --kubeconfig-context test"), "").code, 0)
}

fn conflicts(kube: &Binaries) -> Result<(), Failed> {
    let (server, _webhook, kubeconfig) = cluster(kube)?;
    // Four at once, of whom each meets the others; there is not even a ConfigMap.
    let codes: Vec<_> = std::thread::scope(|scope| {
        let kubeconfig = &kubeconfig;
        let adding = (0..4).map(|index| {
            let line = format!("add role --prompt=false --rolearn arn:aws:iam::123456789012:role/R{index} --username u --groups g");
            scope.spawn(move || as_administrator(kubeconfig, &line, ""))
        });
        let adding: Vec<_> = adding.collect();
        adding.into_iter().map(|added| added.join().unwrap()).collect()
    });
    equal(codes.iter().map(|outcome| (outcome.code, outcome.stderr.as_str())).collect::<Vec<_>>(), vec![(0, ""); 4])?;
    let text = server.as_admin(&DATA, "")?;
    let mut roles: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("- rolearn: arn:aws:iam::123456789012:role/")).collect();
    roles.sort_unstable();
    equal(roles, vec!["R0", "R1", "R2", "R3"])
}

/// Prints what a webhook takes that follows a cluster, beside one that follows none.
fn what_it_takes(kube: &Binaries) -> Result<(), Failed> {
    const MAPPINGS: usize = 500;
    let bob = iam_user("Bob")?;
    let aws = Aws::knowing([bob.clone()])?;
    let (modes, mapped) = ("EKSConfigMap, CRD", in_file("Bob"));
    let without = Webhook::start(&aws, "MountedFile", &mapped)?;
    let server = ApiServer::start(kube, Asking { kubeconfig: &without.server.kubeconfig(), version: "v1", cache_ttl: None })?;
    let with = Webhook::start(&aws, modes, "")?;
    with.install(&server)?;
    let show = |what: &str| -> Result<(), Failed> {
        let [without, with] = [without.server.memory_kib()?, with.server.memory_kib()?];
        println!("{what}: anonymous, resident, most resident in KiB: {without:?} without, {with:?} with {modes}");
        Ok(())
    };
    until(PATIENCE, &NOT_MAPPED.to_owned(), || with.answer(&bob))?;
    equal(without.answer(&bob)?.as_str(), "file:Bob")?;
    show("nobody is mapped")?;
    let names: Vec<_> = (0..MAPPINGS).map(|index| format!("user-{index}")).chain(["Bob".to_owned()]).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    apply(&server, &aws_auth(&names))?;
    until(PATIENCE, &"aws-auth:Bob".to_owned(), || with.answer(&bob))?;
    show(&format!("{MAPPINGS} users in aws-auth"))?;
    let objects: Vec<_> = names.iter().map(|name| custom_resource(name)).collect();
    server.as_admin(&["create", "-f", "-"], &json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string())?;
    let written = ["get", "iamidentitymapping", "user-499", "-o", "jsonpath={.status.canonicalARN}"];
    until(PATIENCE * 4, &true, || Ok(!server.as_admin(&written, "")?.is_empty()))?;
    show(&format!("and {MAPPINGS} objects, their statuses written"))?;
    let entry =
        |index: &usize| format!("- userarn: arn:aws:iam::123456789012:user/{index}-{:x<64}\n  username: u{index}\n  groups: [devs]\n", "");
    let mut large = aws_auth(&[]);
    large["data"]["mapUsers"] = (0..6_500).map(|index| entry(&index)).collect::<String>().into();
    println!("{} bytes in aws-auth", large["data"]["mapUsers"].as_str().map_or(0, str::len));
    server.as_admin(&["replace", "-f", "-"], &large.to_string())?;
    until(PATIENCE, &"crd:Bob".to_owned(), || with.answer(&bob))?;
    show("as much in aws-auth as it takes")
}

/// The lists of kOps and EKS Anywhere, but for the folders, which only a container has.
fn installers(kube: &Binaries) -> Result<(), Failed> {
    let bob = iam_user("Bob")?;
    let aws = Aws::knowing([bob.clone()])?;
    let port = HeldPort::new()?;
    let first = Webhook::start(&aws, "EKSConfigMap", "")?;
    let server = ApiServer::start(kube, Asking { kubeconfig: &first.server.kubeconfig(), version: "v1", cache_ttl: Some("0s") })?;
    first.install(&server)?;
    apply(&server, &aws_auth(&["Bob"]))?;
    let called = first.folder.path().join("aws-iam-authenticator");
    symlink(env!("CARGO_BIN_EXE_arngate"), &called)?;
    let kubeconfig = first.folder.path().join("kubeconfig");
    // The port is the only setting that is not theirs: here are other servers beside this one.
    let common = format!(
        "  port: {}\n  reusePort: true\n  admin: {{address: '127.0.0.1:0'}}\n  kubeconfig: {}\n{}",
        port.port(),
        kubeconfig.display(),
        aws.settings()
    );
    let kops = format!("server:\n{common}");
    let eks_anywhere = format!("clusterID: {CLUSTER_ID}\nserver:\n{common}");
    let cluster_id = format!("--cluster-id={CLUSTER_ID}");
    let lists: [(&str, Vec<&str>); 2] = [
        (&kops, vec![&cluster_id, "--kubeconfig-pregenerated=true", "--backend-mode=MountedFile,EKSConfigMap"]),
        (&eks_anywhere, vec!["--kubeconfig-pregenerated=true", "--backend-mode=EKSConfigMap", "--partition=aws"]),
    ];
    for (config, arguments) in lists {
        let folder = Arc::new(tempfile::tempdir()?);
        // Certificate, key and kubeconfig are made before.
        let init = arngate().arguments("init -i").argument(CLUSTER_ID).folder(folder.path()).run();
        equal(init.code, 0)?;
        let webhook = Webhook { server: Server::start_as(&called, Arc::clone(&folder), config, &arguments), folder: tempfile::tempdir()? };
        until(PATIENCE, &"aws-auth:Bob".to_owned(), || webhook.answer(&bob))?;
        equal(webhook.server.request("GET", "/healthz", ""), (200, "ok".to_owned()))?;
        equal(webhook.server.stop(), Some(0))?;
    }
    Ok(())
}

/// kubectl with another client's tokens.
fn other_client(kube: &Binaries, program: &Path, arguments: &[&str]) -> Result<(), Failed> {
    let bob = iam_user("Bob")?;
    let aws = Aws::knowing([bob.clone()])?;
    let webhook = Webhook::start(&aws, "EKSConfigMap", "")?;
    let server = ApiServer::start(kube, Asking { kubeconfig: &webhook.server.kubeconfig(), version: "v1", cache_ttl: Some("0s") })?;
    webhook.install(&server)?;
    apply(&server, &aws_auth(&["Bob"]))?;
    until(PATIENCE, &"aws-auth:Bob".to_owned(), || webhook.answer(&bob))?;
    let mut variables = variables(&bob);
    variables.push(("AWS_STS_REGIONAL_ENDPOINTS", "regional"));
    variables.push(("AWS_DEFAULT_REGION", REGION));
    let exec =
        Exec { api_version: "client.authentication.k8s.io/v1beta1", command: &program.to_string_lossy(), arguments, variables: &variables };
    let outcome = server.kubectl(&exec, &WHO_AM_I)?;
    equal(who_it_says(&server, &outcome)?, user("aws-auth", "Bob", &["devs"]))
}
