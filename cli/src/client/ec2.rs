//! The credentials with which the server asks EC2 for private DNS names: found as those of `token`, and the signature made with them.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use arngate_core::UnixSeconds;
use arngate_server::ec2::{CONTENT_TYPE, SignError, Signature, Signer, Signing, Unsigned};
use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use tokio::sync::Mutex;

use super::credentials::{self, Request, Role, Session};
use crate::env::Env;

/// How long a role is assumed for, in seconds. upstream: `newEC2Client` in pkg/ec2provider.
const ROLE_SECS: i32 = 3600;

/// How long before their end credentials are replaced, in seconds: as long as the SDKs and the metadata services have it.
const EARLY_SECS: i64 = 300;

/// How long credentials without an end are used before they are looked for again, in seconds: somebody may have changed the file.
const LOOK_AGAIN_SECS: i64 = 300;

/// How long nobody looks for credentials after that has failed, in seconds.
const PAUSE_SECS: i64 = 5;

/// Signs what goes to EC2. Looks for credentials when the first request comes.
#[derive(Debug)]
pub(crate) struct Ec2Signer {
    role: Option<Role>,
    env: Env,
    held: Arc<Mutex<Held>>,
}

/// What is known of our credentials.
#[derive(Debug, Default)]
struct Held {
    credentials: Option<Credentials>,
    /// Until then they are used without a question.
    fresh_until: i64,
    /// Why there are no newer ones, and until when nobody tries again.
    failed: Option<(SignError, i64)>,
}

impl Held {
    /// What can be said at `now` without looking for credentials.
    fn answer(&self, now: i64) -> Option<Result<Credentials, SignError>> {
        let alive = self.credentials.as_ref().filter(|keys| credentials::end(keys).is_none_or(|end| end.as_i64() > now));
        match (alive, &self.failed) {
            (Some(keys), _) if now < self.fresh_until => Some(Ok(keys.clone())),
            (Some(keys), Some((_, until))) if now < *until => Some(Ok(keys.clone())),
            (None, Some((error, until))) if now < *until => Some(Err(error.clone())),
            _ => None,
        }
    }

    fn found(&mut self, found: Result<Credentials, SignError>, now: i64) {
        match found {
            Ok(keys) => {
                let end = credentials::end(&keys).map(UnixSeconds::as_i64);
                self.fresh_until = end.map_or_else(|| now.saturating_add(LOOK_AGAIN_SECS), |end| end.saturating_sub(EARLY_SECS));
                self.credentials = Some(keys);
                // What is about to end, and cannot be had any newer, is not looked for with each request.
                self.failed = (self.fresh_until <= now).then(|| (SignError("the credentials are about to end".into()), now + PAUSE_SECS));
            }
            Err(error) => self.failed = Some((error, now.saturating_add(PAUSE_SECS))),
        }
    }
}

impl Ec2Signer {
    /// With the credentials of the environment, or with those of a role that they may assume; `source_arn` is what the role's trust policy may ask for.
    pub(crate) fn new(role_arn: Option<&str>, source_arn: Option<&str>, env: Env) -> Self {
        let role = role_arn.map(|arn| Role {
            arn: arn.to_owned(),
            external_id: None,
            session: Session::Unnamed,
            secs: ROLE_SECS,
            source_arn: source_arn.map(str::to_owned),
        });
        Self { role, env, held: Arc::default() }
    }

    /// The credentials of now. Looked for in a task of its own, one at a time: somebody who gives up must not leave a thread behind for each time that he tries.
    async fn credentials(&self, region: &str, now: i64) -> Result<Credentials, SignError> {
        let request = Request { region: Some(region.to_owned()), role: self.role.clone(), is_attended: false };
        let (env, held) = (self.env.clone(), Arc::clone(&self.held));
        let looking = tokio::spawn(async move {
            let mut held = held.lock().await;
            if let Some(answer) = held.answer(now) {
                return answer;
            }
            let load = move || credentials::load(&request, &env).map(|signer| signer.credentials);
            let loaded = tokio::task::spawn_blocking(load).await.map_err(|_| SignError("the search for credentials was cut off".into()));
            held.found(loaded.and_then(|loaded| loaded.map_err(|error| SignError(format!("{error:#}")))), now);
            held.answer(now).unwrap_or_else(|| Err(SignError("the credentials have ended already".into())))
        });
        looking.await.unwrap_or_else(|_| Err(SignError("the search for credentials was cut off".into())))
    }
}

impl Signer for Ec2Signer {
    fn sign(&self, request: Unsigned, at: UnixSeconds) -> Signing<'_> {
        Box::pin(async move {
            let credentials = self.credentials(&request.region, at.as_i64()).await?;
            signature(credentials, &request, at).map_err(|error| SignError(format!("{error:#}")))
        })
    }
}

fn signature(credentials: Credentials, request: &Unsigned, at: UnixSeconds) -> anyhow::Result<Signature> {
    let identity = credentials.into();
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(at.as_i64().try_into().context("the clock is before 1970")?);
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(&request.region)
        .name("ec2")
        .time(time)
        .settings(SigningSettings::default())
        .build()
        .context("signing parameters")?
        .into();
    let url = format!("https://{}/", request.host);
    let headers = [("content-type", CONTENT_TYPE)];
    let signable = SignableRequest::new("POST", url, headers.into_iter(), SignableBody::Bytes(&request.body)).context("request")?;
    let (instructions, _) = sign(signable, &params).context("signing")?.into_parts();
    Ok(Signature(instructions.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: i64 = 1_795_521_600;

    fn keys(ends_in: Option<i64>) -> Credentials {
        let end = ends_in.map(|secs| SystemTime::UNIX_EPOCH + Duration::from_secs((NOON + secs).try_into().unwrap()));
        Credentials::new("AKIAIOSFODNN7EXAMPLE", "made-up", None, end, "test")
    }

    fn held(ends_in: Option<i64>) -> Held {
        let mut held = Held::default();
        held.found(Ok(keys(ends_in)), NOON);
        held
    }

    /// What is said so many seconds after noon: that there are credentials, that there are none, or nothing.
    fn says(held: &Held, secs: i64) -> Option<bool> {
        held.answer(NOON + secs).map(|answer| answer.is_ok())
    }

    #[test]
    fn credentials_are_looked_for_before_they_end() {
        assert_eq!(says(&Held::default(), 0), None);
        assert_eq!([0, 299, 300].map(|at| says(&held(None), at)), [Some(true), Some(true), None]);
        assert_eq!([0, 3299, 3300, 3700].map(|at| says(&held(Some(3600)), at)), [Some(true), Some(true), None, None]);
    }

    #[test]
    fn what_cannot_be_replaced_is_used_to_its_end_and_nobody_is_asked_all_the_time() {
        let mut held = held(Some(3600));
        held.found(Err(SignError("no".into())), NOON + 3300);
        assert_eq!([3300, 3304, 3305].map(|at| says(&held, at)), [Some(true), Some(true), None]);
        held.found(Err(SignError("no".into())), NOON + 3598);
        assert_eq!([3599, 3600, 3602, 3603].map(|at| says(&held, at)), [Some(true), Some(false), Some(false), None]);
        // Some that end soon: not each request looks for others.
        held.found(Ok(keys(Some(3700))), NOON + 3600);
        assert_eq!([3600, 3604, 3605].map(|at| says(&held, at)), [Some(true), Some(true), None]);
    }
}
