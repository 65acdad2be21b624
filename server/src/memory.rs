//! How much memory we may have, and what follows from it.
//!
//! The limit is that of the control group (cgroup v1 or v2) in which the container runs: whoever goes beyond it is killed, so everything that a stranger can
//! make us hold has a bound that follows it. [`Bounds::under`] is the table; each line can be set by hand. `app` asks once, at start.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// What limits there are below this are rounding: a kernel that knows no limit says 2^63 less one page (v1).
const NONE_FROM: u64 = 1 << 60;

/// What a small cluster gives a webhook: kOps' and EKS Anywhere's limit for its container. The bounds are told for so much.
const SHARE: u64 = 20 << 20;

/// What the process takes by itself: program and libraries as far as they are used, and what is made at start. Measured: 11.5 MB.
const PROCESS: u64 = 12 << 20;

/// What a waiting request takes.
const WAITER: u64 = 3 << 10;

/// How much memory this process may have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct MemoryLimit(Option<u64>);

impl MemoryLimit {
    /// No limit.
    pub const NONE: Self = Self(None);

    /// So many bytes.
    #[must_use]
    pub const fn of_bytes(bytes: u64) -> Self {
        Self(Some(bytes))
    }

    /// The smallest limit on the way from our own control group to the root, as far as it can be seen from here. Where the system does not tell, there is none.
    ///
    /// Linux: cgroups(7), proc_pid_mountinfo(5).
    #[must_use]
    pub fn of_this_process() -> Self {
        // Bounds, threads and whoever else asks must not see two of them; and it is a dozen files.
        static LIMIT: OnceLock<MemoryLimit> = OnceLock::new();
        *LIMIT.get_or_init(|| {
            let told = (read(Path::new("/proc/self/cgroup")), read(Path::new("/proc/self/mountinfo")));
            match told {
                (Some(cgroups), Some(mounts)) => Self(smallest_limit(&cgroups, &mounts, read)),
                _ => Self::NONE,
            }
        })
    }

    /// In bytes; none: no limit.
    #[must_use]
    pub const fn bytes(self) -> Option<u64> {
        self.0
    }
}

/// Everything that a stranger can make us hold, at most. What is beyond it is answered 503, or closed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Bounds {
    /// Proved identities, in bytes (`server.cache.maxBytes`).
    pub cache_bytes: usize,
    /// Connections at once (`server.maxConnections`).
    pub connections: usize,
    /// Requests at once on one HTTP/2 connection (`server.maxStreams`).
    pub streams: u32,
    /// What a peer may send on one HTTP/2 connection before we read it, in bytes.
    pub connection_window: u32,
    /// Requests that wait for a proof (`server.maxWaiters`).
    pub waiters: usize,
    /// Proofs under way (`server.maxFlights`).
    pub flights: usize,
    /// Calls of STS under way to one host (`server.sts.maxInFlight`): each has a connection.
    pub sts_calls: usize,
    /// All request bodies together that are being read or looked at, in bytes (`server.maxBodyBytes`).
    pub body_bytes: usize,
    /// Threads that serve (`server.workerThreads`), at most: each has a stack, and a heap of the allocator (measured: 1.7 MB).
    pub worker_threads: usize,
}

impl Bounds {
    /// What follows from a limit.
    ///
    /// | | for each 20 MiB | at least | at most, and without a limit |
    /// | --- | --- | --- | --- |
    /// | cache | 2.5 MiB | 2 MiB | 256 MiB (64 MiB without a limit) |
    /// | connections | 160 | 32 | 8 192 |
    /// | streams of a connection | 256 | 64 | 1 024 |
    /// | window of a connection | 128 KiB | 64 KiB | 512 KiB |
    /// | calls of STS | 32 | 16 | 64 |
    /// | bodies | 1 MiB | 256 KiB | 64 MiB |
    /// | threads | 1 | 1 | 1 024 |
    ///
    /// Waiters: a quarter of what is left beyond 12 MiB, at 3 KiB each, from 256 to 65 536 (682 under 20 MiB, 20 821 under 256); flights: a quarter of them. So
    /// much a waiting request takes over HTTP/2 (measured: 2.8 kB), and the process itself 12 MiB.
    #[must_use]
    pub fn under(limit: MemoryLimit) -> Self {
        let Some(bytes) = limit.bytes() else {
            return Self {
                cache_bytes: 64 << 20,
                connections: 8192,
                streams: 1024,
                connection_window: 512 << 10,
                waiters: 65_536,
                flights: 8192,
                sts_calls: 64,
                body_bytes: 64 << 20,
                worker_threads: 1024,
            };
        };
        let share = |of_each: u64, least: usize, most: usize| {
            let whole = u128::from(bytes) * u128::from(of_each) / u128::from(SHARE);
            usize::try_from(whole).unwrap_or(usize::MAX).clamp(least, most)
        };
        let waiters = usize::try_from(bytes.saturating_sub(PROCESS) / 4 / WAITER).unwrap_or(usize::MAX).clamp(256, 65_536);
        Self {
            cache_bytes: share(SHARE / 8, 2 << 20, 256 << 20),
            connections: share(160, 32, 8192),
            streams: u32::try_from(share(256, 64, 1024)).unwrap_or(1024),
            connection_window: u32::try_from(share(128 << 10, 64 << 10, 512 << 10)).unwrap_or(512 << 10),
            waiters,
            flights: flights_for(waiters),
            sts_calls: share(32, 16, 64),
            body_bytes: share(1 << 20, 256 << 10, 64 << 20),
            worker_threads: share(1, 1, 1024),
        }
    }
}

/// Proofs under way at most where so many requests may wait for one: a quarter. Strangers have half of them, and after a start everybody is one.
#[must_use]
pub fn flights_for(waiters: usize) -> usize {
    (waiters / 4).clamp(1, 8192)
}

/// A file that the kernel writes as it is read. It tells no size, and to ask for it, and then to read with what is at hand, takes three times as many calls.
fn read(path: &Path) -> Option<String> {
    let mut text = String::with_capacity(4 << 10);
    File::open(path).ok()?.take(1 << 20).read_to_string(&mut text).ok()?;
    Some(text)
}

/// The smallest limit, from the texts of `/proc/self/cgroup` and `/proc/self/mountinfo` and from the files to which they lead.
fn smallest_limit(cgroups: &str, mounts: &str, read: impl Fn(&Path) -> Option<String>) -> Option<u64> {
    let mounts: Vec<_> = mounts.lines().filter_map(Mount::parse).collect();
    let groups = cgroups.lines().filter_map(Group::parse);
    groups.flat_map(|group| group.limits(&mounts, &read)).min()
}

/// The control group hierarchies that know of memory.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Hierarchy {
    /// cgroup v1, controller `memory`.
    Memory,
    /// cgroup v2.
    Unified,
}

impl Hierarchy {
    /// The file that holds a group's limit.
    const fn file(self) -> &'static str {
        match self {
            Self::Memory => "memory.limit_in_bytes",
            Self::Unified => "memory.max",
        }
    }
}

/// A line of `/proc/self/cgroup`: our group in one hierarchy.
#[derive(Debug, Eq, PartialEq)]
struct Group<'a> {
    hierarchy: Hierarchy,
    path: &'a str,
}

impl<'a> Group<'a> {
    /// # Syntax
    ///
    /// ```text
    /// line = id ":" [ controller *( "," controller ) ] ":" path     ; v2: 0::path
    /// ```
    fn parse(line: &'a str) -> Option<Self> {
        let (id, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        let hierarchy = if controllers.split(',').any(|controller| controller == "memory") {
            Hierarchy::Memory
        } else if id == "0" && controllers.is_empty() {
            Hierarchy::Unified
        } else {
            return None;
        };
        path.starts_with('/').then_some(Self { hierarchy, path })
    }

    /// The limits of the group and of those above it, where they have one.
    fn limits(&self, mounts: &[Mount], read: &impl Fn(&Path) -> Option<String>) -> Vec<u64> {
        let mounted = mounts.iter().filter(|mount| mount.hierarchy == self.hierarchy);
        // Later mounts cover earlier ones; one that shows our group is better than one that does not.
        let within = mounted.clone().rev().find_map(|mount| Some((mount, mount.below(self.path)?)));
        // A container may have a group of its own mounted, whose name in the whole tree it does not see: then the mount is our group.
        let Some((mount, folder)) = within.or_else(|| mounted.clone().next_back().map(|mount| (mount, mount.point.clone()))) else {
            return Vec::new();
        };
        let told = |folder: &Path| read(&folder.join(self.hierarchy.file()));
        let own = told(&folder);
        let others: Vec<_> = match own {
            // It is not where its name says: look at the mount alone.
            None => vec![told(&mount.point)],
            Some(_) => folder.ancestors().skip(1).take_while(|folder| folder.starts_with(&mount.point)).map(told).collect(),
        };
        [own].into_iter().chain(others).flatten().filter_map(|text| parse_limit(&text)).collect()
    }
}

/// A hierarchy that is mounted.
#[derive(Debug, Eq, PartialEq)]
struct Mount {
    hierarchy: Hierarchy,
    /// The group that the mount shows at its point.
    root: PathBuf,
    point: PathBuf,
}

impl Mount {
    /// # Syntax
    ///
    /// ```text
    /// line = id " " parent " " device " " root " " point " " options *( " " tag ) " - " type " " source " " super-options
    /// ```
    fn parse(line: &str) -> Option<Self> {
        let (place, kind) = line.split_once(" - ")?;
        let mut place = place.split(' ').skip(3);
        let (root, point) = (place.next()?, place.next()?);
        let mut kind = kind.split(' ');
        let (kind, options) = (kind.next()?, kind.nth(1)?);
        let hierarchy = match kind {
            "cgroup" if options.split(',').any(|option| option == "memory") => Hierarchy::Memory,
            "cgroup2" => Hierarchy::Unified,
            _ => return None,
        };
        Some(Self { hierarchy, root: unescape(root).into(), point: unescape(point).into() })
    }

    /// Where a group is shown; none where it lies beside or above what the mount shows.
    fn below(&self, path: &str) -> Option<PathBuf> {
        if path.split('/').any(|part| part == "..") {
            return None;
        }
        Some(self.point.join(Path::new(path).strip_prefix(&self.root).ok()?))
    }
}

/// Blanks and the like are written as `\040`.
fn unescape(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut whole = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match (part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok()), part.get(3..)) {
            (Some(byte), Some(rest)) => {
                whole.push(char::from(byte));
                whole.push_str(rest);
            }
            _ => {
                whole.push('\\');
                whole.push_str(part);
            }
        }
    }
    whole
}

/// # Syntax
///
/// ```text
/// limit = 1*DIGIT / "max"          ; bytes
/// ```
fn parse_limit(text: &str) -> Option<u64> {
    // `max` is no number, and so is v1's -1, which is only written and never read.
    text.trim_end().parse().ok().filter(|limit| *limit < NONE_FROM)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    const V2: &str = "\
24 30 0:22 / /proc rw,nosuid - proc proc rw
30 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot
31 23 0:27 / /mnt/with\\040blank rw - tmpfs none rw
";

    const V1: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:15 master:3 - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

    /// What is found where these files are.
    fn limit<const N: usize>(cgroups: &str, mounts: &str, files: [(&str, &str); N]) -> Option<u64> {
        let files: HashMap<_, _> = files.into_iter().map(|(path, text)| (PathBuf::from(path), text.to_owned())).collect();
        smallest_limit(cgroups, mounts, |path| files.get(path).cloned())
    }

    #[test]
    fn v2_takes_the_smallest_on_the_way_to_the_root() {
        let files = |pod, leaf| {
            [
                ("/sys/fs/cgroup/kubepods.slice/memory.max", "max\n"),
                ("/sys/fs/cgroup/kubepods.slice/pod1/memory.max", pod),
                ("/sys/fs/cgroup/kubepods.slice/pod1/c1/memory.max", leaf),
                ("/sys/fs/cgroup/other/memory.max", "1\n"),
            ]
        };
        let group = "0::/kubepods.slice/pod1/c1\n";
        assert_eq!(limit(group, V2, files("20971520\n", "max\n")), Some(20 << 20));
        assert_eq!(limit(group, V2, files("20971520\n", "10485760\n")), Some(10 << 20));
        assert_eq!(limit(group, V2, files("max\n", "max\n")), None);
    }

    #[test]
    fn v2_in_a_namespace_of_its_own_is_at_the_mount() {
        assert_eq!(limit("0::/\n", V2, [("/sys/fs/cgroup/memory.max", "20971520\n")]), Some(20 << 20));
        // The real root has no such file.
        assert_eq!(limit("0::/\n", V2, []), None);
    }

    #[test]
    fn v1_takes_the_smallest_too_and_knows_what_no_limit_looks_like() {
        let group = "9:name=systemd:/x\n4:memory,hugetlb:/docker/abc\n3:cpuset:/y\n0::/\n";
        let files = |leaf| {
            [
                ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
                ("/sys/fs/cgroup/memory/docker/memory.limit_in_bytes", "41943040\n"),
                ("/sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes", leaf),
            ]
        };
        assert_eq!(limit(group, V1, files("20971520\n")), Some(20 << 20));
        assert_eq!(limit(group, V1, files("9223372036854771712\n")), Some(40 << 20));
    }

    #[test]
    fn a_container_that_sees_its_group_alone_finds_it_at_the_mount() {
        // As Docker mounts it without a namespace: the mount's root is the group itself.
        let mounts = "35 31 0:32 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n";
        let files = [("/sys/fs/cgroup/memory/memory.limit_in_bytes", "20971520\n")];
        assert_eq!(limit("4:memory:/docker/abc\n", mounts, files), Some(20 << 20));
        // And where the names do not agree at all.
        assert_eq!(limit("4:memory:/elsewhere\n", mounts, files), Some(20 << 20));
        assert_eq!(limit("4:memory:/../../elsewhere\n", V1, files), Some(20 << 20));
        assert_eq!(limit("4:memory:/not/mounted\n", V1, files), Some(20 << 20));
    }

    #[test]
    fn both_hierarchies_count_where_both_are_there() {
        let files =
            [("/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "41943040\n"), ("/sys/fs/cgroup/unified/b/memory.max", "20971520\n")];
        assert_eq!(limit("4:memory:/a\n0::/b\n", V1, files), Some(20 << 20));
    }

    #[test]
    fn garbage_is_no_limit() {
        for (cgroups, mounts) in
            [("", V2), ("0::/\n", ""), ("4:memory", V1), ("0::relative\n", V2), ("x\n:\n::\n", "a - b\n - cgroup2 x\n\n")]
        {
            assert_eq!(limit(cgroups, mounts, [("/sys/fs/cgroup/memory.max", "1\n")]), None, "{cgroups:?}");
        }
        assert_eq!(limit("0::/\n", V2, [("/sys/fs/cgroup/memory.max", "-1\n")]), None);
        assert_eq!(limit("0::/\n", V2, [("/sys/fs/cgroup/memory.max", "\n")]), None);
        assert_eq!(unescape(r"a\040b\134c\09\"), r"a b\c\09\");
    }

    #[test]
    fn the_bounds_follow_the_limit_between_their_ends() {
        let under = |mebibytes: u64| Bounds::under(MemoryLimit::of_bytes(mebibytes << 20));
        let small = under(20);
        assert_eq!((small.cache_bytes, small.connections, small.streams, small.connection_window), (20 << 17, 160, 256, 128 << 10));
        assert_eq!((small.waiters, small.flights, small.body_bytes, small.worker_threads, small.sts_calls), (682, 170, 1 << 20, 1, 32));
        assert_eq!((under(64).worker_threads, under(64).sts_calls), (3, 64));
        let tiny = under(1);
        assert_eq!((tiny.cache_bytes, tiny.connections, tiny.waiters, tiny.flights), (2 << 20, 32, 256, 64));
        assert_eq!((under(256).waiters, under(256).cache_bytes), (20_821, 32 << 20));
        let large = under(1 << 20);
        assert_eq!((large.cache_bytes, large.connections, large.streams, large.waiters), (256 << 20, 8192, 1024, 65_536));
        let none = Bounds::under(MemoryLimit::NONE);
        assert_eq!((none.cache_bytes, none.connections, none.waiters, none.flights), (64 << 20, 8192, 65_536, 8192));
        assert_eq!(Bounds::under(MemoryLimit::of_bytes(u64::MAX)).connections, 8192);
    }
}
