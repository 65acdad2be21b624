//! Kubernetes Events about mappings that are not as they should be, for those who look with kubectl.
//!
//! An Event names places and never what stands there: who may read Events need not be allowed to read mappings. However often a source changes, few are sent:
//! [`Budget`]. They are never needed: where they are not permitted there are none.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use arngate_core::UnixSeconds;
use arngate_core::time::AmzDate;
use arngate_server::clock::Clock;
use arngate_server::document::Place;
use arngate_server::mapping::{Finding, Severity};
use arngate_server::telemetry::escape::Escaped;
use http::Method;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::Writes;
use crate::connection::Connection;
use crate::request::Content;

/// Where Events go: that of aws-auth. Those about objects without a namespace may be there too.
const NAMESPACE: &str = "kube-system";

/// Who says it.
const COMPONENT: &str = "arngate";

/// Events that wait to be sent; more are left out.
const QUEUE: usize = 8;

/// Places that an Event names, and bytes of each: a message has 1 024 bytes at most (`NoteLengthLimit` of Kubernetes).
const PLACES: usize = 10;
const PLACE_BYTES: usize = 64;

/// The name of an object as the beginning of an Event's, in bytes.
const NAME_BYTES: usize = 200;

/// What an Event is about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct About<'a> {
    pub(crate) api_version: &'static str,
    pub(crate) kind: &'static str,
    /// Empty for what is in none.
    pub(crate) namespace: &'static str,
    pub(crate) name: &'a str,
    pub(crate) uid: &'a str,
}

/// Notes what is wrong with a source.
pub(crate) struct Recorder {
    budget: Budget,
    clock: Arc<dyn Clock>,
    queue: mpsc::Sender<Value>,
}

/// Sends what was noted.
pub(crate) struct Sender {
    connection: Arc<Connection>,
    queue: mpsc::Receiver<Value>,
}

pub(crate) fn recorder(connection: Arc<Connection>, clock: Arc<dyn Clock>) -> (Recorder, Sender) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    (Recorder { budget: Budget::new(clock.monotonic()), clock, queue: sender }, Sender { connection, queue: receiver })
}

impl Recorder {
    /// Something of an object could not be read.
    pub(crate) fn invalid<'f>(&mut self, about: &About<'_>, findings: impl Iterator<Item = &'f Finding>) {
        let errors = findings.filter(|finding| finding.severity == Severity::Error).map(|finding| &finding.place);
        let Some(message) = message(errors) else { return };
        let now = self.clock.now();
        let mut hasher = DefaultHasher::new();
        (about.kind, about.name, about.uid, &message).hash(&mut hasher);
        let hash = hasher.finish();
        if self.budget.admits(hash, now.monotonic) {
            let _ = self.queue.try_send(event(about, &message, hash, now.unix));
        }
    }
}

/// Where errors are, if there are any.
fn message<'f>(places: impl Iterator<Item = &'f Place>) -> Option<String> {
    let mut named = places.filter_map(|place| {
        let Place::File { position, key, .. } = place else { return None };
        let line = position.map(|position| format!(" (line {})", position.line)).unwrap_or_default();
        Some(format!("{}{line}", Escaped(if key.is_empty() { "all of it" } else { key }).up_to(PLACE_BYTES)))
    });
    let first: Vec<_> = named.by_ref().take(PLACES).collect();
    if first.is_empty() {
        return None;
    }
    let more = match named.count() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Some(format!(
        "invalid mappings: {}{more}; they do not count, or what was read before does in their place: the server's log says what is wrong",
        first.join(", ")
    ))
}

fn event(about: &About<'_>, message: &str, hash: u64, now: UnixSeconds) -> Value {
    let name: String = about.name.chars().take(NAME_BYTES).collect();
    let name = format!("{}.{hash:016x}", name.trim_end_matches(['.', '-']));
    let mut involved = json!({"apiVersion": about.api_version, "kind": about.kind, "name": about.name, "uid": about.uid});
    if !about.namespace.is_empty() {
        involved["namespace"] = about.namespace.into();
    }
    let now = rfc3339(now);
    // Without it, and what goes with it, an Event about an object in no namespace would have to be in `default`.
    let event_time = now.as_deref().and_then(|now| now.strip_suffix('Z')).map(|now| format!("{now}.000000Z"));
    json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "involvedObject": involved,
        "reason": "InvalidMapping",
        "message": message,
        "type": "Warning",
        "count": 1,
        "eventTime": event_time,
        "action": "ReadMappings",
        "reportingComponent": COMPONENT,
        "reportingInstance": COMPONENT,
        "firstTimestamp": now,
        "lastTimestamp": now,
        "source": {"component": COMPONENT},
    })
}

fn rfc3339(unix: UnixSeconds) -> Option<String> {
    let date = AmzDate::from_unix(unix)?;
    let text = date.as_str();
    let part = |range: std::ops::Range<usize>| text.get(range);
    Some(format!("{}-{}-{}T{}:{}:{}Z", part(0..4)?, part(4..6)?, part(6..8)?, part(9..11)?, part(11..13)?, part(13..15)?))
}

impl Sender {
    /// Sends until nobody notes any more, or it is not permitted.
    pub(crate) async fn run(mut self, writes: Writes) {
        if writes == Writes::Nothing {
            return;
        }
        while let Some(event) = self.queue.recv().await {
            match self.send(&event).await {
                Ok(()) => {}
                Err(trouble) if trouble.is_status(403) || trouble.is_status(401) => {
                    tracing::info!("no Events are written: {trouble}");
                    break;
                }
                // The next one may be luckier; this one is in the log.
                Err(trouble) => tracing::debug!("an Event was not written: {trouble}"),
            }
        }
    }

    async fn send(&self, event: &Value) -> Result<(), crate::Trouble> {
        let path = format!("/api/v1/namespaces/{NAMESPACE}/events");
        match self.connection.ask(Method::POST, &path, Some(Content::json(event)?)).await {
            Ok(_) => Ok(()),
            // Another server, or we ourselves a while ago, said the same.
            Err(trouble) if trouble.is_status(409) => {
                let name = event["metadata"]["name"].as_str().unwrap_or_default();
                let again = Content::merge_patch(&json!({"lastTimestamp": event["lastTimestamp"]}))?;
                self.connection.ask(Method::PATCH, &format!("{path}/{name}"), Some(again)).await.map(drop)
            }
            Err(trouble) => Err(trouble),
        }
    }
}

/// How many Events are sent: five at once, one in ten seconds in the long run, and the same one every ten minutes at most.
#[derive(Debug)]
struct Budget {
    left: u32,
    counted_from: Duration,
    /// No more than are admitted in [`SAME_AGAIN`]: 65.
    sent: Vec<(u64, Duration)>,
}

const BURST: u32 = 5;
const EACH: Duration = Duration::from_secs(10);
const SAME_AGAIN: Duration = Duration::from_mins(10);

impl Budget {
    const fn new(now: Duration) -> Self {
        Self { left: BURST, counted_from: now, sent: Vec::new() }
    }

    fn admits(&mut self, hash: u64, now: Duration) -> bool {
        self.sent.retain(|(_, at)| now.saturating_sub(*at) < SAME_AGAIN);
        if self.sent.iter().any(|(sent, _)| *sent == hash) {
            return false;
        }
        while self.left < BURST && now.saturating_sub(self.counted_from) >= EACH {
            self.left = self.left.saturating_add(1);
            self.counted_from = self.counted_from.saturating_add(EACH);
        }
        if self.left == BURST {
            self.counted_from = now;
        }
        let Some(left) = self.left.checked_sub(1) else { return false };
        self.left = left;
        self.sent.push((hash, now));
        true
    }
}

#[cfg(test)]
mod tests {
    use arngate_server::clock::ManualClock;
    use arngate_server::document::Position;

    use super::*;
    use crate::scripted::api_server;

    const ABOUT: About<'_> = About { api_version: "v1", kind: "ConfigMap", namespace: "kube-system", name: "aws-auth", uid: "u-1" };

    fn finding(severity: Severity, key: &str, line: usize) -> Finding {
        let position = Some(Position { line, column: 1 });
        let place = Place::File { file: "kube-system/aws-auth".into(), position, key: key.to_owned() };
        Finding { severity, place, message: "expected 12 digits, found \"secret\"".to_owned() }
    }

    #[test]
    fn the_same_is_not_said_twice_and_many_are_not_said_at_once() {
        let mut budget = Budget::new(Duration::ZERO);
        let secs = Duration::from_secs;
        let admitted = |budget: &mut Budget, hashes: std::ops::Range<u64>, now| hashes.filter(|hash| budget.admits(*hash, now)).count();
        assert_eq!(admitted(&mut budget, 0..100, secs(0)), 5);
        assert_eq!(admitted(&mut budget, 0..5, secs(500)), 0, "the same");
        assert_eq!(admitted(&mut budget, 5..100, secs(500)), 5, "however long it was quiet");
        assert_eq!(admitted(&mut budget, 100..200, secs(525)), 2);
        assert_eq!(admitted(&mut budget, 0..5, secs(601)), 5, "the same, after a while");
        let all = (1_000..3_000_u64).filter(|secs_after| budget.admits(*secs_after, secs(700 + secs_after)));
        assert_eq!(all.count(), 204, "a burst, and one in ten seconds");
        assert!(budget.sent.len() <= 65, "{}", budget.sent.len());
    }

    #[tokio::test]
    async fn an_event_tells_where_and_never_what() {
        let clock = Arc::new(ManualClock::at(UnixSeconds::new(1_795_521_600)));
        let (connection, mut asked) = api_server();
        let (mut recorder, sender) = recorder(Arc::new(connection), Arc::clone(&clock) as Arc<dyn Clock>);
        let sending = tokio::spawn(sender.run(Writes::StatusesAndEvents));
        let findings =
            [finding(Severity::Error, "mapAccounts[0]", 1), finding(Severity::Warning, "mapUsers", 9), finding(Severity::Error, "", 3)];
        recorder.invalid(&ABOUT, findings.iter());
        recorder.invalid(&ABOUT, findings.iter());
        recorder.invalid(&ABOUT, findings.iter().filter(|finding| finding.severity == Severity::Warning));
        let question = asked.next().await;
        assert_eq!((question.method.as_str(), question.path.as_str()), ("POST", "/api/v1/namespaces/kube-system/events"));
        let event = question.body.clone();
        assert_eq!(
            event["message"],
            "invalid mappings: mapAccounts[0] (line 1), all of it (line 3); they do not count, or what was read before does in their \
             place: the server's log says what is wrong"
        );
        assert_eq!(
            event["involvedObject"],
            json!({"apiVersion": "v1", "kind": "ConfigMap", "namespace": "kube-system", "name": "aws-auth", "uid": "u-1"})
        );
        assert_eq!((&event["lastTimestamp"], &event["eventTime"]), (&json!("2026-11-24T12:00:00Z"), &json!("2026-11-24T12:00:00.000000Z")));
        let name = event["metadata"]["name"].as_str().unwrap().to_owned();
        assert!(name.starts_with("aws-auth.") && !event.to_string().contains("secret"), "{event}");
        // Another server has said so: that it is still so.
        question.answer(409, &json!({"message": "exists"})).await;
        let question = asked.next().await;
        assert_eq!((question.method.as_str(), &question.path), ("PATCH", &format!("/api/v1/namespaces/kube-system/events/{name}")));
        assert_eq!(question.content_type, "application/merge-patch+json");
        assert_eq!(question.body, json!({"lastTimestamp": "2026-11-24T12:00:00Z"}));
        // Where it is not permitted nobody insists.
        question.answer(403, &json!({"message": "no"})).await;
        sending.await.unwrap();
        assert!(asked.is_quiet());
    }

    #[test]
    fn a_message_is_never_longer_than_kubernetes_takes() {
        let findings: Vec<_> = (0..100).map(|_| finding(Severity::Error, &"\u{202e}".repeat(100), 1 << 20)).collect();
        let message = message(findings.iter().map(|finding| &finding.place)).unwrap();
        assert!(message.len() <= 1024 && message.contains("and 90 more"), "{}: {message}", message.len());
    }

    #[test]
    fn an_event_names_ten_places_at_most() {
        let findings: Vec<_> = (1..=14).map(|line| finding(Severity::Error, &format!("mapRoles[{line}]\n"), line)).collect();
        let message = message(findings.iter().map(|finding| &finding.place)).unwrap();
        assert!(message.contains(r"mapRoles[10]\u{a} (line 10) and 4 more; ") && !message.contains("mapRoles[11]"), "{message}");
    }
}
