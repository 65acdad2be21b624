//! Serving certificates for loopback: of the ceiling, and of targets that a scenario starts.

use std::fmt;

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};

/// A certificate that is its own authority's, and its key. Debug hides the key.
///
/// It is no CA, so that rustls, OpenSSL and Go all take it as the certificate of a server and as a root.
pub struct Certificate {
    /// The certificate, PEM.
    pub certificate_pem: String,
    /// Its key, PEM (PKCS#8).
    pub key_pem: String,
}

impl Certificate {
    /// A new one for 127.0.0.1, ::1 and localhost, with a new key (P-256, as arngate's own).
    ///
    /// # Errors
    ///
    /// [`MakeError`], where the system gives no random numbers.
    pub fn loopback() -> Result<Self, MakeError> {
        let make = || {
            let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
            let mut params = CertificateParams::new(["127.0.0.1", "::1", "localhost"].map(String::from))?;
            params.is_ca = IsCa::ExplicitNoCa;
            params.distinguished_name = DistinguishedName::new();
            params.distinguished_name.push(DnType::CommonName, "arngate-loadtest, for tests only");
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            Ok::<_, rcgen::Error>(Self { certificate_pem: params.self_signed(&key)?.pem(), key_pem: key.serialize_pem() })
        };
        make().map_err(|error| MakeError(error.to_string()))
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Certificate(..)")
    }
}

/// No certificate could be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot make a certificate for loopback: {0}")]
pub struct MakeError(String);
