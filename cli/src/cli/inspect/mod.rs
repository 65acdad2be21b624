//! `arngate inspect`: what a token claims, and whether a server would refuse it.
//!
//! No network, and no environment: the answer depends on the flags, the input and (without `--at`) the clock alone. Nothing that it prints
//! can be used to log in: neither signature nor session token, and of the input nothing that the core's grammar has not bounded.

mod advice;
mod judge;

use std::ffi::OsString;
use std::io::{self, BufRead, BufWriter, IsTerminal as _, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use arngate_core::endpoint::Fips;
use arngate_core::limits::TOKEN_MAX_BYTES;
use arngate_core::{ClusterId, Partition, StsHost, UnixSeconds};
use clap::{Args, ValueEnum};

use self::judge::{Judge, Report};
use super::{Context, complain, escaped, keys};
use crate::instant;

/// Say what tokens claim, and which check of the server refuses them
///
/// Reads one token, or with `-` one a line from standard input: each line is the token byte for byte, without its line feed. The exit code is
/// 0 if all tokens are accepted, 1 if any is not. Without --cluster-id it is not known which cluster a token is for: that is in the signature
/// alone.
#[derive(Args, Debug)]
pub(super) struct Inspect {
    /// The token; `-`, or nothing, for lines of standard input
    #[arg(value_name = "TOKEN|-")]
    token: Option<OsString>,
    /// Output format: text, or json with one object a line
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = Output::Text)]
    output: Output,
    /// The server's AWS partition
    #[arg(long, value_name = "PARTITION", default_value = "aws", value_parser = partition)]
    partition: Partition,
    /// The server's own region: its STS host is accepted whatever its name
    #[arg(long, value_name = "REGION")]
    region: Option<String>,
    /// Judge as at this time instead of now, as 2026-11-24T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = time, allow_hyphen_values = true)]
    at: Option<UnixSeconds>,
    /// Check signatures with the keys of this bundle, a file or a folder; needs --cluster-id
    #[arg(long, value_name = "BUNDLE")]
    offline: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Output {
    Json,
    Text,
}

pub(super) fn partition(text: &str) -> Result<Partition, String> {
    Partition::from_name(text).ok_or_else(|| format!("expected one of {}", Partition::ALL.map(Partition::name).join(", ")))
}

fn time(text: &str) -> Result<UnixSeconds, String> {
    instant::parse(text).ok_or_else(|| "expected a time as 2026-11-24T12:00:00Z".to_owned())
}

impl Inspect {
    pub(super) fn run(self, context: &Context) -> ExitCode {
        match self.inspect(context) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            // Who reads has seen enough.
            Err(error) if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe) => {
                ExitCode::FAILURE
            }
            Err(error) => {
                complain(format_args!("could not inspect: {}", escaped(&error)));
                ExitCode::FAILURE
            }
        }
    }

    /// Whether all tokens were accepted.
    fn inspect(&self, context: &Context) -> anyhow::Result<bool> {
        // The flag alone: a variable must not change what a token is judged by.
        let cluster_id = context.global.cluster_id.as_deref().map(ClusterId::parse).transpose()?;
        let keys = match &self.offline {
            Some(_) if cluster_id.is_none() => anyhow::bail!("--offline needs --cluster-id: a signature is good for one cluster only"),
            Some(path) => match keys::load(path, self.partition) {
                Some(bundle) => Some(bundle),
                None => return Ok(false),
            },
            None => None,
        };
        if let Some(region) = &self.region {
            let host = StsHost::regional(self.partition, region, Fips::No);
            host.map_err(|_| anyhow::anyhow!("--region: expected a region such as eu-west-1, found {region:?}"))?;
        }
        let now = self.at.unwrap_or_else(instant::now);
        let judge = Judge { partition: self.partition, own_region: self.region.as_deref(), cluster_id, now, keys: keys.as_ref() };

        let mut out = BufWriter::with_capacity(64 * 1024, io::stdout().lock());
        let mut all_accepted = true;
        let mut is_first = true;
        let mut tell = |token: &[u8]| -> io::Result<()> {
            let report = judge.judge(token);
            all_accepted &= report.is_accepted();
            match self.output {
                Output::Json => write_json(&report, &mut out)?,
                Output::Text => {
                    if !is_first {
                        out.write_all(b"\n")?;
                    }
                    report.write_text(&judge, &mut out)?;
                }
            }
            is_first = false;
            Ok(())
        };
        match &self.token {
            Some(token) if token != "-" => tell(token.as_encoded_bytes())?,
            token => {
                let input = io::stdin();
                anyhow::ensure!(token.is_some() || !input.is_terminal(), "give a token, or - to read them from standard input");
                for_each_line(&mut input.lock(), tell)?;
            }
        }
        out.flush()?;
        Ok(all_accepted)
    }
}

fn write_json(report: &Report, out: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer(&mut *out, report)?;
    out.write_all(b"\n")
}

/// Calls `tell` with each line, without its line feed. A last line without one counts, an empty rest after the last one does not.
///
/// Of a line that is too long for a token only the beginning is kept, just enough to be refused for its length: lines cost no memory.
fn for_each_line(input: &mut impl BufRead, mut tell: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut line: Vec<u8> = Vec::with_capacity(TOKEN_MAX_BYTES + 1);
    let mut is_begun = false;
    loop {
        let buffer = match input.fill_buf() {
            Ok(buffer) => buffer,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if buffer.is_empty() {
            return if is_begun { tell(&line) } else { Ok(()) };
        }
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let piece = &buffer[..end.unwrap_or(buffer.len())];
        let room = (TOKEN_MAX_BYTES + 1).saturating_sub(line.len());
        line.extend_from_slice(&piece[..piece.len().min(room)]);
        is_begun = end.is_none();
        let used = piece.len() + usize::from(end.is_some());
        input.consume(used);
        if !is_begun {
            tell(&line)?;
            line.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(input: &[u8], buffer_bytes: usize) -> Vec<Vec<u8>> {
        let mut seen = Vec::new();
        let mut reader = io::BufReader::with_capacity(buffer_bytes, input);
        for_each_line(&mut reader, |line| {
            seen.push(line.to_vec());
            Ok(())
        })
        .unwrap();
        seen
    }

    #[test]
    fn a_line_is_a_token_byte_for_byte() {
        for buffer_bytes in [1, 2, 3, 100] {
            assert_eq!(lines(b"", buffer_bytes), Vec::<Vec<u8>>::new());
            assert_eq!(lines(b"\n", buffer_bytes), [b""]);
            assert_eq!(lines(b"a\n", buffer_bytes), [b"a"]);
            assert_eq!(lines(b"a", buffer_bytes), [b"a"]);
            assert_eq!(lines(b" a \r\n\n\xff\0", buffer_bytes), [&b" a \r"[..], b"", b"\xff\0"]);
        }
    }

    #[test]
    fn a_long_line_is_kept_only_as_far_as_its_refusal_needs() {
        let mut input = vec![b'x'; 1_000_000];
        input.extend_from_slice(b"\nnext");
        let seen = lines(&input, 4096);
        assert_eq!(seen.iter().map(Vec::len).collect::<Vec<_>>(), [TOKEN_MAX_BYTES + 1, 4]);
    }
}
