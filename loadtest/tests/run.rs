//! Runs against targets that answer, that lie, and that misbehave.

use std::sync::Arc;
use std::time::Duration;

use arngate_core::UnixSeconds;
use arngate_loadtest::arrivals::Arrivals;
use arngate_loadtest::ceiling::{ARN, Ceiling, canned_reply};
use arngate_loadtest::clock::Clock;
use arngate_loadtest::generator::{Limit, Load, Placement, Plan, StartError};
use arngate_loadtest::mix::{Kind, Mix, Popularity};
use arngate_loadtest::outcome::Outcome;
use arngate_loadtest::population::{Population, Shape};
use arngate_loadtest::question::{ApiVersion, Needle};
use arngate_loadtest::run::{Blind, Finished, prime, run};
use arngate_loadtest::sts::{Behaviour, Config, FakeSts};
use arngate_loadtest::supply::{Cast, Form, Order, Stock};
use arngate_loadtest::target::{Http, Target};

const COUNT: u64 = 40;

fn clock() -> Clock {
    Clock::fixed(UnixSeconds::new(1_795_521_600))
}

/// Questions of eight users; `always` is told to all of them.
fn order(always: Option<&str>) -> Order {
    let regulars = Population { shape: Shape::Users, identities: 8, mappings: 8, seed: 1 };
    let cast = Cast { regulars, newcomers: 0 };
    let mut form = Form::new("prod", "sts.eu-west-1.amazonaws.com", ApiVersion::V1).unwrap();
    form.always = always.map(|arn| Arc::new(Needle::new(arn)));
    let stock = Stock::sign(&cast, &form, 32, &clock());
    Order { cast, form, mix: Mix::only(Kind::Repeated), popularity: Popularity::Uniform, stock, seed: 1, clock: clock() }
}

fn plan(address: std::net::SocketAddr, ca_pem: &str, http: Http) -> Plan {
    Plan {
        target: Target::new(&format!("https://{address}/authenticate"), ca_pem.as_bytes(), None, http).unwrap(),
        connections: 2,
        must_connect: true,
        threads: 1,
        load: Load::Closed { in_flight: 4 },
        warm_up: Duration::ZERO,
        limit: Limit { duration: None, count: Some(COUNT) },
        timeout: Duration::from_secs(30),
        seed: 1,
    }
}

async fn go(plan: &Plan, order: &Order) -> Result<Finished, StartError> {
    run(plan, order, 0, Placement::default(), &mut Blind, std::future::pending()).await
}

async fn ceiling() -> (std::net::SocketAddr, String) {
    let ceiling = Ceiling::bind(0, canned_reply(700)).await.unwrap();
    let told = (ceiling.address(), ceiling.ca_pem().to_owned());
    tokio::spawn(ceiling.serve());
    told
}

fn reasons(finished: &Finished) -> String {
    finished.tally.reasons().map(|(outcome, reason, count)| format!("{}: {reason} ×{count}\n", outcome.label())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_answers_as_expected_is_asked_exactly_so_often() {
    let (address, ca) = ceiling().await;
    for http in [Http::One, Http::Two] {
        for load in [Load::Closed { in_flight: 4 }, Load::Open { arrivals: Arrivals::Poisson { rate: 2000.0 }, in_flight_most: 1000 }] {
            for threads in [1, 3] {
                let plan = Plan { load: load.clone(), threads, ..plan(address, &ca, http) };
                let finished = go(&plan, &order(Some(ARN))).await.unwrap();
                assert_eq!(finished.tally.count(Outcome::Allowed), COUNT, "{http:?} {load:?} {}", reasons(&finished));
                assert_eq!((finished.tally.total(), finished.unanswered), (COUNT, 0));
                assert_eq!(finished.tally.lateness().is_some(), matches!(load, Load::Open { .. }));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_tells_another_user_is_caught() {
    let (address, ca) = ceiling().await;
    for http in [Http::One, Http::Two] {
        let finished = go(&plan(address, &ca, http), &order(None)).await.unwrap();
        assert_eq!(finished.tally.count(Outcome::WrongIdentity), COUNT);
        assert!(reasons(&finished).contains("expected arn:aws:iam::123456789012:user/loadtest-"), "{}", reasons(&finished));
    }
    // And one that lets in who is nobody.
    let forged = Order { mix: Mix::only(Kind::ForgedKnownKey), ..order(None) };
    let finished = go(&plan(address, &ca, Http::Two), &forged).await.unwrap();
    assert_eq!(finished.tally.count(Outcome::WrongIdentity), COUNT);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_way_to_misbehave_is_counted_for_what_it_is() {
    for http in [Http::One, Http::Two] {
        for (behaviour, outcome, reason) in [
            (Behaviour::CloseWithoutAnswer, Outcome::CutOff, ""),
            (Behaviour::Reset, Outcome::CutOff, ""),
            (Behaviour::Truncated, Outcome::CutOff, ""),
            (Behaviour::Garbage, Outcome::Malformed, "not a TokenReview in JSON"),
            (Behaviour::Oversize(100 << 20), Outcome::Malformed, "the answer is larger than 1 MiB"),
            (Behaviour::Redirect, Outcome::Malformed, "status 302"),
            (Behaviour::ProxyPage, Outcome::Denied, "status 403"),
            (Behaviour::Status(503), Outcome::Unavailable, "status 503"),
            (Behaviour::Status(429), Outcome::Throttled, "status 429"),
        ] {
            let sts = FakeSts::start(Config { behaviour: behaviour.clone(), ..Config::new(clock()) }).await.unwrap();
            let finished = go(&plan(sts.addr(), sts.ca_pem(), http), &order(None)).await.unwrap();
            assert_eq!(finished.tally.count(outcome), COUNT, "{http:?} {behaviour:?}\n{}", reasons(&finished));
            assert_eq!(finished.tally.total(), COUNT);
            assert!(reasons(&finished).contains(reason), "{behaviour:?}: {}", reasons(&finished));
            sts.stop().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_answer_is_a_time_out_and_a_stop_does_not_wait_for_it() {
    let sts = FakeSts::start(Config { behaviour: Behaviour::Hang, ..Config::new(clock()) }).await.unwrap();
    let hanging = plan(sts.addr(), sts.ca_pem(), Http::Two);
    let short = Plan { timeout: Duration::from_millis(5), ..hanging.clone() };
    let finished = go(&short, &order(None)).await.unwrap();
    assert_eq!(finished.tally.count(Outcome::TimedOut), COUNT, "{}", reasons(&finished));

    let before = sts.calls();
    let stop = sts.wait_for_calls(before + 4);
    let finished = run(&hanging, &order(None), 0, Placement::default(), &mut Blind, stop).await.unwrap();
    assert!(finished.stopped && finished.unanswered == 4, "{finished:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_be_asked_is_an_error_that_says_why() {
    let (address, ca) = ceiling().await;
    let other = Ceiling::bind(0, canned_reply(700)).await.unwrap();
    let error = |plan: Plan| async move { go(&plan, &order(Some(ARN))).await.unwrap_err().to_string() };
    let untrusted = error(plan(address, other.ca_pem(), Http::Two)).await;
    assert!(untrusted.contains("cannot be asked: TLS: invalid peer certificate"), "{untrusted}");

    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let refused = error(plan(closed, &ca, Http::One)).await;
    assert!(refused.contains("cannot be asked: cannot connect: connection refused"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn warming_a_cache_asks_each_token_once_and_can_be_stopped() {
    let (address, ca) = ceiling().await;
    let failed = prime(&plan(address, &ca, Http::Two), &order(Some(ARN)), Placement::default(), std::future::pending()).await;
    assert_eq!(failed, Ok(0));
    let failed = prime(&plan(address, &ca, Http::One), &order(None), Placement::default(), std::future::pending()).await;
    assert_eq!(failed, Ok(32), "all were told to be somebody else");

    let sts = FakeSts::start(Config { behaviour: Behaviour::Hang, ..Config::new(clock()) }).await.unwrap();
    let stopped = prime(&plan(sts.addr(), sts.ca_pem(), Http::Two), &order(None), Placement::default(), sts.wait_for_calls(1)).await;
    assert_eq!(stopped, Err(StartError::Stopped));
}
