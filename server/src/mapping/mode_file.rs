//! Dynamic backend mode: a file that says which modes are in force.
//!
//! ```json
//! {"LastUpdatedDateTime": "1795521600", "Version": "7", "backendMode": "MountedFile DynamicFile"}
//! ```

use std::sync::Arc;

pub(crate) use super::stamp::Stamp;
use super::{BackendMode, backend_mode_named};
use crate::document::{Error, Errors, Findings, Place, Section, Split, tree};

/// The modes that a file says, at least one and none twice, and when it was written.
///
/// upstream: `CallBackForFileLoad` in pkg/server/server.go.
///
/// # Errors
///
/// All that is wrong with it.
pub(crate) fn read(file: &Arc<str>, bytes: &[u8]) -> Result<(Vec<BackendMode>, Stamp), Errors> {
    let node = tree::parse(file, bytes)?;
    let findings = Findings::default();
    let mut root = Section::root(file, &node, &findings);
    let stamp = Stamp::take(&mut root);
    let field = root.take("backendMode");
    root.finish();
    let mut modes = Vec::new();
    for name in field.iter().flat_map(|field| field.texts(Split::BlanksAndCommas)) {
        match name.read(&findings, backend_mode_named) {
            Some(mode) if modes.contains(&mode) => findings.error(name.place, format!("the backend mode {mode} is there twice")),
            Some(mode) => modes.push(mode),
            None => {}
        }
    }
    findings.into_result()?;
    if modes.is_empty() {
        let place = Place::File { file: Arc::clone(file), position: None, key: "backendMode".into() };
        return Err(Error { place, message: "expected at least one backend mode".into() }.into());
    }
    Ok((modes, stamp))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modes(text: &str) -> Result<Vec<BackendMode>, String> {
        read(&"modes.json".into(), text.as_bytes()).map(|(modes, _)| modes).map_err(|errors| errors.to_string())
    }

    #[test]
    fn reads_modes_in_their_order() {
        use BackendMode::{Crd, DynamicFile, EksConfigMap, MountedFile};
        let text = r#"{"LastUpdatedDateTime": "1", "Version": "1", "backendMode": "DynamicFile MountedFile"}"#;
        assert_eq!(modes(text), Ok(vec![DynamicFile, MountedFile]));
        assert_eq!(modes("BackendMode: ConfigMap,  CRD,File\n"), Ok(vec![EksConfigMap, Crd, MountedFile]));
        assert_eq!(modes("backendMode: [CRD]\n"), Ok(vec![Crd]));
    }

    #[test]
    fn says_what_is_wrong() {
        for (text, expected) in [
            ("", "modes.json: backendMode: expected at least one backend mode"),
            ("{}", "modes.json: backendMode: expected at least one backend mode"),
            ("{\"backendMode\": \"\"}", "modes.json: backendMode: expected at least one backend mode"),
            ("{\"backendMode\": \"CRD CRD\"}", "modes.json:1: backendMode: the backend mode CRD is there twice"),
            ("{\"backendMode\": {}}", "modes.json:1: backendMode: expected a list, found a map"),
            ("[]", "modes.json:1: expected a map, found a list"),
            ("{\"backendMode", "modes.json:1: not YAML: "),
            (
                "{\"backendMode\": \"MountedFile Crd\"}",
                "modes.json:1: backendMode: expected a backend mode, one of MountedFile, EKSConfigMap, CRD, DynamicFile, found \"Crd\"; did you mean CRD?",
            ),
        ] {
            let why = modes(text).unwrap_err();
            assert!(why.starts_with(expected), "{text}: {why}");
        }
    }
}
