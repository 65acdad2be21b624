//! The server as it is started and stopped, and what it says when it will not start.

mod support;

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;

use support::arngate;
use support::server::{MAPPINGS, Server, refused};

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
#[cfg(feature = "kubernetes")]
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
