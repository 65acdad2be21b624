//! From written text into a hash or a MAC.

use core::fmt;

use sha2::digest::Update;

use crate::percent::WriteAscii;

/// The digest that `start` makes, fed with all that `write` writes.
#[inline]
pub(super) fn feed<D: Update, S: Fn() -> D>(start: S, write: impl FnOnce(&mut Feed<D, S>) -> fmt::Result) -> D {
    let mut feed = Feed { start, digest: None, room: Room([0; ROOM_BYTES]), used: 0 };
    // Whatever is written is taken.
    let _ = write(&mut feed);
    let Feed { start, digest, room, used } = feed;
    let mut digest = digest.unwrap_or_else(start);
    digest.update(room.0.get(..used).unwrap_or_default());
    digest
}

/// Bytes of a block of SHA-256.
const BLOCK_BYTES: usize = 64;
/// Room for what is short: a whole number of blocks.
const ROOM_BYTES: usize = 4 * BLOCK_BYTES;

/// Begins where a line of the cache does, so that a block lies in one.
#[repr(align(64))]
struct Room([u8; ROOM_BYTES]);

/// Gathers short pieces before a digest gets them: to a digest each piece is as much work as a block of its own, whatever its length. It gets
/// whole blocks until the last time, so that it has none to put together; and it is not started before there is something for it, since what
/// was written a moment ago is slow to read.
pub(super) struct Feed<D, S> {
    start: S,
    digest: Option<D>,
    room: Room,
    used: usize,
}

impl<D: Update, S: Fn() -> D> Feed<D, S> {
    fn fits(&mut self, bytes: &[u8]) -> bool {
        let end = self.used.saturating_add(bytes.len());
        let Some(place) = self.room.0.get_mut(self.used..end) else { return false };
        place.copy_from_slice(bytes);
        self.used = end;
        true
    }

    /// Takes what does not fit. Apart, so that the other way is short enough to be inlined.
    #[inline(never)]
    fn take_long(&mut self, bytes: &[u8]) {
        let (first, rest) = bytes.split_at_checked(ROOM_BYTES.saturating_sub(self.used)).unwrap_or_default();
        self.fits(first);
        self.used = 0;
        let (blocks, last) = rest.as_chunks::<BLOCK_BYTES>();
        let digest = self.digest.get_or_insert_with(&self.start);
        digest.update(&self.room.0);
        digest.update(blocks.as_flattened());
        self.fits(last);
    }
}

impl<D: Update, S: Fn() -> D> fmt::Write for Feed<D, S> {
    #[inline]
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.write_ascii(text.as_bytes())
    }
}

impl<D: Update, S: Fn() -> D> WriteAscii for Feed<D, S> {
    #[inline]
    fn write_ascii(&mut self, text: &[u8]) -> fmt::Result {
        if !self.fits(text) {
            self.take_long(text);
        }
        Ok(())
    }
}
