//! What became of a question. Refused, failed, too late and broken off are different things, and a wrong identity is none of them.
//!
//! [`judge`] is on the path of every answer: where the expected bytes are there nothing is parsed.

use std::sync::LazyLock;

use memchr::memmem::Finder;
use serde::Deserialize;

use crate::question::{Expected, Needle};

/// How a question ended.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Outcome {
    /// Let in, as who it should be.
    Allowed,
    /// The connection could not be made, or ended before the whole answer was there.
    CutOff,
    /// Not let in: `authenticated` is false, or status 401 or 403.
    Denied,
    /// An answer that is no TokenReview, or none that could be read.
    Malformed,
    /// Status 429.
    Throttled,
    /// No answer within the time-out.
    TimedOut,
    /// Status 500 to 599.
    Unavailable,
    /// Let in as somebody else, or with a token that nobody should be let in with.
    WrongIdentity,
}

impl Outcome {
    /// All of them, in order.
    pub const ALL: [Self; 8] = [
        Self::Allowed,
        Self::CutOff,
        Self::Denied,
        Self::Malformed,
        Self::Throttled,
        Self::TimedOut,
        Self::Unavailable,
        Self::WrongIdentity,
    ];

    /// Its name in results and thresholds.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::CutOff => "cut-off",
            Self::Denied => "denied",
            Self::Malformed => "malformed",
            Self::Throttled => "throttled",
            Self::TimedOut => "timed-out",
            Self::Unavailable => "unavailable",
            Self::WrongIdentity => "wrong-identity",
        }
    }

    /// Its place in [`ALL`](Self::ALL).
    pub(crate) const fn index(self) -> usize {
        match self {
            Self::Allowed => 0,
            Self::CutOff => 1,
            Self::Denied => 2,
            Self::Malformed => 3,
            Self::Throttled => 4,
            Self::TimedOut => 5,
            Self::Unavailable => 6,
            Self::WrongIdentity => 7,
        }
    }
}

/// An outcome, and why where there is something to say.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Judgement {
    /// How it ended.
    pub outcome: Outcome,
    /// The target's reason, or ours.
    pub reason: Option<String>,
}

impl Judgement {
    const fn plain(outcome: Outcome) -> Self {
        Self { outcome, reason: None }
    }

    pub(crate) fn because(outcome: Outcome, reason: impl Into<String>) -> Self {
        Self { outcome, reason: Some(reason.into()) }
    }
}

/// Judges an answer that has arrived whole.
#[must_use]
pub fn judge(status: u16, body: &[u8], expected: &Expected) -> Judgement {
    match (status, expected) {
        // Neither text can be inside of another one, whose quotes would be escaped.
        (200, Expected::Identity(needle)) if needle.is_in(body) && AUTHENTICATED.find(body).is_some() => Judgement::plain(Outcome::Allowed),
        (200, _) => judge_review(body, expected),
        (401 | 403, _) => Judgement::because(Outcome::Denied, reason_in(body).unwrap_or_else(|| format!("status {status}"))),
        (429, _) => Judgement::because(Outcome::Throttled, reason_in(body).unwrap_or_else(|| "status 429".into())),
        (500..=599, _) => {
            let reason = reason_in(body).map_or_else(|| format!("status {status}"), |reason| format!("status {status}: {reason}"));
            Judgement::because(Outcome::Unavailable, reason)
        }
        _ => Judgement::because(Outcome::Malformed, format!("status {status}")),
    }
}

static AUTHENTICATED: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(br#""authenticated":true"#));

/// By the letter: for answers that are not written as expected, or not what was expected.
fn judge_review(body: &[u8], expected: &Expected) -> Judgement {
    let Ok(Review { status }) = serde_json::from_slice(body) else {
        return Judgement::because(Outcome::Malformed, "not a TokenReview in JSON");
    };
    if !status.authenticated {
        return Judgement { outcome: Outcome::Denied, reason: status.error.map(shorten) };
    }
    let told = status.user.and_then(|user| user.extra).map(|extra| extra.arn).unwrap_or_default();
    let is = |needle: &Needle| matches!(told.as_slice(), [arn] if arn == needle.arn());
    match expected {
        Expected::Identity(needle) if is(needle) => Judgement::plain(Outcome::Allowed),
        Expected::Identity(needle) => {
            Judgement::because(Outcome::WrongIdentity, shorten(format!("expected {}, got {}", needle.arn(), told.join(", "))))
        }
        Expected::Nobody => Judgement::because(Outcome::WrongIdentity, shorten(format!("expected nobody, got {}", told.join(", ")))),
    }
}

/// `status.error`, if there is a TokenReview.
fn reason_in(body: &[u8]) -> Option<String> {
    serde_json::from_slice::<Review>(body).ok()?.status.error.map(shorten)
}

/// A target may say whatever it likes, for as long as it likes.
fn shorten(reason: String) -> String {
    const MOST_CHARS: usize = 160;
    let plain = |character: char| if character.is_control() { '\u{fffd}' } else { character };
    without_durations(&reason.chars().take(MOST_CHARS).map(plain).collect::<String>())
}

/// `for 250 ms` is `for # ms`: how long it was says nothing of why, and would make each reason another one.
fn without_durations(reason: &str) -> String {
    let is_unit = |word: &str| matches!(word.trim_end_matches([',', '.', ';', ')']), "ms" | "s" | "\u{b5}s" | "us" | "ns" | "seconds");
    let is_number = |word: &str| word.starts_with(|first: char| first.is_ascii_digit()) && word.parse::<f64>().is_ok();
    let mut words = reason.split(' ').peekable();
    let mut text = String::with_capacity(reason.len());
    while let Some(word) = words.next() {
        let is_duration = is_number(word) && words.peek().is_some_and(|unit| is_unit(unit));
        text.push_str(if is_duration { "#" } else { word });
        if words.peek().is_some() {
            text.push(' ');
        }
    }
    text
}

#[derive(Deserialize)]
struct Review {
    status: Status,
}

#[derive(Deserialize)]
struct Status {
    #[serde(default)]
    authenticated: bool,
    error: Option<String>,
    user: Option<User>,
}

#[derive(Deserialize)]
struct User {
    extra: Option<Extra>,
}

#[derive(Deserialize)]
struct Extra {
    #[serde(default)]
    arn: Vec<String>,
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const ALICE: &str = "arn:aws:iam::123456789012:user/Alice";

    fn alice() -> Expected {
        Expected::Identity(Arc::new(Needle::new(ALICE)))
    }

    fn answer(arn: &str) -> String {
        format!(r#"{{"status":{{"authenticated":true,"user":{{"username":"a","extra":{{"arn":["{arn}"]}}}}}}}}"#)
    }

    fn outcome(status: u16, body: &str, expected: &Expected) -> Outcome {
        judge(status, body.as_bytes(), expected).outcome
    }

    #[test]
    fn each_outcome_has_its_place_and_a_name_of_its_own() {
        let mut names: Vec<_> = Outcome::ALL.iter().map(|outcome| outcome.label()).collect();
        for (index, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome.index(), index);
        }
        names.dedup();
        assert_eq!(names.len(), Outcome::ALL.len());
    }

    #[test]
    fn another_identity_is_never_a_success() {
        assert_eq!(outcome(200, &answer(ALICE), &alice()), Outcome::Allowed);
        for other in
            ["arn:aws:iam::123456789012:user/Bob", "arn:aws:iam::123456789012:user/Alice2", "", "arn:aws:iam::123456789012:user/alice"]
        {
            assert_eq!(outcome(200, &answer(other), &alice()), Outcome::WrongIdentity, "{other}");
        }
        assert_eq!(outcome(200, r#"{"status":{"authenticated":true}}"#, &alice()), Outcome::WrongIdentity);
        assert_eq!(outcome(200, &answer(ALICE), &Expected::Nobody), Outcome::WrongIdentity);
        let two = answer(ALICE).replace(&format!(r#"["{ALICE}"]"#), &format!(r#"["{ALICE}","arn:x"]"#));
        assert_eq!(outcome(200, &two, &alice()), Outcome::WrongIdentity);
    }

    #[test]
    fn an_answer_in_another_hand_is_read_as_json() {
        let spaced = answer(ALICE).replace(':', " : ").replace(" : ", ":").replace(r#""arn":["#, "\"arn\" : [ ");
        assert_eq!(outcome(200, &spaced, &alice()), Outcome::Allowed, "{spaced}");
        let escaped = answer(ALICE).replace("user/Alice", r"user\/Alice");
        assert_eq!(outcome(200, &escaped, &alice()), Outcome::Allowed);
    }

    #[test]
    fn a_denial_that_quotes_the_expected_answer_is_a_denial() {
        let quoting = answer(ALICE).replace('"', r#"\""#);
        let body = format!(r#"{{"status":{{"authenticated":false,"error":"{quoting}"}}}}"#);
        assert_eq!(outcome(200, &body, &alice()), Outcome::Denied);
    }

    #[test]
    fn refusals_failures_and_nonsense_are_apart() {
        let denied = r#"{"status":{"authenticated":false,"error":"not mapped"}}"#;
        assert_eq!(judge(200, denied.as_bytes(), &alice()), Judgement::because(Outcome::Denied, "not mapped"));
        assert_eq!(judge(403, denied.as_bytes(), &alice()), Judgement::because(Outcome::Denied, "not mapped"));
        assert_eq!(judge(401, b"", &alice()), Judgement::because(Outcome::Denied, "status 401"));
        assert_eq!(outcome(429, denied, &alice()), Outcome::Throttled);
        assert_eq!(judge(503, denied.as_bytes(), &alice()), Judgement::because(Outcome::Unavailable, "status 503: not mapped"));
        assert_eq!(outcome(500, "boom", &alice()), Outcome::Unavailable);
        for (status, body) in [(200, "<html>"), (200, ""), (200, "{}"), (404, denied), (302, "")] {
            assert_eq!(outcome(status, body, &alice()), Outcome::Malformed, "{status} {body}");
        }
    }

    #[test]
    fn reasons_that_differ_by_a_duration_are_one() {
        for (reason, told) in [
            ("it is not asked for 250 ms", "it is not asked for # ms"),
            ("no answer in 1.5 s, 3 times  in a row", "no answer in # s, 3 times  in a row"),
            ("status 503 s", "status # s"),
            ("5", "5"),
            ("", ""),
            ("ms 12", "ms 12"),
        ] {
            assert_eq!(shorten(reason.into()), told);
        }
    }

    #[test]
    fn a_reason_is_short_and_holds_no_control_characters() {
        let body = format!(r#"{{"status":{{"authenticated":false,"error":"\u001b[2J{}"}}}}"#, "x".repeat(1000));
        let reason = judge(200, body.as_bytes(), &alice()).reason.unwrap();
        assert!(reason.chars().count() == 160 && !reason.contains('\u{1b}'));
    }
}
