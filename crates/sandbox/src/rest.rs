//! The API server's routes, and the headers of its responses.

use http::header::{DATE, HeaderName, HeaderValue, RETRY_AFTER};
use http::{Method, StatusCode};
use serde_json::json;

use crate::account::{a2p, calls, cards, insights, message_sync, messages as store, people, send, team};
use crate::budget::{Group, Spent};
use crate::context::Context;
use crate::filters::Outcome;
use crate::http::{Call, Refused, Reply, json_reply};
use crate::random::uuid;
use crate::state::State;
use crate::{gateway, oauth, subscriptions};

/// Serves the requests that sockets have made.
pub(crate) fn serve_sockets(state: &mut State) {
    state.pass_changes();
    while let Some(asked) = gateway::next_request(&mut state.gateway) {
        let reply = gateway::refusal_of(asked.call()).unwrap_or_else(|| handle(state, asked.call()));
        state.pass_changes();
        gateway::answer(&mut state.gateway, &mut state.ctx, asked, reply);
    }
}

/// Handles a call: token, budget, resource, headers.
pub(crate) fn handle(state: &mut State, call: &Call) -> Reply {
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
    stamp(&mut state.ctx, &mut reply, spent);
    reply
}

fn route(state: &mut State, call: &Call, path: &[&str], spent: &mut Option<Spent>) -> Outcome {
    let method = call.method.as_str();
    if let ["restapi", "oauth", rest @ ..] = path {
        // Sockets depend on the access tokens that change here.
        state.ctx.poke();
        return match (method, rest) {
            ("GET", ["authorize"]) => ok(oauth::authorize(&mut state.oauth, &mut state.ctx, call)),
            ("POST", ["token"]) => {
                spend(state, Group::Auth, spent).and_then(|()| ok(oauth::grant(&mut state.oauth, &mut state.ctx, call)))
            }
            ("POST", ["revoke"]) => spend(state, Group::Auth, spent)
                .and_then(|()| ok(oauth::revoke(&mut state.oauth, &mut state.ctx, call))),
            ("POST", ["wstoken"]) => {
                let login = oauth::check(&mut state.oauth, &state.ctx, call)?;
                spend(state, Group::Auth, spent)?;
                ok_or_refused(gateway::issue(&mut state.gateway, &mut state.ctx, login))
            }
            _ => Err(no_such(call)),
        };
    }
    if let ("GET", ["restapi"] | ["restapi", "v1.0"]) = (method, path) {
        return ok(versions(state));
    }
    oauth::check(&mut state.oauth, &state.ctx, call)?;
    if let Some(reply) = state.stubs.answer(&state.ctx.identity, call) {
        return ok(reply);
    }
    let (group, handler) = resource(state, method, path).ok_or_else(|| no_such(call))?;
    state.ctx.permit(permission(method, path))?;
    spend(state, group, spent)?;
    handler(state, call, path)
}

/// The permission that a call needs, as far as the references name it.
fn permission(method: &str, path: &[&str]) -> Option<&'static str> {
    match (method, path) {
        (_, ["restapi", "v1.0", "account", _, "extension", _, last @ ..]) => match (method, last) {
            ("GET", ["message-store" | "message-sync", ..]) => Some("ReadMessages"),
            (_, ["message-store", ..]) => Some("EditMessages"),
            ("GET", ["call-log" | "call-log-sync" | "active-calls", ..]) => Some("ReadCallLog"),
            ("GET", ["presence"]) => Some("ReadPresence"),
            ("POST", ["sms" | "mms"]) => Some("SMS"),
            ("GET", []) => Some("ReadAccounts"),
            _ => None,
        },
        ("GET", ["restapi", "v1.0", "account", _, rest @ ..]) => match rest {
            ["call-log" | "call-log-sync" | "active-calls"] => Some("ReadCallLog"),
            ["presence"] => Some("ReadPresence"),
            ["telephony", "sessions", _] => Some("CallControl"),
            ["extension"] => Some("ReadAccounts"),
            ["a2p-sms", ..] => Some("A2PSMS"),
            _ => None,
        },
        (_, ["team-messaging", ..] | ["restapi", "v1.0", "glip", ..]) => Some("TeamMessaging"),
        ("GET", ["ai", ..]) => Some("RingSense"),
        _ => None,
    }
}

type Handler = fn(&mut State, &Call, &[&str]) -> Outcome;

/// The handler of a path, and the usage plan group of its calls.
fn resource(state: &State, method: &str, path: &[&str]) -> Option<(Group, Handler)> {
    use Group::{Heavy, Light, Medium};
    let found: (Group, Handler) = match (method, path) {
        ("POST", ["restapi", "v1.0", "subscription"]) => {
            (Medium, |s, c, _| ok_or_refused(subscriptions::create(&mut s.subscriptions, &mut s.ctx, c)))
        }
        ("GET", ["restapi", "v1.0", "subscription"]) => {
            (Light, |s, c, _| ok(subscriptions::list(&mut s.subscriptions, &mut s.ctx, c)))
        }
        ("GET", ["restapi", "v1.0", "subscription", _]) => {
            (Light, |s, c, p| ok_or_refused(subscriptions::get(&mut s.subscriptions, &mut s.ctx, c, p[3])))
        }
        ("PUT", ["restapi", "v1.0", "subscription", _]) => {
            (Medium, |s, c, p| ok_or_refused(subscriptions::update(&mut s.subscriptions, &mut s.ctx, c, p[3])))
        }
        ("POST", ["restapi", "v1.0", "subscription", _, "renew"]) => {
            (Light, |s, c, p| ok_or_refused(subscriptions::renew(&mut s.subscriptions, &mut s.ctx, c, p[3])))
        }
        ("DELETE", ["restapi", "v1.0", "subscription", _]) => {
            (Medium, |s, _, p| ok_or_refused(subscriptions::delete(&mut s.subscriptions, &s.ctx, p[3])))
        }
        (_, ["restapi", "v1.0", "account", account, rest @ ..]) => {
            if *account != "~" && *account != state.ctx.identity.account_id {
                return None;
            }
            return account_resource(state, method, rest);
        }
        ("GET", ["team-messaging", "v1", "chats"] | ["restapi", "v1.0", "glip", "chats" | "groups"]) => {
            (Medium, |s, c, _| ok_or_refused(team::list_chats(&s.account.team, c)))
        }
        ("GET", ["team-messaging", "v1", "recent", "chats"] | ["restapi", "v1.0", "glip", "recent", "chats"]) => {
            (Light, |s, c, _| ok_or_refused(team::recent_chats(&s.account.team, c)))
        }
        ("GET", ["team-messaging", "v1", "chats", _]) => {
            (Light, |s, _, p| ok_or_refused(team::get_chat(&s.account.team, p[3])))
        }
        ("GET", ["team-messaging", "v1", "chats", _, "posts"]) => {
            (Medium, |s, c, p| ok_or_refused(team::list_posts(&s.account.team, &s.ctx, c, p[3], None)))
        }
        ("GET", ["team-messaging", "v1", "chats", _, "threads", _, "posts"]) => {
            (Medium, |s, c, p| ok_or_refused(team::list_posts(&s.account.team, &s.ctx, c, p[3], Some(p[5]))))
        }
        ("POST", ["team-messaging", "v1", "chats", _, "posts"]) => {
            (Medium, |s, c, p| send::create_post(&mut s.account, &mut s.ctx, c, p[3]))
        }
        ("GET", ["team-messaging", "v1", "chats", _, "posts", _]) => {
            (Light, |s, _, p| ok_or_refused(team::get_post(&s.account.team, p[3], p[5])))
        }
        ("PATCH", ["team-messaging", "v1", "chats", _, "posts", _]) => {
            (Medium, |s, c, p| team::update_post(&mut s.account.team, &mut s.ctx, c, p[3], p[5]))
        }
        ("DELETE", ["team-messaging", "v1", "chats", _, "posts", _]) => {
            (Medium, |s, _, p| team::delete_post(&mut s.account.team, &mut s.ctx, p[3], p[5]))
        }
        ("POST", ["team-messaging", "v1", "chats", _, "adaptive-cards"]) => {
            (Medium, |s, c, p| send::create_card(&mut s.account, &mut s.ctx, c, p[3]))
        }
        ("GET", ["team-messaging", "v1", "adaptive-cards", _]) => {
            (Medium, |s, _, p| ok_or_refused(cards::get(&s.account.cards, p[3])))
        }
        ("PUT", ["team-messaging", "v1", "adaptive-cards", _]) => {
            (Medium, |s, c, p| ok_or_refused(cards::update(&mut s.account.cards, &mut s.ctx, c, p[3])))
        }
        ("DELETE", ["team-messaging", "v1", "adaptive-cards", _]) => {
            (Medium, |s, _, p| ok_or_refused(cards::delete(&mut s.account.cards, p[3])))
        }
        ("GET", ["restapi", "v1.0", "glip", "chats" | "groups", _, "posts"]) => {
            (Heavy, |s, c, p| ok_or_refused(team::list_posts(&s.account.team, &s.ctx, c, p[4], None)))
        }
        ("POST", ["restapi", "v1.0", "glip", "chats" | "groups", _, "posts"]) => {
            (Heavy, |s, c, p| send::create_post(&mut s.account, &mut s.ctx, c, p[4]))
        }
        ("GET", ["ai", "ringsense", "v1", "public", "accounts", account, "domains", _, "sessions", _, "insights"])
            if *account == "~" || *account == state.ctx.identity.account_id =>
        {
            (Light, |s, _, p| ok_or_refused(insights::of_session(&s.account.insights, &s.ctx, p[7], p[9])))
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
        ("GET", []) => return Some((Light, |s, _, _| ok(send::get_account(&s.ctx)))),
        ("GET", ["extension"]) => {
            return Some((Medium, |s, c, _| ok_or_refused(people::list(&s.account.people, &s.ctx, c))));
        }
        ("GET", ["presence"]) => {
            return Some((Heavy, |s, c, _| ok_or_refused(people::account_presence(&s.account.people, &s.ctx, c))));
        }
        ("GET", ["call-log"]) => {
            return Some((Heavy, |s, c, _| ok_or_refused(calls::list(&s.account.calls, &s.ctx, c, None))));
        }
        ("GET", ["active-calls"]) => {
            return Some((Heavy, |s, c, _| ok_or_refused(calls::active(&s.account.calls, &s.ctx, c, None))));
        }
        ("GET", ["telephony", "sessions", _]) => {
            return Some((Light, |s, _, p| ok_or_refused(calls::session(&s.account.calls, p[6]))));
        }
        ("GET", ["recording", _]) => {
            return Some((Light, |s, _, p| ok_or_refused(calls::recording(&s.account.calls, &s.ctx, p[5]))));
        }
        ("GET", ["call-log-sync"]) => {
            return Some((Heavy, |s, c, _| ok_or_refused(calls::sync(&s.account.calls, &s.ctx, c, None))));
        }
        ("GET", ["a2p-sms", "messages"]) => {
            return Some((Light, |s, c, _| ok_or_refused(a2p::list(&s.account.a2p, &s.ctx, c))));
        }
        _ => return None,
    };
    match (method, extension.contains(','), rest) {
        ("GET", true, ["presence"]) => {
            return Some((Light, |s, c, p| ok(people::presences(&s.account.people, &s.ctx, c, p[5]))));
        }
        ("GET", true, []) => return Some((Light, |s, c, p| ok(people::several(&s.account.people, &s.ctx, c, p[5])))),
        _ => {}
    }
    let extension = state.ctx.extension_of(extension)?;
    let writes = matches!(rest, ["sms" | "mms" | "fax" | "company-pager" | "phone-number"]);
    if writes && extension != state.ctx.identity.extension_id {
        return None;
    }
    let found: (Group, Handler) = match (method, rest) {
        ("GET", []) => (Light, |s, _, p| ok(people::get(&s.account.people, &s.ctx, &named(&s.ctx, p)?))),
        ("GET", ["phone-number"]) => (Light, |s, _, _| ok(send::list_phone_numbers(&s.ctx))),
        ("POST", ["sms" | "mms"]) => (Medium, |s, c, _| send::send_sms(&mut s.account, &mut s.ctx, c)),
        ("POST", ["fax"]) => (Heavy, |s, c, _| send::send_fax(&mut s.account, &mut s.ctx, c)),
        ("POST", ["company-pager"]) => (Medium, |s, c, _| send::send_pager(&mut s.account, &mut s.ctx, c)),
        ("GET", ["message-sync"]) => {
            (Light, |s, c, p| ok_or_refused(message_sync::answer(&s.account.messages, &s.ctx, c, &named(&s.ctx, p)?)))
        }
        ("GET", ["message-store"]) => {
            (Light, |s, c, p| ok_or_refused(store::list(&s.account.messages, &s.ctx, c, &named(&s.ctx, p)?)))
        }
        ("GET", ["message-store", ids]) if ids.contains(',') => {
            (Light, |s, c, p| ok(store::several(&s.account.messages, &s.ctx, c, &named(&s.ctx, p)?, p[7])))
        }
        ("GET", ["message-store", _, "content", _]) => {
            (Medium, |s, _, p| ok_or_refused(store::content(&s.account.messages, &named(&s.ctx, p)?, p[7], p[9])))
        }
        ("GET", ["message-store", _]) => {
            (Light, |s, _, p| ok_or_refused(store::get(&s.account.messages, &named(&s.ctx, p)?, p[7])))
        }
        ("PUT", ["message-store", _]) => (Medium, |s, c, p| {
            let extension = named(&s.ctx, p)?;
            store::update(&mut s.account.messages, &mut s.ctx, c, &extension, p[7])
        }),
        ("DELETE", ["message-store", _]) => (Medium, |s, c, p| {
            let extension = named(&s.ctx, p)?;
            store::delete(&mut s.account.messages, &mut s.ctx, c, &extension, p[7])
        }),
        ("GET", ["presence"]) => {
            (Light, |s, c, p| ok(people::presence(&s.account.people, &s.ctx, c, &named(&s.ctx, p)?)))
        }
        ("PUT", ["presence"]) => (Medium, |s, c, p| {
            let extension = named(&s.ctx, p)?;
            people::set(&mut s.account.people, &mut s.ctx, c, &extension)
        }),
        ("GET", ["call-log"]) => {
            (Heavy, |s, c, p| ok_or_refused(calls::list(&s.account.calls, &s.ctx, c, Some(&named(&s.ctx, p)?))))
        }
        ("GET", ["active-calls"]) => {
            (Heavy, |s, c, p| ok_or_refused(calls::active(&s.account.calls, &s.ctx, c, Some(&named(&s.ctx, p)?))))
        }
        ("GET", ["call-log-sync"]) => {
            (Heavy, |s, c, p| ok_or_refused(calls::sync(&s.account.calls, &s.ctx, c, Some(&named(&s.ctx, p)?))))
        }
        _ => return None,
    };
    Some(found)
}

/// The extension in a path of the API.
fn named(ctx: &Context, path: &[&str]) -> Result<String, Refused> {
    let segment = path.get(5).copied().unwrap_or_default();
    ctx.extension_of(segment).ok_or_else(|| Refused::not_found("extensionId", segment))
}

#[allow(clippy::unnecessary_wraps, reason = "every route has one type")]
fn ok(reply: Reply) -> Outcome {
    Ok((reply, Vec::new()))
}

fn ok_or_refused(reply: Result<Reply, Refused>) -> Outcome {
    reply.map(|reply| (reply, Vec::new()))
}

fn no_such(call: &Call) -> Refused {
    // The wording of a captured response.
    Refused::new(if call.method == Method::OPTIONS { 405 } else { 404 }, "AGW-404", "Resource not found")
}

fn spend(state: &mut State, group: Group, spent: &mut Option<Spent>) -> Result<(), Refused> {
    let now = state.ctx.moment().now;
    let result = state.budgets.spend(group, &state.ctx.behavior.rate_limits, now);
    *spent = Some(result);
    match result.refused_for {
        None => Ok(()),
        Some(_) => Err(Refused::new(429, "CMN-301", "Request rate exceeded")),
    }
}

fn versions(state: &State) -> Reply {
    let body = json!({
        "uri": format!("{}/restapi/", state.ctx.base_url),
        "apiVersions": [{ "uri": format!("{}/restapi/v1.0", state.ctx.base_url), "versionString": "1.0.sandbox" }],
        "serverVersion": "sandbox",
    });
    json_reply(StatusCode::OK, &body)
}

/// Adds request id, rate limits, and the service's clock.
fn stamp(ctx: &mut Context, reply: &mut Reply, spent: Option<Spent>) {
    let id = uuid(&mut ctx.rng);
    let date = http_date(ctx.service_now());
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
    if ctx.behavior.rate_limits.headers {
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
