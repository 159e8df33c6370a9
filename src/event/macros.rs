//! The macros that make bodies and their enums.

/// Defines the type of an event body that this crate does not have, read as the crate's own are: field by field, so that
/// a field that is absent or of a wrong type costs that field only.
///
/// Each field is an `Option`, a `Vec` (a list, or a single element without its brackets), or a
/// `BTreeMap<String, Vec<_>>`; of `String` (text, or a number by its digits), `bool`, `i64`, `u64`, `f64`,
/// [`Timestamp`](crate::Timestamp), [`RawJson`](crate::event::RawJson), an id or an enum of this crate, or another such
/// body. Behind `=` is the key, with former spellings behind `|`. The type gets `Clone`, `Debug`, `Default`,
/// `PartialEq`, `Serialize` (present fields only) and, through `serde_json`, `Deserialize`, which fails only if the JSON
/// is not an object: use it with [`Notification::body_as`](crate::Notification::body_as) and
/// [`RawJson::parse`](crate::event::RawJson::parse).
///
/// ```
/// use ringcentral_events::{Notification, Origin, Timestamp, event_body};
///
/// event_body! {
///     /// A ticket of an app that publishes events of its own.
///     pub struct Ticket {
///         /// Its id: text or a number on the wire.
///         pub id: Option<String> = "id" | "ticketId",
///         pub opened: Option<Timestamp> = "openedAt",
///         pub tags: Vec<String> = "tags",
///         pub steps: Vec<Step> = "steps",
///     }
///
///     pub struct Step {
///         pub done: Option<bool> = "done",
///     }
/// }
///
/// # fn notification() -> Notification {
/// #     let text = r#"{"event":"/x","body":{"ticketId":18446744073709551616,"openedAt":{},"tags":"a","steps":[{"done":"true"},7]}}"#;
/// #     let raw = serde_json::value::RawValue::from_string(text.into()).unwrap();
/// #     Notification::parse(raw, Origin::Push, std::time::SystemTime::UNIX_EPOCH).unwrap()
/// # }
/// // {"ticketId": 18446744073709551616, "openedAt": {}, "tags": "a", "steps": [{"done": "true"}, 7]}
/// let ticket: Ticket = notification().body_as()?;
/// assert_eq!(ticket.id.as_deref(), Some("18446744073709551616"));
/// assert_eq!((ticket.opened, ticket.tags, ticket.steps), (None, vec!["a".into()], vec![Step { done: Some(true) }]));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[macro_export]
macro_rules! event_body {
    ($(
        $(#[$meta:meta])*
        $vis:vis struct $name:ident {
            $(
                $(#[$field_meta:meta])*
                $field_vis:vis $field:ident: $ty:ty = $key:literal $(| $alias:literal)*
            ),* $(,)?
        }
    )+) => {$(
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq)]
        $vis struct $name {
            $(
                $(#[$field_meta])*
                $field_vis $field: $ty,
            )*
        }

        impl $crate::event::__private::Body for $name {
            fn absorb(&mut self, raw: $crate::event::__private::Json<'_>) -> bool {
                $crate::event::__private::object(raw, &mut |key, value| match key {
                    $($key $(| $alias)* => $crate::event::__private::Slot::fill(&mut self.$field, value),)*
                    _ => {}
                })
            }
        }

        impl $crate::event::__private::Lenient for $name {
            fn read(raw: $crate::event::__private::Json<'_>) -> ::std::option::Option<Self> {
                let mut body = Self::default();
                $crate::event::__private::Body::absorb(&mut body, raw).then_some(body)
            }
        }

        impl $crate::event::__private::serde::Serialize for $name {
            fn serialize<S: $crate::event::__private::serde::Serializer>(
                &self,
                serializer: S,
            ) -> ::std::result::Result<S::Ok, S::Error> {
                use $crate::event::__private::serde::ser::SerializeMap as _;
                let mut map = serializer.serialize_map(None)?;
                $(
                    if $crate::event::__private::Slot::is_present(&self.$field) {
                        map.serialize_entry($key, &self.$field)?;
                    }
                )*
                map.end()
            }
        }

        impl<'de> $crate::event::__private::serde::Deserialize<'de> for $name {
            fn deserialize<D: $crate::event::__private::serde::Deserializer<'de>>(
                deserializer: D,
            ) -> ::std::result::Result<Self, D::Error> {
                $crate::event::__private::deserialize(deserializer, "an object")
            }
        }
    )+};
}

/// Defines the struct of a body of the service, or part of one: see [`event_body`]. Its fields may become more.
macro_rules! body {
    ($(
        $(#[$doc:meta])*
        pub struct $name:ident {
            $(
                $(#[$field_doc:meta])*
                pub $field:ident: $ty:ty = $key:literal $(| $alias:literal)*,
            )*
        }
    )+) => {
        $crate::event_body! {$(
            $(#[$doc])*
            #[non_exhaustive]
            pub struct $name {
                $(
                    $(#[$field_doc])*
                    #[doc = concat!("\n\nOn the wire `", $key, "`", $(" or `", $alias, "`",)* ".")]
                    pub $field: $ty = $key $(| $alias)*,
                )*
            }
        )+}
    };
}
pub(crate) use body;

/// Defines the struct of a body that is a list or, in another form, a single element.
macro_rules! list_body {
    ($(
        $(#[$doc:meta])*
        pub struct $name:ident {
            $(#[$field_doc:meta])*
            pub $field:ident: Vec<$element:ty> = $key:literal,
        }
    )+) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq)]
        #[non_exhaustive]
        pub struct $name {
            $(#[$field_doc])*
            #[doc = concat!("\n\nOn the wire `", $key, "`.")]
            pub $field: Vec<$element>,
        }

        impl $crate::event::lenient::Body for $name {
            fn absorb(&mut self, raw: $crate::json::Json<'_>) -> bool {
                $crate::event::lenient::list_or_one(raw, $key, &mut self.$field)
            }
        }

        impl $crate::event::lenient::Lenient for $name {
            fn read(raw: $crate::json::Json<'_>) -> Option<Self> {
                let mut body = Self::default();
                $crate::event::lenient::Body::absorb(&mut body, raw).then_some(body)
            }
        }

        $crate::event::macros::write_present!($name { $field = $key });
        $crate::event::macros::deserialize_leniently!($name, "an object");
    )+};
}
pub(crate) use list_body;

/// `Serialize` as an object of the present fields.
macro_rules! write_present {
    ($name:ident { $($field:ident = $key:literal),* }) => {
        impl ::serde::Serialize for $name {
            fn serialize<S: ::serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                use ::serde::ser::SerializeMap as _;
                let mut map = serializer.serialize_map(None)?;
                $(
                    if $crate::event::lenient::Slot::is_present(&self.$field) {
                        map.serialize_entry($key, &self.$field)?;
                    }
                )*
                map.end()
            }
        }
    };
}
pub(crate) use write_present;

/// `Deserialize` via `Lenient`; works with `serde_json` only.
macro_rules! deserialize_leniently {
    ($name:ident, $expected:literal) => {
        impl<'de> ::serde::Deserialize<'de> for $name {
            fn deserialize<D: ::serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $crate::event::lenient::deserialize(deserializer, $expected)
            }
        }
    };
}
pub(crate) use deserialize_leniently;

/// Defines an enum of known texts that can hold any other text; the caller defines how a text is
/// read.
macro_rules! text_enum {
    (
        $(#[$doc:meta])*
        pub enum $name:ident {
            $($(#[$variant_doc:meta])* $variant:ident = $text:literal $(| $alias:literal)*,)+
        }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum $name {
            $(
                #[doc = concat!("`", $text, "`", $(", also written `", $alias, "`",)* ".")]
                $(#[$variant_doc])*
                $variant,
            )+
            /// A text unknown to this crate, unchanged.
            Other(String),
        }

        impl $name {
            /// The service's text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $text,)+
                    Self::Other(text) => text,
                }
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
pub(crate) use text_enum;

/// Defines an enum of known, case-sensitive texts that preserves any other text.
macro_rules! open_enum {
    ($(
        $(#[$doc:meta])*
        pub enum $name:ident {
            $($(#[$variant_doc:meta])* $variant:ident = $text:literal $(| $alias:literal)*,)+
        }
    )+) => {$(
        $crate::event::macros::text_enum! {
            $(#[$doc])*
            pub enum $name {
                $($(#[$variant_doc])* $variant = $text $(| $alias)*,)+
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                match text.as_str() {
                    $($text $(| $alias)* => Self::$variant,)+
                    _ => Self::Other(text),
                }
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self::from(text.to_owned())
            }
        }

        impl $crate::event::lenient::Lenient for $name {
            fn read(raw: $crate::json::Json<'_>) -> Option<Self> {
                String::read(raw).map(Self::from)
            }
        }

        impl ::serde::Serialize for $name {
            fn serialize<S: ::serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        $crate::event::macros::deserialize_leniently!($name, "a text");
    )+};
}
pub(crate) use open_enum;

#[cfg(test)]
#[allow(unreachable_pub, reason = "the macros make public types, here of a private module")]
mod tests {
    use crate::event::lenient::Lenient;

    fn read<T: Lenient>(json: &str) -> Option<T> {
        T::read(serde_json::from_str::<&serde_json::value::RawValue>(json).unwrap().into())
    }

    body! {
        /// A body.
        pub struct Probe {
            /// A name.
            pub name: Option<String> = "name" | "_name",
            /// Numbers.
            pub list: Vec<i64> = "list",
            /// Itself.
            pub part: Vec<Probe> = "part",
        }
    }

    #[test]
    fn a_wrong_field_does_not_affect_the_rest() {
        let probe: Probe =
            serde_json::from_str(r#"{"name":{"a":1},"list":[1,null,"2",[],3.0],"part":{"_name":"x"},"more":1}"#)
                .unwrap();
        assert_eq!(probe.name, None);
        assert_eq!(probe.list, [1, 2, 3]);
        assert_eq!(probe.part[0].name.as_deref(), Some("x"));
        let twice: Probe = serde_json::from_str(r#"{"name":"a","name":"b","_name":null,"list":1}"#).unwrap();
        assert_eq!((twice.name.as_deref(), &twice.list[..]), (Some("b"), &[1][..]));
        let odd_key: Probe = serde_json::from_str(r#"{"\ud800":1,"\u006eame":"a"}"#).unwrap();
        assert_eq!(odd_key.name.as_deref(), Some("a"));
        for no_object in ["null", "[]", "1", "\"{}\""] {
            assert!(serde_json::from_str::<Probe>(no_object).is_err(), "{no_object}");
        }
    }

    #[test]
    fn only_what_is_present_is_written() {
        let probe: Probe = serde_json::from_str(r#"{"_name":7,"list":[],"part":[{}]}"#).unwrap();
        assert_eq!(serde_json::to_string(&probe).unwrap(), r#"{"name":"7","part":[{}]}"#);
    }

    #[test]
    fn depth_does_not_matter() {
        let deep = format!(r#"{{"part":{}1{},"name":"a"}}"#, "[".repeat(100_000), "]".repeat(100_000));
        let probe: Probe = serde_json::from_str(&deep).unwrap();
        assert_eq!(probe.name.as_deref(), Some("a"));
    }

    open_enum! {
        /// A color.
        pub enum Color {
            Red = "Red" | "red",
            Green = "Green",
        }
    }

    #[test]
    fn enums_preserve_unknown_texts() {
        assert_eq!(read::<Color>(r#""Green""#), Some(Color::Green));
        assert_eq!(read::<Color>(r#""red""#), Some(Color::Red));
        assert_eq!(read::<Color>("7"), Some(Color::Other("7".into())));
        assert_eq!(read::<Color>("null"), None);
        assert_eq!(serde_json::to_string(&Color::from("Mauve")).unwrap(), r#""Mauve""#);
    }
}
