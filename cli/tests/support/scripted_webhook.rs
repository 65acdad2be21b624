//! A webhook that does with each request what a script says, down to the frames of HTTP/2, and counts.
//!
//! It speaks as much of HTTP/2 as it takes to misbehave in it (RFC 9113): a server of a library would not send the GOAWAY that we ask for.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use libtest_mimic::Failed;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};
use socket2::SockRef;
use tempfile::TempDir;

/// What is done with one request.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// A whole answer.
    Answer { status: u16, retry_after_secs: Option<u32>, review: Review },
    /// The connection is closed without an answer.
    Close,
    /// The connection is closed after the head and half of the body of a good answer.
    CloseInAnswer,
    /// GOAWAY that counts this request as taken, a good answer to it, and the end of the connection: how a server drains.
    GoAwayThenAnswer,
    /// GOAWAY that counts this request as taken, and the end of the connection without an answer.
    GoAwayThenClose,
    /// GOAWAY that says that this request was not taken, and the end of the connection.
    GoAwayUntaken,
    /// TCP reset.
    Reset,
    /// RST_STREAM with that error code (RFC 9113 section 7).
    ResetStream(u32),
}

/// What a TokenReview in an answer says.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Review {
    /// Who it is, in the API version that was asked in.
    Authenticated,
    /// The same without kind, apiVersion and spec.
    AuthenticatedBare,
    /// The same in the other API version.
    AuthenticatedInOtherVersion,
    /// `authenticated: false`.
    Denied,
    /// The same with `status.error`.
    DeniedWithError,
    /// No TokenReview, but a line of text.
    Text,
}

impl Act {
    /// A good answer.
    pub(crate) const GOOD: Self = Self::ok(Review::Authenticated);

    pub(crate) const fn ok(review: Review) -> Self {
        Self::Answer { status: 200, retry_after_secs: None, review }
    }

    /// An answer of that status with a line of text.
    pub(crate) const fn status(status: u16) -> Self {
        Self::Answer { status, retry_after_secs: None, review: Review::Text }
    }

    pub(crate) const fn retry_after(status: u16, secs: u32) -> Self {
        Self::Answer { status, retry_after_secs: Some(secs), review: Review::Text }
    }
}

/// What is done with the requests for one token: these in their order, the last of them for all that follow.
type Script = (Vec<Act>, usize);

/// A running webhook. It ends with the test's process: it is threads that wait.
pub(crate) struct ScriptedWebhook {
    scripts: Arc<Mutex<HashMap<String, Script>>>,
    folder: TempDir,
}

impl ScriptedWebhook {
    pub(crate) fn start() -> Result<Self, Failed> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()])?.self_signed(&key)?;
        let mut tls = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der())?)?;
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let tls = Arc::new(tls);

        let listener = TcpListener::bind("127.0.0.1:0")?;
        let folder = tempfile::tempdir()?;
        fs::write(folder.path().join("ca.pem"), certificate.pem())?;
        fs::write(folder.path().join("webhook.yaml"), kubeconfig(listener.local_addr()?, &folder.path().join("ca.pem")))?;
        let scripts = Arc::new(Mutex::new(HashMap::new()));
        let shared = Arc::clone(&scripts);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (tls, scripts) = (Arc::clone(&tls), Arc::clone(&shared));
                std::thread::spawn(move || {
                    // A peer that goes is an end like any other.
                    let _ = serve(stream, tls, &scripts);
                });
            }
        });
        Ok(Self { scripts, folder })
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("webhook.yaml")
    }

    /// From now on, this is done with the requests for `token`.
    pub(crate) fn script(&self, token: &str, acts: Vec<Act>) {
        self.scripts.lock().unwrap().insert(token.to_owned(), (acts, 0));
    }

    /// Requests for `token` that reached us.
    pub(crate) fn requests(&self, token: &str) -> usize {
        self.scripts.lock().unwrap().get(token).map_or(0, |(_, requests)| *requests)
    }
}

fn kubeconfig(address: SocketAddr, ca: &std::path::Path) -> String {
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "webhook", "cluster": {"server": format!("https://{address}/authenticate"), "certificate-authority": ca}}],
        "users": [{"name": "webhook", "user": {}}],
        "contexts": [{"name": "webhook", "context": {"cluster": "webhook", "user": "webhook"}}],
        "current-context": "webhook",
    });
    config.to_string()
}

type Stream = StreamOwned<ServerConnection, TcpStream>;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// A peer that is silent for longer has gone: a bound, not a measure. kube-apiserver pings after 30 s.
const SILENCE: Duration = Duration::from_secs(300);

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Serves one connection, one frame after the other, until an act or the peer ends it.
fn serve(tcp: TcpStream, tls: Arc<ServerConfig>, scripts: &Mutex<HashMap<String, Script>>) -> io::Result<()> {
    tcp.set_read_timeout(Some(SILENCE))?;
    tcp.set_nodelay(true)?;
    let mut stream = StreamOwned::new(ServerConnection::new(tls).map_err(io::Error::other)?, tcp);
    let mut preface = [0; PREFACE.len()];
    stream.read_exact(&mut preface)?;
    send(&mut stream, SETTINGS, 0, 0, &[])?;
    let mut bodies: HashMap<u32, Vec<u8>> = HashMap::new();
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let (kind, flags, id) = (head[3], head[4], u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff);
        let mut payload = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        stream.read_exact(&mut payload)?;
        match kind {
            SETTINGS if flags & ACK == 0 => send(&mut stream, SETTINGS, ACK, 0, &[])?,
            PING if flags & ACK == 0 => send(&mut stream, PING, ACK, 0, &payload)?,
            DATA => {
                if length > 0 {
                    send(&mut stream, WINDOW_UPDATE, 0, 0, &length.to_be_bytes())?;
                }
                bodies.entry(id).or_default().extend_from_slice(&payload);
                if flags & END_STREAM != 0 {
                    let review: Value = serde_json::from_slice(&bodies.remove(&id).unwrap_or_default())?;
                    let Some(act) = next_act(scripts, review["spec"]["token"].as_str().unwrap_or_default()) else {
                        return Err(io::Error::other("a token that is in no script"));
                    };
                    if !do_act(&mut stream, id, &act, &review)? {
                        return end(&mut stream);
                    }
                }
            }
            GOAWAY => return end(&mut stream),
            _ => {}
        }
    }
}

fn next_act(scripts: &Mutex<HashMap<String, Script>>, token: &str) -> Option<Act> {
    let mut scripts = scripts.lock().unwrap();
    let (acts, requests) = scripts.get_mut(token)?;
    let act = acts.get(*requests).or_else(|| acts.last()).cloned();
    *requests += 1;
    act
}

/// Whether the connection goes on.
fn do_act(stream: &mut Stream, id: u32, act: &Act, asked: &Value) -> io::Result<bool> {
    match *act {
        Act::Answer { status, retry_after_secs, review } => {
            answer(stream, id, status, retry_after_secs, &review.body(asked))?;
            return Ok(true);
        }
        Act::Close => {}
        Act::CloseInAnswer => {
            let body = Review::Authenticated.body(asked);
            send(stream, HEADERS, END_HEADERS, id, &header_block(200, None, body.len()))?;
            send(stream, DATA, 0, id, &body.as_bytes()[..body.len() / 2])?;
        }
        Act::GoAwayThenAnswer => {
            go_away(stream, id)?;
            answer(stream, id, 200, None, &Review::Authenticated.body(asked))?;
        }
        Act::GoAwayThenClose => go_away(stream, id)?,
        Act::GoAwayUntaken => go_away(stream, 0)?,
        Act::Reset => {
            SockRef::from(&stream.sock).set_linger(Some(Duration::ZERO))?;
            return Err(io::Error::other("reset"));
        }
        Act::ResetStream(code) => {
            send(stream, RST_STREAM, 0, id, &code.to_be_bytes())?;
            return Ok(true);
        }
    }
    Ok(false)
}

/// Says goodbye as TLS has it, and waits for the peer's end, so that nothing that was sent is lost to a reset.
fn end(stream: &mut Stream) -> io::Result<()> {
    stream.conn.send_close_notify();
    stream.flush()?;
    stream.sock.shutdown(std::net::Shutdown::Write)?;
    io::copy(&mut stream.sock, &mut io::sink())?;
    Ok(())
}

/// Streams up to `last` were taken; no error.
fn go_away(stream: &mut Stream, last: u32) -> io::Result<()> {
    send(stream, GOAWAY, 0, 0, &[last.to_be_bytes(), [0; 4]].concat())
}

fn answer(stream: &mut Stream, id: u32, status: u16, retry_after_secs: Option<u32>, body: &str) -> io::Result<()> {
    send(stream, HEADERS, END_HEADERS, id, &header_block(status, retry_after_secs, body.len()))?;
    send(stream, DATA, END_STREAM, id, body.as_bytes())
}

fn send(stream: &mut Stream, kind: u8, flags: u8, id: u32, payload: &[u8]) -> io::Result<()> {
    let length = u32::try_from(payload.len()).map_err(io::Error::other)?.to_be_bytes();
    let id = id.to_be_bytes();
    stream.write_all(&[&[length[1], length[2], length[3], kind, flags][..], &id, payload].concat())?;
    stream.flush()
}

/// HPACK (RFC 7541): each field literal, never indexed, its name from the static table.
fn header_block(status: u16, retry_after_secs: Option<u32>, length: usize) -> Vec<u8> {
    let mut block = Vec::new();
    let mut field = |name: &[u8], value: &str| {
        block.extend_from_slice(name);
        block.push(u8::try_from(value.len()).unwrap());
        block.extend_from_slice(value.as_bytes());
    };
    field(&[0x08], &status.to_string()); // 8 :status
    field(&[0x0f, 28 - 15], &length.to_string()); // content-length
    field(&[0x0f, 31 - 15], "application/json"); // content-type
    if let Some(secs) = retry_after_secs {
        field(&[0x0f, 53 - 15], &secs.to_string()); // retry-after
    }
    block
}

impl Review {
    fn body(self, asked: &Value) -> String {
        let version = asked["apiVersion"].as_str().unwrap_or_default();
        let other = if version.ends_with("/v1") { "authentication.k8s.io/v1beta1" } else { "authentication.k8s.io/v1" };
        let user = json!({"authenticated": true, "user": {"username": "alice"}});
        let review = |version: &str, status: Value| json!({"apiVersion": version, "kind": "TokenReview", "status": status}).to_string();
        match self {
            Self::Authenticated => review(version, user),
            Self::AuthenticatedBare => json!({"status": user}).to_string(),
            Self::AuthenticatedInOtherVersion => review(other, user),
            Self::Denied => review(version, json!({"authenticated": false})),
            Self::DeniedWithError => review(version, json!({"authenticated": false, "error": "identity is not mapped"})),
            Self::Text => "not now\n".to_owned(),
        }
    }
}
