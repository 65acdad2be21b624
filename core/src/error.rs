//! Why a token is refused before anybody is asked about it.

use core::fmt;

/// A refusal, in the order in which the checks run.
///
/// Nothing of the input is inside, so it can be logged, counted and compared freely.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Error {
    /// Longer than [`TOKEN_MAX_BYTES`](crate::limits::TOKEN_MAX_BYTES).
    Length,
    /// Does not begin with `k8s-aws-v1.`.
    Prefix,
    /// Not strict, unpadded base64url.
    Base64,
    /// A byte outside 0x21–0x7E, or one that no URI may hold.
    UrlBytes,
    /// Not `https`.
    Scheme,
    /// User information, a port or a fragment.
    Authority,
    /// The path is not exactly `/`.
    Path,
    /// Not a host of STS.
    Host,
    /// A host of STS, but in another partition.
    Partition,
    /// A malformed percent-escape or a raw semicolon in the query.
    Escape,
    /// A query parameter that does not belong there.
    ParameterUnknown,
    /// A query parameter twice, compared without case.
    ParameterRepeated,
    /// A required query parameter is absent.
    ParameterMissing,
    /// `Action` is not `GetCallerIdentity`.
    Action,
    /// The signed headers are not exactly `host` and `x-k8s-aws-id`.
    SignedHeaders,
    /// `Version` is not `2011-06-15`.
    Version,
    /// `X-Amz-Algorithm` is not `AWS4-HMAC-SHA256`.
    Algorithm,
    /// The access key id is not 16 to 128 of `[A-Za-z0-9_]`.
    AccessKey,
    /// `X-Amz-Date` is not a real date in the form `YYYYMMDDTHHMMSSZ`.
    DateForm,
    /// The credential scope's date is not that of `X-Amz-Date`.
    ScopeDate,
    /// The credential scope's region is not that of the host.
    ScopeRegion,
    /// The credential scope does not end with `/sts/aws4_request`.
    ScopeService,
    /// The signature is not 64 lower-case hex digits.
    SignatureForm,
    /// `X-Amz-Expires` is not a number from 0 to 900.
    Expires,
    /// Signed more than 15 minutes ago.
    Expired,
    /// Signed further ahead of our clock than the policy allows.
    Future,
}

impl Error {
    /// All refusals, in the order of the checks.
    pub const ALL: [Self; 26] = [
        Self::Length,
        Self::Prefix,
        Self::Base64,
        Self::UrlBytes,
        Self::Scheme,
        Self::Authority,
        Self::Path,
        Self::Host,
        Self::Partition,
        Self::Escape,
        Self::ParameterUnknown,
        Self::ParameterRepeated,
        Self::ParameterMissing,
        Self::Action,
        Self::SignedHeaders,
        Self::Version,
        Self::Algorithm,
        Self::AccessKey,
        Self::DateForm,
        Self::ScopeDate,
        Self::ScopeRegion,
        Self::ScopeService,
        Self::SignatureForm,
        Self::Expires,
        Self::Expired,
        Self::Future,
    ];

    /// The stable label for metrics, logs and programs.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Length => "length",
            Self::Prefix => "prefix",
            Self::Base64 => "base64",
            Self::UrlBytes => "url-bytes",
            Self::Scheme => "scheme",
            Self::Authority => "authority",
            Self::Path => "path",
            Self::Host => "host",
            Self::Partition => "partition",
            Self::Escape => "escape",
            Self::ParameterUnknown => "parameter-unknown",
            Self::ParameterRepeated => "parameter-repeated",
            Self::ParameterMissing => "parameter-missing",
            Self::Action => "action",
            Self::SignedHeaders => "signed-headers",
            Self::Version => "version",
            Self::Algorithm => "algorithm",
            Self::AccessKey => "access-key",
            Self::DateForm => "date-form",
            Self::ScopeDate => "scope-date",
            Self::ScopeRegion => "scope-region",
            Self::ScopeService => "scope-service",
            Self::SignatureForm => "signature-form",
            Self::Expires => "expires",
            Self::Expired => "expired",
            Self::Future => "future",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Length => "the token is longer than 4096 bytes",
            Self::Prefix => "the token does not begin with k8s-aws-v1.",
            Self::Base64 => "what follows the prefix is not unpadded base64url",
            Self::UrlBytes => "the URL has a blank, a control character, a quote, an angle bracket or a byte outside ASCII",
            Self::Scheme => "the URL is not https",
            Self::Authority => "the URL has user information, a port or a fragment",
            Self::Path => "the path of the URL is not exactly /",
            Self::Host => "the host of the URL is not an STS endpoint",
            Self::Partition => "the host of the URL is an STS endpoint of another AWS partition",
            Self::Escape => "the query has a malformed percent-escape or a raw semicolon",
            Self::ParameterUnknown => "the query has a parameter that GetCallerIdentity does not take",
            Self::ParameterRepeated => "a query parameter is there twice",
            Self::ParameterMissing => "a required query parameter is missing",
            Self::Action => "the action is not GetCallerIdentity",
            Self::SignedHeaders => "the signed headers are not exactly host and x-k8s-aws-id",
            Self::Version => "the API version is not 2011-06-15",
            Self::Algorithm => "the signing algorithm is not AWS4-HMAC-SHA256",
            Self::AccessKey => "the access key id is not 16 to 128 letters, digits or underscores",
            Self::DateForm => "X-Amz-Date is not a date of the form YYYYMMDDTHHMMSSZ",
            Self::ScopeDate => "the date in the credential scope is not that of X-Amz-Date",
            Self::ScopeRegion => "the region in the credential scope is not that of the host",
            Self::ScopeService => "the credential scope does not end with sts/aws4_request",
            Self::SignatureForm => "the signature is not 64 lower-case hex digits",
            Self::Expires => "X-Amz-Expires is not a number from 0 to 900",
            Self::Expired => "the token was signed more than 15 minutes ago",
            Self::Future => "the token was signed ahead of our clock",
        })
    }
}

impl core::error::Error for Error {}

const _: () = assert!(size_of::<Error>() <= 2, "an Error travels in a register");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_has_one_label_and_a_place_in_the_list() {
        for (index, error) in Error::ALL.into_iter().enumerate() {
            // No wildcard: a new variant does not compile until it is listed here, and then not pass until it is in ALL.
            let place = match error {
                Error::Length => 0,
                Error::Prefix => 1,
                Error::Base64 => 2,
                Error::UrlBytes => 3,
                Error::Scheme => 4,
                Error::Authority => 5,
                Error::Path => 6,
                Error::Host => 7,
                Error::Partition => 8,
                Error::Escape => 9,
                Error::ParameterUnknown => 10,
                Error::ParameterRepeated => 11,
                Error::ParameterMissing => 12,
                Error::Action => 13,
                Error::SignedHeaders => 14,
                Error::Version => 15,
                Error::Algorithm => 16,
                Error::AccessKey => 17,
                Error::DateForm => 18,
                Error::ScopeDate => 19,
                Error::ScopeRegion => 20,
                Error::ScopeService => 21,
                Error::SignatureForm => 22,
                Error::Expires => 23,
                Error::Expired => 24,
                Error::Future => 25,
            };
            assert_eq!(place, index);
            let same = Error::ALL.iter().filter(|e| e.reason() == error.reason()).count();
            assert_eq!(same, 1, "{}", error.reason());
        }
    }
}
