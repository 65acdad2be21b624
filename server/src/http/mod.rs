//! The outer edge: listeners, TLS, connections.

pub mod admin;
pub mod serve;
pub mod tls;
