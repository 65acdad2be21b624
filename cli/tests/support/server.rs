//! The binary as a server: started with a configuration, asked over TLS, told to stop.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use rustls::ClientConfig;
use tempfile::TempDir;

use super::https;

/// Longest wait for a process to say or do what it must: a bound, not a measure.
const PATIENCE: Duration = Duration::from_secs(30);

/// The webhook kubeconfig, in the server's folder.
const KUBECONFIG: &str = "webhook.yaml";

/// A running server with a state directory of its own.
pub(crate) struct Server {
    child: Child,
    address: SocketAddr,
    client: Arc<ClientConfig>,
    log: Arc<(Mutex<String>, Condvar)>,
    pub(crate) folder: Arc<TempDir>,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What `server` needs to be alone: files in `folder`, a port of its own (zero for any that is free).
pub(crate) fn command(folder: &Path, config: &str, port: u16) -> Command {
    let file = folder.join("config.yaml");
    fs::write(&file, config).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_arngate"));
    command
        .args(["server", "--admin-address=127.0.0.1:0"])
        .arg(format!("--port={port}"))
        .arg("--generate-kubeconfig")
        .arg(folder.join(KUBECONFIG))
        .arg("--config")
        .arg(file)
        .arg("--state-dir")
        .arg(folder);
    alone(command)
}

/// Without the environment of the tests, and with an ear for what it says.
fn alone(mut command: Command) -> Command {
    command.env_clear().env("HOME", "/nonexistent").env("AWS_EC2_METADATA_DISABLED", "true");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

impl Server {
    /// Starts it, and waits until it listens.
    pub(crate) fn start(config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::start_in(folder, config)
    }

    pub(crate) fn start_in(folder: TempDir, config: &str) -> Self {
        Self::start_on(0, Arc::new(folder), config)
    }

    /// Starts it with these variables in its environment.
    pub(crate) fn start_with(config: &str, variables: &[(&str, &str)]) -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        Self::spawn(command(folder.path(), config, 0).envs(variables.iter().copied()), folder)
    }

    /// Starts it on a port, with the files that a server before it may have left in `folder`.
    pub(crate) fn start_on(port: u16, folder: Arc<TempDir>, config: &str) -> Self {
        Self::spawn(&mut command(folder.path(), config, port), folder)
    }

    /// Starts `program` as installers do, with the files that are in `folder`, and these arguments beside those that say where they are.
    pub(crate) fn start_as(program: &Path, folder: Arc<TempDir>, config: &str, arguments: &[&str]) -> Self {
        let file = folder.path().join("config.yaml");
        fs::write(&file, config).unwrap();
        let mut command = Command::new(program);
        command.arg("server").arg(format!("--config={}", file.display())).arg(format!("--state-dir={}", folder.path().display()));
        command.args(arguments);
        Self::spawn(&mut alone(command), folder)
    }

    /// Starts it with so many file descriptors.
    pub(crate) fn start_with_descriptors(config: &str, most: usize) -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let plain = command(folder.path(), config, 0);
        let mut limited = Command::new("sh");
        limited
            .arg("-c")
            .arg(format!("ulimit -n {most} && exec \"$0\" \"$@\""))
            .arg(plain.get_program())
            .args(plain.get_args())
            .env_clear();
        limited.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
        Self::spawn(limited.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()), folder)
    }

    fn spawn(command: &mut Command, folder: Arc<TempDir>) -> Self {
        let mut child = command.spawn().unwrap();
        let log: Arc<(Mutex<String>, Condvar)> = Arc::default();
        let (said, heard) = mpsc::channel();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let kept = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Some((_, address)) = line.split_once("listening on ") {
                    let _ = said.send(address.trim_end_matches('"').to_owned());
                }
                let mut log = kept.0.lock().unwrap();
                *log += &line;
                *log += "\n";
                kept.1.notify_all();
            }
        });
        let address = heard.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("it does not listen:\n{}", log.0.lock().unwrap()));
        let client = https::trusting(&folder.path().join("cert.pem")).with_no_client_auth();
        Self { child, address: address.parse().unwrap(), client: Arc::new(client), log, folder }
    }

    pub(crate) fn log(&self) -> String {
        self.log.0.lock().unwrap().clone()
    }

    /// Waits until its log has this text.
    pub(crate) fn until_it_says(&self, text: &str) {
        self.until_it_has_said(text, 1);
    }

    /// Waits until its log has this text so many times.
    pub(crate) fn until_it_has_said(&self, text: &str, times: usize) {
        let (log, said) = &*self.log;
        let (log, waited) = said.wait_timeout_while(log.lock().unwrap(), PATIENCE, |log| log.matches(text).count() < times).unwrap();
        assert!(!waited.timed_out(), "it does not say {text:?} {times} times:\n{log}");
    }

    /// Where it listens.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The webhook kubeconfig that it has written.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join(KUBECONFIG)
    }

    /// Sends a request; what comes back is status and body.
    pub(crate) fn request(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        https::exchange(&self.client, self.address, method, path, &[], body, PATIENCE).unwrap()
    }

    /// Asks whose token it is.
    pub(crate) fn review(&self, token: &str) -> (u16, String) {
        let body = format!(r#"{{"apiVersion":"authentication.k8s.io/v1","kind":"TokenReview","spec":{{"token":"{token}"}}}}"#);
        self.request("POST", "/authenticate?timeout=30s", &body)
    }

    /// What the system says of its memory, as `RssAnon` (what no file stands behind, so that it cannot be taken back), `VmRSS` and `VmHWM` in KiB.
    pub(crate) fn memory_kib(&self) -> std::io::Result<[u64; 3]> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let value = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.trim_matches(|c: char| !c.is_ascii_digit()).parse().ok()).unwrap_or_default()
        };
        Ok([value("RssAnon:"), value("VmRSS:"), value("VmHWM:")])
    }

    /// Tells it to stop, and waits until it has; its exit code.
    pub(crate) fn stop(mut self) -> Option<i32> {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        self.child.wait().unwrap().code()
    }
}

/// Runs a server that must not start: its exit code and what it says.
pub(crate) fn refused(folder: &Path, config: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let output = command(folder, config, 0).args(arguments).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    // The time is another one each time.
    let lines = said.lines().map(|line| line.split_once(" level=").map_or_else(|| line.to_owned(), |(_, rest)| format!("level={rest}")));
    let shown = lines.collect::<Vec<_>>().join("\n").replace(&folder.display().to_string(), "FOLDER");
    (output.status.code(), shown)
}

/// A mapping for whom the tests know.
pub(crate) const MAPPINGS: &str = "
clusterID: prod.example.com
server:
  mapUsers:
  - {userARN: arn:aws:iam::123456789012:user/Alice, username: alice, groups: [system:masters]}
  mapRoles:
  - {roleARN: arn:aws:iam::123456789012:role/Admin, username: 'admin:{{SessionName}}'}
";

/// The same with a fake STS at `address` that is trusted by `ca`.
pub(crate) fn with_sts(host: &str, address: SocketAddr, ca: &Path) -> String {
    format!("{MAPPINGS}  sts:\n    endpoints: {{{host}: 'https://{address}'}}\n    caFile: {}\n", ca.display())
}
