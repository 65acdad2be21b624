//! Which identities a mapping covers, and the names it gives them.
//!
//! Everything borrows: a server keeps its own indexes over the same parts, an embedded verifier can use [`Rules`] as they are.

use core::fmt;

use crate::arn::{Arn, ArnError, CanonicalArn, Principal, check_account_id};
use crate::arn_pattern::{ArnPattern, PatternError};
use crate::endpoint::Partition;
use crate::identity::Identity;

/// Whom a mapping is for.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Subject<'a> {
    /// One principal; an assumed role counts as its role.
    Exact(CanonicalArn<'a>),
    /// All roles or users of an account whose name fits.
    Pattern(ArnPattern<'a>),
    /// The role that AWS SSO makes for a permission set in an account.
    Sso(SsoRole<'a>),
    /// Whoever has a unique id, which AWS gives once.
    UserId(UserId<'a>),
}

impl<'a> Subject<'a> {
    /// Reads a `rolearn` or `userarn`. `patterns` says whether `*` and `?` have a meaning; without it they stand for themselves, as in the
    /// reference, and match nobody.
    ///
    /// # Errors
    ///
    /// [`SubjectError`].
    pub fn from_arn(text: &'a str, patterns: bool) -> Result<Self, SubjectError> {
        if patterns && ArnPattern::is_one(text) {
            return ArnPattern::parse(text).map(Self::Pattern).map_err(SubjectError::Pattern);
        }
        Arn::parse(text).map(|arn| Self::Exact(arn.canonical())).map_err(SubjectError::Arn)
    }

    /// Whether it covers an identity.
    #[must_use]
    pub fn matches(&self, identity: &Identity<'_>) -> bool {
        match self {
            Self::Exact(arn) => arn.is_same_as(&identity.canonical_arn()),
            Self::Pattern(pattern) => pattern.matches(&identity.canonical_arn()),
            Self::Sso(role) => role.matches(identity),
            Self::UserId(id) => id.matches(identity),
        }
    }
}

/// A unique id such as `AROAEXAMPLE` or `AIDAEXAMPLE`, and what has to fit beside it: an id alone would go on counting under another name.
///
/// upstream: `match` in pkg/mapper/dynamicfile/mapper.go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct UserId<'a> {
    id: &'a str,
    beside: Beside<'a>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Beside<'a> {
    Exact(CanonicalArn<'a>),
    Nothing,
    Pattern(ArnPattern<'a>),
    Sso(SsoRole<'a>),
}

impl<'a> UserId<'a> {
    /// Whoever has this id, if `beside` covers him too.
    #[must_use]
    pub const fn new(id: &'a str, beside: Option<Subject<'a>>) -> Self {
        match beside {
            Some(Subject::Exact(arn)) => Self { id, beside: Beside::Exact(arn) },
            Some(Subject::Pattern(pattern)) => Self { id, beside: Beside::Pattern(pattern) },
            Some(Subject::Sso(role)) => Self { id, beside: Beside::Sso(role) },
            Some(Subject::UserId(other)) => Self { id, beside: other.beside },
            None => Self { id, beside: Beside::Nothing },
        }
    }

    /// The id.
    #[must_use]
    pub const fn id(&self) -> &'a str {
        self.id
    }

    /// What has to fit beside it.
    #[must_use]
    pub const fn beside(&self) -> Option<Subject<'a>> {
        match self.beside {
            Beside::Exact(arn) => Some(Subject::Exact(arn)),
            Beside::Nothing => None,
            Beside::Pattern(pattern) => Some(Subject::Pattern(pattern)),
            Beside::Sso(role) => Some(Subject::Sso(role)),
        }
    }

    /// Whether it is that of an identity, and what is beside it fits. Unlike in names, upper and lower case count.
    #[must_use]
    pub fn matches(&self, identity: &Identity<'_>) -> bool {
        self.id == identity.user_id()
            && match &self.beside {
                Beside::Exact(arn) => arn.is_same_as(&identity.canonical_arn()),
                Beside::Nothing => true,
                Beside::Pattern(pattern) => pattern.matches(&identity.canonical_arn()),
                Beside::Sso(role) => role.matches(identity),
            }
    }
}

/// `AWSReservedSSO_<permission set>_<suffix>` in one account, the suffix being letters and digits.
///
/// In the reference the suffix is anything, so that a mapping for `Admin` also admits the permission set `Admin_Extra`.
///
/// AWS: <https://docs.aws.amazon.com/singlesignon/latest/userguide/referencingpermissionsets.html>.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SsoRole<'a> {
    permission_set: &'a str,
    account_id: &'a str,
    partition: Partition,
}

const SSO_PREFIX: &str = "AWSReservedSSO_";

impl<'a> SsoRole<'a> {
    /// The role of a permission set, a name of 1 to 32 of `[A-Za-z0-9_+=,.@-]`.
    ///
    /// # Errors
    ///
    /// [`SubjectError::PermissionSet`] and [`SubjectError::Account`].
    pub fn new(permission_set: &'a str, account_id: &'a str, partition: Partition) -> Result<Self, SubjectError> {
        check_account_id(account_id).map_err(|_| SubjectError::Account)?;
        // AWS: https://docs.aws.amazon.com/singlesignon/latest/APIReference/API_PermissionSet.html
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_+=,.@-".contains(&byte);
        if !(1..=32).contains(&permission_set.len()) || !permission_set.bytes().all(fits) {
            return Err(SubjectError::PermissionSet);
        }
        Ok(Self { permission_set, account_id, partition })
    }

    /// Its permission set.
    #[must_use]
    pub const fn permission_set(&self) -> &'a str {
        self.permission_set
    }

    /// Its account.
    #[must_use]
    pub const fn account_id(&self) -> &'a str {
        self.account_id
    }

    /// Its partition.
    #[must_use]
    pub const fn partition(&self) -> Partition {
        self.partition
    }

    /// Whether an identity is a session of it.
    #[must_use]
    pub fn matches(&self, identity: &Identity<'_>) -> bool {
        let arn = identity.canonical_arn();
        let (Principal::AssumedRole { role, .. } | Principal::Role { name: role }) = arn.arn().principal() else {
            return false;
        };
        let rest = strip_prefix_without_case(role, SSO_PREFIX).and_then(|rest| strip_prefix_without_case(rest, self.permission_set));
        let suffix = rest.and_then(|rest| rest.strip_prefix('_'));
        arn.arn().partition() == self.partition
            && identity.account_id() == self.account_id
            && suffix.is_some_and(|suffix| !suffix.is_empty() && suffix.bytes().all(|byte| byte.is_ascii_alphanumeric()))
    }
}

fn strip_prefix_without_case<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (head, rest) = text.split_at_checked(prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then_some(rest)
}

/// Why a text names no subject.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SubjectError {
    /// An account id that is not 12 digits.
    Account,
    /// Not the ARN of a principal.
    Arn(ArnError),
    /// Not a pattern that could be allowed.
    Pattern(PatternError),
    /// Not the name of a permission set.
    PermissionSet,
}

impl fmt::Display for SubjectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Account => f.write_str("the account ID is not 12 digits"),
            Self::Arn(error) => error.fmt(f),
            Self::Pattern(error) => error.fmt(f),
            Self::PermissionSet => f.write_str("the permission set name is not 1 to 32 letters, digits or _+=,.@-"),
        }
    }
}

impl core::error::Error for SubjectError {}

/// One mapping.
#[derive(Clone, Copy, Debug)]
pub struct Rule<'a> {
    /// Whom it is for.
    pub subject: Subject<'a>,
    /// The user's name.
    pub username: Template<'a>,
    /// The user's groups.
    pub groups: &'a [Template<'a>],
}

/// Mappings in the order in which they were written.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a>(pub &'a [Rule<'a>]);

impl<'a> Rules<'a> {
    /// The rule for an identity: a unique id beats an exact ARN, that beats SSO, and SSO beats a pattern; among patterns the first wins, among
    /// all others the last, as the reference and eksctl document.
    #[must_use]
    pub fn find(&self, identity: &Identity<'_>) -> Option<&'a Rule<'a>> {
        let fits = |rule: &&Rule<'_>| rule.subject.matches(identity);
        let user_id = self.0.iter().rev().filter(|rule| matches!(rule.subject, Subject::UserId(_))).find(fits);
        let exact = || self.0.iter().rev().filter(|rule| matches!(rule.subject, Subject::Exact(_))).find(fits);
        let sso = || self.0.iter().rev().filter(|rule| matches!(rule.subject, Subject::Sso(_))).find(fits);
        let pattern = || self.0.iter().filter(|rule| matches!(rule.subject, Subject::Pattern(_))).find(fits);
        user_id.or_else(exact).or_else(sso).or_else(pattern)
    }
}

/// A text with placeholders.
///
/// # Syntax
///
/// ```text
/// template    = *( placeholder / any character )
/// placeholder = "{{AccountID}}" / "{{SessionName}}" / "{{SessionNameRaw}}" / "{{AccessKeyID}}" / "{{EC2PrivateDNSName}}"
/// ```
///
/// All else between braces stays as it is. A value is never expanded again, unlike in the reference, where a session named `{{AccessKeyID}}`
/// is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Template<'a>(&'a str);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Placeholder {
    AccessKeyId,
    AccountId,
    Ec2PrivateDnsName,
    SessionName,
    SessionNameRaw,
}

impl Placeholder {
    const ALL: [(&'static str, Self); 5] = [
        ("{{AccessKeyID}}", Self::AccessKeyId),
        ("{{AccountID}}", Self::AccountId),
        ("{{EC2PrivateDNSName}}", Self::Ec2PrivateDnsName),
        ("{{SessionName}}", Self::SessionName),
        ("{{SessionNameRaw}}", Self::SessionNameRaw),
    ];
}

/// What a template wants to be rendered.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Needs {
    /// The access key id.
    pub access_key_id: bool,
    /// The account.
    pub account_id: bool,
    /// The private DNS name of the EC2 instance that the session is named after: a look-up.
    pub ec2_private_dns_name: bool,
    /// The session's name: empty for users.
    pub session_name: bool,
}

/// What placeholders stand for.
#[derive(Clone, Copy, Debug)]
pub struct Values<'a> {
    /// For `{{AccessKeyID}}`.
    pub access_key_id: &'a str,
    /// For `{{AccountID}}`.
    pub account_id: &'a str,
    /// For `{{EC2PrivateDNSName}}`, once looked up.
    pub ec2_private_dns_name: Option<&'a str>,
    /// For `{{SessionNameRaw}}`, and with `-` instead of `@` for `{{SessionName}}`.
    pub session_name: &'a str,
}

enum Piece<'a> {
    Known(Placeholder),
    Text(&'a str),
    /// `{{…}}` that means nothing.
    Unknown(&'a str),
}

impl<'a> Template<'a> {
    /// The template that `text` writes; every text is one.
    #[must_use]
    pub const fn new(text: &'a str) -> Self {
        Self(text)
    }

    /// The text.
    #[must_use]
    pub const fn as_str(&self) -> &'a str {
        self.0
    }

    /// What it takes to render it.
    #[must_use]
    pub fn needs(&self) -> Needs {
        let mut needs = Needs::default();
        for piece in self.pieces() {
            match piece {
                Piece::Known(Placeholder::AccessKeyId) => needs.access_key_id = true,
                Piece::Known(Placeholder::AccountId) => needs.account_id = true,
                Piece::Known(Placeholder::Ec2PrivateDnsName) => needs.ec2_private_dns_name = true,
                Piece::Known(Placeholder::SessionName | Placeholder::SessionNameRaw) => needs.session_name = true,
                Piece::Text(_) | Piece::Unknown(_) => {}
            }
        }
        needs
    }

    /// The `{{…}}` in it that mean nothing, braces included.
    pub fn unknown(&self) -> impl Iterator<Item = &'a str> {
        self.pieces().filter_map(|piece| match piece {
            Piece::Unknown(text) => Some(text),
            Piece::Known(_) | Piece::Text(_) => None,
        })
    }

    /// Writes it with `values` put in.
    ///
    /// # Errors
    ///
    /// Those of `out`; and [`fmt::Error`] where it [needs](Self::needs) the name of an instance and there is none.
    pub fn render(&self, values: &Values<'_>, out: &mut impl fmt::Write) -> fmt::Result {
        for piece in self.pieces() {
            match piece {
                Piece::Text(text) | Piece::Unknown(text) => out.write_str(text)?,
                Piece::Known(Placeholder::AccessKeyId) => out.write_str(values.access_key_id)?,
                Piece::Known(Placeholder::AccountId) => out.write_str(values.account_id)?,
                Piece::Known(Placeholder::Ec2PrivateDnsName) => out.write_str(values.ec2_private_dns_name.ok_or(fmt::Error)?)?,
                Piece::Known(Placeholder::SessionNameRaw) => out.write_str(values.session_name)?,
                Piece::Known(Placeholder::SessionName) => {
                    let mut parts = values.session_name.split('@');
                    out.write_str(parts.next().unwrap_or_default())?;
                    for part in parts {
                        out.write_str("-")?;
                        out.write_str(part)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// The pieces of the text: placeholders, `{{…}}` that mean nothing, and what is between.
    fn pieces(&self) -> impl Iterator<Item = Piece<'a>> {
        let mut rest = self.0;
        core::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            if let Some((text, placeholder)) = Placeholder::ALL.into_iter().find(|(text, _)| rest.starts_with(text)) {
                rest = rest.get(text.len()..)?;
                return Some(Piece::Known(placeholder));
            }
            let unknown = unknown_length(rest);
            let (piece, after) = rest.split_at_checked(unknown.unwrap_or_else(|| plain_length(rest)))?;
            rest = after;
            Some(if unknown.is_some() { Piece::Unknown(piece) } else { Piece::Text(piece) })
        })
    }
}

/// Length of the `{{…}}` that `text` begins with, if its inside has no brace.
fn unknown_length(text: &str) -> Option<usize> {
    let inside = text.strip_prefix("{{")?;
    let end = inside.find(['{', '}'])?;
    let tail = inside.get(end..)?;
    (end > 0 && tail.starts_with("}}")).then(|| end.saturating_add(4))
}

/// Length of what comes before the next `{{`, at least one character.
fn plain_length(text: &str) -> usize {
    let first = text.chars().next().map_or(0, char::len_utf8);
    let rest = text.get(first..).unwrap_or_default();
    first.saturating_add(rest.find("{{").unwrap_or(rest.len()))
}

/// Whether a session is named after an EC2 instance: `i-` and 8 or 17 of `[A-Za-z0-9_]`.
///
/// upstream: `instanceIDPattern` in pkg/server/server.go.
#[must_use]
pub fn is_instance_id(session_name: &str) -> bool {
    session_name
        .strip_prefix("i-")
        .is_some_and(|id| matches!(id.len(), 8 | 17) && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'))
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::String;
    use std::vec::Vec;

    use super::*;

    fn identity<'a>(role: &'a str, user_id: &'a str) -> Identity<'a> {
        Identity::check(Partition::Aws, "123456789012", role, user_id).unwrap()
    }

    fn render(template: &str, session_name: &str) -> String {
        let mut out = String::new();
        let values = Values {
            access_key_id: "AKIAIOSFODNN7EXAMPLE",
            account_id: "123456789012",
            ec2_private_dns_name: Some("ip-10-0-0-1.ec2.internal"),
            session_name,
        };
        Template::new(template).render(&values, &mut out).unwrap();
        out
    }

    #[test]
    fn renders_each_placeholder() {
        let all = "{{AccountID}}:{{SessionName}}:{{SessionNameRaw}}:{{AccessKeyID}}:{{EC2PrivateDNSName}}";
        assert_eq!(render(all, "a@b@"), "123456789012:a-b-:a@b@:AKIAIOSFODNN7EXAMPLE:ip-10-0-0-1.ec2.internal");
    }

    #[test]
    fn never_expands_a_value() {
        assert_eq!(render("x-{{SessionNameRaw}}", "{{AccessKeyID}}"), "x-{{AccessKeyID}}");
        assert_eq!(render("{{{{AccountID}}AccountID}}", "s"), "{{123456789012AccountID}}");
    }

    #[test]
    fn leaves_the_unknown_alone_and_names_it() {
        let template = "{{Foo}}{{AccountID}}{{ AccountID }}{{{SessionName}}}{{}}{{x";
        assert_eq!(render(template, "s"), "{{Foo}}123456789012{{ AccountID }}{s}{{}}{{x");
        let unknown: Vec<_> = Template::new(template).unknown().collect();
        assert_eq!(unknown, ["{{Foo}}", "{{ AccountID }}"]);
    }

    #[test]
    fn says_what_it_needs() {
        assert_eq!(Template::new("system:masters").needs(), Needs::default());
        let needs = Template::new("system:node:{{EC2PrivateDNSName}}").needs();
        assert_eq!(needs, Needs { ec2_private_dns_name: true, ..Needs::default() });
        assert!(Template::new("{{SessionNameRaw}}").needs().session_name);
    }

    #[test]
    fn does_not_render_without_a_name_that_it_needs() {
        let values = Values { access_key_id: "", account_id: "", ec2_private_dns_name: None, session_name: "" };
        assert!(Template::new("{{EC2PrivateDNSName}}").render(&values, &mut String::new()).is_err());
    }

    #[test]
    fn an_sso_suffix_is_letters_and_digits_only() {
        let admin = Subject::Sso(SsoRole::new("Admin", "123456789012", Partition::Aws).unwrap());
        for (role, expected) in [
            ("AWSReservedSSO_Admin_0123456789abcdef", true),
            ("awsreservedsso_ADMIN_0123456789ABCDEF", true),
            ("AWSReservedSSO_Admin_Extra_0123456789abcdef", false),
            ("AWSReservedSSO_Admin_", false),
            ("AWSReservedSSO_Admin", false),
            ("AWSReservedSSO_Administrator_0123456789abcdef", false),
            ("xAWSReservedSSO_Admin_0123456789abcdef", false),
        ] {
            let arn = std::format!("arn:aws:sts::123456789012:assumed-role/{role}/jane");
            assert_eq!(admin.matches(&identity(&arn, "AROA:jane")), expected, "{role}");
        }
        let elsewhere = Subject::Sso(SsoRole::new("Admin", "123456789012", Partition::AwsUsGov).unwrap());
        let arn = "arn:aws:sts::123456789012:assumed-role/AWSReservedSSO_Admin_0123456789abcdef/jane";
        assert!(!elsewhere.matches(&identity(arn, "AROA:jane")));
    }

    #[test]
    fn refuses_a_permission_set_that_aws_would_not_take() {
        for (name, account, error) in [
            ("", "123456789012", SubjectError::PermissionSet),
            ("with blank", "123456789012", SubjectError::PermissionSet),
            ("star*", "123456789012", SubjectError::PermissionSet),
            ("a-name-that-is-longer-than-32-char", "123456789012", SubjectError::PermissionSet),
            ("Admin", "12345", SubjectError::Account),
        ] {
            assert_eq!(SsoRole::new(name, account, Partition::Aws), Err(error), "{name}");
        }
    }

    #[test]
    fn a_star_without_patterns_matches_nobody() {
        let subject = Subject::from_arn("arn:aws:iam::123456789012:role/*", false).unwrap();
        assert!(!subject.matches(&identity("arn:aws:sts::123456789012:assumed-role/Admin/s", "AROA:s")));
        let subject = Subject::from_arn("arn:aws:iam::123456789012:role/*", true).unwrap();
        assert!(subject.matches(&identity("arn:aws:sts::123456789012:assumed-role/Admin/s", "AROA:s")));
    }

    #[test]
    fn exact_beats_sso_beats_pattern_and_the_last_exact_and_first_pattern_win() {
        let role = "arn:aws:iam::123456789012:role/AWSReservedSSO_Admin_0123";
        let rule = |subject, name| Rule { subject, username: Template::new(name), groups: &[] };
        let arn = |text| Subject::from_arn(text, true).unwrap();
        let sso = Subject::Sso(SsoRole::new("Admin", "123456789012", Partition::Aws).unwrap());
        let rules = [
            rule(arn("arn:aws:iam::123456789012:role/*"), "first pattern"),
            rule(arn("arn:aws:iam::123456789012:role/A*"), "second pattern"),
            rule(sso, "first sso"),
            rule(sso, "second sso"),
            rule(arn(role), "first exact"),
            rule(arn("arn:aws:iam::123456789012:role/path/AWSReservedSSO_Admin_0123"), "second exact"),
        ];
        let identity = identity("arn:aws:sts::123456789012:assumed-role/AWSReservedSSO_Admin_0123/s", "AROA:s");
        let winner = |rules: &[Rule<'_>]| String::from(Rules(rules).find(&identity).map_or("", |rule| rule.username.as_str()));
        let by_id = rule(Subject::UserId(UserId::new("AROA", None)), "id");
        assert_eq!(winner(&[by_id, rules[4]]), "id");
        assert_eq!(winner(&rules), "second exact");
        assert_eq!(winner(&rules[..4]), "second sso");
        assert_eq!(winner(&rules[..2]), "first pattern");
        assert_eq!(winner(&[]), "");
    }

    #[test]
    fn a_unique_id_counts_if_what_is_beside_it_fits() {
        let session = identity("arn:aws:sts::123456789012:assumed-role/Admin/s", "AROAEXAMPLE:s");
        let beside = |text| Subject::from_arn(text, true).ok();
        for (id, beside, expected) in [
            ("AROAEXAMPLE", None, true),
            ("aroaexample", None, false),
            ("AROAEXAMPLE:s", None, false),
            ("", None, false),
            ("AROAEXAMPLE", beside("arn:aws:iam::123456789012:role/some/path/admin"), true),
            ("AROAEXAMPLE", beside("arn:aws:iam::123456789012:role/Other"), false),
            ("AROAEXAMPLE", beside("arn:aws:iam::123456789012:role/A*"), true),
            ("AROAEXAMPLE", beside("arn:aws:iam::123456789012:role/B*"), false),
            ("AROAOTHER", beside("arn:aws:iam::123456789012:role/Admin"), false),
            ("AROAEXAMPLE", SsoRole::new("Admin", "123456789012", Partition::Aws).ok().map(Subject::Sso), false),
        ] {
            let subject = Subject::UserId(UserId::new(id, beside));
            assert_eq!(subject.matches(&session), expected, "{subject:?}");
            // The same for one made of another: what is beside it stays.
            let again = Subject::UserId(UserId::new(id, Some(subject)));
            assert_eq!(again, subject);
        }
    }

    #[test]
    fn knows_an_instance_id() {
        for (name, expected) in [
            ("i-12345678", true),
            ("i-0123456789abcdef0", true),
            ("i-1234567", false),
            ("i-123456789", false),
            ("i-0123456789abcdef\u{e9}", false),
            ("jane", false),
        ] {
            assert_eq!(is_instance_id(name), expected, "{name}");
        }
    }
}
