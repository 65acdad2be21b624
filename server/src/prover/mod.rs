//! Who proves a token.

pub mod offline;
