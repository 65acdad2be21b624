//! Runs the binary with a clean environment: no home, no AWS, no machine that would answer for metadata.
#![allow(dead_code, reason = "each test binary uses its part")]

pub(crate) mod cluster;
pub(crate) mod foreign;
pub(crate) mod https;
pub(crate) mod kube;
pub(crate) mod plain;
pub(crate) mod scripted_webhook;
pub(crate) mod server;

use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

pub(crate) const ACCESS_KEY_ID: &str = "AKIAIOSFODNN7EXAMPLE";
pub(crate) const SECRET: &str = "made-up-secret/access+key";

/// A call of the binary that is being put together.
pub(crate) struct Call {
    command: Command,
    program: OsString,
    input: Vec<u8>,
    arguments: Vec<OsString>,
    variables: Vec<(String, OsString)>,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

pub(crate) fn arngate() -> Call {
    Call::of(Path::new(env!("CARGO_BIN_EXE_arngate")))
}

/// With made-up static keys in the environment.
pub(crate) fn with_keys() -> Call {
    arngate().variable("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID).variable("AWS_SECRET_ACCESS_KEY", SECRET)
}

impl Call {
    /// A call of any program.
    pub(crate) fn of(program: &Path) -> Self {
        Self {
            command: Command::new(program),
            program: program.into(),
            input: Vec::new(),
            arguments: Vec::new(),
            variables: vec![("HOME".to_owned(), "/nonexistent".into()), ("AWS_EC2_METADATA_DISABLED".to_owned(), "true".into())],
        }
    }

    pub(crate) fn program(mut self, program: &Path) -> Self {
        self.program = program.into();
        self
    }

    /// Arguments, separated by blanks.
    pub(crate) fn arguments(mut self, line: &str) -> Self {
        self.arguments.extend(line.split_whitespace().map(OsString::from));
        self
    }

    pub(crate) fn argument(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    pub(crate) fn variable(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.variables.push((name.to_owned(), value.as_ref().to_owned()));
        self
    }

    pub(crate) fn folder(mut self, folder: &Path) -> Self {
        self.command.current_dir(folder);
        self
    }

    pub(crate) fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = input.into();
        self
    }

    pub(crate) fn run(mut self) -> Outcome {
        if self.program != self.command.get_program() {
            self.command = Command::new(&self.program);
        }
        let command = self.command.args(&self.arguments).env_clear().envs(self.variables.iter().map(|(name, value)| (name, value)));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = self.input;
        // Fed from its own thread, so that neither side waits for the other; a program that reads nothing closes the pipe.
        let feeder = std::thread::spawn(move || {
            let _ = stdin.write_all(&input);
        });
        let output = child.wait_with_output().unwrap();
        feeder.join().unwrap();
        Outcome {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Outcome {
    /// The URL in the token that was printed, with or without an ExecCredential around it.
    pub(crate) fn token_url(&self) -> String {
        token_url(&self.stdout)
    }
}

/// The URL in the token that a client printed.
pub(crate) fn token_url(printed: &str) -> String {
    let start = printed.find("k8s-aws-v1.").unwrap_or_else(|| panic!("no token in {printed}")) + "k8s-aws-v1.".len();
    let token: String = printed[start..].chars().take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')).collect();
    String::from_utf8(URL_SAFE_NO_PAD.decode(token).unwrap()).unwrap()
}
