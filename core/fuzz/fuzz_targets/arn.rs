//! Two lines, each read as an ARN, and compared.
#![no_main]

use arngate_core::Partition;
use arngate_core::arn::{Arn, Principal};
use libfuzzer_sys::fuzz_target;

/// What an ARN must be, read once more: partition, account, what the key has behind the account, and the canonical form.
struct Reading {
    partition: &'static str,
    account: String,
    key: String,
    canonical: String,
}

impl Reading {
    fn of(text: &str) -> Option<Self> {
        if text.len() > 2048 || !text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) {
            return None;
        }
        let parts: Vec<&str> = text.splitn(6, ':').collect();
        let [arn, partition, service, "", account, resource] = parts[..] else { return None };
        let partition = Partition::ALL.into_iter().map(Partition::name).find(|name| *name == partition.to_ascii_lowercase())?;
        let segments: Vec<&str> = resource.split('/').collect();
        let is_good = arn.eq_ignore_ascii_case("arn")
            && account.len() == 12
            && account.bytes().all(|byte| byte.is_ascii_digit())
            && segments.iter().all(|segment| !segment.is_empty());
        if !is_good {
            return None;
        }
        let (kind, rest) = segments.split_first()?;
        let (key, canonical) = match (service.to_ascii_lowercase().as_str(), kind.to_ascii_lowercase().as_str(), rest) {
            ("iam", "root", []) => ("root".to_owned(), None),
            ("iam", "user", [_, ..]) => (format!("user/{}", rest.join("/")), None),
            ("iam", "role", [.., name]) => (format!("role/{name}"), None),
            ("sts", "federated-user", [name]) => (format!("federated-user/{name}"), None),
            ("sts", "assumed-role", [path @ .., _]) if !path.is_empty() => (format!("role/{}", path[path.len() - 1]), Some(path.join("/"))),
            _ => return None,
        };
        let canonical = canonical.map_or_else(|| text.to_owned(), |path| format!("arn:{partition}:iam::{account}:role/{path}"));
        Some(Self { partition, account: account.to_owned(), key: key.to_ascii_lowercase(), canonical })
    }
}

fn check(text: &str) {
    let reading = Reading::of(text);
    let Ok(arn) = Arn::parse(text) else {
        assert!(reading.is_none(), "refused");
        return;
    };
    let reading = reading.expect("accepted");
    assert_eq!(arn.as_str(), text);
    assert_eq!((arn.partition().name(), arn.account_id()), (reading.partition, reading.account.as_str()));
    let canonical = arn.canonical().to_string();
    let key = arn.canonical().key().to_string();
    assert_eq!(canonical, reading.canonical);
    let service = if reading.key.starts_with("federated-user/") { "sts" } else { "iam" };
    assert_eq!(key, format!("arn:{}:{service}::{}:{}", reading.partition, reading.account, reading.key));

    let again = Arn::parse(&canonical).expect("a canonical ARN is one");
    assert!(!matches!(again.principal(), Principal::AssumedRole { .. }), "a canonical ARN is never a session");
    assert_eq!(again.canonical().to_string(), canonical);
    for same in [canonical.clone(), key.clone(), text.to_ascii_uppercase(), text.to_ascii_lowercase()] {
        let other = Arn::parse(&same).expect("an ARN in another spelling is one");
        assert!(arn.canonical().is_same_as(&other.canonical()), "{same}");
        assert_eq!(other.canonical().key().to_string(), key);
    }
    for (near, is_same) in neighbours(&arn, &key) {
        let other = Arn::parse(&near).expect("an ARN with another part is one");
        assert_eq!(arn.canonical().is_same_as(&other.canonical()), is_same, "{near}");
    }
    match arn.principal() {
        Principal::AssumedRole { role, session } => {
            assert!(text.ends_with(&format!("/{role}/{session}")));
            assert!(canonical.ends_with(&format!("/{role}")));
        }
        Principal::FederatedUser { name } | Principal::Role { name } | Principal::User { name } => {
            assert!(text.ends_with(&format!("/{name}")) && !name.contains('/'));
        }
        Principal::Root => assert_eq!(reading.key, "root"),
    }
}

/// ARNs that differ in one part, and whether they mean the same principal.
fn neighbours(arn: &Arn<'_>, key: &str) -> Vec<(String, bool)> {
    // A neighbour may be longer, and the longest ARN has none.
    if key.len() > 1900 {
        return Vec::new();
    }
    let own = arn.partition();
    let in_partition = |partition: Partition| (key.replacen(own.name(), partition.name(), 1), partition == own);
    let mut all: Vec<_> = Partition::ALL.into_iter().map(in_partition).collect();
    let account = arn.account_id();
    let next = if account.ends_with('9') { "8" } else { "9" };
    all.push((key.replacen(account, &format!("{}{next}", &account[..11]), 1), false));
    if arn.principal() != Principal::Root {
        all.push((format!("{key}x"), false));
    }
    if let Principal::AssumedRole { role: name, .. } | Principal::Role { name } = arn.principal() {
        all.push((format!("arn:{own}:iam::{account}:role/some/path/{name}"), true));
        all.push((format!("arn:{own}:sts::{account}:assumed-role/{name}/some-session"), true));
        all.push((format!("arn:{own}:iam::{account}:user/{name}"), false));
    }
    all
}

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (one, other) = text.split_once('\n').unwrap_or((text, text));
    check(one);
    check(other);
    if let (Ok(one), Ok(other)) = (Arn::parse(one), Arn::parse(other)) {
        let (one, other) = (one.canonical(), other.canonical());
        let same = one.key().to_string() == other.key().to_string();
        assert_eq!((one.is_same_as(&other), other.is_same_as(&one)), (same, same));
    }
});
