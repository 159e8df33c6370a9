//! Modifies responses before they are sent.

use std::collections::BTreeMap;
use std::io::Write as _;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{CONTENT_ENCODING, HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};

use super::http::Reply;

/// The changes to a response.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Amend {
    /// Headers that replace those of the same name; repeated names are sent repeatedly.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) without_headers: Vec<String>,
    /// Fields of the JSON object in the body.
    pub(crate) fields: Map<String, Value>,
    pub(crate) without_fields: Vec<String>,
    pub(crate) byte_order_mark: bool,
    pub(crate) gzip: bool,
    /// Sent chunked, without a length; the server does it.
    pub(crate) chunked: bool,
}

impl Amend {
    pub(crate) fn apply(&self, reply: Reply) -> Reply {
        let (mut parts, body) = reply.into_parts();
        let mut body = self.with_fields(body);
        if self.byte_order_mark && !body.is_empty() {
            body = [b"\xef\xbb\xbf", &*body].concat().into();
        }
        if self.gzip && !body.is_empty() {
            body = gzipped(&body);
            parts.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        for name in &self.without_headers {
            parts.headers.remove(name.as_str());
        }
        let mut named = Vec::new();
        for (name, value) in &self.headers {
            // A header that HTTP cannot carry is omitted; the script is at fault.
            let (Ok(name), Ok(value)) = (HeaderName::try_from(name.as_str()), HeaderValue::try_from(value.as_str()))
            else {
                continue;
            };
            if named.contains(&name) {
                parts.headers.append(&name, value);
            } else {
                parts.headers.insert(&name, value);
                named.push(name);
            }
        }
        Reply::from_parts(parts, body)
    }

    fn with_fields(&self, body: Bytes) -> Bytes {
        if self.fields.is_empty() && self.without_fields.is_empty() {
            return body;
        }
        let Ok(mut object) = serde_json::from_slice::<BTreeMap<String, Box<RawValue>>>(&body) else { return body };
        object.retain(|name, _| !self.without_fields.contains(name));
        for (name, value) in &self.fields {
            if let Ok(value) = to_raw_value(value) {
                object.insert(name.clone(), value);
            }
        }
        serde_json::to_vec(&object).map_or(body, Bytes::from)
    }
}

fn gzipped(body: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    // Writing into memory cannot fail.
    let written = encoder.write_all(body).and_then(|()| encoder.finish());
    written.map_or_else(|_| Bytes::copy_from_slice(body), Bytes::from)
}

#[cfg(test)]
mod tests {
    use super::super::http::text_reply;
    use super::*;
    use http::StatusCode;
    use serde_json::json;

    fn reply(body: &str) -> Reply {
        text_reply(StatusCode::OK, "application/json", body.to_owned())
    }

    fn text(reply: &Reply) -> &str {
        std::str::from_utf8(reply.body()).unwrap()
    }

    #[test]
    fn fields_are_set_and_removed_and_unreadable_ones_stay() {
        let fields = json!({ "id": null, "new": [1] });
        let amend = Amend {
            fields: fields.as_object().unwrap().clone(),
            without_fields: vec!["gone".into()],
            ..Amend::default()
        };
        let changed = amend.apply(reply(r#"{"events":[{"a":"\ud800","A":1,"a":2}],"gone":1,"id":"7"}"#));
        assert_eq!(text(&changed), r#"{"events":[{"a":"\ud800","A":1,"a":2}],"id":null,"new":[1]}"#);
        for odd in ["", "[1]", "<html>"] {
            assert_eq!(text(&amend.apply(reply(odd))), odd);
        }
        let plain = r#"{"id": "7", "events": []}"#;
        assert_eq!(text(&Amend::default().apply(reply(plain))), plain, "unchanged");
    }

    #[test]
    fn headers_are_replaced_repeated_and_removed() {
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let amend = Amend {
            headers: vec![header("X-A", "1"), header("x-a", "2"), header("bad name", "3"), header("x-b", "\n")],
            without_headers: vec!["content-type".into()],
            ..Amend::default()
        };
        let mut before = reply("{}");
        before.headers_mut().insert("x-a", HeaderValue::from_static("0"));
        let changed = amend.apply(before);
        let values: Vec<_> = changed.headers().get_all("x-a").iter().collect();
        assert_eq!(values, ["1", "2"]);
        assert_eq!(changed.headers().len(), 2, "{:?}", changed.headers());
    }

    #[test]
    fn a_body_is_marked_and_compressed() {
        let amend = Amend { byte_order_mark: true, gzip: true, ..Amend::default() };
        let changed = amend.apply(reply("{\"a\":1}"));
        assert_eq!(changed.headers()[CONTENT_ENCODING], "gzip");
        let mut read = String::new();
        std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&changed.body()[..]), &mut read).unwrap();
        assert_eq!(read, "\u{feff}{\"a\":1}");
        let marked = Amend { byte_order_mark: true, ..Amend::default() };
        assert_eq!(text(&marked.apply(reply(""))), "");
        assert!(
            !amend
                .apply(super::super::http::empty_reply(StatusCode::NOT_MODIFIED))
                .headers()
                .contains_key(CONTENT_ENCODING)
        );
    }
}
