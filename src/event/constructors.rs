//! The constructors of filters, one for each row of the catalog.

use super::filter::{AccountScope, EventFilter, ExtensionScope, Scope, render};
use super::id::{BatchId, CallQueueId, DeviceId};
use super::insights::RingSenseDomain;
use super::query::{
    A2pMessageQuery, AccountPresenceQuery, BatchQuery, MessageStoreQuery, OptOutQuery, PresenceQuery, Seconds,
    SmsV2MessageQuery, TelephonyQuery, WebinarQuery,
};
use super::table::event_table;

macro_rules! constructor {
    (service $($rest:tt)*) => {
        constructor! { @on EventFilter, (), &Scope::default(), $($rest)* }
    };
    (account $($rest:tt)*) => {
        constructor! { @on EventFilter, (), &Scope::default(), $($rest)* }
        constructor! { @on AccountScope, (&self), &self.0, $($rest)* }
    };
    (extension $($rest:tt)*) => {
        constructor! { @on EventFilter, (), &Scope::default(), $($rest)* }
        constructor! { @on ExtensionScope, (&self), &self.0, $($rest)* }
    };
    (@on $owner:ident, $receiver:tt, $scope:expr, $doc:expr, $template:literal, $ctor:ident($($args:tt)*) $(/ $with:ident($query:ty))?) => {
        constructor! { @fn $owner, $receiver, $scope, $doc, $template, $ctor($($args)*) }
        $(constructor! { @with $owner, $receiver, $scope, $doc, $template, $with($query) })?
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

macro_rules! constructors {
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
        $($(
            constructor! {
                $scope
                concat!("[`", stringify!($kind), "`](super::Event::", stringify!($kind), "): `", $template, "`."),
                $template,
                $ctor($($arg: $arg_ty),*) $(/ $with($query))?
            }
        )+)+
    };
}
event_table!(constructors);
