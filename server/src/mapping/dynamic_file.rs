//! DynamicFile: a file that some other program writes, JSON or YAML, read again whenever it changes.
//!
//! ```json
//! {"LastUpdatedDateTime": "1795521600", "Version": "7", "mapRoles": [], "mapUsers": [], "mapAccounts": []}
//! ```
//!
//! What cannot be read leaves all that was last good in force; a bad entry is left out, and what was good for the same principal stands in for it. A file that is
//! not there is as good as an empty one. An *empty* file is one that somebody has begun to write.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::entry::{self, Entry, List, Options, Whom};
use super::source::{Finding, Read, Reports};
use super::stamp::Stamp;
use crate::document::{self, Error, Errors, Field, Findings, Place, Section, tree};
use crate::metrics::DynamicKind;
use crate::watch::{Looks, Source, Watch};

/// The file, and how it is read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Settings {
    /// Where it is.
    pub path: PathBuf,
    /// Whether mappings are for unique ids: an ARN beside one has to fit too.
    pub user_id_strict: bool,
}

/// The reader of the dynamic file, who remembers what was good.
#[derive(Debug)]
struct Reader {
    file: Arc<str>,
    options: Options,
    whom: Whom,
    roles: Vec<Entry>,
    users: Vec<Entry>,
}

impl Reader {
    fn new(settings: &Settings, options: Options) -> Self {
        let whom = if settings.user_id_strict { Whom::UserId } else { Whom::Named };
        Self { file: settings.path.display().to_string().into(), options, whom, roles: Vec::new(), users: Vec::new() }
    }

    /// Reads what is in the file; none: it is not there.
    ///
    /// upstream: `CallBackForFileLoad` and `CallBackForFileDeletion` in pkg/mapper/dynamicfile/dynamicfile.go.
    fn read(&mut self, bytes: Option<&[u8]>) -> Result<(Read, Stamp), Errors> {
        let findings = Findings::default();
        let node = match bytes {
            Some(bytes) if bytes.trim_ascii().is_empty() => return Err(self.refused(None, "there is nothing in it")),
            Some(bytes) => Some(tree::parse(&self.file, bytes)?),
            None => None,
        };
        let mut root = match &node {
            Some(node) => Section::root(&self.file, node, &findings),
            None => Section::absent(&self.file, &findings),
        };
        let stamp = Stamp::take(&mut root);
        // The reference's own files name the cluster, and nobody reads it.
        root.take("ClusterId");
        let mut list = |key| root.take(key).filter(|field| !field.is_nothing());
        let (roles, users, accounts) = (list("mapRoles"), list("mapUsers"), list("mapAccounts"));
        root.finish();
        if findings.errors_noted() > 0 {
            // What is no map at all.
            return Err(findings.into_parts().0);
        }
        if let Some(field) = [&roles, &users, &accounts].into_iter().flatten().find(|field| !field.is_list()) {
            return Err(self.refused(Some(field), "expected a list"));
        }

        let roles = roles.map_or_else(List::default, |list| entry::roles(&list, &self.options, self.whom));
        let users = users.map_or_else(List::default, |list| entry::users(&list, &self.options, self.whom));
        let accounts = accounts.map_or_else(List::default, |list| entry::accounts(&list));
        let rejected = roles.rejected.len().saturating_add(users.rejected.len()).saturating_add(accounts.rejected.len());
        self.roles = entry::with_stand_ins(roles, std::mem::take(&mut self.roles));
        self.users = entry::with_stand_ins(users, std::mem::take(&mut self.users));
        let backend = entry::backend(self.roles.clone(), self.users.clone(), accounts.good, &self.options, &findings);
        let read = Read { entries: backend.entries(), backend: backend.into(), findings: Finding::all(findings), rejected, stale: false };
        Ok((read, stamp))
    }

    fn refused(&self, field: Option<&Field<'_>>, message: &str) -> Errors {
        let place = field.map_or_else(|| Place::File { file: Arc::clone(&self.file), position: None, key: String::new() }, Field::place);
        Errors::from(Error { place, message: message.to_owned() })
    }
}

/// Who follows the dynamic file.
pub fn follower(
    settings: Settings,
    options: Options,
) -> impl Fn(Reports) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync {
    move |reports| Box::pin(watch(&settings, options, reports).run())
}

fn watch(settings: &Settings, options: Options, reports: Reports) -> Watch {
    let (paths, reader) = (vec![settings.path.clone()], Reader::new(settings, options));
    let (metrics, clock) = (Arc::clone(reports.metrics()), Arc::clone(reports.clock()));
    let mut file = File { path: settings.path.clone(), reader, reports, is_known: false };
    let source = Source::new("dynamic-file", paths, Looks::default(), move || file.reload());
    Watch::new(vec![source], metrics, clock)
}

struct File {
    path: PathBuf,
    reader: Reader,
    reports: Reports,
    /// Whether it was read before.
    is_known: bool,
}

impl File {
    fn reload(&mut self) -> Result<String, String> {
        let read = match document::file::read_regular(&self.path) {
            Ok(bytes) => self.reader.read(Some(&bytes)).map_err(|errors| errors.to_string()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.reader.read(None).map_err(|errors| errors.to_string()),
            Err(error) => Err(self.reader.refused(None, &format!("cannot be read: {error}")).to_string()),
        };
        let (read, stamp) = read.inspect_err(|_| {
            self.reports.metrics().dynamic_file_failed();
            self.reports.failed_as_told();
        })?;
        let loaded = format!("{} mappings and accounts", read.entries);
        self.reports.loaded(read);
        // What is read after a start was not changed now.
        if std::mem::replace(&mut self.is_known, true) {
            stamp.tell(DynamicKind::File, self.reports.clock().now().unix, self.reports.metrics());
        }
        Ok(loaded)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use arngate_core::UnixSeconds;
    use arngate_core::{Identity, Partition};

    use super::*;
    use crate::clock::{Clock, ManualClock};
    use crate::mapping::{Backend, BackendMode, Outcome, Policy, SsoEntries, Store};
    use crate::metrics::Metrics;

    const OPTIONS: Options = Options { partition: Partition::Aws, arn_patterns: false, sso: SsoEntries::Asked };

    const ROLE: (&str, &str) = ("arn:aws:sts::000000000098:assumed-role/KubernetesAdmin/jane", "userid678:jane");
    const ALICE: (&str, &str) = ("arn:aws:iam::000000000000:user/Alice", "userid135");

    /// As the reference's own test has it, but for a role's path.
    const CONTENT: &str = r#"
{
  "Version": "1",
  "LastUpdatedDateTime": "1795521590",
  "ClusterId": "000000000098",
  "mapRoles": [
    {
      "rolearn": "arn:aws:iam::000000000098:role/some/path/KubernetesAdmin",
      "username": "kubernetes-admin",
      "groups": ["system:masters"],
      "userid": "userid678"
    }
  ],
  "mapUsers": [
    {"userarn": "arn:aws:iam::000000000000:user/Alice", "username": "alice", "groups": ["system:masters"], "userid": "userid135"},
    {"userarn": "arn:aws:iam::000000000002:user/Alice2", "username": "alice2", "groups": [], "userid": "userid136"}
  ],
  "mapAccounts": ["012345678901", "456789012345"]
}
"#;

    fn who(store: &Store, (arn, user_id): (&str, &str)) -> String {
        let identity = Identity::check(Partition::Aws, arn.split(':').nth(4).unwrap(), arn, user_id).unwrap();
        let snapshot = store.current();
        match snapshot.look_up(&identity, "AKIAIOSFODNN7EXAMPLE") {
            Outcome::Mapped(mapped) => mapped.username().to_owned(),
            other => format!("{other:?}"),
        }
    }

    fn read(strict: bool, text: &str) -> (Arc<Backend>, Vec<String>) {
        let settings = Settings { path: "dynamic.json".into(), user_id_strict: strict };
        let (read, _) = Reader::new(&settings, OPTIONS).read(Some(text.as_bytes())).unwrap();
        (read.backend, read.findings.iter().map(ToString::to_string).collect())
    }

    struct Fixture {
        folder: tempfile::TempDir,
        path: PathBuf,
        file: File,
        store: Arc<Store>,
        metrics: Arc<Metrics>,
    }

    impl Fixture {
        fn new(strict: bool) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("dynamic.json");
            let store = Arc::new(Store::new(Policy::of([BackendMode::DynamicFile])));
            let metrics = Arc::new(Metrics::new());
            let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(UnixSeconds::new(1_795_521_600)));
            let reports = Reports::new(BackendMode::DynamicFile, Arc::clone(&store), Arc::clone(&metrics), clock);
            let reader = Reader::new(&Settings { path: path.clone(), user_id_strict: strict }, OPTIONS);
            let file = File { path: path.clone(), reader, reports, is_known: false };
            Self { folder, path, file, store, metrics }
        }

        fn put(&mut self, bytes: impl AsRef<[u8]>) -> Result<String, String> {
            let other = self.folder.path().join("other");
            fs::write(&other, bytes).unwrap();
            fs::rename(other, &self.path).unwrap();
            self.file.reload()
        }

        fn metric(&self, name: &str) -> String {
            let text = self.metrics.encode();
            text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).unwrap_or("none").to_owned()
        }
    }

    #[test]
    fn reads_json_and_yaml_and_knows_its_own_keys() {
        let yaml = "mapRoles:\n- {rolearn: 'arn:aws:iam::000000000098:role/KubernetesAdmin', username: kubernetes-admin}\nmapUsers: ~\n";
        for text in [CONTENT, yaml] {
            let (backend, findings) = read(false, text);
            assert_eq!(findings, [""; 0]);
            let store = Store::new(Policy::of([BackendMode::DynamicFile]));
            store.publish(BackendMode::DynamicFile, backend);
            assert_eq!(who(&store, ROLE), "kubernetes-admin");
        }
        assert_eq!(read(false, CONTENT).0.entries(), 5);
        assert_eq!(read(false, "{\"maproles\": [], \"Other\": 1}").1, ["dynamic.json:1: unknown key \"Other\""]);
    }

    #[test]
    fn a_strict_one_asks_for_the_unique_id_and_for_the_arn_beside_it() {
        let store = Store::new(Policy::of([BackendMode::DynamicFile]));
        store.publish(BackendMode::DynamicFile, read(true, CONTENT).0);
        assert_eq!(who(&store, ROLE), "kubernetes-admin");
        assert_eq!(who(&store, ALICE), "alice");
        assert_eq!(who(&store, (ALICE.0, "userid999")), "NotMapped", "another with the same name");
        assert_eq!(who(&store, ("arn:aws:iam::000000000000:user/Renamed", ALICE.1)), "NotMapped", "the same under another name");
        assert_eq!(who(&store, ("arn:aws:sts::000000000098:assumed-role/Other/jane", ROLE.1)), "NotMapped");

        let alone = r#"{"mapRoles": [{"userid": "userid678", "username": "role"}], "mapUsers": [{"userid": "userid135", "userarn": "", "username": "user"}]}"#;
        let (backend, findings) = read(true, alone);
        store.publish(BackendMode::DynamicFile, backend);
        assert_eq!(findings, [""; 0]);
        assert_eq!((who(&store, ROLE).as_str(), who(&store, ALICE).as_str()), ("role", "user"));
        assert_eq!(who(&store, ("arn:aws:iam::000000000000:user/Renamed", ALICE.1)), "user");

        let without = r#"{"mapRoles": [{"rolearn": "arn:aws:iam::000000000098:role/KubernetesAdmin"}], "mapUsers": [{"userarn": "arn:aws:iam::000000000000:user/Alice", "userid": ""}]}"#;
        let (backend, findings) = read(true, without);
        assert_eq!(backend.entries(), 0);
        assert_eq!(
            findings,
            [
                "dynamic.json:1: mapRoles[0]: expected userid, for server.dynamicfileUserIDStrict is set",
                "dynamic.json:1: mapUsers[0]: expected userid, for server.dynamicfileUserIDStrict is set",
            ]
        );
    }

    #[test]
    fn what_cannot_be_read_leaves_what_was_good_and_what_is_not_there_is_nothing() {
        let mut laughs = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..10 {
            let below = format!("*a{}", level - 1);
            laughs += &format!("a{level}: &a{level} [{}]\n", [below.as_str(); 10].join(", "));
        }
        let half = &CONTENT[..CONTENT.len() / 2];
        let bad: [(&str, &[u8]); 12] = [
            ("empty", b""),
            ("blank", b"\n \n"),
            ("half written", half.as_bytes()),
            ("NUL", b"{\"mapRoles\": [\0]}"),
            ("NUL alone", &[0; 4096]),
            ("5 MiB", &[b' '; 5 << 20]),
            ("a tab", b"mapRoles:\n\t- rolearn: x\n"),
            ("an alias bomb", laughs.as_bytes()),
            ("the same key twice", b"{\"mapRoles\": [], \"maproles\": []}"),
            ("a list", b"[]"),
            ("text", b"nothing"),
            ("a map where a list is due", b"{\"mapUsers\": {\"userarn\": \"arn:aws:iam::000000000000:user/Alice\"}}"),
        ];
        let mut fixture = Fixture::new(false);
        for (what, bytes) in bad {
            assert!(fixture.put(bytes).is_err(), "{what}");
            assert_eq!(who(&fixture.store, ROLE), "NotLoaded { mode: DynamicFile }", "{what}: it never was");
        }
        for (what, bytes) in bad {
            fixture.put(CONTENT).unwrap();
            assert_eq!(fixture.metric("arngate_mapping_source_ok{source=\"DynamicFile\"}"), "1");
            let why = fixture.put(bytes).unwrap_err();
            assert!(why.contains("dynamic.json") && !why.contains("Alice"), "{what}: {why}");
            assert_eq!(who(&fixture.store, ROLE), "kubernetes-admin", "{what}");
            assert_eq!(fixture.metric("arngate_mapping_source_ok{source=\"DynamicFile\"}"), "0", "{what}");
        }
        assert_eq!(fixture.metric("aws_iam_authenticator_dynamicfile_failures_total"), "24");
        fs::remove_file(&fixture.path).unwrap();
        fixture.file.reload().unwrap();
        assert_eq!(who(&fixture.store, ROLE), "NotMapped");
        fs::create_dir(&fixture.path).unwrap();
        assert!(fixture.file.reload().is_err(), "a folder");
    }

    #[test]
    fn a_bad_entry_is_left_out_and_what_was_good_for_its_principal_stands_in() {
        for strict in [false, true] {
            let mut fixture = Fixture::new(strict);
            fixture.put(CONTENT).unwrap();
            let entry = r#"{"userarn": "arn:aws:iam::000000000000:user/Alice", "userid": "userid135", "groups": {"a": "b"}}"#;
            for _ in 0..2 {
                fixture.put(format!(r#"{{"mapUsers": [{entry}, "text"]}}"#)).unwrap();
                assert_eq!((who(&fixture.store, ALICE).as_str(), who(&fixture.store, ROLE).as_str()), ("alice", "NotMapped"), "{strict}");
                assert_eq!(fixture.metric("arngate_mapping_source_rejected_entries{source=\"DynamicFile\"}"), "2");
            }
            fixture.put(r#"{"mapUsers": ["text"]}"#).unwrap();
            assert_eq!(who(&fixture.store, ALICE), "NotMapped", "it was taken away");
        }
    }

    #[test]
    fn tells_how_long_a_change_took_but_not_for_what_was_there_at_the_start() {
        let mut fixture = Fixture::new(false);
        let count = "aws_iam_authenticator_dynamic_e2e_latency_seconds_count{type=\"dynamic_file\"}";
        let sum = "aws_iam_authenticator_dynamic_e2e_latency_seconds_sum{type=\"dynamic_file\"}";
        fixture.put(CONTENT).unwrap();
        assert_eq!(fixture.metric(count), "none");
        fixture.put(CONTENT).unwrap();
        assert_eq!((fixture.metric(count).as_str(), fixture.metric(sum).as_str()), ("1", "10.0"));
        for time in ["1795521601", "soon", "-1", "99999999999999999999", ""] {
            fixture.put(CONTENT.replace("1795521590", time)).unwrap();
        }
        fixture.put(CONTENT.replace("\"1795521590\"", "[]")).unwrap();
        assert_eq!(fixture.metric(count), "2", "all but the one before 1970 make no sense");
    }

    #[test]
    fn is_read_at_once_at_the_start_and_then_when_it_has_come_to_rest() {
        let mut fixture = Fixture::new(false);
        let settings = Settings { path: fixture.path.clone(), user_id_strict: false };
        let mut watch = watch(&settings, OPTIONS, fixture.file.reports.clone());
        fixture.put(CONTENT).unwrap();
        fixture.store.update(|draft| draft.forget(BackendMode::DynamicFile));
        assert!(!watch.look(false));
        assert_eq!(who(&fixture.store, ROLE), "kubernetes-admin");
        fs::write(&fixture.path, CONTENT.replace("kubernetes-admin", "other")).unwrap();
        assert!(watch.look(false));
        assert_eq!(who(&fixture.store, ROLE), "kubernetes-admin", "somebody may still be writing");
        assert!(!watch.look(false));
        assert_eq!(who(&fixture.store, ROLE), "other");
        fs::remove_file(&fixture.path).unwrap();
        while watch.look(false) {}
        assert_eq!(who(&fixture.store, ROLE), "NotMapped");
    }

    #[test]
    fn a_file_that_is_not_there_at_the_start_is_empty() {
        let fixture = Fixture::new(false);
        let settings = Settings { path: fixture.path.clone(), user_id_strict: false };
        watch(&settings, OPTIONS, fixture.file.reports.clone()).look(false);
        assert_eq!(who(&fixture.store, ROLE), "NotMapped");
    }
}
