//! A certificate authority of its own for each fake, and a leaf for each host that a client asks for.
//!
//! One leaf with every host of STS would have some 200 names and weigh 7 kB in each handshake, which real ones do not; so there is one leaf
//! for each name, made when it is first asked for. All leaves share one key.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256,
};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::verdict;

/// Leaves that are kept, at most. Clients choose the names, within the shapes of regions.
const LEAVES_MAX: usize = 1024;

/// Names of the leaf for clients that send none, for they connect to an address.
const LOOPBACK_NAMES: [&str; 3] = ["127.0.0.1", "::1", "localhost"];

/// Issues leaves by the name that a client asks for.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    ca_pem: String,
    leaf_key: KeyPair,
    signing_key: Arc<dyn rustls::sign::SigningKey>,
    extra_hosts: Vec<String>,
    /// By server name; the empty one is for clients without.
    leaves: Mutex<HashMap<String, Arc<CertifiedKey>>>,
}

impl Authority {
    /// A new authority with new keys.
    pub(super) fn new(provider: &CryptoProvider, extra_hosts: Vec<String>) -> Result<Self, CertificateError> {
        let ca_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "fake STS of arngate-loadtest, for tests only");
        let ca = params.self_signed(&ca_key)?;
        let leaf_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let der = PrivateKeyDer::try_from(leaf_key.serialize_der()).map_err(|_| CertificateError::Key)?;
        let signing_key = provider.key_provider.load_private_key(der).map_err(|_| CertificateError::Key)?;
        let authority = Self {
            issuer: Issuer::new(params, ca_key),
            ca_pem: ca.pem(),
            leaf_key,
            signing_key,
            extra_hosts,
            leaves: Mutex::new(HashMap::new()),
        };
        // Tried at once, so that a name that no certificate can have is an error of the start and not of some handshake.
        for host in &authority.extra_hosts {
            authority.issue(vec![host.clone()])?;
        }
        Ok(authority)
    }

    /// What a client has to trust.
    pub(super) fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// The leaf for a server name; none for names that are not ours.
    fn leaf(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        let mut leaves = self.leaves.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(leaf) = leaves.get(name) {
            return Some(Arc::clone(leaf));
        }
        let names = match name {
            "" | "localhost" => LOOPBACK_NAMES.map(String::from).to_vec(),
            name if verdict::is_ours(name, &self.extra_hosts) => vec![name.to_owned()],
            _ => return None,
        };
        let leaf = Arc::new(self.issue(names).ok()?);
        if leaves.len() >= LEAVES_MAX {
            leaves.clear();
        }
        leaves.insert(name.to_owned(), Arc::clone(&leaf));
        Some(leaf)
    }

    fn issue(&self, names: Vec<String>) -> Result<CertifiedKey, CertificateError> {
        let mut params = CertificateParams::new(names)?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "fake STS");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let leaf = params.signed_by(&self.leaf_key, &self.issuer)?;
        Ok(CertifiedKey::new(vec![leaf.der().clone()], Arc::clone(&self.signing_key)))
    }
}

impl ResolvesServerCert for Authority {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.leaf(hello.server_name().unwrap_or_default())
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authority(..)")
    }
}

/// Why no certificate could be made.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A new key is not one that TLS takes.
    #[error("the new key of the fake STS does not fit its TLS library")]
    Key,
    /// The certificate could not be written, say for a host that is no DNS name.
    #[error("cannot make a certificate for the fake STS: {0}")]
    Make(String),
}

impl From<rcgen::Error> for CertificateError {
    fn from(error: rcgen::Error) -> Self {
        Self::Make(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn issues_for_our_names_only_and_once() {
        let provider = rustls::crypto::ring::default_provider();
        let authority = Authority::new(&provider, vec!["sts.internal".into()]).unwrap();
        for name in ["", "localhost", "sts.amazonaws.com", "sts.cn-north-1.amazonaws.com.cn", "sts-fips.us-east-1.api.aws", "sts.internal"]
        {
            let first = authority.leaf(name).unwrap_or_else(|| panic!("{name}"));
            assert!(Arc::ptr_eq(&first, &authority.leaf(name).unwrap()));
            assert!(first.cert[0].len() < 1000, "{name}: {} bytes", first.cert[0].len());
        }
        for name in ["example.com", "sts.amazonaws.com.evil.com", "sts.evil"] {
            assert!(authority.leaf(name).is_none(), "{name}");
        }
    }

    #[test]
    fn keeps_a_bounded_number_of_leaves() {
        let provider = rustls::crypto::ring::default_provider();
        let authority = Authority::new(&provider, Vec::new()).unwrap();
        for letter in 'a'..='z' {
            for number in 0..50 {
                assert!(authority.leaf(&format!("sts.xx-{letter}-{number}.amazonaws.com")).is_some());
            }
        }
        assert!(authority.leaves.lock().unwrap().len() <= LEAVES_MAX);
    }
}
