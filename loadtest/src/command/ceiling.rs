//! `arngate-loadtest ceiling`: a server that gives the same answer to all.

use std::error::Error;
use std::path::PathBuf;

use arngate_loadtest::ceiling::{ARN, Ceiling, canned_reply};
use bytes::Bytes;
use clap::Args;

use super::{print_line, stop_signal};

/// Run a bare hyper + rustls server on 127.0.0.1 that answers everything with a canned TokenReview: the limit on this machine.
///
/// When ready it prints one line of JSON with its address, the ARN that it tells, and the length of its reply.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Port on 127.0.0.1; 0 takes a free one
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    port: u16,

    /// Worker threads
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: u16,

    /// Length of the reply; it has some 600 bytes at least
    #[arg(long, value_name = "BYTES", default_value_t = 700, conflicts_with = "reply_file")]
    reply_bytes: usize,

    /// The reply
    #[arg(long, value_name = "FILE")]
    reply_file: Option<PathBuf>,

    /// Where to write the certificate that clients have to trust
    #[arg(long, value_name = "FILE")]
    ca_out: Option<PathBuf>,
}

/// Runs it until told to stop.
pub(crate) fn run(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    let (reply, arn) = match &arguments.reply_file {
        Some(path) => (Bytes::from(std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?), None),
        None => (canned_reply(arguments.reply_bytes), Some(ARN)),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(arguments.threads.into()).enable_all().build()?;
    runtime.block_on(async {
        let stop = stop_signal()?;
        let reply_bytes = reply.len();
        let ceiling = Ceiling::bind(arguments.port, reply).await?;
        if let Some(path) = &arguments.ca_out {
            std::fs::write(path, ceiling.ca_pem()).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        }
        print_line(&serde_json::json!({ "listening": ceiling.address().to_string(), "arn": arn, "replyBytes": reply_bytes }))?;
        // In a task, as every other work of the server: the thread that waits here is not one of the workers.
        let serving = tokio::spawn(ceiling.serve());
        stop.await;
        serving.abort();
        Ok(())
    })
}
