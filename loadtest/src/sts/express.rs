//! HTTP/1.1 as clients of STS use it: one GET without a body after the other, each of which is answered at once.
//!
//! hyper takes more processor time for such a call than it takes to judge it, and the fake is on the processor of the generator. So these calls are read and
//! answered here, in the very bytes that hyper would send; whatever else a client sends, or the script wants, is left to hyper, with all bytes that have been
//! read, and so is the rest of the connection. What is taken here is a part of what hyper would take in the same way.

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::answer::Answer;
use super::behaviour::Behaviour;
use super::connection::{Judged, Link};
use super::document::Format;
use super::script::Step;
use super::{Received, Stop};

/// Longest head that is read here, in bytes: all that a token can hold, and headers.
const HEAD_MAX_BYTES: usize = 8 << 10;

/// Headers of a call; STS' clients send a handful.
const HEADERS_MAX: usize = 32;

/// Where hyper goes on.
#[derive(Debug, Default)]
pub(super) struct Handover {
    /// What was read and not answered.
    pub(super) unread: Vec<u8>,
    /// The first call of it, if that was judged and counted.
    pub(super) judged: Option<(Judged, Step)>,
}

/// Answers what it can; the error is that of the connection.
pub(super) async fn serve(io: &mut (impl AsyncRead + AsyncWrite + Unpin), link: &Arc<Link>, stop: &mut Stop) -> std::io::Result<Handover> {
    let mut unread = Vec::with_capacity(HEAD_MAX_BYTES);
    let mut out = Vec::new();
    let mut stopped = std::pin::pin!(stop.called());
    loop {
        let head = match Head::parse(&unread) {
            Parsed::Head(head) => head,
            Parsed::Other => return Ok(Handover { unread, judged: None }),
            Parsed::Partial => {
                let bytes = tokio::select! {
                    biased;
                    read = io.read_buf(&mut unread) => read?,
                    () = &mut stopped => 0,
                };
                if bytes == 0 || unread.len() >= HEAD_MAX_BYTES {
                    return Ok(Handover { unread, judged: None });
                }
                continue;
            }
        };
        out.clear();
        if let Some(judged) = answer(&head, link, &mut out) {
            return Ok(Handover { unread, judged: Some(judged) });
        }
        let bytes = head.bytes.len();
        io.write_all(&out).await?;
        io.flush().await?;
        unread.drain(..bytes);
    }
}

/// Judges a call, and answers it in `out`, or gives it back.
fn answer(head: &Head<'_>, link: &Arc<Link>, out: &mut Vec<u8>) -> Option<(Judged, Step)> {
    let call = link.call("GET", "/", head.host.unwrap_or_default(), head.query, head.cluster_id);
    let (judged, step) = link.judge(&call, |last| last.set_head(head.bytes));
    let is_plain = matches!(step.behaviour, Behaviour::Answer | Behaviour::Delay(_)) && step.is_now();
    match (&judged.verdict.result, judged.date()) {
        (Ok(known), Some(date)) if is_plain => {
            Answer::new(Format::from_accept(head.accept.unwrap_or_default()), judged.number, Some(date)).write(known, out);
            judged.has_answered();
            None
        }
        _ => Some((judged, step)),
    }
}

#[derive(Debug)]
enum Parsed<'a> {
    Head(Head<'a>),
    /// Something that is not taken here.
    Other,
    Partial,
}

/// The head of a call.
#[derive(Debug)]
struct Head<'a> {
    /// All of it.
    bytes: &'a [u8],
    query: &'a str,
    host: Option<&'a str>,
    accept: Option<&'a str>,
    cluster_id: Option<&'a str>,
}

impl<'a> Head<'a> {
    fn parse(bytes: &'a [u8]) -> Parsed<'a> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut request = httparse::Request::new(&mut headers);
        let length = match request.parse(bytes) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return Parsed::Partial,
            Err(_) => return Parsed::Other,
        };
        let (Some("GET"), Some(target), Some(1)) = (request.method, request.path, request.version) else { return Parsed::Other };
        let Some(query) = target.strip_prefix("/?").filter(|query| is_plain(query)) else { return Parsed::Other };
        let mut head = Head { bytes: &bytes[..length], query, host: None, accept: None, cluster_id: None };
        for header in &*request.headers {
            let is = |name: &str| header.name.eq_ignore_ascii_case(name);
            let place = match header.name.len() {
                4 if is("host") => &mut head.host,
                6 if is("accept") => &mut head.accept,
                12 if is("x-k8s-aws-id") => &mut head.cluster_id,
                // What says something about the message or the connection (RFC 9110 sections 7.6 and 10.1, RFC 9112 section 6).
                2 if is("te") => return Parsed::Other,
                6 if is("expect") => return Parsed::Other,
                7 if is("trailer") || is("upgrade") => return Parsed::Other,
                10 if is("connection") || is("keep-alive") => return Parsed::Other,
                14 if is("content-length") => return Parsed::Other,
                16 if is("proxy-connection") => return Parsed::Other,
                17 if is("transfer-encoding") => return Parsed::Other,
                _ => continue,
            };
            // One that is there twice, or has other characters, is for hyper's table.
            match str::from_utf8(header.value) {
                Ok(value) if value.is_ascii() && place.is_none() => *place = Some(value),
                _ => return Parsed::Other,
            }
        }
        Parsed::Head(head)
    }
}

/// Whether everybody takes that for a query, and for the same one.
fn is_plain(query: &str) -> bool {
    query
        .bytes()
        .fold(true, |plain, byte| plain & (byte.is_ascii_alphanumeric() | matches!(byte, b'%' | b'&' | b'-' | b'.' | b'=' | b'_' | b'~')))
}

impl Received {
    /// The texts of a head that was taken here.
    pub(super) fn of_head(bytes: &[u8]) -> Option<Self> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut request = httparse::Request::new(&mut headers);
        request.parse(bytes).ok()?;
        let Parsed::Head(head) = Head::parse(bytes) else { return None };
        let mut headers: Vec<(String, String)> = Vec::new();
        for header in &*request.headers {
            let name = header.name.to_ascii_lowercase();
            let place = headers.iter().rposition(|(other, _)| *other == name).map_or(headers.len(), |last| last + 1);
            headers.insert(place, (name, String::from_utf8_lossy(header.value).into_owned()));
        }
        Some(Self {
            method: "GET".into(),
            host: head.host.unwrap_or_default().to_owned(),
            path: "/".into(),
            query: head.query.to_owned(),
            headers,
            is_http2: false,
        })
    }
}
