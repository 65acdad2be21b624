//! Whole files, through all layers.

use std::io::Write as _;
use std::time::Duration;

use arngate_core::{Identity, Partition};

use super::*;
use crate::http::respond::DenyStatus;
use crate::http::webhook::AccessLog;
use crate::mapping::BackendMode;
use crate::prover::sts::{Imds, Rate};

fn parsed(text: &str) -> Result<Document, ConfigErrors> {
    let file: Arc<str> = "config.yaml".into();
    tree::parse(&file, text.as_bytes()).map(|node| Document { file, node })
}

fn load(text: &str, overrides: &Overrides, environment: &Environment) -> Result<Loaded<Config>, ConfigErrors> {
    let document = parsed(text)?;
    let findings = Findings::default();
    let value = with_root(Some(&document), &findings, |root| server::read(root, overrides, environment));
    findings.into_result().map(|warnings| Loaded { value, warnings })
}

fn load_client(text: &str, overrides: &Overrides, environment: &Environment) -> Result<Loaded<ClientConfig>, ConfigErrors> {
    let document = parsed(text)?;
    let findings = Findings::default();
    let value = with_root(Some(&document), &findings, |root| client::read(root, overrides, environment));
    findings.into_result().map(|warnings| Loaded { value, warnings })
}

fn file(text: &str) -> Config {
    let loaded = load(text, &Overrides::default(), &Environment::default()).unwrap();
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    loaded.value
}

fn errors(text: &str) -> String {
    load(text, &Overrides::default(), &Environment::default()).unwrap_err().to_string()
}

fn warnings(text: &str) -> String {
    told(load(text, &Overrides::default(), &Environment::default()).unwrap().warnings)
}

fn told(warnings: Vec<Warning>) -> String {
    warnings.iter().map(|warning| format!("{warning}\n")).collect()
}

fn some(text: &str) -> Option<String> {
    Some(text.into())
}

#[test]
fn a_cluster_id_is_all_it_takes() {
    let config = file("clusterID: test\n");
    insta::assert_debug_snapshot!(config, @r#"
    Config {
        origin: None,
        cluster_id: "test",
        partition: Aws,
        region: None,
        region_source: Some(
            Imds {
                host: "169.254.169.254",
                port: 80,
            },
        ),
        clock_skew: 300s,
        provers: [
            Sts,
        ],
        offline: None,
        sts: StsSettings {
            endpoints: {},
            ca_files: [],
            regions: None,
            deadline: 5s,
            attempt_timeout: 2s,
            connect_timeout: 1s,
            max_in_flight: None,
            max_wait: 500ms,
            max_queued: 1024,
            max_known_keys: 8192,
            retry_percent: 10,
            rate: None,
        },
        cache: CacheSettings {
            ttl: 300s,
            max_bytes: None,
            negative_ttl: 30s,
            stale_if_down: true,
        },
        bounds: BoundSettings {
            max_connections: None,
            max_streams: None,
            max_waiters: None,
            max_flights: None,
            max_body_bytes: None,
            worker_threads: None,
        },
        listen: ListenSettings {
            address: 127.0.0.1,
            port: 21362,
            reuse_port: false,
        },
        clients: None,
        bootstrap: BootstrapSettings {
            hostname: "localhost",
            state_dir: "/var/aws-iam-authenticator",
            generate_kubeconfig: "/etc/kubernetes/aws-iam-authenticator/kubeconfig.yaml",
            kubeconfig_pregenerated: false,
            webhook_client: None,
        },
        admin: AdminSettings {
            address: AdminAddress {
                ip: None,
                port: 21363,
            },
            is_set: false,
        },
        answer: AnswerSettings {
            deny_status: Ok,
            access_log: Denied,
        },
        mappings: MappingSettings {
            policy: Policy {
                modes: [
                    MountedFile,
                ],
                reserved_prefixes: {},
                scrubbed_accounts: {},
            },
            modes_path: None,
            mounted: Backend {
                mappings: 0,
                accounts: 0,
                has_gaps: false,
                ..
            },
            options: Options {
                partition: Aws,
                arn_patterns: false,
                sso: Listed,
            },
            dynamic_file: None,
        },
        ec2: Ec2Settings {
            role_arn: None,
            source_arn: None,
            qps: 15,
            burst: 5,
            endpoints: {},
            ca_files: [],
        },
        kubernetes: KubernetesSettings {
            kubeconfig: None,
            master: None,
        },
        feature_gates: FeatureGates {
            configured_init_directories: false,
            iam_identity_mapping_crd: false,
            sso_role_match: None,
        },
    }
    "#);
}

#[test]
fn a_flag_beats_the_environment_and_that_the_file() {
    let text = "clusterID: file\nregion: eu-west-1\nserver: {port: 1, partition: aws-cn, sts: {deadline: 9s}}\n";
    let environment = Environment { cluster_id: some("environment"), aws_region: some("eu-west-2"), ..Environment::default() };
    let flags = Overrides {
        cluster_id: some("flag"),
        port: some("2"),
        partition: some("aws"),
        region: some("eu-west-3"),
        sts_deadline: some("3s"),
        ..Overrides::default()
    };
    let config = load(text, &flags, &environment).unwrap().value;
    assert_eq!((config.cluster_id.as_str(), config.listen.port, config.partition), ("flag", 2, Partition::Aws));
    assert_eq!((config.region.as_deref(), config.sts.deadline), (Some("eu-west-3"), Duration::from_secs(3)));
    let config = load(text, &Overrides::default(), &environment).unwrap().value;
    assert_eq!((config.cluster_id.as_str(), config.listen.port, config.partition), ("environment", 1, Partition::AwsCn));
    assert_eq!((config.region.as_deref(), config.sts.deadline), (Some("eu-west-1"), Duration::from_secs(9)));
    let config = load("clusterID: a\n", &Overrides::default(), &environment).unwrap().value;
    assert_eq!(config.region.as_deref(), Some("eu-west-2"));
    let empty = Environment { cluster_id: some(""), ..Environment::default() };
    assert_eq!(load(text, &Overrides::default(), &empty).unwrap().value.cluster_id, "file");
}

#[test]
fn the_machine_is_asked_for_the_region_only_where_nobody_tells_it_and_nobody_forbids_it() {
    let source = |text: &str, environment: Environment| load(text, &Overrides::default(), &environment).unwrap().value.region_source;
    let endpoint = |url| Environment { aws_ec2_metadata_service_endpoint: some(url), ..Environment::default() };
    let disabled = |value| Environment { aws_ec2_metadata_disabled: some(value), ..Environment::default() };
    assert_eq!(source("clusterID: a", Environment::default()), Some(Imds::link_local()));
    assert_eq!(source("clusterID: a", endpoint("http://127.0.0.1:1338")), Imds::parse("http://127.0.0.1:1338"));
    assert_eq!(source("clusterID: a", disabled("false")), Some(Imds::link_local()));
    for none in [
        source("clusterID: a", disabled("true")),
        source("clusterID: a", disabled("TRUE")),
        source("{clusterID: a, region: eu-west-1}", endpoint("http://127.0.0.1:1338")),
        source("{clusterID: a, server: {region: eu-west-1}}", Environment::default()),
        source("clusterID: a", Environment { aws_region: some("eu-west-1"), ..Environment::default() }),
        source("clusterID: a", Environment { aws_default_region: some("eu-west-1"), ..Environment::default() }),
        source("{clusterID: a, server: {provers: [offline], offline: {bundle: /}}}", Environment::default()),
    ] {
        assert_eq!(none, None);
    }
    let bad = load("clusterID: a", &Overrides::default(), &endpoint("https://x")).unwrap_err().to_string();
    insta::assert_snapshot!(bad, @r#"AWS_EC2_METADATA_SERVICE_ENDPOINT: expected http://host:port, found "https://x""#);
}

#[test]
fn regions_may_be_left_out_and_not_be_none() {
    let flag = Overrides { sts_regions: vec![String::new()], ..Overrides::default() };
    let text = "{clusterID: a, server: {sts: {regions: [eu-west-1]}}}";
    assert_eq!(file(text).sts.regions.as_deref(), Some(&["eu-west-1".to_owned()][..]));
    assert_eq!(load(text, &flag, &Environment::default()).unwrap().value.sts.regions, None);
    insta::assert_snapshot!(errors("{clusterID: a, server: {sts: {regions: []}}}"), @"config.yaml:1: server.sts.regions: expected at least one region");
}

#[test]
fn a_key_beside_its_flag_is_not_unknown() {
    let text = "
clusterID: a
server:
  port: 1
  address: 127.0.0.1
  hostname: a
  stateDir: a
  generateKubeconfig: a
  kubeconfigPregenerated: true
  kubeconfig: a
  master: a
  backendMode: x
  region: eu-west-1
  provers: [x]
  sts: {endpoints: {sts.amazonaws.com: 'https://a:1'}, caFile: x, regions: x, deadline: x, attemptTimeout: x, connectTimeout: x, maxInFlight: x, maxWait: x, maxQueued: x,
    maxKnownKeys: x, retryBudget: x, rate: 7, burst: x}
  clockSkew: x
  arnPatterns: true
  admin: {address: x}
  denyStatus: x
  accessLog: x
  reusePort: true
";
    let flags = Overrides {
        port: some("2"),
        address: some("::1"),
        hostname: some("b"),
        state_dir: some("b"),
        generate_kubeconfig: some("b"),
        kubeconfig_pregenerated: Some(false),
        kubeconfig: some("b"),
        master: some("b"),
        backend_mode: vec!["MountedFile".into()],
        region: some("eu-west-2"),
        provers: vec!["sts".into()],
        sts_ca_file: some(""),
        sts_endpoints: vec!["sts.amazonaws.com=https://b:2".into()],
        sts_regions: vec!["eu-west-1".into(), "eu-west-2,eu-west-3".into()],
        sts_deadline: some("1s"),
        sts_attempt_timeout: some("500ms"),
        sts_connect_timeout: some("100ms"),
        sts_max_in_flight: some("1"),
        sts_max_known_keys: some("3"),
        sts_max_queued: some("2"),
        sts_max_wait: some("50ms"),
        sts_retry_budget: some("0%"),
        sts_rate: some("none"),
        sts_burst: some(""),
        clock_skew: some("0"),
        arn_patterns: Some(false),
        admin_address: some(":1"),
        deny_status: some("403"),
        access_log: some("all"),
        reuse_port: Some(false),
        ..Overrides::default()
    };
    let loaded = load(text, &flags, &Environment::default()).unwrap();
    assert_eq!(told(loaded.warnings), "");
    let config = loaded.value;
    assert_eq!((config.listen.port, config.bootstrap.hostname.as_str(), config.bootstrap.kubeconfig_pregenerated), (2, "b", false));
    assert_eq!((config.region.as_deref(), config.provers.as_slice()), (Some("eu-west-2"), [ProverKind::Sts].as_slice()));
    assert_eq!(config.sts.endpoints.of("sts.amazonaws.com").map(|endpoint| endpoint.to_string()).as_deref(), Some("b:2"));
    assert_eq!(config.sts.regions.map(|regions| regions.len()), Some(3));
    assert_eq!((config.sts.deadline, config.sts.rate, config.clock_skew), (Duration::from_secs(1), None, Duration::ZERO));
    assert_eq!(config.answer, AnswerSettings { deny_status: DenyStatus::Forbidden, access_log: AccessLog::All });
}

#[test]
fn reads_each_setting() {
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, "").unwrap();
    let text = format!(
        "
CLUSTERID: 0123
Server:
  port: 8443
  hostname: node-1.example.com
  address: '[::]'
  stateDir: /state
  generateKubeconfig: /kube/config
  kubeconfigPregenerated: true
  partition: aws-us-gov
  kubeconfig: /kube/admin
  master: https://10.0.0.1:6443
  backendMode: MountedFile
  ec2DescribeInstancesRoleARN: arn:aws-us-gov:iam::123456789012:role/Ec2
  sourceARN: arn:aws-us-gov:eks:us-gov-west-1:123456789012:cluster/c
  ec2DescribeInstancesQps: 20
  ec2DescribeInstancesBurst: 6
  scrubbedAccounts: [012345678901]
  mapRoles:
  - rolearn: arn:aws-us-gov:iam::123456789012:role/*
    username: system:x
  mapAccounts: [123456789012]
  reservedPrefixConfig:
  - backendmode: MountedFile
    usernamePrefixReserveList: ['system:']
  provers: [sts, offline]
  offline: {{bundle: {folder}}}
  sts:
    endpoints: {{STS.us-gov-west-1.amazonaws.com: 'https://10.1.2.3:8443'}}
    caFile: {ca}
    regions: us-gov-west-1, us-gov-east-1
    deadline: 4s
    attemptTimeout: 1s500ms
    connectTimeout: 700ms
    maxInFlight: 8
    maxWait: 0s
    maxQueued: 12
    maxKnownKeys: 100
    retryBudget: 20%
    rate: 100
    burst: 10
  clockSkew: 1m
  arnPatterns: true
  region: us-gov-west-1
  admin: {{address: 127.0.0.1:9000}}
  denyStatus: 403
  accessLog: none
",
        folder = folder.path().display(),
        ca = ca.display(),
    );
    let loaded = load(&text, &Overrides::default(), &Environment::default()).unwrap();
    assert_eq!(told(loaded.warnings), "");
    let config = loaded.value;
    assert_eq!((config.cluster_id.as_str(), config.partition), ("0123", Partition::AwsUsGov));
    assert_eq!(config.listen, ListenSettings { address: "::".parse().unwrap(), port: 8443, reuse_port: false });
    let bootstrap = BootstrapSettings {
        hostname: "node-1.example.com".into(),
        state_dir: "/state".into(),
        generate_kubeconfig: "/kube/config".into(),
        kubeconfig_pregenerated: true,
        webhook_client: None,
    };
    assert_eq!(config.bootstrap, bootstrap);
    assert_eq!(config.kubernetes.master.as_deref(), Some("https://10.0.0.1:6443"));
    assert_eq!((config.ec2.qps, config.ec2.burst), (20, 6));
    assert_eq!(config.provers, [ProverKind::Sts, ProverKind::Offline]);
    assert_eq!(config.offline.unwrap().bundle, folder.path());
    let endpoint = config.sts.endpoints.of("sts.us-gov-west-1.amazonaws.com").map(|endpoint| endpoint.to_string());
    assert_eq!(endpoint.as_deref(), Some("10.1.2.3:8443"));
    assert_eq!(config.sts.ca_files, [ca]);
    assert_eq!(config.sts.regions.as_deref(), Some(["us-gov-west-1".to_owned(), "us-gov-east-1".to_owned()].as_slice()));
    assert_eq!((config.sts.deadline, config.sts.attempt_timeout), (Duration::from_secs(4), Duration::from_millis(1500)));
    assert_eq!((config.sts.connect_timeout, config.sts.max_wait), (Duration::from_millis(700), Duration::ZERO));
    assert_eq!((config.sts.max_queued, config.sts.max_known_keys, config.sts.retry_percent), (12, 100, 20));
    assert_eq!((config.sts.max_in_flight, config.sts.rate), (Some(8), Some(Rate { per_second: 100, burst: 10 })));
    assert_eq!((config.clock_skew, config.region.as_deref()), (Duration::from_secs(60), Some("us-gov-west-1")));
    let admin = AdminAddress { ip: "127.0.0.1".parse().ok(), port: 9000 };
    assert_eq!(config.admin, AdminSettings { address: admin, is_set: true });
    assert_eq!(config.answer, AnswerSettings { deny_status: DenyStatus::Forbidden, access_log: AccessLog::None });
    let policy = config.mappings.policy;
    assert!(policy.scrubbed_accounts.contains("012345678901"));
    assert_eq!(policy.reserved_prefixes[&BackendMode::MountedFile], ["system:"]);
    let arn = "arn:aws-us-gov:sts::123456789012:assumed-role/A/s";
    let identity = Identity::check(Partition::AwsUsGov, "123456789012", arn, "AROA:s").unwrap();
    let mounted = config.mappings.mounted;
    assert!(mounted.find(&identity).is_some_and(|mapping| mapping.username().as_str().starts_with("system:")));
}

#[test]
fn json_is_read_by_the_same_reader() {
    let config = file(r#"{"clusterID": "json", "server": {"port": 1, "kubeconfigPregenerated": true, "denyStatus": 403}}"#);
    assert_eq!((config.cluster_id.as_str(), config.listen.port), ("json", 1));
    assert!(config.bootstrap.kubeconfig_pregenerated);
}

#[test]
fn a_bundle_alone_makes_both_provers() {
    let folder = tempfile::tempdir().unwrap();
    let flags = Overrides { offline_bundle: Some(folder.path().display().to_string()), ..Overrides::default() };
    let config = load("clusterID: a", &flags, &Environment::default()).unwrap().value;
    assert_eq!(config.provers, [ProverKind::Offline, ProverKind::Sts]);
}

#[test]
fn the_reference_s_name_logs_every_decision() {
    let called = Overrides { called_as_reference: true, ..Overrides::default() };
    assert_eq!(load("clusterID: a", &called, &Environment::default()).unwrap().value.answer.access_log, AccessLog::All);
    assert_eq!(
        load("{clusterID: a, server: {accessLog: none}}", &called, &Environment::default()).unwrap().value.answer.access_log,
        AccessLog::None
    );
}

#[test]
fn tells_every_error_at_once() {
    insta::assert_snapshot!(errors("
server:
  port: 70000
  hostname: a/b
  address: example.com
  partition: aws-moon
  kubeconfigPregenerated: maybe
  region: EU West
  ec2DescribeInstancesQps: 0
  scrubbedAccounts: [1234]
  provers: [offline, magic, sts, sts]
  sts:
    endpoints:
      sts.eu-west-1.amazonaws.com: http://10.1.2.3
      sts.cn-north-1.amazonaws.com.cn: https://10.1.2.3:443
      example.com: https://10.1.2.3:443
      sts.amazonaws.com: [a]
    caFile: /nonexistent/ca.pem
    regions: [eu-west-1, cn-north-1]
    deadline: 1m
    attemptTimeout: 6s
    connectTimeout: 7s
    maxInFlight: many
    maxWait: 6s
    maxQueued: -1
    maxKnownKeys: 1e3
    retryBudget: 10
    rate: fast
  cache: {ttl: 1h, maxBytes: 8, negativeTtl: x, staleIfDown: y}
  clockSkew: 16m
  arnPatterns: 2
  admin: {address: 21363}
  denyStatus: 401
  accessLog: some
  clientCAFile: /ca.pem
  clientNames: [kube-apiserver, other]
  webhookClient: {certificate: /a, key: /b}
"), @r#"
    no cluster ID: expected --cluster-id, KUBERNETES_AWS_AUTHENTICATOR_CLUSTER_ID or clusterID in the configuration file
    config.yaml:3: server.port: expected a number from 0 to 65535, found "70000"
    config.yaml:4: server.hostname: expected a host name or an IP address, found "a/b"
    config.yaml:5: server.address: expected an IP address such as 127.0.0.1 or 0.0.0.0, found "example.com"
    config.yaml:6: server.partition: expected a partition, one of aws, aws-cn, aws-us-gov, aws-iso, aws-iso-b, aws-iso-e, aws-iso-f, aws-eusc, found "aws-moon"
    config.yaml:7: server.kubeconfigPregenerated: expected true or false, found "maybe"
    config.yaml:8: server.region: expected a region such as eu-west-1, found "EU West"
    config.yaml:9: server.ec2DescribeInstancesQps: expected a number from 1 to 100000, found "0"
    config.yaml:10: server.scrubbedAccounts[0]: expected 12 digits
    config.yaml:11: server.provers[0]: offline needs server.offline.bundle (--offline-bundle)
    config.yaml:11: server.provers[1]: expected offline or sts, found "magic"
    config.yaml:11: server.provers[3]: sts is there twice
    config.yaml:14: server.sts.endpoints.sts.eu-west-1.amazonaws.com: expected https://host:port and nothing else, found "http://10.1.2.3"
    config.yaml:15: server.sts.endpoints.sts.cn-north-1.amazonaws.com.cn: "sts.cn-north-1.amazonaws.com.cn" is a host of STS in another partition
    config.yaml:16: server.sts.endpoints.example.com: expected a host of STS, found "example.com"
    config.yaml:17: server.sts.endpoints.sts.amazonaws.com: expected text, found a list
    config.yaml:18: server.sts.caFile: cannot read "/nonexistent/ca.pem": No such file or directory (os error 2)
    config.yaml:19: server.sts.regions[1]: expected a region of the partition aws, found "cn-north-1"
    config.yaml:20: server.sts.deadline: expected a duration from 1ms to 30s, found "1m"
    config.yaml:21: server.sts.attemptTimeout: expected no more than the deadline, which is 5s, found 6s
    config.yaml:22: server.sts.connectTimeout: expected no more than the time of an attempt, which is 6s, found 7s
    config.yaml:23: server.sts.maxInFlight: expected a number from 1 to 4096, found "many"
    config.yaml:24: server.sts.maxWait: expected no more than the deadline, which is 5s, found 6s
    config.yaml:25: server.sts.maxQueued: expected a number from 0 to 16384, found "-1"
    config.yaml:26: server.sts.maxKnownKeys: expected a number from 0 to 1000000, found "1e3"
    config.yaml:27: server.sts.retryBudget: expected a percentage from 0% to 100%, found "10"
    config.yaml:28: server.sts.rate: expected none or a number from 1 to 100000, found "fast"
    config.yaml:29: server.cache.ttl: expected a duration from 0s to 15m, found "1h"
    config.yaml:29: server.cache.maxBytes: expected a size with its unit, such as 512KiB or 8MiB, found "8"
    config.yaml:29: server.cache.negativeTtl: expected a duration with its unit, such as 500ms, 5s or 1m30s, found "x"
    config.yaml:29: server.cache.staleIfDown: expected true or false, found "y"
    config.yaml:30: server.clockSkew: expected a duration from 0s to 15m, found "16m"
    config.yaml:31: server.arnPatterns: expected true or false, found "2"
    config.yaml:32: server.admin.address: expected address:port, such as 127.0.0.1:21363 or :21363, found "21363"
    config.yaml:33: server.denyStatus: expected 200 or 403, found "401"
    config.yaml:34: server.accessLog: expected all, denied or none, found "some"
    "#);
    insta::assert_snapshot!(errors("clusterID: ' '\n"), @"config.yaml:1: clusterID: the cluster ID is empty");
    insta::assert_snapshot!(errors("- a\n"), @r#"
    no cluster ID: expected --cluster-id, KUBERNETES_AWS_AUTHENTICATOR_CLUSTER_ID or clusterID in the configuration file
    config.yaml:1: expected a map, found a list
    "#);
}

#[test]
fn says_which_flag_or_variable_is_wrong() {
    let flags = Overrides {
        port: some("x"),
        sts_deadline: some("5"),
        backend_mode: vec!["MountedFile,Mounted".into()],
        sts_endpoints: vec!["sts.amazonaws.com".into(), "sts.amazonaws.com=https://a:1,x=https://a:1,sts.amazonaws.com=https://b:1".into()],
        cluster_id: some(""),
        ..Overrides::default()
    };
    let environment =
        Environment { aws_region: some("?"), aws_ca_bundle: some("/nonexistent"), cluster_id: some("unused"), ..Environment::default() };
    insta::assert_snapshot!(load("", &flags, &environment).unwrap_err(), @r#"
    no cluster ID: expected --cluster-id, KUBERNETES_AWS_AUTHENTICATOR_CLUSTER_ID or clusterID in the configuration file
    AWS_REGION: expected a region such as eu-west-1, found "?"
    --sts-endpoints: expected host=https://host:port, found "sts.amazonaws.com"
    --sts-endpoints: expected a host of STS, found "x"
    --sts-endpoints: the host is there twice: "sts.amazonaws.com"
    --sts-deadline: expected a duration with its unit, such as 500ms, 5s or 1m30s, found "5"
    AWS_CA_BUNDLE: cannot read "/nonexistent": No such file or directory (os error 2)
    --port: expected a number from 0 to 65535, found "x"
    --backend-mode: expected a backend mode, one of MountedFile, EKSConfigMap, CRD, DynamicFile, found "Mounted"
    "#);
}

#[test]
fn bounds_that_are_not_set_are_left_to_the_memory_limit() {
    assert_eq!(file("clusterID: a\n").bounds, BoundSettings::default());
    let text =
        "clusterID: a\nserver: {maxConnections: 7, maxStreams: 8, maxWaiters: 9, maxFlights: 10, maxBodyBytes: 1MiB, workerThreads: 3}\n";
    let set = BoundSettings {
        max_connections: Some(7),
        max_streams: Some(8),
        max_waiters: Some(9),
        max_flights: Some(10),
        max_body_bytes: Some(1 << 20),
        worker_threads: Some(3),
    };
    assert_eq!(file(text).bounds, set);
    let flags = Overrides { max_connections: some("70"), max_body_bytes: some("64KiB"), worker_threads: some("1"), ..Overrides::default() };
    let bounds = load(text, &flags, &Environment::default()).unwrap().value.bounds;
    assert_eq!(bounds, BoundSettings { max_connections: Some(70), max_body_bytes: Some(64 << 10), worker_threads: Some(1), ..set });
    insta::assert_snapshot!(errors("
clusterID: a
server: {maxConnections: 0, maxStreams: x, maxWaiters: -1, maxFlights: 2000000, maxBodyBytes: 1KiB, workerThreads: 0}
"), @r#"
    config.yaml:3: server.maxConnections: expected a number from 1 to 1048576, found "0"
    config.yaml:3: server.maxStreams: expected a number from 1 to 1048576, found "x"
    config.yaml:3: server.maxWaiters: expected a number from 1 to 1048576, found "-1"
    config.yaml:3: server.maxFlights: expected a number from 1 to 1048576, found "2000000"
    config.yaml:3: server.maxBodyBytes: expected a size from 65536 to 68719476736 bytes, found "1KiB"
    config.yaml:3: server.workerThreads: expected a number from 1 to 1024, found "0"
    "#);
}

#[test]
fn who_may_ask_takes_an_authority_and_names_and_what_to_show() {
    let text = "
clusterID: a
server:
  clientCAFile: /ca.pem
  clientNames: [kube-apiserver, other]
  webhookClient: {certificate: /a, key: /b}
  reusePort: true
";
    let config = file(text);
    let clients = ClientSettings { ca_file: "/ca.pem".into(), names: vec!["kube-apiserver".into(), "other".into()] };
    assert_eq!(config.clients, Some(clients));
    let shown = WebhookClientSettings { certificate: "/a".into(), key: "/b".into() };
    assert_eq!((config.bootstrap.webhook_client, config.listen.reuse_port), (Some(shown), true));
    let server = |text: &str| format!("clusterID: a\nserver: {{{text}}}\n");
    assert_eq!(file(&server("clientCAFile: /ca.pem, clientNames: x, kubeconfigPregenerated: true")).bootstrap.webhook_client, None);
    insta::assert_snapshot!(errors(&server("clientCAFile: /ca.pem")), @r#"
    config.yaml:2: server.clientCAFile: needs server.clientNames: without, whoever has a certificate of that authority may ask
    config.yaml:2: server.clientCAFile: needs server.webhookClient with certificate and key: the webhook kubeconfig must name what the API server is to show
    "#);
    insta::assert_snapshot!(errors(&server("clientNames: [a]")), @"config.yaml:2: server.clientNames[0]: needs server.clientCAFile");
    insta::assert_snapshot!(errors(&server("webhookClient: {key: a}")), @"config.yaml:2: server.webhookClient.key: needs its certificate beside it: server.webhookClient.certificate");
    insta::assert_snapshot!(warnings(&server("webhookClient: {key: a, certificate: b}")), @"config.yaml:2: server.webhookClient.certificate: nobody is asked for a certificate without server.clientCAFile");
}

#[test]
fn checks_backend_modes_and_what_belongs_to_them() {
    let modes = |text: &str| errors(&format!("clusterID: a\nserver: {{{text}}}\n"));
    assert_eq!(
        file("clusterID: a\nserver: {backendMode: 'EKSConfigMap CRD'}\n").mappings.policy.modes,
        [BackendMode::EksConfigMap, BackendMode::Crd]
    );
    let dynamic =
        file("{clusterID: a, server: {backendMode: [DynamicFile, MountedFile], dynamicfilepath: /x, dynamicfileUserIDStrict: 1}}");
    assert_eq!(dynamic.mappings.dynamic_file, Some(crate::mapping::dynamic_file::Settings { path: "/x".into(), user_id_strict: true }));
    insta::assert_snapshot!(modes("backendMode: [MountedFile, MountedFile, mountedfile, Nothing]"), @r#"
    config.yaml:2: server.backendMode[1]: the backend mode MountedFile is there twice
    config.yaml:2: server.backendMode[2]: expected a backend mode, one of MountedFile, EKSConfigMap, CRD, DynamicFile, found "mountedfile"; did you mean MountedFile?
    config.yaml:2: server.backendMode[3]: expected a backend mode, one of MountedFile, EKSConfigMap, CRD, DynamicFile, found "Nothing"
    "#);
    insta::assert_snapshot!(modes("backendMode: [File, MountedFile]"), @"config.yaml:2: server.backendMode[1]: the backend mode MountedFile is there twice");
    insta::assert_snapshot!(modes("backendMode: []"), @"config.yaml:2: server.backendMode: expected at least one backend mode");
    insta::assert_snapshot!(modes("backendMode: ''"), @"config.yaml:2: server.backendMode: expected at least one backend mode");
    insta::assert_snapshot!(modes("backendMode: DynamicFile"), @"config.yaml:2: server.backendMode: the backend mode DynamicFile needs server.dynamicfilepath");
    insta::assert_snapshot!(modes("dynamicfilepath: /x"), @"config.yaml:2: server.dynamicfilepath: needs the backend mode DynamicFile");
    let changing =
        file("{clusterID: a, server: {dynamicBackendModePath: /x, dynamicfilepath: /y, reservedPrefixConfig: [{backendmode: CRD}]}}")
            .mappings;
    assert_eq!((changing.modes_path, changing.policy.modes), (Some("/x".into()), vec![BackendMode::MountedFile]));
    assert_eq!(changing.dynamic_file.map(|dynamic| dynamic.path), Some("/y".into()));
    insta::assert_snapshot!(modes("reservedPrefixConfig: [{backendmode: X}, {usernamePrefixReserveList: [a]}, text]"), @r#"
    config.yaml:2: server.reservedPrefixConfig[0].backendmode: expected a backend mode, one of MountedFile, EKSConfigMap, CRD, DynamicFile, found "X"
    config.yaml:2: server.reservedPrefixConfig[1]: expected backendmode
    config.yaml:2: server.reservedPrefixConfig[2]: expected a map, found text
    "#);
}

#[test]
fn warns_of_what_has_no_effect() {
    insta::assert_snapshot!(warnings("
clusterID: a
clusterName: b
role: x
defaultRole: y
log-verbosity: debug
server:
  backendMode: File
  prot: 1
  region: us-gov-west-1
  reusePort: true
  cache: {ttl: 5m, maxBytes: 8MiB, negativeTtl: 30s, staleIfDown: false, size: 1}
  sts: {burst: 5, dedline: 5s, regions: [eu-west-1]}
  offline: {keys: x}
  reservedPrefixConfig:
  - {backendmode: CRD, usernamePrefixReserveList: [a]}
  - {backendmode: File, usernamePrefixReserveList: ['', b]}
  - {backendmode: MountedFile, usernamePrefixReserveList: c}
  mapRoles:
  - sso: {permissionSetName: Admin, accountID: 123456789012}
"), @r#"
    config.yaml:3: unknown key "clusterName"
    config.yaml:5: defaultRole: has no effect beside role
    config.yaml:6: unknown key "log-verbosity"
    config.yaml:8: server.backendMode: the backend mode File is deprecated: use MountedFile
    config.yaml:9: server: unknown key "prot"; did you mean port?
    config.yaml:10: server.region: us-gov-west-1 is a region of the partition aws-us-gov, not of aws
    config.yaml:12: server.cache: unknown key "size"
    config.yaml:13: server.sts.burst: has no effect without a rate
    config.yaml:13: server.sts: unknown key "dedline"; did you mean deadline?
    config.yaml:14: server.offline: unknown key "keys"
    config.yaml:16: server.reservedPrefixConfig[0]: has no effect, for CRD is not among the backend modes
    config.yaml:17: server.reservedPrefixConfig[1].backendmode: the backend mode File is deprecated: use MountedFile
    config.yaml:17: server.reservedPrefixConfig[1].usernamePrefixReserveList[0]: an empty prefix reserves nothing
    config.yaml:18: server.reservedPrefixConfig[2]: replaces an entry before it for MountedFile
    config.yaml:20: server.mapRoles[0]: SSO entries count without the feature gate SSORoleMatch, which the reference wants: 1 of them, in line 20
    "#);
    let environment =
        Environment { aws_endpoint_url: some("https://x"), aws_endpoint_url_sts: some("https://y"), ..Environment::default() };
    insta::assert_snapshot!(told(load("clusterID: a", &Overrides::default(), &environment).unwrap().warnings), @r#"
    AWS_ENDPOINT_URL: is for clients, and tokens are not proved there: use server.sts.endpoints
    AWS_ENDPOINT_URL_STS: is for clients, and tokens are not proved there: use server.sts.endpoints
    "#);
    let sts_only = Overrides { provers: vec!["sts".into()], offline_bundle: some("/nonexistent"), ..Overrides::default() };
    insta::assert_snapshot!(told(load("clusterID: a", &sts_only, &Environment::default()).unwrap().warnings), @"--offline-bundle: has no effect, for offline is not among server.provers");
}

#[test]
fn a_client_reads_its_own_settings() {
    let text =
        "clusterID: a\ndefaultRole: r\nregion: eu-west-1\nexternalID: 0123\nsessionName: s\ntokenOnly: true\nserver: {nonsense: 1}\n";
    let loaded = load_client(text, &Overrides::default(), &Environment::default()).unwrap();
    assert!(loaded.warnings.is_empty());
    let expected = ClientConfig {
        cluster_id: some("a"),
        role: some("r"),
        region: some("eu-west-1"),
        external_id: some("0123"),
        session_name: some("s"),
        forward_session_name: false,
        token_only: true,
        cache: false,
        partition: Partition::Aws,
    };
    assert_eq!(loaded.value, expected);
    let environment = Environment { default_role: some("e"), cluster_id: some("c"), ..Environment::default() };
    let flags = Overrides { partition: some("aws-cn"), token_only: Some(false), session_name: some(""), ..Overrides::default() };
    let config = load_client(text, &flags, &environment).unwrap().value;
    assert_eq!((config.role, config.cluster_id, config.session_name), (some("e"), some("c"), None));
    assert_eq!((config.partition, config.token_only), (Partition::AwsCn, false));
    assert_eq!(load_client("", &Overrides::default(), &Environment::default()).unwrap().value.cluster_id, None);
    let wrong = Overrides { cluster_id: some("a\nb"), partition: some("x"), feature_gates: vec!["X=true".into()], ..Overrides::default() };
    insta::assert_snapshot!(load_client("tokenOnly: maybe", &wrong, &Environment::default()).unwrap_err(), @r#"
    --feature-gates: unrecognized feature gate: X
    --cluster-id: the cluster ID has a control character or one outside ASCII, which no HTTP header can carry
    --partition: expected a partition, one of aws, aws-cn, aws-us-gov, aws-iso, aws-iso-b, aws-iso-e, aws-iso-f, aws-eusc, found "x"
    config.yaml:1: tokenOnly: expected true or false, found "maybe"
    "#);
}

#[test]
fn a_file_that_cannot_be_read_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let overrides = |path: &Path| Overrides { config: Some(path.to_owned()), ..Overrides::default() };
    let error = |path: &Path| {
        let error = super::load(&overrides(path), &Environment::default()).unwrap_err().to_string();
        error.replace(&folder.path().display().to_string(), "FOLDER")
    };
    insta::assert_snapshot!(error(&folder.path().join("missing.yaml")), @"FOLDER/missing.yaml: cannot read the configuration file: No such file or directory (os error 2)");
    insta::assert_snapshot!(error(folder.path()), @"FOLDER: cannot read the configuration file: Is a directory (os error 21)");
    let path = folder.path().join("large.yaml");
    std::fs::write(&path, vec![b'#'; 2 << 20]).unwrap();
    insta::assert_snapshot!(error(&path), @"FOLDER/large.yaml: the file has more than 1048576 bytes, which are the most that is read");
    std::fs::File::create(&path).unwrap().write_all(b"clusterID: a\nclusterid: b\n").unwrap();
    insta::assert_snapshot!(error(&path), @r#"FOLDER/large.yaml:2: the key "clusterid" is already in line 1 (upper and lower case do not count)"#);
    std::fs::write(&path, "clusterID: a\n").unwrap();
    assert_eq!(super::load(&overrides(&path), &Environment::default()).unwrap().value.cluster_id, "a");
    assert_eq!(super::load_client(&overrides(&path), &Environment::default()).unwrap().value.cluster_id.as_deref(), Some("a"));
}

#[test]
fn how_to_log_is_known_before_the_file() {
    let read = |format: Option<&str>, verbosity: Option<&str>, variable: Option<&str>| {
        let overrides = Overrides { log_format: format.map(Into::into), log_verbosity: verbosity.map(Into::into), ..Overrides::default() };
        let loaded = load_log(&overrides, &Environment { log_verbosity: variable.map(Into::into), ..Environment::default() });
        loaded.map(|loaded| (loaded.value, told(loaded.warnings))).map_err(|errors| errors.to_string())
    };
    let text = |verbosity| LogSettings { format: LogFormat::Text, verbosity };
    assert_eq!(read(None, None, None), Ok((text(LogVerbosity::Info), String::new())));
    assert_eq!(read(Some("text"), Some("WARN"), Some("debug")), Ok((text(LogVerbosity::Warning), String::new())));
    assert_eq!(read(None, None, Some("debug")), Ok((text(LogVerbosity::Debug), String::new())));
    let json = LogSettings { format: LogFormat::Json, verbosity: LogVerbosity::Trace };
    assert_eq!(read(Some("json"), Some("trace"), None), Ok((json, String::new())));
    insta::assert_snapshot!(read(Some("xml"), None, None).unwrap().1, @r#"--log-format: expected text or json, found "xml"; text it is"#);
    insta::assert_snapshot!(read(None, Some("loud"), None).unwrap_err(), @r#"--log-verbosity: expected panic, fatal, error, warning, info, debug or trace, found "loud""#);
}

proptest::proptest! {
    #[test]
    fn no_document_makes_it_panic(
        key in "(server|clusterID|mapRoles|mapUsers|mapAccounts|sts|cache|provers|endpoints|backendMode|port|clockSkew|sso|rolearn)",
        value in "([-a-z0-9:,\\[\\]{} '\"*?/]|\n  |arn:aws:iam::123456789012:role/|\u{1b}|é){0,40}",
    ) {
        for text in [format!("{key}: {value}"), format!("server:\n  {key}: {value}"), format!("server: {{mapRoles: [{{{key}: {value}}}]}}")] {
            let _ = load(&text, &Overrides::default(), &Environment::default());
        }
    }
}
