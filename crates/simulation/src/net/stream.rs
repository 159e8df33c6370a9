//! The client's end of a connection, as bytes that tokio reads and writes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{ConnId, Host};
use crate::core::Shared;

/// One connection, while the client holds it.
pub(crate) struct SimStream {
    shared: Shared,
    id: ConnId,
}

impl std::fmt::Debug for SimStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SimStream({})", self.id)
    }
}

impl SimStream {
    /// Dials; dropping the future gives the dial up.
    pub(crate) async fn connect(shared: &Shared, host: Host) -> io::Result<Self> {
        let id = shared.with(|core| core.net.connect(host, &mut core.q));
        let stream = Self { shared: shared.clone(), id };
        let open = std::future::poll_fn(|cx| {
            stream.shared.with(|core| core.net.connected(id, cx.waker())).map_or(Poll::Pending, Poll::Ready)
        });
        if open.await { Ok(stream) } else { Err(io::ErrorKind::ConnectionRefused.into()) }
    }
}

impl AsyncRead for SimStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let into = buf.initialize_unfilled();
        let got = self.shared.with(|core| core.net.client_read(self.id, into, cx.waker(), &mut core.q));
        match got {
            None => Poll::Pending,
            Some(Ok(n)) => {
                buf.advance(n);
                Poll::Ready(Ok(()))
            }
            Some(Err(error)) => Poll::Ready(Err(error)),
        }
    }
}

impl AsyncWrite for SimStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        let done = self.shared.with(|core| core.net.client_write(self.id, from, cx.waker(), &mut core.q));
        done.map_or(Poll::Pending, Poll::Ready)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shared.with(|core| core.net.client_shutdown(self.id, &mut core.q));
        Poll::Ready(Ok(()))
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        self.shared.with(|core| core.net.client_drop(self.id, &mut core.q));
    }
}
