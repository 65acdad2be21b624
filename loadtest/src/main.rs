//! The command `arngate-loadtest`.

mod command;

use std::error::Error;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Load and test tools for TokenReview webhooks.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Ceiling(command::ceiling::Arguments),
    Compare(command::scenario::CompareArguments),
    Fixture(command::fixture::Arguments),
    Report(command::report::Arguments),
    Run(Box<command::run::Arguments>),
    Scenario(command::scenario::Arguments),
    Sts(command::sts::Arguments),
}

fn main() -> ExitCode {
    let done = |()| ExitCode::SUCCESS;
    let result = match Arguments::parse().command {
        Command::Ceiling(arguments) => command::ceiling::run(arguments).map(done),
        Command::Compare(arguments) => command::scenario::run_compare(arguments),
        Command::Fixture(arguments) => command::fixture::run(arguments).map(done),
        Command::Report(arguments) => command::report::run(arguments).map(done),
        Command::Run(arguments) => command::run::run(*arguments),
        Command::Scenario(arguments) => command::scenario::run(arguments),
        Command::Sts(arguments) => command::sts::run(arguments).map(done),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {}", chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

/// An error and its causes in one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
