//! The way to STS: TLS with a private authority (`AWS_CA_BUNDLE`), through the proxy of the environment, to the fake STS.

mod support;

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use arngate_loadtest::clock::Clock;
use arngate_loadtest::credential::Credential;
use arngate_loadtest::sts::{Config, FakeSts};

use self::support::{Call, arngate};

/// A proxy that leads to one address, whatever it is asked for, and remembers that.
struct Proxy {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let first = tunnel(client, to);
                seen.lock().unwrap().push(first);
            }
        });
        Self { url, asked }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// Answers CONNECT, and carries bytes both ways until both sides have ended.
fn tunnel(mut client: TcpStream, to: SocketAddr) -> String {
    let mut reader = BufReader::new(client.try_clone().unwrap());
    let mut first = String::new();
    reader.read_line(&mut first).unwrap();
    let mut line = String::new();
    while reader.read_line(&mut line).unwrap() > 2 {
        line.clear();
    }
    let mut server = TcpStream::connect(to).unwrap();
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").unwrap();
    let (mut up_from, mut up_to) = (reader, server.try_clone().unwrap());
    std::thread::spawn(move || {
        carry(&mut up_from, &mut up_to);
        let _ = up_to.shutdown(Shutdown::Write);
    });
    std::thread::spawn(move || {
        carry(&mut server, &mut client);
        let _ = client.shutdown(Shutdown::Write);
    });
    first.trim_end().to_owned()
}

fn carry(from: &mut impl std::io::Read, to: &mut TcpStream) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..length]).is_err() {
            return;
        }
    }
}

/// A fake STS that knows a user and a role's session, behind a proxy.
struct Aws {
    _runtime: tokio::runtime::Runtime,
    sts: FakeSts,
    proxy: Proxy,
    folder: tempfile::TempDir,
}

impl Aws {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let config = Config::new(Clock::system()).with_credentials([Credential::example_user(), Credential::example_role()]);
        let sts = runtime.block_on(FakeSts::start(config)).unwrap();
        let proxy = Proxy::start(sts.addr());
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ca.pem"), sts.ca_pem()).unwrap();
        Self { _runtime: runtime, sts, proxy, folder }
    }

    fn ca_bundle(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    fn call(&self, line: &str) -> Call {
        arngate().arguments(line).variable("HTTPS_PROXY", &self.proxy.url).variable("AWS_CA_BUNDLE", self.ca_bundle())
    }
}

fn token_of(credential: &Credential) -> String {
    let mut call =
        arngate().arguments("token -i prod --token-only --region eu-west-1").variable("AWS_ACCESS_KEY_ID", credential.access_key_id());
    call = call.variable("AWS_SECRET_ACCESS_KEY", credential.secret());
    if let Some(session_token) = credential.session_token() {
        call = call.variable("AWS_SESSION_TOKEN", session_token);
    }
    let outcome = call.run();
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    outcome.stdout.trim_end().to_owned()
}

#[test]
fn verify_asks_sts_and_prints_who_it_is() {
    let aws = Aws::start();
    let outcome = aws.call("verify -i prod -o json -t").argument(token_of(&Credential::example_role())).run();
    assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""));
    let identity: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(identity["ARN"], "arn:aws:sts::123456789012:assumed-role/Admin/jane@example.com");
    assert_eq!(identity["CanonicalARN"], "arn:aws:iam::123456789012:role/Admin");
    assert_eq!((&identity["UserID"], &identity["SessionName"]), (&"AROACKCEVSQ6C2EXAMPLE".into(), &"jane@example.com".into()));
    assert_eq!(identity["STSEndpoint"], "sts.eu-west-1.amazonaws.com");
    assert_eq!(aws.proxy.asked(), ["CONNECT sts.eu-west-1.amazonaws.com:443 HTTP/1.1"]);
    assert_eq!(aws.sts.calls(), 1);
}

#[test]
fn verify_tells_a_refusal_of_sts() {
    let aws = Aws::start();
    let outcome = aws.call("verify -i other -t").argument(token_of(&Credential::example_user())).run();
    assert_eq!((outcome.code, outcome.stdout.as_str()), (1, ""));
    assert!(outcome.stderr.starts_with("could not verify token: STS at sts.eu-west-1.amazonaws.com: "), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("SignatureDoesNotMatch"), "{}", outcome.stderr);
}

/// The fake STS does not speak POST, which is how the SDK asks; that it says so is proof enough that the SDK reached it and trusted it.
#[test]
fn roles_are_assumed_through_the_proxy_with_the_bundles_authority() {
    let aws = Aws::start();
    let user = Credential::example_user();
    let with_role = |call: Call| {
        call.arguments("-r arn:aws:iam::123456789012:role/Admin")
            .variable("AWS_ACCESS_KEY_ID", user.access_key_id())
            .variable("AWS_SECRET_ACCESS_KEY", user.secret())
            .run()
    };
    let trusted = with_role(aws.call("token -i prod --region eu-west-1"));
    assert_eq!(trusted.code, 1);
    assert!(trusted.stderr.contains("service error"), "{}", trusted.stderr);
    assert!(aws.proxy.asked().iter().all(|asked| asked == "CONNECT sts.eu-west-1.amazonaws.com:443 HTTP/1.1"), "{:?}", aws.proxy.asked());

    let untrusted = with_role(arngate().arguments("token -i prod --region eu-west-1").variable("HTTPS_PROXY", &aws.proxy.url));
    assert_eq!(untrusted.code, 1);
    assert!(untrusted.stderr.contains("dispatch failure"), "{}", untrusted.stderr);
    assert!(!untrusted.stderr.contains(user.secret()));
}
