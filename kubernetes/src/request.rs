//! Requests to the API server, each within bounds of time and of size.

use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{Method, Request};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use kube::client::Body;
use tokio::time::timeout;

use crate::connection::{Connection, Held, kube_trouble};
use crate::trouble::Trouble;

/// Longest time for an answer that is read whole.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Largest answer, and largest line of a watch. etcd takes objects of 1.5 MiB (`--max-request-bytes`), and JSON writes some characters longer.
pub(crate) const ANSWER_MAX_BYTES: usize = 4 << 20;

/// Largest answer that is no success: it is a message.
const REFUSAL_MAX_BYTES: usize = 16 << 10;

/// What is sent along.
pub(crate) struct Content {
    pub(crate) kind: &'static str,
    pub(crate) body: Vec<u8>,
}

impl Content {
    /// An object.
    pub(crate) fn json(value: &impl serde::Serialize) -> Result<Self, Trouble> {
        Self::of("application/json", value)
    }

    /// What is to change of an object (RFC 7396).
    pub(crate) fn merge_patch(value: &impl serde::Serialize) -> Result<Self, Trouble> {
        Self::of("application/merge-patch+json", value)
    }

    fn of(kind: &'static str, value: &impl serde::Serialize) -> Result<Self, Trouble> {
        Ok(Self { kind, body: serde_json::to_vec(value).map_err(|_| Trouble::Malformed)? })
    }
}

impl Connection {
    /// Asks, and reads the whole answer.
    pub(crate) async fn ask(&self, method: Method, path: &str, content: Option<Content>) -> Result<Bytes, Trouble> {
        let held = self.client().await?;
        let answered = timeout(PATIENCE, async {
            let body = send(&held, method, path, content).await?;
            collect(body, ANSWER_MAX_BYTES).await
        });
        let answered = answered.await.unwrap_or(Err(Trouble::Slow(PATIENCE)));
        if let Err(trouble) = &answered {
            self.came_to(&held, trouble).await;
        }
        answered
    }

    /// Begins a watch.
    pub(crate) async fn open(&self, path: &str) -> Result<Lines<'_>, Trouble> {
        let held = self.client().await?;
        match timeout(PATIENCE, send(&held, Method::GET, path, None)).await.unwrap_or(Err(Trouble::Slow(PATIENCE))) {
            Ok(body) => Ok(Lines { connection: self, held, body, buffer: BytesMut::new() }),
            Err(trouble) => {
                self.came_to(&held, &trouble).await;
                Err(trouble)
            }
        }
    }
}

/// The body of an answer that is a success.
async fn send(held: &Held, method: Method, path: &str, content: Option<Content>) -> Result<Body, Trouble> {
    let mut request = Request::builder().method(method).uri(path).header(ACCEPT, "application/json");
    let body = match content {
        Some(Content { kind, body }) => {
            request = request.header(CONTENT_TYPE, kind);
            Body::from(body)
        }
        None => Body::empty(),
    };
    let request = request.body(body).map_err(|_| Trouble::Malformed)?;
    let response = held.client.send(request).await.map_err(|error| kube_trouble(&error))?;
    let (parts, body) = response.into_parts();
    if parts.status.is_success() {
        return Ok(body);
    }
    let said = collect(body, REFUSAL_MAX_BYTES).await.unwrap_or_default();
    Err(Trouble::refused(parts.status, &said))
}

async fn collect(body: Body, max_bytes: usize) -> Result<Bytes, Trouble> {
    match Limited::new(body, max_bytes).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Trouble::TooLarge(max_bytes)),
        Err(error) => Err(Trouble::unreachable(&*error)),
    }
}

/// The lines of an answer that goes on.
pub(crate) struct Lines<'a> {
    connection: &'a Connection,
    held: Held,
    body: Body,
    buffer: BytesMut,
}

impl Lines<'_> {
    /// The next line, without its end; none at the end of all. What comes before an end in mid-line is none. May be dropped and called again.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Trouble> {
        let mut searched = 0;
        loop {
            let fresh = self.buffer.get(searched..).unwrap_or_default();
            let end = fresh.iter().position(|byte| *byte == b'\n').map(|end| searched.saturating_add(end));
            searched = self.buffer.len();
            if end.unwrap_or(searched) > ANSWER_MAX_BYTES {
                return Err(Trouble::TooLarge(ANSWER_MAX_BYTES));
            }
            if let Some(end) = end {
                let line = self.buffer.split_to(end).freeze();
                self.buffer.advance(1);
                if self.buffer.is_empty() {
                    // A large line must not hold its room for as long as the watch lives.
                    self.buffer = BytesMut::new();
                }
                return Ok(Some(line));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                Some(Err(error)) => {
                    let trouble = kube_trouble(&kube::Error::Service(error.into()));
                    self.connection.came_to(&self.held, &trouble).await;
                    return Err(trouble);
                }
            }
        }
    }
}
