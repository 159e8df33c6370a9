//! The account behind the sandbox, which a client can query.
//!
//! Each fixture that emits an event also changes the account, so that a client that missed the
//! event finds the change.

pub(super) mod a2p;
pub(super) mod calls;
pub(super) mod cards;
mod fixtures;
pub(super) mod insights;
pub(super) mod message_sync;
pub(super) mod messages;
mod params;
pub(super) mod people;
pub(super) mod send;
mod sent;
pub(super) mod team;
mod token;

pub use self::sent::{SentKind, SentMessage};

use std::collections::VecDeque;

use crate::context::Context;

/// Maximum number of sent messages recorded; the oldest are dropped.
const KEPT: usize = 10_000;

/// The account's resources.
#[derive(Debug, Default)]
pub(super) struct Account {
    pub(crate) messages: messages::Messages,
    pub(crate) calls: calls::Calls,
    pub(crate) cards: cards::Cards,
    pub(crate) team: team::Team,
    pub(crate) people: people::People,
    pub(crate) a2p: a2p::A2p,
    pub(crate) insights: insights::Insights,
    sent: VecDeque<SentMessage>,
}

impl Account {
    /// Records a message that a bot sent.
    fn note_sent(&mut self, ctx: &Context, kind: SentKind, to: Vec<String>, text: &str, id: String) {
        let at = ctx.moment().wall;
        params::keep(&mut self.sent, SentMessage { kind, to, text: text.to_owned(), id, at }, KEPT);
    }

    /// The messages that were sent, oldest first.
    pub(crate) fn sent(&self) -> &VecDeque<SentMessage> {
        &self.sent
    }
}
