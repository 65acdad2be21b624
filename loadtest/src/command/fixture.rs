//! `arngate-loadtest fixture`: the files that a target needs, for runs by hand.

use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;

use arngate_loadtest::clock::Clock;
use arngate_loadtest::fixture::Fixture;
use arngate_loadtest::supply::region_of;
use clap::Args;

use super::cast::CastArguments;
use super::print_line;

/// Write a configuration, certificates and credentials, so that a server knows those who sign in `run` with the same flags.
///
/// Into the folder go config.yaml, state/cert.pem and state/key.pem, credentials.json (for `sts --credentials`) and with --offline bundle.yaml.
#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Where to write
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,

    /// Where the fake STS listens
    #[arg(long, value_name = "ADDRESS:PORT", requires = "sts_ca")]
    sts: Option<SocketAddr>,

    /// The certificate of the fake STS (what `sts --ca-out` has written)
    #[arg(long, value_name = "FILE")]
    sts_ca: Option<PathBuf>,

    /// Prove tokens by a bundle of signing keys, not by STS; needs --shape users
    #[arg(long)]
    offline: bool,

    #[command(flatten)]
    cast: CastArguments,
}

/// Writes the files, and prints their names.
pub(crate) fn run(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    let cast = arguments.cast.cast();
    if arguments.offline && cast.regulars.shape != arngate_loadtest::population::Shape::Users {
        return Err("--offline needs --shape users: a session token is for STS alone to open".into());
    }
    let fixture = Fixture {
        cast,
        region: region_of(&arguments.cast.sts_host)?,
        cluster_id: arguments.cast.cluster_id,
        sts_host: arguments.cast.sts_host,
        sts: arguments.sts.zip(arguments.sts_ca),
        offline: arguments.offline,
        settings: String::new(),
    };
    let folder = &arguments.folder;
    let files = fixture.write(folder, Clock::system().now()).map_err(|error| format!("cannot write to {}: {error}", folder.display()))?;
    print_line(&serde_json::json!({
        "config": files.config, "credentials": files.credentials, "stateDir": files.state, "ca": files.ca,
    }))
}
