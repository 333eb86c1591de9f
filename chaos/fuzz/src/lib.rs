//! Inputs that nobody would write: valid samples, changed a little. For tests of whatever reads what others wrote.
//!
//! A crate's test gives [`run`] its targets; `scripts/fuzz.sh` runs those of all crates with millions of inputs.
//! `MESHKIT_FUZZ_INPUTS` says how many (as many as a test has time for, otherwise), `MESHKIT_FUZZ_SEED` which; a failure
//! names both and shows the input.
//!
//! Only for tests: nothing here returns errors.
#![allow(clippy::print_stdout, clippy::print_stderr, clippy::expect_used)]

/// Words that mean something somewhere.
const WORDS: [&str; 34] = [
    "",
    "*",
    "\"",
    "\\",
    "..",
    "/",
    ":",
    "%",
    "%2F",
    "%3a",
    "%00",
    "%zz",
    "?",
    "&",
    "=",
    ",",
    "!=",
    " ",
    "\u{0}",
    "\u{7f}",
    "\u{feff}",
    "\u{10ffff}",
    "null",
    "true",
    "-1",
    "1e309",
    "9007199254740993",
    "18446744073709551616",
    "{",
    "}",
    "[",
    "{\"id\":\"p\"}",
    "2026-11-21T00:00:00Z",
    "99999999999999999999s",
];

/// Small and good enough (Steele, Lea, Flood: "Fast splittable pseudorandom number generators").
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// The same numbers for the same seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `bound`; 0 where that is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % (bound.max(1) as u64)) as usize
    }

    /// One of several, of which there is at least one.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}

/// A sample with a few changes.
pub fn changed(rng: &mut Rng, samples: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = rng.pick(samples).clone();
    for _ in 0..1 + rng.below(4) {
        let at = rng.below(bytes.len() + 1);
        match rng.below(8) {
            0 => bytes.truncate(at),
            1 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << rng.below(8);
                }
            }
            2 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = *rng.pick(&[0, 1, 0x7f, 0x80, 0xfa, 0xfb, 0xfc, 0xfd, 0xff]);
                }
            }
            3 => bytes.insert(at, rng.next() as u8),
            4 => {
                let word = rng.pick(&WORDS).as_bytes();
                bytes.splice(at..at, word.iter().copied());
            }
            5 => {
                let end = (at + 1 + rng.below(8)).min(bytes.len());
                bytes.drain(at..end);
            }
            6 => {
                let other = rng.pick(samples);
                let from = rng.below(other.len());
                let end = (from + 1 + rng.below(32)).min(other.len());
                let part = other.get(from..end).unwrap_or_default().to_vec();
                bytes.splice(at..at, part);
            }
            _ => {
                let end = (at + 1 + rng.below(16)).min(bytes.len());
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
        }
    }
    bytes
}

/// Something that reads, with `S` at hand.
pub struct Target<S> {
    /// What it is called where it fails.
    pub name: &'static str,
    /// What the changing begins with.
    pub samples: fn(&S) -> &Vec<Vec<u8>>,
    /// Reads, and looks whether what came of it holds.
    pub read: fn(&S, &mut Rng, &[u8]),
}

impl<S> Target<S> {
    /// One of a table of targets.
    pub const fn new(name: &'static str, samples: fn(&S) -> &Vec<Vec<u8>>, read: fn(&S, &mut Rng, &[u8])) -> Self {
        Self { name, samples, read }
    }
}

/// Says what was read when its reader panics.
#[derive(Debug)]
pub struct Shown<'a> {
    /// Of the whole run.
    pub seed: u64,
    /// Who read.
    pub target: &'static str,
    /// What.
    pub bytes: &'a [u8],
}

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "seed {}: {} failed at {:?}",
                self.seed,
                self.target,
                String::from_utf8_lossy(self.bytes)
            );
            eprintln!("as bytes: {:?}", self.bytes);
        }
    }
}

/// How many inputs are asked for, or else `inputs`, and the seed.
///
/// # Panics
/// What the environment says is no number.
#[must_use]
pub fn asked(inputs: u64) -> (u64, u64) {
    let number =
        |name: &str, otherwise| std::env::var(name).map_or(otherwise, |number| number.parse().expect("a number"));
    (number("MESHKIT_FUZZ_INPUTS", inputs), number("MESHKIT_FUZZ_SEED", 1))
}

/// Gives the targets inputs in turn, `inputs` in all where nobody asks for more.
///
/// # Panics
/// A target did.
pub fn run<S>(samples: &S, targets: &[Target<S>], inputs: u64) {
    let (inputs, seed) = asked(inputs);
    let mut rng = Rng::new(seed);
    for (_, target) in (0..inputs).zip(targets.iter().cycle()) {
        let bytes = changed(&mut rng, (target.samples)(samples));
        let shown = Shown {
            seed,
            target: target.name,
            bytes: &bytes,
        };
        (target.read)(samples, &mut rng, shown.bytes);
    }
    println!("{inputs} inputs to {} readers, seed {seed}", targets.len());
}
