//! One page of a list.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::capabilities::{Capabilities, kind};
use super::item::{Item, id_of};
use super::response::Said;
use super::violation::{Rule, Violations};
use ringcentral_events::digital::CollectionName;

/// The usable part of a page.
#[derive(Debug, Default)]
pub(crate) struct Page<'a> {
    /// The id of the first element that has one: the next list starts there.
    pub(crate) first: Option<String>,
    /// Newest first.
    pub(crate) items: Vec<(String, &'a Map<String, Value>)>,
    /// Of all elements, including ignored ones.
    pub(crate) ids: HashSet<String>,
}

/// Reads the answer to a list.
pub(crate) fn read_page<'a>(
    collection: CollectionName,
    said: &'a Said,
    caps: &Capabilities,
    since: Option<&str>,
    violations: &mut Violations,
) -> Result<Page<'a>, String> {
    let list = match said {
        Said::Json(Value::Array(list)) => list,
        said => {
            let what = match said {
                Said::Json(Value::Object(object)) if object.contains_key("error") => "an object with an error",
                Said::Json(other) => kind(other),
                Said::Nothing => "nothing",
            };
            let why = format!("the answer is {what}, not a list");
            violations.add(Rule::ListShape, None, why.clone());
            return Err(why);
        }
    };
    let mut page = Page::default();
    for (number, element) in list.iter().enumerate() {
        let Value::Object(content) = element else {
            violations.add(Rule::ItemShape, None, format!("element {number} is {}, not an object", kind(element)));
            continue;
        };
        let Some((id, is_text)) = id_of(content.get("id")) else {
            violations.add(Rule::IdMissing, None, format!("element {number} has no id; it is ignored"));
            continue;
        };
        if !is_text {
            violations.add(Rule::IdForm, Some(&id), format!("the id of element {number} is a number, not a text"));
        }
        page.first.get_or_insert_with(|| id.clone());
        if Some(id.as_str()) == since {
            violations.add(
                Rule::SinceListed,
                Some(&id),
                "since_id itself is listed; only newer contents may be listed",
            );
            continue;
        }
        if !page.ids.insert(id.clone()) {
            violations.add(Rule::IdTwice, Some(&id), format!("element {number} has the id of an earlier element"));
            continue;
        }
        if (Item { collection, caps, object: content }).check(Some(&id), violations) {
            page.items.push((id, content));
        }
    }
    Ok(page)
}
