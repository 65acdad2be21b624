//! `arngate`: AWS IAM authentication for Kubernetes, server and client in one binary.
//!
//! Called as `aws-iam-authenticator` it behaves the same. What each command does is in [`cli`]; how a token is made in `client`, which is all that
//! needs the AWS SDK: without the feature `aws-sdk` there is a server, and no `token`.

mod cli;
#[cfg(feature = "aws-sdk")]
mod client;
mod env;
mod instant;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::run(std::env::args_os(), env::Env::Process)
}
