//! What a node's QUIC endpoint still knows after a restart.
//!
//! Who was connected to a node that was killed hears nothing from the next process on its port, and gives up seconds
//! later, unless that one answers what it does not know with a stateless reset (RFC 9000 §10.3): a packet that ends in a
//! token which only the connection's own server can make. So the key of these tokens, and the one by which the server
//! tells its own connection ids from garbage, must not change with the process. Both follow from the node's private key
//! by HKDF (RFC 5869), as §10.3.2 there has it: nothing more has to be kept or kept secret, no other node makes the same
//! tokens, and neither tells anything of the private key.

use std::sync::Arc;

use api_quic::quinn::EndpointConfig;
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use aws_lc_rs::hmac;
use quinn_proto::HashedConnectionIdGenerator;

/// The settings of the endpoint of the node with this private key. They are the same in every process that has it, and
/// hold secrets.
///
/// # Errors
/// The cryptography refuses, which it has no reason to.
pub(super) fn settings(private_key: &[u8]) -> Result<EndpointConfig, String> {
    let secret = Salt::new(HKDF_SHA256, b"meshkit quic endpoint").extract(private_key);
    let resets = derived::<32>(&secret, b"stateless reset")?;
    let ids = u64::from_be_bytes(derived(&secret, b"connection ids")?);
    let mut settings = EndpointConfig::new(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &resets)));
    settings.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(ids)));
    Ok(settings)
}

fn derived<const N: usize>(secret: &Prk, purpose: &[u8]) -> Result<[u8; N], String> {
    let mut key = [0; N];
    let filled = secret
        .expand(&[purpose], Length(N))
        .and_then(|output| output.fill(&mut key));
    filled.map_err(|_| "the keys of the QUIC endpoint cannot be derived".to_owned())?;
    Ok(key)
}

struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(private_key: &[u8]) -> ([u8; 32], [u8; 8]) {
        let secret = Salt::new(HKDF_SHA256, b"meshkit quic endpoint").extract(private_key);
        let resets = derived(&secret, b"stateless reset").unwrap();
        (resets, derived(&secret, b"connection ids").unwrap())
    }

    #[test]
    fn keys_follow_from_the_private_key_alone_and_differ_by_purpose() {
        let (resets, ids) = keys(b"one");
        assert_eq!((resets, ids), keys(b"one"));
        let (other_resets, other_ids) = keys(b"other");
        assert!(resets != other_resets && ids != other_ids);
        assert!(!resets.starts_with(&ids));
        assert!(settings(b"one").is_ok());
    }
}
