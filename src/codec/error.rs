//! Why a payload could not be decoded.

/// Why a payload could not be decoded.
///
/// Carries lengths and never text: a payload belongs to the user, and text decrypted with a wrong
/// key is meaningless.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The payload is a string, so encrypted, but there is no key.
    #[error("an encrypted payload of {chars} characters, and no key is known")]
    NoKey {
        /// Length of the text.
        chars: usize,
    },
    /// The text is not base64.
    #[error("a payload of {chars} characters is not base64")]
    Base64 {
        /// Length of the text.
        chars: usize,
    },
    /// The ciphertext is empty or not a whole number of blocks.
    #[error("a ciphertext of {bytes} bytes is not a whole number of 16-byte blocks")]
    Length {
        /// Length of the ciphertext.
        bytes: usize,
    },
    /// The padding is wrong: another key, or damaged text.
    #[error("a ciphertext of {bytes} bytes has wrong padding under every known key")]
    Padding {
        /// Length of the ciphertext.
        bytes: usize,
    },
    /// The decrypted text is not UTF-8.
    #[error("a decrypted payload of {bytes} bytes is not UTF-8")]
    Utf8 {
        /// Length of the plaintext.
        bytes: usize,
    },
    /// The text is not JSON.
    #[error("a payload text of {bytes} bytes is not JSON")]
    Json {
        /// Length of the text.
        bytes: usize,
    },
    /// The JSON is not an object; every notification is one.
    #[error("a payload of {bytes} bytes is JSON but not an object")]
    NotAnObject {
        /// Length of the JSON text.
        bytes: usize,
    },
}
