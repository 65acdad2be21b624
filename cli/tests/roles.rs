//! Credentials that are fetched: roles, MFA and instance metadata, against a small server on loopback that plays STS and EC2.

mod support;

use std::fmt::Write as _;
use std::path::PathBuf;

use self::support::plain::{ASSUMED_KEY, Server, assumed};
use self::support::{Call, arngate, token_url, with_keys};

/// An STS that lets everybody assume everything.
fn sts() -> Server {
    Server::start(|_, body| {
        if body.contains("Action=GetCallerIdentity") {
            let identity = "<Arn>arn:aws:sts::123456789012:assumed-role/Base/alice</Arn><UserId>AROAEXAMPLE:alice</UserId><Account>123456789012</Account>";
            return Some(format!(
                "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><GetCallerIdentityResult>{identity}</GetCallerIdentityResult></GetCallerIdentityResponse>"
            ));
        }
        body.contains("Action=AssumeRole").then(|| assumed("2099-01-01T00:00:00Z"))
    })
}

const ROLE: &str = "arn:aws:iam::123456789012:role/Admin";
const ENCODED_ROLE: &str = "RoleArn=arn%3Aaws%3Aiam%3A%3A123456789012%3Arole%2FAdmin";

fn with_role(server: &Server) -> Call {
    with_keys().arguments("token -i prod --region eu-west-1").variable("AWS_ENDPOINT_URL_STS", &server.url)
}

#[test]
fn a_role_is_assumed_and_its_credentials_sign() {
    let server = sts();
    let outcome = with_role(&server).arguments("-r").argument(ROLE).arguments("-e external -s session").run();
    assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""));
    let url = outcome.token_url();
    assert!(url.starts_with("https://sts.eu-west-1.amazonaws.com/?"), "the token is for STS, wherever the role came from: {url}");
    assert!(url.contains(ASSUMED_KEY) && url.contains("X-Amz-Security-Token=assumed%2Fsession%2Btoken"), "{url}");
    let requests = server.requests();
    assert_eq!(requests.len(), 1);
    for part in ["Action=AssumeRole", ENCODED_ROLE, "ExternalId=external", "RoleSessionName=session", "DurationSeconds=900"] {
        assert!(requests[0].contains(part), "{part} in {}", requests[0]);
    }
}

#[test]
fn the_role_may_come_from_the_environment_and_everything_from_the_file() {
    let server = sts();
    let outcome = with_role(&server).variable("DEFAULT_ROLE", ROLE).run();
    assert!(outcome.token_url().contains(ASSUMED_KEY));

    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.yaml");
    std::fs::write(&config, format!("clusterID: prod\nrole: {ROLE}\nregion: eu-west-2\nexternalID: external\nsessionName: session\n"))
        .unwrap();
    let call =
        with_keys().arguments("token -c").argument(&config).variable("AWS_ENDPOINT_URL", &server.url).variable("AWS_REGION", "us-west-1");
    let outcome = call.run();
    assert!(outcome.token_url().starts_with("https://sts.eu-west-2.amazonaws.com/?"), "{outcome:?}");
    let last = server.requests().pop().unwrap();
    assert!(last.contains("ExternalId=external") && last.contains("RoleSessionName=session"), "{last}");
}

#[test]
fn a_forwarded_session_keeps_its_name() {
    let server = sts();
    let outcome = with_role(&server).arguments("--forward-session-name -r").argument(ROLE).run();
    assert!(outcome.token_url().contains(ASSUMED_KEY), "{outcome:?}");
    let requests = server.requests();
    assert!(requests[0].contains("Action=GetCallerIdentity") && requests[1].contains("RoleSessionName=alice"), "{requests:?}");
}

#[test]
fn a_token_ends_with_its_credentials() {
    let server = Server::start(|_, _| Some(assumed("2026-11-24T00:00:00Z")));
    let outcome = with_role(&server).arguments("-r").argument(ROLE).run();
    assert!(outcome.stdout.contains("\"expirationTimestamp\":\"2026-11-24T00:00:00Z\""), "{}", outcome.stdout);
}

#[test]
fn a_refused_role_is_an_error_that_names_it_and_hides_nothing_else() {
    let server = Server::start(|_, _| None);
    let outcome = with_role(&server).arguments("-r").argument(ROLE).run();
    assert_eq!((outcome.code, outcome.stdout.as_str()), (1, ""));
    assert!(
        outcome.stderr.starts_with("could not get token: operation AssumeRole of arn:aws:iam::123456789012:role/Admin: "),
        "{}",
        outcome.stderr
    );
    assert!(outcome.stderr.contains("AccessDenied"), "{}", outcome.stderr);
    assert!(!outcome.stderr.contains('\u{202e}'), "what STS says reaches no terminal as it is");
}

/// A home with AWS profiles.
fn home(config: &str) -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join(".aws")).unwrap();
    std::fs::write(home.path().join(".aws/config"), config).unwrap();
    home
}

const PROFILES: &str = "
[profile base]
aws_access_key_id = AKIABASEBASEBASE0001
aws_secret_access_key = base-secret
[profile mfa]
role_arn = arn:aws:iam::123456789012:role/Admin
source_profile = base
mfa_serial = arn:aws:iam::123456789012:mfa/alice
external_id = from-profile
role_session_name = session-of-profile
duration_seconds = 3600
region = eu-west-3
[profile behind]
role_arn = arn:aws:iam::123456789012:role/Second
source_profile = mfa
region = eu-west-3
[profile loop]
role_arn = arn:aws:iam::123456789012:role/Admin
source_profile = pool
[profile pool]
role_arn = arn:aws:iam::123456789012:role/Admin
source_profile = loop
[profile own]
role_arn = arn:aws:iam::123456789012:role/Admin
aws_access_key_id = AKIAOWNOWNOWNOWN0001
aws_secret_access_key = own-secret
[profile astray]
role_arn = arn:aws:iam::123456789012:role/Admin
source_profile = nowhere
";

fn with_profile(home: &tempfile::TempDir, server: &Server, profile: &str) -> Call {
    let call = arngate().arguments("token -i prod").variable("HOME", home.path()).variable("AWS_PROFILE", profile);
    call.variable("AWS_ENDPOINT_URL_STS", &server.url).variable("AWS_DEFAULT_REGION", "eu-west-1")
}

#[test]
fn a_profile_with_mfa_asks_for_the_code() {
    let (home, server) = (home(PROFILES), sts());
    let outcome = with_profile(&home, &server, "mfa").input("123456\n").run();
    assert_eq!((outcome.code, outcome.stderr.as_str()), (0, "Assume Role MFA token code: "));
    assert!(outcome.token_url().contains(ASSUMED_KEY));
    let request = &server.requests()[0];
    for part in [
        "SerialNumber=arn%3Aaws%3Aiam%3A%3A123456789012%3Amfa%2Falice",
        "TokenCode=123456",
        "ExternalId=from-profile",
        "RoleSessionName=session-of-profile",
        "DurationSeconds=3600",
        ENCODED_ROLE,
    ] {
        assert!(request.contains(part), "{part} in {request}");
    }
}

#[test]
fn roles_of_profiles_stand_behind_each_other() {
    let (home, server) = (home(PROFILES), sts());
    let outcome = with_profile(&home, &server, "behind").input("123456\n").run();
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    let requests = server.requests();
    assert!(requests[0].contains("role%2FAdmin") && requests[1].contains("role%2FSecond"), "{requests:?}");
    assert!(!requests[1].contains("TokenCode"), "{requests:?}");
}

#[test]
fn a_role_may_be_assumed_with_the_profiles_own_keys() {
    let (home, server) = (home(PROFILES), sts());
    let outcome = with_profile(&home, &server, "own").run();
    assert!(outcome.token_url().contains(ASSUMED_KEY), "{outcome:?}");
}

#[test]
fn a_code_that_nobody_gives_is_an_error() {
    let (home, server) = (home(PROFILES), sts());
    let outcome = with_profile(&home, &server, "mfa").input("").run();
    assert_eq!(outcome.code, 1);
    assert!(outcome.stderr.ends_with("could not get token: profile mfa: no MFA code on standard input\n"), "{}", outcome.stderr);
    assert_eq!(server.requests(), Vec::<String>::new());
}

#[test]
fn profiles_that_lead_nowhere_are_told() {
    let (home, server) = (home(PROFILES), sts());
    for (profile, expected) in [
        ("loop", ": its source profiles form a loop\n"),
        ("astray", "could not get token: profile astray: there is no source_profile nowhere\n"),
    ] {
        let outcome = with_profile(&home, &server, profile).run();
        assert_eq!(outcome.code, 1);
        assert!(outcome.stderr.ends_with(expected), "{}", outcome.stderr);
    }
}

/// An EC2 instance in ap-east-1 with a role.
fn instance() -> Server {
    Server::start(|first, _| {
        let mut answer = String::new();
        if first.starts_with("PUT /latest/api/token") {
            answer += "metadata-token";
        } else if first.contains("/placement/region") {
            answer += "ap-east-1";
        } else if first.ends_with("/security-credentials/ HTTP/1.1") {
            answer += "instance-role";
        } else {
            write!(
                answer,
                r#"{{"Code":"Success","Type":"AWS-HMAC","AccessKeyId":"ASIAINSTANCE00000001","SecretAccessKey":"s","Token":"t","Expiration":"2099-01-01T00:00:00Z"}}"#
            )
            .unwrap();
        }
        Some(answer)
    })
}

#[test]
fn an_instance_gives_credentials_and_region_past_any_proxy() {
    let server = instance();
    let outcome = arngate()
        .arguments("token -i prod")
        .variable("AWS_EC2_METADATA_DISABLED", "false")
        .variable("AWS_EC2_METADATA_SERVICE_ENDPOINT", &server.url)
        .variable("HTTP_PROXY", "http://127.0.0.1:1")
        .variable("HTTPS_PROXY", "http://127.0.0.1:1")
        .run();
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    let url = outcome.token_url();
    assert!(url.starts_with("https://sts.ap-east-1.amazonaws.com/?") && url.contains("ASIAINSTANCE00000001"), "{url}");
}

#[test]
fn metadata_that_is_turned_off_is_not_asked() {
    let server = instance();
    let call = arngate().arguments("token -i prod").variable("AWS_EC2_METADATA_SERVICE_ENDPOINT", &server.url);
    assert_eq!(call.run().code, 1);
    assert_eq!(server.requests(), Vec::<String>::new());
}

#[test]
fn static_keys_ask_nobody() {
    let (server, metadata) = (sts(), instance());
    let outcome = with_keys()
        .arguments("token -i prod")
        .variable("AWS_ENDPOINT_URL_STS", &server.url)
        .variable("AWS_EC2_METADATA_DISABLED", "false")
        .variable("AWS_EC2_METADATA_SERVICE_ENDPOINT", &metadata.url)
        .run();
    assert_eq!(outcome.code, 0);
    assert!(token_url(&outcome.stdout).starts_with("https://sts.us-east-1.amazonaws.com/?"));
    assert_eq!((server.requests().len(), metadata.requests().len()), (0, 0));
}

#[test]
fn a_process_gives_credentials() {
    let folder = tempfile::tempdir().unwrap();
    let answer: PathBuf = folder.path().join("answer.json");
    std::fs::write(&answer, r#"{"Version":1,"AccessKeyId":"ASIAPROCESS000000001","SecretAccessKey":"s","SessionToken":"t","Expiration":"2099-01-01T00:00:00Z"}"#).unwrap();
    let home = home(&format!("[default]\ncredential_process = /bin/cat {}\nregion = eu-west-1\n", answer.display()));
    let outcome = arngate().arguments("token -i prod").variable("HOME", home.path()).variable("PATH", "/usr/bin:/bin").run();
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    assert!(outcome.token_url().contains("ASIAPROCESS000000001"));
    assert_eq!(outcome.stderr, "");

    let ended = std::fs::read_to_string(&answer).unwrap().replace("2099-", "2020-");
    std::fs::write(&answer, ended).unwrap();
    for line in ["token -i prod", "token -i prod --token-only"] {
        let outcome = arngate().arguments(line).variable("HOME", home.path()).variable("PATH", "/usr/bin:/bin").run();
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
        assert!(outcome.stderr.starts_with("Warning: the credentials ended at 2020-01-01T00:00:00Z"), "{}", outcome.stderr);
    }
}

#[test]
fn an_endpoint_that_is_no_url_is_told_without_the_request() {
    let arguments = "token -i prod -r arn:aws:iam::123456789012:role/Admin -e secret-external-id";
    let call = with_keys().arguments(arguments).variable("AWS_ENDPOINT_URL_STS", "foo").variable("AWS_SESSION_TOKEN", "secret-token");
    let outcome = call.run();
    assert_eq!(outcome.code, 1);
    assert!(outcome.stderr.ends_with(": failed to apply endpoint `foo`: endpoint must contain scheme\n"), "{}", outcome.stderr);
    assert!(!outcome.stderr.contains("secret"), "{}", outcome.stderr);
}

#[test]
fn a_web_identity_gives_credentials() {
    let folder = tempfile::tempdir().unwrap();
    let token_file = folder.path().join("token");
    std::fs::write(&token_file, "eyJ.made-up.token").unwrap();
    let server = Server::start(|_, body| {
        let answer = assumed("2099-01-01T00:00:00Z").replace("AssumeRoleRe", "AssumeRoleWithWebIdentityRe");
        body.contains("Action=AssumeRoleWithWebIdentity").then_some(answer)
    });
    let outcome = arngate()
        .arguments("token -i prod --region eu-west-1")
        .variable("AWS_WEB_IDENTITY_TOKEN_FILE", &token_file)
        .variable("AWS_ROLE_ARN", ROLE)
        .variable("AWS_ENDPOINT_URL_STS", &server.url)
        .run();
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    assert!(outcome.token_url().contains(ASSUMED_KEY));
}
