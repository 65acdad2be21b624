//! The binary asks EC2 for the private DNS name of a node: credentials, signature and all, against fakes on loopback that check both signatures.

mod support;

use std::fs;

use arngate_core::endpoint::Fips;
use arngate_core::time::AmzDate;
use arngate_core::{ClusterId, Partition, StsHost};
use arngate_loadtest::clock::Clock;
use arngate_loadtest::credential::{CallerIdentity, Credential, EXAMPLE_SECRET};
use arngate_loadtest::ec2::{FakeEc2, Instance};
use arngate_loadtest::sts::{Config, FakeSts};
use arngate_loadtest::token;
use support::plain::{self, ASSUMED_KEY, ASSUMED_SECRET, assumed};
use support::server::Server;
use tokio::runtime::Runtime;

const NODE: &str = "i-0123456789abcdef0";

/// STS and EC2, and a node that has a token.
struct Aws {
    runtime: Runtime,
    sts: FakeSts,
    ec2: FakeEc2,
    node: Credential,
    folder: tempfile::TempDir,
}

impl Aws {
    /// EC2 answers whoever signs with `credential`.
    fn start(credential: Credential) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let identity = CallerIdentity::of_arn(format!("arn:aws:sts::123456789012:assumed-role/Node/{NODE}"), format!("AROAEXAMPLE:{NODE}"));
        let node = Credential::new("ASIAIOSFODNN7NODENOD", EXAMPLE_SECRET, identity.unwrap()).unwrap().with_session_token("made-up");
        let config = Config::new(Clock::system()).with_credentials([node.clone()]);
        let sts = runtime.block_on(FakeSts::start(config)).unwrap();
        let ec2 = runtime.block_on(FakeEc2::start("eu-west-1", &["amazonaws.com"], Clock::system(), [credential])).unwrap();
        ec2.put(NODE, Instance::running("ip-10-0-0-1.eu-west-1.compute.internal"));
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("sts.pem"), sts.ca_pem()).unwrap();
        fs::write(folder.path().join("ec2.pem"), ec2.ca_pem()).unwrap();
        Self { runtime, sts, ec2, node, folder }
    }

    fn config(&self, more: &str) -> String {
        let (folder, sts, ec2) = (self.folder.path().display(), self.sts.addr(), self.ec2.addr());
        format!(
            "
clusterID: prod.example.com
server:
  region: eu-west-1
  mapRoles:
  - {{roleARN: arn:aws:iam::123456789012:role/Node, username: 'system:node:{{{{EC2PrivateDNSName}}}}', groups: ['system:nodes']}}
  sts: {{endpoints: {{sts.eu-west-1.amazonaws.com: 'https://{sts}'}}, caFile: {folder}/sts.pem}}
  ec2: {{endpoints: {{ec2.eu-west-1.amazonaws.com: 'https://{ec2}'}}, caFile: {folder}/ec2.pem}}
{more}"
        )
    }

    fn token(&self) -> String {
        let host = StsHost::regional(Partition::Aws, "eu-west-1", Fips::No).unwrap();
        let now = AmzDate::from_unix(Clock::system().now()).unwrap();
        token::sign_token(&self.node, host, ClusterId::parse("prod.example.com").unwrap(), now)
    }

    fn logs_in(&self, server: &Server) {
        let (status, body) = server.review(&self.token());
        assert_eq!(status, 200, "{body}\n{}", server.log());
        assert!(body.contains(r#""username":"system:node:ip-10-0-0-1.eu-west-1.compute.internal""#), "{body}\n{}", server.log());
        assert_eq!(self.ec2.asked(), [[NODE]]);
    }
}

#[test]
fn a_node_logs_in_by_its_private_dns_name() {
    let aws = Aws::start(Credential::example_role());
    let keys = Credential::example_role();
    let variables = [
        ("AWS_ACCESS_KEY_ID", keys.access_key_id()),
        ("AWS_SECRET_ACCESS_KEY", keys.secret()),
        ("AWS_SESSION_TOKEN", keys.session_token().unwrap()),
    ];
    let server = Server::start_with(&aws.config(""), &variables);
    aws.logs_in(&server);
    assert!(!server.log().contains(keys.secret()) && !server.log().contains(keys.session_token().unwrap()));
    drop(aws.runtime);
}

#[test]
fn a_role_is_assumed_first_on_behalf_of_a_source() {
    let identity = CallerIdentity::of_arn("arn:aws:sts::123456789012:assumed-role/Ec2/arngate", "AROAEXAMPLE:arngate").unwrap();
    let assumed_role = Credential::new(ASSUMED_KEY, ASSUMED_SECRET, identity).unwrap().with_session_token("assumed/session+token");
    let aws = Aws::start(assumed_role);
    let sts = plain::Server::start(|_, body| body.contains("Action=AssumeRole").then(|| assumed("2099-01-01T00:00:00Z")));
    let config = aws.config(
        "  ec2DescribeInstancesRoleARN: arn:aws:iam::210987654321:role/Ec2
  sourceARN: arn:aws:eks:eu-west-1:123456789012:cluster/prod
",
    );
    let variables = [
        ("AWS_ACCESS_KEY_ID", support::ACCESS_KEY_ID),
        ("AWS_SECRET_ACCESS_KEY", support::SECRET),
        ("AWS_ENDPOINT_URL_STS", sts.url.as_str()),
    ];
    let server = Server::start_with(&config, &variables);
    assert!(sts.requests().is_empty(), "nobody is asked for credentials before they are needed");
    aws.logs_in(&server);
    let requests = sts.requests();
    assert_eq!(requests.len(), 1);
    for part in ["RoleArn=arn%3Aaws%3Aiam%3A%3A210987654321%3Arole%2FEc2", "DurationSeconds=3600"] {
        assert!(requests[0].contains(part), "{part} in {}", requests[0]);
    }
    let head = sts.heads()[0].to_ascii_lowercase();
    for part in ["x-amz-source-arn: arn:aws:eks:eu-west-1:123456789012:cluster/prod\r\n", "x-amz-source-account: 123456789012\r\n"] {
        assert!(head.contains(part), "{part} in {head}");
    }
    let signed = head.split("signedheaders=").nth(1).unwrap_or_default().split(',').next().unwrap_or_default();
    assert!(signed.contains("x-amz-source-account") && signed.contains("x-amz-source-arn"), "{signed}");
}

#[test]
fn without_credentials_the_server_starts_and_a_node_is_told_why_it_has_to_wait() {
    let aws = Aws::start(Credential::example_role());
    let server = Server::start_with(&aws.config(""), &[]);
    let (status, body) = server.review(&aws.token());
    assert_eq!(status, 503, "{body}");
    assert!(body.contains("EC2 cannot be asked, for there are no AWS credentials"), "{body}");
    assert!(server.log().contains("no AWS credentials to ask EC2 with"), "{}", server.log());
    assert_eq!(server.request("GET", "/healthz", ""), (200, "ok".into()));
    assert!(aws.ec2.asked().is_empty());
}
