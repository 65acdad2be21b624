//! What is in `deploy/` uses only metrics that exist, and the manual knows each of them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use arngate_core::StsHost;
use arngate_server::metrics::{DynamicKind, Metrics, StsRegion};

fn at(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// All names that look like metrics of ours.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let is_word = |character: char| character.is_ascii_alphanumeric() || character == '_';
    let words = text.split(move |character| !is_word(character));
    words.filter(|word| ["arngate_", "aws_iam_authenticator_"].iter().any(|prefix| word.starts_with(prefix))).map(str::to_owned).collect()
}

/// The names of all series that a server can show, as its families say: also of those that have no series yet.
fn exposed() -> BTreeSet<String> {
    let metrics = Metrics::new();
    // Families show themselves with their first series.
    let region = StsRegion::of(&StsHost::global());
    metrics.sts_response(200, region);
    metrics.sts_connection_failure(region);
    metrics.sts_throttled(region);
    metrics.ec2_response(200, region);
    metrics.ec2_connection_failure(region);
    metrics.refused("expired");
    metrics.mapping_source("MountedFile");
    metrics.dynamic_latency(DynamicKind::File, 1);
    let text = metrics.encode();
    let families = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let mut names = BTreeSet::new();
    for (name, kind) in families {
        if kind == "histogram" {
            names.extend(["_bucket", "_count", "_sum"].map(|part| format!("{name}{part}")));
        } else {
            names.insert(name.to_owned());
        }
    }
    names
}

#[test]
fn dashboard_and_alarms_use_only_metrics_that_exist() {
    let exposed = exposed();
    for path in ["deploy/grafana/arngate.json", "deploy/prometheus/arngate.yaml"] {
        let used = metrics_in(&fs::read_to_string(at(path)).unwrap());
        assert!(used.len() > 10, "{path}: {used:?}");
        let unknown: Vec<_> = used.difference(&exposed).collect();
        assert!(unknown.is_empty(), "{path} uses {unknown:?}");
    }
    let dashboard: serde_json::Value = serde_json::from_str(&fs::read_to_string(at("deploy/grafana/arngate.json")).unwrap()).unwrap();
    assert!(dashboard["panels"].as_array().unwrap().len() > 5);
}

#[test]
fn the_manual_knows_every_metric_and_every_alarm() {
    let manual = fs::read_to_string(at("docs/operations.md")).unwrap();
    let told = metrics_in(&manual);
    let family = |name: &String| ["_bucket", "_count", "_sum"].iter().find_map(|part| name.strip_suffix(part)).unwrap_or(name).to_owned();
    let missing: Vec<_> = exposed().iter().map(family).filter(|name| !told.contains(name)).collect();
    assert!(missing.is_empty(), "docs/operations.md does not have {missing:?}");
    let rules = fs::read_to_string(at("deploy/prometheus/arngate.yaml")).unwrap();
    let alarms: Vec<_> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alarms.len() > 5);
    for alarm in alarms {
        assert!(manual.contains(alarm), "docs/operations.md does not have {alarm}");
    }
}
