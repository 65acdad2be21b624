//! `arngate version`: eksctl decodes its JSON and wants a bare semantic version.
//!
//! upstream: cmd/aws-iam-authenticator/version.go.

use std::process::ExitCode;

use clap::{ArgAction, Args, ValueEnum};

use super::{Context, Stray, boolean, print_line};

const VERSION: &str = env!("CARGO_PKG_VERSION");
const COMMIT: &str = env!("ARNGATE_COMMIT");

/// Print the version of this build
#[derive(Args, Debug)]
pub(super) struct Version {
    /// Print just the version number
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true",
          hide_default_value = true, value_name = "BOOL", value_parser = boolean, action = ArgAction::Set)]
    short: bool,
    /// Output format
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = Output::Json)]
    output: Output,
    #[command(flatten)]
    stray: Stray,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Output {
    Json,
    Yaml,
}

impl Version {
    pub(super) fn run(self, _: &Context) -> ExitCode {
        self.stray.warn();
        print_line(&match (self.short, self.output) {
            (true, _) => VERSION.to_owned(),
            (false, Output::Json) => format!(r#"{{"Version":"{VERSION}","Commit":"{COMMIT}"}}"#),
            (false, Output::Yaml) => format!("version: {VERSION}\ncommit: {COMMIT:?}\ndate: \"\""),
        })
    }
}
