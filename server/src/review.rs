//! The TokenReview of Kubernetes, as far as a webhook needs it: read borrowed, written straight into a buffer.
//!
//! Kubernetes: <https://kubernetes.io/docs/reference/access-authn-authz/authentication/#webhook-token-authentication>. `spec.audiences` is read over:
//! we know of none, and `status.audiences` left empty says so. The answer must be in the version of the question, or kube-apiserver
//! takes it for none.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::marker::PhantomData;

use arngate_core::Identity;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// The version of a TokenReview.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ApiVersion {
    /// `authentication.k8s.io/v1`
    V1,
    /// `authentication.k8s.io/v1beta1`, kube-apiserver's default for webhooks.
    V1beta1,
}

impl ApiVersion {
    /// The text in `apiVersion`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V1 => "authentication.k8s.io/v1",
            Self::V1beta1 => "authentication.k8s.io/v1beta1",
        }
    }
}

const KIND: &str = "TokenReview";

/// A question: whose token is this?
#[derive(Clone, Eq, PartialEq)]
pub struct ReviewRequest<'a> {
    /// The version to answer in.
    pub api_version: ApiVersion,
    /// The bearer token, whatever it is.
    pub token: Cow<'a, str>,
}

impl fmt::Debug for ReviewRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReviewRequest").field("api_version", &self.api_version).finish_non_exhaustive()
    }
}

/// Why a body is no question of ours. The text goes back to the sender.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum MalformedReview {
    /// Another API.
    #[error("expected apiVersion authentication.k8s.io/v1 or authentication.k8s.io/v1beta1")]
    ApiVersion,
    /// No JSON of that form.
    #[error("expected a request body to be a TokenReview")]
    Json,
    /// Another kind.
    #[error("expected kind TokenReview")]
    Kind,
}

#[derive(Deserialize)]
struct WireReview<'a> {
    #[serde(borrow, default, rename = "apiVersion")]
    api_version: Option<Borrowed<'a>>,
    #[serde(borrow, default)]
    kind: Option<Borrowed<'a>>,
    #[serde(borrow, default)]
    spec: Option<Object<WireSpec<'a>>>,
}

#[derive(Deserialize)]
struct WireSpec<'a> {
    #[serde(borrow, default)]
    token: Option<Borrowed<'a>>,
}

/// A text that is borrowed unless it has escapes. (Serde does that for a field, but not for an `Option` of one.)
#[derive(Deserialize)]
#[serde(transparent)]
struct Borrowed<'a>(#[serde(borrow)] Cow<'a, str>);

/// What is written as an object. (Serde also takes a list of the fields' values for a struct.)
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(fields)).map(Object)
            }
        }

        deserializer.deserialize_map(Fields(PhantomData))
    }
}

impl<'a> ReviewRequest<'a> {
    /// Reads a request body. Without `apiVersion` or `kind` it is taken for v1beta1, as in the reference, which looks at neither; without a token for
    /// an empty one.
    ///
    /// # Errors
    ///
    /// [`MalformedReview`].
    pub fn parse(body: &'a [u8]) -> Result<Self, MalformedReview> {
        let Object(review): Object<WireReview<'a>> = serde_json::from_slice(body).map_err(|_| MalformedReview::Json)?;
        if review.kind.is_some_and(|kind| kind.0 != KIND) {
            return Err(MalformedReview::Kind);
        }
        let api_version = match review.api_version.as_ref().map(|version| &*version.0) {
            Some("authentication.k8s.io/v1") => ApiVersion::V1,
            None | Some("authentication.k8s.io/v1beta1") => ApiVersion::V1beta1,
            Some(_) => return Err(MalformedReview::ApiVersion),
        };
        let token = review.spec.and_then(|Object(spec)| spec.token);
        Ok(Self { api_version, token: token.map_or_else(Cow::default, |token| token.0) })
    }
}

/// Who it is, in the names of Kubernetes.
pub struct User<'a, G> {
    /// `username`
    pub username: &'a dyn fmt::Display,
    /// `uid`
    pub uid: &'a dyn fmt::Display,
    /// `groups`; left out where there are none.
    pub groups: G,
    /// `extra`; `None` for an account that is kept out of sight.
    pub extra: Option<Extra<'a>>,
}

impl<G> fmt::Debug for User<'_, G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User").field("username", &format_args!("{}", self.username)).finish_non_exhaustive()
    }
}

/// What audit pipelines find in `extra`. The names are a contract with them.
///
/// upstream: `authenticateEndpoint` in pkg/server/server.go.
#[derive(Debug)]
pub struct Extra<'a> {
    /// Who signed.
    pub identity: Identity<'a>,
    /// With which access key.
    pub access_key_id: &'a str,
}

/// Writes an answer that lets in.
pub fn write_allowed<I>(api_version: ApiVersion, user: &User<'_, I>, out: &mut Vec<u8>)
where
    I: Clone + ExactSizeIterator<Item: fmt::Display>,
{
    let mut answer = Answer::begin(api_version, out);
    answer.raw("true,\"user\":{\"username\":").text(user.username).raw(",\"uid\":").text(user.uid);
    for (index, group) in user.groups.clone().enumerate() {
        answer.raw(if index == 0 { ",\"groups\":[" } else { "," }).text(&group);
    }
    if user.groups.len() > 0 {
        answer.raw("]");
    }
    if let Some(Extra { identity, access_key_id }) = &user.extra {
        answer.raw(",\"extra\":{\"accessKeyId\":[").plain(access_key_id).raw("],\"arn\":[").plain(identity.arn());
        answer.raw("],\"canonicalArn\":[").text(&identity.canonical_arn()).raw("],\"principalId\":[").plain(identity.user_id());
        answer.raw("],\"sessionName\":[").plain(identity.session_name());
        answer.raw("],\"sigs.k8s.io/aws-iam-authenticator/principalId\":[").plain(identity.user_id()).raw("]}");
    }
    answer.raw("}}}");
}

/// Writes an answer that does not. With `error` in it, kube-apiserver does not remember the denial: measured, without it for two minutes.
pub fn write_denied(api_version: ApiVersion, error: &dyn fmt::Display, out: &mut Vec<u8>) {
    Answer::begin(api_version, out).raw("false,\"error\":").text(error).raw("}}");
}

/// An answer as it is written. Its form is fixed, so that only the texts in it have to be made JSON: through serde it took three times as long, half of what
/// a hit may cost.
struct Answer<'o>(&'o mut Vec<u8>);

impl<'o> Answer<'o> {
    /// Up to the value of `authenticated`.
    fn begin(api_version: ApiVersion, out: &'o mut Vec<u8>) -> Self {
        let mut answer = Self(out);
        answer.raw("{\"kind\":\"TokenReview\",\"apiVersion\":\"").raw(api_version.as_str()).raw("\",\"status\":{\"authenticated\":");
        answer
    }

    /// JSON.
    fn raw(&mut self, json: &str) -> &mut Self {
        self.0.extend_from_slice(json.as_bytes());
        self
    }

    /// A text.
    fn plain(&mut self, text: &str) -> &mut Self {
        self.raw("\"");
        Escaping(self.0).push(text);
        self.raw("\"")
    }

    /// A text that is put together while it is written.
    fn text(&mut self, text: &dyn fmt::Display) -> &mut Self {
        self.raw("\"");
        // A vector takes whatever is written.
        let _ = write!(Escaping(self.0), "{text}");
        self.raw("\"")
    }
}

/// Writes what stands inside a JSON string.
struct Escaping<'o>(&'o mut Vec<u8>);

impl Escaping<'_> {
    fn push(&mut self, text: &str) {
        // RFC 8259, section 7. All bytes are looked at, which the compiler does sixteen at a time.
        let has_special = text.bytes().fold(false, |special, byte| special | (byte < 0x20) | (byte == b'"') | (byte == b'\\'));
        if has_special {
            // No text that is a string has trouble to become JSON.
            let quoted = serde_json::to_string(text).unwrap_or_default();
            self.0.extend_from_slice(quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default().as_bytes());
        } else {
            self.0.extend_from_slice(text.as_bytes());
        }
    }
}

impl fmt::Write for Escaping<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use arngate_core::Partition;

    use super::*;

    fn parse(body: &str) -> Result<(ApiVersion, String), MalformedReview> {
        ReviewRequest::parse(body.as_bytes()).map(|review| (review.api_version, review.token.into_owned()))
    }

    #[test]
    fn reads_what_kube_apiserver_sends() {
        let body = r#"{"kind":"TokenReview","apiVersion":"authentication.k8s.io/v1beta1","metadata":{"creationTimestamp":null},"spec":{"token":"k8s-aws-v1.YQ","audiences":["https://kubernetes.default.svc"]},"status":{"user":{}}}"#;
        assert_eq!(parse(body), Ok((ApiVersion::V1beta1, "k8s-aws-v1.YQ".into())));
        assert_eq!(parse(&body.replace("v1beta1", "v1")), Ok((ApiVersion::V1, "k8s-aws-v1.YQ".into())));
        assert_eq!(parse(&body.replace("k8s-aws", r"\u006b8s-aws")), Ok((ApiVersion::V1beta1, "k8s-aws-v1.YQ".into())));
    }

    #[test]
    fn borrows_a_token_without_escapes() {
        let review = ReviewRequest::parse(br#"{"spec":{"token":"k8s-aws-v1.YQ"}}"#).unwrap();
        assert!(matches!(review.token, Cow::Borrowed("k8s-aws-v1.YQ")));
    }

    #[test]
    fn takes_a_review_without_version_kind_or_token() {
        for body in ["{}", r#"{"spec":{}}"#, r#"{"spec":null}"#, r#"{"spec":{"token":null}}"#] {
            assert_eq!(parse(body), Ok((ApiVersion::V1beta1, String::new())), "{body}");
        }
    }

    #[test]
    fn refuses_what_is_no_review() {
        for body in [
            "",
            "x",
            "[]",
            "null",
            "{",
            r#"{"spec":{"token":1}}"#,
            r#"{"spec":[]}"#,
            r#"{"spec":{}}{}"#,
            r#"{"spec":{},"spec":{}}"#,
            "\u{0}",
        ] {
            assert_eq!(parse(body), Err(MalformedReview::Json), "{body:?}");
        }
        assert_eq!(parse(r#"{"kind":"SubjectAccessReview"}"#), Err(MalformedReview::Kind));
        assert_eq!(parse(r#"{"apiVersion":"authentication.k8s.io/v1alpha1"}"#), Err(MalformedReview::ApiVersion));
        assert_eq!(ReviewRequest::parse(b"{\"spec\":{\"token\":\"\xff\"}}"), Err(MalformedReview::Json));
    }

    #[test]
    fn what_is_hard_on_readers_of_json_is_taken_or_refused() {
        let deep = 30_000;
        let nested = format!(r#"{{"metadata":{}{},"spec":{{"token":"t"}}}}"#, "[".repeat(deep), "]".repeat(deep));
        assert_eq!(parse(&nested), Ok((ApiVersion::V1beta1, "t".into())), "what is stepped over takes no stack");
        assert_eq!(parse(&"[".repeat(deep)), Err(MalformedReview::Json));
        assert_eq!(parse(&r#"{"spec":"#.repeat(deep)), Err(MalformedReview::Json));
        assert_eq!(
            parse(r#"{"metadata":{"a":1e999999,"b":-0.0,"c":123456789012345678901234567890},"spec":{"token":"t"}}"#).unwrap().1,
            "t"
        );
        assert_eq!(parse(r#"{"spec":{"token":"a\u0000b"}}"#).unwrap().1, "a\0b");
        for text in
            [r#"{"spec":{"token":"\ud800"}}"#, r#"{"spec":{"token":"a","token":"b"}}"#, r#"{"kind":"TokenReview","kind":"TokenReview"}"#]
        {
            assert_eq!(parse(text), Err(MalformedReview::Json), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_json_of_the_same_texts(username: String, uid in r#"["\\\\\u{0}-\u{20}a-z\u{7f}é\u{2028}]{0,20}"#, groups: Vec<String>) {
            let mut out = Vec::new();
            let user = User { username: &username, uid: &uid, groups: groups.iter(), extra: None };
            write_allowed(ApiVersion::V1, &user, &mut out);
            let read: serde_json::Value = serde_json::from_slice(&out).unwrap();
            let user = &read["status"]["user"];
            let read_groups: Vec<_> = user["groups"].as_array().into_iter().flatten().map(|group| group.as_str().unwrap()).collect();
            proptest::prop_assert_eq!(user["username"].as_str().unwrap(), username);
            proptest::prop_assert_eq!(user["uid"].as_str().unwrap(), uid);
            proptest::prop_assert_eq!(read_groups, groups);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>, json in r#"([{}\[\],:]|"spec"|"token"|"kind"|"apiVersion"|1|null){0,20}"#) {
            let _ = ReviewRequest::parse(&bytes);
            let _ = parse(&json);
        }
    }

    #[test]
    fn debug_hides_the_token() {
        let review = ReviewRequest::parse(br#"{"spec":{"token":"secret"}}"#).unwrap();
        assert!(!format!("{review:?}").contains("secret"));
    }

    #[test]
    fn writes_a_user_as_the_reference_does() {
        let identity =
            Identity::check(Partition::Aws, "123456789012", "arn:aws:sts::123456789012:assumed-role/Admin/jane", "AROAEXAMPLE:jane")
                .unwrap();
        let groups = ["system:masters", "a \"quoted\" one"];
        let extra = Some(Extra { identity, access_key_id: "ASIAIOSFODNN7EXAMPLE" });
        let user = User { username: &"jane", uid: &"aws-iam-authenticator:123456789012:AROAEXAMPLE", groups: groups.iter(), extra };
        let mut out = Vec::new();
        write_allowed(ApiVersion::V1, &user, &mut out);
        insta::assert_snapshot!(String::from_utf8(out).unwrap(), @r#"{"kind":"TokenReview","apiVersion":"authentication.k8s.io/v1","status":{"authenticated":true,"user":{"username":"jane","uid":"aws-iam-authenticator:123456789012:AROAEXAMPLE","groups":["system:masters","a \"quoted\" one"],"extra":{"accessKeyId":["ASIAIOSFODNN7EXAMPLE"],"arn":["arn:aws:sts::123456789012:assumed-role/Admin/jane"],"canonicalArn":["arn:aws:iam::123456789012:role/Admin"],"principalId":["AROAEXAMPLE"],"sessionName":["jane"],"sigs.k8s.io/aws-iam-authenticator/principalId":["AROAEXAMPLE"]}}}}"#);
    }

    #[test]
    fn leaves_out_groups_and_extra_that_are_not_there() {
        let user = User { username: &"admin", uid: &"aws-iam-authenticator:administrative:admin", groups: [""; 0].iter(), extra: None };
        let mut out = Vec::new();
        write_allowed(ApiVersion::V1beta1, &user, &mut out);
        insta::assert_snapshot!(String::from_utf8(out).unwrap(), @r#"{"kind":"TokenReview","apiVersion":"authentication.k8s.io/v1beta1","status":{"authenticated":true,"user":{"username":"admin","uid":"aws-iam-authenticator:administrative:admin"}}}"#);
    }

    #[test]
    fn a_denial_has_its_reason() {
        let mut out = Vec::new();
        write_denied(ApiVersion::V1, &"identity is not mapped", &mut out);
        insta::assert_snapshot!(String::from_utf8(out).unwrap(), @r#"{"kind":"TokenReview","apiVersion":"authentication.k8s.io/v1","status":{"authenticated":false,"error":"identity is not mapped"}}"#);
    }
}
