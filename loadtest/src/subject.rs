//! What a scenario puts load on: our server, the reference, the ceiling, or any command.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;
use std::time::Duration;

use tokio::time::Instant;

use crate::cgroup::Cgroup;
use crate::fixture::Files;
use crate::process::{Process, free_port};
use crate::target::{Http, Target, TargetError};
use crate::transport::Link;

/// How long a subject may take from its start until it answers.
const START_MOST: Duration = Duration::from_secs(20);

/// How often it is tried meanwhile.
const START_POLL: Duration = Duration::from_millis(5);

/// The port of the fake STS for the reference, which knows of no other.
pub const REFERENCE_STS_PORT: u16 = 443;

/// What load can be put on, and how it is started.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Subject {
    /// `arngate`, at that path.
    Arngate(PathBuf),
    /// This program's own [`ceiling`](crate::ceiling).
    Ceiling,
    /// A command line for `sh`, in which `{config}`, `{state}` and `{port}` stand for the configuration, the folder of certificate and key, and the
    /// port to listen on (127.0.0.1).
    Command(String),
    /// aws-iam-authenticator, at that path. Needs root on Linux: its STS hosts are led to the fake one by an /etc/hosts of its own.
    Reference(PathBuf),
}

impl Subject {
    /// What it is called in tables.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Arngate(_) => "arngate",
            Self::Ceiling => "ceiling",
            Self::Command(_) => "command",
            Self::Reference(_) => "reference",
        }
    }

    /// The port that the fake STS must have for it; none: any.
    #[must_use]
    pub const fn sts_port(&self) -> Option<u16> {
        match self {
            Self::Reference(_) => Some(REFERENCE_STS_PORT),
            Self::Arngate(_) | Self::Ceiling | Self::Command(_) => None,
        }
    }

    /// Starts it with a prepared configuration, and waits until it answers.
    ///
    /// # Errors
    ///
    /// [`SubjectError`], with the last that it said.
    pub async fn start(&self, setting: &Setting<'_>) -> Result<Started, SubjectError> {
        let port = free_port().map_err(SubjectError::Start)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let (command, ca) = self.command(setting, port).map_err(SubjectError::Start)?;
        let command = match setting.cgroup {
            Some(cgroup) => inside(cgroup, setting.folder, &command),
            None => command,
        };
        let begin = Instant::now();
        let mut process = Process::start(command, setting.processors).map_err(SubjectError::Start)?;
        loop {
            if let Some(status) = process.ended() {
                return Err(SubjectError::Ended { status: status.to_string(), output: last(&process) });
            }
            if begin.elapsed() > START_MOST {
                return Err(SubjectError::Silent { output: last(&process) });
            }
            if let Ok(ca_pem) = std::fs::read(&ca)
                && let Ok(target) = Target::new(&format!("https://{address}/authenticate"), &ca_pem, None, Http::One)
                && Link::new(target).caller().connect().await.is_ok()
            {
                let started_in = begin.elapsed();
                return Ok(Started { process, address, ca, started_in });
            }
            tokio::time::sleep(START_POLL).await;
        }
    }

    fn command(&self, setting: &Setting<'_>, port: u16) -> io::Result<(Command, PathBuf)> {
        let Files { config, state, ca, .. } = setting.files;
        let mut command = match self {
            Self::Arngate(path) => {
                let mut command = Command::new(path);
                command.arg("server").arg(format!("--port={port}")).args(["--admin-address=127.0.0.1:0", "--kubeconfig-pregenerated"]);
                command.arg("--config").arg(config).arg("--state-dir").arg(state).env_clear();
                command
            }
            Self::Ceiling => {
                let own = setting.folder.join("ceiling.pem");
                // Of an earlier one: who finds it would trust the wrong one.
                let _ = std::fs::remove_file(&own);
                let mut command = Command::new(std::env::current_exe()?);
                let threads = setting.threads.to_string();
                command.args([
                    "ceiling",
                    "--port",
                    &port.to_string(),
                    "--threads",
                    &threads,
                    "--reply-bytes",
                    &setting.reply_bytes.to_string(),
                ]);
                command.arg("--ca-out").arg(&own);
                return Ok((command, own));
            }
            Self::Command(line) => {
                let line = line
                    .replace("{config}", &config.to_string_lossy())
                    .replace("{state}", &state.to_string_lossy())
                    .replace("{port}", &port.to_string());
                let mut command = Command::new("sh");
                command.arg("-c").arg(format!("exec {line}"));
                command
            }
            Self::Reference(path) => {
                let hosts = setting.folder.join("hosts");
                std::fs::write(&hosts, hosts_file(setting.sts_host))?;
                // A mount namespace of its own, in which /etc/hosts is ours; each program becomes the next, so that it is one process.
                let mut command = Command::new("unshare");
                command.args(["--mount", "sh", "-c", "mount --bind \"$1\" /etc/hosts && shift && exec \"$@\"", "sh"]).arg(&hosts).arg(path);
                command.args(["server", "--port", &port.to_string(), "--kubeconfig-pregenerated=true"]);
                command.arg("--config").arg(config).arg("--state-dir").arg(state);
                command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", "/nonexistent");
                command
                    .env("AWS_EC2_METADATA_DISABLED", "true")
                    .env("AWS_REGION", setting.region)
                    .env("AWS_STS_REGIONAL_ENDPOINTS", "regional");
                command.env("AWS_ACCESS_KEY_ID", crate::credential::EXAMPLE_ACCESS_KEY_ID);
                command.env("AWS_SECRET_ACCESS_KEY", crate::credential::EXAMPLE_SECRET);
                if let Some(sts_ca) = setting.sts_ca {
                    command.env("SSL_CERT_FILE", sts_ca);
                }
                command
            }
        };
        command.env("TOKIO_WORKER_THREADS", setting.threads.to_string()).env("GOMAXPROCS", setting.threads.to_string());
        Ok((command, ca.clone()))
    }
}

/// The same command, which enters a control group before it becomes what it is.
///
/// The pages of a file count in the group that reads it first, as those of an image do in a container: so the program, and the libraries that it is loaded with, are copied by the
/// group itself. Those of a program that somebody has run or built before would be for nothing, and a group that is too small would look as if it were not.
fn inside(cgroup: &Cgroup, folder: &Path, command: &Command) -> Command {
    let mut entering = Command::new("sh");
    let script = r#"
        echo $$ > "$1" && copy=$2 program=$3 && shift 3 || exit
        case $program in */*)
            rm -rf -- "$copy" "$copy.libraries" && mkdir "$copy.libraries" && cp -- "$program" "$copy" && program=$copy || exit
            for library in $(ldd "$program" | sed -n 's/.* => \(\/[^ ]*\) .*/\1/p'); do cp -- "$library" "$copy.libraries" || exit; done
            export LD_LIBRARY_PATH="$copy.libraries"
        esac
        exec "$program" "$@""#;
    entering.args(["-c", script, "sh"]).arg(cgroup.entrance()).arg(folder.join("program"));
    entering.arg(command.get_program()).args(command.get_args());
    // A cleared environment stays cleared: what it would be found in is what it was given.
    entering.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            entering.env(name, value);
        }
    }
    entering
}

/// All hosts of STS that the reference may ask for are here.
fn hosts_file(sts_host: &str) -> String {
    let regions = ["us-east-1", "us-east-2", "us-west-1", "us-west-2", "eu-west-1", "eu-central-1"];
    let mut names: Vec<_> = regions.into_iter().map(|region| format!("sts.{region}.amazonaws.com")).collect();
    names.extend(["sts.amazonaws.com".to_owned(), sts_host.to_owned()]);
    format!("127.0.0.1 localhost\n::1 localhost\n127.0.0.1 {}\n", names.join(" "))
}

/// What a subject is started with.
#[derive(Clone, Copy, Debug)]
pub struct Setting<'a> {
    /// For files of its own.
    pub folder: &'a Path,
    /// Configuration and certificate.
    pub files: &'a Files,
    /// The certificate of the fake STS.
    pub sts_ca: Option<&'a Path>,
    /// The host of STS that tokens are signed for.
    pub sts_host: &'a str,
    /// Its region.
    pub region: &'a str,
    /// Worker threads.
    pub threads: u32,
    /// Length of a ceiling's reply.
    pub reply_bytes: usize,
    /// Where it runs; none named: anywhere.
    pub processors: &'a [usize],
    /// In which control group it runs.
    pub cgroup: Option<&'a Cgroup>,
}

/// A subject that answers.
#[derive(Debug)]
pub struct Started {
    /// Its process.
    pub process: Process,
    /// Where it listens.
    pub address: SocketAddr,
    ca: PathBuf,
    /// From its start until it spoke TLS.
    pub started_in: Duration,
}

impl Started {
    /// How to ask it.
    ///
    /// # Errors
    ///
    /// [`TargetError`], where its certificate has gone.
    pub fn target(&self, http: Http) -> Result<Target, TargetError> {
        let ca_pem = std::fs::read(&self.ca).map_err(|_| TargetError::Ca)?;
        Target::new(&format!("https://{}/authenticate?timeout=30s", self.address), &ca_pem, None, http)
    }
}

fn last(process: &Process) -> String {
    let lines = process.output();
    let shown = lines.len().saturating_sub(8);
    lines[shown..].join("\n")
}

impl FromStr for Subject {
    type Err = &'static str;

    /// Reads a subject from a command line.
    ///
    /// # Syntax
    ///
    /// ```text
    /// subject = "arngate=" path / "ceiling" / "command=" line / "reference=" path
    /// ```
    fn from_str(text: &str) -> Result<Self, &'static str> {
        match text.split_once('=') {
            None if text == "ceiling" => Ok(Self::Ceiling),
            Some(("arngate", path)) if !path.is_empty() => Ok(Self::Arngate(path.into())),
            Some(("reference", path)) if !path.is_empty() => Ok(Self::Reference(path.into())),
            Some(("command", line)) if !line.is_empty() => Ok(Self::Command(line.into())),
            _ => Err("expected arngate=PATH, reference=PATH, ceiling or command=LINE"),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Arngate(path) | Self::Reference(path) => write!(f, "{}={}", self.name(), path.display()),
            Self::Ceiling => f.write_str("ceiling"),
            Self::Command(line) => write!(f, "command={line}"),
        }
    }
}

/// Why a subject did not start.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum SubjectError {
    /// It ended instead of listening.
    #[error("it ended at once ({status}); the last that it said:\n{output}")]
    Ended {
        /// How.
        status: String,
        /// Its last lines.
        output: String,
    },
    /// It did not listen.
    #[error("it did not answer within 20 s; the last that it said:\n{output}")]
    Silent {
        /// Its last lines.
        output: String,
    },
    /// It could not be started.
    #[error("it could not be started")]
    Start(#[source] io::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_the_command_line() {
        for text in ["arngate=/bin/arngate", "ceiling", "reference=./a", "command=server --port {port}"] {
            assert_eq!(text.parse::<Subject>().unwrap().to_string(), text);
        }
        for text in ["", "arngate", "arngate=", "ceiling=1", "nginx"] {
            assert!(text.parse::<Subject>().is_err(), "{text}");
        }
    }
}
