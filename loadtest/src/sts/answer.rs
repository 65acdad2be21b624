//! An answer: what is said, in the format that was asked for, with the headers that all answers of STS have.

use std::sync::{Mutex, PoisonError};

use arngate_core::UnixSeconds;
use arngate_core::time::AmzDate;
use bytes::Bytes;
use hyper::header::{ALLOW, CONTENT_TYPE, DATE, HeaderName, HeaderValue, LOCATION};
use hyper::{Response, StatusCode};

use super::count::Outcome;
use super::document::{Format, ServiceError};
use super::payload::Payload;
use super::verdict::{Known, Verdict};
use crate::credential::CallerIdentity;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");

/// What an answer needs besides what it says.
#[derive(Debug)]
pub(super) struct Answer {
    format: Format,
    request_id: RequestId,
    date: Option<HeaderValue>,
}

impl Answer {
    /// The answer to the call with that number.
    pub(super) const fn new(format: Format, number: u64, date: Option<HeaderValue>) -> Self {
        Self { format, request_id: RequestId::new(number), date }
    }

    /// What STS says, and how that counts.
    pub(super) fn verdict(&self, verdict: &Verdict) -> (Outcome, Response<Payload>) {
        match &verdict.result {
            Ok(known) => (Outcome::Answered, self.document(known.document(self.format).with(self.request_id.as_str()))),
            Err(refusal) => (refusal.outcome, self.error(&refusal.error)),
        }
    }

    /// The same, but about somebody else than who has signed.
    pub(super) fn instead(&self, verdict: &Verdict, other: impl FnOnce(&CallerIdentity) -> CallerIdentity) -> (Outcome, Response<Payload>) {
        match &verdict.result {
            Ok(known) => {
                let document = self.format.identity(&other(known.credential().identity()));
                (Outcome::Answered, self.document(document.with(self.request_id.as_str())))
            }
            Err(_) => self.verdict(verdict),
        }
    }

    /// The same about somebody with the same name, whom there cannot be.
    pub(super) fn in_other_partition(&self, verdict: &Verdict) -> (Outcome, Response<Payload>) {
        self.instead(verdict, in_other_partition)
    }

    pub(super) fn error(&self, error: &ServiceError) -> Response<Payload> {
        let body = self.format.error(error, self.request_id.as_str());
        let mut response = self.with(error.status, Some(self.content_type()), body.into());
        if error.status == 405 {
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
        }
        response
    }

    pub(super) fn garbage(&self) -> Response<Payload> {
        self.document(Bytes::from_static(GARBAGE))
    }

    pub(super) fn proxy_page(&self) -> Response<Payload> {
        let content_type = HeaderValue::from_static("text/html; charset=utf-8");
        self.with(403, Some(content_type), Bytes::from_static(PROXY_PAGE.as_bytes()))
    }

    pub(super) fn redirect(&self, host: &str) -> Response<Payload> {
        let mut response = self.with(302, Some(HeaderValue::from_static("text/html")), Bytes::new());
        if let Ok(location) = HeaderValue::try_from(format!("https://{host}/redirected")) {
            response.headers_mut().insert(LOCATION, location);
        }
        response
    }

    pub(super) fn with(&self, status: u16, content_type: Option<HeaderValue>, body: Bytes) -> Response<Payload> {
        let mut response = Response::new(Payload::Whole(body));
        *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        if let Ok(request_id) = HeaderValue::from_bytes(&self.request_id.0) {
            headers.insert(REQUEST_ID, request_id);
        }
        if let Some(content_type) = content_type {
            headers.insert(CONTENT_TYPE, content_type);
        }
        if let Some(date) = &self.date {
            headers.insert(DATE, date.clone());
        }
        response
    }

    /// Writes the answer that [`verdict`](Self::verdict) gives to somebody who is known, as hyper would, which has Content-Length last.
    pub(super) fn write(&self, known: &Known, out: &mut Vec<u8>) {
        let document = known.document(self.format);
        let id = self.request_id.as_str();
        let length = document.bytes_with(id).to_string();
        let date = self.date.as_ref().map_or(&b""[..], HeaderValue::as_bytes);
        let head: [&[u8]; 9] = [
            b"HTTP/1.1 200 OK\r\nx-amzn-requestid: ",
            id.as_bytes(),
            b"\r\ncontent-type: ",
            self.format.content_type().as_bytes(),
            b"\r\ndate: ",
            date,
            b"\r\ncontent-length: ",
            length.as_bytes(),
            b"\r\n\r\n",
        ];
        head.into_iter().for_each(|part| out.extend_from_slice(part));
        document.write_with(id, out);
    }

    fn document(&self, body: Bytes) -> Response<Payload> {
        self.with(200, Some(self.content_type()), body)
    }

    const fn content_type(&self) -> HeaderValue {
        HeaderValue::from_static(self.format.content_type())
    }
}

/// In the form of AWS, and telling the number of the call.
#[derive(Debug)]
struct RequestId([u8; 36]);

impl RequestId {
    const fn new(number: u64) -> Self {
        let mut text = *b"00000000-0000-4000-8000-000000000000";
        let mut left = number;
        let mut place = text.len();
        // So many calls do not come that twelve digits were too few.
        while left > 0 && place > 24 {
            place -= 1;
            text[place] = b"0123456789abcdef"[(left & 15) as usize];
            left >>= 4;
        }
        Self(text)
    }

    fn as_str(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// The header Date, made once a second.
#[derive(Debug, Default)]
pub(super) struct Dates(Mutex<Option<(UnixSeconds, Option<HeaderValue>)>>);

impl Dates {
    /// Its value at `now`; there is none for years that have not four digits.
    pub(super) fn at(&self, now: UnixSeconds) -> Option<HeaderValue> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((at, date)) if *at == now => date.clone(),
            _ => last.insert((now, http_date(now).and_then(|date| HeaderValue::try_from(date).ok()))).1.clone(),
        }
    }
}

fn in_other_partition(identity: &CallerIdentity) -> CallerIdentity {
    let (partition, rest) = identity.arn.strip_prefix("arn:").and_then(|rest| rest.split_once(':')).unwrap_or(("", &identity.arn));
    let other = if partition == "aws-cn" { "aws" } else { "aws-cn" };
    CallerIdentity { arn: format!("arn:{other}:{rest}"), ..identity.clone() }
}

/// `Tue, 24 Nov 2026 12:00:00 GMT`, RFC 9110 section 5.6.7.
fn http_date(now: UnixSeconds) -> Option<String> {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let date = AmzDate::from_unix(now)?;
    let text = date.as_str();
    let weekday = DAYS.get(usize::try_from(now.as_i64().div_euclid(86_400).rem_euclid(7)).ok()?)?;
    let month = MONTHS.get(text.get(4..6)?.parse::<usize>().ok()?.checked_sub(1)?)?;
    let part = |range: std::ops::Range<usize>| text.get(range).unwrap_or_default();
    Some(format!("{weekday}, {} {month} {} {}:{}:{} GMT", part(6..8), part(0..4), part(9..11), part(11..13), part(13..15)))
}

/// What JSON, XML and UTF-8 all refuse, and terminals had better not see.
const GARBAGE: &[u8] = b"\x1b]0;\xff\xfe{\"GetCallerIdentityResponse\":<\x00\r\n";

const PROXY_PAGE: &str = "<!DOCTYPE html>\n<html><head><title>403 Forbidden</title></head><body><h1>Access denied</h1><p>This web proxy does \
                          not let you reach that host. Throttling is for GetCallerIdentity.</p></body></html>\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_the_date_as_http_wants_it() {
        assert_eq!(http_date(UnixSeconds::new(784_111_777)).unwrap(), "Sun, 06 Nov 1994 08:49:37 GMT", "the example of RFC 9110");
        assert_eq!(http_date(UnixSeconds::new(0)).unwrap(), "Thu, 01 Jan 1970 00:00:00 GMT");
    }

    #[test]
    fn the_date_follows_the_clock() {
        let dates = Dates::default();
        for now in [0, 0, 1, 784_111_777, 0] {
            let now = UnixSeconds::new(now);
            assert_eq!(dates.at(now).unwrap(), http_date(now).unwrap());
        }
    }

    #[test]
    fn a_request_id_tells_its_number() {
        for number in [0, 1, 0xabcdef, 0xffff_ffff_ffff] {
            assert_eq!(RequestId::new(number).as_str(), format!("00000000-0000-4000-8000-{number:012x}"));
        }
    }

    #[test]
    fn changes_the_partition_and_nothing_else() {
        let identity = |arn: &str| CallerIdentity { account: "123456789012".into(), arn: arn.into(), user_id: "AIDA".into() };
        let other = |arn: &str| in_other_partition(&identity(arn)).arn;
        assert_eq!(other("arn:aws:iam::123456789012:user/Bob"), "arn:aws-cn:iam::123456789012:user/Bob");
        assert_eq!(other("arn:aws-cn:iam::123456789012:user/Bob"), "arn:aws:iam::123456789012:user/Bob");
    }
}
