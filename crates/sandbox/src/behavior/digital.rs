//! Settings of the emulated platform's crawler.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::millis;

settings! {
    /// How the sandbox crawls sources and handles what they send
    /// ([`Behavior::digital`](super::Behavior)). *Unverified* defaults are undocumented.
    pub struct DigitalBehavior {
        /// How much faster than real time the gaps between runs pass: one to two minutes for a source
        /// with a list, three to six for one without, at random. Default 600: a minute in 100 ms.
        /// [`Sandbox::advance`](crate::Sandbox::advance) skips the rest of a gap.
        pub faster: u32 = 600,
        /// The timeout of a response, in real time. Default 10 s; *unverified*.
        #[serde(with = "millis")]
        pub timeout: Duration = Duration::from_secs(10),
        /// The maximum size of a response in bytes. Default 20 MiB; *unverified*.
        pub answer_limit: usize = 20 << 20,
        /// Whether a response without a valid signature is accepted with a warning. Default false;
        /// *unverified*.
        pub unsigned_answers: bool = false,
        /// Where a request carries its signature. Default the header; *unverified*.
        pub signature_in: SignatureIn = SignatureIn::Header,
        /// How a request's body is formatted. Default compact; *unverified*.
        pub wire: WireForm = WireForm::Compact,
        /// Whether a first list has empty `params` instead of none. Default false; *unverified*.
        pub empty_params: bool = false,
        /// Whether a list is requested repeatedly within a run until it is empty. Default true;
        /// *unverified*.
        pub all_pages: bool = true,
        /// Maximum number of pages of one list in one run. Default 100.
        pub page_cap: u32 = 100,
        /// Whether a failed list ends the run. Default false: the run continues with the next list;
        /// *unverified*.
        pub failed_list_ends_run: bool = false,
        /// Whether unknown contents that others point to are requested (`show`). Default true;
        /// *unverified*.
        pub show_unknown: bool = true,
        /// Maximum number of attempts per write. Default 3; which failures count is *unverified*.
        pub attempts: u32 = 3,
        /// Whether a write is sent as soon as an agent makes it instead of in the next run. Default
        /// true; inferred from captured traffic.
        pub write_at_once: bool = true,
        /// Whether `….destroy` is sent even to a source that declares `delete`. Default false: a
        /// deletion has the name that the source declares.
        pub destroy: bool = false,
        /// The number of consecutive failed runs after which the channel is switched off until it is
        /// saved again. Default never; *unverified*.
        pub disable_after: Option<u32> = None,
        /// Whether the Send API refuses undeclared collections, `status.mark_as_read` and typing.
        /// Default true for collections, options and status; whether typing and users must be declared
        /// is *unverified*, and users are not checked.
        pub check_declared: bool = true,
        /// How the Send API formats a refusal. Default plain text; *unverified*.
        pub refusal_form: RefusalForm = RefusalForm::Text,
        /// Maximum number of Send API requests per `send_window`; more get 429. Default unlimited: only
        /// the limit on typing is documented.
        pub send_limit: Option<u32> = None,
        /// The window of `send_limit`. Default 60 s.
        #[serde(with = "millis")]
        pub send_window: Duration = Duration::from_secs(60),
        /// `Retry-After` of a 429, in seconds. Default none.
        pub retry_after: Option<u32> = None,
    }
}

choices! {
    /// Where a request carries its signature.
    pub enum SignatureIn {
        /// In the header only.
        Header,
        /// In the query only, as behind a proxy that strips headers.
        Query,
        /// In both.
        Both,
    }

    /// How the JSON of a request is formatted; a source that verifies the raw bytes accepts all forms.
    pub enum WireForm {
        /// No spaces, UTF-8.
        Compact,
        /// Non-ASCII characters as `\u….`.
        Ascii,
        /// `<`, `>` and `&` as `\u….`, as Rails writes them.
        Html,
        /// `/` as `\/`, as PHP writes it.
        Slashes,
        /// Several lines.
        Pretty,
        /// Compact, with a trailing line feed.
        Newline,
    }
}

impl WireForm {
    /// All forms.
    pub const ALL: [Self; 6] = [Self::Compact, Self::Ascii, Self::Html, Self::Slashes, Self::Pretty, Self::Newline];
}

choices! {
    /// How the Send API formats a refusal.
    pub enum RefusalForm {
        /// The plain message.
        Text,
        /// `{"error":"message"}`.
        Json,
    }
}
