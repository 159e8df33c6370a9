//! The encryption that the service applies to a payload before PubNub.

use aes::Aes128;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ecb::Encryptor;
use ecb::cipher::block_padding::Pkcs7;
use ecb::cipher::{BlockModeEncrypt, KeyInit};

/// An AES-128 key.
pub(crate) type Key = [u8; 16];

const BLOCK: usize = 16;

/// Base64 of AES-128-ECB with PKCS#7 padding.
pub(crate) fn encrypt(key: &Key, plain: &[u8]) -> String {
    // PKCS#7 adds one to sixteen bytes.
    let mut buffer = vec![0; (plain.len() / BLOCK + 1) * BLOCK];
    buffer[..plain.len()].copy_from_slice(plain);
    let sealed = Encryptor::<Aes128>::new(key.into()).encrypt_padded::<Pkcs7>(&mut buffer, plain.len());
    // The buffer has room for a block of padding, so it cannot fail; an empty text would fail every
    // test.
    sealed.map(|bytes| STANDARD.encode(bytes)).unwrap_or_default()
}

/// Base64 of AES-128-ECB over `blocks` without padding, so that a test can send wrong padding.
/// Bytes after the last whole block are dropped.
pub(crate) fn encrypt_unpadded(key: &Key, blocks: &[u8]) -> String {
    let mut buffer = blocks[..blocks.len() / BLOCK * BLOCK].to_vec();
    let length = buffer.len();
    let sealed = Encryptor::<Aes128>::new(key.into())
        .encrypt_padded::<ecb::cipher::block_padding::NoPadding>(&mut buffer, length);
    sealed.map(|bytes| STANDARD.encode(bytes)).unwrap_or_default()
}

/// A key from its base64 text.
pub(crate) fn key_from_base64(text: &str) -> Option<Key> {
    STANDARD.decode(text).ok()?.try_into().ok()
}

/// The base64 text of a key.
pub(crate) fn key_to_base64(key: &Key) -> String {
    STANDARD.encode(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "pdj+XYIRRBryWS2k33qXiA==";

    #[test]
    fn known_answers_of_the_reference() {
        let key = key_from_base64(KEY).unwrap();
        for (plain, want) in [
            ("{}", "Bz04jCY29UZGCeUiQMRbYw=="),
            (
                "{\"event\":\"/x\",\"body\":{\"t\":\"h\u{e9}llo \u{2603}\"}        }",
                "P7tR3j3+517Bcn6kyneUqm4Ieh1BfnsZ31OdxP0zkXVgh458qpuLVxgo5PrCo3eXL4E/O0gNVLaUvFY7Hweaiw==",
            ),
        ] {
            assert_eq!(encrypt(&key, plain.as_bytes()), want, "{plain}");
        }
        assert_eq!(key_to_base64(&key), KEY);
    }

    #[test]
    fn unpadded_text_is_the_padded_one_without_its_last_block() {
        let key = key_from_base64(KEY).unwrap();
        let padded = STANDARD.decode(encrypt(&key, &[7; 32])).unwrap();
        assert_eq!(STANDARD.decode(encrypt_unpadded(&key, &[7; 33])).unwrap(), padded[..32]);
    }
}
