//! CRD: objects `IAMIdentityMapping`, watched.
//!
//! What an object's `spec` says counts. `status.canonicalARN`, on which the reference matches, is written for those who look at it, once for each generation of an
//! object: whoever writes another one there changes nothing, and is not argued with.
//!
//! upstream: pkg/mapper/crd/controller/controller.go.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use arngate_core::arn::Arn;
use arngate_server::clock::Clock;
use arngate_server::document::Place;
use arngate_server::mapping::crd::{self, IdentityMapping as Mapping};
use arngate_server::mapping::{Options, Reports};
use http::Method;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::Writes;
use crate::connection::Connection;
use crate::event::{self, About, Recorder};
use crate::request::Content;
use crate::told::Told;
use crate::trouble::Trouble;
use crate::watch::{self, Collection, Metadata, Object, Sink, escaped};

const COLLECTION: Collection = Collection { path: "/apis/iamauthenticator.k8s.aws/v1alpha1/iamidentitymappings", field_selector: "" };

const API_VERSION: &str = "iamauthenticator.k8s.aws/v1alpha1";

/// Statuses that wait to be written; the others are thought of again when something changes.
const QUEUE: usize = 64;

/// How long to wait between two statuses: nobody is in a hurry for them.
const STATUS_PAUSE: Duration = Duration::from_millis(100);

/// What is read of an object.
#[derive(Debug, Deserialize)]
struct IdentityMapping {
    metadata: Metadata,
    #[serde(default, deserialize_with = "lenient")]
    spec: Spec,
    #[serde(default, deserialize_with = "lenient")]
    status: Status,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Spec {
    arn: Option<String>,
    username: Option<String>,
    groups: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Status {
    #[serde(rename = "canonicalARN")]
    canonical_arn: Option<String>,
}

impl Object for IdentityMapping {
    fn metadata(&self) -> &Metadata {
        &self.metadata
    }
}

/// What is not as it should be is as good as absent: the schema of whoever installed the resource may be laxer than ours, and one odd object must not hide
/// all others.
fn lenient<'de, D: Deserializer<'de>, T: Default + DeserializeOwned>(deserializer: D) -> Result<T, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    Ok(serde_json::from_value(value).unwrap_or_default())
}

/// Follows the objects for ever.
pub(crate) async fn follow(connection: Arc<Connection>, options: Options, clock: Arc<dyn Clock>, writes: Writes, reports: Reports) {
    let (recorder, sender) = event::recorder(Arc::clone(&connection), clock);
    let (statuses, writer) = mpsc::channel(QUEUE);
    let mut mappings = Mappings { told: Told::new(reports), options, held: Arc::default(), unwritten: BTreeSet::new(), statuses, recorder };
    tokio::join!(watch::follow(&connection, COLLECTION, &mut mappings), sender.run(writes), write_statuses(&connection, writer, writes));
}

/// What is held of an object.
#[derive(Clone, Debug)]
struct Held {
    uid: String,
    generation: i64,
    arn: String,
    username: String,
    groups: Vec<String>,
}

impl Held {
    fn mapping<'a>(&'a self, name: &'a str) -> Mapping<'a> {
        Mapping { name, arn: &self.arn, username: &self.username, groups: &self.groups }
    }
}

/// What the objects say, and who hears of it.
struct Mappings {
    told: Told,
    options: Options,
    held: Arc<BTreeMap<String, Held>>,
    /// Objects whose status may have to be written.
    unwritten: BTreeSet<String>,
    statuses: mpsc::Sender<StatusToWrite>,
    recorder: Recorder,
}

/// A status that is not as it should be.
#[derive(Debug)]
struct StatusToWrite {
    name: String,
    canonical_arn: String,
}

impl Mappings {
    /// Whether anything that counts is other than before.
    fn hold(&mut self, object: IdentityMapping) -> bool {
        let IdentityMapping { metadata, spec, status } = object;
        let held = Held {
            uid: metadata.uid,
            generation: metadata.generation,
            arn: spec.arn.unwrap_or_default(),
            username: spec.username.unwrap_or_default(),
            groups: spec.groups.unwrap_or_default(),
        };
        let all = Arc::make_mut(&mut self.held);
        let before = all.get(&metadata.name);
        let is_another = before.is_none_or(|before| (before.generation, &before.uid) != (held.generation, &held.uid));
        let differs =
            before.is_none_or(|before| (&before.arn, &before.username, &before.groups) != (&held.arn, &held.username, &held.groups));
        if is_another && canonical_arn(&held.arn).is_some_and(|canonical| status.canonical_arn != Some(canonical)) {
            self.unwritten.insert(metadata.name.clone());
        }
        all.insert(metadata.name, held);
        differs
    }

    /// Has statuses written, as many as there is room for.
    fn write_statuses(&mut self) {
        let held = &self.held;
        let statuses = &self.statuses;
        self.unwritten.retain(|name| {
            let Some(canonical_arn) = held.get(name).and_then(|held| canonical_arn(&held.arn)) else { return false };
            matches!(statuses.try_send(StatusToWrite { name: name.clone(), canonical_arn }), Err(mpsc::error::TrySendError::Full(_)))
        });
    }
}

/// As the reference writes it: in lower case.
fn canonical_arn(arn: &str) -> Option<String> {
    Arn::parse(&arn.to_ascii_lowercase()).ok().map(|arn| arn.canonical().to_string())
}

impl Sink for Mappings {
    type Object = IdentityMapping;

    fn replace(&mut self, objects: Vec<IdentityMapping>) {
        self.held = Arc::default();
        self.unwritten.clear();
        for object in objects {
            self.hold(object);
        }
    }

    fn put(&mut self, object: IdentityMapping) -> bool {
        let differs = self.hold(object);
        // Also where nothing else is to be done: there may be room again.
        self.write_statuses();
        differs
    }

    fn remove(&mut self, name: &str) -> bool {
        Arc::make_mut(&mut self.held).remove(name).is_some()
    }

    async fn publish(&mut self) {
        let (held, options) = (Arc::clone(&self.held), self.options);
        // Many objects take a while to read, and others have to be served meanwhile.
        let reading = tokio::task::spawn_blocking(move || crd::read(held.iter().map(|(name, held)| held.mapping(name)), &options));
        let read = match reading.await {
            Ok(read) => read,
            Err(error) => match error.try_into_panic() {
                // Whoever started us tells of it, and starts us again.
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => return,
            },
        };
        for finding in &read.findings {
            let Place::File { file, .. } = &finding.place else { continue };
            let Some((name, held)) = file.rsplit_once('/').and_then(|(_, name)| self.held.get_key_value(name)) else { continue };
            let about = About { api_version: API_VERSION, kind: "IAMIdentityMapping", namespace: "", name, uid: &held.uid };
            self.recorder.invalid(&about, std::iter::once(finding));
        }
        self.told.loaded(read);
        self.write_statuses();
    }

    fn failed(&mut self, trouble: &Trouble) {
        self.told.failed(if trouble.is_status(404) {
            "the custom resource iamidentitymappings.iamauthenticator.k8s.aws is not installed".to_owned()
        } else {
            trouble.to_string()
        });
    }
}

/// Writes statuses until nobody wants any more, or it is not permitted.
async fn write_statuses(connection: &Connection, mut wanted: mpsc::Receiver<StatusToWrite>, writes: Writes) {
    if writes == Writes::Nothing {
        return;
    }
    while let Some(StatusToWrite { name, canonical_arn }) = wanted.recv().await {
        let Ok(patch) = Content::merge_patch(&json!({"status": {"canonicalARN": canonical_arn}})) else { continue };
        let path = format!("{}/{}/status", COLLECTION.path, escaped(&name));
        match connection.ask(Method::PATCH, &path, Some(patch)).await {
            Ok(_) => {}
            Err(trouble) if trouble.is_status(403) || trouble.is_status(401) => {
                tracing::info!("no statuses are written: {trouble}");
                return;
            }
            // It is needed by nobody here.
            Err(trouble) => tracing::debug!(object = name, "its status was not written: {trouble}"),
        }
        sleep(STATUS_PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use arngate_server::mapping::BackendMode;
    use serde_json::Value;

    use super::*;
    use crate::followed::Followed;
    use crate::scripted::Question;

    /// Longer than it takes a change to be in force.
    const SETTLED: Duration = Duration::from_secs(1);

    fn begin() -> Followed {
        Followed::begin(BackendMode::Crd, follow)
    }

    fn object(name: &str, version: u32, generation: i64, user: &str, canonical: Option<&str>) -> Value {
        json!({
            "apiVersion": API_VERSION,
            "kind": "IAMIdentityMapping",
            "metadata": {"name": name, "uid": format!("u-{name}"), "resourceVersion": version.to_string(), "generation": generation},
            "spec": {"arn": format!("arn:aws:iam::123456789012:user/{user}"), "username": name, "groups": ["g"]},
            "status": canonical.map(|arn| json!({"canonicalARN": arn})),
        })
    }

    fn list(version: u32, objects: &[Value]) -> Value {
        json!({"metadata": {"resourceVersion": version.to_string()}, "items": objects})
    }

    /// The next request that is none of a watch, and the watch.
    async fn watch_and_status(followed: &mut Followed) -> (Question, Question) {
        let (first, second) = (followed.asked.next().await, followed.asked.next().await);
        if first.is_watch() { (first, second) } else { (second, first) }
    }

    #[tokio::test(start_paused = true)]
    async fn the_spec_counts_and_a_status_is_written_once_whoever_spoofs_it() {
        let mut followed = begin();
        let question = followed.asked.next().await;
        assert_eq!(question.path, "/apis/iamauthenticator.k8s.aws/v1alpha1/iamidentitymappings?fieldSelector=&limit=250&continue=");
        let spoofed = object("alice", 1, 1, "Alice", Some("arn:aws:iam::123456789012:user/eve"));
        let good = object("bob", 2, 1, "Bob", Some("arn:aws:iam::123456789012:user/bob"));
        question.answer(200, &list(2, &[spoofed.clone(), good])).await;
        let (watch, status) = watch_and_status(&mut followed).await;
        assert_eq!(
            (followed.who("Alice").as_str(), followed.who("Bob").as_str(), followed.who("eve").as_str()),
            ("alice", "bob", "not mapped")
        );
        assert_eq!((status.method.as_str(), status.content_type.as_str()), ("PATCH", "application/merge-patch+json"));
        assert_eq!(status.path, "/apis/iamauthenticator.k8s.aws/v1alpha1/iamidentitymappings/alice/status");
        assert_eq!(status.body, json!({"status": {"canonicalARN": "arn:aws:iam::123456789012:user/alice"}}));
        status.answer(200, &json!({})).await;
        // We hear of what we wrote, and of him who spoofs it again; neither is answered.
        let mut watch = watch.stream();
        let loads = followed.told("mappings are loaded");
        for version in 3..10 {
            let canonical = if version % 2 == 0 { "arn:aws:iam::123456789012:user/eve" } else { "arn:aws:iam::123456789012:user/alice" };
            watch.say("MODIFIED", object("alice", version, 1, "Alice", Some(canonical))).await;
            sleep(SETTLED).await;
        }
        assert!(followed.asked.is_quiet());
        assert_eq!((followed.who("Alice").as_str(), followed.told("mappings are loaded")), ("alice", loads));
        // Another spec is another generation.
        watch.say("MODIFIED", object("alice", 10, 2, "Carol", Some("arn:aws:iam::123456789012:user/alice"))).await;
        let status = followed.asked.next().await;
        assert_eq!(status.body, json!({"status": {"canonicalARN": "arn:aws:iam::123456789012:user/carol"}}));
        sleep(SETTLED).await;
        assert_eq!((followed.who("Alice").as_str(), followed.who("Carol").as_str()), ("not mapped", "alice"));
        watch.say("DELETED", object("alice", 11, 2, "Carol", None)).await;
        sleep(SETTLED).await;
        assert_eq!(followed.who("Carol"), "not mapped");
    }

    #[tokio::test(start_paused = true)]
    async fn a_status_is_never_needed() {
        let mut followed = begin();
        followed.asked.next().await.answer(200, &list(2, &[object("alice", 1, 1, "Alice", None), object("bob", 2, 1, "Bob", None)])).await;
        let (watch, status) = watch_and_status(&mut followed).await;
        status.answer(403, &json!({"message": "no statuses"})).await;
        let mut watch = watch.stream();
        watch.say("ADDED", object("carol", 3, 1, "Carol", None)).await;
        sleep(SETTLED).await;
        assert!(followed.asked.is_quiet(), "nobody insists");
        assert_eq!(["Alice", "Bob", "Carol"].map(|user| followed.who(user)), ["alice", "bob", "carol"]);
        assert_eq!(followed.told("no statuses are written"), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_only_looks_writes_nothing() {
        let mut followed = Followed::looking(BackendMode::Crd, follow);
        let objects = [object("alice", 1, 1, "Alice", None), json!({"metadata": {"name": "odd"}})];
        followed.asked.next().await.answer(200, &list(2, &objects)).await;
        let watch = followed.asked.next().await;
        sleep(SETTLED).await;
        assert!(watch.is_watch() && followed.asked.is_quiet());
        assert_eq!((followed.who("Alice").as_str(), followed.told("written")), ("alice", 0));
    }

    #[tokio::test(start_paused = true)]
    async fn many_statuses_are_all_written_one_after_the_other() {
        let mut followed = begin();
        let names: Vec<_> = (0..200).map(|index| format!("user-{index:03}")).collect();
        let objects: Vec<_> = names.iter().map(|name| object(name, 1, 1, name, None)).collect();
        followed.asked.next().await.answer(200, &list(2, &objects)).await;
        let (watch, mut question) = watch_and_status(&mut followed).await;
        let mut watch = watch.stream();
        let mut written = BTreeSet::new();
        loop {
            let name = question.path.rsplit('/').nth(1).unwrap().to_owned();
            let canonical = question.body["status"]["canonicalARN"].as_str().unwrap().to_owned();
            question.answer(200, &json!({})).await;
            // What the API server then tells all who watch.
            watch.say("MODIFIED", object(&name, 3, 1, &name, Some(&canonical))).await;
            assert!(written.insert(name));
            if written.len() == names.len() {
                break;
            }
            question = followed.asked.next().await;
        }
        sleep(SETTLED).await;
        assert!(followed.asked.is_quiet());
    }

    #[tokio::test(start_paused = true)]
    async fn where_the_resource_is_not_installed_the_mode_is_not_loaded_until_it_is() {
        let mut followed = begin();
        for _ in 0..6 {
            followed.asked.next().await.answer(404, &json!({"message": "404 page not found"})).await;
        }
        let question = followed.asked.next().await;
        assert_eq!((followed.who("Alice").as_str(), followed.told("is not installed")), ("not loaded", 1));
        question.answer(200, &list(1, &[])).await;
        let _watch = followed.asked.next().await;
        assert_eq!(followed.who("Alice"), "not mapped");
    }

    #[tokio::test(start_paused = true)]
    async fn odd_objects_are_left_out_and_the_others_count() {
        let mut followed = begin();
        let odd = [
            json!({"metadata": {"name": "a"}}),
            json!({"metadata": {"name": "b"}, "spec": []}),
            json!({"metadata": {"name": "c"}, "spec": {"arn": 1}, "status": 7}),
            json!({"metadata": {"name": "d"}, "spec": null, "status": null}),
            json!({"metadata": {"name": "e"}, "spec": {"arn": "arn:aws:iam::123456789012:user/Eve", "username": "e", "groups": "g"}}),
        ];
        let mut objects = odd.to_vec();
        objects.push(object("f", 1, 1, "Frank", Some("arn:aws:iam::123456789012:user/frank")));
        followed.asked.next().await.answer(200, &list(1, &objects)).await;
        // A few Events, and the watch.
        let mut about = BTreeSet::new();
        for _ in 0..6 {
            let question = followed.asked.next().await;
            if !question.is_watch() {
                about.insert(question.body["involvedObject"]["name"].as_str().unwrap().to_owned());
                question.answer(201, &json!({})).await;
            }
        }
        assert_eq!(about.into_iter().collect::<String>(), "abcde");
        assert_eq!((followed.who("Frank").as_str(), followed.who("Eve").as_str()), ("f", "not mapped"));
        assert_eq!(followed.metric("arngate_mapping_source_rejected_entries").as_deref(), Some("5"));
    }
}
