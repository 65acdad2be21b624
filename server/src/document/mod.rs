//! YAML and JSON documents that people write: read within budgets, every value with its position, every error collected.
//!
//! [`tree`] turns bytes into one small positioned tree, and [`reader`] makes typed values of it. The two are below `config`, `mapping` and
//! whoever else reads a document, so that none of these has to know another. The tree never leaves the readers.

pub mod file;
mod finding;
pub mod reader;
pub mod tree;

pub use finding::{Error, Errors, Findings, Place, Shown, Warning};
pub use reader::{Field, Section, Split, Text};
pub use tree::{Node, Position};
