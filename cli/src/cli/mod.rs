//! The command line: one file per command, each with its flags and what it does.
//!
//! Flags are those of the reference (`--flag=v`, `--flag v`, short forms, booleans as Go has them), with its exit codes: 0, and 1 for
//! everything that went wrong, a misspelled flag included. A value comes from the flag, else the environment, else the configuration file,
//! else the default; clap knows none of the variables, so that a command reads only those that are its own.

mod completion;
mod init;
mod inspect;
mod keys;
mod server;
mod token;
mod verify;
mod version;

use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use aws_types::os_shim_internal::Env;
use clap::builder::PossibleValuesParser;
use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::client::credentials::variable;

/// AWS IAM authentication for Kubernetes: webhook server and client
#[derive(Debug, Parser)]
#[command(name = "arngate", disable_version_flag = true, args_override_self = true, infer_long_args = false)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Option<Command>,
}

/// Flags that every command takes, anywhere on the line.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Global options")]
struct Global {
    /// Load configuration from FILE
    #[arg(short, long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Log format on stderr: text or json
    #[arg(short = 'l', long, global = true, value_name = "FORMAT", default_value = "text")]
    log_format: String,
    /// Log level on stderr [default: info] [env: AWS_IAM_AUTHENTICATOR_LOG_VERBOSITY]
    #[arg(short = 'v', long, global = true, value_name = "LEVEL", ignore_case = true, hide_possible_values = true,
          value_parser = PossibleValuesParser::new(["panic", "fatal", "error", "warn", "warning", "info", "debug", "trace"]))]
    log_verbosity: Option<String>,
    /// The cluster's ID, unique per cluster [env: KUBERNETES_AWS_AUTHENTICATOR_CLUSTER_ID]
    #[arg(short = 'i', long, global = true, value_name = "ID", allow_hyphen_values = true)]
    cluster_id: Option<String>,
    /// Feature gates, as GATE=true|false,…: ConfiguredInitDirectories, IAMIdentityMappingCRD, SSORoleMatch, AllAlpha, AllBeta
    #[arg(long, global = true, value_name = "GATE=BOOL", value_delimiter = ',', value_parser = feature_gate)]
    feature_gates: Vec<(FeatureGate, bool)>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Completion(completion::Completion),
    Init(init::Init),
    Inspect(inspect::Inspect),
    Keys(keys::Keys),
    Server(Box<server::Server>),
    Token(token::Token),
    Verify(verify::Verify),
    Version(version::Version),
}

/// What stands around a command: how it was called, and what it may read.
#[derive(Clone, Debug)]
struct Context {
    /// The name that we were called by, for usage and help.
    program: &'static str,
    global: Global,
    env: Env,
}

/// A feature gate of the reference.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum FeatureGate {
    AllAlpha,
    AllBeta,
    ConfiguredInitDirectories,
    IamIdentityMappingCrd,
    SsoRoleMatch,
}

fn feature_gate(text: &str) -> Result<(FeatureGate, bool), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("missing bool value for {text}"))?;
    let gate = match name.trim() {
        "AllAlpha" => FeatureGate::AllAlpha,
        "AllBeta" => FeatureGate::AllBeta,
        "ConfiguredInitDirectories" => FeatureGate::ConfiguredInitDirectories,
        "IAMIdentityMappingCRD" => FeatureGate::IamIdentityMappingCrd,
        "SSORoleMatch" => FeatureGate::SsoRoleMatch,
        unknown => return Err(format!("unrecognized feature gate: {unknown}")),
    };
    Ok((gate, boolean(value.trim())?))
}

/// A boolean as Go's `strconv.ParseBool` reads it.
fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err("expected true or false".to_owned()),
    }
}

/// Words that belong to no flag. The reference ignores them, so that `--token-only false` sets the flag there; so do we, but say it.
#[derive(Args, Clone, Debug)]
struct Stray {
    #[arg(hide = true, value_name = "IGNORED")]
    words: Vec<OsString>,
}

impl Stray {
    fn warn(&self) {
        for word in &self.words {
            complain(format_args!(
                "Warning: {:?} belongs to no flag and is ignored (a boolean takes its value as --flag=value)",
                word.to_string_lossy()
            ));
        }
    }
}

/// Reads the command line, runs the command, and says how it went.
pub(crate) fn run(arguments: impl IntoIterator<Item = OsString>, env: &Env) -> ExitCode {
    let mut arguments = arguments.into_iter();
    let called = arguments.next().unwrap_or_default();
    let program = program_name(&called);
    let parsed = command(program).try_get_matches_from([program.into()].into_iter().chain(arguments));
    let cli = match parsed.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) => {
            // Help goes to standard output and is no failure; all else is one, with the reference's code and not clap's 2.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    let context = Context { program, global: cli.global, env: env.clone() };
    match cli.command {
        None => match command(program).print_help() {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Some(Command::Completion(command)) => command.run(&context),
        Some(Command::Init(command)) => command.run(&context),
        Some(Command::Inspect(command)) => command.run(&context),
        Some(Command::Keys(command)) => command.run(&context),
        Some(Command::Server(command)) => command.run(&context),
        Some(Command::Token(command)) => command.run(&context),
        Some(Command::Verify(command)) => command.run(&context),
        Some(Command::Version(command)) => command.run(&context),
    }
}

/// The name to show: ours, or the reference's where we are called by it.
fn program_name(called: &OsString) -> &'static str {
    let name = Path::new(called).file_name().unwrap_or_default().to_string_lossy();
    if name.starts_with("aws-iam-authenticator") { "aws-iam-authenticator" } else { "arngate" }
}

fn command(program: &'static str) -> clap::Command {
    Cli::command().name(program).bin_name(program)
}

impl Context {
    /// The cluster's id: flag, else environment, else configuration file.
    fn cluster_id(&self, config: &ConfigFile) -> Option<String> {
        self.from_flag_env_or(self.global.cluster_id.as_ref(), "KUBERNETES_AWS_AUTHENTICATOR_CLUSTER_ID", config.cluster_id.as_ref())
    }

    /// A flag where it was given, be it empty; else a variable that is not empty; else what the configuration file says.
    fn from_flag_env_or(&self, flag: Option<&String>, variable_name: &str, file: Option<&String>) -> Option<String> {
        let value = flag.cloned().or_else(|| variable(&self.env, &[variable_name])).or_else(|| file.cloned());
        value.filter(|value| !value.is_empty())
    }

    /// The usage of a command on standard error, as the reference prints it below an error.
    fn complain_with_usage(&self, command_name: &str, message: &str) -> ExitCode {
        let mut root = command(self.program).mut_subcommand(command_name, |command| command.help_template("Usage: {usage}\n\n{all-args}"));
        root.build();
        let usage = root.find_subcommand_mut(command_name).map(clap::Command::render_help);
        complain(format_args!("{message}\n{}", usage.unwrap_or_default()));
        ExitCode::FAILURE
    }
}

/// What the client takes from a configuration file.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct ConfigFile {
    cluster_id: Option<String>,
    region: Option<String>,
    role: Option<String>,
    external_id: Option<String>,
    session_name: Option<String>,
}

impl ConfigFile {
    /// Reads the file of `--config`, if there is one.
    fn read(path: Option<&Path>) -> anyhow::Result<Self> {
        match path {
            None => Ok(Self::default()),
            Some(path) => anyhow::bail!("Can't read configuration file {:?}: not part of this build", path.display()),
        }
    }
}

/// A line on standard error. Where nobody can read it, there is nothing to be done about it.
fn complain(message: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "{message}");
}

/// A line on standard output.
fn print_line(line: &str) -> ExitCode {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{line}").and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(format_args!("could not write to standard output: {error}"));
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        let matches = command("arngate").try_get_matches_from(line.split_whitespace())?;
        Cli::from_arg_matches(&matches)
    }

    fn server(line: &str) -> (Global, server::Server) {
        match parse(line).unwrap() {
            Cli { global, command: Some(Command::Server(server)) } => (global, *server),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_flags_are_consistent() {
        command("arngate").debug_assert();
    }

    #[test]
    fn reads_the_line_of_kops() {
        let (global, server) = server(
            "aws-iam-authenticator server --config=/etc/aws-iam-authenticator/config.yaml --cluster-id=prod.example.com \
             --state-dir=/var/aws-iam-authenticator --kubeconfig-pregenerated=true --backend-mode=CRD,MountedFile",
        );
        assert_eq!(global.config.as_deref(), Some(Path::new("/etc/aws-iam-authenticator/config.yaml")));
        assert_eq!(global.cluster_id.as_deref(), Some("prod.example.com"));
        assert_eq!(server.state_dir.as_deref(), Some(Path::new("/var/aws-iam-authenticator")));
        assert_eq!(server.kubeconfig_pregenerated, Some(true));
        assert_eq!(server.backend_mode, ["CRD", "MountedFile"]);
    }

    #[test]
    fn reads_the_line_of_eks_anywhere() {
        let (global, server) = server(
            "aws-iam-authenticator server --config=/etc/aws-iam-authenticator/config.yaml --state-dir=/var/aws-iam-authenticator \
             --generate-kubeconfig=/etc/kubernetes/aws-iam-authenticator/kubeconfig.yaml --kubeconfig-pregenerated=true --partition aws-us-gov",
        );
        assert_eq!(global.cluster_id, None);
        assert_eq!(server.partition.as_deref(), Some("aws-us-gov"));
        assert_eq!(server.generate_kubeconfig.as_deref(), Some(Path::new("/etc/kubernetes/aws-iam-authenticator/kubeconfig.yaml")));
    }

    #[test]
    fn what_is_not_given_stays_open_for_environment_and_file() {
        let (_, server) = server("arngate server");
        assert_eq!(server.port, None);
        assert_eq!(server.kubeconfig_pregenerated, None);
        assert!(server.backend_mode.is_empty());
        assert!(!server.dev);
    }

    #[test]
    fn booleans_are_gos() {
        for (text, expected) in [
            ("", true),
            ("=true", true),
            ("=1", true),
            ("=t", true),
            ("=T", true),
            ("=TRUE", true),
            ("=True", true),
            ("=false", false),
            ("=0", false),
            ("=f", false),
            ("=F", false),
            ("=FALSE", false),
            ("=False", false),
        ] {
            let (_, server) = server(&format!("arngate server --kubeconfig-pregenerated{text}"));
            assert_eq!(server.kubeconfig_pregenerated, Some(expected), "{text}");
        }
        for text in ["=", "=yes", "=tRUE", "=2"] {
            assert!(parse(&format!("arngate server --kubeconfig-pregenerated{text}")).is_err(), "{text}");
        }
    }

    #[test]
    fn a_boolean_never_takes_the_next_word() {
        let (_, server) = server("arngate server --kubeconfig-pregenerated false");
        assert_eq!(server.kubeconfig_pregenerated, Some(true));
        assert_eq!(server.stray.words, ["false"]);
    }

    #[test]
    fn the_last_of_a_repeated_flag_wins_and_lists_grow() {
        let (_, server) = server("arngate server --port 1 --port=2 --backend-mode CRD --backend-mode EKSConfigMap,MountedFile");
        assert_eq!(server.port, Some(2));
        assert_eq!(server.backend_mode, ["CRD", "EKSConfigMap", "MountedFile"]);
    }

    #[test]
    fn camel_case_flags_are_the_references() {
        let (_, server) = server("arngate server --ec2-describeInstances-qps 7 --ec2-describeInstances-burst=3");
        assert_eq!((server.ec2_describe_instances_qps, server.ec2_describe_instances_burst), (Some(7), Some(3)));
    }

    #[test]
    fn global_flags_stand_anywhere() {
        for line in [
            "arngate -i prod -c f.yaml -l json -v debug token",
            "arngate token -i prod -c f.yaml -l json -v debug",
            "arngate -i prod token --config=f.yaml --log-format=json --log-verbosity=debug",
            "arngate token -iprod -c=f.yaml -ljson -vdebug",
        ] {
            let global = parse(line).unwrap().global;
            assert_eq!(global.cluster_id.as_deref(), Some("prod"), "{line}");
            assert_eq!(global.config.as_deref(), Some(Path::new("f.yaml")), "{line}");
            assert_eq!((global.log_format.as_str(), global.log_verbosity.as_deref()), ("json", Some("debug")), "{line}");
        }
    }

    #[test]
    fn feature_gates_are_the_references() {
        let global = parse(
            "arngate server --feature-gates=SSORoleMatch=false,IAMIdentityMappingCRD=true --feature-gates ConfiguredInitDirectories=1",
        )
        .unwrap()
        .global;
        let expected = [
            (FeatureGate::SsoRoleMatch, false),
            (FeatureGate::IamIdentityMappingCrd, true),
            (FeatureGate::ConfiguredInitDirectories, true),
        ];
        assert_eq!(global.feature_gates, expected);
        for bad in ["Foo=true", "SSORoleMatch", "SSORoleMatch=maybe"] {
            assert!(parse(&format!("arngate server --feature-gates={bad}")).is_err(), "{bad}");
        }
    }

    #[test]
    fn is_called_by_either_name() {
        for (called, name) in [
            ("arngate", "arngate"),
            ("/usr/bin/arngate", "arngate"),
            ("", "arngate"),
            ("/usr/local/bin/aws-iam-authenticator", "aws-iam-authenticator"),
            ("aws-iam-authenticator.exe", "aws-iam-authenticator"),
        ] {
            assert_eq!(program_name(&OsString::from(called)), name);
        }
    }

    #[test]
    fn the_flag_wins_over_the_environment_and_that_over_the_file() {
        let context = |flag: Option<&str>, variables: &[(&str, &str)]| Context {
            program: "arngate",
            global: Global { cluster_id: flag.map(str::to_owned), ..parse("arngate").unwrap().global },
            env: Env::from_slice(variables),
        };
        let variables = [("KUBERNETES_AWS_AUTHENTICATOR_CLUSTER_ID", "from-env")];
        let file = ConfigFile { cluster_id: Some("from-file".to_owned()), ..ConfigFile::default() };
        assert_eq!(context(Some("from-flag"), &variables).cluster_id(&file).as_deref(), Some("from-flag"));
        assert_eq!(context(None, &variables).cluster_id(&file).as_deref(), Some("from-env"));
        assert_eq!(context(None, &[("KUBERNETES_AWS_AUTHENTICATOR_CLUSTER_ID", "")]).cluster_id(&file).as_deref(), Some("from-file"));
        assert_eq!(context(Some(""), &variables).cluster_id(&file), None, "an empty flag is one that was given");
        assert_eq!(context(None, &[]).cluster_id(&ConfigFile::default()), None);
    }
}
