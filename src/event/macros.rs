//! The macros that make bodies and their enums.

/// Defines the struct of a body or part of one: every field is optional, read individually, and
/// written only if present.
macro_rules! body {
    ($(
        $(#[$doc:meta])*
        pub struct $name:ident {
            $(
                $(#[$field_doc:meta])*
                pub $field:ident: $ty:ty = $key:literal $(| $alias:literal)*,
            )*
        }
    )+) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq)]
        #[non_exhaustive]
        pub struct $name {
            $(
                $(#[$field_doc])*
                #[doc = concat!("\n\nOn the wire `", $key, "`", $(" or `", $alias, "`",)* ".")]
                pub $field: $ty,
            )*
        }

        impl $crate::event::lenient::Body for $name {
            fn absorb(&mut self, raw: &::serde_json::value::RawValue) -> bool {
                $crate::event::lenient::object(raw, &mut |key, value| match key {
                    $($key $(| $alias)* => $crate::event::lenient::Slot::fill(&mut self.$field, value),)*
                    _ => {}
                })
            }
        }

        impl $crate::event::lenient::Lenient for $name {
            fn read(raw: &::serde_json::value::RawValue) -> Option<Self> {
                let mut body = Self::default();
                $crate::event::lenient::Body::absorb(&mut body, raw).then_some(body)
            }
        }

        $crate::event::macros::write_present!($name { $($field = $key),* });
        $crate::event::macros::deserialize_leniently!($name, "an object");
    )+};
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
            fn absorb(&mut self, raw: &::serde_json::value::RawValue) -> bool {
                $crate::event::lenient::list_or_one(raw, $key, &mut self.$field)
            }
        }

        impl $crate::event::lenient::Lenient for $name {
            fn read(raw: &::serde_json::value::RawValue) -> Option<Self> {
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
                let raw = <Box<::serde_json::value::RawValue> as ::serde::Deserialize>::deserialize(deserializer)?;
                $crate::event::lenient::Lenient::read(&raw)
                    .ok_or_else(|| ::serde::de::Error::custom(concat!("expected ", $expected)))
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
            fn read(raw: &::serde_json::value::RawValue) -> Option<Self> {
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
        T::read(serde_json::from_str(json).unwrap())
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
