//! An API server without a network: a test sees each request, and says what is answered.

use std::io;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use http_body_util::channel::{Channel, Sender};
use kube::Client;
use kube::client::Body;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use crate::connection::Connection;

type Answer = Response<Channel<Bytes, tower::BoxError>>;

/// What was asked, in order.
pub(crate) struct Asked(mpsc::UnboundedReceiver<Question>);

/// A request that waits for its answer.
pub(crate) struct Question {
    pub(crate) method: Method,
    /// Path and query.
    pub(crate) path: String,
    pub(crate) content_type: String,
    pub(crate) body: Value,
    answer: oneshot::Sender<Answer>,
}

/// An answer that goes on until it is dropped.
pub(crate) struct Stream(Sender<Bytes, tower::BoxError>);

/// A connection, and what is asked on it.
pub(crate) fn api_server() -> (Connection, Asked) {
    let (ask, asked) = mpsc::unbounded_channel();
    let service = tower::service_fn(move |request: Request<Body>| {
        let ask = ask.clone();
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await?.to_bytes();
            let content_type = parts.headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
            let (answer, answered) = oneshot::channel();
            let question = Question {
                method: parts.method,
                path: parts.uri.to_string(),
                content_type,
                body: serde_json::from_slice(&body).unwrap_or_default(),
                answer,
            };
            let _ = ask.send(question);
            answered.await.map_err(|_| tower::BoxError::from(io::Error::other("connection refused")))
        }
    });
    (Connection::through(Client::new(service, "default")), Asked(asked))
}

impl Asked {
    /// The next request.
    pub(crate) async fn next(&mut self) -> Question {
        self.0.recv().await.unwrap()
    }

    /// Whether there is another one by now.
    pub(crate) fn is_quiet(&mut self) -> bool {
        self.0.is_empty()
    }
}

impl Question {
    pub(crate) fn is_watch(&self) -> bool {
        self.path.contains("watch=true")
    }

    /// A value of the query.
    pub(crate) fn query(&self, key: &str) -> Option<&str> {
        let query = self.path.split_once('?')?.1;
        query.split('&').find_map(|pair| pair.split_once('=').filter(|(name, _)| *name == key)).map(|(_, value)| value)
    }

    pub(crate) async fn answer(self, status: u16, body: &Value) {
        let stream = self.begin(status);
        stream.bytes(body.to_string().into_bytes()).await;
    }

    /// Begins to answer a watch.
    pub(crate) fn stream(self) -> Stream {
        self.begin(200)
    }

    /// As if nobody listened.
    pub(crate) fn refuse(self) {
        drop(self.answer);
    }

    fn begin(self, status: u16) -> Stream {
        let (sender, body) = Channel::new(16);
        let mut response = Response::new(body);
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        // Whoever asked may have gone.
        let _ = self.answer.send(response);
        Stream(sender)
    }
}

impl Stream {
    pub(crate) async fn say(&mut self, kind: &str, object: Value) {
        let line = format!("{}\n", serde_json::json!({"type": kind, "object": object}));
        self.0.send_data(line.into()).await.unwrap();
    }

    async fn bytes(mut self, bytes: Vec<u8>) {
        let _ = self.0.send_data(bytes.into()).await;
    }

    /// As if the connection broke.
    pub(crate) fn break_off(self) {
        self.0.abort(tower::BoxError::from("connection reset"));
    }
}
