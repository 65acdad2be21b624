//! `arngate lint`: what is wrong or odd in a configuration file, an export of aws-auth, or custom resources.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::bail;
use arngate_core::Partition;
use arngate_server::config::{self, Environment, Loaded, Overrides};
use arngate_server::document::tree::{Node, Value};
use arngate_server::document::{Place, Position, tree};
use arngate_server::mapping::config_map::AwsAuth;
use arngate_server::mapping::lint::{self, Level, Lint, Settings};
use arngate_server::mapping::manifest::{self, Manifest};
use arngate_server::mapping::{BackendMode, Finding, Options, Policy, Severity, SsoEntries, crd};
use arngate_server::telemetry::escape::Escaped;
use clap::{Args, ValueEnum};
use serde_json::{Value as Json, json};

use super::document::read_input;
use super::{Context, complain, escaped};

/// What the exit code is where an input cannot be read: another one than that for findings.
const UNREADABLE: u8 = 2;

/// Longest message that is printed whole, in bytes.
const SHOWN_BYTES: usize = 2048;

/// Tell what is wrong or odd in mappings
///
/// Takes configuration files of the server, and exports of aws-auth and of IAMIdentityMapping objects (`kubectl get -o yaml` or `-o json`, one or a List);
/// - is standard input. With --config, exports are judged by the settings there (partition, arnPatterns, reserved prefixes).
///
/// Exits with 0 if nothing of the severity of --fail-on or above was found, with 1 if something was, and with 2 if an input could not be read.
#[derive(Args, Debug)]
pub(super) struct LintCommand {
    /// What to look at [default: the file of --config]
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Partition of exports [default: aws]
    #[arg(long, value_name = "PARTITION")]
    partition: Option<String>,
    /// Take * and ? in exports as patterns, as with server.arnPatterns
    #[arg(long)]
    arn_patterns: bool,
    /// Which severity makes the command fail
    #[arg(long, value_name = "SEVERITY", default_value = "warning")]
    fail_on: FailOn,
    /// How to print it: text or json
    #[arg(short, long, value_name = "FORMAT", default_value = "text", value_parser = ["text", "json"])]
    output: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FailOn {
    Error,
    Warning,
    Note,
}

impl FailOn {
    const fn level(self) -> Level {
        match self {
            Self::Error => Level::Error,
            Self::Note => Level::Note,
            Self::Warning => Level::Warning,
        }
    }
}

/// By what an export is judged.
struct Rules {
    options: Options,
    policy: Policy,
}

impl Rules {
    fn of(&self, mode: BackendMode) -> Settings<'_> {
        let reserved_prefixes = self.policy.reserved_prefixes.get(&mode).map_or(&[][..], Vec::as_slice);
        Settings { options: self.options, reserved_prefixes, mode }
    }
}

impl LintCommand {
    pub(super) fn run(self, context: &Context) -> ExitCode {
        let config = context.overrides().config;
        let files = match (&self.files, &config) {
            (files, _) if !files.is_empty() => files.clone(),
            (_, Some(config)) => vec![config.clone()],
            _ => {
                complain("could not lint: expected a file, - for standard input, or --config");
                return ExitCode::from(UNREADABLE);
            }
        };
        let mut lints = Vec::new();
        for file in &files {
            match self.look_at(file, config.as_deref(), context) {
                Ok(found) => lints.extend(found),
                Err(error) => {
                    complain(format_args!("could not lint: {}", escaped(&error)));
                    return ExitCode::from(UNREADABLE);
                }
            }
        }
        let text = if self.output == "json" { format!("{:#}\n", as_json(&lints)) } else { as_text(&lints) };
        if std::io::stdout().write_all(text.as_bytes()).is_err() {
            return ExitCode::from(UNREADABLE);
        }
        let fails = lints.iter().any(|lint| lint.level >= self.fail_on.level());
        if fails { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }

    /// All that is found in a file, in the order of its lines.
    fn look_at(&self, path: &Path, config: Option<&Path>, context: &Context) -> anyhow::Result<Vec<Lint>> {
        let (name, bytes) = read_input(path)?;
        let mut lints = match manifest::read(&name, &bytes) {
            // Not a document at all.
            Err(errors) => {
                let finding =
                    |error: config::ConfigError| Finding { severity: Severity::Error, place: error.place, message: error.message };
                errors.0.into_iter().map(|error| Lint::of(finding(error))).collect()
            }
            Ok(Some(manifest)) => exported(&name, &manifest, &self.rules(config, context)?),
            Ok(None) if path == Path::new("-") => {
                bail!("<stdin>: expected objects of Kubernetes; a configuration file is given by its path")
            }
            Ok(None) => configured(path, &name, &bytes, context),
        };
        lints.sort_by_key(|lint| lint.place.position());
        Ok(lints)
    }

    fn rules(&self, config: Option<&Path>, context: &Context) -> anyhow::Result<Rules> {
        let named = self.partition.as_deref();
        let partition = match named {
            Some(name) => {
                Partition::from_name(name).ok_or_else(|| anyhow::anyhow!("--partition: there is no partition {}", Escaped(name)))?
            }
            None => Partition::Aws,
        };
        let Some(config) = config else {
            return Ok(Rules {
                options: Options { partition, arn_patterns: self.arn_patterns, sso: SsoEntries::Asked },
                policy: Policy::default(),
            });
        };
        let Loaded { value, .. } = load(config, context).map_err(|errors| anyhow::anyhow!("{errors}"))?;
        let mut options = value.mappings.options;
        options.partition = if named.is_some() { partition } else { options.partition };
        options.arn_patterns |= self.arn_patterns;
        Ok(Rules { options, policy: value.mappings.policy })
    }
}

/// The settings of a file, as they would be with nothing else given.
fn load(path: &Path, context: &Context) -> Result<Loaded<config::Config>, config::ConfigErrors> {
    let mut overrides = Overrides { config: Some(path.to_owned()), ..context.overrides() };
    // May be left to a flag of the server, or to its environment.
    overrides.cluster_id.get_or_insert_with(|| "lint".to_owned());
    config::load(&overrides, &Environment::default())
}

/// A configuration file.
fn configured(path: &Path, name: &Arc<str>, bytes: &[u8], context: &Context) -> Vec<Lint> {
    let (findings, rules) = match load(path, context) {
        Ok(Loaded { value, warnings }) => {
            let finding =
                |warning: config::Warning| Finding { severity: Severity::Warning, place: warning.place, message: warning.message };
            let rules = Rules { options: value.mappings.options, policy: value.mappings.policy };
            (warnings.into_iter().map(finding).collect::<Vec<_>>(), rules)
        }
        Err(errors) => {
            let finding = |error: config::ConfigError| Finding { severity: Severity::Error, place: error.place, message: error.message };
            // What is wrong elsewhere must not hide what is odd here.
            let options = Options { partition: Partition::Aws, arn_patterns: false, sso: SsoEntries::Asked };
            (errors.0.into_iter().map(finding).collect(), Rules { options, policy: Policy::default() })
        }
    };
    let mut lints: Vec<_> = findings.into_iter().map(Lint::of).collect();
    let Ok(root) = tree::parse(name, bytes) else { return lints };
    for entry in entries(&root).iter().filter(|entry| entry.key == "server").flat_map(|server| entries(&server.node)) {
        if let Some(key) = lint::KEYS.into_iter().find(|key| entry.key.eq_ignore_ascii_case(key)) {
            lints.extend(lint::list(name, bytes, &entry.node, key, &format!("server.{key}"), &rules.of(BackendMode::MountedFile)));
        }
    }
    lints
}

fn entries(node: &Node) -> &[tree::Entry] {
    match &node.value {
        Value::Map(entries) => entries,
        _ => &[],
    }
}

/// Objects of Kubernetes.
fn exported(name: &Arc<str>, manifest: &Manifest, rules: &Rules) -> Vec<Lint> {
    let mut lints = Vec::new();
    if manifest.config_maps.is_empty() && manifest.objects.is_empty() {
        let place = Place::File { file: Arc::clone(name), position: None, key: String::new() };
        let message = "no mappings: neither a ConfigMap aws-auth nor an IAMIdentityMapping".to_owned();
        let advice = "export them: kubectl -n kube-system get configmap aws-auth -o yaml".to_owned();
        lints.push(Lint { level: Level::Warning, place, message, advice });
    }
    for texts in &manifest.config_maps {
        let read = AwsAuth::in_file(name, rules.options).read(Some(&texts.data));
        let mut found: Vec<_> = read.findings.into_iter().map(Lint::of).collect();
        for key in lint::KEYS {
            let Some(text) = texts.data.get(key) else { continue };
            // What cannot be read has been told.
            let Ok(node) = tree::parse(name, text.as_bytes()) else { continue };
            found.extend(lint::list(name, text.as_bytes(), &node, key, key, &rules.of(BackendMode::EksConfigMap)));
        }
        lints.extend(found.into_iter().map(|lint| Lint { place: texts.in_file(lint.place.clone()), ..lint }));
    }
    let read = crd::read(manifest.objects.iter().map(manifest::Object::as_mapping), &rules.options);
    lints.extend(read.findings.into_iter().map(|finding| {
        let place = manifest.in_file(name, finding.place.clone());
        Lint { place, ..Lint::of(finding) }
    }));
    lints.extend(lint::objects(name, &manifest.objects, &rules.of(BackendMode::Crd)));
    lints
}

/// File, line, column and key of a place, as far as it has them.
fn parts(place: &Place) -> (String, Option<Position>, String) {
    match place {
        Place::File { file, position, key } => (file.to_string(), *position, key.clone()),
        Place::Environment(name) | Place::Flag(name) => (String::new(), None, (*name).to_owned()),
        Place::Nowhere => (String::new(), None, String::new()),
    }
}

fn shown(text: &str) -> String {
    Escaped(text).up_to(SHOWN_BYTES).to_string()
}

fn count(lints: &[Lint], level: Level) -> usize {
    lints.iter().filter(|lint| lint.level == level).count()
}

fn as_text(lints: &[Lint]) -> String {
    let mut out = String::new();
    for Lint { level, place, message, advice } in lints {
        let (file, position, key) = parts(place);
        let line = position.map(|position| format!(":{}", position.line)).unwrap_or_default();
        let file = if file.is_empty() { String::new() } else { format!("{}{line}: ", shown(&file)) };
        let key = if key.is_empty() { String::new() } else { format!("{}: ", shown(&key)) };
        out += &format!("{file}{}: {key}{}\n    advice: {}\n", level.name(), shown(message), shown(advice));
    }
    let plural = |level: Level| {
        let count = count(lints, level);
        format!("{count} {}{}", level.name(), if count == 1 { "" } else { "s" })
    };
    out + &if lints.is_empty() {
        "nothing found\n".to_owned()
    } else {
        format!("{}, {}, {}\n", plural(Level::Error), plural(Level::Warning), plural(Level::Note))
    }
}

fn as_json(lints: &[Lint]) -> Json {
    let finding = |lint: &Lint| {
        let (file, position, key) = parts(&lint.place);
        json!({
            "file": file,
            "line": position.map(|position| position.line),
            "column": position.map(|position| position.column),
            "key": key,
            "severity": lint.level.name(),
            "message": lint.message,
            "advice": lint.advice,
        })
    };
    json!({
        "findings": lints.iter().map(finding).collect::<Vec<_>>(),
        "errors": count(lints, Level::Error),
        "warnings": count(lints, Level::Warning),
        "notes": count(lints, Level::Note),
    })
}
