//! Bundles in files: who may own and read them, and what must stand in them.
//!
//! ```yaml
//! apiVersion: arngate/v1alpha1
//! kind: SigningKeyBundle
//! principals:
//! - accessKeyID: AKIAIOSFODNN7EXAMPLE
//!   arn: arn:aws:iam::123456789012:user/edge-operator
//!   userID: AIDACKCEVSQ6C2EXAMPLE
//!   signingKeys:
//!   - {date: "20261124", region: us-east-1, key: "<base64 of 32 bytes>"}
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arngate_core::Partition;
#[cfg(unix)]
use rustix::fs::OFlags;
use zeroize::Zeroizing;

use super::bundle::{self, Bundle, DailyKey, KeyMaterial, Principal, PrincipalError};
use super::day::Day;
use crate::document::tree::DOCUMENT_MAX_BYTES;
use crate::document::{Errors, Field, Findings, Place, Section, tree};

/// `apiVersion` of a bundle.
const API_VERSION: &str = "arngate/v1alpha1";

/// `kind` of a bundle.
const KIND: &str = "SigningKeyBundle";

pub(super) fn load(path: &Path, partition: Partition) -> Result<Bundle, Errors> {
    let findings = Findings::default();
    let mut reading = Reading { partition, findings: &findings, seen: BTreeMap::new(), principals: Vec::new() };
    match files(path) {
        Ok(files) => files.iter().for_each(|file| reading.file(file)),
        Err(error) => findings.error(whole(&name_of(path)), error.to_string()),
    }
    let principals = reading.principals;
    findings.into_result()?;
    Ok(Bundle::of(partition, principals))
}

/// The file itself, or the files of a folder in the order of their names. What begins with a dot is not one of them: a volume of Kubernetes
/// keeps its versions in `..2026_11_24…`, and the link `..data` says which of them counts; the files are links through that one.
fn files(path: &Path) -> io::Result<Vec<PathBuf>> {
    if !fs::metadata(path)?.is_dir() {
        return Ok(vec![path.into()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let is_hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        if !is_hidden && !fs::metadata(entry.path()).is_ok_and(|found| found.is_dir()) {
            files.push(entry.path());
        }
    }
    files.sort();
    if files.is_empty() { Err(io::Error::other("there is no bundle in this folder")) } else { Ok(files) }
}

/// Reads a file that only its owner, and perhaps its group, can read. What is judged is what is read: the open file, not whatever has its name.
fn read(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut options = File::options();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        // Opening a pipe would wait for somebody to write, and opening a terminal could make it ours.
        options.custom_flags((OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed());
    }
    let file = options.open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        check_access(metadata.mode(), metadata.uid(), rustix::process::geteuid().as_raw()).map_err(io::Error::other)?;
    }
    // One more than is allowed, so that the reader of documents sees that it is too much; all at once, for a buffer that grows leaves
    // copies behind.
    let most = DOCUMENT_MAX_BYTES + 1;
    let mut bytes = Zeroizing::new(Vec::with_capacity(most.min(usize::try_from(metadata.len()).unwrap_or(most)) + 1));
    file.take(u64::try_from(most).unwrap_or(u64::MAX)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Who can read a bundle is its principals towards AWS; who can write one logs in as anybody. Reading by the group is let pass, because
/// `fsGroup` of Kubernetes makes files 0440.
#[cfg_attr(not(unix), expect(dead_code, reason = "other systems have no modes"))]
fn check_access(mode: u32, owner: u32, us: u32) -> Result<(), String> {
    let shown = mode & 0o7777;
    if owner != 0 && owner != us {
        Err(format!("its owner is uid {owner}; it must be root or who runs this (uid {us})"))
    } else if mode & 0o007 != 0 {
        Err(format!("mode {shown:04o} gives access to others; expected 0600, 0400 or 0440"))
    } else if mode & 0o020 != 0 {
        Err(format!("mode {shown:04o} lets its group write; expected 0600, 0400 or 0440"))
    } else {
        Ok(())
    }
}

fn name_of(path: &Path) -> Arc<str> {
    path.to_string_lossy().into()
}

fn whole(file: &Arc<str>) -> Place {
    Place::File { file: Arc::clone(file), position: None, key: String::new() }
}

/// What is read so far, of all files.
struct Reading<'f> {
    partition: Partition,
    findings: &'f Findings,
    /// Where each access key was first seen.
    seen: BTreeMap<String, Place>,
    principals: Vec<Principal>,
}

impl Reading<'_> {
    fn file(&mut self, path: &Path) {
        let name = name_of(path);
        let bytes = match read(path) {
            Ok(bytes) => bytes,
            Err(error) => return self.findings.error(whole(&name), error.to_string()),
        };
        let root = match tree::parse(&name, &bytes) {
            Ok(root) => root,
            Err(errors) => return self.findings.extend(errors),
        };
        let findings = self.findings;
        let root = Section::root(&name, &root, findings);
        let [version, kind, principals] = take(root, &whole(&name), ["apiVersion", "kind", "principals"]);
        for (field, expected) in [(version, API_VERSION), (kind, KIND)] {
            if let Some(text) = field.as_ref().and_then(Field::text).filter(|text| text.text != expected) {
                findings.error(text.place, format!("expected {expected}"));
            }
        }
        for field in principals.iter().flat_map(Field::list) {
            let principal = self.principal(field);
            self.principals.extend(principal);
        }
    }

    fn principal(&mut self, field: Field<'_>) -> Option<Principal> {
        let partition = self.partition;
        let place = field.place();
        let [access_key_id, arn, user_id, signing_keys] = take(field.section(), &place, ["accessKeyID", "arn", "userID", "signingKeys"]);

        // All four are read before the first that is wrong ends it.
        let access_key_id = access_key_id.and_then(|field| self.access_key_id(&field));
        let account_id = arn.as_ref().and_then(|arn| arn.read(|text| bundle::check_user(partition, text).map(ToOwned::to_owned)));
        let keys = signing_keys.map(|field| signing_keys_of(partition, &field));
        let (arn, account_id, user_id_field) = (arn?.text()?.text, account_id?, user_id?);
        let user_id = user_id_field.read(|text| bundle::check_user_id(partition, &account_id, &arn, text).map(|()| text.to_owned()))?;
        Some(Principal::checked(access_key_id?, arn, account_id, user_id, KeyMaterial::DailyHmac(keys?)))
    }

    fn access_key_id(&mut self, field: &Field<'_>) -> Option<String> {
        let id = field.read(|text| bundle::check_access_key(text).map(|()| text.to_owned()))?;
        if let Some(first) = self.seen.get(&id) {
            let first = first.to_string();
            field.error(format!("this access key is there twice, first at {}", first.trim_end_matches(": ")));
            return None;
        }
        self.seen.insert(id.clone(), field.place());
        Some(id)
    }
}

fn signing_keys_of(partition: Partition, list: &Field<'_>) -> Vec<DailyKey> {
    let mut keys: Vec<DailyKey> = Vec::new();
    let mut lines = BTreeMap::new();
    for field in list.list() {
        let [date, region, key] = take(field.clone().section(), &field.place(), ["date", "region", "key"]);
        let day = date.and_then(|date| date.read(|text| Day::parse(text).ok_or(PrincipalError::Date)));
        let region = region.and_then(|region| region.read(|text| bundle::check_region(partition, text).map(|()| Box::from(text))));
        let key = key.and_then(|key| key.read(bundle::read_key));
        let (Some(day), Some(region), Some(key)) = (day, region, key) else { continue };
        if let Some(line) = lines.insert((day, Box::clone(&region)), field.position().line) {
            field.error(format!("this day and region are there twice, first in line {line}"));
        }
        keys.push(DailyKey::new(day, region, key));
    }
    keys
}

/// The values of the keys that a map must have. One that is missing is an error at `place`, where the map stands, and so is one that does
/// not belong there: in a file that says whom to believe, a slip must not go unnoticed. It is told by its line and not by its name, which
/// may be a piece of a key behind a comma too many.
fn take<'a, const N: usize>(section: Section<'a>, place: &Place, names: [&'static str; N]) -> [Option<Field<'a>>; N] {
    let findings = section.findings();
    let mut found = [const { None }; N];
    for (key, field) in section.into_fields() {
        if let Some((_, slot)) = names.iter().zip(&mut found).find(|(name, _)| name.eq_ignore_ascii_case(key)) {
            *slot = Some(field);
            continue;
        }
        let mut at = place.clone();
        if let (Place::File { position, .. }, Place::File { position: of_field, .. }) = (&mut at, field.place()) {
            *position = of_field;
        }
        findings.error(at, format!("unknown key; expected {}", names.join(", ")));
    }
    let missing: Vec<_> = names.iter().zip(&found).filter(|(_, found)| found.is_none()).map(|(name, _)| *name).collect();
    if !missing.is_empty() {
        findings.error(place.clone(), format!("missing: {}", missing.join(", ")));
    }
    found
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use arngate_core::sigv4::SigningKey;
    use tempfile::TempDir;

    use super::super::Derivation;
    use super::*;

    const KEY: &str = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";

    fn write(path: &Path, text: &str, mode: u32) {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn principal(access_key_id: &str) -> String {
        format!(
            "- accessKeyID: {access_key_id}\n  arn: arn:aws:iam::123456789012:user/edge\n  userID: AIDAEXAMPLE\n  signingKeys:\n  \
             - {{date: 20261124, region: us-east-1, key: {KEY}}}\n"
        )
    }

    fn bundle(principals: &str) -> String {
        format!("apiVersion: arngate/v1alpha1\nkind: SigningKeyBundle\nprincipals:\n{principals}")
    }

    /// What is wrong with a text, a line for each error, without the folder.
    fn errors(text: &str) -> String {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("keys.yaml");
        write(&path, text, 0o600);
        errors_of(folder.path(), &path)
    }

    fn errors_of(folder: &Path, path: &Path) -> String {
        let text = load(path, Partition::Aws).unwrap_err().to_string();
        text.replace(&format!("{}/", folder.display()), "")
    }

    #[test]
    fn reads_what_it_writes() {
        let derivation = Derivation {
            access_key_id: "1234567890123456",
            secret: b"secret",
            arn: "arn:aws:iam::123456789012:user/a: #{}\"\\'",
            user_id: "AIDA\u{202e}\u{e9}:\"",
            regions: &["us-east-1", "eu-west-1"],
            first_day: Day::parse("20261124").unwrap(),
            days: 14,
        };
        let written = Bundle::derive(Partition::Aws, &derivation).unwrap();
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("keys.yaml");
        write(&path, &written.to_yaml(), 0o400);
        let read = load(&path, Partition::Aws).unwrap();
        let principal = read.look_up("1234567890123456").unwrap();
        assert_eq!((principal.arn(), principal.user_id()), (derivation.arn, derivation.user_id));
        assert!(principal.key_for("20261207", "eu-west-1") == Some(&SigningKey::derive(b"secret", "20261207", "eu-west-1")));
        assert_eq!(*read.to_yaml(), *written.to_yaml());
        assert!(written.to_yaml().capacity() >= written.to_yaml().len());

        write(&path.with_extension("empty"), &Bundle::of(Partition::Aws, Vec::new()).to_yaml(), 0o400);
        assert_eq!(load(&path.with_extension("empty"), Partition::Aws).unwrap().principals().len(), 0);
    }

    #[test]
    fn reads_a_folder_as_kubernetes_mounts_it() {
        let folder = TempDir::new().unwrap();
        let version = folder.path().join("..2026_11_24");
        fs::create_dir(&version).unwrap();
        fs::create_dir(folder.path().join("lost+found")).unwrap();
        write(&version.join("a.yaml"), &bundle(&principal("AKIAIOSFODNN7EXAMPLA")), 0o440);
        write(&version.join("b.yaml"), &bundle(&principal("AKIAIOSFODNN7EXAMPLB")), 0o440);
        write(&folder.path().join(".hidden"), "not a bundle", 0o666);
        symlink("..2026_11_24", folder.path().join("..data")).unwrap();
        symlink("..data/a.yaml", folder.path().join("a.yaml")).unwrap();
        symlink("..data/b.yaml", folder.path().join("b.yaml")).unwrap();
        let bundle = load(folder.path(), Partition::Aws).unwrap();
        let ids: Vec<_> = bundle.principals().map(Principal::access_key_id).collect();
        assert_eq!(ids, ["AKIAIOSFODNN7EXAMPLA", "AKIAIOSFODNN7EXAMPLB"]);
    }

    #[test]
    fn an_access_key_is_in_one_file_once() {
        let folder = TempDir::new().unwrap();
        write(&folder.path().join("a.yaml"), &bundle(&principal("AKIAIOSFODNN7EXAMPLE")), 0o400);
        write(&folder.path().join("b.yaml"), &bundle(&principal("AKIAIOSFODNN7EXAMPLE")), 0o400);
        let errors = errors_of(folder.path(), folder.path());
        assert_eq!(
            errors,
            "b.yaml:4: principals[0].accessKeyID: this access key is there twice, first at a.yaml:4: principals[0].accessKeyID"
        );
    }

    #[test]
    fn refuses_files_that_others_can_reach() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("keys.yaml");
        for mode in [0o400, 0o440, 0o600, 0o640, 0o500] {
            write(&path, &bundle(&principal("AKIAIOSFODNN7EXAMPLE")), 0o600);
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert!(load(&path, Partition::Aws).is_ok(), "{mode:o}");
        }
        for (mode, error) in [
            (0o444, "keys.yaml: mode 0444 gives access to others; expected 0600, 0400 or 0440"),
            (0o602, "keys.yaml: mode 0602 gives access to others; expected 0600, 0400 or 0440"),
            (0o401, "keys.yaml: mode 0401 gives access to others; expected 0600, 0400 or 0440"),
            (0o660, "keys.yaml: mode 0660 lets its group write; expected 0600, 0400 or 0440"),
        ] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(errors_of(folder.path(), &path), error);
        }
        assert_eq!(check_access(0o100_400, 0, 1000), Ok(()));
        assert_eq!(check_access(0o100_400, 1000, 1000), Ok(()));
        assert_eq!(check_access(0o100_400, 1001, 1000).unwrap_err(), "its owner is uid 1001; it must be root or who runs this (uid 1000)");
    }

    #[test]
    fn says_what_cannot_be_read() {
        let folder = TempDir::new().unwrap();
        let missing = errors_of(folder.path(), &folder.path().join("missing"));
        assert_eq!(missing, "missing: No such file or directory (os error 2)");
        let empty = load(folder.path(), Partition::Aws).unwrap_err().to_string();
        assert!(empty.ends_with(": there is no bundle in this folder"), "{empty}");
        symlink("nowhere", folder.path().join("dangling")).unwrap();
        assert_eq!(errors_of(folder.path(), folder.path()), "dangling: No such file or directory (os error 2)");
        // Nobody writes into the pipe, and nobody waits for that.
        let pipe = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        if made.is_ok_and(|status| status.success()) {
            assert_eq!(errors_of(folder.path(), &pipe), "pipe: not a regular file");
        }
        assert!(load(Path::new("/dev/null"), Partition::Aws).unwrap_err().to_string().ends_with("not a regular file"));
    }

    #[test]
    fn names_every_error_with_its_line_and_key() {
        let text = "\
apiVersion: arngate/v2
kind: Secret
more: 1
principals:
- accessKeyID: ASIAIOSFODNN7EXAMPLE
  arn: arn:aws:iam::123456789012:role/Admin
  userID: AIDAEXAMPLE
  signingKeys: {}
- accessKeyID: AKIAIOSFODNN7EXAMPLE
  arn: arn:aws:sts::123456789012:assumed-role/Admin/x
  userId: ''
  secret: x
  signingKeys:
  - {date: '2026-11-24', region: cn-north-1, key: c2hvcnQ=}
  - {date: 20261124, region: nowhere}
  - 1
- accessKeyID: AKIAIOSFODNN7EXAMPLE
  arn: arn:aws-cn:iam::123456789012:user/x
  userID: [x]
- accessKeyID: [AKIAIOSFODNN7EXAMPLF]
  arn: arn:aws:iam::123456789012:root
  userID: AIDAEXAMPLE
  signingKeys: []
- accessKeyID: AKIAIOSFODNN7EXAMPLG
  arn: arn:aws:iam::123456789012:user/x
  userID: ''
  signingKeys:
  - {date: 20261124, region: us-east-1, key: BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=}
  - {date: 20261124, region: us-east-1, key: BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=}
- text
";
        insta::assert_snapshot!(errors(text));
    }

    #[test]
    fn a_text_that_is_no_bundle_is_told_without_its_content() {
        for (text, error) in [
            ("", "keys.yaml: missing: apiVersion, kind, principals"),
            ("- 1", "keys.yaml: missing: apiVersion, kind, principals\nkeys.yaml:1: expected a map, found a list"),
        ] {
            assert_eq!(errors(text), error);
        }
        let broken = errors(&format!("{}\n  - {{key: {KEY}, date: [}}", bundle(&principal("AKIAIOSFODNN7EXAMPLE"))));
        assert!(broken.starts_with("keys.yaml:10: not YAML: ") && !broken.contains(KEY), "{broken}");
        let tagged = errors(&bundle(&principal("AKIAIOSFODNN7EXAMPLE")).replace(KEY, &format!("!{KEY}")));
        assert!(tagged.contains("tags mean nothing here") && !tagged.contains(&KEY[..8]), "{tagged}");
        let large = " ".repeat(DOCUMENT_MAX_BYTES + 100);
        assert!(errors(&large).contains("the most that is read"));
    }

    proptest::proptest! {
        #[test]
        fn no_text_shows_its_key_or_panics(at in 0_usize..250, what in "[\\[\\]{},:\"'&*!|>%@#\n -]{1,3}") {
            let mut text = bundle(&principal("AKIAIOSFODNN7EXAMPLE"));
            text.insert_str(at.min(text.len()), &what);
            let folder = TempDir::new().unwrap();
            let path = folder.path().join("keys.yaml");
            write(&path, &text, 0o600);
            if let Err(errors) = load(&path, Partition::Aws) {
                let told = errors.to_string();
                // Any eight characters of it in a row would be too much.
                proptest::prop_assert!(!told.contains(&KEY[..8]), "{}", told);
            }
        }
    }
}
