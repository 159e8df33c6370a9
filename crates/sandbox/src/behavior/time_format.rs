//! The format of times.

use std::time::SystemTime;

use ringcentral_events::Timestamp;
use serde::{Deserialize, Serialize};

/// The format of times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TimeFormat {
    /// `2016-02-17T15:56:45.617Z`
    Zulu,
    /// `2016-02-17T15:56:45.617+0000`
    PlusFour,
    /// `2016-02-17T15:56:45.617+00`
    PlusTwo,
    /// `2016-02-17T15:56:45Z`
    NoFraction,
}

impl TimeFormat {
    /// Writes a time of the service's clock.
    pub(crate) fn write(self, at: SystemTime) -> String {
        let zulu = Timestamp::from(at).as_str().to_owned();
        let body = zulu.trim_end_matches('Z');
        match self {
            Self::Zulu => zulu,
            Self::PlusFour => format!("{body}+0000"),
            Self::PlusTwo => format!("{body}+00"),
            Self::NoFraction => format!("{}Z", body.split('.').next().unwrap_or(body)),
        }
    }
}
