//! Stub.

pub mod document;
