//! The catalog of event filters.

use super::kind::EventKind;
use super::table::event_table;
use crate::words::words;

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
    /// The events that the filter delivers.
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

    /// The scope of the filter.
    #[must_use]
    pub fn scope(&self) -> FilterScope {
        self.scope
    }

    /// The permission that the app needs, as documented; `None` if none is documented.
    #[must_use]
    pub fn permission(&self) -> Option<&'static str> {
        self.permission
    }

    /// How completely missed events can be recovered.
    #[must_use]
    pub fn gap_closure(&self) -> GapClosure {
        self.gap
    }

    /// The source for recovering missed events, or why they cannot be recovered.
    #[must_use]
    pub fn gap_source(&self) -> &'static str {
        self.gap_source
    }
}

/// The scope of a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FilterScope {
    /// The login, without an id in the URI.
    Service,
    /// An account's.
    Account,
    /// An extension's.
    Extension,
}

/// How completely missed events can be recovered by querying the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GapClosure {
    /// Every missed event can be found; several changes of the same object appear as one.
    Complete,
    /// The current state can be read; the events that led to it are lost.
    StateOnly,
    /// Some events can be found, or only their outcome.
    Partial,
    /// None.
    Nothing,
}

words!("closure", GapClosure {
    Complete = "complete",
    StateOnly = "state only",
    Partial = "partial",
    Nothing = "nothing",
});

macro_rules! scope {
    (service) => {
        FilterScope::Service
    };
    (account) => {
        FilterScope::Account
    };
    (extension) => {
        FilterScope::Extension
    };
}

macro_rules! permission {
    (none) => {
        None
    };
    ($name:literal) => {
        Some($name)
    };
}

macro_rules! catalog {
    ($(
        $(#[doc = $doc:literal])+
        $kind:ident($body:ty) $($flat:ident)? {
            permission: $permission:tt,
            gap: $gap:ident $source:literal,
            $(
                $scope:ident $ctor:ident($($arg:ident: $arg_ty:ty),*) $(/ $with:ident($query:ty))? = $template:literal;
            )+
        }
    )+) => {
        /// Every documented filter. Routes and the docs have the same order.
        pub(super) const CATALOG: &[CatalogRow] = &[
            $($(CatalogRow {
                kind: EventKind::$kind,
                constructor: stringify!($ctor),
                template: $template,
                scope: scope!($scope),
                permission: permission!($permission),
                gap: GapClosure::$gap,
                gap_source: $source,
            },)+)+
        ];
    };
}
event_table!(catalog);
