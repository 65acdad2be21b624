//! The settings of `token` and `verify`.

use arngate_core::{ClusterId, Partition};

use super::feature_gate::FeatureGates;
use super::layer::{Environment, Overrides, flag, some, variable};
use crate::document::reader::boolean;
use crate::document::{Section, Text};
use crate::mapping::partition_named;

/// The settings of `token` and `verify`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClientConfig {
    /// `clusterID`: one that core takes. None where nobody has told it.
    pub cluster_id: Option<String>,
    /// `role`: the ARN of the role to assume.
    pub role: Option<String>,
    /// `region`; where there is none, the AWS SDK's own chain knows (`AWS_REGION`, profile, IMDS).
    pub region: Option<String>,
    /// `externalID`
    pub external_id: Option<String>,
    /// `sessionName`. Beside `forward_session_name` it is an error that the command tells.
    pub session_name: Option<String>,
    /// `forwardSessionName`
    pub forward_session_name: bool,
    /// `tokenOnly`
    pub token_only: bool,
    /// `cache`
    pub cache: bool,
    /// `--partition` of `verify`; the file has none for it.
    pub partition: Partition,
}

pub(super) fn read(mut root: Section<'_>, overrides: &Overrides, environment: &Environment) -> ClientConfig {
    let findings = root.findings();
    FeatureGates::read(overrides, findings);
    let switch = |given: Option<bool>, file: Option<Text>| {
        let file = file.and_then(|text| text.read(findings, boolean));
        given.or(file).unwrap_or(false)
    };
    let role = role(&mut root);
    let config = ClientConfig {
        cluster_id: cluster_id(&mut root, overrides, environment).and_then(|text| text.read(findings, checked_cluster_id)),
        role: plain(flag("--role", overrides.role.as_ref()).or_else(|| variable("DEFAULT_ROLE", environment.default_role.as_ref())), role),
        region: plain(flag("--region", overrides.region.as_ref()), root.text("region")),
        external_id: plain(flag("--external-id", overrides.external_id.as_ref()), root.text("externalID")),
        session_name: plain(flag("--session-name", overrides.session_name.as_ref()), root.text("sessionName")),
        forward_session_name: switch(overrides.forward_session_name, root.text("forwardSessionName")),
        token_only: switch(overrides.token_only, root.text("tokenOnly")),
        cache: switch(overrides.cache, root.text("cache")),
        partition: some(flag("--partition", overrides.partition.as_ref()))
            .and_then(|text| text.read(findings, partition_named))
            .unwrap_or(Partition::Aws),
    };
    // The server's part of the same file is not ours to judge.
    root.take("server");
    root.finish();
    config
}

/// The cluster ID of the strongest layer that has one; an empty text is none.
pub(super) fn cluster_id(root: &mut Section<'_>, overrides: &Overrides, environment: &Environment) -> Option<Text> {
    let file = root.text("clusterID");
    let given = flag("--cluster-id", overrides.cluster_id.as_ref())
        .or_else(|| variable("KUBERNETES_AWS_AUTHENTICATOR_CLUSTER_ID", environment.cluster_id.as_ref()));
    some(given.or(file))
}

pub(super) fn checked_cluster_id(text: &str) -> Result<String, arngate_core::request::ClusterIdError> {
    ClusterId::parse(text).map(|id| id.as_str().to_owned())
}

/// `role`, or `defaultRole`, as the reference's README calls it.
pub(super) fn role(root: &mut Section<'_>) -> Option<Text> {
    let role = some(root.text("role"));
    let default_role = some(root.text("defaultRole"));
    if let (Some(_), Some(default_role)) = (&role, &default_role) {
        root.findings().warn(default_role.place.clone(), "has no effect beside role");
    }
    role.or(default_role)
}

fn plain(given: Option<Text>, file: Option<Text>) -> Option<String> {
    some(given.or(file)).map(|text| text.text)
}
