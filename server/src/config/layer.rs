//! What the command line and the environment say, and which layer wins.

use std::path::PathBuf;

use crate::document::{Field, Place, Split, Text};

/// What the flags say; none where a flag was not given. Texts are read here, so that their errors come with all others.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[expect(missing_docs, reason = "each field is the flag of that name, and the settings say what it does")]
pub struct Overrides {
    /// Whether the program was called `aws-iam-authenticator`: then every decision is logged, as audit pipelines expect.
    pub called_as_reference: bool,

    // All commands.
    pub config: Option<PathBuf>,
    pub cluster_id: Option<String>,
    pub feature_gates: Vec<String>,
    pub log_format: Option<String>,
    pub log_verbosity: Option<String>,

    // `token` and `verify`; `region` and `partition` also those of `server`.
    pub cache: Option<bool>,
    pub external_id: Option<String>,
    pub forward_session_name: Option<bool>,
    pub partition: Option<String>,
    pub region: Option<String>,
    pub role: Option<String>,
    pub session_name: Option<String>,
    pub token_only: Option<bool>,

    // `server` and `init`.
    pub address: Option<String>,
    pub backend_mode: Vec<String>,
    pub ec2_describe_instances_burst: Option<String>,
    pub ec2_describe_instances_qps: Option<String>,
    pub generate_kubeconfig: Option<String>,
    pub hostname: Option<String>,
    pub kubeconfig: Option<String>,
    pub kubeconfig_pregenerated: Option<bool>,
    pub master: Option<String>,
    pub port: Option<String>,
    pub state_dir: Option<String>,

    // Ours.
    pub access_log: Option<String>,
    pub admin_address: Option<String>,
    pub arn_patterns: Option<bool>,
    pub cache_max_bytes: Option<String>,
    pub cache_negative_ttl: Option<String>,
    pub cache_stale_if_down: Option<bool>,
    pub cache_ttl: Option<String>,
    pub client_ca_file: Option<String>,
    pub client_names: Vec<String>,
    pub clock_skew: Option<String>,
    pub deny_status: Option<String>,
    pub ec2_ca_file: Option<String>,
    /// Each `host=https://host:port`.
    pub ec2_endpoints: Vec<String>,
    pub max_body_bytes: Option<String>,
    pub max_connections: Option<String>,
    pub max_flights: Option<String>,
    pub max_streams: Option<String>,
    pub max_waiters: Option<String>,
    pub offline_bundle: Option<String>,
    pub provers: Vec<String>,
    pub reuse_port: Option<bool>,
    pub sts_attempt_timeout: Option<String>,
    pub sts_burst: Option<String>,
    pub sts_ca_file: Option<String>,
    pub sts_connect_timeout: Option<String>,
    pub sts_deadline: Option<String>,
    /// Each `host=https://host:port`.
    pub sts_endpoints: Vec<String>,
    pub sts_max_in_flight: Option<String>,
    pub sts_max_known_keys: Option<String>,
    pub sts_max_queued: Option<String>,
    pub sts_max_wait: Option<String>,
    pub sts_rate: Option<String>,
    pub sts_regions: Vec<String>,
    pub sts_retry_budget: Option<String>,
    pub webhook_client_certificate: Option<String>,
    pub webhook_client_key: Option<String>,
    pub worker_threads: Option<String>,
}

/// The variables of the environment that settings know; an empty one counts as absent, as in the reference.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// `AWS_CA_BUNDLE`
    pub aws_ca_bundle: Option<String>,
    /// `AWS_DEFAULT_REGION`
    pub aws_default_region: Option<String>,
    /// `AWS_EC2_METADATA_DISABLED`
    pub aws_ec2_metadata_disabled: Option<String>,
    /// `AWS_EC2_METADATA_SERVICE_ENDPOINT`
    pub aws_ec2_metadata_service_endpoint: Option<String>,
    /// `AWS_ENDPOINT_URL`, which the server ignores with a warning.
    pub aws_endpoint_url: Option<String>,
    /// `AWS_ENDPOINT_URL_STS`, which the server ignores with a warning.
    pub aws_endpoint_url_sts: Option<String>,
    /// `AWS_REGION`
    pub aws_region: Option<String>,
    /// `KUBERNETES_AWS_AUTHENTICATOR_CLUSTER_ID`
    pub cluster_id: Option<String>,
    /// `DEFAULT_ROLE`
    pub default_role: Option<String>,
    /// `AWS_IAM_AUTHENTICATOR_LOG_VERBOSITY`
    pub log_verbosity: Option<String>,
}

/// A flag's text. An empty one is given too, and beats the layers below it.
pub(super) fn flag(name: &'static str, value: Option<&String>) -> Option<Text> {
    value.map(|text| Text { text: text.clone(), place: Place::Flag(name) })
}

/// A variable's text.
pub(super) fn variable(name: &'static str, value: Option<&String>) -> Option<Text> {
    let text = value.filter(|text| !text.is_empty())?;
    Some(Text { text: text.clone(), place: Place::Environment(name) })
}

/// A text that says something: an empty one is as good as none.
pub(super) fn some(text: Option<Text>) -> Option<Text> {
    text.filter(|text| !text.text.is_empty())
}

/// A list: the flag's if there is one, else the file's.
pub(super) fn list(name: &'static str, values: &[String], field: Option<&Field<'_>>) -> Option<Vec<Text>> {
    if values.is_empty() {
        return field.map(|field| field.texts(Split::BlanksAndCommas));
    }
    let parts = values.iter().flat_map(|value| Split::BlanksAndCommas.parts(value));
    Some(parts.map(|part| Text { text: part.to_owned(), place: Place::Flag(name) }).collect())
}
