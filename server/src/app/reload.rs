//! Settings that change while the server runs: the mappings of the configuration file, and which modes are in force.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use crate::clock::Clock;
use crate::config::{Config, Origin};
use crate::document;
use crate::mapping::{BackendMode, Following, Store, mode_file};
use crate::metrics::{DynamicKind, Metrics};
use crate::watch::{Looks, Source};

/// The configuration file. What it says of mappings counts as soon as it has changed, all of it at once; all else counts after a restart.
pub(super) struct SettingsFile {
    pub(super) origin: Origin,
    /// The settings that the server was started with.
    pub(super) in_force: Arc<Config>,
    pub(super) store: Arc<Store>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) clock: Arc<dyn Clock>,
}

impl fmt::Debug for SettingsFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SettingsFile").field(&self.origin).finish()
    }
}

impl SettingsFile {
    pub(super) fn source(self) -> Source {
        let (path, looks) = (self.origin.path().to_owned(), self.origin.looks().clone());
        Source::new("config", vec![path], looks, move || self.reload())
    }

    fn reload(&self) -> Result<String, String> {
        let read = self.origin.load().map_err(|errors| errors.to_string()).and_then(|loaded| {
            // The same mappings would mean something else, and only here: the other sources are read as the server was started.
            if loaded.value.partition != self.in_force.partition {
                return Err("server.partition has changed: its mappings count after a restart".to_owned());
            }
            if loaded.value.mappings.options != self.in_force.mappings.options {
                return Err("server.arnPatterns has changed: its mappings count after a restart".to_owned());
            }
            Ok(loaded)
        });
        let mode = BackendMode::MountedFile;
        let is_in_force = || self.store.current().slots().iter().any(|slot| slot.mode() == mode);
        let loaded = read.inspect_err(|_| {
            if is_in_force() {
                self.metrics.mapping_failed(mode.name());
            }
        })?;
        for warning in loaded.warnings {
            tracing::warn!("{warning}");
        }
        for setting in self.in_force.differences(&loaded.value) {
            tracing::warn!("{setting} has changed: it counts after a restart");
        }
        let (policy, mounted) = (loaded.value.mappings.policy, loaded.value.mappings.mounted);
        let entries = mounted.entries();
        self.store.update(|draft| {
            draft.policy.reserved_prefixes = policy.reserved_prefixes;
            draft.policy.scrubbed_accounts = policy.scrubbed_accounts;
            draft.put(mode, mounted);
        });
        if is_in_force() {
            self.metrics.mapping_read(mode.name(), true, self.clock.now().unix, entries, 0);
        }
        Ok(format!("{} with {entries} mappings and accounts", self.origin.path().display()))
    }
}

/// The file that says which modes are in force; while it is not there, the settings say it.
#[derive(Debug)]
pub(super) struct ModeFile {
    path: PathBuf,
    /// What the settings say.
    settings: Vec<BackendMode>,
    store: Arc<Store>,
    following: Arc<Mutex<Following>>,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
}

impl ModeFile {
    pub(super) fn new(
        path: PathBuf,
        store: Arc<Store>,
        following: Arc<Mutex<Following>>,
        metrics: Arc<Metrics>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let settings = modes_in_force(&store);
        Self { path, settings, store, following, metrics, clock }
    }

    /// Reads it for the first time, before anybody is served, and looks after it from then on. What cannot be used is told.
    pub(super) fn source(self) -> Source {
        let looks = Looks::of(std::slice::from_ref(&self.path));
        match self.read() {
            Ok((modes, _)) => self.store.update(|draft| draft.policy.modes = modes),
            Err(why) => {
                self.metrics.dynamic_file_failed();
                why.lines().for_each(|line| tracing::error!(what = "backend-mode", "could not be used, the settings count: {line}"));
            }
        }
        Source::new("backend-mode", vec![self.path.clone()], looks, move || self.reload())
    }

    fn reload(&self) -> Result<String, String> {
        let (modes, stamp) = self.read().inspect_err(|_| self.metrics.dynamic_file_failed())?;
        if modes != modes_in_force(&self.store) {
            self.store.update(|draft| draft.policy.modes.clone_from(&modes));
            self.following.lock().unwrap_or_else(PoisonError::into_inner).follow(&modes);
        }
        stamp.tell(DynamicKind::BackendMode, self.clock.now().unix, &self.metrics);
        Ok(format!("the backend modes are {}", modes.iter().map(|mode| mode.name()).collect::<Vec<_>>().join(", ")))
    }

    fn read(&self) -> Result<(Vec<BackendMode>, mode_file::Stamp), String> {
        let file: Arc<str> = self.path.display().to_string().into();
        let bytes = match document::file::read_regular(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((self.settings.clone(), mode_file::Stamp::default())),
            Err(error) => return Err(format!("{file}: cannot be read: {error}")),
        };
        let (modes, stamp) = mode_file::read(&file, &bytes).map_err(|errors| errors.to_string())?;
        let following = self.following.lock().unwrap_or_else(PoisonError::into_inner);
        following.followers().check(modes.iter().copied()).map_err(|error| format!("{file}: {error}"))?;
        Ok((modes, stamp))
    }
}

/// The modes that are asked, in their order.
pub(super) fn modes_in_force(store: &Store) -> Vec<BackendMode> {
    store.current().slots().iter().map(|slot| slot.mode()).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use arngate_core::{Identity, Partition, UnixSeconds};

    use super::*;
    use crate::clock::ManualClock;
    use crate::config::{self, Environment, Overrides};
    use crate::mapping::{Backend, Followers, Outcome, Policy, Read, Reports};

    fn clock() -> Arc<dyn Clock> {
        Arc::new(ManualClock::at(UnixSeconds::new(1_795_521_600)))
    }

    fn metric(metrics: &Metrics, name: &str) -> String {
        let text = metrics.encode();
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).unwrap_or("none").to_owned()
    }

    /// A configuration file that is in force.
    struct Fixture {
        _folder: tempfile::TempDir,
        path: PathBuf,
        file: SettingsFile,
    }

    impl Fixture {
        fn new(text: &str) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("config.yaml");
            fs::write(&path, text).unwrap();
            let overrides = Overrides { config: Some(path.clone()), cluster_id: Some("prod".into()), ..Overrides::default() };
            let config = Arc::new(config::load(&overrides, &Environment::default()).unwrap().value);
            let store = Arc::new(Store::new(config.mappings.policy.clone()));
            store.publish(BackendMode::MountedFile, Arc::clone(&config.mappings.mounted));
            let origin = config.origin.clone().unwrap();
            let file = SettingsFile { origin, in_force: config, store, metrics: Arc::new(Metrics::new()), clock: clock() };
            Self { _folder: folder, path, file }
        }

        fn put(&self, text: &str) -> Result<String, String> {
            fs::write(&self.path, text).unwrap();
            let told = |text: String| text.replace(&self.path.display().to_string(), "config.yaml");
            self.file.reload().map(told).map_err(told)
        }

        /// What Alice is called, and whether her account is scrubbed.
        fn alice(&self) -> (String, bool) {
            let identity = Identity::check(Partition::Aws, "123456789012", "arn:aws:iam::123456789012:user/Alice", "AIDA").unwrap();
            let snapshot = self.file.store.current();
            let name = match snapshot.look_up(&identity, "") {
                Outcome::Mapped(mapped) => mapped.username().to_owned(),
                other => format!("{other:?}"),
            };
            (name, snapshot.is_scrubbed("123456789012"))
        }
    }

    const TEXT: &str = "
server:
  mapUsers:
  - userarn: arn:aws:iam::123456789012:user/Alice
    username: alice
";

    #[test]
    fn mappings_prefixes_and_scrubbed_accounts_count_at_once_and_as_one() {
        let fixture = Fixture::new(TEXT);
        assert_eq!(fixture.alice(), ("alice".to_owned(), false));
        let text = TEXT.replace("username: alice", "username: system:alice") + "  scrubbedAccounts: [123456789012]\n";
        assert_eq!(fixture.put(&text).unwrap(), "config.yaml with 1 mappings and accounts");
        assert_eq!(fixture.alice(), ("system:alice".to_owned(), true));
        fixture.put(&(text + "  reservedPrefixConfig: [{backendmode: MountedFile, usernamePrefixReserveList: ['system:']}]\n")).unwrap();
        assert_eq!(fixture.alice(), (r#"Reserved { mode: MountedFile, prefix: "system:" }"#.to_owned(), true));
        fixture.put("server: {mapAccounts: [123456789013]}\n").unwrap();
        assert_eq!(fixture.alice(), ("NotMapped".to_owned(), false));
        assert_eq!(metric(&fixture.file.metrics, "arngate_mapping_source_ok{source=\"MountedFile\"}"), "1");
    }

    #[test]
    fn a_bad_file_keeps_all_that_was_in_force() {
        let bad_entry = TEXT.replace("arn:aws:iam::123456789012:user/Alice", "arn:aws:iam::1234:user/Alice");
        let fixture = Fixture::new(TEXT);
        for (bad, expected) in [
            ("", "config.yaml: there is nothing in it"),
            ("# soon\n", "config.yaml: there is nothing in it"),
            ("server: [\n", "config.yaml:1: not YAML: unclosed bracket '['"),
            ("server:\n\tmapUsers: []\n", "config.yaml:2: not YAML: "),
            (bad_entry.as_str(), "config.yaml:4: server.mapUsers[0].userarn: the account of the ARN is not 12 digits"),
            ("server: {mapUsers: [], partition: aws-cn}\n", "server.partition has changed: its mappings count after a restart"),
            ("server: {mapUsers: [], arnPatterns: true}\n", "server.arnPatterns has changed: its mappings count after a restart"),
            ("server: {mapUsers: [], scrubbedAccounts: [1]}\n", "config.yaml:1: server.scrubbedAccounts[0]: expected 12 digits"),
            ("\0\0\0\0", "config.yaml:1: "),
        ] {
            let why = fixture.put(bad).unwrap_err();
            assert!(why.starts_with(expected), "{bad:?}: {why}");
            assert_eq!(fixture.alice(), ("alice".to_owned(), false), "{bad:?}");
            assert_eq!(metric(&fixture.file.metrics, "arngate_mapping_source_ok{source=\"MountedFile\"}"), "0");
        }
        fs::remove_file(&fixture.path).unwrap();
        assert!(fixture.file.reload().is_err());
        assert_eq!(fixture.alice(), ("alice".to_owned(), false));
        fixture.put(&TEXT.replace("username: alice", "username: again")).unwrap();
        assert_eq!(fixture.alice().0, "again");
    }

    #[test]
    fn what_counts_after_a_restart_is_known_by_name() {
        let fixture = Fixture::new(TEXT);
        for (line, expected) in [
            ("  port: 1\n", "server.address, server.port or server.reusePort"),
            ("  denyStatus: 403\n", "server.denyStatus or server.accessLog"),
            ("  backendMode: [MountedFile, CRD]\n", "server.backendMode"),
            ("  cache: {ttl: 1m}\n", "server.cache"),
            ("  sts: {deadline: 3s}\n", "server.sts"),
            ("  maxWaiters: 3\n", "a bound"),
            ("  hostname: other\n", "server.hostname, server.stateDir or what belongs to the webhook kubeconfig"),
            ("  region: eu-west-1\n", "the region"),
            ("  clockSkew: 1m\n", "server.clockSkew"),
            ("  ec2DescribeInstancesQps: 1\n", "a setting of EC2"),
            ("  master: x\n", "server.kubeconfig or server.master"),
            ("  dynamicBackendModePath: /x\n", "server.dynamicBackendModePath"),
        ] {
            fs::write(&fixture.path, format!("{TEXT}{line}")).unwrap();
            let other = fixture.file.origin.load().unwrap().value;
            assert_eq!(fixture.file.in_force.differences(&other), [expected], "{line}");
            // They do not keep the mappings from being taken in.
            assert!(fixture.file.reload().is_ok(), "{line}");
        }
        fs::write(&fixture.path, TEXT).unwrap();
        assert_eq!(fixture.file.in_force.differences(&fixture.file.origin.load().unwrap().value), [""; 0]);
    }

    /// A file of modes, where EKSConfigMap can be followed and CRD cannot.
    struct Modes {
        _folder: tempfile::TempDir,
        path: PathBuf,
        store: Arc<Store>,
        metrics: Arc<Metrics>,
        following: Arc<Mutex<Following>>,
    }

    impl Modes {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let (store, metrics) = (Arc::new(Store::new(Policy::of([BackendMode::MountedFile]))), Arc::new(Metrics::new()));
            store.publish(BackendMode::MountedFile, Backend::new(Vec::new(), [].into()));
            let mut followers = Followers::default();
            for mode in [BackendMode::EksConfigMap, BackendMode::DynamicFile] {
                followers.insert(mode, |reports: Reports| async move {
                    let backend = Arc::new(Backend::new(Vec::new(), ["123456789012".into()].into()));
                    reports.loaded(Read { backend, findings: Vec::new(), entries: 1, rejected: 0, stale: false });
                    std::future::pending::<()>().await;
                });
            }
            let following = Following::new(followers, Arc::clone(&store), Arc::clone(&metrics), clock());
            let path = folder.path().join("modes.json");
            Self { path, _folder: folder, store, metrics, following: Arc::new(Mutex::new(following)) }
        }

        fn file(&self) -> ModeFile {
            let (store, following, metrics) = (Arc::clone(&self.store), Arc::clone(&self.following), Arc::clone(&self.metrics));
            ModeFile::new(self.path.clone(), store, following, metrics, clock())
        }

        fn write(&self, modes: &str) {
            fs::write(&self.path, format!(r#"{{"LastUpdatedDateTime": "1795521590", "Version": "1", "backendMode": "{modes}"}}"#)).unwrap();
        }

        fn missing(&self) -> Vec<BackendMode> {
            self.store.current().missing().collect()
        }
    }

    #[tokio::test]
    async fn the_modes_in_force_change_with_their_file_and_what_cannot_be_used_changes_nothing() {
        use BackendMode::{DynamicFile, EksConfigMap, MountedFile};
        let modes = Modes::new();
        let file = modes.file();
        let only = "aws_iam_authenticator_dynamic_file_only";
        let enabled = "aws_iam_authenticator_dynamic_file_enabled";
        modes.write("EKSConfigMap MountedFile");
        file.reload().unwrap();
        assert_eq!(modes_in_force(&modes.store), [EksConfigMap, MountedFile]);
        assert_eq!(modes.missing(), [EksConfigMap]);
        tokio::task::yield_now().await;
        assert_eq!(modes.missing(), [], "it is followed from now on");
        for bad in ["", "CRD", "MountedFile Crd", "MountedFile MountedFile"] {
            modes.write(bad);
            let why = file.reload().unwrap_err();
            assert_eq!(why.contains("is not in this program, which was built without it"), bad == "CRD", "{why}");
            assert_eq!((modes_in_force(&modes.store), modes.missing()), (vec![EksConfigMap, MountedFile], vec![]), "{bad}");
        }
        assert_eq!(metric(&modes.metrics, "aws_iam_authenticator_dynamicfile_failures_total"), "4");
        modes.write("MountedFile DynamicFile");
        file.reload().unwrap();
        assert_eq!((metric(&modes.metrics, only), metric(&modes.metrics, enabled)), ("0".to_owned(), "1".to_owned()));
        assert_eq!(metric(&modes.metrics, "arngate_mapping_source_ok{source=\"EKSConfigMap\"}"), "none");
        assert_eq!(metric(&modes.metrics, "arngate_mapping_source_ok{source=\"MountedFile\"}"), "1");
        modes.write("DynamicFile");
        file.reload().unwrap();
        assert_eq!((metric(&modes.metrics, only), metric(&modes.metrics, enabled)), ("1".to_owned(), "0".to_owned()));
        assert_eq!(metric(&modes.metrics, "arngate_mapping_source_ok{source=\"MountedFile\"}"), "none");
        tokio::task::yield_now().await;
        assert_eq!((modes_in_force(&modes.store), modes.missing()), (vec![DynamicFile], vec![]));
        fs::remove_file(&modes.path).unwrap();
        file.reload().unwrap();
        assert_eq!((modes_in_force(&modes.store), modes.missing()), (vec![MountedFile], vec![]), "the settings say it again");
        let count = "aws_iam_authenticator_dynamic_e2e_latency_seconds_count{type=\"dynamic_backend_mode\"}";
        assert_eq!(metric(&modes.metrics, count), "3");
    }

    #[tokio::test]
    async fn the_file_of_modes_counts_from_the_start() {
        let modes = Modes::new();
        modes.write("DynamicFile");
        let _source = modes.file().source();
        assert_eq!(modes_in_force(&modes.store), [BackendMode::DynamicFile]);
        let modes = Modes::new();
        modes.write("Nothing");
        let _source = modes.file().source();
        assert_eq!(modes_in_force(&modes.store), [BackendMode::MountedFile]);
    }
}
