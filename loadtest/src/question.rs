//! TokenReviews as kube-apiserver sends them, rendered before they are needed, each with the answer that it must get.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use memchr::memmem::Finder;

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
        let name = self.name();
        Bytes::from(format!(
            r#"{{"kind":"TokenReview","apiVersion":"authentication.k8s.io/{name}","metadata":{{"creationTimestamp":null}},"spec":{{"token":"{token}","audiences":["https://kubernetes.default.svc"]}},"status":{{"user":{{}}}}}}"#
        ))
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
#[derive(Clone)]
pub struct Needle {
    arn: String,
    finder: Finder<'static>,
}

impl Needle {
    /// Looks for `"arn":["…"]`: what `status.user.extra` says in the answers of aws-iam-authenticator and of whoever is compatible with it.
    #[must_use]
    pub fn new(arn: impl Into<String>) -> Self {
        let arn = arn.into();
        let finder = Finder::new(format!(r#""arn":["{arn}"]"#).as_bytes()).into_owned();
        Self { arn, finder }
    }

    /// The ARN.
    #[must_use]
    pub fn arn(&self) -> &str {
        &self.arn
    }

    /// Whether these very bytes are in `body`. Where they are not, a reader of JSON has to tell.
    #[must_use]
    pub fn is_in(&self, body: &[u8]) -> bool {
        self.finder.find(body).is_some()
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
        }
    }

    #[test]
    fn debug_hides_the_token() {
        let question = Question { body: ApiVersion::V1.review("k8s-aws-v1.YQ"), expected: Expected::Nobody };
        assert!(!format!("{question:?}").contains("YQ"));
    }
}
