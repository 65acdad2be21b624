//! Every bound of the core, with its unit and where it comes from.
//!
//! Over a limit is an error, never a truncation.

/// Longest token, in bytes, prefix included.
///
/// upstream: `maxTokenLenBytes` in pkg/token/token.go.
pub const TOKEN_MAX_BYTES: usize = 4096;

/// Longest URL that fits into a token, in bytes: three for each four characters after the prefix.
pub const URL_MAX_BYTES: usize = 3063;

/// What [`TokenBuffer`](crate::token::TokenBuffer) holds, in bytes: [`URL_MAX_BYTES`] rounded up to a whole base64 quantum.
pub(crate) const TOKEN_BUFFER_BYTES: usize = 3072;

/// Shortest access key id, in characters.
///
/// AWS: <https://docs.aws.amazon.com/STS/latest/APIReference/API_Credentials.html>.
pub const ACCESS_KEY_ID_MIN_BYTES: usize = 16;

/// Longest access key id, in characters (same source as [`ACCESS_KEY_ID_MIN_BYTES`]).
pub const ACCESS_KEY_ID_MAX_BYTES: usize = 128;

/// How long a presigned GetCallerIdentity URL is honoured, in seconds from X-Amz-Date, whatever X-Amz-Expires says.
///
/// upstream: `presignedURLExpiration` in pkg/token/token.go.
pub const TOKEN_LIFETIME_SECS: u16 = 900;

/// Largest X-Amz-Expires that is accepted, in seconds.
///
/// upstream: the check of `x-amz-expires` in pkg/token/token.go.
pub const EXPIRES_MAX_SECS: u16 = 900;

/// How far ahead of our clock X-Amz-Date may lie unless a policy says otherwise, in seconds.
///
/// STS itself allows 15 minutes; five is what Kerberos and most deployments hold clocks to.
pub const DEFAULT_MAX_AHEAD_SECS: u32 = 300;

/// Longest cluster id, in bytes. EKS allows 100; kOps uses DNS names, which end at 253.
pub const CLUSTER_ID_MAX_BYTES: usize = 256;

/// Longest region name that is taken for one, in bytes. The longest that AWS has is `ap-southeast-1` with 14; a DNS label ends at 63.
pub const REGION_MAX_BYTES: usize = 32;

/// Longest ARN, in bytes.
///
/// AWS: the length constraint of `Arn` in <https://docs.aws.amazon.com/IAM/latest/APIReference/API_GetContextKeysForPrincipalPolicy.html>.
pub const ARN_MAX_BYTES: usize = 2048;

/// Longest unique id with its session, in bytes: `UserId` of GetCallerIdentity is an id of at most 128, a colon and a session of at most 64.
pub const USER_ID_MAX_BYTES: usize = 256;

/// Digits of an AWS account id.
pub const ACCOUNT_ID_DIGITS: usize = 12;
