//! Content codings of answers.
//!
//! A server or a proxy may compress an answer that was not asked for in compressed
//! form (found 6.7), so every answer passes through this module, with any features.

use std::io::Read;

use bytes::Bytes;
use flate2::bufread::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};

/// No server applies more codings than this to one answer.
const MOST_CODINGS: usize = 4;
const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];

/// Why a body cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Undecoded {
    #[error("the answer is compressed in a way that was not asked for")]
    Unknown,
    #[error("the answer's compressed body is damaged")]
    Damaged,
    #[error("the answer is longer than its limit")]
    TooLarge,
}

/// Whether an error says that an answer is longer than its limit, and so would be again.
pub(crate) fn is_too_large(error: &crate::Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<Undecoded>());
    cause == Some(&Undecoded::TooLarge)
}

/// Decodes `body` as `headers` say, to at most `limit` bytes, and takes the headers
/// out that no longer hold.
///
/// gzip and deflate are understood. A body that is declared as gzip and does not
/// begin like it is taken as it is: some proxies decompress and leave the header.
/// JSON and text that begin like gzip are decompressed without a declaration too.
pub(crate) fn decode(headers: &mut HeaderMap, body: Bytes, limit: usize) -> Result<Bytes, Undecoded> {
    let codings = codings(headers)?;
    if codings.is_empty() {
        return if body.starts_with(GZIP_MAGIC) && is_text(headers) {
            inflate(Coding::Gzip, &body, limit)
        } else {
            Ok(body)
        };
    }
    headers.remove(CONTENT_ENCODING);
    headers.remove(CONTENT_LENGTH);
    // The last one named was applied last.
    codings.into_iter().rev().try_fold(body, |body, coding| inflate(coding, &body, limit))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Gzip,
    Deflate,
}

fn codings(headers: &HeaderMap) -> Result<Vec<Coding>, Undecoded> {
    let mut all = Vec::new();
    for value in headers.get_all(CONTENT_ENCODING) {
        let value = value.to_str().map_err(|_| Undecoded::Unknown)?;
        for name in value.split(',').map(|name| name.trim().to_ascii_lowercase()) {
            match name.as_str() {
                "" | "identity" => {}
                "gzip" | "x-gzip" => all.push(Coding::Gzip),
                "deflate" => all.push(Coding::Deflate),
                _ => return Err(Undecoded::Unknown),
            }
        }
    }
    if all.len() > MOST_CODINGS { Err(Undecoded::Unknown) } else { Ok(all) }
}

fn is_text(headers: &HeaderMap) -> bool {
    let Some(kind) = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()) else { return true };
    let kind = kind.to_ascii_lowercase();
    kind.starts_with("text/") || ["json", "javascript"].iter().any(|name| kind.contains(name))
}

fn inflate(coding: Coding, body: &Bytes, limit: usize) -> Result<Bytes, Undecoded> {
    match coding {
        // A body may be absent, as in an answer to HEAD or in a 204.
        _ if body.is_empty() => Ok(body.clone()),
        Coding::Gzip if !body.starts_with(GZIP_MAGIC) => Ok(body.clone()),
        Coding::Gzip => read(MultiGzDecoder::new(&body[..]), limit),
        Coding::Deflate if is_zlib(body) => read(ZlibDecoder::new(&body[..]), limit),
        // Some servers send deflate without the frame that RFC 9110 asks for.
        Coding::Deflate => read(DeflateDecoder::new(&body[..]), limit),
    }
}

/// RFC 1950: method 8, and the two bytes are a multiple of 31.
fn is_zlib(body: &[u8]) -> bool {
    matches!(body, [method, flags, ..] if method & 0x0f == 8 && u16::from_be_bytes([*method, *flags]) % 31 == 0)
}

/// The limit is on what comes out, so that a small body cannot fill the memory.
fn read(decoder: impl Read, limit: usize) -> Result<Bytes, Undecoded> {
    let mut out = Vec::new();
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    decoder.take(most).read_to_end(&mut out).map_err(|_| Undecoded::Damaged)?;
    if out.len() > limit { Err(Undecoded::TooLarge) } else { Ok(out.into()) }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    use http::HeaderValue;
    use http::header::HeaderName;
    use proptest::prelude::*;

    use super::*;

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn zlib(data: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn deflate(data: &[u8]) -> Vec<u8> {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn headers(all: &[(HeaderName, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in all {
            headers.append(name, HeaderValue::from_static(value));
        }
        headers
    }

    fn run(all: &[(HeaderName, &'static str)], body: Vec<u8>) -> Result<Vec<u8>, Undecoded> {
        decode(&mut headers(all), body.into(), 1 << 20).map(|bytes| bytes.to_vec())
    }

    #[test]
    fn found_6_7_a_compressed_answer_is_read_whether_or_not_it_was_requested() {
        let plain = br#"{"access_token":"t"}"#.to_vec();
        let coded = |name: &'static str| (CONTENT_ENCODING, name);
        for (what, headers, body) in [
            ("plain", vec![], plain.clone()),
            ("identity", vec![coded("identity")], plain.clone()),
            ("gzip", vec![coded("gzip")], gzip(&plain)),
            ("x-gzip in capitals", vec![coded("X-GZIP")], gzip(&plain)),
            ("gzip in two members", vec![coded("gzip")], [gzip(&plain[..5]), gzip(&plain[5..])].concat()),
            ("gzip twice", vec![coded("gzip, gzip")], gzip(&gzip(&plain))),
            ("two headers", vec![coded("deflate"), coded("gzip")], gzip(&zlib(&plain))),
            ("deflate as zlib", vec![coded("deflate")], zlib(&plain)),
            ("deflate without a frame", vec![coded("deflate")], deflate(&plain)),
            ("declared as gzip and plain", vec![coded("gzip")], plain.clone()),
            ("gzip without a declaration", vec![(CONTENT_TYPE, "application/json")], gzip(&plain)),
            ("gzip without any header", vec![], gzip(&plain)),
        ] {
            assert_eq!(run(&headers, body), Ok(plain.clone()), "{what}");
        }
        assert_eq!(run(&[coded("gzip")], Vec::new()), Ok(Vec::new()));
        // A file is what it is.
        let file = gzip(&plain);
        assert_eq!(run(&[(CONTENT_TYPE, "application/octet-stream")], file.clone()), Ok(file));
    }

    #[test]
    fn an_undecodable_body_is_an_error_with_the_reason() {
        let coded = |name: &'static str| (CONTENT_ENCODING, name);
        let whole = gzip(b"0123456789");
        for (what, coding, body, want) in [
            ("unknown", "br", vec![1, 2, 3], Undecoded::Unknown),
            ("cut", "gzip", whole[..whole.len() - 9].to_vec(), Undecoded::Damaged),
            ("wrong sum", "gzip", [&whole[..whole.len() - 8], &[0; 8]].concat(), Undecoded::Damaged),
            ("too many", "gzip,gzip,gzip,gzip,gzip", whole.clone(), Undecoded::Unknown),
            ("no zlib", "deflate", vec![0xff; 20], Undecoded::Damaged),
        ] {
            assert_eq!(run(&[coded(coding)], body), Err(want), "{what}");
        }
    }

    #[test]
    fn the_limit_applies_to_the_decoded_body() {
        let bomb = gzip(&vec![b'x'; 64 << 20]);
        assert!(bomb.len() < 1 << 20);
        let length = |body: &[u8], limit| {
            let mut headers = headers(&[(CONTENT_ENCODING, "gzip")]);
            decode(&mut headers, Bytes::copy_from_slice(body), limit).map(|out| out.len())
        };
        assert_eq!(length(&bomb, 1 << 20), Err(Undecoded::TooLarge));
        let exact = gzip(&[b'x'; 1000]);
        assert_eq!(length(&exact, 1000), Ok(1000));
        assert_eq!(length(&exact, 999), Err(Undecoded::TooLarge));
    }

    #[test]
    fn headers_that_no_longer_hold_are_taken_out() {
        let mut all = headers(&[(CONTENT_ENCODING, "gzip"), (CONTENT_LENGTH, "30"), (CONTENT_TYPE, "text/plain")]);
        decode(&mut all, gzip(b"x").into(), 10).unwrap();
        assert_eq!(all, headers(&[(CONTENT_TYPE, "text/plain")]));
    }

    proptest! {
        #[test]
        fn no_bytes_panic_or_exceed_the_limit(
            body in prop::collection::vec(any::<u8>(), 0..200),
            coding in prop::sample::select(vec!["gzip", "deflate", "gzip, deflate"]),
        ) {
            for body in [body.clone(), gzip(&body), zlib(&body)] {
                let mut all = headers(&[(CONTENT_ENCODING, coding)]);
                if let Ok(out) = decode(&mut all, body.into(), 64) {
                    // Taken as it is, it was bounded when it was received.
                    prop_assert!(out.len() <= 300);
                }
            }
        }
    }
}
