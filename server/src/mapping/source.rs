//! Sources of mappings, followed for as long as their mode is in force.
//!
//! Who follows a source ([`Follow`]) reads all of it whenever it has changed, and tells [`Reports`] what came of it. [`Following`] starts and stops them as
//! modes come into force and go.

use std::collections::HashMap;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::{Backend, BackendMode, Slot, Store};
use crate::clock::Clock;
use crate::document::{Errors, Findings, Place, Warning};
use crate::metrics::Metrics;
use crate::telemetry::escape::Escaped;

/// How long a source is left alone whose follower has ended, which none is meant to.
const PAUSE: Duration = Duration::from_secs(10);

/// Lines of a failure that are logged: nobody reads more.
const FAILURE_LINES: usize = 20;

/// Longest line of a failure that is logged, in bytes.
const FAILURE_LINE_BYTES: usize = 1024;

/// How much harm a [`Finding`] does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Severity {
    /// Something was left out, or what was there before stands in for it.
    Error,
    /// Something may not do what its author thinks.
    Warning,
}

/// Something in a source that its author should know.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Finding {
    /// How much harm it does.
    pub severity: Severity,
    /// Where.
    pub place: Place,
    /// What, and what was expected. Text of the source in it is escaped and cut.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.place, self.message)
    }
}

impl Finding {
    /// All that was noted while something was read of which bad parts are left out; errors first, each kind by its lines.
    #[must_use]
    pub fn all(findings: Findings) -> Vec<Self> {
        let (Errors(errors), warnings) = findings.into_parts();
        let error = |error: crate::document::Error| Self { severity: Severity::Error, place: error.place, message: error.message };
        let warning = |warning: Warning| Self { severity: Severity::Warning, place: warning.place, message: warning.message };
        errors.into_iter().map(error).chain(warnings.into_iter().map(warning)).collect()
    }
}

/// What a reading comes to.
#[derive(Clone, Debug)]
pub struct Read {
    /// All that the source holds, with what stands in for what could not be read.
    pub backend: Arc<Backend>,
    /// What its authors should know.
    pub findings: Vec<Finding>,
    /// Mappings and accounts in force.
    pub entries: usize,
    /// Entries that were left out.
    pub rejected: usize,
    /// Whether a part of it could not be read at all, and what was there before stands in for it.
    pub stale: bool,
}

/// What one source says to: the store, the metrics, the log.
#[derive(Clone)]
pub struct Reports {
    mode: BackendMode,
    store: Arc<Store>,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    /// Whether the mode is still in force: what is read after that is not wanted.
    stopped: Arc<AtomicBool>,
}

impl fmt::Debug for Reports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reports").field("mode", &self.mode).finish_non_exhaustive()
    }
}

impl Reports {
    /// Reports about the source of a mode, which from now on is there in the metrics.
    #[must_use]
    pub fn new(mode: BackendMode, store: Arc<Store>, metrics: Arc<Metrics>, clock: Arc<dyn Clock>) -> Self {
        metrics.mapping_source(mode.name());
        Self { mode, store, metrics, clock, stopped: Arc::default() }
    }

    /// The source's mode.
    #[must_use]
    pub const fn mode(&self) -> BackendMode {
        self.mode
    }

    /// The clock by which it is told when it was read.
    #[must_use]
    pub const fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Where those who follow it may count.
    #[must_use]
    pub const fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// The source was read: it is in force at once.
    pub fn loaded(&self, read: Read) {
        let Read { backend, findings, entries, rejected, stale } = read;
        let mut wanted = false;
        self.store.update(|draft| {
            // Looked at where the mode's end waits for us, or we for it.
            wanted = !self.stopped.load(Ordering::Relaxed);
            if wanted {
                draft.put(self.mode, backend);
            }
        });
        if !wanted {
            return;
        }
        self.metrics.mapping_read(self.mode.name(), !stale, self.clock.now().unix, entries, rejected);
        for finding in findings {
            match finding.severity {
                Severity::Error => tracing::error!(source = self.mode.name(), "{finding}"),
                Severity::Warning => tracing::warn!(source = self.mode.name(), "{finding}"),
            }
        }
        tracing::info!(source = self.mode.name(), entries, rejected, "mappings are loaded");
    }

    /// The source could not be read: what was there stays.
    pub fn failed(&self, why: &dyn fmt::Display) {
        self.failed_as_told();
        if self.stopped.load(Ordering::Relaxed) {
            return;
        }
        for line in why.to_string().lines().take(FAILURE_LINES) {
            let line = Escaped(line).up_to(FAILURE_LINE_BYTES);
            tracing::error!(source = self.mode.name(), "mappings could not be read, what was there stays: {line}");
        }
    }

    /// The same, where somebody else tells why.
    pub(super) fn failed_as_told(&self) {
        if !self.stopped.load(Ordering::Relaxed) {
            self.metrics.mapping_failed(self.mode.name());
        }
    }

    /// The mode is no longer in force.
    fn stop(&self) {
        self.store.update(|draft| {
            self.stopped.store(true, Ordering::Relaxed);
            draft.forget(self.mode);
        });
        self.metrics.mapping_source_left(self.mode.name());
    }
}

/// Follows a source for as long as the returned future is polled; can be started again.
pub type Follow = Arc<dyn Fn(Reports) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// Who follows each source.
#[derive(Clone, Default)]
pub struct Followers(HashMap<BackendMode, Follow>);

impl fmt::Debug for Followers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Followers {
    /// This one follows the source of a mode.
    pub fn insert<F: Future<Output = ()> + Send + 'static>(
        &mut self,
        mode: BackendMode,
        follow: impl Fn(Reports) -> F + Send + Sync + 'static,
    ) {
        self.0.insert(mode, Arc::new(move |reports| Box::pin(follow(reports))));
    }

    /// Whether these can all be in force. Nobody has to follow the configuration file: it is read by whoever reads the settings.
    ///
    /// # Errors
    ///
    /// [`NotFollowed`], for the first that cannot.
    pub fn check(&self, modes: impl IntoIterator<Item = BackendMode>) -> Result<(), NotFollowed> {
        let has = |mode| mode == BackendMode::MountedFile || self.0.contains_key(&mode);
        modes.into_iter().find(|mode| !has(*mode)).map_or(Ok(()), |mode| Err(NotFollowed(mode)))
    }
}

/// A backend mode of which nobody follows the source.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NotFollowed(pub BackendMode);

impl fmt::Display for NotFollowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(mode) = self;
        match mode {
            BackendMode::DynamicFile => write!(f, "the backend mode {mode} needs server.dynamicfilepath"),
            _ => write!(f, "the backend mode {mode} is not in this program, which was built without it"),
        }
    }
}

impl std::error::Error for NotFollowed {}

/// The sources that are followed now. They are no longer once it is dropped.
#[derive(Debug)]
pub struct Following {
    followers: Followers,
    store: Arc<Store>,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    running: HashMap<BackendMode, (Reports, JoinHandle<()>)>,
    /// Whether the configuration file's own mappings are in force.
    mounted: bool,
}

impl Following {
    /// Follows nothing yet.
    #[must_use]
    pub fn new(followers: Followers, store: Arc<Store>, metrics: Arc<Metrics>, clock: Arc<dyn Clock>) -> Self {
        Self { followers, store, metrics, clock, running: HashMap::new(), mounted: false }
    }

    /// Who follows.
    #[must_use]
    pub const fn followers(&self) -> &Followers {
        &self.followers
    }

    /// Follows the sources of these modes and no others. To be called within a runtime.
    pub fn follow(&mut self, modes: &[BackendMode]) {
        let others = modes.iter().any(|mode| *mode != BackendMode::DynamicFile);
        self.metrics.dynamic_file_in_force(modes.contains(&BackendMode::DynamicFile), others);
        self.show_mounted(modes.contains(&BackendMode::MountedFile));
        self.running.retain(|mode, (reports, task)| {
            let stays = modes.contains(mode);
            if !stays {
                task.abort();
                reports.stop();
            }
            stays
        });
        for mode in modes {
            let Some(follow) = self.followers.0.get(mode).filter(|_| !self.running.contains_key(mode)) else { continue };
            let reports = Reports::new(*mode, Arc::clone(&self.store), Arc::clone(&self.metrics), Arc::clone(&self.clock));
            let task = tokio::spawn(for_ever(Arc::clone(follow), reports.clone()));
            self.running.insert(*mode, (reports, task));
        }
    }
}

impl Following {
    /// Shows the configuration file among the sources or not; whoever reads it again tells what has changed in it.
    fn show_mounted(&mut self, in_force: bool) {
        let mode = BackendMode::MountedFile;
        if std::mem::replace(&mut self.mounted, in_force) == in_force {
            return;
        }
        if !in_force {
            return self.metrics.mapping_source_left(mode.name());
        }
        self.metrics.mapping_source(mode.name());
        let snapshot = self.store.current();
        let backend = snapshot.slots().iter().find(|slot| slot.mode() == mode).and_then(Slot::backend);
        if let Some(backend) = backend {
            self.metrics.mapping_read(mode.name(), true, self.clock.now().unix, backend.entries(), 0);
        }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        for (_, task) in self.running.values() {
            task.abort();
        }
    }
}

/// Follows, and begins anew should that end.
async fn for_ever(follow: Follow, reports: Reports) {
    loop {
        let ended = AssertUnwindSafe(follow(reports.clone())).catch_unwind().await;
        reports.failed(&if ended.is_ok() { "no longer followed" } else { "following it ended in a panic" });
        sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::Notify;

    use super::*;
    use crate::clock::SystemClock;
    use crate::mapping::Policy;

    const ACCOUNT: &str = "123456789012";

    fn read(stale: bool) -> Read {
        let backend = Backend::new(Vec::new(), [ACCOUNT.into()].into());
        Read { entries: backend.entries(), backend: backend.into(), findings: Vec::new(), rejected: 2, stale }
    }

    struct Fixture {
        store: Arc<Store>,
        metrics: Arc<Metrics>,
        following: Following,
        /// Each time that somebody began to follow.
        begun: Arc<Notify>,
    }

    impl Fixture {
        /// Two modes: who follows the first reads once, who follows the other panics.
        fn new() -> Self {
            let store = Arc::new(Store::new(Policy::of([BackendMode::EksConfigMap, BackendMode::Crd])));
            let (metrics, begun) = (Arc::new(Metrics::new()), Arc::new(Notify::new()));
            let mut followers = Followers::default();
            let notify = Arc::clone(&begun);
            followers.insert(BackendMode::EksConfigMap, move |reports: Reports| {
                let notify = Arc::clone(&notify);
                async move {
                    reports.loaded(read(false));
                    notify.notify_one();
                    std::future::pending::<()>().await;
                }
            });
            followers.insert(BackendMode::Crd, |_| async { panic!("on purpose") });
            let following = Following::new(followers, Arc::clone(&store), Arc::clone(&metrics), Arc::new(SystemClock::new()));
            Self { store, metrics, following, begun }
        }

        fn missing(&self) -> Vec<BackendMode> {
            self.store.current().missing().collect()
        }

        fn metric(&self, name: &str, mode: BackendMode) -> Option<String> {
            let text = self.metrics.encode();
            let start = format!("arngate_mapping_source_{name}{{source=\"{mode}\"}} ");
            text.lines().find_map(|line| line.strip_prefix(&start)).map(str::to_owned)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn follows_the_modes_in_force_and_begins_anew_when_they_come_back() {
        let mut fixture = Fixture::new();
        for _ in 0..2 {
            fixture.following.follow(&[BackendMode::EksConfigMap]);
            fixture.following.follow(&[BackendMode::EksConfigMap]);
            fixture.begun.notified().await;
            assert_eq!(fixture.missing(), [BackendMode::Crd]);
            assert_eq!(fixture.metric("ok", BackendMode::EksConfigMap).as_deref(), Some("1"));
            assert_eq!(fixture.metric("entries", BackendMode::EksConfigMap).as_deref(), Some("1"));
            assert_eq!(fixture.metric("rejected_entries", BackendMode::EksConfigMap).as_deref(), Some("2"));
            let reports = fixture.following.running[&BackendMode::EksConfigMap].0.clone();
            fixture.following.follow(&[]);
            assert_eq!(fixture.missing(), [BackendMode::EksConfigMap, BackendMode::Crd]);
            assert_eq!(fixture.metric("ok", BackendMode::EksConfigMap), None);
            reports.loaded(read(false));
            reports.failed(&"late");
            assert_eq!(fixture.missing(), [BackendMode::EksConfigMap, BackendMode::Crd], "what comes late is not wanted");
            assert_eq!(fixture.metric("ok", BackendMode::EksConfigMap), None);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_that_fails_is_not_ok_and_keeps_what_was_there() {
        let mut fixture = Fixture::new();
        fixture.following.follow(&[BackendMode::EksConfigMap, BackendMode::Crd]);
        fixture.begun.notified().await;
        let reports = fixture.following.running[&BackendMode::EksConfigMap].0.clone();
        reports.failed(&"away");
        assert_eq!(fixture.metric("ok", BackendMode::EksConfigMap).as_deref(), Some("0"));
        assert_eq!(fixture.missing(), [BackendMode::Crd]);
        reports.loaded(read(true));
        assert_eq!(fixture.metric("ok", BackendMode::EksConfigMap).as_deref(), Some("0"), "a part of it is from before");
        reports.loaded(read(false));
        assert_eq!(fixture.metric("ok", BackendMode::EksConfigMap).as_deref(), Some("1"));
        assert_eq!(fixture.metric("ok", BackendMode::Crd).as_deref(), Some("0"), "and the one that panics never was");
    }
}
