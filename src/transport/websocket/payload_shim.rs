//! The bytes of a connection, on their way to the WebSocket library. The parsing is pure.
//!
//! This layer changes what the library reads, for three reasons:
//!
//! - At the level `trace` the library logs whole messages, and the gateway's first one holds the session's token. So
//!   the library sees zeros in place of a message's payload, and the payload waits in [`PayloadShim::take`] for the
//!   message's turn.
//! - The library ends a connection on text that is not UTF-8, and loses all that follows. So text is passed on as
//!   binary, and such a message becomes a single unreadable one.
//! - While an incomplete message is arriving nothing else can, not even the answer to a ping. So the layer notes when
//!   such a message grew.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::dial::Stream;

/// For how long the growth of one message counts as a sign of life: 16 MiB in that time are 56 kB/s.
const LONGEST_MESSAGE: Duration = Duration::from_secs(300);

const TEXT: u8 = 1;
const BINARY: u8 = 2;
/// Opcodes from here on are control frames.
const CONTROL: u8 = 8;

/// Parses the frames in a stream of bytes.
#[derive(Debug, Default)]
struct Frames {
    /// The received part of the frame's header, and the header's length.
    head: [u8; 10],
    have: usize,
    /// Bytes left to skip: the mask, which only a client's frames should have, and the payload.
    left: u64,
    /// When the incomplete message began, and when it last grew.
    began: Option<Instant>,
    grew: Option<Instant>,
    /// The messages' payloads, one after the other.
    said: BytesMut,
}

impl Frames {
    fn is_data(&self) -> bool {
        self.head[0] & 0x0f < CONTROL
    }

    /// Parses the next bytes and masks them.
    fn pass(&mut self, bytes: &mut [u8], now: Instant) {
        let mut at = 0;
        while at < bytes.len() {
            if self.left > 0 {
                let rest = (bytes.len() - at) as u64;
                let step = self.left.min(rest);
                self.left -= step;
                let part = &mut bytes[at..at + step as usize];
                at += step as usize;
                if self.is_data() {
                    self.said.extend_from_slice(part);
                    part.fill(0);
                    self.grew = Some(now);
                }
            } else {
                self.head_byte(&mut bytes[at], now);
                at += 1;
            }
            if self.left == 0 && self.have == 0 {
                self.end();
            }
        }
    }

    fn head_byte(&mut self, byte: &mut u8, now: Instant) {
        self.head[self.have] = *byte;
        self.have += 1;
        if self.have == 1 {
            if *byte & 0x0f == TEXT {
                *byte = *byte & 0xf0 | BINARY;
            }
            if self.is_data() {
                self.began.get_or_insert(now);
                self.grew = Some(now);
            }
            return;
        }
        let short = self.head[1] & 0x7f;
        let length_bytes = match short {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        if self.have < 2 + length_bytes {
            return;
        }
        let length = match length_bytes {
            0 => u64::from(short),
            n => self.head[2..2 + n].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
        };
        let mask = if self.head[1] & 0x80 == 0 { 0 } else { 4 };
        self.left = length.saturating_add(mask);
        self.have = 0;
    }

    /// A frame is complete.
    fn end(&mut self) {
        let last = self.head[0] & 0x80 != 0;
        if self.is_data() && last {
            self.began = None;
        }
    }

    /// When the incomplete message last grew; `None` without one, or if it takes too long.
    fn grew(&self) -> Option<Instant> {
        let began = self.began?;
        self.grew.filter(|grew| *grew < began + LONGEST_MESSAGE)
    }
}

/// A connection whose bytes pass through [`Frames`].
pub(super) struct PayloadShim {
    stream: Stream,
    frames: Frames,
}

impl PayloadShim {
    pub(super) fn new(stream: Stream) -> Self {
        Self { stream, frames: Frames::default() }
    }

    /// The next message's payload, whose length the library has found.
    pub(super) fn take(&mut self, length: usize) -> Bytes {
        let said = &mut self.frames.said;
        said.split_to(length.min(said.len())).freeze()
    }

    /// When an incomplete message last grew, within a bound.
    pub(super) fn grew(&self) -> Option<Instant> {
        self.frames.grew()
    }
}

impl AsyncRead for PayloadShim {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if let Some(new) = buf.filled_mut().get_mut(before..).filter(|new| !new.is_empty()) {
            self.frames.pass(new, Instant::now());
        }
        read
    }
}

impl AsyncWrite for PayloadShim {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(first: u8, length: usize) -> Vec<u8> {
        let mut frame = vec![first];
        match length {
            0..126 => frame.push(length as u8),
            126..65_536 => {
                frame.push(126);
                frame.extend((length as u16).to_be_bytes());
            }
            _ => {
                frame.push(127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        // Bytes that look like text frames where no frame starts.
        frame.extend(std::iter::repeat_n(0x81, length));
        frame
    }

    #[test]
    fn found_8_the_library_sees_binary_messages_of_zeros_and_control_frames_as_they_are() {
        for (first, want) in [(0x81, 0x82), (0x01, 0x02), (0x80, 0x80), (0x82, 0x82), (0x88, 0x88), (0x89, 0x89)] {
            for length in [0, 1, 125, 126, 65_535, 65_536] {
                let mut bytes = [frame(first, length), frame(0x81, 3)].concat();
                let mut wanted = bytes.clone();
                wanted[0] = want;
                let second = bytes.len() - 5;
                wanted[second] = 0x82;
                wanted[second + 2..].fill(0);
                let is_data = first & 0x0f < CONTROL;
                if is_data {
                    wanted[second - length..second].fill(0);
                }
                let mut frames = Frames::default();
                frames.pass(&mut bytes, Instant::now());
                assert_eq!(bytes, wanted, "{first:x} {length}");
                assert_eq!(frames.said, vec![0x81; 3 + usize::from(is_data) * length]);
            }
        }
    }

    proptest! {
        #[test]
        fn result_does_not_depend_on_how_the_bytes_are_split(
            frames in proptest::collection::vec((any::<u8>(), 0_usize..300), 1..8),
            cuts in proptest::collection::vec(1_usize..40, 1..40),
        ) {
            let bytes: Vec<u8> = frames.iter().flat_map(|(first, length)| frame(*first, *length)).collect();
            let now = Instant::now();
            let (mut whole, mut cut) = (bytes.clone(), bytes);
            let (mut one, mut two) = (Frames::default(), Frames::default());
            one.pass(&mut whole, now);
            let mut rest = &mut cut[..];
            for size in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (piece, more) = rest.split_at_mut((*size).min(rest.len()));
                two.pass(piece, now);
                rest = more;
            }
            prop_assert_eq!(whole, cut);
            prop_assert_eq!(one.grew(), two.grew());
            prop_assert_eq!(one.said, two.said);
        }
    }

    #[test]
    fn only_an_incomplete_message_grows_and_not_for_ever() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut frames = Frames::default();
        // The first frame of two, and a pong between them.
        frames.pass(&mut frame(0x01, 10), at(1));
        assert_eq!(frames.grew(), Some(at(1)));
        frames.pass(&mut frame(0x8a, 0), at(2));
        assert_eq!(frames.grew(), Some(at(1)));
        let mut last = frame(0x80, 400);
        frames.pass(&mut last[..50], at(3));
        assert_eq!(frames.grew(), Some(at(3)));
        frames.pass(&mut last[50..100], at(300));
        assert_eq!(frames.grew(), Some(at(300)));
        // It began at 1.
        frames.pass(&mut last[100..150], at(301));
        assert_eq!(frames.grew(), None);
        frames.pass(&mut last[150..], at(302));
        assert_eq!(frames.grew(), None);
        frames.pass(&mut frame(0x81, 10)[..4], at(400));
        assert_eq!(frames.grew(), Some(at(400)));
    }
}
