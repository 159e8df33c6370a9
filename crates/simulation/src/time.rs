//! The service's time: microseconds since the simulation began, at a fixed date.

/// Microseconds since the beginning.
pub(crate) type Us = u64;

pub(crate) const MS: Us = 1_000;
pub(crate) const SEC: Us = 1_000_000;
/// 2026-03-01T08:00:00Z.
pub(crate) const BASE_UNIX: u64 = 1_772_352_000;

/// Microseconds since the Unix epoch.
pub(crate) fn unix_us(at: Us) -> u64 {
    BASE_UNIX * SEC + at
}

/// A time of the service's clock, in microseconds since the beginning of the run. A clock that was set back may show a time before
/// it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Shown(pub(crate) i64);

impl Shown {
    fn unix_us(self) -> u64 {
        unix_us(0).saturating_add_signed(self.0)
    }

    /// Times on the wire have milliseconds.
    pub(crate) fn floor_ms(self) -> Self {
        Self(self.0.div_euclid(1_000) * 1_000)
    }
}

/// The clock of the service's hosts, and how it was set.
#[derive(Debug, Clone, Default)]
pub(crate) struct ServiceClock {
    /// When it was set back, and by how much.
    pub(crate) sets: Vec<(Us, Us)>,
}

impl ServiceClock {
    pub(crate) fn at(&self, at: Us) -> Shown {
        let back: Us = self.sets.iter().filter(|(when, _)| *when <= at).map(|(_, by)| by).sum();
        Shown(i64::try_from(at).unwrap_or(i64::MAX).saturating_sub_unsigned(back))
    }

    pub(crate) fn stamp(&self, at: Us) -> String {
        stamp(self.at(at))
    }

    pub(crate) fn http_date(&self, at: Us) -> String {
        http_date(self.at(at))
    }
}

struct Civil {
    year: u64,
    month: u64,
    day: u64,
    secs: u64,
    days: u64,
}

fn civil(unix_secs: u64) -> Civil {
    let days = unix_secs / 86_400;
    let z = days + 719_468;
    let era = z / 146_097;
    let doe = z - era * 146_097;
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + u64::from(month <= 2);
    Civil { year, month, day: doy - (153 * mp + 2) / 5 + 1, secs: unix_secs % 86_400, days }
}

/// As the service writes times: milliseconds, UTC, `suffix` for the zone.
pub(crate) fn stamp_with(at: Shown, suffix: &str) -> String {
    let us = at.unix_us();
    let Civil { year, month, day, secs, .. } = civil(us / SEC);
    let (h, m, s, ms) = (secs / 3600, secs / 60 % 60, secs % 60, us / MS % 1000);
    format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{ms:03}{suffix}")
}

pub(crate) fn stamp(at: Shown) -> String {
    stamp_with(at, "Z")
}

/// An HTTP `Date`.
pub(crate) fn http_date(at: Shown) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let Civil { year, month, day, secs, days } = civil(at.unix_us() / SEC);
    let (h, m, s) = (secs / 3600, secs / 60 % 60, secs % 60);
    let (week, name) = (DAYS[(days % 7) as usize], MONTHS[(month - 1) as usize]);
    format!("{week}, {day:02} {name} {year} {h:02}:{m:02}:{s:02} GMT")
}

/// Reads a time in UTC as the service takes it in queries; `None` for anything else.
pub(crate) fn parse_stamp(text: &str) -> Option<Shown> {
    let bytes = text.as_bytes();
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<u64>().ok();
    if bytes.len() < 19 || bytes[10] != b'T' {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (h, m, s) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let mut us = 0;
    if let Some(fraction) = text.get(19..)?.strip_prefix('.') {
        let digits: String = fraction.chars().take_while(char::is_ascii_digit).take(6).collect();
        us = format!("{digits:0<6}").parse::<u64>().ok()?;
    }
    let (y, mp) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let (era, yoe) = (y / 400, y % 400);
    let doe = yoe * 365 + yoe / 4 - yoe / 100 + (153 * mp + 2) / 5 + day - 1;
    let days = (era * 146_097 + doe).checked_sub(719_468)?;
    let unix = (days * 86_400 + h * 3600 + m * 60 + s) * SEC + us;
    Some(Shown(i64::try_from(unix).ok()?.checked_sub_unsigned(BASE_UNIX * SEC)?))
}

#[cfg(test)]
mod tests {
    use super::{MS, SEC, ServiceClock, Shown, Us, http_date, parse_stamp, stamp};

    fn shown(at: Us) -> Shown {
        ServiceClock::default().at(at)
    }

    #[test]
    fn times_are_written_and_read() {
        assert_eq!(stamp(shown(0)), "2026-03-01T08:00:00.000Z");
        assert_eq!(stamp(shown(86_400 * SEC * 31 + 61 * SEC + 7 * MS)), "2026-04-01T08:01:01.007Z");
        assert_eq!(http_date(shown(0)), "Sun, 01 Mar 2026 08:00:00 GMT");
        for at in [0, 5 * MS, 86_400 * SEC * 400 + 999 * MS] {
            assert_eq!(parse_stamp(&stamp(shown(at))), Some(shown(at)));
        }
        assert_eq!(parse_stamp("2026-03-01T08:00:01Z"), Some(shown(SEC)));
        assert_eq!(parse_stamp("yesterday"), None);
    }

    #[test]
    fn a_clock_that_was_set_back_shows_earlier_times_from_then_on() {
        let clock = ServiceClock { sets: vec![(10 * SEC, 3_600 * SEC), (20 * SEC, SEC)] };
        assert_eq!(clock.stamp(10 * SEC - MS), "2026-03-01T08:00:09.999Z");
        assert_eq!(clock.stamp(10 * SEC), "2026-03-01T07:00:10.000Z");
        assert_eq!(clock.http_date(25 * SEC), "Sun, 01 Mar 2026 07:00:24 GMT");
        assert_eq!(parse_stamp(&clock.stamp(12 * SEC + 345 * MS)), Some(clock.at(12 * SEC + 345 * MS)));
        assert_eq!(clock.at(12 * SEC + 345 * MS + 678).floor_ms(), clock.at(12 * SEC + 345 * MS));
    }
}
