//! Files that hold documents.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

use super::tree::DOCUMENT_MAX_BYTES;

/// Reads a file as far as [`tree::parse`](super::tree::parse) takes it, and one byte more, so that it sees that there is too much.
///
/// # Errors
///
/// The system's.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let most = u64::try_from(DOCUMENT_MAX_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    File::open(path)?.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The same for a file that is looked after: a pipe would keep who does so waiting.
///
/// # Errors
///
/// The system's; and what is no file.
pub fn read_regular(path: &Path) -> io::Result<Vec<u8>> {
    if fs::metadata(path)?.is_file() { read(path) } else { Err(io::Error::other("not a regular file")) }
}
