//! Text that must not be shown.

use std::fmt;
use std::hash::{Hash, Hasher};

use bytes::Bytes;
use http::header::{HeaderValue, InvalidHeaderValue};
use zeroize::{Zeroize as _, Zeroizing};

/// Text that never shows itself: tokens, JWTs, client secrets, encryption keys,
/// channel names and signed URLs.
///
/// `Debug` prints a fixed word, there is no `Display` and no `Serialize`.
/// [`expose`](Self::expose) is the one way out, so that a search for it lists
/// every place where a secret leaves.
///
/// ```
/// use ringcentral_events::Secret;
/// let jwt = Secret::new("eyJhbGciOi...");
/// assert_eq!(format!("{jwt:?}"), "Secret(..)");
/// ```
///
/// Its memory is overwritten when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<Box<str>>);

impl Secret {
    /// Copies `text` to separate memory, and overwrites the former place.
    pub fn new(text: impl Into<String>) -> Self {
        let text = Zeroizing::new(text.into());
        Self::from(text.as_str())
    }

    /// The text itself. Do not log it, and do not put it into an error.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl Hash for Secret {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

/// A header's value that its owner marks as sensitive and overwrites when it is dropped.
pub(crate) fn header(text: String) -> Result<HeaderValue, InvalidHeaderValue> {
    let mut value = HeaderValue::from_maybe_shared(body(text))?;
    value.set_sensitive(true);
    Ok(value)
}

/// A request's body that is overwritten when it is dropped.
pub(crate) fn body(text: String) -> Bytes {
    Bytes::from_owner(Zeroizing::new(text.into_bytes()))
}

/// Overwrites a response's body, unless a clone of it is in use.
pub(crate) fn wipe(body: Bytes) {
    if let Ok(mut body) = body.try_into_mut() {
        body.zeroize();
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(Zeroizing::new(text.into()))
    }
}

impl<'de> serde::Deserialize<'de> for Secret {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_never_shows_the_text() {
        let secret = Secret::new("hunter2");
        assert!(!format!("{secret:?} {secret:#?} {:?}", Some(&secret)).contains("hunter2"));
        assert_eq!(secret.expose(), "hunter2");
    }
}
