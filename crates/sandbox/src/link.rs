//! A TCP connection that can be controlled from outside.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;

/// How a connection treats bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Passes them on.
    Normal,
    /// Reads nothing, discards writes, and stays open.
    Silent,
    /// Passes headers and this many bytes of body, then resets.
    CutBody { left: usize, head: Head },
    /// Broken; the socket is reset when dropped.
    Reset,
}

/// How much of `\r\n\r\n` has been seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head(u8);

impl Head {
    /// Reads until the end of the head; returns the number of bytes read, all if the head did not
    /// end.
    fn pass(&mut self, bytes: &[u8]) -> usize {
        for (at, byte) in bytes.iter().enumerate() {
            if self.0 == 4 {
                return at;
            }
            self.0 = match (self.0, byte) {
                (0 | 2, b'\r') => self.0 + 1,
                (1 | 3, b'\n') => self.0 + 1,
                (_, b'\r') => 1,
                _ => 0,
            };
        }
        bytes.len()
    }
}

/// A handle to a connection.
#[derive(Debug)]
pub(crate) struct LinkControl {
    mode: Mutex<Mode>,
    /// Set permanently once the link is a black hole.
    silent: Arc<AtomicBool>,
    /// Ends the connection's task.
    pub(crate) cut: Notify,
    /// Ends it after the responses in progress.
    pub(crate) finish: Notify,
}

impl LinkControl {
    pub(crate) fn new() -> Self {
        Self { mode: Mutex::new(Mode::Normal), silent: Arc::default(), cut: Notify::new(), finish: Notify::new() }
    }

    fn mode(&self) -> MutexGuard<'_, Mode> {
        self.mode.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Turns it into a black hole.
    pub(crate) fn silence(&self) {
        *self.mode() = Mode::Silent;
        self.silent.store(true, Ordering::Relaxed);
    }

    /// Whether the link is a black hole; updated later.
    pub(crate) fn silent(&self) -> &Arc<AtomicBool> {
        &self.silent
    }

    /// Breaks the next response after `body` bytes of its body.
    pub(crate) fn cut_body_after(&self, body: usize) {
        *self.mode() = Mode::CutBody { left: body, head: Head(0) };
    }

    /// Breaks after this many more bytes.
    pub(crate) fn cut_after(&self, bytes: usize) {
        *self.mode() = Mode::CutBody { left: bytes, head: Head(4) };
    }

    /// Ends it now, by a reset.
    pub(crate) fn reset(&self) {
        *self.mode() = Mode::Reset;
        self.cut.notify_one();
    }

    /// Ends it now, by an orderly close.
    pub(crate) fn close(&self) {
        self.cut.notify_one();
    }

    /// Ends it after the responses in progress, and accepts no further requests.
    pub(crate) fn finish(&self) {
        self.finish.notify_one();
    }

    /// How many of `bytes` may be written; `None` if the link is broken.
    fn admit(&self, bytes: &[u8]) -> Option<usize> {
        let mut mode = self.mode();
        match *mode {
            Mode::Normal | Mode::Silent => Some(bytes.len()),
            Mode::Reset => None,
            Mode::CutBody { left, mut head } => {
                let passed = head.pass(bytes);
                let admitted = passed + (bytes.len() - passed).min(left);
                if admitted == 0 {
                    *mode = Mode::Reset;
                    return None;
                }
                Some(admitted)
            }
        }
    }

    /// Records how many of the admitted bytes the socket accepted.
    fn written(&self, bytes: &[u8]) {
        if let Mode::CutBody { left, head } = &mut *self.mode() {
            let passed = head.pass(bytes);
            *left = left.saturating_sub(bytes.len() - passed);
        }
    }
}

/// A stream that obeys its control.
#[derive(Debug)]
pub(crate) struct Link {
    stream: TcpStream,
    control: Arc<LinkControl>,
}

impl Link {
    pub(crate) fn new(stream: TcpStream, control: Arc<LinkControl>) -> Self {
        Self { stream, control }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if *self.control.mode() == Mode::Reset {
            // With linger 0 the kernel sends RST instead of FIN. If that fails the peer sees a
            // close in mid-body, which is also broken.
            let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
        }
    }
}

impl AsyncRead for Link {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if *self.control.mode() == Mode::Silent {
            // Never woken again: only the end of the task frees the socket.
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Link {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        if *self.control.mode() == Mode::Silent {
            return Poll::Ready(Ok(buf.len()));
        }
        let control = Arc::clone(&self.control);
        let Some(admitted) = control.admit(buf).and_then(|admitted| buf.get(..admitted)) else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        };
        let written = Pin::new(&mut self.stream).poll_write(cx, admitted);
        if let Poll::Ready(Ok(written)) = written {
            control.written(admitted.get(..written).unwrap_or(admitted));
        }
        written
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
    use super::*;

    #[test]
    fn a_cut_passes_the_head_and_half_the_body_in_any_pieces() {
        let answer = b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n0123456789";
        for piece in [1, 2, 3, 7, answer.len()] {
            let control = LinkControl::new();
            control.cut_body_after(5);
            let mut sent = Vec::new();
            let mut rest = &answer[..];
            while !rest.is_empty() {
                let offered = &rest[..piece.min(rest.len())];
                let Some(admitted) = control.admit(offered) else { break };
                // The socket may accept less than it was offered.
                let taken = admitted.div_ceil(2);
                control.written(&offered[..taken]);
                sent.extend_from_slice(&offered[..taken]);
                rest = &rest[taken..];
            }
            assert_eq!(sent, answer[..answer.len() - 5], "pieces of {piece}");
            assert_eq!(*control.mode(), Mode::Reset);
        }
    }
}
