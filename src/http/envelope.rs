//! Reads error responses in all shapes of the service.

use std::borrow::Cow;
use std::time::Duration;

use http::HeaderMap;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

use super::classify::classify;
use super::codes::{cause, cure};
use crate::error::{Disposition, Error, ErrorKind};
use crate::policy::BackoffPolicy;

/// The wait for a 429 without `Retry-After` (rate limits guide: at least 30 s).
pub(crate) const PENALTY: Duration = Duration::from_secs(30);
/// The minimum wait that a server can request.
pub(crate) const WAIT_FLOOR: Duration = Duration::from_secs(1);

const TEXT_LIMIT: usize = 200;
const WORD_LIMIT: usize = 80;
/// How many further errors of one answer are named.
const MORE: usize = 3;
/// A text that repeats so many bytes of a secret repeats it.
const SECRET_PART: usize = 12;

/// The parts of an error body that the crate uses.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Envelope {
    /// `errors[0].errorCode`, else the head's `errorCode`, else OAuth's `error`.
    pub(crate) code: Option<String>,
    /// OAuth's `error`.
    pub(crate) oauth_error: Option<String>,
    /// The service's message for humans, else OAuth's `error_description`.
    pub(crate) message: Option<String>,
    /// Codes and parameters of the errors behind the first.
    more: Vec<String>,
    pub(crate) parameter: Option<String>,
    pub(crate) permission: Option<String>,
}

impl Envelope {
    /// Reads any `body`: JSON with or without a head, an empty `errors`, an `error` that is an object, OAuth's shape,
    /// HTML, nothing. Missing parts are `None`, and so are texts that repeat one of `secrets`.
    pub(crate) fn read(body: &[u8], secrets: &[&str]) -> Self {
        let Ok(head) = serde_json::from_slice::<Value>(body) else { return Self::default() };
        let errors = head.get("errors").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let nested = head.get("error").filter(|error| error.is_object());
        let first = errors.first().or(nested).unwrap_or(&Value::Null);
        let read = |of: &Value, name: &str, limit| text(of.get(name), limit).filter(|text| !repeats(text, secrets));
        let either = |name: &str, limit| read(first, name, limit).or_else(|| read(&head, name, limit));
        let oauth_error = read(&head, "error", WORD_LIMIT);
        let further = |error: &Value| {
            let parts = ["errorCode", "parameterName"].map(|name| read(error, name, WORD_LIMIT));
            Some(parts.into_iter().flatten().collect::<Vec<_>>().join(" ")).filter(|text| !text.is_empty())
        };
        Self {
            code: either("errorCode", WORD_LIMIT)
                .or_else(|| oauth_error.clone())
                .or_else(|| nested.and_then(|error| read(error, "code", WORD_LIMIT))),
            message: either("message", TEXT_LIMIT).or_else(|| either("error_description", TEXT_LIMIT)),
            parameter: either("parameterName", WORD_LIMIT),
            permission: either("permissionName", WORD_LIMIT),
            oauth_error,
            more: errors.iter().skip(1).filter_map(further).take(MORE).collect(),
        }
    }

    /// `headline`, the service's own words or else what its code means, and what it reports besides.
    pub(crate) fn describe(&self, headline: &'static str) -> Cow<'static, str> {
        let mut text = Cow::Borrowed(headline);
        let cause = || self.code.as_deref().and_then(cause);
        if let Some(message) = self.message.as_deref().or_else(cause) {
            text = format!("{text}: {message}").into();
        }
        if !self.more.is_empty() {
            text = format!("{text}; also {}", self.more.join(", ")).into();
        }
        text
    }
}

/// A JSON string or number as one line of at most `limit` characters.
fn text(value: Option<&Value>, limit: usize) -> Option<String> {
    let text = match value? {
        Value::String(text) => clean(text, limit),
        Value::Number(number) => number.to_string(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return None,
    };
    (!text.is_empty()).then_some(text)
}

/// Whether `text` repeats a secret, or a part of one that is long enough to be of use.
fn repeats(text: &str, secrets: &[&str]) -> bool {
    let parts = || text.as_bytes().windows(SECRET_PART);
    let holds = |secret: &str, part: &[u8]| secret.as_bytes().windows(SECRET_PART).any(|window| window == part);
    secrets
        .iter()
        .filter(|secret| !secret.is_empty())
        .any(|secret| text.contains(secret) || secret.len() > SECRET_PART && parts().any(|part| holds(secret, part)))
}

/// `text` without control characters, truncated to `limit`.
fn clean(text: &str, limit: usize) -> String {
    text.chars().filter(|c| !c.is_control()).take(limit).collect::<String>().trim().to_owned()
}

/// The error for a response with `status` and `body`.
///
/// `secrets` are those in the request: texts of the service that repeat one are dropped.
pub(crate) fn error_from(status: u16, headers: &HeaderMap, body: &[u8], secrets: &[&str]) -> Error {
    let envelope = Envelope::read(body, secrets);
    let (kind, disposition) = classify(Some(status), envelope.code.as_deref());
    // An expired sync token is also reported as a bad parameter.
    let stale_sync = envelope.code.as_deref() == Some("CMN-101") && envelope.parameter.as_deref() == Some("syncToken");
    let disposition = if stale_sync && kind == ErrorKind::Rejected { Disposition::Resync } else { disposition };
    let disposition = match disposition {
        // The longer of the wait for the code and the one that the service requests.
        Disposition::Retry { after } => Disposition::Retry { after: after.max(wait_asked_for(status, headers)) },
        Disposition::Fatal
        | Disposition::Refresh
        | Disposition::Recreate
        | Disposition::Prune
        | Disposition::Resync => disposition,
    };
    let message = envelope.describe(headline(kind));
    let help = envelope.code.as_deref().and_then(cure);
    Error::new(kind, message)
        .with_disposition(disposition)
        .with_status(status)
        .with_code(envelope.code)
        .with_parameter(envelope.parameter)
        .with_permission(envelope.permission)
        .with_request_id(request_id(headers))
        .with_help(help)
        .with_ambiguous(matches!(status, 408 | 500..=599))
}

/// A short text for `kind`.
pub(crate) fn headline(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Auth => "the service refused the credentials",
        ErrorKind::Permission => "a permission is missing",
        ErrorKind::TransportRefused => "the service refused this transport",
        ErrorKind::RateLimited => "too many requests",
        ErrorKind::SubscriptionLimit => "too many subscriptions for this user and app",
        ErrorKind::NotFound => "not found",
        ErrorKind::SessionLost => "the session is lost",
        ErrorKind::Service => "the service failed",
        ErrorKind::Timeout => "the service gave up waiting for the request",
        ErrorKind::Protocol => "the service answered something unexpected",
        ErrorKind::Rejected
        | ErrorKind::Config
        | ErrorKind::Network
        | ErrorKind::Crypto
        | ErrorKind::Store
        | ErrorKind::Busy
        | ErrorKind::Closed
        | ErrorKind::Internal => "the service refused the request",
    }
}

/// The service's id of the request.
pub(crate) fn request_id(headers: &HeaderMap) -> Option<String> {
    let id = clean(headers.get("RCRequestId")?.to_str().ok()?, WORD_LIMIT);
    (!id.is_empty()).then_some(id)
}

/// The wait that the response requests, at least [`WAIT_FLOOR`] and at most
/// [`BackoffPolicy::MAX_RETRY_AFTER`].
pub(crate) fn wait_asked_for(status: u16, headers: &HeaderMap) -> Option<Duration> {
    let asked = retry_after(headers).map(|wait| wait.clamp(WAIT_FLOOR, BackoffPolicy::MAX_RETRY_AFTER));
    if status == 429 { asked.or(Some(PENALTY)) } else { asked }
}

/// The wait in the response's `Retry-After`.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    wait_of(|name| headers.get(name)?.to_str().ok())
}

/// `Retry-After` as seconds, or as a date relative to the response's `Date`: the two are of one clock.
pub(crate) fn wait_of<'a>(header: impl Fn(&'static str) -> Option<&'a str>) -> Option<Duration> {
    let text = header("retry-after")?.trim();
    if let Ok(seconds) = text.parse::<f64>() {
        return (seconds >= 0.0).then(|| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX));
    }
    let wait = http_date(text)? - http_date(header("date")?.trim())?;
    Some(wait.try_into().unwrap_or(Duration::ZERO))
}

/// The response's `Date`.
pub(crate) fn date(headers: &HeaderMap) -> Option<OffsetDateTime> {
    http_date(headers.get(http::header::DATE)?.to_str().ok()?.trim())
}

fn http_date(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text, &Rfc2822).ok()
}

/// Why JSON could not be read, without its text: the parser's message quotes values, and any of
/// them may be a key.
pub(crate) fn json_error(what: &'static str, error: &serde_json::Error) -> Error {
    let reason = match error.classify() {
        serde_json::error::Category::Io | serde_json::error::Category::Syntax => "is not valid JSON",
        serde_json::error::Category::Eof => "ends too early",
        serde_json::error::Category::Data => "is not of the expected shape",
    };
    Error::new(ErrorKind::Protocol, format!("{what} {reason} (line {}, column {})", error.line(), error.column()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| ((*name).parse().unwrap(), value.parse().unwrap())).collect()
    }

    fn error(status: u16, body: &str) -> Error {
        error_from(status, &headers(&[("RCRequestId", "7f3c-0")]), body.as_bytes(), &[])
    }

    #[test]
    fn every_shape_of_the_envelope_is_read() {
        let plain = r#"{"errors":[{"errorCode":"CMN-408","message":"In order","permissionName":"ReadMessages"}]}"#;
        let doubled = r#"{"errorCode":"InvalidParameter","message":"Parameter [expiresIn] value is invalid",
            "errors":[{"errorCode":"CMN-101","message":"Parameter [expiresIn] value is invalid","parameterName":"expiresIn"}],
            "parameterName":"expiresIn"}"#;
        let empty = r#"{"errorCode":"AGW-404","message":"Resource not found","errors":[]}"#;
        let head_only = r#"{"errorCode":"CMN-102","message":"gone","parameterName":"subscriptionId"}"#;
        let oauth =
            r#"{"error":"invalid_grant","error_description":"Token revoked","errors":[{"errorCode":"OAU-211"}]}"#;
        let oauth_bare = r#"{"error":"invalid_client","error_description":"x"}"#;
        for (status, body, kind, code, parameter, permission) in [
            (403, plain, ErrorKind::Permission, Some("CMN-408"), None, Some("ReadMessages")),
            (400, doubled, ErrorKind::Rejected, Some("CMN-101"), Some("expiresIn"), None),
            (404, empty, ErrorKind::NotFound, Some("AGW-404"), None, None),
            (404, head_only, ErrorKind::NotFound, Some("CMN-102"), Some("subscriptionId"), None),
            (400, oauth, ErrorKind::Auth, Some("OAU-211"), None, None),
            (400, oauth_bare, ErrorKind::Auth, Some("invalid_client"), None, None),
            (502, "<html><body>Bad Gateway</body></html>", ErrorKind::Service, None, None, None),
            (500, "", ErrorKind::Service, None, None, None),
            (400, "[1,2]", ErrorKind::Rejected, None, None, None),
            (400, "null", ErrorKind::Rejected, None, None, None),
            (400, r#"{"errors":{"a":1},"errorCode":["x"],"message":7}"#, ErrorKind::Rejected, None, None, None),
            (400, r#"{"errors":["SUB-1"]}"#, ErrorKind::Rejected, None, None, None),
            (400, r#"{"errors":[{"errorCode":101}]}"#, ErrorKind::Rejected, Some("101"), None, None),
        ] {
            let error = error(status, body);
            assert_eq!(
                (error.kind(), error.code(), error.parameter(), error.permission()),
                (kind, code, parameter, permission),
                "{body}"
            );
            assert_eq!((error.status(), error.request_id()), (Some(status), Some("7f3c-0")));
        }
    }

    #[test]
    fn an_error_quotes_the_service_in_one_line_of_bounded_length() {
        let long = format!(r#"{{"errors":[{{"errorCode":"CMN-101","message":"a\u0007b\n{}"}}]}}"#, "x".repeat(5_000));
        let shown = error(400, &long).to_string();
        assert!(shown.starts_with("the service refused the request: abxxx"), "{shown}");
        assert!(shown.chars().count() < 360 && !shown.contains('\n'), "{shown}");
        assert_eq!(error(503, "").to_string(), "the service failed (HTTP 503), request 7f3c-0");
    }

    #[test]
    fn a7_text_that_repeats_a_secret_of_the_request_is_dropped() {
        let body =
            r#"{"errors":[{"errorCode":"OAU-129","message":"token [T0KEN] is corrupted","parameterName":"T0KEN"}]}"#;
        let error = error_from(401, &HeaderMap::new(), body.as_bytes(), &["", "T0KEN"]);
        assert_eq!(error.code(), Some("OAU-129"));
        assert!(!format!("{error} {error:?}").contains("T0KEN"));
    }

    #[test]
    fn a7_text_that_repeats_a_part_of_a_secret_is_dropped() {
        let secret = "eyJhbGciOiJSUzI1NiJ9.payload.signature";
        for (message, is_shown) in [
            ("JWT [eyJhbGciOiJSUzI1...] has expired", false),
            ("signature payload.signature", false),
            ("JWT [eyJhbGciOiJ...] has expired", true),
            ("the assertion has expired", true),
        ] {
            let body = format!(r#"{{"error":"invalid_grant","error_description":"{message}"}}"#);
            let error = error_from(400, &HeaderMap::new(), body.as_bytes(), &[secret]);
            assert_eq!(error.to_string().contains(message), is_shown, "{error}");
            assert_eq!(error.code(), Some("invalid_grant"));
        }
    }

    #[test]
    fn an_error_has_the_services_words_the_meaning_of_its_code_and_what_to_do() {
        for (status, body, want) in [
            (
                401,
                r#"{"error":"invalid_client","error_description":"Invalid client: app-x","errors":[{"errorCode":"OAU-146"}]}"#,
                "the service refused the credentials: Invalid client: app-x (HTTP 401, OAU-146), request 7f3c-0; compare \
                 both with the app's credentials, and the server with the app's environment",
            ),
            (
                403,
                r#"{"errors":[{"errorCode":"SUB-505"}]}"#,
                "too many subscriptions for this user and app: the user and app have too many subscriptions (HTTP 403, \
                 SUB-505), request 7f3c-0; close subscriptions that are not needed any more: `GET \
                 /restapi/v1.0/subscription` lists them",
            ),
            (
                400,
                r#"{"errors":[{"errorCode":"CMN-101","message":"m","parameterName":"a"},{"errorCode":"CMN-101",
                "parameterName":"b"},{"x":1},{"errorCode":"SUB-508"}]}"#,
                "the service refused the request: m; also CMN-101 b, SUB-508 (HTTP 400, CMN-101), parameter a, request \
                 7f3c-0; correct the parameter that the error names",
            ),
            (
                503,
                r#"{"error":{"code":"CMN-201","message":"Down"}}"#,
                "the service failed: Down (HTTP 503, CMN-201), request 7f3c-0",
            ),
        ] {
            assert_eq!(error(status, body).to_string(), want);
        }
    }

    #[test]
    fn a_stale_sync_token_asks_for_a_full_sync() {
        let body = r#"{"errors":[{"errorCode":"CMN-101","parameterName":"syncToken"}]}"#;
        assert_eq!(error(400, body).disposition(), Disposition::Resync);
        let other = r#"{"errors":[{"errorCode":"CMN-101","parameterName":"expiresIn"}]}"#;
        assert_eq!(error(400, other).disposition(), Disposition::Fatal);
    }

    #[test]
    fn a_code_that_implies_a_pause_gets_it_or_the_longer_requested_one() {
        let body = br#"{"errors":[{"errorCode":"SUB-406","message":"no","permissionName":"ReadMessages"}]}"#;
        for (headers, seconds) in [(&[][..], 10), (&[("retry-after", "3")], 10), (&[("retry-after", "30")], 30)] {
            let error = error_from(403, &self::headers(headers), body, &[]);
            assert_eq!(
                (error.kind(), error.retry_after()),
                (ErrorKind::Permission, Some(Duration::from_secs(seconds)))
            );
            assert_eq!((error.code(), error.permission()), (Some("SUB-406"), Some("ReadMessages")));
        }
    }

    #[test]
    fn a_requested_wait_has_a_floor_and_a_cap() {
        let seconds = Duration::from_secs;
        for (status, value, want) in [
            (429, Some("7"), Some(seconds(7))),
            (429, Some(" 7 "), Some(seconds(7))),
            (429, Some("0"), Some(WAIT_FLOOR)),
            (429, Some("1.5"), Some(Duration::from_millis(1_500))),
            (429, Some("999999999999999999999999"), Some(BackoffPolicy::MAX_RETRY_AFTER)),
            (429, Some("inf"), Some(BackoffPolicy::MAX_RETRY_AFTER)),
            (429, Some("NaN"), Some(PENALTY)),
            (429, Some("-3"), Some(PENALTY)),
            (429, Some("soon"), Some(PENALTY)),
            (429, Some("Sun, 06 Nov 1994 08:50:37 GMT"), Some(seconds(60))),
            (429, Some("Sun, 06 Nov 1994 08:00:00 GMT"), Some(WAIT_FLOOR)),
            (429, None, Some(PENALTY)),
            (503, Some("9"), Some(seconds(9))),
            (503, None, None),
            (500, Some("x"), None),
        ] {
            let mut headers = headers(&[("date", "Sun, 06 Nov 1994 08:49:37 GMT")]);
            if let Some(value) = value {
                headers.insert("retry-after", value.parse().unwrap());
            }
            assert_eq!(wait_asked_for(status, &headers), want, "{status} {value:?}");
            assert_eq!(error_from(status, &headers, b"", &[]).retry_after(), want, "{status} {value:?}");
        }
    }

    #[test]
    fn a_retry_after_date_is_relative_to_the_services_clock_or_ignored() {
        // Independent of this machine's clock: these dates are decades away from it.
        for (date, after, seconds) in [
            (Some("Sun, 06 Nov 1994 08:49:37 GMT"), "Sun, 06 Nov 1994 08:49:57 GMT", 20),
            (Some("Sun, 06 Nov 2094 08:49:37 GMT"), "Sun, 06 Nov 1994 08:49:57 GMT", 1),
            (Some("Sun, 06 Nov 1994 08:49:37 GMT"), "Sun, 06 Nov 2094 08:49:57 GMT", 3_600),
            (Some("no date"), "Sun, 06 Nov 1994 08:49:57 GMT", 30),
            (None, "Sun, 06 Nov 1994 08:49:57 GMT", 30),
        ] {
            let mut pairs = vec![("retry-after", after)];
            pairs.extend(date.map(|date| ("date", date)));
            assert_eq!(wait_asked_for(429, &headers(&pairs)), Some(Duration::from_secs(seconds)), "{date:?} {after}");
        }
    }

    #[test]
    fn only_ambiguous_responses_are_unclear() {
        for (status, unclear) in
            [(400, false), (401, false), (404, false), (408, true), (429, false), (500, true), (504, true)]
        {
            assert_eq!(error(status, "").is_ambiguous(), unclear, "{status}");
        }
    }

    #[test]
    fn a_json_error_quotes_nothing() {
        let broken = serde_json::from_str::<u8>(r#""s3cret""#).unwrap_err();
        assert!(broken.to_string().contains("s3cret"));
        let error = json_error("the answer", &broken);
        assert_eq!(error.to_string(), "the answer is not of the expected shape (line 1, column 8)");
    }

    proptest! {
        #[test]
        fn no_body_and_no_header_panics(
            status in 100_u16..1000, body: Vec<u8>, after in "[ -~]{0,30}", id in "[ -~]{0,200}",
        ) {
            let headers = headers(&[("retry-after", &after), ("rcrequestid", &id), ("date", &after)]);
            let error = error_from(status, &headers, &body, &[]);
            prop_assert_eq!(error.status(), Some(status));
            if let Some(wait) = error.retry_after() {
                prop_assert!((WAIT_FLOOR..=BackoffPolicy::MAX_RETRY_AFTER).contains(&wait));
            }
        }

        #[test]
        fn no_json_panics_and_no_part_is_long(message in "\\PC{0,400}", code in "\\PC{0,400}") {
            let body = serde_json::json!({"errors": [{"errorCode": code, "message": message}]}).to_string();
            prop_assert!(error(400, &body).to_string().chars().count() < 500);
        }
    }
}
