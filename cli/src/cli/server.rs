//! `arngate server`: the webhook.
//!
//! All settings are optional and texts here: what is not given may come from the environment or the configuration file, and only then has a
//! default, and all errors are told at once.
//!
//! upstream: cmd/aws-iam-authenticator/server.go.

use std::process::ExitCode;

use arngate_server::config::{self, Overrides};
use clap::{ArgAction, Args};

use super::{Context, Stray, boolean, complain, said};

/// Run the webhook that turns tokens into Kubernetes users
#[derive(Args, Clone, Debug)]
pub(super) struct Server {
    /// Try it out: made-up keys and mappings in memory, nothing read or written, no AWS
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
    #[arg(long, value_name = "PORT")]
    pub(super) port: Option<String>,
    /// Calls a second to EC2 DescribeInstances [default: 15]
    #[arg(long = "ec2-describeInstances-qps", value_name = "NUMBER")]
    pub(super) ec2_describe_instances_qps: Option<String>,
    /// Burst of calls to EC2 DescribeInstances [default: 5]
    #[arg(long = "ec2-describeInstances-burst", value_name = "NUMBER")]
    pub(super) ec2_describe_instances_burst: Option<String>,

    #[command(flatten)]
    pub(super) own: Own,
    #[command(flatten)]
    pub(super) stray: Stray,
}

/// Settings that the reference does not have.
#[derive(Args, Clone, Debug)]
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
    /// Calls to STS at one time [default: 64]
    #[arg(long, value_name = "NUMBER")]
    pub(super) sts_max_in_flight: Option<String>,
    /// Calls a second to STS over all hosts, or none [default: none]
    #[arg(long, value_name = "NUMBER")]
    pub(super) sts_rate: Option<String>,
    /// Burst of calls beside --sts-rate
    #[arg(long, value_name = "NUMBER")]
    pub(super) sts_burst: Option<String>,
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
    /// Our own region [default: AWS_REGION, AWS_DEFAULT_REGION, else the instance's]
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
        let (server, own) = (self.clone(), self.own.clone());
        Overrides {
            address: server.address,
            backend_mode: server.backend_mode,
            ec2_describe_instances_burst: server.ec2_describe_instances_burst,
            ec2_describe_instances_qps: server.ec2_describe_instances_qps,
            generate_kubeconfig: server.generate_kubeconfig,
            kubeconfig: server.kubeconfig,
            kubeconfig_pregenerated: server.kubeconfig_pregenerated,
            master: server.master,
            partition: server.partition,
            port: server.port,
            state_dir: server.state_dir,
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
            offline_bundle: own.offline_bundle,
            provers: own.provers,
            region: own.region,
            reuse_port: own.reuse_port,
            sts_attempt_timeout: own.sts_attempt_timeout,
            sts_burst: own.sts_burst,
            sts_ca_file: own.sts_ca_file,
            sts_deadline: own.sts_deadline,
            sts_endpoints: own.sts_endpoints,
            sts_max_in_flight: own.sts_max_in_flight,
            sts_rate: own.sts_rate,
            sts_regions: own.sts_regions,
            webhook_client_certificate: own.webhook_client_certificate,
            webhook_client_key: own.webhook_client_key,
            ..context.overrides()
        }
    }

    pub(super) fn run(self, context: &Context) -> ExitCode {
        self.stray.warn();
        let Some(_config) = said(config::load(&self.overrides(context), &context.environment())) else { return ExitCode::FAILURE };
        complain("could not start: this build has no server");
        ExitCode::FAILURE
    }
}
