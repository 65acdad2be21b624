//! How a command line is read: the flags of all commands, and the short way for the lines that are read again and again.

use std::ffi::OsString;
use std::path::Path;

use arngate_server::telemetry::escape::Escaped;
use clap::builder::OsStringValueParser;
use clap::{ArgAction, Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

#[cfg(feature = "aws-sdk")]
use super::token;
#[cfg(feature = "kubernetes")]
use super::{add, remove};
use super::{complain, completion, explain, init, inspect, keys, lint, server, verify, version};

/// AWS IAM authentication for Kubernetes: webhook server and client
#[derive(Debug, Parser)]
#[command(name = "arngate", disable_version_flag = true, args_override_self = true, infer_long_args = false)]
pub(super) struct Cli {
    #[command(flatten)]
    pub(super) global: Global,
    #[command(subcommand)]
    pub(super) command: Option<Command>,
}

/// Flags that every command takes, anywhere on the line.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Global options")]
pub(super) struct Global {
    /// Load configuration from FILE
    #[arg(short, long, global = true, value_name = "FILE", value_parser = OsStringValueParser::new())]
    pub(super) config: Option<OsString>,
    /// Log format on stderr: text or json [default: text]
    #[arg(short = 'l', long, global = true, value_name = "FORMAT")]
    pub(super) log_format: Option<String>,
    /// Log level on stderr: panic, fatal, error, warning, info, debug or trace [default: info] [env: AWS_IAM_AUTHENTICATOR_LOG_VERBOSITY]
    #[arg(short = 'v', long, global = true, value_name = "LEVEL")]
    pub(super) log_verbosity: Option<String>,
    /// The cluster's ID, unique per cluster [env: KUBERNETES_AWS_AUTHENTICATOR_CLUSTER_ID]
    #[arg(short = 'i', long, global = true, value_name = "ID", allow_hyphen_values = true)]
    pub(super) cluster_id: Option<String>,
    /// Feature gates, as GATE=true|false,…: ConfiguredInitDirectories, IAMIdentityMappingCRD, SSORoleMatch, AllAlpha, AllBeta
    #[arg(long, global = true, value_name = "GATE=BOOL", action = ArgAction::Append)]
    pub(super) feature_gates: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
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

/// Words that belong to no flag. The reference ignores them, so that `--token-only false` sets the flag there; so do we, but say it.
#[derive(Args, Clone, Debug)]
pub(super) struct Stray {
    #[arg(hide = true, value_name = "IGNORED")]
    pub(super) words: Vec<OsString>,
}

impl Stray {
    pub(super) fn warn(&self) {
        for word in &self.words {
            complain(format_args!(
                "Warning: \"{}\" belongs to no flag and is ignored (a boolean takes its value as --flag=value)",
                Escaped::bytes(word.as_encoded_bytes())
            ));
        }
    }
}

/// The name of the program that we replace.
pub(super) const REFERENCE: &str = "aws-iam-authenticator";

/// The name to show: ours, or the reference's where we are called by it.
pub(super) fn program_name(called: &OsString) -> &'static str {
    let name = Path::new(called).file_name().unwrap_or_default().to_string_lossy();
    if name.starts_with(REFERENCE) { REFERENCE } else { "arngate" }
}

/// What the line says. Errors and help are always those of all commands.
pub(super) fn read(program: &'static str, arguments: &[OsString]) -> Result<Cli, clap::Error> {
    let line = || [program.into()].into_iter().chain(arguments.iter().cloned());
    let has = |word: &str| arguments.iter().any(|argument| argument == word);
    let usual = if has("server") || has("token") { Line::<Usual>::read(line()) } else { None };
    let long = || if has("server") { Line::<Long>::read(line()) } else { None };
    match usual.or_else(long) {
        Some(cli) => Ok(cli),
        None => Cli::from_arg_matches(&command(program).try_get_matches_from(line())?),
    }
}

pub(super) fn command(program: &'static str) -> clap::Command {
    Cli::command().name(program).bin_name(program)
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    pub(in crate::cli) fn parse(line: &str) -> Result<Cli, clap::Error> {
        read("arngate", &line.split_whitespace().skip(1).map(OsString::from).collect::<Vec<_>>())
    }

    pub(in crate::cli) fn server(line: &str) -> (Global, server::Server) {
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
    #[cfg(feature = "aws-sdk")]
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
    #[cfg(feature = "aws-sdk")]
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
}
