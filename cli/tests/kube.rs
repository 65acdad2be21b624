//! Logins through a real Kubernetes API server: kubectl runs `arngate token`, kube-apiserver asks our webhook.
//!
//! `cli/tests/kube/README.md` tells where the programs come from. Where they are absent these tests are ignored, with the reason;
//! `ARNGATE_REQUIRE=kube` makes absence a failure.

mod support;

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use arngate_loadtest::credential::Credential;
use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::{Value, json};

use self::support::arngate;
use self::support::cluster::{Aws, equal, iam_user, kubectl, token, token_expiring, who_am_i};
use self::support::foreign::Foreign;
use self::support::kube::{ApiServer, Asking, Binaries, HeldPort};
use self::support::scripted_webhook::{Act, Review, ScriptedWebhook};
use self::support::server::Server;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let kube = Foreign::new("kube", Binaries::find(), Binaries::ABSENCE);
    let trials = vec![
        kube.trial("users_log_in_through_sts_with_v1", |kube| log_in_through_sts(kube, "v1")),
        kube.trial("users_log_in_through_sts_with_v1beta1", |kube| log_in_through_sts(kube, "v1beta1")),
        kube.trial("a_user_logs_in_with_offline_keys", log_in_offline),
        kube.trial("each_answer_of_a_webhook_has_the_effect_that_the_table_tells", quick_answers),
        // Minutes, for many an answer makes kube-apiserver try for 30 s.
        kube.trial("the_whole_table_of_answers", whole_table).with_ignored_flag(true),
        kube.trial("across_twenty_hand_overs_nobody_is_refused", hand_overs),
        kube.trial("while_nobody_listens_logins_are_refused_at_once_and_the_first_after_it_is_good", plain_restart),
        kube.trial("what_a_plain_restart_costs", cost_of_plain_restarts).with_ignored_flag(true),
        Trial::test("operations_md_has_the_table_of_answers", the_page_has_the_table),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// A cluster with groups for a user and for a role.
const MAPPINGS: &str = "
clusterID: prod.example.com
server:
  mapUsers:
  - {userARN: arn:aws:iam::123456789012:user/Alice, username: alice, groups: [system:masters, dev ops]}
  mapRoles:
  - {roleARN: arn:aws:iam::123456789012:role/Admin, username: 'admin:{{SessionName}}', groups: ['admins:{{AccountID}}']}
";

/// A fake STS that knows a user, a role's session, and somebody whom nobody has mapped.
fn aws() -> Result<Aws, Failed> {
    Aws::knowing([Credential::example_user(), Credential::example_role(), stranger()?])
}

/// The settings of a webhook that asks it.
fn config(aws: &Aws) -> String {
    format!("{MAPPINGS}{}", aws.settings())
}

fn stranger() -> Result<Credential, Failed> {
    iam_user("Stranger")
}

/// What the example user is mapped to.
fn alice() -> Value {
    json!({
        "username": "alice",
        "uid": "aws-iam-authenticator:123456789012:AIDACKCEVSQ6C2EXAMPLE",
        "groups": ["dev ops", "system:authenticated", "system:masters"],
        "extra": {
            "accessKeyId": ["AKIAIOSFODNN7EXAMPLE"],
            "arn": ["arn:aws:iam::123456789012:user/Alice"],
            "canonicalArn": ["arn:aws:iam::123456789012:user/Alice"],
            "principalId": ["AIDACKCEVSQ6C2EXAMPLE"],
            "sessionName": [""],
            "sigs.k8s.io/aws-iam-authenticator/principalId": ["AIDACKCEVSQ6C2EXAMPLE"],
        },
    })
}

/// What the example role's session is mapped to.
fn jane() -> Value {
    json!({
        "username": "admin:jane-example.com",
        "uid": "aws-iam-authenticator:123456789012:AROACKCEVSQ6C2EXAMPLE",
        "groups": ["admins:123456789012", "system:authenticated"],
        "extra": {
            "accessKeyId": ["ASIAIOSFODNN7EXAMPLE"],
            "arn": ["arn:aws:sts::123456789012:assumed-role/Admin/jane@example.com"],
            "canonicalArn": ["arn:aws:iam::123456789012:role/Admin"],
            "principalId": ["AROACKCEVSQ6C2EXAMPLE"],
            "sessionName": ["jane@example.com"],
            "sigs.k8s.io/aws-iam-authenticator/principalId": ["AROACKCEVSQ6C2EXAMPLE"],
        },
    })
}

fn log_in_through_sts(kube: &Binaries, version: &str) -> Result<(), Failed> {
    let aws = aws()?;
    let webhook = Server::start(&config(&aws));
    let server = ApiServer::start(kube, Asking { kubeconfig: &webhook.kubeconfig(), version, cache_ttl: Some("0s") })?;
    let (user, role) = (Credential::example_user(), Credential::example_role());
    equal(who_am_i(&server, &user)?, alice())?;
    equal(who_am_i(&server, &role)?, jane())?;

    // Groups are what access is given by.
    let namespaces = ["get", "namespaces", "-o", "name"];
    let allowed = kubectl(&server, &user, &namespaces)?;
    equal((allowed.code, allowed.stdout.lines().any(|line| line == "namespace/default")), (0, true))?;
    let forbidden = kubectl(&server, &role, &namespaces)?;
    equal((forbidden.code, forbidden.stderr.contains(r#"User "admin:jane-example.com" cannot list resource "namespaces""#)), (1, true))?;

    let before = aws.sts.calls();
    let unmapped = kubectl(&server, &stranger()?, &["auth", "whoami"])?;
    equal((unmapped.code, unmapped.stderr.contains("You must be logged in to the server")), (1, true))?;
    equal(aws.sts.calls() > before, true)?;
    equal(server.log_in(&token(&stranger()?))?, 401)?;
    equal(server.log_in(&token(&user))?, 200)
}

fn log_in_offline(kube: &Binaries) -> Result<(), Failed> {
    let user = Credential::example_user();
    let folder = tempfile::tempdir()?;
    let bundle = folder.path().join("keys.yaml");
    let line = "keys derive --arn arn:aws:iam::123456789012:user/Alice --user-id AIDACKCEVSQ6C2EXAMPLE --region eu-west-1 -o";
    let call = arngate().variable("AWS_ACCESS_KEY_ID", user.access_key_id()).variable("AWS_SECRET_ACCESS_KEY", user.secret());
    let derived = call.arguments(line).argument(&bundle).run();
    equal(derived.code, 0)?;
    let webhook = Server::start(&format!("{MAPPINGS}  provers: [offline]\n  offline: {{bundle: {}}}\n", bundle.display()));

    let server = ApiServer::start(kube, Asking { kubeconfig: &webhook.kubeconfig(), version: "v1", cache_ttl: None })?;
    equal(who_am_i(&server, &user)?, alice())?;
    // Nobody but STS can prove a role's session.
    equal(server.log_in(&token(&Credential::example_role()))?, 401)
}

/// What kube-apiserver makes of an answer of its webhook over HTTP/2.
struct Row {
    /// As `docs/operations.md` calls it.
    answer: &'static str,
    act: Act,
    /// Requests that reach the webhook in three logins with one token, where that is a number and not a race.
    requests: Option<usize>,
    /// What the client gets.
    status: u16,
    /// What the client gets where the first request alone is answered so, and the next one well.
    status_if_first: u16,
    pace: Pace,
    reach: Reach,
}

/// How long kube-apiserver tries.
#[derive(PartialEq)]
enum Pace {
    Quick,
    /// Seconds: for the long test alone.
    Slow,
}

/// What an act harms.
#[derive(PartialEq)]
enum Reach {
    /// The connection, and whatever else is on it.
    Connection,
    /// The request.
    Stream,
}

/// What came of a row.
struct Measured {
    requests: usize,
    took: [Duration; 3],
    status: u16,
    took_if_first: Duration,
    status_if_first: u16,
}

// RFC 9113 section 7.
const NO_ERROR: u32 = 0;
const INTERNAL_ERROR: u32 = 2;
const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;

fn rows() -> Vec<Row> {
    use Pace::{Quick, Slow};
    use Reach::{Connection, Stream};
    let row =
        |answer, act, requests, status, status_if_first, pace, reach| Row { answer, act, requests, status, status_if_first, pace, reach };
    let ok = |answer, review, requests, status| row(answer, Act::ok(review), Some(requests), status, status, Quick, Stream);
    let denied = |answer, act| row(answer, act, Some(3), 401, 401, Quick, Stream);
    let retried = |answer, act, requests| row(answer, act, Some(requests), 401, 200, Slow, Stream);
    let cut = |answer, act| row(answer, act, Some(3), 401, 401, Quick, Connection);
    vec![
        ok("200 authenticated", Review::Authenticated, 1, 200),
        ok("200 authenticated, without kind, apiVersion and spec", Review::AuthenticatedBare, 1, 200),
        denied("200 authenticated in the *other* API version", Act::ok(Review::AuthenticatedInOtherVersion)),
        ok("200 `authenticated:false`", Review::Denied, 1, 401),
        denied("200 `authenticated:false` with `status.error`", Act::ok(Review::DeniedWithError)),
        denied("401", Act::status(401)),
        denied("403", Act::status(403)),
        denied("404", Act::status(404)),
        denied("503", Act::status(503)),
        retried("429", Act::status(429), 15),
        retried("500", Act::status(500), 15),
        retried("502", Act::status(502), 15),
        retried("504", Act::status(504), 15),
        retried("429 with `Retry-After: 1`", Act::retry_after(429, 1), 93),
        retried("503 with `Retry-After: 1`", Act::retry_after(503, 1), 93),
        retried("RST_STREAM with REFUSED_STREAM", Act::ResetStream(REFUSED_STREAM), 18),
        denied("RST_STREAM with CANCEL", Act::ResetStream(CANCEL)),
        denied("RST_STREAM with INTERNAL_ERROR", Act::ResetStream(INTERNAL_ERROR)),
        denied("RST_STREAM with NO_ERROR", Act::ResetStream(NO_ERROR)),
        row("GOAWAY, then the answer to what was in flight", Act::GoAwayThenAnswer, Some(1), 200, 200, Quick, Connection),
        row("GOAWAY that leaves out what was in flight", Act::GoAwayUntaken, None, 401, 200, Slow, Connection),
        cut("GOAWAY, then the end without the answer", Act::GoAwayThenClose),
        cut("connection closed without an answer", Act::Close),
        cut("connection closed in mid-answer", Act::CloseInAnswer),
        row("connection reset", Act::Reset, None, 401, 200, Slow, Connection),
    ]
}

impl Row {
    /// Two tokens that nobody else has.
    fn tokens(&self) -> [String; 2] {
        ["always", "first"].map(|when| format!("{when}:{:?}", self.act).replace(|c: char| !c.is_ascii_alphanumeric(), "-"))
    }

    fn script(&self, webhook: &ScriptedWebhook) -> [String; 2] {
        let [always, first] = self.tokens();
        webhook.script(&always, vec![self.act.clone()]);
        webhook.script(&first, vec![self.act.clone(), Act::GOOD]);
        [always, first]
    }

    fn measure(&self, server: &ApiServer, webhook: &ScriptedWebhook) -> Result<Measured, Failed> {
        let [always, first] = self.script(webhook);
        let log_in = |token| {
            #[expect(clippy::disallowed_methods, reason = "shown, and judged by nobody")]
            let start = std::time::Instant::now();
            server.log_in(token).map(|status| (status, start.elapsed()))
        };
        let ((_, one), (_, two), (status, three)) = (log_in(&always)?, log_in(&always)?, log_in(&always)?);
        let (status_if_first, took_if_first) = log_in(&first)?;
        Ok(Measured { requests: webhook.requests(&always), took: [one, two, three], status, took_if_first, status_if_first })
    }

    /// What is quick is seen as a whole; of the rest, how it ends where it is so only once.
    fn check(&self, server: &ApiServer, webhook: &ScriptedWebhook) -> Result<(), Failed> {
        let [always, first] = self.script(webhook);
        let mut found = (0, 0, 0);
        if self.pace == Pace::Quick {
            for _ in 0..3 {
                found.0 = server.log_in(&always)?;
            }
            found.1 = webhook.requests(&always);
        }
        found.2 = server.log_in(&first)?;
        let expected = if self.pace == Pace::Quick {
            (self.status, self.requests.unwrap_or(0), self.status_if_first)
        } else {
            (0, 0, self.status_if_first)
        };
        if found == expected { Ok(()) } else { Err(format!("{}: expected {expected:?}, found {found:?}", self.answer).into()) }
    }
}

/// Does something with each row: with those that harm nobody else at once, then with the others one by one.
fn with_rows<T: Send>(rows: &[Row], act: impl Fn(&Row) -> Result<T, Failed> + Sync) -> Result<Vec<T>, Failed> {
    let act = &act;
    let of_streams: Vec<_> = std::thread::scope(|scope| {
        let begun = rows
            .iter()
            .map(|row| (row.reach == Reach::Stream).then(|| scope.spawn(move || act(row).map_err(|error| format!("{error:?}")))));
        let begun: Vec<_> = begun.collect();
        begun.into_iter().map(|row| row.map(|row| row.join().unwrap())).collect()
    });
    let of_connections = rows.iter().zip(of_streams).map(|(row, done)| match done {
        Some(done) => Ok(done?),
        None => act(row),
    });
    of_connections.collect()
}

fn scripted(kube: &Binaries) -> Result<(ScriptedWebhook, ApiServer), Failed> {
    let webhook = ScriptedWebhook::start()?;
    let server = ApiServer::start(kube, Asking { kubeconfig: &webhook.kubeconfig(), version: "v1beta1", cache_ttl: None })?;
    Ok((webhook, server))
}

fn quick_answers(kube: &Binaries) -> Result<(), Failed> {
    let (webhook, server) = scripted(kube)?;
    let rows: Vec<_> = rows().into_iter().filter(|row| !matches!(row.act, Act::Reset)).collect();
    with_rows(&rows, |row| row.check(&server, &webhook))?;
    Ok(())
}

fn whole_table(kube: &Binaries) -> Result<(), Failed> {
    let (webhook, server) = scripted(kube)?;
    let rows = rows();
    println!(
        "| answer of the webhook | requests that reached it | each login took | client sees | if only the first request is answered so |"
    );
    println!("| --- | --- | --- | --- | --- |");
    for (row, measured) in rows.iter().zip(with_rows(&rows, |row| row.measure(&server, &webhook))?) {
        let Measured { requests, took, status, took_if_first, status_if_first } = measured;
        println!("| {} | {requests} | {took:.1?} | {status} | {status_if_first} after {took_if_first:.1?} |", row.answer);
        equal((row.answer, status, status_if_first), (row.answer, row.status, row.status_if_first))?;
        equal((row.answer, requests), (row.answer, row.requests.unwrap_or(requests)))?;
    }
    Ok(())
}

/// Clients that log in without a pause.
const CLIENTS: usize = 4;

/// Logins between one hand-over and the next, at least.
const LOGINS_BETWEEN: usize = 20;

/// Longest wait for a login: a bound, not a measure.
const LOGIN_PATIENCE: Duration = Duration::from_secs(60);

/// Has clients log in without a pause, each time with another token, while `during` goes on, which is told how each login ended.
fn with_logins<T>(server: &ApiServer, during: impl FnOnce(&mpsc::Receiver<u16>) -> Result<T, Failed>) -> Result<T, Failed> {
    let (tell, told) = mpsc::channel();
    let (stop, serial) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            let (tell, stop, serial) = (tell.clone(), &stop, &serial);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let token = fresh_token(serial.fetch_add(1, Ordering::Relaxed)).unwrap();
                    let _ = tell.send(server.log_in(&token).unwrap());
                }
            });
        }
        let came_of_it = during(&told);
        stop.store(true, Ordering::Relaxed);
        came_of_it
    })
}

/// A token of the example user that is like no other: X-Amz-Expires is signed, and otherwise of no account.
fn fresh_token(serial: u64) -> Result<String, Failed> {
    token_expiring(&Credential::example_user(), i64::try_from(serial / 900 % 300)?, u16::try_from(serial % 900)?)
}

/// The statuses of so many more logins.
fn more_logins(told: &mpsc::Receiver<u16>, logins: usize) -> Result<Vec<u16>, Failed> {
    let one = || told.recv_timeout(LOGIN_PATIENCE).map_err(|error| Failed::from(error.to_string()));
    (0..logins).map(|_| one()).collect()
}

/// The next process listens before the one before is told to stop. Each comes with nothing known, so that requests wait for STS when it stops.
fn hand_overs(kube: &Binaries) -> Result<(), Failed> {
    let aws = aws()?;
    aws.sts.set_delay(Duration::from_millis(10));
    let port = HeldPort::new()?;
    let folder = Arc::new(tempfile::tempdir()?);
    let config = format!("{}  reusePort: true\n", config(&aws));
    let start = || Server::start_on(port.port(), Arc::clone(&folder), &config);
    let mut webhook = start();
    let server = ApiServer::start(kube, Asking { kubeconfig: &webhook.kubeconfig(), version: "v1", cache_ttl: Some("0s") })?;
    let statuses = with_logins(&server, |told| {
        let mut statuses = more_logins(told, LOGINS_BETWEEN)?;
        for _ in 0..20 {
            let next = start();
            let before = std::mem::replace(&mut webhook, next);
            equal(before.stop(), Some(0))?;
            statuses.extend(more_logins(told, LOGINS_BETWEEN)?);
        }
        Ok(statuses)
    })?;
    equal(statuses.iter().filter(|status| **status != 200).count(), 0)?;
    // Each was a question of its own to a webhook and to STS.
    equal(aws.sts.calls() >= u64::try_from(statuses.len())?, true)
}

fn plain_restart(kube: &Binaries) -> Result<(), Failed> {
    let aws = aws()?;
    let port = HeldPort::new()?;
    let folder = Arc::new(tempfile::tempdir()?);
    let start = || Server::start_on(port.port(), Arc::clone(&folder), &config(&aws));
    let webhook = start();
    let server = ApiServer::start(kube, Asking { kubeconfig: &webhook.kubeconfig(), version: "v1", cache_ttl: Some("0s") })?;
    equal(server.log_in(&fresh_token(0)?)?, 200)?;
    equal(webhook.stop(), Some(0))?;
    equal(server.log_in(&fresh_token(1)?)?, 401)?;
    let _webhook = start();
    equal(server.log_in(&fresh_token(2)?)?, 200)
}

/// Prints what twenty restarts cost clients that log in without a pause.
fn cost_of_plain_restarts(kube: &Binaries) -> Result<(), Failed> {
    #[expect(clippy::disallowed_methods, reason = "shown, and judged by nobody")]
    let now = std::time::Instant::now;
    let aws = aws()?;
    let port = HeldPort::new()?;
    let folder = Arc::new(tempfile::tempdir()?);
    let start = || Server::start_on(port.port(), Arc::clone(&folder), &config(&aws));
    let mut webhook = Some(start());
    let kubeconfig = folder.path().join("webhook.yaml");
    let server = ApiServer::start(kube, Asking { kubeconfig: &kubeconfig, version: "v1", cache_ttl: Some("0s") })?;
    let (mut refused, mut gaps) = (Vec::new(), Vec::new());
    with_logins(&server, |told| {
        more_logins(told, LOGINS_BETWEEN)?;
        for _ in 0..20 {
            let began = now();
            equal(webhook.take().and_then(Server::stop), Some(0))?;
            webhook = Some(start());
            gaps.push(began.elapsed());
            let mut statuses = more_logins(told, LOGINS_BETWEEN)?;
            statuses.extend(told.try_iter());
            refused.push(statuses.iter().filter(|status| **status == 401).count());
        }
        Ok(())
    })?;
    gaps.sort();
    println!("20 restarts, {CLIENTS} clients: {refused:?} logins were refused; from SIGTERM until the next one listens: {gaps:.0?}");
    Ok(())
}

/// The page says what is tested here.
fn the_page_has_the_table() -> Result<(), Failed> {
    let page = include_str!("../../docs/operations.md");
    for Row { answer, requests, status, status_if_first, .. } in rows() {
        let line =
            page.lines().find(|line| line.starts_with(&format!("| {answer} | "))).ok_or_else(|| format!("{answer} is not in the page"))?;
        let cells: Vec<_> = line.split(" | ").map(|cell| cell.trim_matches(['|', ' '])).collect();
        let begins = |cell: usize, text: String| cells.get(cell).is_some_and(|cell| cell.split([' ', ',']).next() == Some(&text));
        let counted = requests.is_none_or(|requests| begins(1, requests.to_string()));
        if !counted || !begins(3, status.to_string()) || !begins(4, status_if_first.to_string()) {
            return Err(format!("expected {requests:?}, {status}, {status_if_first} in {line}").into());
        }
    }
    Ok(())
}
