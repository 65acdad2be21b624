//! Our tokens beside those of the programs that people use today: the reference, aws-cli and botocore.
//!
//! A program that is absent makes its tests ignored, with the reason; `ARNGATE_REQUIRE=reference,aws` makes absence a failure. The reference is
//! `aws-iam-authenticator` in `PATH`, or what `ARNGATE_REFERENCE` names.

mod support;

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use arngate_core::sigv4::{Presign, SigningKey};
use arngate_core::{ClusterId, Partition, PresignedUrl, StsHosts, Token, TokenBuffer, token};
use arngate_loadtest::clock::Clock;
use arngate_loadtest::credential::Credential;
use arngate_loadtest::sts::{Config, FakeSts};
use libtest_mimic::{Arguments, Failed};

use self::support::foreign::{Foreign, in_path, reference};
use self::support::server::{MAPPINGS, Server, with_sts};
use self::support::{ACCESS_KEY_ID, SECRET, arngate, token_url};

const CLUSTER_ID: &str = "prod.example.com";
const TEMPORARY_KEY_ID: &str = "ASIAIOSFODNN7EXAMPLE";
const SESSION_TOKEN: &str = "FwoGZXIvYXdzEXAMPLE//////////wEaD+made/up==";

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let reference = Foreign::new("reference", reference(), "no aws-iam-authenticator");
    let aws = Foreign::new("aws", in_path("aws"), "no aws-cli");
    let python = Foreign::new("aws", python_with_botocore(), "no botocore");

    let mut trials = Vec::new();
    for case in cases() {
        let name = case.name();
        trials.push(reference.trial(&format!("the_reference_signs_as_we_do::{name}"), move |program: &PathBuf| same_bytes(program, case)));
    }
    trials.push(reference.trial("the_reference_writes_the_same_exec_credential", same_exec_credential));
    trials.push(reference.trial("a_token_of_the_reference_logs_in", |program| {
        logs_in(|keys| run(program, ["token", "-i", CLUSTER_ID, "--token-only"], &with_region(keys)))
    }));
    trials.push(aws.trial("a_token_of_aws_eks_get_token_logs_in", |program| {
        let arguments = ["eks", "get-token", "--cluster-name", CLUSTER_ID, "--region", "eu-west-1"];
        logs_in(|keys| run(program, arguments, keys))
    }));
    trials.push(python.trial("a_token_of_botocore_logs_in", |program| logs_in(|keys| run(program, ["-c", BOTOCORE], keys))));
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn python_with_botocore() -> Option<PathBuf> {
    let python = in_path("python3")?;
    let output = Command::new(&python).args(["-c", "import botocore"]).output().ok()?;
    output.status.success().then_some(python)
}

/// Runs a foreign program with made-up keys; nothing of this machine's AWS settings counts. `PATH` and `HOME` stay, for interpreters need them.
fn run<const N: usize>(program: &PathBuf, arguments: [&str; N], variables: &[(&str, &str)]) -> Result<String, Failed> {
    let kept = ["PATH", "HOME"].into_iter().filter_map(|name| Some((name, env::var_os(name)?)));
    let keys = [
        ("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID),
        ("AWS_SECRET_ACCESS_KEY", SECRET),
        ("AWS_EC2_METADATA_DISABLED", "true"),
        ("AWS_CONFIG_FILE", "/dev/null"),
        ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
    ];
    let variables = kept.chain(keys.iter().chain(variables).map(|(name, value)| (*name, OsString::from(value))));
    let output = Command::new(program).args(arguments).env_clear().envs(variables).output()?;
    if !output.status.success() {
        return Err(format!("{}: {}", program.display(), String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// One combination of what decides over a token's bytes.
#[derive(Clone, Copy)]
struct Case {
    region: &'static str,
    partition: Partition,
    has_session_token: bool,
    fips: bool,
    dual_stack: bool,
}

fn cases() -> Vec<Case> {
    let plain = |region, partition| Case { region, partition, has_session_token: false, fips: false, dual_stack: false };
    let mut cases: Vec<Case> = [
        ("us-east-1", Partition::Aws),
        ("eu-west-1", Partition::Aws),
        ("aws-global", Partition::Aws),
        ("xx-new-9", Partition::Aws),
        ("cn-north-1", Partition::AwsCn),
        ("cn-northwest-1", Partition::AwsCn),
        ("us-gov-west-1", Partition::AwsUsGov),
        ("us-iso-east-1", Partition::AwsIso),
        ("us-isob-east-1", Partition::AwsIsoB),
        ("eu-isoe-west-1", Partition::AwsIsoE),
        ("us-isof-south-1", Partition::AwsIsoF),
        ("eusc-de-east-1", Partition::AwsEusc),
    ]
    .into_iter()
    .map(|(region, partition)| plain(region, partition))
    .collect();
    for (region, partition) in [("eu-west-1", Partition::Aws), ("cn-north-1", Partition::AwsCn), ("us-gov-west-1", Partition::AwsUsGov)] {
        cases.push(Case { has_session_token: true, ..plain(region, partition) });
        cases.push(Case { fips: true, ..plain(region, partition) });
        cases.push(Case { dual_stack: true, ..plain(region, partition) });
        cases.push(Case { fips: true, dual_stack: true, has_session_token: true, ..plain(region, partition) });
    }
    cases
}

impl Case {
    fn name(&self) -> String {
        let parts = [(self.fips, "_fips"), (self.dual_stack, "_dual_stack"), (self.has_session_token, "_with_session_token")];
        parts.iter().filter(|(is_on, _)| *is_on).fold(self.region.replace('-', "_"), |name, (_, part)| name + part)
    }

    fn access_key_id(&self) -> &'static str {
        if self.has_session_token { TEMPORARY_KEY_ID } else { ACCESS_KEY_ID }
    }

    fn variables(&self) -> Vec<(&'static str, &'static str)> {
        let mut variables = vec![("AWS_REGION", self.region), ("AWS_ACCESS_KEY_ID", self.access_key_id())];
        for (is_on, name, value) in [
            (self.has_session_token, "AWS_SESSION_TOKEN", SESSION_TOKEN),
            (self.fips, "AWS_USE_FIPS_ENDPOINT", "true"),
            (self.dual_stack, "AWS_USE_DUALSTACK_ENDPOINT", "true"),
        ] {
            if is_on {
                variables.push((name, value));
            }
        }
        variables
    }
}

/// The reference's token is, byte for byte, what we sign for its instant; and our binary's differs from it in the instant alone.
fn same_bytes(program: &PathBuf, case: Case) -> Result<(), Failed> {
    let theirs = run(program, ["token", "-i", CLUSTER_ID, "--token-only"], &case.variables())?;
    let theirs = theirs.trim_end();
    let mut buffer = TokenBuffer::new();
    let url = PresignedUrl::parse(Token::decode(theirs.as_bytes(), &mut buffer)?, &StsHosts::new(case.partition))?;
    let presign = Presign {
        host: url.host(),
        access_key_id: case.access_key_id(),
        session_token: case.has_session_token.then_some(SESSION_TOKEN),
        cluster_id: ClusterId::parse(CLUSTER_ID)?,
        date: url.signed_at(),
        expires_secs: 60,
    };
    let key = SigningKey::derive(SECRET.as_bytes(), url.signed_at().day(), url.host().region());
    let (mut our_url, mut ours) = (String::new(), String::new());
    presign.write_url(&key, &mut our_url)?;
    token::encode(&our_url, &mut ours)?;
    if ours != theirs {
        return Err(format!("signed for the same instant:\n  ours   {our_url}\n  theirs {}", token_url(theirs)).into());
    }

    let mut call = arngate().arguments("token --token-only -i").argument(CLUSTER_ID).variable("AWS_SECRET_ACCESS_KEY", SECRET);
    for (name, value) in case.variables() {
        call = call.variable(name, value);
    }
    let outcome = call.run();
    if outcome.code != 0 {
        return Err(outcome.stderr.into());
    }
    let (ours, theirs) = (timeless(&outcome.token_url()), timeless(&token_url(theirs)));
    if ours == theirs { Ok(()) } else { Err(format!("instant apart:\n  ours   {ours}\n  theirs {theirs}").into()) }
}

/// A URL without what depends on when it was signed: the date, the day in the scope, the signature.
fn timeless(url: &str) -> String {
    let day =
        |part: &str| -> String { part.split("%2F").enumerate().map(|(place, piece)| if place == 1 { "DAY/" } else { piece }).collect() };
    let parts = url.split('&').map(|part| match part.split_once('=') {
        Some((name @ ("X-Amz-Date" | "X-Amz-Signature"), _)) => format!("{name}=…"),
        Some(("X-Amz-Credential", _)) => day(part),
        _ => part.to_owned(),
    });
    parts.collect::<Vec<_>>().join("&")
}

fn same_exec_credential(program: &PathBuf) -> Result<(), Failed> {
    for info in ["", "client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1", "client.authentication.k8s.io/v1alpha1"] {
        let info = format!(r#"{{"kind":"ExecCredential","apiVersion":"{info}","spec":{{"interactive":true}}}}"#);
        let info = if info.contains("k8s.io") { info } else { String::new() };
        let theirs = run(program, ["token", "-i", CLUSTER_ID], &[("AWS_REGION", "eu-west-1"), ("KUBERNETES_EXEC_INFO", &info)])?;
        let call =
            arngate().arguments("token -i").argument(CLUSTER_ID).variable("AWS_REGION", "eu-west-1").variable("KUBERNETES_EXEC_INFO", info);
        let ours = call.variable("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID).variable("AWS_SECRET_ACCESS_KEY", SECRET).run().stdout;
        let (ours, theirs) = (without_values(&ours), without_values(&theirs));
        if ours != theirs {
            return Err(format!("\n  ours   {ours}\n  theirs {theirs}").into());
        }
    }
    Ok(())
}

/// An ExecCredential with each digit as 0, and without its token.
fn without_values(text: &str) -> String {
    let (before, after) = text.split_once("k8s-aws-v1.").unwrap_or((text, ""));
    let after = after.trim_start_matches(|c: char| c != '"');
    let (name, rest) = before.split_once("expirationTimestamp").unwrap_or((before, ""));
    format!("{name}expirationTimestamp{}…{after}", rest.replace(|c: char| c.is_ascii_digit(), "0"))
}

fn with_region<'a>(keys: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    keys.iter().copied().chain([("AWS_REGION", "eu-west-1")]).collect()
}

/// Tokens of a client are accepted by our server: those of long-lived keys through STS and with offline keys, those of a role through STS, and
/// never offline.
fn logs_in(make: impl Fn(&[(&str, &str)]) -> Result<String, Failed>) -> Result<(), Failed> {
    let (alice, role) = (Credential::example_user(), Credential::example_role());
    let keys = |credential: &Credential| {
        let pairs = [
            ("AWS_ACCESS_KEY_ID", credential.access_key_id().to_owned()),
            ("AWS_SECRET_ACCESS_KEY", credential.secret().to_owned()),
            ("AWS_SESSION_TOKEN", credential.session_token().unwrap_or_default().to_owned()),
        ];
        pairs.into_iter().filter(|(_, value)| !value.is_empty()).collect::<Vec<_>>()
    };
    let token = |credential: &Credential| -> Result<String, Failed> {
        let keys = keys(credential);
        let keys: Vec<_> = keys.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let mut text = String::new();
        token::encode(&token_url(&make(&keys)?), &mut text)?;
        Ok(text)
    };
    let (of_alice, of_role) = (token(&alice)?, token(&role)?);

    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let config = Config::new(Clock::system()).with_credentials([alice.clone(), role]);
    let sts = runtime.block_on(FakeSts::start(config))?;
    let folder = tempfile::tempdir()?;
    let ca = folder.path().join("ca.pem");
    fs::write(&ca, sts.ca_pem())?;
    let by_sts = Server::start(&with_sts("sts.eu-west-1.amazonaws.com", sts.addr(), &ca));
    expect(by_sts.review(&of_alice), r#""username":"alice""#)?;
    expect(by_sts.review(&of_role), r#""username":"admin:jane-example.com""#)?;
    if sts.calls() != 2 {
        return Err(format!("{} calls of STS", sts.calls()).into());
    }

    let bundle = folder.path().join("keys.yaml");
    let line = "keys derive --arn arn:aws:iam::123456789012:user/Alice --user-id AIDACKCEVSQ6C2EXAMPLE --region eu-west-1 -o";
    let call = arngate().variable("AWS_ACCESS_KEY_ID", alice.access_key_id()).variable("AWS_SECRET_ACCESS_KEY", alice.secret());
    let derived = call.arguments(line).argument(&bundle).run();
    if derived.code != 0 {
        return Err(derived.stderr.into());
    }
    let offline = Server::start(&format!("{MAPPINGS}  provers: [offline]\n  offline: {{bundle: {}}}\n", bundle.display()));
    expect(offline.review(&of_alice), r#""username":"alice""#)?;
    expect(offline.review(&of_role), "the token has a session token, which only STS can prove")
}

fn expect((status, body): (u16, String), part: &str) -> Result<(), Failed> {
    if status == 200 && body.contains(part) { Ok(()) } else { Err(format!("{status} {body}").into()) }
}

/// What people copy from each other to make a token with boto3.
const BOTOCORE: &str = "
import base64
from botocore.session import Session
from botocore.signers import RequestSigner
session = Session()
client = session.create_client('sts', region_name='eu-west-1')
signer = RequestSigner(client.meta.service_model.service_id, 'eu-west-1', 'sts', 'v4', session.get_credentials(), session.get_component('event_emitter'))
url = signer.generate_presigned_url({
    'method': 'GET',
    'url': 'https://sts.eu-west-1.amazonaws.com/?Action=GetCallerIdentity&Version=2011-06-15',
    'body': {},
    'headers': {'x-k8s-aws-id': 'prod.example.com'},
    'context': {},
}, region_name='eu-west-1', expires_in=60, operation_name='')
print('k8s-aws-v1.' + base64.urlsafe_b64encode(url.encode()).decode().rstrip('='))
";
