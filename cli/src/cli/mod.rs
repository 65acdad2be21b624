//! The command line: one file per command, each with its flags and what it does.
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
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use arngate_server::config::{self, ClientConfig, Environment, Loaded, LogSettings, Overrides};
use arngate_server::document::reader::boolean;
use arngate_server::prover::sts::ProxySettings;
use arngate_server::telemetry::escape::Escaped;
use arngate_server::telemetry::{Format, Level, Log};
use clap::builder::OsStringValueParser;
use clap::{ArgAction, Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::env::Env;

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
    #[arg(short, long, global = true, value_name = "FILE", value_parser = OsStringValueParser::new())]
    config: Option<OsString>,
    /// Log format on stderr: text or json [default: text]
    #[arg(short = 'l', long, global = true, value_name = "FORMAT")]
    log_format: Option<String>,
    /// Log level on stderr: panic, fatal, error, warning, info, debug or trace [default: info] [env: AWS_IAM_AUTHENTICATOR_LOG_VERBOSITY]
    #[arg(short = 'v', long, global = true, value_name = "LEVEL")]
    log_verbosity: Option<String>,
    /// The cluster's ID, unique per cluster [env: KUBERNETES_AWS_AUTHENTICATOR_CLUSTER_ID]
    #[arg(short = 'i', long, global = true, value_name = "ID", allow_hyphen_values = true)]
    cluster_id: Option<String>,
    /// Feature gates, as GATE=true|false,…: ConfiguredInitDirectories, IAMIdentityMappingCRD, SSORoleMatch, AllAlpha, AllBeta
    #[arg(long, global = true, value_name = "GATE=BOOL", action = ArgAction::Append)]
    feature_gates: Vec<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[cfg(feature = "kubernetes")]
    Add(add::Add),
    Completion(completion::Completion),
    Explain(explain::Explain),
    Init(init::Init),
    Inspect(inspect::Inspect),
    Keys(keys::Keys),
    Lint(lint::LintCommand),
    #[cfg(feature = "kubernetes")]
    Remove(remove::Remove),
    Server(Box<server::Server>),
    #[cfg(feature = "aws-sdk")]
    Token(token::Token),
    Verify(verify::Verify),
    Version(version::Version),
}

/// A line of which some commands are known and no others: those that are started again and again while somebody waits.
///
/// What is here is here in [`Cli`] too, so whoever reads a line by this has read it as it is meant. The flags of all commands would take longer to make than the line
/// to read.
#[derive(Debug, Parser)]
#[command(name = "arngate", disable_version_flag = true, args_override_self = true, infer_long_args = false)]
struct Line<C: Subcommand> {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: C,
}

/// A server as installers start it, which comes back with its node; and `token`, which kubectl calls.
#[derive(Debug, Subcommand)]
enum Usual {
    Server(server::Brief),
    #[cfg(feature = "aws-sdk")]
    Token(token::Token),
}

/// A server with settings of its own on the line.
#[derive(Debug, Subcommand)]
enum Long {
    Server(Box<server::Server>),
}

impl From<Usual> for Command {
    fn from(usual: Usual) -> Self {
        match usual {
            Usual::Server(brief) => Self::Server(Box::new(brief.into())),
            #[cfg(feature = "aws-sdk")]
            Usual::Token(token) => Self::Token(token),
        }
    }
}

impl From<Long> for Command {
    fn from(Long::Server(server): Long) -> Self {
        Self::Server(server)
    }
}

impl<C: Subcommand + Into<Command>> Line<C> {
    fn read(line: impl Iterator<Item = OsString>) -> Option<Cli> {
        let Self { global, command } = Self::try_parse_from(line).ok()?;
        Some(Cli { global, command: Some(command.into()) })
    }
}

/// The name of the program that we replace.
const REFERENCE: &str = "aws-iam-authenticator";

/// What stands around a command: how it was called, and what it may read.
#[derive(Clone, Debug)]
struct Context {
    /// The name that we were called by, for usage and help.
    program: &'static str,
    global: Global,
    env: Env,
    log: LogSettings,
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
                "Warning: \"{}\" belongs to no flag and is ignored (a boolean takes its value as --flag=value)",
                Escaped::bytes(word.as_encoded_bytes())
            ));
        }
    }
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

/// The name to show: ours, or the reference's where we are called by it.
fn program_name(called: &OsString) -> &'static str {
    let name = Path::new(called).file_name().unwrap_or_default().to_string_lossy();
    if name.starts_with(REFERENCE) { REFERENCE } else { "arngate" }
}

/// What the line says. Errors and help are always those of all commands.
fn read(program: &'static str, arguments: &[OsString]) -> Result<Cli, clap::Error> {
    let line = || [program.into()].into_iter().chain(arguments.iter().cloned());
    let has = |word: &str| arguments.iter().any(|argument| argument == word);
    let usual = if has("server") || has("token") { Line::<Usual>::read(line()) } else { None };
    let long = || if has("server") { Line::<Long>::read(line()) } else { None };
    match usual.or_else(long) {
        Some(cli) => Ok(cli),
        None => Cli::from_arg_matches(&command(program).try_get_matches_from(line())?),
    }
}

fn command(program: &'static str) -> clap::Command {
    Cli::command().name(program).bin_name(program)
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
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        read("arngate", &line.split_whitespace().skip(1).map(OsString::from).collect::<Vec<_>>())
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
    fn a_frequent_line_is_read_as_it_is_among_all_commands() {
        let (frequent, other) = (
            [
                "server",
                "server --port 1 --port=2 --backend-mode CRD --backend-mode MountedFile -c a -c b",
                "-i server server server token",
                "--feature-gates=AllAlpha=true server --feature-gates AllBeta=true --reuse-port false",
                "-l json token -i prod -r a -r b --token-only",
                "token help server",
                "server --sts-deadline 4s --port 1 --cache-stale-if-down=false --provers sts --provers offline word",
                "server --port 1 -- --sts-deadline 4s",
            ],
            [
                "",
                "help server",
                "server --help",
                "server --prot 1",
                "server --sts-deadlin 1s",
                "token -x",
                "serve",
                "add token server",
                "version token",
                "-i token",
                "server -i",
            ],
        );
        for line in frequent.into_iter().chain(other) {
            let words: Vec<_> = line.split_whitespace().collect();
            assert_eq!(told(read("arngate", &owned(&words))), among_all(&words), "{line}");
            let words = || ["arngate"].into_iter().chain(words.iter().copied()).map(OsString::from);
            let alone = Line::<Usual>::read(words()).or_else(|| Line::<Long>::read(words()));
            assert_eq!(alone.is_some(), frequent.contains(&line), "{line}");
        }
    }

    fn owned(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    fn told(cli: Result<Cli, clap::Error>) -> String {
        cli.map_or_else(|error| error.to_string(), |cli| format!("{cli:?}"))
    }

    /// What the tree of all commands reads.
    fn among_all(words: &[&str]) -> String {
        let matches = command("arngate").try_get_matches_from(["arngate".into()].into_iter().chain(owned(words)));
        told(matches.and_then(|matches| Cli::from_arg_matches(&matches)))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn any_line_is_read_as_it_is_among_all_commands(words in vec(select(&WORDS[..]), 0..7)) {
            prop_assert_eq!(told(read("arngate", &owned(&words))), among_all(&words));
        }
    }

    const WORDS: [&str; 22] = [
        "server",
        "server",
        "token",
        "add",
        "help",
        "word",
        "--",
        "-",
        "-1",
        "=",
        "-i",
        "-c=f",
        "-v",
        "--cluster-id",
        "--port",
        "--port=1",
        "--dev",
        "--kubeconfig-pregenerated",
        "--sts-deadline",
        "--arn-patterns=false",
        "--role",
        "--token-only",
    ];

    #[test]
    fn reads_the_line_of_kops() {
        let (global, server) = server(
            "aws-iam-authenticator server --config=/etc/aws-iam-authenticator/config.yaml --cluster-id=prod.example.com \
             --state-dir=/var/aws-iam-authenticator --kubeconfig-pregenerated=true --backend-mode=CRD,MountedFile",
        );
        assert_eq!(global.config.as_deref(), Some("/etc/aws-iam-authenticator/config.yaml".as_ref()));
        assert_eq!(global.cluster_id.as_deref(), Some("prod.example.com"));
        assert_eq!(server.common.state_dir.as_deref(), Some("/var/aws-iam-authenticator"));
        assert_eq!(server.common.kubeconfig_pregenerated, Some(true));
        assert_eq!(server.common.backend_mode, ["CRD,MountedFile"]);
    }

    #[test]
    fn reads_the_line_of_eks_anywhere() {
        let (global, server) = server(
            "aws-iam-authenticator server --config=/etc/aws-iam-authenticator/config.yaml --state-dir=/var/aws-iam-authenticator \
             --generate-kubeconfig=/etc/kubernetes/aws-iam-authenticator/kubeconfig.yaml --kubeconfig-pregenerated=true --partition aws-us-gov",
        );
        assert_eq!(global.cluster_id, None);
        assert_eq!(server.common.partition.as_deref(), Some("aws-us-gov"));
        assert_eq!(server.common.generate_kubeconfig.as_deref(), Some("/etc/kubernetes/aws-iam-authenticator/kubeconfig.yaml"));
    }

    #[test]
    fn what_is_not_given_stays_open_for_environment_and_file() {
        let (_, server) = server("arngate server");
        assert_eq!(server.common.port, None);
        assert_eq!(server.common.kubeconfig_pregenerated, None);
        assert!(server.common.backend_mode.is_empty());
        assert!(!server.common.dev);
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
            assert_eq!(server.common.kubeconfig_pregenerated, Some(expected), "{text}");
        }
        for text in ["=", "=yes", "=tRUE", "=2"] {
            assert!(parse(&format!("arngate server --kubeconfig-pregenerated{text}")).is_err(), "{text}");
        }
    }

    #[test]
    fn a_boolean_never_takes_the_next_word() {
        let (_, server) = server("arngate server --kubeconfig-pregenerated false");
        assert_eq!(server.common.kubeconfig_pregenerated, Some(true));
        assert_eq!(server.stray.words, ["false"]);
    }

    #[test]
    fn the_last_of_a_repeated_flag_wins_and_lists_grow() {
        let (_, server) = server("arngate server --port 1 --port=2 --backend-mode CRD --backend-mode EKSConfigMap,MountedFile");
        assert_eq!(server.common.port.as_deref(), Some("2"));
        assert_eq!(server.common.backend_mode, ["CRD", "EKSConfigMap,MountedFile"]);
    }

    #[test]
    fn camel_case_flags_are_the_references() {
        let (_, server) = server("arngate server --ec2-describeInstances-qps 7 --ec2-describeInstances-burst=3");
        let limits = (server.common.ec2_describe_instances_qps.as_deref(), server.common.ec2_describe_instances_burst.as_deref());
        assert_eq!(limits, (Some("7"), Some("3")));
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
            assert_eq!(global.config.as_deref(), Some("f.yaml".as_ref()), "{line}");
            assert_eq!((global.log_format.as_deref(), global.log_verbosity.as_deref()), (Some("json"), Some("debug")), "{line}");
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
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.yaml");
        std::fs::write(&file, "clusterID: from-file").unwrap();
        let cluster_id = |flags: &str, variables: &[(&str, &str)]| {
            let line = format!("arngate token --config {} {flags}", file.display());
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
