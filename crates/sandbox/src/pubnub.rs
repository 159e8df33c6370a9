//! The PubNub side: channels, their ring buffers, and long polls.

use std::collections::{HashMap, VecDeque};
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;
use tokio::time::Instant;

use super::behavior::{Behavior, Overflow};

/// PubNub's unit is 100 ns.
const TICKS_PER_SECOND: u128 = 10_000_000;
/// Maximum number of channels in one poll; more would exceed the address length.
const MAX_CHANNELS_PER_POLL: usize = 2000;
/// Maximum number of channels; a new one then replaces the idlest.
const MAX_CHANNELS: usize = 20_000;
/// Two open polls on one channel count as a client error after this long; below it, the end of the
/// first connection may not have been noticed yet.
const OVERLAP_GRACE: Duration = Duration::from_millis(250);

/// PubNub's state.
#[derive(Debug, Default)]
pub(crate) struct PubNub {
    channels: HashMap<ChannelId, Channel>,
    /// The latest position issued; positions only grow.
    latest: u64,
    /// By how many ticks each region's tokens are ahead, as sent to clients.
    regions: HashMap<u32, i64>,
    polls: HashMap<u64, OpenPoll>,
    next_poll: u64,
    max_open: usize,
    overlaps: u64,
}

/// A channel is scoped to its subscribe key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ChannelId {
    pub(crate) key: String,
    pub(crate) name: String,
}

impl ChannelId {
    /// Represents the socket of a subscription, which has no channel.
    pub(crate) fn of_socket(subscription: &str) -> Self {
        Self { key: String::new(), name: subscription.to_owned() }
    }

    /// The subscription that it represents.
    pub(crate) fn socket(&self) -> Option<&str> {
        self.key.is_empty().then_some(self.name.as_str())
    }
}

#[derive(Debug, Default)]
struct Channel {
    ring: VecDeque<Message>,
    waiters: Vec<(u64, Arc<Notify>)>,
    /// Position of the newest message published here.
    head: u64,
    /// The furthest position that a poll has returned with.
    acknowledged: u64,
    dropped: u64,
}

impl Channel {
    fn drop_oldest(&mut self) {
        if self.ring.pop_front().is_some_and(|oldest| oldest.position > self.acknowledged) {
            self.dropped += 1;
        }
    }
}

#[derive(Clone, Debug)]
struct Message {
    position: u64,
    at: Instant,
    payload: Payload,
}

/// The content of a message, as JSON text that is sent unchanged.
#[derive(Clone, Debug)]
pub(crate) enum Payload {
    /// The text of `d`.
    Data(String),
    /// The text of the whole envelope.
    Envelope(String),
}

#[derive(Debug)]
struct OpenPoll {
    channels: Vec<ChannelId>,
    since: Instant,
    /// Its connection is a black hole, so the client cannot know that it is open.
    silent: Arc<AtomicBool>,
}

impl OpenPoll {
    fn is_heard(&self) -> bool {
        !self.silent.load(Ordering::Relaxed)
    }
}

/// A parsed subscribe request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Poll {
    pub(crate) channels: Vec<ChannelId>,
    pub(crate) timetoken: u64,
    pub(crate) region: Option<u32>,
}

/// The answer to a poll.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) timetoken: u64,
    pub(crate) region: u32,
    /// Channel and text of each `d`, and the envelope's text.
    pub(crate) messages: Vec<Sent>,
}

/// One message of an answer.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) channel: String,
    pub(crate) data: Option<String>,
    pub(crate) envelope: String,
}

/// Counts of the sandbox's polls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PollCounts {
    pub(crate) open: usize,
    pub(crate) max_open: usize,
    pub(crate) overlaps: u64,
}

/// A wall-clock time as a timetoken.
pub(crate) fn ticks(wall: SystemTime) -> u64 {
    let since = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos() * TICKS_PER_SECOND / 1_000_000_000).unwrap_or(u64::MAX)
}

impl PubNub {
    /// Issues a new position: greater than all before it, and the current time if possible.
    pub(crate) fn advance(&mut self, wall: SystemTime) -> u64 {
        self.latest = ticks(wall).max(self.latest + 1);
        self.latest
    }

    /// Adds a message to a channel's ring and wakes its polls.
    pub(crate) fn publish(
        &mut self,
        id: &ChannelId,
        payload: Payload,
        behavior: &Behavior,
        now: Instant,
        wall: SystemTime,
    ) -> u64 {
        let position = self.advance(wall);
        if self.channels.len() >= MAX_CHANNELS && !self.channels.contains_key(id) {
            self.drop_idlest();
        }
        let channel = self.channels.entry(id.clone()).or_default();
        channel.head = position;
        channel.ring.push_back(Message { position, at: now, payload });
        while channel.ring.len() > behavior.ring.max(1) {
            channel.drop_oldest();
        }
        for (_, waiter) in &channel.waiters {
            waiter.notify_one();
        }
        position
    }

    /// Makes room for a channel by dropping the unpolled one with the oldest activity.
    fn drop_idlest(&mut self) {
        let idle = self.channels.iter().filter(|(_, channel)| channel.waiters.is_empty());
        if let Some(id) = idle.min_by_key(|(_, channel)| channel.head).map(|(id, _)| id.clone()) {
            self.channels.remove(&id);
        }
    }

    /// The position of a client's cursor in the global order.
    fn position(&self, poll: &Poll) -> u64 {
        let offset = poll.region.and_then(|region| self.regions.get(&region)).copied().unwrap_or(0);
        poll.timetoken.saturating_add_signed(offset.saturating_neg())
    }

    /// Records that everything up to a poll's cursor arrived.
    pub(crate) fn acknowledge(&mut self, poll: &Poll) {
        let position = self.position(poll);
        for id in &poll.channels {
            if let Some(channel) = self.channels.get_mut(id) {
                channel.acknowledged = channel.acknowledged.max(position);
            }
        }
    }

    /// Whether every channel with messages was polled beyond its last one, except channels that
    /// `is_live` rejects.
    pub(crate) fn is_caught_up(&self, is_live: impl Fn(&ChannelId) -> bool) -> bool {
        self.channels.iter().filter(|(id, _)| is_live(id)).all(|(_, channel)| channel.acknowledged >= channel.head)
    }

    /// The messages after the poll's cursor, or `None`.
    pub(crate) fn answer(&mut self, poll: &Poll, behavior: &Behavior, now: Instant) -> Option<Batch> {
        let since = self.position(poll);
        let mut found: Vec<(&ChannelId, Message)> = Vec::new();
        for id in &poll.channels {
            let Some(channel) = self.channels.get_mut(id) else { continue };
            while channel.ring.front().is_some_and(|first| now.duration_since(first.at) > behavior.retention) {
                channel.drop_oldest();
            }
            let newer = channel.ring.partition_point(|message| message.position <= since);
            found.extend(channel.ring.iter().skip(newer).map(|message| (id, message.clone())));
        }
        found.sort_by_key(|(_, message)| message.position);
        let cap = behavior.response_cap.max(1);
        if found.len() > cap {
            match behavior.overflow {
                Overflow::DropOldest => drop(found.drain(..found.len() - cap)),
                Overflow::Page => found.truncate(cap),
            }
        }
        let last = found.last()?.1.position;
        let messages = found.into_iter().map(|(id, message)| sent(id, message, behavior)).collect();
        Some(self.batch(last, messages, behavior))
    }

    /// An answer without messages, at the current position.
    pub(crate) fn empty(&mut self, behavior: &Behavior, wall: SystemTime) -> Batch {
        let position = self.advance(wall);
        self.batch(position, Vec::new(), behavior)
    }

    fn batch(&mut self, position: u64, messages: Vec<Sent>, behavior: &Behavior) -> Batch {
        let offset = behavior.region_offset_ms.saturating_mul(10_000);
        self.regions.insert(behavior.region, offset);
        Batch { timetoken: position.saturating_add_signed(offset), region: behavior.region, messages }
    }

    /// Counts a poll as open; [`close`](Self::close) ends it.
    pub(crate) fn open(&mut self, poll: &Poll, wake: &Arc<Notify>, silent: &Arc<AtomicBool>, now: Instant) -> u64 {
        let id = self.next_poll;
        self.next_poll += 1;
        for channel in &poll.channels {
            self.channels.entry(channel.clone()).or_default().waiters.push((id, Arc::clone(wake)));
        }
        self.polls.insert(id, OpenPoll { channels: poll.channels.clone(), since: now, silent: Arc::clone(silent) });
        self.max_open = self.max_open.max(self.heard().count());
        id
    }

    /// Ends what [`open`](Self::open) began.
    pub(crate) fn close(&mut self, id: u64, now: Instant) {
        let Some(poll) = self.polls.remove(&id) else { return };
        if poll.is_heard()
            && self.overlapping(&poll).any(|other| now.duration_since(other.since.max(poll.since)) > OVERLAP_GRACE)
        {
            self.overlaps += 1;
        }
        for name in &poll.channels {
            if let Some(channel) = self.channels.get_mut(name) {
                channel.waiters.retain(|(waiter, _)| *waiter != id);
                if channel.waiters.is_empty() && channel.head == 0 {
                    self.channels.remove(name);
                }
            }
        }
    }

    fn heard(&self) -> impl Iterator<Item = &OpenPoll> {
        self.polls.values().filter(|poll| poll.is_heard())
    }

    fn overlapping<'a>(&'a self, poll: &'a OpenPoll) -> impl Iterator<Item = &'a OpenPoll> {
        self.heard().filter(|other| other.channels.iter().any(|channel| poll.channels.contains(channel)))
    }

    /// The current counts.
    pub(crate) fn counts(&self, now: Instant) -> PollCounts {
        let mut newest: HashMap<&ChannelId, (usize, Instant)> = HashMap::new();
        for poll in self.heard() {
            for channel in &poll.channels {
                let entry = newest.entry(channel).or_insert((0, poll.since));
                *entry = (entry.0 + 1, entry.1.max(poll.since));
            }
        }
        let standing =
            newest.values().filter(|(polls, since)| *polls > 1 && now.duration_since(*since) > OVERLAP_GRACE).count();
        PollCounts {
            open: self.heard().count(),
            max_open: self.max_open,
            overlaps: self.overlaps + u64::try_from(standing).unwrap_or(u64::MAX),
        }
    }

    /// Number of open polls that list a channel.
    pub(crate) fn open_on(&self, id: &ChannelId) -> usize {
        self.heard().filter(|poll| poll.channels.contains(id)).count()
    }

    /// Number of messages, over all channels, that were dropped for space or age before a poll
    /// returned from beyond them.
    pub(crate) fn dropped(&self) -> u64 {
        self.channels.values().map(|channel| channel.dropped).sum()
    }
}

fn sent(id: &ChannelId, message: Message, behavior: &Behavior) -> Sent {
    match message.payload {
        Payload::Envelope(envelope) => Sent { channel: id.name.clone(), data: None, envelope },
        Payload::Data(data) => {
            let envelope = envelope(id, message.position, &data, behavior);
            Sent { channel: id.name.clone(), data: Some(data), envelope }
        }
    }
}

/// The envelope's text; `data` is inserted unchanged.
fn envelope(id: &ChannelId, position: u64, data: &str, behavior: &Behavior) -> String {
    let published = position.saturating_add(behavior.published_ahead);
    let text = |value: &str| serde_json::Value::from(value).to_string();
    let fields = [
        ("a", "\"1\"".to_owned()),
        ("f", "514".to_owned()),
        ("e", behavior.event_type.to_string()),
        ("i", "\"pn-sandbox\"".to_owned()),
        ("s", "1".to_owned()),
        ("p", format!(r#"{{"t":"{published}","r":{}}}"#, behavior.region)),
        ("k", text(&id.key)),
        ("c", text(&id.name)),
        ("d", data.to_owned()),
        ("b", text(&id.name)),
    ];
    let mut out = String::with_capacity(data.len() + 160);
    for (name, value) in fields.iter().filter(|(name, _)| !behavior.omit.iter().any(|omitted| omitted == name)) {
        let lead = if out.is_empty() { '{' } else { ',' };
        // Writing to a String cannot fail.
        let _ = write!(out, "{lead}\"{name}\":{value}");
    }
    out.push('}');
    out
}

impl Batch {
    /// The body of a v2 answer.
    pub(crate) fn v2(&self) -> String {
        let messages: Vec<&str> = self.messages.iter().map(|message| message.envelope.as_str()).collect();
        format!(r#"{{"t":{{"t":"{}","r":{}}},"m":[{}]}}"#, self.timetoken, self.region, messages.join(","))
    }

    /// The body of a v1 answer, which contains only payloads; with several channels a list of their
    /// names follows.
    pub(crate) fn v1(&self, several: bool) -> String {
        let data: Vec<&str> =
            self.messages.iter().map(|message| message.data.as_deref().unwrap_or(&message.envelope)).collect();
        let mut out = format!(r#"[[{}],"{}""#, data.join(","), self.timetoken);
        if several && !self.messages.is_empty() {
            let names: Vec<&str> = self.messages.iter().map(|message| message.channel.as_str()).collect();
            out.push(',');
            out.push_str(&serde_json::Value::from(names.join(",")).to_string());
        }
        out.push(']');
        out
    }
}

impl Poll {
    /// Parses key, channel list, timetoken and region; `None` if one is invalid.
    pub(crate) fn read(key: &str, channels: &str, timetoken: Option<&str>, region: Option<&str>) -> Option<Self> {
        let names: Vec<String> =
            channels.split(',').filter(|name| !name.is_empty()).map(super::http::percent_decode).collect();
        if names.len() > MAX_CHANNELS_PER_POLL {
            return None;
        }
        let mut channels: Vec<ChannelId> =
            names.into_iter().map(|name| ChannelId { key: key.to_owned(), name }).collect();
        channels.sort_by(|a, b| a.name.cmp(&b.name));
        channels.dedup();
        let timetoken = match timetoken.filter(|text| !text.is_empty()) {
            None => 0,
            Some(text) => text.parse().ok()?,
        };
        let region = match region.filter(|text| !text.is_empty()) {
            None => None,
            Some(text) => Some(text.parse().ok()?),
        };
        Some(Self { channels, timetoken, region })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn channel(name: &str) -> ChannelId {
        ChannelId { key: "sub-c-1".into(), name: name.into() }
    }

    fn poll(names: &[&str], timetoken: u64, region: Option<u32>) -> Poll {
        Poll { channels: names.iter().map(|name| channel(name)).collect(), timetoken, region }
    }

    #[test]
    fn a_request_is_read() {
        let read = Poll::read("k", "b,a%2Cc,,b", Some("17"), Some("4")).unwrap();
        let names: Vec<&str> = read.channels.iter().map(|id| id.name.as_str()).collect();
        assert_eq!((names, read.timetoken, read.region), (vec!["a,c", "b"], 17, Some(4)));
        assert_eq!(Poll::read("k", "c", None, Some("")).unwrap().timetoken, 0);
        for (timetoken, region) in [("-1", "1"), ("1.5", "1"), ("99999999999999999999", "1"), ("1", "x")] {
            assert_eq!(Poll::read("k", "c", Some(timetoken), Some(region)), None);
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Publish(u8),
        Poll,
        Region(u32, i16),
        ClockBack,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..2_u8).prop_map(Step::Publish),
            3 => Just(Step::Poll),
            1 => (1..4_u32, any::<i16>()).prop_map(|(region, offset)| Step::Region(region, offset)),
            1 => Just(Step::ClockBack),
        ]
    }

    proptest! {
        /// A client that echoes the cursor gets every message once and in order despite region and
        /// clock changes, unless a buffer overflows.
        #[test]
        fn an_echoed_cursor_loses_and_repeats_nothing(
            steps in proptest::collection::vec(step(), 0..60), cap in 1..5_usize, ahead in 0..3000_u64,
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let now = runtime.block_on(async { Instant::now() });
            let mut behavior = Behavior { response_cap: cap, overflow: Overflow::Page, published_ahead: ahead, ..Behavior::default() };
            let mut wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_714_979_289);
            let mut pubnub = PubNub::default();
            let first = pubnub.empty(&behavior, wall);
            let mut cursor = (first.timetoken, first.region);
            let (mut sent, mut seen) = (0_u32, Vec::new());
            let names = ["a", "b"];
            // A region's offset is fixed: a cursor is a position in its region's stream.
            let mut offsets: HashMap<u32, i64> = HashMap::from([(behavior.region, 0)]);
            for step in steps.into_iter().chain(std::iter::repeat_n(Step::Poll, 60)) {
                match step {
                    Step::Publish(at) => {
                        let payload = Payload::Data(sent.to_string());
                        pubnub.publish(&channel(names[usize::from(at)]), payload, &behavior, now, wall);
                        sent += 1;
                    }
                    Step::Region(region, offset) => {
                        behavior.region = region;
                        behavior.region_offset_ms = *offsets.entry(region).or_insert_with(|| i64::from(offset));
                    }
                    Step::ClockBack => wall -= Duration::from_secs(1),
                    Step::Poll => {
                        let poll = poll(&names, cursor.0, Some(cursor.1));
                        if let Some(batch) = pubnub.answer(&poll, &behavior, now) {
                            prop_assert!(!batch.messages.is_empty() && batch.messages.len() <= cap);
                            seen.extend(batch.messages.iter().map(|m| m.data.as_ref().unwrap().parse::<u32>().unwrap()));
                            cursor = (batch.timetoken, batch.region);
                        }
                    }
                }
            }
            prop_assert_eq!(seen, (0..sent).collect::<Vec<_>>());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn overlaps_count_when_they_last_and_the_client_can_know() {
        let mut pubnub = PubNub::default();
        let (wake, heard, silent) = (Arc::default(), Arc::default(), Arc::new(AtomicBool::new(true)));
        let poll = poll(&["a"], 1, None);
        let start = Instant::now();
        let lost = pubnub.open(&poll, &wake, &silent, start);
        let first = pubnub.open(&poll, &wake, &heard, start);
        assert_eq!(pubnub.counts(start + Duration::from_secs(9)).overlaps, 0, "the other is in a black hole");
        let second = pubnub.open(&poll, &wake, &heard, start + Duration::from_secs(10));
        pubnub.close(first, start + Duration::from_millis(10_100));
        assert_eq!(pubnub.counts(start + Duration::from_secs(20)).overlaps, 0, "a reconnect");
        let third = pubnub.open(&poll, &wake, &heard, start + Duration::from_secs(20));
        assert_eq!(pubnub.counts(start + Duration::from_secs(21)), PollCounts { open: 2, max_open: 2, overlaps: 1 });
        pubnub.close(second, start + Duration::from_secs(21));
        pubnub.close(third, start + Duration::from_secs(22));
        pubnub.close(lost, start + Duration::from_secs(22));
        assert_eq!(pubnub.counts(start + Duration::from_secs(30)), PollCounts { open: 0, max_open: 2, overlaps: 1 });
        assert!(pubnub.channels.is_empty(), "a channel without messages or polls is dropped");
    }
}
