//! `--feature-gates`, the reference's switches for what was new there.

use super::layer::Overrides;
use crate::document::reader::boolean;
use crate::document::{Findings, Place};
use crate::mapping::SsoEntries;

/// The feature gates.
///
/// upstream: pkg/config/features.go; all three are alpha there and off.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct FeatureGates {
    /// `init` writes where `server` reads, instead of into the working directory.
    pub configured_init_directories: bool,
    /// Mappings from a custom resource. Nothing asks for it: the backend mode does.
    pub iam_identity_mapping_crd: bool,
    /// SSO entries. They count without it too, unless it is off in so many words.
    pub sso_role_match: Option<bool>,
}

const FLAG: &str = "--feature-gates";

impl FeatureGates {
    /// Reads `name=true,name=false…`; the last of equal names counts, and a name beats `AllAlpha` and `AllBeta` wherever it stands.
    ///
    /// upstream: `Set` in k8s.io/component-base/featuregate, whose texts the errors have.
    pub(super) fn read(overrides: &Overrides, findings: &Findings) -> Self {
        let (mut all_alpha, mut init, mut crd, mut sso) = (None, None, None, None);
        for pair in overrides.feature_gates.iter().flat_map(|gates| gates.split(',')).filter(|pair| !pair.is_empty()) {
            let error = |message| findings.error(Place::Flag(FLAG), message);
            let (name, value) = pair.split_once('=').map_or_else(|| (pair.trim(), None), |(name, value)| (name.trim(), Some(value.trim())));
            let Some(value) = value else {
                error(format!("missing bool value for {}", name.escape_debug()));
                continue;
            };
            let value = match boolean(value) {
                Ok(value) => value,
                Err(why) => {
                    error(format!("invalid value of {}: {why}", name.escape_debug()));
                    continue;
                }
            };
            match name {
                // No gate is a beta.
                "AllBeta" => {}
                "AllAlpha" => all_alpha = Some(value),
                "ConfiguredInitDirectories" => init = Some(value),
                "IAMIdentityMappingCRD" => crd = Some(value),
                "SSORoleMatch" => sso = Some(value),
                _ => error(format!("unrecognized feature gate: {}", name.escape_debug())),
            }
        }
        let alpha = all_alpha.unwrap_or(false);
        Self {
            configured_init_directories: init.unwrap_or(alpha),
            iam_identity_mapping_crd: crd.unwrap_or(alpha),
            // `AllAlpha=false` is what everybody has; it turns nothing off that counts without a gate.
            sso_role_match: sso.or_else(|| alpha.then_some(true)),
        }
    }

    /// What becomes of SSO entries.
    #[must_use]
    pub const fn sso_entries(&self) -> SsoEntries {
        match self.sso_role_match {
            None => SsoEntries::Listed,
            Some(true) => SsoEntries::Asked,
            Some(false) => SsoEntries::Off,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(gates: &[&str]) -> Result<FeatureGates, String> {
        let overrides = Overrides { feature_gates: gates.iter().map(|gates| (*gates).into()).collect(), ..Overrides::default() };
        let findings = Findings::default();
        let gates = FeatureGates::read(&overrides, &findings);
        findings.into_result().map(|_| gates).map_err(|errors| errors.to_string())
    }

    #[test]
    fn reads_gates_as_the_reference_does() {
        let off = FeatureGates::default();
        assert_eq!(read(&[]), Ok(off));
        assert_eq!(read(&["", ",,"]), Ok(off));
        assert_eq!(read(&["AllBeta=true,AllAlpha=false"]), Ok(off));
        let all = FeatureGates { configured_init_directories: true, iam_identity_mapping_crd: true, sso_role_match: Some(true) };
        assert_eq!(read(&["AllAlpha=T"]), Ok(all));
        assert_eq!(read(&["SSORoleMatch=false, AllAlpha = true"]), Ok(FeatureGates { sso_role_match: Some(false), ..all }));
        assert_eq!(read(&["SSORoleMatch=false", "SSORoleMatch=1"]), Ok(FeatureGates { sso_role_match: Some(true), ..off }));
    }

    #[test]
    fn says_what_is_wrong_in_the_reference_s_words() {
        insta::assert_snapshot!(read(&["Nothing=true,SSORoleMatch,AllAlpha=yes", "ssorolematch=true"]).unwrap_err(), @r#"
        --feature-gates: unrecognized feature gate: Nothing
        --feature-gates: missing bool value for SSORoleMatch
        --feature-gates: invalid value of AllAlpha: expected true or false, found "yes"
        --feature-gates: unrecognized feature gate: ssorolematch
        "#);
    }

    #[test]
    fn sso_entries_are_off_only_in_so_many_words() {
        assert_eq!(read(&[]).unwrap().sso_entries(), SsoEntries::Listed);
        assert_eq!(read(&["AllAlpha=false"]).unwrap().sso_entries(), SsoEntries::Listed);
        assert_eq!(read(&["SSORoleMatch=true"]).unwrap().sso_entries(), SsoEntries::Asked);
        assert_eq!(read(&["SSORoleMatch=false"]).unwrap().sso_entries(), SsoEntries::Off);
    }
}
