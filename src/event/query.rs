//! Typed query parameters of event filters.

use std::time::Duration;

use super::id::BatchId;
use super::message::{Direction, MessageType};
use super::telephony::PartyStatusCode;
use super::uri;

/// The query of a filter's URI.
pub(crate) trait Query {
    /// Appends `&key=value` for each parameter that is set.
    fn write(&self, into: &mut String);
}

/// Text of a query value.
pub(crate) trait QueryValue {
    fn text(&self) -> &str;
}

impl QueryValue for bool {
    fn text(&self) -> &str {
        if *self { "true" } else { "false" }
    }
}

impl QueryValue for String {
    fn text(&self) -> &str {
        self
    }
}

macro_rules! as_str_values {
    ($($ty:ty),*) => {$(
        impl QueryValue for $ty {
            fn text(&self) -> &str {
                self.as_str()
            }
        }
    )*};
}
as_str_values!(Direction, MessageType, PartyStatusCode, BatchId);

macro_rules! query {
    ($(
        $(#[$doc:meta])*
        pub struct $name:ident {
            $($(#[$field_doc:meta])* $field:ident: $ty:ty = $key:literal,)+
        }
    )+) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
        #[must_use]
        pub struct $name {
            $($field: Option<$ty>,)+
        }

        impl $name {
            /// No parameters: every event of the filter.
            pub fn new() -> Self {
                Self::default()
            }

            $(
                $(#[$field_doc])*
                #[doc = concat!("\n\nSent as `", $key, "`; left out by default.")]
                pub fn $field(mut self, value: impl Into<$ty>) -> Self {
                    self.$field = Some(value.into());
                    self
                }
            )+
        }

        impl Query for $name {
            fn write(&self, into: &mut String) {
                $(
                    if let Some(value) = &self.$field {
                        into.push_str(concat!("&", $key, "="));
                        uri::escape(QueryValue::text(value), into);
                    }
                )+
            }
        }
    )+};
}

query! {
    /// Selects the messages of a message-store filter.
    pub struct MessageStoreQuery {
        /// Only messages of this type.
        message_type: MessageType = "type",
        /// Only messages of this direction.
        direction: Direction = "direction",
    }

    /// Additions to a presence filter.
    pub struct PresenceQuery {
        /// Also counts the active calls; the body lists at most seven.
        total_active_calls: bool = "totalActiveCalls",
        /// Also includes the status aggregated with other systems.
        aggregated: bool = "aggregated",
    }

    /// Additions to an account-wide presence filter.
    pub struct AccountPresenceQuery {
        /// Also includes the active calls.
        detailed_telephony_state: bool = "detailedTelephonyState",
        /// Also includes the SIP data of the active calls.
        sip_data: bool = "sipData",
    }

    /// Selects the calls of a telephony-session filter.
    pub struct TelephonyQuery {
        /// Only parties of this direction.
        direction: Direction = "direction",
        /// Only missed calls, or only other ones.
        missed_call: bool = "missedCall",
        /// Only calls from or to this number.
        phone_number: String = "phoneNumber",
        /// Also includes the SIP data of each party.
        sip_data: bool = "sipData",
        /// Only this state of a party.
        status_code: PartyStatusCode = "statusCode",
        /// Also includes the recordings of each party.
        with_recordings: bool = "withRecordings",
    }

    /// Selects batches of text messages.
    pub struct BatchQuery {
        /// Only batches from this number.
        from: String = "from",
    }

    /// Selects high-volume text messages.
    pub struct A2pMessageQuery {
        /// Only messages of this direction.
        direction: Direction = "direction",
        /// Only messages of this batch.
        batch_id: BatchId = "batchId",
        /// Only messages from this number.
        from: String = "from",
        /// Only messages to this number.
        to: String = "to",
    }

    /// Selects opt-outs.
    pub struct OptOutQuery {
        /// Only opt-outs of this sender.
        from: String = "from",
        /// Only opt-outs by this recipient.
        to: String = "to",
    }

    /// Selects text messages of the second API version.
    pub struct SmsV2MessageQuery {
        /// Only messages of this direction.
        direction: Direction = "direction",
        /// Only messages from this number.
        from: String = "from",
        /// Only messages to this number.
        to: String = "to",
    }

    /// Selects webinars.
    pub struct WebinarQuery {
        /// Only webinars of this host.
        host_user_id: String = "hostUserId",
        /// Only this webinar.
        webinar_id: String = "webinarId",
    }
}

/// Whole seconds of a reminder filter; created from a [`Duration`] by truncation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Seconds(String);

impl Seconds {
    /// The number in the filter.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<Duration> for Seconds {
    fn from(duration: Duration) -> Self {
        Self(duration.as_secs().to_string())
    }
}
