//! The owner of a filter's resource, and the URI of its events.

use crate::error::Result;
use crate::event::EventFilter;
use crate::event::uri::{Parts, unescape};
use crate::http::segment;

/// The API's path of the extension of `filter`.
///
/// # Errors
/// `Config` for an invalid id.
pub(crate) fn extension_path(filter: &EventFilter) -> Result<String> {
    let parts = Parts::of(filter.as_str());
    let extension = parts.after("extension").unwrap_or("~");
    Ok(format!("{}/extension/{}", account_path(filter)?, segment(&unescape(extension))?))
}

/// The API's path of the account of `filter`.
///
/// # Errors
/// `Config` for an invalid id.
pub(crate) fn account_path(filter: &EventFilter) -> Result<String> {
    let account = Parts::of(filter.as_str()).after("account").unwrap_or("~");
    Ok(format!("/restapi/v1.0/account/{}", segment(&unescape(account))?))
}

/// The id that follows `name` in a URI of the service, if it is valid.
pub(crate) fn id_in<'a>(uri: &'a str, name: &str) -> Option<&'a str> {
    Parts::of(uri).after(name).filter(|id| id.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The filter's URI as the service writes it in events: `~` is replaced by the ids in `answered`, the URI of an answer
/// of the service; without an id there it stays.
pub(super) fn event_uri(filter: &EventFilter, answered: Option<&str>) -> String {
    let Some(answered) = answered else { return filter.as_str().to_owned() };
    let (path, query) = filter.as_str().split_once('?').map_or((filter.as_str(), None), |(a, b)| (a, Some(b)));
    let mut owner = "";
    let segments: Vec<&str> = path
        .split('/')
        .map(|segment| {
            let name = std::mem::replace(&mut owner, segment);
            let id = match (name, segment) {
                ("account" | "extension", "~") => id_in(answered, name),
                ("accounts", "~") => id_in(answered, "account"),
                _ => None,
            };
            id.unwrap_or(segment)
        })
        .collect();
    let path = segments.join("/");
    query.map_or(path.clone(), |query| format!("{path}?{query}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn a_filter_names_its_extension() {
        for (filter, want) in [
            (EventFilter::fax(), "/restapi/v1.0/account/~/extension/~"),
            (EventFilter::extension("7").fax(), "/restapi/v1.0/account/~/extension/7"),
            (EventFilter::account("4").extension("a b").fax(), "/restapi/v1.0/account/4/extension/a%20b"),
            (
                EventFilter::custom("https://host/restapi/v1.0/account/4/extension/7/fax?x=extension").unwrap(),
                "/restapi/v1.0/account/4/extension/7",
            ),
        ] {
            assert_eq!(extension_path(&filter).unwrap(), want);
        }
        let bad = EventFilter::custom("/restapi/v1.0/account/../extension/7/fax").unwrap();
        assert_eq!(extension_path(&bad).unwrap_err().kind(), ErrorKind::Config);
    }

    #[test]
    fn an_event_has_the_ids_that_the_service_answers() {
        let answered = Some("https://host/restapi/v1.0/account/400/extension/700/message-sync?syncType=ISync");
        for (filter, answered, want) in [
            (
                EventFilter::instant_message(),
                answered,
                "/restapi/v1.0/account/400/extension/700/message-store/instant?type=SMS",
            ),
            (EventFilter::extension("9").voicemail(), answered, "/restapi/v1.0/account/400/extension/9/voicemail"),
            (EventFilter::voicemail(), None, "/restapi/v1.0/account/~/extension/~/voicemail"),
            (
                EventFilter::voicemail(),
                Some("/restapi/v1.0/account/~/extension/700/message-sync"),
                "/restapi/v1.0/account/~/extension/700/voicemail",
            ),
            (EventFilter::team_posts(), answered, "/team-messaging/v1/posts"),
            (
                EventFilter::ring_sense_insights(crate::event::RingSenseDomain::Pbx),
                answered,
                "/ai/ringsense/v1/public/accounts/400/domains/pbx/insights",
            ),
        ] {
            assert_eq!(event_uri(&filter, answered), want);
        }
    }
}
