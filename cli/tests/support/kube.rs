//! A real kube-apiserver with its etcd, on loopback, that asks a webhook of ours who its clients are; and kubectl.

use std::env;
use std::fs;
use std::io::{self, BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use libtest_mimic::Failed;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use socket2::{Domain, Protocol, Socket, Type};
use tempfile::TempDir;

use super::foreign::in_path;
use super::{Call, Outcome, https};

/// Longest wait for etcd to say where it listens: a bound, not a measure.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often kube-apiserver is asked whether it is ready, at most, and the pause between. It takes 4 s on an idle machine.
const READY_POLLS: u32 = 600;
const READY_PAUSE: Duration = Duration::from_millis(200);

/// Longest wait for an answer of kube-apiserver, which gives up on its webhook after 30 s: a bound, not a measure.
const ANSWER_PATIENCE: Duration = Duration::from_secs(90);

/// The programs, wherever they are.
#[derive(Clone, Debug)]
pub(crate) struct Binaries {
    etcd: PathBuf,
    kube_apiserver: PathBuf,
    kubectl: PathBuf,
}

impl Binaries {
    /// What to say where they are not there.
    pub(crate) const ABSENCE: &str = "no kube-apiserver, etcd and kubectl";

    /// Those of `KUBEBUILDER_ASSETS` if that is set, else those in `PATH`.
    pub(crate) fn find() -> Option<Self> {
        let find = |name: &str| match env::var_os("KUBEBUILDER_ASSETS").filter(|folder| !folder.is_empty()) {
            Some(folder) => Some(Path::new(&folder).join(name)).filter(|program| program.is_file()),
            None => in_path(name),
        };
        Some(Self { etcd: find("etcd")?, kube_apiserver: find("kube-apiserver")?, kubectl: find("kubectl")? })
    }
}

/// How kube-apiserver is to ask.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asking<'a> {
    /// The webhook kubeconfig.
    pub(crate) kubeconfig: &'a Path,
    /// `--authentication-token-webhook-version`.
    pub(crate) version: &'a str,
    /// `--authentication-token-webhook-cache-ttl`; none for its default of two minutes.
    pub(crate) cache_ttl: Option<&'a str>,
}

/// A running kube-apiserver; it ends when this is dropped, and when the test's process does.
pub(crate) struct ApiServer {
    // Dropped in this order: first the one that needs the other.
    process: Option<Guarded>,
    command: Command,
    _etcd: Guarded,
    _port: HeldPort,
    address: SocketAddr,
    anybody: Arc<ClientConfig>,
    admin: Arc<ClientConfig>,
    kubectl: PathBuf,
    folder: TempDir,
}

impl ApiServer {
    /// Starts etcd and kube-apiserver, and waits until it is ready.
    pub(crate) fn start(binaries: &Binaries, asking: Asking<'_>) -> Result<Self, Failed> {
        let folder = tempfile::tempdir()?;
        let path = |name: &str| folder.path().join(name);
        write_certificates(folder.path())?;

        // Its own choice of ports; the addresses that it would tell other members are nobody's business here.
        let mut etcd = Command::new(&binaries.etcd);
        etcd.arg("--data-dir").arg(path("etcd")).args(["--listen-client-urls=http://127.0.0.1:0", "--listen-peer-urls=http://127.0.0.1:0"]);
        etcd.args(["--advertise-client-urls=http://127.0.0.1:0", "--unsafe-no-fsync", "--log-outputs=stderr"]);
        let (etcd, etcd_says) = Guarded::start(&etcd)?;
        let etcd_address = etcd.waits_for(&etcd_says, |line| {
            let (_, rest) = line.split_once(r#""msg":"serving client traffic insecurely"#)?;
            let (_, rest) = rest.split_once(r#""address":""#)?;
            Some(rest.split_once('"')?.0.to_owned())
        })?;

        let port = HeldPort::new()?;
        let mut command = Command::new(&binaries.kube_apiserver);
        let with_path = |flag: &str, path: &Path| format!("--{flag}={}", path.display());
        command.arg(format!("--etcd-servers=http://{etcd_address}"));
        command.args(["--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", "--permit-port-sharing=true"]);
        command.arg(format!("--secure-port={}", port.port()));
        command.arg(with_path("tls-cert-file", &path("server.pem"))).arg(with_path("tls-private-key-file", &path("server.key")));
        command.arg(with_path("client-ca-file", &path("ca.pem")));
        command.args(["--service-account-issuer=https://kubernetes.default.svc", "--service-cluster-ip-range=10.0.0.0/24"]);
        command.arg(with_path("service-account-key-file", &path("accounts.pub")));
        command.arg(with_path("service-account-signing-key-file", &path("accounts.key")));
        command.arg("--authorization-mode=RBAC");
        command.arg(with_path("authentication-token-webhook-config-file", asking.kubeconfig));
        command.arg(format!("--authentication-token-webhook-version={}", asking.version));
        command.args(asking.cache_ttl.map(|ttl| format!("--authentication-token-webhook-cache-ttl={ttl}")));
        let ca = path("ca.pem");
        let admin_cert = vec![CertificateDer::from_pem_file(path("admin.pem"))?];
        let admin = https::trusting(&ca).with_client_auth_cert(admin_cert, PrivateKeyDer::from_pem_file(path("admin.key"))?)?;
        let mut server = Self {
            process: None,
            command,
            _etcd: etcd,
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, port.port())),
            _port: port,
            anybody: Arc::new(https::trusting(&ca).with_no_client_auth()),
            admin: Arc::new(admin),
            kubectl: binaries.kubectl.clone(),
            folder,
        };
        server.start_again()?;
        Ok(server)
    }

    /// Ends it, and leaves etcd with all that it has stored.
    pub(crate) fn stop(&mut self) {
        self.process = None;
    }

    /// Starts it where it was, and waits until it is ready.
    pub(crate) fn start_again(&mut self) -> Result<(), Failed> {
        let (process, _) = Guarded::start(&self.command)?;
        self.process = Some(process);
        self.wait_ready()
    }

    fn wait_ready(&mut self) -> Result<(), Failed> {
        for _ in 0..READY_POLLS {
            if self.process.as_mut().map_or(Ok(true), Guarded::has_ended)? {
                break;
            }
            if matches!(https::exchange(&self.admin, self.address, "GET", "/readyz", &[], "", ANSWER_PATIENCE), Ok((200, _))) {
                return Ok(());
            }
            std::thread::sleep(READY_PAUSE);
        }
        Err(format!("kube-apiserver is not ready:\n{}", self.log()).into())
    }

    /// Asks for what every user may see, with a bearer token; the status of the answer: 200, or 401 where the token was not good enough.
    pub(crate) fn log_in(&self, token: &str) -> io::Result<u16> {
        let authorization = format!("Bearer {token}");
        let headers = [("Authorization", authorization.as_str())];
        Ok(https::exchange(&self.anybody, self.address, "GET", "/api", &headers, "", ANSWER_PATIENCE)?.0)
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        self.process.as_ref().map(Guarded::log).unwrap_or_default()
    }

    /// Runs kubectl with a user whose credentials come from `program`, as kubeconfigs for EKS have it. Its output is what it came to.
    pub(crate) fn kubectl(&self, program: &Exec<'_>, arguments: &[&str]) -> Result<Outcome, Failed> {
        let variables: Vec<_> = program.variables.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
        self.kubectl_as(
            &json!({"exec": {
                "apiVersion": program.api_version,
                "command": program.command,
                "args": program.arguments,
                "env": variables,
                "interactiveMode": "Never",
            }}),
            arguments,
            "",
        )
    }

    /// Runs kubectl as an administrator, who needs no webhook; what it prints. `input` is for `-f -`.
    pub(crate) fn as_admin(&self, arguments: &[&str], input: &str) -> Result<String, Failed> {
        let Outcome { code, stdout, stderr } = self.kubectl_as(&self.admin_user(), arguments, input)?;
        if code == 0 { Ok(stdout) } else { Err(format!("kubectl {arguments:?}: {stderr}").into()) }
    }

    /// A kubeconfig of that administrator.
    pub(crate) fn admin_kubeconfig(&self) -> io::Result<PathBuf> {
        let path = self.folder.path().join("admin.kubeconfig");
        fs::write(&path, self.kubeconfig(&self.admin_user()))?;
        Ok(path)
    }

    /// A kubeconfig of a ServiceAccount in `kube-system`.
    pub(crate) fn kubeconfig_of(&self, account: &str) -> Result<String, Failed> {
        let token = self.as_admin(&["create", "token", "-n", "kube-system", account], "")?;
        Ok(self.kubeconfig(&json!({"token": token.trim_end()})))
    }

    fn admin_user(&self) -> Value {
        let path = |name: &str| self.folder.path().join(name);
        json!({"client-certificate": path("admin.pem"), "client-key": path("admin.key")})
    }

    fn kubeconfig(&self, user: &Value) -> String {
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": {
                "server": format!("https://127.0.0.1:{}", self.address.port()),
                "certificate-authority": self.folder.path().join("ca.pem"),
            }}],
            "users": [{"name": "test", "user": user}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            "current-context": "test",
        });
        config.to_string()
    }

    fn kubectl_as(&self, user: &Value, arguments: &[&str], input: &str) -> Result<Outcome, Failed> {
        // A home of its own each time: kubectl keeps what it has discovered there.
        let home = tempfile::tempdir_in(self.folder.path())?;
        let kubeconfig = home.path().join("kubeconfig");
        fs::write(&kubeconfig, self.kubeconfig(user))?;
        let mut call = Call::of(&self.kubectl).argument("--kubeconfig").argument(kubeconfig).argument("--request-timeout=60s");
        for argument in arguments {
            call = call.argument(argument);
        }
        if let Some(path) = env::var_os("PATH") {
            call = call.variable("PATH", path);
        }
        Ok(call.variable("HOME", home.path()).input(input).run())
    }
}

/// What a kubeconfig runs for credentials.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exec<'a> {
    /// Of the ExecCredential.
    pub(crate) api_version: &'a str,
    pub(crate) command: &'a str,
    pub(crate) arguments: &'a [&'a str],
    pub(crate) variables: &'a [(&'a str, &'a str)],
}

/// An authority, and what it has signed: the server's pair, and that of an administrator. And the key that signs service accounts.
fn write_certificates(folder: &Path) -> Result<(), Failed> {
    let write = |name: &str, text: String| fs::write(folder.join(name), text);
    let key = || KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256);
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name.push(DnType::CommonName, "test authority");
    let ca_key = key()?;
    write("ca.pem", params.self_signed(&ca_key)?.pem())?;
    let issuer = Issuer::new(params, ca_key);

    let mut server = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()])?;
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let mut admin = CertificateParams::default();
    admin.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    admin.distinguished_name.push(DnType::CommonName, "admin");
    admin.distinguished_name.push(DnType::OrganizationName, "system:masters");
    for (name, mut params) in [("server", server), ("admin", admin)] {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let key = key()?;
        write(&format!("{name}.pem"), params.signed_by(&key, &issuer)?.pem())?;
        write(&format!("{name}.key"), key.serialize_pem())?;
    }
    let accounts = key()?;
    write("accounts.key", accounts.serialize_pem())?;
    write("accounts.pub", accounts.public_key_pem())?;
    Ok(())
}

/// A port that nobody else is given, held by a socket that never listens: whoever shares it (SO_REUSEPORT) gets all that comes.
pub(crate) struct HeldPort {
    _socket: Socket,
    port: u16,
}

impl HeldPort {
    pub(crate) fn new() -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
        let port = socket.local_addr()?.as_socket().ok_or_else(|| io::Error::other("no address of IP"))?.port();
        Ok(Self { _socket: socket, port })
    }

    pub(crate) const fn port(&self) -> u16 {
        self.port
    }
}

/// A process that is killed when this is dropped, and also when this process ends without dropping anything: a shell waits for its standard input to
/// end, and kills it then.
struct Guarded {
    shell: Child,
    log: Arc<Mutex<String>>,
}

/// Runs its arguments, and kills that process once standard input ends.
const GUARD: &str = r#"exec 3<&0; "$@" </dev/null 3<&- & child=$!; { read -r _ <&3; kill -9 $child; } & exec 3<&-; wait $child"#;

impl Guarded {
    /// The process, and the lines that it logs.
    fn start(command: &Command) -> io::Result<(Self, mpsc::Receiver<String>)> {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", GUARD, "sh"]).arg(command.get_program()).args(command.get_args());
        let mut shell = shell.env_clear().stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let stderr = shell.stderr.take().ok_or_else(|| io::Error::other("no standard error"))?;
        let log = Arc::new(Mutex::new(String::new()));
        let (say, lines) = mpsc::channel();
        let kept = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let mut log = kept.lock().unwrap();
                *log += &line;
                *log += "\n";
                let _ = say.send(line);
            }
        });
        Ok((Self { shell, log }, lines))
    }

    /// Waits for a line in which `find` finds something.
    fn waits_for<T>(&self, lines: &mpsc::Receiver<String>, find: impl Fn(&str) -> Option<T>) -> Result<T, Failed> {
        while let Ok(line) = lines.recv_timeout(PATIENCE) {
            if let Some(found) = find(&line) {
                return Ok(found);
            }
        }
        Err(format!("it does not say what it must:\n{}", self.log()).into())
    }

    fn has_ended(&mut self) -> io::Result<bool> {
        Ok(self.shell.try_wait()?.is_some())
    }

    fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}
