//! What goes wrong around the webhook, and what must not come of it: a wrong identity, a second question to STS, or the loss of those who are known.
//!
//! Order is made by gates and counts, and time by a clock that stands still until it is moved. Faults of STS alone are tested beside its client.

mod support;

use std::num::NonZeroU64;
use std::time::Duration;

use arngate_core::UnixSeconds;
use arngate_loadtest::credential::Credential;
use arngate_loadtest::sts::Behaviour;
use arngate_server::identity_cache;
use arngate_server::mapping::BackendMode;
use futures_util::future::join_all;
use support::{Fixture, NOON, Protocol, Reply, Session, Setup};

const ALICE: &str = "arn:aws:iam::123456789012:user/Alice";

/// So many users of the examples' account, each with a key of his own; STS learns them.
fn people(fixture: &Fixture, count: usize) -> Vec<Credential> {
    let people: Vec<_> = (0..count).map(|index| support::user(&format!("AKIAPERSON{index:010}"), &format!("person-{index}"))).collect();
    for person in &people {
        fixture.sts().put_credential(person.clone());
    }
    people
}

/// The ARN of each who was let in; a test fails here where that is not the signer's.
fn let_in<'a>(asked: impl IntoIterator<Item = &'a Credential>, replies: &[Reply]) -> usize {
    let mut count = 0;
    for (signer, reply) in asked.into_iter().zip(replies) {
        if let Some(arn) = reply.arn() {
            assert_eq!(arn, signer.identity().arn, "{}", reply.body);
            count += 1;
        }
    }
    count
}

fn assert_alice(reply: &Reply) {
    assert_eq!((reply.status, reply.arn().as_deref()), (200, Some(ALICE)), "{}", reply.body);
}

#[tokio::test]
async fn the_one_who_asked_first_hangs_up_and_the_next_gets_his_proof() {
    let fixture = Fixture::start(Setup::default()).await;
    let token = fixture.token(&Credential::example_user());
    let gate = fixture.sts().hold();
    let (first, second) = (fixture.connect().await, fixture.connect().await);

    let leader = tokio::spawn(first.review(&token));
    gate.wait_held(1).await;
    // With his connection and all.
    drop(first);
    leader.abort();
    fixture.wait_for_waiters(0).await;

    let follower = tokio::spawn(second.review(&token));
    fixture.wait_for_waiters(1).await;
    gate.open();
    assert_alice(&follower.await.unwrap());
    assert_eq!(fixture.sts().calls(), 1);
    assert_eq!(fixture.metric("arngate_coalesced_total").await, 1);
}

#[tokio::test]
async fn of_250_who_wait_249_hang_up_and_the_last_is_answered_by_the_one_call() {
    let fixture = Fixture::start(Setup::default()).await;
    let token = fixture.token(&Credential::example_user());
    let gate = fixture.sts().hold();
    let session = fixture.connect().await;
    let mut waiting: Vec<_> = (0..250).map(|_| tokio::spawn(session.review(&token))).collect();
    gate.wait_held(1).await;
    fixture.wait_for_waiters(250).await;

    let last = waiting.pop().unwrap();
    for one in &waiting {
        one.abort();
    }
    fixture.wait_for_waiters(1).await;
    gate.open();
    assert_alice(&last.await.unwrap());
    assert_alice(&session.review(&token).await);
    assert_eq!(fixture.sts().calls(), 1);
    assert_eq!(fixture.cluster().flights.counts(), arngate_server::flight::Counts::default());
}

#[tokio::test]
async fn a_herd_of_all_who_hang_up_leaves_the_proof_for_those_who_come_later() {
    let fixture = Fixture::start(Setup::default()).await;
    let token = fixture.token(&Credential::example_user());
    let gate = fixture.sts().hold();
    let session = fixture.connect().await;
    let herd: Vec<_> = (0..50).map(|_| tokio::spawn(session.review(&token))).collect();
    gate.wait_held(1).await;
    fixture.wait_for_waiters(50).await;
    herd.iter().for_each(tokio::task::JoinHandle::abort);
    fixture.wait_for_waiters(0).await;
    gate.open();
    assert_alice(&session.review(&token).await);
    assert_eq!(fixture.sts().calls(), 1);
}

#[tokio::test]
async fn a_panic_in_a_proof_reaches_all_who_wait_for_it_and_nobody_else() {
    let fixture = Fixture::start(Setup { panics: true, ..Setup::default() }).await;
    let (alice, jane) = (Credential::example_user(), Credential::example_role());
    let token = fixture.token(&alice);
    let gate = fixture.sts().hold();
    let session = fixture.connect().await;
    let waiting: Vec<_> = (0..20).map(|_| tokio::spawn(session.review(&token))).collect();
    gate.wait_held(1).await;
    fixture.wait_for_waiters(20).await;
    gate.open();
    for reply in join_all(waiting).await {
        let reply = reply.unwrap();
        assert_eq!((reply.status, reply.body.as_str()), (500, "internal error\n"));
    }
    assert_eq!(fixture.sts().calls(), 1);

    // Nothing of it is kept, and no flight is left that never lands.
    fixture.stop_panicking();
    assert_alice(&session.review(&token).await);
    assert_eq!(session.review(&fixture.token(&jane)).await.arn().as_deref(), Some(jane.identity().arn.as_str()));
    assert_eq!(fixture.cluster().flights.counts(), arngate_server::flight::Counts::default());
}

#[tokio::test]
async fn a_clock_that_steps_back_and_forth_makes_no_token_live_longer() {
    let fixture = Fixture::start(Setup::default()).await;
    let session = fixture.connect().await;
    let token = fixture.token(&Credential::example_user());
    let minutes = |minutes: i64| NOON.saturating_add(60 * minutes);
    assert_alice(&session.review(&token).await);

    // (where the wall clock is set to, minutes that pass by the monotonic one, let in, calls of STS so far)
    let steps: [(UnixSeconds, u64, bool, u64); 9] = [
        (minutes(-60), 1, true, 1),  // An hour back: known, and not two minutes old.
        (minutes(60), 1, false, 1),  // An hour ahead: at an end, by the wall clock.
        (minutes(1), 1, true, 1),    // Put right: as fresh as it is.
        (minutes(-60), 1, true, 1),  // Back again, and …
        (minutes(-60), 5, false, 1), // … past its time: to be asked for again, and too far ahead of our clock for that.
        (minutes(4), 0, true, 2),    // With the clock put right, STS is asked.
        (minutes(4), 4, true, 2),
        (minutes(4), 1, true, 3), // A clock that stands still: five minutes have passed, whatever it shows.
        (minutes(16), 0, false, 3),
    ];
    for (index, (wall, passed, is_let_in, calls)) in steps.into_iter().enumerate() {
        fixture.clock().advance_monotonic(Duration::from_secs(60 * passed));
        fixture.clock().set_unix(wall);
        let reply = session.review(&token).await;
        let expected = is_let_in.then_some(ALICE);
        assert_eq!((index, reply.arn().as_deref(), fixture.sts().calls()), (index, expected, calls), "{}", reply.body);
    }

    // It stands still at the fourth minute, which left the token eleven when it was proved last; and STS is away.
    fixture.clock().set_unix(minutes(4));
    fixture.sts().set_behaviour(Behaviour::CloseWithoutAnswer);
    fixture.clock().advance_monotonic(Duration::from_secs(11 * 60));
    assert_alice(&session.review(&token).await);
    fixture.clock().advance_monotonic(Duration::from_secs(1));
    assert_eq!(session.review(&token).await.arn(), None);
}

#[tokio::test]
async fn a_clock_that_is_not_that_of_sts_is_told_once_until_they_agree_again() {
    const APART: &str =
        "level=warning msg=\"our clock is not that of STS: good tokens are refused once they are too far apart; see to NTP\"";
    const TOGETHER: &str = "level=info msg=\"our clock and that of STS agree again\"";
    let (told, _guard) = support::listen();
    let fixture = Fixture::start(Setup::default()).await;
    let session = fixture.connect().await;
    let times = |line: &str| told.text().matches(line).count();
    // Seconds that a proof takes, on a machine that has other things to do, count for us.
    let shown = async || fixture.metric("arngate_sts_clock_skew_seconds").await;
    let mut tokens = (0..).map(|second| fixture.later_token(&Credential::example_user(), second));
    let mut prove = async |times| {
        for _ in 0..times {
            assert_alice(&session.review(&tokens.next().unwrap()).await);
        }
    };

    // A minute is none too many.
    fixture.clock().set_unix(NOON.saturating_add(30));
    prove(1).await;
    assert!((30..60).contains(&shown().await) && told.text().is_empty(), "{} {}", shown().await, told.text());

    fixture.clock().set_unix(NOON.saturating_add(240));
    prove(5).await;
    assert!((240..270).contains(&shown().await), "{}", shown().await);
    assert_eq!((times(APART), times(TOGETHER)), (1, 0), "{}", told.text());
    assert!(told.text().contains(&format!("{APART} ahead_secs=2")), "{}", told.text());
    // Whoever is known costs no question, and a refusal of STS tells the time as well.
    let calls = fixture.sts().calls();
    assert_alice(&session.review(&fixture.token(&Credential::example_user())).await);
    assert_eq!((fixture.sts().calls(), times(APART)), (calls, 1));
    fixture.clock().set_unix(NOON.saturating_add(-200));
    assert_eq!(session.review(&fixture.token(&support::stranger())).await.arn(), None);
    assert!((-200..-170).contains(&shown().await), "{}", shown().await);
    assert_eq!((times(APART), times(TOGETHER)), (1, 0), "{}", told.text());

    // It is STS' clock that is put right, which is all the same.
    fixture.sts_clock().set_unix(NOON.saturating_add(-200));
    prove(3).await;
    assert!((0..30).contains(&shown().await), "{}", shown().await);
    assert_eq!((times(APART), times(TOGETHER)), (1, 1), "{}", told.text());

    // And then it is worth another word.
    fixture.sts_clock().set_unix(NOON);
    prove(2).await;
    assert!((-200..-170).contains(&shown().await), "{}", shown().await);
    assert_eq!((times(APART), times(TOGETHER)), (2, 1), "{}", told.text());
    assert!(told.text().contains(&format!("{APART} ahead_secs=-1")) || told.text().contains(&format!("{APART} ahead_secs=-200")));
    assert_eq!(told.text().lines().count(), 3, "{}", told.text());
}

/// Room for some ten identities in each of the cache's shards.
const SMALL: identity_cache::Settings = identity_cache::Settings {
    ttl: Duration::from_secs(300),
    max_bytes: 64 << 10,
    negative_ttl: Duration::from_secs(30),
    stale_if_down: true,
};

#[tokio::test]
async fn a_full_cache_lets_go_of_some_and_mixes_up_nobody() {
    let fixture = Fixture::start(Setup { whole_account: true, cache: SMALL, ..Setup::default() }).await;
    let people = people(&fixture, 400);
    let session = fixture.connect().await;
    for _ in 0..2 {
        for some in people.chunks(50) {
            let replies = join_all(some.iter().map(|person| session.review(&fixture.token(person)))).await;
            assert_eq!(let_in(some, &replies), some.len());
        }
    }
    let sizes = fixture.cluster().identities.sizes();
    assert!(sizes.bytes <= sizes.max_bytes && sizes.max_bytes <= 64 << 10, "{sizes:?}");
    assert!(sizes.entries < 400 && sizes.entries > 50, "{sizes:?}");
    assert!(fixture.metric("arngate_cache_evictions_total").await >= 400 - 64, "{sizes:?}");
}

#[tokio::test]
async fn past_its_time_an_identity_goes_when_sts_refuses() {
    let fixture = Fixture::start(Setup::default()).await;
    let session = fixture.connect().await;
    let alice = Credential::example_user();
    let token = fixture.token(&alice);
    assert_alice(&session.review(&token).await);

    fixture.sts().remove_credential(alice.access_key_id());
    assert_alice(&session.review(&token).await);
    fixture.clock().advance_secs(300);
    let refused = session.review(&token).await;
    assert_eq!((refused.status, refused.arn(), fixture.sts().calls()), (200, None, 2), "{}", refused.body);

    // Gone for good: not to be had from before when STS is away, also once the refusal itself is forgotten.
    fixture.sts().set_behaviour(Behaviour::CloseWithoutAnswer);
    assert_eq!(session.review(&token).await.arn(), None);
    fixture.clock().advance_secs(31);
    let reply = session.review(&token).await;
    assert_eq!((reply.status, reply.arn()), (504, None), "{}", reply.body);
}

#[tokio::test]
async fn past_its_time_an_identity_is_believed_while_sts_is_away_until_the_tokens_end() {
    let fixture = Fixture::start(Setup::default()).await;
    let session = fixture.connect().await;
    let token = fixture.token(&Credential::example_user());
    assert_alice(&session.review(&token).await);
    fixture.sts().set_behaviour(Behaviour::CloseWithoutAnswer);

    fixture.clock().advance_secs(299);
    assert_alice(&session.review(&token).await);
    assert_eq!(fixture.metric("arngate_cache_stale_served_total").await, 0);
    for (stale, seconds) in [(1, 1), (2, 599), (3, 1)] {
        fixture.clock().advance_secs(seconds);
        assert_alice(&session.review(&token).await);
        assert_eq!(fixture.metric("arngate_cache_stale_served_total").await, stale);
    }
    // The 900th second was the last.
    fixture.clock().advance_secs(1);
    let reply = session.review(&token).await;
    assert_eq!((reply.arn(), reply.error().as_str()), (None, "the token was signed more than 15 minutes ago"));
    // Nor is anybody believed who was never known.
    let later = session.review(&fixture.later_token(&Credential::example_user(), 600)).await;
    assert_eq!((later.status, later.arn()), (504, None));
}

#[tokio::test]
async fn without_stale_if_down_nobody_is_believed_past_his_time() {
    let cache = identity_cache::Settings { stale_if_down: false, ..identity_cache::Settings::default() };
    let fixture = Fixture::start(Setup { cache, ..Setup::default() }).await;
    let token = fixture.token(&Credential::example_user());
    let session = fixture.connect().await;
    assert_alice(&session.review(&token).await);
    fixture.sts().set_behaviour(Behaviour::CloseWithoutAnswer);
    fixture.clock().advance_secs(300);
    assert_eq!(session.review(&token).await.status, 504);
}

#[tokio::test]
async fn mappings_that_change_during_a_proof_are_those_that_answer() {
    let fixture = Fixture::start(Setup::default()).await;
    let token = fixture.token(&Credential::example_user());
    let session = fixture.connect().await;
    let username = |reply: &Reply| {
        let review: serde_json::Value = serde_json::from_str(&reply.body).unwrap();
        review["status"]["user"]["username"].as_str().map(str::to_owned)
    };
    let gate = fixture.sts().hold();
    let waiting = tokio::spawn(session.review(&token));
    gate.wait_held(1).await;
    fixture.cluster().mappings.publish(BackendMode::MountedFile, support::only("Alice", "alice-of-late"));
    gate.open();
    assert_eq!(username(&waiting.await.unwrap()).as_deref(), Some("alice-of-late"));

    // And on the very next request, though the identity is known.
    fixture.cluster().mappings.publish(BackendMode::MountedFile, support::only("Bob", "bob"));
    let reply = session.review(&token).await;
    assert_eq!((username(&reply), reply.error().as_str()), (None, "identity is not mapped"));
    fixture.cluster().mappings.publish(BackendMode::MountedFile, support::only("Alice", "alice-again"));
    assert_eq!(username(&session.review(&token).await).as_deref(), Some("alice-again"));
    assert_eq!(fixture.sts().calls(), 1);
}

#[tokio::test]
async fn nobody_is_denied_as_unknown_while_a_source_of_mappings_is_not_loaded() {
    let fixture = Fixture::start(Setup::default()).await;
    let session = fixture.connect().await;
    let bob = support::user("AKIABOB0000000000000", "Bob");
    fixture.sts().put_credential(bob.clone());
    let (alice, bob) = (fixture.token(&Credential::example_user()), fixture.token(&bob));
    fixture.cluster().mappings.update(|draft| draft.policy.modes = vec![BackendMode::EksConfigMap, BackendMode::MountedFile]);
    for _ in 0..2 {
        assert_alice(&session.review(&alice).await);
        let reply = session.review(&bob).await;
        let error = "identity is not mapped so far, and the mappings of EKSConfigMap are not loaded yet";
        assert_eq!((reply.status, reply.error().as_str()), (503, error));
    }
    assert_eq!(fixture.metric("arngate_refusals_total{reason=\"not-loaded\"}").await, 2);
    fixture.cluster().mappings.publish(BackendMode::EksConfigMap, support::only("Bob", "bob"));
    assert_eq!(session.review(&bob).await.status, 200);
    fixture.cluster().mappings.publish(BackendMode::EksConfigMap, support::only("Carol", "carol"));
    let reply = session.review(&bob).await;
    assert_eq!((reply.status, reply.error().as_str()), (200, "identity is not mapped"));
}

#[tokio::test]
async fn a_key_taken_out_of_the_bundle_counts_no_more_for_what_it_has_proved() {
    let fixture = Fixture::start(Setup { bundle: true, sts: false, ..Setup::default() }).await;
    let token = fixture.token(&Credential::example_user());
    let session = fixture.connect().await;
    assert_alice(&session.review(&token).await);
    fixture.keyring().replace(support::bundle_of(&support::stranger()));
    let reply = session.review(&token).await;
    assert_eq!((reply.status, reply.arn()), (200, None), "{}", reply.body);
    fixture.keyring().replace(support::bundle_of(&Credential::example_user()));
    assert_alice(&session.review(&token).await);
}

#[tokio::test]
async fn what_keys_behind_sts_have_proved_is_known_until_there_is_another_bundle() {
    let fixture = Fixture::start(Setup { bundle_behind_sts: true, sts_unreachable: true, ..Setup::default() }).await;
    let token = fixture.token(&Credential::example_user());
    let session = fixture.connect().await;
    for _ in 0..2 {
        assert_alice(&session.review(&token).await);
    }
    let counted = (fixture.metric("arngate_offline_proofs_total").await, fixture.metric("arngate_cache_hits_total").await);
    assert_eq!(counted, (1, 1));
    fixture.keyring().replace(support::bundle_of(&support::stranger()));
    let reply = session.review(&token).await;
    assert_eq!((reply.status, reply.arn()), (504, None), "{}", reply.body);
}

#[tokio::test]
async fn what_is_proved_under_one_bundle_does_not_count_under_the_next() {
    let fixture = Fixture::start(Setup { bundle: true, ..Setup::default() }).await;
    fixture.keyring().replace(support::bundle_of(&support::stranger()));
    let alice = Credential::example_user();
    let token = fixture.token(&alice);
    let session = fixture.connect().await;
    let gate = fixture.sts().hold();
    let before = tokio::spawn(session.review(&token));
    gate.wait_held(1).await;

    // Her key comes into the bundle while STS is asked, and later there is another secret to it.
    fixture.keyring().replace(support::bundle_of(&alice));
    assert_alice(&session.review(&token).await);
    assert_eq!((fixture.sts().calls(), fixture.metric("arngate_offline_proofs_total").await), (1, 1));
    let other = Credential::new(alice.access_key_id(), "another secret", alice.identity().clone()).unwrap();
    fixture.keyring().replace(support::bundle_of(&other));
    gate.open();
    assert_alice(&before.await.unwrap());
    let reply = session.review(&token).await;
    assert_eq!((reply.status, reply.arn()), (200, None), "{}", reply.body);
    assert_eq!(fixture.sts().calls(), 1);
}

#[tokio::test]
async fn a_flood_of_forged_tokens_costs_those_who_are_known_nothing() {
    let fixture = Fixture::start(Setup { cache: SMALL, ..Setup::default() }).await;
    let (alice, session) = (Credential::example_user(), fixture.connect().await);
    let token = fixture.token(&alice);
    assert_alice(&session.review(&token).await);
    for flood in 0..10 {
        let forged = (0..50).map(|index| fixture.token(&support::user(&format!("AKIAFORGED{flood:05}{index:05}"), "nobody")));
        let replies = join_all(forged.map(|token| session.review(&token))).await;
        assert!(replies.iter().all(|reply| reply.arn().is_none()));
        assert_alice(&session.review(&token).await);
    }
    assert_eq!(fixture.sts().calls_of(alice.access_key_id()), 1);
    assert_eq!(fixture.metric("arngate_cache_evictions_total").await, 0);

    // One that comes again is not asked for again.
    let calls = fixture.sts().calls();
    let forged = fixture.later_token(&support::user("AKIAFORGEDAGAINANDAGAIN", "nobody"), 1);
    for _ in 0..20 {
        assert_eq!(session.review(&forged).await.arn(), None);
    }
    assert_eq!(fixture.sts().calls(), calls + 1);
}

#[tokio::test]
async fn a_flood_of_good_tokens_that_nobody_has_mapped_costs_those_who_are_known_nothing() {
    let fixture = Fixture::start(Setup { cache: SMALL, ..Setup::default() }).await;
    let strangers = people(&fixture, 400);
    let (alice, session) = (Credential::example_user(), fixture.connect().await);
    let token = fixture.token(&alice);
    assert_alice(&session.review(&token).await);
    for some in strangers.chunks(40) {
        let replies = join_all(some.iter().map(|stranger| session.review(&fixture.token(stranger)))).await;
        assert!(replies.iter().all(|reply| reply.arn().is_none() && reply.error() == "identity is not mapped"));
        assert_alice(&session.review(&token).await);
    }
    assert!(fixture.metric("arngate_cache_evictions_total").await > 100);
    assert_eq!(fixture.sts().calls_of(alice.access_key_id()), 1);
}

#[tokio::test]
async fn whoever_is_known_waits_for_no_flood_of_strangers() {
    let fixture = Fixture::start(Setup { places: Some(8), ..Setup::default() }).await;
    let (alice, session) = (Credential::example_user(), fixture.connect().await);
    assert_alice(&session.review(&fixture.token(&alice)).await);

    // Half of them have good keys that nobody has mapped, half have made theirs up.
    let mut strangers = people(&fixture, 30);
    strangers.extend((0..30).map(|index| support::user(&format!("AKIAFORGED{index:010}"), "nobody")));
    let gate = fixture.sts().hold();
    let flood: Vec<_> = strangers.iter().map(|stranger| tokio::spawn(session.review(&fixture.token(stranger)))).collect();
    fixture.wait_for_waiters(60).await;
    gate.wait_held(8).await;
    let before = fixture.sts().calls();

    let known = tokio::spawn(session.review(&fixture.later_token(&alice, 1)));
    fixture.wait_for_waiters(61).await;
    // One place after the other becomes free; hers is among the first, whoever was there before her.
    let mut freed = 0;
    while fixture.sts().calls_of(alice.access_key_id()) < 2 {
        gate.pass(1);
        freed += 1;
        assert!(freed <= 3, "{freed} of those who came before her were served first");
        fixture.sts().wait_for_calls(before + freed).await;
    }
    gate.open();
    assert_alice(&known.await.unwrap());
    let replies: Vec<_> = join_all(flood).await.into_iter().map(Result::unwrap).collect();
    assert!(replies.iter().all(|reply| reply.arn().is_none()));
    assert_eq!(fixture.sts().calls(), 62);
}

/// What goes wrong between two rounds of questions.
#[derive(Debug)]
enum Fault {
    Nothing,
    Sts(Behaviour),
    EverySecondCall(Behaviour),
    Panics,
    ClockAhead,
    ClockBack,
    CacheOfNoSize,
    Mappings,
    Bundle,
    HangUps,
}

fn faults() -> Vec<Fault> {
    let behaviours = [
        Behaviour::CloseWithoutAnswer,
        Behaviour::Reset,
        Behaviour::Throttle,
        Behaviour::error(403, "AccessDenied", "no"),
        Behaviour::Status(500),
        Behaviour::Status(503),
        Behaviour::Garbage,
        Behaviour::Oversize(5 << 20),
        Behaviour::Redirect,
        Behaviour::ProxyPage,
        Behaviour::OtherPartition,
        Behaviour::Truncated,
        Behaviour::Hang,
        Behaviour::Delay(Duration::from_millis(20)),
    ];
    let mut faults = vec![
        Fault::Nothing,
        Fault::Panics,
        Fault::ClockAhead,
        Fault::ClockBack,
        Fault::CacheOfNoSize,
        Fault::Mappings,
        Fault::Bundle,
        Fault::HangUps,
    ];
    for behaviour in behaviours {
        faults.push(Fault::Sts(behaviour.clone()));
        faults.push(Fault::EverySecondCall(behaviour));
    }
    faults
}

/// Three questions of each, all at once: two for the token that was asked for in the first round, if there was one, and one for a new one.
async fn ask(fixture: &Fixture, session: &Session, people: &[Credential], round: i64) -> usize {
    let asked: Vec<&Credential> = people.iter().flat_map(|person| [person; 3]).collect();
    let tokens = asked.iter().enumerate().map(|(index, person)| fixture.later_token(person, if index % 3 == 2 { round } else { 0 }));
    let replies = join_all(tokens.map(|token| session.review(&token))).await;
    let_in(asked, &replies)
}

#[tokio::test]
async fn in_every_fault_whoever_is_let_in_is_the_one_who_signed() {
    for fault in faults() {
        let cache = if matches!(fault, Fault::CacheOfNoSize) {
            identity_cache::Settings { max_bytes: 8 << 10, ..SMALL }
        } else {
            identity_cache::Settings::default()
        };
        let panics = matches!(fault, Fault::Panics);
        // A busy machine may be later than these, so nothing is counted on where they are needed.
        let quick_time_outs = matches!(fault, Fault::Sts(Behaviour::Hang) | Fault::EverySecondCall(Behaviour::Hang));
        let fixture = Fixture::start(Setup { whole_account: true, bundle: true, quick_time_outs, panics, cache, ..Setup::default() }).await;
        let mut people = people(&fixture, 10);
        people.extend([Credential::example_user(), Credential::example_role()]);
        let session = fixture.connect().await;

        // Half of them are known when it begins, but where no proof comes to an end.
        let known = &people[..6];
        let before = ask(&fixture, &session, known, 1).await;
        assert!(quick_time_outs || before == if panics { 0 } else { 18 }, "{fault:?}: {before}");
        match &fault {
            Fault::Nothing | Fault::CacheOfNoSize | Fault::Panics => {}
            Fault::Sts(behaviour) => fixture.sts().set_behaviour(behaviour.clone()),
            Fault::EverySecondCall(behaviour) => fixture.sts().set_behaviour_every(NonZeroU64::new(2).unwrap(), behaviour.clone()),
            Fault::ClockAhead => fixture.clock().set_unix(NOON.saturating_add(3600)),
            Fault::ClockBack => fixture.clock().set_unix(NOON.saturating_add(-3600)),
            Fault::Mappings => fixture.cluster().mappings.publish(BackendMode::MountedFile, support::only("person-1", "one")),
            Fault::Bundle => fixture.keyring().replace(support::bundle_of(&people[3])),
            Fault::HangUps => {
                let gate = fixture.sts().hold();
                let herd: Vec<_> = people.iter().map(|person| tokio::spawn(session.review(&fixture.later_token(person, 2)))).collect();
                gate.wait_held(6).await;
                herd.iter().for_each(tokio::task::JoinHandle::abort);
            }
        }
        let during = ask(&fixture, &session, &people, 2).await;
        fixture.clock().advance_secs(300);
        let past_their_time = ask(&fixture, &session, &people, 3).await;

        match &fault {
            Fault::Nothing | Fault::CacheOfNoSize | Fault::HangUps => assert_eq!((during, past_their_time), (36, 36), "{fault:?}"),
            // Known ones stay known while STS is none that could say otherwise.
            Fault::Sts(_) | Fault::EverySecondCall(_) => assert!(quick_time_outs || during >= 12, "{fault:?}: {during}"),
            _ => {}
        }
        fixture.stop_panicking();
        assert_eq!(fixture.request(Protocol::Http1, "GET", "/healthz", "").await.status, 200, "{fault:?}");
    }
}
