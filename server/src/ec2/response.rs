//! What an answer of EC2 means.
//!
//! It is read as it comes in, and of it are kept the names of the instances that were asked for. An instance is described in some 8 kB of XML and in 200 kB where it has
//! many addresses, so that the answer for a batch may be long; what is held of it is not.

use std::sync::Arc;

use super::Failure;
use super::request::InstanceId;
use crate::outbound::is_throttle;
use crate::xml::{Event, Reader};

/// Longest answer that is read, in bytes: a hundred instances with as many addresses as they can have. It passes through and is not held.
pub(super) const ANSWER_MAX_BYTES: usize = 32 << 20;

/// Longest name, in bytes (RFC 1035, section 2.3.4).
const NAME_MAX_BYTES: usize = 253;

/// Where an instance is in an answer.
const INSTANCE: &str = "DescribeInstancesResponse/reservationSet/item/instancesSet/item";

/// What EC2 says of an instance.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Described {
    /// Its private DNS name.
    Named(Arc<str>),
    /// It is being launched, and has none yet.
    NotYet,
    /// It has ended, and its name went with it.
    Ended,
}

/// What an answer says.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Told {
    /// Instances of those that were asked for.
    pub(super) instances: Vec<(InstanceId, Described)>,
    /// Whether what is missing does not exist: there is not another page.
    pub(super) is_whole: bool,
}

/// Reads an answer.
#[derive(Debug)]
pub(super) struct Answer<'a> {
    asked: &'a [InstanceId],
    xml: Reader,
    is_xml: bool,
    length_bytes: usize,
    parts: Parts,
}

#[derive(Debug, Default)]
struct Parts {
    root: Option<Root>,
    instances: Vec<(InstanceId, Described)>,
    has_more: bool,
    /// Each code there is; none for one that is no text.
    code: Option<Option<Box<str>>>,
    current: Instance,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Root {
    Described,
    Error,
    Other,
}

#[derive(Debug, Default)]
struct Instance {
    id: Option<InstanceId>,
    name: Option<Name>,
    has_ended: bool,
}

#[derive(Debug)]
enum Name {
    Empty,
    Good(Arc<str>),
    /// Nothing that a host could be called.
    Strange,
}

impl Name {
    fn of(text: Option<&str>) -> Self {
        let is_name = |text: &str| {
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
            text.len() <= NAME_MAX_BYTES && text.bytes().all(fits) && text.starts_with(|first: char| first.is_ascii_alphanumeric())
        };
        match text {
            Some("") => Self::Empty,
            Some(text) if is_name(text) => Self::Good(text.into()),
            _ => Self::Strange,
        }
    }
}

impl Parts {
    fn see(&mut self, asked: &[InstanceId], path: &str, event: Event<'_>) {
        if self.root.is_none() {
            self.root = Some(match path {
                "DescribeInstancesResponse" => Root::Described,
                "Response" => Root::Error,
                _ => Root::Other,
            });
        }
        match (path, event) {
            ("Response/Errors/Error/Code", Event::Left(code)) => {
                self.code = Some(self.code.is_none().then(|| code.map(Box::from)).flatten());
            }
            ("DescribeInstancesResponse/nextToken", Event::Left(token)) => self.has_more |= token != Some(""),
            _ => {}
        }
        let Some(inside) = path.strip_prefix(INSTANCE) else { return };
        match (inside, event) {
            ("", Event::Entered) => self.current = Instance::default(),
            ("/instanceId", Event::Left(id)) => self.current.id = id.and_then(InstanceId::parse),
            ("/privateDnsName", Event::Left(name)) => self.current.name = Some(Name::of(name)),
            ("/instanceState/name", Event::Left(state)) => self.current.has_ended = matches!(state, Some("terminated" | "shutting-down")),
            ("", Event::Left(_)) => {
                let Instance { id, name, has_ended } = std::mem::take(&mut self.current);
                let described = match name {
                    Some(Name::Good(name)) => Described::Named(name),
                    Some(Name::Empty) | None if has_ended => Described::Ended,
                    Some(Name::Empty) | None => Described::NotYet,
                    Some(Name::Strange) => return,
                };
                if let Some(id) = id.filter(|id| asked.contains(id)) {
                    self.instances.push((id, described));
                }
            }
            _ => {}
        }
    }
}

impl<'a> Answer<'a> {
    /// An answer of which nothing has been read.
    pub(super) fn new(asked: &'a [InstanceId]) -> Self {
        Self { asked, xml: Reader::default(), is_xml: true, length_bytes: 0, parts: Parts::default() }
    }

    /// Reads on. Whether there is a use in that.
    pub(super) fn push(&mut self, bytes: &[u8]) -> bool {
        self.length_bytes = self.length_bytes.saturating_add(bytes.len());
        let Self { asked, parts, .. } = self;
        self.is_xml = self.is_xml
            && self.length_bytes <= ANSWER_MAX_BYTES
            && self.xml.push(bytes, |path, event| parts.see(asked, path, event)).is_ok();
        self.is_xml
    }

    /// What it says, once all of it is read.
    ///
    /// # Errors
    ///
    /// - [`Failure::Throttled`]: the error code of a throttle, whatever the status, or a 429;
    /// - [`Failure::Refused`]: 4xx with an error document of EC2;
    /// - [`Failure::Unavailable`]: all else.
    pub(super) fn finish(self, status: u16) -> Result<Told, Failure> {
        let is_whole_xml = self.is_xml && self.xml.finish().is_ok();
        let Parts { root, instances, has_more, code, .. } = self.parts;
        let code = code.flatten().filter(|code| is_whole_xml && root == Some(Root::Error) && is_code(code));
        match (status, root, code) {
            (200, Some(Root::Described), _) if is_whole_xml => Ok(Told { instances, is_whole: !has_more }),
            (429, _, _) => Err(Failure::Throttled),
            (_, _, Some(code)) if is_throttle(&code) => Err(Failure::Throttled),
            (400..=406 | 409..=499, _, Some(code)) => Err(Failure::Refused { status, code }),
            _ => Err(Failure::Unavailable { told: format!("not an answer of EC2 (status {status})").into(), is_passing: status >= 500 }),
        }
    }
}

/// An error code of EC2, fit to be shown, such as `UnauthorizedOperation` and `InvalidParameterValue.Filter`.
fn is_code(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> InstanceId {
        InstanceId::parse(text).unwrap()
    }

    fn read(status: u16, body: &str) -> Result<Told, Failure> {
        let asked = ["i-00000001", "i-00000002", "i-00000003"].map(id);
        let mut answer = Answer::new(&asked);
        // In pieces, as it comes.
        let _ = body.as_bytes().chunks(7).all(|piece| answer.push(piece));
        answer.finish(status)
    }

    fn instance(id: &str, state: &str, name: &str) -> String {
        // The order, and what is around it, as EC2 sends it.
        format!(
            "<item><instanceId>{id}</instanceId><imageId>ami-1</imageId><instanceState><code>16</code><name>{state}</name></instanceState>{name}<dnsName/>\
             <tagSet><item><key>privateDnsName</key><value>evil &lt;</value></item></tagSet><networkInterfaceSet><item>\
             <privateDnsName>not-this-one.ec2.internal</privateDnsName><instanceId>i-00000003</instanceId></item></networkInterfaceSet></item>"
        )
    }

    fn named(name: &str) -> String {
        format!("<privateDnsName>{name}</privateDnsName>")
    }

    fn answer(instances: &[String]) -> String {
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<DescribeInstancesResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\">\n    <requestId>r</requestId>\n\
             <reservationSet><item><reservationId>r-1</reservationId><instancesSet>{}</instancesSet></item></reservationSet></DescribeInstancesResponse>",
            instances.concat()
        )
    }

    const DENIED: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Response><Errors><Error><Code>UnauthorizedOperation</Code>\
        <Message>You are not authorized.</Message></Error></Errors><RequestID>r</RequestID></Response>";

    #[test]
    fn reads_the_names_of_those_that_were_asked_for() {
        let body = answer(&[
            instance("i-00000001", "running", &named("ip-10-0-0-1.ec2.internal")),
            instance("i-00000002", "pending", "<privateDnsName/>"),
            instance("i-0000000f", "running", &named("ip-10-0-0-9.ec2.internal")),
        ]);
        let told = read(200, &body).unwrap();
        assert_eq!(
            told.instances,
            [(id("i-00000001"), Described::Named("ip-10-0-0-1.ec2.internal".into())), (id("i-00000002"), Described::NotYet)]
        );
        assert!(told.is_whole);
    }

    #[test]
    fn an_instance_without_a_name_has_none_yet_or_has_ended() {
        for (state, expected) in [
            ("pending", Described::NotYet),
            ("running", Described::NotYet),
            ("shutting-down", Described::Ended),
            ("terminated", Described::Ended),
        ] {
            for name in ["", "<privateDnsName/>", "<privateDnsName></privateDnsName>"] {
                let told = read(200, &answer(&[instance("i-00000001", state, name)])).unwrap();
                assert_eq!(told.instances, [(id("i-00000001"), expected.clone())], "{state} {name}");
            }
        }
    }

    #[test]
    fn a_name_that_is_none_is_not_taken() {
        let long = "x".repeat(254);
        for name in ["a b", "x/y", "&#x1b;[2J", "-x", ".x", "system:masters", "a<b/>", long.as_str()] {
            let told = read(
                200,
                &answer(&[instance("i-00000001", "running", &named(name)), instance("i-00000002", "running", &named(&long[1..]))]),
            )
            .unwrap();
            assert_eq!(told.instances, [(id("i-00000002"), Described::Named(long[1..].into()))], "{name}");
        }
    }

    #[test]
    fn what_is_on_another_page_is_not_missing() {
        let body = answer(&[]).replace("</DescribeInstancesResponse>", "<nextToken>t</nextToken></DescribeInstancesResponse>");
        assert_eq!(read(200, &body), Ok(Told { instances: vec![], is_whole: false }));
        let body = answer(&[]).replace("</DescribeInstancesResponse>", "<nextToken/></DescribeInstancesResponse>");
        assert_eq!(read(200, &body), Ok(Told { instances: vec![], is_whole: true }));
    }

    #[test]
    fn an_error_of_ec2_refuses_or_throttles() {
        assert_eq!(read(403, DENIED), Err(Failure::Refused { status: 403, code: "UnauthorizedOperation".into() }));
        for (status, code) in [(503, "RequestLimitExceeded"), (400, "Throttling"), (400, "ThrottlingException")] {
            assert_eq!(read(status, &DENIED.replace("UnauthorizedOperation", code)), Err(Failure::Throttled), "{code}");
        }
        assert_eq!(read(429, ""), Err(Failure::Throttled));
    }

    #[test]
    fn all_else_says_nothing() {
        let good = answer(&[instance("i-00000001", "running", &named("ip-10-0-0-1.ec2.internal"))]);
        let twice = DENIED.replace("</Errors>", "<Error><Code>B</Code></Error></Errors>");
        for (status, body, is_passing) in [
            (200, "", false),
            (200, "<html>Log in</html>", false),
            (200, DENIED, false),
            (200, &good[..good.len() - 1], false),
            (200, &format!("{good}x"), false),
            (302, &good, false),
            (400, &good, false),
            (403, "<html/>", false),
            (403, &twice, false),
            (403, &DENIED.replace("UnauthorizedOperation", "a b"), false),
            (403, &DENIED[..DENIED.len() - 1], false),
            (407, DENIED, false),
            (500, &DENIED.replace("UnauthorizedOperation", "InternalError"), true),
            (503, "", true),
        ] {
            match read(status, body) {
                Err(Failure::Unavailable { told, is_passing: passing }) => {
                    assert_eq!((&*told, passing), (&*format!("not an answer of EC2 (status {status})"), is_passing));
                }
                other => panic!("{status} {body}: {other:?}"),
            }
        }
    }

    #[test]
    fn an_answer_has_an_end() {
        let mut answer = Answer::new(&[]);
        assert!(answer.push(b"<DescribeInstancesResponse>"));
        let megabyte = vec![b' '; 1 << 20];
        assert!((0..31).all(|_| answer.push(&megabyte)));
        assert!(!answer.push(&megabyte));
        assert!(!answer.push(b"</DescribeInstancesResponse>"));
    }
}
