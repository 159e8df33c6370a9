//! Behavior with extreme values, and callers from other machines.

use std::sync::{Arc, Mutex};

use crate::support::bare::*;
use reqwest::Method;
use ringcentral_sandbox::Sandbox;
use serde_json::{Value, json};

/// The paths of all numeric settings.
fn numbers(at: &Value, path: &mut Vec<String>, found: &mut Vec<Vec<String>>) {
    match at {
        Value::Object(fields) => {
            for (name, value) in fields {
                path.push(name.clone());
                numbers(value, path, found);
                path.pop();
            }
        }
        Value::Number(_) => found.push(path.clone()),
        _ => {}
    }
}

/// A patch that sets one setting.
fn patch(path: &[String], value: &Value) -> Value {
    path.iter().rev().fold(value.clone(), |inner, name| json!({ name: inner }))
}

/// Calls every service with short timeouts.
async fn use_it(sandbox: &Sandbox) {
    let quickly = reqwest::Client::builder().no_proxy().timeout(ms(25)).build().unwrap();
    let form = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=";
    let form = format!("{form}{}&access_token_ttl=600&refresh_token_ttl=3600", sandbox.jwt().expose());
    let api = sandbox.base_url();
    let login = quickly
        .post(format!("{api}/restapi/oauth/token"))
        .header("content-type", "application/x-www-form-urlencoded")
        .basic_auth(sandbox.client_id(), Some(sandbox.client_secret().expose()))
        .body(form);
    let Ok(answer) = login.send().await else { return };
    let token = body(answer).await.1["access_token"].as_str().unwrap_or_default().to_owned();
    let call = async |method: Method, path: &str, json: Option<Value>| {
        let request = quickly.request(method, format!("{api}{path}")).bearer_auth(&token);
        let request = match json {
            Some(json) => request.header("content-type", "application/json").body(json.to_string()),
            None => request,
        };
        match request.send().await {
            Ok(answer) => answer.text().await.ok().and_then(|text| serde_json::from_str::<Value>(&text).ok()),
            Err(_) => None,
        }
    };
    let request = json!({ "eventFilters": [STORE, PRESENCE], "deliveryMode": { "transportType": "PubNub" } });
    let info = call(Method::POST, SUBSCRIPTION, Some(request)).await.unwrap_or_default();
    let id = info["id"].as_str().unwrap_or("none");
    let sms =
        json!({ "from": { "phoneNumber": "+12055550100" }, "to": [{ "phoneNumber": "+12055550199" }], "text": "x" });
    call(Method::POST, "/restapi/v1.0/account/~/extension/~/sms", Some(sms)).await;
    for (fixture, rest) in [("inbound_sms", json!({})), ("missed_call", json!({}))] {
        let mut asked = rest;
        asked["fixture"] = fixture.into();
        call(Method::POST, "/_sandbox/trigger", Some(asked)).await;
    }
    call(Method::POST, &format!("{SUBSCRIPTION}/{id}/renew"), None).await;
    if let (Some(key), Some(channel)) =
        (info["deliveryMode"]["subscriberKey"].as_str(), info["deliveryMode"]["address"].as_str())
    {
        for cursor in ["0", "17000000000000000&tr=12", "18446744073709551615&tr=12"] {
            let url = format!("{}/v2/subscribe/{key}/{channel}/0?tt={cursor}&uuid=t", sandbox.pubnub_origin());
            let _answered = quickly.get(url).send().await;
        }
    }
    let extension = "/restapi/v1.0/account/~/extension/~";
    for path in ["message-sync", "call-log-sync"] {
        let first = call(Method::GET, &format!("{extension}/{path}?syncType=FSync&recordCount=250"), None).await;
        let token = first.and_then(|it| it["syncInfo"]["syncToken"].as_str().map(str::to_owned)).unwrap_or_default();
        call(Method::GET, &format!("{extension}/{path}?syncType=ISync&syncToken={token}"), None).await;
    }
    for path in ["message-store", "call-log", "presence?detailedTelephonyState=true", ""] {
        call(Method::GET, &format!("{extension}/{path}"), None).await;
    }
    for path in ["a2p-sms/messages", "extension", "presence", "call-log"] {
        call(Method::GET, &format!("/restapi/v1.0/account/~/{path}"), None).await;
    }
    call(Method::GET, "/team-messaging/v1/chats", None).await;
    let socket = call(Method::POST, "/restapi/oauth/wstoken", None).await.unwrap_or_default();
    if let (Some(uri), Some(token)) = (socket["uri"].as_str(), socket["ws_access_token"].as_str()) {
        let url = format!("{}?access_token={token}", uri.replacen("ws", "http", 1));
        let upgrade = quickly
            .get(url)
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "AAAAAAAAAAAAAAAAAAAAAA==");
        if let Ok(upgraded) = upgrade.send().await
            && let Ok(mut socket) = upgraded.upgrade().await
        {
            // The first bytes, and the effects of immediate timers.
            let mut read = [0; 512];
            let first = tokio::io::AsyncReadExt::read(&mut socket, &mut read);
            let _first = tokio::time::timeout(ms(10), first).await;
        }
    }
    agent(sandbox, &quickly).await;
    call(Method::DELETE, &format!("{SUBSCRIPTION}/{id}"), None).await;
}

async fn agent(sandbox: &Sandbox, quickly: &reqwest::Client) {
    let center = sandbox.contact_center();
    let base = format!("{}/inContactAPI/services/v23.0/agent-sessions", center.url().trim_end_matches('/'));
    let bearer = center.access_token();
    let start = quickly
        .post(&base)
        .bearer_auth(bearer.expose())
        .header("content-type", "application/json")
        .body(json!({ "stationId": "", "stationPhoneNumber": "+12055550100" }).to_string());
    let Ok(answer) = start.send().await else { return };
    let id = body(answer).await.1["sessionId"].as_str().unwrap_or_default().to_owned();
    let _pushed = center.push(r#"{"Type":"Mute"}"#);
    for timeout in ["0", "60"] {
        let id: String = url::form_urlencoded::byte_serialize(id.as_bytes()).collect();
        let url = format!("{base}/{id}/get-next-event?timeout={timeout}");
        let _answered = quickly.get(url).bearer_auth(bearer.expose()).send().await;
    }
    let id: String = url::form_urlencoded::byte_serialize(id.as_bytes()).collect();
    let _ended = quickly.delete(format!("{base}/{id}?forceLogoff=true")).bearer_auth(bearer.expose()).send().await;
}

#[tokio::test]
async fn no_extreme_setting_panics_a_handler() {
    let panics = Arc::new(Mutex::new(Vec::<String>::new()));
    let seen = panics.clone();
    std::panic::set_hook(Box::new(move |info| {
        // Panics of other tests in this process do not count.
        if info.location().is_some_and(|at| at.file().contains("sandbox/src")) {
            seen.lock().unwrap().push(info.to_string());
        }
    }));
    let sandbox = quick().start().await.unwrap();
    let control = async |method: Method, json: Option<&Value>| {
        let request = http().request(method, format!("{}/_sandbox/behavior", sandbox.base_url()));
        let request = match json {
            Some(json) => request.body(json.to_string()),
            None => request,
        };
        body(request.send().await.unwrap()).await
    };
    let all = control(Method::GET, None).await.1;
    let mut found = Vec::new();
    numbers(&all, &mut Vec::new(), &mut found);
    assert!(found.len() > 50, "{}", found.len());
    for path in found {
        let usual = path.iter().fold(&all, |at, name| &at[name]).clone();
        for value in [json!(0), json!(u64::MAX), json!(i64::MIN)] {
            // Values of the wrong type are refused.
            let (status, answer) = control(Method::PATCH, Some(&patch(&path, &value))).await;
            assert!(status == 200 || status == 400, "{path:?} {value}: {status} {answer}");
            if status == 200 {
                use_it(&sandbox).await;
            }
            let found = std::mem::take(&mut *panics.lock().unwrap());
            assert!(found.is_empty(), "{path:?} {value}: {found:?}");
        }
        let (status, answer) = control(Method::PATCH, Some(&patch(&path, &usual))).await;
        assert_eq!(status, 200, "{path:?}: {answer}");
    }
    drop(std::panic::take_hook());
}

#[tokio::test]
async fn the_control_api_accepts_only_callers_on_loopback() {
    let sandbox = quick().start().await.unwrap();
    let ask = async |path: &str, headers: &[(&str, &str)]| {
        let mut request = http().get(format!("{}{path}", sandbox.base_url()));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await.unwrap().status().as_u16()
    };
    for path in ["/_sandbox/state", "/_sandbox/requests", "/_sandbox/behavior"] {
        assert_eq!(ask(path, &[]).await, 200);
        assert_eq!(ask(path, &[("host", "localhost:1234")]).await, 200);
        for headers in [
            &[("host", "evil.example")][..],
            &[("host", "127.0.0.1.evil.example:80")],
            &[("origin", "http://evil.example")],
            &[("host", "localhost"), ("origin", "null")],
        ] {
            assert_eq!(ask(path, headers).await, 403, "{path} {headers:?}");
        }
    }
    // The service itself answers under any host name.
    assert_eq!(ask("/restapi/v1.0/subscription", &[("host", "evil.example")]).await, 401);
}
