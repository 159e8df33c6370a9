//! The one stored form of deliveries, events and states: see [`Delivery`](crate::Delivery).
//!
//! It is read from one flat object, field by field in any order, without a buffer between: a buffer would refuse or
//! change numbers such as `1e400` in fields that readers added.

mod cloud;
mod delivery;
mod form;
mod status;

#[cfg(feature = "agent")]
pub(crate) use delivery::{Item, json};
#[cfg(feature = "agent")]
pub(crate) use form::{Nanos, VERSION, check, check_version, required, shown, through};

#[cfg(test)]
mod tests;
