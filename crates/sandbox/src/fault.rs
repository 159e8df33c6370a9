//! A scripted fault.

use std::time::Duration;

use serde::Deserialize;

use super::amend::Amend;
use super::behavior::millis;
use super::http::Refused;

/// A scripted fault: its effect, how often it occurs, and when it begins.
///
/// Created by one of the functions below; occurs once unless [`times`](Self::times) or
/// [`until_cleared`](Self::until_cleared) is set.
///
/// ```
/// use ringcentral_sandbox::Fault;
/// // The second and third request are refused for three seconds each.
/// let fault = Fault::status(429).header("Retry-After", "3").after(1).times(2);
/// ```
#[derive(Clone, Debug, Deserialize)]
pub struct Fault {
    #[serde(flatten)]
    pub(crate) action: Action,
    #[serde(default = "once")]
    pub(crate) times: Option<u32>,
    #[serde(default)]
    pub(crate) after: u32,
    #[serde(default)]
    pub(crate) after_effect: bool,
}

#[allow(clippy::unnecessary_wraps, reason = "serde's default needs the field's type")]
fn once() -> Option<u32> {
    Some(1)
}

/// The effect of a fault.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Action {
    Status {
        status: u16,
        #[serde(default)]
        headers: Vec<(String, String)>,
        #[serde(default)]
        body: Option<String>,
    },
    Code {
        status: u16,
        code: String,
        #[serde(default)]
        parameter: Option<String>,
        #[serde(default)]
        headers: Vec<(String, String)>,
    },
    CutJson,
    Close,
    ResetMidBody,
    Hang,
    Blackhole,
    Reset,
    CloseCode {
        code: u16,
        #[serde(default)]
        reason: String,
    },
    ErrorFrame {
        #[serde(default = "bad_request")]
        status: u16,
        code: String,
    },
    Twice,
    Garbage {
        text: String,
    },
    Binary,
    Padded {
        bytes: usize,
    },
    Boundary,
    Drip {
        #[serde(default = "one")]
        chunk: usize,
        #[serde(rename = "every_ms", with = "millis")]
        every: Duration,
    },
    Delay {
        #[serde(rename = "ms", with = "millis")]
        by: Duration,
    },
    Amend(Amend),
}

fn one() -> usize {
    1
}

fn bad_request() -> u16 {
    400
}

/// Larger than any client accepts in one frame.
pub(crate) const MAX_PADDING: usize = 256 << 20;

impl Fault {
    fn new(action: Action) -> Self {
        Self { action, times: once(), after: 0, after_effect: false }
    }

    /// Answers with `status` and no body; see [`body`](Self::body) and
    /// [`header`](Self::header).
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self::new(Action::Status { status, headers: Vec::new(), body: None })
    }

    /// Answers with `status` and the API's error envelope around `code`, such as
    /// `OAU-128`.
    #[must_use]
    pub fn code(status: u16, code: impl Into<String>) -> Self {
        Self::new(Action::Code { status, code: code.into(), parameter: None, headers: Vec::new() })
    }

    /// Answers with `status` and an HTML page, as a gateway does.
    #[must_use]
    pub fn html(status: u16) -> Self {
        Self::status(status)
            .header("Content-Type", "text/html")
            .body("<!DOCTYPE html><html><body><h1>The gateway says no</h1></body></html>")
    }

    /// Answers 200 with the first half of the JSON; the HTTP message itself is complete.
    #[must_use]
    pub fn cut_json() -> Self {
        Self::new(Action::CutJson)
    }

    /// Closes the connection before the first byte of the response.
    #[must_use]
    pub fn close() -> Self {
        Self::new(Action::Close)
    }

    /// Sends the headers and the first half of the body, then resets the connection (RST); the
    /// kernel may withhold part of a large half.
    #[must_use]
    pub fn reset_mid_body() -> Self {
        Self::new(Action::ResetMidBody)
    }

    /// Never answers; the connection stays open, and its end is noticed.
    #[must_use]
    pub fn hang() -> Self {
        Self::new(Action::Hang)
    }

    /// Half-open: the request takes effect, but nothing is sent or read on its connection any more,
    /// not even the client's FIN.
    #[must_use]
    pub fn blackhole() -> Self {
        Self::new(Action::Blackhole)
    }

    /// Sends the body in pieces of `chunk` bytes, one every `every`.
    #[must_use]
    pub fn drip(chunk: usize, every: Duration) -> Self {
        Self::new(Action::Drip { chunk: chunk.max(1), every })
    }

    /// Delays handling the request by `by`.
    #[must_use]
    pub fn delay(by: Duration) -> Self {
        Self::new(Action::Delay { by })
    }

    /// Resets the connection (RST) before the first byte of the response.
    #[must_use]
    pub fn reset() -> Self {
        Self::new(Action::Reset)
    }

    /// Closes a socket with a close frame of this code; over HTTP like [`close`](Self::close).
    #[must_use]
    pub fn close_code(code: u16) -> Self {
        Self::new(Action::CloseCode { code, reason: String::new() })
    }

    /// Answers over a socket with an `Error` frame of `status` and `code`, such as `WSG-808`; if it
    /// replaces `ConnectionDetails`, the socket is closed after it. Over HTTP like
    /// [`code`](Self::code).
    #[must_use]
    pub fn error_frame(status: u16, code: impl Into<String>) -> Self {
        Self::new(Action::ErrorFrame { status, code: code.into() })
    }

    /// Sends a frame twice. This and the next four faults are for sockets; over HTTP only
    /// [`garbage`](Self::garbage) has an effect.
    #[must_use]
    pub fn twice() -> Self {
        Self::new(Action::Twice)
    }

    /// Sends this text instead of a frame; over HTTP as the body of a 200.
    #[must_use]
    pub fn garbage(text: impl Into<String>) -> Self {
        Self::new(Action::Garbage { text: text.into() })
    }

    /// Sends a frame as a binary message.
    #[must_use]
    pub fn binary() -> Self {
        Self::new(Action::Binary)
    }

    /// Pads a frame with blanks to this many bytes, at most 256 MiB.
    #[must_use]
    pub fn padded(bytes: usize) -> Self {
        Self::new(Action::Padded { bytes })
    }

    /// Sends a frame in the form of non-JSON answers: text between `--Boundary` marks instead of
    /// the second element.
    #[must_use]
    pub fn boundary() -> Self {
        Self::new(Action::Boundary)
    }

    /// Modifies the regular response by [`header`](Self::header),
    /// [`without_header`](Self::without_header), [`field`](Self::field),
    /// [`without_field`](Self::without_field), [`byte_order_mark`](Self::byte_order_mark),
    /// [`gzip`](Self::gzip) and [`chunked`](Self::chunked). No effect over sockets.
    ///
    /// ```
    /// use ringcentral_sandbox::Fault;
    /// // An answer that closes its connection and whose `id` is null.
    /// let fault = Fault::amend().header("Connection", "close").field("id", ().into());
    /// ```
    #[must_use]
    pub fn amend() -> Self {
        Self::new(Action::Amend(Amend::default()))
    }

    fn amended(mut self, change: impl FnOnce(&mut Amend)) -> Self {
        if let Action::Amend(amend) = &mut self.action {
            change(amend);
        }
        self
    }

    /// Removes a header from the response; like the next six, only for [`amend`](Self::amend).
    #[must_use]
    pub fn without_header(self, name: impl Into<String>) -> Self {
        self.amended(|amend| amend.without_headers.push(name.into()))
    }

    /// Sets a field of the JSON object in the body.
    #[must_use]
    pub fn field(self, name: impl Into<String>, value: serde_json::Value) -> Self {
        self.amended(|amend| drop(amend.fields.insert(name.into(), value)))
    }

    /// Removes a field of the JSON object in the body.
    #[must_use]
    pub fn without_field(self, name: impl Into<String>) -> Self {
        self.amended(|amend| amend.without_fields.push(name.into()))
    }

    /// Starts the body with U+FEFF.
    #[must_use]
    pub fn byte_order_mark(self) -> Self {
        self.amended(|amend| amend.byte_order_mark = true)
    }

    /// Compresses the body regardless of `Accept-Encoding`.
    #[must_use]
    pub fn gzip(self) -> Self {
        self.amended(|amend| amend.gzip = true)
    }

    /// Sends the body chunked, without a length.
    #[must_use]
    pub fn chunked(self) -> Self {
        self.amended(|amend| amend.chunked = true)
    }

    /// Adds a header to the response, if the fault creates one. For [`amend`](Self::amend) it
    /// replaces the response's header.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        if let Action::Status { headers, .. } | Action::Code { headers, .. } | Action::Amend(Amend { headers, .. }) =
            &mut self.action
        {
            headers.push((name.into(), value.into()));
        }
        self
    }

    /// Sets the body of [`status`](Self::status), or the reason of
    /// [`close_code`](Self::close_code), at most 123 bytes; no effect on other faults.
    #[must_use]
    pub fn body(mut self, text: impl Into<String>) -> Self {
        match &mut self.action {
            Action::Status { body, .. } => *body = Some(text.into()),
            Action::CloseCode { reason, .. } => *reason = text.into(),
            _ => {}
        }
        self
    }

    /// Sets the parameter in the envelope of [`code`](Self::code); no effect on other faults.
    #[must_use]
    pub fn parameter(mut self, name: impl Into<String>) -> Self {
        if let Action::Code { parameter, .. } = &mut self.action {
            *parameter = Some(name.into());
        }
        self
    }

    /// The number of requests it applies to. Default 1.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = Some(times);
        self
    }

    /// Applies to every request until it is cleared.
    #[must_use]
    pub fn until_cleared(mut self) -> Self {
        self.times = None;
        self
    }

    /// Lets this many matching requests pass first. Default 0.
    #[must_use]
    pub fn after(mut self, requests: u32) -> Self {
        self.after = requests;
        self
    }

    /// Lets the request take effect first, then loses or replaces the response: for example a
    /// create that succeeds without the client knowing. A poll still waits for its messages.
    #[must_use]
    pub fn after_effect(mut self) -> Self {
        self.after_effect = true;
        self
    }
}

impl Action {
    /// Whether it modifies a response that must be created first.
    pub(crate) fn transforms(&self) -> bool {
        matches!(
            self,
            Self::CutJson
                | Self::ResetMidBody
                | Self::Drip { .. }
                | Self::Blackhole
                | Self::Twice
                | Self::Garbage { .. }
                | Self::Binary
                | Self::Padded { .. }
                | Self::Boundary
                | Self::Amend(_)
        )
    }

    /// The response that the fault itself creates, if any.
    pub(crate) fn own_reply(&self) -> Option<super::http::Reply> {
        let (mut reply, headers) = match self {
            Self::Status { status, headers, body } => {
                let status = http::StatusCode::from_u16(*status).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
                let reply = match body {
                    Some(text) => super::http::text_reply(status, "application/json", text.clone()),
                    None => super::http::empty_reply(status),
                };
                (reply, headers)
            }
            Self::Garbage { text } => {
                return Some(super::http::text_reply(http::StatusCode::OK, "text/plain", text.clone()));
            }
            Self::ErrorFrame { status, code } => {
                return Some(Refused::new(*status, code.clone(), "Scripted by the sandbox").reply());
            }
            Self::Code { status, code, parameter, headers } => {
                let mut refused = Refused::new(*status, code.clone(), "Scripted by the sandbox");
                refused.parameter = parameter.clone().map(|name| (name, None));
                (refused.reply(), headers)
            }
            Self::CutJson
            | Self::Close
            | Self::ResetMidBody
            | Self::Hang
            | Self::Reset
            | Self::CloseCode { .. }
            | Self::Twice
            | Self::Binary
            | Self::Padded { .. }
            | Self::Boundary
            | Self::Blackhole
            | Self::Drip { .. }
            | Self::Amend(_)
            | Self::Delay { .. } => return None,
        };
        for (name, value) in headers {
            // A header that HTTP cannot carry is omitted; the script is at fault.
            if let (Ok(name), Ok(value)) =
                (http::HeaderName::try_from(name.as_str()), http::HeaderValue::try_from(value.as_str()))
            {
                reply.headers_mut().insert(name, value);
            }
        }
        Some(reply)
    }
}
