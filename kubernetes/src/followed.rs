//! A follower under test: what it has put in force, what it has said, and what it asks.

use std::sync::Arc;

use arngate_core::{Identity, Partition};
use arngate_server::clock::{Clock, SystemClock};
use arngate_server::mapping::{BackendMode, Followers, Following, Options, Outcome, Policy, Reports, SsoEntries, Store};
use arngate_server::metrics::Metrics;
use arngate_server::telemetry::{Captured, Format, Level, Log};
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::layer::SubscriberExt as _;

use crate::Writes;
use crate::connection::Connection;
use crate::scripted::{Asked, api_server};

pub(crate) const OPTIONS: Options = Options { partition: Partition::Aws, arn_patterns: false, sso: SsoEntries::Asked };

/// What begins to follow a source.
pub(crate) trait Begin<F>: Fn(Arc<Connection>, Options, Arc<dyn Clock>, Writes, Reports) -> F + Send + Sync + 'static {}

impl<F, T: Fn(Arc<Connection>, Options, Arc<dyn Clock>, Writes, Reports) -> F + Send + Sync + 'static> Begin<F> for T {}

pub(crate) struct Followed {
    pub(crate) asked: Asked,
    pub(crate) store: Arc<Store>,
    pub(crate) metrics: Arc<Metrics>,
    log: Captured,
    mode: BackendMode,
    _following: Following,
    _subscriber: DefaultGuard,
}

impl Followed {
    /// Begins to follow, as a server does.
    pub(crate) fn begin<F: Future<Output = ()> + Send + 'static>(mode: BackendMode, follow: impl Begin<F>) -> Self {
        Self::with(mode, Writes::StatusesAndEvents, follow)
    }

    /// Begins to follow, as who only looks.
    pub(crate) fn looking<F: Future<Output = ()> + Send + 'static>(mode: BackendMode, follow: impl Begin<F>) -> Self {
        Self::with(mode, Writes::Nothing, follow)
    }

    fn with<F: Future<Output = ()> + Send + 'static>(mode: BackendMode, writes: Writes, follow: impl Begin<F>) -> Self {
        let log = Captured::default();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let layer = Log::new(Format::Text, Level::Debug, Arc::clone(&clock), log.clone()).layer();
        let subscriber = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
        let (connection, asked) = api_server();
        let connection = Arc::new(connection);
        let (store, metrics) = (Arc::new(Store::new(Policy::of([mode]))), Arc::new(Metrics::new()));
        let mut followers = Followers::default();
        let its_clock = Arc::clone(&clock);
        followers.insert(mode, move |reports| follow(Arc::clone(&connection), OPTIONS, Arc::clone(&its_clock), writes, reports));
        let mut following = Following::new(followers, Arc::clone(&store), Arc::clone(&metrics), clock);
        following.follow(&[mode]);
        Self { asked, store, metrics, log, mode, _following: following, _subscriber: subscriber }
    }

    /// Whom the mappings in force take the user of this name for.
    pub(crate) fn who(&self, user: &str) -> String {
        let arn = format!("arn:aws:iam::123456789012:user/{user}");
        let identity = Identity::check(Partition::Aws, "123456789012", &arn, "AIDAEXAMPLE").unwrap();
        match self.store.current().look_up(&identity, "AKIAIOSFODNN7EXAMPLE") {
            Outcome::Mapped(mapped) => mapped.username().to_string(),
            Outcome::NotLoaded { .. } => "not loaded".to_owned(),
            Outcome::NotMapped => "not mapped".to_owned(),
            other => format!("{other:?}"),
        }
    }

    /// How many lines of the log have this in them.
    pub(crate) fn told(&self, what: &str) -> usize {
        self.log.text().lines().filter(|line| line.contains(what)).count()
    }

    /// What a metric of the source shows.
    pub(crate) fn metric(&self, name: &str) -> Option<String> {
        let labelled = format!("{name}{{source=\"{}\"}} ", self.mode);
        let bare = format!("{name} ");
        let text = self.metrics.encode();
        text.lines().find_map(|line| line.strip_prefix(&labelled).or_else(|| line.strip_prefix(&bare)).map(str::to_owned))
    }
}
