//! What a source's reports were last told.

use arngate_server::mapping::{Read, Reports};

use crate::trouble::Trouble;

/// Reports that are told of the same trouble once, however often it comes before all is well again.
pub(crate) struct Told {
    reports: Reports,
    last: Option<String>,
}

impl Told {
    pub(crate) const fn new(reports: Reports) -> Self {
        Self { reports, last: None }
    }

    pub(crate) fn loaded(&mut self, read: Read) {
        self.last = None;
        self.reports.loaded(read);
    }

    pub(crate) fn failed(&mut self, why: String) {
        if self.last.as_ref() != Some(&why) {
            self.reports.failed(&why);
            self.last = Some(why);
        }
    }

    /// The reference counts these for aws-auth.
    pub(crate) fn config_map_failed(&mut self, trouble: &Trouble) {
        self.reports.metrics().configmap_watch_failed();
        self.failed(trouble.to_string());
    }
}
