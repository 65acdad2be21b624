//! `arngate add`: entries for aws-auth.
//!
//! upstream: cmd/aws-iam-authenticator/add.go.

use std::process::ExitCode;

use anyhow::Context as _;
use arngate_kubernetes::edit::{self, Addition, Principal};
use arngate_server::telemetry::escape::Escaped;
use clap::{ArgAction, Args, Subcommand};

use super::aws_auth::{Change, Role, Target, refuse};
use super::{Context, Stray, complain};

/// Add an IAM user or role to the ConfigMap aws-auth
///
/// What others wrote there stays as it is. The change is shown before it is made. This is for the backend EKSConfigMap, not for files and custom resources.
#[derive(Args, Debug)]
pub(super) struct Add {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Subcommand)]
enum Command {
    Role(AddRole),
    User(AddUser),
}

/// Add a role, or a permission set of AWS SSO
#[derive(Args, Debug)]
struct AddRole {
    #[command(flatten)]
    role: Role,
    #[command(flatten)]
    names: Names,
}

/// Add a user
#[derive(Args, Debug)]
struct AddUser {
    /// ARN of the user
    #[arg(long, value_name = "ARN")]
    userarn: Option<String>,
    #[command(flatten)]
    names: Names,
}

/// What somebody is called in the cluster.
#[derive(Args, Clone, Debug)]
struct Names {
    /// Name of the user in the cluster
    #[arg(long, value_name = "NAME")]
    username: Option<String>,
    /// Groups of the user in the cluster
    #[arg(long, value_name = "GROUPS", value_delimiter = ',', action = ArgAction::Append)]
    groups: Vec<String>,
    #[command(flatten)]
    stray: Stray,
}

impl Add {
    pub(super) fn run(self, context: &Context) -> ExitCode {
        let (what, whom, is_empty, principal, names) = match &self.command {
            Command::Role(AddRole { role, names }) => {
                let (what, whom) = role.shown();
                (what, whom, role.is_empty(), role.principal(), names)
            }
            Command::User(AddUser { userarn, names }) => {
                let arn = userarn.clone().unwrap_or_default();
                let principal = Principal::user(&arn).context("--userarn");
                ("userarn", arn, userarn.iter().all(String::is_empty), principal, names)
            }
        };
        names.stray.warn();
        let (username, groups) = (names.username.clone().unwrap_or_default(), &names.groups);
        if is_empty || username.is_empty() || groups.iter().all(String::is_empty) {
            complain(format_args!(
                "invalid empty value in {what} \"{}\", username \"{}\", groups {:?}",
                Escaped(&whom),
                Escaped(&username),
                groups.iter().map(|group| Escaped(group)).collect::<Vec<_>>()
            ));
            return ExitCode::FAILURE;
        }
        let principal = match principal {
            Ok(principal) => principal,
            Err(error) => return refuse(&error),
        };
        let action = format!("add {what} {}, username {}, groups [{}]", Escaped(&whom), Escaped(&username), Escaped(&groups.join(" ")));
        let key = principal.list();
        let addition = Addition { principal, username, groups: groups.clone() };
        self.target.make(&Change { verb: "add", action, key, edit: &|text| edit::add(text, &addition) }, context)
    }
}
