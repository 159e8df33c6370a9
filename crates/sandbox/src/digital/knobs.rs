//! What can be turned of how the platform crawls.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::knobs::millis;

/// How the sandbox crawls sources and takes what they send
/// ([`Knobs::digital`](super::super::Knobs)). What says *unverified* is not documented.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct DigitalKnobs {
    /// The time between two runs, where the source has a list. Default 60 s, the least
    /// that is documented.
    #[serde(with = "millis")]
    pub gap: Duration,
    /// The same where it has none. Default 180 s.
    #[serde(with = "millis")]
    pub silent_gap: Duration,
    /// How many times faster the gaps pass than on the wall. Default 600: a minute in
    /// 100 ms. [`Sandbox::advance`](super::super::Sandbox::advance) skips what is left
    /// of one.
    pub faster: u32,
    /// How long an answer may take; not made faster. Default 10 s; *unverified*.
    #[serde(with = "millis")]
    pub timeout: Duration,
    /// The largest answer that is read, in bytes. Default 20 MiB; *unverified*.
    pub answer_limit: usize,
    /// Whether an answer without a right signature is read all the same, with a
    /// warning. Default false; *unverified*.
    pub unsigned_answers: bool,
    /// Where a request's signature is. Default the header; *unverified*.
    pub signature_in: SignatureIn,
    /// How a request's body is written. Default compact; *unverified*.
    pub wire: WireForm,
    /// Whether a first list has empty `params` instead of none. Default false;
    /// *unverified*.
    pub empty_params: bool,
    /// Whether a list is asked for again in the same run, until it is empty. Default
    /// true; *unverified*.
    pub all_pages: bool,
    /// Pages of one list in one run. Default 100.
    pub page_cap: u32,
    /// Whether a list that fails ends the run. Default false: the next list is asked
    /// for; *unverified*.
    pub failed_list_ends_run: bool,
    /// Whether contents that others point to are asked for (`show`) when they are not
    /// known. Default true; *unverified*.
    pub show_unknown: bool,
    /// Attempts of one write, all in all. Default 3.
    pub attempts: u32,
    /// Whether a write is tried as soon as an agent makes it, and not only in the next
    /// run. Default true; inferred from captured traffic.
    pub write_at_once: bool,
    /// Whether `….destroy` is sent for `….delete`. Default false.
    pub destroy: bool,
    /// After how many failed runs in a row the channel is switched off; until it is
    /// saved again. Default never; *unverified*.
    pub disable_after: Option<u32>,
    /// Whether the Send API refuses what the source did not declare: collections,
    /// `status.mark_as_read`, typing. Default true for collections, options and status;
    /// whether typing and users must be declared is *unverified*, and users need not be.
    pub check_declared: bool,
    /// How a refusal of the Send API is written. Default plain text; *unverified*.
    pub refusal_form: RefusalForm,
    /// Requests to the Send API per `send_window`; more are answered 429. Default no
    /// limit: none is documented but that on typing.
    pub send_limit: Option<u32>,
    /// Default 60 s.
    #[serde(with = "millis")]
    pub send_window: Duration,
    /// `Retry-After` of a 429, in seconds. Default none.
    pub retry_after: Option<u32>,
    /// One `typing.start` per thread in this time. Default 2 s.
    #[serde(with = "millis")]
    pub typing_gap: Duration,
}

impl Default for DigitalKnobs {
    fn default() -> Self {
        Self {
            gap: Duration::from_secs(60),
            silent_gap: Duration::from_secs(180),
            faster: 600,
            timeout: Duration::from_secs(10),
            answer_limit: 20 << 20,
            unsigned_answers: false,
            signature_in: SignatureIn::Header,
            wire: WireForm::Compact,
            empty_params: false,
            all_pages: true,
            page_cap: 100,
            failed_list_ends_run: false,
            show_unknown: true,
            attempts: 3,
            write_at_once: true,
            destroy: false,
            disable_after: None,
            check_declared: true,
            refusal_form: RefusalForm::Text,
            send_limit: None,
            send_window: Duration::from_secs(60),
            retry_after: None,
            typing_gap: Duration::from_secs(2),
        }
    }
}

/// Where the signature of a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SignatureIn {
    /// In the header only.
    Header,
    /// In the query only, as where a proxy strips headers.
    Query,
    /// In both.
    Both,
}

/// How the JSON of a request is written; a source that verifies the bytes takes all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum WireForm {
    /// No space, UTF-8.
    Compact,
    /// Everything beyond ASCII as `\u….`.
    Ascii,
    /// `<`, `>` and `&` as `\u….`, as Rails does it.
    Html,
    /// `/` as `\/`, as PHP does it.
    Slashes,
    /// Over several lines.
    Pretty,
    /// Compact, and a line feed at the end.
    Newline,
}

impl WireForm {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Compact, Self::Ascii, Self::Html, Self::Slashes, Self::Pretty, Self::Newline];
}

/// How a refusal of the Send API is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RefusalForm {
    /// The message.
    Text,
    /// `{"error":"message"}`.
    Json,
}
