//! The same configuration and the same people through the reference's server and ours: the same user, groups and extras, but for the differences that
//! `docs/differences.md` lists, each of which is shown to be one.
//!
//! Both ask one fake STS: ours by `server.sts.endpoints`, the reference, which has no such setting, through a proxy that leads every host there.

mod support;

use std::cell::RefCell;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use arngate_core::endpoint::Fips;
use arngate_core::time::AmzDate;
use arngate_core::{ClusterId, Partition, StsHost};
use arngate_loadtest::clock::Clock;
use arngate_loadtest::credential::{CallerIdentity, Credential};
use arngate_loadtest::sts::{Config, FakeSts};
use arngate_loadtest::token::sign_token;
use libtest_mimic::{Arguments, Failed};
use rustls::ClientConfig;
use serde_json::Value;

use self::support::foreign::{Foreign, reference};
use self::support::https;
use self::support::server::Server;

const CLUSTER_ID: &str = "prod.example.com";
const REGION: &str = "eu-west-1";
const STS: &str = "sts.eu-west-1.amazonaws.com";

/// A bound, not a measure.
const PATIENCE: Duration = Duration::from_secs(30);

/// Who is mapped, in the file of both servers. What is only ours is not known to the reference, which leaves unknown keys alone.
const MAPPINGS: &str = "
clusterID: prod.example.com
server:
  backendMode: [MountedFile, DynamicFile]
  arnPatterns: true
  scrubbedAccounts: ['000000000007']
  reservedPrefixConfig:
  - {backendmode: MountedFile, usernamePrefixReserveList: ['system:', 'reserved:']}
  mapRoles:
  - roleARN: arn:aws:iam::111122223333:role/Admin
    username: 'admin:{{SessionName}}'
    groups: ['system:masters', 'of:{{AccountID}}']
  - roleARN: arn:aws:iam::111122223333:role/AllOfThem
    username: '{{AccountID}}/{{SessionName}}/{{SessionNameRaw}}/{{AccessKeyID}}/{{Nothing}}'
  - roleARN: arn:aws:iam::111122223333:role/lOuD
    username: loud
  - roleARN: arn:aws:sts::111122223333:assumed-role/Assumed/anybody
    username: assumed
  - {roleARN: 'arn:aws:iam::111122223333:role/Twice', username: first}
  - {roleARN: 'arn:aws:iam::111122223333:role/Twice', username: second}
  - {roleARN: 'arn:aws:iam::111122223333:role/Reserved', username: 'reserved:{{SessionName}}'}
  - {roleARN: 'arn:aws:iam::111122223333:role/some/path/Deep', username: deep}
  - {roleARN: 'arn:aws:iam::111122223333:role/Team-*', username: team}
  - {roleARN: 'arn:aws:iam::000000000007:role/Scrubbed', username: scrubbed, groups: [hidden]}
  - sso: {permissionSetName: ViewOnly, accountID: '111122223333'}
    username: 'sso:{{SessionName}}'
  - sso: {permissionSetName: Explicit, accountID: '111122223333', partition: aws}
    username: explicit
  mapUsers:
  - {userARN: 'arn:aws:iam::111122223333:user/Alice', username: alice, groups: [developers, operators]}
  - {userARN: 'arn:aws:iam::111122223333:user/division/Bob', username: bob}
  - {userARN: 'arn:aws:iam::111122223333:root', username: root}
  - {userARN: 'arn:aws:sts::111122223333:federated-user/Fred', username: fred}
  - {userARN: 'arn:aws:iam::111122223333:user/Reserved', username: 'system:reserved'}
  mapAccounts: ['444455556666']
";

/// The dynamic file of both.
const DYNAMIC: &str = r#"{
  "LastUpdatedDateTime": "1795521600",
  "Version": "1",
  "mapRoles": [
    {"rolearn": "arn:aws:iam::111122223333:role/Dynamic", "username": "dynamic:{{SessionName}}", "groups": ["dynamic"], "userid": "AROADYNAMIC"},
    {"rolearn": "arn:aws:iam::111122223333:role/some/path/DynamicDeep", "username": "dynamic-deep", "groups": []}
  ],
  "mapUsers": [{"userarn": "arn:aws:iam::111122223333:user/Dynamic", "username": "dynamic", "groups": []}],
  "mapAccounts": ["777788889999"]
}"#;

/// Who is mapped by his unique id alone, and by that and his ARN.
const STRICT_MAPPINGS: &str = "
clusterID: prod.example.com
server:
  backendMode: DynamicFile
  dynamicfileUserIDStrict: true
";

const STRICT_DYNAMIC: &str = r#"{
  "mapRoles": [
    {"rolearn": "arn:aws:iam::111122223333:role/Both", "username": "both", "groups": [], "userid": "AROABOTH"},
    {"rolearn": "arn:aws:iam::111122223333:role/some/path/Deep", "username": "deep", "groups": [], "userid": "AROADEEP"},
    {"username": "alone", "groups": ["alone"], "userid": "AROAALONE"},
    {"rolearn": "arn:aws:sts::111122223333:assumed-role/Assumed/s", "username": "assumed", "groups": [], "userid": "AROAASSUMED"}
  ],
  "mapUsers": [{"userarn": "arn:aws:iam::111122223333:user/Alice", "username": "alice", "groups": [], "userid": "AIDAALICE"}]
}"#;

/// What is to come of somebody.
enum Expected {
    /// The same from both, and that.
    Same(&'static str),
    /// One name from ours, another from the reference, for a reason in `docs/differences.md`.
    Differs { here: &'static str, there: &'static str, why: &'static str },
}

use Expected::{Differs, Same};

/// Nobody is let in.
const DENIED: &str = "denied";

/// People by their ARNs and unique ids, and what they are called where the latter count.
fn strict_people() -> Vec<(&'static str, &'static str, Expected)> {
    vec![
        ("arn:aws:sts::111122223333:assumed-role/Both/s", "AROABOTH", Same("both")),
        ("arn:aws:sts::111122223333:assumed-role/Both/s", "AROAOTHER", Same(DENIED)),
        ("arn:aws:sts::111122223333:assumed-role/Renamed/s", "AROABOTH", Same(DENIED)),
        ("arn:aws:sts::111122223333:assumed-role/Deep/s", "AROADEEP", Same("deep")),
        ("arn:aws:sts::111122223333:assumed-role/Anything/s", "AROAALONE", Same("alone")),
        ("arn:aws:sts::111122223333:assumed-role/Anything/s", "aroaalone", Same(DENIED)),
        ("arn:aws:iam::111122223333:user/Alice", "AIDAALICE", Same("alice")),
        ("arn:aws:iam::111122223333:user/Alice", "AIDAOTHER", Same(DENIED)),
        (
            "arn:aws:sts::111122223333:assumed-role/Assumed/s",
            "AROAASSUMED",
            Differs { here: "assumed", there: DENIED, why: "a role's ARN beside a `userid` may be written as it is assumed" },
        ),
    ]
}

/// People by their ARNs, and what they are called.
fn people() -> Vec<(&'static str, Expected)> {
    let role = "a role's path in an exact `rolearn` does not matter";
    vec![
        ("arn:aws:sts::111122223333:assumed-role/Admin/jane@example.com", Same("admin:jane-example.com")),
        ("arn:aws:sts::111122223333:assumed-role/AllOfThem/a@b@c", Same("111122223333/a-b-c/a@b@c/ASIAPARITY0000000001/{{Nothing}}")),
        ("arn:aws:sts::111122223333:assumed-role/LOUD/s", Same("loud")),
        ("arn:aws:sts::111122223333:assumed-role/Assumed/s", Same("assumed")),
        ("arn:aws:sts::111122223333:assumed-role/Twice/s", Same("second")),
        ("arn:aws:sts::111122223333:assumed-role/Reserved/s", Same(DENIED)),
        ("arn:aws:sts::000000000007:assumed-role/Scrubbed/s", Same("scrubbed")),
        ("arn:aws:sts::111122223333:assumed-role/AWSReservedSSO_ViewOnly_0123456789abcdef/jane", Same("sso:jane")),
        ("arn:aws:sts::111122223333:assumed-role/AWSReservedSSO_Other_0123456789abcdef/jane", Same(DENIED)),
        ("arn:aws:iam::111122223333:user/Alice", Same("alice")),
        ("arn:aws:iam::111122223333:user/ALICE", Same("alice")),
        ("arn:aws:iam::111122223333:user/division/Bob", Same("bob")),
        ("arn:aws:iam::111122223333:user/Bob", Same(DENIED)),
        ("arn:aws:iam::111122223333:root", Same("root")),
        ("arn:aws:sts::111122223333:federated-user/Fred", Same("fred")),
        ("arn:aws:iam::111122223333:user/Reserved", Same(DENIED)),
        ("arn:aws:iam::444455556666:user/path/Anybody", Same("arn:aws:iam::444455556666:user/path/Anybody")),
        ("arn:aws:sts::444455556666:assumed-role/Anything/s", Same("arn:aws:iam::444455556666:role/Anything")),
        ("arn:aws:iam::111122223333:user/Nobody", Same(DENIED)),
        ("arn:aws:sts::111122223333:assumed-role/Dynamic/s", Same("dynamic:s")),
        ("arn:aws:iam::111122223333:user/Dynamic", Same("dynamic")),
        ("arn:aws:iam::777788889999:user/Anybody", Same("arn:aws:iam::777788889999:user/Anybody")),
        ("arn:aws:sts::111122223333:assumed-role/Deep/s", Differs { here: "deep", there: DENIED, why: role }),
        ("arn:aws:sts::111122223333:assumed-role/DynamicDeep/s", Differs { here: "dynamic-deep", there: DENIED, why: role }),
        (
            "arn:aws:sts::111122223333:assumed-role/Team-Blue/s",
            Differs { here: "team", there: DENIED, why: "`server.arnPatterns: true`: `*` and `?` after `role/` or `user/`" },
        ),
        (
            "arn:aws:sts::111122223333:assumed-role/AWSReservedSSO_ViewOnly_Extra_0123456789abcdef/jane",
            Differs { here: DENIED, there: "sso:jane", why: "`Admin` also admits `Admin_Extra`" },
        ),
        (
            "arn:aws:sts::111122223333:assumed-role/AWSReservedSSO_Explicit_0123456789abcdef/jane",
            Differs { here: "explicit", there: DENIED, why: "SSO entries match in every partition" },
        ),
        (
            "arn:aws:sts::111122223333:assumed-role/Admin/{{AccountID}}",
            // AccountID is put in before the session's name, so that not even the reference comes to it again.
            Same("admin:{{AccountID}}"),
        ),
        (
            "arn:aws:sts::111122223333:assumed-role/Admin/{{AccessKeyID}}",
            Differs {
                here: "admin:{{AccessKeyID}}",
                there: "admin:ASIAPARITY0000000028",
                why: "a template's value is never expanded again",
            },
        ),
    ]
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let reference = Foreign::new("reference", reference(), "no aws-iam-authenticator");
    let trials = vec![
        reference.trial("the_same_people_are_called_the_same_but_for_the_listed_differences", |program| {
            let people = people().into_iter().map(|(arn, expected)| (arn, "AROAEXAMPLE", expected));
            compare(program, MAPPINGS, DYNAMIC, people.collect())
        }),
        reference
            .trial("and_so_they_are_by_their_unique_ids", |program| compare(program, STRICT_MAPPINGS, STRICT_DYNAMIC, strict_people())),
        reference.trial("a_changed_configuration_counts_here_at_once_and_there_after_a_restart", |program| a_change(program)),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn compare(program: &Path, mappings: &str, dynamic: &str, people: Vec<(&str, &str, Expected)>) -> Result<(), Failed> {
    let differences = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/differences.md"))?;
    let names: Vec<_> = people.iter().map(|(arn, id, _)| (*arn, *id)).collect();
    let pair = Pair::start(program, mappings, dynamic, &names)?;
    let mut wrong = String::new();
    for (number, (arn, id, expected)) in people.iter().enumerate() {
        let (ours, theirs) = pair.ask(number)?;
        let (here, there) = (username(&ours), username(&theirs));
        let is_right = match expected {
            Same(name) => ours == theirs && here == *name,
            Differs { here: wanted, there: other, why } => {
                if !differences.contains(why) {
                    writeln!(wrong, "{arn}: docs/differences.md does not say {why:?}")?;
                }
                here == *wanted && there == *other && ours != theirs
            }
        };
        if !is_right {
            writeln!(wrong, "{arn} ({id})\n  here  {ours}\n  there {theirs}")?;
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.into()) }
}

fn a_change(program: &Path) -> Result<(), Failed> {
    let pair = Pair::start(program, MAPPINGS, DYNAMIC, &[("arn:aws:iam::111122223333:user/Late", "AIDALATE")])?;
    let (ours, theirs) = pair.ask(0)?;
    if (username(&ours), username(&theirs)) != (DENIED, DENIED) {
        return Err(format!("{ours} {theirs}").into());
    }
    let config = pair.ours.folder.path().join("config.yaml");
    let text = fs::read_to_string(&config)?;
    let late = "  mapUsers:\n  - {userARN: 'arn:aws:iam::111122223333:user/Late', username: late}\n";
    fs::write(&config, text.replace("  mapUsers:\n", late))?;
    // Bounded, and no measure: half a minute on the slowest machine.
    let mut admitted = false;
    for _ in 0..600 {
        admitted = username(&pair.ask(0)?.0) == "late";
        if admitted {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    if !admitted {
        return Err(pair.ours.log().into());
    }
    let (_, theirs) = pair.ask(0)?;
    if username(&theirs) == DENIED { Ok(()) } else { Err(theirs.to_string().into()) }
}

/// What an answer comes to: the user, or null.
fn user(status: u16, body: &str) -> Value {
    let review: Value = serde_json::from_str(body).unwrap_or_default();
    let user = &review["status"]["user"];
    if status == 200 && review["status"]["authenticated"] == true { user.clone() } else { Value::Null }
}

fn username(user: &Value) -> &str {
    user["username"].as_str().unwrap_or(DENIED)
}

/// Both servers over the same files.
struct Pair {
    ours: Server,
    theirs: Reference,
    client: Arc<ClientConfig>,
    tokens: Vec<String>,
    /// Kept while it is asked.
    _sts: FakeSts,
    _runtime: tokio::runtime::Runtime,
}

impl Pair {
    fn start(program: &Path, mappings: &str, dynamic: &str, people: &[(&str, &str)]) -> Result<Self, Failed> {
        let mut credentials = Vec::new();
        for (number, (arn, id)) in people.iter().enumerate() {
            let session = arn.rsplit_once('/').map_or("", |(_, session)| session);
            let user_id = if arn.contains(":assumed-role/") { format!("{id}:{session}") } else { (*id).to_owned() };
            let identity = CallerIdentity::of_arn(*arn, user_id)?;
            credentials.push(Credential::new(format!("ASIAPARITY{number:010}"), "made-up", identity)?);
        }
        let date = AmzDate::from_unix(Clock::system().now()).ok_or("a time that no token can have")?;
        let host = StsHost::regional(Partition::Aws, REGION, Fips::No)?;
        let cluster_id = ClusterId::parse(CLUSTER_ID)?;
        let tokens = credentials.iter().map(|credential| sign_token(credential, host, cluster_id, date)).collect();

        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let sts = runtime.block_on(FakeSts::start(Config::new(Clock::system()).with_credentials(credentials)))?;
        let folder = tempfile::tempdir()?;
        let (ca, dynamic_path) = (folder.path().join("sts-ca.pem"), folder.path().join("dynamic.json"));
        fs::write(&ca, sts.ca_pem())?;
        fs::write(&dynamic_path, dynamic)?;
        let config = format!(
            "{mappings}  dynamicfilepath: {}\n  sts:\n    endpoints: {{{STS}: 'https://{}'}}\n    caFile: {}\n",
            dynamic_path.display(),
            sts.addr(),
            ca.display()
        );
        let ours = Server::start_in(folder, &config);
        let theirs = Reference::start(program, ours.folder.path(), &ca, lead_to(sts.addr())?)?;
        let client = Arc::new(https::trusting(&ours.folder.path().join("cert.pem")).with_no_client_auth());
        let pair = Self { ours, theirs, client, tokens, _sts: sts, _runtime: runtime };
        pair.wait_for_their_dynamic_file()?;
        Ok(pair)
    }

    /// The reference listens before it has read the dynamic file, and says so in its log.
    fn wait_for_their_dynamic_file(&self) -> Result<(), Failed> {
        self.theirs.wait_for("LoadDynamicFile: ").map(|_| ())
    }

    /// Who somebody is to ours, and who to the reference.
    fn ask(&self, number: usize) -> Result<(Value, Value), Failed> {
        let token = self.tokens.get(number).ok_or("nobody")?;
        let (status, body) = self.ours.review(token);
        let ours = user(status, &body);
        let body = format!(r#"{{"apiVersion":"authentication.k8s.io/v1beta1","kind":"TokenReview","spec":{{"token":"{token}"}}}}"#);
        let (status, body) = https::exchange(&self.client, self.theirs.address, "POST", "/authenticate", &[], &body, PATIENCE)?;
        Ok((ours, user(status, &body)))
    }
}

/// The reference's server.
struct Reference {
    child: Child,
    address: SocketAddr,
    lines: mpsc::Receiver<String>,
    /// What it has said so far.
    said: RefCell<Vec<String>>,
}

impl Drop for Reference {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Reference {
    /// Starts it over the files that ours has left in `folder`.
    fn start(program: &Path, folder: &Path, ca: &Path, proxy: SocketAddr) -> Result<Self, Failed> {
        let mut command = Command::new(program);
        command.args(["server", "--port=0", "--kubeconfig-pregenerated=true", "--feature-gates=SSORoleMatch=true"]);
        command.arg("--config").arg(folder.join("config.yaml")).arg("--state-dir").arg(folder);
        command.env_clear().env("HOME", "/nonexistent").env("AWS_REGION", REGION).env("AWS_EC2_METADATA_DISABLED", "true");
        command.env("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE").env("AWS_SECRET_ACCESS_KEY", "made-up");
        command.env("HTTPS_PROXY", format!("http://{proxy}")).env("SSL_CERT_FILE", ca);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let (said, lines) = mpsc::channel();
        let stderr = BufReader::new(child.stderr.take().ok_or("no standard error")?);
        std::thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| said.send(line)));
        let mut reference = Self { child, address: ([127, 0, 0, 1], 0).into(), lines, said: RefCell::default() };
        let line = reference.wait_for("listening on ")?;
        let address = line.split_once("listening on ").map_or("", |(_, rest)| rest.trim_end_matches('"'));
        reference.address = address.parse().map_err(|_| format!("no address: {line}"))?;
        Ok(reference)
    }

    /// The first line that has `part` in it, be it that it was said already.
    fn wait_for(&self, part: &str) -> Result<String, Failed> {
        let mut said = self.said.borrow_mut();
        loop {
            if let Some(line) = said.iter().find(|line| line.contains(part)) {
                return Ok(line.clone());
            }
            let next = self.lines.recv_timeout(PATIENCE);
            let line = next.map_err(|_| format!("the reference does not say {part:?}:\n{}", said.join("\n")))?;
            said.push(line);
        }
    }
}

/// A proxy that leads each connection to one address, whatever host was asked for.
fn lead_to(target: SocketAddr) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || lead(stream, target));
        }
    });
    Ok(address)
}

fn lead(mut stream: TcpStream, target: SocketAddr) -> io::Result<()> {
    let mut head = Vec::new();
    // Byte by byte: what comes behind the head is TLS already.
    while !head.ends_with(b"\r\n\r\n") && head.len() < 4096 {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.extend(byte);
    }
    let mut upstream = TcpStream::connect(target)?;
    stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
    let (mut back, mut from) = (stream.try_clone()?, upstream.try_clone()?);
    let answers = std::thread::spawn(move || {
        let _ = io::copy(&mut from, &mut back);
        let _ = back.shutdown(Shutdown::Write);
    });
    let _ = io::copy(&mut stream, &mut upstream);
    let _ = upstream.shutdown(Shutdown::Write);
    let _ = answers.join();
    Ok(())
}
