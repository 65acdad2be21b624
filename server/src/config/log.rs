//! How to log.

use super::layer::{Environment, Overrides, flag, some, variable};
use crate::document::{Findings, Shown};

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// `key=value` pairs.
    #[default]
    Text,
}

/// From which level on there are log lines; each is in the ones that follow.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
#[expect(missing_docs, reason = "the names of logrus' levels say it all")]
pub enum LogVerbosity {
    Panic,
    Fatal,
    Error,
    Warning,
    #[default]
    Info,
    Debug,
    Trace,
}

/// How to log.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct LogSettings {
    /// `--log-format`
    pub format: LogFormat,
    /// `--log-verbosity`, `AWS_IAM_AUTHENTICATOR_LOG_VERBOSITY`
    pub verbosity: LogVerbosity,
}

/// upstream: `initConfig` and `getLogFormatter` in cmd/aws-iam-authenticator/root.go: an unknown format is text, an unknown level the end.
pub(super) fn read(overrides: &Overrides, environment: &Environment, findings: &Findings) -> LogSettings {
    let format = flag("--log-format", overrides.log_format.as_ref()).map_or(LogFormat::Text, |text| match text.text.as_str() {
        "json" => LogFormat::Json,
        "text" => LogFormat::Text,
        other => {
            findings.warn(text.place, format!("expected text or json, found {}; text it is", Shown(other)));
            LogFormat::Text
        }
    });
    let verbosity = flag("--log-verbosity", overrides.log_verbosity.as_ref())
        .or_else(|| variable("AWS_IAM_AUTHENTICATOR_LOG_VERBOSITY", environment.log_verbosity.as_ref()));
    let verbosity = some(verbosity).and_then(|text| text.read(findings, verbosity_named)).unwrap_or_default();
    LogSettings { format, verbosity }
}

/// upstream: `ParseLevel` of logrus.
fn verbosity_named(name: &str) -> Result<LogVerbosity, String> {
    match name.to_ascii_lowercase().as_str() {
        "panic" => Ok(LogVerbosity::Panic),
        "fatal" => Ok(LogVerbosity::Fatal),
        "error" => Ok(LogVerbosity::Error),
        "warn" | "warning" => Ok(LogVerbosity::Warning),
        "info" => Ok(LogVerbosity::Info),
        "debug" => Ok(LogVerbosity::Debug),
        "trace" => Ok(LogVerbosity::Trace),
        _ => Err(format!("expected panic, fatal, error, warning, info, debug or trace, found {}", Shown(name))),
    }
}
