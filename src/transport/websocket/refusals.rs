//! When the gateway's refusals are permanent. Pure.

/// Consecutive refusals before the first connection that end the start: it should soon report its cause. Trouble on the
/// way must not end a live subscription, however long it lasts (found 6.4).
const MOST: u32 = 3;

/// Counts connections that the gateway refused before their session began.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Refusals {
    count: u32,
    /// Whether there was a connection before.
    had_one: bool,
}

impl Refusals {
    /// Counts one more; returns whether to give up.
    pub(super) fn note(&mut self) -> bool {
        self.count = self.count.saturating_add(1);
        self.count >= MOST && !self.had_one
    }

    /// Whether there was ever a connection.
    pub(super) fn had_one(&self) -> bool {
        self.had_one
    }

    /// A session began.
    pub(super) fn clear(&mut self) {
        *self = Self { had_one: true, ..Self::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn found_6_4_refusals_are_an_answer_only_before_the_first_connection() {
        let mut refusals = Refusals::default();
        assert_eq!([refusals.note(), refusals.note(), refusals.note()], [false, false, true]);
        refusals.clear();
        assert!(refusals.had_one());
        assert!((0..100).all(|_| !refusals.note()));
    }
}
