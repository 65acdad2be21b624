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

#[test]
fn a_report_is_made_of_results_and_of_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let report =
        |arguments: &[String]| Command::new(env!("CARGO_BIN_EXE_arngate-loadtest")).arg("report").args(arguments).output().unwrap();
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
