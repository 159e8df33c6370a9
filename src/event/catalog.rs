//! What the table of events says about each filter.

use std::fmt;

use super::EventKind;

/// One filter of the catalog.
#[derive(Clone, Copy, Debug)]
pub struct CatalogRow {
    pub(super) kind: EventKind,
    pub(super) constructor: &'static str,
    pub(super) template: &'static str,
    pub(super) scope: FilterScope,
    pub(super) permission: Option<&'static str>,
    pub(super) gap: GapClosure,
    pub(super) gap_source: &'static str,
}

impl CatalogRow {
    /// Which events the filter brings.
    #[must_use]
    pub fn kind(&self) -> EventKind {
        self.kind
    }

    /// Name of the constructor on [`EventFilter`](super::EventFilter).
    #[must_use]
    pub fn constructor(&self) -> &'static str {
        self.constructor
    }

    /// The filter with placeholders, such as `{extensionId}`.
    #[must_use]
    pub fn template(&self) -> &'static str {
        self.template
    }

    /// Whose events it is about.
    #[must_use]
    pub fn scope(&self) -> FilterScope {
        self.scope
    }

    /// The permission the app needs, as documented; `None` where none is.
    #[must_use]
    pub fn permission(&self) -> Option<&'static str> {
        self.permission
    }

    /// How well missed events can be made up for.
    #[must_use]
    pub fn gap_closure(&self) -> GapClosure {
        self.gap
    }

    /// What to ask the service for to make up for missed events, or why there is
    /// nothing.
    #[must_use]
    pub fn gap_source(&self) -> &'static str {
        self.gap_source
    }
}

/// Whose events a filter is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FilterScope {
    /// The login's, without an id in the URI.
    Service,
    /// An account's.
    Account,
    /// An extension's.
    Extension,
}

/// How well missed events can be made up for by asking the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GapClosure {
    /// Every missed event can be found; what happened in between to one and the
    /// same thing is seen as one change.
    Complete,
    /// The present state can be read; how it came about is lost.
    StateOnly,
    /// Some can be found, or only the outcome.
    Partial,
    /// None.
    Nothing,
}

impl GapClosure {
    /// `complete`, `state only`, `partial` or `nothing`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::StateOnly => "state only",
            Self::Partial => "partial",
            Self::Nothing => "nothing",
        }
    }
}

impl fmt::Display for GapClosure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A filter's template in the form that events are matched with.
pub(super) struct Route {
    pub(super) kind: EventKind,
    pub(super) template: &'static str,
}
