//! Stub.

pub mod bootstrap;
pub mod clock;
pub mod metrics;
pub mod telemetry;
