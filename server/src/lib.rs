//! Stub.

pub mod clock;
pub mod metrics;
pub mod telemetry;
