//! The webhook as kube-apiserver sees it: real TLS, real HTTP, a fake STS that checks signatures, and a clock that stands still.

mod support;

use arngate_loadtest::credential::Credential;
use arngate_loadtest::sts::Behaviour;
use arngate_server::http::respond::DenyStatus;
use arngate_server::http::webhook::AccessLog;
use support::{Authority, Fixture, Protocol, Reply, Setup};

/// What the clients' SDKs send to the API server, and that to us.
fn review(api_version: &str, token: &str) -> String {
    format!(
        r#"{{"kind":"TokenReview","apiVersion":"authentication.k8s.io/{api_version}","metadata":{{"creationTimestamp":null}},"spec":{{"token":"{token}","audiences":["https://kubernetes.default.svc"]}},"status":{{"user":{{}}}}}}"#
    )
}

#[tokio::test]
async fn a_user_logs_in_by_sts_in_both_versions_and_over_both_protocols() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let fixture = Fixture::start(Setup::default()).await;
        let token = fixture.token(&Credential::example_user());
        let v1 = fixture.review(protocol, &review("v1", &token)).await;
        let v1beta1 = fixture.review(protocol, &review("v1beta1", &token)).await;
        insta::assert_snapshot!("user_v1", v1.shown());
        assert_eq!(v1beta1.status, 200);
        assert_eq!(v1beta1.body, v1.body.replace("authentication.k8s.io/v1", "authentication.k8s.io/v1beta1"));
        assert_eq!(fixture.sts().calls(), 1, "who signed is known the second time, whatever the version");
    }
}

#[tokio::test]
async fn a_role_logs_in_by_sts_with_its_session() {
    let fixture = Fixture::start(Setup::default()).await;
    let reply = fixture.review(Protocol::Http2, &review("v1", &fixture.token(&Credential::example_role()))).await;
    insta::assert_snapshot!("role_v1", reply.shown());
}

#[tokio::test]
async fn a_key_of_the_bundle_needs_no_sts() {
    let fixture = Fixture::start(Setup { bundle: true, ..Setup::default() }).await;
    let token = fixture.token(&Credential::example_user());
    let reply = fixture.review(Protocol::Http2, &review("v1", &token)).await;
    assert!(reply.body.contains(r#""authenticated":true"#), "{}", reply.body);
    assert_eq!(fixture.sts().calls(), 0);
    // It is proved each time, and is nowhere kept.
    let again = fixture.review(Protocol::Http1, &review("v1", &token)).await;
    assert_eq!((again.status, again.body), (200, reply.body));
    let counts = ["arngate_offline_proofs_total", "arngate_cache_hits_total", "arngate_cache_misses_total", "arngate_cache_entries"];
    let mut counted = Vec::new();
    for count in counts {
        counted.push(fixture.metric(count).await);
    }
    assert_eq!(counted, [2, 0, 0, 0]);
    // A wrong signature under a key that we hold is never forwarded.
    let reply = fixture.review(Protocol::Http2, &review("v1", &support::with_another_signature(&token))).await;
    insta::assert_snapshot!("bad_signature", reply.shown());
    assert_eq!(fixture.sts().calls(), 0);
    // Temporary credentials go to STS, whatever is in the bundle.
    let reply = fixture.review(Protocol::Http2, &review("v1", &fixture.token(&Credential::example_role()))).await;
    assert!(reply.body.contains(r#""authenticated":true"#), "{}", reply.body);
    assert_eq!((fixture.sts().calls(), fixture.metric("arngate_cache_entries").await), (1, 1));
}

#[tokio::test]
async fn a_session_token_is_never_proved_offline() {
    let fixture = Fixture::start(Setup { bundle: true, sts: false, ..Setup::default() }).await;
    let reply = fixture.review(Protocol::Http2, &review("v1", &fixture.token(&Credential::example_role()))).await;
    assert_eq!(reply.error(), "the token has a session token, which only STS can prove");
    assert_eq!(fixture.sts().calls(), 0);
}

#[tokio::test]
async fn a_token_for_another_cluster_is_refused_by_sts() {
    let fixture = Fixture::start(Setup::default()).await;
    let token = fixture.token_for(&Credential::example_user(), "another-cluster");
    let reply = fixture.review(Protocol::Http2, &review("v1", &token)).await;
    assert_eq!(
        (reply.status, reply.error()),
        (200, "STS at sts.us-east-1.amazonaws.com: refused with SignatureDoesNotMatch (status 403)".into())
    );
}

#[tokio::test]
async fn each_ending_has_its_status() {
    // Behaviour of STS, our status, what status.error says.
    for (behaviour, status, error) in [
        (Behaviour::Throttle, 429, "STS at sts.us-east-1.amazonaws.com: throttled with Throttling (status 400)"),
        (Behaviour::Status(500), 504, ""),
        (Behaviour::Status(503), 504, ""),
        (Behaviour::CloseWithoutAnswer, 504, ""),
        (Behaviour::Reset, 504, ""),
        (Behaviour::Garbage, 504, ""),
        (Behaviour::Oversize(5 << 20), 504, ""),
        (Behaviour::Redirect, 504, ""),
        (Behaviour::ProxyPage, 504, ""),
        (Behaviour::Truncated, 504, ""),
        (Behaviour::OtherPartition, 200, ""),
        (Behaviour::Hang, 504, ""),
    ] {
        let fixture = Fixture::start(Setup { quick_time_outs: behaviour == Behaviour::Hang, ..Setup::default() }).await;
        fixture.sts().set_behaviour(behaviour.clone());
        let reply = fixture.review(Protocol::Http2, &review("v1", &fixture.token(&Credential::example_user()))).await;
        assert_eq!(reply.status, status, "{behaviour:?}: {}", reply.body);
        assert!(reply.body.contains(r#""authenticated":false"#), "{behaviour:?}");
        assert!(reply.error().starts_with("STS at sts.us-east-1.amazonaws.com: "), "{behaviour:?}: {}", reply.error());
        if !error.is_empty() {
            assert_eq!(reply.error(), error);
        }
        assert_eq!(reply.header("retry-after"), None, "it multiplies the API server's retries");
    }
}

#[tokio::test]
async fn an_sts_out_of_reach_is_504_and_a_log_line_with_host_and_cause() {
    let fixture = Fixture::start(Setup { sts_unreachable: true, ..Setup::default() }).await;
    let reply = fixture.review(Protocol::Http2, &review("v1", &fixture.token(&Credential::example_user()))).await;
    assert_eq!(reply.status, 504);
    let log = fixture.log();
    assert!(log.contains("access denied") && log.contains("sts.us-east-1.amazonaws.com") && log.contains("refused"), "{log}");
}

#[tokio::test]
async fn denials_are_200_with_a_reason_or_403_where_so_configured() {
    for (deny_status, expected) in [(DenyStatus::Ok, 200), (DenyStatus::Forbidden, 403)] {
        let fixture = Fixture::start(Setup { deny_status, ..Setup::default() }).await;
        let stranger = support::stranger();
        fixture.sts().put_credential(stranger.clone());
        let unmapped = fixture.review(Protocol::Http1, &review("v1", &fixture.token(&stranger))).await;
        assert_eq!((unmapped.status, unmapped.error()), (expected, "identity is not mapped".into()));
        let reserved = support::reserved();
        fixture.sts().put_credential(reserved.clone());
        let reserved = fixture.review(Protocol::Http1, &review("v1", &fixture.token(&reserved))).await;
        assert_eq!(
            (reserved.status, reserved.error()),
            (expected, "the user name begins with a prefix that is reserved in MountedFile".into())
        );
        let garbage = fixture.review(Protocol::Http1, &review("v1", "not a token")).await;
        assert_eq!((garbage.status, garbage.error()), (expected, "the token does not begin with k8s-aws-v1.".into()));
    }
}

#[tokio::test]
async fn a_mapping_that_wants_ec2_is_503_for_an_instance_and_a_denial_for_others() {
    let fixture = Fixture::start(Setup::default()).await;
    let node = support::node("i-0123456789abcdef0");
    fixture.sts().put_credential(node.clone());
    let reply = fixture.review(Protocol::Http1, &review("v1", &fixture.token(&node))).await;
    assert_eq!(
        (reply.status, reply.error()),
        (503, "the mapping wants {{EC2PrivateDNSName}}: EC2 cannot be asked, for our region is not known: server.region tells it".into())
    );
    let jane = support::node("jane");
    fixture.sts().put_credential(jane.clone());
    let reply = fixture.review(Protocol::Http1, &review("v1", &fixture.later_token(&jane, 1))).await;
    assert_eq!(
        (reply.status, reply.error()),
        (200, "the mapping wants {{EC2PrivateDNSName}}, and the session name is not an instance id".into())
    );
}

#[tokio::test]
async fn what_is_no_token_review_is_told_so() {
    let fixture = Fixture::start(Setup::default()).await;
    let get = fixture.request(Protocol::Http1, "GET", "/authenticate?timeout=30s", "").await;
    assert_eq!((get.status, get.body.as_str(), get.header("allow")), (405, "expected POST\n", Some("POST".into())));
    assert!(
        fixture.log().ends_with(
            "level=warning msg=\"access denied\" client=\"127.0.0.1:PORT\" error=\"expected POST\" method=GET path=/authenticate\n"
        ),
        "{}",
        fixture.log()
    );
    let post = async |body: &str| fixture.request(Protocol::Http2, "POST", "/authenticate?timeout=30s", body).await;
    for (body, status, text) in [
        ("", 400, "expected a request body to be a TokenReview\n"),
        ("{", 400, "expected a request body to be a TokenReview\n"),
        (r#"{"kind":"Pod"}"#, 400, "expected kind TokenReview\n"),
        (
            r#"{"apiVersion":"authentication.k8s.io/v2"}"#,
            400,
            "expected apiVersion authentication.k8s.io/v1 or authentication.k8s.io/v1beta1\n",
        ),
    ] {
        let reply = post(body).await;
        assert_eq!((reply.status, reply.body.as_str()), (status, text), "{body}");
    }
    let large = post(&review("v1", &"A".repeat(4 << 20))).await;
    assert_eq!((large.status, large.body.as_str()), (413, "the request body is larger than 64 KiB\n"));
    let long = post(&review("v1", &"A".repeat(60 << 10))).await;
    assert_eq!((long.status, long.error()), (200, "the token is longer than 4096 bytes".into()));
    assert_eq!(fixture.sts().calls(), 0);
    // The server is as well as before.
    let health = fixture.request(Protocol::Http1, "GET", "/healthz", "").await;
    assert_eq!((health.status, health.body.as_str()), (200, "ok"));
    assert_eq!(fixture.request(Protocol::Http1, "GET", "/nowhere", "").await.status, 404);
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let head = fixture.request(protocol, "HEAD", "/healthz", "").await;
        assert_eq!((head.status, head.body.as_str()), (200, ""), "{protocol:?}");
        let metrics = fixture.request(protocol, "HEAD", "/metrics", "").await;
        assert_eq!((metrics.status, metrics.body.as_str()), (200, ""), "{protocol:?}");
        assert_eq!(metrics.header("content-type").as_deref(), Some("text/plain; version=0.0.4; charset=utf-8"));
        assert_eq!(fixture.request(protocol, "POST", "/metrics", "").await.status, 404, "{protocol:?}");
    }
}

#[tokio::test]
async fn a_scrubbed_account_shows_no_arn_in_answer_or_log() {
    let fixture = Fixture::start(Setup { scrubbed: true, access_log: AccessLog::All, ..Setup::default() }).await;
    let token = fixture.token(&Credential::example_user());
    let reply = fixture.review(Protocol::Http1, &review("v1", &token)).await;
    insta::assert_snapshot!("scrubbed", reply.shown());
    insta::assert_snapshot!("scrubbed_log", fixture.log());
}

#[tokio::test]
async fn the_three_audit_lines() {
    let fixture = Fixture::start(Setup { access_log: AccessLog::All, ..Setup::default() }).await;
    fixture.review(Protocol::Http1, &review("v1", &fixture.token(&Credential::example_role()))).await;
    let stranger = support::stranger();
    fixture.sts().put_credential(stranger.clone());
    fixture.review(Protocol::Http1, &review("v1", &fixture.token(&stranger))).await;
    fixture.review(Protocol::Http1, &review("v1", "nonsense")).await;
    insta::assert_snapshot!("audit_lines", fixture.log());
}

#[tokio::test]
async fn only_denials_are_logged_by_default_and_nothing_if_so_wished() {
    for (access_log, lines) in [(AccessLog::Denied, 1), (AccessLog::None, 0)] {
        let fixture = Fixture::start(Setup { access_log, ..Setup::default() }).await;
        fixture.review(Protocol::Http1, &review("v1", &fixture.token(&Credential::example_user()))).await;
        fixture.review(Protocol::Http1, &review("v1", "nonsense")).await;
        assert_eq!(fixture.log().lines().count(), lines, "{}", fixture.log());
    }
}

#[tokio::test]
async fn a_flood_of_denials_writes_fifty_lines_a_second() {
    let fixture = Fixture::start(Setup { access_log: AccessLog::Denied, ..Setup::default() }).await;
    for _ in 0..120 {
        fixture.review(Protocol::Http1, &review("v1", "nonsense")).await;
    }
    assert_eq!((fixture.log().lines().count(), fixture.metric("arngate_log_lines_left_out_total").await), (50, 70));
    fixture.clock().advance_secs(1);
    fixture.review(Protocol::Http1, &review("v1", "nonsense")).await;
    let log = fixture.log();
    assert!(log.contains("more access was denied than is told here") && log.contains("lines=70"), "{log}");
}

#[tokio::test]
async fn the_last_denials_that_were_not_told_are_told_at_the_end() {
    let mut fixture = Fixture::start(Setup { access_log: AccessLog::Denied, ..Setup::default() }).await;
    for _ in 0..53 {
        fixture.review(Protocol::Http1, &review("v1", "nonsense")).await;
    }
    assert!(!fixture.log().contains("more access was denied"));
    fixture.stop().await;
    let log = fixture.log();
    assert!(log.ends_with("level=warning msg=\"more access was denied than is told here\" lines=3\n"), "{log}");
}

#[tokio::test]
async fn a_token_is_as_old_as_it_is_when_all_of_it_is_there() {
    let fixture = Fixture::start(Setup { bundle: true, ..Setup::default() }).await;
    let body = review("v1", &fixture.token(&Credential::example_user()));
    for (seconds, expected) in [(900, r#""authenticated":true"#), (1, r#""authenticated":false"#)] {
        let answer = fixture.review_late(&body, || fixture.clock().advance_secs(seconds)).await;
        assert!(answer.contains(expected), "{answer}");
    }
}

#[tokio::test]
async fn no_secret_is_in_logs_metrics_or_errors() {
    let fixture = Fixture::start(Setup { access_log: AccessLog::All, ..Setup::default() }).await;
    let token = fixture.token(&Credential::example_role());
    let forged = support::with_another_signature(&token);
    let mut replies = String::new();
    for token in [&token, &forged] {
        replies += &fixture.review(Protocol::Http1, &review("v1", token)).await.body;
    }
    fixture.sts().set_behaviour(Behaviour::Throttle);
    replies += &fixture.review(Protocol::Http1, &review("v1", &fixture.later_token(&Credential::example_role(), 1))).await.body;
    let metrics = fixture.request(Protocol::Http1, "GET", "/metrics", "").await.body;
    let url = support::url_of(&token);
    let signature = url.rsplit_once("X-Amz-Signature=").unwrap().1;
    let role = Credential::example_role();
    for (place, text) in [("log", fixture.log()), ("metrics", metrics), ("replies", replies)] {
        for secret in [&token[11..60], signature, role.secret(), &role.session_token().unwrap()[..40], "Rate exceeded"] {
            assert!(!text.contains(secret), "{place} shows {secret}");
        }
    }
}

#[tokio::test]
async fn a_token_with_escape_sequences_reaches_no_line_of_the_log() {
    let fixture = Fixture::start(Setup { access_log: AccessLog::All, ..Setup::default() }).await;
    fixture.request(Protocol::Http2, "POST", "/authenticate", r#"{"spec":{"token":"k8s-aws-v1.\u001b[2J\n\u202e"}}"#).await;
    let log = fixture.log();
    assert_eq!(log.lines().count(), 1);
    assert!(!log.contains(['\u{1b}', '\u{202e}']), "{log:?}");
}

#[tokio::test]
async fn what_happens_is_counted_under_the_names_of_the_reference() {
    let fixture = Fixture::start(Setup::default()).await;
    let token = fixture.token(&Credential::example_user());
    fixture.review(Protocol::Http1, &review("v1", &token)).await;
    fixture.review(Protocol::Http1, &review("v1", "nonsense")).await;
    fixture.review(Protocol::Http1, "nonsense").await;
    fixture.sts().set_behaviour(Behaviour::Throttle);
    fixture.review(Protocol::Http1, &review("v1", &fixture.later_token(&Credential::example_user(), 1))).await;
    let metrics = fixture.request(Protocol::Http1, "GET", "/metrics", "").await.body;
    for line in [
        r#"aws_iam_authenticator_authenticate_latency_seconds_count{result="success"} 1"#,
        r#"aws_iam_authenticator_authenticate_latency_seconds_count{result="invalid_token"} 1"#,
        r#"aws_iam_authenticator_authenticate_latency_seconds_count{result="malformed_request"} 1"#,
        r#"aws_iam_authenticator_authenticate_latency_seconds_count{result="sts_throttling"} 1"#,
        r#"aws_iam_authenticator_sts_responses_total{ResponseCode="200",StsRegion="us-east-1"} 1"#,
        r#"aws_iam_authenticator_sts_responses_total{ResponseCode="400",StsRegion="us-east-1"} 1"#,
        r#"aws_iam_authenticator_sts_throttling_total{StsRegion="us-east-1"} 1"#,
        r#"arngate_refusals_total{reason="prefix"} 1"#,
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is not in\n{metrics}");
    }
}

#[tokio::test]
async fn what_ends_at_sts_or_without_a_mapping_is_counted_as_that() {
    let fixture = Fixture::start(Setup::default()).await;
    let stranger = support::stranger();
    fixture.sts().put_credential(stranger.clone());
    fixture.review(Protocol::Http1, &review("v1", &fixture.token(&stranger))).await;
    fixture.sts().remove_credential(stranger.access_key_id());
    fixture.review(Protocol::Http1, &review("v1", &fixture.later_token(&stranger, 1))).await;
    fixture.sts().set_behaviour(Behaviour::CloseWithoutAnswer);
    fixture.review(Protocol::Http1, &review("v1", &fixture.later_token(&stranger, 2))).await;
    let metrics = fixture.request(Protocol::Http1, "GET", "/metrics", "").await.body;
    for line in [
        r#"aws_iam_authenticator_authenticate_latency_seconds_count{result="sts_error"} 2"#,
        r#"aws_iam_authenticator_authenticate_latency_seconds_count{result="uknown_user"} 1"#,
        r#"arngate_refusals_total{reason="not-mapped"} 1"#,
        r#"arngate_refusals_total{reason="sts-refused"} 1"#,
        r#"arngate_refusals_total{reason="sts-unavailable"} 1"#,
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is not in\n{metrics}");
    }
}

#[tokio::test]
async fn a_panic_in_one_request_is_a_500_and_counted_and_the_end_of_nothing() {
    let fixture = Fixture::start(Setup { bundle: true, panics: true, ..Setup::default() }).await;
    for _ in 0..2 {
        let reply = fixture.review(Protocol::Http2, &review("v1", &fixture.token(&Credential::example_role()))).await;
        assert_eq!((reply.status, reply.body.as_str()), (500, "internal error\n"));
    }
    let reply = fixture.review(Protocol::Http2, &review("v1", &fixture.token(&Credential::example_user()))).await;
    assert!(reply.body.contains(r#""authenticated":true"#), "{}", reply.body);
    let metrics = fixture.request(Protocol::Http1, "GET", "/metrics", "").await.body;
    assert!(metrics.contains("arngate_panics_total 2\n"), "{metrics}");
}

#[tokio::test]
async fn a_panic_outside_of_a_proof_ends_neither_the_connection_nor_what_waits_on_it() {
    let fixture = Fixture::start(Setup::default()).await;
    let token = fixture.token(&Credential::example_user());
    let session = fixture.connect().await;
    let gate = fixture.sts().hold();
    let waiting = tokio::spawn(session.review(&token));
    gate.wait_held(1).await;
    fixture.break_clock(true);
    for _ in 0..2 {
        let reply = session.review(&token).await;
        assert_eq!((reply.status, reply.body.as_str()), (500, "internal error\n"));
    }
    fixture.break_clock(false);
    gate.open();
    for reply in [waiting.await.unwrap(), session.review(&token).await] {
        assert!(reply.arn().is_some(), "{}", reply.body);
    }
    assert_eq!(fixture.metric("arngate_panics_total").await, 2);
}

#[tokio::test]
async fn the_latency_is_that_of_the_whole_answer() {
    let fixture = Fixture::start(Setup::default()).await;
    let session = fixture.connect().await;
    let gate = fixture.sts().hold();
    let waiting = tokio::spawn(session.review(&fixture.token(&Credential::example_user())));
    gate.wait_held(1).await;
    fixture.clock().advance_secs(2);
    gate.open();
    assert_eq!(waiting.await.unwrap().status, 200);
    let metrics = fixture.request(Protocol::Http1, "GET", "/metrics", "").await.body;
    assert!(metrics.contains("authenticate_latency_seconds_sum{result=\"success\"} 2.0\n"), "{metrics}");
}

#[tokio::test]
async fn where_clients_are_asked_for_a_certificate_only_the_api_server_may_ask_and_probes_may() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let mut fixture = Fixture::start(Setup { clients: Some(ours.clients("kube-apiserver")), ..Setup::default() }).await;
    let body = review("v1", &fixture.token(&Credential::example_user()));
    let refused = async |fixture: &Fixture| {
        for protocol in [Protocol::Http1, Protocol::Http2] {
            let reply = fixture.review(protocol, &body).await;
            assert_eq!((reply.status, reply.body.as_str()), (401, "no client certificate that is accepted\n"));
            assert_eq!(fixture.request(protocol, "GET", "/healthz", "").await.status, 200);
        }
    };
    refused(&fixture).await;
    for stranger in [ours.issue("kubelet"), theirs.issue("kube-apiserver")] {
        fixture.show(stranger);
        refused(&fixture).await;
    }
    assert_eq!(fixture.sts().calls(), 0);
    assert_eq!(fixture.log().matches("error=\"no client certificate that is accepted\"").count(), 6, "{}", fixture.log());
    fixture.show(ours.issue("kube-apiserver"));
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let reply = fixture.review(protocol, &body).await;
        assert!(reply.arn().is_some(), "{protocol:?}: {}", reply.body);
    }
    let counted = "aws_iam_authenticator_authenticate_latency_seconds_count{result=\"malformed_request\"}";
    assert_eq!(fixture.metric(counted).await, 6);
}

#[tokio::test]
async fn many_at_once_get_each_their_own_answer() {
    let fixture = Fixture::start(Setup::default()).await;
    let (user, role) = (fixture.token(&Credential::example_user()), fixture.token(&Credential::example_role()));
    let (user, role) = (review("v1", &user), review("v1", &role));
    let mut replies = Vec::new();
    for index in 0..40 {
        let body = if index % 2 == 0 { &user } else { &role };
        replies.push(fixture.review(Protocol::Http2, body));
    }
    let replies: Vec<Reply> = futures_util::future::join_all(replies).await;
    for (index, reply) in replies.iter().enumerate() {
        let expected = if index % 2 == 0 { ":user/" } else { ":assumed-role/" };
        assert!(reply.body.contains(expected), "{}", reply.body);
    }
}
