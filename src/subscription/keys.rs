//! The keys that payloads may be encrypted with.

use std::sync::Arc;

use crate::codec::Cipher;

/// So many keys are remembered: the one in force, the one before it, whose
/// messages may still be on their way, and one more for a renewal in between.
const REMEMBERED: usize = 3;

/// The newest keys, newest first. Cheap to clone, so that every frame keeps those
/// that were good when it came, however long it waits for its reader.
#[derive(Clone, Debug, Default)]
pub(super) struct Keys(Arc<[Arc<Cipher>]>);

impl Keys {
    /// Puts `cipher` first, unless it already is.
    pub(super) fn add(&mut self, cipher: Cipher) {
        if self.0.first().is_some_and(|first| **first == cipher) {
            return;
        }
        let former = self.0.iter().filter(|known| ***known != cipher).cloned();
        self.0 = std::iter::once(Arc::new(cipher)).chain(former).take(REMEMBERED).collect();
    }

    /// These keys, then those of `newer` that are not among them.
    pub(super) fn and_then<'a>(&'a self, newer: &'a Self) -> Vec<&'a Cipher> {
        let further = newer.0.iter().filter(|cipher| !self.0.iter().any(|known| Arc::ptr_eq(known, cipher)));
        self.0.iter().chain(further).map(AsRef::as_ref).collect()
    }
}
