//! Finds events that a push transport missed.
//!
//! No transport keeps every event: PubNub has some hundred messages for some
//! minutes, the WebSocket gateway a hundred for three minutes, an expired
//! subscription none. The service can report most events afterwards. A
//! [`CatchUp`] is one such source; a subscription queries it after every gap, and
//! instead of the push transport while that is down for long.
//!
//! | Source | Filters | Closes a gap | Rate group |
//! | --- | --- | --- | --- |
//! | [`MessageSync`] | message store, instant messages, faxes, voicemail | completely | Light |
//! | [`CallLogSync`] | missed calls | completely, 3 min later | Heavy |
//! | | telephony sessions | how they ended | Heavy |
//! | [`TeamPosts`] | posts | added and changed ones | Light, Medium |
//! | [`A2pMessages`] | high-volume messages | new ones; status of recent ones | Light |
//! | [`Insights`] | insights of recorded calls and, where the app names them, of meetings | the present ones of each session | Light, Heavy |
//! | [`ExtensionList`] | the list of extensions | what differs | Medium |
//! | [`PresenceSnapshot`] | presence, do-not-disturb; of an account | the present state | Light; Heavy |

mod a2p;
mod ask;
mod call_log;
mod call_map;
mod extensions;
mod insights;
mod message_map;
mod messages;
mod presence;
mod proof;
mod round;
mod scope;
mod source;
mod team_posts;
mod time;

use std::sync::Arc;

use crate::rest::Client;

pub(crate) use ask::get;
pub(crate) use scope::{account_path, extension_path, id_in};
pub(crate) use time::{millis, text};

pub use a2p::A2pMessages;
pub use call_log::CallLogSync;
pub use extensions::ExtensionList;
pub use insights::Insights;
pub use messages::MessageSync;
pub use presence::PresenceSnapshot;
pub use proof::Open;
pub use source::{CatchUp, Found, SyncPage, SyncRequest, SyncToken};
pub use team_posts::TeamPosts;

/// Every source of this crate, with its defaults: sources that cover none of a subscription's filters cost it nothing.
#[must_use]
pub fn standard(client: &Client) -> Vec<Arc<dyn CatchUp>> {
    vec![
        Arc::new(MessageSync::new(client.clone())),
        Arc::new(CallLogSync::new(client.clone())),
        Arc::new(TeamPosts::new(client.clone())),
        Arc::new(A2pMessages::new(client.clone())),
        Arc::new(Insights::new(client.clone())),
        Arc::new(ExtensionList::new(client.clone())),
        Arc::new(PresenceSnapshot::new(client.clone())),
    ]
}
