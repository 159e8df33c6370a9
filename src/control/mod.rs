//! The control plane: what a subscription is at the service, and the calls on it.

mod cursor;
mod info;
mod plane;
pub(crate) mod reading;

pub use cursor::Cursor;
pub use info::{BlacklistedData, DeliveryMode, SubscriptionInfo, SubscriptionStatus};
pub use plane::{ControlPlane, CreateSubscription, Deletion, DeliveryModeRequest, SocketToken};
