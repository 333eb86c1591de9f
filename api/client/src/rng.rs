//! Randomness and wall time, which simulation replaces.

/// Where the SDK gets randomness (jitter, idempotency keys) and wall time (the time inside a ULID) from.
///
/// A deterministic simulation plugs its own; [`SystemEntropy`] is the operating system's.
pub trait Entropy: Send + Sync + 'static {
    /// A uniformly random number.
    fn random(&self) -> u64;
    /// Milliseconds since the Unix epoch.
    fn wall_ms(&self) -> u64;
}

/// The operating system's randomness and clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn random(&self) -> u64 {
        rand::random()
    }

    fn wall_ms(&self) -> u64 {
        let since = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

/// A fresh ULID: 26 characters, sortable by the time of minting.
pub(crate) fn ulid(entropy: &dyn Entropy) -> String {
    let random = (u128::from(entropy.random()) << 64) | u128::from(entropy.random());
    ulid::Ulid::from_parts(entropy.wall_ms(), random).to_string()
}
