//! What `add` and `remove` have in common: aws-auth is read, edited, shown, asked about and written, again if somebody else was faster.
//!
//! upstream: cmd/aws-iam-authenticator/add.go, pkg/mapper/configmap/client/client.go.

use std::io::{self, BufRead as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use arngate_core::Partition;
use arngate_kubernetes::edit::{EditError, Principal};
use arngate_kubernetes::{Access, AwsAuthText, Connection, Written, difference};
use arngate_server::telemetry::escape::Escaped;
use clap::{ArgAction, Args};

use super::{Context, boolean, complain, escaped};

/// How often it is tried anew where somebody else was faster.
const TRIES: u32 = 5;

/// Which cluster's aws-auth, and whether to ask.
#[derive(Args, Clone, Debug)]
pub(super) struct Target {
    /// Ask before anything is changed
    #[arg(long, global = true, num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true",
          value_name = "BOOL", value_parser = boolean, action = ArgAction::Set)]
    prompt: bool,
    /// URL of the API server, before the kubeconfig's
    #[arg(long, global = true, value_name = "URL")]
    master_url: Option<String>,
    /// Kubeconfig to reach the API server with [default: that of kubectl: KUBECONFIG, ~/.kube/config]
    #[arg(long, global = true, value_name = "PATH")]
    kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig [default: its current one]
    #[arg(long, global = true, value_name = "NAME")]
    kubeconfig_context: Option<String>,
}

/// A role, by its ARN or as a permission set.
#[derive(Args, Clone, Debug)]
pub(super) struct Role {
    /// ARN of the role
    #[arg(long, value_name = "ARN")]
    rolearn: Option<String>,
    /// Permission set of AWS SSO, as permissionSetName=NAME,accountID=ID[,partition=PARTITION] [partition by default: the server's]
    #[arg(long, value_name = "KEY=VALUE", value_delimiter = ',', action = ArgAction::Append)]
    sso: Vec<String>,
}

impl Role {
    /// Whether neither is given.
    pub(super) fn is_empty(&self) -> bool {
        self.arn().is_empty() && self.sso.is_empty()
    }

    /// Its flag and what was given, to be shown.
    pub(super) fn shown(&self) -> (&'static str, String) {
        if self.sso.is_empty() { ("rolearn", self.arn().to_owned()) } else { ("sso", self.sso.join(",")) }
    }

    fn arn(&self) -> &str {
        self.rolearn.as_deref().unwrap_or_default()
    }

    /// Whom it is for.
    pub(super) fn principal(&self) -> anyhow::Result<Principal> {
        if self.is_empty() {
            bail!("one of --rolearn or --sso must be supplied");
        }
        if self.sso.is_empty() {
            return Principal::role(self.arn()).context("--rolearn");
        }
        if !self.arn().is_empty() {
            bail!("only one of --rolearn or --sso can be supplied");
        }
        let mut values = [("permissionSetName", None), ("accountID", None), ("partition", None)];
        for pair in &self.sso {
            let (key, value) = pair.split_once('=').with_context(|| format!("--sso: {} must be formatted as key=value", Escaped(pair)))?;
            let known = values.iter_mut().find(|(known, _)| *known == key);
            known.with_context(|| format!("--sso: unknown key {}", Escaped(key)))?.1 = Some(value);
        }
        let [permission_set, account_id, (_, partition)] = values;
        let required = |(key, value): (&str, Option<&'_ str>)| {
            value.map(str::to_owned).with_context(|| format!("required key '{key}' missing from --sso flag"))
        };
        let partition = match partition {
            None => None,
            Some(name) => {
                Some(Partition::from_name(name).with_context(|| format!("error validating --sso: {} is no AWS partition", Escaped(name)))?)
            }
        };
        Principal::sso(&required(permission_set)?, &required(account_id)?, partition).context("error validating --sso")
    }
}

/// A change to one list of aws-auth.
pub(super) struct Change<'a> {
    /// What is done: `add` or `remove`.
    pub(super) verb: &'static str,
    /// What is asked about.
    pub(super) action: String,
    /// The key of the list.
    pub(super) key: &'static str,
    /// Its new text.
    pub(super) edit: &'a dyn Fn(&str) -> Result<String, EditError>,
}

/// How it ended.
enum Ended {
    Cancelled,
    Done(AwsAuthText),
}

impl Target {
    /// Makes a change, and prints what came of it.
    pub(super) fn make(&self, change: &Change<'_>, context: &Context) -> ExitCode {
        let made = self.connection(context).and_then(|connection| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(self.try_to_make(change, &connection))
        });
        let said = match made {
            Ok(Ended::Done(written)) => say(&format!("updated configmap:\n\n{}\n", written.to_yaml())),
            Ok(Ended::Cancelled) => say(&format!("cancelled \"{}\"\n", change.action)),
            Err(error) => Err(error),
        };
        match said {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                for line in format!("{error:#}").lines() {
                    complain(Escaped(line).up_to(4096));
                }
                ExitCode::FAILURE
            }
        }
    }

    fn connection(&self, context: &Context) -> anyhow::Result<Connection> {
        let given = self.kubeconfig.clone().filter(|path| !path.as_os_str().is_empty());
        let home = context.env.first(&["HOME", "USERPROFILE"]);
        let usual = || Access::usual_kubeconfig(context.env.first(&["KUBECONFIG"]).as_deref(), home.as_deref().map(Path::new));
        let master = self.master_url.clone().filter(|url| !url.is_empty());
        let kubeconfig = given.or_else(usual);
        if kubeconfig.is_none() && master.is_none() {
            bail!("there is no kubeconfig: name one with --kubeconfig");
        }
        let name = self.kubeconfig_context.clone().filter(|name| !name.is_empty());
        Ok(Connection::new(Access { kubeconfig, context: name, master, proxy: context.proxy() }))
    }

    async fn try_to_make(&self, change: &Change<'_>, connection: &Connection) -> anyhow::Result<Ended> {
        let mut agreed = None;
        for _ in 0..TRIES {
            let found = AwsAuthText::read(connection).await?;
            let before = found.text(change.key);
            let after = (change.edit)(before)?;
            let difference = difference(before, &after);
            // Somebody who was faster may have changed what it comes to.
            let changed: Vec<_> = difference.lines().filter(|line| line.starts_with(['+', '-'])).map(str::to_owned).collect();
            if self.prompt && agreed.as_ref() != Some(&changed) {
                if !change.is_agreed(&difference, found.exists())? {
                    return Ok(Ended::Cancelled);
                }
                agreed = Some(changed);
            }
            match found.write(connection, change.key, &after).await? {
                Written::Done(written) => return Ok(Ended::Done(written)),
                Written::Conflict => {}
            }
        }
        bail!("somebody else changed aws-auth {TRIES} times while we tried to: nothing was written")
    }
}

impl Change<'_> {
    /// Shows the difference and asks.
    fn is_agreed(&self, difference: &str, exists: bool) -> anyhow::Result<bool> {
        let new = if exists { "" } else { " (which does not exist yet)" };
        let (key, verb, action) = (self.key, self.verb, &self.action);
        say(&format!("{key} of kube-system/aws-auth{new}:\n{difference}\nReady to {verb} \"{action}\", should we continue? [y/N]: "))?;
        let mut answer = String::new();
        if io::stdin().lock().read_line(&mut answer).context("error reading input")? == 0 {
            bail!("error reading input: EOF");
        }
        Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
    }
}

fn say(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("could not write to standard output")
}

/// What was wrong with the flags, on standard error.
pub(super) fn refuse(error: &anyhow::Error) -> ExitCode {
    complain(escaped(error));
    ExitCode::FAILURE
}
