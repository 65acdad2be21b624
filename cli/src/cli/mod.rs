//! The command line: one file per command, each with its flags and what it does; `line` reads which it is.
//!
//! Flags are those of the reference (`--flag=v`, `--flag v`, short forms, booleans as Go has them), with its exit codes: 0, and 1 for
//! everything that went wrong, a misspelled flag included. A value comes from the flag, else the environment, else the configuration file,
//! else the default: that is for `arngate_server::config` to say, which gets flags and environment as texts. clap knows none of the variables,
//! so that a command reads only those that are its own.

#[cfg(feature = "kubernetes")]
mod add;
#[cfg(feature = "kubernetes")]
mod aws_auth;
mod completion;
mod document;
mod explain;
mod init;
mod inspect;
mod keys;
mod line;
mod lint;
#[cfg(feature = "kubernetes")]
mod remove;
mod server;
#[cfg(feature = "aws-sdk")]
mod token;
mod verify;
mod version;

use std::ffi::OsString;
use std::io::{ErrorKind, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use arngate_server::config::{self, ClientConfig, Environment, Loaded, LogSettings, Overrides};
use arngate_server::document::reader::boolean;
use arngate_server::prover::sts::ProxySettings;
use arngate_server::telemetry::escape::Escaped;
use arngate_server::telemetry::{Format, Level, Log};

use self::line::{Command, Global, REFERENCE, Stray, command, program_name, read};
use crate::env::Env;

/// What stands around a command: how it was called, and what it may read.
#[derive(Clone, Debug)]
struct Context {
    /// The name that we were called by, for usage and help.
    program: &'static str,
    global: Global,
    env: Env,
    log: LogSettings,
}

/// Reads the command line, runs the command, and says how it went.
pub(crate) fn run(arguments: impl IntoIterator<Item = OsString>, env: Env) -> ExitCode {
    let mut arguments = arguments.into_iter();
    let called = arguments.next().unwrap_or_default();
    let program = program_name(&called);
    let cli = match read(program, &arguments.collect::<Vec<_>>()) {
        Ok(cli) => cli,
        Err(error) => {
            // Help goes to standard output and is no failure; all else is one, with the reference's code and not clap's 2.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    let mut context = Context { program, global: cli.global, env, log: LogSettings::default() };
    // `inspect` must not depend on the environment.
    let reads_environment = !matches!(cli.command, Some(Command::Inspect(_)));
    let environment = if reads_environment { context.environment() } else { Environment::default() };
    let Some(log) = said(config::load_log(&context.overrides(), &environment)) else { return ExitCode::FAILURE };
    context.log = log;
    match cli.command {
        None => match command(program).print_help() {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        #[cfg(feature = "kubernetes")]
        Some(Command::Add(command)) => command.run(&context),
        Some(Command::Completion(command)) => command.run(&context),
        Some(Command::Explain(command)) => command.run(&context),
        Some(Command::Init(command)) => command.run(&context),
        Some(Command::Inspect(command)) => command.run(&context),
        Some(Command::Keys(command)) => command.run(&context),
        Some(Command::Lint(command)) => command.run(&context),
        #[cfg(feature = "kubernetes")]
        Some(Command::Remove(command)) => command.run(&context),
        Some(Command::Server(command)) => command.run(&context),
        #[cfg(feature = "aws-sdk")]
        Some(Command::Token(command)) => command.run(&context),
        Some(Command::Verify(command)) => command.run(&context),
        Some(Command::Version(command)) => command.run(&context),
    }
}

impl Context {
    /// The flags that every command takes; a command adds its own.
    fn overrides(&self) -> Overrides {
        let global = self.global.clone();
        Overrides {
            called_as_reference: self.program == REFERENCE,
            // An empty one is none, as with every other flag and in the reference.
            config: global.config.filter(|file| !file.is_empty()).map(PathBuf::from),
            cluster_id: global.cluster_id,
            feature_gates: global.feature_gates,
            log_format: global.log_format,
            log_verbosity: global.log_verbosity,
            ..Overrides::default()
        }
    }

    /// The variables that settings know.
    fn environment(&self) -> Environment {
        let variable = |name| self.env.first(&[name]);
        Environment {
            aws_ca_bundle: variable("AWS_CA_BUNDLE"),
            aws_default_region: variable("AWS_DEFAULT_REGION"),
            aws_ec2_metadata_disabled: variable("AWS_EC2_METADATA_DISABLED"),
            aws_ec2_metadata_service_endpoint: variable("AWS_EC2_METADATA_SERVICE_ENDPOINT"),
            aws_endpoint_url: variable("AWS_ENDPOINT_URL"),
            aws_endpoint_url_sts: variable("AWS_ENDPOINT_URL_STS"),
            aws_region: variable("AWS_REGION"),
            cluster_id: variable("KUBERNETES_AWS_AUTHENTICATOR_CLUSTER_ID"),
            default_role: variable("DEFAULT_ROLE"),
            log_verbosity: variable("AWS_IAM_AUTHENTICATOR_LOG_VERBOSITY"),
        }
    }

    /// The settings of `token` and `verify`; what is wrong is said.
    fn client_config(&self, overrides: &Overrides) -> Option<ClientConfig> {
        said(config::load_client(overrides, &self.environment()))
    }

    /// A log on standard error, as flags and environment want it.
    fn open_log(&self) -> Log {
        let (format, verbosity) = self.log_form();
        Log::stderr(format, verbosity)
    }

    /// The proxies of the environment, for calls to STS.
    fn proxy(&self) -> ProxySettings {
        ProxySettings {
            https: self.env.first(&["HTTPS_PROXY", "https_proxy"]).unwrap_or_default(),
            no: self.env.first(&["NO_PROXY", "no_proxy"]).unwrap_or_default(),
        }
    }

    /// How lines look and how many there are.
    fn log_form(&self) -> (Format, Level) {
        (self.log.format, self.log.verbosity)
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

/// What was loaded, its warnings and errors told on standard error.
fn said<T>(loaded: Result<Loaded<T>, config::ConfigErrors>) -> Option<T> {
    match loaded {
        Ok(Loaded { value, warnings }) => {
            for warning in warnings {
                complain(format_args!("Warning: {warning}"));
            }
            Some(value)
        }
        Err(errors) => {
            complain(errors);
            None
        }
    }
}

/// A line on standard error. Where nobody can read it, there is nothing to be done about it.
fn complain(message: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "{message}");
}

/// An error with its causes, fit for a terminal: AWS' own words and file names are in it. Bounded, but with room for a chain of causes.
fn escaped(error: &anyhow::Error) -> String {
    Escaped(&format!("{error:#}")).up_to(4096).to_string()
}

/// A line on standard output.
fn print_line(line: &str) -> ExitCode {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{line}").and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        // Who reads has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => ExitCode::FAILURE,
        Err(error) => {
            complain(format_args!("could not write to standard output: {error}"));
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::line::tests::{parse, server};
    use super::*;

    #[test]
    fn the_flag_wins_over_the_environment_and_that_over_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.yaml");
        std::fs::write(&file, "clusterID: from-file").unwrap();
        let cluster_id = |flags: &str, variables: &[(&str, &str)]| {
            let line = format!("arngate verify --config {} {flags}", file.display());
            let context = Context {
                program: "arngate",
                global: parse(&line).unwrap().global,
                env: Env::made_up(variables),
                log: LogSettings::default(),
            };
            context.client_config(&context.overrides()).unwrap().cluster_id
        };
        let variables = [("KUBERNETES_AWS_AUTHENTICATOR_CLUSTER_ID", "from-env")];
        assert_eq!(cluster_id("-i from-flag", &variables).as_deref(), Some("from-flag"));
        assert_eq!(cluster_id("", &variables).as_deref(), Some("from-env"));
        assert_eq!(cluster_id("", &[("KUBERNETES_AWS_AUTHENTICATOR_CLUSTER_ID", "")]).as_deref(), Some("from-file"));
        assert_eq!(cluster_id("--cluster-id=", &variables), None, "an empty flag is one that was given");
    }

    /// CONTRACT of the installers: each flag of `server` reaches the setting of its name.
    #[test]
    fn flags_of_server_become_settings() {
        let (global, server) = server(
            "aws-iam-authenticator server -i prod --partition=aws-cn --generate-kubeconfig=/g --kubeconfig-pregenerated --state-dir=/s \
             --kubeconfig=/k --master=https://m --address=0.0.0.0 --backend-mode=MountedFile --port=1234 \
             --ec2-describeInstances-qps=7 --ec2-describeInstances-burst=3 --sts-deadline=4s --cache-ttl=1m --deny-status=403 \
             --access-log=all --clock-skew=2m --arn-patterns=true --sts-max-in-flight=9 --cache-stale-if-down=false \
             --sts-connect-timeout=300ms --sts-max-wait=1s --sts-max-queued=5 --sts-max-known-keys=6 --sts-retry-budget=7% --sts-rate=8 \
             --sts-burst=9 --sts-regions=cn-north-1",
        );
        let context = Context { program: REFERENCE, global, env: Env::made_up(&[]), log: LogSettings::default() };
        let config = config::load(&server.overrides(&context), &context.environment()).unwrap().value;
        assert_eq!((config.cluster_id.as_str(), config.partition.name()), ("prod", "aws-cn"));
        assert_eq!((config.listen.address.to_string().as_str(), config.listen.port), ("0.0.0.0", 1234));
        assert_eq!((config.ec2.qps, config.ec2.burst), (7, 3));
        assert_eq!(config.bootstrap.state_dir, Path::new("/s"));
        assert_eq!(config.bootstrap.generate_kubeconfig, Path::new("/g"));
        assert!(config.bootstrap.kubeconfig_pregenerated && !config.cache.stale_if_down);
        assert_eq!(
            (config.kubernetes.kubeconfig.as_deref(), config.kubernetes.master.as_deref()),
            (Some(Path::new("/k")), Some("https://m"))
        );
        assert_eq!((config.sts.deadline.as_secs(), config.sts.max_in_flight), (4, Some(9)));
        let sts = &config.sts;
        assert_eq!((sts.connect_timeout.as_millis(), sts.max_wait.as_millis()), (300, 1000));
        assert_eq!((sts.max_queued, sts.max_known_keys, sts.retry_percent), (5, 6, 7));
        assert_eq!(sts.rate.map(|rate| (rate.per_second, rate.burst)), Some((8, 9)));
        assert_eq!(sts.regions.as_deref(), Some(&["cn-north-1".to_owned()][..]));
        assert_eq!((config.cache.ttl.as_secs(), config.clock_skew.as_secs()), (60, 120));
    }
}
