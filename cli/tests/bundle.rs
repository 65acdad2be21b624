//! The key bundle of a server: who logs in by it, what makes it refuse one, and that it is replaced while questions are under way, by the watch that the binary keeps
//! on its file, with STS behind it.
//!
//! Where it is replaced, STS and the bundle tell of everybody under two names, so that each answer shows who gave it.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arngate_loadtest::clock::Clock;
use arngate_loadtest::credential::{CallerIdentity, Credential};
use arngate_loadtest::sts::{Config, FakeSts, Gate};
use support::server::{MAPPINGS, Server, refused, with_sts};
use support::{Call, arngate, with_keys};

const HOST: &str = "sts.eu-west-1.amazonaws.com";

/// Longest wait for a question to reach STS: a bound, not a measure.
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn a_token_of_ours_logs_in_through_sts_and_through_a_bundle_of_ours() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let alice = Credential::example_user();
    let config = Config::new(Clock::system()).with_credentials([alice.clone()]);
    let sts = runtime.block_on(FakeSts::start(config)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    fs::write(&ca, sts.ca_pem()).unwrap();
    let call = || {
        arngate()
            .variable("AWS_ACCESS_KEY_ID", alice.access_key_id())
            .variable("AWS_SECRET_ACCESS_KEY", alice.secret())
            .variable("AWS_REGION", "eu-west-1")
    };
    let token = || call().arguments("token -i prod.example.com --token-only").run().stdout.trim_end().to_owned();

    let by_sts = Server::start(&with_sts("sts.eu-west-1.amazonaws.com", sts.addr(), &ca));
    let (status, body) = by_sts.review(&token());
    assert!(status == 200 && body.contains(r#""username":"alice""#), "{body}\n{}", by_sts.log());
    assert_eq!(sts.calls(), 1);

    let bundle = folder.path().join("keys.yaml");
    let line = "keys derive --arn arn:aws:iam::123456789012:user/Alice --user-id AIDACKCEVSQ6C2EXAMPLE --region eu-west-1 -o";
    let derived = call().arguments(line).argument(&bundle).run();
    assert_eq!(derived.code, 0, "{}", derived.stderr);
    let by_bundle = Server::start(&format!("{MAPPINGS}  provers: [offline]\n  offline: {{bundle: {}}}\n", bundle.display()));
    let (status, body) = by_bundle.review(&token());
    assert!(status == 200 && body.contains(r#""username":"alice""#), "{body}\n{}", by_bundle.log());
    assert_eq!(sts.calls(), 1, "nobody was asked");
}

fn bundle_refusal(bundle: &str, mode: u32) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.yaml");
    fs::write(&path, bundle).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    let (code, said) = refused(folder.path(), MAPPINGS, &["--offline-bundle", path_text(&path)]);
    assert_eq!(code, Some(1), "{said}");
    said
}

fn path_text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_bundle_that_must_not_be_used_is_refused_with_the_reason() {
    let derive = "keys derive --arn arn:aws:iam::123456789012:user/edge --user-id AIDAEXAMPLE --region eu-west-1";
    let good = with_keys().arguments(derive).run().stdout;
    let readable = bundle_refusal(&good, 0o644);
    assert!(readable.contains("FOLDER/keys.yaml") && readable.contains("others"), "{readable}");
    let temporary = bundle_refusal(&good.replace("AKIA", "ASIA"), 0o600);
    assert!(temporary.contains("keys.yaml:") && temporary.contains("ASIA"), "{temporary}");
    let role = bundle_refusal(&good.replace(":user/edge", ":role/edge"), 0o600);
    assert!(role.contains("keys.yaml:") && role.contains("role"), "{role}");
    for said in [readable, temporary, role] {
        assert_eq!(said.matches("level=fatal").count(), 1, "{said}");
        assert!(!said.contains("key: "), "{said}");
    }
}

/// A user of whom the bundle tells as `NAME-of-bundle`, and STS as `NAME-of-sts`.
struct Person {
    name: &'static str,
    key: Credential,
}

impl Person {
    fn new(name: &'static str) -> Self {
        let identity = CallerIdentity::of_arn(arn(name, "sts"), "AIDACKCEVSQ6C2EXAMPLE").unwrap();
        let key = Credential::new(format!("AKIA{:A>16}", name.to_uppercase()), format!("the secret of {name}"), identity).unwrap();
        Self { name, key }
    }

    fn arngate(&self, secret: &str) -> Call {
        arngate()
            .variable("AWS_ACCESS_KEY_ID", self.key.access_key_id())
            .variable("AWS_SECRET_ACCESS_KEY", secret)
            .variable("AWS_REGION", "eu-west-1")
    }

    fn token(&self) -> String {
        let printed = self.arngate(self.key.secret()).arguments("token -i prod.example.com --token-only").run();
        assert_eq!(printed.code, 0, "{}", printed.stderr);
        printed.stdout.trim_end().to_owned()
    }

    /// The keys of such a secret, as a bundle.
    fn bundle_of(&self, secret: &str) -> String {
        let line = "keys derive --user-id AIDACKCEVSQ6C2EXAMPLE --region eu-west-1 --arn";
        let printed = self.arngate(secret).arguments(line).argument(arn(self.name, "bundle")).run();
        assert_eq!(printed.code, 0, "{}", printed.stderr);
        printed.stdout
    }

    fn bundle(&self) -> String {
        self.bundle_of(self.key.secret())
    }
}

fn arn(name: &str, told_by: &str) -> String {
    format!("arn:aws:iam::123456789012:user/{name}-of-{told_by}")
}

/// A server with a bundle, and STS behind it.
struct Fixture {
    runtime: tokio::runtime::Runtime,
    sts: FakeSts,
    server: Server,
    bundle: PathBuf,
    _folder: tempfile::TempDir,
}

impl Fixture {
    /// Both names of `people` are mapped; STS knows those of `at_sts`.
    fn start(people: &[&Person], at_sts: &[&Person], bundle: &[String]) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let config = Config::new(Clock::system()).with_credentials(at_sts.iter().map(|person| person.key.clone()));
        let sts = runtime.block_on(FakeSts::start(config)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (ca, path) = (folder.path().join("ca.pem"), folder.path().join("keys.yaml"));
        fs::write(&ca, sts.ca_pem()).unwrap();
        put(&path, bundle);
        let mut settings = "clusterID: prod.example.com\nserver:\n  mapUsers:\n".to_owned();
        for (person, told_by) in people.iter().flat_map(|person| [(person, "bundle"), (person, "sts")]) {
            let name = person.name;
            settings += &format!("  - {{userARN: '{}', username: {name}-of-{told_by}}}\n", arn(name, told_by));
        }
        let (address, ca) = (sts.addr(), ca.display());
        // What is held at STS is given up only when the test has failed.
        settings += &format!(
            "  provers: [offline, sts]\n  offline: {{bundle: {}}}\n  sts:\n    deadline: 30s\n    attemptTimeout: 30s\n    caFile: {ca}\n    endpoints: {{{HOST}: 'https://{address}'}}\n",
            path.display()
        );
        Self { runtime, sts, server: Server::start(&settings), bundle: path, _folder: folder }
    }

    /// Puts another bundle in the place of the one that is there, and waits until the server has read it.
    fn replace(&self, bundle: &[String], reloads: usize) {
        put(&self.bundle, bundle);
        self.server.until_it_has_said("what=bundle", reloads);
    }

    /// The name of the one who is let in.
    fn who(&self, token: &str) -> Option<String> {
        let (status, body) = self.server.review(token);
        assert_eq!(status, 200, "{body}\n{}", self.server.log());
        let (_, name) = body.split_once(r#""username":""#)?;
        Some(name.split_once('"').unwrap().0.to_owned())
    }

    fn wait_held(&self, gate: &Gate, calls: usize) {
        let held = self.runtime.block_on(async { tokio::time::timeout(PATIENCE, gate.wait_held(calls)).await });
        assert!(held.is_ok(), "{} and not {calls} questions came to STS\n{}", gate.held(), self.server.log());
    }
}

/// All at once, as whoever delivers secrets does: under another name first.
fn put(path: &PathBuf, bundles: &[String]) {
    let mut text = String::new();
    for bundle in bundles {
        let (head, principals) = bundle.split_once("principals:\n").unwrap();
        if text.is_empty() {
            text = format!("{head}principals:\n");
        }
        text += principals;
    }
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(new, path).unwrap();
}

fn named(name: &str) -> Option<String> {
    Some(name.to_owned())
}

#[test]
fn a_bundle_that_is_replaced_in_mid_flight_counts_from_the_next_request_on_and_for_no_earlier_one() {
    let (alice, bob) = (Person::new("alice"), Person::new("bob"));
    // Her key is gone at AWS.
    let fixture = Fixture::start(&[&alice, &bob], &[&bob], &[alice.bundle()]);
    let (of_alice, of_bob) = (alice.token(), bob.token());
    assert_eq!(fixture.who(&of_alice), named("alice-of-bundle"));
    let calls = |person: &Person| fixture.sts.calls_of(person.key.access_key_id());

    let gate = fixture.sts.hold();
    std::thread::scope(|scope| {
        let from_before = scope.spawn(|| fixture.who(&of_bob));
        fixture.wait_held(&gate, 1);
        fixture.replace(&[bob.bundle()], 1);
        // She was known a moment ago, and now it is for STS to say.
        let taken_out = scope.spawn(|| fixture.who(&of_alice));
        fixture.wait_held(&gate, 2);
        // His key has come in, and nobody waits for the answer to the question from before.
        assert_eq!(fixture.who(&of_bob), named("bob-of-bundle"));
        gate.open();
        assert_eq!(from_before.join().unwrap(), named("bob-of-sts"), "it was asked of STS, and is answered by it");
        assert_eq!(taken_out.join().unwrap(), None);
    });
    // What came in late is not what is known now.
    assert_eq!(fixture.who(&of_bob), named("bob-of-bundle"));
    assert_eq!((calls(&alice), calls(&bob)), (1, 1));

    // A key that comes back counts at once, whatever STS has said meanwhile; and a wrong signature under a key of the bundle is nobody's to look at.
    fixture.replace(&[alice.bundle(), bob.bundle_of("another secret")], 2);
    assert_eq!((fixture.who(&of_alice), fixture.who(&of_bob)), (named("alice-of-bundle"), None));
    // Of a bundle that is no good nothing is taken over.
    fixture.replace(&[bob.bundle(), bob.bundle()], 3);
    assert!(fixture.server.log().contains("could not reload, what was there stays"), "{}", fixture.server.log());
    assert_eq!((fixture.who(&of_alice), fixture.who(&of_bob)), (named("alice-of-bundle"), None));
    assert_eq!((calls(&alice), calls(&bob)), (1, 1));
}

#[test]
fn while_bundles_come_and_go_everybody_is_let_in_as_himself() {
    let people = ["alice", "bob", "carol"].map(Person::new);
    let everybody: Vec<_> = people.iter().collect();
    let bundles = people.each_ref().map(Person::bundle);
    let fixture = Fixture::start(&everybody, &everybody, &bundles[..1]);
    let tokens = people.each_ref().map(Person::token);
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Ends also when an assertion below fails.
        let _end = End(&ended);
        for (person, token) in people.iter().zip(&tokens) {
            let (fixture, ended) = (&fixture, &ended);
            scope.spawn(move || {
                while !ended.load(Ordering::Relaxed) {
                    let who = fixture.who(token).unwrap_or_default();
                    let himself = who.strip_prefix(person.name).is_some_and(|rest| matches!(rest, "-of-bundle" | "-of-sts"));
                    assert!(himself, "{who:?} signed as {}", person.name);
                }
            });
        }
        for (reloads, within) in [(1, 1..3), (2, 0..3), (3, 2..3), (4, 0..2)] {
            fixture.replace(&bundles[within.clone()], reloads);
            for (index, (person, token)) in people.iter().zip(&tokens).enumerate() {
                let told_by = if within.contains(&index) { "bundle" } else { "sts" };
                assert_eq!(fixture.who(token), Some(format!("{}-of-{told_by}", person.name)), "after {reloads} reloads");
            }
        }
    });
    assert!(!fixture.server.log().contains("could not reload"), "{}", fixture.server.log());
}

struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
