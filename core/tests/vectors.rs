//! One token of each published client, each stage asserted. `vectors/README.md` tells how they were made.

use std::fs;
use std::path::{Path, PathBuf};

use arngate_core::sigv4::{BadSignature, CanonicalRequest, Presign, SigningKey, verify};
use arngate_core::time::AmzDate;
use arngate_core::{ClusterId, Error, Partition, Policy, PresignedUrl, StsHosts, StsRequest, Token, TokenBuffer, UnixSeconds, token};

struct Case {
    name: String,
    folder: PathBuf,
    fields: serde_json::Value,
}

impl Case {
    fn all() -> Vec<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
        let mut cases: Vec<_> = fs::read_dir(root)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|folder| folder.join("case.json").exists())
            .map(|folder| Self {
                name: folder.file_name().unwrap().to_string_lossy().into_owned(),
                fields: serde_json::from_slice(&fs::read(folder.join("case.json")).unwrap()).unwrap(),
                folder,
            })
            .collect();
        cases.sort_by(|a, b| a.name.cmp(&b.name));
        cases
    }

    fn text(&self, key: &str) -> &str {
        self.fields[key].as_str().unwrap_or_else(|| panic!("{}: no {key}", self.name))
    }

    fn number(&self, key: &str) -> i64 {
        self.fields[key].as_i64().unwrap_or_else(|| panic!("{}: no {key}", self.name))
    }

    fn file(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.folder.join(name)).ok()
    }

    fn partition(&self) -> Partition {
        Partition::from_name(self.text("partition")).unwrap()
    }

    fn policy(&self) -> Policy<'_> {
        Policy::new(ClusterId::parse(self.text("cluster_id")).unwrap())
    }

    fn signed_at(&self) -> UnixSeconds {
        UnixSeconds::new(self.number("signed_at"))
    }

    fn key(&self) -> SigningKey {
        let date = AmzDate::from_unix(self.signed_at()).unwrap();
        SigningKey::derive(self.text("secret_access_key").as_bytes(), date.day(), self.text("region"))
    }
}

fn check<'a>(case: &'a Case, text: &str, buffer: &'a mut TokenBuffer, policy: &Policy<'a>) -> Result<StsRequest<'a>, Error> {
    let token = Token::decode(text.as_bytes(), buffer)?;
    let url = PresignedUrl::parse(token, &StsHosts::new(case.partition()))?;
    StsRequest::check(url, policy, case.signed_at())
}

#[test]
fn every_client_is_accepted_stage_by_stage() {
    let cases = Case::all();
    for needed in ["aws-cli", "boto3", "reference", "eksctl", "terraform", "go-v1", "go-v2", "js", "java", "ruby"] {
        assert!(cases.iter().any(|case| case.name.starts_with(needed)), "no vector of {needed}");
    }
    for case in &cases {
        let name = &case.name;
        let text = case.file("token").unwrap();
        let url_text = case.file("url").unwrap();
        let mut buffer = TokenBuffer::new();
        let token = Token::decode(text.as_bytes(), &mut buffer).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(token.url_bytes(), url_text.as_bytes(), "{name}");

        let url = PresignedUrl::parse(token, &StsHosts::new(case.partition())).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(url.host().to_string(), case.text("host"), "{name}");
        assert_eq!(url.host().region(), case.text("region"), "{name}");
        assert_eq!(url.access_key_id().as_str(), case.text("access_key_id"), "{name}");
        assert_eq!(url.signed_at().unix(), case.signed_at(), "{name}");
        assert_eq!(i64::from(url.expires_secs()), case.number("expires"), "{name}");
        assert_eq!(url.has_session_token(), case.fields["session_token"].is_string(), "{name}");

        let policy = case.policy();
        let request = StsRequest::check(url, &policy, case.signed_at()).unwrap();
        assert_eq!(request.ends_at(), case.signed_at().saturating_add(900));
        if let Some(canonical) = case.file("canonical-request") {
            assert_eq!(CanonicalRequest::of(&request).to_string(), canonical, "{name}");
        }
        assert_eq!(verify(&request, &case.key()), Ok(()), "{name}");
    }
}

#[test]
fn no_client_is_accepted_for_another_cluster_day_region_or_secret() {
    for case in &Case::all() {
        let text = case.file("token").unwrap();
        let mut buffer = TokenBuffer::new();
        let policy = Policy::new(ClusterId::parse("another-cluster").unwrap());
        let request = check(case, &text, &mut buffer, &policy).unwrap();
        assert_eq!(verify(&request, &case.key()), Err(BadSignature), "{}", case.name);

        let mut buffer = TokenBuffer::new();
        let policy = case.policy();
        let request = check(case, &text, &mut buffer, &policy).unwrap();
        let secret = case.text("secret_access_key").as_bytes();
        let day = request.url().signed_at();
        for key in [
            SigningKey::derive(b"another secret", day.day(), case.text("region")),
            SigningKey::derive(secret, "20261125", case.text("region")),
            SigningKey::derive(secret, day.day(), "us-west-1"),
        ] {
            assert_eq!(verify(&request, &key), Err(BadSignature), "{}", case.name);
        }
    }
}

#[test]
fn we_sign_the_bytes_of_the_reference() {
    let cases: Vec<_> = Case::all().into_iter().filter(|case| case.name.starts_with("reference")).collect();
    assert!(cases.len() >= 2, "with and without a session token");
    for case in &cases {
        let text = case.file("token").unwrap();
        let mut buffer = TokenBuffer::new();
        let policy = case.policy();
        let request = check(case, &text, &mut buffer, &policy).unwrap();
        let presign = Presign {
            host: request.url().host(),
            access_key_id: case.text("access_key_id"),
            session_token: case.fields["session_token"].as_str(),
            cluster_id: request.cluster_id(),
            date: request.url().signed_at(),
            expires_secs: request.url().expires_secs(),
        };
        let (mut url, mut ours) = (String::new(), String::new());
        presign.write_url(&case.key(), &mut url).unwrap();
        token::encode(&url, &mut ours).unwrap();
        assert_eq!(ours, text, "{}", case.name);
    }
}

#[test]
fn a_token_of_any_client_with_one_character_changed_is_refused_or_not_authentic() {
    for case in &Case::all() {
        let url = case.file("url").unwrap();
        let policy = case.policy();
        for (at, old) in url.bytes().enumerate() {
            let new = if old == b'a' { b'b' } else { b'a' };
            let mut changed = url.clone().into_bytes();
            changed[at] = new;
            let mut text = String::new();
            token::encode(std::str::from_utf8(&changed).unwrap(), &mut text).unwrap();
            let mut buffer = TokenBuffer::new();
            let Ok(request) = check(case, &text, &mut buffer, &policy) else { continue };
            // The case of letters counts in all that is signed: not in the scheme, the hex of an escape and the signature's own key.
            let in_escape = url.as_bytes()[at.saturating_sub(2)..at].contains(&b'%');
            let in_signature_key =
                url[..at].rfind('&').is_some_and(|start| url[start..].starts_with("&X-Amz-Signature=")) && !url[..at].ends_with('=');
            let same = old.eq_ignore_ascii_case(&new) && (at < 8 || in_escape || in_signature_key);
            assert_eq!(verify(&request, &case.key()).is_ok(), same, "{} at {at}", case.name);
        }
    }
}
