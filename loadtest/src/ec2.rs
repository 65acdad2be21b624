//! A fake EC2: DescribeInstances by the query API, on loopback, with real TLS and real signatures.
//!
//! It checks the signature in the headers as AWS would, with the secrets that it was given, and knows the instances that it is told of. Both ways to name instances
//! are there, for they differ in what becomes of ids that do not exist: with `InstanceId.N` they are an error for the whole call, with the filter `instance-id` they
//! are missing in the answer. On demand it misbehaves ([`Ec2Behaviour`]) and holds answers until told ([`Gate`]). It keeps what each call asked for.
//!
//! A client reaches it by connecting to [`FakeEc2::addr`] instead of the address of an EC2 host, and by trusting [`FakeEc2::ca_pem`].
//!
//! AWS: <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeInstances.html>.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arngate_core::UnixSeconds;
use arngate_core::time::AmzDate;
use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::clock::Clock;
use crate::credential::Credential;
use crate::sts::{Gate, StartError, acceptor};

/// The content type of a form.
const FORM: &str = "application/x-www-form-urlencoded; charset=utf-8";

/// How far a signature's date may lie from ours, in seconds. AWS: five minutes.
const SKEW_SECS: i64 = 300;

/// An instance, as far as anybody here is interested.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Instance {
    /// `privateDnsName`; empty while it is being launched and once it has ended.
    pub private_dns_name: String,
    /// `instanceState`, such as `running`.
    pub state: String,
}

impl Instance {
    /// One that runs.
    #[must_use]
    pub fn running(private_dns_name: &str) -> Self {
        Self { private_dns_name: private_dns_name.to_owned(), state: "running".to_owned() }
    }

    /// One that is being launched.
    #[must_use]
    pub fn pending() -> Self {
        Self { private_dns_name: String::new(), state: "pending".to_owned() }
    }
}

/// What becomes of a call.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Ec2Behaviour {
    /// It is answered.
    Answer,
    /// The connection ends without an answer.
    Close,
    /// An error of EC2.
    Error {
        /// HTTP status.
        status: u16,
        /// Its code, such as `RequestLimitExceeded`.
        code: String,
    },
    /// Something else, with a status.
    Raw {
        /// HTTP status.
        status: u16,
        /// The body.
        body: String,
    },
}

/// A running fake EC2. Dropped, it ends at once.
#[derive(Debug)]
pub struct FakeEc2 {
    shared: Arc<Shared>,
    addr: SocketAddr,
    ca_pem: String,
    accepting: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    region: String,
    clock: Clock,
    credentials: Vec<Credential>,
    state: Mutex<State>,
    calls: watch::Sender<usize>,
}

#[derive(Debug)]
struct State {
    instances: HashMap<String, Instance>,
    queue: VecDeque<Ec2Behaviour>,
    standing: Ec2Behaviour,
    gate: Option<Gate>,
    /// The ids of each call, in the order in which they arrived.
    asked: Vec<Vec<String>>,
}

impl FakeEc2 {
    /// Starts EC2 of a region in the present tokio runtime; its hosts are `ec2.<region>.<domain>` for these domains.
    ///
    /// # Errors
    ///
    /// [`StartError`].
    pub async fn start(
        region: &str,
        domains: &[&str],
        clock: Clock,
        credentials: impl IntoIterator<Item = Credential>,
    ) -> Result<Self, StartError> {
        let bind = |source| StartError::Bind { port: 0, source };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(bind)?;
        let addr = listener.local_addr().map_err(bind)?;
        let (acceptor, ca_pem) = acceptor(domains.iter().map(|domain| format!("ec2.{region}.{domain}")).collect())?;
        let state =
            State { instances: HashMap::new(), queue: VecDeque::new(), standing: Ec2Behaviour::Answer, gate: None, asked: Vec::new() };
        let shared = Arc::new(Shared {
            region: region.to_owned(),
            clock,
            credentials: credentials.into_iter().collect(),
            state: Mutex::new(state),
            calls: watch::Sender::new(0),
        });
        let serving = Arc::clone(&shared);
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((tcp, _)) = listener.accept().await {
                let (acceptor, shared) = (acceptor.clone(), Arc::clone(&serving));
                connections.spawn(async move {
                    // A client that does not trust us has told so to its own user, and one that goes, goes.
                    let Ok(tls) = acceptor.accept(tcp).await else { return };
                    let service = hyper::service::service_fn(move |request| handle(request, Arc::clone(&shared)));
                    let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(tls), service).await;
                });
            }
        });
        Ok(Self { shared, addr, ca_pem, accepting })
    }

    /// Where it listens.
    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The certificate of its authority, PEM.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// There is an instance now, or it has changed.
    pub fn put(&self, id: &str, instance: Instance) {
        self.shared.lock().instances.insert(id.to_owned(), instance);
    }

    /// Becomes of all calls from now on, but of those that are queued.
    pub fn set_behaviour(&self, behaviour: Ec2Behaviour) {
        self.shared.lock().standing = behaviour;
    }

    /// Becomes of the next call, after those that are queued already.
    pub fn queue(&self, behaviour: Ec2Behaviour) {
        self.shared.lock().queue.push_back(behaviour);
    }

    /// From now on, calls wait at a gate, until it is opened for good.
    pub fn hold(&self) {
        self.shared.lock().gate = Some(Gate::new());
    }

    /// Opens the gate.
    pub fn release(&self) {
        self.shared.lock().gate = None;
    }

    /// What each call asked for.
    #[must_use]
    pub fn asked(&self) -> Vec<Vec<String>> {
        self.shared.lock().asked.clone()
    }

    /// Waits until there were so many calls.
    pub async fn wait_for_calls(&self, calls: usize) {
        // The sender lives as long as we do.
        let _ = self.shared.calls.subscribe().wait_for(|made| *made >= calls).await;
    }
}

impl Drop for FakeEc2 {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An error of EC2.
#[derive(Debug)]
struct Refusal {
    status: u16,
    code: String,
    message: String,
}

impl Refusal {
    fn new(status: u16, code: &str, message: impl Into<String>) -> Self {
        Self { status, code: code.to_owned(), message: message.into() }
    }
}

async fn handle(request: Request<Incoming>, shared: Arc<Shared>) -> Result<Response<Full<Bytes>>, Gone> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| Gone)?.to_bytes();
    let authority = head.uri.authority().map(ToString::to_string);
    let ids =
        check(&shared, head.method.as_str(), head.uri.path(), authority.as_deref(), &head.headers, &body).and_then(|()| wanted(&body));
    let (behaviour, gate) = {
        let mut state = shared.lock();
        state.asked.push(ids.as_ref().map(|wanted| wanted.ids.clone()).unwrap_or_default());
        let behaviour = state.queue.pop_front().unwrap_or_else(|| state.standing.clone());
        (behaviour, state.gate.as_ref().map(Gate::state))
    };
    shared.calls.send_modify(|calls| *calls += 1);
    if let Some(gate) = gate {
        gate.enter().await;
    }
    let (status, body) = match (behaviour, ids) {
        (Ec2Behaviour::Close, _) => return Err(Gone),
        (Ec2Behaviour::Raw { status, body }, _) => (status, body),
        (Ec2Behaviour::Error { status, code }, _) => refused(&Refusal::new(status, &code, "Told to say so.")),
        (Ec2Behaviour::Answer, Err(refusal)) => refused(&refusal),
        (Ec2Behaviour::Answer, Ok(wanted)) => match described(&shared.lock().instances, &wanted) {
            Ok(body) => (200, body),
            Err(refusal) => refused(&refusal),
        },
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status.try_into().map_err(|_| Gone)?;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("text/xml;charset=UTF-8"));
    Ok(response)
}

/// The connection is to end.
#[derive(Debug, thiserror::Error)]
#[error("told to hang up")]
struct Gone;

impl From<Infallible> for Gone {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

/// The instances that a call is about.
struct Wanted {
    ids: Vec<String>,
    is_filter: bool,
}

/// Checks the request, without what it asks for.
fn check(shared: &Shared, method: &str, path: &str, authority: Option<&str>, headers: &HeaderMap, body: &[u8]) -> Result<(), Refusal> {
    let denied = |why: &str| Refusal::new(401, "AuthFailure", why);
    if method != "POST" || path != "/" {
        return Err(Refusal::new(400, "InvalidAction", "Not a POST of /."));
    }
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let host = authority.or_else(|| text(HOST.as_str())).unwrap_or_default();
    if !host.starts_with(&format!("ec2.{}.", shared.region)) {
        return Err(denied("Another host."));
    }
    let authorization = text(AUTHORIZATION.as_str()).ok_or_else(|| Refusal::new(400, "MissingAuthenticationToken", "Not signed."))?;
    let fields = authorization.strip_prefix("AWS4-HMAC-SHA256 ").ok_or_else(|| denied("Another algorithm."))?;
    let field =
        |name: &str| fields.split(", ").find_map(|field| field.strip_prefix(name)?.strip_prefix('=')).ok_or_else(|| denied("Incomplete."));
    let (credential, signed_headers, signature) = (field("Credential")?, field("SignedHeaders")?, field("Signature")?);
    let date = text("x-amz-date").and_then(|date| AmzDate::parse(date.as_bytes()).ok()).ok_or_else(|| denied("No date."))?;
    if date.unix().as_i64().abs_diff(shared.clock.now().as_i64()) > SKEW_SECS.unsigned_abs() {
        return Err(Refusal::new(400, "RequestExpired", "Request has expired."));
    }
    let (access_key_id, scope) = credential.split_once('/').ok_or_else(|| denied("No scope."))?;
    if scope != format!("{}/{}/ec2/aws4_request", date.day(), shared.region) {
        return Err(denied("Another scope."));
    }
    let known = shared.credentials.iter().find(|known| known.access_key_id() == access_key_id).ok_or_else(|| denied("Nobody's key."))?;
    if text("x-amz-security-token") != known.session_token() {
        return Err(denied("Another session token."));
    }
    let names: Vec<_> = signed_headers.split(';').collect();
    let must_be_signed = |name: &&str| *name == "host" || name.starts_with("x-amz-") || *name == "content-type";
    let present = headers.keys().map(hyper::header::HeaderName::as_str).chain(["host"]);
    if let Some(missing) = present.into_iter().filter(must_be_signed).find(|name| !names.contains(name)) {
        return Err(denied(&format!("The header {missing} is not signed.")));
    }
    let value = |name: &str| if name == "host" { host.to_owned() } else { text(name).unwrap_or_default().to_owned() };
    let signed: Vec<_> = names.iter().map(|name| ((*name).to_owned(), value(name))).collect();
    if signature_of(known, &shared.region, date, &signed, body) == signature {
        Ok(())
    } else {
        Err(Refusal::new(403, "SignatureDoesNotMatch", "The request signature we calculated does not match the signature you provided."))
    }
}

/// The headers that sign a form for EC2.
#[must_use]
pub fn sign(credential: &Credential, region: &str, host: &str, body: &[u8], at: UnixSeconds) -> Vec<(String, String)> {
    let Some(date) = AmzDate::from_unix(at) else { return Vec::new() };
    let own = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let mut headers = vec![own("content-type", FORM), own("host", host), own("x-amz-date", date.as_str())];
    headers.extend(credential.session_token().map(|token| own("x-amz-security-token", token)));
    let names: Vec<_> = headers.iter().map(|(name, _)| name.as_str()).collect();
    let signature = signature_of(credential, region, date, &headers, body);
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={}/{}/{region}/ec2/aws4_request, SignedHeaders={}, Signature={signature}",
        credential.access_key_id(),
        date.day(),
        names.join(";"),
    );
    headers.retain(|(name, _)| name.starts_with("x-amz-"));
    headers.push(own("authorization", &authorization));
    headers
}

/// AWS: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>.
fn signature_of(credential: &Credential, region: &str, date: AmzDate, headers: &[(String, String)], body: &[u8]) -> String {
    let mut canonical = String::from("POST\n/\n\n");
    for (name, value) in headers {
        canonical += &format!("{name}:{}\n", value.trim());
    }
    let names: Vec<_> = headers.iter().map(|(name, _)| name.as_str()).collect();
    canonical += &format!("\n{}\n{}", names.join(";"), hex(&Sha256::digest(body)));
    let scope = format!("{}/{region}/ec2/aws4_request", date.day());
    let text = format!("AWS4-HMAC-SHA256\n{}\n{scope}\n{}", date.as_str(), hex(&Sha256::digest(canonical)));
    let mac = |key: &[u8], data: &[u8]| {
        // HMAC takes keys of any length.
        Hmac::<Sha256>::new_from_slice(key).map(|mac| mac.chain_update(data).finalize().into_bytes().to_vec()).unwrap_or_default()
    };
    let root = format!("AWS4{}", credential.secret()).into_bytes();
    let key = [date.day(), region, "ec2", "aws4_request"].into_iter().fold(root, |key, part| mac(&key, part.as_bytes()));
    hex(&mac(&key, text.as_bytes()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// What the form asks for.
fn wanted(body: &[u8]) -> Result<Wanted, Refusal> {
    let form = std::str::from_utf8(body).unwrap_or_default();
    let pairs: Vec<(&str, &str)> = form.split('&').filter_map(|pair| pair.split_once('=')).collect();
    let value = |name: &str| pairs.iter().find(|(found, _)| *found == name).map(|(_, value)| *value);
    if value("Action") != Some("DescribeInstances") || value("Version") != Some("2016-11-15") {
        return Err(Refusal::new(400, "InvalidAction", "The action is not valid for this endpoint."));
    }
    let all = |prefix: &str| -> Vec<String> { (1..).map_while(|number| value(&format!("{prefix}.{number}")).map(str::to_owned)).collect() };
    let by_id = all("InstanceId");
    if !by_id.is_empty() {
        return Ok(Wanted { ids: by_id, is_filter: false });
    }
    let ids = all("Filter.1.Value");
    if value("Filter.1.Name") != Some("instance-id") || ids.is_empty() || ids.len() > 200 {
        return Err(Refusal::new(400, "InvalidParameterValue", "The filter is invalid."));
    }
    Ok(Wanted { ids, is_filter: true })
}

fn described(instances: &HashMap<String, Instance>, wanted: &Wanted) -> Result<String, Refusal> {
    let mut items = String::new();
    for id in &wanted.ids {
        match instances.get(id) {
            Some(Instance { private_dns_name, state }) => {
                items += &format!(
                    "<item><reservationId>r-0</reservationId><instancesSet><item><instanceId>{id}</instanceId><instanceState><code>0</code>\
                     <name>{state}</name></instanceState><privateDnsName>{private_dns_name}</privateDnsName><dnsName/></item></instancesSet></item>"
                );
            }
            None if wanted.is_filter => {}
            None => return Err(Refusal::new(400, "InvalidInstanceID.NotFound", format!("The instance ID '{id}' does not exist"))),
        }
    }
    Ok(format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<DescribeInstancesResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\">\n    \
         <requestId>0</requestId>\n    <reservationSet>{items}</reservationSet>\n</DescribeInstancesResponse>"
    ))
}

fn refused(Refusal { status, code, message }: &Refusal) -> (u16, String) {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors>\
         <RequestID>0</RequestID></Response>"
    );
    (*status, body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_as_aws_documents() {
        // The key of AWS' documentation; the signature is an independent implementation's (Python hmac).
        let at = AmzDate::parse(b"20261124T120000Z").unwrap().unix();
        let headers = sign(
            &Credential::example_user(),
            "eu-west-1",
            "ec2.eu-west-1.amazonaws.com",
            b"Action=DescribeInstances&Version=2016-11-15",
            at,
        );
        let authorization = &headers.iter().find(|(name, _)| name == "authorization").unwrap().1;
        assert_eq!(authorization.rsplit_once('=').unwrap().1, "230379376579845bff78e7a2f62e6f472aaa7d1251e613cae281a383480a4f40");
    }

    #[test]
    fn one_unknown_id_spoils_the_call_unless_it_is_in_a_filter() {
        let instances = HashMap::from([("i-1".to_owned(), Instance::running("a"))]);
        let ids = || vec!["i-1".to_owned(), "i-2".to_owned()];
        assert!(described(&instances, &Wanted { ids: ids(), is_filter: true }).unwrap().contains("<privateDnsName>a<"));
        let refusal = described(&instances, &Wanted { ids: ids(), is_filter: false }).unwrap_err();
        assert_eq!((refusal.status, refusal.code.as_str()), (400, "InvalidInstanceID.NotFound"));
    }
}
