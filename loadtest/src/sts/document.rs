//! The documents that STS answers with, in JSON and XML.
//!
//! The XML is AWS', byte for byte, as in <https://docs.aws.amazon.com/STS/latest/APIReference/API_GetCallerIdentity.html> and in the logs at
//! <https://github.com/aws-azure-login/aws-azure-login/issues/251>. The JSON is what the same service writes for `Accept: application/json`;
//! upstream: `getCallerIdentityWrapper` and the throttling document in pkg/token/token.go and its test.

use bytes::Bytes;
use serde::Serialize;

use crate::credential::CallerIdentity;

/// Which of the two is asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Format {
    Json,
    Xml,
}

impl Format {
    /// STS writes JSON for who asks for it, and XML for all others.
    pub(super) fn from_accept(accept: &str) -> Self {
        if accept.to_ascii_lowercase().contains("application/json") { Self::Json } else { Self::Xml }
    }

    pub(super) const fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Xml => "text/xml",
        }
    }

    /// What the owner of an identity is told.
    pub(super) fn identity(self, identity: &CallerIdentity) -> Document {
        let CallerIdentity { account, arn, user_id } = identity;
        match self {
            Self::Json => {
                const TAIL: &str = "\"}}}";
                let mut head = json(&IdentityDocument {
                    response: IdentityResponse {
                        result: IdentityResult { account, arn, user_id },
                        metadata: ResponseMetadata { request_id: "" },
                    },
                });
                debug_assert!(head.ends_with(TAIL));
                head.truncate(head.len() - TAIL.len());
                Document { head, tail: TAIL }
            }
            Self::Xml => Document {
                head: format!(
                    "<GetCallerIdentityResponse xmlns=\"{NAMESPACE}\">\n  <GetCallerIdentityResult>\n    <Arn>{}</Arn>\n    \
                     <UserId>{}</UserId>\n    <Account>{}</Account>\n  </GetCallerIdentityResult>\n  <ResponseMetadata>\n    \
                     <RequestId>",
                    xml_text(arn),
                    xml_text(user_id),
                    xml_text(account),
                ),
                tail: "</RequestId>\n  </ResponseMetadata>\n</GetCallerIdentityResponse>\n",
            },
        }
    }

    pub(super) fn error(self, error: &ServiceError, request_id: &str) -> String {
        let kind = error.kind();
        let ServiceError { code, message, .. } = error;
        match self {
            Self::Json => json(&ErrorDocument { error: ErrorBody { code, message, kind }, request_id }),
            Self::Xml => format!(
                "<ErrorResponse xmlns=\"{NAMESPACE}\">\n  <Error>\n    <Type>{kind}</Type>\n    <Code>{}</Code>\n    \
                 <Message>{}</Message>\n  </Error>\n  <RequestId>{}</RequestId>\n</ErrorResponse>\n",
                xml_text(code),
                xml_text(message),
                xml_text(request_id),
            ),
        }
    }
}

/// What is the same in all answers to somebody: all but the id of the request.
#[derive(Debug)]
pub(super) struct Document {
    head: String,
    tail: &'static str,
}

impl Document {
    /// The document with that id, in which nothing has to be escaped.
    pub(super) fn with(&self, request_id: &str) -> Bytes {
        let mut text = Vec::with_capacity(self.bytes_with(request_id));
        self.write_with(request_id, &mut text);
        text.into()
    }

    /// How long that is.
    pub(super) const fn bytes_with(&self, request_id: &str) -> usize {
        self.head.len() + request_id.len() + self.tail.len()
    }

    /// Appends that.
    pub(super) fn write_with(&self, request_id: &str, out: &mut Vec<u8>) {
        [&self.head, request_id, self.tail].into_iter().for_each(|part| out.extend_from_slice(part.as_bytes()));
    }
}

const NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";

/// An error as AWS tells it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct ServiceError {
    pub(super) status: u16,
    pub(super) code: String,
    pub(super) message: String,
}

impl ServiceError {
    pub(super) fn new(status: u16, code: &str, message: impl Into<String>) -> Self {
        Self { status, code: code.into(), message: message.into() }
    }

    /// Whose fault it is: the caller's below 500, the service's from there on.
    const fn kind(&self) -> &'static str {
        if self.status < 500 { "Sender" } else { "Receiver" }
    }

    /// The usual code of a status.
    ///
    /// AWS: <https://docs.aws.amazon.com/STS/latest/APIReference/CommonErrors.html>.
    pub(super) fn of_status(status: u16) -> Self {
        let (code, message) = match status {
            400 => ("ValidationError", "The input fails to satisfy the constraints specified by an AWS service."),
            403 => ("AccessDenied", "User is not authorized to perform: sts:GetCallerIdentity"),
            429 => ("TooManyRequestsException", "Too many requests"),
            500 => ("InternalFailure", "The request processing has failed because of an unknown error, exception or failure."),
            503 => ("ServiceUnavailable", "The request has failed due to a temporary failure of the server."),
            _ => ("UnknownError", "An error of the fake STS"),
        };
        Self::new(status, code, message)
    }

    /// AWS: as seen at <https://github.com/aws/aws-sdk-go-v2/issues/2481>, with status 400.
    pub(super) fn throttling() -> Self {
        Self::new(400, "Throttling", "Rate exceeded")
    }
}

fn json(document: &impl Serialize) -> String {
    serde_json::to_string(document).expect("structs of texts can be written as JSON")
}

/// Escapes as AWS does: what would be markup, and control characters that XML 1.0 has in references only.
fn xml_text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\r' => out.push_str("&#xD;"),
            other => out.push(other),
        }
    }
    out
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct IdentityDocument<'a> {
    #[serde(rename = "GetCallerIdentityResponse")]
    response: IdentityResponse<'a>,
}

#[derive(Serialize)]
struct IdentityResponse<'a> {
    #[serde(rename = "GetCallerIdentityResult")]
    result: IdentityResult<'a>,
    #[serde(rename = "ResponseMetadata")]
    metadata: ResponseMetadata<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct IdentityResult<'a> {
    account: &'a str,
    arn: &'a str,
    user_id: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ResponseMetadata<'a> {
    request_id: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ErrorDocument<'a> {
    error: ErrorBody<'a>,
    request_id: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ErrorBody<'a> {
    code: &'a str,
    message: &'a str,
    #[serde(rename = "Type")]
    kind: &'a str,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::Credential;

    const REQUEST_ID: &str = "01234567-89ab-cdef-0123-456789abcdef";

    #[test]
    fn the_identity_is_written_as_aws_documents_it() {
        let identity = Credential::example_user().identity().clone();
        let identity = |format: Format| String::from_utf8(format.identity(&identity).with(REQUEST_ID).into()).unwrap();
        insta::assert_snapshot!(identity(Format::Json), @r#"{"GetCallerIdentityResponse":{"GetCallerIdentityResult":{"Account":"123456789012","Arn":"arn:aws:iam::123456789012:user/Alice","UserId":"AIDACKCEVSQ6C2EXAMPLE"},"ResponseMetadata":{"RequestId":"01234567-89ab-cdef-0123-456789abcdef"}}}"#);
        insta::assert_snapshot!(identity(Format::Xml), @r#"
        <GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
          <GetCallerIdentityResult>
            <Arn>arn:aws:iam::123456789012:user/Alice</Arn>
            <UserId>AIDACKCEVSQ6C2EXAMPLE</UserId>
            <Account>123456789012</Account>
          </GetCallerIdentityResult>
          <ResponseMetadata>
            <RequestId>01234567-89ab-cdef-0123-456789abcdef</RequestId>
          </ResponseMetadata>
        </GetCallerIdentityResponse>
        "#);
    }

    #[test]
    fn an_error_is_written_as_aws_does_down_to_its_length() {
        let error = ServiceError::new(403, "InvalidClientTokenId", "The security token included in the request is invalid");
        let xml = Format::Xml.error(&error, "16fc956c-311e-4199-bee1-1680236e9698");
        // The log of aws-azure-login issue 251 has the body and its Content-Length.
        assert_eq!(xml.len(), 305);
        insta::assert_snapshot!(xml, @r#"
        <ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
          <Error>
            <Type>Sender</Type>
            <Code>InvalidClientTokenId</Code>
            <Message>The security token included in the request is invalid</Message>
          </Error>
          <RequestId>16fc956c-311e-4199-bee1-1680236e9698</RequestId>
        </ErrorResponse>
        "#);
        insta::assert_snapshot!(Format::Json.error(&ServiceError::throttling(), REQUEST_ID), @r#"{"Error":{"Code":"Throttling","Message":"Rate exceeded","Type":"Sender"},"RequestId":"01234567-89ab-cdef-0123-456789abcdef"}"#);
        insta::assert_snapshot!(Format::Json.error(&ServiceError::of_status(503), REQUEST_ID), @r#"{"Error":{"Code":"ServiceUnavailable","Message":"The request has failed due to a temporary failure of the server.","Type":"Receiver"},"RequestId":"01234567-89ab-cdef-0123-456789abcdef"}"#);
    }

    #[test]
    fn escapes_what_would_be_markup() {
        let error = ServiceError::new(400, "IncompleteSignature", "a<b>&c\r\u{1b}");
        let xml = Format::Xml.error(&error, REQUEST_ID);
        assert!(xml.contains("<Message>a&lt;b&gt;&amp;c&#xD;\u{1b}</Message>"), "{xml}");
        assert!(Format::Json.error(&error, REQUEST_ID).contains(r#""Message":"a<b>&c\r\u001b""#));
    }

    #[test]
    fn writes_json_for_who_asks_for_it_only() {
        assert_eq!(Format::from_accept("application/json"), Format::Json);
        assert_eq!(Format::from_accept("text/html, Application/JSON;q=0.9"), Format::Json);
        assert_eq!(Format::from_accept("*/*"), Format::Xml);
        assert_eq!(Format::from_accept(""), Format::Xml);
    }
}
