//! Settings: flags, environment and file to typed values, read and checked once, every error at once.
//!
//! A flag beats the environment, that beats the file, and that the default. The command line fills [`Overrides`] and [`Environment`]; nothing
//! here reads either. `app` moves the values on to the modules that need them, and nothing below imports this one.

mod client;
mod feature_gate;
mod layer;
mod log;
mod network;
mod origin;
mod server;
mod settings;

use std::path::Path;
use std::sync::Arc;

pub use crate::document::{Error as ConfigError, Errors as ConfigErrors, Warning};
pub use crate::telemetry::{Format as LogFormat, Verbosity as LogVerbosity};
pub use client::ClientConfig;
pub use feature_gate::FeatureGates;
pub use layer::{Environment, Overrides};
pub use log::LogSettings;
pub use network::AdminAddress;
pub use origin::Origin;
pub use settings::{
    AdminSettings, AnswerSettings, BootstrapSettings, BoundSettings, CacheSettings, ClientSettings, Config, Ec2Settings,
    KubernetesSettings, ListenSettings, MappingSettings, OfflineSettings, ProverKind, StsSettings, WebhookClientSettings,
};

use crate::document::{Findings, Node, Place, Section, file, tree};

/// What was loaded, with what its owner should know.
#[derive(Clone, Debug)]
pub struct Loaded<T> {
    /// The settings.
    pub value: T,
    /// What will not do what it seems to, to be logged once.
    pub warnings: Vec<Warning>,
}

/// Loads the settings of `server` and `init`.
///
/// # Errors
///
/// All errors of all layers, each with its place; one alone where the file cannot be read or is no YAML.
pub fn load(overrides: &Overrides, environment: &Environment) -> Result<Loaded<Config>, ConfigErrors> {
    let origin = overrides.config.as_deref().filter(|path| path.is_file()).map(|path| Origin::of(path, overrides, environment));
    let document = overrides.config.as_deref().map(read_file).transpose()?;
    let mut loaded = load_document(document.as_ref(), overrides, environment)?;
    loaded.value.origin = origin;
    Ok(loaded)
}

fn load_document(document: Option<&Document>, overrides: &Overrides, environment: &Environment) -> Result<Loaded<Config>, ConfigErrors> {
    let findings = Findings::default();
    let value = with_root(document, &findings, |root| server::read(root, overrides, environment));
    findings.into_result().map(|warnings| Loaded { value, warnings })
}

/// Loads the settings of `token` and `verify`.
///
/// # Errors
///
/// As [`load`]. A cluster ID that is missing is none: the commands have their own words for it.
pub fn load_client(overrides: &Overrides, environment: &Environment) -> Result<Loaded<ClientConfig>, ConfigErrors> {
    let document = overrides.config.as_deref().map(read_file).transpose()?;
    let findings = Findings::default();
    let value = with_root(document.as_ref(), &findings, |root| client::read(root, overrides, environment));
    findings.into_result().map(|warnings| Loaded { value, warnings })
}

/// Loads how to log, which has to be known before anything else goes wrong; the file has no say in it, as in the reference.
///
/// # Errors
///
/// A verbosity that there is not.
pub fn load_log(overrides: &Overrides, environment: &Environment) -> Result<Loaded<LogSettings>, ConfigErrors> {
    let findings = Findings::default();
    let value = log::read(overrides, environment, &findings);
    findings.into_result().map(|warnings| Loaded { value, warnings })
}

struct Document {
    file: Arc<str>,
    node: Node,
}

fn with_root<T>(document: Option<&Document>, findings: &Findings, read: impl FnOnce(Section<'_>) -> T) -> T {
    match document {
        Some(Document { file, node }) => read(Section::root(file, node, findings)),
        None => read(Section::absent(&"".into(), findings)),
    }
}

fn read_file(path: &Path) -> Result<Document, ConfigErrors> {
    let file: Arc<str> = path.display().to_string().into();
    let fail = |error: std::io::Error| {
        let place = Place::File { file: Arc::clone(&file), position: None, key: String::new() };
        ConfigErrors::from(ConfigError { place, message: format!("cannot read the configuration file: {error}") })
    };
    let bytes = file::read(path).map_err(fail)?;
    let node = tree::parse(&file, &bytes)?;
    Ok(Document { file, node })
}

#[cfg(test)]
mod tests;
