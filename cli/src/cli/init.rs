//! `arngate init`: certificate, key and webhook kubeconfig ahead of time.
//!
//! upstream: cmd/aws-iam-authenticator/init.go.

use std::process::ExitCode;

use clap::Args;

use super::{Context, Stray, complain};

/// Generate the certificate, private key and webhook kubeconfig of a server
///
/// Into the current folder; with the feature gate ConfiguredInitDirectories, to where the configuration says.
#[derive(Args, Debug)]
pub(super) struct Init {
    /// Host name that the certificate is made for [default: localhost]
    #[arg(long, value_name = "NAME")]
    hostname: Option<String>,
    /// IP address that the server binds to [default: 127.0.0.1]
    #[arg(long, value_name = "IP")]
    address: Option<String>,
    #[command(flatten)]
    stray: Stray,
}

impl Init {
    pub(super) fn run(self, _: &Context) -> ExitCode {
        self.stray.warn();
        complain("could not initialize: this build has no server");
        ExitCode::FAILURE
    }
}
