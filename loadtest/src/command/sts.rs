//! `arngate-loadtest sts`: the fake STS in the foreground.

use std::error::Error;
use std::fmt;
use std::num::NonZeroU64;
use std::path::PathBuf;

use arngate_core::time::AmzDate;
use arngate_loadtest::clock::Clock;
use arngate_loadtest::credential::{Credential, CredentialError};
use arngate_loadtest::sts::{Behaviour, Change, Config, Delay, FakeSts};
use clap::Args;

use super::{print_line, stop_signal};

/// Run a fake STS on 127.0.0.1 that checks signatures, until Ctrl-C or SIGTERM.
///
/// It answers presigned GetCallerIdentity requests, and nothing else. When ready it prints one line of JSON with its address, and when it
/// ends one with its counts. Only made-up credentials belong here.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Port on 127.0.0.1; 0 takes a free one
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    port: u16,

    /// Whose signatures it can check (repeatable)
    #[arg(long, value_name = "KEY_ID:SECRET:ARN:USER_ID[:SESSION_TOKEN]")]
    credential: Vec<String>,

    /// The same from a JSON file: [{"accessKeyId", "secretAccessKey", "sessionToken"?, "sessionEndsAt"?, "account"?, "arn", "userId"}]
    #[arg(long, value_name = "FILE")]
    credentials: Vec<PathBuf>,

    /// Where to write the certificate that clients have to trust
    #[arg(long, value_name = "FILE")]
    ca_out: Option<PathBuf>,

    /// What to do with calls: answer, close, delay=DURATION, error=STATUS:CODE, garbage, hang, other-partition, oversize=BYTES, proxy-page,
    /// redirect, reset, status=STATUS, throttle, truncated
    #[arg(long, value_name = "BEHAVIOUR", default_value = "answer")]
    behaviour: Behaviour,

    /// Do so with every Nth call, and answer the others
    #[arg(long, value_name = "N", default_value_t = NonZeroU64::MIN)]
    every: NonZeroU64,

    /// Do everything that much later: 10ms, 250us, 2s, or by chance: lognormal:MEDIAN/P99
    #[arg(long, value_name = "DELAY", default_value = "0s")]
    delay: Delay,

    /// Change the behaviour so long after the start, as in 5s:hang, 15s:answer or 5s:throttle/2 for every second call (repeatable)
    #[arg(long, value_name = "WHEN:BEHAVIOUR[/N]")]
    schedule: Vec<Change>,

    /// A host that it is besides those of STS (repeatable)
    #[arg(long, value_name = "HOST")]
    host: Vec<String>,

    /// Stop the clock at that instant (20261124T120000Z), so that old tokens stay fresh
    #[arg(long, value_name = "DATE", value_parser = date)]
    at: Option<AmzDate>,
}

impl fmt::Debug for Arguments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arguments").field("port", &self.port).field("behaviour", &self.behaviour).finish_non_exhaustive()
    }
}

fn date(text: &str) -> Result<AmzDate, arngate_core::Error> {
    AmzDate::parse(text.as_bytes())
}

/// Runs it until told to stop.
pub(crate) fn run(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(serve(arguments))
}

async fn serve(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    // Not parsed by clap, which would print the secret of one that is wrong.
    let parse = |(index, text): (usize, &String)| {
        text.parse().map_err(|error: CredentialError| format!("--credential number {}: {error}", index + 1))
    };
    let mut credentials = arguments.credential.iter().enumerate().map(parse).collect::<Result<Vec<Credential>, _>>()?;
    for path in &arguments.credentials {
        credentials.extend(Credential::load(path)?);
    }
    let clock = arguments.at.map_or_else(Clock::system, |date| Clock::fixed(date.unix()));
    let config = Config {
        credentials,
        clock,
        port: arguments.port,
        extra_hosts: arguments.host,
        behaviour: arguments.behaviour,
        every: arguments.every,
        delay: arguments.delay,
        schedule: arguments.schedule,
    };

    // Before anybody is told that we are here, so that no early signal is lost.
    let stop = stop_signal()?;
    let sts = FakeSts::start(config).await?;
    if let Some(path) = &arguments.ca_out {
        std::fs::write(path, sts.ca_pem()).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    print_line(&serde_json::json!({ "listening": sts.addr().to_string() }))?;
    stop.await;
    let counts = sts.stop().await;
    print_line(&serde_json::to_value(counts)?)
}
