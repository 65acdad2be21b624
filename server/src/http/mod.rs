//! The outer edge: listeners, TLS, connections, and what a request is answered.

pub mod admin;
pub(crate) mod body;
pub mod respond;
pub mod serve;
pub mod tls;
pub mod webhook;
