//! AWS IAM tokens for Kubernetes: parse, check and verify them.
//!
//! No `std` (but for the feature of that name: [`base64url`]), no allocation, no clock, no I/O, no panic: time, policy and buffers are arguments, and every refusal is a value. A token travels
//! through types that say what is known of it:
//!
//! ```
//! use arngate_core::{ClusterId, Partition, Policy, PresignedUrl, StsHosts, StsRequest, Token, TokenBuffer, UnixSeconds, sigv4};
//! # use arngate_core::{StsHost, endpoint::Fips, time::AmzDate};
//! # use std::fmt::Write as _;
//! # let key = sigv4::SigningKey::derive(b"made-up secret", "20261124", "eu-west-1");
//! # let date = AmzDate::parse(b"20261124T120000Z")?;
//! # let host = StsHost::regional(Partition::Aws, "eu-west-1", Fips::No)?;
//! # let (mut url, mut text) = (String::new(), String::new());
//! # let presign = sigv4::Presign { host, access_key_id: "AKIAIOSFODNN7EXAMPLE", session_token: None,
//! #     cluster_id: ClusterId::parse("prod")?, date, expires_secs: 60 };
//! # presign.write_url(&key, &mut url)?;
//! # arngate_core::token::encode(&url, &mut text)?;
//! # let now = UnixSeconds::new(1_795_521_600);
//! let mut buffer = TokenBuffer::new();
//! let token = Token::decode(text.as_bytes(), &mut buffer)?;                  // strict base64url
//! let url = PresignedUrl::parse(token, &StsHosts::new(Partition::Aws))?;     // a GetCallerIdentity for a host of STS
//! let policy = Policy::new(ClusterId::parse("prod")?);
//! let request = StsRequest::check(url, &policy, now)?;                       // fresh, and ours to send
//! sigv4::verify(&request, &key)?;                                            // or ask STS
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Who it was is an [`identity::Identity`], and what that identity may be called in Kubernetes is decided by [`mapping`].
#![no_std]
#![deny(missing_docs, clippy::as_conversions, clippy::alloc_instead_of_core, clippy::std_instead_of_core)]
#![cfg_attr(
    not(test),
    deny(clippy::arithmetic_side_effects, clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)
)]

#[cfg(feature = "std")]
extern crate std;

pub mod arn;
pub mod arn_pattern;
pub mod base64url;
pub mod endpoint;
mod error;
pub mod identity;
pub mod limits;
pub mod mapping;
mod param;
mod percent;
pub mod presigned;
pub mod request;
pub mod sigv4;
pub mod time;
pub mod token;

pub use endpoint::{Partition, StsHost, StsHosts};
pub use error::Error;
pub use identity::Identity;
pub use presigned::PresignedUrl;
pub use request::{ClusterId, Policy, StsRequest};
pub use time::UnixSeconds;
pub use token::{Token, TokenBuffer};
