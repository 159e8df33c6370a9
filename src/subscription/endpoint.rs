//! The identity of the place where events are received. Pure.

use sha2::{Digest, Sha256};

use crate::ids::{ExtensionId, SubscriptionId};
use crate::secret::Secret;

/// The subscription, and a fingerprint of its address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub(super) id: SubscriptionId,
    pub(super) fingerprint: String,
    /// The extension that `~` stands for, once that is known.
    pub(super) owner: Option<ExtensionId>,
}

/// A digest that identifies an address without revealing it.
pub(super) fn fingerprint(address: &Secret, subscriber_key: &Secret) -> String {
    let mut hash = Sha256::new();
    hash.update(address.expose());
    hash.update([0]);
    hash.update(subscriber_key.expose());
    hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}
