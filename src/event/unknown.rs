//! Events without a typed body.

use serde::{Serialize, Serializer};

use super::kind::EventKind;
use super::lenient::{Body, RawJson};
use super::route::route;
use crate::json::Json;

/// An event of an unknown type, or whose body is not a JSON object.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct UnknownEvent {
    event_uri: String,
    body: Option<RawJson>,
}

impl UnknownEvent {
    pub(super) fn new(event_uri: &str, body: Option<Json<'_>>) -> Self {
        Self { event_uri: event_uri.to_owned(), body: body.and_then(Json::to_raw).map(RawJson::from) }
    }

    /// The filter that fired (`event`).
    #[must_use]
    pub fn event_uri(&self) -> &str {
        &self.event_uri
    }

    /// The kind of the URI. If it is not [`EventKind::Unknown`], the body was not a JSON object.
    #[must_use]
    pub fn kind(&self) -> EventKind {
        route(&self.event_uri)
    }

    /// The original body, if there was one.
    #[must_use]
    pub fn body(&self) -> Option<&RawJson> {
        self.body.as_ref()
    }
}

/// Writes the body, or `null` without one.
impl Serialize for UnknownEvent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.body.serialize(serializer)
    }
}

/// The body of an event with a documented URI and an undocumented body.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Undocumented {
    /// The original body, if there was one.
    pub body: Option<RawJson>,
}

impl Body for Undocumented {
    fn absorb(&mut self, raw: Json<'_>) -> bool {
        self.body = raw.to_raw().map(RawJson::from);
        raw.get().starts_with('{')
    }
}

/// Writes the body, or `null` without one.
impl Serialize for Undocumented {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.body.serialize(serializer)
    }
}
