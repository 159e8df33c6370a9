//! How events travel from the service to this process.
//!
//! A [`Transport`] opens [`Link`]s; a link reads one connection and reports its events. Neither decides about the
//! subscription's life: the lifecycle decides when to open, when to retry and when to give up.

mod link;
mod poll;
#[cfg(feature = "pubnub")]
mod pubnub;
#[cfg(feature = "websocket")]
mod websocket;

pub use crate::kind::TransportKind;
pub use link::{
    Coverage, Frame, FrameBody, Link, LinkBatch, LinkEvent, PossibleLoss, Target, Transport, TransportBinding,
};
pub use poll::Poll;
#[cfg(feature = "pubnub")]
pub use pubnub::{PubNub, PubNubBuilder};
#[cfg(all(fuzzing, feature = "websocket"))]
#[doc(hidden)]
pub use websocket::fuzz_frame;
#[cfg(feature = "websocket")]
pub use websocket::{SocketClient, SocketRequest, SocketStats, WebSocket, WebSocketBuilder};
