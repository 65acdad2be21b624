//! The webhook: from a request to its answer, with the log lines and counts that belong to it.
//!
//! `POST /authenticate` with any query, `GET /healthz`, `GET /metrics`. A panic on the way to an answer is a 500, counted; it ends neither the
//! connection nor the process.

use std::borrow::Cow;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt as _;
use hyper::body::{Body, Incoming};
use hyper::{Method, Request, Response, StatusCode};

use super::body::Bodies;
use super::respond::{self, Answer, DenyStatus, Malformed, Names, Reply};
use super::serve::{Handler, Peer};
use crate::authenticate::{AuthError, Signer, User, Verdict, decide, identify};
use crate::clock::{Clock, Now};
use crate::cluster::Cluster;
use crate::metrics::{self, Metrics, Way};
use crate::prover::Source;
use crate::review::ReviewRequest;
use crate::telemetry::{Admission, Level, LineBudget, Log, Record, Value, audit};

/// Which requests leave a line in the log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AccessLog {
    /// All, as audit pipelines expect that know the reference.
    All,
    /// Those that are not let in, at most 50 a second and then a count.
    Denied,
    /// None.
    None,
}

/// What the webhook is made of.
#[derive(Debug)]
pub struct Webhook {
    cluster: Arc<Cluster>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    log: Log,
    access_log: AccessLog,
    deny_status: DenyStatus,
    bodies: Bodies,
    denied_lines: LineBudget,
}

/// What a [`Webhook`] is made from.
#[derive(Debug)]
pub struct Parts {
    /// The cluster that it answers for.
    pub cluster: Arc<Cluster>,
    /// Read once for each request, when all of it is there, and once for its latency.
    pub clock: Arc<dyn Clock>,
    /// Where it counts.
    pub metrics: Arc<Metrics>,
    /// Where its lines go.
    pub log: Log,
    /// Which lines.
    pub access_log: AccessLog,
    /// What a denial is sent as.
    pub deny_status: DenyStatus,
    /// Reads request bodies.
    pub bodies: Bodies,
}

/// A request without its headers: they are nobody's business, and whoever waits need not keep them, nor the buffer of which the target is a piece.
///
/// Made before anything is a future: each layer of futures would carry the whole request once more.
struct Asked<B> {
    place: Place,
    body: B,
}

/// The place of a request, without its body.
struct Place {
    peer: Peer,
    method: Method,
    path: Cow<'static, str>,
}

impl<B> Asked<B> {
    fn new(peer: Peer, request: Request<B>) -> Self {
        let (head, body) = request.into_parts();
        let path = match head.uri.path() {
            "/authenticate" => Cow::Borrowed("/authenticate"),
            other => Cow::Owned(other.to_owned()),
        };
        Self { place: Place { peer, method: head.method, path }, body }
    }
}

impl Place {
    fn for_log(&self) -> audit::Request<'_> {
        audit::Request { client: self.peer.address, method: self.method.as_str(), path: &self.path }
    }
}

impl Webhook {
    /// Puts a webhook together.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let Parts { cluster, clock, metrics, log, access_log, deny_status, bodies } = parts;
        let denied_lines = LineBudget::new(LineBudget::DENIED_LINES_PER_SECOND);
        Self { cluster, clock, metrics, log, access_log, deny_status, bodies, denied_lines }
    }

    /// The cluster that a path is for: the one function that knows, so that others can come beside it.
    fn cluster_for(&self, path: &str) -> Option<&Arc<Cluster>> {
        (path == "/authenticate").then_some(&self.cluster)
    }

    /// Answers a request, whatever happens.
    pub async fn handle<B>(&self, peer: Peer, request: Request<B>) -> Response<Reply>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        self.answer(Asked::new(peer, request)).await
    }

    async fn answer<B>(&self, Asked { place, body }: Asked<B>) -> Response<Reply>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let response = match AssertUnwindSafe(self.route(&place, body)).catch_unwind().await {
            Ok(response) => response,
            Err(_) => {
                // Where it happened was told by the panic hook; what was in the request is told by nobody.
                self.metrics.panicked();
                respond::text(StatusCode::INTERNAL_SERVER_ERROR, "internal error\n")
            }
        };
        // Of HTTP/1.1 hyper leaves the body out by itself, of HTTP/2 it does not (RFC 9110, section 9.3.2).
        if place.method == Method::HEAD { response.map(|_| Reply::default()) } else { response }
    }

    async fn route<B>(&self, place: &Place, body: B) -> Response<Reply>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        if let Some(cluster) = self.cluster_for(&place.path) {
            return self.authenticate(cluster, place, body).await;
        }
        let reading = matches!(place.method, Method::GET | Method::HEAD);
        match &*place.path {
            "/healthz" => respond::text(StatusCode::OK, "ok"),
            "/metrics" if reading => respond::page(StatusCode::OK, metrics::CONTENT_TYPE, self.metrics.encode()),
            _ => respond::text(StatusCode::NOT_FOUND, "not found\n"),
        }
    }

    async fn authenticate<B>(&self, cluster: &Arc<Cluster>, place: &Place, body: B) -> Response<Reply>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let body = if !place.peer.standing.may_ask() {
            Err(Malformed::Client)
        } else if place.method == Method::POST {
            self.bodies.read(body).await
        } else {
            Err(Malformed::Method)
        };
        // Only now, with the whole token at hand: its age must not be judged by a clock that was read before somebody took his time to send it.
        let now = self.clock.now();
        let answer = match body {
            Ok(body) => self.review(cluster, place, body, now).await,
            Err(malformed) => Err(malformed),
        };
        let answer = answer.unwrap_or_else(|malformed| {
            self.log_malformed(place, malformed, now);
            malformed.answer()
        });
        if let Some(result) = answer.result {
            let took = self.clock.monotonic().saturating_sub(now.monotonic);
            self.metrics.authenticate_latency(result, took.as_secs_f64());
        }
        answer.response
    }

    async fn review(&self, cluster: &Arc<Cluster>, place: &Place, body: Bytes, now: Now) -> Result<Answer, Malformed> {
        let (api_version, question) = {
            let review = ReviewRequest::parse(&body)?;
            (review.api_version, identify(cluster, review.token.as_bytes(), now))
        };
        // Who has to wait for a proof waits without his request.
        drop(body);
        let decided = decide(cluster, question.answer(cluster).await, |verdict: Verdict<'_>| {
            self.count(&verdict);
            self.log_verdict(place, &verdict, now);
            respond::answer(&verdict, api_version, self.deny_status)
        });
        Ok(match decided {
            Ok(answer) => answer,
            // Boxed, so that those who wait for a proof are not larger for the few who also wait for a name.
            Err(undecided) => Box::pin(undecided.decide(cluster)).await,
        })
    }

    fn count(&self, verdict: &Verdict<'_>) {
        self.metrics.answered(verdict.way);
        if matches!(verdict.way, Way::AtHand | Way::Miss) && verdict.signer.is_some_and(|signer| signer.proof.source() == Source::Offline) {
            self.metrics.proved_offline();
        }
        match &verdict.user {
            Ok(_) => {}
            Err(AuthError::Panicked) => self.metrics.panicked(),
            Err(error) => self.metrics.refused(error.reason()),
        }
    }

    fn log_verdict(&self, place: &Place, verdict: &Verdict<'_>, now: Now) {
        let request = place.for_log();
        let shown = verdict.shown_signer();
        if let (AccessLog::All, Some(Signer { identity, proof })) = (self.access_log, shown) {
            let proof = audit::Proof {
                access_key_id: proof.access_key_id(),
                account_id: identity.account_id(),
                arn: identity.arn(),
                session: identity.session_name(),
                sts_endpoint: proof.sts_host(),
                user_id: identity.user_id(),
            };
            audit::sts_response(&self.log, now.unix, &request, &proof);
        }
        let arn = || shown.map(|signer| signer.identity.canonical_arn().to_string());
        match &verdict.user {
            Ok(user) if self.access_log == AccessLog::All => {
                let Some(names) = Names::of(verdict) else { return };
                let groups = match user {
                    User::Account(_) => Vec::new(),
                    User::Mapped(mapped) => mapped.groups().map(|group| group.to_string()).collect(),
                };
                let (arn, uid, username) = (arn(), names.uid().to_string(), names.username().to_string());
                let grant = audit::Grant {
                    arn: arn.as_deref(),
                    groups: &groups,
                    sts_endpoint: verdict.signer.map_or("", |signer| signer.proof.sts_host()),
                    uid: &uid,
                    username: &username,
                };
                audit::access_granted(&self.log, now.unix, &request, &grant);
            }
            Ok(_) => {}
            Err(error) => {
                if self.may_log_denied(now) {
                    audit::access_denied(&self.log, now.unix, &request, arn().as_deref(), error);
                }
            }
        }
    }

    fn log_malformed(&self, place: &Place, malformed: Malformed, now: Now) {
        if self.may_log_denied(now) {
            audit::access_denied(&self.log, now.unix, &place.for_log(), None, &malformed);
        }
    }

    /// Tells how many denials were not told, if any: for the end, when no later line does.
    pub fn tell_left_out(&self) {
        self.log_left_out(self.denied_lines.take_left_out(), self.clock.now());
    }

    fn log_left_out(&self, lines: u64, now: Now) {
        if lines > 0 {
            let fields = [("lines", Value::Unsigned(lines))];
            self.log
                .write(now.unix, &Record { level: Level::Warning, message: "more access was denied than is told here", fields: &fields });
        }
    }

    /// Whether one more denial may be told; tells how many were not, if any.
    fn may_log_denied(&self, now: Now) -> bool {
        match self.access_log {
            AccessLog::All => true,
            AccessLog::Denied => match self.denied_lines.admit(now.monotonic) {
                Admission::LeaveOut => {
                    self.metrics.log_lines_left_out(1);
                    false
                }
                Admission::Write { left_out } => {
                    self.log_left_out(left_out, now);
                    true
                }
            },
            AccessLog::None => false,
        }
    }
}

/// A webhook as [`serve`](super::serve::serve) wants it.
#[derive(Clone, Debug)]
pub struct Served(pub Arc<Webhook>);

impl Handler for Served {
    type Body = Reply;

    fn handle(&self, peer: Peer, request: Request<Incoming>) -> impl Future<Output = Response<Reply>> + Send + use<> {
        let (webhook, asked) = (Arc::clone(&self.0), Asked::new(peer, request));
        async move { webhook.answer(asked).await }
    }
}
