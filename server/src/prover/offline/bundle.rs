//! A bundle of derived signing keys, and whose they are.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fmt::Write as _;
use std::path::Path;

use arngate_core::arn::{self, Arn, ArnError};
use arngate_core::identity::IdentityError;
use arngate_core::presigned::AccessKeyId;
use arngate_core::sigv4::{self, SigningKey};
use arngate_core::{Error, Identity, Partition, StsRequest, UnixSeconds};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::day::Day;
use super::file;
use crate::document::Errors;

/// Most days that are derived at once: who reads a bundle *is* its users for its days.
pub const DERIVED_DAYS_MAX: u8 = 14;

/// Whose signatures we can check.
#[derive(Clone, Debug)]
pub struct Bundle {
    partition: Partition,
    principals: BTreeMap<Box<str>, Principal>,
}

impl Bundle {
    /// Reads a file, or all files of a folder but for those that begin with a dot.
    ///
    /// # Errors
    ///
    /// All that is wrong with them: a file that is not root's or ours, or that others can reach; and by line what does not belong into a
    /// bundle for this partition. No key is in any message.
    pub fn load(path: &Path, partition: Partition) -> Result<Self, Errors> {
        file::load(path, partition)
    }

    /// Derives the keys of one user.
    ///
    /// # Errors
    ///
    /// [`PrincipalError`].
    pub fn derive(partition: Partition, from: &Derivation<'_>) -> Result<Self, PrincipalError> {
        check_access_key(from.access_key_id)?;
        let account_id = check_user(partition, from.arn)?;
        check_user_id(partition, account_id, from.arn, from.user_id)?;
        if !(1..=DERIVED_DAYS_MAX).contains(&from.days) {
            return Err(PrincipalError::Days);
        }
        let regions: BTreeSet<&str> = from.regions.iter().copied().collect();
        if regions.is_empty() {
            return Err(PrincipalError::NoRegion);
        }
        let mut keys = Vec::new();
        for days in 0..from.days {
            let day = from.first_day.later(days).ok_or(PrincipalError::Date)?;
            for region in &regions {
                check_region(partition, region)?;
                keys.push(DailyKey::new(day, Box::from(*region), SigningKey::derive(from.secret, day.as_str(), region)));
            }
        }
        let keys = KeyMaterial::DailyHmac(keys);
        let principal = Principal::checked(from.access_key_id.into(), from.arn.into(), account_id.into(), from.user_id.into(), keys);
        Ok(Self::of(partition, vec![principal]))
    }

    pub(super) fn of(partition: Partition, principals: Vec<Principal>) -> Self {
        Self { partition, principals: principals.into_iter().map(|principal| (principal.access_key_id.clone(), principal)).collect() }
    }

    /// The partition of all its principals and regions.
    #[must_use]
    pub const fn partition(&self) -> Partition {
        self.partition
    }

    /// All principals, in the order of their access keys.
    pub fn principals(&self) -> impl ExactSizeIterator<Item = &Principal> {
        self.principals.values()
    }

    /// Whose access key it is.
    #[must_use]
    pub fn look_up(&self, access_key_id: &str) -> Option<&Principal> {
        self.principals.get(access_key_id)
    }

    /// Judges the signature of a request.
    #[must_use]
    pub fn judge(&self, request: &StsRequest<'_>) -> Verdict<'_> {
        let url = request.url();
        if url.has_session_token() {
            return Verdict::SessionToken;
        }
        let Some(principal) = self.look_up(url.access_key_id().as_str()) else { return Verdict::UnknownKey };
        let date = url.signed_at();
        match principal.key_for(date.day(), url.host().region()) {
            None => Verdict::NoKeyForScope,
            Some(key) if sigv4::verify(request, key).is_ok() => Verdict::Good(principal),
            Some(_) => Verdict::Bad,
        }
    }

    /// Writes the bundle as [`load`](Self::load) reads it. The text holds the keys.
    #[must_use]
    pub fn to_yaml(&self) -> Zeroizing<String> {
        // A text that grows leaves copies of what it held behind; so it is long enough from the start.
        let length: usize = self.principals().map(|principal| 8192 + 160 * principal.keys().len()).sum();
        let mut yaml = Zeroizing::new(String::with_capacity(128 + length));
        // A String takes whatever is written.
        let _ = self.write_yaml(&mut yaml);
        yaml
    }

    fn write_yaml(&self, out: &mut String) -> fmt::Result {
        writeln!(out, "apiVersion: arngate/v1alpha1\nkind: SigningKeyBundle")?;
        writeln!(out, "principals:{}", if self.principals.is_empty() { " []" } else { "" })?;
        for principal in self.principals() {
            writeln!(out, "- accessKeyID: {}", Quoted(principal.access_key_id()))?;
            writeln!(out, "  arn: {}\n  userID: {}", Quoted(principal.arn()), Quoted(principal.user_id()))?;
            writeln!(out, "  signingKeys:{}", if principal.keys().is_empty() { " []" } else { "" })?;
            for DailyKey { day, region, key } in principal.keys() {
                let mut text = Zeroizing::new([0; 44]);
                let length = STANDARD.encode_slice(key.to_bytes().as_slice(), text.as_mut_slice()).map_err(|_| fmt::Error)?;
                let text = text.get(..length).and_then(|text| std::str::from_utf8(text).ok()).ok_or(fmt::Error)?;
                writeln!(out, "  - {{date: \"{day}\", region: {}, key: \"{text}\"}}", Quoted(region))?;
            }
        }
        Ok(())
    }
}

/// Text in double quotes. All that stands in a bundle is printable, but for a user id, which may be any text without control characters.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        for character in self.0.chars() {
            match character {
                '"' | '\\' => write!(f, "\\{character}")?,
                ' '..='~' => f.write_char(character)?,
                _ => write!(f, "\\U{:08x}", u32::from(character))?,
            }
        }
        f.write_str("\"")
    }
}

/// What a bundle says of a signature.
#[derive(Clone, Copy, Debug)]
pub enum Verdict<'b> {
    /// Not the signature of the key that we have.
    Bad,
    /// This one signed.
    Good(&'b Principal),
    /// We know the access key, but have no signing key for that day and region.
    NoKeyForScope,
    /// The request has a session token: only STS can say.
    SessionToken,
    /// We do not know the access key.
    UnknownKey,
}

impl Verdict<'_> {
    /// The word in the output of `inspect`.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Bad => "bad",
            Self::Good(_) => "good",
            Self::NoKeyForScope => "no-key-for-scope",
            Self::SessionToken => "not-checked",
            Self::UnknownKey => "unknown-key",
        }
    }
}

/// An IAM user whose keys we have.
#[derive(Clone, Debug)]
pub struct Principal {
    access_key_id: Box<str>,
    arn: Box<str>,
    account_id: Box<str>,
    user_id: Box<str>,
    material: KeyMaterial,
}

impl Principal {
    /// Of parts that the functions below have taken.
    pub(super) fn checked(access_key_id: String, arn: String, account_id: String, user_id: String, mut material: KeyMaterial) -> Self {
        match &mut material {
            KeyMaterial::DailyHmac(keys) => keys.sort_by(|a, b| (a.day, &a.region).cmp(&(b.day, &b.region))),
        }
        let [access_key_id, arn, account_id, user_id] = [access_key_id, arn, account_id, user_id].map(Into::into);
        Self { access_key_id, arn, account_id, user_id, material }
    }

    /// The access key id.
    #[must_use]
    pub fn access_key_id(&self) -> &str {
        &self.access_key_id
    }

    /// The ARN of the user.
    #[must_use]
    pub fn arn(&self) -> &str {
        &self.arn
    }

    /// The account, 12 digits.
    #[must_use]
    pub fn account_id(&self) -> &str {
        &self.account_id
    }

    /// The unique id of the user.
    #[must_use]
    pub fn user_id(&self) -> &str {
        &self.user_id
    }

    /// What its signatures are checked with.
    #[must_use]
    pub const fn material(&self) -> &KeyMaterial {
        &self.material
    }

    /// The signing key of a day (`YYYYMMDD`) and a region.
    #[must_use]
    pub fn key_for(&self, day: &str, region: &str) -> Option<&SigningKey> {
        self.keys().iter().find(|key| key.day.as_str() == day && &*key.region == region).map(|key| &key.key)
    }

    /// The regions that there are keys for, sorted, with the first and the last day of each.
    #[must_use]
    pub fn regions(&self) -> BTreeMap<&str, (Day, Day)> {
        let mut regions = BTreeMap::new();
        // The keys are sorted by day.
        for key in self.keys() {
            regions.entry(&*key.region).or_insert((key.day, key.day)).1 = key.day;
        }
        regions
    }

    /// When the last of its keys signs no more; `None` without keys.
    #[must_use]
    pub fn runs_out_at(&self) -> Option<UnixSeconds> {
        self.keys().last().map(|key| key.day.ends_at())
    }

    fn keys(&self) -> &[DailyKey] {
        match &self.material {
            KeyMaterial::DailyHmac(keys) => keys,
        }
    }
}

/// What a principal's signatures are checked with. SigV4A's public key will be another.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub enum KeyMaterial {
    /// Keys of SigV4, each for a day and a region; sorted by these.
    DailyHmac(Vec<DailyKey>),
}

/// A signing key with its day and region.
#[derive(Clone, Debug)]
pub struct DailyKey {
    day: Day,
    region: Box<str>,
    key: SigningKey,
}

impl DailyKey {
    pub(super) const fn new(day: Day, region: Box<str>, key: SigningKey) -> Self {
        Self { day, region, key }
    }

    /// The day.
    #[must_use]
    pub const fn day(&self) -> Day {
        self.day
    }

    /// The region.
    #[must_use]
    pub fn region(&self) -> &str {
        &self.region
    }
}

/// What [`Bundle::derive`] makes keys of.
#[derive(Clone, Copy)]
pub struct Derivation<'a> {
    /// The user's access key.
    pub access_key_id: &'a str,
    /// Its secret.
    pub secret: &'a [u8],
    /// The user.
    pub arn: &'a str,
    /// The user's unique id.
    pub user_id: &'a str,
    /// Where the keys are to work: at least one.
    pub regions: &'a [&'a str],
    /// From when.
    pub first_day: Day,
    /// How many days, 1 to [`DERIVED_DAYS_MAX`].
    pub days: u8,
}

impl fmt::Debug for Derivation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Derivation").field("access_key_id", &self.access_key_id).field("arn", &self.arn).finish_non_exhaustive()
    }
}

/// What does not belong into a bundle.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PrincipalError {
    /// No access key id.
    #[error(transparent)]
    AccessKey(Error),
    /// No ARN of a principal.
    #[error(transparent)]
    Arn(ArnError),
    /// No day.
    #[error("expected a day as YYYYMMDD")]
    Date,
    /// Too few or too many days.
    #[error("expected 1 to {DERIVED_DAYS_MAX} days")]
    Days,
    /// No signing key.
    #[error("expected base64 of the 32 bytes of a derived signing key")]
    Key,
    /// Nowhere.
    #[error("expected at least one region")]
    NoRegion,
    /// A principal that is no user.
    #[error("this is {0}; a bundle takes the keys of IAM users only")]
    NotAUser(&'static str),
    /// A principal of another partition.
    #[error("this is a user of the partition {is}; expected {expected}")]
    Partition {
        /// The one it is of.
        is: Partition,
        /// Ours.
        expected: Partition,
    },
    /// No region of the partition.
    #[error("this is no region of the partition {expected}")]
    Region {
        /// Ours.
        expected: Partition,
    },
    /// A region of another partition.
    #[error("this is a region of the partition {is}; expected {expected}")]
    RegionElsewhere {
        /// The one it is of.
        is: Partition,
        /// Ours.
        expected: Partition,
    },
    /// A temporary access key.
    #[error("ASIA… keys are temporary and go with a session token, which only STS can prove; a bundle takes the keys of IAM users only")]
    Temporary,
    /// No unique id.
    #[error(transparent)]
    UserId(IdentityError),
}

pub(super) fn check_access_key(text: &str) -> Result<(), PrincipalError> {
    let id = AccessKeyId::parse(text).map_err(PrincipalError::AccessKey)?;
    if id.is_temporary() { Err(PrincipalError::Temporary) } else { Ok(()) }
}

/// Takes the ARN of an IAM user of `partition`; returns the account.
pub(super) fn check_user(partition: Partition, text: &str) -> Result<&str, PrincipalError> {
    let arn = Arn::parse(text).map_err(PrincipalError::Arn)?;
    match arn.principal() {
        arn::Principal::User { .. } => {}
        arn::Principal::AssumedRole { .. } | arn::Principal::Role { .. } => return Err(PrincipalError::NotAUser("a role")),
        arn::Principal::FederatedUser { .. } => return Err(PrincipalError::NotAUser("a federated user")),
        arn::Principal::Root => return Err(PrincipalError::NotAUser("the root of an account")),
    }
    let is = arn.partition();
    if is == partition { Ok(arn.account_id()) } else { Err(PrincipalError::Partition { is, expected: partition }) }
}

pub(super) fn check_user_id(partition: Partition, account_id: &str, arn: &str, user_id: &str) -> Result<(), PrincipalError> {
    Identity::check(partition, account_id, arn, user_id).map(|_| ()).map_err(PrincipalError::UserId)
}

pub(super) fn check_region(partition: Partition, region: &str) -> Result<(), PrincipalError> {
    let is_of = |partition: Partition| partition.known_regions().contains(&region) || partition.has_shape_of(region);
    if is_of(partition) {
        return Ok(());
    }
    match Partition::ALL.into_iter().find(|other| is_of(*other)) {
        Some(is) => Err(PrincipalError::RegionElsewhere { is, expected: partition }),
        None => Err(PrincipalError::Region { expected: partition }),
    }
}

/// Reads a signing key, leaving none of its bytes behind.
pub(super) fn read_key(text: &str) -> Result<SigningKey, PrincipalError> {
    // 44 characters decode to 33 bytes at most, before the padding is looked at.
    let mut bytes = Zeroizing::new([0; 33]);
    let length = STANDARD.decode_slice(text, bytes.as_mut_slice()).map_err(|_| PrincipalError::Key)?;
    let key = bytes.get(..length).and_then(|key| <[u8; 32]>::try_from(key).ok()).map(Zeroizing::new);
    key.map(|key| SigningKey::from_bytes(*key)).ok_or(PrincipalError::Key)
}

#[cfg(test)]
mod tests {
    use super::*;

    const USER: &str = "arn:aws:iam::123456789012:user/edge-operator";

    fn derivation() -> Derivation<'static> {
        Derivation {
            access_key_id: "AKIAIOSFODNN7EXAMPLE",
            secret: b"wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
            arn: USER,
            user_id: "AIDACKCEVSQ6C2EXAMPLE",
            regions: &["us-east-1", "eu-west-1", "us-east-1"],
            first_day: Day::parse("20261130").unwrap(),
            days: 2,
        }
    }

    fn refusal(partition: Partition, change: impl FnOnce(&mut Derivation<'static>)) -> String {
        let mut derivation = derivation();
        change(&mut derivation);
        Bundle::derive(partition, &derivation).unwrap_err().to_string()
    }

    #[test]
    fn derives_a_key_for_each_day_and_region() {
        let bundle = Bundle::derive(Partition::Aws, &derivation()).unwrap();
        let principal = bundle.look_up("AKIAIOSFODNN7EXAMPLE").unwrap();
        assert_eq!(principal.keys().len(), 4);
        let expected = SigningKey::derive(derivation().secret, "20261201", "eu-west-1");
        assert!(principal.key_for("20261201", "eu-west-1") == Some(&expected));
        assert!(principal.key_for("20261202", "eu-west-1").is_none());
        assert!(principal.key_for("20261201", "eu-west-2").is_none());
        assert!(bundle.look_up("AKIAIOSFODNN7EXAMPLF").is_none());
    }

    #[test]
    fn tells_regions_days_and_the_end() {
        let bundle = Bundle::derive(Partition::Aws, &derivation()).unwrap();
        let principal = bundle.principals().next().unwrap();
        let days = (Day::parse("20261130").unwrap(), Day::parse("20261201").unwrap());
        assert_eq!(principal.regions(), BTreeMap::from([("eu-west-1", days), ("us-east-1", days)]));
        assert_eq!(principal.runs_out_at(), Some(Day::parse("20261202").unwrap().starts_at()));
    }

    #[test]
    fn derives_for_users_only_and_for_a_fortnight_at_most() {
        let aws = Partition::Aws;
        for (refusal, expected) in [
            (
                refusal(aws, |from| from.access_key_id = "ASIAIOSFODNN7EXAMPLE"),
                "ASIA… keys are temporary and go with a session token, which only STS can prove; a bundle takes the keys of IAM users only",
            ),
            (refusal(aws, |from| from.access_key_id = "AKIA"), "the access key id is not 16 to 128 letters, digits or underscores"),
            (
                refusal(aws, |from| from.arn = "arn:aws:iam::123456789012:root"),
                "this is the root of an account; a bundle takes the keys of IAM users only",
            ),
            (
                refusal(aws, |from| from.arn = "arn:aws:iam::123456789012:role/Admin"),
                "this is a role; a bundle takes the keys of IAM users only",
            ),
            (
                refusal(aws, |from| from.arn = "arn:aws:sts::123456789012:federated-user/Bob"),
                "this is a federated user; a bundle takes the keys of IAM users only",
            ),
            (refusal(Partition::AwsCn, |_| ()), "this is a user of the partition aws; expected aws-cn"),
            (refusal(aws, |from| from.user_id = ""), "the user id is empty, longer than 256 bytes, or has control characters"),
            (refusal(aws, |from| from.regions = &["us-gov-west-1"]), "this is a region of the partition aws-us-gov; expected aws"),
            (refusal(aws, |from| from.regions = &["mars"]), "this is no region of the partition aws"),
            (refusal(aws, |from| from.regions = &[]), "expected at least one region"),
            (refusal(aws, |from| from.days = 0), "expected 1 to 14 days"),
            (refusal(aws, |from| from.days = 15), "expected 1 to 14 days"),
            (refusal(aws, |from| from.first_day = Day::parse("99991231").unwrap()), "expected a day as YYYYMMDD"),
        ] {
            assert_eq!(refusal, expected);
        }
    }

    #[test]
    fn debug_hides_secrets_and_keys() {
        let bundle = Bundle::derive(Partition::Aws, &derivation()).unwrap();
        let key = bundle.principals().next().unwrap().key_for("20261130", "us-east-1").unwrap().to_bytes();
        let text = format!("{bundle:?} {:?}", derivation());
        assert!(text.contains("SigningKey(..)") && text.contains("AKIAIOSFODNN7EXAMPLE"), "{text}");
        for secret in ["wJalr", &STANDARD.encode(key.as_slice()), &format!("{:?}", key.as_slice())] {
            assert!(!text.contains(secret), "{text}");
        }
    }

    #[test]
    fn a_key_is_32_bytes_in_base64() {
        assert!(read_key(&STANDARD.encode([7; 32])) == Ok(SigningKey::from_bytes([7; 32])));
        for bad in ["", "AAAA", &STANDARD.encode([7; 31]), &STANDARD.encode([7; 33]), &STANDARD.encode([7; 300]), &"_".repeat(44)] {
            assert_eq!(read_key(bad), Err(PrincipalError::Key), "{bad}");
        }
    }
}
