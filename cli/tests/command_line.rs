//! The binary as people and kubectl call it: output, exit codes, and what it must not print.

mod support;

use arngate_core::{ClusterId, Partition, Policy, UnixSeconds, sigv4};
use arngate_core::{PresignedUrl, StsHosts, StsRequest, Token, TokenBuffer};

use self::support::{ACCESS_KEY_ID, Outcome, SECRET, arngate, with_keys};

#[test]
fn token_is_one_line_of_exec_credential() {
    let outcome = with_keys().arguments("token -i prod").variable("AWS_REGION", "eu-west-1").run();
    assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""));
    assert_eq!(outcome.stdout.matches('\n').count(), 1);
    let credential: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(credential["apiVersion"], "client.authentication.k8s.io/v1beta1");
    assert_eq!(credential["spec"]["interactive"], false);
    assert!(credential["status"]["token"].as_str().unwrap().starts_with("k8s-aws-v1."));
}

#[test]
fn a_token_is_signed_with_the_keys_for_cluster_and_region() {
    for (region, partition, host) in [
        ("eu-west-1", Partition::Aws, "sts.eu-west-1.amazonaws.com"),
        ("cn-north-1", Partition::AwsCn, "sts.cn-north-1.amazonaws.com.cn"),
        ("us-gov-west-1", Partition::AwsUsGov, "sts.us-gov-west-1.amazonaws.com"),
    ] {
        let outcome = with_keys().arguments("token -i prod --token-only --region").argument(region).run();
        let token = outcome.stdout.trim_end();
        let mut buffer = TokenBuffer::new();
        let token = Token::decode(token.as_bytes(), &mut buffer).unwrap();
        let url = PresignedUrl::parse(token, &StsHosts::new(partition)).unwrap();
        assert_eq!(url.host().to_string(), host);
        assert_eq!((url.access_key_id().as_str(), url.expires_secs(), url.has_session_token()), (ACCESS_KEY_ID, 60, false));
        let day = url.signed_at();
        let request = StsRequest::check(url, &Policy::new(ClusterId::parse("prod").unwrap()), day.unix()).unwrap();
        let key = sigv4::SigningKey::derive(SECRET.as_bytes(), day.day(), region);
        assert_eq!(sigv4::verify(&request, &key), Ok(()));
    }
}

#[test]
fn kubectl_gets_the_version_that_it_asks_for() {
    for version in ["v1", "v1beta1", "v1alpha1"] {
        let info =
            format!(r#"{{"apiVersion":"client.authentication.k8s.io/{version}","kind":"ExecCredential","spec":{{"interactive":true}}}}"#);
        let outcome = with_keys().arguments("token -i prod").variable("KUBERNETES_EXEC_INFO", &info).run();
        assert!(outcome.stdout.contains(&format!("client.authentication.k8s.io/{version}\"")), "{}", outcome.stdout);
    }
}

#[test]
fn values_come_from_the_environment_where_no_flag_is_given() {
    let outcome = with_keys()
        .arguments("token")
        .variable("KUBERNETES_AWS_AUTHENTICATOR_CLUSTER_ID", "prod")
        .variable("AWS_DEFAULT_REGION", "eu-west-2")
        .variable("AWS_STS_REGIONAL_ENDPOINTS", "legacy")
        .run();
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    assert_eq!(outcome.token_url().split('/').nth(2), Some("sts.eu-west-2.amazonaws.com"));
}

#[test]
fn without_a_region_it_is_us_east_1_and_no_machine_is_asked() {
    let outcome = with_keys().arguments("token -i prod").variable("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:1").run();
    assert_eq!(outcome.token_url().split('/').nth(2), Some("sts.us-east-1.amazonaws.com"));
}

#[test]
fn errors_of_token_are_the_references() {
    let outcome = with_keys().arguments("token").run();
    assert_eq!((outcome.code, outcome.stdout.as_str()), (1, ""));
    assert!(outcome.stderr.starts_with("Error: cluster ID not specified\nUsage: arngate token [OPTIONS]\n"), "{}", outcome.stderr);

    let outcome = with_keys().arguments("token -i prod --forward-session-name -s name").run();
    assert_eq!(outcome.code, 1);
    assert!(outcome.stderr.starts_with("Error: cannot specify both --forward-session-name and --session-name parameter\nUsage: "));

    let outcome = with_keys().arguments("token -i prod").variable("AWS_PROFILE", "nope").run();
    assert_eq!(outcome.code, 1);
    assert_eq!(outcome.stderr, "could not get token: could not create config: failed to get shared config profile, nope\n");

    let outcome = with_keys().arguments("token -i prod --region EU-WEST-1").run();
    assert_eq!(outcome.code, 1);
    assert!(outcome.stderr.starts_with("could not get token: region \"EU-WEST-1\": "), "{}", outcome.stderr);
}

#[test]
fn no_credentials_anywhere_is_an_error_that_says_where_it_looked() {
    let outcome = arngate().arguments("token -i prod").run();
    assert_eq!((outcome.code, outcome.stdout.as_str()), (1, ""));
    assert!(outcome.stderr.starts_with("could not get token: no credentials found (profile default): "), "{}", outcome.stderr);
}

#[test]
fn cache_is_a_warning_and_the_token_is_made() {
    let outcome = with_keys().arguments("token -i prod --cache --token-only").run();
    assert_eq!(outcome.code, 0);
    assert!(outcome.stdout.starts_with("k8s-aws-v1."));
    assert_eq!(outcome.stderr, "Warning: --cache is not in this version; the token is made without it\n");
}

#[test]
fn a_word_behind_a_boolean_is_ignored_as_in_the_reference_but_said() {
    let outcome = with_keys().arguments("token -i prod --token-only false").run();
    assert_eq!(outcome.code, 0);
    assert!(outcome.stdout.starts_with("k8s-aws-v1."), "{}", outcome.stdout);
    assert!(outcome.stderr.starts_with("Warning: \"false\" belongs to no flag"), "{}", outcome.stderr);
}

#[test]
fn no_output_holds_a_secret() {
    let holds = |outcome: &Outcome, secret: &str| outcome.stdout.contains(secret) || outcome.stderr.contains(secret);
    for line in [
        "token -i prod",
        "token -i prod --token-only",
        "token -i prod -v trace",
        "token",
        "token -i prod --region !",
        "token -i prod --bogus",
        "keys derive --arn arn:aws:iam::123456789012:user/edge --user-id AIDAEXAMPLE --region us-east-1",
        "inspect x",
        "version",
    ] {
        let outcome = with_keys().arguments(line).variable("AWS_SESSION_TOKEN", "made-up+session/token==").run();
        assert!(!holds(&outcome, SECRET), "{line}");
        assert!(!holds(&outcome, "made-up+session"), "{line}");
        let outcome = with_keys().arguments(line).run();
        assert!(!holds(&outcome, SECRET), "{line}");
    }
}

#[test]
fn every_error_is_exit_code_1_and_help_is_none() {
    for line in [
        "bogus",
        "token --bogus",
        "token -i",
        "server --port x",
        "server --dev --port -1",
        "-v loud version",
        "version -o toml",
        "inspect --at yesterday x",
        "completion ksh",
    ] {
        let outcome = arngate().arguments(line).run();
        assert_eq!((outcome.code, outcome.stdout.as_str()), (1, ""), "{line}");
        assert!(!outcome.stderr.is_empty(), "{line}");
    }
    for line in ["", "help", "--help", "token --help", "help token", "server -h"] {
        let outcome = arngate().arguments(line).run();
        assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""), "{line}");
        assert!(outcome.stdout.contains("Usage: arngate"), "{line}");
    }
}

#[test]
fn called_by_the_references_name_it_says_that_name() {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("aws-iam-authenticator");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_arngate"), &link).unwrap();
    let outcome = arngate().program(&link).arguments("token").run();
    assert!(outcome.stderr.contains("Usage: aws-iam-authenticator token [OPTIONS]"), "{}", outcome.stderr);
    let outcome = with_keys().program(&link).arguments("token -i prod --token-only").run();
    assert!(outcome.stdout.starts_with("k8s-aws-v1."));
    let outcome = arngate().program(&link).arguments("completion bash").run();
    assert!(outcome.stdout.trim_end().ends_with("aws-iam-authenticator\nfi"), "the script completes the name that was called");
}

#[test]
fn version_is_what_eksctl_decodes() {
    let outcome = arngate().arguments("version").run();
    assert_eq!((outcome.code, outcome.stdout.matches('\n').count()), (0, 1));
    let version: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(version["Version"], env!("CARGO_PKG_VERSION"));
    assert!(!version["Commit"].as_str().unwrap().is_empty());
    assert!(outcome.stdout.starts_with("{\"Version\":\""), "bare and first");
    assert_eq!(arngate().arguments("version -s").run().stdout, concat!(env!("CARGO_PKG_VERSION"), "\n"));
    assert!(arngate().arguments("version -o yaml").run().stdout.starts_with(concat!("version: ", env!("CARGO_PKG_VERSION"), "\ncommit: ")));
}

#[test]
fn completion_knows_each_shell() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let outcome = arngate().arguments("completion").argument(shell).run();
        assert_eq!(outcome.code, 0);
        assert!(outcome.stdout.contains("kubeconfig-pregenerated"), "{shell}");
    }
}

#[test]
fn keys_derive_prints_a_bundle_and_a_warning() {
    let line = "keys derive --arn arn:aws:iam::123456789012:user/edge --user-id AIDAEXAMPLE --region us-east-1,eu-west-1 --from 2026-11-24";
    let outcome = with_keys().arguments(line).run();
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    assert!(outcome.stderr.starts_with("Warning: whoever reads this bundle IS this IAM user"), "{}", outcome.stderr);
    assert_eq!(outcome.stdout.matches("- {date: ").count(), 4, "two days by default");
    for more in ["--days 15", "--days 0", "--from tomorrow"] {
        assert_eq!(with_keys().arguments(line).arguments(more).run().code, 1, "{more}");
    }
    let outcome = with_keys().arguments(line).variable("AWS_SESSION_TOKEN", "made-up").run();
    assert_eq!(
        outcome.stderr,
        "could not derive keys: these are temporary credentials, which go with a session token that only STS can open\n"
    );
    assert_eq!((outcome.code, outcome.stdout.as_str()), (1, ""));
    let outcome = arngate().arguments(line).run();
    assert!(
        outcome.stderr.starts_with("could not derive keys: there are no static keys in the environment or the profile"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn a_key_of_a_bundle_proves_the_token_of_its_user() {
    use base64::Engine as _;
    let derive = "keys derive --arn arn:aws:iam::123456789012:user/edge --user-id AIDAEXAMPLE --region eu-west-1 --days 1";
    let bundle = with_keys().arguments(derive).run().stdout;
    let key = bundle.rsplit_once("key: \"").and_then(|(_, rest)| rest.split_once('"')).map(|(key, _)| key).unwrap();
    let key = base64::engine::general_purpose::STANDARD.decode(key).unwrap();
    let key = sigv4::SigningKey::from_bytes(key.try_into().unwrap());
    let token = with_keys().arguments("token -i prod --token-only --region eu-west-1").run().stdout;
    let mut buffer = TokenBuffer::new();
    let url =
        PresignedUrl::parse(Token::decode(token.trim_end().as_bytes(), &mut buffer).unwrap(), &StsHosts::new(Partition::Aws)).unwrap();
    let now: UnixSeconds = url.signed_at().unix();
    let request = StsRequest::check(url, &Policy::new(ClusterId::parse("prod").unwrap()), now).unwrap();
    assert_eq!(sigv4::verify(&request, &key), Ok(()));
}

#[test]
fn init_writes_into_the_folder_where_it_is_called_and_says_where_files_go() {
    let folder = tempfile::tempdir().unwrap();
    let outcome = arngate().arguments("init -i prod --hostname webhook.example.com").folder(folder.path()).run();
    assert_eq!((outcome.code, outcome.stdout.as_str()), (0, ""), "{}", outcome.stderr);
    for file in ["cert.pem", "key.pem", "aws-iam-authenticator.kubeconfig"] {
        assert!(folder.path().join(file).is_file(), "{file}");
    }
    for line in [
        "level=info msg=\"copy ./cert.pem to /var/aws-iam-authenticator/cert.pem on kubernetes master node(s)\"",
        "level=info msg=\"copy ./key.pem to /var/aws-iam-authenticator/key.pem on kubernetes master node(s)\"",
        "msg=\"copy aws-iam-authenticator.kubeconfig to /etc/kubernetes/aws-iam-authenticator/kubeconfig.yaml on kubernetes master node(s)\"",
        "configure your apiserver with `--authentication-token-webhook-config-file=/etc/kubernetes/aws-iam-authenticator/kubeconfig.yaml`",
    ] {
        assert!(outcome.stderr.contains(line), "{line} in {}", outcome.stderr);
    }
    let kubeconfig = std::fs::read_to_string(folder.path().join("aws-iam-authenticator.kubeconfig")).unwrap();
    assert!(kubeconfig.contains("https://webhook.example.com:21362/authenticate"), "{kubeconfig}");

    let again = arngate().arguments("init -i prod --hostname other.example.com").folder(folder.path()).run();
    assert_eq!(again.code, 0, "{}", again.stderr);
    assert!(again.stderr.contains("level=info msg=\"loaded existing keypair\""), "{}", again.stderr);
    assert!(again.stderr.contains("level=warning msg=\"other.example.com: the certificate that is there is not for"), "{}", again.stderr);
}

#[test]
fn an_empty_config_flag_is_none() {
    assert_eq!(arngate().arguments("version --config=").run().code, 0);
    let outcome = with_keys().arguments("token -i prod --token-only -c").argument("").run();
    assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""));
}

#[test]
fn a_region_that_is_none_is_refused_by_inspect_too() {
    let outcome = arngate().arguments("inspect x --region US-EAST-1").run();
    assert_eq!((outcome.code, outcome.stdout.as_str()), (1, ""));
    assert_eq!(outcome.stderr, "could not inspect: --region: expected a region such as eu-west-1, found \"US-EAST-1\"\n");
}

#[test]
fn init_with_configured_directories_writes_to_their_places() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.yaml");
    let state = folder.path().join("state");
    std::fs::create_dir(&state).unwrap();
    let kubeconfig = folder.path().join("kubeconfig.yaml");
    let text = format!("clusterID: prod\nserver:\n  stateDir: {}\n  generateKubeconfig: {}\n", state.display(), kubeconfig.display());
    std::fs::write(&config, text).unwrap();
    let outcome =
        arngate().arguments("init --feature-gates=ConfiguredInitDirectories=true -c").argument(&config).folder(folder.path()).run();
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    assert!(state.join("key.pem").is_file() && kubeconfig.is_file());
    assert!(outcome.stderr.contains("certificate generated at "), "{}", outcome.stderr);
    let outcome = arngate().arguments("init").folder(folder.path()).run();
    assert_eq!(outcome.code, 1, "no cluster id");
}

#[test]
fn add_and_remove_say_what_is_wrong_with_their_flags_and_touch_nothing() {
    let user = "--userarn arn:aws:iam::123456789012:user/Bob --username bob --groups devs";
    let lines = [
        "add user".to_owned(),
        "add user --userarn= --username bob --groups devs".to_owned(),
        "add user --userarn Bob --username bob --groups devs".to_owned(),
        "add role --username bob --groups devs".to_owned(),
        "add role --sso permissionSetName=Admin --username bob --groups devs".to_owned(),
        "add role --sso permissionSetName=Admin,accountID=1 --username bob --groups devs".to_owned(),
        "add role --sso permissionSetName=Admin,accountID=123456789012,partition=moon --username bob --groups devs".to_owned(),
        "add role --sso permission=Admin --username bob --groups devs".to_owned(),
        "add role --sso Admin --username bob --groups devs".to_owned(),
        "add role --rolearn arn:aws:iam::123456789012:role/A --sso permissionSetName=A,accountID=123456789012 --username b --groups g"
            .to_owned(),
        "remove role".to_owned(),
        format!("add {user}"),
        format!("add user {user}"),
        format!("add --kubeconfig /nonexistent user {user}"),
        "remove user --userarn arn:aws:iam::123456789012:user/Bob --master-url ftp://localhost".to_owned(),
    ];
    let told: String = lines
        .iter()
        .map(|line| {
            let outcome = arngate().arguments(line).run();
            assert_eq!((outcome.code, outcome.stdout.as_str()), (1, ""), "{line}");
            let said: String = outcome.stderr.lines().take(1).map(|line| format!("  {line}\n")).collect();
            format!("{line}\n{said}")
        })
        .collect();
    insta::assert_snapshot!(told);
}
