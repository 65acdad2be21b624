//! The command `arngate-loadtest sts`, as an operator starts it.

#![cfg(unix)]

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Command, Stdio};

fn loadtest(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_arngate-loadtest"));
    command.arg("sts").args(arguments).stdin(Stdio::null());
    command
}

fn json(line: &str) -> serde_json::Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

#[test]
fn prints_its_address_and_then_its_counts() {
    for signal in ["INT", "TERM"] {
        let directory = tempfile::tempdir().unwrap();
        let ca = directory.path().join("ca.pem");
        let credential = "AKIAIOSFODNN7EXAMPLE:secret:arn:aws:iam::123456789012:user/Alice:AIDA";
        let arguments = ["--port", "0", "--credential", credential, "--ca-out", ca.to_str().unwrap(), "--behaviour", "throttle"];
        let mut sts = loadtest(&arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(sts.stdout.take().unwrap());
        let mut first = String::new();
        lines.read_line(&mut first).unwrap();
        let address: std::net::SocketAddr = json(&first)["listening"].as_str().unwrap().parse().unwrap();
        assert!(address.ip().is_loopback());
        std::net::TcpStream::connect(address).unwrap();
        assert!(std::fs::read_to_string(&ca).unwrap().starts_with("-----BEGIN CERTIFICATE-----"));

        let killed = Command::new("kill").args(["-s", signal, &sts.id().to_string()]).status().unwrap();
        assert!(killed.success());
        let mut rest = String::new();
        lines.read_to_string(&mut rest).unwrap();
        assert!(sts.wait().unwrap().success(), "SIG{signal}");
        assert_eq!(rest.lines().count(), 1, "{rest}");
        let counts = json(&rest);
        assert_eq!((counts["calls"].as_u64(), counts["outcomes"]["throttled"].as_u64()), (Some(0), Some(0)));
    }
}

#[test]
fn says_what_is_wrong_with_its_arguments_and_prints_no_secret() {
    for (arguments, expected) in [
        (&["--credential", "AKIA:do-not-print:arn:aws:iam::123456789012:user/Alice:AIDA"][..], "access key id"),
        (&["--behaviour", "explode"], "expected one of answer, close"),
        (&["--delay", "10"], "expected digits and one of us, ms, s"),
        (&["--every", "0"], "invalid value '0'"),
        (&["--at", "2026-11-24"], "X-Amz-Date is not a date"),
        (&["--credentials", "/nowhere/credentials.json"], "cannot read /nowhere/credentials.json: No such file"),
        (&["--host", "\u{e4}.example"], "cannot make a certificate"),
    ] {
        let output = loadtest(arguments).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && text.contains(expected), "{arguments:?}: {text}");
        assert!(output.stdout.is_empty() && !text.contains("do-not-print"), "{text}");
    }
}

/// The tool with any arguments.
fn tool(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_arngate-loadtest"));
    command.args(arguments).stdin(Stdio::null());
    command
}

/// A ceiling in a process of its own; ended when dropped.
struct Ceiling {
    child: std::process::Child,
    url: String,
    ca: std::path::PathBuf,
    _folder: tempfile::TempDir,
}

impl Ceiling {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ca = folder.path().join("ca.pem");
        let mut child = tool(&["ceiling", "--ca-out", ca.to_str().unwrap()]).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let url = format!("https://{}/authenticate", json(&line)["listening"].as_str().unwrap());
        Self { child, url, ca, _folder: folder }
    }

    fn run(&self, arguments: &[&str]) -> Command {
        let mut command = tool(&["run", "--target", &self.url, "--ca", self.ca.to_str().unwrap(), "--tokens", "16", "--identities", "4"]);
        command.args(["--warm-up", "0s"]).args(arguments);
        command
    }
}

impl Drop for Ceiling {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const CEILING_ARN: &str = "arn:aws:sts::123456789012:assumed-role/loadtest-000000/session-000000";

#[test]
fn a_run_prints_a_table_and_writes_all_that_is_needed_to_do_it_again() {
    let ceiling = Ceiling::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run.json");
    let arguments = ["--expect-arn", CEILING_ARN, "--count", "50", "--fail-if", "denied>0", "--json", file.to_str().unwrap()];
    let output = ceiling.run(&arguments).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains("allowed          50 (100.00 %)"), "{text}");
    assert!(output.stderr.is_empty(), "nobody looks: no progress");
    let run: arngate_loadtest::result::Run = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    assert_eq!((run.summary.completed, run.summary.outcomes["allowed"]), (50, 50));
    assert!(run.origin.command.iter().any(|word| word == &ceiling.url) && run.origin.processors > 0);
    assert_eq!((run.settings["mix"].as_str(), run.settings["http"].as_str()), ("repeated=1", "h2"));
    assert_eq!(run.summary.latency.curve.last().unwrap().1, run.summary.latency.max_us);
}

#[test]
fn the_exit_code_tells_a_crossed_threshold() {
    let ceiling = Ceiling::start();
    let output =
        ceiling.run(&["--shape", "users", "--count", "20", "--fail-if", "wrong-identity>0", "--fail-if", "p99>30s"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(4), "{text}");
    assert!(text.contains("FAILED           wrong-identity>0 (it was 20)") && !text.contains("p99>30s"), "{text}");
}

#[test]
fn ctrl_c_prints_what_ran() {
    let ceiling = Ceiling::start();
    let mut run = ceiling.run(&["--expect-arn", CEILING_ARN, "--duration", "600s"]).stdout(Stdio::piped()).spawn().unwrap();
    // It listens to signals before it starts its second thread.
    let threads = format!("/proc/{}/task", run.id());
    while std::fs::read_dir(&threads).is_ok_and(|tasks| tasks.count() < 2) {
        std::thread::yield_now();
    }
    assert!(Command::new("kill").args(["-s", "INT", &run.id().to_string()]).status().unwrap().success());
    let mut text = String::new();
    run.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    assert!(run.wait().unwrap().success(), "{text}");
    assert!(text.contains("stopped before its end") && text.contains("latency"), "{text}");
}

/// The processes that this one has started and that are there still.
#[cfg(target_os = "linux")]
fn children(id: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten();
    let lists = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("children")).ok());
    lists.flat_map(|list| list.split_ascii_whitespace().filter_map(|id| id.parse().ok()).collect::<Vec<_>>()).collect()
}

/// What the threads of a process are called.
#[cfg(target_os = "linux")]
fn threads(id: u32) -> impl Iterator<Item = String> {
    let tasks = std::fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten();
    tasks.filter_map(|task| Some(std::fs::read_to_string(task.ok()?.path().join("comm")).ok()?.trim().to_owned()))
}

#[cfg(target_os = "linux")]
#[test]
fn ctrl_c_prints_what_a_scenario_came_to_and_leaves_nothing() {
    for (command, told) in [
        (&["scenario", "hit", "--duration", "600s"][..], "hit of ceiling, which spoke TLS after"),
        (&["compare", "ceiling", "--duration", "600s"], "hit, h2: there was no round that all came through"),
        (&["scenario", "search", "--duration", "600s"], "ceiling keeps its p99 under"),
    ] {
        for signal in ["INT", "HUP"] {
            let folder = tempfile::tempdir().unwrap();
            let mut played = tool(command).env("TMPDIR", folder.path()).stdout(Stdio::piped()).spawn().unwrap();
            let ceiling = loop {
                let is_loading = threads(played.id()).any(|name| name == "generator-0");
                if let Some(child) = children(played.id()).first().filter(|_| is_loading) {
                    break *child;
                }
                assert!(played.try_wait().unwrap().is_none(), "{command:?} has ended by itself");
                std::thread::yield_now();
            };
            assert!(Command::new("kill").args(["-s", signal, &played.id().to_string()]).status().unwrap().success());
            let mut text = String::new();
            played.stdout.take().unwrap().read_to_string(&mut text).unwrap();
            assert!(played.wait().unwrap().success(), "{command:?}: {text}");
            assert!(text.contains(told), "{command:?}: {text}");
            assert!(!text.contains("FAILED"), "what was stopped is not judged: {text}");
            assert!(!std::path::Path::new(&format!("/proc/{ceiling}")).exists(), "the ceiling was left running");
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "files were left");
        }
    }
}

/// A fake STS as a target: it answers a TokenReview as it is told to.
struct Misbehaving {
    child: std::process::Child,
    url: String,
    ca: std::path::PathBuf,
    _folder: tempfile::TempDir,
}

impl Misbehaving {
    fn start(behaviour: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ca = folder.path().join("ca.pem");
        let mut child = loadtest(&["--behaviour", behaviour, "--ca-out", ca.to_str().unwrap()]).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let url = format!("https://{}/authenticate", json(&line)["listening"].as_str().unwrap());
        Self { child, url, ca, _folder: folder }
    }
}

impl Drop for Misbehaving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_target_that_misbehaves_is_counted_in_the_result() {
    for (behaviour, outcome, told) in [
        ("close", "cut-off", "cut-off          20 (100.00 %)"),
        ("reset", "cut-off", "cut-off          20 (100.00 %)"),
        ("garbage", "malformed", "20 × not a TokenReview in JSON"),
        ("oversize=104857600", "malformed", "20 × the answer is larger than 1 MiB"),
        ("hang", "timed-out", "20 × no answer within 10ms"),
    ] {
        let target = Misbehaving::start(behaviour);
        for http in ["h1", "h2"] {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("run.json");
            let arguments = ["run", "--target", &target.url, "--ca", target.ca.to_str().unwrap(), "--http", http, "--count", "20"];
            let limits = ["--warm-up", "0s", "--tokens", "16", "--identities", "4", "--in-flight", "4", "--json", file.to_str().unwrap()];
            let timeout = if behaviour == "hang" { "10ms" } else { "30s" };
            let output = tool(&arguments).args(limits).args(["--timeout", timeout]).output().unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            assert!(output.status.success() && text.contains(told), "{behaviour} {http}: {text}");
            let run: arngate_loadtest::result::Run = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
            assert_eq!((run.summary.completed, run.summary.outcomes[outcome]), (20, 20), "{behaviour} {http}: {text}");
        }
    }
}

#[test]
fn a_target_that_closes_every_connection_is_an_error_before_the_run() {
    let ceiling = Ceiling::start();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}/authenticate", listener.local_addr().unwrap());
    // Ends with the process.
    std::thread::spawn(move || listener.incoming().for_each(drop));
    let output = tool(&["run", "--target", &url, "--ca", ceiling.ca.to_str().unwrap()]).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && text.lines().count() == 1 && text.contains("cannot be asked: TLS: "), "{text}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_run_tells_what_its_target_has_used() {
    let ceiling = Ceiling::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run.json");
    let id = ceiling.child.id().to_string();
    let arguments = ["--expect-arn", CEILING_ARN, "--count", "200", "--pid", &id, "--json", file.to_str().unwrap()];
    let output = ceiling.run(&arguments).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains(" MiB at most, "), "{text}");
    let run: arngate_loadtest::result::Run = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let second = run.seconds.last().unwrap();
    assert!(second.rss_bytes.is_some_and(|bytes| bytes > 1 << 20) && second.cpus.is_some(), "{second:?}");
    assert!(run.summary.process.is_some_and(|process| process.peak_rss_bytes >= second.rss_bytes.unwrap()), "{text}");
    assert_eq!(run.summary.sts_calls, None, "nobody asked for it");
}

#[test]
fn calls_of_sts_are_counted_where_the_target_tells_them() {
    let ceiling = Ceiling::start();
    let output = ceiling.run(&["--expect-arn", CEILING_ARN, "--count", "20", "--count-sts-calls"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains("STS calls        0"), "{text}");
    let target = Misbehaving::start("status=503");
    let output = tool(&["run", "--target", &target.url, "--ca", target.ca.to_str().unwrap(), "--tokens", "4", "--count-sts-calls"])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && text.contains("/metrics: status 503"), "{text}");
}

#[test]
fn what_cannot_be_done_is_said_in_a_line() {
    let ceiling = Ceiling::start();
    let ca = ceiling.ca.to_str().unwrap();
    let other = Ceiling::start();
    for (arguments, expected) in [
        (&["run", "--target", "https://127.0.0.1:1/authenticate", "--ca", ca][..], "cannot be asked: cannot connect: connection refused"),
        (&["run", "--target", &ceiling.url, "--ca", other.ca.to_str().unwrap()], "cannot be asked: TLS: invalid peer certificate"),
        (
            &["run", "--target", "https://192.0.2.1:1/", "--ca", ca],
            "192.0.2.1:1 is not on this machine; if it is yours, say --i-own-this-target",
        ),
        (&["run", "--target", "http://127.0.0.1:1/", "--ca", ca], "expected the URL of a webhook"),
        (&["run", "--target", &ceiling.url, "--ca", "/nowhere/ca.pem"], "cannot read /nowhere/ca.pem"),
        (&["run", "--target", &ceiling.url, "--ca", "/dev/null"], "there is no PEM certificate"),
        (&["run", "--kubeconfig", "/nowhere/kubeconfig"], "cannot read /nowhere/kubeconfig"),
        (&["run", "--target", &ceiling.url, "--ca", ca, "--mix", "fresh-new-identity"], "needs --new-identities"),
        (&["run", "--target", &ceiling.url, "--ca", ca, "--mix", "fresh"], "expected kinds of tokens"),
        (&["run", "--target", &ceiling.url, "--ca", ca, "--rate", "0"], "expected questions a second"),
        (&["run", "--target", &ceiling.url, "--ca", ca, "--fail-if", "p99>5"], "expected a duration in us, ms or s"),
        (&["run", "--target", &ceiling.url, "--ca", ca, "--duration", "20s", "--warm-up", "900s"], "good for 15 minutes"),
        (&["run"], "--target <URL>"),
        (&["run", "--target", &ceiling.url, "--ca", ca, "--pid", "4194999"], "there is no process 4194999 whose memory /proc tells"),
        (&["compare", "ceiling", "--scenario", "nonsense"], "there is no scenario nonsense"),
        (&["scenario", "nonsense"], "there is no scenario nonsense; expected one of hit, hit-users, cold, unique-sts"),
        (&["scenario", "hit", "--target", "nginx"], "expected arngate=PATH"),
        (&["scenario", "hit", "--target", "arngate=/nowhere/arngate"], "it could not be started: No such file"),
        (&["scenario", "hit", "--target", "command=false"], "it ended at once (exit status: 1)"),
        (&["fixture", "/dev/null/x"], "cannot write to /dev/null/x"),
        (&["fixture", "/nowhere", "--offline"], "--offline needs --shape users"),
    ] {
        let output = tool(arguments).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && text.contains(expected), "{arguments:?}: {text}");
    }
}

#[test]
fn a_scenario_starts_and_ends_all_that_it_needs() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("played.json");
    let mut command = tool(&["scenario", "herd", "--target", "ceiling", "--json", file.to_str().unwrap()]);
    let output = command.env("TMPDIR", folder.path()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains("allowed 10000"), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let played: arngate_loadtest::scenario::Played = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(played.phases[0].run.summary.completed, 10_000);
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["played.json"], "nothing else is left");
}

#[test]
fn a_report_is_made_of_results_and_of_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let report = |arguments: &[String]| tool(&["report"]).args(arguments).output().unwrap();
    let run = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/report/run.json");
    std::fs::copy(run, at("before.json")).unwrap();
    std::fs::copy(run, at("after.json")).unwrap();
    std::fs::write(at("other.json"), r#"{"summary": 1}"#).unwrap();

    let output = report(&[at("before.json"), at("after.json"), "-o".into(), at("report.html")]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let page = std::fs::read_to_string(at("report.html")).unwrap();
    assert!(page.contains(r#"<th scope="col">before</th><th scope="col">after</th>"#), "{page}");

    for (file, expected) in [("other.json", "other.json: not a result of this tool: invalid type: integer"), ("absent.json", "cannot read")]
    {
        let output = report(&[at("before.json"), at(file), "--output".into(), at("none.html")]);
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && text.contains(expected) && text.lines().count() == 1, "{text}");
        assert!(!std::path::Path::new(&at("none.html")).exists());
    }
}

#[test]
fn a_run_writes_its_report() {
    let ceiling = Ceiling::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run.html");
    let output = ceiling.run(&["--expect-arn", CEILING_ARN, "--count", "50", "--html", file.to_str().unwrap()]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let page = std::fs::read_to_string(file).unwrap();
    assert!(page.contains("<div><dt>allowed</dt><dd>50 (100.00 %)</dd></div>") && page.contains(&ceiling.url), "{page}");
    assert!(page.contains("<figcaption>Latency by percentile"), "{page}");
}
