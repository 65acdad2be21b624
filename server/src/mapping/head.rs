//! What stands before the texts of a mapping in the arena of its backend.
//!
//! Among a hundred thousand mappings nearly all that a look-up waits for is memory. With the numbers of a mapping in one place and its texts in another it waits
//! twice, the second time for what the first has told. So the numbers stand before the texts, and both come with the same lines of the cache, or with the next
//! ones, which the processor fetches ahead. The arena stays a `String`, whose parts are text without being checked again: a number is written in bytes of seven bits.

/// The numbers of a mapping that a look-up and its answer need, to be written; each is read by itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    /// Which of the backend's forms it has.
    pub(super) form: usize,
    pub(super) username_length: usize,
    /// Where in the arena the list of its groups is.
    pub(super) groups: usize,
    /// Which mapping of its backend it is.
    pub(super) number: usize,
}

impl Head {
    /// How much of the arena it takes.
    pub(super) const LENGTH: usize = 4 * NUMBER_LENGTH;

    /// Appends it.
    pub(super) fn write(self, arena: &mut String) {
        let Self { form, username_length, groups, number } = self;
        [form, username_length, groups, number].into_iter().for_each(|number| write_number(number, arena));
    }

    /// The form in the head that a text begins with; none, if it was too big a number, or there is no head.
    pub(super) fn form(text: &str) -> Option<usize> {
        number_at(text, 0)
    }

    pub(super) fn username_length(text: &str) -> Option<usize> {
        number_at(text, 1)
    }

    pub(super) fn groups(text: &str) -> Option<usize> {
        number_at(text, 2)
    }

    pub(super) fn number(text: &str) -> Option<usize> {
        number_at(text, 3)
    }
}

/// How much of the arena a number takes: four times seven bits.
pub(super) const NUMBER_LENGTH: usize = 4;
/// What is written for a number that is too big, and read as none. So an arena has no more than 256 MiB, which is two million mappings.
pub(super) const BEYOND: u32 = (1 << 28) - 1;

/// Appends a number.
pub(super) fn write_number(number: usize, arena: &mut String) {
    let number = u32::try_from(number).map_or(BEYOND, |number| number.min(BEYOND));
    let digits = [number, number >> 7, number >> 14, number >> 21].map(|digits| digits & 0x7F);
    arena.extend(digits.iter().filter_map(|digit| char::from_u32(*digit)));
}

/// One of the numbers that a text begins with.
pub(super) fn number_at(text: &str, index: usize) -> Option<usize> {
    let bytes = u32::from_le_bytes(*text.as_bytes().get(index.checked_mul(NUMBER_LENGTH)?..)?.first_chunk()?);
    // Bytes that are next to each other, and then these pairs.
    let pairs = bytes & 0x007F_007F | (bytes & 0x7F00_7F00) >> 1;
    let number = pairs & 0x3FFF | (pairs & 0x3FFF_0000) >> 2;
    if number == BEYOND { None } else { usize::try_from(number).ok() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> [Option<usize>; 4] {
        [Head::form(text), Head::username_length(text), Head::groups(text), Head::number(text)]
    }

    fn written([form, username_length, groups, number]: [usize; 4]) -> String {
        let mut arena = String::new();
        Head { form, username_length, groups, number }.write(&mut arena);
        arena
    }

    proptest! {
        #[test]
        fn is_read_as_it_was_written(numbers in prop::array::uniform4(0..BEYOND), after in "[a-z\u{e9}]{0,9}") {
            let numbers = numbers.map(|number| usize::try_from(number).unwrap());
            let head = written(numbers);
            prop_assert!(head.len() == Head::LENGTH && head.is_ascii());
            prop_assert_eq!(read(&(head + &after)), numbers.map(Some));
        }
    }

    #[test]
    fn keeps_every_bit() {
        let all = usize::try_from(BEYOND).unwrap();
        for bit in 0..28 {
            let numbers = [1 << bit, all - (1 << bit), 0, bit];
            assert_eq!(read(&written(numbers)), numbers.map(Some));
        }
    }

    #[test]
    fn a_number_that_is_too_big_or_not_there_is_none() {
        let all = usize::try_from(BEYOND).unwrap();
        assert_eq!(read(&written([all, 1 << 32, usize::MAX, all - 1])), [None, None, None, Some(all - 1)]);
        let head = written([1, 2, 3, 4]);
        assert_eq!(read(&head[..Head::LENGTH - 1]), [Some(1), Some(2), Some(3), None]);
        assert_eq!(read(""), [None; 4]);
        assert_eq!(number_at(&head, usize::MAX), None);
    }
}
