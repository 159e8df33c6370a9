//! The PubNub server's routes; subscribe is a long poll.

use std::sync::Arc;

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL,
};
use http::{HeaderValue, Method, StatusCode};
use serde_json::json;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::clock::later;
use super::http::{Call, Reply, empty_reply, text_reply};
use super::link::LinkControl;
use super::pubnub::{Batch, Poll, ticks};
use super::shared::Shared;

/// As in the service: JSON with a script's content type.
const CONTENT_TYPE: &str = "text/javascript; charset=\"UTF-8\"";
/// About the address length that the service accepts.
const MAX_ADDRESS: usize = 32 * 1024;

/// Answers a call; a subscribe waits for messages.
pub(crate) async fn handle(shared: &Arc<Shared>, link: &LinkControl, call: &Call) -> Reply {
    let mut reply = route(shared, link, call).await;
    let headers = reply.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    reply
}

async fn route(shared: &Arc<Shared>, link: &LinkControl, call: &Call) -> Reply {
    if call.method == Method::OPTIONS {
        return preflight();
    }
    if call.path.len() + call.query.len() > MAX_ADDRESS {
        return failure(StatusCode::URI_TOO_LONG, "Request URI Too Long", "Balancer");
    }
    let parts: Vec<&str> = call.path.split('/').skip(1).collect();
    if call.method != Method::GET {
        return not_found();
    }
    match parts.as_slice() {
        ["v2", "subscribe", key, channels, _callback] => {
            let (timetoken, region) = (call.query("tt"), call.query("tr"));
            let poll = Poll::read(key, channels, timetoken.as_deref(), region.as_deref());
            subscribe(shared, link, key, poll, |batch, _| batch.v2()).await
        }
        ["subscribe", key, channels, callback, timetoken] => {
            let poll = Poll::read(key, channels, Some(timetoken), None);
            subscribe(shared, link, key, poll, |batch, several| padded(callback, batch.v1(several))).await
        }
        ["time", callback] => {
            let now = shared.update(|state| state.ctx.moment().wall);
            script(padded(callback, format!("[{}]", ticks(now))))
        }
        ["v2", "presence", "sub-key" | "sub_key", _, "channel", _, "leave"] => presence("leave"),
        ["v2", "presence", "sub-key" | "sub_key", _, "channel", _, "heartbeat"] => presence("heartbeat"),
        _ => not_found(),
    }
}

/// JSONP if a callback is given; `0` means none.
fn padded(callback: &str, body: String) -> String {
    let named = callback != "0" && callback.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if named { format!("{callback}({body})") } else { body }
}

fn script(body: String) -> Reply {
    text_reply(StatusCode::OK, CONTENT_TYPE, body)
}

fn preflight() -> Reply {
    let mut reply = empty_reply(StatusCode::OK);
    reply.headers_mut().insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("OPTIONS, GET, POST"));
    reply.headers_mut().insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("*"));
    reply
}

fn failure(status: StatusCode, message: &str, service: &str) -> Reply {
    let body = json!({ "message": message, "error": true, "service": service, "status": status.as_u16() });
    text_reply(status, CONTENT_TYPE, body.to_string())
}

fn not_found() -> Reply {
    failure(StatusCode::NOT_FOUND, "Not Found", "Balancer")
}

fn presence(action: &str) -> Reply {
    let mut body = json!({ "status": 200, "message": "OK", "service": "Presence" });
    if action == "leave" {
        body["action"] = json!(action);
    }
    script(body.to_string())
}

/// An open poll. Dropping it closes it, also when the client disconnects.
struct Open {
    shared: Arc<Shared>,
    id: u64,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.shared.update(|state| state.pubnub.close(self.id, state.ctx.clock.read().now));
    }
}

async fn subscribe(
    shared: &Arc<Shared>,
    link: &LinkControl,
    key: &str,
    poll: Option<Poll>,
    write: impl Fn(&Batch, bool) -> String,
) -> Reply {
    let Some(poll) = poll else {
        return failure(StatusCode::BAD_REQUEST, "Invalid Arguments", "Subscribe");
    };
    let several = poll.channels.len() > 1;
    let wake = Arc::new(Notify::new());
    let opened = shared.update(|state| {
        // An unknown key is refused for good (pubnub.md §10).
        if !state.subscriptions.has_key(key) {
            return None;
        }
        state.pubnub.acknowledge(&poll);
        let now = state.ctx.moment().now;
        let deadline = state.ctx.clock.real(later(now, state.ctx.behavior.hold));
        Some((state.pubnub.open(&poll, &wake, link.silent(), now), deadline))
    });
    let Some((id, deadline)) = opened else {
        return failure(StatusCode::BAD_REQUEST, "Invalid Subscribe Key", "Access Manager");
    };
    let _open = Open { shared: Arc::clone(shared), id };
    let batch = next_batch(shared, &poll, &wake, deadline).await;
    script(write(&batch, several))
}

async fn next_batch(shared: &Arc<Shared>, poll: &Poll, wake: &Notify, deadline: Instant) -> Batch {
    loop {
        {
            let state = &mut *shared.lock();
            let moment = state.ctx.moment();
            if poll.timetoken == 0 {
                return state.pubnub.empty(&state.ctx.behavior, moment.wall);
            }
            if let Some(batch) = state.pubnub.answer(poll, &state.ctx.behavior, moment.now) {
                return batch;
            }
        }
        tokio::select! {
            () = wake.notified() => {}
            () = tokio::time::sleep_until(deadline) => {
                let state = &mut *shared.lock();
                let moment = state.ctx.moment();
                return match state.pubnub.answer(poll, &state.ctx.behavior, moment.now) {
                    Some(batch) => batch,
                    None => state.pubnub.empty(&state.ctx.behavior, moment.wall),
                };
            }
        }
    }
}
