//! Documents that commands read: a file, or standard input.

use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use arngate_server::document::tree::DOCUMENT_MAX_BYTES;
use arngate_server::telemetry::escape::Escaped;

/// The bytes of a file, and what it is called in messages; `-` is standard input. No more is read than what a document may have, and one byte.
pub(super) fn read_input(path: &Path) -> anyhow::Result<(Arc<str>, Vec<u8>)> {
    let most = u64::try_from(DOCUMENT_MAX_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    if path == Path::new("-") {
        std::io::stdin().lock().take(most).read_to_end(&mut bytes).context("cannot read standard input")?;
        return Ok(("<stdin>".into(), bytes));
    }
    let name = path.display().to_string();
    let file = std::fs::File::open(path).with_context(|| format!("cannot open {}", Escaped(&name)))?;
    file.take(most).read_to_end(&mut bytes).with_context(|| format!("cannot read {}", Escaped(&name)))?;
    Ok((name.into(), bytes))
}
