//! Tokens of published clients, from `core/tests/vectors`.

/// A presigned URL, and what its maker knew.
#[derive(Debug)]
pub struct Seed {
    /// The URL inside the token.
    pub url: &'static str,
    /// Name of the partition.
    pub partition: &'static str,
    /// The region that it is signed for.
    pub region: &'static str,
    /// The cluster that it is signed for.
    pub cluster_id: &'static str,
    /// The secret access key.
    pub secret: &'static str,
}

include!(concat!(env!("OUT_DIR"), "/seeds.rs"));
