//! Stub.

pub mod config;
pub mod document;
pub mod mapping;
