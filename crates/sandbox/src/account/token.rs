//! Sync tokens: opaque to clients, they contain the time and the frame.

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

/// The content of a sync token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Token {
    /// The resource that issued it; a token is valid for one resource only.
    pub(super) resource: String,
    /// Creation time, ms since 1970 by the service's clock.
    pub(super) at: u64,
    /// The start of its frame.
    pub(super) from: u64,
    /// Types in the frame; empty means all.
    pub(super) types: Vec<String>,
    /// Directions in the frame; empty means all.
    pub(super) directions: Vec<String>,
}

impl Token {
    pub(super) fn write(&self) -> String {
        // A struct of texts and numbers always serializes.
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    pub(super) fn read(text: &str) -> Option<Self> {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
    }
}

pub(super) fn to_millis(at: SystemTime) -> u64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn from_millis(ms: u64) -> SystemTime {
    // Capped to the clock's range, since clients may send any number.
    SystemTime::UNIX_EPOCH + Duration::from_millis(ms.min(4_102_444_800_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_round_trips_and_other_texts_are_rejected() {
        let token = Token { resource: "r".into(), at: 7, from: 3, types: vec!["SMS".into()], directions: vec![] };
        assert_eq!(Token::read(&token.write()), Some(token));
        for bad in ["", "bad", "e30", "!!"] {
            assert_eq!(Token::read(bad), None, "{bad}");
        }
    }

    #[test]
    fn times_round_trip_to_the_millisecond() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_714_979_289_010);
        assert_eq!(from_millis(to_millis(at)), at);
        assert!(from_millis(u64::MAX) > at);
    }
}
