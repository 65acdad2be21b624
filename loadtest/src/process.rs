//! Processes that a scenario starts: watched while they run, and ended with it, whatever ends it.

use std::collections::VecDeque;
use std::io::{self, BufRead as _, BufReader, Read};
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Lines of output that are kept.
const LINES_MOST: usize = 200;

/// How long a process has to end after SIGTERM.
const END_GRACE: Duration = Duration::from_secs(15);

/// How often it is looked at meanwhile.
const END_POLL: Duration = Duration::from_millis(20);

/// A child process; ended when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    /// Whether all of its group was ended: its number may be another's by now.
    is_over: bool,
    output: Arc<Mutex<VecDeque<String>>>,
}

impl Process {
    /// Starts it, on those processors if any are named, and keeps the last lines that it prints.
    ///
    /// It has a process group of its own: Ctrl-C at a terminal is for us, who tell it to end when what it has taken is answered.
    ///
    /// # Errors
    ///
    /// The system's, as for a program that is not there.
    pub fn start(mut command: Command, processors: &[usize]) -> io::Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        // A child inherits the processors of the thread that starts it, and so do the threads that it starts at once.
        let mut child = on_processors(processors, || command.spawn())?;
        let output = Arc::new(Mutex::new(VecDeque::new()));
        if let Some(out) = child.stdout.take() {
            keep(out, Arc::clone(&output));
        }
        if let Some(err) = child.stderr.take() {
            keep(err, Arc::clone(&output));
        }
        Ok(Self { child, is_over: false, output })
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The last lines that it printed.
    #[must_use]
    pub fn output(&self) -> Vec<String> {
        self.output.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// How it has ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Tells it to end (SIGTERM), and all that it has started.
    pub fn terminate(&self) {
        #[cfg(unix)]
        self.signal(rustix::process::Signal::TERM);
    }

    #[cfg(unix)]
    fn signal(&self, signal: rustix::process::Signal) {
        if let Some(group) = rustix::process::Pid::from_raw(self.child.id().cast_signed()).filter(|_| !self.is_over) {
            // Gone already is as good.
            let _ = rustix::process::kill_process_group(group, signal);
        }
    }

    /// Ends it, and all that it has started.
    fn kill(&mut self) -> Option<ExitStatus> {
        #[cfg(unix)]
        self.signal(rustix::process::Signal::KILL);
        let _ = self.child.kill();
        self.is_over = true;
        self.child.wait().ok()
    }

    /// Tells it to end, waits for that for a while, and kills it if it will not.
    pub fn stop(&mut self) -> Option<ExitStatus> {
        self.terminate();
        self.wait();
        // And what it has left behind.
        self.kill()
    }

    /// Waits for a while for it to end, as it was told to; none: it has not.
    pub fn wait(&mut self) -> Option<ExitStatus> {
        let mut left = END_GRACE;
        while self.ended().is_none() && !left.is_zero() {
            std::thread::sleep(END_POLL);
            left = left.saturating_sub(END_POLL);
        }
        self.ended()
    }

    /// Its memory and processor time, as /proc tells it; none where it has ended, or on other systems.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        Usage::of(self.child.id())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Whoever had time to wait for a good end has called `stop`.
        if !self.is_over {
            self.kill();
        }
    }
}

fn keep(from: impl Read + Send + 'static, into: Arc<Mutex<VecDeque<String>>>) {
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            let mut lines = into.lock().unwrap_or_else(PoisonError::into_inner);
            if lines.len() >= LINES_MOST {
                lines.pop_front();
            }
            lines.push_back(line);
        }
    });
}

/// Memory and processor time of a process.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Usage {
    /// Resident memory, in bytes (VmRSS).
    pub rss_bytes: u64,
    /// The most of it so far (VmHWM).
    pub peak_rss_bytes: u64,
    /// Processor time of all of its threads.
    pub cpu: Duration,
}

impl Usage {
    /// Of that process; none where there is no such one, where it has ended, or on other systems than Linux.
    #[must_use]
    pub fn of(id: u32) -> Option<Self> {
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        Self::parse(&status, &stat)
    }

    /// proc(5): /proc/pid/status and /proc/pid/stat. Ticks are hundredths of a second on every Linux that there is.
    fn parse(status: &str, stat: &str) -> Option<Self> {
        let kib = |name: &str| -> Option<u64> {
            status.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_suffix(" kB")?.trim().parse().ok())
        };
        // The second field is the name, in brackets, which may hold blanks and brackets.
        let (_, fields) = stat.rsplit_once(')')?;
        let ticks = |index: usize| fields.split_ascii_whitespace().nth(index)?.parse::<u64>().ok();
        let cpu = Duration::from_millis((ticks(11)? + ticks(12)?) * 10);
        Some(Self { rss_bytes: kib("VmRSS:")? << 10, peak_rss_bytes: kib("VmHWM:")? << 10, cpu })
    }
}

/// A port on 127.0.0.1 that is free now.
///
/// # Errors
///
/// The system's.
pub fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// Does `work` with this thread on those processors, if any are named; on those where it was again afterwards.
pub fn on_processors<T>(processors: &[usize], work: impl FnOnce() -> T) -> T {
    #[cfg(target_os = "linux")]
    if !processors.is_empty()
        && let Ok(before) = rustix::thread::sched_getaffinity(None)
    {
        let mut set = rustix::thread::CpuSet::new();
        processors.iter().for_each(|processor| set.set(*processor));
        // Where it is refused, it runs elsewhere.
        let _ = rustix::thread::sched_setaffinity(None, &set);
        let done = work();
        let _ = rustix::thread::sched_setaffinity(None, &before);
        return done;
    }
    let _ = processors;
    work()
}

/// The processors that this thread may use; none where that cannot be told.
#[must_use]
pub fn processors() -> Vec<usize> {
    #[cfg(target_os = "linux")]
    if let Ok(set) = rustix::thread::sched_getaffinity(None) {
        return (0..rustix::thread::CpuSet::MAX_CPU).filter(|processor| set.is_set(*processor)).collect();
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_kernel_writes() {
        let status = "Name:\ta\nVmPeak:\t  999 kB\nVmHWM:\t   20480 kB\nVmRSS:\t   10240 kB\nThreads:\t3\n";
        let stat = "42 (a) b (c)) S 1 42 42 0 -1 4194304 900 0 0 0 123 77 0 0 20 0 3 0 12345 1 2 3";
        let usage = Usage { rss_bytes: 10 << 20, peak_rss_bytes: 20 << 20, cpu: Duration::from_secs(2) };
        assert_eq!(Usage::parse(status, stat), Some(usage));
        assert_eq!(Usage::parse("", stat), None, "a process that is ending has no memory");
        assert_eq!(Usage::parse(status, ""), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_child_is_watched_and_ended() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo here; exec sleep 1000"]);
        let mut process = Process::start(command, &processors()).unwrap();
        assert!(process.usage().is_some_and(|usage| usage.rss_bytes > 0));
        let id = process.id();
        assert!(process.stop().is_some_and(|status| !status.success()));
        assert_eq!(Usage::of(id), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_a_child_has_started_ends_with_it() {
        for stopped in [true, false] {
            let mut command = Command::new("sh");
            command.args(["-c", "sleep 1000 & echo $!; wait"]);
            let mut process = Process::start(command, &[]).unwrap();
            let grandchild = loop {
                if let Some(line) = process.output().first() {
                    break line.parse().unwrap();
                }
                std::thread::yield_now();
            };
            assert!(Usage::of(grandchild).is_some());
            if stopped {
                process.stop();
            }
            drop(process);
            // A signal takes a moment.
            let ended = (0..1000).any(|_| {
                std::thread::sleep(END_POLL);
                Usage::of(grandchild).is_none()
            });
            assert!(ended, "{grandchild} was left running");
        }
    }
}
