//! `arngate completion`: scripts for shells.

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Args;
use clap_complete::Shell;

use super::{Context, command, complain};

/// Print the autocompletion script for a shell
#[derive(Args, Debug)]
pub(super) struct Completion {
    /// The shell
    #[arg(value_enum, value_name = "SHELL")]
    shell: Shell,
}

impl Completion {
    pub(super) fn run(self, context: &Context) -> ExitCode {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command(context.program), context.program, &mut script);
        match io::stdout().lock().write_all(&script) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                complain(format_args!("could not write to standard output: {error}"));
                ExitCode::FAILURE
            }
        }
    }
}
