//! The certificate that we serve: found in the state directory, or made.
//!
//! upstream: pkg/config/certs/certs.go. As there, both files are loaded if both exist, and otherwise both are written. What we make is ECDSA P-256
//! where the reference makes RSA 2048 (smaller, and a handshake costs a fraction); the reference loads ours, and we load its.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arngate_core::UnixSeconds;
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose};
use rustls::InconsistentKeys;
use rustls::client::verify_server_name;
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use thiserror::Error;
use zeroize::Zeroizing;

use super::atomic_file;

/// How long a certificate of ours is good for, in seconds: 100 years of 365 days, since nobody renews it. upstream: `certLifetime`.
const LIFETIME_SECS: u64 = 100 * 365 * 86_400;

/// How long before now it begins, in seconds: the API server's clock may be behind ours.
const BACKDATED_SECS: u64 = 3600;

/// Largest certificate or key file that is read, in bytes. A chain of ten RSA 4096 certificates has 20 kB.
const FILE_MAX_BYTES: u64 = 1 << 20;

/// Where a [`ServingCert`] comes from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Origin {
    /// Made just now.
    Generated,
    /// Found on the disk.
    Loaded,
}

/// A chain and its key, known to belong together.
#[derive(Clone)]
pub struct ServingCert {
    key: Arc<CertifiedKey>,
    leaf: CertificateDer<'static>,
    origin: Origin,
}

impl ServingCert {
    /// What rustls serves; see `http::tls`.
    #[must_use]
    pub fn certified_key(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.key)
    }

    /// The first certificate: the one that the webhook kubeconfig trusts.
    #[must_use]
    pub const fn leaf_der(&self) -> &CertificateDer<'static> {
        &self.leaf
    }

    /// The first certificate as PEM, line end included.
    #[must_use]
    pub fn leaf_pem(&self) -> String {
        pem_certificate(&self.leaf)
    }

    /// Whether a client that connects to `hostname` takes the first certificate for it. One that cannot be judged is: nobody is to be warned
    /// about what may be right.
    #[must_use]
    pub fn is_for(&self, hostname: &str) -> bool {
        let (Ok(certificate), Ok(name)) = (ParsedCertificate::try_from(&self.leaf), ServerName::try_from(hostname)) else { return true };
        verify_server_name(&certificate, &name).is_ok()
    }

    /// Found or made.
    #[must_use]
    pub const fn origin(&self) -> Origin {
        self.origin
    }
}

impl fmt::Debug for ServingCert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServingCert").field("certificates", &self.key.cert.len()).field("origin", &self.origin).finish_non_exhaustive()
    }
}

/// What a certificate of ours is made out to.
#[derive(Clone, Copy, Debug)]
pub struct Names<'a> {
    /// The address that we listen on; one that stands for all (`0.0.0.0`, `::`) names nobody and is left out.
    pub address: &'a str,
    /// The host that the webhook kubeconfig names; an IP literal is fine.
    pub hostname: &'a str,
}

/// Why there is no certificate. Every variant names the file, none shows what is in it.
#[derive(Debug, Error)]
pub enum CertError {
    /// The file has no PEM block of type `CERTIFICATE`.
    #[error("{}: no certificate in it (want PEM, `-----BEGIN CERTIFICATE-----`)", .path.display())]
    CertificateMissing {
        /// The certificate file.
        path: PathBuf,
    },
    /// The file's PEM, or a certificate in it, is damaged.
    #[error("{}: not a certificate that can be read: {why}", .path.display())]
    CertificateUnreadable {
        /// The certificate file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A certificate could not be made: a host name that no certificate can hold, or no random numbers.
    #[error("could not make a certificate for host name {hostname:?}, address {address:?}: {why}")]
    Generate {
        /// The host name asked for.
        hostname: String,
        /// The address asked for.
        address: String,
        /// What the maker says.
        why: String,
    },
    /// The key is not the one of the first certificate.
    #[error("{} is not the key of the first certificate in {}", .key.display(), .certificate.display())]
    KeyMismatch {
        /// The certificate file.
        certificate: PathBuf,
        /// The key file.
        key: PathBuf,
    },
    /// The file has no PEM block that is a private key.
    #[error("{}: no private key in it (want PEM: PKCS#8, PKCS#1 or SEC1, not encrypted)", .path.display())]
    KeyMissing {
        /// The key file.
        path: PathBuf,
    },
    /// The key's PEM is damaged, or it is of a kind that cannot serve TLS.
    #[error("{}: not a private key that can be used (RSA from 2048 bits, ECDSA P-256 or P-384, Ed25519)", .path.display())]
    KeyUnusable {
        /// The key file.
        path: PathBuf,
    },
    /// A file is there but cannot be read.
    #[error("could not read {}: {cause}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// The state directory is not there.
    #[error("state directory {} does not exist", .path.display())]
    StateDirMissing {
        /// The directory.
        path: PathBuf,
    },
    /// A file cannot be written.
    #[error("could not write {}: {cause}", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
}

/// The certificate's file in a state directory.
#[must_use]
pub fn certificate_path(state_dir: &Path) -> PathBuf {
    state_dir.join("cert.pem")
}

/// The key's file in a state directory.
#[must_use]
pub fn key_path(state_dir: &Path) -> PathBuf {
    state_dir.join("key.pem")
}

/// Loads what is in `state_dir`, or makes it there if one of the two files is missing. Loading writes nothing.
///
/// # Errors
///
/// A file that is there but does not serve is an error, never overwritten.
pub fn load_or_generate(state_dir: &Path, names: Names<'_>, now: UnixSeconds) -> Result<ServingCert, CertError> {
    if let Some(found) = load(state_dir)? {
        return Ok(found);
    }
    let made = Pair::generate(names, now)?;
    let (certificate, key) = (certificate_path(state_dir), key_path(state_dir));
    // The key first: should this end between the two, the next start finds no certificate and makes both anew.
    for (path, contents, mode) in [(&key, made.key_pem.as_str(), 0o600), (&certificate, made.certificate_pem.as_str(), 0o644)] {
        atomic_file::replace(path, contents.as_bytes(), mode).map_err(|cause| {
            if cause.kind() == io::ErrorKind::NotFound && !state_dir.exists() {
                CertError::StateDirMissing { path: state_dir.to_owned() }
            } else {
                CertError::Write { path: path.clone(), cause }
            }
        })?;
    }
    tracing::info!(certPath = %certificate.display(), keyPath = %key.display(), "saving new key and certificate");
    Ok(made.serving)
}

/// Loads `cert.pem` and `key.pem` from `state_dir`; `None` if either does not exist.
///
/// # Errors
///
/// A file that is there but cannot be read, does not parse, or does not fit the other.
pub fn load(state_dir: &Path) -> Result<Option<ServingCert>, CertError> {
    let (certificate, key) = (certificate_path(state_dir), key_path(state_dir));
    let (Some(certificate_pem), Some(key_pem)) = (read(&certificate)?, read(&key)?) else { return Ok(None) };
    let loaded = parse(&certificate, &certificate_pem, &key, &key_pem)?;
    tracing::info!(certPath = %certificate.display(), keyPath = %key.display(), "loaded existing keypair");
    Ok(Some(loaded))
}

/// Makes a certificate that lives in memory alone.
///
/// # Errors
///
/// [`CertError::Generate`].
pub fn generate(names: Names<'_>, now: UnixSeconds) -> Result<ServingCert, CertError> {
    Pair::generate(names, now).map(|pair| pair.serving)
}

fn read(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, CertError> {
    use std::io::Read as _;
    let failed = |cause| CertError::Read { path: path.to_owned(), cause };
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(failed(cause)),
    };
    // Room at once: a vector that grows leaves pieces of the key behind.
    let expected = file.metadata().map_err(failed)?.len();
    if expected > FILE_MAX_BYTES {
        return Err(failed(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {FILE_MAX_BYTES} bytes"))));
    }
    let mut contents = Zeroizing::new(Vec::with_capacity(usize::try_from(expected).unwrap_or_default().saturating_add(1)));
    file.take(FILE_MAX_BYTES).read_to_end(&mut contents).map_err(failed)?;
    Ok(Some(contents))
}

fn parse(certificate: &Path, certificate_pem: &[u8], key: &Path, key_pem: &[u8]) -> Result<ServingCert, CertError> {
    let unreadable = |why| CertError::CertificateUnreadable { path: certificate.to_owned(), why };
    let chain = CertificateDer::pem_slice_iter(certificate_pem).collect::<Result<Vec<_>, _>>().map_err(|error| {
        unreadable(match error {
            pem::Error::MissingSectionEnd { .. } => "a PEM block does not end",
            pem::Error::Base64Decode(_) => "a PEM block is not base64",
            _ => "the PEM is damaged",
        })
    })?;
    let leaf = chain.first().cloned().ok_or_else(|| CertError::CertificateMissing { path: certificate.to_owned() })?;
    let private_key = PrivateKeyDer::from_pem_slice(key_pem).map_err(|error| match error {
        pem::Error::NoItemsFound => CertError::KeyMissing { path: key.to_owned() },
        _ => CertError::KeyUnusable { path: key.to_owned() },
    })?;
    let signing_key = ring::sign::any_supported_type(&private_key).map_err(|_| CertError::KeyUnusable { path: key.to_owned() })?;
    let certified = CertifiedKey::new(chain, signing_key);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
        Err(rustls::Error::InconsistentKeys(_)) => {
            return Err(CertError::KeyMismatch { certificate: certificate.to_owned(), key: key.to_owned() });
        }
        Err(_) => return Err(unreadable("the first one is not an X.509 version 3 certificate")),
    }
    Ok(ServingCert { key: Arc::new(certified), leaf, origin: Origin::Loaded })
}

/// A new pair, before it is written anywhere.
struct Pair {
    serving: ServingCert,
    certificate_pem: String,
    key_pem: Zeroizing<String>,
}

impl Pair {
    fn generate(names: Names<'_>, now: UnixSeconds) -> Result<Self, CertError> {
        let failed = |why: String| CertError::Generate { hostname: names.hostname.to_owned(), address: names.address.to_owned(), why };
        let params = params(names, now).map_err(|error| failed(error.to_string()))?;
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(|error| failed(error.to_string()))?;
        let certificate = params.self_signed(&key).map_err(|error| failed(error.to_string()))?;
        let key_der = PrivateKeyDer::Pkcs8(key.serialized_der().into());
        let signing_key = ring::sign::any_supported_type(&key_der).map_err(|error| failed(error.to_string()))?;
        let leaf = certificate.der().clone();
        let certified = Arc::new(CertifiedKey::new(vec![leaf.clone()], signing_key));
        let certificate_pem = pem_certificate(&leaf);
        Ok(Self {
            serving: ServingCert { key: certified, leaf, origin: Origin::Generated },
            certificate_pem,
            key_pem: Zeroizing::new(key.serialize_pem()),
        })
    }
}

/// upstream: `selfSignedCertificate`. Not a certificate authority, unlike there: it need not sign others to be trusted itself, Go's and OpenSSL's clients
/// take it as it is, and rustls' take nothing else for a server's.
fn params(names: Names<'_>, now: UnixSeconds) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(alternative_names(names))?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "aws-iam-authenticator");
    let now = Duration::from_secs(u64::try_from(now.as_i64()).unwrap_or_default()).min(LAST_DATE);
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + now.saturating_sub(Duration::from_secs(BACKDATED_SECS));
    params.not_after = epoch + now.saturating_add(Duration::from_secs(LIFETIME_SECS)).min(LAST_DATE);
    params.is_ca = IsCa::ExplicitNoCa;
    // Without the reference's keyEncipherment, which an EC key cannot do (RFC 8813, section 3).
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok(params)
}

/// 9999-12-31T23:59:59Z, the last instant that a certificate can tell (RFC 5280, section 4.1.2.5), from 1970 on.
const LAST_DATE: Duration = Duration::from_secs(253_402_300_799);

fn alternative_names(names: Names<'_>) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for name in [names.address, names.hostname] {
        // One address has several spellings.
        let ip = name.parse::<IpAddr>().ok();
        let spelled = ip.map_or_else(|| name.to_owned(), |ip| ip.to_string());
        if !spelled.is_empty() && !ip.is_some_and(|ip| ip.is_unspecified()) && !out.contains(&spelled) {
            out.push(spelled);
        }
    }
    out
}

/// PEM as Go's encoder writes it, since the reference's kubeconfig holds it: 64 characters a line, LF.
pub(super) fn pem_certificate(der: &CertificateDer<'_>) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut out = String::from("-----BEGIN CERTIFICATE-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        out.push_str(line);
        out.push('\n');
        rest = after;
    }
    out.push_str("-----END CERTIFICATE-----\n");
    out
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const NOON: UnixSeconds = UnixSeconds::new(1_795_521_600);
    const LOCAL: Names<'_> = Names { address: "127.0.0.1", hostname: "localhost" };

    fn names(address: &str, hostname: &str) -> Vec<String> {
        alternative_names(Names { address, hostname })
    }

    #[test]
    fn names_address_and_host_as_the_reference_does() {
        assert_eq!(names("127.0.0.1", "127.0.0.1"), ["127.0.0.1"]);
        assert_eq!(names("192.0.2.1", "example.com"), ["192.0.2.1", "example.com"]);
        assert_eq!(names("::", "2001:db8::1:0"), ["2001:db8::1:0"]);
        assert_eq!(names("0.0.0.0", "localhost"), ["localhost"]);
        assert_eq!(names("127.0.0.1", "localhost"), ["127.0.0.1", "localhost"]);
        assert_eq!(names("::1", "0:0:0:0:0:0:0:1"), ["::1"]);
        assert_eq!(names("", ""), [""; 0]);
        assert_eq!(names("localhost", "localhost"), ["localhost"]);
    }

    #[test]
    fn makes_a_pair_once_and_loads_it_afterwards() {
        let folder = tempfile::tempdir().unwrap();
        assert!(load(folder.path()).unwrap().is_none());
        let made = load_or_generate(folder.path(), LOCAL, NOON).unwrap();
        let found = load_or_generate(folder.path(), LOCAL, NOON).unwrap();
        assert_eq!((made.origin(), found.origin()), (Origin::Generated, Origin::Loaded));
        assert_eq!(made.leaf_der(), found.leaf_der());
        assert_eq!(fs::read_to_string(certificate_path(folder.path())).unwrap(), found.leaf_pem());
    }

    #[cfg(unix)]
    #[test]
    fn only_the_key_is_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        load_or_generate(folder.path(), LOCAL, NOON).unwrap();
        let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(key_path(folder.path())), 0o600);
        assert_eq!(mode(certificate_path(folder.path())) & 0o444, 0o444);
    }

    #[test]
    fn makes_both_anew_where_one_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        let first = load_or_generate(folder.path(), LOCAL, NOON).unwrap();
        fs::remove_file(certificate_path(folder.path())).unwrap();
        let second = load_or_generate(folder.path(), LOCAL, NOON).unwrap();
        assert_ne!(first.leaf_der(), second.leaf_der());
        assert!(load(folder.path()).unwrap().is_some());
    }

    #[test]
    fn loads_every_form_of_key_and_a_chain() {
        // Made by testdata/make.sh.
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bootstrap/testdata");
        for (form, certificates) in [("rsa-pkcs1", 1), ("rsa-pkcs8", 1), ("ec-sec1", 1), ("ec-pkcs8", 1), ("ed25519", 1), ("chain", 2)] {
            let loaded = load(&folder.join(form)).unwrap_or_else(|error| panic!("{form}: {error}")).expect(form);
            assert_eq!(loaded.key.cert.len(), certificates, "{form}");
        }
    }

    #[test]
    fn every_fault_names_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let other = tempfile::tempdir().unwrap();
        load_or_generate(folder.path(), LOCAL, NOON).unwrap();
        load_or_generate(other.path(), LOCAL, NOON).unwrap();
        let good_cert = fs::read_to_string(certificate_path(folder.path())).unwrap();
        let good_key = fs::read_to_string(key_path(folder.path())).unwrap();
        let other_key = fs::read_to_string(key_path(other.path())).unwrap();
        let mut seen = Vec::new();
        for (cert, key) in [
            ("", good_key.as_str()),
            ("hello", &good_key),
            ("-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n", &good_key),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", &good_key),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n", &good_key),
            (&good_cert, ""),
            (&good_cert, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
            (&good_cert, "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"),
            (&good_cert, &other_key),
        ] {
            fs::write(certificate_path(folder.path()), cert).unwrap();
            fs::write(key_path(folder.path()), key).unwrap();
            seen.push(load_or_generate(folder.path(), LOCAL, NOON).unwrap_err().to_string());
            assert_eq!(fs::read_to_string(key_path(folder.path())).unwrap(), key, "what was there is still there");
        }
        fs::remove_file(key_path(folder.path())).unwrap();
        fs::create_dir(key_path(folder.path())).unwrap();
        seen.push(load(folder.path()).unwrap_err().to_string());
        seen.push(load_or_generate(&folder.path().join("nowhere"), LOCAL, NOON).unwrap_err().to_string());
        seen.push(generate(Names { address: "127.0.0.1", hostname: "hôte" }, NOON).unwrap_err().to_string());
        insta::assert_snapshot!(seen.join("\n").replace(&folder.path().display().to_string(), "<state>"));
    }

    #[test]
    fn knows_whom_a_certificate_is_for() {
        let made = generate(Names { address: "127.0.0.1", hostname: "webhook.example.com" }, NOON).unwrap();
        assert!(made.is_for("webhook.example.com") && made.is_for("127.0.0.1"));
        assert!(!made.is_for("localhost") && !made.is_for("127.0.0.2") && !made.is_for("example.com"));
    }

    #[test]
    fn debug_shows_no_key() {
        let made = generate(LOCAL, NOON).unwrap();
        assert_eq!(format!("{made:?}"), "ServingCert { certificates: 1, origin: Generated, .. }");
    }

    #[test]
    fn a_clock_before_1970_or_at_the_end_of_time_still_makes_a_certificate() {
        for now in [-1, 0, i64::MAX] {
            assert!(generate(LOCAL, UnixSeconds::new(now)).is_ok(), "{now}");
        }
    }
}
