//! Files that are read again when they change.
//!
//! A [`Source`] is some files and how to read them again; [`Watch`] looks after all of them. What is read replaces what was in force only if all of it is
//! good: a source that fails is told, counted, and what was there stays. The system's notices only say when to look (`notify`); what counts is whether
//! the files themselves are others than before, and that is looked at now and then without notice too, for not every file system gives one. So it does not
//! matter how a file is replaced: in place, by a rename, by a link that now leads elsewhere (Kubernetes swaps `..data`).

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::clock::Clock;
use crate::metrics::Metrics;

/// How often we look without notice.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// How long files must stay as they are before they are read: whoever replaces a certificate and its key does it one after the other.
const SETTLE: Duration = Duration::from_millis(250);

/// How often [`SETTLE`] is waited for at most: files that never come to rest are read all the same.
const SETTLE_ROUNDS: u32 = 20;

/// Reads files again: what was loaded, or why not, for the log.
type Reload = Box<dyn FnMut() -> Result<String, String> + Send>;

/// Files that belong together.
pub struct Source {
    what: &'static str,
    paths: Vec<PathBuf>,
    reload: Reload,
    /// How they looked when they were last read.
    read: Looks,
    /// How they looked a moment ago, if other than that.
    changing: Option<Looks>,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("what", &self.what).field("paths", &self.paths).finish_non_exhaustive()
    }
}

impl Source {
    /// Files, or folders of files, that were read after they had looked like `read`.
    ///
    /// `what` is the label under which it counts; `reload` reads them and puts them in force.
    #[must_use]
    pub fn new(
        what: &'static str,
        paths: Vec<PathBuf>,
        read: Looks,
        reload: impl FnMut() -> Result<String, String> + Send + 'static,
    ) -> Self {
        Self { what, paths, reload: Box::new(reload), read, changing: None }
    }

    /// Looks, and reads the files again if they have changed and `settled`, or look as they did the last time. Whether they are still changing.
    fn look(&mut self, settled: bool, metrics: &Metrics, clock: &dyn Clock) -> bool {
        let looks = Looks::of(&self.paths);
        if looks == self.read {
            self.changing = None;
            return false;
        }
        // What was never read is not waited for: it is there, or it will change.
        let settled = settled || self.read == Looks::default();
        if !settled && self.changing.as_ref() != Some(&looks) {
            self.changing = Some(looks);
            return true;
        }
        self.changing = None;
        // Whatever comes of it: the same files are not tried twice.
        self.read = looks;
        match (self.reload)() {
            Ok(loaded) => {
                metrics.reloaded(self.what, clock.now().unix);
                tracing::info!(what = self.what, "reloaded: {loaded}");
            }
            Err(why) => {
                metrics.reload_failed(self.what);
                for line in why.lines() {
                    tracing::error!(what = self.what, "could not reload, what was there stays: {line}");
                }
            }
        }
        false
    }
}

/// How some files look from outside: which they are, how large, and when they were changed.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Looks(Vec<Option<Look>>);

type Look = (PathBuf, [i128; 5]);

impl Looks {
    /// How these files, and those in these folders, look now. To be taken *before* they are read: a change in between is then one more to come.
    #[must_use]
    pub fn of(paths: &[PathBuf]) -> Self {
        let mut looks = Vec::new();
        for path in paths {
            let look = Self::at(path);
            if look.as_ref().is_some_and(|(real, _)| real.is_dir()) {
                let entries: BTreeSet<_> = fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
                looks.extend(entries.iter().map(|entry| Self::at(entry)));
            }
            looks.push(look);
        }
        Self(looks)
    }

    fn at(path: &Path) -> Option<Look> {
        let real = fs::canonicalize(path).ok()?;
        let metadata = fs::metadata(&real).ok()?;
        Some((real, stamp(&metadata)))
    }
}

#[cfg(unix)]
fn stamp(metadata: &Metadata) -> [i128; 5] {
    use std::os::unix::fs::MetadataExt as _;
    let nanos = |secs: i64, nanos: i64| i128::from(secs) * 1_000_000_000 + i128::from(nanos);
    // A rename or a new mode shows in ctime alone.
    [
        metadata.dev().into(),
        metadata.ino().into(),
        metadata.size().into(),
        nanos(metadata.mtime(), metadata.mtime_nsec()),
        nanos(metadata.ctime(), metadata.ctime_nsec()),
    ]
}

#[cfg(not(unix))]
fn stamp(metadata: &Metadata) -> [i128; 5] {
    let since = metadata.modified().ok().and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
    [metadata.len().into(), since.map_or(0, |since| i128::try_from(since.as_nanos()).unwrap_or_default()), 0, 0, 0]
}

/// Looks after sources.
#[derive(Debug)]
pub struct Watch {
    sources: Vec<Source>,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
}

impl Watch {
    /// Looks after these, once it [runs](Self::run).
    #[must_use]
    pub const fn new(sources: Vec<Source>, metrics: Arc<Metrics>, clock: Arc<dyn Clock>) -> Self {
        Self { sources, metrics, clock }
    }

    /// Looks at all of them now. Whether some are still changing.
    pub fn look(&mut self, settled: bool) -> bool {
        let Self { sources, metrics, clock } = self;
        let mut changing = false;
        for source in sources {
            changing |= source.look(settled, metrics, &**clock);
        }
        changing
    }

    /// Looks after them for ever.
    pub async fn run(mut self) {
        if self.sources.is_empty() {
            return;
        }
        let noticed = Arc::new(Notify::new());
        let _notices = self.ask_for_notices(&noticed);
        // At once for the first time: something may have changed since it was read.
        loop {
            let mut rounds = 0;
            loop {
                // Files may lie where reading takes its time.
                let looked = tokio::task::spawn_blocking(move || {
                    let changing = self.look(rounds >= SETTLE_ROUNDS);
                    (self, changing)
                });
                // A panic in a reload ends the watching, not the server.
                let Ok((watch, changing)) = looked.await else { return tracing::error!("files are no longer watched") };
                self = watch;
                if !changing {
                    break;
                }
                rounds += 1;
                sleep(SETTLE).await;
            }
            tokio::select! {
                () = noticed.notified() => {}
                () = sleep(LOOK_INTERVAL) => {}
            }
        }
    }

    /// Has the system tell of changes in the folders where the files lie, and where they really lie; it may not be able to.
    fn ask_for_notices(&self, noticed: &Arc<Notify>) -> Option<RecommendedWatcher> {
        let noticed = Arc::clone(noticed);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // That somebody reads is no change; we do so ourselves.
            if !event.is_ok_and(|event| event.kind.is_access()) {
                noticed.notify_one();
            }
        });
        let mut watcher = watcher.map_err(|error| tracing::debug!(%error, "no notices of changed files")).ok()?;
        for folder in self.folders() {
            if let Err(error) = watcher.watch(&folder, RecursiveMode::NonRecursive) {
                tracing::debug!(%error, folder = %folder.display(), "no notices of changed files");
            }
        }
        Some(watcher)
    }

    fn folders(&self) -> BTreeSet<PathBuf> {
        let mut folders = BTreeSet::new();
        for path in self.sources.iter().flat_map(|source| &source.paths) {
            for path in [Some(path.clone()), fs::canonicalize(path).ok()].into_iter().flatten() {
                folders.extend(path.parent().map(|parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent }.to_owned()));
                if path.is_dir() {
                    folders.insert(path);
                }
            }
        }
        folders
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::clock::SystemClock;

    /// A file and what was read of it; "bad" is refused.
    struct Fixture {
        folder: tempfile::TempDir,
        path: PathBuf,
        read: Arc<Mutex<Vec<String>>>,
        metrics: Arc<Metrics>,
        heard: Arc<Notify>,
    }

    impl Fixture {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("file");
            fs::write(&path, "first").unwrap();
            Self { path, folder, read: Arc::default(), metrics: Arc::new(Metrics::new()), heard: Arc::default() }
        }

        fn watch(&self) -> Watch {
            let (path, read, heard) = (self.path.clone(), Arc::clone(&self.read), Arc::clone(&self.heard));
            let paths = vec![self.path.clone()];
            let source = Source::new("bundle", paths.clone(), Looks::of(&paths), move || {
                let text = fs::read_to_string(&path).map_err(|error| error.to_string())?;
                if text == "bad" {
                    return Err("file:1: bad".to_owned());
                }
                read.lock().unwrap().push(text.clone());
                heard.notify_one();
                Ok(text)
            });
            Watch::new(vec![source], Arc::clone(&self.metrics), Arc::new(SystemClock::new()))
        }

        fn read(&self) -> Vec<String> {
            std::mem::take(&mut *self.read.lock().unwrap())
        }

        fn replace(&self, text: &str) {
            let other = self.folder.path().join("other");
            fs::write(&other, text).unwrap();
            fs::rename(other, &self.path).unwrap();
        }
    }

    #[test]
    fn what_has_changed_is_read_once_it_has_come_to_rest() {
        let files = Fixture::new();
        let mut watch = files.watch();
        assert!(!watch.look(false) && files.read().is_empty(), "nothing has changed");
        files.replace("second");
        assert!(watch.look(false), "it may still be changing");
        files.replace("third");
        assert!(watch.look(false) && files.read().is_empty(), "and it was");
        assert!(!watch.look(false));
        assert_eq!(files.read(), ["third"]);
        assert!(!watch.look(false) && files.read().is_empty(), "once is enough");
        files.replace("fourth");
        assert!(!watch.look(true));
        assert_eq!(files.read(), ["fourth"], "what does not come to rest is read all the same");
    }

    #[test]
    fn what_cannot_be_read_is_counted_and_tried_again_when_it_changes() {
        let files = Fixture::new();
        let mut watch = files.watch();
        let failures = || {
            let text = files.metrics.encode();
            let line = text.lines().find(|line| line.starts_with("arngate_reload_failures_total{what=\"bundle\"}")).unwrap().to_owned();
            line.rsplit(' ').next().unwrap().to_owned()
        };
        for (text, failed) in [("bad", "1"), ("good", "1")] {
            files.replace(text);
            while watch.look(false) {}
            assert_eq!(failures(), failed);
        }
        assert_eq!(files.read(), ["good"]);
        fs::remove_file(&files.path).unwrap();
        while watch.look(false) {}
        assert_eq!(failures(), "2");
        assert!(!watch.look(false));
        assert_eq!(failures(), "2", "the same fault is told once");
        files.replace("back");
        while watch.look(false) {}
        assert_eq!(files.read(), ["back"]);
    }

    #[cfg(unix)]
    #[test]
    fn a_link_that_leads_elsewhere_is_a_change() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (version, text) in [("..1", "a"), ("..2", "b")] {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("keys.yaml"), text).unwrap();
        }
        symlink("..1", at("..data")).unwrap();
        symlink("..data/keys.yaml", at("keys.yaml")).unwrap();
        for paths in [vec![at("keys.yaml")], vec![folder.path().to_owned()]] {
            let before = Looks::of(&paths);
            assert_eq!(Looks::of(&paths), before);
            symlink(if fs::read_to_string(at("keys.yaml")).unwrap() == "a" { "..2" } else { "..1" }, at("new")).unwrap();
            fs::rename(at("new"), at("..data")).unwrap();
            assert_ne!(Looks::of(&paths), before);
        }
    }

    #[tokio::test]
    async fn is_told_of_a_change_or_finds_it() {
        let files = Fixture::new();
        let watching = tokio::spawn(files.watch().run());
        // Whether the watch has begun by then or not.
        files.replace("second");
        files.heard.notified().await;
        watching.abort();
        let _ = watching.await;
        assert_eq!(files.read(), ["second"]);
    }
}
