//! The signature over a body: HMAC-SHA512 with the channel's token.

use std::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha512;

use crate::error::{Error, ErrorKind, Result};
use crate::secret::Secret;

/// The signature header of requests and responses.
pub const SIGNATURE_HEADER: &str = "x-smccsdk-signature";

/// The query parameter that may carry a request's signature instead, for proxies that strip
/// headers.
pub const SIGNATURE_QUERY: &str = "signature";

const DIGEST: usize = 64;
const HEX: &[u8; 16] = b"0123456789abcdef";

/// Signs bodies and verifies their signatures, with one channel's API access token.
///
/// A signature is the HMAC-SHA512 of the body's raw bytes, in 128 lower-case hexadecimal digits.
/// All directions use the same key: the platform's actions, your responses, and requests to the
/// Send API.
///
/// The token is used as text, even if it looks like hexadecimal digits.
///
/// ```
/// use ringcentral_events::digital::Signer;
///
/// let signer = Signer::new("the channel's API access token")?;
/// let signature = signer.sign(b"[]");
/// assert!(signer.verify(b"[]", &signature).is_ok());
/// assert!(signer.verify(b"[ ]", &signature).is_err());
/// # Ok::<(), ringcentral_events::Error>(())
/// ```
#[derive(Clone)]
pub struct Signer(Hmac<Sha512>);

impl Signer {
    /// A signer with the channel's API access token.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for a token that is empty, which anyone could sign with, or that
    /// begins or ends with white space: a file's line break is not part of the token, and no
    /// signature would ever match.
    pub fn new(token: impl Into<Secret>) -> Result<Self> {
        let token = token.into();
        let text = token.expose();
        if text.trim().is_empty() {
            return Err(Error::config("the channel's API access token is empty"));
        }
        if text.trim() != text {
            return Err(Error::config("the channel's API access token begins or ends with white space"));
        }
        let keyed = Hmac::new_from_slice(text.as_bytes())
            .map_err(|error| Error::config("the channel's API access token is no key").with_source(error))?;
        Ok(Self(keyed))
    }

    /// The signature of `body`.
    #[must_use]
    pub fn sign(&self, body: &[u8]) -> String {
        let digest = self.0.clone().chain_update(body).finalize().into_bytes();
        let digits = digest.iter().flat_map(|byte| [byte >> 4, byte & 15]);
        digits.map(|digit| char::from(HEX[usize::from(digit)])).collect()
    }

    /// Verifies that `signature` matches `body`, in constant time.
    ///
    /// Accepts only lower-case digits, as all known peers do.
    ///
    /// # Errors
    /// [`InvalidSignature`], without a reason.
    pub fn verify(&self, body: &[u8], signature: &str) -> Result<(), InvalidSignature> {
        let given = decode(signature).ok_or(InvalidSignature)?;
        self.0.clone().chain_update(body).verify_slice(&given).map_err(|_| InvalidSignature)
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signer(..)")
    }
}

/// A signature is missing, malformed, or does not match the body.
///
/// It reveals neither the reason nor the right signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid signature")]
#[non_exhaustive]
pub struct InvalidSignature;

impl From<InvalidSignature> for Error {
    fn from(error: InvalidSignature) -> Self {
        Self::new(ErrorKind::Rejected, "invalid signature").with_source(error)
    }
}

fn decode(text: &str) -> Option<[u8; DIGEST]> {
    if text.len() != 2 * DIGEST {
        return None;
    }
    let mut bytes = [0; DIGEST];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}
