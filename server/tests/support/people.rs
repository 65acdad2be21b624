//! Who there is, and what he is called.

use super::*;

/// One user of the examples' account, and nobody else.
pub fn only(user: &str, username: &str) -> Backend {
    let names = Names { username: username.into(), ..Names::default() };
    let mapping = Mapping::for_arn(format!("arn:aws:iam::{ACCOUNT}:user/{user}"), false, names).unwrap();
    Backend::new(vec![mapping], [].into())
}

pub(super) fn mappings(scrubbed: bool, whole_account: bool) -> Store {
    let names = |username: &str, groups: &[&str]| Names {
        username: username.into(),
        groups: groups.iter().map(|group| (*group).into()).collect(),
        ..Names::default()
    };
    let mapping = |arn: &str, username, groups: &[&str]| Mapping::for_arn(arn.into(), false, names(username, groups)).unwrap();
    let mappings = vec![
        mapping("arn:aws:iam::123456789012:user/Alice", "alice", &["system:masters", "dev ops"]),
        mapping("arn:aws:iam::123456789012:role/some/path/Admin", "admin:{{SessionName}}", &["admins:{{AccountID}}"]),
        mapping("arn:aws:iam::123456789012:role/Node", "system:node:{{EC2PrivateDNSName}}", &["system:nodes"]),
        mapping("arn:aws:iam::123456789012:user/Reserved", "system:reserved", &[]),
    ];
    let accounts = if whole_account { [ACCOUNT.to_owned()].into() } else { [].into() };
    let store = Store::new(Policy {
        modes: vec![BackendMode::MountedFile],
        reserved_prefixes: [(BackendMode::MountedFile, vec!["system:".into()])].into(),
        scrubbed_accounts: if scrubbed { [ACCOUNT.to_owned()].into() } else { [].into() },
    });
    store.publish(BackendMode::MountedFile, Backend::new(mappings, accounts));
    store
}

pub fn user(access_key_id: &str, name: &str) -> Credential {
    let identity = CallerIdentity::of_arn(format!("arn:aws:iam::123456789012:user/{name}"), "AIDAEXAMPLE").unwrap();
    Credential::new(access_key_id, EXAMPLE_SECRET, identity).unwrap()
}

/// Somebody whom nobody has mapped.
pub fn stranger() -> Credential {
    user("AKIAIOSFODNN7STRANGE", "Stranger")
}

/// Somebody whose mapping gives a name that it must not.
pub fn reserved() -> Credential {
    user("AKIAIOSFODNN7RESERVE", "Reserved")
}

/// A session of the role of nodes.
pub fn node(session: &str) -> Credential {
    let arn = format!("arn:aws:sts::123456789012:assumed-role/Node/{session}");
    let identity = CallerIdentity::of_arn(arn, format!("AROAEXAMPLE:{session}")).unwrap();
    Credential::new("ASIAIOSFODNN7NODENOD", EXAMPLE_SECRET, identity).unwrap().with_session_token("made-up")
}
