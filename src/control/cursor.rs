//! Positions in a transport's stream.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::secret::Secret;

/// A position in a transport's stream from which reading continues without loss.
///
/// It is a time of the service, and what else the transport that made it needs: a detail that holds at one address only
/// (PubNub's region), and a secret (the recovery token of a WebSocket session), which `Debug` hides. Other transports
/// ignore both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// In units of 100 ns since 1970, as PubNub's timetokens (pubnub.md §1).
    ticks: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "expose")]
    secret: Option<Secret>,
}

/// A position must survive a restart, so it is serialized with its secret.
fn expose<S: serde::Serializer>(secret: &Option<Secret>, serializer: S) -> Result<S::Ok, S::Error> {
    secret.as_ref().map(Secret::expose).serialize(serializer)
}

impl Cursor {
    /// The position at `time`: the service delivers what was published from then on, as far as its buffer still holds
    /// it.
    ///
    /// A position from before the subscription's creation leaves no hole between the creation and the first poll. In
    /// units of 100 ns it always has 17 digits: earlier times than 2001 and later ones than 2286 are clamped. So it is
    /// never zero, which PubNub reads as "from now on".
    #[must_use]
    pub fn at(time: SystemTime) -> Self {
        const LEAST: u64 = 10_000_000_000_000_000;
        const MOST: u64 = 99_999_999_999_999_999;
        let ticks = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() / 100;
        Self::from_ticks(u64::try_from(ticks).unwrap_or(MOST).clamp(LEAST, MOST))
    }

    /// The position at a time in units of 100 ns since 1970.
    #[must_use]
    pub fn from_ticks(ticks: u64) -> Self {
        Self { ticks, detail: None, secret: None }
    }

    /// Adds what holds at the present address only.
    #[must_use]
    pub fn with_detail(mut self, detail: Option<String>) -> Self {
        self.detail = detail;
        self
    }

    /// Adds what grants access to the stream.
    #[must_use]
    pub fn with_secret(mut self, secret: Option<Secret>) -> Self {
        self.secret = secret;
        self
    }

    /// Its time, by the service's clock.
    #[must_use]
    pub fn time(&self) -> SystemTime {
        const PER_SECOND: u64 = 10_000_000;
        // At most 1.9 * 10^12 s: every 64-bit clock represents that.
        let fraction = Duration::from_nanos(self.ticks % PER_SECOND * 100);
        UNIX_EPOCH + Duration::from_secs(self.ticks / PER_SECOND) + fraction
    }

    /// Its time in units of 100 ns since 1970.
    #[must_use]
    pub fn ticks(&self) -> u64 {
        self.ticks
    }

    /// The part that is valid only at the address for which the transport made it.
    #[must_use]
    pub fn detail(&self) -> Option<&str> {
        self.detail.as_deref()
    }

    /// The secret that grants access to the stream.
    #[must_use]
    pub fn secret(&self) -> Option<&Secret> {
        self.secret.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_has_seventeen_digits_of_100_ns() {
        let at = |duration| Cursor::at(UNIX_EPOCH + duration).ticks;
        assert_eq!(at(Duration::from_secs(1_562_865_247)), 15_628_652_470_000_000);
        assert_eq!(at(Duration::new(1_562_865_247, 993_271_799)), 15_628_652_479_932_717);
        for time in [UNIX_EPOCH, UNIX_EPOCH - Duration::from_secs(5), UNIX_EPOCH + Duration::from_secs(1)] {
            assert_eq!(Cursor::at(time).ticks.to_string().len(), 17);
        }
        let far = UNIX_EPOCH + Duration::from_secs(100 * 365 * 86_400 * 10);
        assert_eq!(Cursor::at(far).ticks.to_string().len(), 17);
    }

    #[test]
    fn a_position_gives_its_time_back() {
        for ticks in [1, 15_628_652_479_932_717, u64::MAX] {
            let cursor = Cursor::from_ticks(ticks);
            let nanos = cursor.time().duration_since(UNIX_EPOCH).unwrap().as_nanos();
            assert_eq!(nanos / 100, u128::from(ticks));
        }
    }

    #[test]
    fn a_position_survives_its_text_and_hides_its_secret() {
        let cursor = Cursor::from_ticks(7).with_detail(Some("4".to_owned())).with_secret(Some(Secret::new("s3cret")));
        let text = serde_json::to_string(&cursor).unwrap();
        assert_eq!(serde_json::from_str::<Cursor>(&text).unwrap(), cursor);
        assert!(!format!("{cursor:?}").contains("s3cret"));
    }
}
