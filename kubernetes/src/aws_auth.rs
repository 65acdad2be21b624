//! EKSConfigMap: the ConfigMap `kube-system/aws-auth`, watched.
//!
//! upstream: pkg/mapper/configmap/configmap.go.

use std::collections::BTreeMap;
use std::sync::Arc;

use arngate_server::clock::Clock;
use arngate_server::mapping::config_map::AwsAuth;
use arngate_server::mapping::{Options, Reports};
use serde::Deserialize;

use crate::Writes;
use crate::connection::Connection;
use crate::event::{self, About, Recorder};
use crate::told::Told;
use crate::trouble::Trouble;
use crate::watch::{self, Collection, Metadata, Object, Sink};

/// The name of the ConfigMap.
pub(crate) const NAME: &str = "aws-auth";

/// Its namespace.
pub(crate) const NAMESPACE: &str = "kube-system";

/// Where it is; only it, for a cluster's other ConfigMaps are no business of ours and would fill our memory.
const COLLECTION: Collection = Collection { path: "/api/v1/namespaces/kube-system/configmaps", field_selector: "metadata.name=aws-auth" };

/// What is read of a ConfigMap.
#[derive(Debug, Deserialize)]
pub(crate) struct ConfigMap {
    pub(crate) metadata: Metadata,
    #[serde(default)]
    pub(crate) data: Option<BTreeMap<String, String>>,
}

impl Object for ConfigMap {
    fn metadata(&self) -> &Metadata {
        &self.metadata
    }
}

/// Follows aws-auth for ever.
pub(crate) async fn follow(connection: Arc<Connection>, options: Options, clock: Arc<dyn Clock>, writes: Writes, reports: Reports) {
    let (recorder, sender) = event::recorder(Arc::clone(&connection), clock);
    let mut mappings = Mappings { told: Told::new(reports), reader: Some(AwsAuth::new(options)), options, current: None, recorder };
    tokio::join!(watch::follow(&connection, COLLECTION, &mut mappings), sender.run(writes));
}

/// What aws-auth says, and who hears of it.
struct Mappings {
    told: Told,
    /// It knows what was last good of each key. Away while it reads.
    reader: Option<AwsAuth>,
    options: Options,
    current: Option<ConfigMap>,
    recorder: Recorder,
}

impl Sink for Mappings {
    type Object = ConfigMap;

    fn replace(&mut self, objects: Vec<ConfigMap>) {
        self.current = objects.into_iter().find(|object| object.metadata.name == NAME);
    }

    fn put(&mut self, object: ConfigMap) -> bool {
        let is_it = object.metadata.name == NAME;
        if is_it {
            self.current = Some(object);
        }
        is_it
    }

    fn remove(&mut self, name: &str) -> bool {
        let is_it = name == NAME;
        if is_it {
            self.current = None;
        }
        is_it
    }

    async fn publish(&mut self) {
        let mut reader = self.reader.take().unwrap_or_else(|| AwsAuth::new(self.options));
        let current = self.current.take();
        // A large text takes a while to read, and others have to be served meanwhile.
        let reading = tokio::task::spawn_blocking(move || {
            let none = BTreeMap::new();
            let read = reader.read(current.as_ref().map(|config_map| config_map.data.as_ref().unwrap_or(&none)));
            (reader, current, read)
        });
        let (reader, current, read) = match reading.await {
            Ok(read) => read,
            Err(error) => match error.try_into_panic() {
                // Whoever started us tells of it, and starts us again.
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => return,
            },
        };
        self.reader = Some(reader);
        if let Some(config_map) = &current {
            let about = About { api_version: "v1", kind: "ConfigMap", namespace: NAMESPACE, name: NAME, uid: &config_map.metadata.uid };
            self.recorder.invalid(&about, read.findings.iter());
        }
        // The texts are not needed again: what comes next is another list, or a whole ConfigMap.
        self.current = current.map(|config_map| ConfigMap { data: None, ..config_map });
        self.told.loaded(read);
    }

    fn failed(&mut self, trouble: &Trouble) {
        self.told.config_map_failed(trouble);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use arngate_server::mapping::BackendMode;
    use serde_json::{Value, json};
    use tokio::time::sleep;

    use super::*;
    use crate::followed::Followed;

    /// Longer than it takes a change to be in force.
    const SETTLED: Duration = Duration::from_secs(1);

    fn begin() -> Followed {
        Followed::begin(BackendMode::EksConfigMap, follow)
    }

    fn config_map(version: u32, users: &str) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "aws-auth", "namespace": "kube-system", "uid": "u-1", "resourceVersion": version.to_string(), "managedFields": [{}]},
            "data": {"mapUsers": users},
            "binaryData": {"x": "AA=="},
        })
    }

    fn list(version: u32, config_maps: &[Value]) -> Value {
        json!({"kind": "ConfigMapList", "metadata": {"resourceVersion": version.to_string()}, "items": config_maps})
    }

    fn user(name: &str) -> String {
        format!("- {{userarn: 'arn:aws:iam::123456789012:user/{name}', username: {name}}}\n")
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_mapped_where_there_is_none_and_that_is_an_answer() {
        let mut followed = begin();
        assert_eq!(followed.who("Alice"), "not loaded");
        let question = followed.asked.next().await;
        assert_eq!(question.path, "/api/v1/namespaces/kube-system/configmaps?fieldSelector=metadata.name%3Daws-auth&limit=250&continue=");
        question.answer(200, &list(1, &[])).await;
        let mut watch = followed.asked.next().await.stream();
        assert_eq!(followed.who("Alice"), "not mapped");
        // Made later. Another of which we did not ask to hear is none of ours.
        let mut other = config_map(2, &user("Eve"));
        other["metadata"]["name"] = "other".into();
        watch.say("ADDED", other).await;
        watch.say("ADDED", config_map(3, &user("Alice"))).await;
        sleep(SETTLED).await;
        assert_eq!((followed.who("Alice").as_str(), followed.who("Eve").as_str()), ("Alice", "not mapped"));
        watch.say("MODIFIED", json!({"metadata": {"name": "aws-auth", "resourceVersion": "4"}})).await;
        sleep(SETTLED).await;
        assert_eq!(followed.who("Alice"), "not mapped", "without data");
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_read_keeps_what_was_good_and_is_told_where_people_look() {
        let mut followed = begin();
        followed.asked.next().await.answer(200, &list(1, &[config_map(1, &user("Alice"))])).await;
        let mut watch = followed.asked.next().await.stream();
        watch.say("MODIFIED", config_map(2, "- userarn: [")).await;
        let event = followed.asked.next().await;
        assert_eq!((event.method.as_str(), event.path.as_str()), ("POST", "/api/v1/namespaces/kube-system/events"));
        assert_eq!(event.body["involvedObject"]["name"], "aws-auth");
        assert!(event.body["message"].as_str().unwrap().starts_with("invalid mappings: mapUsers (line 1); "), "{}", event.body);
        event.answer(201, &json!({})).await;
        assert_eq!(followed.who("Alice"), "Alice");
        assert_eq!(followed.metric("arngate_mapping_source_ok").as_deref(), Some("0"));
        watch.say("MODIFIED", config_map(3, &user("Bob"))).await;
        sleep(SETTLED).await;
        assert_eq!((followed.who("Alice").as_str(), followed.who("Bob").as_str()), ("not mapped", "Bob"));
        assert_eq!(followed.metric("arngate_mapping_source_ok").as_deref(), Some("1"));
        assert!(followed.asked.is_quiet());
    }

    #[tokio::test(start_paused = true)]
    async fn deleted_is_cleared_also_when_nobody_was_there_to_hear_it() {
        let mut followed = begin();
        followed.asked.next().await.answer(200, &list(1, &[config_map(1, &user("Alice"))])).await;
        let mut watch = followed.asked.next().await.stream();
        watch.say("DELETED", config_map(2, &user("Alice"))).await;
        sleep(SETTLED).await;
        assert_eq!(followed.who("Alice"), "not mapped");
        // Made and deleted before it was even looked at.
        watch.say("ADDED", config_map(3, &user("Alice"))).await;
        watch.say("DELETED", config_map(4, &user("Alice"))).await;
        sleep(SETTLED).await;
        assert_eq!(followed.who("Alice"), "not mapped");
        watch.say("ADDED", config_map(5, &user("Alice"))).await;
        sleep(SETTLED).await;
        assert_eq!(followed.who("Alice"), "Alice");
        // The API server goes away, and the ConfigMap meanwhile.
        drop(watch);
        followed.asked.next().await.refuse();
        let question = followed.asked.next().await;
        assert_eq!(followed.who("Alice"), "Alice", "while nobody can say");
        assert_eq!(followed.metric("arngate_mapping_source_ok").as_deref(), Some("0"));
        question.answer(200, &list(9, &[])).await;
        let _watch = followed.asked.next().await;
        assert_eq!(followed.who("Alice"), "not mapped");
        assert_eq!(followed.metric("arngate_mapping_source_ok").as_deref(), Some("1"));
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_trouble_is_told_once_and_counted_each_time() {
        let mut followed = begin();
        let denied = json!({"kind": "Status", "message": "configmaps is forbidden"});
        followed.asked.next().await.refuse();
        for _ in 0..5 {
            followed.asked.next().await.answer(403, &denied).await;
        }
        let question = followed.asked.next().await;
        assert_eq!((followed.told("configmaps is forbidden"), followed.told("connection refused")), (1, 1));
        assert_eq!(followed.metric("aws_iam_authenticator_configmap_watch_failures_total").as_deref(), Some("6"));
        assert_eq!(followed.who("Alice"), "not loaded");
        question.answer(200, &list(1, &[])).await;
        followed.asked.next().await.answer(403, &denied).await;
        let _next = followed.asked.next().await;
        assert_eq!(followed.told("configmaps is forbidden"), 2, "it was well in between");
    }
}
