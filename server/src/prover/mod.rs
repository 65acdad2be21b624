//! Who proves a token.

pub mod offline;
pub mod sts;
