//! The requests to the Send API, and their rate.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::time::Instant;

use crate::behavior::DigitalBehavior;
use crate::checks::{field, id_of};
use crate::clock::later;

const RECEIVED: usize = 10_000;
/// The documented minimum time between two `typing.start` of one thread (digital-source.md §11).
const TYPING_GAP: Duration = Duration::from_secs(2);
/// Maximum number of threads whose typing is remembered.
const THREADS: usize = 10_000;

/// A request from a source.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Received {
    /// The action.
    pub action: String,
    /// Its parameters; for a content only the id, since the rest is with the contents.
    pub params: Map<String, Value>,
}

/// The requests to the Send API and their rate.
#[derive(Default)]
pub(crate) struct Realtime {
    received: VecDeque<Received>,
    /// When typing was last reported, by thread.
    typing: HashMap<String, Instant>,
    /// The times of requests within the window.
    requests: VecDeque<Instant>,
}

/// Why an action is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) message: String,
}

pub(crate) fn refused<T>(status: u16, message: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal { status, message: message.into() })
}

impl Realtime {
    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.iter().cloned().collect()
    }

    pub(crate) fn keep(&mut self, received: Received) {
        self.received.push_back(received);
        if self.received.len() > RECEIVED {
            self.received.pop_front();
        }
    }

    pub(crate) fn spend(&mut self, behavior: &DigitalBehavior, now: Instant) -> Result<(), Refusal> {
        let Some(limit) = behavior.send_limit else { return Ok(()) };
        while self.requests.front().is_some_and(|&at| later(at, behavior.send_window) <= now) {
            self.requests.pop_front();
        }
        if self.requests.len() >= usize::try_from(limit).unwrap_or(usize::MAX) {
            return refused(429, "too many requests, please try again in a few seconds");
        }
        self.requests.push_back(now);
        Ok(())
    }

    pub(crate) fn typing(&mut self, start: bool, params: &Map<String, Value>, now: Instant) -> Result<(), Refusal> {
        let place = id_of(params.get("thread_id")).or_else(|| id_of(params.get("in_reply_to_id")));
        let Some((place, _)) = place else { return refused(422, "Invalid resource format") };
        if !start {
            self.typing.remove(&place);
            return Ok(());
        }
        if !matches!(field(params, "preview"), Some(Value::String(_))) {
            return refused(422, "Invalid resource format");
        }
        if self.typing.get(&place).is_some_and(|&at| now < later(at, TYPING_GAP)) {
            return refused(429, "too many typing requests, please try again in a few seconds");
        }
        if self.typing.len() >= THREADS {
            self.typing.retain(|_, at| now < later(*at, TYPING_GAP));
        }
        self.typing.insert(place, now);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_received_requests_is_bounded() {
        let mut realtime = Realtime::default();
        for number in 0..RECEIVED + 3 {
            realtime.keep(Received { action: number.to_string(), params: Map::new() });
        }
        let received = realtime.received();
        assert_eq!((received.len(), received[0].action.as_str()), (RECEIVED, "3"));
    }
}
