//! Inclusion and consistency proofs of RFC 6962, made from leaf hashes and checked against roots.
//!
//! An inclusion proof shows to somebody who holds one checkpoint that a record is under it; a consistency proof shows
//! that a newer checkpoint continues an older one. Checking follows RFC 9162, sections 2.1.3.2 and 2.1.4.2.

use std::ops::Range;

use agentos_types::{Code, Fault, Result};

use crate::merkle::{Frontier, Hash, node_hash};

/// Longest proof of a tree whose size fits 64 bits.
const PROOF_NODES_MAX: usize = 64;

fn root_of(leaves: &[Hash]) -> Hash {
    leaves.iter().copied().collect::<Frontier>().root()
}

/// The largest power of two smaller than `size` (which is at least 2): where RFC 6962 splits a tree.
fn split(size: usize) -> usize {
    1 << (size - 1).ilog2()
}

/// Audit path of the leaf at `index`; `None` when there is no such leaf.
pub fn inclusion_proof(leaves: &[Hash], index: usize) -> Option<Vec<Hash>> {
    (index < leaves.len()).then(|| {
        let mut proof = Vec::new();
        let (mut tree, mut index) = (leaves, index);
        while tree.len() > 1 {
            let (left, right) = tree.split_at(split(tree.len()));
            if index < left.len() {
                proof.push(root_of(right));
                tree = left;
            } else {
                proof.push(root_of(left));
                index -= left.len();
                tree = right;
            }
        }
        proof.reverse();
        proof
    })
}

/// Proof that the first `old_size` leaves are a prefix of all; `None` when there are fewer leaves.
pub fn consistency_proof(leaves: &[Hash], old_size: usize) -> Option<Vec<Hash>> {
    (old_size <= leaves.len()).then(|| {
        let mut proof = Vec::new();
        let (mut tree, mut old) = (leaves, old_size);
        // While true, the old tree is a whole subtree whose root the verifier already has.
        let mut known = true;
        while old > 0 && old < tree.len() {
            let (left, right) = tree.split_at(split(tree.len()));
            if old <= left.len() {
                proof.push(root_of(right));
                tree = left;
            } else {
                proof.push(root_of(left));
                old -= left.len();
                tree = right;
                known = false;
            }
        }
        if !known {
            proof.push(root_of(tree));
        }
        proof.reverse();
        proof
    })
}

/// The same proof for a log that is too long to hold in memory: what lies before `old` is told by its frontier, the leaf
/// hashes after it come one by one, up to the new size.
pub fn consistency_proof_from(
    old: &Frontier,
    new_size: u64,
    later: impl Iterator<Item = Result<Hash>>,
) -> Result<Vec<Hash>> {
    let ranges = consistency_ranges(old.size(), new_size);
    let mut later = later;
    let mut roots: Vec<(Range<u64>, Hash)> = old.peaks().filter(|(leaves, _)| ranges.contains(leaves)).collect();
    let mut after: Vec<&Range<u64>> = ranges.iter().filter(|leaves| leaves.start >= old.size()).collect();
    after.sort_unstable_by_key(|leaves| leaves.start);
    // Without a gap from the old size on, so that one pass over the leaves fills all of them.
    for leaves in after {
        let mut subtree = Frontier::new();
        while subtree.size() < leaves.end - leaves.start {
            let leaf = later
                .next()
                .transpose()?
                .ok_or_else(|| Fault::new(Code::AUDIT_TAMPERED, format!("records below {new_size} are missing")))?;
            subtree.append(leaf);
        }
        roots.push((leaves.clone(), subtree.root()));
    }
    let root_of = |wanted: &Range<u64>| roots.iter().find(|(leaves, _)| leaves == wanted).map(|(_, root)| *root);
    let proof: Option<Vec<Hash>> = ranges.iter().map(root_of).collect();
    proof.ok_or_else(|| Fault::internal("a frontier does not fit its size"))
}

/// The subtrees of a consistency proof in its order, by the leaves that they cover.
fn consistency_ranges(old: u64, new: u64) -> Vec<Range<u64>> {
    let mut ranges = Vec::new();
    let (mut start, mut end) = (0, new);
    let mut known = true;
    // Halves the range in each round, so at most 64 times.
    while old > start && old < end {
        let middle = start + (1 << (end - start - 1).ilog2());
        if old <= middle {
            ranges.push(middle..end);
            end = middle;
        } else {
            ranges.push(start..middle);
            start = middle;
            known = false;
        }
    }
    if !known {
        ranges.push(start..end);
    }
    ranges.reverse();
    ranges
}

/// Whether `proof` shows that `leaf` is leaf number `index` of the tree with `size` leaves and this root.
pub fn verify_inclusion(leaf: &Hash, index: u64, size: u64, proof: &[Hash], root: &Hash) -> bool {
    if index >= size || proof.len() > PROOF_NODES_MAX {
        return false;
    }
    let (mut node_index, mut last_index, mut hash) = (index, size - 1, *leaf);
    for sibling in proof {
        if last_index == 0 {
            return false;
        }
        if node_index & 1 == 1 || node_index == last_index {
            hash = node_hash(sibling, &hash);
            while node_index & 1 == 0 && node_index != 0 {
                node_index >>= 1;
                last_index >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        node_index >>= 1;
        last_index >>= 1;
    }
    last_index == 0 && hash == *root
}

/// Whether `proof` shows that the tree `old` (size, root) is a prefix of the tree `new`. The empty tree is a prefix of all.
pub fn verify_consistency(old: (u64, &Hash), new: (u64, &Hash), proof: &[Hash]) -> bool {
    let ((old_size, old_root), (new_size, new_root)) = (old, new);
    if old_size == 0 || old_size >= new_size || proof.len() > PROOF_NODES_MAX {
        let same = old_size == new_size && old_root == new_root;
        let from_empty = old_size == 0 && new_size > 0 && *old_root == crate::merkle::empty_root();
        return proof.is_empty() && (same || from_empty);
    }
    // A whole subtree is not repeated in the proof: its root is the old root itself.
    let mut nodes = proof.iter();
    let first = if old_size.is_power_of_two() { Some(old_root) } else { nodes.next() };
    let Some(first) = first else { return false };
    let skip = (old_size - 1).trailing_ones();
    let (mut node_index, mut last_index) = ((old_size - 1) >> skip, (new_size - 1) >> skip);
    let (mut old_hash, mut new_hash) = (*first, *first);
    for node in nodes {
        if last_index == 0 {
            return false;
        }
        if node_index & 1 == 1 || node_index == last_index {
            old_hash = node_hash(node, &old_hash);
            new_hash = node_hash(node, &new_hash);
            while node_index & 1 == 0 && node_index != 0 {
                node_index >>= 1;
                last_index >>= 1;
            }
        } else {
            new_hash = node_hash(&new_hash, node);
        }
        node_index >>= 1;
        last_index >>= 1;
    }
    last_index == 0 && old_hash == *old_root && new_hash == *new_root
}

#[cfg(test)]
mod tests {
    use agentos_types::hex;

    use super::*;
    use crate::merkle::{leaf_hash, vectors};

    fn hashes(texts: &[&str]) -> Vec<Hash> {
        texts.iter().map(|text| hex::decode(text).unwrap()).collect()
    }

    fn check_inclusion(index: usize, size: usize, expected: &[&str]) {
        let leaves = vectors::leaves();
        let proof = inclusion_proof(&leaves[..size], index).unwrap();
        assert_eq!(proof, hashes(expected), "leaf {index} of {size}");
        assert!(verify_inclusion(&leaves[index], index as u64, size as u64, &proof, &vectors::root(size)));
    }

    fn check_consistency(old: usize, new: usize, expected: &[&str]) {
        let proof = consistency_proof(&vectors::leaves()[..new], old).unwrap();
        assert_eq!(proof, hashes(expected), "{old} to {new}");
        let (old_root, new_root) = (vectors::root(old), vectors::root(new));
        assert!(verify_consistency((old as u64, &old_root), (new as u64, &new_root), &proof));
    }

    const LEAVES_0_1: &str = "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125";
    const LEAVES_2_3: &str = "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e";
    const LEAVES_0_3: &str = "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7";
    const LEAVES_4_5: &str = "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a";
    const LEAVES_6_7: &str = "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0";
    const LEAVES_4_7: &str = "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4";
    const LEAF_1: &str = "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7";
    const LEAF_4: &str = "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b";

    #[test]
    fn reference_vectors() {
        check_inclusion(0, 1, &[]);
        check_inclusion(0, 8, &[LEAF_1, LEAVES_2_3, LEAVES_4_7]);
        check_inclusion(5, 8, &[LEAF_4, LEAVES_6_7, LEAVES_0_3]);
        check_inclusion(2, 3, &[LEAVES_0_1]);
        check_consistency(1, 1, &[]);
        check_consistency(1, 8, &[LEAF_1, LEAVES_2_3, LEAVES_4_7]);
        check_consistency(6, 8, &[LEAVES_4_5, LEAVES_6_7, LEAVES_0_3]);
        check_consistency(2, 5, &[LEAVES_2_3, LEAF_4]);
    }

    /// All pairs up to 40 leaves, with every single-bit lie about a proof's inputs refused.
    #[test]
    fn every_proof_verifies_and_nothing_near_it_does() {
        let leaves: Vec<Hash> = (0..40_u8).map(|number| leaf_hash(&[number])).collect();
        let roots: Vec<Hash> = (0..=40).map(|size| root_of(&leaves[..size])).collect();
        for size in 1..=40_usize {
            for index in 0..size {
                let proof = inclusion_proof(&leaves[..size], index).unwrap();
                let holds = |leaf: &Hash, index: usize, size: usize, proof: &[Hash], root: &Hash| {
                    verify_inclusion(leaf, index as u64, size as u64, proof, root)
                };
                assert!(holds(&leaves[index], index, size, &proof, &roots[size]));
                assert!(!holds(&leaves[(index + 1) % 40], index, size, &proof, &roots[size]));
                assert!(!holds(&leaves[index], index, size, &proof, &roots[size - 1]));
                assert!(!holds(&leaves[index], index + 1, size, &proof, &roots[size]));
                assert!(!holds(&leaves[index], index, size, &[proof.as_slice(), &[[1; 32]]].concat(), &roots[size]));
                for position in 0..proof.len() {
                    let mut changed = proof.clone();
                    changed[position][7] ^= 4;
                    assert!(!holds(&leaves[index], index, size, &changed, &roots[size]));
                    changed.remove(position);
                    assert!(!holds(&leaves[index], index, size, &changed, &roots[size]));
                }
            }
        }
    }

    #[test]
    fn a_proof_from_a_frontier_is_the_same_proof() {
        let leaves: Vec<Hash> = (0..70_u8).map(|number| leaf_hash(&[number])).collect();
        for new in 1..=70_usize {
            for old in 0..=new {
                let frontier: Frontier = leaves[..old].iter().copied().collect();
                let later = leaves[old..new].iter().copied().map(Ok);
                let proof = consistency_proof_from(&frontier, new as u64, later).unwrap();
                assert_eq!(Some(proof), consistency_proof(&leaves[..new], old), "{old} to {new}");
            }
        }
        let frontier: Frontier = leaves[..5].iter().copied().collect();
        let cut = consistency_proof_from(&frontier, 9, leaves[5..8].iter().copied().map(Ok)).unwrap_err();
        assert_eq!(cut.code, Code::AUDIT_TAMPERED);
        // A log that has become shorter has no proof, and none is made up.
        assert!(consistency_proof_from(&frontier, 3, std::iter::empty()).unwrap().is_empty());
    }

    #[test]
    fn consistency_of_every_pair_and_of_no_fork() {
        let leaves: Vec<Hash> = (0..40_u8).map(|number| leaf_hash(&[number])).collect();
        let mut fork = leaves.clone();
        fork[0] = leaf_hash(b"another history");
        let root = |leaves: &[Hash], size: usize| root_of(&leaves[..size]);
        for new in 1..=40_usize {
            for old in 0..=new {
                let proof = consistency_proof(&leaves[..new], old).unwrap();
                let (old_root, new_root) = (root(&leaves, old), root(&leaves, new));
                let old_tree = (old as u64, &old_root);
                assert!(verify_consistency(old_tree, (new as u64, &new_root), &proof), "{old} to {new}");
                if old > 0 {
                    let forked = root(&fork, new);
                    assert!(!verify_consistency(old_tree, (new as u64, &forked), &proof));
                    let fork_proof = consistency_proof(&fork[..new], old).unwrap();
                    assert!(!verify_consistency(old_tree, (new as u64, &forked), &fork_proof));
                }
            }
        }
        assert!(consistency_proof(&leaves, 41).is_none() && inclusion_proof(&leaves, 40).is_none());
        assert!(!verify_consistency((5, &root(&leaves, 5)), (4, &root(&leaves, 4)), &[]), "trees do not shrink");
    }
}
