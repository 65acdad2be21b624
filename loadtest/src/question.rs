//! TokenReviews as kube-apiserver sends them, rendered before they are needed, each with the answer that it must get.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use memchr::memmem::Finder;

use crate::token;

/// The version of a TokenReview.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ApiVersion {
    /// `authentication.k8s.io/v1`
    #[default]
    V1,
    /// `authentication.k8s.io/v1beta1`, kube-apiserver's default for webhooks.
    V1beta1,
}

impl ApiVersion {
    /// `v1` or `v1beta1`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V1beta1 => "v1beta1",
        }
    }

    /// The body that asks whose `token` is, as kube-apiserver writes it.
    ///
    /// The token must be one that JSON takes as it is: those of this tool are base64url.
    #[must_use]
    pub fn review(self, token: &str) -> Bytes {
        self.around(token.len(), |body| body.extend_from_slice(token.as_bytes()))
    }

    /// The body that asks about the token of a URL, which is encoded where it belongs.
    pub(crate) fn review_of_url(self, url: &str) -> Bytes {
        self.around(url.len() / 3 * 4 + 16, |body| token::encode(url, body))
    }

    fn around(self, token_bytes: usize, write_token: impl FnOnce(&mut Vec<u8>)) -> Bytes {
        const AFTER: &[u8] = br#"","audiences":["https://kubernetes.default.svc"]},"status":{"user":{}}}"#;
        let before: [&[u8]; 3] = [
            br#"{"kind":"TokenReview","apiVersion":"authentication.k8s.io/"#,
            self.name().as_bytes(),
            br#"","metadata":{"creationTimestamp":null},"spec":{"token":""#,
        ];
        let mut body = Vec::with_capacity(before.map(<[u8]>::len).iter().sum::<usize>() + token_bytes + AFTER.len());
        before.iter().for_each(|part| body.extend_from_slice(part));
        write_token(&mut body);
        body.extend_from_slice(AFTER);
        body.into()
    }
}

impl FromStr for ApiVersion {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        match text {
            "v1" => Ok(Self::V1),
            "v1beta1" => Ok(Self::V1beta1),
            _ => Err("expected v1 or v1beta1"),
        }
    }
}

/// The ARN that an answer must tell, ready to be looked for.
pub struct Needle {
    arn: String,
    finder: Finder<'static>,
    /// Where it was found last: the answers about somebody hardly differ.
    found_at: AtomicUsize,
}

impl Needle {
    /// Looks for `"arn":["…"]`: what `status.user.extra` says in the answers of aws-iam-authenticator and of whoever is compatible with it.
    #[must_use]
    pub fn new(arn: impl Into<String>) -> Self {
        let arn = arn.into();
        let finder = Finder::new(format!(r#""arn":["{arn}"]"#).as_bytes()).into_owned();
        Self { arn, finder, found_at: AtomicUsize::new(0) }
    }

    /// The ARN.
    #[must_use]
    pub fn arn(&self) -> &str {
        &self.arn
    }

    /// Whether these very bytes are in `body`. Where they are not, a reader of JSON has to tell.
    #[must_use]
    pub fn is_in(&self, body: &[u8]) -> bool {
        if body.get(self.found_at.load(Ordering::Relaxed)..).is_some_and(|rest| rest.starts_with(self.finder.needle())) {
            return true;
        }
        let found = self.finder.find(body);
        if let Some(at) = found {
            self.found_at.store(at, Ordering::Relaxed);
        }
        found.is_some()
    }
}

impl fmt::Debug for Needle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Needle").field(&self.arn).finish()
    }
}

/// What the answer to a question must be.
#[derive(Clone, Debug)]
pub enum Expected {
    /// This identity; being refused is a result too, another identity is a fault.
    Identity(Arc<Needle>),
    /// No identity: whoever is let in with this token is let in wrongly.
    Nobody,
}

/// A rendered TokenReview and what its answer must be. Debug hides the body, in which a token stands.
#[derive(Clone)]
pub struct Question {
    /// What is sent.
    pub body: Bytes,
    /// What must come.
    pub expected: Expected,
}

impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Question").field("bytes", &self.body.len()).field("expected", &self.expected).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_is_json_of_its_version() {
        for version in [ApiVersion::V1, ApiVersion::V1beta1] {
            let body: serde_json::Value = serde_json::from_slice(&version.review("k8s-aws-v1.YQ")).unwrap();
            assert_eq!(body["apiVersion"], format!("authentication.k8s.io/{}", version.name()));
            assert_eq!(body["spec"]["token"], "k8s-aws-v1.YQ");
            assert_eq!(version.name().parse(), Ok(version));
            assert_eq!(version.review_of_url("https://a/?b"), version.review(&token::token_of("https://a/?b")));
        }
    }

    #[test]
    fn a_needle_is_found_wherever_it_is() {
        let needle = Needle::new("arn:aws:iam::123456789012:user/Alice");
        let body = |before: usize| format!(r#"{{"{}":0,"arn":["arn:aws:iam::123456789012:user/Alice"]}}"#, "x".repeat(before));
        for before in [0, 7, 7, 3, 900, 0] {
            assert!(needle.is_in(body(before).as_bytes()), "{before}");
            assert!(!needle.is_in(body(before).replace("Alice", "Alicf").as_bytes()), "{before}");
            assert!(!needle.is_in(b""));
        }
    }

    #[test]
    fn debug_hides_the_token() {
        let question = Question { body: ApiVersion::V1.review("k8s-aws-v1.YQ"), expected: Expected::Nobody };
        assert!(!format!("{question:?}").contains("YQ"));
    }
}
