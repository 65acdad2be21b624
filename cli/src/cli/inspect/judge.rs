//! The judgement over one token: the server's checks, without asking anybody.

use std::io::{self, Write};

use arngate_core::limits::{DEFAULT_MAX_AHEAD_SECS, TOKEN_LIFETIME_SECS};
use arngate_core::sigv4::BadSignature;
use arngate_core::{ClusterId, Error, Partition, Policy, PresignedUrl, StsHosts, StsRequest, Token, TokenBuffer, UnixSeconds};
use arngate_server::prover::offline::{Bundle, Verdict};
use serde::Serialize;

use super::advice;
use crate::instant;

/// What a token is judged by.
#[derive(Debug)]
pub(super) struct Judge<'a> {
    pub(super) partition: Partition,
    pub(super) own_region: Option<&'a str>,
    pub(super) cluster_id: Option<ClusterId<'a>>,
    pub(super) now: UnixSeconds,
    pub(super) keys: Option<&'a Bundle>,
}

/// What is known of a signature.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Signature {
    Good,
    Bad,
    /// The bundle does not know the access key.
    UnknownKey,
    /// The bundle knows the access key, but not for this day and region.
    NoKeyForScope,
    NotChecked,
}

/// Why a token is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Refusal {
    /// By a check before the proof.
    Check(Error),
    /// By the offline prover.
    Signature,
}

/// What a token claims. All of it is bounded by the core's grammar, and none of it is secret.
#[derive(Clone, Debug)]
struct Claims {
    access_key_id: String,
    is_temporary: bool,
    host: String,
    region: String,
    partition: Partition,
    signed_at: UnixSeconds,
    has_session_token: bool,
}

impl Claims {
    fn of(url: &PresignedUrl<'_>) -> Self {
        let host = url.host();
        Self {
            access_key_id: url.access_key_id().as_str().to_owned(),
            is_temporary: url.access_key_id().is_temporary(),
            host: host.to_string(),
            region: host.region().to_owned(),
            partition: host.partition(),
            signed_at: url.signed_at().unix(),
            has_session_token: url.has_session_token(),
        }
    }

    fn ends_at(&self) -> UnixSeconds {
        self.signed_at.saturating_add(i64::from(TOKEN_LIFETIME_SECS))
    }
}

/// What there is to say about a token.
#[derive(Clone, Debug)]
pub(super) struct Report {
    refusal: Option<Refusal>,
    claims: Option<Claims>,
    signature: Signature,
    message: Option<String>,
}

impl Judge<'_> {
    pub(super) fn judge(&self, token: &[u8]) -> Report {
        let mut buffer = TokenBuffer::new();
        let token = match Token::decode(token, &mut buffer) {
            Ok(token) => token,
            Err(error) => return self.refused(error, None),
        };
        let url = match PresignedUrl::parse(token, &StsHosts::new(self.partition).with_own_region(self.own_region)) {
            Ok(url) => url,
            Err(error) => return self.refused(error, self.claims_elsewhere(token, error)),
        };
        let claims = Claims::of(&url);
        // Freshness does not depend on the cluster, so a stand-in does where none is given; signatures are not checked then.
        let stand_in = ClusterId::parse("-").ok();
        let Some(cluster_id) = self.cluster_id.or(stand_in) else { return self.refused(Error::Length, Some(claims)) };
        let request = match StsRequest::check(url, &Policy::new(cluster_id), self.now) {
            Ok(request) => request,
            Err(error) => return self.refused(error, Some(claims)),
        };
        let signature = match (self.keys, self.cluster_id) {
            (Some(keys), Some(_)) => match keys.judge(&request) {
                Verdict::Good(_) => Signature::Good,
                Verdict::Bad => Signature::Bad,
                Verdict::NoKeyForScope => Signature::NoKeyForScope,
                Verdict::SessionToken => Signature::NotChecked,
                Verdict::UnknownKey => Signature::UnknownKey,
            },
            _ => Signature::NotChecked,
        };
        let (refusal, message) = match signature {
            Signature::Bad => (Some(Refusal::Signature), Some(format!("{BadSignature}; {}", advice::BAD_SIGNATURE))),
            Signature::UnknownKey => (
                None,
                Some("the bundle does not have this access key: the server asks STS, or refuses where it has no STS to ask".to_owned()),
            ),
            Signature::NoKeyForScope => (
                None,
                Some(format!(
                    "the bundle has this access key, but not for {} in {}: derive keys for that day and region; until then the server asks STS, or refuses where it has no STS to ask",
                    instant::format(claims.signed_at).get(..10).unwrap_or_default(),
                    claims.region,
                )),
            ),
            Signature::NotChecked if self.keys.is_some() => {
                (None, Some("it has a session token, which nobody but AWS can open: only STS can prove it".to_owned()))
            }
            Signature::Good | Signature::NotChecked => (None, None),
        };
        Report { refusal, claims: Some(claims), signature, message }
    }

    /// The claims of a token that is for another partition.
    fn claims_elsewhere(&self, token: Token<'_>, error: Error) -> Option<Claims> {
        if error != Error::Partition {
            return None;
        }
        Partition::ALL.into_iter().find_map(|other| PresignedUrl::parse(token, &StsHosts::new(other)).ok()).map(|url| Claims::of(&url))
    }

    fn refused(&self, error: Error, claims: Option<Claims>) -> Report {
        let advice = advice::about(error);
        let detail = match &claims {
            Some(claims) if error == Error::Partition => format!(" (it is for {}, the server for {})", claims.partition, self.partition),
            Some(claims) if error == Error::Expired => format!(" (it ended {})", ago(self.now, claims.ends_at())),
            Some(claims) if error == Error::Future => {
                let ahead = claims.signed_at.as_i64().saturating_sub(self.now.as_i64());
                format!(" (by {}; {} are allowed)", span(ahead), span(i64::from(DEFAULT_MAX_AHEAD_SECS)))
            }
            _ => String::new(),
        };
        let message = format!("{error}{detail}; {advice}");
        Report { refusal: Some(Refusal::Check(error)), claims, signature: Signature::NotChecked, message: Some(message) }
    }
}

impl Report {
    pub(super) const fn is_accepted(&self) -> bool {
        self.refusal.is_none()
    }

    /// The stable label of the refusal.
    fn reason(&self) -> Option<&'static str> {
        self.refusal.map(|refusal| match refusal {
            Refusal::Check(error) => error.reason(),
            Refusal::Signature => BadSignature.reason(),
        })
    }

    /// For people.
    pub(super) fn write_text(&self, judge: &Judge<'_>, out: &mut impl Write) -> io::Result<()> {
        match (self.reason(), self.signature) {
            (Some(reason), _) => writeln!(out, "refused: {reason}")?,
            (None, Signature::Good) => writeln!(out, "accepted: the signature is good")?,
            (None, _) => writeln!(out, "accepted by all checks before the proof; whether it is authentic is for STS to say")?,
        }
        if let Some(message) = &self.message {
            writeln!(out, "  {message}")?;
        }
        let Some(claims) = &self.claims else { return Ok(()) };
        let kind = if claims.is_temporary { "temporary: a role, SSO or a session" } else { "long-term: an IAM user" };
        writeln!(out, "  access key     {} ({kind})", claims.access_key_id)?;
        writeln!(out, "  session token  {}", if claims.has_session_token { "yes" } else { "no" })?;
        writeln!(out, "  STS host       {} (region {}, partition {})", claims.host, claims.region, claims.partition)?;
        writeln!(out, "  signed         {} ({})", instant::format(claims.signed_at), ago(judge.now, claims.signed_at))?;
        writeln!(out, "  ends           {} ({})", instant::format(claims.ends_at()), ago(judge.now, claims.ends_at()))?;
        match judge.cluster_id {
            Some(id) if self.signature == Signature::Good => writeln!(out, "  cluster        {}", id.as_str())?,
            _ => writeln!(out, "  cluster        not known: it is in the signature alone")?,
        }
        let signature = match self.signature {
            Signature::Good => "good",
            Signature::Bad => "bad",
            Signature::UnknownKey => "not checked: the bundle does not have this access key",
            Signature::NoKeyForScope => "not checked: the bundle has no key for this day and region",
            Signature::NotChecked => "not checked",
        };
        writeln!(out, "  signature      {signature}")
    }
}

/// The object that programs read: its keys are stable, absent things are null.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Object<'a> {
    accepted: bool,
    reason: Option<&'static str>,
    message: Option<&'a str>,
    signature: Signature,
    access_key_id: Option<&'a str>,
    host: Option<&'a str>,
    region: Option<&'a str>,
    signed_at: Option<String>,
    expires_at: Option<String>,
    session_token: Option<bool>,
}

impl Serialize for Report {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let claims = self.claims.as_ref();
        let object = Object {
            accepted: self.is_accepted(),
            reason: self.reason(),
            message: self.message.as_deref(),
            signature: self.signature,
            access_key_id: claims.map(|claims| claims.access_key_id.as_str()),
            host: claims.map(|claims| claims.host.as_str()),
            region: claims.map(|claims| claims.region.as_str()),
            signed_at: claims.map(|claims| instant::format(claims.signed_at)),
            expires_at: claims.map(|claims| instant::format(claims.ends_at())),
            session_token: claims.map(|claims| claims.has_session_token),
        };
        object.serialize(serializer)
    }
}

/// How far an instant lies from now, in words.
fn ago(now: UnixSeconds, instant: UnixSeconds) -> String {
    let seconds = now.as_i64().saturating_sub(instant.as_i64());
    if seconds >= 0 { format!("{} ago", span(seconds)) } else { format!("in {}", span(seconds.saturating_neg())) }
}

/// A span of time in the largest unit that tells it within a tenth or so.
fn span(seconds: i64) -> String {
    match seconds {
        ..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use arngate_core::sigv4::{Presign, SigningKey};
    use arngate_core::time::AmzDate;
    use arngate_core::{StsHost, endpoint::Fips, token};

    use super::*;

    fn noon() -> AmzDate {
        AmzDate::parse(b"20261124T120000Z").unwrap()
    }

    fn judge() -> Judge<'static> {
        Judge { partition: Partition::Aws, own_region: None, cluster_id: None, now: noon().unix(), keys: None }
    }

    fn good_url() -> String {
        let key = SigningKey::derive(b"made-up", "20261124", "eu-west-1");
        let host = StsHost::regional(Partition::Aws, "eu-west-1", Fips::No).unwrap();
        let cluster_id = ClusterId::parse("prod").unwrap();
        let access_key_id = "AKIAIOSFODNN7EXAMPLE";
        let presign = Presign { host, access_key_id, session_token: None, cluster_id, date: noon(), expires_secs: 60 };
        let mut url = String::new();
        presign.write_url(&key, &mut url).unwrap();
        url
    }

    fn encode(url: &str) -> String {
        let mut text = String::new();
        token::encode(url, &mut text).unwrap();
        text
    }

    fn json(judge: &Judge<'_>, token: &str) -> String {
        serde_json::to_string(&judge.judge(token.as_bytes())).unwrap()
    }

    fn text(judge: &Judge<'_>, token: &str) -> String {
        let mut out = Vec::new();
        judge.judge(token.as_bytes()).write_text(judge, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn says_what_a_good_token_claims() {
        let token = encode(&good_url());
        insta::assert_snapshot!(json(&judge(), &token), @r#"{"accepted":true,"reason":null,"message":null,"signature":"not-checked","accessKeyId":"AKIAIOSFODNN7EXAMPLE","host":"sts.eu-west-1.amazonaws.com","region":"eu-west-1","signedAt":"2026-11-24T12:00:00Z","expiresAt":"2026-11-24T12:15:00Z","sessionToken":false}"#);
        insta::assert_snapshot!(text(&judge(), &token), @"
        accepted by all checks before the proof; whether it is authentic is for STS to say
          access key     AKIAIOSFODNN7EXAMPLE (long-term: an IAM user)
          session token  no
          STS host       sts.eu-west-1.amazonaws.com (region eu-west-1, partition aws)
          signed         2026-11-24T12:00:00Z (0 s ago)
          ends           2026-11-24T12:15:00Z (in 15 min)
          cluster        not known: it is in the signature alone
          signature      not checked
        ");
    }

    #[test]
    fn says_why_an_old_token_is_refused() {
        let token = encode(&good_url());
        let late = Judge { now: UnixSeconds::new(noon().unix().as_i64() + 901), ..judge() };
        insta::assert_snapshot!(json(&late, &token), @r#"{"accepted":false,"reason":"expired","message":"the token was signed more than 15 minutes ago (it ended 1 s ago); have the client make a new one; if it is new, its clock is behind or ours ahead (compare them with `date -u`)","signature":"not-checked","accessKeyId":"AKIAIOSFODNN7EXAMPLE","host":"sts.eu-west-1.amazonaws.com","region":"eu-west-1","signedAt":"2026-11-24T12:00:00Z","expiresAt":"2026-11-24T12:15:00Z","sessionToken":false}"#);
        insta::assert_snapshot!(text(&late, &token), @"
        refused: expired
          the token was signed more than 15 minutes ago (it ended 1 s ago); have the client make a new one; if it is new, its clock is behind or ours ahead (compare them with `date -u`)
          access key     AKIAIOSFODNN7EXAMPLE (long-term: an IAM user)
          session token  no
          STS host       sts.eu-west-1.amazonaws.com (region eu-west-1, partition aws)
          signed         2026-11-24T12:00:00Z (15 min ago)
          ends           2026-11-24T12:15:00Z (1 s ago)
          cluster        not known: it is in the signature alone
          signature      not checked
        ");
        let early = Judge { now: UnixSeconds::new(noon().unix().as_i64() - 301), ..judge() };
        insta::assert_snapshot!(text(&early, &token), @"
        refused: future
          the token was signed ahead of our clock (by 5 min; 5 min are allowed); the client's clock is ahead or ours behind (compare them with `date -u`)
          access key     AKIAIOSFODNN7EXAMPLE (long-term: an IAM user)
          session token  no
          STS host       sts.eu-west-1.amazonaws.com (region eu-west-1, partition aws)
          signed         2026-11-24T12:00:00Z (in 5 min)
          ends           2026-11-24T12:15:00Z (in 20 min)
          cluster        not known: it is in the signature alone
          signature      not checked
        ");
    }

    #[test]
    fn says_which_partition_a_token_is_for() {
        let token = encode(&good_url());
        let china = Judge { partition: Partition::AwsCn, ..judge() };
        insta::assert_snapshot!(text(&china, &token), @"
        refused: partition
          the host of the URL is an STS endpoint of another AWS partition (it is for aws, the server for aws-cn); sign with credentials and a region of the server's partition, or correct the server's --partition
          access key     AKIAIOSFODNN7EXAMPLE (long-term: an IAM user)
          session token  no
          STS host       sts.eu-west-1.amazonaws.com (region eu-west-1, partition aws)
          signed         2026-11-24T12:00:00Z (0 s ago)
          ends           2026-11-24T12:15:00Z (in 15 min)
          cluster        not known: it is in the signature alone
          signature      not checked
        ");
    }

    #[test]
    fn absent_things_are_null() {
        insta::assert_snapshot!(json(&judge(), "x"), @r#"{"accepted":false,"reason":"prefix","message":"the token does not begin with k8s-aws-v1.; it is another kind of token (OIDC, service account), or the exec plugin printed something in front of it: see what the user's kubeconfig runs","signature":"not-checked","accessKeyId":null,"host":null,"region":null,"signedAt":null,"expiresAt":null,"sessionToken":null}"#);
        insta::assert_snapshot!(text(&judge(), ""), @"
        refused: prefix
          the token does not begin with k8s-aws-v1.; it is another kind of token (OIDC, service account), or the exec plugin printed something in front of it: see what the user's kubeconfig runs
        ");
    }

    #[test]
    fn spans_are_told_in_words() {
        for (seconds, expected) in [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7_200, "2 h"), (172_800, "2 days")] {
            assert_eq!(span(seconds), expected);
        }
    }
}
