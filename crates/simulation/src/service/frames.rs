//! WebSocket frames as a server reads and writes them (RFC 6455), and the handshake's answer.

use base64::Engine as _;
use sha1::{Digest as _, Sha1};

pub(crate) const TEXT: u8 = 1;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

pub(crate) fn accept(key: &str) -> String {
    let mut hash = Sha1::new();
    hash.update(key.as_bytes());
    hash.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    base64::engine::general_purpose::STANDARD.encode(hash.finalize())
}

/// One unmasked frame.
pub(crate) fn write(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0x80 | opcode];
    let n = payload.len();
    if n < 126 {
        out.push(u8::try_from(n).unwrap_or(125));
    } else if let Ok(n) = u16::try_from(n) {
        out.push(126);
        out.extend_from_slice(&n.to_be_bytes());
    } else {
        out.push(127);
        out.extend_from_slice(&(n as u64).to_be_bytes());
    }
    out.extend_from_slice(payload);
    out
}

pub(crate) fn close(code: u64, reason: &str) -> Vec<u8> {
    let mut payload = u16::try_from(code).unwrap_or(1000).to_be_bytes().to_vec();
    payload.extend_from_slice(reason.as_bytes());
    write(CLOSE, &payload)
}

/// One masked frame from the front of `buffer`: opcode and payload. `Err` for an invalid frame.
pub(crate) fn parse(buffer: &mut Vec<u8>) -> Result<Option<(u8, Vec<u8>)>, &'static str> {
    let (Some(first), Some(second)) = (buffer.first().copied(), buffer.get(1).copied()) else { return Ok(None) };
    if first & 0x70 != 0 {
        return Err("reserved bits are set");
    }
    if first & 0x80 == 0 {
        return Err("fragments are not read");
    }
    if second & 0x80 == 0 {
        return Err("a client's frame is not masked");
    }
    let (length, from) = match second & 0x7f {
        126 => match buffer.get(2..4) {
            Some(n) => (usize::from(u16::from_be_bytes(n.try_into().unwrap_or_default())), 4),
            None => return Ok(None),
        },
        127 => match buffer.get(2..10) {
            Some(n) => {
                let n = u64::from_be_bytes(n.try_into().unwrap_or_default());
                (usize::try_from(n).map_err(|_| "too long")?, 10)
            }
            None => return Ok(None),
        },
        n => (usize::from(n), 2),
    };
    let whole = from + 4 + length;
    if buffer.len() < whole {
        return Ok(None);
    }
    let mask: [u8; 4] = buffer[from..from + 4].try_into().unwrap_or_default();
    let payload = buffer[from + 4..whole].iter().enumerate().map(|(i, byte)| byte ^ mask[i % 4]).collect();
    buffer.drain(..whole);
    Ok(Some((first & 0x0f, payload)))
}

#[cfg(test)]
mod tests {
    use super::{TEXT, accept, parse, write};

    #[test]
    fn the_handshake_is_answered_as_the_standard_shows() {
        assert_eq!(accept("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn frames_of_every_length_are_read_when_masked() {
        for n in [0usize, 5, 125, 126, 70_000] {
            let mut frame = write(TEXT, &vec![b'x'; n]);
            assert!(parse(&mut frame.clone()).is_err(), "it is not masked");
            let head = frame.len() - n;
            frame[1] |= 0x80;
            let mask = [1u8, 2, 3, 4];
            let mut masked = frame[..head].to_vec();
            masked.extend_from_slice(&mask);
            masked.extend(frame[head..].iter().enumerate().map(|(i, b)| b ^ mask[i % 4]));
            for cut in [1, masked.len() - 1] {
                assert_eq!(parse(&mut masked[..cut].to_vec()), Ok(None));
            }
            assert_eq!(parse(&mut masked), Ok(Some((TEXT, vec![b'x'; n]))));
            assert!(masked.is_empty());
        }
    }
}
