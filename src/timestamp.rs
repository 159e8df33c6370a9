//! Times as the service writes them.

use std::cmp::Ordering;
use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::{Date, Month, OffsetDateTime, PrimitiveDateTime, Time, UtcOffset};

/// A moment as the service wrote it, text and instant.
///
/// The service writes `…T09:37:24.597Z`, `+0000`, `+00:00`, `+00` and anything
/// from zero to nine digits of fraction. All are read into an instant that keeps
/// its offset; a leap second (`:60`) is the first second of the next minute.
/// Invalid text is preserved, so nothing is lost when an event is stored or
/// forwarded.
///
/// Ordered by instant, see [`Ord`](#impl-Ord-for-Timestamp).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Timestamp {
    text: Box<str>,
    instant: Option<OffsetDateTime>,
}

impl Timestamp {
    /// Reads `text`; see the type for what is understood.
    pub fn new(text: impl Into<String>) -> Self {
        let text = text.into().into_boxed_str();
        let instant = parse(&text);
        Self { text, instant }
    }

    /// The text as it came.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The instant with its offset, or `None` when the text is no time known here.
    #[must_use]
    pub fn instant(&self) -> Option<OffsetDateTime> {
        self.instant
    }

    /// The instant on the system's scale.
    #[must_use]
    pub fn system_time(&self) -> Option<SystemTime> {
        let instant = self.instant?;
        let (seconds, nanos) = (instant.unix_timestamp(), Duration::from_nanos(instant.nanosecond().into()));
        let size = Duration::from_secs(seconds.unsigned_abs());
        let whole = if seconds >= 0 {
            SystemTime::UNIX_EPOCH.checked_add(size)
        } else {
            SystemTime::UNIX_EPOCH.checked_sub(size)
        };
        whole?.checked_add(nanos)
    }

    /// `at` in the service's format, to the nanosecond if it is no whole millisecond.
    pub(crate) fn exact(at: SystemTime) -> Self {
        let at = nearest(at);
        let is_whole = at.nanosecond().is_multiple_of(1_000_000);
        Self::new(if is_whole {
            written(at, format_args!("{:03}", at.millisecond()))
        } else {
            written(at, format_args!("{:09}", at.nanosecond()))
        })
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Timestamp({})", self.text)
    }
}

/// The first and the last moment that the service's format can write, in nanoseconds since
/// 1970.
const FIRST: i128 = -62_167_219_200_000_000_000;
const LAST: i128 = 253_402_300_799_999_999_999;

/// The nearest moment that the service's format can write.
fn nearest(at: SystemTime) -> OffsetDateTime {
    let nanos = |size: Duration| i128::try_from(size.as_nanos()).unwrap_or(i128::MAX);
    let nanos = match at.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => nanos(since),
        Err(before) => -nanos(before.duration()),
    };
    OffsetDateTime::from_unix_timestamp_nanos(nanos.clamp(FIRST, LAST)).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

fn written(at: OffsetDateTime, fraction: fmt::Arguments<'_>) -> String {
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{fraction}Z",
        at.year(),
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute(),
        at.second(),
    )
}

/// To the millisecond. A time before the year 0 or after 9999, which the service's format cannot write, becomes the
/// first or the last moment of these.
impl From<SystemTime> for Timestamp {
    fn from(at: SystemTime) -> Self {
        let at = nearest(at);
        Self::new(written(at, format_args!("{:03}", at.millisecond())))
    }
}

/// By instant, then by text: a text that is no time comes before all times, and two texts of one instant are ordered as
/// texts, so that only equal ones compare as equal.
impl Ord for Timestamp {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.instant, &self.text).cmp(&(other.instant, &other.text))
    }
}

impl PartialOrd for Timestamp {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Never fails: a text that is no time is preserved.
impl FromStr for Timestamp {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self::new(text))
    }
}

impl From<&str> for Timestamp {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl From<String> for Timestamp {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl From<Timestamp> for String {
    fn from(stamp: Timestamp) -> Self {
        stamp.text.into_string()
    }
}

impl AsRef<str> for Timestamp {
    fn as_ref(&self) -> &str {
        &self.text
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

/// `YYYY-MM-DDTHH:MM:SS[.f{1,}][Z|±HH[[:]MM]]`; digits past the ninth are cut.
fn parse(text: &str) -> Option<OffsetDateTime> {
    let text = text.as_bytes().trim_ascii();
    let (date, rest) = split_at(text, |byte| matches!(byte, b'T' | b't' | b' '))?;
    let rest = rest.get(1..)?;
    let mut parts = date.splitn(3, |byte| *byte == b'-');
    let year = parts.next().filter(|y| y.len() == 4)?;
    let date = Date::from_calendar_date(
        i32::from(number(year)?),
        Month::try_from(u8::try_from(number(parts.next()?)?).ok()?).ok()?,
        u8::try_from(number(parts.next()?)?).ok()?,
    )
    .ok()?;
    let (clock, zone) = split_at(rest, |byte| matches!(byte, b'Z' | b'z' | b'+' | b'-')).unwrap_or((rest, b""));
    let (clock, fraction) =
        split_at(clock, |byte| byte == b'.').map_or((clock, &b"0"[..]), |(clock, it)| (clock, &it[1..]));
    let mut parts = clock.splitn(3, |byte| *byte == b':');
    let mut field = || u8::try_from(number(parts.next()?)?).ok();
    let (hour, minute, second) = (field()?, field()?, field()?);
    let leap = second == 60;
    let time = Time::from_hms_nano(hour, minute, if leap { 59 } else { second }, nanos(fraction)?).ok()?;
    let offset = offset(zone)?;
    let at = PrimitiveDateTime::new(date, time).assume_offset(offset);
    if offset.is_utc() && !leap {
        return Some(at);
    }
    // The system's scale has no leap seconds: one is the first second of the next minute.
    let at = if leap { at.checked_add(time::Duration::SECOND)? } else { at };
    // An instant that has no year of four digits in UTC would panic in the user's conversion to UTC.
    at.checked_to_offset(UtcOffset::UTC).filter(|utc| (0..=9999).contains(&utc.year())).map(|_| at)
}

/// The bytes before the first that `is_cut`, and those from it on.
fn split_at(text: &[u8], is_cut: impl Fn(u8) -> bool) -> Option<(&[u8], &[u8])> {
    text.split_at_checked(text.iter().position(|byte| is_cut(*byte))?)
}

fn offset(zone: &[u8]) -> Option<UtcOffset> {
    let sign = match zone.first() {
        None | Some(b'Z' | b'z') => return (zone.len() <= 1).then_some(UtcOffset::UTC),
        Some(b'+') => 1,
        Some(_) => -1,
    };
    let digits: Vec<u8> = zone.get(1..)?.iter().copied().filter(|byte| *byte != b':').collect();
    let (hours, minutes) = match digits.len() {
        2 => (number(&digits)?, 0),
        4 => (number(digits.get(..2)?)?, number(digits.get(2..)?)?),
        _ => return None,
    };
    let seconds = i32::from(hours) * 3600 + i32::from(minutes) * 60;
    UtcOffset::from_whole_seconds(sign * seconds).ok()
}

/// Up to four digits.
fn number(digits: &[u8]) -> Option<u16> {
    let plain = !digits.is_empty() && digits.len() <= 4 && digits.iter().all(u8::is_ascii_digit);
    plain.then(|| digits.iter().fold(0, |number, digit| number * 10 + u16::from(digit - b'0')))
}

fn nanos(fraction: &[u8]) -> Option<u32> {
    if fraction.is_empty() || !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let nine = fraction.iter().copied().chain(std::iter::repeat(b'0')).take(9);
    Some(nine.fold(0, |number, digit| number * 10 + u32::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_form_the_service_writes_is_read() {
        for (text, want_nanos) in [
            ("2017-02-05T12:00:00Z", 1_486_296_000_000_000_000_i128),
            ("2017-02-05T12:00:00.597Z", 1_486_296_000_597_000_000),
            ("2017-02-05T12:00:00.597+0000", 1_486_296_000_597_000_000),
            ("2017-02-05T12:00:00.597+00:00", 1_486_296_000_597_000_000),
            ("2017-02-05T12:00:00.597+00", 1_486_296_000_597_000_000),
            ("2017-02-05T12:00:00.985974Z", 1_486_296_000_985_974_000),
            ("2017-02-05T12:00:00.961560383Z", 1_486_296_000_961_560_383),
            ("2017-02-05T04:00:00-0800", 1_486_296_000_000_000_000),
            ("2017-02-05T12:00:00", 1_486_296_000_000_000_000),
        ] {
            let at = Timestamp::new(text);
            assert_eq!(at.instant().map(OffsetDateTime::unix_timestamp_nanos), Some(want_nanos), "{text}");
            assert_eq!(at.as_str(), text);
        }
        let offset = Timestamp::new("2017-02-05T04:00:00-0830").instant().unwrap().offset();
        assert_eq!(offset.whole_minutes(), -510);
    }

    #[test]
    fn invalid_time_text_is_preserved() {
        for text in [
            "",
            "soon",
            "2017-02-30T00:00:00Z",
            "2017-02-05T25:00:00Z",
            "2017-02-05T12:00:00.Z",
            "2017-02-05T12:00:00+1",
            "2017-02-05T12:00:00Zulu",
        ] {
            let at = Timestamp::new(text);
            assert_eq!(at.instant(), None, "{text}");
            assert_eq!(serde_json::to_value(&at).unwrap(), text);
        }
    }

    #[test]
    fn no_time_that_a_service_can_send_panics() {
        for (text, seconds) in [
            ("9999-12-31T23:59:59Z", Some(253_402_300_799)),
            ("9999-12-31T23:59:59.999999999+23:59", Some(253_402_300_799 - 23 * 3600 - 59 * 60)),
            // In UTC it is in the year 10000, which no conversion can write.
            ("9999-12-31T23:59:59-23:59", None),
            ("9999-12-31T23:59:60Z", None),
            ("0000-01-01T00:00:00Z", Some(-62_167_219_200)),
            ("0000-01-01T00:00:00+23:59", None),
            ("0000-00-00T00:00:00Z", None),
            ("0001-01-01T00:00:00-23:59", Some(-62_135_596_800 + 23 * 3600 + 59 * 60)),
            ("2016-12-31T23:59:60Z", Some(1_483_228_800)),
            ("2016-12-31T23:59:60.25Z", Some(1_483_228_800)),
            ("2016-12-31T15:59:60-08:00", Some(1_483_228_800)),
            ("2016-12-31T23:59:61Z", None),
            ("2017-02-05T12:00:00-99:99", None),
            ("2017-02-05T12:00:00-00:00", Some(1_486_296_000)),
            ("-0001-01-01T00:00:00Z", None),
            ("10000-01-01T00:00:00Z", None),
            ("1000000000000000000", None),
            ("99999999999999999999", None),
            ("-9223372036854775808", None),
            ("1e400", None),
            ("2017-02-05T12:00:00.99999999999999999999Z", Some(1_486_296_000)),
        ] {
            let at = Timestamp::new(text);
            assert_eq!(at.instant().map(OffsetDateTime::unix_timestamp), seconds, "{text}");
            assert_eq!((at.as_str(), at.system_time().is_some()), (text, seconds.is_some()), "{text}");
            let utc = at.instant().map(|it| it.to_offset(UtcOffset::UTC));
            assert_eq!(utc, at.instant(), "{text}");
        }
    }

    #[test]
    fn timestamps_are_ordered_by_instant_and_then_by_text() {
        let sorted = [
            "",
            "9999",
            "soon",
            "0000-01-01T00:00:00Z",
            "2017-02-05T12:00:00+0100",
            "2017-02-05T12:00:00",
            "2017-02-05T12:00:00Z",
            "2017-02-05T13:00:00+01:00",
            "2017-02-05T12:00:00.000000001Z",
            "2017-02-05T12:00:00-0100",
        ]
        .map(Timestamp::new);
        assert!(sorted.is_sorted());
        for (at, one) in sorted.iter().enumerate() {
            for (other_at, other) in sorted.iter().enumerate() {
                assert_eq!(one.cmp(other), at.cmp(&other_at), "{one} {other}");
                assert_eq!(one == other, at == other_at);
            }
        }
    }

    #[test]
    fn an_exact_text_has_the_nanoseconds_that_are_there() {
        for (nanos, want) in [
            (0, "2024-05-06T07:08:09.000Z"),
            (10_000_000, "2024-05-06T07:08:09.010Z"),
            (10_000_001, "2024-05-06T07:08:09.010000001Z"),
            (999_999_999, "2024-05-06T07:08:09.999999999Z"),
        ] {
            let at = SystemTime::UNIX_EPOCH + Duration::new(1_714_979_289, nanos);
            let stamp = Timestamp::exact(at);
            assert_eq!((stamp.as_str(), stamp.system_time()), (want, Some(at)));
        }
    }

    #[test]
    fn system_time_round_trips_to_the_millisecond() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_714_979_289_010);
        let stamp = Timestamp::from(at);
        assert_eq!(stamp.as_str(), "2024-05-06T07:08:09.010Z");
        assert_eq!(stamp.system_time(), Some(at));
    }

    #[test]
    fn a_time_that_cannot_be_written_becomes_the_nearest_that_can() {
        const FAR: u64 = i64::MAX as u64 - 1;
        for (seconds, want) in [
            (253_402_300_799, "9999-12-31T23:59:59.000Z"),
            (253_402_300_800, "9999-12-31T23:59:59.999Z"),
            (FAR, "9999-12-31T23:59:59.999Z"),
        ] {
            let at = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).unwrap();
            assert_eq!(Timestamp::from(at).as_str(), want);
        }
        for (seconds, want) in [
            (1, "1969-12-31T23:59:59.000Z"),
            (62_167_219_200, "0000-01-01T00:00:00.000Z"),
            (62_167_219_201, "0000-01-01T00:00:00.000Z"),
            (FAR, "0000-01-01T00:00:00.000Z"),
        ] {
            let at = SystemTime::UNIX_EPOCH.checked_sub(Duration::from_secs(seconds)).unwrap();
            assert_eq!(Timestamp::from(at).as_str(), want);
        }
    }

    proptest! {
        #[test]
        fn every_time_of_the_system_can_be_written(seconds: i64) {
            let size = Duration::from_secs(seconds.unsigned_abs());
            let at = if seconds < 0 { SystemTime::UNIX_EPOCH.checked_sub(size) } else { SystemTime::UNIX_EPOCH.checked_add(size) };
            if let Some(at) = at {
                prop_assert!(Timestamp::from(at).instant().is_some());
            }
        }

        #[test]
        fn every_time_that_can_be_written_is_restored_exactly(seconds in -62_167_219_200_i64..253_402_300_800, nanos in 0_u32..1_000_000_000) {
            let size = Duration::from_secs(seconds.unsigned_abs());
            let whole = if seconds < 0 { SystemTime::UNIX_EPOCH - size } else { SystemTime::UNIX_EPOCH + size };
            let at = whole + Duration::new(0, nanos);
            prop_assert_eq!(Timestamp::exact(at).system_time(), Some(at));
        }

        #[test]
        fn the_order_agrees_with_equality(
            texts in prop::collection::vec("(0000|2017|9999)-(01|12)-(01|31)T(00|23):59:(59|60)(\\.[0-9])?(Z|[+-]23:59)", 3),
        ) {
            let [a, b, c] = <[String; 3]>::try_from(texts).unwrap().map(Timestamp::new);
            prop_assert_eq!(a.cmp(&b) == Ordering::Equal, a == b);
            prop_assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
            prop_assert!(a > b || b > c || a <= c);
            prop_assert!(a.instant() <= b.instant() || a > b);
        }

        #[test]
        fn no_text_panics_and_every_text_is_preserved(text in "\\PC{0,40}") {
            let stamp = Timestamp::new(text.clone());
            prop_assert_eq!(stamp.as_str(), text);
        }

        #[test]
        fn time_like_text_never_panics(text in "[0-9TZ:+. -]{0,36}") {
            let _ = Timestamp::new(text).system_time();
        }
    }
}
