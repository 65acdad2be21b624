//! Settings of mappings: which backends there are, and what they may not give.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Reader, path};
use crate::config::layer::{list, some};
use crate::config::settings::MappingSettings;
use crate::document::reader::boolean;
use crate::document::{Field, Place, Section, Text};
use crate::mapping::{BackendMode, NotFollowed, Options, Policy, account_ids, backend_mode_named, dynamic_file, file};

impl<'a> Reader<'a> {
    pub(super) fn mappings(&self, server: &mut Section<'a>, options: Options) -> MappingSettings {
        let modes_path = some(server.text("dynamicBackendModePath")).map(path);
        let (modes, dynamic_file) = self.backend_modes(server, modes_path.is_some());
        let reserved_prefixes = self.reserved_prefixes(server, &modes, modes_path.is_some());
        let scrubbed = server.take("scrubbedAccounts").map(|field| account_ids(&field)).unwrap_or_default();
        let mounted = Arc::new(file::read(server, &options));
        let policy = Policy { modes, reserved_prefixes, scrubbed_accounts: scrubbed.into_iter().collect() };
        MappingSettings { policy, modes_path, mounted, options, dynamic_file }
    }

    /// The modes, and the paths that belong to them. Where the modes can change, there may be a path for one that is to come.
    ///
    /// upstream: `ValidateBackendMode` in pkg/mapper/mapper.go, and `getConfig` in cmd/aws-iam-authenticator/root.go.
    fn backend_modes(&self, server: &mut Section<'a>, can_change: bool) -> (Vec<BackendMode>, Option<dynamic_file::Settings>) {
        let field = server.take("backendMode");
        let dynamic_path = some(server.text("dynamicfilepath"));
        let user_id_strict = some(server.text("dynamicfileUserIDStrict")).and_then(|text| text.read(self.findings, boolean));
        let modes = match list("--backend-mode", &self.overrides.backend_mode, field.as_ref()) {
            None => vec![BackendMode::MountedFile],
            Some(names) => {
                if names.is_empty() {
                    let place = field.map_or(Place::Flag("--backend-mode"), |field| field.place());
                    self.findings.error(place, "expected at least one backend mode");
                }
                self.modes_named(&names, dynamic_path.is_some())
            }
        };
        let dynamic_path = dynamic_path.filter(|path| {
            let is_of_use = can_change || modes.contains(&BackendMode::DynamicFile);
            if !is_of_use {
                self.findings.error(path.place.clone(), "needs the backend mode DynamicFile");
            }
            is_of_use
        });
        let user_id_strict = user_id_strict.unwrap_or(false);
        (modes, dynamic_path.map(|text| dynamic_file::Settings { path: path(text), user_id_strict }))
    }

    fn modes_named(&self, names: &[Text], has_dynamic_path: bool) -> Vec<BackendMode> {
        let mut modes = Vec::new();
        for name in names {
            let Some(mode) = name.read(self.findings, backend_mode_named) else { continue };
            self.warn_of_alias(name, mode);
            if modes.contains(&mode) {
                self.findings.error(name.place.clone(), format!("the backend mode {mode} is there twice"));
                continue;
            }
            if mode == BackendMode::DynamicFile && !has_dynamic_path {
                self.findings.error(name.place.clone(), NotFollowed(mode).to_string());
            }
            modes.push(mode);
        }
        modes
    }

    fn warn_of_alias(&self, name: &Text, mode: BackendMode) {
        if name.text != mode.name() {
            self.findings.warn(name.place.clone(), format!("the backend mode {} is deprecated: use {mode}", name.text));
        }
    }

    fn reserved_prefixes(&self, server: &mut Section<'a>, modes: &[BackendMode], can_change: bool) -> HashMap<BackendMode, Vec<String>> {
        let mut reserved = HashMap::new();
        for field in server.take("reservedPrefixConfig").map(|field| field.list()).unwrap_or_default() {
            let Some(mut section) = field.map() else { continue };
            let name = some(section.text("backendmode"));
            let prefixes = section.take("usernamePrefixReserveList").map(|list| self.prefixes(&list)).unwrap_or_default();
            section.finish();
            let Some(name) = name else {
                field.error("expected backendmode");
                continue;
            };
            // In the reference a mode that there is not reserves nothing, in silence.
            let Some(mode) = name.read(self.findings, backend_mode_named) else { continue };
            self.warn_of_alias(&name, mode);
            if !can_change && !modes.contains(&mode) {
                field.warn(format!("has no effect, for {mode} is not among the backend modes"));
            }
            if reserved.insert(mode, prefixes).is_some() {
                field.warn(format!("replaces an entry before it for {mode}"));
            }
        }
        reserved
    }

    fn prefixes(&self, field: &Field<'_>) -> Vec<String> {
        let mut prefixes = Vec::new();
        for text in field.texts(crate::document::Split::Commas) {
            if text.text.is_empty() {
                self.findings.warn(text.place, "an empty prefix reserves nothing");
            } else {
                prefixes.push(text.text);
            }
        }
        prefixes
    }
}
