//! Continues after a restart.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::continuity::Proven;
use super::endpoint::Endpoint;
use super::positions::Positions;
use crate::control::Cursor;
use crate::error::{Error, Result};
use crate::event::DedupKey;
use crate::ids::{ExtensionId, SubscriptionId};
use crate::secret::Secret;
use crate::timestamp::Timestamp;

/// The position of a stream when its reader stopped: enough to continue in another process without loss, as long as the
/// service still has the events.
///
/// Take one with [`Subscription::resume_token`](crate::Subscription::resume_token) after the effects of the events read
/// so far are safe, store its text, and pass it to [`SubscriptionBuilder::resume`](crate::SubscriptionBuilder::resume).
/// It covers exactly the items that the stream has yielded. Events of the same batch as the last one come again from
/// the service and are recognized.
///
/// Its text is versioned JSON. It contains neither channel nor keys nor access tokens. It contains the positions of
/// catch-up sources (the service's sync tokens, useless without a login), and over WebSocket the session's recovery
/// token (`wsc`). The gateway requires the same login for that, so it takes a [`TokenStore`](crate::auth::TokenStore)
/// that outlives the process. `Debug` and `Display` omit the recovery token: [`to_secret`](Self::to_secret) and serde
/// do not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResumeToken {
    #[serde(rename = "v")]
    version: u32,
    pub(crate) subscription_id: SubscriptionId,
    /// Identifies the address without revealing it.
    pub(crate) address: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cursor: Option<Cursor>,
    /// Up to when each kind of loss is excluded, by the service's clock.
    pub(crate) proven: Proven,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) seen: Vec<DedupKey>,
    /// The subjects of pushed events, and of found ones: see `dedup::Subjects`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) pushed: Vec<DedupKey>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) found: Vec<DedupKey>,
    /// The positions of catch-up sources, by their names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) positions: BTreeMap<String, Positions>,
    /// Since when events are missing in gaps whose end the reader does not have: what sources found of them may not have
    /// been read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) missing_since: Option<Timestamp>,
    /// The extension that `~` stands for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) owner: Option<ExtensionId>,
}

/// A position in the stream: everything before it was delivered.
#[derive(Clone, Debug)]
pub(super) struct Mark {
    pub(super) cursor: Cursor,
    pub(super) endpoint: Arc<Endpoint>,
    /// What is proven once everything before it was read.
    pub(super) proven: Proven,
}

impl ResumeToken {
    const VERSION: u32 = 2;

    pub(super) fn new(
        subscription_id: SubscriptionId,
        address: String,
        cursor: Option<Cursor>,
        proven: Proven,
    ) -> Self {
        Self {
            version: Self::VERSION,
            subscription_id,
            address,
            cursor,
            proven,
            seen: Vec::new(),
            pushed: Vec::new(),
            found: Vec::new(),
            positions: BTreeMap::new(),
            missing_since: None,
            owner: None,
        }
    }

    /// Invalid text stands for all of the past.
    pub(super) fn missing_since(&self) -> Option<SystemTime> {
        let since = self.missing_since.as_ref()?;
        Some(since.system_time().unwrap_or(SystemTime::UNIX_EPOCH))
    }

    /// Its whole text, for a secret store. Over WebSocket it contains the session's recovery token; the text of
    /// `Display` does not, and leads to a gap that catch-up sources fill.
    #[must_use]
    pub fn to_secret(&self) -> Secret {
        // Serialization cannot fail; an empty text would be refused as a token.
        Secret::new(serde_json::to_string(self).unwrap_or_default())
    }

    /// The subscription that it continues.
    #[must_use]
    pub fn subscription_id(&self) -> &SubscriptionId {
        &self.subscription_id
    }
}

impl fmt::Display for ResumeToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = self.clone();
        shown.cursor = shown.cursor.map(|cursor| cursor.with_secret(None));
        f.write_str(&serde_json::to_string(&shown).map_err(|_| fmt::Error)?)
    }
}

impl FromStr for ResumeToken {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        #[derive(Deserialize)]
        struct Version {
            v: u32,
        }
        // The parser's own message quotes values, so it is not passed on.
        let unreadable = |error: serde_json::Error| {
            let (line, column) = (error.line(), error.column());
            Error::config(format!("this is not a resume token (line {line}, column {column})"))
        };
        let Version { v } = serde_json::from_str(text).map_err(unreadable)?;
        if v != Self::VERSION {
            return Err(Error::config(format!("a resume token of version {v}, this is {}", Self::VERSION)));
        }
        serde_json::from_str(text).map_err(unreadable)
    }
}

#[cfg(test)]
mod tests {
    use super::super::endpoint::fingerprint;
    use super::super::positions::SourcePosition;
    use super::*;
    use crate::catch_up::SyncToken;

    #[test]
    fn a_token_survives_its_text_and_shows_no_secret() {
        let address = fingerprint(&Secret::new("123_abc"), &Secret::new("sub-c-1"));
        let cursor =
            Cursor::from_ticks(7).with_detail(Some("4".to_owned())).with_secret(Some(Secret::new("wsc-secret")));
        let at = std::time::SystemTime::UNIX_EPOCH;
        let mut token = ResumeToken::new("id-1".into(), address, Some(cursor), Proven::all(at));
        token.seen.push(DedupKey::from_bytes([7; 16]));
        token.found.push(DedupKey::from_bytes([8; 16]));
        let position = SourcePosition::new(SyncToken::new("position", at), true, at);
        token.positions.entry("message-sync".into()).or_default().push(position);
        let whole = token.to_secret();
        assert_eq!(whole.expose().parse::<ResumeToken>().unwrap(), token);
        let text = token.to_string();
        assert!(!text.contains("wsc-secret") && text.parse::<ResumeToken>().is_ok(), "{text}");
        assert!(!format!("{token:?}").contains("wsc-secret"), "{token:?}");
        assert!(!text.contains("123_abc") && !text.contains("sub-c-1"), "{text}");
    }

    #[test]
    fn other_versions_are_refused_by_name_and_other_text_as_no_token() {
        for (text, says) in [
            ("", "not a resume token"),
            ("{}", "not a resume token"),
            ("[]", "not a resume token"),
            (r#"{"v":1,"subscriptionId":"a","address":"b","savedAt":"x"}"#, "version 1"),
            (r#"{"v":2,"subscriptionId":"a","address":"b","savedAt":"x"}"#, "not a resume token"),
        ] {
            let error = text.parse::<ResumeToken>().unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::Config, "{text}");
            assert!(error.to_string().contains(says), "{text}: {error}");
        }
        // Another version is reported as such, with any content.
        let error = r#"{"v":7,"place":{}}"#.parse::<ResumeToken>().unwrap_err();
        assert_eq!(error.to_string(), "a resume token of version 7, this is 2");
    }

    #[test]
    fn the_error_of_a_corrupt_token_quotes_nothing_of_it() {
        for text in [
            r#""s3cret""#,
            r#"{"v":"s3cret"}"#,
            r#"{"v":2,"s3cret":"#,
            r#"{"v":2,"subscriptionId":"a","address":"b","cursor":"s3cret"}"#,
            r#"{"v":2,"subscriptionId":"a","address":"b","seen":["s3cret"]}"#,
            r#"{"v":2,"subscriptionId":["s3cret"],"address":"b"}"#,
        ] {
            let error = text.parse::<ResumeToken>().unwrap_err();
            assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");
            assert!(std::error::Error::source(&error).is_none(), "{error:?}");
        }
    }
}
