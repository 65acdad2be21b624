//! What is in `deploy/kubernetes` can be read, asks for no more than it may, and fits the server. (`cli/tests/mappings.rs` applies it to a real API server.)

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arngate_server::config::{self, Environment, Overrides};
use arngate_server::document::Node;
use arngate_server::document::tree::{self, Value};
use arngate_server::mapping::BackendMode;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/kubernetes")
}

/// The objects of a file.
fn objects(name: &str) -> Vec<Node> {
    let text = fs::read_to_string(folder().join(name)).unwrap();
    let file: Arc<str> = name.into();
    text.split("\n---\n").map(|text| tree::parse(&file, text.as_bytes()).unwrap()).collect()
}

/// The value at a path of keys and indexes; it must be there.
fn at<'a>(node: &'a Node, path: &str) -> &'a Node {
    path.split('/').fold(node, |node, key| {
        let found = match &node.value {
            Value::Map(entries) => entries.iter().find(|entry| entry.written == key).map(|entry| &entry.node),
            Value::List(items) => key.parse::<usize>().ok().and_then(|index| items.get(index)),
            Value::Null | Value::Text(_) => None,
        };
        found.unwrap_or_else(|| panic!("no {key} of {path}"))
    })
}

fn text<'a>(node: &'a Node, path: &str) -> &'a str {
    match &at(node, path).value {
        Value::Text(text) => text,
        other => panic!("{path}: {other:?}"),
    }
}

fn list<'a>(node: &'a Node, path: &str) -> &'a [Node] {
    match &at(node, path).value {
        Value::List(items) => items,
        other => panic!("{path}: {other:?}"),
    }
}

fn texts<'a>(node: &'a Node, path: &str) -> Vec<&'a str> {
    list(node, path)
        .iter()
        .map(|item| if let Value::Text(text) = &item.value { text.as_str() } else { panic!("{path}: {item:?}") })
        .collect()
}

#[test]
fn the_kustomization_has_all_of_it() {
    let kustomization = objects("kustomization.yaml");
    let listed: BTreeSet<_> = texts(&kustomization[0], "resources").into_iter().map(str::to_owned).collect();
    let files = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let there: BTreeSet<_> = files.filter(|name| name != "kustomization.yaml").collect();
    assert_eq!(listed, there);
    let version = text(&kustomization[0], "images/0/newTag");
    assert_eq!(version, env!("CARGO_PKG_VERSION"));
    let daemonset = &objects("daemonset.yaml")[0];
    let image = format!("{}:{version}", text(&kustomization[0], "images/0/name"));
    assert_eq!(text(daemonset, "spec/template/spec/containers/0/image"), image);
}

#[test]
fn the_custom_resource_is_the_one_that_is_watched() {
    let crd = &objects("crd.yaml")[0];
    assert_eq!(text(crd, "metadata/name"), "iamidentitymappings.iamauthenticator.k8s.aws");
    assert_eq!((text(crd, "spec/scope"), text(crd, "spec/names/kind")), ("Cluster", "IAMIdentityMapping"));
    assert_eq!((text(crd, "spec/versions/0/name"), text(crd, "spec/versions/0/served")), ("v1alpha1", "true"));
    at(crd, "spec/versions/0/subresources/status");
}

/// What the reference's own manifest gives it, and an installation may give us no more.
const PERMITTED: &[(&str, &[&str])] = &[
    ("iamidentitymappings", &["get", "list", "watch"]),
    ("iamidentitymappings/status", &["patch", "update"]),
    ("events", &["create", "update", "patch"]),
    ("configmaps", &["list", "watch"]),
];

#[test]
fn no_more_is_asked_for_than_the_reference_has() {
    let mut asked = BTreeSet::new();
    for object in objects("rbac.yaml") {
        let kind = text(&object, "kind");
        if !matches!(kind, "ClusterRole" | "Role") {
            assert!(["ClusterRoleBinding", "RoleBinding", "ServiceAccount"].contains(&kind), "{kind}");
            continue;
        }
        for rule in list(&object, "rules") {
            for resource in texts(rule, "resources") {
                let permitted = PERMITTED.iter().find(|(name, _)| *name == resource).unwrap_or_else(|| panic!("{resource}")).1;
                for verb in texts(rule, "verbs") {
                    assert!(permitted.contains(&verb), "{verb} {resource}");
                }
                // Only what is in no namespace is asked for everywhere.
                assert_eq!(kind == "ClusterRole", resource.starts_with("iamidentitymappings"), "{resource}");
                asked.insert(resource.to_owned());
            }
        }
    }
    assert_eq!(asked.len(), PERMITTED.len());
}

#[test]
fn the_daemonset_starts_with_its_settings_within_20_mib() {
    let daemonset = &objects("daemonset.yaml")[0];
    let container = at(daemonset, "spec/template/spec/containers/0");
    assert_eq!(text(container, "resources/limits/memory"), "20Mi");
    assert_eq!((text(container, "livenessProbe/httpGet/path"), text(container, "livenessProbe/httpGet/scheme")), ("/healthz", "HTTPS"));
    assert_eq!(text(container, "readinessProbe/httpGet/path"), "/readyz");
    let account = text(daemonset, "spec/template/spec/serviceAccountName");
    assert!(objects("rbac.yaml").iter().any(|object| text(object, "kind") == "ServiceAccount" && text(object, "metadata/name") == account));

    let config_map = &objects("config.yaml")[0];
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.yaml");
    fs::write(&file, text(config_map, "data/config.yaml")).unwrap();
    let overrides = Overrides { config: Some(file), ..Overrides::default() };
    let loaded = config::load(&overrides, &Environment::default()).unwrap();
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    let modes = [BackendMode::MountedFile, BackendMode::EksConfigMap, BackendMode::Crd];
    assert_eq!(loaded.value.mappings.policy.modes, modes);
    // The probes ask where it listens.
    assert_eq!(text(container, "livenessProbe/httpGet/port"), loaded.value.listen.port.to_string());
    assert_eq!(text(container, "readinessProbe/httpGet/port"), loaded.value.admin.address.port.to_string());
}
