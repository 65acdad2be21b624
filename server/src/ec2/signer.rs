//! Who signs what is sent to EC2.
//!
//! Credentials are the AWS SDK's business (profiles, web identity, metadata of container and instance, roles to assume), and the SDK is the binary's: this library does
//! not depend on it, holds no secret, and leaves the signature to whoever has one.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use arngate_core::UnixSeconds;

use super::Unsigned;

/// A signature under way.
pub type Signing<'a> = Pin<Box<dyn Future<Output = Result<Signature, SignError>> + Send + 'a>>;

/// Has credentials, and signs with them.
pub trait Signer: fmt::Debug + Send + Sync {
    /// Signs a request at an instant: with Host, Content-Type (that of [`CONTENT_TYPE`](super::CONTENT_TYPE)) and the body.
    ///
    /// Credentials are looked for at the first call, and not before.
    fn sign(&self, request: Unsigned, at: UnixSeconds) -> Signing<'_>;
}

/// Nobody: without credentials there is no signature.
impl Signer for () {
    fn sign(&self, _: Unsigned, _: UnixSeconds) -> Signing<'_> {
        Box::pin(async { Err(SignError("nobody has any".into())) })
    }
}

/// The headers that make a signed request of one that is not: `Authorization`, `X-Amz-Date` and, with temporary credentials, `X-Amz-Security-Token`.
#[derive(Clone, Default)]
pub struct Signature(pub Vec<(String, String)>);

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signature(..)")
    }
}

/// Why there is no signature: a sentence for our own log.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct SignError(pub String);
