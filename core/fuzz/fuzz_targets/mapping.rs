//! Templates, patterns, identities, and which of several rules wins.
#![no_main]

use arbitrary::Arbitrary;
use arngate_core::arn::{Arn, Principal};
use arngate_core::arn_pattern::ArnPattern;
use arngate_core::mapping::{Needs, Rule, Rules, SsoRole, Subject, Template, Values};
use arngate_core::{Identity, Partition};
use arngate_core_fuzz::slow;
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
enum Input<'a> {
    Identity {
        partition: u8,
        account: &'a str,
        arn: &'a str,
        user_id: &'a str,
    },
    /// The same of few letters, so that they fit more often.
    NearlyIdentity {
        kind: u8,
        name: Few,
        session: Few,
        told: Few,
    },
    NearlyPattern {
        is_user: bool,
        pattern: Few,
        name: Few,
    },
    NearlyTemplate {
        pieces: Vec<u8>,
        values: [Option<&'a str>; 4],
    },
    Pattern {
        pattern: &'a str,
        arn: &'a str,
    },
    Rules {
        subjects: Vec<(u8, Few)>,
        name: Few,
    },
    Template {
        template: &'a str,
        values: [Option<&'a str>; 4],
    },
}

/// Text of an alphabet that patterns are likely to fit.
#[derive(Debug)]
struct Few(String);

impl<'a> Arbitrary<'a> for Few {
    fn arbitrary(source: &mut arbitrary::Unstructured<'a>) -> arbitrary::Result<Self> {
        const LETTERS: &[u8; 16] = b"aaabABb**?/:_x- ";
        let bytes: &[u8] = Arbitrary::arbitrary(source)?;
        Ok(Self(bytes.iter().map(|byte| char::from(LETTERS[usize::from(byte & 15)])).collect()))
    }
}

const ACCOUNT: &str = "123456789012";

fn check_template(template: &str, values: [Option<&str>; 4]) {
    let [access_key_id, account_id, ec2, session_name] = values;
    let (access_key_id, account_id, session_name) =
        (access_key_id.unwrap_or_default(), account_id.unwrap_or_default(), session_name.unwrap_or_default());
    let cleaned = session_name.replace('@', "-");
    let expected = slow::render(
        template,
        &[
            ("{{AccessKeyID}}", Some(access_key_id)),
            ("{{AccountID}}", Some(account_id)),
            ("{{EC2PrivateDNSName}}", ec2),
            ("{{SessionName}}", Some(&cleaned)),
            ("{{SessionNameRaw}}", Some(session_name)),
        ],
    );
    let template = Template::new(template);
    let values = Values { access_key_id, account_id, ec2_private_dns_name: ec2, session_name };
    let mut rendered = String::new();
    let result = template.render(&values, &mut rendered);
    assert_eq!(result.is_ok().then_some(rendered), expected);

    // Placeholders cannot overlap: none of them begins with the end of another.
    let text = template.as_str();
    let wants = |name: &str| text.contains(&format!("{{{{{name}}}}}"));
    let expected = Needs {
        access_key_id: wants("AccessKeyID"),
        account_id: wants("AccountID"),
        ec2_private_dns_name: wants("EC2PrivateDNSName"),
        session_name: wants("SessionName") || wants("SessionNameRaw"),
    };
    assert_eq!(template.needs(), expected);

    // Each `{{…}}` without braces inside: what is behind the last `{{` before a `}}`.
    let mut unknown = Vec::new();
    for (end, _) in text.match_indices("}}") {
        let Some(start) = text[..end].rfind("{{") else { continue };
        let inside = &text[start + 2..end];
        let known = ["AccessKeyID", "AccountID", "EC2PrivateDNSName", "SessionName", "SessionNameRaw"].contains(&inside);
        if !inside.is_empty() && !inside.contains(['{', '}']) && !known {
            unknown.push(&text[start..end + 2]);
        }
    }
    assert_eq!(template.unknown().collect::<Vec<_>>(), unknown);
}

fn check_pattern(text: &str, arn_text: &str) {
    let Ok(pattern) = ArnPattern::parse(text) else { return };
    let own = Arn::parse(text).expect("a pattern is an ARN, but for its stars");
    assert!(!text.split('/').next().unwrap().contains(['*', '?']));
    assert!(pattern.matches(&own.canonical()), "a pattern fits itself");
    let Ok(arn) = Arn::parse(arn_text) else { return };
    let name_of = |arn: &Arn<'_>| match arn.principal() {
        Principal::AssumedRole { role: name, .. } | Principal::Role { name } => Some(("role", name.to_owned())),
        Principal::User { .. } => Some(("user", arn.as_str().split_once('/').unwrap().1.to_owned())),
        Principal::FederatedUser { .. } | Principal::Root => None,
    };
    let expected = match (name_of(&own), name_of(&arn)) {
        (Some((kind, pattern)), Some((other, name))) => {
            (kind, own.partition(), own.account_id()) == (other, arn.partition(), arn.account_id())
                && slow::wildcard_matches(pattern.as_bytes(), name.as_bytes())
        }
        _ => false,
    };
    assert_eq!(pattern.matches(&arn.canonical()), expected);
}

fn check_identity(partition: Partition, account: &str, arn: &str, user_id: &str) {
    let Ok(identity) = Identity::check(partition, account, arn, user_id) else { return };
    let parsed = Arn::parse(arn).unwrap();
    assert_eq!((parsed.partition(), parsed.account_id()), (partition, account));
    assert_eq!((identity.arn(), identity.account_id(), identity.principal()), (arn, account, parsed.principal()));
    assert_eq!(identity.canonical_arn(), parsed.canonical());
    assert!(!identity.user_id().is_empty() && !user_id.chars().any(char::is_control) && user_id.len() <= 256);
    match parsed.principal() {
        Principal::AssumedRole { session, .. } => {
            assert_eq!(format!("{}:{session}", identity.user_id()), user_id);
            assert_eq!(identity.session_name(), session);
        }
        Principal::Role { .. } => assert_eq!(format!("{}:{}", identity.user_id(), identity.session_name()), user_id),
        _ => assert_eq!((identity.user_id(), identity.session_name()), (user_id, "")),
    }
    let subject = Subject::from_arn(arn, false).expect("an identity's own ARN is a subject");
    assert!(subject.matches(&identity));
}

/// Exact beats SSO beats pattern; the last of the first two kinds and the first of the third.
fn check_rules(subjects: &[(u8, Few)], name: &str) {
    let texts: Vec<(u8, String)> = subjects
        .iter()
        .map(|(kind, text)| match kind % 4 {
            0 => (0, format!("arn:aws:iam::{ACCOUNT}:role/{}", text.0)),
            1 => (1, format!("arn:aws:iam::{ACCOUNT}:role/AWSReservedSSO_{}_x", text.0)),
            2 => (2, text.0.clone()),
            _ => (3, format!("arn:aws:iam::{ACCOUNT}:role/AWSReservedSSO_{}", text.0)),
        })
        .collect();
    let rules: Vec<Rule<'_>> = texts
        .iter()
        .filter_map(|(kind, text)| {
            let subject = match kind {
                2 => SsoRole::new(text, ACCOUNT, Partition::Aws).map(Subject::Sso),
                kind => Subject::from_arn(text, kind % 2 == 1),
            };
            subject.ok().map(|subject| Rule { subject, username: Template::new(text), groups: &[] })
        })
        .collect();
    let arn = format!("arn:aws:sts::{ACCOUNT}:assumed-role/AWSReservedSSO_{name}_x/s");
    let Ok(identity) = Identity::check(Partition::Aws, ACCOUNT, &arn, "AROA:s") else { return };
    let rank = |index: usize, rule: &Rule<'_>| match rule.subject {
        Subject::Exact(_) => (2, index),
        Subject::Sso(_) => (1, index),
        _ => (0, usize::MAX - index),
    };
    let fitting = rules.iter().enumerate().filter(|(_, rule)| rule.subject.matches(&identity));
    let expected = fitting.max_by_key(|(index, rule)| rank(*index, rule)).map(|(_, rule)| rule);
    assert!(match (Rules(&rules).find(&identity), expected) {
        (Some(found), Some(expected)) => std::ptr::eq(found, expected),
        (found, expected) => found.is_none() && expected.is_none(),
    });
}

fuzz_target!(|input: Input<'_>| {
    match input {
        Input::Identity { partition, account, arn, user_id } => {
            check_identity(Partition::ALL[usize::from(partition % 8)], account, arn, user_id);
        }
        Input::NearlyIdentity { kind, name: Few(name), session: Few(session), told: Few(told) } => {
            let (service, resource) = match kind % 5 {
                0 => ("sts", format!("assumed-role/{name}/{session}")),
                1 => ("sts", format!("federated-user/{name}")),
                2 => ("iam", format!("user/{name}")),
                3 => ("iam", format!("role/{name}")),
                _ => ("iam", "root".to_owned()),
            };
            let arn = format!("arn:aws:{service}::{ACCOUNT}:{resource}");
            check_identity(Partition::Aws, ACCOUNT, &arn, &told);
            check_identity(Partition::Aws, ACCOUNT, &arn, &format!("{told}:{session}"));
        }
        Input::NearlyPattern { is_user, pattern: Few(pattern), name: Few(name) } => {
            let kind = if is_user { "user" } else { "role" };
            let pattern = format!("arn:aws:iam::{ACCOUNT}:{kind}/{pattern}");
            check_pattern(&pattern, &format!("arn:aws:iam::{ACCOUNT}:{kind}/{name}"));
            check_pattern(&pattern, &format!("arn:aws:sts::{ACCOUNT}:assumed-role/{name}/s"));
        }
        Input::NearlyTemplate { pieces, values } => {
            const PIECES: [&str; 16] = [
                "{",
                "}",
                "{{",
                "}}",
                "AccountID",
                "AccessKeyID",
                "SessionName",
                "SessionNameRaw",
                "EC2PrivateDNSName",
                "Raw",
                "x",
                "@",
                "{{AccountID}}",
                "{{SessionNameRaw}}",
                "{{x}}",
                "\u{e9}",
            ];
            let template: String = pieces.iter().map(|piece| PIECES[usize::from(piece & 15)]).collect();
            check_template(&template, values);
        }
        Input::Pattern { pattern, arn } => check_pattern(pattern, arn),
        Input::Rules { subjects, name: Few(name) } => check_rules(&subjects, &name),
        Input::Template { template, values } => check_template(template, values),
    }
});
