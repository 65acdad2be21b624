//! `arngate keys`: bundles of signing keys, with which a server proves tokens without asking STS.

#[cfg(feature = "aws-sdk")]
mod derive;

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use arngate_core::{Partition, UnixSeconds};
use arngate_server::prover::offline::Bundle;
use arngate_server::telemetry::escape::Escaped;
use clap::{Args, Subcommand};

use super::{Context, complain, escaped};
use crate::instant;

/// Make and show bundles of signing keys for offline proof
#[derive(Args, Debug)]
pub(super) struct Keys {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[cfg(feature = "aws-sdk")]
    Derive(derive::Derive),
    Inspect(Inspect),
}

/// Show whose keys a bundle holds, and until when; never the keys
#[derive(Args, Debug)]
struct Inspect {
    /// A bundle, or a folder of them
    #[arg(value_name = "BUNDLE")]
    bundle: PathBuf,
    /// AWS partition of the server that reads it
    #[arg(long, value_name = "PARTITION", default_value = "aws", value_parser = super::inspect::partition)]
    partition: Partition,
}

impl Keys {
    #[cfg_attr(not(feature = "aws-sdk"), expect(unused_variables, reason = "only keys that are looked for depend on it"))]
    pub(super) fn run(self, context: &Context) -> ExitCode {
        let (done, failure) = match &self.command {
            #[cfg(feature = "aws-sdk")]
            Command::Derive(derive) => (derive.run(context).map(|()| true), "could not derive keys"),
            Command::Inspect(inspect) => (inspect.run(), "could not show the bundle"),
        };
        match done {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => {
                complain(format_args!("{failure}: {}", escaped(&error)));
                ExitCode::FAILURE
            }
        }
    }
}

impl Inspect {
    /// Whether the bundle can be read.
    fn run(&self) -> anyhow::Result<bool> {
        let Some(bundle) = load(&self.bundle, self.partition) else { return Ok(false) };
        let mut out = io::stdout().lock();
        write_summary(&bundle, instant::now(), &mut out)?;
        out.flush()?;
        Ok(true)
    }
}

/// Reads a bundle; all that is wrong with it is said.
pub(super) fn load(path: &Path, partition: Partition) -> Option<Bundle> {
    Bundle::load(path, partition).map_err(complain).ok()
}

fn write_summary(bundle: &Bundle, now: UnixSeconds, out: &mut impl io::Write) -> io::Result<()> {
    for principal in bundle.principals() {
        writeln!(out, "{}", principal.access_key_id())?;
        writeln!(out, "  user     {}", Escaped(principal.arn()))?;
        writeln!(out, "  user id  {}", Escaped(principal.user_id()))?;
        for (region, (first, last)) in principal.regions() {
            writeln!(out, "  keys     {region}, {first} to {last}")?;
        }
        let Some(end) = principal.runs_out_at() else {
            writeln!(out, "  ends     it has no keys")?;
            continue;
        };
        let state = if now < end { "" } else { ": all of them have ended" };
        writeln!(out, "  ends     {}{state}", instant::format(end))?;
    }
    Ok(())
}
