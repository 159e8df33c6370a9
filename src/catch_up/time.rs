//! Times as milliseconds since 1970, of any clock.

use std::time::{Duration, SystemTime};

use crate::timestamp::Timestamp;

/// Year 2100: no time of a service or of a stored position is later.
const LAST: u64 = 4_102_444_800_000;

pub(crate) fn millis(at: SystemTime) -> u64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(LAST).min(LAST)
}

/// The millisecond that `at` ends in: as the end of a range it includes the events of the same millisecond.
pub(super) fn millis_up(at: SystemTime) -> u64 {
    millis(at + Duration::from_nanos(999_999))
}

/// In the form of queries.
pub(crate) fn text(ms: u64) -> String {
    Timestamp::from(SystemTime::UNIX_EPOCH + Duration::from_millis(ms.min(LAST))).as_str().to_owned()
}

pub(super) fn of(stamp: &Timestamp) -> Option<u64> {
    stamp.system_time().map(millis)
}

/// Time `ms` of this machine's clock by one that is ahead of it by `skew`.
pub(super) fn shift(ms: u64, skew: i64) -> u64 {
    ms.saturating_add_signed(skew).min(LAST)
}

/// By how much `theirs` is ahead of `ours`.
pub(super) fn skew(theirs: u64, ours: u64) -> i64 {
    i64::try_from(theirs.min(LAST)).unwrap_or(0) - i64::try_from(ours.min(LAST)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_round_trips_and_the_end_of_a_range_is_rounded_up() {
        let at = Timestamp::new("2024-05-06T07:08:09.010Z");
        assert_eq!(of(&at), Some(1_714_979_289_010));
        assert_eq!(text(1_714_979_289_010), at.as_str());
        let finer = Timestamp::new("2024-05-06T07:08:09.010400Z").system_time().unwrap();
        assert_eq!((millis(finer), millis_up(finer)), (1_714_979_289_010, 1_714_979_289_011));
        assert_eq!(millis_up(at.system_time().unwrap()), 1_714_979_289_010);
        assert_eq!(text(u64::MAX), "2100-01-01T00:00:00.000Z");
    }

    #[test]
    fn clocks_are_compared_both_ways() {
        for (theirs, ours) in [(5000, 3000), (3000, 5000), (0, 0), (u64::MAX, 0)] {
            assert_eq!(shift(ours, skew(theirs, ours)), theirs.min(LAST));
        }
    }
}
