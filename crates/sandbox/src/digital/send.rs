//! The Send API over HTTP.

use std::sync::Arc;

use http::header::RETRY_AFTER;
use http::{HeaderValue, StatusCode};
use serde_json::json;

use crate::behavior::{DigitalBehavior, RefusalForm};
use crate::crawler::{Refusal, parse, receive, refused};
use crate::http::{Call, Reply, json_reply, text_reply};
use crate::shared::Shared;
use ringcentral_events::digital::{SIGNATURE_HEADER, SIGNATURE_QUERY};

/// The path; the source's id follows.
pub(super) const PATH: &str = "/realtime/sdk/";
/// The documented limit of a request, in bytes.
const REQUEST_LIMIT: usize = 20_971_520;

/// The source's id, if the path is that of the Send API.
pub(crate) fn source_of(path: &str) -> Option<&str> {
    path.strip_prefix(PATH).filter(|id| !id.contains('/'))
}

/// The largest body of a request for the Send API.
pub(crate) const fn request_limit() -> usize {
    REQUEST_LIMIT
}

/// The answer to a larger body.
pub(crate) fn too_large(shared: &Shared) -> Reply {
    let behavior = shared.lock().ctx.behavior.digital.clone();
    reply(&behavior, &Refusal { status: 413, message: format!("Invalid request size (max: {REQUEST_LIMIT} bytes)") })
}

/// Answers a request.
pub(crate) fn handle(shared: &Arc<Shared>, call: &Call, source_id: &str) -> Reply {
    let (signer, behavior) = {
        let state = shared.lock();
        (state.digital.0.get(source_id).map(|core| core.signer.clone()), state.ctx.behavior.digital.clone())
    };
    // Outside the lock: a body has up to 20 MiB.
    let taken = match signer {
        None => refused(422, "Source not found"),
        Some(signer) => {
            if signature(call).is_some_and(|given| signer.verify(&call.body, &given).is_ok()) {
                parse(&call.body)
            } else {
                refused(422, "Invalid signature")
            }
        }
    };
    let outcome = taken.and_then(|(action, params)| {
        shared.update(|state| {
            let now = state.ctx.moment().now;
            match state.digital.0.get_mut(source_id) {
                Some(core) => receive(core, &state.ctx.behavior.digital, &action, &params, now),
                None => refused(422, "Source not found"),
            }
        })
    });
    match outcome {
        Ok(()) => text_reply(StatusCode::OK, "text/plain; charset=utf-8", "ok"),
        Err(refusal) => {
            tracing::debug!(status = refusal.status, "the sandbox's Send API refused: {}", refusal.message);
            reply(&behavior, &refusal)
        }
    }
}

fn reply(behavior: &DigitalBehavior, refusal: &Refusal) -> Reply {
    let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut reply = match behavior.refusal_form {
        RefusalForm::Text => text_reply(status, "text/plain; charset=utf-8", refusal.message.clone()),
        RefusalForm::Json => json_reply(status, &json!({ "error": refusal.message })),
    };
    if let (429, Some(seconds)) = (refusal.status, behavior.retry_after) {
        reply.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    reply
}

/// The signature from the header or, without one, from the query; exactly one.
fn signature(call: &Call) -> Option<String> {
    let mut given = call.headers.get_all(SIGNATURE_HEADER).iter();
    if let Some(header) = given.next() {
        return given.next().is_none().then(|| header.to_str().ok().map(str::to_owned)).flatten();
    }
    call.query(SIGNATURE_QUERY)
}
