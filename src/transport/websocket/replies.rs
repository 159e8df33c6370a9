//! Reads the replies to requests over a connection.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use tokio::time::Instant;

use super::frame::Reply;
use crate::error::{Error, Result};
use crate::http::Answer;
use crate::http::envelope::{Envelope, error_from};
use crate::rest::Response;
use crate::secret::Secret;

/// The deadline of a reply.
pub(super) const REPLY_WITHIN: Duration = Duration::from_secs(30);

/// The status of a reply; if absent, the one that its body implies.
pub(super) fn status_of(reply: &Reply) -> u16 {
    let failed = || Envelope::read(reply.body.as_bytes(), &[]).code.is_some();
    reply.status.unwrap_or_else(|| if failed() { 400 } else { 200 })
}

/// Classifies a reply of the service. Texts that quote one of `secrets` are left out.
pub(super) fn answer(reply: Reply, sent_at: Instant, secrets: &[Secret]) -> Result<Response> {
    let status = status_of(&reply);
    match StatusCode::from_u16(status) {
        Ok(code) if code.is_success() || status == 304 => {
            let answer = Answer { status: code, headers: reply.headers, body: Bytes::from(reply.body) };
            Ok(Response::new(answer, sent_at))
        }
        _ => Err(error_of(status, &reply, secrets)),
    }
}

/// The gateway's own refusal of a request.
pub(super) fn refusal(reply: &Reply, secrets: &[Secret]) -> Error {
    error_of(reply.status.unwrap_or(400), reply, secrets)
}

fn error_of(status: u16, reply: &Reply, secrets: &[Secret]) -> Error {
    let secrets: Vec<&str> = secrets.iter().map(Secret::expose).collect();
    error_from(status, &reply.headers, reply.body.as_bytes(), &secrets)
}
