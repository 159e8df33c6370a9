//! The IO of a socket at the gateway.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::gateway::{self, Admitted, End, Out};
use crate::link::{Link, LinkControl};
use crate::shared::Shared;

/// How long a client may take to answer a close frame.
const CLOSING: Duration = Duration::from_secs(5);
/// Larger than any real client message.
const MAX_MESSAGE: usize = 4 << 20;
/// Messages before a flush are written in one piece up to this size.
const PIECE: usize = 1 << 20;

/// The room for a reason in a close frame.
const MAX_REASON: usize = 123;

type Stream = WebSocketStream<Link>;

/// Ends the socket in the state when its task ends for any reason.
struct Open {
    shared: Arc<Shared>,
    id: u64,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.shared.update(|state| gateway::lost(&mut state.gateway, &state.ctx, self.id));
    }
}

/// Serves one socket until it ends. `early` was read past the upgrade.
pub(crate) async fn serve(
    shared: &Arc<Shared>,
    control: &Arc<LinkControl>,
    link: Link,
    early: Bytes,
    admitted: Admitted,
) {
    let (id, wake) = shared.update(|state| gateway::open(&mut state.gateway, &mut state.ctx, admitted, control));
    let _open = Open { shared: Arc::clone(shared), id };
    let config = WebSocketConfig::default()
        // The library's default is 128 KiB per connection.
        .read_buffer_size(8 << 10)
        .write_buffer_size(PIECE)
        .max_write_buffer_size(usize::MAX)
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE));
    let mut stream = WebSocketStream::from_partially_read(link, early.to_vec(), Role::Server, Some(config)).await;
    loop {
        let batch = shared.update(|state| gateway::take(&mut state.gateway, id));
        for out in batch {
            match write(&mut stream, control, out).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => return trace(&error),
            }
        }
        if let Err(error) = stream.flush().await {
            return trace(&error);
        }
        tokio::select! {
            () = wake.notified() => {}
            message = stream.next() => match message {
                None => return,
                Some(Err(error)) => return trace(&error),
                Some(Ok(message)) => shared.update(|state| match message {
                    Message::Text(text) => gateway::received(&mut state.gateway, &mut state.ctx, id, &text),
                    Message::Binary(bytes) => {
                        gateway::received_binary(&mut state.gateway, &mut state.ctx, id, &bytes);
                    },
                    Message::Ping(_) => gateway::ping(&mut state.gateway, &state.ctx, id),
                    Message::Pong(_) => gateway::pong(&mut state.gateway, &state.ctx, id),
                    Message::Close(_) | Message::Frame(_) => {}
                }),
            },
        }
    }
}

fn trace(error: &Error) {
    tracing::trace!(error = %error, "a socket of the sandbox broke");
}

/// Performs one output; false if it was the last.
async fn write(stream: &mut Stream, control: &LinkControl, out: Out) -> Result<bool, Error> {
    match out {
        Out::Text(text) | Out::Event { frame: text, .. } => stream.feed(Message::text(text)).await?,
        Out::Binary(text) => stream.feed(Message::binary(text.into_bytes())).await?,
        Out::Ping => stream.feed(Message::Ping(Bytes::from_static(b"sandbox"))).await?,
        Out::Flush => stream.flush().await?,
        Out::Pieces { text, chunk, every } => pieces(stream, &text, chunk, every).await?,
        Out::End(how) => {
            end(stream, control, how).await?;
            return Ok(false);
        }
    }
    Ok(true)
}

async fn pieces(stream: &mut Stream, text: &str, chunk: usize, every: Duration) -> Result<(), Error> {
    let count = text.len().div_ceil(chunk.max(1));
    for (at, piece) in text.as_bytes().chunks(chunk.max(1)).enumerate() {
        let kind = if at == 0 { Data::Text } else { Data::Continue };
        let frame = Frame::message(piece.to_vec(), OpCode::Data(kind), at + 1 == count);
        stream.send(Message::Frame(frame)).await?;
        tokio::time::sleep(every).await;
    }
    Ok(())
}

async fn end(stream: &mut Stream, control: &LinkControl, how: End) -> Result<(), Error> {
    match how {
        End::Close(code, reason) => {
            let reason = gateway::start(&reason, MAX_REASON);
            let frame = CloseFrame { code: CloseCode::from(code), reason: reason.into() };
            let closed = async {
                stream.close(Some(frame)).await?;
                while let Some(Ok(_)) = stream.next().await {}
                Ok(())
            };
            // A client that never answers the close is dropped.
            return tokio::time::timeout(CLOSING, closed).await.unwrap_or(Ok(()));
        }
        End::Drop => stream.flush().await?,
        End::Reset => {
            stream.flush().await?;
            control.reset();
        }
        End::HalfThenReset(text) => {
            stream.flush().await?;
            let frame = Frame::message(text.into_bytes(), OpCode::Data(Data::Text), true);
            control.cut_after(frame.len() / 2);
            // The link breaks mid-frame, so the outcome does not matter.
            let _ = stream.send(Message::Frame(frame)).await;
        }
        End::Park => std::future::pending().await,
    }
    Ok(())
}
