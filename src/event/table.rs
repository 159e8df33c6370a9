//! The macro behind the table of events.

/// Generates, from one row per event: the variant of [`Event`](super::Event), the
/// [`EventKind`](super::EventKind), the decoding, and per filter of the row the route, the
/// constructors of [`EventFilter`](super::EventFilter), the row of the catalog and the row of the
/// table in the docs.
///
/// A row is
///
/// ```text
/// /// What it says.
/// Kind(Body) [flat] {
///     permission: "Name",                  // or: none
///     gap: Quality "what to ask for",
///     scope constructor(arg: Type) [/ constructor_with(Query)] = "template";
///     ...
/// }
/// ```
///
/// `flat` means that the fields are beside the envelope's. The query of a template affects routing
/// only if two templates share a path.
macro_rules! events {
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
        /// An event, typed by the filter that fired.
        ///
        /// Bodies are boxed, so that an event is cheap to move. Each is read field by field: see
        /// [`Notification`].
        #[derive(Clone, Debug, PartialEq)]
        #[non_exhaustive]
        pub enum Event {
            $(
                $(#[doc = $doc])+
                $kind(Box<$body>),
            )+
            /// A URI unknown to this crate, or a body that is not a JSON object.
            Unknown(Box<UnknownEvent>),
        }

        /// The kind of an event, with the names of the catalog.
        ///
        /// | Filter | Event, body | Permission | Recovery of missed events |
        /// | --- | --- | --- | --- |
        $($(
            #[doc = concat!(
                "| [`", $template, "`](EventFilter::", stringify!($ctor), ") | [`", stringify!($kind), "`](Event::",
                stringify!($kind), "), [`", stringify!($body), "`] | ", permission!(doc $permission), " | ",
                gap!(doc $gap), ": ", $source, " |"
            )]
        )+)+
        /// | anything else | [`Unknown`](Event::Unknown), [`UnknownEvent`] | | nothing |
        ///
        /// `unverified` means that no public source states it, or that sources conflict.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum EventKind {
            $(
                $(#[doc = $doc])+
                $kind,
            )+
            /// Any other event.
            Unknown,
        }

        impl EventKind {
            /// The kind's name.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$kind => stringify!($kind),)+
                    Self::Unknown => "Unknown",
                }
            }

            /// Every kind, in the table's order, `Unknown` last.
            pub fn all() -> impl Iterator<Item = Self> + Clone {
                [$(Self::$kind,)+ Self::Unknown].into_iter()
            }

            /// Whether the fields are beside the envelope's instead of in a body.
            const fn is_flat(self) -> bool {
                match self {
                    $(Self::$kind => flat!($($flat)?),)+
                    Self::Unknown => false,
                }
            }
        }

        impl Event {
            /// The kind of this event.
            #[must_use]
            pub fn kind(&self) -> EventKind {
                match self {
                    $(Self::$kind(_) => EventKind::$kind,)+
                    Self::Unknown(_) => EventKind::Unknown,
                }
            }

            /// Reads the payload as an event of this kind.
            fn decode(kind: EventKind, payload: Payload<'_>) -> Self {
                let typed = match kind {
                    $(EventKind::$kind => payload.read::<$body>(kind).map(|body| Self::$kind(Box::new(body))),)+
                    EventKind::Unknown => None,
                };
                typed.unwrap_or_else(|| Self::Unknown(Box::new(UnknownEvent::new(payload.uri, payload.body))))
            }
        }

        /// Writes the body.
        impl Serialize for Event {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match self {
                    $(Self::$kind(body) => body.serialize(serializer),)+
                    Self::Unknown(body) => body.serialize(serializer),
                }
            }
        }

        const ROUTES: &[Route] = &[
            $($(Route { kind: EventKind::$kind, template: $template },)+)+
        ];

        const CATALOG: &[CatalogRow] = &[
            $($(CatalogRow {
                kind: EventKind::$kind,
                constructor: stringify!($ctor),
                template: $template,
                scope: scope!($scope),
                permission: permission!($permission),
                gap: gap!($gap),
                gap_source: $source,
            },)+)+
        ];

        $($(
            constructors! {
                $scope
                concat!("[`", stringify!($kind), "`](Event::", stringify!($kind), "): `", $template, "`."),
                $template,
                $ctor($($arg: $arg_ty),*) $(/ $with($query))?
            }
        )+)+
    };
}
pub(super) use events;

macro_rules! constructors {
    (service $($rest:tt)*) => {
        constructors! { @on EventFilter, (), &Scope::default(), $($rest)* }
    };
    (account $($rest:tt)*) => {
        constructors! { @on EventFilter, (), &Scope::default(), $($rest)* }
        constructors! { @on AccountScope, (&self), &self.0, $($rest)* }
    };
    (extension $($rest:tt)*) => {
        constructors! { @on EventFilter, (), &Scope::default(), $($rest)* }
        constructors! { @on ExtensionScope, (&self), &self.0, $($rest)* }
    };
    (@on $owner:ident, $receiver:tt, $scope:expr, $doc:expr, $template:literal, $ctor:ident($($args:tt)*) $(/ $with:ident($query:ty))?) => {
        constructors! { @fn $owner, $receiver, $scope, $doc, $template, $ctor($($args)*) }
        $(constructors! { @with $owner, $receiver, $scope, $doc, $template, $with($query) })?
    };
    (@fn $owner:ident, (), $scope:expr, $doc:expr, $template:literal, $ctor:ident($($arg:ident: $arg_ty:ty),*)) => {
        impl $owner {
            #[doc = $doc]
            #[must_use]
            pub fn $ctor($($arg: impl Into<$arg_ty>),*) -> EventFilter {
                $(let $arg: $arg_ty = $arg.into();)*
                render($template, $scope, &[$($arg.as_str()),*], None)
            }
        }
    };
    (@fn $owner:ident, (&$self:ident), $scope:expr, $doc:expr, $template:literal, $ctor:ident($($arg:ident: $arg_ty:ty),*)) => {
        impl $owner {
            #[doc = $doc]
            #[must_use]
            pub fn $ctor(&$self $(, $arg: impl Into<$arg_ty>)*) -> EventFilter {
                $(let $arg: $arg_ty = $arg.into();)*
                render($template, $scope, &[$($arg.as_str()),*], None)
            }
        }
    };
    (@with $owner:ident, (), $scope:expr, $doc:expr, $template:literal, $with:ident($query:ty)) => {
        impl $owner {
            #[doc = $doc]
            #[must_use]
            pub fn $with(query: $query) -> EventFilter {
                render($template, $scope, &[], Some(&query))
            }
        }
    };
    (@with $owner:ident, (&$self:ident), $scope:expr, $doc:expr, $template:literal, $with:ident($query:ty)) => {
        impl $owner {
            #[doc = $doc]
            #[must_use]
            pub fn $with(&$self, query: $query) -> EventFilter {
                render($template, $scope, &[], Some(&query))
            }
        }
    };
}
pub(super) use constructors;

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
pub(super) use scope;

macro_rules! permission {
    (doc none) => {
        ""
    };
    (doc $name:literal) => {
        $name
    };
    (none) => {
        None
    };
    ($name:literal) => {
        Some($name)
    };
}
pub(super) use permission;

macro_rules! gap {
    (doc Complete) => {
        "complete"
    };
    (doc StateOnly) => {
        "state only"
    };
    (doc Partial) => {
        "partial"
    };
    (doc Nothing) => {
        "nothing"
    };
    ($quality:ident) => {
        GapClosure::$quality
    };
}
pub(super) use gap;

macro_rules! flat {
    () => {
        false
    };
    (flat) => {
        true
    };
}
pub(super) use flat;
