//! The server as it is started and stopped, and what it says when it will not start.

mod support;

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use arngate_loadtest::clock::Clock;
use arngate_loadtest::credential::Credential;
use arngate_loadtest::sts::{Config, FakeSts};
use support::server::{MAPPINGS, Server, refused, with_sts};
use support::{arngate, with_keys};

fn refusal(config: &str, arguments: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let (code, said) = refused(folder.path(), config, arguments);
    assert_eq!(code, Some(1), "{said}");
    said
}

#[test]
fn serves_until_it_is_told_to_stop() {
    let server = Server::start(MAPPINGS);
    assert_eq!(server.request("GET", "/healthz", ""), (200, "ok".into()));
    let (status, body) = server.review("nonsense");
    assert_eq!(status, 200);
    assert!(body.contains(r#""error":"the token does not begin with k8s-aws-v1.""#), "{body}");
    let mode = |name: &str| fs::metadata(server.folder.path().join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("key.pem"), 0o600);
    assert!(server.log().contains("health checks and metrics are at http://127.0.0.1:"), "{}", server.log());
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn a_token_of_ours_logs_in_through_sts_and_through_a_bundle_of_ours() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let alice = Credential::example_user();
    let config = Config::new(Clock::system()).with_credentials([alice.clone()]);
    let sts = runtime.block_on(FakeSts::start(config)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    fs::write(&ca, sts.ca_pem()).unwrap();
    let call = || {
        arngate()
            .variable("AWS_ACCESS_KEY_ID", alice.access_key_id())
            .variable("AWS_SECRET_ACCESS_KEY", alice.secret())
            .variable("AWS_REGION", "eu-west-1")
    };
    let token = || call().arguments("token -i prod.example.com --token-only").run().stdout.trim_end().to_owned();

    let by_sts = Server::start(&with_sts("sts.eu-west-1.amazonaws.com", sts.addr(), &ca));
    let (status, body) = by_sts.review(&token());
    assert!(status == 200 && body.contains(r#""username":"alice""#), "{body}\n{}", by_sts.log());
    assert_eq!(sts.calls(), 1);

    let bundle = folder.path().join("keys.yaml");
    let line = "keys derive --arn arn:aws:iam::123456789012:user/Alice --user-id AIDACKCEVSQ6C2EXAMPLE --region eu-west-1 -o";
    let derived = call().arguments(line).argument(&bundle).run();
    assert_eq!(derived.code, 0, "{}", derived.stderr);
    let by_bundle = Server::start(&format!("{MAPPINGS}  provers: [offline]\n  offline: {{bundle: {}}}\n", bundle.display()));
    let (status, body) = by_bundle.review(&token());
    assert!(status == 200 && body.contains(r#""username":"alice""#), "{body}\n{}", by_bundle.log());
    assert_eq!(sts.calls(), 1, "nobody was asked");
}

#[test]
fn descriptors_that_are_used_up_are_waited_for() {
    let server = Server::start_with_descriptors(MAPPINGS, 48);
    let crowd: Vec<_> = (0..48).map(|_| TcpStream::connect(server.address()).unwrap()).collect();
    server.until_it_says("could not accept a connection");
    drop(crowd);
    assert_eq!(server.request("GET", "/healthz", ""), (200, "ok".into()));
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn all_that_is_wrong_in_the_configuration_is_said_at_once() {
    insta::assert_snapshot!(refusal(
        "
server:
  port: 70000
  partition: aws-mars
  backendMode: [MountedFile, Nonsense]
  mapRoles:
  - rolearn: arn:aws:iam::12345:role/Admin
    username: admin
  - username: nobody
  mapUsers:
  - {userarn: 'arn:aws:iam::123456789012:group/x', username: x}
  sts: {deadline: 5, endpoints: {evil.example.com: 'https://127.0.0.1:1'}}
",
        &[]
    ));
}

#[test]
fn a_cluster_that_is_nowhere_to_be_found_is_told_and_ends_nothing() {
    for mode in ["CRD", "EKSConfigMap"] {
        let server = Server::start(&format!("clusterID: a\nserver: {{backendMode: [{mode}]}}\n"));
        server.until_it_says("there is neither a kubeconfig nor what a pod is given to reach its API server");
        assert_eq!(server.request("GET", "/healthz", ""), (200, "ok".into()));
    }
    let said = refusal("clusterID: a\nserver: {backendMode: [DynamicFile]}\n", &[]);
    assert!(said.contains("server.backendMode[0]: the backend mode DynamicFile needs server.dynamicfilepath"), "{said}");
}

#[test]
fn a_file_that_is_missing_or_no_yaml_is_named() {
    let folder = tempfile::tempdir().unwrap();
    for (content, said) in [("a: [", "config.yaml:"), ("\u{0}", "config.yaml"), ("a: 1\nA: 2\nclusterID: x", "config.yaml:2")] {
        let (code, text) = refused(folder.path(), content, &[]);
        assert_eq!(code, Some(1));
        assert!(text.contains(said), "{text}");
    }
    let (_, text) = refused(folder.path(), MAPPINGS, &["--config", "/nonexistent/config.yaml"]);
    assert!(text.contains("/nonexistent/config.yaml"), "{text}");
}

#[test]
fn a_port_in_use_is_one_clear_line() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let said = refusal(MAPPINGS, &[&format!("--port={port}")]);
    assert!(said.ends_with(&format!("level=fatal msg=\"could not listen on 127.0.0.1:{port}: another process listens there\"")), "{said}");
}

#[test]
fn a_key_that_does_not_parse_names_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_in(tempfile::tempdir().unwrap(), MAPPINGS);
    fs::copy(server.folder.path().join("cert.pem"), folder.path().join("cert.pem")).unwrap();
    fs::write(folder.path().join("key.pem"), "no key").unwrap();
    let (code, said) = refused(folder.path(), MAPPINGS, &[]);
    assert_eq!(code, Some(1));
    assert!(said.contains("FOLDER/key.pem"), "{said}");
}

fn bundle_refusal(bundle: &str, mode: u32) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.yaml");
    fs::write(&path, bundle).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    let (code, said) = refused(folder.path(), MAPPINGS, &["--offline-bundle", path_text(&path)]);
    assert_eq!(code, Some(1), "{said}");
    said
}

fn path_text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_bundle_that_must_not_be_used_is_refused_with_the_reason() {
    let derive = "keys derive --arn arn:aws:iam::123456789012:user/edge --user-id AIDAEXAMPLE --region eu-west-1";
    let good = with_keys().arguments(derive).run().stdout;
    let readable = bundle_refusal(&good, 0o644);
    assert!(readable.contains("FOLDER/keys.yaml") && readable.contains("others"), "{readable}");
    let temporary = bundle_refusal(&good.replace("AKIA", "ASIA"), 0o600);
    assert!(temporary.contains("keys.yaml:") && temporary.contains("ASIA"), "{temporary}");
    let role = bundle_refusal(&good.replace(":user/edge", ":role/edge"), 0o600);
    assert!(role.contains("keys.yaml:") && role.contains("role"), "{role}");
    for said in [readable, temporary, role] {
        assert_eq!(said.matches("level=fatal").count(), 1, "{said}");
        assert!(!said.contains("key: "), "{said}");
    }
}

#[test]
fn dev_heeds_no_address_file_or_folder() {
    for arguments in ["--address 0.0.0.0", "--config x.yaml", "--state-dir /tmp"] {
        let outcome = arngate().arguments("server --dev --port=0").arguments(arguments).run();
        assert_eq!(outcome.code, 1, "{arguments}");
        assert!(outcome.stderr.contains("does not go with --dev"), "{}", outcome.stderr);
        assert_eq!(outcome.stdout, "");
    }
}

#[test]
fn dev_says_that_it_does_not_heed_other_settings() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let warned = |more: &str| {
        let outcome = arngate().arguments("server --dev -i prod -l text --port").argument(&port).arguments(more).run();
        assert!(outcome.stderr.contains("another process listens there"), "{}", outcome.stderr);
        outcome.stderr.contains("level=warning msg=\"--dev heeds --port, --cluster-id and the log's flags alone")
    };
    assert!(!warned(""));
    for more in
        ["--partition aws-cn", "--backend-mode CRD", "--deny-status=403", "--kubeconfig-pregenerated", "--feature-gates AllBeta=true"]
    {
        assert!(warned(more), "{more}");
    }
}
