//! STS is protected from us, and the known from all others: against a server in memory, so that time stands still until all wait.

use std::collections::BTreeSet;
use std::pin::{Pin, pin};
use std::task::Poll;

use tokio::task::{JoinSet, yield_now};
use tokio::time::{Instant, sleep};

use super::super::host::HOSTS;
use super::super::retry::SPREAD;
use super::in_memory::{Asked, MADE_UP, Sts};
use super::way::with_dns_and;
use super::*;
use crate::outbound::{ConnectError, IDLE};

/// An access key that nobody else has.
fn key(number: usize) -> &'static str {
    Box::leak(format!("AKIA{number:016}").into_boxed_str())
}

fn of_key(access_key_id: &'static str) -> Signer {
    Signer { access_key_id, ..SIGNER }
}

/// The same key, in another token.
fn spelling(access_key_id: &'static str, number: usize) -> Signer {
    Signer { session_token: Some(Box::leak(format!("s{number}").into_boxed_str())), ..of_key(access_key_id) }
}

fn in_region(region: &'static str) -> Signer {
    Signer { region, ..UNKNOWN }
}

fn at_once(answer: Answer) -> (Duration, Answer) {
    (Duration::ZERO, answer)
}

fn in_50_ms(answer: Answer) -> (Duration, Answer) {
    (Duration::from_millis(50), answer)
}

fn no_connection() -> Result<(), ConnectError> {
    Err(ConnectError::lasting("nobody is there"))
}

#[tokio::test(start_paused = true)]
async fn an_sts_that_is_slow_is_asked_twice_within_the_deadline() {
    let sts = Sts::new(Config::default(), |_| at_once(Answer::Hang));
    let start = Instant::now();
    // The jitter is drawn on this thread: from a seed, it is known beforehand.
    fastrand::seed(1);
    let jitter = SPREAD.mul_f64(fastrand::f64());
    fastrand::seed(1);
    assert_eq!(sts.told(&SIGNER).await, format!("STS at {HOST}: no answer within 2000 ms"));
    // Timers go off at whole milliseconds.
    let took = Duration::from_secs(4).as_millis() + jitter.as_micros().div_ceil(1_000);
    assert_eq!(start.elapsed().as_millis(), took, "two attempts, and {jitter:?} between them");
    assert_eq!((sts.requests(), sts.counted("retried")), (2, 1));

    let sts = Sts::new(Config { deadline: Duration::from_secs(3), ..Config::default() }, |_| at_once(Answer::Hang));
    let start = Instant::now();
    assert_eq!(sts.reason(&SIGNER).await, "sts-unavailable");
    assert_eq!((start.elapsed(), sts.requests()), (Duration::from_secs(3), 2));
}

#[tokio::test(start_paused = true)]
async fn a_dead_host_is_left_alone_until_one_probe_finds_it_alive() {
    let is_dead = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let dead = Arc::clone(&is_dead);
    let connect = move |_: &str| if dead.load(Ordering::SeqCst) { no_connection() } else { Ok(()) };
    let sts = Sts::connecting(Config::default(), connect, |_| in_50_ms(good()));
    for _ in 0..5 {
        assert!(sts.told(&SIGNER).await.ends_with("nobody is there"));
    }
    let shut = format!("STS at {HOST}: it did not answer 5 times in a row and is not asked for 1000 ms");
    assert_eq!((sts.told(&SIGNER).await, sts.reason(&SIGNER).await), (shut, "sts-unavailable"));
    assert_eq!((sts.seen(|seen| seen.connections), sts.state().hosts_open), (5, 1));
    // Another host is another matter.
    assert!(sts.told(&in_region("eu-west-1")).await.ends_with("nobody is there"));

    // Half open: one of many finds out, the others are told at once.
    sleep(Duration::from_secs(1)).await;
    assert_eq!(sts.state().hosts_half_open, 1);
    let herd = async || {
        let mut herd = JoinSet::new();
        for number in 0..10 {
            let (realm, token) = (Arc::clone(&sts.realm), of_key(key(number)).token());
            herd.spawn(async move { prove(realm, token, now()).await.is_ok() });
        }
        herd.join_all().await.into_iter().filter(|proved| *proved).count()
    };
    let connections = sts.seen(|seen| seen.connections);
    assert_eq!((herd().await, sts.seen(|seen| seen.connections)), (0, connections + 1));
    assert_eq!(sts.state().hosts_open, 1);
    is_dead.store(false, Ordering::SeqCst);
    sleep(Duration::from_millis(1999)).await;
    assert_eq!((herd().await, sts.state().hosts_open), (0, 1), "the pause has doubled");
    sleep(Duration::from_millis(1)).await;
    assert_eq!((herd().await, sts.requests(), sts.state().hosts_closed), (1, 1, 2));
    assert_eq!((herd().await, sts.requests()), (10, 11));
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_hangs_up_leaves_its_place_to_the_next() {
    let sts = Sts::new(Config { retry_percent: 0, ..Config::default() }, |asked| {
        if asked.before < 5 { at_once(http(500, "")) } else { in_50_ms(good()) }
    });
    for _ in 0..5 {
        assert_eq!(sts.reason(&SIGNER).await, "sts-unavailable");
    }
    sleep(Duration::from_secs(1)).await;
    let probe = sts.spawn(SIGNER.token());
    while sts.requests() < 6 {
        yield_now().await;
    }
    assert!(sts.told(&SIGNER).await.ends_with("is not asked until one call has found out whether it does again"));
    probe.abort();
    assert!(probe.await.unwrap_err().is_cancelled());
    assert_eq!((sts.reason(&SIGNER).await, sts.state().hosts_closed), ("proved", 1));
}

#[tokio::test(start_paused = true)]
async fn a_host_that_is_shut_takes_no_place_from_another() {
    let answers = |asked: &Asked| at_once(if asked.host == HOST { http(500, "") } else { Answer::Hang });
    let sts = Sts::new(Config { max_in_flight: 2, retry_percent: 0, ..Config::default() }, answers);
    for _ in 0..5 {
        assert_eq!(sts.reason(&SIGNER).await, "sts-unavailable");
    }
    let waiting: Vec<_> = (0..2).map(|number| sts.spawn(Signer { region: "eu-west-1", ..of_key(key(number)) }.token())).collect();
    while sts.requests() < 7 {
        yield_now().await;
    }
    let start = Instant::now();
    assert!(sts.told(&SIGNER).await.contains("and is not asked"));
    assert_eq!((start.elapsed(), sts.counted("refused other")), (Duration::ZERO, 0));
    waiting.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test(start_paused = true)]
async fn pages_of_a_proxy_do_not_shut_the_host() {
    for page in [http(403, "<html>blocked</html>"), http(200, "<html>Log in</html>"), http(302, ""), http(407, REFUSAL)] {
        let sts = Sts::new(Config::default(), move |asked| {
            at_once(if asked.access_key_id == SIGNER.access_key_id { good() } else { page.clone() })
        });
        for _ in 0..20 {
            assert_eq!(sts.reason(&UNKNOWN).await, "sts-unavailable");
        }
        assert_eq!((sts.requests(), sts.reason(&SIGNER).await), (20, "proved"));
    }
}

#[tokio::test(start_paused = true)]
async fn retries_end_with_their_budget() {
    // Each second question fails at first and would be answered at the second try.
    let fails = |asked: &Asked| asked.access_key_id.ends_with('1') && asked.before_this == 0;
    let sts = Sts::new(Config::default(), move |asked| at_once(if fails(asked) { http(500, "") } else { good() }));
    let mut proved = 0;
    for number in 0..100 {
        assert_eq!(sts.reason(&of_key(key(number * 10))).await, "proved");
        proved += usize::from(sts.reason(&of_key(key(number * 10 + 1))).await == "proved");
    }
    // Ten to begin with, and a tenth of two hundred.
    assert!((29..=30).contains(&proved), "{proved}");
    assert_eq!((sts.counted("retried"), sts.counted("exhausted")), (proved, 100 - proved));
    assert_eq!(sts.requests(), 200 + proved);
}

#[tokio::test(start_paused = true)]
async fn resets_are_forgiven_and_a_host_that_only_resets_is_left_alone() {
    let sts = Sts::new(Config::default(), |asked| if asked.before_this == 0 { at_once(Answer::Close) } else { at_once(good()) });
    for number in 0..10 {
        assert_eq!(sts.reason(&of_key(key(number))).await, "proved");
    }
    let sts = Sts::new(Config::default(), |_| at_once(Answer::Close));
    for number in 0..50 {
        assert_eq!(sts.reason(&of_key(key(number))).await, "sts-unavailable");
    }
    // Two tries of two questions, and one of the third: at the fifth it is shut, which ends the retries too.
    assert_eq!((sts.requests(), sts.counted("retried")), (5, 2));
}

#[tokio::test(start_paused = true)]
async fn a_throttle_halves_the_calls_at_a_time() {
    let throttle = || http(400, r#"{"Error":{"Code":"Throttling"}}"#);
    let sts = Sts::new(Config::default(), move |asked| in_50_ms(if asked.before == 0 { throttle() } else { good() }));
    assert_eq!(sts.reason(&SIGNER).await, "sts-throttled");
    assert_eq!(sts.state().least_places, 32);
    let herd = async |sts: &Sts| {
        let asked: Vec<_> = (0..200).map(|number| sts.spawn(of_key(key(number)).token())).collect();
        let mut proved = 0;
        for asked in asked {
            proved += usize::from(asked.await.unwrap().is_ok());
        }
        proved
    };
    assert_eq!(herd(&sts).await, 200, "within half a second 32 at a time are enough");
    let most = sts.seen(|seen| seen.most);
    assert!((32..=33).contains(&most), "one place comes back within the second: {most}");
    sleep(Duration::from_secs(30)).await;
    assert_eq!((herd(&sts).await, sts.seen(|seen| seen.most), sts.state().least_places), (200, 64, 64));
}

#[tokio::test(start_paused = true)]
async fn throttled_each_second_time_it_goes_on_one_by_one() {
    let throttle = || http(400, r#"{"Error":{"Code":"Throttling"}}"#);
    let sts = Sts::new(Config::default(), move |asked| in_50_ms(if asked.before % 2 == 1 { throttle() } else { good() }));
    for number in 0..20 {
        let expected = if number % 2 == 1 { "sts-throttled" } else { "proved" };
        assert_eq!(sts.reason(&of_key(key(number))).await, expected);
    }
    assert_eq!((sts.requests(), sts.counted("throttled us-east-1"), sts.counted("retried")), (20, 10, 0));
    assert!((1..=3).contains(&sts.state().least_places), "{:?}", sts.state());
    assert_eq!(sts.state().hosts_closed, 1, "a throttle is an answer");
}

/// How long each of a known user's questions took, one after another.
async fn known_user(sts: &Sts, questions: usize) -> Vec<Duration> {
    let mut took = Vec::new();
    for number in 0..questions {
        let start = Instant::now();
        assert_eq!(sts.told(&spelling("AKIAKNOWN00000000000", number)).await, "proved");
        took.push(start.elapsed());
    }
    took.sort_unstable();
    took
}

/// Keeps `outstanding` questions going until it is dropped.
fn flood(sts: &Sts, outstanding: usize, signer: impl Fn(usize) -> Signer + Send + Sync + 'static) -> JoinSet<()> {
    let mut flood = JoinSet::new();
    let (signer, next) = (Arc::new(signer), Arc::new(AtomicUsize::new(0)));
    for worker in 0..outstanding {
        let (realm, client) = (Arc::clone(&sts.realm), sts.client.clone());
        let (signer, next) = (Arc::clone(&signer), Arc::clone(&next));
        flood.spawn(async move {
            // Not all at the same instant.
            sleep(Duration::from_millis(u64::try_from(worker % 50).unwrap())).await;
            loop {
                let signer = signer(next.fetch_add(1, Ordering::SeqCst));
                if prove(Arc::clone(&realm), signer.token(), now()).await.is_ok() {
                    client.known_keys().proved(signer.access_key_id, false, now().monotonic);
                }
                sleep(Duration::from_millis(1)).await;
            }
        });
    }
    flood
}

/// A known user waits beside a flood at most twice as long as alone.
async fn is_unharmed_by(answers: impl Fn(&Asked) -> (Duration, Answer) + Send + Sync + 'static, signer: fn(usize) -> Signer) {
    let sts = Sts::new(Config::default(), answers);
    sts.client.known_keys().proved("AKIAKNOWN00000000000", true, now().monotonic);
    let alone = known_user(&sts, 20).await;
    let flood = flood(&sts, 200, signer);
    while sts.state().waiting[1] < 50 {
        sleep(Duration::from_millis(1)).await;
    }
    let beside = known_user(&sts, 40).await;
    assert!(beside[39] <= alone[19] * 2, "{:?} alone, {:?} beside the flood", alone[19], beside[39]);
    assert!(sts.state().in_flight[1] >= 62, "the flood has what nobody else wants: {:?}", sts.state());
    assert_eq!(sts.counted("refused known"), 0);
    drop(flood);
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_forged_tokens_leaves_the_known_their_time() {
    let forged = |asked: &Asked| in_50_ms(if asked.access_key_id.starts_with("AKIAKNOWN") { good() } else { http(403, REFUSAL) });
    is_unharmed_by(forged, |number| of_key(key(number))).await;
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_good_tokens_that_nobody_has_mapped_leaves_the_known_their_time() {
    is_unharmed_by(|_| in_50_ms(good()), |number| spelling(key(number % 500), number)).await;
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_hosts_that_do_not_answer_leaves_the_known_theirs() {
    let slow = |asked: &Asked| if asked.host == HOST { in_50_ms(good()) } else { at_once(Answer::Hang) };
    let sts = Sts::new(Config::default(), slow);
    sts.client.known_keys().proved("AKIAKNOWN00000000000", true, now().monotonic);
    let others: Vec<&'static str> = Partition::Aws.known_regions().iter().copied().filter(|region| *region != "us-east-1").collect();
    let flood = flood(&sts, 300, move |number| Signer { region: others[number % others.len()], ..of_key(key(number)) });
    sleep(Duration::from_millis(200)).await;
    assert_eq!(sts.state().in_flight, [0, 64], "over all hosts");
    let took = known_user(&sts, 50).await;
    assert_eq!(took[49], Duration::from_millis(50));
    drop(flood);
}

#[tokio::test(start_paused = true)]
async fn no_key_takes_more_than_its_share_of_a_contended_lane() {
    let config = Config { max_in_flight: 8, max_wait: Duration::from_secs(2), ..Config::default() };
    let sts = Sts::new(config, |_| in_50_ms(good()));
    let flood = flood(&sts, 200, |number| spelling(key(0), number));
    sleep(Duration::from_millis(200)).await;
    assert_eq!(sts.seen(|seen| seen.most_by_key[key(0)]), 8, "alone it has all");
    let start = Instant::now();
    let others: Vec<_> = (0..12).map(|number| sts.spawn(spelling(key(1 + number % 3), number).token())).collect();
    for asked in others {
        assert!(asked.await.unwrap().is_ok());
    }
    // Twelve questions of three keys, which have six of the eight places: the hundreds that wait before them do not count.
    assert!(start.elapsed() <= Duration::from_millis(200), "{:?}", start.elapsed());
    drop(flood);
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_are_bounded_and_the_rest_is_told_at_once() {
    let config = Config { max_in_flight: 2, max_queued: 3, ..Config::default() };
    let sts = Sts::new(config, |_| at_once(Answer::Hang));
    let waiting: Vec<_> = (0..5).map(|number| sts.spawn(of_key(key(number)).token())).collect();
    while sts.requests() < 2 || sts.state().waiting != [0, 3] {
        yield_now().await;
    }
    let start = Instant::now();
    assert_eq!(sts.told(&SIGNER).await, format!("STS at {HOST}: 3 calls are waiting already"));
    assert_eq!((start.elapsed(), sts.reason(&SIGNER).await, sts.counted("refused other")), (Duration::ZERO, "overloaded", 2));
    for asked in waiting.into_iter().skip(2) {
        assert_eq!(asked.await.unwrap().unwrap_err().reason(), "overloaded");
    }
    assert_eq!(start.elapsed(), Duration::from_millis(500));
}

#[tokio::test(start_paused = true)]
async fn calls_a_second_are_shared_by_the_lanes() {
    let rate = Some(Rate { per_second: 20, burst: 2 });
    let sts = Sts::new(Config { rate, max_wait: Duration::from_secs(1), ..Config::default() }, |_| at_once(good()));
    sts.client.known_keys().proved("AKIAKNOWN00000000000", true, now().monotonic);
    let flood = flood(&sts, 100, |number| of_key(key(number)));
    sleep(Duration::from_secs(10)).await;
    let alone = sts.requests();
    assert!((200..=203).contains(&alone), "{alone}");
    let took = known_user(&sts, 20).await;
    assert!(took[19] <= Duration::from_millis(110), "each second call is theirs: {:?}", took[19]);
    drop(flood);
}

#[tokio::test(start_paused = true)]
async fn a_place_comes_back_whenever_the_caller_goes() {
    // First a 500, so that the wait before the second attempt is among the places where he may go.
    let answers = |asked: &Asked| in_50_ms(if asked.before_this == 0 { http(500, "") } else { good() });
    let config = Config { max_in_flight: 1, retry_percent: 100, ..Config::default() };
    let mut polls = 0;
    loop {
        let sts = Sts::new(config.clone(), answers);
        let other = sts.spawn(of_key(key(7)).token());
        let proof = prove(Arc::clone(&sts.realm), SIGNER.token(), now());
        let is_done = poll_at_most(polls, proof).await.is_some();
        other.abort();
        let _ = other.await;
        assert_eq!((sts.state().in_flight, sts.state().waiting), ([0, 0], [0, 0]), "gone after {polls} polls");
        assert_eq!(sts.reason(&of_key(key(8))).await, "proved", "gone after {polls} polls");
        if is_done {
            break;
        }
        polls += 1;
    }
    assert!(polls > 5, "it has more places to go than {polls}");
}

/// Drops the future at its `polls`-th await, if it gets there.
async fn poll_at_most<T>(polls: usize, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let mut left = polls;
    std::future::poll_fn(move |context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        Pin::as_mut(&mut future).poll(context).map(Some)
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn a_place_comes_back_after_a_panic() {
    #[derive(Debug)]
    struct Panics;
    impl Observer for Panics {
        fn response(&self, _: u16, _: StsRegion) {
            panic!("as one does");
        }
    }
    let config = Config { max_in_flight: 1, ..Config::default() };
    let panicking = Sts::observed(config, |_| Ok(()), |_| at_once(good()), Arc::new(Panics));
    for _ in 0..3 {
        let asked = tokio::spawn(prove(Arc::clone(&panicking.realm), SIGNER.token(), now()));
        assert!(asked.await.unwrap_err().is_panic());
    }
    assert_eq!((panicking.state().in_flight, panicking.state().waiting), ([0, 0], [0, 0]));
}

#[tokio::test(start_paused = true)]
async fn a_few_new_hosts_a_minute_and_known_ones_at_any_time() {
    let sts = Sts::new(Config::default(), |_| at_once(good()));
    for region in &MADE_UP[..4] {
        assert_eq!(sts.reason(&in_region(region)).await, "proved");
    }
    let told = "STS at sts.xx-north-5.amazonaws.com: more than 4 new hosts within 60 s that only look like those of STS";
    assert_eq!((sts.told(&in_region(MADE_UP[4])).await.as_str(), sts.counted("new host")), (told, 1));
    assert_eq!(sts.reason(&in_region(MADE_UP[4])).await, "overloaded");
    for known in [MADE_UP[0], "eu-west-1", "ap-south-1"] {
        assert_eq!(sts.reason(&in_region(known)).await, "proved");
    }
    sleep(Duration::from_secs(60)).await;
    assert_eq!(sts.reason(&in_region(MADE_UP[4])).await, "proved");

    // Who has told a region has told that it is there.
    let own = Config { own_region: OwnRegion::told(Some(MADE_UP[5])), ..Config::default() };
    let told = Config { regions: Some(MADE_UP.map(str::to_owned).into()), ..Config::default() };
    for (config, asked) in [(own, vec![5; 2]), (told, vec![0, 1, 2, 3, 4, 5])] {
        let sts = Sts::new(config, |_| at_once(good()));
        for region in asked {
            assert_eq!(sts.reason(&in_region(MADE_UP[region])).await, "proved");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn hosts_and_connections_are_bounded() {
    let config = Config { max_in_flight: 4, ..Config::default() };
    let sts = Sts::new(config, |_| at_once(good()));
    let regions: BTreeSet<&'static str> = Partition::Aws.known_regions().iter().copied().collect();
    assert!(regions.len() > HOSTS);
    for _ in 0..2 {
        for region in &regions {
            assert_eq!(sts.reason(&in_region(region)).await, "proved");
            let state = sts.state();
            assert!(state.hosts_closed <= HOSTS, "{state:?}");
            assert!(state.connections <= 8, "{state:?}");
        }
    }
    assert_eq!(sts.state().hosts_closed, HOSTS);
    // And one host is asked on the connection that it has.
    let connections = sts.seen(|seen| seen.connections);
    for _ in 0..10 {
        assert_eq!(sts.reason(&in_region("us-west-2")).await, "proved");
    }
    assert_eq!(sts.seen(|seen| seen.connections), connections);
}

#[tokio::test(start_paused = true)]
async fn regions_that_are_not_named_are_not_asked() {
    let sts = Sts::new(Config { regions: Some(vec!["eu-west-1".into()]), ..Config::default() }, |_| at_once(good()));
    assert_eq!(sts.reason(&in_region("eu-west-1")).await, "proved");
    for region in ["us-east-1", "eu-west-2", "xx-north-1"] {
        let error = sts.ask(&in_region(region)).await.unwrap_err();
        assert_eq!((error.reason(), error.outcome(), error.fault()), ("sts-region", Outcome::Refused, Fault::Caller));
        assert_eq!(error.to_string(), format!("STS at sts.{region}.amazonaws.com: its region is not among server.sts.regions"));
    }
    assert_eq!(sts.requests(), 1);
    // What STS may not be asked, a key that is at hand still proves.
    let chain = realm(vec![Prover::Sts(sts.client.clone()), Prover::Offline(keyring())]);
    assert_eq!(prove(chain, SIGNER.token(), now()).await.unwrap().source(), Source::Offline);
}

#[tokio::test(start_paused = true)]
async fn the_date_of_its_answers_tells_how_far_the_clocks_are_apart() {
    let dated = |status: u16, body: &str, date: &str| {
        Answer::Bytes(format!("HTTP/1.1 {status} X\r\ndate: {date}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into())
    };
    // Our clock shows 12:00:10.
    for (answer, counted) in [
        (dated(403, REFUSAL, "Tue, 24 Nov 2026 12:00:07 GMT"), Some("skew 3")),
        (dated(403, REFUSAL, "Tue, 24 Nov 2026 12:02:10 GMT"), Some("skew -120")),
        (dated(400, r#"{"Error":{"Code":"Throttling"}}"#, "Tue, 24 Nov 2026 11:00:10 GMT"), Some("skew 3600")),
        (dated(403, "<html>blocked</html>", "Tue, 24 Nov 2026 12:02:10 GMT"), None),
        (dated(429, "", "Tue, 24 Nov 2026 12:02:10 GMT"), None),
        (dated(403, REFUSAL, "yesterday"), None),
    ] {
        let sts = Sts::new(Config::default(), move |_| at_once(answer.clone()));
        sts.ask(&SIGNER).await.unwrap_err();
        let skews = sts.counts.0.lock().unwrap().iter().find(|counted| counted.starts_with("skew")).cloned();
        assert_eq!(skews.as_deref(), counted);
    }
    // The time that an answer takes is none by which the clocks are apart.
    let sts = Sts::new(Config::default(), move |_| (Duration::from_millis(1900), dated(403, REFUSAL, "Tue, 24 Nov 2026 12:00:11 GMT")));
    sts.ask(&SIGNER).await.unwrap_err();
    assert_eq!(sts.counted("skew 0"), 1);
}

#[tokio::test]
async fn names_that_nobody_knows_keep_no_other_from_being_resolved() {
    use std::sync::{Condvar, LazyLock};
    static RELEASED: LazyLock<(Mutex<bool>, Condvar)> = LazyLock::new(Default::default);
    static LOOK_UPS: AtomicUsize = AtomicUsize::new(0);
    let resolve: Resolve = |host| {
        if host.contains("xx-north") {
            LOOK_UPS.fetch_add(1, Ordering::SeqCst);
            let released = RELEASED.0.lock().unwrap();
            drop(RELEASED.1.wait_while(released, |released| !*released).unwrap());
        }
        Err(io::Error::other("x: no answer from 10.0.0.1"))
    };
    let realm = with_dns_and(&Config { connect_timeout: Duration::from_secs(2), ..Config::default() }, resolve, None);
    let hanging: Vec<_> = (0..40)
        .map(|number| tokio::spawn(prove(Arc::clone(&realm), Signer { region: MADE_UP[number % 4], ..of_key(key(number)) }.token(), now())))
        .collect();
    while LOOK_UPS.load(Ordering::SeqCst) < 4 {
        yield_now().await;
    }
    let error = prove(realm, UNKNOWN.token(), now()).await.unwrap_err();
    *RELEASED.0.lock().unwrap() = true;
    RELEASED.1.notify_all();
    assert!(error.to_string().ends_with("dns error: x: no answer from 10.0.0.1"), "{error}");
    hanging.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test(start_paused = true)]
async fn a_429_that_does_not_come_to_its_end_is_a_throttle() {
    let half = b"HTTP/1.1 429 X\r\ncontent-length: 100\r\n\r\nhalf";
    let sts = Sts::new(Config::default(), move |_| (Duration::ZERO, Answer::Bytes(half.to_vec())));
    assert_eq!(sts.told(&SIGNER).await, format!("STS at {HOST}: throttled (status 429)"));
    assert_eq!(sts.requests(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_sts_has_closed_meanwhile_is_not_used() {
    let Answer::Bytes(answer) = good() else { unreachable!("an answer") };
    let sts = Sts::new(Config::default(), move |_| at_once(Answer::Last(answer.clone())));
    for connections in 1..4 {
        assert_eq!(sts.reason(&SIGNER).await, "proved");
        assert_eq!((sts.seen(|seen| seen.connections), sts.requests(), sts.counted("retried")), (connections, connections, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_nobody_wants_is_closed() {
    let sts = Sts::new(Config::default(), |_| at_once(good()));
    let mut asked = JoinSet::new();
    for _ in 0..3 {
        asked.spawn(sts.spawn(SIGNER.token()));
    }
    while asked.join_next().await.is_some() {}
    assert_eq!(sts.state().connections, 3);
    sleep(IDLE / 2).await;
    assert_eq!(sts.reason(&SIGNER).await, "proved");
    sleep(IDLE * 3 / 4).await;
    assert_eq!((sts.state().connections, sts.seen(|seen| seen.connections)), (1, 3), "the one that was used last");
    sleep(IDLE).await;
    assert_eq!(sts.state().connections, 0);
    assert_eq!(sts.reason(&SIGNER).await, "proved");
    sleep(IDLE * 2).await;
    assert_eq!(sts.state().connections, 0, "and those that came later");
}
