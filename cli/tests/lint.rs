//! `lint`, as it is printed, and its exit code.

mod support;

use support::{Outcome, arngate};

const AWS_AUTH: &str = "apiVersion: v1
data:
  mapAccounts: |
    - 012345678901
  mapRoles: |
    - rolearn: arn:aws:iam::111122223333:role/eks/Node
      username: system:node:{{EC2PrivateDNSName}}
      groups:
      - system:bootstrappers
      - system:nodes
    - rolearn: arn:aws:iam::111122223333:role/Ops
      username: ops:{{SessionName}}
    - rolearn: arn:aws:iam::111122223333:role/Ops
      username: '{{SessionNme}}'
    - rolearn: arn:aws:iam::111122223333:role/*
      username: anybody
  mapUsers: |
    - user_arn: arn:aws:iam::111122223333:user/Typo
      username: typo
    - userarn: arn:aws:iam::111122223333:user/Root
      username: system:admin
      groups: ['{{SessionName}}']
kind: ConfigMap
metadata:
  name: aws-auth
  namespace: kube-system
";

fn lint(arguments: &str, input: &str) -> Outcome {
    arngate().arguments("lint").arguments(arguments).input(input).run()
}

fn shown(outcome: &Outcome) -> String {
    format!("exit {}\n{}{}", outcome.code, outcome.stdout, outcome.stderr)
}

#[test]
fn tells_what_is_wrong_with_an_export_of_aws_auth() {
    insta::assert_snapshot!("aws_auth", shown(&lint("-", AWS_AUTH)));
    insta::assert_snapshot!(
        "aws_auth_json",
        shown(&lint("- -o json", "kind: ConfigMap\nmetadata: {name: aws-auth}\ndata:\n  mapRoles: |\n    - role\n"))
    );
}

#[test]
fn each_finding_of_a_list_or_of_json_is_in_its_line() {
    let list = format!("apiVersion: v1\nkind: List\nitems:\n- {}", AWS_AUTH.trim_end().replace('\n', "\n  "));
    let lines = |outcome: &Outcome| -> Vec<usize> {
        let line = |line: &str| line.strip_prefix("<stdin>:")?.split_once(':')?.0.parse().ok();
        outcome.stdout.lines().filter_map(line).collect()
    };
    let alone = lines(&lint("-", AWS_AUTH));
    assert!(alone.len() > 6, "{alone:?}");
    assert_eq!(lines(&lint("-", &list)), alone.iter().map(|line| line + 3).collect::<Vec<_>>());
    for line in alone {
        let text = AWS_AUTH.lines().nth(line - 1).unwrap();
        assert!(text.starts_with("    "), "line {line} is within a text: {text}");
    }
    let json = r#"{"kind": "ConfigMap", "metadata": {"name": "aws-auth"},
 "data": {"mapRoles": "- rolearn: arn:aws:iam::111122223333:role/A\n  usernam: a\n"}}"#;
    let told = lint("-", json).stdout;
    assert!(
        told.starts_with("<stdin>:2: warning: mapRoles[0] (line 2 of the text): unknown key \"usernam\"; did you mean username?\n"),
        "{told}"
    );
}

#[test]
fn tells_what_is_wrong_with_a_configuration_file_and_with_custom_resources() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.yaml");
    std::fs::write(
        &config,
        "
clusterID: prod
server:
  arnPatterns: true
  port: x
  stS: {caFile: /nonexistent/ca.pem}
  reservedPrefixConfig:
  - {backendmode: MountedFile, usernamePrefixReserveList: ['no:']}
  mapRoles:
  - {rolearn: 'arn:aws:iam::111122223333:role/A*', username: 'no:body'}
  - {rolearn: 'arn:aws:iam::111122223333:role/AB*', username: b}
  mapAccounts: [111122223333]
",
    )
    .unwrap();
    let outcome = arngate().arguments("lint").argument(&config).run();
    let hide = |text: String| text.replace(&folder.path().display().to_string(), "FOLDER");
    insta::assert_snapshot!("config_with_errors", hide(shown(&outcome)));
    let good = std::fs::read_to_string(&config).unwrap().replace("  port: x\n  stS: {caFile: /nonexistent/ca.pem}\n", "");
    std::fs::write(&config, good).unwrap();
    insta::assert_snapshot!("config", hide(shown(&arngate().arguments("lint --config").argument(&config).run())));

    let objects = "kind: List
items:
- kind: IAMIdentityMapping
  metadata: {name: bad}
  spec: {arn: 'arn:aws:iam::1:role/A', username: a}
- kind: IAMIdentityMapping
  metadata: {name: user}
  spec:
    arn: arn:aws:iam::111122223333:user/A
    username: '{{SessionName}}'
";
    insta::assert_snapshot!("objects", shown(&lint("-", objects)));
    // Judged by the settings of a server.
    let star = "kind: ConfigMap\nmetadata: {name: aws-auth}\ndata:\n  mapRoles: |\n    - {rolearn: 'arn:aws:iam::111122223333:role/*', username: a}\n";
    assert_eq!(lint("-", star).code, 1);
    let outcome = arngate().arguments("lint - --config").argument(&config).input(star).run();
    assert_eq!((outcome.code, outcome.stdout.as_str()), (0, "nothing found\n"), "{}", outcome.stderr);
    assert_eq!(lint("- --arn-patterns", star).code, 0);
}

#[test]
fn the_exit_code_is_for_pipelines() {
    let clean = "kind: ConfigMap\nmetadata: {name: aws-auth}\ndata:\n  mapUsers: |\n    - {userarn: 'arn:aws:iam::111122223333:user/A', username: a}\n";
    let note = clean.replace("mapUsers", "mapRoles").replace("userarn", "rolearn").replace("user/A", "role/path/A");
    let warning = clean.replace("username: a", "username: a, role: b");
    let error = clean.replace("user/A", "group/A");
    for (input, codes) in [(clean, [0, 0, 0]), (&note, [1, 0, 0]), (&warning, [1, 1, 0]), (&error, [1, 1, 1])] {
        for (fail_on, code) in ["note", "warning", "error"].into_iter().zip(codes) {
            let outcome = lint(&format!("- --fail-on {fail_on}"), input);
            assert_eq!(outcome.code, code, "{fail_on}: {}{}", outcome.stdout, outcome.stderr);
        }
    }
    assert_eq!(lint("-", clean).stdout, "nothing found\n");
    assert_eq!(lint("-", "kind: Pod").code, 1);
    assert_eq!(lint("-", "a: [").code, 1);
    for (arguments, input) in [("/nonexistent/file", ""), ("-", "clusterID: x"), ("- --partition moon", clean), ("", "")] {
        let outcome = lint(arguments, input);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (2, ""), "{arguments}");
        assert!(outcome.stderr.starts_with("could not lint: "), "{}", outcome.stderr);
    }
}

#[test]
fn what_is_in_a_document_reaches_no_terminal_as_it_is() {
    let evil = "kind: ConfigMap\nmetadata: {name: aws-auth}\ndata:\n  mapRoles: |\n    - {\"\\e[2J\\u202e\": x, rolearn: 'arn:aws:iam::111122223333:role/A', username: \"{{\\e]0;x}}\"}\n";
    for format in ["text", "json"] {
        let outcome = lint(&format!("- -o {format}"), evil);
        assert_eq!(outcome.code, 1, "{}", outcome.stderr);
        assert!(!outcome.stdout.contains(['\u{1b}', '\u{202e}']), "{}", outcome.stdout);
    }
}
