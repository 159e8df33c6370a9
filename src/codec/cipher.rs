//! A cipher: a key and a mode.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use std::fmt;

use aes::cipher::block_padding::Pkcs7;
use aes::cipher::common::InnerInit;
use aes::cipher::{BlockCipherDecrypt, BlockModeDecrypt, InnerIvInit, KeyInit, consts::U16};
use aes::{Aes128, Aes192, Aes256};
use zeroize::Zeroizing;

use super::DecodeError;
use crate::error::{Error, ErrorKind, Result};
use crate::secret::Secret;

/// Standard alphabet, `=` optional.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

const BLOCK: usize = 16;

/// The service's key (`deliveryMode.encryptionKey`), in the mode given by
/// `deliveryMode.encryptionAlgorithm`.
///
/// `Debug` shows mode and size, never the key.
#[derive(Clone)]
pub struct Cipher {
    mode: Mode,
    key: Key,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Each block independently.
    Ecb,
    /// Chained; the IV is the first block of the message.
    Cbc,
}

/// Boxed: key schedules are a few hundred bytes.
#[derive(Clone)]
enum Key {
    Aes128(Box<Aes128>),
    Aes192(Box<Aes192>),
    Aes256(Box<Aes256>),
}

impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = match self.key {
            Key::Aes128(_) => 128,
            Key::Aes192(_) => 192,
            Key::Aes256(_) => 256,
        };
        write!(f, "Cipher({:?}, {bits} bits, ..)", self.mode)
    }
}

impl Cipher {
    /// Creates the cipher that a subscription's `deliveryMode` describes.
    ///
    /// `algorithm` is read as a JCA transformation name, ignoring case and spaces: `AES` means
    /// `AES/ECB/PKCS5Padding`, which is what the service sends; `AES/CBC/PKCS5Padding` uses the
    /// first block of a message as its IV. `PKCS7Padding` is the proper name of the same padding. A
    /// key without an algorithm means `AES`.
    ///
    /// `key` is base64 of 16, 24 or 32 bytes.
    ///
    /// # Errors
    /// [`ErrorKind::Crypto`] for another algorithm, which the error names, and for a key that is
    /// not base64 or has another length.
    pub fn from_delivery_mode(algorithm: Option<&str>, key: &Secret) -> Result<Self> {
        let mode = mode_of(algorithm.unwrap_or_default())?;
        let bytes = base64_bytes(key.expose())
            .map(Zeroizing::new)
            .ok_or_else(|| Error::new(ErrorKind::Crypto, "the encryption key is not base64"))?;
        let key = match bytes.len() {
            16 => Aes128::new_from_slice(&bytes).map(Box::new).map(Key::Aes128),
            24 => Aes192::new_from_slice(&bytes).map(Box::new).map(Key::Aes192),
            32 => Aes256::new_from_slice(&bytes).map(Box::new).map(Key::Aes256),
            other => return Err(Error::new(ErrorKind::Crypto, format!("an encryption key of {other} bytes"))),
        };
        let key = key.map_err(|error| Error::new(ErrorKind::Crypto, "the encryption key").with_source(error))?;
        Ok(Self { mode, key })
    }

    /// Decrypts and removes the padding.
    pub(super) fn decrypt(&self, ciphertext: Vec<u8>) -> Result<Vec<u8>, DecodeError> {
        if ciphertext.is_empty() || !ciphertext.len().is_multiple_of(BLOCK) {
            return Err(DecodeError::Length { bytes: ciphertext.len() });
        }
        match &self.key {
            Key::Aes128(key) => decrypt(self.mode, &**key, ciphertext),
            Key::Aes192(key) => decrypt(self.mode, &**key, ciphertext),
            Key::Aes256(key) => decrypt(self.mode, &**key, ciphertext),
        }
    }
}

fn mode_of(algorithm: &str) -> Result<Mode> {
    let name: String = algorithm.chars().filter(|char| !char.is_whitespace()).collect::<String>().to_ascii_uppercase();
    match name.as_str() {
        "" | "AES" | "AES/ECB/PKCS5PADDING" | "AES/ECB/PKCS7PADDING" => Ok(Mode::Ecb),
        "AES/CBC/PKCS5PADDING" | "AES/CBC/PKCS7PADDING" => Ok(Mode::Cbc),
        _ => {
            const SHOWN: usize = 64;
            let shown: String = algorithm.chars().take(SHOWN).collect();
            Err(Error::new(ErrorKind::Crypto, format!("the encryption algorithm {shown:?} is not supported")))
        }
    }
}

/// `text` is a whole number of blocks, at least one, and is decrypted in place.
fn decrypt<C>(mode: Mode, key: &C, mut text: Vec<u8>) -> Result<Vec<u8>, DecodeError>
where
    C: BlockCipherDecrypt<BlockSize = U16>,
{
    let bytes = text.len();
    let (start, unpadded) = match mode {
        Mode::Ecb => (0, ecb::Decryptor::inner_init(key).decrypt_padded::<Pkcs7>(&mut text)),
        Mode::Cbc => {
            let (iv, rest) = text.split_at_mut(BLOCK);
            if rest.is_empty() {
                return Err(DecodeError::Length { bytes });
            }
            let cipher = cbc::Decryptor::inner_iv_slice_init(key, iv).map_err(|_| DecodeError::Length { bytes })?;
            (BLOCK, cipher.decrypt_padded::<Pkcs7>(rest))
        }
    };
    let length = unpadded.map_err(|_| DecodeError::Padding { bytes })?.len();
    text.truncate(start + length);
    text.drain(..start);
    Ok(text)
}

/// Base64, white space skipped.
pub(super) fn base64_bytes(text: &str) -> Option<Vec<u8>> {
    // Almost no text has any.
    BASE64.decode(text).ok().or_else(|| {
        let dense: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        BASE64.decode(dense).ok()
    })
}

#[cfg(test)]
mod encrypt {
    use aes::cipher::block_padding::Pkcs7;
    use aes::cipher::common::InnerInit;
    use aes::cipher::{BlockCipherEncrypt, BlockModeEncrypt, InnerIvInit, consts::U16};
    use base64::Engine as _;

    use super::{BLOCK, Cipher, Key, Mode};
    use crate::error::{Error, ErrorKind, Result};

    impl Cipher {
        /// The base64 text that the service would send for `plaintext`. Only CBC uses `iv`.
        pub(crate) fn encrypt(&self, plaintext: &[u8], iv: [u8; BLOCK]) -> Result<String> {
            let ciphertext = match &self.key {
                Key::Aes128(key) => encrypt(self.mode, &**key, plaintext, iv),
                Key::Aes192(key) => encrypt(self.mode, &**key, plaintext, iv),
                Key::Aes256(key) => encrypt(self.mode, &**key, plaintext, iv),
            }?;
            Ok(super::BASE64.encode(ciphertext))
        }
    }

    fn encrypt<C>(mode: Mode, key: &C, plaintext: &[u8], iv: [u8; BLOCK]) -> Result<Vec<u8>>
    where
        C: BlockCipherEncrypt<BlockSize = U16>,
    {
        let failed = || Error::new(ErrorKind::Crypto, "the payload could not be encrypted");
        let lead = match mode {
            Mode::Ecb => 0,
            Mode::Cbc => BLOCK,
        };
        let mut out = vec![0; lead + plaintext.len() + BLOCK - plaintext.len() % BLOCK];
        let (head, body) = out.split_at_mut(lead);
        match mode {
            Mode::Ecb => {
                ecb::Encryptor::inner_init(key).encrypt_padded_b2b::<Pkcs7>(plaintext, body).map_err(|_| failed())?;
            }
            Mode::Cbc => {
                head.copy_from_slice(&iv);
                cbc::Encryptor::inner_iv_slice_init(key, &iv)
                    .map_err(|_| failed())?
                    .encrypt_padded_b2b::<Pkcs7>(plaintext, body)
                    .map_err(|_| failed())?;
            }
        }
        Ok(out)
    }
}
