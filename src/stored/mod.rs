//! The one stored form of deliveries, events and states: see [`Delivery`](crate::Delivery).
//!
//! It is read from one flat object, field by field in any order, without a buffer between: a buffer would refuse or
//! change numbers such as `1e400` in fields that readers added.

mod cloud;
mod delivery;
mod form;
mod status;

#[cfg(feature = "agent")]
pub(crate) use cloud::{CloudEvent, attribute, key};
#[cfg(feature = "agent")]
pub(crate) use delivery::{Item, json};
#[cfg(feature = "agent")]
pub(crate) use form::{Moment, Nanos, VERSION, check, check_version, known_version, required, shown, through};
#[cfg(feature = "agent")]
pub(crate) use status::{ErrorForm, chain};

#[cfg(test)]
mod tests;
