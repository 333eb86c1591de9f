//! Tokens whose signature has been checked. A signature costs more than all else that a small request costs.

use std::{collections::HashMap, sync::Arc};

use parking_lot::RwLock;

use super::Principal;

/// The most tokens that are remembered.
const TOKENS_MAX: usize = 4096;

/// Verified tokens. Only tokens that verified get in, so a caller without a key cannot fill it.
#[derive(Default)]
pub(super) struct Verified(RwLock<HashMap<Box<[u8]>, Arc<Principal>>>);

impl Verified {
    pub(super) fn get(&self, token: &[u8]) -> Option<Arc<Principal>> {
        self.0.read().get(token).cloned()
    }

    pub(super) fn put(&self, token: &[u8], principal: &Arc<Principal>, now_s: u64) {
        let mut tokens = self.0.write();
        if tokens.len() >= TOKENS_MAX {
            tokens.retain(|_, principal| principal.expires_s.is_none_or(|end| end > now_s));
        }
        if tokens.len() >= TOKENS_MAX {
            // All still good: start again rather than choose.
            tokens.clear();
        }
        tokens.insert(token.into(), Arc::clone(principal));
    }
}
