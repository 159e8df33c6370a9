//! Which subscriptions this process made.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::ids::SubscriptionId;

/// So many leftovers are remembered; the service allows 30 subscriptions per user
/// and app, so more cannot exist at once.
const REMEMBERED: usize = 64;

/// The subscriptions of one client: those in use, and those that it made and
/// could not delete. Only the latter are ever deleted to make room: what another
/// process made is never touched.
#[derive(Debug, Default)]
pub(crate) struct Registry(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    live: HashSet<SubscriptionId>,
    leftovers: Vec<SubscriptionId>,
}

impl Registry {
    fn known(&self) -> MutexGuard<'_, Known> {
        // Every change is a single insertion or removal: nothing is half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn live(&self, id: &SubscriptionId) {
        let mut known = self.known();
        known.leftovers.retain(|left| left != id);
        known.live.insert(id.clone());
    }

    pub(crate) fn gone(&self, id: &SubscriptionId) {
        let mut known = self.known();
        known.live.remove(id);
        known.leftovers.retain(|left| left != id);
    }

    pub(crate) fn left_over(&self, id: &SubscriptionId) {
        let mut known = self.known();
        known.live.remove(id);
        if !known.leftovers.contains(id) {
            if known.leftovers.len() == REMEMBERED {
                known.leftovers.remove(0);
            }
            known.leftovers.push(id.clone());
        }
    }

    pub(crate) fn leftovers(&self) -> Vec<SubscriptionId> {
        self.known().leftovers.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_undeleted_subscriptions_are_orphans() {
        let registry = Registry::default();
        let (a, b) = (SubscriptionId::new("a"), SubscriptionId::new("b"));
        registry.live(&a);
        registry.live(&b);
        assert!(registry.leftovers().is_empty());
        registry.left_over(&a);
        registry.left_over(&a);
        assert_eq!(registry.leftovers(), std::slice::from_ref(&a));
        registry.live(&a); // taken over again
        assert!(registry.leftovers().is_empty());
        registry.left_over(&a);
        registry.gone(&a);
        assert!(registry.leftovers().is_empty());
    }

    #[test]
    fn leftovers_are_bounded() {
        let registry = Registry::default();
        for n in 0..1000 {
            registry.left_over(&SubscriptionId::new(n.to_string()));
        }
        assert_eq!(registry.leftovers().len(), REMEMBERED);
    }
}
