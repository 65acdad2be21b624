//! What is asked: DescribeInstances of some instances, as the query API has it.
//!
//! AWS: <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeInstances.html>.

use std::fmt;

use arngate_core::endpoint::Fips;
use arngate_core::{Partition, StsHost};
use bytes::Bytes;

use crate::outbound::{EndpointError, Endpoints};

/// The content type of [`Unsigned::body`], which is signed too.
pub const CONTENT_TYPE: &str = "application/x-www-form-urlencoded; charset=utf-8";

/// Instances that are asked for at a time. EC2 takes 200 values of a filter; upstream: `maxInstancesBatchSize` in pkg/ec2provider.
pub(super) const BATCH: usize = 100;

/// The id of an instance: `i-` and 8 or 17 lower-case hex digits.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) struct InstanceId {
    bytes: [u8; Self::MAX_BYTES],
    length: u8,
}

impl InstanceId {
    const MAX_BYTES: usize = 19;

    /// Reads an id. AWS gives out no others, so of anything else there is no instance; and nothing of it could mean more than itself in a filter, which knows
    /// wildcards.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix("i-")?;
        let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if !matches!(digits.len(), 8 | 17) || !digits.bytes().all(is_hex) {
            return None;
        }
        let mut bytes = [0; Self::MAX_BYTES];
        bytes.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
        Some(Self { bytes, length: u8::try_from(text.len()).ok()? })
    }

    pub(super) fn as_str(&self) -> &str {
        self.bytes.get(..usize::from(self.length)).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default()
    }
}

impl fmt::Debug for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A POST of `/` that is to be signed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Unsigned {
    /// Where it goes: also its URL, `https://<host>/`.
    pub host: String,
    /// The region of the scope; the service is `ec2`.
    pub region: String,
    /// The form.
    pub body: Bytes,
}

impl Unsigned {
    /// Asks for these instances, all of a region.
    ///
    /// By a filter, and not by `InstanceId.N`: there, one id that does not exist is an error for the whole question (`InvalidInstanceID.NotFound`), and here it is
    /// missing in the answer. A filter is also what EC2 counts against the larger of its request limits.
    pub(super) fn describe(region: &str, host: String, ids: &[InstanceId]) -> Self {
        let mut body = String::from("Action=DescribeInstances&Version=2016-11-15&Filter.1.Name=instance-id");
        for (index, id) in ids.iter().enumerate() {
            body += &format!("&Filter.1.Value.{}={}", index + 1, id.as_str());
        }
        Self { host, region: region.to_owned(), body: body.into() }
    }
}

/// The host of EC2 in a region, if it can be one of the partition's.
pub(super) fn host(partition: Partition, region: &str) -> Option<String> {
    StsHost::regional(partition, region, Fips::No).is_ok().then(|| format!("ec2.{region}.{}", partition.domain()))
}

/// The region of a host that [`host`] has made.
fn region_of(partition: Partition, text: &str) -> Option<&str> {
    let region = text.strip_prefix("ec2.")?.strip_suffix(partition.domain())?.strip_suffix('.')?;
    StsHost::regional(partition, region, Fips::No).is_ok().then_some(region)
}

/// Says where to connect for a host of EC2.
///
/// # Errors
///
/// [`EndpointError`].
pub fn insert_endpoint(endpoints: &mut Endpoints, partition: Partition, host: &str, url: &str) -> Result<(), EndpointError> {
    region_of(partition, host).ok_or(EndpointError::Host(arngate_core::Error::Host))?;
    endpoints.insert_judged(host, url)
}

/// The account in the ARN of whatever, if it is one: for the header `x-amz-source-account`.
///
/// upstream: `getSourceAccount` in pkg/ec2provider.
#[must_use]
pub fn account_of(arn: &str) -> Option<&str> {
    let parts: Vec<_> = arn.splitn(6, ':').collect();
    let &["arn", partition, service, _, account, resource] = parts.as_slice() else { return None };
    let is_good = !partition.is_empty() && !service.is_empty() && !resource.is_empty() && arn.bytes().all(|byte| byte.is_ascii_graphic());
    (is_good && account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit())).then_some(account)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_ids_that_aws_gives_out() {
        for text in ["i-1234abcd", "i-0123456789abcdef0"] {
            assert_eq!(InstanceId::parse(text).unwrap().as_str(), text);
        }
        for text in
            ["", "i-", "i-1234567", "i-123456789", "i-1234ABCD", "i-0123456789abcdefg", "i-0123456789abcde_0", "x-1234abcd", "i-*2345678"]
        {
            assert_eq!(InstanceId::parse(text), None, "{text}");
        }
    }

    #[test]
    fn finds_the_account_of_an_arn() {
        assert_eq!(account_of("arn:aws:eks:eu-west-1:123456789012:cluster/prod"), Some("123456789012"));
        for text in [
            "",
            "arn:aws:s3:::bucket",
            "arn:aws:eks:eu-west-1:123456789012:",
            "arn:aws:eks:eu-west-1:12345678901x:a",
            "x:aws:eks::123456789012:a",
            "arn:aws:eks::123456789012:a\r\nb",
        ] {
            assert_eq!(account_of(text), None, "{text}");
        }
    }

    #[test]
    fn asks_by_a_filter() {
        let ids = ["i-1234abcd", "i-0123456789abcdef0"].map(|id| InstanceId::parse(id).unwrap());
        let asked = Unsigned::describe("eu-west-1", "ec2.eu-west-1.amazonaws.com".into(), &ids);
        let expected = "Action=DescribeInstances&Version=2016-11-15&Filter.1.Name=instance-id\
            &Filter.1.Value.1=i-1234abcd&Filter.1.Value.2=i-0123456789abcdef0";
        assert_eq!(std::str::from_utf8(&asked.body).unwrap(), expected);
    }

    #[test]
    fn knows_the_host_of_each_partition() {
        for (partition, region, expected) in [
            (Partition::Aws, "eu-west-1", "ec2.eu-west-1.amazonaws.com"),
            (Partition::AwsCn, "cn-north-1", "ec2.cn-north-1.amazonaws.com.cn"),
            (Partition::AwsIso, "us-iso-east-1", "ec2.us-iso-east-1.c2s.ic.gov"),
            (Partition::AwsUsGov, "us-gov-west-1", "ec2.us-gov-west-1.amazonaws.com"),
        ] {
            assert_eq!(host(partition, region).as_deref(), Some(expected));
            assert_eq!(region_of(partition, expected), Some(region));
        }
        assert_eq!(host(Partition::Aws, "eu-west-1.example.com/"), None);
        for text in [
            "ec2.eu-west-1.amazonaws.com.cn",
            "ec2.amazonaws.com",
            "sts.eu-west-1.amazonaws.com",
            "ec2..amazonaws.com",
            "ec2.a.b.amazonaws.com",
        ] {
            assert_eq!(region_of(Partition::Aws, text), None, "{text}");
        }
    }
}
