//! Sync tokens: opaque to clients, they carry the time and the frame.

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

/// What a sync token tells the service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Token {
    /// What it is for: a token of one resource is none of another.
    pub(super) resource: String,
    /// When it was made, ms since 1970 by the service's clock.
    pub(super) at: u64,
    /// Where its frame begins.
    pub(super) from: u64,
    /// Types in the frame; none stands for all.
    pub(super) types: Vec<String>,
    /// Directions in the frame; none stands for all.
    pub(super) directions: Vec<String>,
}

impl Token {
    pub(super) fn write(&self) -> String {
        // A struct of texts and numbers can always be written.
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
    // Within the clock's range whatever a client sends.
    SystemTime::UNIX_EPOCH + Duration::from_millis(ms.min(4_102_444_800_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_as_it_was_written_and_nothing_else_is_one() {
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
