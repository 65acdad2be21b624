//! The TokenReview of Kubernetes, as far as a webhook needs it: read borrowed, written straight into a buffer.
//!
//! Kubernetes: <https://kubernetes.io/docs/reference/access-authn-authz/authentication/#webhook-token-authentication>. `spec.audiences` is read over:
//! we know of none, and `status.audiences` left empty says so. The answer must be in the version of the question, or kube-apiserver
//! takes it for none.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use arngate_core::Identity;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::ser::{SerializeSeq as _, SerializeStruct as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

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
    write(&Answer { api_version, status: Allowed(user) }, out);
}

/// Writes an answer that does not. With `error` in it, kube-apiserver does not remember the denial: measured, without it for two minutes.
pub fn write_denied(api_version: ApiVersion, error: &dyn fmt::Display, out: &mut Vec<u8>) {
    write(&Answer { api_version, status: Denied(error) }, out);
}

fn write(answer: &impl Serialize, out: &mut Vec<u8>) {
    // A vector takes whatever is written, and no key of a map is anything but text.
    let written = serde_json::to_writer(out, answer);
    debug_assert!(written.is_ok(), "an answer is always JSON");
}

struct Answer<S> {
    api_version: ApiVersion,
    status: S,
}

impl<S: Serialize> Serialize for Answer<S> {
    fn serialize<T: Serializer>(&self, serializer: T) -> Result<T::Ok, T::Error> {
        let mut review = serializer.serialize_struct(KIND, 3)?;
        review.serialize_field("kind", KIND)?;
        review.serialize_field("apiVersion", self.api_version.as_str())?;
        review.serialize_field("status", &self.status)?;
        review.end()
    }
}

struct Denied<'a>(&'a dyn fmt::Display);

impl Serialize for Denied<'_> {
    fn serialize<T: Serializer>(&self, serializer: T) -> Result<T::Ok, T::Error> {
        let mut status = serializer.serialize_struct("TokenReviewStatus", 2)?;
        status.serialize_field("authenticated", &false)?;
        status.serialize_field("error", &Text(self.0))?;
        status.end()
    }
}

struct Allowed<'a, G>(&'a User<'a, G>);

impl<I> Serialize for Allowed<'_, I>
where
    I: Clone + ExactSizeIterator<Item: fmt::Display>,
{
    fn serialize<T: Serializer>(&self, serializer: T) -> Result<T::Ok, T::Error> {
        let mut status = serializer.serialize_struct("TokenReviewStatus", 2)?;
        status.serialize_field("authenticated", &true)?;
        status.serialize_field("user", self.0)?;
        status.end()
    }
}

impl<I> Serialize for User<'_, I>
where
    I: Clone + ExactSizeIterator<Item: fmt::Display>,
{
    fn serialize<T: Serializer>(&self, serializer: T) -> Result<T::Ok, T::Error> {
        let mut user = serializer.serialize_struct("UserInfo", 4)?;
        user.serialize_field("username", &Text(self.username))?;
        user.serialize_field("uid", &Text(self.uid))?;
        if self.groups.len() > 0 {
            user.serialize_field("groups", &Texts(self.groups.clone()))?;
        }
        if let Some(extra) = &self.extra {
            user.serialize_field("extra", extra)?;
        }
        user.end()
    }
}

impl Serialize for Extra<'_> {
    fn serialize<T: Serializer>(&self, serializer: T) -> Result<T::Ok, T::Error> {
        let identity = &self.identity;
        let mut extra = serializer.serialize_struct("extra", 6)?;
        extra.serialize_field("accessKeyId", &[self.access_key_id])?;
        extra.serialize_field("arn", &[identity.arn()])?;
        extra.serialize_field("canonicalArn", &[Text(&identity.canonical_arn())])?;
        extra.serialize_field("principalId", &[identity.user_id()])?;
        extra.serialize_field("sessionName", &[identity.session_name()])?;
        extra.serialize_field("sigs.k8s.io/aws-iam-authenticator/principalId", &[identity.user_id()])?;
        extra.end()
    }
}

/// A text, written without being put together first.
struct Text<'a>(&'a dyn fmt::Display);

impl Serialize for Text<'_> {
    fn serialize<T: Serializer>(&self, serializer: T) -> Result<T::Ok, T::Error> {
        serializer.collect_str(self.0)
    }
}

struct Texts<I>(I);

impl<I> Serialize for Texts<I>
where
    I: Clone + ExactSizeIterator<Item: fmt::Display>,
{
    fn serialize<T: Serializer>(&self, serializer: T) -> Result<T::Ok, T::Error> {
        let mut list = serializer.serialize_seq(Some(self.0.len()))?;
        for text in self.0.clone() {
            list.serialize_element(&Text(&text))?;
        }
        list.end()
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
