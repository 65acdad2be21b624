//! `arngate`: AWS IAM authentication for Kubernetes, server and client in one binary.
//!
//! Called as `aws-iam-authenticator` it behaves the same. What each command does is in [`cli`]; how a token is made in [`client`].

mod cli;
mod client;
mod instant;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::run(std::env::args_os(), &aws_types::os_shim_internal::Env::real())
}
