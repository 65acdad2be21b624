//! The little of a certificate that TLS libraries keep to themselves: how long it is good, and what it calls its owner.
//!
//! A reader of DER as far as that takes (RFC 5280, section 4.1; X.690). It judges nothing: whether a certificate is to be trusted is webpki's to say.

use arngate_core::UnixSeconds;

/// What is read of a certificate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Summary {
    /// The first instant at which it is good.
    pub not_before: UnixSeconds,
    /// The last instant at which it is good.
    pub not_after: UnixSeconds,
    /// What it calls its owner: the common name, if there is exactly one, and the alternative names that are text (DNS, mail, URI).
    pub names: Vec<String>,
}

impl Summary {
    /// Reads a certificate; none where it is not one.
    #[must_use]
    pub fn parse(der: &[u8]) -> Option<Self> {
        let mut outer = Reader(der);
        let mut certificate = outer.expect(SEQUENCE)?;
        let mut fields = certificate.expect(SEQUENCE)?;
        // The version is there unless it is the first, which nobody uses.
        fields.take_if(0xa0);
        fields.expect(INTEGER)?;
        fields.expect(SEQUENCE)?;
        fields.expect(SEQUENCE)?;
        let mut validity = fields.expect(SEQUENCE)?;
        let (not_before, not_after) = (validity.time()?, validity.time()?);
        let mut names = common_name(fields.expect(SEQUENCE)?).into_iter().collect();
        fields.expect(SEQUENCE)?;
        while let Some((tag, content)) = fields.next() {
            if tag == 0xa3 {
                alternative_names(Reader(content), &mut names)?;
            }
        }
        Some(Self { not_before, not_after, names })
    }
}

const INTEGER: u8 = 0x02;
const OCTETS: u8 = 0x04;
const OBJECT_ID: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;

/// 2.5.4.3
const COMMON_NAME: &[u8] = &[0x55, 4, 3];
/// 2.5.29.17
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 29, 17];

fn common_name(mut subject: Reader<'_>) -> Option<String> {
    let mut found = None;
    while let Some((SET, set)) = subject.next() {
        let mut set = Reader(set);
        while let Some((SEQUENCE, pair)) = set.next() {
            let mut pair = Reader(pair);
            if pair.expect(OBJECT_ID)?.0 != COMMON_NAME {
                continue;
            }
            // UTF8String, PrintableString, IA5String: the others are not what they seem.
            let (0x0c | 0x13 | 0x16, name) = pair.next()? else { return None };
            if found.replace(std::str::from_utf8(name).ok()?.to_owned()).is_some() {
                return None;
            }
        }
    }
    found
}

fn alternative_names(mut extensions: Reader<'_>, names: &mut Vec<String>) -> Option<()> {
    let mut extensions = extensions.expect(SEQUENCE)?;
    while let Some((SEQUENCE, extension)) = extensions.next() {
        let mut extension = Reader(extension);
        if extension.expect(OBJECT_ID)?.0 != SUBJECT_ALT_NAME {
            continue;
        }
        // Whether it is critical.
        extension.take_if(0x01);
        let mut listed = extension.expect(OCTETS)?.expect(SEQUENCE)?;
        while let Some((tag, name)) = listed.next() {
            // rfc822Name, dNSName, uniformResourceIdentifier.
            if matches!(tag, 0x81 | 0x82 | 0x86) {
                names.push(std::str::from_utf8(name).ok()?.to_owned());
            }
        }
    }
    Some(())
}

/// Elements one after the other.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Tag and content of the next one; none at the end, or where there is nothing that can be read.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&[tag, length], mut rest) = self.0.split_first_chunk::<2>()?;
        let length = match length {
            0..=0x7f => usize::from(length),
            // DER: as few octets as possible, and no certificate has more than four.
            0x81..=0x84 => {
                let (octets, behind) = rest.split_at_checked(usize::from(length & 0x7f))?;
                rest = behind;
                octets.iter().try_fold(0_usize, |sum, octet| Some(sum.checked_mul(256)? | usize::from(*octet)))?
            }
            _ => return None,
        };
        let (content, behind) = rest.split_at_checked(length)?;
        self.0 = behind;
        Some((tag, content))
    }

    fn expect(&mut self, expected: u8) -> Option<Self> {
        let (tag, content) = self.next()?;
        (tag == expected).then_some(Self(content))
    }

    fn take_if(&mut self, optional: u8) {
        if self.0.first() == Some(&optional) {
            self.next();
        }
    }

    /// `UTCTime` (until 2049) or `GeneralizedTime`, in the only forms that RFC 5280 allows.
    fn time(&mut self) -> Option<UnixSeconds> {
        let (tag, text) = self.next()?;
        let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
        if !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let (year, rest) = match (tag, text.len()) {
            (0x17, 12) => {
                let (year, rest) = text.split_at(2);
                let year: i64 = year.parse().ok()?;
                (if year < 50 { 2000 + year } else { 1900 + year }, rest)
            }
            (0x18, 14) => {
                let (year, rest) = text.split_at(4);
                (year.parse().ok()?, rest)
            }
            _ => return None,
        };
        let part = |at: usize| rest.get(at..at + 2)?.parse::<i64>().ok();
        let (month, day) = (part(0)?, part(2)?);
        let seconds = part(4)? * 3600 + part(6)? * 60 + part(8)?;
        Some(UnixSeconds::new(days_from_civil(year, month, day) * 86_400 + seconds))
    }
}

/// Days from 1970-01-01 to a day of the Gregorian calendar. <https://howardhinnant.github.io/date_algorithms.html>
const fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, date_time_ymd};

    use super::*;

    fn certificate(edit: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["kube.example".to_owned(), "10.0.0.1".to_owned()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        edit(&mut params);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn reads_how_long_it_is_good_in_both_spellings_of_time() {
        let summary = |from: (i32, u8, u8), to: (i32, u8, u8)| {
            let der = certificate(|params| {
                params.not_before = date_time_ymd(from.0, from.1, from.2);
                params.not_after = date_time_ymd(to.0, to.1, to.2);
            });
            let summary = Summary::parse(&der).unwrap();
            (summary.not_before.as_i64(), summary.not_after.as_i64())
        };
        assert_eq!(summary((1999, 12, 31), (2026, 11, 24)), (946_598_400, 1_795_478_400));
        assert_eq!(summary((2024, 2, 29), (2126, 3, 1)), (1_709_164_800, 4_927_996_800));
    }

    #[test]
    fn reads_what_the_owner_is_called() {
        let names = |edit: fn(&mut CertificateParams)| Summary::parse(&certificate(edit)).unwrap().names;
        assert_eq!(names(|_| {}), ["kube.example"]);
        assert_eq!(
            names(|params| params.distinguished_name.push(DnType::CommonName, "kube-apiserver")),
            ["kube-apiserver", "kube.example"]
        );
        assert_eq!(names(|params| params.distinguished_name.push(DnType::OrganizationName, "kube-apiserver")), ["kube.example"]);
    }

    #[test]
    fn what_is_cut_off_or_damaged_is_no_certificate() {
        let der = certificate(|_| {});
        for length in 0..der.len() {
            assert_eq!(Summary::parse(&der[..length]), None);
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_makes_it_panic(at in 0_usize..300, byte: u8, bytes in proptest::collection::vec(0_u8.., 0..64)) {
            let _ = Summary::parse(&bytes);
            let mut der = certificate(|_| {});
            if let Some(place) = der.get_mut(at) {
                *place = byte;
            }
            let _ = Summary::parse(&der);
        }
    }
}
