//! What an author of mappings should know, beyond what the readers note: things that are read without complaint, and do not do what they seem to.
//!
//! Pure: whoever has a document hands over its tree. What the readers themselves find becomes a [`Lint`] by [`Lint::of`], with advice.

use std::sync::Arc;

use arngate_core::arn::{Arn, Principal};
use arngate_core::arn_pattern::ArnPattern;
use arngate_core::mapping::Template;

use super::entry::Options;
use super::manifest::Object;
use super::source::{Finding, Severity};
use crate::document::tree::Node;
use crate::document::{Field, Findings, Place, Position, Shown, Split, Text};

/// Keys that hold mappings, in aws-auth and below `server`.
pub const KEYS: [&str; 3] = ["mapRoles", "mapUsers", "mapAccounts"];

/// How much a [`Lint`] matters.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Level {
    /// Worth knowing; all is well with it.
    Note,
    /// Something does not do what its author may think.
    Warning,
    /// Something is left out, or a server does not start with it.
    Error,
}

impl Level {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Note => "note",
            Self::Warning => "warning",
        }
    }
}

/// Something that an author should know.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Lint {
    /// How much it matters.
    pub level: Level,
    /// Where.
    pub place: Place,
    /// What. Text of the document in it is escaped and cut.
    pub message: String,
    /// What to do about it.
    pub advice: String,
}

impl Lint {
    /// What a reader found.
    #[must_use]
    pub fn of(finding: Finding) -> Self {
        let Finding { severity, place, message } = finding;
        // A file that is missing here may be there where the server runs.
        let level = match severity {
            Severity::Error if message.starts_with("cannot read ") => Level::Note,
            Severity::Error => Level::Error,
            Severity::Warning if message.starts_with("SSO entries count") => Level::Note,
            Severity::Warning => Level::Warning,
        };
        let advice = advice(&message, severity).to_owned();
        Self { level, place, message, advice }
    }
}

/// What to do about what the readers say.
fn advice(message: &str, severity: Severity) -> &'static str {
    const ADVICE: [(&str, &str); 12] = [
        ("unknown key", "correct the key or take it out: nobody reads it"),
        ("has no effect, for", "take one of the two out: only the later one counts"),
        ("* and ? stand for themselves", "name each principal, or set server.arnPatterns: true"),
        ("is no placeholder", "use {{AccountID}}, {{SessionName}}, {{SessionNameRaw}}, {{AccessKeyID}} or {{EC2PrivateDNSName}}"),
        ("can never match", "write the ARN of this partition, or set server.partition"),
        ("SSO entries count", "nothing, if they are meant to count; --feature-gates SSORoleMatch=false turns them off"),
        ("a role pattern with a path", "write the pattern without the path"),
        ("not an ARN", "write arn:aws:iam::<account>:role/<name> or …:user/<name>"),
        ("is a line indented too far", "align the line with the items above it"),
        ("expected 12 digits", "write the account ID with all of its 12 digits, in quotes"),
        ("cannot read ", "see that it is there where the server runs"),
        ("left out, for", "take the entry out, or the feature gate away"),
    ];
    let known = ADVICE.iter().find(|(part, _)| message.contains(part)).map(|(_, advice)| *advice);
    known.unwrap_or(match severity {
        Severity::Error => "correct it: aws-auth and custom resources leave the entry out, and with a configuration file no server starts",
        Severity::Warning => "see whether it is meant so",
    })
}

/// What the checks depend on.
#[derive(Clone, Copy, Debug)]
pub struct Settings<'a> {
    /// How mappings are read.
    pub options: Options,
    /// What names must not begin with.
    pub reserved_prefixes: &'a [String],
    /// The backend, for advice.
    pub mode: super::BackendMode,
}

/// Looks at one list: the `node` under a key, `mapRoles`, `mapUsers` or `mapAccounts`, of a document of those `bytes`.
#[must_use]
pub fn list(file: &Arc<str>, bytes: &[u8], node: &Node, key: &str, path: &str, settings: &Settings<'_>) -> Vec<Lint> {
    // What is wrong is the readers' to tell.
    let findings = Findings::default();
    let field = Field::root(file, node, &findings, path);
    let mut look = Look { settings, lints: Vec::new(), patterns: Vec::new() };
    if key.eq_ignore_ascii_case("mapAccounts") {
        let lines = Lines::of(bytes);
        field.texts(Split::BlanksAndCommas).iter().for_each(|text| look.account(text, &lines));
    } else if field.is_list() {
        let lines = Lines::of(bytes);
        for entry in field.list() {
            look.entry(&entry, &lines);
        }
    }
    look.lints
}

/// Looks at objects `IAMIdentityMapping`, in the order of their names, which is that in which they count.
#[must_use]
pub fn objects(file: &Arc<str>, objects: &[Object], settings: &Settings<'_>) -> Vec<Lint> {
    let mut look = Look { settings, lints: Vec::new(), patterns: Vec::new() };
    let mut sorted: Vec<_> = objects.iter().collect();
    sorted.sort_unstable_by_key(|object| object.name.as_str());
    for object in sorted {
        let text = |key: &str, text: &str| Text {
            text: text.to_owned(),
            place: Place::File { file: Arc::clone(file), position: Some(object.position), key: format!("{} spec.{key}", object.name) },
        };
        let arn = text("arn", &object.arn);
        let groups: Vec<_> = object.groups.iter().map(|group| text("groups", group)).collect();
        look.mapping(Some(&arn), false, Some(&text("username", &object.username)), &groups);
    }
    look.lints
}

/// The lines of a document, to see how something was written.
struct Lines<'a>(Vec<&'a [u8]>);

impl<'a> Lines<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        Self(bytes.split(|byte| *byte == b'\n').collect())
    }

    /// Whether what stands there is not in quotes.
    fn is_plain(&self, position: Position) -> bool {
        let line = position.line.checked_sub(1).and_then(|line| self.0.get(line)).and_then(|line| std::str::from_utf8(line).ok());
        line.and_then(|line| line.chars().nth(position.column.saturating_sub(1))).is_some_and(|first| first.is_ascii_digit())
    }
}

/// Who is mapped, as far as templates depend on it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Whom {
    /// Sessions of a role.
    Role,
    /// Sessions of a permission set, which are named after people.
    Sso,
    /// Somebody who has no session.
    User,
}

struct Look<'a> {
    settings: &'a Settings<'a>,
    lints: Vec<Lint>,
    /// Patterns that came before: what they cover, and where they are.
    patterns: Vec<(String, String, Place)>,
}

impl Look<'_> {
    fn note(&mut self, level: Level, place: &Place, message: impl Into<String>, advice: impl Into<String>) {
        self.lints.push(Lint { level, place: place.clone(), message: message.into(), advice: advice.into() });
    }

    fn account(&mut self, text: &Text, lines: &Lines<'_>) {
        let is_account = text.text.len() == 12 && text.text.bytes().all(|byte| byte.is_ascii_digit());
        if is_account && text.place.position().is_some_and(|position| lines.is_plain(position)) {
            self.note(
                Level::Warning,
                &text.place,
                "the account ID is not in quotes: other readers take it for a number, and lose a zero at its beginning",
                "put it in quotes",
            );
        }
    }

    fn entry(&mut self, entry: &Field<'_>, lines: &Lines<'_>) {
        let Some(mut map) = entry.map() else { return };
        let arn = map.take("rolearn").or_else(|| map.take("userarn")).and_then(|arn| arn.text());
        let sso = map.take("sso");
        let is_sso = sso.is_some();
        if let Some(account) = sso.and_then(|sso| sso.map()).and_then(|mut sso| sso.text("accountID")) {
            self.account(&account, lines);
        }
        let username = map.text("username");
        let groups = map.take("groups").map(|groups| groups.texts(Split::Commas)).unwrap_or_default();
        self.mapping(arn.as_ref(), is_sso, username.as_ref(), &groups);
    }

    fn mapping(&mut self, arn: Option<&Text>, is_sso: bool, username: Option<&Text>, groups: &[Text]) {
        let whom = match arn {
            Some(arn) => self.arn(arn),
            None => is_sso.then_some(Whom::Sso),
        };
        if let Some(username) = username {
            self.username(username);
        }
        for template in username.into_iter().chain(groups) {
            self.template(template, whom);
        }
    }

    /// Looks at an ARN, and tells whose it is.
    fn arn(&mut self, text: &Text) -> Option<Whom> {
        if self.settings.options.arn_patterns && ArnPattern::is_one(&text.text) {
            let pattern = ArnPattern::parse(&text.text).ok()?;
            self.pattern(&pattern, &text.place);
            return Some(if pattern.is_for_roles() { Whom::Role } else { Whom::User });
        }
        match Arn::parse(&text.text).ok()?.principal() {
            Principal::Role { name } => {
                if text.text.split_once('/').is_some_and(|(_, path)| path.len() > name.len()) {
                    let message = "the role's path does not count: STS does not tell it, so the role is found with and without it";
                    self.note(Level::Note, &text.place, message, "leave the path out: with it aws-iam-authenticator lets nobody in");
                }
                Some(Whom::Role)
            }
            Principal::AssumedRole { .. } => {
                let message = "the session in the ARN does not count: every session of the role is mapped";
                self.note(
                    Level::Warning,
                    &text.place,
                    message,
                    "write the ARN of the role, if that is meant; a single session cannot be mapped",
                );
                Some(Whom::Role)
            }
            Principal::FederatedUser { .. } | Principal::Root | Principal::User { .. } => Some(Whom::User),
        }
    }

    /// A pattern that others before it cover is never reached.
    fn pattern(&mut self, pattern: &ArnPattern<'_>, place: &Place) {
        let scope = format!("{} {} {}", pattern.partition(), pattern.account_id(), pattern.is_for_roles());
        let name = pattern.name().to_ascii_lowercase();
        let before = self.patterns.iter().find(|(other, covering, _)| *other == scope && covers(covering.as_bytes(), name.as_bytes()));
        if let Some((_, covering, before)) = before {
            let message = format!("never reached: {} covers all that it does ({})", before.within(), Shown(covering));
            self.note(Level::Warning, place, message, "move it before that pattern, or take it out: of patterns the first counts");
        }
        self.patterns.push((scope, name, place.clone()));
    }

    fn username(&mut self, text: &Text) {
        let (name, mode) = (text.text.as_str(), self.settings.mode);
        let reserved = self.settings.reserved_prefixes.iter().find(|prefix| !prefix.is_empty() && name.starts_with(prefix.as_str()));
        if let Some(prefix) = reserved {
            let message = format!("whoever is mapped here is denied: names that begin with {} are reserved in {mode}", Shown(prefix));
            self.note(Level::Warning, &text.place, message, "choose another name, or map it in another backend");
        } else if name.starts_with("system:") && !name.starts_with("system:node:") {
            self.note(
                Level::Warning,
                &text.place,
                format!("names that begin with system: are Kubernetes' own, and nothing reserves them in {mode}"),
                format!("choose another name; {{backendmode: {mode}, usernamePrefixReserveList: ['system:']}} in server.reservedPrefixConfig refuses such names"),
            );
        }
    }

    fn template(&mut self, text: &Text, whom: Option<Whom>) {
        let needs = Template::new(&text.text).needs();
        match whom {
            Some(Whom::User) if needs.session_name => {
                let message = "never fills: a user has no session, so that the placeholder stands for nothing";
                self.note(Level::Warning, &text.place, message, "write the name out");
            }
            _ if text.text.contains("{{SessionName}}") => {
                let message = "a@b and a-b become one: {{SessionName}} writes - for @";
                self.note(Level::Note, &text.place, message, "use {{SessionNameRaw}} where sessions are named by those who make them");
            }
            _ => {}
        }
        if needs.ec2_private_dns_name && matches!(whom, Some(Whom::Sso | Whom::User)) {
            let message = "never fills: only sessions of an instance's role are named after an instance, and all others are denied";
            self.note(Level::Warning, &text.place, message, "use {{EC2PrivateDNSName}} for the roles of nodes alone");
        }
    }
}

/// Names longer than that are not compared: no name of AWS is.
const COMPARED_BYTES: usize = 256;

/// Whether all that `other` describes, `pattern` describes too. If it says so, it is so; a few that are it does not see.
fn covers(pattern: &[u8], other: &[u8]) -> bool {
    if pattern.len() > COMPARED_BYTES || other.len() > COMPARED_BYTES {
        return false;
    }
    // `row[j]`: whether the rest of the pattern covers what is left of the other from j on.
    let mut row = vec![false; other.len() + 1];
    row[other.len()] = true;
    for wanted in pattern.iter().rev() {
        let mut next = vec![false; other.len() + 1];
        for from in (0..=other.len()).rev() {
            next[from] = match (wanted, other.get(from)) {
                (b'*', Some(_)) => row[from] || next[from + 1],
                (b'*', None) => row[from],
                (b'?', Some(found)) => *found != b'*' && row[from + 1],
                (literal, Some(found)) => literal == found && row[from + 1],
                (_, None) => false,
            };
        }
        row = next;
    }
    row[0]
}

#[cfg(test)]
mod tests {
    use arngate_core::Partition;
    use arngate_core::mapping::Subject;
    use proptest::prelude::*;

    use super::*;
    use crate::document::tree;
    use crate::mapping::{BackendMode, SsoEntries};

    const OPTIONS: Options = Options { partition: Partition::Aws, arn_patterns: true, sso: SsoEntries::Asked };

    fn told(key: &str, text: &str, reserved: &[String]) -> String {
        let file: Arc<str> = "f".into();
        let node = tree::parse(&file, text.as_bytes()).unwrap();
        let settings = Settings { options: OPTIONS, reserved_prefixes: reserved, mode: BackendMode::EksConfigMap };
        let lints = list(&file, text.as_bytes(), &node, key, key, &settings);
        lints.iter().map(|lint| format!("{} {}{}\n", lint.level.name(), lint.place, lint.message)).collect()
    }

    #[test]
    fn tells_what_the_readers_take_without_complaint() {
        let roles = "
- {rolearn: 'arn:aws:iam::111122223333:role/path/Node', username: 'system:node:{{EC2PrivateDNSName}}'}
- {rolearn: 'arn:aws:iam::111122223333:role/Ops', username: 'ops:{{SessionName}}', groups: ['g:{{SessionNameRaw}}']}
- {rolearn: 'arn:aws:sts::111122223333:assumed-role/Ops/jane', username: x}
- {rolearn: 'arn:aws:iam::111122223333:role/A*', username: a}
- {rolearn: 'arn:aws:iam::111122223333:role/Admin?', username: b}
- {rolearn: 'arn:aws:iam::444455556666:role/Admin?', username: c}
- {sso: {permissionSetName: Admin, accountID: 012345678901}, username: '{{EC2PrivateDNSName}}'}
";
        insta::assert_snapshot!(told("mapRoles", roles, &[]), @r#"
        note f:2: mapRoles[0].rolearn: the role's path does not count: STS does not tell it, so the role is found with and without it
        note f:3: mapRoles[1].username: a@b and a-b become one: {{SessionName}} writes - for @
        warning f:4: mapRoles[2].rolearn: the session in the ARN does not count: every session of the role is mapped
        warning f:6: mapRoles[4].rolearn: never reached: mapRoles[3].rolearn in line 5 covers all that it does ("a*")
        warning f:8: mapRoles[6].sso.accountID: the account ID is not in quotes: other readers take it for a number, and lose a zero at its beginning
        warning f:8: mapRoles[6].username: never fills: only sessions of an instance's role are named after an instance, and all others are denied
        "#);
        let users = "
- {userarn: 'arn:aws:iam::111122223333:user/a', username: 'u:{{SessionName}}', groups: ['{{EC2PrivateDNSName}}']}
- {userarn: 'arn:aws:iam::111122223333:user/b', username: 'system:admin'}
";
        insta::assert_snapshot!(told("mapUsers", users, &[]), @r#"
        warning f:2: mapUsers[0].username: never fills: a user has no session, so that the placeholder stands for nothing
        warning f:2: mapUsers[0].groups[0]: never fills: only sessions of an instance's role are named after an instance, and all others are denied
        warning f:3: mapUsers[1].username: names that begin with system: are Kubernetes' own, and nothing reserves them in EKSConfigMap
        "#);
        insta::assert_snapshot!(told("mapUsers", "- {userarn: 'arn:aws:iam::111122223333:user/b', username: 'system:admin'}", &["system:".into()]), @r#"warning f:1: mapUsers[0].username: whoever is mapped here is denied: names that begin with "system:" are reserved in EKSConfigMap"#);
        insta::assert_snapshot!(told("mapAccounts", "- 012345678901\n- '123456789012'\n- \"123456789012\"\n- 12\n", &[]), @"warning f:1: mapAccounts[0]: the account ID is not in quotes: other readers take it for a number, and lose a zero at its beginning");
    }

    #[test]
    fn a_star_covers_whatever_is_in_its_place() {
        for (pattern, other, expected) in [
            ("*", "", true),
            ("*", "a*", true),
            ("a*", "a*b", true),
            ("a*b", "a*", false),
            ("?", "*", false),
            ("a?", "ab", true),
            ("ab", "a?", false),
            ("*a*", "xay?", true),
            ("**", "?*?", true),
            ("a*", "b*", false),
        ] {
            assert_eq!(covers(pattern.as_bytes(), other.as_bytes()), expected, "{pattern} {other}");
        }
    }

    proptest! {
        #[test]
        fn what_is_covered_is_matched(pattern in "[ab*?]{1,5}", other in "[ab*?]{1,5}", name in "[ab]{1,6}") {
            prop_assume!(covers(pattern.as_bytes(), other.as_bytes()));
            let arn = |name: &str| format!("arn:aws:iam::123456789012:role/{name}");
            let (pattern, other, name) = (arn(&pattern), arn(&other), arn(&name));
            let own = Arn::parse(&name).unwrap().canonical();
            let matches = |text: &str| match Subject::from_arn(text, true).unwrap() {
                Subject::Pattern(pattern) => pattern.matches(&own),
                Subject::Exact(arn) => arn.is_same_as(&own),
                _ => false,
            };
            prop_assert!(!matches(&other) || matches(&pattern), "{} {} {}", pattern, other, name);
        }
    }
}
