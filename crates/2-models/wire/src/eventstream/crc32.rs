//! CRC-32 as in gzip (RFC 1952, section 8), by a table that the compiler makes.

const POLYNOMIAL: u32 = 0xedb8_8320;
const TABLE: [u32; 256] = table();

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut at = 0;
    while at < 256 {
        let mut sum = at as u32;
        let mut bit = 0;
        while bit < 8 {
            sum = if sum & 1 == 1 { (sum >> 1) ^ POLYNOMIAL } else { sum >> 1 };
            bit += 1;
        }
        table[at] = sum;
        at += 1;
    }
    table
}

pub fn crc32(bytes: &[u8]) -> u32 {
    let step = |sum: u32, byte: &u8| {
        let [low, ..] = (sum ^ u32::from(*byte)).to_le_bytes();
        (sum >> 8) ^ TABLE.get(usize::from(low)).copied().unwrap_or_default()
    };
    !bytes.iter().fold(!0, step)
}
