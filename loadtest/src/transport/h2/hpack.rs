//! Headers of HTTP/2 (RFC 7541), as far as a generator needs them: what it says with each request, and the status of an answer.

/// What each request says of itself.
#[derive(Clone, Debug)]
pub(in crate::transport) struct Head {
    pub(in crate::transport) authority: String,
    pub(in crate::transport) path: String,
    pub(in crate::transport) content_type: &'static str,
    pub(in crate::transport) accept: &'static str,
    pub(in crate::transport) user_agent: &'static str,
}

impl Head {
    /// For the first request: everything goes into the peer's table.
    pub(super) fn first(&self) -> Vec<u8> {
        // :method POST, :scheme https; then literals with incremental indexing, their names from the static table.
        let mut block = vec![0x83, 0x87];
        for (name, value) in
            [(1, self.authority.as_str()), (4, &self.path), (31, self.content_type), (19, self.accept), (58, self.user_agent)]
        {
            integer(&mut block, 0x40, 6, name);
            integer(&mut block, 0, 7, value.len());
            block.extend_from_slice(value.as_bytes());
        }
        block
    }

    /// For all others: from that table, in which the newest entry is number 62.
    pub(super) const fn later() -> [u8; 7] {
        [0x83, 0x87, 0x80 | 66, 0x80 | 65, 0x80 | 64, 0x80 | 63, 0x80 | 62]
    }
}

/// RFC 7541 section 5.1.
fn integer(out: &mut Vec<u8>, flags: u8, prefix_bits: u8, value: usize) {
    let most = (1_usize << prefix_bits) - 1;
    if value < most {
        out.push(flags | value as u8);
        return;
    }
    out.push(flags | most as u8);
    let mut rest = value - most;
    while rest >= 128 {
        out.push(rest as u8 | 128);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Literals with incremental indexing (RFC 7541 section 6.2.1) as ones without (6.2.2).
pub(super) fn without_indexing(block: &[u8]) -> Vec<u8> {
    let (fixed, mut rest) = block.split_at(2.min(block.len()));
    let mut plain = fixed.to_vec();
    while let [name, length, values @ ..] = rest {
        let end = usize::from(*length).min(values.len());
        integer(&mut plain, 0, 4, usize::from(name & 0x3f));
        integer(&mut plain, 0, 7, end);
        plain.extend_from_slice(&values[..end]);
        rest = &values[end..];
    }
    plain
}

/// Room for the longest `content-length`, in bytes.
pub(super) const CONTENT_LENGTH_BYTES: usize = 3 + 20;

/// `content-length`, a literal without indexing: another one for another body.
pub(super) fn content_length(mut length: usize, room: &mut [u8; CONTENT_LENGTH_BYTES]) -> &[u8] {
    let mut place = room.len();
    loop {
        place -= 1;
        room[place] = b'0' + (length % 10) as u8;
        length /= 10;
        if length == 0 {
            break;
        }
    }
    let digits = room.len() - place;
    room[place - 3..place].copy_from_slice(&[0x0f, 0x0d, digits as u8]);
    &room[place - 3..]
}

/// `:status`, which comes first. The peer has no table of its own to put it into.
pub(super) fn status_of(block: &[u8]) -> Option<u16> {
    let mut block = block;
    // An update of the table's size (RFC 7541 section 6.3): to none, as we asked.
    while let [0x20..=0x3e, rest @ ..] = block {
        block = rest;
    }
    match block {
        [indexed @ 0x88..=0x8e, ..] => Some([200, 204, 206, 304, 400, 404, 500][usize::from(indexed - 0x88)]),
        // A literal of any of the three kinds, its name being entry 8 to 14 of the static table.
        [0x48..=0x4e | 0x08..=0x0e | 0x18..=0x1e, length, value @ ..] => {
            let value = value.get(..usize::from(length & 0x7f))?;
            if length & 0x80 == 0 { std::str::from_utf8(value).ok()?.parse().ok() } else { huffman_digits(value) }
        }
        _ => None,
    }
}

/// RFC 7541 appendix B, of which a status needs the digits: `0` to `2` have five bits, the others six.
fn huffman_digits(bytes: &[u8]) -> Option<u16> {
    let bits = bytes.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
    let mut left = u32::try_from(bytes.len()).ok().filter(|bytes| *bytes <= 3)? * 8;
    let mut status = 0;
    for _ in 0..3 {
        let five = bits >> left.checked_sub(5)? & 31;
        let digit = if five < 3 {
            left -= 5;
            five
        } else {
            let six = bits >> left.checked_sub(6)? & 63;
            left -= 6;
            six.checked_sub(0b01_1001)?.checked_add(3).filter(|digit| *digit <= 9)?
        };
        status = status * 10 + digit as u16;
    }
    Some(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_status_in_all_ways_in_which_it_may_be_written() {
        for (block, status) in [
            (&[0x88][..], Some(200)),
            (&[0x8c, 0x0f], Some(400)),
            (&[0x8e], Some(500)),
            (&[0x20, 0x88], Some(200)),
            (b"\x08\x03503\x5f", Some(503)),
            (b"\x48\x03429", Some(429)),
            (b"\x18\x03403", Some(403)),
            // RFC 7541 appendix C.6.1 and C.6.2.
            (&[0x48, 0x82, 0x64, 0x02], Some(302)),
            (&[0x48, 0x83, 0x64, 0x0e, 0xff], Some(307)),
            (&[0x48, 0x82, 0x64], None),
            (&[0x40], None),
            (&[], None),
        ] {
            assert_eq!(status_of(block), status, "{block:x?}");
        }
    }

    #[test]
    fn a_table_that_is_too_small_is_not_used() {
        let head = Head {
            authority: "localhost:1".into(),
            path: "/authenticate".into(),
            content_type: "application/json",
            accept: "application/json",
            user_agent: "a",
        };
        let plain = without_indexing(&head.first());
        // No literal with incremental indexing is left: the names' numbers are 1, 4, 31, 19 and 58, with four bits of prefix.
        assert!(
            plain.starts_with(b"\x83\x87\x01\x0blocalhost:1\x04\x0d/authenticate\x0f\x10\x10application/json\x0f\x04\x10"),
            "{plain:x?}"
        );
        assert!(plain.ends_with(b"\x0f\x2b\x01a"), "{plain:x?}");
    }

    #[test]
    fn writes_numbers_as_rfc_7541_does() {
        let written = |flags, prefix, value| {
            let mut out = Vec::new();
            integer(&mut out, flags, prefix, value);
            out
        };
        assert_eq!(written(0, 5, 10), [10], "appendix C.1.1");
        assert_eq!(written(0, 5, 1337), [31, 154, 10], "appendix C.1.2");
        let mut room = [0; CONTENT_LENGTH_BYTES];
        assert_eq!(content_length(1603, &mut room), b"\x0f\x0d\x041603");
        assert_eq!(content_length(0, &mut room), b"\x0f\x0d\x010");
        assert_eq!(content_length(usize::MAX, &mut room), format!("\x0f\x0d\x14{}", usize::MAX).as_bytes());
    }
}
