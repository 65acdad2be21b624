//! Flags about who signs, and for whom: the same for all commands, so that what one signs the other knows.

use arngate_loadtest::population::{Population, Shape};
use arngate_loadtest::supply::Cast;
use clap::Args;

/// Who signs, and for whom.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Who signs, and for whom")]
pub(crate) struct CastArguments {
    /// Kind of identities: users, with long-term keys, or sessions of roles, with session tokens of so many characters
    #[arg(long, value_name = "users|sessions[:CHARS]", default_value = "sessions")]
    pub(crate) shape: Shape,

    /// How many identities there are
    #[arg(long, value_name = "NUMBER", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(crate) identities: u32,

    /// How many more come once each (fresh-new-identity)
    #[arg(long, value_name = "NUMBER", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=10_000_000))]
    pub(crate) new_identities: u32,

    /// How many mappings the target has; sessions share the roles of these
    #[arg(long, value_name = "NUMBER", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(crate) mappings: u32,

    /// What keys and chance are made from
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub(crate) seed: u64,

    /// The cluster that tokens are for
    #[arg(long, value_name = "ID", default_value = "loadtest")]
    pub(crate) cluster_id: String,

    /// The host of STS that tokens are for
    #[arg(long, value_name = "HOST", default_value = "sts.us-east-1.amazonaws.com")]
    pub(crate) sts_host: String,
}

impl CastArguments {
    pub(crate) const fn cast(&self) -> Cast {
        let Self { shape, identities, mappings, seed, .. } = *self;
        Cast { regulars: Population { shape, identities, mappings, seed }, newcomers: self.new_identities }
    }
}
