//! The REST API's stored data: messages, calls and posts (rest §6).

use serde_json::{Value, json};

use super::Service;
use super::http::{Answer, Request};
use super::subs::{call_session, post_id, telephony_session};
use crate::time::{MS, SEC, ServiceClock, Shown, Us, parse_stamp};
use crate::world::{CHAT, EXTENSION, Emission, What};

#[derive(Debug, Clone)]
pub(crate) struct Message {
    event: u32,
    id: u64,
    kind: &'static str,
    created: Us,
    read: Option<Us>,
    visible: Us,
    deleted: Option<Us>,
    text: String,
}

impl Message {
    fn changed(&self) -> Us {
        self.deleted.or(self.read).unwrap_or(self.created)
    }

    /// The form in a sync: only the id of a deleted message (rest §6.1).
    fn synced(&self, clock: &ServiceClock) -> Value {
        match self.deleted {
            Some(_) => json!({"id": self.id, "availability": "Deleted"}),
            None => self.record(clock),
        }
    }

    pub(crate) fn record(&self, clock: &ServiceClock) -> Value {
        json!({
            "id": self.id, "uri": format!("https://platform.sim.example/restapi/v1.0/account/~/extension/~/message-store/{}", self.id),
            "extensionId": EXTENSION.parse::<u64>().unwrap_or_default(),
            "to": [{"phoneNumber": "+16505550199", "name": "Sim"}], "from": {"phoneNumber": "+16505550100", "name": self.text},
            "type": self.kind, "creationTime": clock.stamp(self.created), "lastModifiedTime": clock.stamp(self.read.unwrap_or(self.created)),
            "readStatus": if self.read.is_some() { "Read" } else { "Unread" }, "priority": "Normal", "attachments": [], "direction": "Inbound",
            "availability": if self.deleted.is_some() { "Deleted" } else { "Alive" },
            "subject": self.text, "messageStatus": "Received", "conversationId": 77, "conversation": {"id": "77"},
        })
    }
}

#[derive(Debug, Clone)]
struct CallRecord {
    session: u32,
    is_missed: bool,
    start: Us,
    end: Us,
    visible: Us,
    text: String,
}

impl CallRecord {
    fn record(&self, clock: &ServiceClock) -> Value {
        json!({
            "id": format!("log-{}", self.session), "uri": format!("https://platform.sim.example/call-log/log-{}", self.session),
            "sessionId": call_session(self.session), "telephonySessionId": telephony_session(self.session),
            "partyId": format!("p-{}-1", telephony_session(self.session)), "startTime": clock.stamp(self.start),
            "duration": (self.end - self.start) / SEC, "durationMs": (self.end - self.start) / MS, "type": "Voice",
            "internalType": "LongDistance", "direction": "Inbound", "action": "Phone Call",
            "result": if self.is_missed { "Missed" } else { "Call connected" },
            "from": {"phoneNumber": "+16505550100", "name": self.text}, "to": {"phoneNumber": "+16505550199"},
            "extension": {"id": EXTENSION.parse::<u64>().unwrap_or_default(), "uri": "https://platform.sim.example/extension"},
            "lastModifiedTime": clock.stamp(self.end),
        })
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Post {
    post: u32,
    pub(crate) created: Us,
    modified: Us,
    visible: Us,
    text: String,
}

impl Post {
    fn record(&self, clock: &ServiceClock) -> Value {
        json!({
            "id": post_id(self.post), "groupId": CHAT, "type": "TextMessage", "text": self.text, "creatorId": "555",
            "addedPersonIds": null, "creationTime": clock.stamp(self.created), "lastModifiedTime": clock.stamp(self.modified),
            "attachments": null, "activity": null, "title": null, "iconUri": null, "iconEmoji": null, "mentions": null,
        })
    }
}

/// Everything that is stored.
#[derive(Debug, Default)]
pub(crate) struct Store {
    messages: Vec<Message>,
    calls: Vec<CallRecord>,
    posts: Vec<Post>,
    tokens: Vec<Frame>,
}

/// The content of a sync token.
#[derive(Debug, Clone)]
struct Frame {
    text: String,
    made: Us,
    kinds: Vec<String>,
    from: Shown,
    missed_only: bool,
}

impl Store {
    pub(crate) fn message(&self, event: u32) -> Option<&Message> {
        self.messages.iter().find(|message| message.event == event)
    }

    pub(crate) fn post(&self, post: u32) -> Option<&Post> {
        self.posts.iter().find(|it| it.post == post)
    }
}

impl Service {
    /// Stores an event, which can be read a little later.
    pub(super) fn record(&mut self, event: &Emission, now: Us) {
        let visible = now + self.rng.below(self.knobs.sync_lag_ms * MS + 1);
        let in_log = now + self.knobs.calls_lag_s * SEC;
        let text = event.tag();
        match event.what {
            What::Sms | What::Voicemail | What::Stored => {
                let kind = match event.what {
                    What::Sms => "SMS",
                    What::Stored => "Fax",
                    _ => "VoiceMail",
                };
                let id = 600_000 + u64::from(event.id);
                self.store.messages.push(Message {
                    event: event.id,
                    id,
                    kind,
                    created: now,
                    read: None,
                    visible,
                    deleted: None,
                    text,
                });
            }
            What::VoicemailRead(voicemail) => {
                if let Some(it) = self.store.messages.iter_mut().find(|it| it.event == voicemail) {
                    it.read = Some(now);
                    it.text = text;
                }
            }
            What::PostAdded(post) => {
                self.store.posts.push(Post { post, created: now, modified: now, visible, text });
            }
            What::PostChanged(post) => {
                if let Some(it) = self.store.posts.iter_mut().find(|it| it.post == post) {
                    it.modified = now;
                    it.text = text;
                }
            }
            What::MissedCall => {
                let start = now.saturating_sub(self.knobs.call_ring_s * SEC);
                let call = CallRecord { session: event.id, is_missed: true, start, end: now, visible: in_log, text };
                self.store.calls.push(call);
            }
            What::Telephony { call, last: true, .. } => {
                let first =
                    self.events.iter().find(|it| matches!(it.what, What::Telephony { call: c, .. } if c == call));
                let start = first.map_or(now, |it| it.at);
                let record = CallRecord { session: call, is_missed: false, start, end: now, visible: in_log, text };
                self.store.calls.push(record);
            }
            What::Telephony { .. } | What::AgentShot | What::AgentContact { .. } => {}
        }
    }

    /// A message is deleted again.
    pub(crate) fn delete_message(&mut self, event: u32, now: Us) {
        if let Some(message) = self.store.messages.iter_mut().find(|it| it.event == event) {
            message.deleted = Some(now);
        }
    }

    /// A call that reads data.
    pub(super) fn data_call(&mut self, request: &Request, now: Us) -> Answer {
        let path = request.path.as_str();
        if request.method != "GET" {
            return Answer::error(404, "AGW-404", "Resource not found", None);
        }
        let tail = path.rsplit('/').next().unwrap_or_default();
        match tail {
            "message-sync" => self.message_sync(request, now),
            "message-store" => self.message_list(request, now),
            "call-log-sync" => self.call_sync(request, now),
            "call-log" => self.call_list(request, now),
            "chats" => self.chats(now),
            "posts" if path.contains("/threads/") => Answer::json(200, &json!({"records": [], "navigation": {}})),
            "posts" => self.posts(request, now),
            "active-calls" => Answer::json(200, &json!({"records": [], "paging": {}, "navigation": {}})),
            _ => Answer::error(404, "AGW-404", "Resource not found", None),
        }
    }

    fn new_frame(&mut self, kind: &str, now: Us, request: &Request, from: Shown) -> String {
        let text = format!("{kind}-{}", self.hex(20));
        let kinds = request.queries("messageType").map(str::to_owned).collect();
        let missed_only = request.query("statusGroup") == Some("Missed");
        self.store.tokens.push(Frame { text: text.clone(), made: now, kinds, from, missed_only });
        text
    }

    /// The frame of a token, or the refusal.
    fn token_frame(&self, request: &Request, now: Us, gone: &str) -> Result<Frame, Answer> {
        let token = request.query("syncToken").unwrap_or_default();
        let life = self.knobs.sync_token_life_s * SEC;
        self.store.tokens.iter().find(|it| it.text == token && it.made + life > now).cloned().ok_or_else(|| {
            if self.knobs.sync_gone_code == 0 {
                Answer::error(400, "CMN-101", "Parameter [syncToken] value is invalid", Some("syncToken"))
            } else {
                Answer::error(400, gone, "Full synchronization is required", None)
            }
        })
    }

    fn renewed(&mut self, frame: Frame, kind: &str, now: Us) -> String {
        let text = format!("{kind}-{}", self.hex(20));
        self.store.tokens.push(Frame { text: text.clone(), made: now, ..frame });
        text
    }

    fn wants(kinds: &[String], kind: &str) -> bool {
        kinds.is_empty() || kinds.iter().any(|it| it.eq_ignore_ascii_case(kind))
    }

    fn in_frame(&self, at: Us, from: Shown, to: Shown) -> bool {
        let at = self.clock.at(at).floor_ms();
        at >= from && if self.knobs.sync_date_to_exclusive == 1 { at < to } else { at <= to }
    }

    fn message_sync(&mut self, request: &Request, now: Us) -> Answer {
        let synced = self.clock.stamp(now);
        let answer = |records: Vec<Value>, kind: &str, token: String, older: bool| {
            Answer::json(
                200,
                &json!({
                    "uri": "https://platform.sim.example/message-sync", "records": records,
                    "syncInfo": {"syncType": kind, "syncToken": token, "syncTime": synced, "olderRecordsExist": older},
                }),
            )
        };
        match request.query("syncType") {
            Some("ISync") => {
                let frame = match self.token_frame(request, now, "MSG-333") {
                    Ok(frame) => frame,
                    Err(refusal) => return refusal,
                };
                let overlap = self.knobs.sync_overlap_ms * MS;
                let records = self
                    .store
                    .messages
                    .iter()
                    .filter(|it| {
                        it.visible <= now
                            && self.clock.at(it.created) >= frame.from
                            && Self::wants(&frame.kinds, it.kind)
                    })
                    .filter(|it| {
                        it.visible > frame.made
                            || it.deleted.is_some_and(|at| at > frame.made)
                            || it.changed() + overlap > frame.made
                    })
                    .map(|it| it.synced(&self.clock))
                    .collect();
                let token = self.renewed(frame, "m", now);
                answer(records, "ISync", token, false)
            }
            Some("FSync") => {
                let to = request.query("dateTo").and_then(parse_stamp).unwrap_or(self.clock.at(now + SEC));
                let from = request.query("dateFrom").and_then(parse_stamp).unwrap_or(ALWAYS);
                let most = request.query("recordCount").and_then(|text| text.parse().ok()).unwrap_or(100);
                let most = most.min(usize::try_from(self.knobs.sync_page).unwrap_or(usize::MAX));
                let kinds: Vec<String> = request.queries("messageType").map(str::to_owned).collect();
                let mut found: Vec<&Message> = self
                    .store
                    .messages
                    .iter()
                    .filter(|it| it.visible <= now && it.deleted.is_none() && Self::wants(&kinds, it.kind))
                    .filter(|it| self.in_frame(it.created, from, to))
                    .collect();
                found.sort_by_key(|it| std::cmp::Reverse((it.created, it.id)));
                let older = found.len() > most;
                found.truncate(most);
                let records = found.into_iter().map(|it| it.record(&self.clock)).collect();
                let token = self.new_frame("m", now, request, from);
                answer(records, "FSync", token, older)
            }
            _ => Answer::error(400, "CMN-101", "Parameter [syncType] value is invalid", Some("syncType")),
        }
    }

    /// Deleted messages are listed if requested by their availability (rest §6.2).
    fn message_list(&self, request: &Request, now: Us) -> Answer {
        let to = request.query("dateTo").and_then(parse_stamp).unwrap_or(self.clock.at(now + SEC));
        let from = request.query("dateFrom").and_then(parse_stamp).unwrap_or(ALWAYS);
        let kinds: Vec<String> = request.queries("messageType").map(str::to_owned).collect();
        let wanted: Vec<&str> = request.queries("availability").collect();
        let is_wanted = |it: &Message| {
            let availability = if it.deleted.is_some() { "Deleted" } else { "Alive" };
            wanted.contains(&availability) || wanted.is_empty() && it.deleted.is_none()
        };
        let found = self
            .store
            .messages
            .iter()
            .rev()
            .filter(|it| it.visible <= now && is_wanted(it) && Self::wants(&kinds, it.kind))
            .filter(|it| self.in_frame(it.created, from, to));
        page(request, found.map(|it| it.record(&self.clock)).collect())
    }

    fn call_sync(&mut self, request: &Request, now: Us) -> Answer {
        let synced = self.clock.stamp(now);
        let answer = |records: Vec<Value>, kind: &str, token: String| {
            Answer::json(
                200,
                &json!({
                    "uri": "https://platform.sim.example/call-log-sync", "records": records,
                    "syncInfo": {"syncType": kind, "syncToken": token, "syncTime": synced},
                }),
            )
        };
        match request.query("syncType").unwrap_or("FSync") {
            "ISync" => {
                let frame = match self.token_frame(request, now, "CLG-101") {
                    Ok(frame) => frame,
                    Err(refusal) => return refusal,
                };
                let records = self
                    .store
                    .calls
                    .iter()
                    .rev()
                    .filter(|it| it.visible <= now && it.visible > frame.made && (!frame.missed_only || it.is_missed))
                    .map(|it| it.record(&self.clock))
                    .collect();
                let token = self.renewed(frame, "c", now);
                answer(records, "ISync", token)
            }
            "FSync" => {
                let Some(most) =
                    request.query("recordCount").and_then(|text| text.parse::<usize>().ok()).filter(|n| *n <= 250)
                else {
                    return Answer::error(400, "CMN-101", "Parameter [recordCount] is invalid", Some("recordCount"));
                };
                let from = request.query("dateFrom").and_then(parse_stamp).unwrap_or(ALWAYS);
                let missed_only = request.query("statusGroup") == Some("Missed");
                let records = self
                    .store
                    .calls
                    .iter()
                    .rev()
                    .filter(|it| {
                        it.visible <= now
                            && self.clock.at(it.start).floor_ms() >= from
                            && (!missed_only || it.is_missed)
                    })
                    .take(most)
                    .map(|it| it.record(&self.clock))
                    .collect();
                let token = self.new_frame("c", now, request, from);
                answer(records, "FSync", token)
            }
            _ => Answer::error(400, "CMN-101", "Parameter [syncType] value is invalid", Some("syncType")),
        }
    }

    fn call_list(&self, request: &Request, now: Us) -> Answer {
        let to = request.query("dateTo").and_then(parse_stamp).unwrap_or(self.clock.at(now + SEC));
        let from = request.query("dateFrom").and_then(parse_stamp).unwrap_or(ALWAYS);
        let missed_only = request.query("statusGroup") == Some("Missed");
        let found = self
            .store
            .calls
            .iter()
            .rev()
            .filter(|it| it.visible <= now && self.in_frame(it.start, from, to) && (!missed_only || it.is_missed));
        page(request, found.map(|it| it.record(&self.clock)).collect())
    }

    fn chats(&self, now: Us) -> Answer {
        let last = self.store.posts.iter().filter(|it| it.visible <= now).map(|it| it.modified).max();
        let records: Vec<Value> = last
            .map(|last| json!({"id": CHAT, "type": "Team", "name": "Sim", "creationTime": self.clock.stamp(0), "lastModifiedTime": self.clock.stamp(last)}))
            .into_iter()
            .collect();
        Answer::json(200, &json!({"records": records, "navigation": {}}))
    }

    fn posts(&self, request: &Request, now: Us) -> Answer {
        let most: usize = request.query("recordCount").and_then(|text| text.parse().ok()).unwrap_or(30).min(250);
        let mut found: Vec<&Post> = self.store.posts.iter().filter(|it| it.visible <= now).collect();
        found.sort_by_key(|it| std::cmp::Reverse((it.created, it.post)));
        let from: usize =
            request.query("pageToken").and_then(|text| text.strip_prefix("older-")?.parse().ok()).unwrap_or(0);
        let more = found.len() > from + most;
        let records: Vec<Value> = found.into_iter().skip(from).take(most).map(|it| it.record(&self.clock)).collect();
        let mut navigation = json!({});
        if let (true, Some(map)) = (more, navigation.as_object_mut()) {
            map.insert("prevPageToken".into(), format!("older-{}", from + most).into());
        }
        Answer::json(200, &json!({"records": records, "navigation": navigation}))
    }
}

/// The beginning of a frame that has none.
const ALWAYS: Shown = Shown(i64::MIN);

fn page(request: &Request, records: Vec<Value>) -> Answer {
    let number =
        |name: &str, default: usize| request.query(name).and_then(|text| text.parse().ok()).unwrap_or(default).max(1);
    let (page, per) = (number("page", 1), number("perPage", 100));
    let total = records.len();
    let mut navigation = json!({});
    if let (true, Some(map)) = (page * per < total, navigation.as_object_mut()) {
        let uri = format!("https://platform.sim.example{}?page={}&perPage={per}", request.path, page + 1);
        map.insert("nextPage".into(), json!({"uri": uri}));
    }
    let records: Vec<Value> = records.into_iter().skip((page - 1) * per).take(per).collect();
    let paging = json!({"page": page, "perPage": per, "totalElements": total, "totalPages": total.div_ceil(per)});
    Answer::json(200, &json!({"records": records, "paging": paging, "navigation": navigation}))
}
