//! Starts, joins, ends and logins at the sandbox's Contact Center by a bare client, and the control
//! API.

use std::time::Duration;

use crate::support::center::*;
use reqwest::Method;
use ringcentral_sandbox::agent::{EndWithContacts, ExistingSession, Fate};
use ringcentral_sandbox::{Fault, Operation, Service};
use serde_json::{Value, json};

const PHONE: &str = "+12055550100";

#[tokio::test]
async fn a_refused_start_has_the_services_message() {
    let (_sandbox, client) = sandbox(|_| {}).await;
    for (body, want) in [
        (json!({}), "InvalidPhoneNumberOrStation"),
        (json!({ "stationId": "", "stationPhoneNumber": "" }), "InvalidPhoneNumberOrStation"),
        (json!({ "stationId": 7, "stationPhoneNumber": PHONE }), "InvalidPhoneNumberOrStation"),
        (json!({ "stationPhoneNumber": "911" }), "InvalidPhoneNumberOrStation"),
        (json!({ "stationId": "x" }), "Invalid parameter 'stationId', must be type Int32"),
        (json!({ "stationId": "2147483648" }), "Invalid parameter 'stationId', must be type Int32"),
        (json!({ "stationPhoneNumber": PHONE, "asAgentId": "x" }), "InvalidAgentId"),
        (json!({ "stationPhoneNumber": PHONE, "inactivityTimeout": 29 }), "Invalid parameter 'inactivityTimeout'"),
        (json!({ "stationPhoneNumber": PHONE, "inactivityTimeout": 301 }), "Invalid parameter 'inactivityTimeout'"),
        (json!({ "stationPhoneNumber": PHONE, "inactivityTimeout": "soon" }), "Invalid parameter 'inactivityTimeout'"),
    ] {
        let answer = client.post("", body.clone()).await;
        assert_eq!((answer.status, answer.body["error_description"].as_str()), (400, Some(want)), "{body}");
        assert_eq!((answer.header("icStatusDescription"), answer.branch()), (Some(want), None), "{body}");
    }
    assert!(client.center.session().is_none());
    for body in [
        json!({ "stationPhoneNumber": PHONE, "stationId": "", "inactivityTimeout": 0 }),
        json!({ "stationId": 7, "asAgentId": "7002" }),
        json!({ "stationPhoneNumber": "webRTC", "asAgentId": "7003", "inactivityTimeout": "300" }),
        json!({ "stationPhoneNumber": "WebRTC", "asAgentId": "7004" }),
    ] {
        assert_eq!(client.post("", body.clone()).await.status, 202, "{body}");
    }
    for (body, want) in [
        (json!({ "stationPhoneNumber": PHONE, "asAgentId": "7005" }), "PhoneNumberInUse"),
        (json!({ "stationId": "7", "asAgentId": "7005" }), "StationIDInUse"),
    ] {
        let answer = client.post("", body).await;
        assert_eq!((answer.status, answer.header("icStatusDescription")), (400, Some(want)));
    }
}

#[tokio::test]
async fn a_start_comes_as_json_form_or_query_to_any_version_in_any_casing() {
    let (_sandbox, client) = sandbox(|_| {}).await;
    let form = "application/x-www-form-urlencoded";
    for (agent, path, kind, body) in [
        ("1", "/inContactAPI/services/v23.0/agent-sessions", form, "stationPhoneNumber=%2B12055550101&asAgentId=1"),
        ("2", "/INCONTACTAPI/services/V8/agent-sessions?stationPhoneNumber=2055550102&asAgentId=2", form, ""),
        (
            "3",
            "/moved/incontactapi/Services/v33.0/Agent-Sessions",
            "application/json",
            r#"{"stationphonenumber":"2055550103","asagentid":3}"#,
        ),
    ] {
        let request = client.http.post(format!("{}{path}", client.center.url()));
        let request = request.header("authorization", format!("Bearer {}", client.token));
        let answer = sent(request.header("content-type", kind).header("CorrelationId", "c-1").body(body)).await;
        assert_eq!((answer.status, answer.header("correlationid")), (202, Some("c-1")), "{path}: {}", answer.text);
        assert!(client.center.for_agent(agent).session().is_some(), "{path}");
    }
}

#[tokio::test]
async fn f34_f35_an_existing_session_is_joined() {
    let (sandbox, client) = sandbox(|_| {}).await;
    let none = client.post("/join", json!({})).await;
    assert_eq!((none.status, none.header("icStatusDescription")), (409, Some("NoAgentSession")));
    let first = client.start().await;
    let again = client.post("", json!({ "stationPhoneNumber": "+12055550111" })).await;
    assert_eq!((again.status, again.body["error"].as_str()), (409, Some("SessionInProgress")));
    sandbox.behavior(|behavior| behavior.agent.existing_session = ExistingSession::BadRequest);
    let again = client.post("", json!({ "stationPhoneNumber": "+12055550111" })).await;
    assert_eq!((again.status, again.body["error_description"].as_str()), (400, Some("SessionInProgress")));
    sandbox.behavior(|behavior| behavior.agent.started_status = 200);
    let joined = client.post("/join", json!({ "asAgentId": "7001" })).await;
    assert_eq!(joined.status, 200);
    assert_ne!(joined.id(), first);
    let snapshot = client.poll(&joined.id(), 60).await;
    assert_eq!(snapshot.events(), ["AgentSessionStart", "AgentState Unavailable"]);
    sandbox.faults().inject(Operation::AgentStart, Fault::status(202));
    let empty = client.post("", json!({ "stationPhoneNumber": "+12055550112", "asAgentId": "9" })).await;
    assert_eq!((empty.status, empty.text.as_str()), (202, ""));
}

#[tokio::test]
async fn f50_an_end_is_delivered_once_and_refused_if_the_setting_is_set() {
    let (sandbox, client) = sandbox(|_| {}).await;
    let id = client.live().await;
    client.center.call("+12055550143").unwrap();
    let id = client.poll(&id, 0).await.id();
    sandbox.behavior(|behavior| behavior.agent.end_with_contacts = EndWithContacts::Refused);
    assert_eq!(client.end(&id, "").await.status, 409);
    assert_eq!(client.end(&id, "?forceLogoff=false").await.status, 409);
    sandbox.behavior(|behavior| behavior.agent.end_with_contacts = EndWithContacts::Unsuccessful);
    assert_eq!(client.end(&id, "").await.status, 202);
    let answer = client.poll(&id, 60).await;
    assert_eq!(answer.body["events"][0]["Success"], "False");
    assert!(!client.center.session().unwrap().is_over);
    let path = format!("/{}", encoded(&id));
    let body = client.request(Method::DELETE, &path).header("content-type", "application/json");
    assert_eq!(sent(body.body(r#"{"endContacts":true}"#)).await.status, 202);
    let answer = client.poll(&answer.id(), 60).await;
    assert_eq!(answer.events(), ["CallContactEvent Disconnected True", "AgentState Available", "AgentSessionEnd"]);
    assert_eq!(client.end(&id, "").await.status, 409);
    for path in ["state?state=Available", "keep-alive", "agent-phone/mute", "interactions/1/hold"] {
        let over = client.post(&format!("/{}/{path}", encoded(&id)), json!({})).await;
        assert_eq!((over.status, over.branch()), (409, None), "{path}");
    }
    assert_eq!(client.end("", "").await.status, 404);
    sandbox.advance(Duration::from_secs(120));
    assert_eq!(client.end(&id, "").await.status, 404);
    // The agent is free for another session, in which the previous ids are unknown.
    client.live().await;
    assert_eq!(client.poll(&id, 0).await.status, 404);
}

#[tokio::test]
async fn an_end_succeeds_if_forced_or_without_open_contacts() {
    let (_sandbox, client) = sandbox(|behavior| behavior.end_with_contacts = EndWithContacts::Refused).await;
    let id = client.live().await;
    assert_eq!(client.end(&id, "").await.status, 202);
    let id = client.live().await;
    client.center.call("+12055550143").unwrap();
    assert_eq!(client.end(&id, "").await.status, 409);
    assert_eq!(client.end(&id, "?forceLogoff=true").await.status, 202);
    assert!(client.center.session().unwrap().is_over);
}

#[tokio::test]
async fn commands_have_their_effects_as_events() {
    let (sandbox, client) = sandbox(|behavior| behavior.first_state = "LoggedIn".into()).await;
    let s0 = client.start().await;
    let answer = client.poll(&s0, 0).await;
    assert_eq!(answer.events()[1], "AgentState LoggedIn");
    let mut id = answer.id();
    for (path, body, want) in [
        ("state", json!({ "state": "available", "reason": "Lunch" }), "AgentState Available"),
        ("state", json!({ "state": "UNAVAILABLE", "reason": "Lunch" }), "AgentState Unavailable"),
        ("agent-phone/dial", json!({}), "AgentLeg Dialing False,AgentLeg Active False"),
        ("agent-phone/mute", json!({}), "Mute"),
        ("agent-phone/unmute", json!({}), "Mute"),
        ("agent-phone/end", json!({}), "AgentLeg Disconnected True"),
    ] {
        assert_eq!(client.post(&format!("/{}/{path}", encoded(&s0)), body).await.status, 202, "{path}");
        let answer = client.poll(&id, 0).await;
        assert_eq!(answer.events().join(","), want, "{path}");
        let event = &answer.body["events"][0];
        match path {
            "state" => assert_eq!(event["CurrentOutReason"], if want.ends_with("Unavailable") { "Lunch" } else { "" }),
            "agent-phone/mute" => assert_eq!(event["AgentMuted"], "True"),
            "agent-phone/unmute" => assert_eq!(event["AgentMuted"], "False"),
            _ => {}
        }
        id = answer.id();
    }
    for path in ["keep-alive", "event-queue-resize"] {
        assert_eq!(
            client.post(&format!("/{}/{path}", encoded(&id)), json!({ "throttlequeue": true })).await.status,
            202
        );
    }
    for (method, path, status) in [
        (Method::POST, "/x/state", 404),
        (Method::POST, "/x/keep-alive", 404),
        (Method::POST, &*format!("/{}/state", encoded(&id)), 400),
        (Method::POST, &*format!("/{}/agent-phone/explode", encoded(&id)), 404),
        (Method::POST, &*format!("/{}/interactions/1/explode", encoded(&id)), 404),
        (Method::GET, "//get-next-event?timeout=0", 405),
        (Method::POST, &*format!("/{}/get-next-event?timeout=0", encoded(&id)), 405),
        (Method::GET, "/x/nothing", 404),
    ] {
        let answer = sent(client.request(method, path)).await;
        assert_eq!((answer.status, answer.branch()), (status, None), "{path}");
    }
    // A command counts as activity like a poll.
    let minutes = |minutes: u64| sandbox.advance(Duration::from_secs(60 * minutes));
    minutes(4);
    client.post(&format!("/{}/keep-alive", encoded(&id)), json!({})).await;
    minutes(4);
    assert_eq!(client.poll(&id, 0).await.status, 304);
    let time = client.http.get(format!("{}/incontactapi/services/v23.0/server-time", client.center.url()));
    let time = sent(time.header("authorization", format!("Bearer {}", client.token))).await;
    assert!(time.body["ServerTime"].as_str().is_some_and(|time| time.ends_with('Z')), "{}", time.text);
}

#[tokio::test]
async fn a_call_is_answered_without_a_second_leg_if_one_is_up() {
    let (_sandbox, client) = sandbox(|_| {}).await;
    let id = client.live().await;
    let contact = client.center.call("+12055550143").unwrap();
    let mut id = client.poll(&id, 0).await.id();
    for (path, want) in [
        ("agent-phone/dial".to_owned(), vec!["AgentLeg Dialing False", "AgentLeg Active False"]),
        (format!("interactions/{contact}/activate"), vec!["CallContactEvent Active False"]),
    ] {
        assert_eq!(client.post(&format!("/{}/{path}", encoded(&id)), json!({})).await.status, 202, "{path}");
        let answer = client.poll(&id, 0).await;
        assert_eq!(answer.events(), want);
        id = answer.id();
    }
}

#[tokio::test]
async fn a_call_without_a_token_is_denied() {
    let (_sandbox, client) = sandbox(|_| {}).await;
    let id = client.live().await;
    for (method, path) in [
        (Method::POST, String::new()),
        (Method::POST, "/join".into()),
        (Method::DELETE, format!("/{}", encoded(&id))),
        (Method::POST, format!("/{}/keep-alive", encoded(&id))),
        (Method::POST, format!("/{}/interactions/1/hold", encoded(&id))),
    ] {
        let answer = sent(client.http.request(method, format!("{}{path}", client.base))).await;
        assert_eq!((answer.status, answer.branch()), (401, None), "{path}");
    }
    assert!(!client.center.session().unwrap().is_over);
}

/// A request to a login, with its answer.
async fn login(client: &Client, path: &str, basic: Option<(&str, &str)>, form: &[(&str, &str)]) -> Answer {
    let form = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
    let mut request = client.http.post(format!("{}{path}", client.center.url()));
    if let Some((user, password)) = basic {
        request = request.basic_auth(user, Some(password));
    }
    sent(request.header("content-type", "application/x-www-form-urlencoded").body(form)).await
}

/// The answer to a poll with this token; 304 requires a session.
async fn with_token(client: &Client, token: &str, id: &str) -> u16 {
    let url = format!("{}/{}/get-next-event?timeout=0", client.base, encoded(id));
    sent(client.http.get(url).header("authorization", format!("Bearer {token}"))).await.status
}

#[tokio::test]
async fn f16_f21_central_logs_in_refreshes_and_expires() {
    let (sandbox, client) = sandbox(|_| {}).await;
    let id = client.live().await;
    let (app, username, password) = client.center.central_login();
    let (name, number) = app.expose().split_once(':').unwrap();
    let path = "/InContactAuthorizationServer/Token";
    let basic = Some((name, number));
    let right = [("grant_type", "password"), ("username", &*username), ("password", password.expose()), ("scope", "")];
    let answer = login(&client, path, basic, &right).await;
    assert_eq!(
        (answer.status, &answer.body["expires_in"], &answer.body["token_type"]),
        (200, &json!(3600), &json!("bearer"))
    );
    assert_eq!(answer.body["resource_server_base_uri"], format!("{}/inContactAPI/", client.center.url()));
    assert_eq!(answer.body["refresh_token_server_uri"], client.center.central_url());
    let access = answer.body["access_token"].as_str().unwrap().to_owned();
    assert_eq!(with_token(&client, &access, &id).await, 304);

    let json = client.http.post(client.center.central_url()).basic_auth(name, Some(number));
    let json = json.header("content-type", "application/json").body(
        json!({ "grant_type": "password", "username": username, "password": password.expose(), "scope": "" })
            .to_string(),
    );
    assert_eq!(sent(json).await.status, 200);

    let admin = [right[0], right[1], right[2], ("scope", "AdminApi RealTimeApi")];
    let other = login(&client, path, basic, &admin).await;
    assert_eq!(with_token(&client, other.body["access_token"].as_str().unwrap(), &id).await, 403);
    assert_eq!(other.body["scope"], "AdminApi");
    let renew = [("grant_type", "refresh_token"), ("refresh_token", other.body["refresh_token"].as_str().unwrap())];
    let other = login(&client, path, basic, &renew).await;
    assert_eq!(
        with_token(&client, other.body["access_token"].as_str().unwrap(), &id).await,
        403,
        "no more by a renewal"
    );
    let scoped = login(&client, path, basic, &[right[0], right[1], right[2], ("scope", "RealTimeApi agentApi")]).await;
    assert_eq!(with_token(&client, scoped.body["access_token"].as_str().unwrap(), &id).await, 304);
    assert_eq!(scoped.body["scope"], "RealTimeApi agentApi");
    for (basic, form) in [
        (None, right),
        (Some((name, "1")), right),
        (basic, [right[0], right[1], ("password", "x"), right[3]]),
        (basic, [right[0], ("username", "x"), right[2], right[3]]),
        (basic, [("grant_type", "refresh_token"), ("refresh_token", "x"), right[2], right[3]]),
    ] {
        let refused = login(&client, path, basic, &form).await;
        assert_eq!(refused.status, 401, "{}", refused.text);
        assert!(refused.body["error_description"].is_string());
    }
    assert_eq!(login(&client, path, basic, &[("grant_type", "magic")]).await.status, 400);

    client.center.expire_tokens();
    assert_eq!(with_token(&client, &access, &id).await, 401);
    let refresh = answer.body["refresh_token"].as_str().unwrap().to_owned();
    let renew = [("grant_type", "refresh_token"), ("refresh_token", &*refresh)];
    let renewed = login(&client, path, basic, &renew).await;
    let access = renewed.body["access_token"].as_str().unwrap();
    assert_eq!(with_token(&client, access, &id).await, 304);
    sandbox.advance(Duration::from_secs(3600));
    assert_eq!(with_token(&client, access, &id).await, 401, "after its hour");
    let who = [("token", access)];
    assert_eq!(login(&client, "/InContactAuthorizationServer/Token/WhoAmI", None, &who).await.status, 401);
    assert_eq!(login(&client, path, basic, &renew).await.status, 200, "the second hour");
    sandbox.advance(Duration::from_secs(3600));
    assert_eq!(login(&client, path, basic, &renew).await.status, 401);
    for token in ["", "x"] {
        assert_eq!(with_token(&client, token, &id).await, 401);
    }
    assert_eq!(sent(client.http.get(format!("{}/x/get-next-event?timeout=0", client.base))).await.branch(), Some("6"));
}

#[tokio::test]
async fn the_setting_sets_the_lifetime_of_a_refresh_token() {
    let (sandbox, client) = sandbox(|behavior| behavior.refresh_ttl = Duration::from_secs(600)).await;
    let post = async |path: &str, body: Value| {
        let request = client.http.post(format!("{}{path}", client.center.url()));
        sent(request.header("content-type", "application/json").body(body.to_string())).await
    };
    let (key, secret) = client.center.access_key();
    let keys = json!({ "accessKeyId": key.expose(), "accessKeySecret": secret.expose() });
    let first = post("/authentication/v1/token/access-key", keys).await.body["refresh_token"].clone();
    sandbox.advance(Duration::from_secs(500));
    let renewed = post("/public/user/refresh", json!({ "token": first })).await;
    assert_eq!((renewed.status, &renewed.body["refreshTokenExpirationTimeSec"]), (200, &json!(600)));
    sandbox.advance(Duration::from_secs(100));
    assert_eq!(post("/public/user/refresh", json!({ "token": first })).await.status, 401);
    let second = &renewed.body["refreshToken"];
    assert_eq!(post("/public/user/refresh", json!({ "token": second })).await.status, 200);
}

#[tokio::test]
async fn user_hub_and_cxone_accept_access_keys() {
    let (sandbox, client) = sandbox(|_| {}).await;
    let id = client.live().await;
    let (key, secret) = client.center.access_key();
    let post = async |path: &str, body: Value| {
        let request = client.http.post(format!("{}{path}", client.center.url()));
        sent(request.header("content-type", "application/json").body(body.to_string())).await
    };
    let keys = json!({ "accessKeyId": key.expose(), "accessKeySecret": secret.expose() });
    let answer = post("/authentication/v1/token/access-key", keys).await;
    assert_eq!(with_token(&client, answer.body["access_token"].as_str().unwrap(), &id).await, 304);
    let renewed = post("/public/user/refresh", json!({ "token": answer.body["refresh_token"] })).await;
    assert_eq!(
        (&renewed.body["tokenExpirationTimeSec"], &renewed.body["refreshTokenExpirationTimeSec"]),
        (&json!(3600), &json!(7200))
    );
    assert_eq!(with_token(&client, renewed.body["token"].as_str().unwrap(), &id).await, 304);
    assert!(renewed.body["refreshToken"].is_string());
    for wrong in
        [json!({ "accessKeyId": key.expose() }), json!({ "accessKeyId": "x", "accessKeySecret": secret.expose() })]
    {
        assert_eq!(post("/authentication/v1/token/access-key", wrong).await.status, 401);
    }
    assert_eq!(post("/public/user/refresh", json!({ "token": "x" })).await.status, 401);

    let get = async |path: &str| sent(client.http.get(format!("{}{path}", client.center.url()))).await;
    let openid = get("/.well-known/openid-configuration").await;
    assert_eq!(openid.body["token_endpoint"], format!("{}/auth/token", client.center.url()));
    let (client_id, client_secret) = client.center.client();
    let basic = Some((&*client_id, client_secret.expose()));
    let form = [("grant_type", "password"), ("username", key.expose()), ("password", secret.expose())];
    let answer = login(&client, "/auth/token", basic, &form).await;
    let access = answer.body["access_token"].as_str().unwrap();
    assert_eq!(with_token(&client, access, &id).await, 304);
    let decoded = |token: &str| -> Value {
        use base64::Engine as _;
        let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
        serde_json::from_slice(&claims).unwrap()
    };
    let claims = decoded(access);
    let configuration =
        get(&format!("/.well-known/cxone-configuration?tenantId={}", claims["tenantId"].as_str().unwrap())).await;
    assert_eq!(configuration.body["api_endpoint"], client.center.url());
    let host = client.center.url().replace("http://127.0.0.1", "localhost");
    let discovered = (&configuration.body["cluster"], &configuration.body["acdDomain"]);
    assert_eq!(discovered, (&json!("c99"), &json!(host)));
    assert_eq!(get("/.well-known/cxone-configuration").await.body["tenantId"], claims["tenantId"], "of the region");
    for base in ["https://moved.example/x/inContactAPI/", "https://moved.example/x"] {
        sandbox.behavior(|behavior| behavior.agent.resource_server = Some(base.to_owned()));
        assert_eq!(
            get("/.well-known/cxone-configuration").await.body["api_endpoint"],
            "https://moved.example/x",
            "{base}"
        );
    }
    sandbox.behavior(|behavior| behavior.agent.resource_server = None);
    assert_eq!(get("/.well-known/cxone-configuration?tenantId=x").await.status, 404);
    let who = post("/IncontactAuthorizationServer/token/WhoAmI", json!({ "token": access })).await;
    assert_eq!(who.body["resource_server_base_uri"], format!("{}/inContactAPI/", client.center.url()));
    assert_eq!(post("/incontactauthorizationserver/token/whoami", json!({ "token": "x" })).await.status, 401);
    let renew = [("grant_type", "refresh_token"), ("refresh_token", answer.body["refresh_token"].as_str().unwrap())];
    assert_eq!(login(&client, "/auth/token", basic, &renew).await.status, 200);
    assert_eq!(login(&client, "/auth/token", None, &form).await.status, 401);
    assert_eq!(login(&client, "/auth/token", Some((&*client_id, "x")), &form).await.status, 401);
    assert_eq!(login(&client, "/auth/token", Some(("x", client_secret.expose())), &form).await.status, 401);
    assert_eq!(login(&client, "/auth/token", basic, &[form[0], form[1], ("password", "x")]).await.status, 401);
    assert_eq!(login(&client, "/auth/token", basic, &[form[0], ("username", "x"), form[2]]).await.status, 401);
    assert_eq!(login(&client, "/auth/token", basic, &[("grant_type", "magic")]).await.status, 400);
    // The token states its lifetime.
    sandbox.behavior(|behavior| behavior.agent.token_ttl *= 2);
    let longer = login(&client, "/auth/token", basic, &form).await;
    let later = decoded(longer.body["access_token"].as_str().unwrap());
    assert!(later["exp"].as_u64() >= claims["exp"].as_u64().map(|exp| exp + 3600), "{later} {claims}");
    client.center.revoke_tokens();
    assert_eq!(login(&client, "/auth/token", basic, &renew).await.status, 401);
    assert_eq!(with_token(&client, access, &id).await, 401);
}

#[tokio::test]
async fn over_http_events_have_their_fates_and_agents_their_sessions() {
    let (sandbox, client) = sandbox(|_| {}).await;
    let ask = async |method: Method, path: &str, body: Value| {
        let request = client.http.request(method, format!("{}/_sandbox{path}", sandbox.base_url()));
        sent(request.body(body.to_string())).await
    };
    let fates = async || -> Vec<String> {
        let events = ask(Method::GET, "/agents/7001/events", json!(null)).await.body["events"].clone();
        events.as_array().unwrap().iter().map(|event| event["fate"].as_str().unwrap().to_owned()).collect()
    };
    let id = client.live().await;
    let custom = json!({ "type": "CustomEvent", "eventName": "a" });
    ask(Method::POST, "/agents/events", json!({ "events": [custom, custom] })).await;
    assert_eq!(fates().await[3..], ["overwritten", "queued"]);
    client.post("/join", json!({})).await;
    client.poll(&id, 0).await;
    assert_eq!(fates().await[3..], ["overwritten", "missed"]);

    let other = client.post("", json!({ "stationPhoneNumber": "+12055550102", "asAgentId": "7002" })).await;
    assert_eq!(other.status, 202);
    let of = json!({ "agent": "7002", "from": "+1", "events": [{}], "message": "RemoteLogoff" });
    let part = |name: &str| json!({ "agent": "7002", name: of[name] });
    assert_eq!(ask(Method::POST, "/agents/events", part("events")).await.body["numbers"], json!([4]));
    ask(Method::POST, "/agents/call", part("from")).await;
    assert_eq!(client.center.session().unwrap().contacts.len(), 0);
    assert_eq!(client.center.for_agent("7002").session().unwrap().contacts.len(), 1);
    ask(Method::POST, "/agents/terminate", part("message")).await;
    assert!(client.center.for_agent("7002").session().unwrap().is_over);

    ask(Method::POST, "/agents/terminate", json!({ "message": "RemoteLogoff" })).await;
    client.start().await;
    assert_eq!(fates().await, ["queued"; 3], "of the last session");
}

#[tokio::test]
async fn over_http_access_tokens_expire_and_all_are_revoked() {
    let (sandbox, client) = sandbox(|_| {}).await;
    let (key, secret) = client.center.access_key();
    let post = async |url: String, body: Value| sent(client.http.post(url).body(body.to_string())).await;
    let keys = json!({ "accessKeyId": key.expose(), "accessKeySecret": secret.expose() });
    let login = post(format!("{}/authentication/v1/token/access-key", client.center.url()), keys).await;
    for (action, status) in [("expire", 200), ("revoke", 401)] {
        post(format!("{}/_sandbox/agents/tokens", sandbox.base_url()), json!({ "action": action })).await;
        let renew = json!({ "token": login.body["refresh_token"] });
        let renewed = post(format!("{}/public/user/refresh", client.center.url()), renew).await;
        assert_eq!(renewed.status, status, "{action}");
    }
}

#[tokio::test]
async fn it_is_controlled_over_http() {
    let (sandbox, client) = sandbox(|_| {}).await;
    let ask = async |method: Method, path: &str, body: Value| {
        let request = client.http.request(method, format!("{}/_sandbox{path}", sandbox.base_url()));
        sent(request.body(body.to_string())).await
    };
    let given = ask(Method::POST, "/agents/tokens", json!({ "action": "give" })).await;
    let client = Client { token: given.body["access_token"].as_str().unwrap().to_owned(), ..Client::new(&sandbox) };
    assert_eq!(ask(Method::POST, "/agents/call", json!({ "from": "+1" })).await.status, 404, "no session yet");
    let mut id = client.live().await;
    let numbers = ask(Method::POST, "/agents/events", json!({ "events": [{ "Type": "Mute" }, 7] })).await;
    assert_eq!(numbers.body["numbers"], json!([4, 5]));
    let answer = client.poll(&id, 60).await;
    assert_eq!(answer.body["events"], json!([{ "Type": "Mute" }, 7]));
    id = answer.id();
    let contact = ask(Method::POST, "/agents/call", json!({ "from": "+12055550143" })).await.body["contact"].clone();
    let step = ask(Method::POST, "/agents/step", json!({ "contact": contact, "step": "answer" })).await;
    assert_eq!(step.status, 204);
    let answer = client.poll(&id, 60).await;
    assert_eq!(answer.events().len(), 6);
    assert_eq!(ask(Method::POST, "/agents/end_poll", json!({})).await.status, 204);
    id = client.poll(&answer.id(), 60).await.id();
    let state = ask(Method::GET, "/agents", json!(null)).await;
    let session = &state.body["sessions"][0];
    assert_eq!(
        (&session["agent"], &session["contacts"], &session["state"]),
        (&json!("7001"), &json!([contact]), &json!("InboundContact"))
    );
    assert_eq!((&session["polls"], &session["is_over"], &session["overlaps"]), (&json!(4), &json!(false), &json!(0)));
    assert_eq!(state.body["url"], client.center.url());
    let events = ask(Method::GET, "/agents/7001/events", json!(null)).await;
    let last = events.body["events"].as_array().unwrap().last().unwrap().clone();
    assert_eq!((last["number"].as_u64(), last["fate"].as_str()), (Some(11), Some("answered")));
    assert_eq!(client.center.events().last().unwrap().fate, Fate::Answered);
    let logins = ask(Method::GET, "/agents/logins", json!(null)).await;
    let (app, username, password) = client.center.central_login();
    let ((key, key_secret), (id_of_client, client_secret)) = (client.center.access_key(), client.center.client());
    assert_eq!(
        logins.body,
        json!({
            "central": { "app": app.expose(), "username": username, "password": password.expose() },
            "access_key": { "id": key.expose(), "secret": key_secret.expose() },
            "client": { "id": id_of_client, "secret": client_secret.expose() },
            "tenant": logins.body["tenant"],
        })
    );
    let tenant = logins.body["tenant"].as_str().unwrap();
    let configuration = format!("{}/.well-known/cxone-configuration?tenantId={tenant}", client.center.url());
    assert_eq!((tenant.len(), sent(client.http.get(configuration)).await.status), (36, 200));

    assert_eq!(
        ask(Method::PATCH, "/behavior", json!({ "agent": { "stale_id": "replay", "conflict_for": 5 } })).await.status,
        200
    );
    let fault = json!({ "target": { "operation": "agent_poll" }, "fault": { "kind": "amend", "fields": { "sessionId": null } } });
    assert_eq!(ask(Method::POST, "/faults", fault).await.status, 200);
    ask(Method::POST, "/agents/end_poll", json!({})).await;
    assert_eq!(client.poll(&id, 60).await.body["sessionId"], Value::Null);
    let held = client.hold(&id).await;
    assert_eq!(ask(Method::POST, "/connections/contact_center", json!({ "action": "reset" })).await.status, 204);
    assert!(held.await.is_err());
    assert_eq!(ask(Method::POST, "/servers/contact_center", json!({ "down_ms": 60_000 })).await.status, 204);
    sandbox.stop_service(Service::ContactCenter).await;
    assert_eq!(ask(Method::POST, "/servers/contact_center", json!({})).await.status, 204);
    sandbox.start_service(Service::ContactCenter).await;

    for (path, body, status) in [
        ("/agents/terminate", json!({ "message": "RemoteLogoff" }), 204),
        ("/agents/terminate", json!({ "message": "RemoteLogoff" }), 404),
        ("/agents/terminate", json!({}), 400),
        ("/agents/events", json!({ "events": 7 }), 400),
        ("/agents/events", json!({}), 400),
        ("/agents/step", json!({ "contact": "x", "step": "hold" }), 404),
        ("/agents/step", json!({ "contact": "x", "step": "dance" }), 400),
        ("/agents/tokens", json!({ "action": "dance" }), 400),
        ("/agents/dance", json!({}), 404),
    ] {
        assert_eq!(ask(Method::POST, path, body.clone()).await.status, status, "{path} {body}");
    }
    assert!(client.center.session().unwrap().is_over);
    assert_eq!(ask(Method::GET, "/agents/1/events", json!(null)).await.status, 404);
    assert_eq!(ask(Method::POST, "/agents/tokens", json!({ "action": "expire" })).await.status, 204);
    assert_eq!(client.poll(&id, 0).await.status, 401);
    let other = ask(Method::POST, "/agents/tokens", json!({ "action": "revoke" })).await;
    assert_eq!(other.status, 204);
}
