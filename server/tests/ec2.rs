//! Private DNS names of instances, from a fake EC2 that checks signatures, alone and behind the webhook. The clock stands still; only the limits of a look-up are
//! those of real timers, and no test waits for one.

mod support;

use std::sync::Arc;
use std::time::Duration;

use arngate_loadtest::credential::Credential;
use arngate_loadtest::ec2::{Ec2Behaviour, FakeEc2, Instance};
use arngate_server::clock::{Clock, ManualClock};
use arngate_server::ec2::{self, Failure, Names};
use arngate_server::mapping::{Backend, BackendMode, Mapping, Names as Templates};
use arngate_server::metrics::Metrics;
use arngate_server::prover::sts::{OwnRegion, Rate};
use futures_util::FutureExt as _;
use support::{Fixture, NOON, Protocol, Setup, review};

const NODE: &str = "i-0123456789abcdef0";

struct Ec2 {
    fake: FakeEc2,
    clock: Arc<ManualClock>,
    metrics: Arc<Metrics>,
    names: Names,
}

impl Ec2 {
    async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    async fn start_with(change: impl FnOnce(&mut ec2::Config)) -> Self {
        let (clock, metrics) = (Arc::new(ManualClock::at(NOON)), Arc::new(Metrics::new()));
        let fake = support::fake_ec2(&clock).await;
        let mut config = support::ec2_config(&fake);
        change(&mut config);
        let names = support::names(config, &clock, &metrics);
        Self { fake, clock, metrics, names }
    }

    async fn of(&self, id: &str) -> Result<String, Failure> {
        self.names.of(id).await.map(|name| name.to_string())
    }
}

fn id(number: usize) -> String {
    format!("i-{number:017x}")
}

fn name(number: usize) -> String {
    format!("ip-10-0-0-{number}.ec2.internal")
}

#[tokio::test]
async fn a_name_is_asked_for_once_and_then_known_for_an_hour() {
    let ec2 = Ec2::start().await;
    ec2.fake.put(NODE, Instance::running("ip-10-0-0-1.ec2.internal"));
    for _ in 0..3 {
        assert_eq!(ec2.of(NODE).await.as_deref(), Ok("ip-10-0-0-1.ec2.internal"));
    }
    assert_eq!(ec2.fake.asked(), [[NODE]]);
    let text = ec2.metrics.encode();
    for line in [
        "aws_iam_authenticator_ec2_describe_instances_calls_total 1\n",
        "aws_iam_authenticator_ec2_responses_total{ResponseCode=\"200\",Region=\"us-east-1\"} 1\n",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    ec2.clock.advance_secs(3600);
    assert!(ec2.of(NODE).await.is_ok());
    assert_eq!(ec2.fake.asked().len(), 2);
}

#[tokio::test]
async fn what_ec2_does_not_know_is_unknown_for_five_seconds() {
    let ec2 = Ec2::start().await;
    assert_eq!(ec2.of(NODE).await, Err(Failure::NoSuchInstance));
    ec2.fake.put(NODE, Instance::running("ip-10-0-0-1.ec2.internal"));
    assert_eq!(ec2.of(NODE).await, Err(Failure::NoSuchInstance));
    ec2.clock.advance_secs(5);
    assert_eq!(ec2.of(NODE).await.as_deref(), Ok("ip-10-0-0-1.ec2.internal"));
    assert_eq!(ec2.fake.asked().len(), 2);
}

#[tokio::test]
async fn what_aws_cannot_have_given_out_is_not_asked_for() {
    let ec2 = Ec2::start().await;
    for session in ["", "jane", "i-1234567", "i-01234567_", "i-ABCDEF01", "i-*2345678"] {
        assert_eq!(ec2.of(session).await, Err(Failure::NoSuchInstance), "{session}");
    }
    assert!(ec2.fake.asked().is_empty());
}

#[tokio::test]
async fn those_who_come_while_calls_are_under_way_go_together_and_one_unknown_id_harms_nobody() {
    let ec2 = Ec2::start().await;
    ec2.fake.hold();
    for number in (0..60).filter(|number| *number != 33) {
        ec2.fake.put(&id(number), Instance::running(&name(number)));
    }
    let ask = |number: usize| {
        let names = ec2.names.clone();
        tokio::spawn(async move { names.of(&id(number)).await.map(|name| name.to_string()) })
    };
    // Five go alone, as many as there may be at a time.
    let mut asking = Vec::new();
    for number in 0..5 {
        asking.push((number, ask(number)));
        ec2.fake.wait_for_calls(number + 1).await;
    }
    // The others come twice each, and wait.
    for number in (5..60).chain(5..60) {
        let (names, id) = (ec2.names.clone(), id(number));
        // Polled once, so that it stands in the queue before the gate is opened.
        let mut waiting = Box::pin(async move { names.of(&id).await.map(|name| name.to_string()) });
        assert!((&mut waiting).now_or_never().is_none());
        asking.push((number, tokio::spawn(waiting)));
    }
    ec2.fake.release();
    for (number, asked) in asking {
        let expected = if number == 33 { Err(Failure::NoSuchInstance) } else { Ok(name(number)) };
        assert_eq!(asked.await.unwrap(), expected, "{number}");
    }
    let asked = ec2.fake.asked();
    assert_eq!(asked[..5].concat(), [0, 1, 2, 3, 4].map(id));
    assert_eq!(asked[5..].concat(), (5..60).map(id).collect::<Vec<_>>(), "each is asked for once");
    assert_eq!(asked.len(), 6, "all that waited went in one call: {asked:?}");
}

#[tokio::test]
async fn an_instance_that_is_being_launched_is_asked_for_until_it_has_a_name() {
    let ec2 = Ec2::start().await;
    ec2.fake.put(NODE, Instance::pending());
    let names = ec2.names.clone();
    let asking = tokio::spawn(async move { names.of(NODE).await });
    ec2.fake.wait_for_calls(2).await;
    ec2.fake.put(NODE, Instance::running("ip-10-0-0-1.ec2.internal"));
    assert_eq!(asking.await.unwrap().as_deref(), Ok("ip-10-0-0-1.ec2.internal"));
    assert!(ec2.fake.asked().len() >= 3);
}

#[tokio::test]
async fn an_instance_that_never_gets_a_name_has_none_in_the_end_and_one_that_has_ended_is_none() {
    let impatient = Ec2::start_with(|config| config.deadline = Duration::from_millis(300)).await;
    impatient.fake.put(NODE, Instance::pending());
    let failure = impatient.of(NODE).await.unwrap_err();
    // Whichever of the two timers is first.
    assert!(matches!(failure, Failure::NoNameYet | Failure::Late { .. }), "{failure:?}");
    let ec2 = Ec2::start().await;
    ec2.fake.put(NODE, Instance { private_dns_name: String::new(), state: "terminated".into() });
    assert_eq!(ec2.of(NODE).await, Err(Failure::NoSuchInstance));
}

#[tokio::test]
async fn a_reset_or_a_5xx_is_tried_once_more_and_a_refusal_is_not() {
    let ec2 = Ec2::start().await;
    let error = |status, code: &str| Ec2Behaviour::Error { status, code: code.to_owned() };
    for (number, behaviour) in [Ec2Behaviour::Close, error(500, "InternalError"), error(503, "Unavailable")].into_iter().enumerate() {
        ec2.fake.put(&id(number), Instance::running(&name(number)));
        ec2.fake.queue(behaviour);
        assert_eq!(ec2.of(&id(number)).await, Ok(name(number)));
    }
    assert_eq!(ec2.fake.asked().len(), 6);
    ec2.fake.set_behaviour(error(500, "InternalError"));
    assert_eq!(ec2.of(NODE).await, Err(Failure::Unavailable { told: "not an answer of EC2 (status 500)".into(), is_passing: true }));
    assert_eq!(ec2.fake.asked().len(), 8);
    ec2.fake.set_behaviour(error(403, "UnauthorizedOperation"));
    assert_eq!(ec2.of(NODE).await, Err(Failure::Refused { status: 403, code: "UnauthorizedOperation".into() }));
    assert_eq!(ec2.fake.asked().len(), 9);
    ec2.fake.set_behaviour(Ec2Behaviour::Raw { status: 403, body: "<html>Blocked</html>".into() });
    assert_eq!(ec2.of(NODE).await, Err(Failure::Unavailable { told: "not an answer of EC2 (status 403)".into(), is_passing: false }));
}

#[tokio::test]
async fn a_name_that_was_known_stands_in_while_ec2_is_away_but_not_once_it_says_that_there_is_no_such_instance() {
    let ec2 = Ec2::start().await;
    ec2.fake.put(NODE, Instance::running("ip-10-0-0-1.ec2.internal"));
    assert!(ec2.of(NODE).await.is_ok());
    ec2.clock.advance_secs(3600);
    ec2.fake.set_behaviour(Ec2Behaviour::Error { status: 401, code: "AuthFailure".into() });
    assert_eq!(ec2.of(NODE).await.as_deref(), Ok("ip-10-0-0-1.ec2.internal"));
    ec2.fake.set_behaviour(Ec2Behaviour::Answer);
    ec2.fake.put(NODE, Instance { private_dns_name: String::new(), state: "terminated".into() });
    assert_eq!(ec2.of(NODE).await, Err(Failure::NoSuchInstance));
}

#[tokio::test]
async fn a_throttle_is_waited_out() {
    let ec2 = Ec2::start().await;
    ec2.fake.put(NODE, Instance::running("ip-10-0-0-1.ec2.internal"));
    ec2.fake.queue(Ec2Behaviour::Error { status: 503, code: "RequestLimitExceeded".into() });
    assert_eq!(ec2.of(NODE).await.as_deref(), Ok("ip-10-0-0-1.ec2.internal"));
    assert_eq!(ec2.fake.asked().len(), 2);
}

#[tokio::test]
async fn who_waits_for_the_rate_goes_with_the_others() {
    let ec2 = Ec2::start_with(|config| config.rate = Rate { per_second: 1, burst: 1 }).await;
    for number in 0..4 {
        ec2.fake.put(&id(number), Instance::running(&name(number)));
    }
    assert_eq!(ec2.of(&id(0)).await, Ok(name(0)));
    let [first, second, third] = [id(1), id(2), id(3)];
    let found = tokio::join!(ec2.of(&first), ec2.of(&second), ec2.of(&third));
    assert_eq!(found, (Ok(name(1)), Ok(name(2)), Ok(name(3))));
    // One call for all three, or two if the next token was there already; without the rate it would be three.
    assert!(matches!(ec2.fake.asked().len(), 2 | 3), "{:?}", ec2.fake.asked());
}

#[tokio::test]
async fn who_hangs_up_spoils_it_for_nobody() {
    let ec2 = Ec2::start().await;
    ec2.fake.put(NODE, Instance::running("ip-10-0-0-1.ec2.internal"));
    ec2.fake.hold();
    let ask = || {
        let names = ec2.names.clone();
        tokio::spawn(async move { names.of(NODE).await })
    };
    let first = ask();
    ec2.fake.wait_for_calls(1).await;
    let second = ask();
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    ec2.fake.release();
    assert_eq!(second.await.unwrap().as_deref(), Ok("ip-10-0-0-1.ec2.internal"));
    assert_eq!(ec2.fake.asked().len(), 1);
}

#[tokio::test]
async fn without_credentials_or_a_region_nobody_is_asked() {
    let ec2 = Ec2::start().await;
    let config = support::ec2_config(&ec2.fake);
    let clock = || Arc::clone(&ec2.clock) as Arc<dyn Clock>;
    let unsigned = Names::new(config.clone(), Arc::new(support::NoSigner), clock(), Arc::new(())).unwrap();
    assert_eq!(unsigned.of(NODE).await, Err(Failure::Unsigned));
    let nowhere = support::names(ec2::Config { own_region: OwnRegion::told(None), ..config.clone() }, &ec2.clock, &ec2.metrics);
    assert_eq!(nowhere.of(NODE).await, Err(Failure::NoRegion));
    let another = Credential::example_user();
    let strange = Names::new(config, Arc::new(support::Ec2Signer(another)), clock(), Arc::new(())).unwrap();
    assert_eq!(strange.of(NODE).await, Err(Failure::Refused { status: 401, code: "AuthFailure".into() }));
    assert_eq!(ec2.fake.asked().len(), 1);
}

#[tokio::test]
async fn an_ec2_out_of_reach_is_told_with_its_cause_and_counted() {
    let endpoints = support::ec2_endpoints(support::closed_port());
    let ec2 = Ec2::start_with(|config| config.endpoints = endpoints).await;
    let Err(Failure::Unavailable { told, .. }) = ec2.of(NODE).await else { panic!("nobody listens") };
    assert!(told.contains("refused"), "{told}");
    assert!(ec2.metrics.encode().contains("aws_iam_authenticator_ec2_connection_failures_total{Region=\"us-east-1\"} "));
}

#[tokio::test]
async fn no_more_wait_than_may() {
    let ec2 = Ec2::start_with(|config| config.max_waiters = 1).await;
    ec2.fake.put(NODE, Instance::running("ip-10-0-0-1.ec2.internal"));
    ec2.fake.hold();
    let names = ec2.names.clone();
    let first = tokio::spawn(async move { names.of(NODE).await });
    ec2.fake.wait_for_calls(1).await;
    assert_eq!(ec2.of(NODE).await, Err(Failure::Overloaded));
    ec2.fake.release();
    assert!(first.await.unwrap().is_ok());
    assert!(ec2.of(NODE).await.is_ok());
}

#[tokio::test]
async fn a_node_logs_in_by_its_private_dns_name() {
    let fixture = Fixture::start(Setup { ec2: true, ..Setup::default() }).await;
    let node = support::node(NODE);
    fixture.sts().put_credential(node.clone());
    fixture.ec2().put(NODE, Instance::running("ip-10-0-0-1.ec2.internal"));
    map_nodes(&fixture, &[]);
    let token = fixture.token(&node);
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let reply = fixture.review(protocol, &review("v1", &token)).await;
        assert_eq!(reply.status, 200, "{}", reply.body);
        assert!(reply.body.contains(r#""username":"system:node:ip-10-0-0-1.ec2.internal""#), "{}", reply.body);
        assert!(reply.body.contains(r#""groups":["system:nodes"]"#), "{}", reply.body);
    }
    assert_eq!((fixture.sts().calls(), fixture.ec2().asked().len()), (1, 1));
    // The prefixes hold for what was looked up, too.
    map_nodes(&fixture, &["system:node:ip-10-"]);
    let reply = fixture.review(Protocol::Http2, &review("v1", &token)).await;
    assert_eq!((reply.status, reply.error()), (200, "the user name begins with a prefix that is reserved in MountedFile".into()));
}

#[tokio::test]
async fn each_failure_of_ec2_has_its_status() {
    let error = |status, code: &str| Ec2Behaviour::Error { status, code: code.to_owned() };
    for (behaviour, status, told) in [
        (Ec2Behaviour::Answer, 200, "EC2 has no such instance"),
        (Ec2Behaviour::Raw { status: 502, body: String::new() }, 504, "EC2 cannot be asked: not an answer of EC2 (status 502)"),
        (error(403, "UnauthorizedOperation"), 503, "EC2 refused with UnauthorizedOperation (status 403)"),
    ] {
        let fixture = Fixture::start(Setup { ec2: true, ..Setup::default() }).await;
        let node = support::node(NODE);
        fixture.sts().put_credential(node.clone());
        map_nodes(&fixture, &[]);
        fixture.ec2().set_behaviour(behaviour);
        let reply = fixture.review(Protocol::Http2, &review("v1", &fixture.token(&node))).await;
        assert_eq!((reply.status, reply.error()), (status, format!("the mapping wants {{{{EC2PrivateDNSName}}}}: {told}")));
        assert!(reply.body.contains(r#""authenticated":false"#), "{}", reply.body);
    }
}

#[tokio::test]
async fn the_mappings_that_are_in_force_when_the_name_comes_count() {
    let fixture = Fixture::start(Setup { ec2: true, ..Setup::default() }).await;
    let node = support::node(NODE);
    fixture.sts().put_credential(node.clone());
    fixture.ec2().put(NODE, Instance::running("ip-10-0-0-1.ec2.internal"));
    map_nodes(&fixture, &[]);
    fixture.ec2().hold();
    let session = fixture.connect().await;
    let asking = tokio::spawn(session.review(&fixture.token(&node)));
    fixture.ec2().wait_for_calls(1).await;
    fixture.cluster().mappings.publish(BackendMode::MountedFile, support::only("Nobody", "nobody"));
    fixture.ec2().release();
    assert_eq!(asking.await.unwrap().error(), "identity is not mapped");
}

/// Maps the role of nodes alone, and reserves these prefixes.
fn map_nodes(fixture: &Fixture, reserved: &[&str]) {
    let names =
        Templates { username: "system:node:{{EC2PrivateDNSName}}".into(), groups: vec!["system:nodes".into()], ..Templates::default() };
    let mapping = Mapping::for_arn("arn:aws:iam::123456789012:role/Node".into(), false, names).unwrap();
    fixture.cluster().mappings.update(|draft| {
        let reserved = reserved.iter().map(|prefix| (*prefix).to_owned()).collect();
        draft.policy.reserved_prefixes = [(BackendMode::MountedFile, reserved)].into();
        draft.put(BackendMode::MountedFile, Backend::new(vec![mapping], [].into()));
    });
}
