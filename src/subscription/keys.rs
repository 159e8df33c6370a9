//! The keys that payloads may be encrypted with.

use std::sync::Arc;

use crate::codec::Cipher;
use crate::error::Result;
use crate::secret::Secret;

/// The number of remembered keys: the one in force, the one before it, whose messages may still be in transit, and one
/// more for a renewal in between.
const REMEMBERED: usize = 3;

#[derive(Debug)]
struct Known {
    algorithm: Option<String>,
    text: Secret,
    cipher: Cipher,
}

/// The newest keys, newest first. Cheap to clone, so that every frame holds the keys that were valid when it arrived,
/// however long it waits for its reader.
#[derive(Clone, Debug, Default)]
pub(super) struct Keys(Arc<[Arc<Known>]>);

impl Keys {
    /// Puts a key first, unless it already is; a key that came back is moved up. Returns whether it was unknown.
    pub(super) fn add(&mut self, algorithm: Option<&str>, text: &Secret) -> Result<bool> {
        let is_it = |known: &Arc<Known>| known.text == *text && known.algorithm.as_deref() == algorithm;
        if self.0.first().is_some_and(is_it) {
            return Ok(false);
        }
        let cipher = Cipher::from_delivery_mode(algorithm, text)?;
        let newest = Known { algorithm: algorithm.map(str::to_owned), text: text.clone(), cipher };
        let is_new = !self.0.iter().any(is_it);
        let former = self.0.iter().filter(|known| !is_it(known)).cloned();
        self.0 = std::iter::once(Arc::new(newest)).chain(former).take(REMEMBERED).collect();
        Ok(is_new)
    }

    /// These keys, then those of `newer` that are not among them.
    pub(super) fn and_then<'a>(&'a self, newer: &'a Self) -> Vec<&'a Cipher> {
        let further = newer.0.iter().filter(|key| !self.0.iter().any(|known| Arc::ptr_eq(known, key)));
        self.0.iter().chain(further).map(|known| &known.cipher).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u8) -> Secret {
        use base64::Engine as _;
        Secret::new(base64::engine::general_purpose::STANDARD.encode([n; 16]))
    }

    #[test]
    fn the_newest_keys_are_stored_newest_first() {
        let mut keys = Keys::default();
        for n in 0..10 {
            keys.add(Some("AES"), &key(n)).unwrap();
            keys.add(Some("AES"), &key(n)).unwrap();
        }
        assert_eq!(keys.0.len(), REMEMBERED);
        assert_eq!(keys.0[0].text, key(9));
        keys.add(Some("AES"), &key(8)).unwrap();
        assert_eq!((keys.0.len(), &keys.0[0].text, &keys.0[1].text), (3, &key(8), &key(9)));
    }

    #[test]
    fn a_repeated_key_is_stored_once() {
        let mut keys = Keys::default();
        for n in [1, 2, 1] {
            keys.add(None, &key(n)).unwrap();
        }
        assert_eq!(keys.0.iter().map(|known| known.text.clone()).collect::<Vec<_>>(), [key(1), key(2)]);
        // Every renewal tells the same one: a frame that waits tries it once.
        let then = keys.clone();
        keys.add(None, &key(1)).unwrap();
        assert_eq!(then.and_then(&keys).len(), 2);
    }

    #[test]
    fn a_bad_key_leaves_the_good_ones() {
        let mut keys = Keys::default();
        keys.add(None, &key(1)).unwrap();
        assert!(keys.add(None, &Secret::new("short")).is_err());
        assert!(keys.add(Some("DES"), &key(1)).is_err());
        assert_eq!(keys.0.len(), 1);
    }

    #[test]
    fn a_waiting_frame_is_tried_with_its_keys_first_then_with_newer_ones() {
        let mut keys = Keys::default();
        keys.add(None, &key(1)).unwrap();
        let then = keys.clone();
        keys.add(None, &key(2)).unwrap();
        assert_eq!(then.and_then(&keys).len(), 2);
        assert_eq!(keys.and_then(&then).len(), 2);
    }
}
