//! The bytes of a connection, on their way to the WebSocket library. The parsing is pure.
//!
//! This layer changes what the library reads and writes, for three reasons:
//!
//! - At the levels `debug` and `trace` the library logs messages, and the gateway's first one holds the session's
//!   token. So the library sees zeros in place of a message's payload, in both directions: what was received waits in
//!   [`PayloadShim::take`] for the message's turn, what is to be sent is filled in behind the library, and the reason of
//!   a close frame is dropped.
//! - The library ends a connection on text that is not UTF-8, and loses all that follows. So text is passed on as
//!   binary, and such a message becomes a single unreadable one.
//! - While an incomplete message is arriving nothing else can, not even the answer to a ping. So the layer notes when
//!   such a message grew.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::protocol::Message;

use super::dial::Stream;

/// For how long the growth of one message counts as a sign of life: 16 MiB in that time are 56 kB/s.
const LONGEST_MESSAGE: Duration = Duration::from_secs(300);

const TEXT: u8 = 1;
const BINARY: u8 = 2;
/// Opcodes from here on are control frames.
const CONTROL: u8 = 8;
const CLOSE: u8 = 8;
/// The bytes of a close frame's status code; the reason follows.
const CODE: u64 = 2;

/// How many bytes are read from a connection at once.
const READ: usize = 16 << 10;

thread_local! {
    /// Where bytes are read to: thousands of connections may wait for some, and need no buffer of their own meanwhile.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ].into());
}

/// Finds the frames in a stream of bytes.
#[derive(Debug, Default)]
struct Frames {
    /// The received part of the frame's header, and the header's length.
    head: [u8; 10],
    have: usize,
    /// Bytes of the mask left to skip; only a client's frames should have one.
    mask: u64,
    /// Bytes of the payload left, and passed.
    left: u64,
    passed: u64,
}

/// A part of a frame that may be changed.
enum Part<'a> {
    /// The first byte of its header.
    First(&'a mut u8),
    /// The next bytes of its payload.
    Payload(&'a mut [u8]),
    /// It is complete.
    End,
}

impl Frames {
    fn opcode(&self) -> u8 {
        self.head[0] & 0x0f
    }

    fn is_data(&self) -> bool {
        self.opcode() < CONTROL
    }

    fn is_last(&self) -> bool {
        self.head[0] & 0x80 != 0
    }

    /// Calls `on` for each part in the next bytes.
    fn scan(&mut self, bytes: &mut [u8], mut on: impl FnMut(&Self, Part<'_>)) {
        let mut at = 0;
        while at < bytes.len() {
            let rest = (bytes.len() - at) as u64;
            if self.mask > 0 {
                let step = self.mask.min(rest);
                self.mask -= step;
                at += step as usize;
            } else if self.left > 0 {
                let step = self.left.min(rest);
                on(self, Part::Payload(&mut bytes[at..at + step as usize]));
                self.left -= step;
                self.passed += step;
                at += step as usize;
            } else {
                self.head_byte(bytes[at]);
                if self.have == 1 {
                    on(self, Part::First(&mut bytes[at]));
                }
                at += 1;
            }
            if self.mask == 0 && self.left == 0 && self.have == 0 {
                on(self, Part::End);
            }
        }
    }

    fn head_byte(&mut self, byte: u8) {
        self.head[self.have] = byte;
        self.have += 1;
        if self.have == 1 {
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
        self.left = match length_bytes {
            0 => u64::from(short),
            n => self.head[2..2 + n].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
        };
        self.mask = if self.head[1] & 0x80 == 0 { 0 } else { 4 };
        (self.passed, self.have) = (0, 0);
    }
}

/// The bytes from the gateway.
#[derive(Debug, Default)]
struct Received {
    frames: Frames,
    /// When the incomplete message began, and when it last grew.
    began: Option<Instant>,
    grew: Option<Instant>,
    /// The messages' payloads, one after the other.
    said: BytesMut,
    /// What was read from the connection, and not by the library yet.
    unread: BytesMut,
}

impl Received {
    /// Takes the payloads out of the next bytes. A close frame's reason is not read, and the library logs it.
    fn pass(&mut self, bytes: &mut [u8], now: Instant) {
        let Self { frames, began, grew, said, .. } = self;
        frames.scan(bytes, |frame, part| match part {
            Part::First(byte) => {
                if frame.opcode() == TEXT {
                    *byte = *byte & 0xf0 | BINARY;
                }
                if frame.is_data() {
                    began.get_or_insert(now);
                    *grew = Some(now);
                }
            }
            Part::Payload(part) if frame.is_data() => {
                said.extend_from_slice(part);
                part.fill(0);
                *grew = Some(now);
            }
            Part::Payload(part) if frame.opcode() == CLOSE => {
                let code = CODE.saturating_sub(frame.passed).min(part.len() as u64);
                part[code as usize..].fill(0);
            }
            Part::End if frame.is_data() && frame.is_last() => *began = None,
            Part::Payload(_) | Part::End => {}
        });
    }

    /// When the incomplete message last grew; `None` without one, or if it takes too long.
    fn grew(&self) -> Option<Instant> {
        let began = self.began?;
        self.grew.filter(|grew| *grew < began + LONGEST_MESSAGE)
    }
}

/// The bytes to the gateway.
#[derive(Debug, Default)]
struct Sent {
    frames: Frames,
    /// The texts whose frames the library has not written yet, one after the other.
    texts: BytesMut,
    /// What the library wrote and the connection has not accepted, with the texts in it.
    filled: BytesMut,
}

impl Sent {
    /// Fills in what the library writes: `bytes`, which begin with what was not accepted the last time.
    fn fill(&mut self, bytes: &[u8]) {
        let Self { frames, texts, filled } = self;
        let from = filled.len().min(bytes.len());
        filled.extend_from_slice(&bytes[from..]);
        frames.scan(&mut filled[from..], |frame, part| match part {
            Part::First(byte) if frame.opcode() == BINARY => *byte = *byte & 0xf0 | TEXT,
            // Masked zeros are the mask.
            Part::Payload(part) if frame.is_data() => {
                let text = texts.split_to(part.len().min(texts.len()));
                part.iter_mut().zip(&text).for_each(|(byte, text)| *byte ^= text);
            }
            Part::First(_) | Part::Payload(_) | Part::End => {}
        });
    }
}

/// A connection whose bytes pass through [`Frames`], in both directions.
pub(super) struct PayloadShim {
    stream: Stream,
    received: Received,
    sent: Sent,
}

impl PayloadShim {
    pub(super) fn new(stream: Stream) -> Self {
        Self { stream, received: Received::default(), sent: Sent::default() }
    }

    /// The next message's payload, whose length the library has found.
    pub(super) fn take(&mut self, length: usize) -> Bytes {
        let said = &mut self.received.said;
        said.split_to(length.min(said.len())).freeze()
    }

    /// The message to give to the library so that it sends `text`.
    pub(super) fn put(&mut self, text: &str) -> Message {
        self.sent.texts.extend_from_slice(text.as_bytes());
        Message::binary(vec![0; text.len()])
    }

    /// Takes the last text back, whose message the library did not accept.
    pub(super) fn take_back(&mut self, text: &str) {
        let texts = &mut self.sent.texts;
        texts.truncate(texts.len().saturating_sub(text.len()));
    }

    /// Frees the buffers that hold nothing, while nothing arrives.
    pub(super) fn shrink(&mut self) {
        let Received { said, unread, .. } = &mut self.received;
        let buffers = [said, unread, &mut self.sent.texts, &mut self.sent.filled];
        buffers.into_iter().filter(|buffer| buffer.is_empty()).for_each(|buffer| *buffer = BytesMut::new());
    }

    /// When an incomplete message last grew, within a bound.
    pub(super) fn grew(&self) -> Option<Instant> {
        self.received.grew()
    }
}

impl AsyncRead for PayloadShim {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { stream, received, .. } = &mut *self;
        if received.unread.is_empty() {
            ready!(SCRATCH.with_borrow_mut(|scratch| {
                let mut read = ReadBuf::new(scratch);
                ready!(Pin::new(stream).poll_read(cx, &mut read))?;
                received.pass(read.filled_mut(), Instant::now());
                let (now, later) = read.filled().split_at(read.filled().len().min(buf.remaining()));
                buf.put_slice(now);
                received.unread.extend_from_slice(later);
                Poll::Ready(io::Result::Ok(()))
            }))?;
        } else {
            buf.put_slice(&received.unread.split_to(received.unread.len().min(buf.remaining())));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for PayloadShim {
    /// After `Pending` and a short write, the caller presents the same bytes again, which the library does.
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Self { stream, sent, .. } = &mut *self;
        sent.fill(bytes);
        let written = ready!(Pin::new(stream).poll_write(cx, &sent.filled))?;
        sent.filled.advance(written.min(sent.filled.len()));
        Poll::Ready(Ok(written))
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
    fn found_8_the_library_sees_binary_messages_of_zeros_and_pings_as_they_are() {
        for (first, want) in [(0x81, 0x82), (0x01, 0x02), (0x80, 0x80), (0x82, 0x82), (0x89, 0x89)] {
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
                let mut frames = Received::default();
                frames.pass(&mut bytes, Instant::now());
                assert_eq!(bytes, wanted, "{first:x} {length}");
                assert_eq!(frames.said, vec![0x81; 3 + usize::from(is_data) * length]);
            }
        }
    }

    #[test]
    fn a_close_frames_code_is_passed_on_and_its_reason_is_not() {
        let close = [0x88, 6, 0x03, 0xe8, b't', b'o', b'k', b'n', 0x88, 0];
        for split in 0..close.len() {
            let (mut bytes, mut received) = (close, Received::default());
            let (one, two) = bytes.split_at_mut(split);
            received.pass(one, Instant::now());
            received.pass(two, Instant::now());
            assert_eq!(bytes, [0x88, 6, 0x03, 0xe8, 0, 0, 0, 0, 0x88, 0]);
            assert!(received.said.is_empty());
        }
    }

    /// Masked messages and a ping after each, as the library writes them.
    fn masked(opcode: u8, payloads: &[Vec<u8>]) -> Vec<u8> {
        let mask = [7, 0, 0x55, 0xaa];
        let mut bytes = Vec::new();
        for payload in payloads {
            let mut head = frame(0x80 | opcode, payload.len());
            head.truncate(head.len() - payload.len());
            head[1] |= 0x80;
            bytes.extend(head);
            bytes.extend(mask);
            bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
            bytes.extend([0x89, 0x81, 1, 2, 3, 4, b'p' ^ 1]);
        }
        bytes
    }

    #[tokio::test]
    async fn the_library_writes_zeros_and_the_gateway_reads_the_texts() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        for (room, writes) in [(1, 1), (3, 7), (64, 1000), (1 << 20, 5), (1 << 20, 1 << 20)] {
            let texts: Vec<String> =
                [0, 1, 5, 125, 126, 300, 65_536].iter().map(|length| "t0k3n".repeat(*length)).collect();
            let (ours, mut theirs) = tokio::io::duplex(room);
            let mut shim = PayloadShim::new(Box::new(ours));
            let zeros: Vec<Vec<u8>> = texts.iter().map(|text| shim.put(text).into_data().to_vec()).collect();
            assert!(zeros.iter().flatten().all(|byte| *byte == 0));
            // One that the library did not accept.
            shim.put("refused");
            shim.take_back("refused");
            let bytes = masked(BINARY, &zeros);
            let write = async move {
                for part in bytes.chunks(writes) {
                    shim.write_all(part).await.unwrap();
                }
                assert!(shim.sent.texts.is_empty() && shim.sent.filled.is_empty());
            };
            let mut read = Vec::new();
            let ((), read_all) = tokio::join!(write, theirs.read_to_end(&mut read));
            read_all.unwrap();
            assert!(read == masked(TEXT, &texts.iter().map(|text| text.clone().into_bytes()).collect::<Vec<_>>()));
        }
    }

    #[tokio::test]
    async fn a_connection_is_read_in_large_pieces_and_by_the_library_in_small_ones() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let sent: Vec<u8> = (0..3).flat_map(|_| [frame(0x81, READ), frame(0x89, 4)].concat()).collect();
        let mut want = sent.clone();
        let mut whole = Received::default();
        whole.pass(&mut want, Instant::now());
        for room in [1, 100, READ + 1, 1 << 20] {
            let (ours, mut theirs) = tokio::io::duplex(1 << 20);
            let mut shim = PayloadShim::new(Box::new(ours));
            theirs.write_all(&sent).await.unwrap();
            drop(theirs);
            let (mut read, mut piece) = (Vec::new(), vec![0; room]);
            loop {
                match shim.read(&mut piece).await.unwrap() {
                    0 => break,
                    length => read.extend_from_slice(&piece[..length]),
                }
            }
            assert!(read == want, "{room}");
            assert_eq!(PayloadShim::take(&mut shim, usize::MAX), whole.said);
        }
    }

    #[tokio::test]
    async fn a_silent_connection_keeps_no_empty_buffer() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let (ours, mut theirs) = tokio::io::duplex(1 << 20);
        let mut shim = PayloadShim::new(Box::new(ours));
        theirs.write_all(&frame(0x81, 3000)).await.unwrap();
        shim.read_exact(&mut [0; 1000]).await.unwrap();
        PayloadShim::take(&mut shim, 1000);
        shim.put("text");
        shim.shrink();
        assert_eq!(shim.received.unread.len(), 2004, "what is not read yet is kept");
        assert_eq!((shim.received.said.len(), shim.sent.texts.len()), (2000, 4));
        shim.read_exact(&mut [0; 2004]).await.unwrap();
        PayloadShim::take(&mut shim, 2000);
        shim.write_all(&masked(BINARY, &[vec![0; 4]])).await.unwrap();
        shim.shrink();
        let PayloadShim { received, sent, .. } = shim;
        assert!([received.said, received.unread, sent.texts, sent.filled].iter().all(|it| it.capacity() == 0));
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
            let (mut one, mut two) = (Received::default(), Received::default());
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
        let mut frames = Received::default();
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
