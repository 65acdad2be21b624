//! ARNs of principals, and the canonical form that mappings compare.
//!
//! ARNs compare without ASCII case, and so are their fixed words read; names keep their case.

use core::fmt;
use core::hash::{Hash, Hasher};

use crate::endpoint::Partition;
use crate::limits::{ACCOUNT_ID_DIGITS, ARN_MAX_BYTES};

/// Who can call GetCallerIdentity, or be mapped.
///
/// AWS: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_principal.html>; upstream: pkg/arn/arn.go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Principal<'a> {
    /// `arn:P:sts::A:assumed-role/<role>/<session>`; the role may have a path, which STS never tells.
    AssumedRole {
        /// Name of the role, after its path if there is one.
        role: &'a str,
        /// Name of the session.
        session: &'a str,
    },
    /// `arn:P:sts::A:federated-user/<name>`
    FederatedUser {
        /// Name that the caller of GetFederationToken gave.
        name: &'a str,
    },
    /// `arn:P:iam::A:role/<name>`
    Role {
        /// Name of the role, after its path if there is one.
        name: &'a str,
    },
    /// `arn:P:iam::A:root`
    Root,
    /// `arn:P:iam::A:user/<name>`
    User {
        /// Name of the user, after its path if there is one.
        name: &'a str,
    },
}

/// The ARN of a principal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Arn<'a> {
    text: &'a str,
    partition: Partition,
    account_id: &'a str,
    principal: Principal<'a>,
}

impl<'a> Arn<'a> {
    /// Reads the ARN of a principal.
    ///
    /// # Syntax
    ///
    /// ```text
    /// arn      = "arn:" partition ":iam::" account ":" ( "root" / "user/" path / "role/" path )
    ///          / "arn:" partition ":sts::" account ":" ( "assumed-role/" path "/" segment / "federated-user/" segment )
    /// account  = 12DIGIT
    /// path     = segment *( "/" segment )
    /// segment  = 1*( %x20-2E / %x30-7E )
    /// ```
    ///
    /// The reference also takes empty names, a region, any account and any byte.
    ///
    /// # Errors
    ///
    /// [`ArnError`] names the part.
    pub fn parse(text: &'a str) -> Result<Self, ArnError> {
        if text.len() > ARN_MAX_BYTES {
            return Err(ArnError::TooLong);
        }
        if !is_printable_ascii(text) {
            return Err(ArnError::Bytes);
        }
        let mut parts = text.splitn(6, ':');
        let mut part = || parts.next().ok_or(ArnError::Form);
        let (prefix, partition, service, region, account_id, resource) = (part()?, part()?, part()?, part()?, part()?, part()?);
        if !prefix.eq_ignore_ascii_case("arn") {
            return Err(ArnError::Form);
        }
        let partition = Partition::from_name(partition).ok_or(ArnError::Partition)?;
        if !region.is_empty() {
            return Err(ArnError::Region);
        }
        check_account_id(account_id)?;
        let principal = if service.eq_ignore_ascii_case("iam") {
            iam_principal(resource)?
        } else if service.eq_ignore_ascii_case("sts") {
            sts_principal(resource)?
        } else {
            return Err(ArnError::Service);
        };
        Ok(Self { text, partition, account_id, principal })
    }

    /// The text as it was read.
    #[must_use]
    pub const fn as_str(&self) -> &'a str {
        self.text
    }

    /// Its partition.
    #[must_use]
    pub const fn partition(&self) -> Partition {
        self.partition
    }

    /// Its account, 12 digits.
    #[must_use]
    pub const fn account_id(&self) -> &'a str {
        self.account_id
    }

    /// Who it is.
    #[must_use]
    pub const fn principal(&self) -> Principal<'a> {
        self.principal
    }

    /// Its canonical form.
    #[must_use]
    pub const fn canonical(self) -> CanonicalArn<'a> {
        CanonicalArn(self)
    }

    /// Where its parts lie in its text.
    #[must_use]
    pub fn shape(&self) -> ArnShape {
        // All are parts of a text that is no longer than an ARN may be.
        let length = |part: &str| u16::try_from(part.len()).unwrap_or(u16::MAX);
        let kind = match self.principal {
            Principal::AssumedRole { role, session } => Kind::AssumedRole { role: length(role), session: length(session) },
            Principal::FederatedUser { name } => Kind::FederatedUser { name: length(name) },
            Principal::Role { name } => Kind::Role { name: length(name) },
            Principal::Root => Kind::Root,
            Principal::User { name } => Kind::User { name: length(name) },
        };
        ArnShape { partition: self.partition, kind }
    }
}

/// Where the parts of an [`Arn`] lie in its text. Kept beside the text, it spares reading the text again: that takes a fifth of a microsecond, this a hundredth.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct ArnShape {
    partition: Partition,
    kind: Kind,
}

/// A [`Principal`] by the lengths of its parts, which are the last ones of the text.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Kind {
    AssumedRole { role: u16, session: u16 },
    FederatedUser { name: u16 },
    Role { name: u16 },
    Root,
    User { name: u16 },
}

impl ArnShape {
    /// The ARN. Nothing is checked but that the parts lie within the text: it has to be that of which this is the shape, or one of the same parts.
    #[must_use]
    pub fn over(self, text: &str) -> Option<Arn<'_>> {
        let before_account: usize = ["arn:", self.partition.name(), ":iam::"].iter().map(|part| part.len()).sum();
        let account_id = text.get(before_account..)?.get(..ACCOUNT_ID_DIGITS)?;
        let principal = match self.kind {
            Kind::AssumedRole { role, session } => {
                let (rest, session) = split_last(text, session)?;
                let (_, role) = split_last(rest.strip_suffix('/')?, role)?;
                Principal::AssumedRole { role, session }
            }
            Kind::FederatedUser { name } => Principal::FederatedUser { name: split_last(text, name)?.1 },
            Kind::Role { name } => Principal::Role { name: split_last(text, name)?.1 },
            Kind::Root => Principal::Root,
            Kind::User { name } => Principal::User { name: split_last(text, name)?.1 },
        };
        Some(Arn { text, partition: self.partition, account_id, principal })
    }
}

/// The last so many bytes of a text, and what is before them.
pub(crate) fn split_last(text: &str, length: u16) -> Option<(&str, &str)> {
    text.split_at_checked(text.len().checked_sub(length.into())?)
}

/// Whether all of a text is `%x20-7E`. Looks at every byte, which is quicker than to stop at the first other one: the compiler takes sixteen at a time.
pub(crate) fn is_printable_ascii(text: &str) -> bool {
    text.bytes().fold(true, |printable, byte| printable & (0x20..=0x7E).contains(&byte))
}

/// Whether `text` is an AWS account id.
///
/// # Errors
///
/// [`ArnError::Account`].
pub fn check_account_id(text: &str) -> Result<(), ArnError> {
    if text.len() == ACCOUNT_ID_DIGITS && text.bytes().all(|byte| byte.is_ascii_digit()) { Ok(()) } else { Err(ArnError::Account) }
}

fn iam_principal(resource: &str) -> Result<Principal<'_>, ArnError> {
    if resource.eq_ignore_ascii_case("root") {
        return Ok(Principal::Root);
    }
    let (kind, path) = resource.split_once('/').ok_or(ArnError::Resource)?;
    let last = check_segments(path)?;
    if kind.eq_ignore_ascii_case("role") {
        Ok(Principal::Role { name: last })
    } else if kind.eq_ignore_ascii_case("user") {
        Ok(Principal::User { name: last })
    } else {
        Err(ArnError::Resource)
    }
}

fn sts_principal(resource: &str) -> Result<Principal<'_>, ArnError> {
    let (kind, path) = resource.split_once('/').ok_or(ArnError::Resource)?;
    let last = check_segments(path)?;
    if kind.eq_ignore_ascii_case("assumed-role") {
        let (role, session) = path.rsplit_once('/').ok_or(ArnError::Resource)?;
        let role = role.rsplit_once('/').map_or(role, |(_, name)| name);
        Ok(Principal::AssumedRole { role, session })
    } else if kind.eq_ignore_ascii_case("federated-user") && last == path {
        Ok(Principal::FederatedUser { name: last })
    } else {
        Err(ArnError::Resource)
    }
}

/// Checks that no segment is empty; returns the last.
fn check_segments(path: &str) -> Result<&str, ArnError> {
    let mut last = "";
    for segment in path.split('/') {
        if segment.is_empty() {
            return Err(ArnError::EmptySegment);
        }
        last = segment;
    }
    Ok(last)
}

/// An ARN with an assumed role written as the role itself: `arn:P:sts::A:assumed-role/R/S` becomes `arn:P:iam::A:role/R`. All others stay
/// as they are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CanonicalArn<'a>(Arn<'a>);

impl<'a> CanonicalArn<'a> {
    /// The ARN that it is the form of.
    #[must_use]
    pub const fn arn(&self) -> &Arn<'a> {
        &self.0
    }

    /// What exact mappings are looked up by.
    #[must_use]
    pub const fn key(self) -> ArnKey<'a> {
        ArnKey(self)
    }

    /// Whether two ARNs mean one principal: their [keys](Self::key) are equal.
    #[must_use]
    pub fn is_same_as(&self, other: &CanonicalArn<'_>) -> bool {
        let (a, b) = (&self.0, &other.0);
        a.partition == b.partition && a.account_id == b.account_id && resource_key(a) == resource_key(b)
    }
}

impl fmt::Display for CanonicalArn<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let arn = &self.0;
        match arn.principal {
            Principal::AssumedRole { .. } => {
                let parts = ["arn:", arn.partition.name(), ":iam::", arn.account_id, ":role/", assumed_role_path(arn.text)];
                parts.into_iter().try_for_each(|part| f.write_str(part))
            }
            Principal::FederatedUser { .. } | Principal::Role { .. } | Principal::Root | Principal::User { .. } => f.write_str(arn.text),
        }
    }
}

/// All of an assumed role's resource between its first and its last slash.
fn assumed_role_path(text: &str) -> &str {
    let path = text.split_once('/').map_or("", |(_, path)| path);
    path.rsplit_once('/').map_or("", |(role, _)| role)
}

/// What exact mappings compare: the canonical ARN in lower case, a role without its path.
///
/// STS never tells a role's path, and administrators copy ARNs that have one; so a role is found with or without it. A *user's* path is told,
/// and counts.
#[derive(Clone, Copy, Debug)]
pub struct ArnKey<'a>(CanonicalArn<'a>);

impl PartialEq for ArnKey<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.0.is_same_as(&other.0)
    }
}

impl Eq for ArnKey<'_> {}

impl Hash for ArnKey<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let arn = &self.0.0;
        let ResourceKey((_, kind, name)) = resource_key(arn);
        (arn.partition, arn.account_id, kind).hash(state);
        in_lower_case(name, |lower| state.write(lower));
        // So that no two lists of them are hashed alike.
        state.write_u8(0xFF);
    }
}

impl fmt::Display for ArnKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let arn = &self.0.0;
        let (service, kind, name) = resource_key(arn).0;
        for part in ["arn:", arn.partition.name(), ":", service, "::", arn.account_id, ":", kind] {
            f.write_str(part)?;
        }
        write_lower(name, f)
    }
}

/// Gives a name in lower case, some dozens of bytes at a time.
fn in_lower_case(name: &str, mut take: impl FnMut(&[u8])) {
    let mut room = [0; 64];
    for chunk in name.as_bytes().chunks(room.len()) {
        if let Some(lower) = room.get_mut(..chunk.len()) {
            lower.copy_from_slice(chunk);
            lower.make_ascii_lowercase();
            take(lower);
        }
    }
}

/// Writes a name in lower case.
fn write_lower(name: &str, out: &mut impl fmt::Write) -> fmt::Result {
    let mut written = Ok(());
    in_lower_case(name, |lower| {
        // An ARN is ASCII, so no piece ends within a character.
        written = written.and_then(|()| out.write_str(core::str::from_utf8(lower).map_err(|_| fmt::Error)?));
    });
    written
}

/// The part of an [`ArnKey`] behind the account.
struct ResourceKey<'a>((&'static str, &'static str, &'a str));

impl PartialEq for ResourceKey<'_> {
    fn eq(&self, other: &Self) -> bool {
        let ((_, kind, name), (_, other_kind, other_name)) = (self.0, other.0);
        kind == other_kind && name.eq_ignore_ascii_case(other_name)
    }
}

fn resource_key<'a>(arn: &Arn<'a>) -> ResourceKey<'a> {
    ResourceKey(match arn.principal {
        Principal::AssumedRole { role: name, .. } | Principal::Role { name } => ("iam", "role/", name),
        Principal::FederatedUser { name } => ("sts", "federated-user/", name),
        Principal::Root => ("iam", "root", ""),
        Principal::User { .. } => ("iam", "user/", arn.text.split_once('/').map_or("", |(_, path)| path)),
    })
}

/// Why a text is not the ARN of a principal.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ArnError {
    /// The account is not 12 digits.
    Account,
    /// A control character or one outside ASCII.
    Bytes,
    /// A name or a segment of a path is empty.
    EmptySegment,
    /// Not six parts with colons between, the first being `arn`.
    Form,
    /// No partition of that name.
    Partition,
    /// A region, where principals have none.
    Region,
    /// Not a user, a role, the root, an assumed role or a federated user.
    Resource,
    /// Neither `iam` nor `sts`.
    Service,
    /// Longer than [`ARN_MAX_BYTES`].
    TooLong,
}

impl fmt::Display for ArnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Account => "the account of the ARN is not 12 digits",
            Self::Bytes => "the ARN has a control character or one outside ASCII",
            Self::EmptySegment => "the ARN has an empty name or path segment",
            Self::Form => "not an ARN: expected arn:partition:service::account:resource",
            Self::Partition => "the ARN's partition is none of AWS",
            Self::Region => "the ARN has a region, where those of users and roles have none",
            Self::Resource => "the ARN is not that of a user, a role, the root, an assumed role or a federated user",
            Self::Service => "the ARN's service is neither iam nor sts",
            Self::TooLong => "the ARN is longer than 2048 bytes",
        })
    }
}

impl core::error::Error for ArnError {}

const _: () = assert!(size_of::<ArnError>() <= 2, "an ArnError travels in a register");

#[cfg(test)]
mod tests {
    extern crate std;
    use core::hash::{BuildHasher as _, BuildHasherDefault};
    use std::string::ToString as _;

    use super::*;

    fn canonical(text: &str) -> Result<std::string::String, ArnError> {
        Arn::parse(text).map(|arn| arn.canonical().to_string())
    }

    fn key(text: &str) -> std::string::String {
        Arn::parse(text).unwrap().canonical().key().to_string()
    }

    #[test]
    fn canonicalizes_as_the_reference_does() {
        // upstream: arnTests in pkg/arn/arn_test.go
        for (text, expected) in [
            ("arn:aws:iam::123456789012:user/Alice", "arn:aws:iam::123456789012:user/Alice"),
            ("arn:aws:iam::123456789012:role/Users", "arn:aws:iam::123456789012:role/Users"),
            ("arn:aws:sts::123456789012:assumed-role/Admin/Session", "arn:aws:iam::123456789012:role/Admin"),
            ("arn:aws:sts::123456789012:federated-user/Bob", "arn:aws:sts::123456789012:federated-user/Bob"),
            ("arn:aws:iam::123456789012:root", "arn:aws:iam::123456789012:root"),
            ("arn:aws:sts::123456789012:assumed-role/Org/Team/Admin/Session", "arn:aws:iam::123456789012:role/Org/Team/Admin"),
            ("arn:aws-cn:sts::123456789012:assumed-role/Admin/Session", "arn:aws-cn:iam::123456789012:role/Admin"),
            ("arn:aws-us-gov:sts::123456789012:assumed-role/Admin/Session", "arn:aws-us-gov:iam::123456789012:role/Admin"),
            ("arn:aws-eusc:iam::123456789012:user/Alice", "arn:aws-eusc:iam::123456789012:user/Alice"),
        ] {
            assert_eq!(canonical(text).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn refuses_with_the_part_that_is_wrong() {
        for (text, error) in [
            ("NOT AN ARN", ArnError::Form),
            ("arn:aws:iam::123456789012", ArnError::Form),
            ("anr:aws:iam::123456789012:root", ArnError::Form),
            ("arn:aws-mars:iam::123456789012:root", ArnError::Partition),
            ("arn:aws:s3::123456789012:user/Alice", ArnError::Service),
            ("arn:aws:iam:us-east-1:123456789012:user/Alice", ArnError::Region),
            ("arn:aws:iam::12345678901:user/Alice", ArnError::Account),
            ("arn:aws:iam::1234567890123:user/Alice", ArnError::Account),
            ("arn:aws:iam::12345678901x:user/Alice", ArnError::Account),
            ("arn:aws:iam:::user/Alice", ArnError::Account),
            ("arn:aws:iam::123456789012:user/", ArnError::EmptySegment),
            ("arn:aws:iam::123456789012:role//x", ArnError::EmptySegment),
            ("arn:aws:iam::123456789012:role/x/", ArnError::EmptySegment),
            ("arn:aws:sts::123456789012:assumed-role/x/", ArnError::EmptySegment),
            ("arn:aws:sts::123456789012:assumed-role/x", ArnError::Resource),
            ("arn:aws:sts::123456789012:federated-user/a/b", ArnError::Resource),
            ("arn:aws:sts::123456789012:root", ArnError::Resource),
            ("arn:aws:iam::123456789012:group/x", ArnError::Resource),
            ("arn:aws:iam::123456789012:root/x", ArnError::Resource),
            ("arn:aws:iam::123456789012:assumed-role/x/y", ArnError::Resource),
            ("arn:aws:iam::123456789012:user/A\u{7}", ArnError::Bytes),
            ("arn:aws:iam::123456789012:user/\u{c4}", ArnError::Bytes),
        ] {
            assert_eq!(canonical(text), Err(error), "{text}");
        }
        let long = std::format!("arn:aws:iam::123456789012:user/{}", "x".repeat(ARN_MAX_BYTES));
        assert_eq!(canonical(&long), Err(ArnError::TooLong));
    }

    #[test]
    fn a_role_has_one_key_with_or_without_path_and_session() {
        let expected = "arn:aws:iam::123456789012:role/admin";
        for text in [
            "arn:aws:iam::123456789012:role/Admin",
            "arn:aws:iam::123456789012:role/some/path/ADMIN",
            "ARN:AWS:IAM::123456789012:ROLE/Admin",
            "arn:aws:sts::123456789012:assumed-role/Admin/i-0123456789abcdef0",
        ] {
            assert_eq!(key(text), expected);
        }
        assert_eq!(key("arn:aws:iam::123456789012:user/Path/Bob"), "arn:aws:iam::123456789012:user/path/bob");
        assert_eq!(key("arn:aws:iam::123456789012:ROOT"), "arn:aws:iam::123456789012:root");
    }

    proptest::proptest! {
        #[test]
        fn what_is_canonical_stays_so(text in "arn:aws(-cn)?:(iam|sts)::[0-9]{12}:(user|role|root|assumed-role|federated-user)(/[A-Za-z]{0,3}){0,4}") {
            if let Ok(first) = canonical(&text) {
                let second = canonical(&first);
                proptest::prop_assert_eq!(second.as_deref(), Ok(first.as_str()));
            }
        }

        #[test]
        fn whatever_was_read_is_read_again_by_its_shape(
            text in "(arn|ARN):(aws|AWS-CN|aws-us-gov):(iam|STS)::[0-9]{12}:(user|role|root|Assumed-Role|federated-user)(/[A-Za-z ]{1,3}){0,4}",
            other in "[a-z:/é]{0,40}",
        ) {
            if let Ok(arn) = Arn::parse(&text) {
                proptest::prop_assert_eq!(arn.shape().over(&text), Some(arn));
                // Of another text it makes what it will, and no panic.
                let _ = arn.shape().over(&other);
                let _ = arn.shape().over(text.get(..text.len() - 1).unwrap_or_default());
            }
        }

        #[test]
        fn same_keys_are_the_same_principal(
            a in "arn:aws:(iam|sts)::[01]{12}:(user|role|assumed-role)(/[aB]{1,2}){1,3}",
            b in "arn:aws:(iam|sts)::[01]{12}:(user|role|assumed-role)(/[Ab]{1,2}){1,3}",
        ) {
            if let (Ok(x), Ok(y)) = (Arn::parse(&a), Arn::parse(&b)) {
                let same = x.canonical().is_same_as(&y.canonical());
                proptest::prop_assert_eq!(same, key(&a) == key(&b));
                let hash = |arn: Arn<'_>| BuildHasherDefault::<std::hash::DefaultHasher>::default().hash_one(arn.canonical().key());
                proptest::prop_assert_eq!(same, hash(x) == hash(y), "by chance once in 2^64");
            }
        }
    }
}
