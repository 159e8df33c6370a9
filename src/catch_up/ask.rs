//! Calls that several sources share.

use std::borrow::Cow;

use http::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::{SyncToken, time};
use crate::clock::Clock;
use crate::error::{Disposition, Error, ErrorKind, Result};
use crate::event::lenient::Lenient;
use crate::rest::Client;
use crate::salvage::{Parts, elements, fields, unwrapped};
use crate::timestamp::Timestamp;

/// How far the service itself reaches back before a sync token (documented: 5 s); other queries by time do the same
/// here.
pub(super) const OVERLAP: u64 = 5_000;
/// The call log is queried by the start of a call, and a call and its insights count by its end: by this much earlier.
pub(super) const LONG_CALL: u64 = 3_600_000;

/// An answer, and by how much the service's clock was ahead of this machine's.
pub(crate) struct Answered<T> {
    pub(crate) body: T,
    /// The time of the answer, by the service's clock.
    pub(crate) at: u64,
    pub(super) skew: i64,
}

/// One `GET` of a list.
///
/// # Errors
/// Also if the answer is not an object with any part of a list.
pub(crate) async fn get(
    client: &Client,
    clock: &Clock,
    path: &str,
    query: &[(&str, String)],
) -> Result<Answered<Listing>> {
    ask(client, clock, path, query, Listing::read).await
}

/// One `GET` of a record.
pub(super) async fn get_record(
    client: &Client,
    clock: &Clock,
    path: &str,
    query: &[(&str, String)],
) -> Result<Answered<Map<String, Value>>> {
    ask(client, clock, path, query, |text, _| serde_json::from_str(unwrapped(text)).ok()).await
}

/// One `GET` of something that `read` makes of the answer's text.
pub(super) async fn ask<T>(
    client: &Client,
    clock: &Clock,
    path: &str,
    query: &[(&str, String)],
    read: impl FnOnce(&str, bool) -> Option<T>,
) -> Result<Answered<T>> {
    let request = client.request(Method::GET, path);
    let response = query.iter().fold(request, |request, (name, value)| request.query(name, value)).send().await?;
    let ours = time::millis(clock.wall());
    let at = response.answered_at().map_or(ours, time::millis);
    // `Date` has whole seconds: differences below one do not count.
    let skew = time::skew(at, ours);
    let skew = if skew.abs() <= 1_000 { 0 } else { skew };
    let text = response.text();
    let body = read(&text, matches!(text, Cow::Owned(_))).ok_or_else(|| {
        Error::new(ErrorKind::Protocol, "unexpected answer")
            .with_status(response.status().as_u16())
            .with_request_id(response.request_id())
            .with_ambiguous(true)
    })?;
    Ok(Answered { body, at: time::shift(ours, skew), skew })
}

/// An answer with a list, read as leniently as its records (found 6.6).
#[derive(Default)]
pub(crate) struct Listing {
    pub(super) uri: Option<String>,
    /// The records that are valid JSON.
    pub(crate) records: Vec<Box<RawValue>>,
    /// Whether those are all records of the answer. A service that failed to make a list may omit it or send null: a
    /// missing list does not prove that it is empty. Neither does a list with an unreadable record.
    pub(crate) is_whole: bool,
    pub(super) sync_info: SyncInfo,
    /// The tokens of the pages after and before this one.
    pub(super) next_page: Option<String>,
    pub(super) previous_page: Option<String>,
}

impl Listing {
    /// `patched`: some bytes were not UTF-8, so the content of a record is uncertain.
    fn read(text: &str, patched: bool) -> Option<Self> {
        let mut listing = Self::default();
        let (mut is_known, mut has_list, mut is_sound) = (false, false, !patched);
        let answer = fields(unwrapped(text))?;
        for (name, value) in &answer.parts {
            is_known |= matches!(&**name, "uri" | "records" | "syncInfo" | "paging" | "navigation");
            match &**name {
                "uri" => listing.uri = value_of(value).or(listing.uri),
                "records" => {
                    let list = elements(value).unwrap_or_else(|| Parts { parts: vec![*value], closed: true });
                    has_list = true;
                    is_sound &= list.closed;
                    for part in list.parts {
                        match record(part) {
                            Some(record) => listing.records.push(record),
                            None => is_sound = false,
                        }
                    }
                }
                "syncInfo" => listing.sync_info.absorb(value),
                "paging" | "navigation" => listing.pages(value),
                _ => {}
            }
        }
        listing.is_whole = has_list && is_sound && answer.closed;
        is_known.then_some(listing)
    }

    fn pages(&mut self, text: &str) {
        for (name, value) in fields(text).into_iter().flat_map(|fields| fields.parts) {
            match &*name {
                "nextPageToken" => self.next_page = value_of(value).or(self.next_page.take()),
                "prevPageToken" => self.previous_page = value_of(value).or(self.previous_page.take()),
                _ => {}
            }
        }
    }
}

/// The records as objects, and whether those are all records of the answer.
pub(super) fn objects(listing: &Listing) -> (Vec<Map<String, Value>>, bool) {
    let read = listing.records.iter().map(|raw| serde_json::from_str(raw.get()).ok());
    let objects: Vec<Map<String, Value>> = read.flatten().collect();
    let whole = listing.is_whole && objects.len() == listing.records.len();
    (objects, whole)
}

fn record(text: &str) -> Option<Box<RawValue>> {
    RawValue::from_string(text.to_owned()).ok().filter(|raw| raw.get().starts_with('{'))
}

fn value_of<T: Lenient>(text: &str) -> Option<T> {
    T::read(serde_json::from_str::<&RawValue>(text).ok()?.into())
}

/// `syncInfo` of a sync.
#[derive(Default)]
pub(super) struct SyncInfo {
    /// `None` if the answer names no position.
    pub(super) sync_token: Option<String>,
    sync_time: Option<Timestamp>,
    older_records_exist: Option<bool>,
}

impl SyncInfo {
    fn absorb(&mut self, text: &str) {
        for (name, value) in fields(text).into_iter().flat_map(|fields| fields.parts) {
            match &*name {
                "syncToken" => self.sync_token = value_of::<String>(value).filter(|token| !token.is_empty()),
                "syncTime" => self.sync_time = value_of(value),
                "olderRecordsExist" => self.older_records_exist = value_of(value),
                _ => {}
            }
        }
    }

    /// Whether there are older records than those of the answer; `None` if it does not say.
    pub(super) fn older_exist(&self) -> Option<bool> {
        self.older_records_exist
    }
}

impl SyncInfo {
    /// The service's time at the answer, and by how much it was ahead of ours.
    pub(super) fn clocks(&self, clock: &Clock) -> (u64, i64) {
        let ours = time::millis(clock.wall());
        let theirs = self.sync_time.as_ref().and_then(time::of).unwrap_or(ours);
        (theirs, time::skew(theirs, ours))
    }
}

/// Whether the service refuses a position, for any reason.
pub(super) fn is_stale(error: &Error) -> bool {
    error.disposition() == Disposition::Resync || error.kind() == ErrorKind::Rejected
}

/// A position of another kind or version counts as none.
pub(super) fn read_position<T: DeserializeOwned>(token: Option<&SyncToken>) -> Option<T> {
    serde_json::from_str(token?.text().expose()).ok()
}

pub(super) fn write_position<T: Serialize>(position: &T, made_at: std::time::SystemTime) -> Result<SyncToken> {
    let text = serde_json::to_string(position);
    let text =
        text.map_err(|error| Error::new(ErrorKind::Internal, "failed to serialize a position").with_source(error));
    Ok(SyncToken::new(text?, made_at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<(usize, bool)> {
        Listing::read(text, false).map(|it| (it.records.len(), it.is_whole))
    }

    #[test]
    fn found_6_6_a_list_is_whole_only_where_every_record_was_read() {
        for (text, want) in [
            (r#"{"records":[]}"#, Some((0, true))),
            (r#"{"records":[{"id":1},{"id":1,"id":2}]}"#, Some((2, true))),
            (r#"{"records":{"id":1}}"#, Some((1, true))),
            ("\u{feff}{\"records\":[{},],}", Some((1, true))),
            // A missing list proves nothing.
            (r#"{"records":null}"#, Some((0, false))),
            (r#"{"uri":"x"}"#, Some((0, false))),
            (r#"{"records":"none"}"#, Some((0, false))),
            (r#"{"records":null,"records":[{}]}"#, Some((1, false))),
            (r#"{"records":[{},null]}"#, Some((1, false))),
            (r#"{"records":[{},{"x":NaN}]}"#, Some((1, false))),
            (r#"{"records":[{},{"x":"cut"#, Some((1, false))),
            (r#"{"records":[{}]"#, Some((1, false))),
            // An answer without any list.
            ("{}", None),
            (r#"{"errorCode":"CMN-211"}"#, None),
            ("[]", None),
            ("<html>", None),
            ("", None),
        ] {
            assert_eq!(read(text), want, "{text}");
        }
        assert!(Listing::read(r#"{"records":[{}]}"#, true).is_some_and(|it| !it.is_whole));
    }

    #[test]
    fn found_6_6_fields_of_other_types_are_read_or_left_out() {
        let info = |text: &str| {
            let it = Listing::read(&format!(r#"{{"syncInfo":{text}}}"#), false).unwrap().sync_info;
            (it.sync_token.clone(), it.older_exist(), it.sync_time.is_some())
        };
        for (text, token, older, time) in [
            (
                r#"{"syncToken":"a","olderRecordsExist":false,"syncTime":"2024-05-06T12:00:00Z"}"#,
                Some("a"),
                Some(false),
                true,
            ),
            (r#"{"syncToken":7,"olderRecordsExist":"False"}"#, Some("7"), Some(false), false),
            (r#"{"syncToken":"a","olderRecordsExist":"true"}"#, Some("a"), Some(true), false),
            (r#"{"syncToken":null,"olderRecordsExist":null}"#, None, None, false),
            (r#"{"syncToken":"","olderRecordsExist":0}"#, None, None, false),
            ("null", None, None, false),
            ("[]", None, None, false),
        ] {
            assert_eq!(info(text), (token.map(str::to_owned), older, time), "{text}");
        }
        let pages = |text: &str| Listing::read(text, false).map(|it| (it.next_page, it.previous_page)).unwrap();
        assert_eq!(pages(r#"{"paging":{"nextPageToken":5},"navigation":null}"#), (Some("5".into()), None));
        assert_eq!(pages(r#"{"navigation":{"nextPageToken":null,"prevPageToken":"p"}}"#), (None, Some("p".into())));
    }
}
