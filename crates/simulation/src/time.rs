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
pub(crate) fn stamp_with(at: Us, suffix: &str) -> String {
    let us = unix_us(at);
    let Civil { year, month, day, secs, .. } = civil(us / SEC);
    let (h, m, s, ms) = (secs / 3600, secs / 60 % 60, secs % 60, us / MS % 1000);
    format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{ms:03}{suffix}")
}

pub(crate) fn stamp(at: Us) -> String {
    stamp_with(at, "Z")
}

/// An HTTP `Date`.
pub(crate) fn http_date(at: Us) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let Civil { year, month, day, secs, days } = civil(unix_us(at) / SEC);
    let (h, m, s) = (secs / 3600, secs / 60 % 60, secs % 60);
    let (week, name) = (DAYS[(days % 7) as usize], MONTHS[(month - 1) as usize]);
    format!("{week}, {day:02} {name} {year} {h:02}:{m:02}:{s:02} GMT")
}

/// Reads a time in UTC as the service takes it in queries; `None` for anything else.
pub(crate) fn parse_stamp(text: &str) -> Option<Us> {
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
    // A time before the beginning counts as the beginning.
    Some(unix.saturating_sub(BASE_UNIX * SEC))
}

#[cfg(test)]
mod tests {
    use super::{MS, SEC, http_date, parse_stamp, stamp};

    #[test]
    fn times_are_written_and_read() {
        assert_eq!(stamp(0), "2026-03-01T08:00:00.000Z");
        assert_eq!(stamp(86_400 * SEC * 31 + 61 * SEC + 7 * MS), "2026-04-01T08:01:01.007Z");
        assert_eq!(http_date(0), "Sun, 01 Mar 2026 08:00:00 GMT");
        for at in [0, 5 * MS, 86_400 * SEC * 400 + 999 * MS] {
            assert_eq!(parse_stamp(&stamp(at)), Some(at));
        }
        assert_eq!(parse_stamp("2026-03-01T08:00:01Z"), Some(SEC));
        assert_eq!(parse_stamp("yesterday"), None);
    }
}
