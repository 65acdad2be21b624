//! The three lines that audit pipelines key on, byte for byte as the reference writes them.
//!
//! Keys, order and messages are CONTRACT, so they stand here and nowhere else. The caller decides *whether* a line is written: neither the first line nor
//! any `arn` for a scrubbed account, denials within a [`LineBudget`](super::LineBudget).
//!
//! upstream: `authenticateEndpoint` in pkg/server/server.go.

use std::fmt;
use std::net::SocketAddr;

use arngate_core::UnixSeconds;

use super::Log;
use super::logrus::{Level, Record, Value};

/// The request that a line is about.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Who asked: the peer of the connection.
    pub client: SocketAddr,
    /// The HTTP method.
    pub method: &'a str,
    /// The path, without the query.
    pub path: &'a str,
}

/// What the prover found out, for the line `STS response`.
#[derive(Clone, Copy, Debug)]
pub struct Proof<'a> {
    /// The id of the access key that signed.
    pub access_key_id: &'a str,
    /// Twelve digits.
    pub account_id: &'a str,
    /// The ARN as STS gives it, session included.
    pub arn: &'a str,
    /// The session's name; empty where there is none.
    pub session: &'a str,
    /// The host that the token is signed for.
    pub sts_endpoint: &'a str,
    /// The unique id without the session.
    pub user_id: &'a str,
}

/// Who was let in, for the line `access granted`.
#[derive(Clone, Copy, Debug)]
pub struct Grant<'a> {
    /// The canonical ARN; `None` for a scrubbed account.
    pub arn: Option<&'a str>,
    /// Kubernetes groups.
    pub groups: &'a [String],
    /// The host that the token is signed for.
    pub sts_endpoint: &'a str,
    /// Kubernetes uid.
    pub uid: &'a str,
    /// Kubernetes user name.
    pub username: &'a str,
}

/// Writes `STS response`: a token was proved, before it is mapped.
pub fn sts_response(log: &Log, at: UnixSeconds, request: &Request<'_>, proof: &Proof<'_>) {
    let client = request.client.to_string();
    let fields = [
        ("accesskeyid", Value::Outside(proof.access_key_id)),
        ("accountid", Value::Outside(proof.account_id)),
        ("arn", Value::Name(proof.arn)),
        ("client", Value::Outside(&client)),
        ("method", Value::Outside(request.method)),
        ("path", Value::Outside(request.path)),
        ("session", Value::Outside(proof.session)),
        ("stsendpoint", Value::Outside(proof.sts_endpoint)),
        ("userid", Value::Outside(proof.user_id)),
    ];
    log.write(at, &Record { level: Level::Info, message: "STS response", fields: &fields });
}

/// Writes `access granted`.
pub fn access_granted(log: &Log, at: UnixSeconds, request: &Request<'_>, grant: &Grant<'_>) {
    let client = request.client.to_string();
    let fields = [
        ("client", Value::Outside(&client)),
        ("groups", Value::List(grant.groups)),
        ("method", Value::Outside(request.method)),
        ("path", Value::Outside(request.path)),
        ("stsendpoint", Value::Outside(grant.sts_endpoint)),
        ("uid", Value::Name(grant.uid)),
        ("username", Value::Name(grant.username)),
        ("arn", Value::Name(grant.arn.unwrap_or_default())),
    ];
    let shown = if grant.arn.is_some() { &fields[..] } else { &fields[..7] };
    log.write(at, &Record { level: Level::Info, message: "access granted", fields: shown });
}

/// Writes `access denied`; `arn` is the canonical one, once it is known and not scrubbed.
pub fn access_denied(log: &Log, at: UnixSeconds, request: &Request<'_>, arn: Option<&str>, error: &dyn fmt::Display) {
    let client = request.client.to_string();
    let fields = [
        ("client", Value::Outside(&client)),
        ("error", Value::Message(error)),
        ("method", Value::Outside(request.method)),
        ("path", Value::Outside(request.path)),
        ("arn", Value::Name(arn.unwrap_or_default())),
    ];
    let shown = if arn.is_some() { &fields[..] } else { &fields[..4] };
    log.write(at, &Record { level: Level::Warning, message: "access denied", fields: shown });
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::ManualClock;
    use crate::telemetry::{Captured, Format};

    const NOON: UnixSeconds = UnixSeconds::new(1_795_521_600);

    /// The audit lines of `testdata/logrus.go`, in its order.
    pub(in crate::telemetry) fn as_the_reference(format: Format) -> Vec<String> {
        let captured = Captured::default();
        let log = Log::new(format, Level::Info, Arc::new(ManualClock::at(NOON)), captured.clone());
        let request = Request { client: SocketAddr::from(([127, 0, 0, 1], 1234)), method: "POST", path: "/authenticate" };
        let role = Proof {
            access_key_id: "ASIAIOSFODNN7EXAMPLE",
            account_id: "123456789012",
            arn: "arn:aws:sts::123456789012:assumed-role/Admin/alice@example.com",
            session: "alice@example.com",
            sts_endpoint: "sts.us-east-1.amazonaws.com",
            user_id: "AROAIOSFODNN7EXAMPLE",
        };
        let user = Proof {
            access_key_id: "AKIAIOSFODNN7EXAMPLE",
            arn: "arn:aws:iam::123456789012:user/Alice",
            session: "",
            sts_endpoint: "sts.amazonaws.com",
            user_id: "AIDACKCEVSQ6C2EXAMPLE",
            ..role
        };
        sts_response(&log, NOON, &request, &role);
        sts_response(&log, NOON, &request, &user);

        let arn = Some("arn:aws:iam::123456789012:role/Admin");
        let groups = ["system:masters".to_owned(), "dev ops".to_owned()];
        let granted = Grant {
            arn,
            groups: &groups,
            sts_endpoint: "sts.us-east-1.amazonaws.com",
            uid: "aws-iam-authenticator:123456789012:AROAIOSFODNN7EXAMPLE",
            username: "alice",
        };
        let scrubbed = Grant {
            arn: None,
            groups: &[],
            sts_endpoint: "sts.amazonaws.com",
            uid: "aws-iam-authenticator:administrative:kubernetes-admin",
            username: "kubernetes-admin",
        };
        let node =
            Grant { groups: &["a".to_owned()], sts_endpoint: "", uid: "u", username: "system:node:ip-10-0-0-1.ec2.internal", ..granted };
        for grant in [granted, scrubbed, node] {
            access_granted(&log, NOON, &request, &grant);
        }
        access_denied(&log, NOON, &request, arn, &"identity is not mapped");
        access_denied(&log, NOON, &request, None, &r#"sts getCallerIdentity failed: "quoted" \ back=slash <b>&"#);
        captured.text().lines().map(|line| format!("{line}\n")).collect()
    }

    #[test]
    fn the_three_lines_read_as_the_references() {
        let (text, json) = include_str!("testdata/logrus-1.9.4.txt").split_once("\n\n").unwrap();
        for (format, printed) in [(Format::Text, text), (Format::Json, json)] {
            let lines = as_the_reference(format);
            assert_eq!(lines.len(), 7);
            for (ours, logrus) in lines.iter().zip(printed.lines()) {
                assert_eq!(ours.trim_end(), logrus);
            }
        }
    }

    #[test]
    fn a_hostile_session_name_stays_on_its_line() {
        let captured = Captured::default();
        let log = Log::new(Format::Text, Level::Info, Arc::new(ManualClock::at(NOON)), captured.clone());
        let request = Request { client: SocketAddr::from(([127, 0, 0, 1], 1234)), method: "POST", path: "/authenticate" };
        access_denied(&log, NOON, &request, Some("arn:aws:iam::123456789012:role/\x1b[2J\nA\u{202e}B"), &"identity is not mapped");
        let expected = "time=\"2026-11-24T12:00:00Z\" level=warning msg=\"access denied\" \
             arn=\"arn:aws:iam::123456789012:role/\\u{1b}[2J\\u{a}A\\u{202e}B\" client=\"127.0.0.1:1234\" \
             error=\"identity is not mapped\" method=POST path=/authenticate\n";
        assert_eq!(captured.text(), expected);
    }
}
