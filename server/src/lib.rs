//! The arngate webhook: kube-apiserver asks whose token it is, and we answer.
//!
//! ```text
//! kube-apiserver ── POST /authenticate (TLS)
//!    http::serve ──── accept, TLS, limits, drain
//!    http::webhook ── method, path ─► cluster, body, log lines, counts
//!    review ───────── TokenReview ─► token
//!    authenticate ─── identity_cache, else core's checks ─► flight ─► Realm::ask; then mapping::Snapshot
//!    http::respond ── ending ─► status, TokenReview, label
//! ```
//!
//! [`app`] puts a server together from [`config`]; [`dev`] one to try out. Each module names what it needs, and nothing below `app` points up.

pub mod app;
pub mod authenticate;
#[doc(hidden)]
pub mod bench;
pub mod bootstrap;
pub mod clock;
pub mod cluster;
pub mod config;
pub mod dev;
pub mod document;
pub mod ec2;
pub mod flight;
pub mod http;
pub mod identity_cache;
pub mod mapping;
pub mod memory;
pub mod metrics;
mod one_part;
mod outbound;
mod own_hash;
pub mod prover;
mod rate;
mod review;
pub mod telemetry;
pub mod watch;
mod xml;
