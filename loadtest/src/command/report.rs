//! `arngate-loadtest report`: a page of results that were written before.

use std::error::Error;
use std::path::{Path, PathBuf};

use arngate_loadtest::report::{Document, Report};
use clap::Args;

/// Make one HTML page of results: tables, plots, and what it takes to do it again.
///
/// Runs are shown side by side, each under the name of its file. The page needs nothing but itself.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// What --json of run, scenario or compare has written
    #[arg(value_name = "FILE", required = true, num_args = 1..)]
    files: Vec<PathBuf>,

    /// Where to write the page
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

/// Writes the page.
pub(crate) fn run(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    let mut report = Report::new();
    for path in &arguments.files {
        let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        let document: Document = text.parse().map_err(|error| Unusable { path: path.clone(), error })?;
        report.add(path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy(), document);
    }
    write(&arguments.output, &report)
}

/// Writes the page of one result.
pub(super) fn write_one(path: Option<&Path>, name: &str, document: impl FnOnce() -> Document) -> Result<(), Box<dyn Error>> {
    let Some(path) = path else { return Ok(()) };
    let mut report = Report::new();
    report.add(name, document());
    write(path, &report)
}

fn write(path: &Path, report: &Report) -> Result<(), Box<dyn Error>> {
    Ok(std::fs::write(path, report.to_html()).map_err(|error| format!("cannot write {}: {error}", path.display()))?)
}

/// A file that holds no result.
#[derive(Debug, thiserror::Error)]
#[error("cannot use {}", path.display())]
struct Unusable {
    path: PathBuf,
    #[source]
    error: arngate_loadtest::report::DocumentError,
}
