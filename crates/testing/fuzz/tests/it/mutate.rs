//! Changes to an input, decided by a seed alone.

/// Longest input that is made.
const BYTES_MAX: usize = 4_096;
/// Bytes that readers treat in a way of their own.
const SPECIAL: &[u8] = b"\0\n\r\"\\{}[]:,.+-*/%@#&=~^_ 09azAZ\x7f\x80\xc3\xe2\xf0\xff";

/// xorshift64*: small, and the same on every machine.
pub struct Mutator(u64);

impl Mutator {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let value = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(value).unwrap() % bound.max(1)
    }

    pub fn mutate(&mut self, corpus: &[(String, Vec<u8>)]) -> Vec<u8> {
        let mut input = corpus[self.below(corpus.len())].1.clone();
        for _ in 0..=self.below(6) {
            let at = self.below(input.len() + 1);
            match self.below(8) {
                0 if at < input.len() => input[at] ^= 1 << self.below(8),
                1 if at < input.len() => input[at] = SPECIAL[self.below(SPECIAL.len())],
                2 => input.insert(at, SPECIAL[self.below(SPECIAL.len())]),
                3 if at < input.len() => drop(input.remove(at)),
                4 => input.truncate(at),
                5 => {
                    let end = at + self.below(input.len() - at + 1);
                    let copied = input[at..end].to_vec();
                    let to = self.below(input.len() + 1);
                    input.splice(to..to, copied);
                }
                6 => {
                    let other = &corpus[self.below(corpus.len())].1;
                    let from = self.below(other.len() + 1);
                    input.truncate(at);
                    input.extend_from_slice(&other[from..]);
                }
                _ => {
                    let digits = self.below(usize::MAX).to_string();
                    input.splice(at..at, digits.into_bytes());
                }
            }
            input.truncate(BYTES_MAX);
        }
        input
    }
}
