//! base64url without padding: what a token is written in.
//!
//! RFC 4648 section 5. With the feature `std` the processor is asked once what it has, and AVX2 or NEON reads 32 or 16 characters at a time; without it, and on
//! other processors, a table does. Both are the `base64` crate's, and take and refuse the same.

use base64::Engine as _;

use crate::Error;

#[cfg(all(feature = "std", any(target_arch = "x86_64", target_arch = "aarch64")))]
fn engine() -> &'static base64::engine::Simd {
    use base64::engine::Simd;
    static ENGINE: std::sync::LazyLock<Simd> = std::sync::LazyLock::new(|| Simd::url_safe(base64::engine::general_purpose::NO_PAD));
    &ENGINE
}

#[cfg(not(all(feature = "std", any(target_arch = "x86_64", target_arch = "aarch64"))))]
const fn engine() -> &'static base64::engine::GeneralPurpose {
    &base64::engine::general_purpose::URL_SAFE_NO_PAD
}

/// Decodes `text` into the begin of `out`; gives the bytes that were written.
///
/// A lenient decoder would make tokens malleable: one proof, many spellings. So line ends, padding and non-zero trailing bits are refused.
///
/// # Errors
///
/// [`Error::Base64`]: not base64url, or `out` is shorter than what it says.
pub fn decode<'out>(text: &[u8], out: &'out mut [u8]) -> Result<&'out [u8], Error> {
    let length = engine().decode_slice(text, out).map_err(|_| Error::Base64)?;
    out.get(..length).ok_or(Error::Base64)
}

/// Encodes `bytes` into the begin of `out`; gives the text that was written, or `None` where `out` has less than 4 bytes for each 3, the last ones
/// rounded up.
pub fn encode<'out>(bytes: &[u8], out: &'out mut [u8]) -> Option<&'out str> {
    let length = engine().encode_slice(bytes, out).ok()?;
    core::str::from_utf8(out.get(..length)?).ok()
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec;
    use std::vec::Vec;

    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use proptest::prelude::*;

    use super::*;

    fn decoded(text: &[u8]) -> Option<Vec<u8>> {
        decode(text, &mut [0; 4096]).ok().map(<[u8]>::to_vec)
    }

    proptest! {
        // Past the lengths from which vectors are used.
        #[test]
        fn writes_what_the_table_writes_and_reads_it_back(bytes in prop::collection::vec(any::<u8>(), 0..700)) {
            let mut out = [0; 1024];
            let text = encode(&bytes, &mut out).unwrap();
            prop_assert_eq!(text, URL_SAFE_NO_PAD.encode(&bytes));
            prop_assert_eq!(decoded(text.as_bytes()), Some(bytes));
        }

        #[test]
        fn one_byte_changed_is_taken_or_refused_as_by_the_table(bytes in prop::collection::vec(any::<u8>(), 1..700), place: prop::sample::Index, byte: u8) {
            let mut text = URL_SAFE_NO_PAD.encode(&bytes).into_bytes();
            let place = place.index(text.len());
            text[place] = byte;
            prop_assert_eq!(decoded(&text), URL_SAFE_NO_PAD.decode(&text).ok());
        }
    }

    #[test]
    fn every_byte_at_every_place_of_a_long_text_is_judged_as_by_the_table() {
        let text = vec![b'Q'; 160];
        for place in 0..text.len() {
            for byte in 0..=u8::MAX {
                let mut text = text.clone();
                text[place] = byte;
                assert_eq!(decoded(&text), URL_SAFE_NO_PAD.decode(&text).ok(), "{byte:#x} at {place}");
            }
        }
    }

    #[test]
    fn a_place_that_is_too_small_is_an_error() {
        assert_eq!(decode(b"YWJj", &mut [0; 2]), Err(Error::Base64));
        assert_eq!(encode(b"abc", &mut [0; 3]), None);
        assert_eq!(encode(b"abc", &mut [0; 4]), Some("YWJj"));
    }
}
