//! What the launcher tells a sandbox's first process: one block of memory with a header, the filter that goes in force with
//! the program, and words that end with NUL: the directory, the command, the environment.
//!
//! Both programs have this file: the one writes what the other reads, and neither of them needs a parser.

/// Bytes of the header: four counts of four bytes, three places of eight.
pub const HEADER_BYTES: usize = 4 * 4 + 3 * 8;
/// Bytes of an instruction of a filter.
pub const INSTRUCTION_BYTES: usize = 8;

/// In the byte order of the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Words of the command; never 0.
    pub command: u32,
    /// Words of the environment, `NAME=value`.
    pub environment: u32,
    /// Instructions of the filter; 0: there is none.
    pub filter: u32,
    /// 1 for an init that may be looked into, which only a launcher for tests makes.
    pub is_open: u32,
    /// With a filter: the addresses of path, arguments and variables of the one call of `execve` that it lets through.
    pub places: [u64; 3],
}

impl Header {
    fn decode(bytes: &[u8; HEADER_BYTES]) -> Self {
        let (first, second) = bytes.split_at(4 * 4);
        let mut counts = first.chunks_exact(4).map(|field| field.try_into().map_or(0, u32::from_ne_bytes));
        let mut count = || counts.next().unwrap_or_default();
        let (command, environment, filter, is_open) = (count(), count(), count(), count());
        let mut places = [0; 3];
        for (place, field) in places.iter_mut().zip(second.chunks_exact(8)) {
            *place = field.try_into().map_or(0, u64::from_ne_bytes);
        }
        Self { command, environment, filter, is_open, places }
    }
}

/// A view into the block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan<'a> {
    pub header: Header,
    pub filter: &'a [u8],
    /// With its NUL, like every word.
    pub directory: &'a [u8],
    words: &'a [u8],
}

impl<'a> Plan<'a> {
    /// `None` for a block that is not whole.
    pub fn read(block: &'a [u8]) -> Option<Self> {
        let (header, rest) = block.split_first_chunk()?;
        let header = Header::decode(header);
        let (filter, words) = rest.split_at_checked((header.filter as usize).checked_mul(INSTRUCTION_BYTES)?)?;
        let wanted = 1 + header.command as usize + header.environment as usize;
        let is_whole = words.last() == Some(&0) && words.iter().filter(|byte| **byte == 0).count() == wanted;
        if header.command == 0 || !is_whole {
            return None;
        }
        let end = words.iter().position(|byte| *byte == 0)? + 1;
        let (directory, words) = words.split_at_checked(end)?;
        Some(Self { header, filter, directory, words })
    }

    pub fn command(&self) -> impl Iterator<Item = &'a [u8]> + Clone + use<'a> {
        self.words().take(self.header.command as usize)
    }

    pub fn environment(&self) -> impl Iterator<Item = &'a [u8]> + Clone + use<'a> {
        self.words().skip(self.header.command as usize)
    }

    fn words(&self) -> impl Iterator<Item = &'a [u8]> + Clone + use<'a> {
        self.words.split_inclusive(|byte| *byte == 0)
    }
}
