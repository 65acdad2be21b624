//! The bearer token: a prefix and a URL in base64url.
//!
//! Called first for each token. Says nothing about the URL: that is [`presigned`](crate::presigned)'s.

use core::fmt;

use crate::limits::{TOKEN_BUFFER_BYTES, TOKEN_MAX_BYTES};
use crate::{Error, base64url};

/// What every token begins with.
///
/// upstream: `v1Prefix` in pkg/token/token.go.
pub const PREFIX: &str = "k8s-aws-v1.";

/// Where a caller lends room for the decoded URL.
#[derive(Clone)]
pub struct TokenBuffer([u8; TOKEN_BUFFER_BYTES]);

impl TokenBuffer {
    /// Room for the longest token that is accepted.
    #[must_use]
    pub const fn new() -> Self {
        Self([0; TOKEN_BUFFER_BYTES])
    }
}

impl Default for TokenBuffer {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for TokenBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenBuffer(..)")
    }
}

/// A decoded token: the bytes of its URL, not judged yet.
#[derive(Clone, Copy)]
pub struct Token<'a> {
    url: &'a [u8],
}

impl<'a> Token<'a> {
    /// Decodes the text of a bearer token into `buffer`.
    ///
    /// # Syntax
    ///
    /// ```text
    /// token = "k8s-aws-v1." *base64url      ; RFC 4648 section 5, no padding, unused bits zero
    /// ```
    ///
    /// A lenient decoder would make tokens malleable: one proof, many spellings. So line ends, padding and non-zero trailing
    /// bits are refused.
    ///
    /// # Errors
    ///
    /// [`Error::Length`], [`Error::Prefix`] and [`Error::Base64`], in this order.
    pub fn decode(text: &[u8], buffer: &'a mut TokenBuffer) -> Result<Self, Error> {
        if text.len() > TOKEN_MAX_BYTES {
            return Err(Error::Length);
        }
        let encoded = text.strip_prefix(PREFIX.as_bytes()).ok_or(Error::Prefix)?;
        base64url::decode(encoded, &mut buffer.0).map(|url| Self { url })
    }

    /// The bytes of the URL.
    #[must_use]
    pub const fn url_bytes(&self) -> &'a [u8] {
        self.url
    }
}

impl fmt::Debug for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// Writes the token of a presigned URL.
///
/// # Errors
///
/// Only those of `out`.
pub fn encode(url: &str, out: &mut impl fmt::Write) -> fmt::Result {
    out.write_str(PREFIX)?;
    // 3 bytes become 4 characters; whole quanta need no padding, so that pieces join.
    let mut piece = [0_u8; 512];
    url.as_bytes().chunks(384).try_for_each(|chunk| out.write_str(base64url::encode(chunk, &mut piece).ok_or(fmt::Error)?))
}

#[cfg(test)]
mod tests {
    extern crate std;
    use core::str;
    use std::string::String;
    use std::vec;
    use std::vec::Vec;

    use super::*;

    fn decode(text: &[u8]) -> Result<Vec<u8>, Error> {
        Token::decode(text, &mut TokenBuffer::new()).map(|token| token.url_bytes().to_vec())
    }

    #[test]
    fn takes_4096_bytes_and_not_one_more() {
        let mut text = PREFIX.as_bytes().to_vec();
        text.resize(4096, b'A');
        // 4085 characters are 1021 quanta and one left over, which is no base64; 4095 are the longest that decode.
        assert_eq!(decode(&text), Err(Error::Base64));
        text.truncate(4095);
        assert_eq!(decode(&text).map(|url| url.len()), Ok(crate::limits::URL_MAX_BYTES));
        text.resize(4097, b'A');
        assert_eq!(decode(&text), Err(Error::Length));
    }

    #[test]
    fn length_is_judged_before_the_prefix() {
        assert_eq!(decode(&vec![b'x'; 5000]), Err(Error::Length));
    }

    #[test]
    fn refuses_another_prefix() {
        for bad in ["", "k8s-aws-v1", "K8S-AWS-V1.YQ", "k8s-aws-v2.YQ", " k8s-aws-v1.YQ", "eyJhbGciOi"] {
            assert_eq!(decode(bad.as_bytes()), Err(Error::Prefix), "{bad}");
        }
    }

    #[test]
    fn refuses_every_second_spelling_of_the_same_bytes() {
        assert_eq!(decode(b"k8s-aws-v1.YQ").unwrap(), b"a");
        for bad in ["YQ==", "YQ=", "YR", "Y", "YQ\n", "Y\r\nQ", " YQ", "Y+", "Y/", "YQ\u{e9}"] {
            assert_eq!(decode(std::format!("{PREFIX}{bad}").as_bytes()), Err(Error::Base64), "{bad:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn decodes_what_it_encodes(url in "[!-~]{0,3063}") {
            let mut text = String::new();
            encode(&url, &mut text).unwrap();
            proptest::prop_assert_eq!(decode(text.as_bytes()), Ok(url.into_bytes()));
        }

        #[test]
        fn one_spelling_for_each_url(text in "[A-Za-z0-9_=\\-]{0,80}") {
            let token = std::format!("{PREFIX}{text}");
            if let Ok(url) = decode(token.as_bytes()) {
                let mut again = String::new();
                // Bytes that are no UTF-8 cannot be encoded by us; they are refused one step later.
                if let Ok(url) = str::from_utf8(&url) {
                    encode(url, &mut again).unwrap();
                    proptest::prop_assert_eq!(again, token);
                }
            }
        }
    }
}
