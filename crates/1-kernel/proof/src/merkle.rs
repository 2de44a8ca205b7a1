//! The Merkle tree of RFC 6962 as its right edge: all that a writer must keep to append and to know the root.

use std::ops::Range;

use agentos_types::{Code, Fault, Result};
use sha2::{Digest, Sha256};

/// SHA-256.
pub type Hash = [u8; 32];

/// Hash of a leaf's bytes: SHA-256(0x00 || bytes).
pub fn leaf_hash(bytes: &[u8]) -> Hash {
    Sha256::new().chain_update([0]).chain_update(bytes).finalize().into()
}

/// Hash of an inner node: SHA-256(0x01 || left || right). The two prefixes keep a leaf from posing as a node.
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// Root of the empty tree: SHA-256 of nothing.
pub fn empty_root() -> Hash {
    Sha256::digest([]).into()
}

/// The roots of the perfect subtrees of a log, widest first: one for each 1 bit of its size, so at most 64.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    peaks: Vec<Hash>,
}

impl Frontier {
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf by its hash. Each trailing 1 bit of the old size is a subtree of the new leaf's own height: merge.
    pub fn append(&mut self, leaf: Hash) {
        let mut node = leaf;
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.peaks.pop() {
                node = node_hash(&left, &node);
            }
        }
        self.peaks.push(node);
        self.size += 1;
    }

    /// Root over all leaves so far.
    pub fn root(&self) -> Hash {
        let narrowest_first = self.peaks.iter().rev().copied();
        narrowest_first.reduce(|right, left| node_hash(&left, &right)).unwrap_or_else(empty_root)
    }

    /// The perfect subtrees, widest first, each with the leaves that it covers.
    pub fn peaks(&self) -> impl Iterator<Item = (Range<u64>, Hash)> {
        let (size, mut start) = (self.size, 0);
        let widths = (0..u64::BITS).rev().map(|bit| 1 << bit).filter(move |width| size & width != 0);
        widths.zip(self.peaks.iter().copied()).map(move |(width, hash)| {
            let leaves = start..start + width;
            start = leaves.end;
            (leaves, hash)
        })
    }

    /// Hash of the newest leaf, which the frontier knows only at an odd size.
    pub fn last_leaf(&self) -> Option<Hash> {
        self.peaks.last().copied().filter(|_| self.size % 2 == 1)
    }

    /// Storage form: the size as a big-endian u64, then the subtree roots, widest first.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.size.to_be_bytes().to_vec();
        bytes.extend(self.peaks.iter().flatten());
        bytes
    }

    /// Refuses a length that does not fit the size. The hashes themselves are proven only by a signed root.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let damaged = || Fault::new(Code::AUDIT_TAMPERED, "a stored Merkle frontier is damaged");
        let (size, rest) = bytes.split_first_chunk::<8>().ok_or_else(damaged)?;
        let size = u64::from_be_bytes(*size);
        let (peaks, odd) = rest.as_chunks::<32>();
        if !odd.is_empty() || peaks.len() != size.count_ones() as usize {
            return Err(damaged());
        }
        Ok(Self { size, peaks: peaks.to_vec() })
    }
}

impl FromIterator<Hash> for Frontier {
    fn from_iter<I: IntoIterator<Item = Hash>>(leaves: I) -> Self {
        let mut frontier = Self::new();
        leaves.into_iter().for_each(|leaf| frontier.append(leaf));
        frontier
    }
}

#[cfg(test)]
pub(crate) mod vectors {
    use super::*;
    use agentos_types::hex;

    /// The eight leaves of the Certificate Transparency reference tests.
    pub const LEAVES: [&[u8]; 8] = [
        b"",
        &[0x00],
        &[0x10],
        &[0x20, 0x21],
        &[0x30, 0x31],
        &[0x40, 0x41, 0x42, 0x43],
        &[0x50, 0x51, 0x52, 0x53, 0x54, 0x55, 0x56, 0x57],
        &[0x60, 0x61, 0x62, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x6b, 0x6c, 0x6d, 0x6e, 0x6f],
    ];

    /// Roots of the first 0 to 8 leaves.
    pub const ROOTS: [&str; 9] = [
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];

    pub fn leaves() -> Vec<Hash> {
        LEAVES.iter().map(|leaf| leaf_hash(leaf)).collect()
    }

    pub fn root(size: usize) -> Hash {
        hex::decode(ROOTS[size]).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_are_those_of_the_reference_tests() {
        let leaves = vectors::leaves();
        for size in 0..=8 {
            let frontier: Frontier = leaves[..size].iter().copied().collect();
            assert_eq!(frontier.root(), vectors::root(size), "size {size}");
            assert_eq!(frontier.last_leaf(), leaves[..size].last().copied().filter(|_| size % 2 == 1));
        }
    }

    #[test]
    fn storage_form_round_trips_and_refuses_other_lengths() {
        let mut frontier = Frontier::new();
        for number in 0..200_u8 {
            let bytes = frontier.to_bytes();
            assert_eq!(Frontier::from_bytes(&bytes).unwrap(), frontier);
            assert!(Frontier::from_bytes(&bytes[..bytes.len() - 1]).is_err());
            assert!(Frontier::from_bytes(&[bytes.as_slice(), &[0; 32]].concat()).is_err());
            frontier.append(leaf_hash(&[number]));
        }
    }
}
