//! The four requests, as the vendor's crate describes them: the path is encoded, the query values are not.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use ::pubnub::core::{TransportMethod, TransportRequest};

use crate::control::Cursor;
use crate::error::{Disposition, Error, ErrorKind, Result};
use crate::secret::Secret;
use crate::transport::Target;

/// Replaces the owner's id where it is unknown. Constant, since PubNub counts users.
const USER_ID: &str = "ringcentral-events";
/// PubNub's limit of a user id.
const USER_ID_CHARS: usize = 92;
const SDK: &str = concat!("RingCentralEvents-Rust/", env!("CARGO_PKG_VERSION"));
const LEAVE_TIMEOUT: Duration = Duration::from_secs(2);
const TIME_TIMEOUT: Duration = Duration::from_secs(10);

/// The channel, key and user of a poll, encoded for a URL.
#[derive(Clone)]
pub(super) struct Endpoint {
    key: Secret,
    channel: Secret,
    user_id: String,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Endpoint(..)")
    }
}

impl Endpoint {
    pub(super) fn new(target: &Target) -> Result<Self> {
        let user_id = match target.user_id.as_deref() {
            None | Some("") => USER_ID.to_owned(),
            Some(id) => id.chars().take(USER_ID_CHARS).collect(),
        };
        Ok(Self {
            key: segment(&target.subscriber_key, "the service sent an unusable subscriberKey")?,
            channel: segment(&target.address, "the service sent an unusable address")?,
            user_id,
        })
    }

    /// One long poll from `cursor`.
    pub(super) fn subscribe(&self, cursor: &Cursor, deadline: Duration) -> TransportRequest {
        let mut query = self.query();
        query.insert("tt".to_owned(), cursor.ticks().to_string());
        if let Some(region) = cursor.detail() {
            query.insert("tr".to_owned(), region.to_string());
        }
        // The last segment stands for a JSONP callback and is required.
        get(format!("/v2/subscribe/{}/{}/0", self.key.expose(), self.channel.expose()), query, deadline)
    }

    /// Asks for the present position, which the service answers at once and without messages (pubnub.md §3.1). The
    /// answer names the region, unlike the answer to a time request.
    pub(super) fn present(&self) -> TransportRequest {
        let mut query = self.query();
        query.insert("tt".to_owned(), "0".to_owned());
        get(format!("/v2/subscribe/{}/{}/0", self.key.expose(), self.channel.expose()), query, TIME_TIMEOUT)
    }

    /// Notifies the service that this user has left.
    pub(super) fn leave(&self) -> TransportRequest {
        let path = format!("/v2/presence/sub-key/{}/channel/{}/leave", self.key.expose(), self.channel.expose());
        get(path, self.query(), LEAVE_TIMEOUT)
    }

    /// Asks for the time, to check that the service is alive.
    pub(super) fn time(&self) -> TransportRequest {
        get("/time/0".to_owned(), self.query(), TIME_TIMEOUT)
    }

    fn query(&self) -> HashMap<String, String> {
        HashMap::from([("uuid".to_owned(), self.user_id.clone()), ("pnsdk".to_owned(), SDK.to_owned())])
    }
}

fn get(path: String, query_parameters: HashMap<String, String>, timeout: Duration) -> TransportRequest {
    TransportRequest {
        path,
        query_parameters,
        method: TransportMethod::Get,
        // This field takes whole seconds; the transport has the exact deadline.
        timeout: timeout.as_secs().saturating_add(u64::from(timeout.subsec_nanos() > 0)),
        ..TransportRequest::default()
    }
}

/// `text` as one segment of a path. Dots alone would walk up the path in any spelling, and an empty text would drop the
/// segment.
fn segment(text: &Secret, refusal: &'static str) -> Result<Secret> {
    match text.expose() {
        "" | "." | ".." => Err(Error::new(ErrorKind::Protocol, refusal).with_disposition(Disposition::Fatal)),
        text => Ok(Secret::new(encode(text))),
    }
}

/// Percent-encodes everything but RFC 3986's unreserved characters.
pub(super) fn encode(text: &str) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.extend(['%', char::from(HEX[usize::from(byte >> 4)]), char::from(HEX[usize::from(byte & 15)])]);
        }
    }
    out
}

/// Refuses a cursor that PubNub would take for "now".
pub(super) fn check(cursor: &Cursor) -> Result<()> {
    if cursor.ticks() > 0 { Ok(()) } else { Err(Error::config("the cursor is not one of PubNub's")) }
}

/// A position: digits only, more than zero, within 64 bits.
pub(super) fn timetoken(text: &str) -> Option<u64> {
    let is_digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|ticks| is_digits && *ticks > 0)
}

/// The position at a timetoken, in the region that named it.
pub(super) fn cursor(timetoken: u64, region: Option<u32>) -> Cursor {
    Cursor::from_ticks(timetoken).with_detail(region.map(|region| region.to_string()))
}
