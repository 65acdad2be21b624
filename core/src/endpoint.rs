//! Which hosts are STS, in which partition and region.
//!
//! A host is never judged by one of its labels: it is ours when it equals, byte for byte, a host that we can write ourselves from a
//! partition, a region and the two switches FIPS and dual-stack. So nobody can point us, or STS' answer, anywhere else.

use core::{fmt, str};

use crate::Error;
use crate::limits::REGION_MAX_BYTES;

/// An AWS partition.
///
/// AWS: <https://docs.aws.amazon.com/whitepapers/latest/aws-fault-isolation-boundaries/partitions.html>;
/// upstream: pkg/endpoints/partitions.go.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Partition {
    /// Commercial regions.
    Aws,
    /// China.
    AwsCn,
    /// European Sovereign Cloud.
    AwsEusc,
    /// US Top Secret.
    AwsIso,
    /// US Secret.
    AwsIsoB,
    /// Europe, isolated.
    AwsIsoE,
    /// US, isolated (F).
    AwsIsoF,
    /// GovCloud (US).
    AwsUsGov,
}

impl Partition {
    /// All partitions, in the order in which the reference lists them.
    pub const ALL: [Self; 8] =
        [Self::Aws, Self::AwsCn, Self::AwsUsGov, Self::AwsIso, Self::AwsIsoB, Self::AwsIsoE, Self::AwsIsoF, Self::AwsEusc];

    /// The name that stands in ARNs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Aws => "aws",
            Self::AwsCn => "aws-cn",
            Self::AwsEusc => "aws-eusc",
            Self::AwsIso => "aws-iso",
            Self::AwsIsoB => "aws-iso-b",
            Self::AwsIsoE => "aws-iso-e",
            Self::AwsIsoF => "aws-iso-f",
            Self::AwsUsGov => "aws-us-gov",
        }
    }

    /// The partition of that name, compared without ASCII case.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|partition| partition.name().eq_ignore_ascii_case(name))
    }

    /// The DNS suffix of its endpoints.
    ///
    /// AWS: `dnsSuffix` in the SDKs' partitions.json; upstream: `GetSTSPartitionDomain`.
    #[must_use]
    pub const fn domain(self) -> &'static str {
        match self {
            Self::Aws | Self::AwsUsGov => "amazonaws.com",
            Self::AwsCn => "amazonaws.com.cn",
            Self::AwsEusc => "amazonaws.eu",
            Self::AwsIso => "c2s.ic.gov",
            Self::AwsIsoB => "sc2s.sgov.gov",
            Self::AwsIsoE => "cloud.adc-e.uk",
            Self::AwsIsoF => "csp.hci.ic.gov",
        }
    }

    /// The DNS suffix of its dual-stack endpoints, where the reference knows one.
    ///
    /// upstream: `GetSTSDualStackPartitionDomain`.
    #[must_use]
    pub const fn dual_stack_domain(self) -> Option<&'static str> {
        match self {
            Self::Aws | Self::AwsUsGov => Some("api.aws"),
            Self::AwsCn => Some("api.amazonwebservices.com.cn"),
            Self::AwsEusc => Some("api.amazonwebservices.eu"),
            Self::AwsIso | Self::AwsIsoB | Self::AwsIsoE | Self::AwsIsoF => None,
        }
    }

    /// The regions that were announced when this was written.
    ///
    /// AWS: the SDKs' partitions.json, without the pseudo-regions for global services.
    #[must_use]
    pub const fn known_regions(self) -> &'static [&'static str] {
        match self {
            Self::Aws => &[
                "af-south-1",
                "ap-east-1",
                "ap-east-2",
                "ap-northeast-1",
                "ap-northeast-2",
                "ap-northeast-3",
                "ap-south-1",
                "ap-south-2",
                "ap-southeast-1",
                "ap-southeast-2",
                "ap-southeast-3",
                "ap-southeast-4",
                "ap-southeast-5",
                "ap-southeast-6",
                "ap-southeast-7",
                "ca-central-1",
                "ca-west-1",
                "eu-central-1",
                "eu-central-2",
                "eu-north-1",
                "eu-south-1",
                "eu-south-2",
                "eu-west-1",
                "eu-west-2",
                "eu-west-3",
                "il-central-1",
                "me-central-1",
                "me-south-1",
                "mx-central-1",
                "sa-east-1",
                "us-east-1",
                "us-east-2",
                "us-west-1",
                "us-west-2",
            ],
            Self::AwsCn => &["cn-north-1", "cn-northwest-1"],
            Self::AwsEusc => &["eusc-de-east-1"],
            Self::AwsIso => &["us-iso-east-1", "us-iso-west-1"],
            Self::AwsIsoB => &["us-isob-east-1", "us-isob-west-1"],
            Self::AwsIsoE => &["eu-isoe-west-1"],
            Self::AwsIsoF => &["us-isof-east-1", "us-isof-south-1"],
            Self::AwsUsGov => &["us-gov-east-1", "us-gov-west-1"],
        }
    }

    /// Whether a region that we do not know has the shape of this partition's regions.
    ///
    /// # Syntax
    ///
    /// ```text
    /// region    = geography "-" 1*LOWER "-" 1*2DIGIT
    /// geography = 2LOWER            ; aws, any country but cn: AWS adds new ones (mx in 2025)
    ///           / "cn" / "us-gov" / "us-iso" / "us-isob" / "eu-isoe" / "us-isof" / "eusc-" 2LOWER
    /// ```
    ///
    /// AWS: `regionRegex` in the SDKs' partitions.json, narrowed to what AWS has ever used.
    #[must_use]
    pub fn has_shape_of(self, region: &str) -> bool {
        if region.len() > REGION_MAX_BYTES {
            return false;
        }
        let region = region.as_bytes();
        let rest = match (self, region) {
            (Self::Aws, [b'c', b'n', ..]) => None,
            (Self::Aws, [a, b, b'-', rest @ ..]) | (Self::AwsEusc, [b'e', b'u', b's', b'c', b'-', a, b, b'-', rest @ ..]) => {
                (a.is_ascii_lowercase() && b.is_ascii_lowercase()).then_some(rest)
            }
            (Self::Aws | Self::AwsEusc, _) => None,
            (Self::AwsCn, _) => region.strip_prefix(b"cn-"),
            (Self::AwsIso, _) => region.strip_prefix(b"us-iso-"),
            (Self::AwsIsoB, _) => region.strip_prefix(b"us-isob-"),
            (Self::AwsIsoE, _) => region.strip_prefix(b"eu-isoe-"),
            (Self::AwsIsoF, _) => region.strip_prefix(b"us-isof-"),
            (Self::AwsUsGov, _) => region.strip_prefix(b"us-gov-"),
        };
        rest.is_some_and(|rest| {
            let letters = rest.iter().take_while(|byte| byte.is_ascii_lowercase()).count();
            let number = match rest.get(letters..) {
                Some([b'-', number @ ..]) if letters > 0 => number,
                _ => return false,
            };
            matches!(number, [a] if a.is_ascii_digit()) || matches!(number, [a, b] if a.is_ascii_digit() && b.is_ascii_digit())
        })
    }

    /// `sts-fips.us-gov-*.amazonaws.com` does not exist: there the plain endpoint is the FIPS one. Every other pair does.
    const fn has_fips_host(self, dual_stack: bool) -> bool {
        !matches!(self, Self::AwsUsGov) || dual_stack
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Which of the two STS endpoints of a region.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fips {
    /// `sts.`
    No,
    /// `sts-fips.`, or the plain one where that is validated (GovCloud).
    Yes,
}

/// The region that the global endpoint signs for.
///
/// AWS: <https://docs.aws.amazon.com/general/latest/gr/sts.html>.
const GLOBAL_REGION: &str = "us-east-1";
const GLOBAL_HOST: &str = "sts.amazonaws.com";

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Form {
    /// `sts.amazonaws.com`
    Global,
    Regional {
        fips: bool,
        dual_stack: bool,
    },
}

/// A host of STS. Its `Display` is the host, written from our own table and the region.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct StsHost<'a> {
    partition: Partition,
    region: &'a str,
    form: Form,
}

impl<'a> StsHost<'a> {
    /// The global endpoint of the partition `aws`.
    #[must_use]
    pub const fn global() -> Self {
        Self { partition: Partition::Aws, region: GLOBAL_REGION, form: Form::Global }
    }

    /// The endpoint of a region, for a client that signs.
    ///
    /// # Errors
    ///
    /// [`Error::Host`] where `region` cannot be a DNS label.
    pub fn regional(partition: Partition, region: &'a str, fips: Fips) -> Result<Self, Error> {
        if !is_region_label(region) {
            return Err(Error::Host);
        }
        let fips = fips == Fips::Yes && partition.has_fips_host(false);
        Ok(Self { partition, region, form: Form::Regional { fips, dual_stack: false } })
    }

    /// The dual-stack endpoint of a region, for a client that signs.
    ///
    /// # Errors
    ///
    /// [`Error::Host`] where `region` cannot be a DNS label, or the partition has no dual-stack endpoints.
    pub fn dual_stack(partition: Partition, region: &'a str, fips: Fips) -> Result<Self, Error> {
        if !is_region_label(region) || partition.dual_stack_domain().is_none() {
            return Err(Error::Host);
        }
        let fips = fips == Fips::Yes && partition.has_fips_host(true);
        let form = Form::Regional { fips, dual_stack: true };
        Ok(Self { partition, region, form })
    }

    /// Its partition.
    #[must_use]
    pub const fn partition(&self) -> Partition {
        self.partition
    }

    /// The region that a request to it is signed for.
    #[must_use]
    pub const fn region(&self) -> &'a str {
        self.region
    }

    /// The region, if it is one of [`Partition::known_regions`]: fit for a metric label, for there are few of them.
    #[must_use]
    pub fn known_region(&self) -> Option<&'static str> {
        self.partition.known_regions().iter().copied().find(|known| *known == self.region)
    }

    /// Whether it is `sts.amazonaws.com`.
    #[must_use]
    pub const fn is_global(&self) -> bool {
        matches!(self.form, Form::Global)
    }

    pub(crate) fn write_to(&self, out: &mut impl fmt::Write) -> fmt::Result {
        let Form::Regional { fips, dual_stack } = self.form else {
            return out.write_str(GLOBAL_HOST);
        };
        out.write_str(if fips { "sts-fips." } else { "sts." })?;
        out.write_str(self.region)?;
        out.write_str(".")?;
        let plain = self.partition.domain();
        out.write_str(if dual_stack { self.partition.dual_stack_domain().unwrap_or(plain) } else { plain })
    }

    /// The host that is `text`, among those of one partition.
    fn in_partition(text: &'a [u8], partition: Partition, own_region: Option<&str>) -> Option<Self> {
        if text == GLOBAL_HOST.as_bytes() {
            return (partition == Partition::Aws).then(Self::global);
        }
        let (fips, rest) = match text.strip_prefix(b"sts-fips.") {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix(b"sts.")?),
        };
        let candidates = [(false, Some(partition.domain())), (true, partition.dual_stack_domain())];
        for (dual_stack, domain) in candidates {
            let Some(region) = domain.and_then(|domain| rest.strip_suffix(domain.as_bytes())?.strip_suffix(b".")) else {
                continue;
            };
            let region = str::from_utf8(region).ok()?;
            // What was stripped off are constants, so what is left is all that the sender chose. Known regions have the shape, too.
            let fits = partition.has_shape_of(region);
            let is_own = !fips && own_region == Some(region) && is_region_label(region);
            if is_own || fits && (!fips || partition.has_fips_host(dual_stack)) {
                return Some(Self { partition, region, form: Form::Regional { fips, dual_stack } });
            }
        }
        None
    }
}

impl fmt::Display for StsHost<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_to(f)
    }
}

/// Letters, digits and inner hyphens, lower case: what our own region may look like where we do not know it.
fn is_region_label(text: &str) -> bool {
    (1..=REGION_MAX_BYTES).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// Which hosts a verifier takes: those of its partition, and of its own region even where that is newer than this program.
#[derive(Clone, Copy, Debug)]
pub struct StsHosts<'a> {
    partition: Partition,
    own_region: Option<&'a str>,
}

impl<'a> StsHosts<'a> {
    /// The hosts of a partition.
    #[must_use]
    pub const fn new(partition: Partition) -> Self {
        Self { partition, own_region: None }
    }

    /// And those of the verifier's own region, whatever its shape (`sts.` hosts only, as in the reference).
    #[must_use]
    pub const fn with_own_region(self, region: Option<&'a str>) -> Self {
        Self { own_region: region, ..self }
    }

    /// The host that `text` is.
    ///
    /// # Errors
    ///
    /// [`Error::Partition`] for an STS host of another partition, [`Error::Host`] for anything else.
    pub fn judge<'h>(&self, text: &'h str) -> Result<StsHost<'h>, Error> {
        self.judge_bytes(text.as_bytes())
    }

    pub(crate) fn judge_bytes<'h>(&self, text: &'h [u8]) -> Result<StsHost<'h>, Error> {
        if let Some(host) = StsHost::in_partition(text, self.partition, self.own_region) {
            return Ok(host);
        }
        let elsewhere = Partition::ALL.into_iter().any(|other| StsHost::in_partition(text, other, None).is_some());
        Err(if elsewhere { Error::Partition } else { Error::Host })
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::format;
    use std::string::ToString as _;

    use super::*;

    fn judge(partition: Partition, host: &str) -> Result<(), Error> {
        StsHosts::new(partition).judge(host).map(|_| ())
    }

    #[test]
    fn takes_each_known_region_in_its_partition_only() {
        for partition in Partition::ALL {
            for region in partition.known_regions() {
                assert!(partition.has_shape_of(region), "{region}");
                let host = format!("sts.{region}.{}", partition.domain());
                for other in Partition::ALL {
                    let expected = if other == partition { Ok(()) } else { Err(Error::Partition) };
                    assert_eq!(judge(other, &host), expected, "{host} in {other}");
                }
            }
        }
    }

    #[test]
    fn knows_every_form_of_the_table() {
        use Partition::{Aws, AwsCn, AwsEusc, AwsIso, AwsIsoB, AwsIsoE, AwsIsoF, AwsUsGov};
        for (partition, host, region) in [
            (Aws, "sts.amazonaws.com", "us-east-1"),
            (Aws, "sts.us-west-2.amazonaws.com", "us-west-2"),
            (Aws, "sts-fips.us-west-2.amazonaws.com", "us-west-2"),
            (Aws, "sts.us-west-2.api.aws", "us-west-2"),
            (Aws, "sts-fips.us-west-2.api.aws", "us-west-2"),
            (Aws, "sts.xa-north-11.amazonaws.com", "xa-north-11"),
            (AwsCn, "sts.cn-north-1.amazonaws.com.cn", "cn-north-1"),
            (AwsCn, "sts-fips.cn-north-1.amazonaws.com.cn", "cn-north-1"),
            (AwsCn, "sts.cn-northwest-1.api.amazonwebservices.com.cn", "cn-northwest-1"),
            (AwsUsGov, "sts.us-gov-west-1.amazonaws.com", "us-gov-west-1"),
            (AwsUsGov, "sts.us-gov-west-1.api.aws", "us-gov-west-1"),
            (AwsUsGov, "sts-fips.us-gov-west-1.api.aws", "us-gov-west-1"),
            (AwsIso, "sts.us-iso-east-1.c2s.ic.gov", "us-iso-east-1"),
            (AwsIsoB, "sts.us-isob-east-1.sc2s.sgov.gov", "us-isob-east-1"),
            (AwsIsoE, "sts.eu-isoe-west-1.cloud.adc-e.uk", "eu-isoe-west-1"),
            (AwsIsoF, "sts.us-isof-south-1.csp.hci.ic.gov", "us-isof-south-1"),
            (AwsEusc, "sts.eusc-de-east-1.amazonaws.eu", "eusc-de-east-1"),
            (AwsEusc, "sts.eusc-de-east-1.api.amazonwebservices.eu", "eusc-de-east-1"),
        ] {
            let judged = StsHosts::new(partition).judge(host).unwrap();
            assert_eq!(judged.region(), region);
            assert_eq!(judged.to_string(), host, "what we write is what was judged");
        }
    }

    #[test]
    fn refuses_what_is_no_sts_host() {
        for host in [
            "",
            "sts",
            "sts.",
            "amazonaws.com",
            "website.amazonaws.com",
            "sts.amazonaws.com.evil.com",
            "sts.us-east-1.amazonaws.com.evil.com",
            "evil.sts.us-east-1.amazonaws.com",
            "sts.us-east-1.evil.amazonaws.com",
            "STS.us-east-1.amazonaws.com",
            "sts.US-EAST-1.amazonaws.com",
            "sts.us-east-1.AMAZONAWS.COM",
            "sts.us-east-1.amazonaws.com.",
            ".sts.us-east-1.amazonaws.com",
            "sts..amazonaws.com",
            "sts.not-a-region.amazonaws.com",
            "sts.us-east-123.amazonaws.com",
            "sts.us-east-.amazonaws.com",
            "sts.us--1.amazonaws.com",
            "sts.usa-east-1.amazonaws.com",
            "sts.cn-north-1.amazonaws.com",
            "sts.us-east-1.amazonaws.com.cn",
            "sts-fips.us-gov-west-1.amazonaws.com",
            "sts-fips.amazonaws.com",
            "sts.amazonaws.com.cn",
            "sts.api.aws",
            "sts.us-iso-east-1.amazonaws.com",
            "sts.us-e\u{e4}st-1.amazonaws.com",
            "sts.us-east-1.x.amazonaws.com",
            "google.com",
            "127.0.0.1",
        ] {
            for partition in Partition::ALL {
                assert_eq!(judge(partition, host), Err(Error::Host), "{host} in {partition}");
            }
        }
        assert_eq!(judge(Partition::AwsCn, "sts.amazonaws.com"), Err(Error::Partition));
    }

    #[test]
    fn own_region_counts_whatever_its_shape_but_not_for_fips() {
        let hosts = StsHosts::new(Partition::Aws).with_own_region(Some("test-region-alpha"));
        assert!(hosts.judge("sts.test-region-alpha.amazonaws.com").is_ok());
        assert!(hosts.judge("sts.test-region-alpha.api.aws").is_ok());
        assert_eq!(hosts.judge("sts-fips.test-region-alpha.amazonaws.com"), Err(Error::Host));
        assert_eq!(hosts.judge("sts.other-region-alpha.amazonaws.com"), Err(Error::Host));
        let dotted = StsHosts::new(Partition::Aws).with_own_region(Some("a.b"));
        assert_eq!(dotted.judge("sts.a.b.amazonaws.com"), Err(Error::Host));
    }

    #[test]
    fn a_client_gets_the_plain_host_for_fips_in_govcloud() {
        let host = StsHost::regional(Partition::AwsUsGov, "us-gov-east-1", Fips::Yes).unwrap();
        assert_eq!(host.to_string(), "sts.us-gov-east-1.amazonaws.com");
        let host = StsHost::regional(Partition::Aws, "us-east-2", Fips::Yes).unwrap();
        assert_eq!(host.to_string(), "sts-fips.us-east-2.amazonaws.com");
    }

    #[test]
    fn a_client_gets_dual_stack_hosts_where_there_are_any() {
        for (partition, region, fips, expected) in [
            (Partition::Aws, "eu-west-1", Fips::No, "sts.eu-west-1.api.aws"),
            (Partition::Aws, "eu-west-1", Fips::Yes, "sts-fips.eu-west-1.api.aws"),
            (Partition::AwsUsGov, "us-gov-west-1", Fips::Yes, "sts-fips.us-gov-west-1.api.aws"),
            (Partition::AwsCn, "cn-north-1", Fips::No, "sts.cn-north-1.api.amazonwebservices.com.cn"),
            (Partition::AwsEusc, "eusc-de-east-1", Fips::No, "sts.eusc-de-east-1.api.amazonwebservices.eu"),
        ] {
            let host = StsHost::dual_stack(partition, region, fips).unwrap();
            assert_eq!(host.to_string(), expected);
            assert_eq!(StsHosts::new(partition).judge(expected), Ok(host), "what a client signs is what a verifier takes");
        }
        assert_eq!(StsHost::dual_stack(Partition::AwsIso, "us-iso-east-1", Fips::No), Err(Error::Host));
        assert_eq!(StsHost::dual_stack(Partition::Aws, "EU-WEST-1", Fips::No), Err(Error::Host));
    }

    /// The syntax of a region, label by label from its end.
    fn has_shape(partition: Partition, region: &str) -> bool {
        let is_word = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase());
        let is_country = |text: &str| text.len() == 2 && is_word(text);
        let mut labels = region.rsplitn(3, '-');
        let (Some(number), Some(direction), Some(geography)) = (labels.next(), labels.next(), labels.next()) else { return false };
        let fits = match partition {
            Partition::Aws => is_country(geography) && geography != "cn",
            Partition::AwsCn => geography == "cn",
            Partition::AwsEusc => geography.strip_prefix("eusc-").is_some_and(is_country),
            Partition::AwsIso => geography == "us-iso",
            Partition::AwsIsoB => geography == "us-isob",
            Partition::AwsIsoE => geography == "eu-isoe",
            Partition::AwsIsoF => geography == "us-isof",
            Partition::AwsUsGov => geography == "us-gov",
        };
        fits && is_word(direction) && (1..=2).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit())
    }

    proptest::proptest! {
        #[test]
        fn shapes_are_the_same_read_from_either_end(region in "([a-z]{1,3}|cn|us-gov|us-isob?|eu-isoe|us-isof|eusc-[a-z]{1,3})?-?[a-z0-9A-Z]{0,6}-?[0-9a]{0,3}(-1)?") {
            for partition in Partition::ALL {
                proptest::prop_assert_eq!(partition.has_shape_of(&region), has_shape(partition, &region), "{} in {}", region, partition);
            }
        }

        #[test]
        fn whatever_is_judged_ours_is_a_host_that_we_write(text in "(sts|sts-fips|s3)\\.[a-z]{2,4}-[a-z]{1,6}-[0-9]{1,3}\\.(amazonaws\\.com|api\\.aws|amazonaws\\.com\\.cn|evil)") {
            for partition in Partition::ALL {
                if let Ok(host) = StsHosts::new(partition).judge(&text) {
                    proptest::prop_assert_eq!(host.to_string(), text.as_str());
                }
            }
        }
    }
}
