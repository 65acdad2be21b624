//! `arngate inspect` over a file with a good token and one of each refusal; and what else judges tokens: `verify`, and bundles of keys.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use arngate_core::endpoint::Fips;
use arngate_core::sigv4::{Presign, SigningKey};
use arngate_core::time::AmzDate;
use arngate_core::{ClusterId, Error, Partition, StsHost, token};
use serde_json::Value;

use self::support::{ACCESS_KEY_ID, Call, SECRET, arngate, with_keys};

const NOON: &str = "20261124T120000Z";

fn presign(date: &str, session_token: Option<&str>) -> String {
    let date = AmzDate::parse(date.as_bytes()).unwrap();
    let host = StsHost::regional(Partition::Aws, "eu-west-1", Fips::No).unwrap();
    let cluster_id = ClusterId::parse("prod").unwrap();
    let key = SigningKey::derive(SECRET.as_bytes(), date.day(), host.region());
    let mut url = String::new();
    let presign = Presign { host, access_key_id: ACCESS_KEY_ID, session_token, cluster_id, date, expires_secs: 60 };
    presign.write_url(&key, &mut url).unwrap();
    url
}

fn encode(url: &str) -> String {
    let mut text = String::new();
    token::encode(url, &mut text).unwrap();
    text
}

fn good() -> String {
    encode(&presign(NOON, None))
}

/// A token that is refused for `error`, and for nothing before it.
fn refused_for(error: Error) -> String {
    let good = presign(NOON, None);
    let changed = |from: &str, to: &str| {
        assert!(good.contains(from), "{from} is in {good}");
        encode(&good.replacen(from, to, 1))
    };
    match error {
        Error::Length => format!("k8s-aws-v1.{}", "A".repeat(5000)),
        Error::Prefix => "eyJhbGciOiJSUzI1NiJ9.e30.c2ln".to_owned(),
        Error::Base64 => format!("{}=", encode(&good)),
        Error::UrlBytes => changed("&Version", " &Version"),
        Error::Scheme => changed("https://", "http://"),
        Error::Authority => changed(".amazonaws.com/", ".amazonaws.com:443/"),
        Error::Path => changed(".com/?", ".com/path?"),
        Error::Host => changed("sts.eu-west-1.amazonaws.com", "sts.evil.example.com"),
        Error::Partition => changed("sts.eu-west-1.amazonaws.com", "sts.cn-north-1.amazonaws.com.cn"),
        Error::Escape => changed("%2F", "%2G"),
        Error::ParameterUnknown => changed("&Version", "&Extra=1&Version"),
        Error::ParameterRepeated => changed("&Version", "&action=GetCallerIdentity&Version"),
        Error::ParameterMissing => changed("&X-Amz-Expires=60", ""),
        Error::Action => changed("GetCallerIdentity", "GetSessionToken"),
        Error::SignedHeaders => changed("host%3Bx-k8s-aws-id", "host"),
        Error::Version => changed("2011-06-15", "2011-06-16"),
        Error::Algorithm => changed("AWS4-HMAC-SHA256", "AWS4-HMAC-SHA512"),
        Error::AccessKey => changed(ACCESS_KEY_ID, "AKIA"),
        Error::DateForm => changed("Date=20261124T120000Z", "Date=20261124T120000"),
        Error::ScopeDate => changed("%2F20261124%2F", "%2F20261123%2F"),
        Error::ScopeRegion => changed("%2Feu-west-1%2F", "%2Feu-west-2%2F"),
        Error::ScopeService => changed("%2Fsts%2F", "%2Fiam%2F"),
        Error::SignatureForm => changed("X-Amz-Signature=", "X-Amz-Signature=0"),
        Error::Expires => changed("X-Amz-Expires=60", "X-Amz-Expires=901"),
        Error::Expired => encode(&presign("20261124T114459Z", None)),
        Error::Future => encode(&presign("20261124T120501Z", None)),
        error => panic!("a refusal without a token here: {}", error.reason()),
    }
}

fn inspect(line: &str) -> Call {
    arngate().arguments("inspect -o json --at 2026-11-24T12:00:00Z").arguments(line)
}

fn objects(stdout: &str) -> Vec<Value> {
    stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn each_refusal_before_the_proof_is_told_once() {
    let mut input = good() + "\n";
    for error in Error::ALL {
        input += &refused_for(error);
        input += "\n";
    }
    let outcome = inspect("-").input(input).run();
    assert_eq!((outcome.code, outcome.stderr.as_str()), (1, ""));
    let objects = objects(&outcome.stdout);
    assert_eq!(objects.len(), Error::ALL.len() + 1);
    assert_eq!(objects[0]["accepted"], true);
    assert!(objects[0]["reason"].is_null() && objects[0]["message"].is_null());
    for (object, error) in objects[1..].iter().zip(Error::ALL) {
        assert_eq!((&object["accepted"], object["reason"].as_str()), (&Value::Bool(false), Some(error.reason())));
        assert_eq!(object["signature"], "not-checked");
        assert!(object["message"].as_str().unwrap().starts_with(&error.to_string()), "{object}");
    }
}

#[test]
fn an_object_has_all_keys_in_their_order() {
    let outcome = inspect("-").input(good()).run();
    let expected = ["accepted", "reason", "message", "signature", "accessKeyId", "host", "region", "signedAt", "expiresAt", "sessionToken"];
    let places: Vec<_> = expected.iter().map(|key| outcome.stdout.find(&format!("\"{key}\":")).unwrap()).collect();
    assert!(places.is_sorted(), "{}", outcome.stdout);
    assert_eq!(objects(&outcome.stdout)[0].as_object().unwrap().len(), expected.len());
}

#[test]
fn refused_claims_are_told_where_they_are_known() {
    let outcome = inspect("-").input(refused_for(Error::Expired)).run();
    let object = &objects(&outcome.stdout)[0];
    assert_eq!((&object["accessKeyId"], &object["signedAt"]), (&Value::from(ACCESS_KEY_ID), &Value::from("2026-11-24T11:44:59Z")));
}

#[test]
fn one_token_may_be_an_argument() {
    let outcome = inspect("").argument(good()).run();
    assert_eq!((outcome.code, objects(&outcome.stdout)[0]["accepted"].as_bool()), (0, Some(true)));
    let outcome = inspect("").argument("").run();
    assert_eq!((outcome.code, objects(&outcome.stdout)[0]["reason"].as_str()), (1, Some("prefix")));
    let outcome = inspect("").argument(good() + "\n").run();
    assert_eq!(objects(&outcome.stdout)[0]["reason"], "base64", "nothing is trimmed");
}

#[test]
fn lines_are_tokens_byte_for_byte_and_in_order() {
    let mut input = Vec::new();
    for line in [good().as_bytes(), b"", b" ", &[good().as_bytes(), b"\r"].concat(), &[0xff, 0, 0x1b], good().as_bytes()] {
        input.extend_from_slice(line);
        input.push(b'\n');
    }
    let outcome = inspect("-").input(input).run();
    let objects = objects(&outcome.stdout);
    let reasons: Vec<_> = objects.iter().map(|object| object["reason"].as_str()).collect();
    assert_eq!(reasons, [None, Some("prefix"), Some("prefix"), Some("base64"), Some("prefix"), None]);
}

#[test]
fn no_line_is_no_token_and_no_failure() {
    let outcome = inspect("-").input("").run();
    assert_eq!((outcome.code, outcome.stdout.as_str()), (0, ""));
}

#[test]
fn no_environment_is_read() {
    let judge = |call: Call| call.input(refused_for(Error::Partition) + "\n" + &good()).run().stdout;
    let plain = judge(inspect("-"));
    let meddled = inspect("-")
        .variable("KUBERNETES_AWS_AUTHENTICATOR_CLUSTER_ID", "  bad  id")
        .variable("AWS_REGION", "cn-north-1")
        .variable("AWS_IAM_AUTHENTICATOR_LOG_VERBOSITY", "loud")
        .variable("AWS_PROFILE", "nope");
    assert_eq!(judge(meddled), plain);
}

#[test]
fn partition_and_region_are_the_servers() {
    let china = refused_for(Error::Partition);
    // The scope is still that of eu-west-1, so the next check refuses it.
    let outcome = inspect("--partition aws-cn").argument(&china).run();
    assert_eq!(objects(&outcome.stdout)[0]["reason"], "scope-region");
    let new_region = encode(&presign(NOON, None).replace("eu-west-1", "moonbase"));
    assert_eq!(objects(&inspect("").argument(&new_region).run().stdout)[0]["reason"], "host");
    assert_eq!(inspect("--region moonbase").argument(&new_region).run().code, 0);
}

#[test]
fn signature_and_session_token_are_never_printed() {
    let session_token = "FwoGZXIvYXdzEXAMPLEtoken";
    let url = presign(NOON, Some(session_token));
    let signature = url.rsplit_once('=').unwrap().1.to_owned();
    for output in ["json", "text"] {
        for at in ["2026-11-24T12:00:00Z", "2026-11-24T13:00:00Z"] {
            let outcome = arngate().arguments("inspect -").arguments(&format!("-o {output} --at {at}")).input(encode(&url)).run();
            assert!(!outcome.stdout.contains(&signature) && !outcome.stdout.contains(session_token), "{}", outcome.stdout);
            assert!(!outcome.stdout.contains("X-Amz") && !outcome.stdout.contains("k8s-aws-v1.aHR0"), "{}", outcome.stdout);
        }
    }
    let outcome = inspect("-").input(encode(&url)).run();
    assert_eq!(objects(&outcome.stdout)[0]["sessionToken"], true);
}

#[test]
fn control_characters_reach_no_terminal() {
    for output in ["json", "text"] {
        let outcome = arngate().arguments("inspect -o").argument(output).argument("\u{1b}[2J\u{202e}").run();
        assert!(!outcome.stdout.contains(['\u{1b}', '\u{202e}']), "{}", outcome.stdout);
    }
}

#[test]
fn a_line_without_end_costs_no_memory() {
    let outcome = inspect("-").input(vec![b'A'; 64 << 20]).run();
    assert_eq!(objects(&outcome.stdout)[0]["reason"], "length");
}

#[test]
fn offline_needs_a_cluster() {
    let outcome = inspect("--offline /nonexistent").argument(good()).run();
    assert_eq!(outcome.code, 1);
    assert!(outcome.stderr.starts_with("could not inspect: --offline needs --cluster-id"), "{}", outcome.stderr);
}

/// A bundle of the user's keys for eu-west-1 and the day of the tests.
fn bundle(folder: &Path) -> PathBuf {
    let path = folder.join("bundle.yaml");
    let derive =
        "keys derive --arn arn:aws:iam::123456789012:user/edge --user-id AIDAEXAMPLE --region eu-west-1 --from 2026-11-24 --days 1 -o";
    let outcome = with_keys().arguments(derive).argument(&path).run();
    assert_eq!((outcome.code, outcome.stdout.as_str()), (0, ""), "{}", outcome.stderr);
    path
}

#[test]
fn each_value_of_signature_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = bundle(folder.path());
    let key = |id: &str| presign(NOON, None).replace(ACCESS_KEY_ID, id);
    let tokens = [
        (good(), true, None, "good"),
        (encode(&presign(NOON, None).replace("Expires=60", "Expires=61")), false, Some("bad-signature"), "bad"),
        (encode(&key("AKIAUNKNOWN000000001")), true, None, "unknown-key"),
        (encode(&presign("20261125T000000Z", None)), true, None, "no-key-for-scope"),
        (encode(&presign(NOON, Some("made-up"))), true, None, "not-checked"),
        (refused_for(Error::Expired), false, Some("expired"), "not-checked"),
    ];
    let input: String = tokens.iter().map(|(token, ..)| format!("{token}\n")).collect();
    let judge = |line: &str| {
        arngate().arguments("inspect - -o json -i").arguments(line).argument("--offline").argument(&bundle).input(input.clone())
    };
    for (object, (_, accepted, reason, signature)) in objects(&judge("prod --at 2026-11-24T12:00:00Z").run().stdout).iter().zip(&tokens) {
        if *signature == "no-key-for-scope" {
            assert_eq!(object["reason"], "future", "it is signed tomorrow");
            continue;
        }
        assert_eq!((object["accepted"].as_bool(), object["reason"].as_str()), (Some(*accepted), *reason), "{object}");
        assert_eq!(object["signature"], *signature, "{object}");
        assert_eq!(object["message"].is_null(), *signature == "good", "{object}");
    }
    let tomorrow = objects(&judge("prod --at 2026-11-25T00:00:00Z").run().stdout);
    assert_eq!((&tomorrow[3]["accepted"], &tomorrow[3]["signature"]), (&Value::Bool(true), &Value::from("no-key-for-scope")));
    let other_cluster = objects(&judge("other --at 2026-11-24T12:00:00Z").run().stdout);
    assert_eq!((&other_cluster[0]["reason"], &other_cluster[0]["signature"]), (&Value::from("bad-signature"), &Value::from("bad")));
}

#[test]
fn the_text_says_what_the_bundle_knows() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = bundle(folder.path());
    let text = |token: String, at: &str| {
        let call = arngate().arguments("inspect -i prod --offline").argument(&bundle).arguments("--at").argument(at).argument(token);
        call.run().stdout
    };
    assert!(text(good(), "2026-11-24T12:00:00Z").starts_with("accepted: the signature is good\n"));
    let changed = encode(&presign(NOON, None).replace("Expires=60", "Expires=61"));
    assert!(text(changed, "2026-11-24T12:00:00Z").starts_with("refused: bad-signature\n  the signature does not fit"));
    let tomorrow = text(encode(&presign("20261125T000000Z", None)), "2026-11-25T00:00:00Z");
    assert!(tomorrow.contains("not for 2026-11-25 in eu-west-1: derive keys for that day and region"), "{tomorrow}");
}

#[test]
fn a_bundle_that_cannot_be_used_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = bundle(folder.path());
    fs::set_permissions(&bundle, fs::Permissions::from_mode(0o644)).unwrap();
    for line in ["inspect x -i prod --offline", "verify -t x -i prod --offline", "keys inspect"] {
        let outcome = arngate().arguments(line).argument(&bundle).run();
        assert_eq!((outcome.code, outcome.stdout.as_str()), (1, ""), "{line}");
        assert!(outcome.stderr.contains("bundle.yaml"), "{line}: {}", outcome.stderr);
    }
}

#[test]
fn keys_inspect_shows_whose_and_until_when() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = bundle(folder.path());
    let outcome = arngate().arguments("keys inspect").argument(&bundle).run();
    assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""));
    for part in [ACCESS_KEY_ID, "arn:aws:iam::123456789012:user/edge", "eu-west-1, 20261124 to 20261124", "2026-11-25T00:00:00Z"] {
        assert!(outcome.stdout.contains(part), "{part} in {}", outcome.stdout);
    }
    let text = fs::read_to_string(&bundle).unwrap();
    let key = text.rsplit_once("key: \"").unwrap().1.split('"').next().unwrap();
    assert!(!outcome.stdout.contains(key));
}

#[test]
fn verify_proves_offline_and_prints_the_identity() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bundle.yaml");
    let derive = "keys derive --arn arn:aws:iam::123456789012:user/edge --user-id AIDAEXAMPLE --region eu-west-1 -o";
    assert_eq!(with_keys().arguments(derive).argument(&path).run().code, 0);
    let token = with_keys().arguments("token -i prod --token-only --region eu-west-1").run().stdout;
    let verify = || arngate().arguments("verify -i prod --offline").argument(&path).arguments("-t").argument(token.trim_end());
    let outcome = verify().run();
    assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""));
    let expected = format!(
        "&{{ARN:arn:aws:iam::123456789012:user/edge CanonicalARN:arn:aws:iam::123456789012:user/edge AccountID:123456789012 UserID:AIDAEXAMPLE \
         SessionName: AccessKeyID:{ACCESS_KEY_ID} STSEndpoint:sts.eu-west-1.amazonaws.com}}\n"
    );
    assert_eq!(outcome.stdout, expected);
    let identity: Value = serde_json::from_str(&verify().arguments("-o json").run().stdout).unwrap();
    assert_eq!(identity["CanonicalARN"], "arn:aws:iam::123456789012:user/edge");
    let outcome = arngate().arguments("verify -i other --offline").argument(&path).arguments("-t").argument(token.trim_end()).run();
    assert_eq!((outcome.code, outcome.stdout.as_str()), (1, ""));
    assert_eq!(outcome.stderr, "could not verify token: the signature does not fit the token and its access key\n");
}

#[test]
fn errors_of_verify_are_the_references() {
    let outcome = arngate().arguments("verify -i prod").run();
    assert_eq!(outcome.code, 1);
    assert!(outcome.stderr.starts_with("error: token not specified\nUsage: arngate verify"), "{}", outcome.stderr);
    let outcome = arngate().arguments("verify -t x").run();
    assert!(outcome.stderr.starts_with("error: cluster ID not specified\nUsage: "), "{}", outcome.stderr);
    let outcome = arngate().arguments("verify -i prod -t x").run();
    assert_eq!((outcome.code, outcome.stderr.as_str()), (1, "could not verify token: the token does not begin with k8s-aws-v1.\n"));
}

#[test]
fn verify_names_the_host_that_it_could_not_ask() {
    let token = with_keys().arguments("token -i prod --token-only --region eu-west-1").run().stdout;
    let call = arngate().arguments("verify -i prod -t").argument(token.trim_end()).variable("HTTPS_PROXY", "http://127.0.0.1:1");
    let outcome = call.run();
    assert_eq!((outcome.code, outcome.stdout.as_str()), (1, ""));
    assert!(outcome.stderr.starts_with("could not verify token: STS at sts.eu-west-1.amazonaws.com: "), "{}", outcome.stderr);
}
