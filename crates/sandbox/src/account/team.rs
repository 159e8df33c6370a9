//! Chats and posts.

use std::collections::VecDeque;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use serde_json::{Value, json};

use super::params::{body, count_in, keep, text_field};
use crate::context::Context;
use crate::filters::{DomainEvent, Outcome};
use crate::http::{Call, Refused, Reply, empty_reply, json_reply};
use crate::random::number;

const KEPT: usize = 10_000;
const DEFAULT_COUNT: usize = 30;
const MOST: usize = 250;

/// The chat that every sandbox has.
pub(crate) const CHAT: &str = "1200000001";

/// Chats and posts, oldest first.
#[derive(Debug)]
pub(crate) struct Team {
    chats: Vec<Value>,
    posts: VecDeque<(u64, Value)>,
    next: u64,
}

impl Default for Team {
    fn default() -> Self {
        let first = "2024-01-01T00:00:00.000Z";
        Self { chats: vec![new_chat(CHAT, first)], posts: VecDeque::new(), next: 1 }
    }
}

fn new_chat(id: &str, at: &str) -> Value {
    json!({
        "id": id,
        "name": "Sandbox team",
        "description": "A chat of the sandbox",
        "type": "Team",
        "status": "Active",
        "public": false,
        "members": [{ "id": "100200301" }, { "id": "100200399" }],
        "creationTime": at,
        "lastModifiedTime": at,
    })
}

/// The event of a post or chat: its record, and the kind of change.
fn event_of(ctx: &Context, uri: &str, record: &Value, what: &str) -> DomainEvent {
    let mut body = record.clone();
    body["eventType"] = json!(what);
    if let Some(public) = body.as_object_mut().and_then(|body| body.remove("public")) {
        body["isPublic"] = public;
    }
    if let Some(members) = record["members"].as_array() {
        body["members"] = members.iter().map(|member| member["id"].clone()).collect();
    }
    DomainEvent::new(&ctx.identity, uri, &body)
}

const POSTS: &str = "/team-messaging/v1/posts";
const CHATS: &str = "/team-messaging/v1/chats";

impl Team {
    /// Adds a post to a chat, which is created if it is new; returns the event.
    pub(crate) fn add_post(
        &mut self,
        ctx: &mut Context,
        chat_id: &str,
        creator_id: &str,
        text: &str,
    ) -> (Value, DomainEvent) {
        let (_, now) = ctx.written_now();
        let record = json!({
            "id": number(&mut ctx.rng, 14),
            "groupId": chat_id,
            "type": "TextMessage",
            "text": text,
            "creatorId": creator_id,
            "addedPersonIds": null,
            "creationTime": now,
            "lastModifiedTime": now,
            "attachments": null,
            "activity": null,
            "title": null,
            "iconUri": null,
            "iconEmoji": null,
            "mentions": null,
        });
        let sequence = self.next;
        self.next += 1;
        keep(&mut self.posts, (sequence, record.clone()), KEPT);
        self.touch_chat(chat_id, &now);
        let event = event_of(ctx, POSTS, &record, "PostAdded");
        (record, event)
    }

    /// Adds the post that shows an adaptive card.
    pub(crate) fn add_card_post(
        &mut self,
        ctx: &mut Context,
        chat_id: &str,
        creator_id: &str,
        card_id: &str,
    ) -> DomainEvent {
        let (mut record, _) = self.add_post(ctx, chat_id, creator_id, "");
        record["text"] = Value::Null;
        record["attachments"] = json!([{ "id": card_id, "type": "AdaptiveCard" }]);
        if let Some((_, post)) = self.posts.back_mut() {
            *post = record.clone();
        }
        event_of(ctx, POSTS, &record, "PostAdded")
    }

    /// Adds a reply to a post; the first reply starts a thread. Returns no events if the post
    /// does not exist.
    pub(crate) fn reply_to_post(
        &mut self,
        ctx: &mut Context,
        parent: &str,
        creator_id: &str,
        text: &str,
    ) -> Vec<DomainEvent> {
        let posts = &mut self.posts;
        let Some((_, first)) = posts.iter_mut().find(|(_, post)| post["id"] == parent) else { return Vec::new() };
        let chat = first["groupId"].as_str().unwrap_or(CHAT).to_owned();
        let thread = first["threadId"].as_str().unwrap_or(parent).to_owned();
        first["isParent"] = json!(true);
        first["threadId"] = json!(thread);
        let (record, _) = self.add_post(ctx, &chat, creator_id, text);
        let posts = &mut self.posts;
        let Some((_, reply)) = posts.iter_mut().find(|(_, post)| post["id"] == record["id"]) else { return Vec::new() };
        reply["parentPostId"] = json!(parent);
        reply["threadId"] = json!(thread);
        // Events do not have these fields.
        vec![event_of(ctx, POSTS, &record, "PostAdded")]
    }

    fn touch_chat(&mut self, id: &str, now: &str) -> &mut Value {
        let chats = &mut self.chats;
        let at = chats.iter().position(|chat| chat["id"] == id).unwrap_or_else(|| {
            chats.push(new_chat(id, now));
            chats.len() - 1
        });
        let chat = &mut chats[at];
        chat["lastModifiedTime"] = json!(now);
        chat
    }

    /// Changes the text of a post; does nothing if the id is unknown.
    pub(crate) fn edit_post(&mut self, ctx: &mut Context, id: &str, text: &str) -> Vec<DomainEvent> {
        let (_, now) = ctx.written_now();
        let Some((_, post)) = self.posts.iter_mut().find(|(_, post)| post["id"] == id) else {
            return Vec::new();
        };
        post["text"] = json!(text);
        post["lastModifiedTime"] = json!(now);
        let post = post.clone();
        self.touch_chat(post["groupId"].as_str().unwrap_or(CHAT), &now);
        vec![event_of(ctx, POSTS, &post, "PostChanged")]
    }

    /// Removes a post; does nothing if the id is unknown.
    pub(crate) fn remove_post(&mut self, ctx: &mut Context, id: &str) -> Vec<DomainEvent> {
        let posts = &mut self.posts;
        let Some(at) = posts.iter().position(|(_, post)| post["id"] == id) else { return Vec::new() };
        let removed = posts.remove(at);
        let (_, now) = ctx.written_now();
        if let Some(chat) = removed.as_ref().and_then(|(_, post)| post["groupId"].as_str()) {
            self.touch_chat(chat, &now);
        }
        vec![event_of(ctx, POSTS, &json!({ "id": id }), "PostRemoved")]
    }

    /// Names a chat; the user joins it if it is new.
    pub(crate) fn name_chat(&mut self, ctx: &mut Context, id: &str, name: &str) -> DomainEvent {
        let (_, now) = ctx.written_now();
        let known = self.chats.iter().any(|chat| chat["id"] == id);
        let chat = self.touch_chat(id, &now);
        chat["name"] = json!(name);
        let chat = chat.clone();
        event_of(ctx, CHATS, &chat, if known { "GroupRenamed" } else { "GroupJoined" })
    }

    /// The user leaves a chat.
    pub(crate) fn leave_chat(&mut self, ctx: &mut Context, id: &str) -> Vec<DomainEvent> {
        let chats = &mut self.chats;
        let Some(at) = chats.iter().position(|chat| chat["id"] == id) else { return Vec::new() };
        chats.remove(at);
        vec![event_of(ctx, CHATS, &json!({ "id": id }), "GroupLeft")]
    }

    /// The posts as the API writes them, oldest first.
    pub(crate) fn posts(&self) -> Vec<Value> {
        self.posts.iter().map(|(_, post)| post.clone()).collect()
    }
}

fn count(call: &Call) -> Result<usize, Refused> {
    Ok(count_in(call, "recordCount")?.unwrap_or(DEFAULT_COUNT).min(MOST))
}

/// A page token: the direction and the position.
fn page_token(way: char, at: u64) -> String {
    URL_SAFE_NO_PAD.encode(format!("{way}{at}"))
}

fn page(call: &Call) -> Result<Option<(char, u64)>, Refused> {
    let Some(text) = call.query("pageToken") else { return Ok(None) };
    let decoded = URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let read = |text: String| Some((text.chars().next()?, text.get(1..)?.parse().ok()?));
    decoded.and_then(read).map(Some).ok_or_else(|| Refused::parameter("pageToken"))
}

/// `GET /team-messaging/v1/recent/chats`: the last changed first.
pub(crate) fn recent_chats(own: &Team, call: &Call) -> Result<Reply, Refused> {
    let mut chats: Vec<&Value> = own.chats.iter().collect();
    chats.sort_by_key(|chat| std::cmp::Reverse(chat["lastModifiedTime"].as_str().unwrap_or_default()));
    chats.truncate(count(call)?);
    Ok(json_reply(StatusCode::OK, &json!({ "records": chats })))
}

/// `GET /team-messaging/v1/chats`: the oldest first, paged.
pub(crate) fn list_chats(own: &Team, call: &Call) -> Result<Reply, Refused> {
    let count = count(call)?;
    let start = page(call)?.map_or(0, |(_, at)| usize::try_from(at).unwrap_or(usize::MAX));
    let all = &own.chats;
    let records: Vec<&Value> = all.iter().skip(start).take(count).collect();
    let end = start.saturating_add(records.len());
    let mut navigation = json!({});
    if end < all.len() {
        navigation["nextPageToken"] = json!(page_token('c', u64::try_from(end).unwrap_or(u64::MAX)));
    }
    Ok(json_reply(StatusCode::OK, &json!({ "records": records, "navigation": navigation })))
}

/// `GET /team-messaging/v1/chats/{id}`.
pub(crate) fn get_chat(own: &Team, id: &str) -> Result<Reply, Refused> {
    let found = own.chats.iter().find(|chat| chat["id"] == id);
    found.map(|chat| json_reply(StatusCode::OK, chat)).ok_or_else(|| Refused::not_found("chatId", id))
}

/// `GET /team-messaging/v1/chats/{id}/posts`: newest first, paged in both directions; `prevPageToken` leads to older
/// posts. The same holds for `GET …/chats/{id}/threads/{id}/posts`.
pub(crate) fn list_posts(
    own: &Team,
    ctx: &Context,
    call: &Call,
    chat_id: &str,
    thread_id: Option<&str>,
) -> Result<Reply, Refused> {
    let count = count(call)?;
    let from = page(call)?;
    let replies = ctx.behavior.account.replies_in_posts;
    let is_shown = |post: &Value| match thread_id {
        Some(thread_id) => post["threadId"] == thread_id,
        None => replies || post["parentPostId"].is_null(),
    };
    let of_chat = |(_, post): &&(u64, Value)| post["groupId"] == chat_id && is_shown(post);
    let all: Vec<&(u64, Value)> = own.posts.iter().rev().filter(of_chat).collect();
    let start = match from {
        Some(('o', at)) => all.iter().position(|(sequence, _)| *sequence < at).unwrap_or(all.len()),
        Some((_, at)) => {
            let newer = all.iter().take_while(|(sequence, _)| *sequence > at).count();
            newer.saturating_sub(count)
        }
        None => 0,
    };
    let shown: Vec<&&(u64, Value)> = all.iter().skip(start).take(count).collect();
    let mut navigation = json!({});
    if let (Some((newest, _)), Some((oldest, _))) = (shown.first(), shown.last()) {
        if start > 0 {
            navigation["nextPageToken"] = json!(page_token('n', *newest));
        }
        if start + shown.len() < all.len() {
            navigation["prevPageToken"] = json!(page_token('o', *oldest));
        }
    }
    let records: Vec<&Value> = shown.iter().map(|(_, post)| post).collect();
    Ok(json_reply(StatusCode::OK, &json!({ "records": records, "navigation": navigation })))
}

/// `GET /team-messaging/v1/chats/{id}/posts/{id}`.
pub(crate) fn get_post(own: &Team, chat_id: &str, id: &str) -> Result<Reply, Refused> {
    let is_it = |(_, post): &&(u64, Value)| post["id"] == id && post["groupId"] == chat_id;
    let found = own.posts.iter().find(is_it);
    found.map(|(_, post)| json_reply(StatusCode::OK, post)).ok_or_else(|| Refused::not_found("postId", id))
}

/// `PATCH /team-messaging/v1/chats/{id}/posts/{id}`: a new text.
pub(crate) fn update_post(own: &mut Team, ctx: &mut Context, call: &Call, chat_id: &str, id: &str) -> Outcome {
    get_post(own, chat_id, id)?;
    let body = body(call)?;
    let text = text_field(&body, "text")?;
    let events = own.edit_post(ctx, id, text);
    Ok((get_post(own, chat_id, id)?, events))
}

/// `DELETE /team-messaging/v1/chats/{id}/posts/{id}`.
pub(crate) fn delete_post(own: &mut Team, ctx: &mut Context, chat_id: &str, id: &str) -> Outcome {
    get_post(own, chat_id, id)?;
    Ok((empty_reply(StatusCode::NO_CONTENT), own.remove_post(ctx, id)))
}
