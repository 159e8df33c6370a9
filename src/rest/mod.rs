//! RingCentral's REST API, as far as events need it.

mod subscription;

pub use subscription::{
    BlacklistedData, ControlPlane, CreateSubscription, DeliveryMode, DisabledFilter, SubscriptionInfo,
    SubscriptionStatus,
};
