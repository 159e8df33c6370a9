//! Posts of team messaging, chat by chat.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::ask::{Answered, Listing, OVERLAP, get, objects, read_position, write_position};
use super::{CatchUp, Found, SyncPage, SyncRequest, SyncToken, time};
use crate::clock::Clock;
use crate::error::Result;
use crate::event::{EventFilter, EventKind, GapClosure};
use crate::http::segment;
use crate::rest::Client;
use crate::timestamp::Timestamp;

/// Documented: the maximum of one answer.
const PAGE: usize = 250;
/// How often a round reads the list of chats: once more after the posts, but not for as long as new posts arrive.
const LOOKS: u8 = 2;
/// The most pages of one chat; its posts beyond them are missing.
const PAGES: u32 = 40;
/// The most threads of one chat, the newest; each is a separate request.
const THREADS: usize = 20;

/// Backfills posts of team messaging: the chats that changed (rate group Light), and the newest posts of each (Medium).
///
/// New posts are found as `PostAdded`, changed ones as `PostChanged`, as far back as the new ones reach and one page at
/// least. There is no list of removed posts, so they are not found. Each call is one request; the pages come chat by
/// chat.
///
/// Whether the posts of a chat include the replies of its threads is unverified: the source also reads the threads that
/// the posts of a page name, 20 per chat at most. A reply to an older post is not found if the posts omit it.
///
/// That `prevPageToken` leads to older posts was inferred from an old sample: unverified.
#[derive(Clone, Debug)]
pub struct TeamPosts {
    client: Client,
    clock: Clock,
}

impl TeamPosts {
    /// Sends its requests through `client`.
    #[must_use]
    pub fn new(client: Client) -> Self {
        let clock = client.system().clock();
        Self { client, clock }
    }
}

/// The position. All times are the service's.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
struct ChatPosition {
    /// Everything before this was read.
    time: u64,
    /// When the list of chats was read that `todo` comes from.
    #[serde(default)]
    listed: u64,
    /// Chats that remain to be read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    todo: Vec<Todo>,
    /// How often the list of chats was read in this round.
    #[serde(default)]
    looks: u8,
    /// When the chats that were read in this round had last changed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    read: BTreeMap<String, u64>,
}

impl ChatPosition {
    fn at(time: u64) -> Self {
        Self { time, listed: time, todo: Vec::new(), looks: 0, read: BTreeMap::new() }
    }
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Todo {
    chat: String,
    /// One of its threads; `None` for its posts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    thread: Option<String>,
    /// How many of its threads were found.
    #[serde(default)]
    threads: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    page: Option<String>,
    #[serde(default)]
    pages: u32,
}

/// Which times count as new, and as changed.
#[derive(Clone, Copy, Debug)]
struct Window {
    created: u64,
    /// `None` if only new posts count.
    changed: Option<u64>,
}

#[async_trait]
impl CatchUp for TeamPosts {
    fn name(&self) -> &'static str {
        "team-posts"
    }

    fn covers(&self, filter: &EventFilter) -> GapClosure {
        match filter.kind() {
            EventKind::TeamMessagingPost => GapClosure::Partial,
            _ => GapClosure::Nothing,
        }
    }

    fn overlap(&self) -> Duration {
        Duration::MAX
    }

    async fn begin(&self, _filters: &[EventFilter]) -> Result<SyncToken> {
        let now = self.clock.wall();
        let at = self.recent(1).await?.at;
        write_position(&ChatPosition::at(at), now)
    }

    async fn sync(&self, request: SyncRequest<'_>) -> Result<SyncPage> {
        let now = self.clock.wall();
        let held: Option<ChatPosition> = read_position(request.from);
        match held {
            Some(mut held) if !held.todo.is_empty() => {
                let todo = held.todo.remove(0);
                let (found, complete) = self.posts(&request, &mut held, todo).await?;
                // Reads the list once more, for posts that arrived meanwhile.
                Ok(SyncPage::new(found, write_position(&held, now)?).with_more(true).with_complete(complete))
            }
            held => {
                let (position, complete) = self.list(&request, held).await?;
                let more = !position.todo.is_empty();
                Ok(SyncPage::new(Vec::new(), write_position(&position, now)?).with_more(more).with_complete(complete))
            }
        }
    }
}

impl TeamPosts {
    /// The chats that changed last.
    async fn recent(&self, count: usize) -> Result<Answered<Listing>> {
        let query = [("recordCount", count.to_string())];
        get(&self.client, &self.clock, "/team-messaging/v1/recent/chats", &query).await
    }

    /// Determines which chats to read.
    async fn list(&self, request: &SyncRequest<'_>, held: Option<ChatPosition>) -> Result<(ChatPosition, bool)> {
        let Answered { body, at, skew } = self.recent(PAGE).await?;
        let (chats, whole) = objects(&body);
        let since = request.since.or(request.from.map(SyncToken::made_at));
        let since = since.map_or(at, |since| time::shift(time::millis(since), skew));
        let mut held = held.unwrap_or_else(|| ChatPosition::at(since));
        if request.since.is_some() && held.looks == 0 {
            // A gap may begin before the position (found 3.1).
            held.time = held.time.min(since);
        }
        let from = held.time.saturating_sub(OVERLAP);
        let changed = changed_chats(&chats, from);
        let complete = whole && changed.len() < PAGE;
        let due: Vec<_> = changed.into_iter().filter(|(chat, at)| held.read.get(chat) != Some(at)).collect();
        // The next round begins where the last list was read whose posts were read, too.
        if due.is_empty() {
            return Ok((ChatPosition::at(at), complete));
        }
        if held.looks >= LOOKS {
            return Ok((ChatPosition::at(held.listed), complete));
        }
        held.looks += 1;
        let todo = |chat: &String| Todo { chat: chat.clone(), thread: None, threads: 0, page: None, pages: 0 };
        held.todo = due.iter().map(|(chat, _)| todo(chat)).collect();
        held.read.extend(due);
        held.listed = at;
        Ok((held, complete))
    }

    /// Reads a page of one chat, or of one of its threads.
    async fn posts(
        &self,
        request: &SyncRequest<'_>,
        held: &mut ChatPosition,
        todo: Todo,
    ) -> Result<(Vec<Found>, bool)> {
        let mut query = vec![("recordCount", PAGE.to_string())];
        query.extend(todo.page.iter().map(|page| ("pageToken", page.clone())));
        let thread = todo.thread.as_deref().map(segment).transpose()?;
        let thread = thread.map_or_else(String::new, |thread| format!("/threads/{thread}"));
        let path = format!("/team-messaging/v1/chats/{}{thread}/posts", segment(&todo.chat)?);
        let answer = match get(&self.client, &self.clock, &path, &query).await {
            // The user left the chat, or it was removed: none of it is visible to this user.
            Err(error) if error.status() == Some(404) => return Ok((Vec::new(), true)),
            answer => answer?,
        };
        let skew = answer.skew;
        let changed = request.since.map(|since| time::shift(time::millis(since), skew).saturating_sub(OVERLAP));
        let window = Window { created: held.time.saturating_sub(OVERLAP), changed };
        let (records, whole) = objects(&answer.body);
        let oldest = records.iter().filter_map(|post| stamp(post, "creationTime")).min();
        let older = answer.body.previous_page.filter(|_| oldest.is_some_and(|oldest| oldest >= window.created));
        let pages = todo.pages.saturating_add(1);
        let mut cut = older.is_some() && pages >= PAGES;
        let mut found_threads = Vec::new();
        if todo.thread.is_none() && request.since.is_some() {
            let waits = |id: &String| held.todo.iter().any(|it| it.chat == todo.chat && it.thread.as_ref() == Some(id));
            found_threads = threads(&records);
            found_threads.retain(|id| !waits(id));
            let room = THREADS.saturating_sub(todo.threads);
            cut |= found_threads.len() > room;
            found_threads.truncate(room);
        }
        let count = todo.threads + found_threads.len();
        let of_thread = |id| Todo { thread: Some(id), page: None, pages: 0, ..todo.clone() };
        held.todo.splice(0..0, found_threads.into_iter().map(of_thread));
        if let Some(page) = older.filter(|_| pages < PAGES) {
            held.todo.insert(0, Todo { page: Some(page), pages, threads: count, ..todo });
        }
        let mut all = Vec::new();
        for post in records.iter().rev() {
            for filter in request.filters.iter().filter(|filter| filter.kind() == EventKind::TeamMessagingPost) {
                all.extend(found(filter, post, window)?);
            }
        }
        Ok((all, whole && !cut))
    }
}

fn stamp(record: &Map<String, Value>, name: &str) -> Option<u64> {
    time::of(&Timestamp::new(record.get(name)?.as_str()?))
}

/// Ids of the threads that posts belong to, the newest first (rest §5.6.1).
fn threads(posts: &[Map<String, Value>]) -> Vec<String> {
    let mut ids: Vec<String> = Vec::new();
    for post in posts {
        let id = match post.get("threadId") {
            Some(Value::String(id)) if !id.is_empty() => id.clone(),
            Some(Value::Number(id)) => id.to_string(),
            _ => continue,
        };
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    ids
}

/// Ids of the chats that changed since `from`, with the time they did.
fn changed_chats(chats: &[Map<String, Value>], from: u64) -> Vec<(String, u64)> {
    let of = |chat: &Map<String, Value>| {
        let id = match chat.get("id")? {
            Value::String(id) => id.clone(),
            Value::Number(id) => id.to_string(),
            _ => return None,
        };
        // A chat without a readable time is read once a round.
        Some((id, stamp(chat, "lastModifiedTime").unwrap_or(u64::MAX)))
    };
    chats.iter().filter_map(of).filter(|(_, at)| *at >= from).collect()
}

/// The events of a post: none, added, changed, or both.
fn found(filter: &EventFilter, post: &Map<String, Value>, window: Window) -> Result<Vec<Found>> {
    let created = stamp(post, "creationTime");
    let modified = stamp(post, "lastModifiedTime").or(created);
    let added = created.is_none_or(|created| created >= window.created);
    // Also if it was added just now: it may have been delivered before it changed.
    let changed = window.changed.is_some_and(|since| modified > created && modified.is_some_and(|at| at >= since));
    let mut all = Vec::new();
    for (told, what, at) in [(added, "PostAdded", "creationTime"), (changed, "PostChanged", "lastModifiedTime")] {
        if told {
            let mut body = post.clone();
            body.insert("eventType".into(), what.into());
            all.push(Found::change(filter.as_str(), post.get(at).and_then(Value::as_str), &body)?);
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{Notification, Origin};

    const NOON: u64 = 1_714_996_800_000;

    fn object(value: Value) -> Map<String, Value> {
        let Value::Object(object) = value else { panic!("{value}") };
        object
    }

    #[test]
    fn a_post_is_delivered_as_added_or_changed() {
        let after = Window { created: NOON, changed: Some(NOON) };
        let late = Window { created: NOON, changed: Some(NOON + 10_000) };
        let check = Window { created: NOON, changed: None };
        for (created, modified, window, want) in [
            ("12:00:01", "12:00:01", after, "PostAdded"),
            ("12:00:01", "12:00:02", after, "PostAdded PostChanged"),
            ("11:00:00", "12:00:02", after, "PostChanged"),
            ("11:00:00", "12:00:02", check, ""),
            ("11:00:00", "11:30:00", after, ""),
            ("11:00:00", "11:00:00", after, ""),
            ("12:00:01", "12:00:30", late, "PostAdded PostChanged"),
            ("12:00:01", "12:00:05", late, "PostAdded"),
            ("12:00:01", "12:00:01", check, "PostAdded"),
        ] {
            let at = |clock: &str| format!("2024-05-06T{clock}Z");
            let post = object(json!({"id": "9", "creationTime": at(created), "lastModifiedTime": at(modified)}));
            let found = found(&EventFilter::team_posts(), &post, window).unwrap();
            let what = |it: Found| {
                let it = Notification::parse(it.notification, Origin::CatchUp, std::time::SystemTime::UNIX_EPOCH);
                it.unwrap().body_as::<Value>().unwrap()["eventType"].as_str().unwrap().to_owned()
            };
            let got: Vec<String> = found.into_iter().map(what).collect();
            assert_eq!(got.join(" "), want, "{created} {modified} {window:?}");
        }
    }

    #[test]
    fn threads_are_named_by_their_posts() {
        let posts =
            [json!("7"), json!(null), json!(9), json!("7"), json!("")].map(|id| object(json!({"threadId": id})));
        assert_eq!(threads(&posts), ["7", "9"]);
    }

    #[test]
    fn chats_that_changed_are_read() {
        let chat = |id: Value, at: &str| object(json!({"id": id, "lastModifiedTime": at}));
        let chats = [
            chat(json!("1"), "2024-05-06T12:00:01Z"),
            chat(json!(2), "2024-05-06T12:00:00Z"),
            chat(json!("3"), "2024-05-06T11:59:59Z"),
            chat(json!("4"), "soon"),
            chat(json!(null), "2024-05-06T12:00:01Z"),
        ];
        let got = changed_chats(&chats, NOON);
        assert_eq!(got, [("1".into(), NOON + 1000), ("2".into(), NOON), ("4".into(), u64::MAX)]);
    }
}
