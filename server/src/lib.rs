//! Stub.

pub mod clock;
pub mod document;
pub mod telemetry;
