//! Counts that are kept, and what others are beside them.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// How much more than the baseline is one too many.
const SLACK: f64 = 0.05;

/// How the baseline is written anew.
const RENEW: &str = "cargo run --release -p arngate-benches --no-default-features --bin instructions -- --renew";

/// Counts, and what they are of.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Baseline {
    /// The compiler.
    pub(crate) rustc: String,
    /// The version of sha2, and how it hashes under callgrind.
    pub(crate) sha2: String,
    /// How it was built.
    pub(crate) profile: String,
    /// Instructions by name.
    pub(crate) counts: BTreeMap<String, u64>,
}

impl Baseline {
    pub(crate) fn from_json(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }

    pub(crate) fn to_json(&self) -> Result<String, serde_json::Error> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    /// What was counted, beside what was kept.
    pub(crate) fn compare(&self, counted: &Self) -> Compared {
        let mut failures = Vec::new();
        for (what, kept, found) in
            [("compiler", &self.rustc, &counted.rustc), ("sha2", &self.sha2, &counted.sha2), ("profile", &self.profile, &counted.profile)]
        {
            if kept != found {
                failures.push(format!("the baseline is of {what} {kept}, and this is {found}"));
            }
        }
        for name in self.counts.keys().filter(|name| !counted.counts.contains_key(*name)) {
            failures.push(format!("{name} is in the baseline and was not counted"));
        }
        let mut rows = Vec::new();
        for (name, found) in &counted.counts {
            let kept = self.counts.get(name).copied();
            match kept {
                None => failures.push(format!("{name} is not in the baseline")),
                Some(kept) if *found as f64 > kept as f64 * (1.0 + SLACK) => {
                    let more = (*found as f64 / kept as f64 - 1.0) * 100.0;
                    failures.push(format!(
                        "{name} takes {more:.1} % more instructions than the baseline, where {:.0} % are the most",
                        SLACK * 100.0
                    ));
                }
                Some(_) => {}
            }
            rows.push((name.clone(), kept, *found));
        }
        let is_better = rows.iter().any(|(_, kept, found)| kept.is_some_and(|kept| (*found as f64) < kept as f64 * (1.0 - SLACK)));
        Compared { rows, failures, is_better }
    }
}

/// Counts beside those that were kept.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Compared {
    rows: Vec<(String, Option<u64>, u64)>,
    failures: Vec<String>,
    is_better: bool,
}

impl Compared {
    pub(crate) const fn has_failed(&self) -> bool {
        !self.failures.is_empty()
    }
}

impl fmt::Display for Compared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:28} {:>9} {:>9}", "instructions", "baseline", "now")?;
        for (name, kept, found) in &self.rows {
            match kept {
                Some(kept) => writeln!(f, "{name:28} {kept:>9} {found:>9}  {:+.2} %", (*found as f64 / *kept as f64 - 1.0) * 100.0)?,
                None => writeln!(f, "{name:28} {:>9} {found:>9}", "-")?,
            }
        }
        for failure in &self.failures {
            writeln!(f, "FAILED: {failure}")?;
        }
        if self.has_failed() {
            writeln!(f, "If that is meant, renew the baseline, in a commit of its own: {RENEW}")?;
        } else if self.is_better {
            writeln!(f, "Some take less by more than {:.0} %: renew the baseline, so that it stays so: {RENEW}", SLACK * 100.0)?;
        }
        Ok(())
    }
}

/// The version of sha2 that arngate-core is locked to.
pub(crate) fn sha2_of_core(lock: &str) -> Option<&str> {
    let package = |name: &'static str| lock.split("[[package]]").filter(move |package| package.contains(&format!("\nname = \"{name}\"\n")));
    let core = package("arngate-core").next()?;
    let named = core.lines().find_map(|line| line.trim().strip_prefix("\"sha2")?.strip_suffix("\","))?;
    match named.trim() {
        // Where there is one only, its version is not repeated.
        "" => package("sha2").next()?.lines().find_map(|line| line.strip_prefix("version = \"")?.strip_suffix('"')),
        version => Some(version),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn baseline(counts: &[(&str, u64)]) -> Baseline {
        let counts = counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        Baseline { rustc: "rustc 1.95.0".into(), sha2: "0.11.1, soft".into(), profile: "release".into(), counts }
    }

    fn failures(kept: &Baseline, counted: &Baseline) -> String {
        kept.compare(counted).failures.join("\n")
    }

    #[test]
    fn five_percent_more_pass_and_six_do_not() {
        let kept = baseline(&[("a", 1000), ("b", 1000)]);
        assert_eq!(failures(&kept, &baseline(&[("a", 1050), ("b", 10)])), "");
        let found = failures(&kept, &baseline(&[("a", 1060), ("b", 1000)]));
        assert_eq!(found, "a takes 6.0 % more instructions than the baseline, where 5 % are the most");
        assert!(kept.compare(&baseline(&[("a", 940), ("b", 1000)])).to_string().contains("renew the baseline, so that it stays so"));
    }

    #[test]
    fn another_compiler_or_another_way_to_hash_says_so() {
        let kept = baseline(&[("a", 1000)]);
        let other = Baseline { rustc: "rustc 1.96.0".into(), ..kept.clone() };
        assert_eq!(failures(&kept, &other), "the baseline is of compiler rustc 1.95.0, and this is rustc 1.96.0");
        let other = Baseline { sha2: "0.11.1, x86-sha".into(), ..kept.clone() };
        assert_eq!(failures(&kept, &other), "the baseline is of sha2 0.11.1, soft, and this is 0.11.1, x86-sha");
        assert!(kept.compare(&other).has_failed() && kept.compare(&other).to_string().contains("--renew"));
    }

    #[test]
    fn what_is_new_or_gone_is_not_passed_over() {
        let kept = baseline(&[("a", 1000)]);
        assert_eq!(failures(&kept, &baseline(&[("b", 1)])), "a is in the baseline and was not counted\nb is not in the baseline");
    }

    #[test]
    fn a_baseline_is_read_as_it_was_written() {
        let kept = baseline(&[("a", 1000)]);
        assert_eq!(Baseline::from_json(&kept.to_json().unwrap()).unwrap(), kept);
    }

    #[test]
    fn the_lock_file_tells_which_sha2_the_core_has() {
        let core = |named: &str| {
            format!("[[package]]\nname = \"arngate-core\"\nversion = \"0.8.0\"\ndependencies = [\n \"hmac\",\n {named},\n]\n\n")
        };
        let sha2 = |version: &str| format!("[[package]]\nname = \"sha2\"\nversion = \"{version}\"\n\n");
        assert_eq!(sha2_of_core(&(core("\"sha2\"") + &sha2("0.12.0"))), Some("0.12.0"));
        assert_eq!(sha2_of_core(&(core("\"sha2 0.11.1\"") + &sha2("0.10.9") + &sha2("0.11.1"))), Some("0.11.1"));
        assert_eq!(sha2_of_core(""), None);
        assert!(sha2_of_core(include_str!("../../../../Cargo.lock")).is_some());
    }
}
