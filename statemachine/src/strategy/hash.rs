//! The numbers that strategies compare: made of ids, the same in every language and on every machine.
//!
//! Ids and keys are hashed with SHA-256, which every standard library has; what is compared often is mixed from that with
//! the finalizer of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014, with David Stafford's constants "Mix13").

use sha2::{Digest, Sha256};

/// The first eight bytes, big-endian, of SHA-256 over `domain`, a zero byte and `text`.
pub(super) fn seed(domain: &str, text: &[u8]) -> u64 {
    let hash = Sha256::new()
        .chain_update(domain.as_bytes())
        .chain_update([0])
        .chain_update(text)
        .finalize();
    hash.iter().take(8).fold(0, |seed, byte| seed << 8 | u64::from(*byte))
}

/// The finalizer of SplitMix64.
pub(super) const fn mix(mut x: u64) -> u64 {
    x ^= x >> 30;
    x = x.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x ^= x >> 27;
    x = x.wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

/// The `index`-th of the numbers that a seed stands for: SplitMix64's sequence.
pub(super) const fn nth(seed: u64, index: u64) -> u64 {
    mix(seed.wrapping_add(index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15)))
}

const STEPS: usize = 1024;
const FRACTION: u32 = 32;

/// log2(1 + i / 1024) in 1/2^32, rounded down: one bit at a time by squaring (Knuth, TAOCP 1.2.2, exercise 25).
static LOG2: [u64; STEPS + 1] = {
    let mut table = [0; STEPS + 1];
    let mut i = 0;
    while i < STEPS {
        // 1 <= x < 2 with 62 bits behind the point.
        let mut x: u128 = (1 << 62) + ((i as u128) << 52);
        let mut bits = 0;
        let mut log = 0;
        while bits < FRACTION {
            x = (x * x) >> 62;
            log <<= 1;
            if x >> 63 == 1 {
                log |= 1;
                x >>= 1;
            }
            bits += 1;
        }
        table[i] = log;
        i += 1;
    }
    table[STEPS] = 1 << FRACTION;
    table
};

/// -log2(hash / 2^64) in 1/2^32, by straight lines between 1,025 points of the logarithm. At most 64 * 2^32.
pub(super) fn exponential(hash: u64) -> u64 {
    let hash = hash | 1;
    let zeros = hash.leading_zeros();
    // The one in front is shifted out: ten bits choose the line, the 32 behind them the point on it.
    let rest = (hash << zeros) << 1;
    let line = (rest >> 54) as usize;
    let along = (rest >> 22) & 0xffff_ffff;
    let (from, to) = (LOG2[line], LOG2[line + 1]);
    let log = from + (((to - from) * along) >> 32);
    ((u64::from(zeros) + 1) << FRACTION) - log
}
