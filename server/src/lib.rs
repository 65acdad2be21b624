//! Stub.

pub mod document;
pub mod mapping;
