//! Stub.

pub mod clock;
pub mod document;
pub mod prover;
pub mod telemetry;
