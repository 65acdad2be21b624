//! Stub.

pub mod bootstrap;
pub mod clock;
pub mod config;
pub mod document;
pub mod http;
pub mod mapping;
pub mod metrics;
pub mod prover;
pub mod telemetry;
