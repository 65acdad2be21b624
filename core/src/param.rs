//! The query of a presigned URL: nine keys, each at most once, in any order.
//!
//! Two rules depend on spelling; those that are the same for every text of a query are in [`percent`](crate::percent):
//! - *Case*: keys compare after decoding, without ASCII case. No other folding: the reference's `strings.ToLower` also takes U+212A
//!   (Kelvin) for `k` and U+017F (long s) for `s`, which AWS does not.
//! - *Order*: any. The canonical query is sorted by encoded name, as AWS sorts it.

use core::cmp::Ordering;
use core::{fmt, str};

use crate::Error;
use crate::percent::{Encoded, Form, WriteAscii, scan, write_encoded};
use crate::sigv4::Signature;

/// One of the query keys that a presigned GetCallerIdentity may have, in the order in which they are sorted and most clients write them: the
/// signature, which is not signed, comes last.
///
/// upstream: `parameterWhitelist` in pkg/token/token.go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Param {
    Action,
    Version,
    Algorithm,
    Credential,
    Date,
    Expires,
    SecurityToken,
    SignedHeaders,
    Signature,
}

impl Param {
    pub(crate) const COUNT: usize = 9;

    const ALL: [Self; Self::COUNT] = [
        Self::Action,
        Self::Version,
        Self::Algorithm,
        Self::Credential,
        Self::Date,
        Self::Expires,
        Self::SecurityToken,
        Self::SignedHeaders,
        Self::Signature,
    ];

    /// The key as AWS spells it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Action => "Action",
            Self::Version => "Version",
            Self::Algorithm => "X-Amz-Algorithm",
            Self::Credential => "X-Amz-Credential",
            Self::Date => "X-Amz-Date",
            Self::Expires => "X-Amz-Expires",
            Self::SecurityToken => "X-Amz-Security-Token",
            Self::Signature => "X-Amz-Signature",
            Self::SignedHeaders => "X-Amz-SignedHeaders",
        }
    }

    /// The key that is spelled as AWS does: lengths and then bytes are compared, with nothing to search.
    const fn from_name(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"Action" => Self::Action,
            b"Version" => Self::Version,
            b"X-Amz-Algorithm" => Self::Algorithm,
            b"X-Amz-Credential" => Self::Credential,
            b"X-Amz-Date" => Self::Date,
            b"X-Amz-Expires" => Self::Expires,
            b"X-Amz-Security-Token" => Self::SecurityToken,
            b"X-Amz-Signature" => Self::Signature,
            b"X-Amz-SignedHeaders" => Self::SignedHeaders,
            _ => return None,
        })
    }

    /// What its pair begins with in nearly every query, if `text` begins so: the length of that, which is the name and the `=`, and the value as
    /// far as it is always the same or otherwise known; and how that part of the value is spelled.
    ///
    /// It only saves time: what a [`scan`] makes of such a head is known beforehand.
    fn usual_head(self, text: &[u8]) -> Option<(usize, Form)> {
        // A macro, so that the compiler knows each length and compares without a call.
        macro_rules! head {
            ($head:literal, $form:ident) => {
                if text.starts_with($head) { Some(($head.len(), Form::$form)) } else { None }
            };
        }
        match self {
            Self::Action => head!(b"Action=GetCallerIdentity", Plain),
            Self::Version => head!(b"Version=2011-06-15", Plain),
            Self::Algorithm => head!(b"X-Amz-Algorithm=AWS4-HMAC-SHA256", Plain),
            Self::Credential => head!(b"X-Amz-Credential=", Plain),
            Self::Date => head!(b"X-Amz-Date=", Plain),
            Self::Expires => head!(b"X-Amz-Expires=", Plain),
            Self::SecurityToken => head!(b"X-Amz-Security-Token=", Plain),
            Self::SignedHeaders => head!(b"X-Amz-SignedHeaders=host%3Bx-k8s-aws-id", Canonical),
            // Hex digits are unreserved.
            Self::Signature => {
                let (head, form) = head!(b"X-Amz-Signature=", Plain)?;
                let digits = text.get(head..).and_then(|value| value.first_chunk());
                let known = if digits.is_some_and(Signature::are_digits) { Signature::DIGITS } else { 0 };
                Some((head.saturating_add(known), form))
            }
        }
    }

    /// The first key, of those from place `next` on, whose usual head `text` begins with, and what is known of that.
    fn usual(next: usize, text: &[u8]) -> Option<(Self, usize, Form)> {
        Self::ALL.get(next..)?.iter().find_map(|param| param.usual_head(text).map(|(length, form)| (*param, length, form)))
    }

    /// The key that `name` spells in any way, and the name if that is not AWS' way.
    fn of_name(name: Encoded<'_>) -> Option<(Self, Option<Encoded<'_>>)> {
        match Self::from_name(name.raw) {
            Some(param) => Some((param, None)),
            None => Self::from_encoded(name).map(|param| (param, Some(name))),
        }
    }

    fn from_encoded(name: Encoded<'_>) -> Option<Self> {
        Self::ALL.into_iter().find(|param| {
            let mut expected = param.name().bytes();
            name.decoded().all(|byte| expected.next().is_some_and(|e| e.eq_ignore_ascii_case(&byte))) && expected.next().is_none()
        })
    }

    const fn index(self) -> usize {
        match self {
            Self::Action => 0,
            Self::Version => 1,
            Self::Algorithm => 2,
            Self::Credential => 3,
            Self::Date => 4,
            Self::Expires => 5,
            Self::SecurityToken => 6,
            Self::SignedHeaders => 7,
            Self::Signature => 8,
        }
    }
}

/// A query that has been split: values at their keys' places, and names where they are spelled otherwise than AWS does.
pub(crate) struct Params<'a> {
    names: [Option<Encoded<'a>>; Param::COUNT],
    values: [Option<Encoded<'a>>; Param::COUNT],
    /// Where all that is signed ends, if the query as received is canonical: each name and value so spelled, sorted, and the signature last.
    canonical_end: Option<usize>,
}

impl<'a> Params<'a> {
    /// Splits a query.
    ///
    /// # Syntax
    ///
    /// ```text
    /// query = [ pair ] *( "&" [ pair ] )
    /// pair  = name [ "=" value ]          ; a value may have further "="
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::UrlBytes`], [`Error::Authority`] (a fragment), [`Error::Escape`], [`Error::ParameterUnknown`] and
    /// [`Error::ParameterRepeated`], for the first pair that has one of them.
    #[inline]
    pub(crate) fn parse(query: &'a [u8]) -> Result<Self, Error> {
        let mut params = Self { names: [None; Param::COUNT], values: [None; Param::COUNT], canonical_end: None };
        params.read(query)?;
        Ok(params)
    }

    fn read(&mut self, query: &'a [u8]) -> Result<(), Error> {
        // Where in the order of keys the next one would be, if they come in order.
        let mut next = 0;
        let mut is_canonical = true;
        let mut rest = Some(query);
        while let Some(text) = rest {
            let usual = Param::usual(next, text);
            let mut name = Encoded::EMPTY;
            // Where the value begins, and from where on it is not known.
            let (start, known, form) = match usual {
                Some((param, known, form)) => (param.name().len().saturating_add(1), known, form),
                None => {
                    let (end, form) = scan(text, 0, Form::Plain, true)?;
                    name = Encoded { raw: text.get(..end).unwrap_or_default(), form };
                    let start = if text.get(end) == Some(&b'=') { end.saturating_add(1) } else { end };
                    (start, start, Form::Plain)
                }
            };
            let (end, form) = scan(text, known, form, false)?;
            rest = text.get(end..).and_then(|rest| rest.split_first()).map(|(_, rest)| rest);
            if end == 0 {
                is_canonical = false;
                continue;
            }
            let value = Encoded { raw: text.get(start..end).unwrap_or_default(), form };
            let (param, name) = match usual {
                Some((param, ..)) => (param, None),
                None => Param::of_name(name).ok_or(Error::ParameterUnknown)?,
            };
            let index = param.index();
            let slots = (self.names.get_mut(index), self.values.get_mut(index));
            let (Some(name_slot), Some(value_slot)) = slots else { return Err(Error::ParameterUnknown) };
            if value_slot.is_some() {
                return Err(Error::ParameterRepeated);
            }
            *value_slot = Some(value);
            if name.is_some() {
                *name_slot = name;
            }
            // Names are unique, so what comes in Param's order is sorted. As AWS spells it, a name has a value, be it empty.
            is_canonical &= index >= next && name.is_none() && start > param.name().len() && form != Form::Free;
            if param == Param::Signature && is_canonical && rest.is_none() {
                self.canonical_end = query.len().checked_sub(text.len()).and_then(|end| end.checked_sub("&".len()));
            }
            next = index.saturating_add(1);
        }
        Ok(())
    }

    /// The value of a key that may be absent.
    pub(crate) fn find(&self, param: Param) -> Option<Encoded<'a>> {
        self.values.get(param.index()).copied().flatten()
    }

    /// The value of a key.
    ///
    /// # Errors
    ///
    /// [`Error::ParameterMissing`].
    pub(crate) fn require(&self, param: Param) -> Result<Encoded<'a>, Error> {
        self.find(param).ok_or(Error::ParameterMissing)
    }

    /// Writes the canonical query: all pairs but the signature, sorted as AWS sorts them, by the name's encoded bytes. Names are unique, for
    /// they are so without case.
    fn write_canonical(&self, out: &mut impl WriteAscii) -> fmt::Result {
        let signed = || {
            let places = self.names.iter().zip(&self.values).zip(Param::ALL).filter(|(_, param)| *param != Param::Signature);
            places.filter_map(|((name, value), param)| {
                let usual = Encoded { raw: param.name().as_bytes(), form: Form::Plain };
                Some((name.unwrap_or(usual), (*value)?))
            })
        };
        let mut last: Option<Encoded<'_>> = None;
        // At most eight: picking the next one each time is as quick as sorting, and needs no room.
        loop {
            let later = signed().filter(|(name, _)| last.is_none_or(|last| compare_names(last, *name) == Ordering::Less));
            let Some((name, value)) = later.min_by(|(a, _), (b, _)| compare_names(*a, *b)) else { return Ok(()) };
            if last.is_some() {
                out.write_str("&")?;
            }
            name.write_canonical(out)?;
            out.write_str("=")?;
            value.write_canonical(out)?;
            last = Some(name);
        }
    }
}

/// A query that can be split, as it is signed. Kept instead of its [`Params`], which are many bytes to move.
#[derive(Clone, Copy)]
pub(crate) struct SignedQuery<'a> {
    query: &'a [u8],
    canonical_end: Option<usize>,
}

impl<'a> SignedQuery<'a> {
    /// That of a query, of which `params` are the parts.
    pub(crate) const fn new(query: &'a [u8], params: &Params<'_>) -> Self {
        Self { query, canonical_end: params.canonical_end }
    }

    /// The query as received.
    pub(crate) const fn as_received(&self) -> &'a str {
        match str::from_utf8(self.query) {
            Ok(query) => query,
            // There is no such query: whatever can be split is ASCII.
            Err(_) => "",
        }
    }

    /// Writes the canonical query.
    pub(crate) fn write_canonical(&self, out: &mut impl WriteAscii) -> fmt::Result {
        match self.canonical_end {
            Some(end) => out.write_ascii(self.query.get(..end).unwrap_or_default()),
            // What was split once can be split again. Rare: most clients write the canonical query, and those that put a session token
            // elsewhere make tokens that only STS can prove.
            None => Params::parse(self.query).map_err(|_| fmt::Error)?.write_canonical(out),
        }
    }
}

/// Keys decode to letters and hyphens, which are unreserved: their encoded order is that of their decoded bytes.
fn compare_names(a: Encoded<'_>, b: Encoded<'_>) -> Ordering {
    if a.form == Form::Plain && b.form == Form::Plain { a.raw.cmp(b.raw) } else { a.decoded().cmp(b.decoded()) }
}

/// Writes `name=value&name=value…`, names as AWS spells them and in their order, values encoded.
pub(crate) fn write_query<'a>(pairs: impl Iterator<Item = (Param, &'a str)>, out: &mut impl fmt::Write) -> fmt::Result {
    let mut separator = "";
    for (param, value) in pairs {
        for piece in [separator, param.name(), "="] {
            out.write_str(piece)?;
        }
        write_encoded(value, out)?;
        separator = "&";
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::String;
    use std::vec::Vec;
    use std::{format, vec};

    use super::*;

    #[test]
    fn a_key_has_one_place_and_one_name() {
        for (index, param) in Param::ALL.into_iter().enumerate() {
            assert_eq!(param.index(), index);
            assert_eq!(Param::from_name(param.name().as_bytes()), Some(param));
            assert!(Param::from_name(param.name().to_ascii_lowercase().as_bytes()).is_none());
        }
        let names = || Param::ALL.into_iter().filter(|param| *param != Param::Signature).map(Param::name);
        assert!(names().is_sorted(), "the places are the order in which AWS sorts");
    }

    #[test]
    fn what_a_usual_head_says_is_what_a_scan_finds() {
        let digits = "0123456789abcdef".repeat(4);
        for param in Param::ALL {
            let pairs = [
                "Action=GetCallerIdentity",
                "Version=2011-06-15",
                "X-Amz-Algorithm=AWS4-HMAC-SHA256",
                "X-Amz-SignedHeaders=host%3Bx-k8s-aws-id",
                &format!("X-Amz-Signature={digits}"),
            ];
            let usual = pairs.iter().find(|pair| pair.starts_with(&format!("{}=", param.name())));
            let text = usual.map_or_else(|| format!("{}=", param.name()), |pair| String::from(*pair));
            let (known, form) = param.usual_head(text.as_bytes()).unwrap();
            assert_eq!(known, text.len(), "{text}");
            let start = param.name().len() + 1;
            let scanned = scan(text.as_bytes(), start, Form::Plain, false).unwrap();
            assert!(scanned == (known, form), "{text}");
            let name = scan(text.as_bytes(), 0, Form::Plain, true).unwrap();
            assert!(name == (start - 1, Form::Plain), "{text}");
        }
    }

    fn canonical(query: &str) -> Option<String> {
        let params = Params::parse(query.as_bytes()).ok()?;
        let (mut quick, mut slow) = (String::new(), String::new());
        SignedQuery::new(query.as_bytes(), &params).write_canonical(&mut quick).unwrap();
        params.write_canonical(&mut slow).unwrap();
        assert_eq!(quick, slow, "{query}");
        Some(quick)
    }

    #[test]
    fn a_canonical_query_is_signed_as_received() {
        let query = "Action=A&Version=1&X-Amz-Date=%2F&X-Amz-SignedHeaders=a%3Bb&X-Amz-Signature=00";
        let signed = query.strip_suffix("&X-Amz-Signature=00").unwrap();
        let as_received = |query: &str| Params::parse(query.as_bytes()).unwrap().canonical_end.is_some();
        assert!(as_received(query));
        assert_eq!(canonical(query).as_deref(), Some(signed));
        for (old, new) in [("%2F", "%2f"), ("%2F", "/"), ("%2F", "%41"), ("Action=A", "action=A"), ("=00", "=00&"), ("Action=A", "Action")]
        {
            let query = query.replacen(old, new, 1);
            assert!(!as_received(&query), "{query}");
            canonical(&query);
        }
        assert!(!as_received("Version=1&Action=A&X-Amz-Signature=00"), "not sorted");
        assert!(!as_received("Action=A&X-Amz-Signature=00&Version=1"), "the signature is not last");
        assert!(!as_received("&Action=A&X-Amz-Signature=00"), "an empty pair");
    }

    proptest::proptest! {
        #[test]
        fn the_quick_way_to_the_canonical_query_is_the_slow_way(
            order in proptest::sample::subsequence(vec![0, 1, 2, 3, 4, 5, 6, 7, 8], 0..=9),
            values in proptest::collection::vec("([A-Za-z0-9._~-]|%2F|%3B|%2f|%41|[+/=:,]){0,40}", 9),
            swap in proptest::option::of((0_usize..9, 0_usize..9)),
        ) {
            let mut pairs: Vec<_> = order.iter().map(|at| format!("{}={}", Param::ALL[*at].name(), values[*at])).collect();
            if let Some((a, b)) = swap.filter(|(a, b)| *a.max(b) < pairs.len()) {
                pairs.swap(a, b);
            }
            proptest::prop_assert!(canonical(&pairs.join("&")).is_some());
        }
    }
}
