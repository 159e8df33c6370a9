//! Reads the service's answers leniently.

use std::borrow::Cow;
use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, StatusCode};
use serde_json::value::RawValue;

use super::event::value::{Fields, text};
use super::machine::{self, Doubt};
use crate::error::{Disposition, Error, ErrorKind, Result};
use crate::http::Answer;
use crate::http::envelope::{self, retry_after};
use crate::policy::LONGEST_POLL_PAUSE;
use crate::salvage::{self, Parts};
use crate::secret::Secret;

/// How many letters and digits of a secret count as showing it.
const PART: usize = 8;
/// The most characters of the service's own message.
const WORDS: usize = 300;

/// The most events in one answer; each costs memory even if it is short. No service's queue is longer.
const MAX_EVENTS: usize = 100_000;

/// When the service made an answer, by its own clock (`Date`).
pub(super) fn date(answer: &Answer) -> Option<SystemTime> {
    envelope::date(&answer.headers).map(SystemTime::from)
}

/// Whether a start failed because a session exists.
pub(super) fn session_exists(error: &Error) -> bool {
    error.status() == Some(409) || (error.status() == Some(400) && error.to_string().contains("SessionInProgress"))
}

/// Why a batch cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unread {
    Garbled(String),
    TooMany,
}

/// A batch of events.
#[derive(Debug)]
pub(crate) struct Batch {
    /// The id of the next poll, if the batch names one.
    pub(crate) next: Option<Secret>,
    pub(crate) events: Vec<Box<RawValue>>,
}

impl Batch {
    /// Reads the body of a 200.
    pub(crate) fn read(body: &[u8]) -> Result<Self, Unread> {
        let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
        // An invalid byte spoils its text, not the batch.
        let body = String::from_utf8_lossy(body);
        let raw: Box<RawValue> = match serde_json::from_str(&body) {
            Ok(raw) => raw,
            Err(error) => {
                let garbled = || Unread::Garbled(format!("the batch is not valid JSON: {:?}", error.classify()));
                return Self::salvage(&body).ok_or_else(garbled);
            }
        };
        let fields = Fields::of(&raw).ok_or_else(|| Unread::Garbled("the batch is not a JSON object".into()))?;
        let (mut events, mut count) = (Vec::new(), 0);
        if let Some(list) = fields.get(&["events"]).filter(|list| list.get() != "null")
            && !list.elements(&mut |event| {
                count += 1;
                if count <= MAX_EVENTS {
                    events.extend(event.to_raw());
                }
            })
        {
            // One event without its brackets, or invalid text: it is delivered either way.
            events = list.to_raw().into_iter().collect();
            count = 1;
        }
        if count > MAX_EVENTS {
            return Err(Unread::TooMany);
        }
        Ok(Self { next: session_id(&fields), events })
    }
}

impl Batch {
    /// A batch that is not JSON as a whole, if its events can be separated: one that is not JSON is delivered as text,
    /// and spoils no other (found 6.5).
    fn salvage(body: &str) -> Option<Self> {
        let Parts { parts: fields, closed } = salvage::fields(salvage::unwrapped(body))?;
        let named = |wanted: &str| fields.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
        let (_, id) = named("sessionId")?;
        let next =
            serde_json::from_str::<&RawValue>(id).ok().and_then(|id| text(id.into())).filter(|id| is_usable(id))?;
        let (_, list) = named("events")?;
        let Parts { parts: pieces, closed: is_whole } = salvage::elements(list)?;
        if !closed || !is_whole || pieces.len() > MAX_EVENTS {
            return None;
        }
        let event = |text: &str| {
            let raw = RawValue::from_string(text.to_owned());
            raw.or_else(|_| serde_json::value::to_raw_value(text)).ok()
        };
        let events: Vec<_> = pieces.into_iter().filter_map(event).collect();
        Some(Self { next: Some(Secret::new(next)), events })
    }
}

fn is_usable(id: &str) -> bool {
    !matches!(id, "." | "..")
}

/// A usable id. Any text is one, since it is opaque, except `.` and `..`, which cannot be part of a URL's path.
fn session_id(fields: &Fields<'_>) -> Option<Secret> {
    fields.get(&["sessionId"]).and_then(text).filter(|id| is_usable(id)).map(Secret::new)
}

/// Reads the id from the answer to a start or a join.
pub(crate) fn established(answer: &Answer) -> Result<Secret> {
    let body = answer.body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&answer.body);
    let raw: Option<Box<RawValue>> = serde_json::from_slice(body).ok();
    raw.as_deref().and_then(Fields::of).and_then(|fields| session_id(&fields)).ok_or_else(|| {
        Error::new(ErrorKind::Protocol, "the service started a session without naming its id")
            .with_status(answer.status.as_u16())
            .with_disposition(Disposition::Fatal)
            .with_ambiguous(true)
    })
}

/// Whether `icBranchValue` says that events were missed. An absent, repeated or unreadable value says nothing.
pub(crate) fn says_missed(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all("icBranchValue").iter();
    let (Some(value), None) = (values.next(), values.next()) else { return false };
    value.to_str().is_ok_and(|value| value.trim() == "3")
}

/// The service's message about its answer: the body's `error_description` or `error`, otherwise `icStatusDescription`.
/// `secrets` are removed from it.
pub(crate) fn words(answer: &Answer, secrets: &[&Secret]) -> Option<String> {
    let raw: Option<Box<RawValue>> = serde_json::from_slice(&answer.body).ok();
    let fields = raw.as_deref().and_then(Fields::of);
    let from_body = fields
        .and_then(|fields| ["error_description", "error"].iter().find_map(|key| fields.get(&[key]).and_then(text)));
    let from_header = || {
        let value = answer.headers.get("icStatusDescription")?;
        Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    let said = from_body.or_else(from_header)?;
    let mut said = said.chars().map(|it| if it.is_control() { ' ' } else { it }).take(WORDS).collect::<String>();
    if secrets.iter().any(|secret| has_part_of(&said, secret.expose())) {
        said = "(it names the session's id or token)".to_owned();
    }
    let said = said.trim();
    (!said.is_empty()).then(|| said.to_owned())
}

/// Whether a text shows a secret, or enough of one: in any casing, encoded or truncated.
fn has_part_of(said: &str, secret: &str) -> bool {
    // Every encoding leaves letters and digits unchanged.
    let plain = |text: &str| {
        text.bytes().filter(u8::is_ascii_alphanumeric).map(|it| it.to_ascii_lowercase()).collect::<Vec<u8>>()
    };
    let (said_plain, secret_plain) = (plain(said), plain(secret));
    let parts: HashSet<&[u8]> = secret_plain.windows(PART).collect();
    (!secret.is_empty() && said.contains(secret)) || said_plain.windows(PART).any(|part| parts.contains(part))
}

/// Classifies an answer that is not a success. `what` names the request.
pub(crate) fn error(what: &str, answer: &Answer, secrets: &[&Secret]) -> Error {
    let status = answer.status;
    let (kind, does) = match status.as_u16() {
        401 => (ErrorKind::Auth, "the service refused the token to"),
        403 => (ErrorKind::Permission, "the service does not permit to"),
        404 => (ErrorKind::SessionLost, "the service does not know the session to"),
        409 => (ErrorKind::Busy, "conflict: another session exists, or this one has ended; cannot"),
        429 => (ErrorKind::RateLimited, "too many requests to"),
        408 | 500.. => (ErrorKind::Service, "the service failed to"),
        300..=399 => (ErrorKind::Protocol, "refused to follow a redirect while trying to"),
        _ => (ErrorKind::Rejected, "the service refused to"),
    };
    let message: Cow<'static, str> = match words(answer, secrets) {
        Some(said) => format!("{does} {what}: {said}").into(),
        None => format!("{does} {what}").into(),
    };
    let disposition = match kind {
        ErrorKind::RateLimited | ErrorKind::Service => Disposition::Retry { after: wait_asked_for(&answer.headers) },
        ErrorKind::Auth => Disposition::Refresh,
        ErrorKind::SessionLost => Disposition::Recreate,
        _ => Disposition::Fatal,
    };
    Error::new(kind, message)
        .with_disposition(disposition)
        .with_status(status.as_u16())
        .with_ambiguous(kind == ErrorKind::Service)
}

/// The wait that the service asks for, with a cap.
pub(crate) fn wait_asked_for(headers: &HeaderMap) -> Option<Duration> {
    retry_after(headers).map(|wait| wait.min(LONGEST_POLL_PAUSE))
}

/// Classifies a poll's answer without a batch for the machine.
pub(crate) fn classify(answer: &Answer) -> machine::Answer {
    match answer.status.as_u16() {
        304 => machine::Answer::Quiet,
        401 => machine::Answer::Unauthorized,
        404 => machine::Answer::Unknown,
        409 => machine::Answer::Over,
        // Without the service's reason a proxy sent it (found 6.4).
        403 if words(answer, &[]).is_some() => machine::Answer::Fatal,
        403 | 408 | 429 | 500.. => machine::Answer::Transient(machine::Transient {
            retry_after: wait_asked_for(&answer.headers),
            // The service behind a proxy may have sent a batch. A 503 that names no wait may come from a proxy whose
            // connection broke.
            doubt: match answer.status {
                StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS => Doubt::No,
                StatusCode::SERVICE_UNAVAILABLE if retry_after(&answer.headers).is_some() => Doubt::No,
                _ => Doubt::Unanswered,
            },
            broken: false,
        }),
        201..300 => {
            machine::Answer::Transient(machine::Transient { doubt: Doubt::Unanswered, ..machine::Transient::default() })
        }
        _ => machine::Answer::Fatal,
    }
}

/// Classifies a poll without an answer for the machine.
pub(crate) fn no_answer(error: &Error) -> machine::Answer {
    match error.kind() {
        ErrorKind::Protocol if error.status().is_some() => machine::Answer::TooLarge,
        ErrorKind::Config => machine::Answer::Fatal,
        _ => machine::Answer::Transient(machine::Transient {
            retry_after: None,
            // With a status, the answer had begun.
            doubt: match (error.is_ambiguous(), error.status()) {
                (false, _) => Doubt::No,
                (true, None) => Doubt::Unanswered,
                (true, Some(_)) => Doubt::Broken,
            },
            broken: error.kind() == ErrorKind::Network && error.is_ambiguous(),
        }),
    }
}

/// Whether an error is transient, and the wait that it asks for.
pub(crate) fn passing(error: &Error) -> Option<Option<Duration>> {
    match error.disposition() {
        Disposition::Retry { after } => Some(after),
        Disposition::Fatal
        | Disposition::Refresh
        | Disposition::Recreate
        | Disposition::Prune
        | Disposition::Resync => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, headers: &[(&'static str, &str)], body: &str) -> Answer {
        Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers: headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect(),
            body: body.to_owned().into(),
        }
    }

    #[test]
    fn a_requested_wait_has_a_cap_in_every_form() {
        for (text, want) in [("7", 7), ("0", 0), ("1e300", 300), ("99999999999999999999", 300)] {
            let answer = answer(503, &[("retry-after", text)], "");
            let want = Some(Duration::from_secs(want));
            assert_eq!(error("start", &answer, &[]).retry_after(), want, "{text}");
            let machine::Answer::Transient(transient) = classify(&answer) else { panic!("{text}") };
            assert_eq!(transient.retry_after, want, "{text}");
        }
    }

    #[test]
    fn too_many_events_are_not_read() {
        let body = |events: usize| format!(r#"{{"sessionId":"S1","events":[{}]}}"#, vec!["1"; events].join(","));
        assert_eq!(Batch::read(body(MAX_EVENTS).as_bytes()).unwrap().events.len(), MAX_EVENTS);
        assert_eq!(Batch::read(body(MAX_EVENTS + 1).as_bytes()).unwrap_err(), Unread::TooMany);
    }

    #[test]
    fn f05_f06_f36_f44_a_batch_is_read_in_any_form() {
        for (body, id, events) in [
            (r#"{"sessionId":"S1","events":[{},1,null,"x"]}"#, Some("S1"), 4),
            (r#"{"sessionId":"S1","events":[]}"#, Some("S1"), 0),
            (r#"{"sessionId":"S1"}"#, Some("S1"), 0),
            (r#"{"sessionId":"S1","events":null}"#, Some("S1"), 0),
            (r#"{"events":[{}]}"#, None, 1),
            (r#"{"sessionId":"","events":[{}]}"#, None, 1),
            (r#"{"sessionId":null,"events":[{}]}"#, None, 1),
            (r#"{"sessionId":"..","events":[{}]}"#, None, 1),
            (r#"{"SESSIONID":"S1","Events":{"Type":"Mute"}}"#, Some("S1"), 1),
            (r#"{"sessionId":7,"events":"odd"}"#, Some("7"), 1),
            ("\u{feff}{\"sessionId\":\"a/b+c%=\",\"events\":[]}", Some("a/b+c%="), 0),
        ] {
            let batch = Batch::read(body.as_bytes()).unwrap();
            assert_eq!(batch.next.as_ref().map(Secret::expose), id, "{body}");
            assert_eq!(batch.events.len(), events, "{body}");
        }
        for (what, body, events) in [
            (
                "NaN",
                r#"{"sessionId":"S1","events":[{"a":1},{"a":NaN},{}]}"#,
                vec![r#"{"a":1}"#, r#""{\"a\":NaN}""#, "{}"],
            ),
            ("commas", r#"{"sessionId":"S1",,"events":[{},,{},],}"#, vec!["{}", "{}"]),
            ("a callback", r#"cb({"sessionId":"S1","events":[{}]})"#, vec!["{}"]),
        ] {
            let batch = Batch::read(body.as_bytes()).unwrap();
            assert_eq!(batch.next.as_ref().map(Secret::expose), Some("S1"), "found 6.5: {what}");
            assert_eq!(batch.events.iter().map(|event| event.get()).collect::<Vec<_>>(), events, "{what}");
        }
        for body in ["", "<html>", "{\"sessionId\":\"S1\",\"events\":[", "[]", "null", "{\"events\":[NaN]}"] {
            assert!(Batch::read(body.as_bytes()).is_err(), "{body}");
        }
        let odd = b"{\"sessionId\":\"S1\",\"events\":[{\"Type\":\"x\xff\"}]}";
        assert_eq!(Batch::read(odd).unwrap().events.len(), 1);
    }

    #[test]
    fn f15_only_a_plain_three_says_that_events_were_missed() {
        for (values, want) in [
            (vec!["3"], true),
            (vec![" 3 "], true),
            (vec!["03"], false),
            (vec!["banana"], false),
            (vec!["3", "3"], false),
            (vec!["1"], false),
            (vec![""], false),
            (vec![], false),
        ] {
            let mut headers = HeaderMap::new();
            for value in &values {
                headers.append("icbranchvalue", value.parse().unwrap());
            }
            assert_eq!(says_missed(&headers), want, "{values:?}");
        }
    }

    #[test]
    fn f21_the_reason_is_found_in_the_body_or_the_header_and_never_the_secret() {
        let secret = Secret::new("c2VjcmV0c2VjcmV0");
        for (headers, body, want) in [
            (vec![], r#"{"error":"e","error_description":"d"}"#, Some("d")),
            (vec![], r#"{"error":"e"}"#, Some("e")),
            (vec![("icStatusDescription", "InvalidTimeout")], "", Some("InvalidTimeout")),
            (vec![("icStatusDescription", "h")], "<html>", Some("h")),
            (vec![], "", None),
            (vec![("icStatusDescription", "of c2VjcmV0c2VjcmV0")], "", Some("(it names the session's id or token)")),
            (vec![("icStatusDescription", "of c2VjcmV0c2V")], "", Some("(it names the session's id or token)")),
        ] {
            let answer = answer(403, &headers, body);
            assert_eq!(words(&answer, &[&secret]).as_deref(), want, "{body}");
            assert!(!format!("{:?}", error("poll", &answer, &[&secret])).contains("c2VjcmV0"));
        }
    }

    #[test]
    fn statuses_mean_what_the_reference_says() {
        let transient = |after: Option<u64>, lost| {
            machine::Answer::Transient(machine::Transient {
                retry_after: after.map(Duration::from_secs),
                doubt: if lost { Doubt::Unanswered } else { Doubt::No },
                broken: false,
            })
        };
        for (status, want) in [
            (304, machine::Answer::Quiet),
            (401, machine::Answer::Unauthorized),
            (404, machine::Answer::Unknown),
            (409, machine::Answer::Over),
            (400, machine::Answer::Fatal),
            (403, transient(Some(7), false)),
            (405, machine::Answer::Fatal),
            (302, machine::Answer::Fatal),
            (429, transient(Some(7), false)),
            (503, transient(Some(7), false)),
            (500, transient(Some(7), true)),
            (502, transient(Some(7), true)),
            (504, transient(Some(7), true)),
        ] {
            assert_eq!(classify(&answer(status, &[("retry-after", "7")], "")), want, "{status}");
        }
        assert_eq!(classify(&answer(204, &[], "")), transient(None, true));
        for (headers, body) in
            [(&[("icStatusDescription", "invalid security user")][..], ""), (&[], r#"{"error":"e"}"#)]
        {
            assert_eq!(classify(&answer(403, headers, body)), machine::Answer::Fatal);
        }
        assert_eq!(classify(&answer(403, &[], "<html>")), transient(None, false));
        assert_eq!(classify(&answer(503, &[], "")), transient(None, true), "may come from a proxy");
    }

    #[test]
    fn a_truncated_answer_differs_from_one_that_never_began() {
        let doubt = |error: Error| match no_answer(&error) {
            machine::Answer::Transient(transient) => transient.doubt,
            other => panic!("{other:?}"),
        };
        let broken = |sent| Error::new(ErrorKind::Network, "x").with_ambiguous(sent);
        assert_eq!(doubt(broken(false)), Doubt::No);
        assert_eq!(doubt(broken(true)), Doubt::Unanswered);
        assert_eq!(doubt(broken(true).with_status(200)), Doubt::Broken);
        assert_eq!(doubt(Error::new(ErrorKind::Timeout, "x").with_ambiguous(true).with_status(200)), Doubt::Broken);
    }

    #[test]
    fn f35_a_session_without_an_id_is_an_error_and_any_success_with_one_is_good() {
        assert_eq!(established(&answer(200, &[], r#"{"sessionId":"S0"}"#)).unwrap().expose(), "S0");
        for body in ["", "{}", "{\"sessionId\":\"\"}", "[]"] {
            assert!(established(&answer(202, &[], body)).is_err(), "{body}");
        }
    }
}
