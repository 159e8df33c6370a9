//! Adaptive cards.

use std::collections::VecDeque;

use http::StatusCode;
use serde_json::{Value, json};

use super::params::{body, keep};
use crate::context::Context;
use crate::http::{Call, Refused, Reply, empty_reply, json_reply};
use crate::random::number;

const KEPT: usize = 10_000;

/// The cards, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Cards(VecDeque<Value>);

/// Which fields a card must have is the specification's; that it has no further checks is ours.
fn card(call: &Call) -> Result<Value, Refused> {
    let card = body(call)?;
    if card["type"] != "AdaptiveCard" {
        return Err(Refused::parameter("type"));
    }
    if !card["version"].is_string() {
        return Err(Refused::parameter("version"));
    }
    Ok(card)
}

/// Without its content, as writes answer.
fn short(card: &Value) -> Value {
    let names = ["id", "creationTime", "lastModifiedTime", "$schema", "type", "version", "creator", "chatIds"];
    names.into_iter().filter_map(|name| Some((name.to_owned(), card.get(name)?.clone()))).collect()
}

/// A stored card.
pub(super) struct Added {
    pub(super) id: String,
    /// As it was sent.
    pub(super) content: String,
    pub(super) reply: Reply,
}

/// Stores the card of a request.
pub(super) fn add(own: &mut Cards, ctx: &mut Context, call: &Call, chat_id: &str) -> Result<Added, Refused> {
    let mut card = card(call)?;
    let content = card.to_string();
    let (_, now) = ctx.written_now();
    let id = number(&mut ctx.rng, 14);
    card["id"] = json!(id);
    card["creationTime"] = json!(now);
    card["lastModifiedTime"] = json!(now);
    card["creator"] = json!({ "id": ctx.identity.extension_id });
    card["chatIds"] = json!([chat_id]);
    let reply = json_reply(StatusCode::CREATED, &short(&card));
    keep(&mut own.0, card, KEPT);
    Ok(Added { id, content, reply })
}

fn find<'a>(own: &'a Cards, id: &str) -> Result<&'a Value, Refused> {
    own.0.iter().find(|card| card["id"] == id).ok_or_else(|| Refused::not_found("cardId", id))
}

/// `GET /team-messaging/v1/adaptive-cards/{id}`.
pub(crate) fn get(own: &Cards, id: &str) -> Result<Reply, Refused> {
    Ok(json_reply(StatusCode::OK, find(own, id)?))
}

/// `PUT /team-messaging/v1/adaptive-cards/{id}`.
pub(crate) fn update(own: &mut Cards, ctx: &mut Context, call: &Call, id: &str) -> Result<Reply, Refused> {
    let mut new = card(call)?;
    let before = find(own, id)?.clone();
    for name in ["id", "creationTime", "creator", "chatIds"] {
        new[name] = before[name].clone();
    }
    new["lastModifiedTime"] = json!(ctx.written_now().1);
    let answer = short(&new);
    own.0.iter_mut().filter(|card| card["id"] == id).for_each(|card| *card = new.clone());
    Ok(json_reply(StatusCode::OK, &answer))
}

/// `DELETE /team-messaging/v1/adaptive-cards/{id}`.
pub(crate) fn delete(own: &mut Cards, id: &str) -> Result<Reply, Refused> {
    find(own, id)?;
    own.0.retain(|card| card["id"] != id);
    Ok(empty_reply(StatusCode::NO_CONTENT))
}
