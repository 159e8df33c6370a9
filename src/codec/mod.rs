//! Decodes a raw payload into the JSON of one notification.
//!
//! The service encrypts PubNub payloads with AES in ECB mode and PKCS#7 padding, with a key sent
//! with the subscription. This is the service's choice and not a good one: there is no IV and no
//! MAC, equal blocks look equal, and a writer to the channel can cut and paste blocks. Decryption
//! here is decoding. It does not authenticate the sender.
//!
//! Nothing here does IO, waits, or panics on any input.

mod cipher;
mod error;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use serde_json::value::RawValue;

use cipher::base64_bytes;

pub use cipher::Cipher;
pub use error::DecodeError;

/// Decodes a payload (`d` of a PubNub envelope) into the JSON object of one notification.
///
/// The payload itself determines its form, not the subscription's settings, since a change of
/// filters can turn encryption on:
///
/// - an object is not encrypted and is returned byte for byte;
/// - a string is the base64 of a ciphertext, tried with each of `ciphers` in order: the current
///   key, then the previous one. White space in it is skipped;
/// - a string that is the JSON text of an object is that object;
/// - anything else is an error.
///
/// # Errors
/// [`DecodeError`]. With several keys it is that of the first, which is the one that should have
/// matched.
pub fn decode(payload: &RawValue, ciphers: &[&Cipher]) -> Result<Box<RawValue>, DecodeError> {
    let json = payload.get();
    match json.as_bytes().first() {
        Some(b'{') => Ok(payload.to_owned()),
        Some(b'"') => decode_text(&text_of(json)?, ciphers),
        _ => Err(DecodeError::NotAnObject { bytes: json.len() }),
    }
}

/// As [`decode`], of a payload that is not needed any more: one that is not encrypted is not copied. The payload comes
/// back with the error.
pub(crate) fn decode_owned<'a>(
    payload: Box<RawValue>,
    ciphers: impl FnOnce() -> Vec<&'a Cipher>,
) -> Result<Box<RawValue>, (Box<RawValue>, DecodeError)> {
    if payload.get().starts_with('{') {
        return Ok(payload);
    }
    decode(&payload, &ciphers()).map_err(|error| (payload, error))
}

/// The text of a JSON string; borrowed unless it has escapes.
fn text_of(json: &str) -> Result<Cow<'_, str>, DecodeError> {
    let bytes = json.len();
    if json.contains('\\') {
        // RawValue accepts lone surrogates; a String cannot hold them.
        return serde_json::from_str(json).map(Cow::Owned).map_err(|_| DecodeError::Json { bytes });
    }
    json.get(1..bytes.saturating_sub(1)).map(Cow::Borrowed).ok_or(DecodeError::Json { bytes })
}

fn decode_text(text: &str, ciphers: &[&Cipher]) -> Result<Box<RawValue>, DecodeError> {
    // No base64 text starts with a brace.
    if text.trim_ascii_start().starts_with('{') {
        return object_from(text.to_owned());
    }
    if ciphers.is_empty() {
        return Err(DecodeError::NoKey { chars: text.len() });
    }
    let mut ciphertext = base64_bytes(text).ok_or(DecodeError::Base64 { chars: text.len() })?;
    let mut first_error = None;
    for (at, cipher) in ciphers.iter().enumerate() {
        // Decrypted in place, so that only a further key takes a copy.
        let is_last = at + 1 == ciphers.len();
        let text = if is_last { std::mem::take(&mut ciphertext) } else { ciphertext.clone() };
        match open(cipher, text) {
            Ok(object) => return Ok(object),
            Err(error) => first_error = first_error.or(Some(error)),
        }
    }
    Err(first_error.unwrap_or(DecodeError::NoKey { chars: text.len() }))
}

/// Decrypts with one key. A wrong key passes the padding check about once in 256 times, so later
/// errors count as a wrong key too.
fn open(cipher: &Cipher, ciphertext: Vec<u8>) -> Result<Box<RawValue>, DecodeError> {
    let plaintext = cipher.decrypt(ciphertext)?;
    let text = String::from_utf8(plaintext).map_err(|error| DecodeError::Utf8 { bytes: error.as_bytes().len() })?;
    object_from(text)
}

fn object_from(text: String) -> Result<Box<RawValue>, DecodeError> {
    let bytes = text.len();
    let value = RawValue::from_string(text).map_err(|_| DecodeError::Json { bytes })?;
    if value.get().starts_with('{') { Ok(value) } else { Err(DecodeError::NotAnObject { bytes }) }
}
