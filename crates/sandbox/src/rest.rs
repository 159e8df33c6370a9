//! The API server's routes, and the headers of its responses.

use http::header::{DATE, HeaderName, HeaderValue, RETRY_AFTER};
use http::{Method, StatusCode};
use serde_json::json;

use super::account::{a2p, calls, insights, message_sync, messages as store, people, team};
use super::budget::{Group, Spent};
use super::delivery::DomainEvent;
use super::http::{Call, Refused, Reply, json_reply};
use super::state::{State, uuid};
use super::{gateway, messages, oauth, subscriptions};

type Routed = Result<(Reply, Vec<DomainEvent>), Refused>;

/// Handles a call: token, budget, resource, headers.
pub(super) fn handle(state: &mut State, call: &Call) -> Reply {
    let segments = call.segments();
    let path: Vec<&str> = segments.iter().map(String::as_str).collect();
    let mut spent = None;
    let mut reply = match route(state, call, &path, &mut spent) {
        Ok((reply, domain_events)) => {
            for domain_event in &domain_events {
                state.deliver(domain_event);
            }
            reply
        }
        Err(refused) => refused.reply(),
    };
    stamp(state, &mut reply, spent);
    reply
}

fn route(state: &mut State, call: &Call, path: &[&str], spent: &mut Option<Spent>) -> Routed {
    let method = call.method.as_str();
    if let ["restapi", "oauth", rest @ ..] = path {
        // Sockets depend on the access tokens that change here.
        state.schedule.poke();
        return match (method, rest) {
            ("GET", ["authorize"]) => ok(oauth::authorize(state, call)),
            ("POST", ["token"]) => spend(state, Group::Auth, spent).and_then(|()| ok(oauth::grant(state, call))),
            ("POST", ["revoke"]) => spend(state, Group::Auth, spent).and_then(|()| ok(oauth::revoke(state, call))),
            ("POST", ["wstoken"]) => {
                let login = oauth::check(state, call)?;
                spend(state, Group::Auth, spent)?;
                ok_or_refused(gateway::issue(state, login))
            }
            _ => Err(no_such(call)),
        };
    }
    if let ("GET", ["restapi"] | ["restapi", "v1.0"]) = (method, path) {
        return ok(versions(state));
    }
    oauth::check(state, call)?;
    let (group, handler) = resource(state, method, path).ok_or_else(|| no_such(call))?;
    spend(state, group, spent)?;
    handler(state, call, path)
}

type Handler = fn(&mut State, &Call, &[&str]) -> Routed;

/// The handler of a path, and the usage plan group of its calls.
fn resource(state: &State, method: &str, path: &[&str]) -> Option<(Group, Handler)> {
    use Group::{Heavy, Light, Medium};
    let found: (Group, Handler) = match (method, path) {
        ("POST", ["restapi", "v1.0", "subscription"]) => (Medium, |s, c, _| ok_or_refused(subscriptions::create(s, c))),
        ("GET", ["restapi", "v1.0", "subscription"]) => (Light, |s, c, _| ok(subscriptions::list(s, c))),
        ("GET", ["restapi", "v1.0", "subscription", _]) => {
            (Light, |s, c, p| ok_or_refused(subscriptions::get(s, c, p[3])))
        }
        ("PUT", ["restapi", "v1.0", "subscription", _]) => {
            (Medium, |s, c, p| ok_or_refused(subscriptions::update(s, c, p[3])))
        }
        ("POST", ["restapi", "v1.0", "subscription", _, "renew"]) => {
            (Light, |s, c, p| ok_or_refused(subscriptions::renew(s, c, p[3])))
        }
        ("DELETE", ["restapi", "v1.0", "subscription", _]) => {
            (Medium, |s, _, p| ok_or_refused(subscriptions::delete(s, p[3])))
        }
        (_, ["restapi", "v1.0", "account", account, rest @ ..]) => {
            if *account != "~" && *account != state.identity.account_id {
                return None;
            }
            return account_resource(state, method, rest);
        }
        ("GET", ["team-messaging", "v1", "chats"] | ["restapi", "v1.0", "glip", "chats" | "groups"]) => {
            (Medium, |s, c, _| ok_or_refused(team::list_chats(s, c)))
        }
        ("GET", ["team-messaging", "v1", "recent", "chats"] | ["restapi", "v1.0", "glip", "recent", "chats"]) => {
            (Light, |s, c, _| ok_or_refused(team::recent_chats(s, c)))
        }
        ("GET", ["team-messaging", "v1", "chats", _]) => (Light, |s, _, p| ok_or_refused(team::get_chat(s, p[3]))),
        ("GET", ["team-messaging", "v1", "chats", _, "posts"]) => {
            (Medium, |s, c, p| ok_or_refused(team::list_posts(s, c, p[3], None)))
        }
        ("GET", ["team-messaging", "v1", "chats", _, "threads", _, "posts"]) => {
            (Medium, |s, c, p| ok_or_refused(team::list_posts(s, c, p[3], Some(p[5]))))
        }
        ("POST", ["team-messaging", "v1", "chats", _, "posts"]) => {
            (Medium, |s, c, p| messages::create_post(s, c, p[3]))
        }
        ("GET", ["team-messaging", "v1", "chats", _, "posts", _]) => {
            (Light, |s, _, p| ok_or_refused(team::get_post(s, p[3], p[5])))
        }
        ("PATCH", ["team-messaging", "v1", "chats", _, "posts", _]) => {
            (Medium, |s, c, p| team::update_post(s, c, p[3], p[5]))
        }
        ("DELETE", ["team-messaging", "v1", "chats", _, "posts", _]) => {
            (Medium, |s, _, p| team::delete_post(s, p[3], p[5]))
        }
        ("GET", ["restapi", "v1.0", "glip", "chats" | "groups", _, "posts"]) => {
            (Heavy, |s, c, p| ok_or_refused(team::list_posts(s, c, p[4], None)))
        }
        ("POST", ["restapi", "v1.0", "glip", "chats" | "groups", _, "posts"]) => {
            (Heavy, |s, c, p| messages::create_post(s, c, p[4]))
        }
        ("GET", ["ai", "ringsense", "v1", "public", "accounts", account, "domains", _, "sessions", _, "insights"])
            if *account == "~" || *account == state.identity.account_id =>
        {
            (Light, |s, _, p| ok_or_refused(insights::of_session(s, p[7], p[9])))
        }
        _ => return None,
    };
    Some(found)
}

/// Resources below `/restapi/v1.0/account/{accountId}`; handlers get the whole path.
fn account_resource(state: &State, method: &str, rest: &[&str]) -> Option<(Group, Handler)> {
    use Group::{Heavy, Light, Medium};
    let (extension, rest) = match (method, rest) {
        (_, ["extension", extension, rest @ ..]) => (*extension, rest),
        ("GET", []) => return Some((Light, |s, _, _| ok(messages::get_account(s)))),
        ("GET", ["extension"]) => return Some((Medium, |s, c, _| ok_or_refused(people::list(s, c)))),
        ("GET", ["presence"]) => return Some((Heavy, |s, c, _| ok_or_refused(people::account_presence(s, c)))),
        ("GET", ["call-log"]) => return Some((Heavy, |s, c, _| ok_or_refused(calls::list(s, c, None)))),
        ("GET", ["call-log-sync"]) => return Some((Heavy, |s, c, _| ok_or_refused(calls::sync(s, c, None)))),
        ("GET", ["a2p-sms", "messages"]) => return Some((Light, |s, c, _| ok_or_refused(a2p::list(s, c)))),
        _ => return None,
    };
    match (method, extension.contains(','), rest) {
        ("GET", true, ["presence"]) => return Some((Light, |s, c, p| ok(people::presences(s, c, p[5])))),
        ("GET", true, []) => return Some((Light, |s, c, p| ok(people::several(s, c, p[5])))),
        _ => {}
    }
    let extension = state.extension_of(extension)?;
    let writes = matches!(rest, ["sms" | "mms" | "fax" | "company-pager" | "phone-number"]);
    if writes && extension != state.identity.extension_id {
        return None;
    }
    let found: (Group, Handler) = match (method, rest) {
        ("GET", []) => (Light, |s, _, p| ok(people::get(s, &named(s, p)?))),
        ("GET", ["phone-number"]) => (Light, |s, _, _| ok(messages::list_phone_numbers(s))),
        ("POST", ["sms" | "mms"]) => (Medium, |s, c, _| messages::send_sms(s, c)),
        ("POST", ["fax"]) => (Heavy, |s, c, _| messages::send_fax(s, c)),
        ("POST", ["company-pager"]) => (Medium, |s, c, _| messages::send_pager(s, c)),
        ("GET", ["message-sync"]) => (Light, |s, c, p| ok_or_refused(message_sync::answer(s, c, &named(s, p)?))),
        ("GET", ["message-store"]) => (Light, |s, c, p| ok_or_refused(store::list(s, c, &named(s, p)?))),
        ("GET", ["message-store", ids]) if ids.contains(',') => {
            (Light, |s, c, p| ok(store::several(s, c, &named(s, p)?, p[7])))
        }
        ("GET", ["message-store", _, "content", _]) => {
            (Medium, |s, _, p| ok_or_refused(store::content(s, &named(s, p)?, p[7], p[9])))
        }
        ("GET", ["message-store", _]) => (Light, |s, _, p| ok_or_refused(store::get(s, &named(s, p)?, p[7]))),
        ("PUT", ["message-store", _]) => (Medium, |s, c, p| store::update(s, c, &named(s, p)?, p[7])),
        ("DELETE", ["message-store", _]) => (Medium, |s, c, p| store::delete(s, c, &named(s, p)?, p[7])),
        ("GET", ["presence"]) => (Light, |s, c, p| ok(people::presence(s, c, &named(s, p)?))),
        ("PUT", ["presence"]) => (Medium, |s, c, p| people::set(s, c, &named(s, p)?)),
        ("GET", ["call-log"]) => (Heavy, |s, c, p| ok_or_refused(calls::list(s, c, Some(&named(s, p)?)))),
        ("GET", ["call-log-sync"]) => (Heavy, |s, c, p| ok_or_refused(calls::sync(s, c, Some(&named(s, p)?)))),
        _ => return None,
    };
    Some(found)
}

/// The extension in a path of the API.
fn named(state: &State, path: &[&str]) -> Result<String, Refused> {
    let segment = path.get(5).copied().unwrap_or_default();
    state.extension_of(segment).ok_or_else(|| Refused::not_found("extensionId", segment))
}

#[allow(clippy::unnecessary_wraps, reason = "every route has one type")]
fn ok(reply: Reply) -> Routed {
    Ok((reply, Vec::new()))
}

fn ok_or_refused(reply: Result<Reply, Refused>) -> Routed {
    reply.map(|reply| (reply, Vec::new()))
}

fn no_such(call: &Call) -> Refused {
    // The wording of a captured response.
    Refused::new(if call.method == Method::OPTIONS { 405 } else { 404 }, "AGW-404", "Resource not found")
}

fn spend(state: &mut State, group: Group, spent: &mut Option<Spent>) -> Result<(), Refused> {
    let now = state.moment().now;
    let result = state.budgets.spend(group, &state.knobs.rate_limits, now);
    *spent = Some(result);
    match result.refused_for {
        None => Ok(()),
        Some(_) => Err(Refused::new(429, "CMN-301", "Request rate exceeded")),
    }
}

fn versions(state: &State) -> Reply {
    let body = json!({
        "uri": format!("{}/restapi/", state.base_url),
        "apiVersions": [{ "uri": format!("{}/restapi/v1.0", state.base_url), "versionString": "1.0.sandbox" }],
        "serverVersion": "sandbox",
    });
    json_reply(StatusCode::OK, &body)
}

/// Adds request id, rate limits, and the service's clock.
fn stamp(state: &mut State, reply: &mut Reply, spent: Option<Spent>) {
    let id = uuid(&mut state.rng);
    let date = http_date(state.service_time(state.moment().wall));
    let headers = reply.headers_mut();
    let mut put = |name: HeaderName, text: String| {
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.insert(name, value);
        }
    };
    put(HeaderName::from_static("rcrequestid"), id);
    put(HeaderName::from_static("routingkey"), "SBX01".into());
    put(DATE, date);
    let Some(spent) = spent else { return };
    if state.knobs.rate_limits.headers {
        put(HeaderName::from_static("x-rate-limit-group"), spent.group.name().into());
        put(HeaderName::from_static("x-rate-limit-limit"), spent.limit.to_string());
        put(HeaderName::from_static("x-rate-limit-remaining"), spent.remaining.to_string());
        put(HeaderName::from_static("x-rate-limit-window"), spent.window.as_secs().to_string());
    }
    if let Some(wait) = spent.refused_for {
        put(RETRY_AFTER, wait.as_secs().max(1).to_string());
    }
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`.
fn http_date(at: std::time::SystemTime) -> String {
    let at = time::OffsetDateTime::from(at);
    let weekday = at.weekday().to_string();
    let month = at.month().to_string();
    format!(
        "{}, {:02} {} {} {:02}:{:02}:{:02} GMT",
        weekday.get(..3).unwrap_or_default(),
        at.day(),
        month.get(..3).unwrap_or_default(),
        at.year(),
        at.hour(),
        at.minute(),
        at.second()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_http_dates() {
        let at = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(784_111_777);
        assert_eq!(http_date(at), "Sun, 06 Nov 1994 08:49:37 GMT");
    }
}
