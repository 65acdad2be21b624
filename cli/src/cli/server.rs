//! `arngate server`: the webhook.
//!
//! All settings are optional and texts here: what is not given may come from the environment or the configuration file, and only then has a
//! default, and all errors are told at once.
//!
//! upstream: cmd/aws-iam-authenticator/server.go.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use arngate_server::app::{self, Service};
use arngate_server::config::{self, Ec2Settings, KubernetesSettings, Loaded, Overrides};
use arngate_server::dev::{self, Dev};
use arngate_server::document::reader::boolean;
use arngate_server::ec2::Signer;
use arngate_server::http::serve::Drained;
use arngate_server::mapping::Options;
use arngate_server::telemetry::{self, Level, Log, Record};
use clap::{ArgAction, Args};

use super::{Context, Stray, complain};

/// Run the webhook that turns tokens into Kubernetes users
#[derive(Args, Clone, Debug)]
pub(super) struct Server {
    #[command(flatten)]
    pub(super) common: Common,
    #[command(flatten)]
    pub(super) own: Own,
    #[command(flatten)]
    pub(super) stray: Stray,
}

/// A line as installers have it, whose servers find the settings of [`Own`] in their file.
#[derive(Args, Debug)]
pub(super) struct Brief {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    stray: Stray,
}

impl From<Brief> for Server {
    fn from(Brief { common, stray }: Brief) -> Self {
        Self { common, own: Own::default(), stray }
    }
}

/// Settings that the reference has too, and `--dev`.
#[derive(Args, Clone, Debug)]
pub(super) struct Common {
    /// Try it out: made-up keys and mappings in memory, nothing read or written, no AWS; prints a token and how to use it
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", hide_default_value = true,
          value_name = "BOOL", value_parser = boolean, action = ArgAction::Set)]
    pub(super) dev: bool,

    /// AWS partition: aws, aws-cn, aws-us-gov, aws-iso, aws-iso-b, aws-iso-e, aws-iso-f or aws-eusc [default: aws]
    #[arg(long, value_name = "PARTITION")]
    pub(super) partition: Option<String>,
    /// Where to write the webhook kubeconfig for the API server [default: /etc/kubernetes/aws-iam-authenticator/kubeconfig.yaml]
    #[arg(long, value_name = "PATH")]
    pub(super) generate_kubeconfig: Option<String>,
    /// The webhook kubeconfig was made by `init`: do not write it [default: false]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", value_parser = boolean)]
    pub(super) kubeconfig_pregenerated: Option<bool>,
    /// Folder of the certificate and its key [default: /var/aws-iam-authenticator]
    #[arg(long, value_name = "FOLDER")]
    pub(super) state_dir: Option<String>,
    /// Kubeconfig to reach the API server with, for the backends that watch it
    #[arg(long, value_name = "PATH")]
    pub(super) kubeconfig: Option<String>,
    /// URL of the API server, before the kubeconfig's
    #[arg(long, value_name = "URL")]
    pub(super) master: Option<String>,
    /// IP address to listen on [default: 127.0.0.1]
    #[arg(long, value_name = "IP")]
    pub(super) address: Option<String>,
    /// Where mappings come from, in order: MountedFile, EKSConfigMap, CRD, DynamicFile [default: MountedFile]
    #[arg(long, value_name = "MODE", action = ArgAction::Append)]
    pub(super) backend_mode: Vec<String>,
    /// Port to listen on; 0 takes a free one [default: 21362]
    #[arg(long, value_name = "PORT", allow_negative_numbers = true)]
    pub(super) port: Option<String>,
    /// Calls a second to EC2 DescribeInstances [default: 15]
    #[arg(long = "ec2-describeInstances-qps", value_name = "NUMBER", allow_negative_numbers = true)]
    pub(super) ec2_describe_instances_qps: Option<String>,
    /// Burst of calls to EC2 DescribeInstances [default: 5]
    #[arg(long = "ec2-describeInstances-burst", value_name = "NUMBER", allow_negative_numbers = true)]
    pub(super) ec2_describe_instances_burst: Option<String>,
}

/// Settings that the reference does not have.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Settings beyond aws-iam-authenticator")]
pub(super) struct Own {
    /// Who proves tokens, in order: offline, sts [default: sts, or offline,sts with a bundle]
    #[arg(long, value_name = "PROVER", action = ArgAction::Append)]
    pub(super) provers: Vec<String>,
    /// Signing keys for offline proof: a file or a folder of them (see `keys derive`)
    #[arg(long, value_name = "PATH")]
    pub(super) offline_bundle: Option<String>,
    /// Where to connect for an STS host, as HOST=https://host:port
    #[arg(long, value_name = "HOST=URL", action = ArgAction::Append)]
    pub(super) sts_endpoints: Vec<String>,
    /// Certificates to trust beside the platform's, for STS
    #[arg(long, value_name = "PATH")]
    pub(super) sts_ca_file: Option<String>,
    /// Regions whose STS may be asked [default: those known, our own, and new ones that fit by shape]
    #[arg(long, value_name = "REGION", action = ArgAction::Append)]
    pub(super) sts_regions: Vec<String>,
    /// Longest time for an answer of STS, retries included [default: 5s]
    #[arg(long, value_name = "DURATION")]
    pub(super) sts_deadline: Option<String>,
    /// Longest time for one attempt at STS [default: 2s]
    #[arg(long, value_name = "DURATION")]
    pub(super) sts_attempt_timeout: Option<String>,
    /// Longest time for DNS and TCP on the way to STS [default: 1s]
    #[arg(long, value_name = "DURATION")]
    pub(super) sts_connect_timeout: Option<String>,
    /// Calls to one host of STS at one time; over all hosts, as many for known access keys and as many for all others [default: 64; 32 for each 20 MiB of memory limit]
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pub(super) sts_max_in_flight: Option<String>,
    /// How long a call to STS waits for its place before it is refused with 503 [default: 500ms]
    #[arg(long, value_name = "DURATION")]
    pub(super) sts_max_wait: Option<String>,
    /// Calls to STS that wait at one time: so many of known access keys, and so many of all others [default: 1024]
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pub(super) sts_max_queued: Option<String>,
    /// Access keys to remember as known: those whose last proof was mapped, for a day [default: 8192]
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pub(super) sts_max_known_keys: Option<String>,
    /// How many of the calls to STS may be made a second time after a reset, a time-out or a 5xx [default: 10%]
    #[arg(long, value_name = "PERCENT", allow_negative_numbers = true)]
    pub(super) sts_retry_budget: Option<String>,
    /// Calls a second to STS over all hosts, or none [default: none]
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pub(super) sts_rate: Option<String>,
    /// Burst of calls beside --sts-rate
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pub(super) sts_burst: Option<String>,
    /// Where to connect for an EC2 host, as HOST=https://host:port
    #[arg(long, value_name = "HOST=URL", action = ArgAction::Append)]
    pub(super) ec2_endpoints: Vec<String>,
    /// Certificates to trust beside the platform's, for EC2
    #[arg(long, value_name = "PATH")]
    pub(super) ec2_ca_file: Option<String>,
    /// How long a proved identity is used before it is proved again; 0 turns caching off [default: 5m]
    #[arg(long, value_name = "DURATION")]
    pub(super) cache_ttl: Option<String>,
    /// Memory for proved identities [default: an eighth of the cgroup's limit, else 64MiB]
    #[arg(long, value_name = "SIZE")]
    pub(super) cache_max_bytes: Option<String>,
    /// How long a refusal by the prover is remembered [default: 30s]
    #[arg(long, value_name = "DURATION")]
    pub(super) cache_negative_ttl: Option<String>,
    /// Use a proved identity until its token ends while STS is down [default: true]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", value_parser = boolean)]
    pub(super) cache_stale_if_down: Option<bool>,
    /// How far ahead of our clock a token may be signed [default: 5m]
    #[arg(long, value_name = "DURATION")]
    pub(super) clock_skew: Option<String>,
    /// Take * and ? in rolearn and userarn as patterns [default: false]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", value_parser = boolean)]
    pub(super) arn_patterns: Option<bool>,
    /// Our own region [default: the file's region, AWS_REGION, AWS_DEFAULT_REGION, the metadata service of the machine]
    #[arg(long, value_name = "REGION")]
    pub(super) region: Option<String>,
    /// Certificates that clients of /authenticate must be signed by
    #[arg(long, value_name = "PATH")]
    pub(super) client_ca_file: Option<String>,
    /// Names (CN or SAN) of the clients that may ask; required beside --client-ca-file
    #[arg(long, value_name = "NAME", action = ArgAction::Append)]
    pub(super) client_names: Vec<String>,
    /// Client certificate to name in the webhook kubeconfig
    #[arg(long, value_name = "PATH")]
    pub(super) webhook_client_certificate: Option<String>,
    /// Client key to name in the webhook kubeconfig
    #[arg(long, value_name = "PATH")]
    pub(super) webhook_client_key: Option<String>,
    /// Let the next process listen before this one ends [default: false]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", value_parser = boolean)]
    pub(super) reuse_port: Option<bool>,
    /// Connections at once; beyond it the longest idle one goes [default: 160 for each 20 MiB of memory limit, at most 8192]
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pub(super) max_connections: Option<String>,
    /// Requests at once on one HTTP/2 connection [default: 256 for each 20 MiB of memory limit, at most 1024]
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pub(super) max_streams: Option<String>,
    /// Requests that wait for a proof; more are answered 503 [default: by the memory limit, 682 under 20 MiB and 20821 under 256 MiB, at most 65536]
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pub(super) max_waiters: Option<String>,
    /// Proofs under way; more are answered 503 [default: a quarter of the waiters]
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pub(super) max_flights: Option<String>,
    /// All request bodies held at once; more are answered 503 [default: a twentieth of the memory limit, at most 64MiB]
    #[arg(long, value_name = "SIZE")]
    pub(super) max_body_bytes: Option<String>,
    /// Threads that serve [default: the CPU quota, else the processors; 1 at most for each 20 MiB of memory limit]
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pub(super) worker_threads: Option<String>,
    /// Where the plain listener for health and metrics is [default: :21363]
    #[arg(long, value_name = "ADDRESS")]
    pub(super) admin_address: Option<String>,
    /// Status of a denial: 200, or 403 as the reference [default: 200]
    #[arg(long, value_name = "STATUS")]
    pub(super) deny_status: Option<String>,
    /// Which answers are logged: all, denied or none [default: denied; all when called aws-iam-authenticator]
    #[arg(long, value_name = "WHICH")]
    pub(super) access_log: Option<String>,
}

impl Server {
    /// What the flags say, for the configuration to judge.
    pub(super) fn overrides(&self, context: &Context) -> Overrides {
        let (common, own) = (self.common.clone(), self.own.clone());
        Overrides {
            address: common.address,
            backend_mode: common.backend_mode,
            ec2_describe_instances_burst: common.ec2_describe_instances_burst,
            ec2_describe_instances_qps: common.ec2_describe_instances_qps,
            generate_kubeconfig: common.generate_kubeconfig,
            kubeconfig: common.kubeconfig,
            kubeconfig_pregenerated: common.kubeconfig_pregenerated,
            master: common.master,
            partition: common.partition,
            port: common.port,
            state_dir: common.state_dir,
            access_log: own.access_log,
            admin_address: own.admin_address,
            arn_patterns: own.arn_patterns,
            cache_max_bytes: own.cache_max_bytes,
            cache_negative_ttl: own.cache_negative_ttl,
            cache_stale_if_down: own.cache_stale_if_down,
            cache_ttl: own.cache_ttl,
            client_ca_file: own.client_ca_file,
            client_names: own.client_names,
            clock_skew: own.clock_skew,
            deny_status: own.deny_status,
            ec2_ca_file: own.ec2_ca_file,
            ec2_endpoints: own.ec2_endpoints,
            max_body_bytes: own.max_body_bytes,
            max_connections: own.max_connections,
            max_flights: own.max_flights,
            max_streams: own.max_streams,
            max_waiters: own.max_waiters,
            offline_bundle: own.offline_bundle,
            provers: own.provers,
            region: own.region,
            reuse_port: own.reuse_port,
            sts_attempt_timeout: own.sts_attempt_timeout,
            sts_burst: own.sts_burst,
            sts_ca_file: own.sts_ca_file,
            sts_connect_timeout: own.sts_connect_timeout,
            sts_deadline: own.sts_deadline,
            sts_endpoints: own.sts_endpoints,
            sts_max_in_flight: own.sts_max_in_flight,
            sts_max_known_keys: own.sts_max_known_keys,
            sts_max_queued: own.sts_max_queued,
            sts_max_wait: own.sts_max_wait,
            sts_rate: own.sts_rate,
            sts_regions: own.sts_regions,
            sts_retry_budget: own.sts_retry_budget,
            webhook_client_certificate: own.webhook_client_certificate,
            webhook_client_key: own.webhook_client_key,
            worker_threads: own.worker_threads,
            ..context.overrides()
        }
    }

    pub(super) fn run(self, context: &Context) -> ExitCode {
        self.stray.warn();
        let (format, verbosity) = context.log_form();
        let log = match telemetry::install(format, verbosity) {
            Ok(log) => log,
            Err(error) => {
                complain(error);
                return ExitCode::FAILURE;
            }
        };
        app::install_panic_hook();
        match self.serve(context, &log) {
            Ok(drained) => {
                tracing::info!(cutOff = drained.cut_off, "drained");
                ExitCode::SUCCESS
            }
            Err(messages) => {
                for message in messages {
                    log.write_now(&Record { level: Level::Fatal, message: &message, fields: &[] });
                }
                ExitCode::FAILURE
            }
        }
    }

    /// Starts, and serves until told to stop. What went wrong is a list of lines.
    fn serve(self, context: &Context, log: &Log) -> Result<Drained, Vec<String>> {
        if self.common.dev {
            self.check_alone(context)?;
            if self.has_more_than_dev_heeds(context) {
                tracing::warn!("--dev heeds --port, --cluster-id and the log's flags alone; the others are ignored");
            }
            let cluster_id = context.global.cluster_id.as_deref().unwrap_or(dev::CLUSTER_ID);
            let port = self.common.port.as_deref().map_or(Ok(DEV_PORT), str::parse).map_err(|_| one("--port: expected 0 to 65535"))?;
            let (service, trial) = Dev::new(cluster_id, port, log.clone()).map_err(one)?.split();
            run_on(None, async {
                let running = service.bind().await.map_err(one)?;
                let address = running.address().map_err(one)?;
                let stop = app::told_to_stop();
                let text = trial.instructions(address, own_path(context).as_deref()).map_err(one)?;
                std::io::stdout().write_all(text.as_bytes()).map_err(one)?;
                Ok(running.run(stop).await)
            })
        } else {
            tracing::info!(version = env!("CARGO_PKG_VERSION"), "{}", context.program);
            let loaded = config::load(&self.overrides(context), &context.environment());
            let Loaded { value, warnings } = loaded.map_err(|errors| errors.to_string().lines().map(String::from).collect::<Vec<_>>())?;
            for warning in warnings {
                tracing::warn!("{warning}");
            }
            let threads = app::worker_threads(&value);
            let signer = signer(&value.ec2, context);
            let (kubernetes, options) = (value.kubernetes.clone(), value.mappings.options);
            let service = Service::from_config(value, context.proxy(), signer, log.clone());
            let mut service = service.map_err(|error| lines(&error.to_string()))?;
            follow_cluster(&mut service, &kubernetes, options, context);
            run_on(Some(threads), async {
                let running = service.bind().await.map_err(one)?;
                if let Some(address) = running.admin_address() {
                    tracing::info!("health checks and metrics are at http://{address}");
                }
                // Before anybody can know that we listen: from then on a signal drains.
                let stop = app::told_to_stop();
                tracing::info!("listening on {}", running.address().map_err(one)?);
                Ok(running.run(stop).await)
            })
        }
    }

    /// Refuses what `--dev` would not heed.
    fn check_alone(&self, context: &Context) -> Result<(), Vec<String>> {
        let refused = [
            ("--address", self.common.address.is_some()),
            ("--config", context.global.config.is_some()),
            ("--state-dir", self.common.state_dir.is_some()),
        ];
        let lines: Vec<_> = refused
            .into_iter()
            .filter(|(_, given)| *given)
            .map(|(flag, _)| format!("{flag} does not go with --dev, which listens on 127.0.0.1 and reads and writes no files"))
            .collect();
        if lines.is_empty() { Ok(()) } else { Err(lines) }
    }

    /// Whether there are settings that `--dev` does not look at.
    fn has_more_than_dev_heeds(&self, context: &Context) -> bool {
        let heeded = Overrides { port: self.common.port.clone(), ..context.overrides() };
        self.overrides(context) != heeded || !context.global.feature_gates.is_empty()
    }
}

/// Who signs what EC2 is asked.
#[cfg(feature = "aws-sdk")]
fn signer(settings: &Ec2Settings, context: &Context) -> Arc<dyn Signer> {
    let (role, source) = (settings.role_arn.as_deref(), settings.source_arn.as_deref());
    Arc::new(crate::client::ec2::Ec2Signer::new(role, source, context.env.clone()))
}

/// Nobody: credentials are the SDK's to find.
#[cfg(not(feature = "aws-sdk"))]
fn signer(_: &Ec2Settings, _: &Context) -> Arc<dyn Signer> {
    use arngate_server::ec2::{SignError, Signing, Unsigned};

    #[derive(Debug)]
    struct WithoutSdk;

    impl Signer for WithoutSdk {
        fn sign(&self, _: Unsigned, _: arngate_core::UnixSeconds) -> Signing<'_> {
            Box::pin(async { Err(SignError("this program was built without the AWS SDK, which finds them".into())) })
        }
    }

    Arc::new(WithoutSdk)
}

/// Has aws-auth and custom resources watched, in the cluster that the settings name.
#[cfg(feature = "kubernetes")]
fn follow_cluster(service: &mut Service, settings: &KubernetesSettings, options: Options, context: &Context) {
    use arngate_kubernetes::{Access, Writes, add_followers};

    let access = Access { kubeconfig: settings.kubeconfig.clone(), context: None, master: settings.master.clone(), proxy: context.proxy() };
    add_followers(&mut service.followers, access, options, &service.clock, Writes::StatusesAndEvents);
}

/// Nothing: a backend mode that lives there is an error when the server starts.
#[cfg(not(feature = "kubernetes"))]
fn follow_cluster(_: &mut Service, _: &KubernetesSettings, _: Options, _: &Context) {}

/// The port of `--dev` unless another is asked for: the server's own.
const DEV_PORT: u16 = 21362;

/// What a kubeconfig runs: this very file, if the system tells; nothing where it makes no tokens.
fn own_path(context: &Context) -> Option<String> {
    let file = || std::env::current_exe().ok().and_then(|path| path.into_os_string().into_string().ok());
    cfg!(feature = "aws-sdk").then(|| file().unwrap_or_else(|| context.program.to_owned()))
}

/// Runs a server to its end on so many threads; none: one for each processor.
fn run_on(threads: Option<usize>, server: impl Future<Output = Result<Drained, Vec<String>>>) -> Result<Drained, Vec<String>> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = threads {
        builder.worker_threads(threads);
    }
    let runtime = builder.enable_all().build().map_err(one)?;
    let drained = runtime.block_on(server);
    // A look-up in DNS that hangs must not hold us up.
    runtime.shutdown_timeout(Duration::from_millis(100));
    drained
}

fn one(error: impl std::fmt::Display) -> Vec<String> {
    vec![error.to_string()]
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(String::from).collect()
}
