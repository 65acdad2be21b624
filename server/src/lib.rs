//! Stub.

pub mod bootstrap;
pub mod clock;
pub mod http;
pub mod metrics;
pub mod telemetry;
