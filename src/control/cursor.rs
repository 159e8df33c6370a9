//! Positions in a transport's stream.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::secret::Secret;

/// A position in a transport's stream from which reading continues without loss.
///
/// Opaque: only the transport that made it can read it. For PubNub it is the timetoken and region; neither is a secret.
/// For WebSocket it is the session's recovery token, which `Debug` hides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    pub(crate) timetoken: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) region: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "expose")]
    pub(crate) session: Option<Secret>,
}

/// A position must survive a restart, so it is serialized with its secret.
fn expose<S: serde::Serializer>(session: &Option<Secret>, serializer: S) -> Result<S::Ok, S::Error> {
    session.as_ref().map(Secret::expose).serialize(serializer)
}

impl Cursor {
    /// PubNub's position at `time`, with the region unknown: the service delivers what was published from then on, as
    /// far as its buffer still holds it.
    ///
    /// A position from before the subscription's creation leaves no hole between the creation and the first poll. It
    /// counts ticks of 100 ns since 1970 and always has 17 digits: earlier times than 2001 and later ones than 2286 are
    /// clamped. So it is never zero, which PubNub reads as "from now on".
    #[must_use]
    pub fn at(time: SystemTime) -> Self {
        const LEAST: u128 = 10_000_000_000_000_000;
        const MOST: u128 = 99_999_999_999_999_999;
        let ticks = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() / 100;
        Self { timetoken: ticks.clamp(LEAST, MOST).to_string(), region: None, session: None }
    }

    /// The time of a PubNub position, by PubNub's clock.
    pub(crate) fn time(&self) -> Option<SystemTime> {
        time_of(&self.timetoken)
    }
}

/// The time of a timetoken: ticks of 100 ns since 1970 (pubnub.md §1).
fn time_of(timetoken: &str) -> Option<SystemTime> {
    let ticks: u64 = timetoken.parse().ok()?;
    let time = std::time::Duration::new(ticks / 10_000_000, u32::try_from(ticks % 10_000_000).ok()? * 100);
    UNIX_EPOCH.checked_add(time)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn first_cursor_is_seventeen_digits_of_100_ns() {
        let at = |duration| Cursor::at(UNIX_EPOCH + duration).timetoken;
        assert_eq!(at(Duration::from_secs(1_562_865_247)), "15628652470000000");
        assert_eq!(at(Duration::new(1_562_865_247, 993_271_799)), "15628652479932717");
        assert_eq!(Cursor::at(UNIX_EPOCH).region, None);
    }

    #[test]
    fn first_cursor_is_never_now_for_any_clock() {
        for time in [
            UNIX_EPOCH,
            UNIX_EPOCH - Duration::from_secs(5),
            UNIX_EPOCH + Duration::from_secs(1),
            UNIX_EPOCH + Duration::from_secs(100 * 365 * 86_400 * 10),
        ] {
            let timetoken = Cursor::at(time).timetoken;
            assert_eq!(timetoken.len(), 17, "{timetoken}");
            assert!(timetoken.parse::<u64>().unwrap() > 0);
        }
    }
}
