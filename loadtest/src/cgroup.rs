//! A control group with a limit of memory and no swap, of either version, for a target that has to live in it.
//!
//! Kernel: Documentation/admin-guide/cgroup-v1/memory.rst and cgroup-v2.rst.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where control groups are by convention.
const ROOT: &str = "/sys/fs/cgroup";

/// A control group of ours; removed when dropped.
#[derive(Debug)]
pub struct Cgroup {
    folder: PathBuf,
    version: Version,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Version {
    One,
    Two,
}

/// What a control group says of memory.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Memory {
    /// The most that was in use at a time, in bytes: of all processes and of the kernel for them, caches of files included.
    pub peak_bytes: Option<u64>,
    /// Processes that were killed for want of memory.
    pub oom_kills: Option<u64>,
}

impl Cgroup {
    /// Makes one with that limit.
    ///
    /// # Errors
    ///
    /// The system's: as a rule, that we may not.
    pub fn with_memory(limit_bytes: u64) -> io::Result<Self> {
        let name = format!("arngate-loadtest-{}-{limit_bytes}", std::process::id());
        let version = if Path::new(ROOT).join("cgroup.controllers").exists() { Version::Two } else { Version::One };
        let folder = match version {
            Version::One => Path::new(ROOT).join("memory").join(name),
            Version::Two => Path::new(ROOT).join(name),
        };
        fs::create_dir(&folder)?;
        let group = Self { folder, version };
        let limit = limit_bytes.to_string();
        match version {
            Version::One => {
                group.write("memory.limit_in_bytes", &limit)?;
                // Memory and swap together; not there where the kernel counts no swap.
                if group.write("memory.memsw.limit_in_bytes", &limit).is_err() {
                    let _ = group.write("memory.swappiness", "0");
                }
            }
            Version::Two => {
                group.write("memory.max", &limit)?;
                let _ = group.write("memory.swap.max", "0");
            }
        }
        Ok(group)
    }

    /// The file to which a process writes its id to enter.
    #[must_use]
    pub fn entrance(&self) -> PathBuf {
        self.folder.join("cgroup.procs")
    }

    /// What it says of memory.
    #[must_use]
    pub fn memory(&self) -> Memory {
        let read = |name: &str| fs::read_to_string(self.folder.join(name)).unwrap_or_default();
        match self.version {
            Version::One => Memory {
                peak_bytes: read("memory.max_usage_in_bytes").trim().parse().ok(),
                oom_kills: field(&read("memory.oom_control"), "oom_kill"),
            },
            Version::Two => {
                Memory { peak_bytes: read("memory.peak").trim().parse().ok(), oom_kills: field(&read("memory.events"), "oom_kill") }
            }
        }
    }

    fn write(&self, name: &str, value: &str) -> io::Result<()> {
        fs::write(self.folder.join(name), value)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Fails while a process is in it; whoever started one has ended it.
        let _ = fs::remove_dir(&self.folder);
    }
}

/// The number behind a name, on a line of its own.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_number_of_kills_and_not_of_those_of_groups() {
        assert_eq!(field("low 0\noom 3\noom_kill 2\noom_group_kill 1\n", "oom_kill"), Some(2));
        assert_eq!(field("oom_kill_disable 1\nunder_oom 0\noom_kill 4\n", "oom_kill"), Some(4));
        assert_eq!(field("oom_kill_disable 1\n", "oom_kill"), None);
    }
}
