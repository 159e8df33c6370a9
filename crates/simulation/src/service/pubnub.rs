//! PubNub's subscribe v2 and what RingCentral puts into it (pubnub.md).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use aes::Aes128;
use aes::cipher::{BlockCipherEncrypt as _, KeyInit as _};
use base64::Engine as _;
use serde_json::{Value, json};

use super::http::{Answer, Request, decode};
use super::{Cx, Service, SvcEv, Wrong};
use crate::net::{ConnId, Net};
use crate::rng::Rng;
use crate::time::{MS, SEC, Us, unix_us};

#[derive(Debug, Clone)]
struct Message {
    token: u64,
    at: Us,
    data: Value,
}

#[derive(Debug)]
struct Poll {
    conn: ConnId,
    key: String,
    channels: Vec<String>,
    after: u64,
    wrong: Option<Wrong>,
    is_due: bool,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum PnEv {
    Hold(u64),
    Flush(u64),
}

#[derive(Debug)]
pub(crate) struct PubNub {
    channels: BTreeMap<String, VecDeque<Message>>,
    polls: BTreeMap<u64, Poll>,
    next_poll: u64,
    last_token: u64,
    region: u64,
    /// Cursors that differ from the token of the message that they follow.
    cursors: BTreeMap<u64, u64>,
    repeats: BTreeMap<String, Message>,
    rng: Rng,
    /// When a poll for a channel last ended.
    pub(crate) last_poll: BTreeMap<String, Us>,
    /// Channels that were polled with a region: the client had an answer.
    located: BTreeSet<String>,
    /// The next poll is answered with the whole buffer, from any position.
    pub(crate) repeats_all: bool,
    /// Up to which message each channel was read: a poll names the position of an answer that arrived.
    read: BTreeMap<String, u64>,
    /// How many new messages the answers lately had, and from which position on.
    recent: VecDeque<(Us, u64, usize)>,
    /// When so much that was new was answered in a short time that more may have been dropped.
    pub(crate) full: Vec<Us>,
}

/// The least that a channel keeps (pubnub.md §6), and within which time answers are one burst.
const LEAST_BUFFER: usize = 100;
const BURST: Us = 10 * SEC;

impl PubNub {
    pub(crate) fn new(rng: Rng) -> Self {
        Self {
            channels: BTreeMap::new(),
            polls: BTreeMap::new(),
            next_poll: 0,
            last_token: 0,
            region: 12,
            cursors: BTreeMap::new(),
            repeats: BTreeMap::new(),
            rng,
            last_poll: BTreeMap::new(),
            located: BTreeSet::new(),
            repeats_all: false,
            read: BTreeMap::new(),
            recent: VecDeque::new(),
            full: Vec::new(),
        }
    }

    fn token(&mut self, now: Us) -> u64 {
        self.last_token = (unix_us(now) * 10 + self.rng.below(10)).max(self.last_token + 1);
        self.last_token
    }

    pub(crate) fn forget(&mut self, conn: ConnId) {
        self.polls.retain(|_, poll| poll.conn != conn);
    }

    /// The buffers are lost in a region's fail-over. That the region is another is all that
    /// shows (pubnub.md §7).
    pub(crate) fn purge(&mut self) {
        self.region += 1;
        // A client that never got an answer has seen no region that could differ, and nothing
        // else shows a loss (pubnub.md §7, row 8).
        for (channel, ring) in &mut self.channels {
            if self.located.contains(channel) {
                ring.clear();
            }
        }
    }

    /// Notes an answer's messages, and how many of them are new to its reader. The answer before from the same position
    /// did not arrive.
    fn note_answer(&mut self, found: &[(String, Message)], after: u64, now: Us) {
        let is_new =
            |(channel, message): &&(String, Message)| self.read.get(channel).is_none_or(|it| message.token > *it);
        let new = found.iter().filter(is_new).count();
        self.recent.retain(|(at, from, _)| at + BURST > now && *from != after);
        self.recent.push_back((now, after, new));
        if self.recent.iter().map(|(.., n)| n).sum::<usize>() >= LEAST_BUFFER {
            self.full.push(now);
        }
    }

    /// Whether a message for `channel` would reach a poll that is open.
    pub(crate) fn is_polled(&self, channel: &str, net: &Net, now: Us) -> bool {
        self.polls
            .values()
            .any(|poll| poll.channels.iter().any(|it| it == channel) && net.conn(poll.conn).would_arrive(now))
    }
}

fn encrypt(key: &[u8; 16], text: &str) -> String {
    let cipher = Aes128::new(&(*key).into());
    let mut bytes = text.as_bytes().to_vec();
    let pad = 16 - bytes.len() % 16;
    bytes.extend(std::iter::repeat_n(u8::try_from(pad).unwrap_or(16), pad));
    for chunk in bytes.chunks_exact_mut(16) {
        let mut block = [0; 16];
        block.copy_from_slice(chunk);
        let mut block = block.into();
        cipher.encrypt_block(&mut block);
        chunk.copy_from_slice(&block);
    }
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

impl Service {
    pub(super) fn publish(&mut self, index: usize, envelope: &str, cx: &mut Cx<'_>) {
        let now = cx.now();
        let sub = &self.subs.all[index];
        let key = match sub.old_key {
            Some((old, until)) if now < until => Some(old),
            _ => sub.key,
        };
        let data = match key {
            Some(key) => Value::String(encrypt(&key, envelope)),
            None => serde_json::from_str(envelope).unwrap_or_default(),
        };
        let channel = sub.channel.clone();
        let token = self.pubnub.token(now);
        let most = usize::try_from(self.knobs.pn_buffer).unwrap_or(100);
        let ring = self.pubnub.channels.entry(channel.clone()).or_default();
        ring.push_back(Message { token, at: now, data });
        while ring.len() > most {
            ring.pop_front();
        }
        let coalesce = self.knobs.pn_coalesce_ms * MS;
        for (id, poll) in &mut self.pubnub.polls {
            if !poll.is_due && poll.channels.contains(&channel) {
                poll.is_due = true;
                cx.q.after(coalesce, SvcEv::PubNub(PnEv::Flush(*id)).into());
            }
        }
    }

    pub(super) fn pubnub_request(&mut self, request: &Request, wrong: Option<Wrong>, cx: &mut Cx<'_>) {
        let now = cx.now();
        let conn = request.conn;
        let parts: Vec<&str> = request.path.split('/').collect();
        let ["", "v2", "subscribe", key, channels, "0"] = parts[..] else {
            let answer = match parts[..] {
                ["", "time", "0"] => Answer::empty(200).body(format!("[{}]", unix_us(now) * 10).into_bytes()),
                ["", "v2", "presence", ..] => {
                    Answer::json(200, &json!({"status": 200, "message": "OK", "service": "Presence"}))
                }
                _ => Answer::json(404, &json!({"status": 404, "error": true, "message": "Not Found"})),
            };
            return self.answer(conn, answer, wrong, cx);
        };
        let key = decode(key, false);
        let known = self.subs.all.iter().any(|sub| sub.subscriber_key == key);
        // A key that was issued once stays valid: the key set does not belong to one subscription.
        if !known && !key.starts_with("sub-c-") {
            let body =
                json!({"message": "Invalid Subscribe Key", "error": true, "service": "Access Manager", "status": 400});
            return self.answer(conn, Answer::json(400, &body), wrong, cx);
        }
        cx.net.mark_push(conn);
        let channels: Vec<String> =
            channels.split(',').map(|it| decode(it, false)).filter(|it| !it.is_empty()).collect();
        let asked: u64 = request.query("tt").and_then(|text| text.parse().ok()).unwrap_or(0);
        cx.trace(format_args!("#{conn} poll from {asked}"));
        if request.query("tr").is_some() {
            self.pubnub.located.extend(channels.iter().cloned());
        }
        if asked == 0 {
            let token = self.pubnub.token(now);
            let answer = poll_answer(token, self.pubnub.region, &[]);
            return self.answer(conn, answer, wrong, cx);
        }
        let double = self.pubnub.polls.values().any(|poll| {
            poll.channels == channels && cx.net.conn(poll.conn).would_arrive(now) && cx.net.conn(poll.conn).is_alive()
        });
        if double {
            cx.trace(format_args!("#{conn} is a second poll of one channel"));
        }
        let mut after = self.pubnub.cursors.get(&asked).copied().unwrap_or(asked);
        for channel in &channels {
            let read = self.pubnub.read.entry(channel.clone()).or_default();
            *read = after.max(*read);
        }
        if std::mem::take(&mut self.pubnub.repeats_all) {
            after = 0;
        }
        let id = self.pubnub.next_poll;
        self.pubnub.next_poll += 1;
        let hold = self.knobs.pn_hold_s * SEC;
        cx.q.after(hold, SvcEv::PubNub(PnEv::Hold(id)).into());
        let mut poll = Poll { conn, key, channels, after, wrong, is_due: false };
        if self.has_news(&poll, now) {
            poll.is_due = true;
            cx.q.after(0, SvcEv::PubNub(PnEv::Flush(id)).into());
        }
        self.pubnub.polls.insert(id, poll);
    }

    fn has_news(&self, poll: &Poll, now: Us) -> bool {
        let age = self.knobs.pn_age_s * SEC;
        poll.channels.iter().any(|channel| {
            self.pubnub
                .channels
                .get(channel)
                .is_some_and(|ring| ring.iter().any(|message| message.token > poll.after && message.at + age > now))
        })
    }

    pub(super) fn pubnub_step(&mut self, event: PnEv, cx: &mut Cx<'_>) {
        let (PnEv::Hold(id) | PnEv::Flush(id)) = event;
        let Some(poll) = self.pubnub.polls.remove(&id) else { return };
        let now = cx.now();
        let age = self.knobs.pn_age_s * SEC;
        let most = usize::try_from(self.knobs.pn_buffer).unwrap_or(100);
        let mut found: Vec<(String, Message)> = Vec::new();
        for channel in &poll.channels {
            self.pubnub.last_poll.insert(channel.clone(), now);
            if let Some(ring) = self.pubnub.channels.get(channel) {
                let news = ring.iter().filter(|message| message.token > poll.after && message.at + age > now);
                found.extend(news.map(|message| (channel.clone(), message.clone())));
            }
        }
        found.sort_by_key(|(_, message)| message.token);
        if found.len() > most {
            found.drain(..found.len() - most);
        }
        let limit = usize::try_from(self.knobs.pn_answer_most).unwrap_or(0);
        if limit > 0 {
            // The rest is for the next poll.
            found.truncate(limit);
        }
        self.pubnub.note_answer(&found, poll.after, now);
        self.fact(match found.len() {
            0 => "an answer without messages",
            n if n < LEAST_BUFFER => "an answer that is not full",
            _ => "a full answer",
        });
        if found.iter().any(|(_, message)| message.data.is_string()) {
            self.fact("a key opens a message");
        }
        let (token, behind) = match found.last() {
            Some((channel, last)) => {
                let (token, channel) = (last.token, channel.clone());
                let repeat = self.pubnub.repeats.insert(channel.clone(), last.clone());
                // Only what is still in the buffer can come again, and no answer is larger than that. To this reader it
                // comes again: it is older than the position that the poll names.
                let is_there = |it: &Message| {
                    self.pubnub
                        .channels
                        .get(&channel)
                        .is_some_and(|ring| ring.iter().any(|message| message.token == it.token))
                };
                let repeat = repeat.filter(|it| it.token <= poll.after && found.len() < most && is_there(it));
                if self.rng.percent(self.knobs.pn_repeat_percent)
                    && let Some(repeat) = repeat
                {
                    found.insert(0, (channel, repeat));
                }
                (token, self.knobs.pn_behind)
            }
            None => (self.pubnub.token(now), 0),
        };
        let cursor = token - behind;
        if behind > 0 {
            let stands_for = self.pubnub.cursors.entry(cursor).or_insert(token);
            *stands_for = token.max(*stands_for);
        }
        let bare = self.knobs.pn_bare == 1;
        let messages: Vec<Value> = found
            .iter()
            .map(|(channel, message)| {
                let p = json!({"t": message.token.to_string(), "r": self.pubnub.region});
                if bare {
                    json!({"c": channel, "d": message.data, "p": p})
                } else {
                    json!({"a": "2", "f": 514, "i": "server", "p": p, "k": poll.key, "c": channel, "d": message.data, "b": channel})
                }
            })
            .collect();
        cx.trace(format_args!("#{} gets {} messages", poll.conn, messages.len()));
        self.answer(poll.conn, poll_answer(cursor, self.pubnub.region, &messages), poll.wrong, cx);
    }
}

fn poll_answer(token: u64, region: u64, messages: &[Value]) -> Answer {
    let body = json!({"t": {"t": token.to_string(), "r": region}, "m": messages});
    Answer::empty(200)
        .header("Content-Type", "text/javascript; charset=\"UTF-8\"")
        .body(serde_json::to_vec(&body).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;

    use super::encrypt;

    #[test]
    fn payloads_are_encrypted_as_the_reference_shows() {
        let key = [0xa5, 0xd8, 0xfe, 0x5d, 0x82, 0x11, 0x44, 0x1a, 0xf2, 0x59, 0x2d, 0xa4, 0xdf, 0x7a, 0x97, 0x88];
        assert_eq!(base64::engine::general_purpose::STANDARD.encode(key), "pdj+XYIRRBryWS2k33qXiA==");
        assert_eq!(encrypt(&key, "{}"), "Bz04jCY29UZGCeUiQMRbYw==");
        let v2 = "{\"event\":\"/x\",\"body\":{\"t\":\"h\u{e9}llo \u{2603}\"}        }";
        let expected = "P7tR3j3+517Bcn6kyneUqm4Ieh1BfnsZ31OdxP0zkXVgh458qpuLVxgo5PrCo3eXL4E/O0gNVLaUvFY7Hweaiw==";
        assert_eq!(encrypt(&key, v2), expected);
    }
}
