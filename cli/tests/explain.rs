//! `explain`, as it is printed.

mod support;

use std::path::Path;

use support::arngate;

const CONFIG: &str = "
server:
  backendMode: [EKSConfigMap, MountedFile]
  arnPatterns: true
  reservedPrefixConfig:
  - {backendmode: EKSConfigMap, usernamePrefixReserveList: ['system:']}
  mapRoles:
  - rolearn: arn:aws:iam::123456789012:role/path/Admin
    username: admin:{{SessionName}}
    groups: [system:masters, '{{AccountID}}']
  - {rolearn: 'arn:aws:iam::123456789012:role/A*', username: star}
  - {sso: {permissionSetName: Admin, accountID: 123456789012}, username: sso}
  mapUsers:
  - {userarn: arn:aws:iam::123456789012:user/Alice, username: alice}
  mapAccounts: ['210987654321']
";

const AWS_AUTH: &str = "apiVersion: v1
data:
  mapRoles: |
    - rolearn: arn:aws:iam::123456789012:role/Node
      username: system:node:{{EC2PrivateDNSName}}
      groups: [system:nodes]
    - rolearn: arn:aws:iam::123456789012:role/Ops
      username: system:{{SessionNameRaw}}
    - rolearn: broken
kind: ConfigMap
metadata:
  name: aws-auth
  namespace: kube-system
";

fn explain(arguments: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (config, aws_auth) = (file("config.yaml", CONFIG), file("aws-auth.yaml", AWS_AUTH));
    let outcome = arngate().arguments(arguments).argument("--config").argument(config).argument("--aws-auth").argument(&aws_auth).run();
    let hide = |text: String, folder: &Path| text.replace(&folder.display().to_string(), "FOLDER");
    format!("exit {}\n{}{}", outcome.code, hide(outcome.stdout, folder.path()), hide(outcome.stderr, folder.path()))
}

#[test]
fn tells_each_rule_and_why() {
    insta::assert_snapshot!(
        "a_role_by_a_path",
        explain("explain --arn arn:aws:iam::123456789012:role/Admin --session-name jane@example.com")
    );
    insta::assert_snapshot!("a_session_by_a_pattern", explain("explain --arn arn:aws:sts::123456789012:assumed-role/Auditor/jane"));
    insta::assert_snapshot!("an_account", explain("explain --arn arn:aws:iam::210987654321:user/Bob"));
    insta::assert_snapshot!("nobody", explain("explain --arn arn:aws:iam::123456789012:user/Mallory"));
}

#[test]
fn tells_which_prefix_or_template_refuses() {
    insta::assert_snapshot!("a_reserved_name", explain("explain --arn arn:aws:sts::123456789012:assumed-role/Ops/jane"));
    insta::assert_snapshot!("no_instance", explain("explain --arn arn:aws:sts::123456789012:assumed-role/Node/jane"));
    insta::assert_snapshot!("an_instance", explain("explain --arn arn:aws:sts::123456789012:assumed-role/Node/i-0123456789abcdef0"));
}

#[test]
fn is_there_for_programs() {
    insta::assert_snapshot!("json", explain("explain -o json --arn arn:aws:iam::123456789012:role/Admin --session-name jane"));
}

#[test]
fn an_export_alone_will_do_and_what_ec2_would_say_can_be_said() {
    let line = "explain --aws-auth - --ec2-private-dns-name ip-10-0-0-1.ec2.internal --arn arn:aws:sts::123456789012:assumed-role/Node/i-0123456789abcdef0";
    let outcome = arngate().arguments(line).input(AWS_AUTH).run();
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    assert!(outcome.stdout.contains("user       system:node:ip-10-0-0-1.ec2.internal\ngroups     system:nodes\n"), "{}", outcome.stdout);
    let list = format!("apiVersion: v1\nkind: List\nitems:\n- {}", AWS_AUTH.trim_end().replace('\n', "\n  "));
    let of_list = arngate().arguments(line).input(list).run();
    assert_eq!(of_list.stdout.replace("line 7     ", "line 4     ").replace("line 10    ", "line 7     "), outcome.stdout);
}

#[test]
fn a_dynamic_file_is_read_by_the_server_s_own_follower() {
    let folder = tempfile::tempdir().unwrap();
    let (file, config) = (folder.path().join("dynamic.json"), folder.path().join("config.yaml"));
    let mapping = r#"{"rolearn": "arn:aws:iam::123456789012:role/Admin", "userid": "AROAADMIN", "username": "admin"}"#;
    std::fs::write(&file, format!(r#"{{"LastUpdatedDateTime": "1", "Version": "1", "mapRoles": [{mapping}]}}"#)).unwrap();
    let settings = format!("server:\n  backendMode: DynamicFile\n  dynamicfilepath: {}\n  dynamicfileUserIDStrict: true\n", file.display());
    std::fs::write(&config, settings).unwrap();
    let explain = |line: &str| {
        arngate()
            .arguments("explain --arn arn:aws:iam::123456789012:role/Admin")
            .arguments(line)
            .argument("--config")
            .argument(&config)
            .run()
    };
    let found = explain("--live --user-id AROAADMIN").stdout;
    assert!(
        found.contains("id AROAADMIN of arn:aws:iam::123456789012:role/Admin: decides: \"admin\"")
            && found.contains("let in by DynamicFile"),
        "{found}"
    );
    let another = explain("--live --user-id AROAOTHER").stdout;
    assert!(another.contains("another unique id: AROAADMIN") && another.contains("denied: no rule is for it"), "{another}");
    let not_live = explain("").stdout;
    assert!(not_live.contains("1. DynamicFile (nowhere): not loaded") && not_live.contains("not known (503)"), "{not_live}");
}

#[test]
fn what_cannot_be_explained_is_one_clear_line() {
    let said = |arguments: &str, input: &str| {
        let outcome = arngate().arguments(arguments).input(input).run();
        assert_eq!((outcome.code, outcome.stdout.as_str()), (1, ""));
        outcome.stderr
    };
    for (arguments, input, expected) in [
        ("explain", "", "could not explain: --arn is missing: whose mapping is to be explained?\n"),
        (
            "explain --arn x --aws-auth -",
            AWS_AUTH,
            "could not explain: --arn: not an ARN: expected arn:partition:service::account:resource\n",
        ),
        (
            "explain --arn arn:aws:iam::123456789012:user/A",
            "",
            "could not explain: no mappings: expected --config, --aws-auth, --crd or --live\n",
        ),
        (
            "explain --arn arn:aws:iam::123456789012:user/A --session-name x --aws-auth -",
            AWS_AUTH,
            "could not explain: --session-name is for roles: nobody else has a session\n",
        ),
        (
            "explain --arn arn:aws:iam::123456789012:user/A --aws-auth -",
            "kind: Pod",
            "could not explain: <stdin>: expected one ConfigMap aws-auth, found 0\n",
        ),
        ("explain --arn arn:aws:iam::123456789012:user/A --aws-auth -", "a: [", "could not explain: <stdin>:1: "),
    ] {
        let told = said(arguments, input);
        assert!(told.starts_with(expected), "{told}");
    }
    let escaped = said("explain --arn arn:aws:sts::123456789012:assumed-role/A/b --session-name \u{1b}[2J --aws-auth -", AWS_AUTH);
    assert!(!escaped.contains('\u{1b}') && escaped.contains(r"\u{1b}[2J"), "{escaped}");
}
