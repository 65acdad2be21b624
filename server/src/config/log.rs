//! How to log.

use super::layer::{Environment, Overrides, flag, some, variable};
use crate::document::{Findings, Shown};
use crate::telemetry::{Format, Verbosity};

/// How to log.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct LogSettings {
    /// `--log-format`
    pub format: Format,
    /// `--log-verbosity`, `AWS_IAM_AUTHENTICATOR_LOG_VERBOSITY`
    pub verbosity: Verbosity,
}

/// upstream: `initConfig` and `getLogFormatter` in cmd/aws-iam-authenticator/root.go: an unknown format is text, an unknown level the end.
pub(super) fn read(overrides: &Overrides, environment: &Environment, findings: &Findings) -> LogSettings {
    let format = flag("--log-format", overrides.log_format.as_ref()).map_or(Format::Text, |text| {
        Format::from_name(&text.text).unwrap_or_else(|| {
            findings.warn(text.place, format!("expected text or json, found {}; text it is", Shown(&text.text)));
            Format::Text
        })
    });
    let verbosity = flag("--log-verbosity", overrides.log_verbosity.as_ref())
        .or_else(|| variable("AWS_IAM_AUTHENTICATOR_LOG_VERBOSITY", environment.log_verbosity.as_ref()));
    let verbosity = some(verbosity).and_then(|text| text.read(findings, verbosity_named)).unwrap_or_default();
    LogSettings { format, verbosity }
}

/// upstream: `ParseLevel` of logrus.
fn verbosity_named(name: &str) -> Result<Verbosity, String> {
    Verbosity::from_name(name).ok_or_else(|| format!("expected panic, fatal, error, warning, info, debug or trace, found {}", Shown(name)))
}
