//! The client's half: from AWS credentials to a token that our own server accepts.
//!
//! [`credentials`] finds who we are, [`presign`] signs, [`exec_credential`] writes what kubectl reads. With static keys nothing here opens a
//! connection or builds a TLS client: [`sts`] and [`http`] are only reached for credentials that a network call makes. [`ec2`] is the server's: it finds credentials in the
//! same way.

pub(crate) mod credentials;
pub(crate) mod ec2;
pub(crate) mod exec_credential;
mod http;
mod mfa;
pub(crate) mod presign;
pub(crate) mod sts;
