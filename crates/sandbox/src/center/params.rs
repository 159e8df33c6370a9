//! Parameters from query, JSON or form.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::http::Call;

/// By name in lower case.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Params(BTreeMap<String, String>);

impl Params {
    /// The body takes precedence over the query.
    pub(crate) fn of(call: &Call) -> Self {
        let mut all = BTreeMap::new();
        let pairs = |bytes: &[u8]| -> Vec<(String, String)> {
            url::form_urlencoded::parse(bytes)
                .map(|(key, value)| (key.to_ascii_lowercase(), value.into_owned()))
                .collect()
        };
        all.extend(pairs(call.query.as_bytes()));
        match serde_json::from_slice(&call.body) {
            Ok(Value::Object(object)) => {
                all.extend(object.into_iter().filter_map(|(key, value)| {
                    let text = match value {
                        Value::String(text) => text,
                        Value::Null => return None,
                        other => other.to_string(),
                    };
                    Some((key.to_ascii_lowercase(), text))
                }));
            }
            // Other JSON has no names.
            Ok(_) => {}
            Err(_) => all.extend(pairs(&call.body)),
        }
        Self(all)
    }

    /// A present, non-empty parameter.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(&name.to_ascii_lowercase()).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    pub(crate) fn is_true(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| value.eq_ignore_ascii_case("true") || value == "1")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_read_from_json_form_and_query() {
        for (query, body) in [
            ("", r#"{"stationPhoneNumber":"+1205","inactivityTimeout":60,"forceLogoff":true,"stationId":null}"#),
            ("", "stationPhoneNumber=%2B1205&inactivityTimeout=60&forceLogoff=True&stationId="),
            ("StationPhoneNumber=%2B1205&inactivitytimeout=60&forceLogoff=1", ""),
            ("stationPhoneNumber=9&inactivityTimeout=60&forceLogoff=true", r#"{"stationPhoneNumber":"+1205"}"#),
            ("stationPhoneNumber=%2B1205&inactivityTimeout=60&forceLogoff=true", "[1]"),
            ("stationPhoneNumber=+%2B1205&inactivityTimeout=60+&forceLogoff=true", r#""&stationPhoneNumber=9&""#),
        ] {
            let call = Call::bare(http::Method::POST, &format!("/?{query}"), body);
            let params = Params::of(&call);
            assert_eq!(params.get("stationPhoneNumber"), Some("+1205"), "{query} {body}");
            assert_eq!(params.get("inactivityTimeout"), Some("60"), "{query} {body}");
            assert!(params.is_true("forceLogoff") && !params.is_true("endContacts"), "{query} {body}");
            assert_eq!(params.get("stationId"), None, "{query} {body}");
        }
    }
}
