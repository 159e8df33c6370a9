//! Deliveries that the reader gave back, until they come again. Pure.

use std::collections::BTreeMap;
use std::task::Waker;
use std::time::Duration;

use tokio::time::Instant;

use crate::delivery::Delivery;
use crate::error::{Error, ErrorKind, Result};

/// The bounds of the delay: a handler that fails at once does not spin, and nothing waits for hours.
pub(super) const DELAY: std::ops::RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(600);
/// How often a delivery is tried, the first time included.
pub(super) const ATTEMPTS: u32 = 10;
/// The most bytes that wait.
const BYTES: usize = 8 << 20;
/// The bytes of a delivery beside its text.
const OVERHEAD: usize = 512;

/// The bytes of a delivery, roughly.
pub(super) fn weight(delivery: &Delivery) -> usize {
    OVERHEAD
        + match delivery {
            Delivery::Notification(it) => it.raw().get().len(),
            Delivery::Undecodable(it) => it.raw.len(),
            Delivery::Gap(gap) => gap.filters.iter().map(String::len).sum(),
            Delivery::Resumed(it) => it.unrecovered.iter().map(|open| open.filter.len()).sum(),
            Delivery::FiltersDisabled(filters) => filters.iter().map(|it| it.filter.len()).sum(),
        }
}

/// The stream's next step.
#[derive(Debug)]
pub(super) enum Next {
    /// Yield this one again.
    Now(u64, Delivery),
    /// Look again then.
    At(Instant),
    /// Nothing waits.
    Nothing,
}

/// Owns the deliveries that wait, by the time at which they come again and by their number.
#[derive(Debug, Default)]
pub(super) struct Redeliveries {
    waiting: BTreeMap<(Option<Instant>, u64), Delivery>,
    bytes: usize,
    closed: bool,
    /// The task of the reader.
    reader: Option<Waker>,
}

impl Redeliveries {
    /// Whether a delivery can wait.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`] once the stream has ended, [`ErrorKind::Busy`] without room.
    pub(super) fn admit(&self, delivery: &Delivery) -> Result<()> {
        if self.closed {
            return Err(Error::new(ErrorKind::Closed, "the stream has ended: the delivery does not come again in it"));
        }
        if self.bytes.saturating_add(weight(delivery)) > BYTES {
            let text = "8 MiB of deliveries wait to come again: acknowledge some, or try this one again later";
            return Err(Error::new(ErrorKind::Busy, text));
        }
        Ok(())
    }

    /// Lets a delivery come again at `due`; without a time at once, before all others.
    pub(super) fn push(&mut self, due: Option<Instant>, number: u64, delivery: Delivery) {
        self.bytes += weight(&delivery);
        self.waiting.insert((due, number), delivery);
        if let Some(reader) = &self.reader {
            reader.wake_by_ref();
        }
    }

    /// The delivery was acknowledged meanwhile.
    pub(super) fn remove(&mut self, acknowledged: impl Fn(u64) -> bool) {
        let bytes = &mut self.bytes;
        self.waiting.retain(|(_, number), delivery| {
            let done = acknowledged(*number);
            *bytes -= if done { weight(delivery) } else { 0 };
            !done
        });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// What comes at `now`; everything, in order, if the stream is about to end.
    pub(super) fn next(&mut self, now: impl FnOnce() -> Instant, at_end: bool, reader: &Waker) -> Next {
        if !self.reader.as_ref().is_some_and(|it| it.will_wake(reader)) {
            self.reader = Some(reader.clone());
        }
        let Some(first) = self.waiting.first_entry() else { return Next::Nothing };
        match first.key().0 {
            Some(due) if !at_end && due > now() => Next::At(due),
            _ => {
                let ((_, number), delivery) = first.remove_entry();
                self.bytes -= weight(&delivery);
                Next::Now(number, delivery)
            }
        }
    }

    /// The stream has ended.
    pub(super) fn close(&mut self) {
        self.closed = true;
        self.waiting.clear();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::DisabledFilter;

    fn delivery(size: usize) -> Delivery {
        Delivery::FiltersDisabled(vec![DisabledFilter { filter: "x".repeat(size), ..DisabledFilter::default() }])
    }

    fn next(all: &mut Redeliveries, now: Instant, at_end: bool) -> std::result::Result<u64, Option<Instant>> {
        match all.next(|| now, at_end, Waker::noop()) {
            Next::Now(number, _) => Ok(number),
            Next::At(at) => Err(Some(at)),
            Next::Nothing => Err(None),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn deliveries_come_again_in_the_order_of_their_times_and_at_the_end_at_once() {
        let now = Instant::now();
        let at = |seconds| now + Duration::from_secs(seconds);
        let mut all = Redeliveries::default();
        assert_eq!(next(&mut all, now, false), Err(None));
        for (due, number) in
            [(Some(at(3)), 1), (Some(at(1)), 2), (None, 5), (None, 4), (Some(at(1)), 3), (Some(at(9)), 6)]
        {
            all.push(due, number, delivery(0));
        }
        for (at_end, now, want) in [
            (false, now, Ok(4)),
            (false, now, Ok(5)),
            (false, now, Err(Some(at(1)))),
            (false, at(1), Ok(2)),
            (false, at(2), Ok(3)),
            (false, at(2), Err(Some(at(3)))),
            (true, at(2), Ok(1)),
        ] {
            assert_eq!(next(&mut all, now, at_end), want);
        }
        all.remove(|number| number == 6);
        assert_eq!((next(&mut all, at(99), true), all.bytes), (Err(None), 0));
    }

    #[test]
    fn what_waits_is_bounded_by_bytes_and_nothing_waits_after_the_end() {
        let mut all = Redeliveries::default();
        let big = delivery((BYTES / 2) - OVERHEAD);
        for number in 1..=2 {
            all.admit(&big).unwrap();
            all.push(None, number, big.clone());
        }
        assert_eq!(all.admit(&delivery(0)).unwrap_err().kind(), ErrorKind::Busy);
        all.remove(|number| number == 1);
        all.admit(&delivery(0)).unwrap();
        all.close();
        assert_eq!((all.admit(&delivery(0)).unwrap_err().kind(), all.is_empty()), (ErrorKind::Closed, true));
    }
}
