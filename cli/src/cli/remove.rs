//! `arngate remove`: entries of aws-auth that are no longer wanted. (The reference has no such command.)

use std::process::ExitCode;

use anyhow::Context as _;
use arngate_kubernetes::edit::{self, Principal};
use clap::{Args, Subcommand};

use super::aws_auth::{Change, Role, Target, refuse};
use super::{Context, Stray};

/// Remove an IAM user or role from the ConfigMap aws-auth
///
/// All entries for it go, and what others wrote stays as it is. The change is shown before it is made.
#[derive(Args, Debug)]
pub(super) struct Remove {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Subcommand)]
enum Command {
    Role(RemoveRole),
    User(RemoveUser),
}

/// Remove a role, or a permission set of AWS SSO
#[derive(Args, Debug)]
struct RemoveRole {
    #[command(flatten)]
    role: Role,
    #[command(flatten)]
    stray: Stray,
}

/// Remove a user
#[derive(Args, Debug)]
struct RemoveUser {
    /// ARN of the user
    #[arg(long, value_name = "ARN", required = true)]
    userarn: String,
    #[command(flatten)]
    stray: Stray,
}

impl Remove {
    pub(super) fn run(self, context: &Context) -> ExitCode {
        let (principal, stray) = match &self.command {
            Command::Role(RemoveRole { role, stray }) => (role.principal(), stray),
            Command::User(RemoveUser { userarn, stray }) => (Principal::user(userarn).context("--userarn"), stray),
        };
        stray.warn();
        let principal = match principal {
            Ok(principal) => principal,
            Err(error) => return refuse(&error),
        };
        let action = format!("remove {principal}").replace('"', "");
        let change = Change { verb: "remove", action, key: principal.list(), edit: &|text| edit::remove(text, &principal) };
        self.target.make(&change, context)
    }
}
