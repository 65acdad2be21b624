//! `arngate explain`: what an identity is called in the cluster, and why: each rule that was tried, in order.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use arngate_core::arn::{Arn, Principal};
use arngate_core::mapping::Subject;
use arngate_core::{Identity, Partition};
use arngate_server::clock::{Clock, SystemClock};
use arngate_server::config::{self, Loaded, MappingSettings, Overrides};
use arngate_server::mapping::config_map::AwsAuth;
use arngate_server::mapping::explain::{Asked, Explanation, Extent, Tried, Verdict};
use arngate_server::mapping::{
    BackendMode, Followers, Following, Held, Outcome, Policy, Severity, Snapshot, Store, crd, dynamic_file, manifest,
};
use arngate_server::metrics::Metrics;
use arngate_server::telemetry::escape::Escaped;
use arngate_server::telemetry::{self, Level};
use clap::{ArgAction, Args};
use serde_json::{Value, json};

use super::document::read_input;
use super::{Context, Stray, complain, escaped};

/// What a session is called that nobody has named.
const SESSION: &str = "session";

/// A unique id that nobody has.
const USER_ID: &str = "AIDAEXPLAINEXPLAINEXP";

/// The access key of AWS' documentation.
const ACCESS_KEY_ID: &str = "AKIAIOSFODNN7EXAMPLE";

/// How long the cluster and the dynamic file are waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// Tell what an IAM identity is called in the cluster, and why: each rule that was tried
///
/// Mappings come from the configuration file (--config), from exports (--aws-auth, --crd: `kubectl get -o yaml`, - for standard input) and, with --live, from the
/// cluster and from the dynamic file.
#[derive(Args, Debug)]
pub(super) struct Explain {
    /// Who asks: the ARN of a role, a session of one, a user or a root
    #[arg(long, value_name = "ARN")]
    arn: Option<String>,
    /// Name of the role's session [default: that in the ARN, else "session"]
    #[arg(long, value_name = "NAME")]
    session_name: Option<String>,
    /// Unique id, which strict dynamic files compare [default: one that nobody has]
    #[arg(long, value_name = "ID")]
    user_id: Option<String>,
    /// Access key, for {{AccessKeyID}} [default: AKIAIOSFODNN7EXAMPLE]
    #[arg(long, value_name = "ID")]
    access_key_id: Option<String>,
    /// What EC2 would tell, for {{EC2PrivateDNSName}}
    #[arg(long, value_name = "NAME")]
    ec2_private_dns_name: Option<String>,
    /// A file with the ConfigMap aws-auth; - for standard input
    #[arg(long, value_name = "FILE")]
    aws_auth: Option<PathBuf>,
    /// A file with objects IAMIdentityMapping; - for standard input
    #[arg(long, value_name = "FILE")]
    crd: Option<PathBuf>,
    /// Ask the cluster for what is in no file
    #[arg(long)]
    live: bool,
    /// Kubeconfig for --live
    #[cfg(feature = "kubernetes")]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig
    #[cfg(feature = "kubernetes")]
    #[arg(long, value_name = "NAME")]
    kubeconfig_context: Option<String>,
    /// Backend modes in order [default: the configuration file's, else those of the exports]
    #[arg(long, value_name = "MODE", action = ArgAction::Append)]
    backend_mode: Vec<String>,
    /// How to print it: text or json
    #[arg(short, long, value_name = "FORMAT", default_value = "text", value_parser = ["text", "json"])]
    output: String,
    #[command(flatten)]
    stray: Stray,
}

/// Who is explained, in texts that an [`Identity`] can borrow.
struct Person {
    partition: Partition,
    account: String,
    arn: String,
    user_id: String,
}

impl Person {
    /// From what was asked for. A role is one of its sessions: nobody else ever comes.
    fn of(command: &Explain) -> anyhow::Result<Self> {
        let Some(text) = command.arn.as_deref().filter(|arn| !arn.is_empty()) else {
            bail!("--arn is missing: whose mapping is to be explained?")
        };
        let arn = Arn::parse(text).map_err(|error| anyhow::anyhow!("--arn: {error}"))?;
        let (partition, account) = (arn.partition(), arn.account_id().to_owned());
        let id = command.user_id.clone().unwrap_or_else(|| USER_ID.to_owned());
        let id = id.split_once(':').map_or(id.as_str(), |(id, _)| id).to_owned();
        let (arn, user_id) = match arn.principal() {
            Principal::Role { name } => {
                let session = command.session_name.as_deref().unwrap_or(SESSION);
                (format!("arn:{partition}:sts::{account}:assumed-role/{name}/{session}"), format!("{id}:{session}"))
            }
            Principal::AssumedRole { session, .. } => {
                if let Some(other) = command.session_name.as_deref().filter(|name| *name != session) {
                    bail!("--session-name {} is not the session of --arn, {}", Escaped(other), Escaped(session));
                }
                (text.to_owned(), format!("{id}:{session}"))
            }
            Principal::FederatedUser { .. } | Principal::Root | Principal::User { .. } => {
                if command.session_name.is_some() {
                    bail!("--session-name is for roles: nobody else has a session");
                }
                (text.to_owned(), id)
            }
        };
        Ok(Self { partition, account, arn, user_id })
    }

    fn identity(&self) -> anyhow::Result<Identity<'_>> {
        Identity::check(self.partition, &self.account, &self.arn, &self.user_id).map_err(|error| anyhow::anyhow!("--arn: {error}"))
    }
}

/// What a backend's mappings were read from.
type Sources = Vec<(BackendMode, String)>;

impl Explain {
    pub(super) fn run(self, context: &Context) -> ExitCode {
        self.stray.warn();
        match self.explain(context) {
            Ok(text) => match std::io::stdout().write_all(text.as_bytes()) {
                Ok(()) => ExitCode::SUCCESS,
                Err(_) => ExitCode::FAILURE,
            },
            Err(error) => {
                complain(format_args!("could not explain: {}", escaped(&error)));
                ExitCode::FAILURE
            }
        }
    }

    fn explain(&self, context: &Context) -> anyhow::Result<String> {
        let person = Person::of(self)?;
        let identity = person.identity()?;
        let (store, sources) = self.mappings(context, person.partition)?;
        let snapshot = store.current();
        let key = self.access_key_id.as_deref().unwrap_or(ACCESS_KEY_ID);
        let ec2_name = self.ec2_private_dns_name.as_deref();
        let explanation = snapshot.explain(&identity, key, ec2_name);
        let rendered = explanation.rendered(&identity, key, ec2_name);
        let shown =
            Shown { identity: &identity, snapshot: &snapshot, explanation: &explanation, rendered: rendered.as_ref(), sources: &sources };
        Ok(if self.output == "json" { format!("{:#}\n", shown.json()) } else { shown.text() })
    }

    /// The mappings, as a server would have them, and where they come from.
    fn mappings(&self, context: &Context, partition: Partition) -> anyhow::Result<(Arc<Store>, Sources)> {
        let mut overrides = Overrides { backend_mode: self.backend_mode.clone(), ..context.overrides() };
        // No rule depends on it, and a file may leave it to a flag of the server.
        overrides.cluster_id.get_or_insert_with(|| "explain".to_owned());
        let has_config = overrides.config.is_some();
        if !has_config {
            overrides.partition = Some(partition.name().to_owned());
        }
        let Loaded { value: config, .. } =
            config::load(&overrides, &context.environment()).map_err(|errors| anyhow::anyhow!("{errors}"))?;
        let MappingSettings { mut policy, mounted, options, dynamic_file, .. } = config.mappings.clone();
        if config.mappings.modes_path.is_some() && self.backend_mode.is_empty() {
            complain("Warning: server.dynamicBackendModePath may put other backend modes in force: --backend-mode says which");
        }
        let exported = [(BackendMode::EksConfigMap, self.aws_auth.is_some()), (BackendMode::Crd, self.crd.is_some())];
        if !has_config && self.backend_mode.is_empty() {
            let modes: Vec<_> = exported.iter().filter(|(_, given)| *given).map(|(mode, _)| *mode).collect();
            let live = if self.live { vec![BackendMode::EksConfigMap] } else { Vec::new() };
            policy = Policy { modes: if modes.is_empty() { live } else { modes }, ..policy };
        }
        if let Some((mode, _)) = exported.iter().find(|(mode, given)| *given && !policy.modes.contains(mode)) {
            bail!("{mode} is not among the backend modes ({}): see --backend-mode", names(&policy.modes));
        }
        if policy.modes.is_empty() {
            bail!("no mappings: expected --config, --aws-auth, --crd or --live");
        }
        let (store, mut sources) = (Arc::new(Store::new(policy.clone())), Sources::new());
        if let Some(path) = overrides.config.as_ref().filter(|_| policy.modes.contains(&BackendMode::MountedFile)) {
            store.publish(BackendMode::MountedFile, mounted);
            sources.push((BackendMode::MountedFile, path.display().to_string()));
        }
        if let Some(path) = &self.aws_auth {
            let (name, bytes) = read_input(path)?;
            let manifest = manifest::read(&name, &bytes).map_err(|errors| anyhow::anyhow!("{errors}"))?.unwrap_or_default();
            let [texts] = manifest.config_maps.as_slice() else {
                bail!("{}: expected one ConfigMap aws-auth, found {}", Escaped(&name), manifest.config_maps.len());
            };
            let read = AwsAuth::in_file(&name, options).read(Some(&texts.data));
            for finding in read.findings.into_iter().filter(|finding| finding.severity == Severity::Error) {
                complain(format_args!("Warning: {}{}", texts.in_file(finding.place), finding.message));
            }
            store.publish(BackendMode::EksConfigMap, read.backend);
            sources.push((BackendMode::EksConfigMap, name.to_string()));
        }
        if let Some(path) = &self.crd {
            let (name, bytes) = read_input(path)?;
            let manifest = manifest::read(&name, &bytes).map_err(|errors| anyhow::anyhow!("{errors}"))?.unwrap_or_default();
            let read = crd::read(manifest.objects.iter().map(manifest::Object::as_mapping), &options);
            for finding in read.findings.into_iter().filter(|finding| finding.severity == Severity::Error) {
                complain(format_args!("Warning: {finding}"));
            }
            store.publish(BackendMode::Crd, read.backend);
            sources.push((BackendMode::Crd, name.to_string()));
        }
        if !self.live {
            return Ok((store, sources));
        }
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let mut followers = Followers::default();
        if let Some(settings) = dynamic_file {
            sources.push((BackendMode::DynamicFile, settings.path.display().to_string()));
            followers.insert(BackendMode::DynamicFile, dynamic_file::follower(settings, options));
        }
        #[cfg(feature = "kubernetes")]
        {
            let access = arngate_kubernetes::Access {
                kubeconfig: self.kubeconfig.clone().or(config.kubernetes.kubeconfig),
                context: self.kubeconfig_context.clone(),
                master: config.kubernetes.master,
                proxy: context.proxy(),
            };
            arngate_kubernetes::add_followers(&mut followers, access, options, &clock, arngate_kubernetes::Writes::Nothing);
        }
        let missing: Vec<_> = store.current().missing().collect();
        followers.check(missing.iter().copied())?;
        for mode in missing.iter().filter(|mode| matches!(mode, BackendMode::EksConfigMap | BackendMode::Crd)) {
            sources.push((*mode, "the cluster".to_owned()));
        }
        follow(&store, followers, &missing, clock, context)?;
        Ok((store, sources))
    }
}

/// Follows what is missing until it is there, though not for long.
fn follow(
    store: &Arc<Store>,
    followers: Followers,
    missing: &[BackendMode],
    clock: Arc<dyn Clock>,
    context: &Context,
) -> anyhow::Result<()> {
    // What is wrong with a source is told by whoever follows it.
    telemetry::install(context.log_form().0, Level::Warning).context("log")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut following = Following::new(followers, Arc::clone(store), Arc::new(Metrics::new()), clock);
        following.follow(missing);
        let there = async {
            while store.current().missing().next().is_some() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        // What is not there by then is told to be missing.
        let _ = tokio::time::timeout(PATIENCE, there).await;
    });
    runtime.shutdown_background();
    Ok(())
}

fn names(modes: &[BackendMode]) -> String {
    modes.iter().map(|mode| mode.name()).collect::<Vec<_>>().join(", ")
}

/// An explanation that is to be printed.
struct Shown<'a> {
    identity: &'a Identity<'a>,
    snapshot: &'a Snapshot,
    explanation: &'a Explanation<'a>,
    rendered: Option<&'a (String, Vec<String>)>,
    sources: &'a Sources,
}

/// Longest name that is printed whole, in bytes: an ARN.
const SHOWN_BYTES: usize = 2048;

fn shown(text: &str) -> String {
    Escaped(text).up_to(SHOWN_BYTES).to_string()
}

impl Shown<'_> {
    fn source(&self, mode: BackendMode) -> &str {
        self.sources.iter().find(|(of, _)| *of == mode).map_or("nowhere", |(_, source)| source)
    }

    /// What comes of it: a label, and a sentence.
    fn outcome(&self) -> (&'static str, String) {
        match &self.explanation.outcome {
            Outcome::AccountMapped(_) => ("account-mapped", "let in by the account, as the canonical ARN and without groups".to_owned()),
            Outcome::Mapped(mapped) => ("mapped", format!("let in by {}", mapped.mode())),
            Outcome::NeedsEc2 { mode, instance_id } => (
                "needs-ec2",
                format!(
                    "{mode} wants the private DNS name of {}: the server asks EC2, --ec2-private-dns-name stands for the answer",
                    shown(instance_id)
                ),
            ),
            Outcome::NotAnInstance { mode } => (
                "not-an-instance",
                format!("denied: {mode} wants the private DNS name of an instance, and the session is not named after one"),
            ),
            Outcome::NotLoaded { mode } => {
                ("not-loaded", format!("not known (503): nobody that is loaded knows it, and {mode} is not loaded"))
            }
            Outcome::NotMapped => ("not-mapped", "denied: no rule is for it".to_owned()),
            Outcome::Reserved { mode, prefix } => {
                ("reserved-prefix", format!("denied: names that begin with \"{}\" are reserved in {mode}", shown(prefix)))
            }
        }
    }

    /// Name and groups.
    fn user(&self) -> Option<(String, Vec<String>)> {
        match &self.explanation.outcome {
            Outcome::AccountMapped(arn) => Some((arn.to_string(), Vec::new())),
            _ => self.rendered.cloned(),
        }
    }

    fn text(&self) -> String {
        let mut out = format!("identity   {}\n", shown(self.identity.arn()));
        let canonical = self.identity.canonical_arn().to_string();
        if canonical != self.identity.arn() {
            out += &format!("canonical  {}\n", shown(&canonical));
        }
        if !self.identity.session_name().is_empty() {
            out += &format!("session    {}\n", shown(self.identity.session_name()));
        }
        for (number, asked) in self.explanation.backends.iter().enumerate() {
            out += &format!(
                "\n{}. {} ({}){}\n",
                number + 1,
                asked.mode,
                shown(self.source(asked.mode)),
                extent(asked, self.identity.account_id())
            );
            for tried in &asked.rules {
                out += &rule(tried);
            }
        }
        let (_, sentence) = self.outcome();
        out += &format!("\noutcome    {sentence}\n");
        if let Some((username, groups)) = self.user() {
            out += &format!("user       {}\n", shown(&username));
            let groups: Vec<_> = groups.iter().map(|group| shown(group)).collect();
            out += &format!("groups     {}\n", if groups.is_empty() { "none".to_owned() } else { groups.join(", ") });
        }
        if self.snapshot.is_scrubbed(self.identity.account_id()) {
            out += "scrubbed   the account stays out of logs, uid and extra\n";
        }
        out
    }

    fn json(&self) -> Value {
        let (label, sentence) = self.outcome();
        let user = self.user();
        let mut outcome = json!({"result": label, "message": sentence});
        if let Some((username, groups)) = user {
            outcome["username"] = username.into();
            outcome["groups"] = groups.into();
        }
        if let Outcome::Reserved { prefix, .. } = &self.explanation.outcome {
            outcome["prefix"] = (*prefix).into();
        }
        json!({
            "identity": {
                "arn": self.identity.arn(),
                "canonicalArn": self.identity.canonical_arn().to_string(),
                "sessionName": self.identity.session_name(),
            },
            "backends": self.explanation.backends.iter().map(|asked| json!({
                "mode": asked.mode.name(),
                "source": self.source(asked.mode),
                "extent": extent_label(asked.extent),
                "rules": asked.rules.iter().map(json_rule).collect::<Vec<_>>(),
            })).collect::<Vec<_>>(),
            "outcome": outcome,
        })
    }
}

const fn extent_label(extent: Extent) -> &'static str {
    match extent {
        Extent::Account => "account-decides",
        Extent::All => "nothing-for-it",
        Extent::Gaps => "partly-loaded",
        Extent::NotLoaded => "not-loaded",
        Extent::NotReached => "not-reached",
        Extent::Rule => "rule-decides",
    }
}

fn extent(asked: &Asked<'_>, account_id: &str) -> String {
    match asked.extent {
        Extent::Account => format!(": no rule is for it, and the account {account_id} is let in"),
        Extent::All if asked.rules.is_empty() => ": no rules".to_owned(),
        Extent::All => ": no rule is for it".to_owned(),
        Extent::Gaps => ": no rule is for it, and a part of it could not be read".to_owned(),
        Extent::NotLoaded => ": not loaded".to_owned(),
        Extent::NotReached => ": not asked, for one before it decides".to_owned(),
        Extent::Rule => String::new(),
    }
}

fn line(rule: Held<'_>) -> String {
    rule.position().map_or_else(|| "-".to_owned(), |position| format!("line {}", position.line))
}

fn rule(tried: &Tried<'_>) -> String {
    let (mark, told) = match tried.verdict {
        Verdict::Decides => {
            let groups: Vec<_> = tried.rule.groups().map(|group| shown(group.as_str())).collect();
            ("yes", format!("decides: \"{}\", groups [{}]", shown(tried.rule.username().as_str()), groups.join(", ")))
        }
        Verdict::Misses(miss) => ("no ", shown(&miss.to_string())),
        Verdict::NotTried => ("-  ", "not tried".to_owned()),
    };
    format!("   {mark}  {:<9}  {}: {told}\n", line(tried.rule), shown(&subject(tried.rule)))
}

fn json_rule(tried: &Tried<'_>) -> Value {
    let (verdict, reason) = match tried.verdict {
        Verdict::Decides => ("decides", Value::Null),
        Verdict::Misses(miss) => ("misses", miss.to_string().into()),
        Verdict::NotTried => ("not-tried", Value::Null),
    };
    json!({
        "line": tried.rule.position().map(|position| position.line),
        "subject": subject(tried.rule),
        "username": tried.rule.username().as_str(),
        "groups": tried.rule.groups().map(|group| group.as_str()).collect::<Vec<_>>(),
        "verdict": verdict,
        "reason": reason,
    })
}

fn subject(rule: Held<'_>) -> String {
    rule.subject().map(|subject| subject_text(&subject)).unwrap_or_default()
}

fn subject_text(subject: &Subject<'_>) -> String {
    match subject {
        Subject::Exact(arn) => arn.arn().as_str().to_owned(),
        Subject::Pattern(pattern) => {
            let kind = if pattern.is_for_roles() { "role" } else { "user" };
            format!("arn:{}:iam::{}:{kind}/{}", pattern.partition(), pattern.account_id(), pattern.name())
        }
        Subject::Sso(role) => format!("permission set {} in {} ({})", role.permission_set(), role.account_id(), role.partition()),
        Subject::UserId(id) => match id.beside() {
            Some(beside) => format!("id {} of {}", id.id(), subject_text(&beside)),
            None => format!("id {}", id.id()),
        },
        _ => String::new(),
    }
}
