//! The metadata service of an EC2 instance (IMDS, version 2): asked once which region this is.
//!
//! AWS: <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-instance-metadata-service.html>. Version 1 is not tried: what answers without a token need not
//! be the machine's own.

use std::fmt;
use std::net::Ipv6Addr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Uri, body::Incoming};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::document::reader::integer;

/// For all of it. DESIGN: "IMDS once in the background (1 s)". Where there is none, the packets vanish.
const DEADLINE: Duration = Duration::from_secs(1);

/// Longest answer, in bytes: a token has 56, a region some 14.
const ANSWER_MAX_BYTES: usize = 1024;

const TOKEN: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token");
const TOKEN_TTL: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token-ttl-seconds");

/// Where the metadata service is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Imds {
    host: Box<str>,
    port: u16,
}

impl Imds {
    /// Where it is on each EC2 instance.
    #[must_use]
    pub fn link_local() -> Self {
        Self { host: "169.254.169.254".into(), port: 80 }
    }

    /// Where a URL says that it is.
    ///
    /// # Syntax
    ///
    /// ```text
    /// url = "http://" ( name / IPv4 / "[" IPv6 "]" ) [ ":" port ] [ "/" ]
    /// ```
    #[must_use]
    pub fn parse(url: &str) -> Option<Self> {
        let authority = url.strip_prefix("http://")?;
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, integer(1..=u16::MAX)(port).ok()?),
            _ => (authority, 80),
        };
        let is_host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(address) => address.parse::<Ipv6Addr>().is_ok(),
            None => !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-')),
        };
        is_host.then(|| Self { host: host.into(), port })
    }

    /// Which region the machine is in.
    pub(super) async fn region(&self) -> Result<String, ImdsError> {
        timeout(DEADLINE, self.ask()).await.map_err(|_| ImdsError::TimedOut)?
    }

    async fn ask(&self) -> Result<String, ImdsError> {
        let address = (self.host.trim_start_matches('[').trim_end_matches(']'), self.port);
        let stream = TcpStream::connect(address).await.map_err(|_| ImdsError::NotThere)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|_| ImdsError::NotThere)?;
        let _connection = AbortOnDrop(tokio::spawn(connection).abort_handle());
        let mut token = self.request(Method::PUT, "/latest/api/token")?;
        token.headers_mut().insert(TOKEN_TTL, HeaderValue::from_static("60"));
        let token = read(sender.send_request(token).await).await?;
        let mut region = self.request(Method::GET, "/latest/meta-data/placement/region")?;
        let mut token = HeaderValue::from_bytes(&token).map_err(|_| ImdsError::Answer)?;
        token.set_sensitive(true);
        region.headers_mut().insert(TOKEN, token);
        sender.ready().await.map_err(|_| ImdsError::Answer)?;
        let region = read(sender.send_request(region).await).await?;
        String::from_utf8(region.into()).map_err(|_| ImdsError::Answer)
    }

    fn request(&self, method: Method, path: &'static str) -> Result<Request<Empty<Bytes>>, ImdsError> {
        let mut request = Request::new(Empty::new());
        *request.method_mut() = method;
        *request.uri_mut() = Uri::from_static(path);
        let host = HeaderValue::from_str(&self.to_string()).map_err(|_| ImdsError::NotThere)?;
        request.headers_mut().insert(HOST, host);
        Ok(request)
    }
}

impl fmt::Display for Imds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Ends the task of a connection with who asked on it.
struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Why the machine did not tell.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum ImdsError {
    /// Something answered, and not as it would.
    #[error("what answers there is no metadata service")]
    Answer,
    /// No connection.
    #[error("nobody is there")]
    NotThere,
    /// It took too long.
    #[error("no answer within {} ms", DEADLINE.as_millis())]
    TimedOut,
}

async fn read(answer: hyper::Result<Response<Incoming>>) -> Result<Bytes, ImdsError> {
    let answer = answer.map_err(|_| ImdsError::Answer)?;
    if answer.status() != StatusCode::OK {
        return Err(ImdsError::Answer);
    }
    let body = Limited::new(answer.into_body(), ANSWER_MAX_BYTES).collect().await.map_err(|_| ImdsError::Answer)?;
    Ok(body.to_bytes())
}

#[cfg(test)]
mod tests {
    use arngate_core::Partition;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::super::OwnRegion;
    use super::*;

    /// A metadata service on loopback that gives the answers one by one, and tells what it was asked.
    async fn fake(answers: &'static [&'static str]) -> (Imds, tokio::task::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let imds = Imds::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
        let asked = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut heads = Vec::new();
            for answer in answers {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let Ok(byte) = stream.read_u8().await else { return heads };
                    head.push(byte);
                }
                heads.push(String::from_utf8(head).unwrap().to_ascii_lowercase());
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
            heads
        });
        (imds, asked)
    }

    const TOKEN_ANSWER: &str = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nt0k";

    #[tokio::test]
    async fn asks_for_a_token_and_then_for_the_region() {
        let (imds, asked) = fake(&[TOKEN_ANSWER, "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nxx-north-7"]).await;
        let own = OwnRegion::from_imds(imds);
        assert_eq!(own.get(), None);
        own.clone().look_up(Partition::Aws).await;
        assert_eq!(own.get(), Some("xx-north-7"));
        let asked = asked.await.unwrap();
        assert!(asked[0].starts_with("put /latest/api/token http/1.1\r\n"), "{asked:?}");
        assert!(asked[0].contains("x-aws-ec2-metadata-token-ttl-seconds: 60\r\n"), "{asked:?}");
        assert!(asked[1].starts_with("get /latest/meta-data/placement/region http/1.1\r\n"), "{asked:?}");
        assert!(asked[1].contains("x-aws-ec2-metadata-token: t0k\r\n"), "{asked:?}");
    }

    #[tokio::test]
    async fn whatever_else_answers_tells_nothing() {
        for answers in [
            &["HTTP/1.1 403 X\r\ncontent-length: 0\r\n\r\n"][..],
            &["garbage\r\n\r\n"],
            &[TOKEN_ANSWER, "HTTP/1.1 404 X\r\ncontent-length: 0\r\n\r\n"],
            &[TOKEN_ANSWER, "HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n<html/>"],
            &[TOKEN_ANSWER, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"],
            &[TOKEN_ANSWER, "HTTP/1.1 200 OK\r\ncontent-length: 2000\r\n\r\n"],
        ] {
            let (imds, _) = fake(answers).await;
            let own = OwnRegion::from_imds(imds);
            own.clone().look_up(Partition::Aws).await;
            assert_eq!(own.get(), None, "{answers:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_says_nothing_takes_a_second() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let imds = Imds::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let start = tokio::time::Instant::now();
        assert_eq!((imds.region().await, start.elapsed()), (Err(ImdsError::TimedOut), DEADLINE));
    }

    #[tokio::test]
    async fn a_region_that_was_told_is_not_asked_for() {
        let own = OwnRegion::told(Some("eu-west-1"));
        own.clone().look_up(Partition::Aws).await;
        assert_eq!(own.get(), Some("eu-west-1"));
        OwnRegion::told(None).look_up(Partition::Aws).await;
    }

    #[test]
    fn reads_where_it_is() {
        let shown = |url| Imds::parse(url).map(|imds| imds.to_string());
        for (url, expected) in [
            ("http://169.254.169.254", Some("169.254.169.254:80")),
            ("http://169.254.169.254/", Some("169.254.169.254:80")),
            ("http://[fd00:ec2::254]", Some("[fd00:ec2::254]:80")),
            ("http://[::1]:1338", Some("[::1]:1338")),
            ("http://localhost:1338/", Some("localhost:1338")),
            ("https://localhost", None),
            ("http://", None),
            ("http://a:0", None),
            ("http://a/b", None),
            ("http://a@b", None),
            ("http://::1", None),
            ("http://[a]", None),
            ("localhost", None),
        ] {
            assert_eq!(shown(url).as_deref(), expected, "{url}");
        }
        assert_eq!(Imds::link_local().to_string(), "169.254.169.254:80");
    }
}
