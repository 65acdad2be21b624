//! What to do about a refusal: a sentence for each, for the operator who has the token of somebody who cannot log in.

use arngate_core::Error;

/// What to do about it. Empty for a refusal that is newer than this table, which the test below does not allow.
pub(super) const fn about(error: Error) -> &'static str {
    match error {
        Error::Length => {
            "the clients' own are a third of that: look for two tokens pasted together, or for a session with a very large policy or many tags"
        }
        Error::Prefix => {
            "it is another kind of token (OIDC, service account), or the exec plugin printed something in front of it: see what the user's kubeconfig runs"
        }
        Error::Base64 => "it was cut short, wrapped, padded or quoted on its way: take it from the client again, as one line",
        Error::UrlBytes => "no client makes such a URL: the token was changed or made by hand",
        Error::Scheme => {
            "the client was given another endpoint for STS: unset AWS_ENDPOINT_URL and AWS_ENDPOINT_URL_STS where kubectl runs"
        }
        Error::Authority => {
            "the client was given its own endpoint for STS, with a port or a user: unset AWS_ENDPOINT_URL and AWS_ENDPOINT_URL_STS where kubectl runs"
        }
        Error::Path => {
            "the client was given its own endpoint for STS, with a path: unset AWS_ENDPOINT_URL and AWS_ENDPOINT_URL_STS where kubectl runs"
        }
        Error::Host => {
            "look at the client's region and AWS_ENDPOINT_URL_STS; a region that is newer than this program is accepted where it is the server's own (--region)"
        }
        Error::Partition => "sign with credentials and a region of the server's partition, or correct the server's --partition",
        Error::Escape => "no client makes such a query: the token was changed or made by hand",
        Error::ParameterUnknown => "somebody appended to the URL, which is how tokens are tampered with; clients add nothing of their own",
        Error::ParameterRepeated => "no client does that; it is how CVE-2022-2385 is exploited, so find out where the token comes from",
        Error::ParameterMissing => {
            "it was not presigned in the query: the client must send the nine X-Amz parameters in the URL and not in headers"
        }
        Error::Action => "it was made for another call than GetCallerIdentity: use `arngate token`, `aws eks get-token` or the like",
        Error::SignedHeaders => {
            "the client must sign the header x-k8s-aws-id with the cluster's name, and nothing but it and host: tokens for other uses of STS (such as Vault) lack it"
        }
        Error::Version => "the client must send Version=2011-06-15, the only one that STS has",
        Error::Algorithm => {
            "the client signs with SigV4A or an older scheme: remove sigv4a_signing_region_set from its profile, or update it"
        }
        Error::AccessKey => "the client's AWS_ACCESS_KEY_ID or aws_access_key_id is not one: look for blanks, quotes or a placeholder",
        Error::DateForm => "the client must send X-Amz-Date in UTC, as 20261124T120000Z",
        Error::ScopeDate => "the token was put together by hand, or the client signs with a key that it derived on another day",
        Error::ScopeRegion => {
            "the client signs for one region and sends to the endpoint of another: set AWS_REGION to the endpoint's, or leave the endpoint to the client"
        }
        Error::ScopeService => "it was signed for another service than sts, so STS would refuse it",
        Error::SignatureForm => "it was cut short or changed on its way: take it from the client again",
        Error::Expires => "the client must send X-Amz-Expires as a number of seconds, 900 at most; it is not the token's lifetime",
        Error::Expired => "have the client make a new one; if it is new, its clock is behind or ours ahead (compare them with `date -u`)",
        Error::Future => "the client's clock is ahead or ours behind (compare them with `date -u`)",
        _ => "",
    }
}

/// What to do about a bad signature.
pub(super) const BAD_SIGNATURE: &str =
    "it was signed for another cluster ID than the given one, with a secret that is not this access key's, or changed since";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_has_its_advice() {
        for error in Error::ALL {
            assert!(about(error).len() > 20, "{}", error.reason());
            assert!(!about(error).ends_with('.'), "{}", error.reason());
        }
    }
}
