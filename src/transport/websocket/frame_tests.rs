//! What the gateway may send, in every form.

use proptest::prelude::*;

use super::*;

fn reply(text: &str) -> Reply {
    match read(text).unwrap().what {
        What::Reply(reply) => reply,
        other => panic!("{other:?}"),
    }
}

fn event(text: &str) -> Event {
    match read(text).unwrap().what {
        What::Notification(event) => event,
        other => panic!("{other:?}"),
    }
}

#[test]
fn replies_are_read_in_every_form_that_was_seen() {
    for (text, id, status, body) in [
        (r#"[{"type":"ClientRequest","messageId":"q","status":204}]"#, "q", Some(204), ""),
        (
            r#"[{"type":"ClientRequest","messageId":"q","status":200},{"a":[1,"]"]}]"#,
            "q",
            Some(200),
            r#"{"a":[1,"]"]}"#,
        ),
        (r#"[{"type":"ClientRequest","messageId":7,"status":"200"},"text"]"#, "7", Some(200), r#""text""#),
        (r#"[{"type":"ClientRequest","messageId":"a\/b"},[1]]"#, "a/b", None, "[1]"),
        (" [ {\"type\" : \"ClientRequest\",\n \"messageId\" : \"q\" }\n , \n {} \n ] ", "q", None, "{}"),
        (
            "[{\"type\":\"ClientRequest\",\"messageId\":\"q\",\"status\":200},--Boundary_1\r\n\r\n[x]\r\n--Boundary_1--]",
            "q",
            Some(200),
            "--Boundary_1\r\n\r\n[x]\r\n--Boundary_1--",
        ),
        (r#"[{"type":"ClientRequest","messageId":"q","status":70000,"headers":7,"wsc":null}]"#, "q", None, ""),
        (r#"[{"type":"ClientRequest","messageId":"q","new":{"x":[]}},null]"#, "q", None, "null"),
    ] {
        let reply = reply(text);
        assert_eq!((reply.id.as_deref(), reply.status, reply.body.as_str()), (Some(id), status, body), "{text}");
    }
}

#[test]
fn headers_ignore_case_and_invalid_ones_are_skipped() {
    let text = r#"[{"type":"ClientRequest","messageId":"q","headers":
        {"RCRequestId":"r","X-Rate-Limit-Remaining":39,"a b":"c","Odd":[1],"Bad":"a\nb"}}]"#;
    let headers = reply(text).headers;
    assert_eq!(headers.get("rcrequestid").unwrap(), "r");
    assert_eq!(headers.get("x-rate-limit-remaining").unwrap(), "39");
    assert_eq!(headers.len(), 2);
}

#[test]
fn an_event_is_preserved_byte_for_byte_and_names_its_subscription_and_position() {
    let body = r#"{ "uuid":"4611686018427387999", "subscriptionId":"s-1", "body":{"n":1.0e5,"s":"\u00e9\/"} }"#;
    let read =
        event(&format!(r#"[{{"type":"ServerNotification","messageId":"4611686018427387999","status":200}},{body}]"#));
    assert_eq!(read.position.as_deref(), Some("4611686018427387999"));
    assert_eq!(read.subscription.as_deref(), Some("s-1"));
    assert_eq!(read.body.unwrap().get(), body);
    let numbers = event(r#"[{"type":"ServerNotification","messageId":46},{"subscriptionId":99999999999999999999}]"#);
    assert_eq!(numbers.position.as_deref(), Some("46"));
    assert_eq!(numbers.subscription.as_deref(), Some("99999999999999999999"));
    let bare = event(r#"[{"type":"ServerNotification"},{}]"#);
    assert_eq!((bare.position, bare.subscription), (None, None));
}

#[test]
fn a_damaged_event_is_delivered_as_undecodable() {
    for text in [
        r#"[{"type":"ServerNotification","messageId":"1"}]"#,
        r#"[{"type":"ServerNotification","messageId":"1"},null]"#,
        r#"[{"type":"ServerNotification","messageId":"1"},[]]"#,
        r#"[{"type":"ServerNotification","messageId":"1"},"x"]"#,
        r#"[{"type":"ServerNotification","messageId":"1"},{"uuid":]"#,
        r#"[{"type":"ServerNotification","messageId":"1"},{"uuid":"1""#,
        r#"[{"type":"ServerNotification","type":"ServerNotification"},{}]"#,
    ] {
        let (raw, _) = event(text).body.unwrap_err();
        assert_eq!(&*raw, text);
    }
}

#[test]
fn w09_an_invalid_frame_is_reported() {
    for text in [
        "",
        "{}",
        "[]",
        "[ ]",
        "[",
        "]",
        "null",
        "7",
        "nonsense",
        "[{}]",
        "[null]",
        "[[]]",
        "[\"x\"]",
        "[{},{}]",
        "[{\"type\":null}]",
        "[{\"type\":[]}]",
        "[{\"type\":\"x\"}{}]",
        "[{\"type\":\"x\",\"type\":\"y\"}]",
        "[--Boundary]",
        "\u{feff}[{}]",
    ] {
        assert!(read(text).is_err(), "{text}");
    }
    for text in [r#"[{"type":"HeartbeatResponse"}]"#, r#"[{"type":7}]"#, r#"[{"type":""},{}]"#] {
        assert!(matches!(read(text).unwrap().what, What::Unknown), "{text}");
    }
}

#[test]
fn a_token_is_found_on_any_frame_and_only_where_it_is_one() {
    for (wsc, want) in [
        (r#"{"token":"a","sequence":3}"#, Some(("a", Some(3)))),
        (r#"{"token":"a","sequence":"3"}"#, Some(("a", Some(3)))),
        (r#"{"token":"a"}"#, Some(("a", None))),
        (r#"{"token":"a","sequence":-1}"#, Some(("a", None))),
        (r#"{"token":"","sequence":3}"#, None),
        (r#"{"token":7}"#, None),
        ("null", None),
        (r#""a""#, None),
    ] {
        for kind in ["ConnectionDetails", "ServerNotification", "Heartbeat", "New"] {
            let read = read(&format!(r#"[{{"type":"{kind}","wsc":{wsc}}}]"#)).unwrap().wsc;
            let read = read.as_ref().map(|wsc| (wsc.token.expose(), wsc.sequence));
            assert_eq!(read, want, "{kind} {wsc}");
        }
    }
}

#[test]
fn requests_have_the_form_that_the_gateway_accepts() {
    let sent = request("r-1", &Method::POST, "/x?a=\"", Some("{\"b\":1}"));
    let sent: serde_json::Value = serde_json::from_str(&sent).unwrap();
    let meta = serde_json::json!({"type": "ClientRequest", "messageId": "r-1", "method": "POST", "path": "/x?a=\""});
    assert_eq!(sent, serde_json::json!([meta, {"b": 1}]));
    let bare: Vec<serde_json::Value> = serde_json::from_str(&request("r-1", &Method::GET, "/x", None)).unwrap();
    assert_eq!(bare.len(), 1);
    assert_eq!(heartbeat(7), r#"[{"type":"Heartbeat","messageId":"h-7"}]"#);
    for (body, takes) in [("{}", true), ("\"x\"", true), ("null", false), ("[]", false), ("7", false), ("{", false)] {
        assert_eq!(is_sendable(body), takes, "{body}");
    }
}

#[test]
fn deeply_nested_json_is_harmless() {
    let deep = "[".repeat(200_000);
    assert!(read(&deep).is_err());
    let whole = format!(r#"[{{"type":"ServerNotification","messageId":"1"}},{{"x":{deep}{}}}]"#, "]".repeat(200_000));
    assert!(event(&whole).body.is_ok());
    let meta = format!(r#"[{{"type":"ClientRequest","messageId":{deep}{}}}]"#, "]".repeat(200_000));
    assert_eq!(reply(&meta).id, None);
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC{0,200}") {
        let _ = read(&text);
    }

    #[test]
    fn no_frame_like_text_panics(
        kind in "(ConnectionDetails|ClientRequest|ServerNotification|Heartbeat|Error)",
        meta in "[\\[\\]{},:\"a0\\\\ ]{0,20}", body in "[\\[\\]{},:\"a0\\\\ -]{0,40}",
    ) {
        let text = format!(r#"[{{"type":"{kind}"{meta}}},{body}]"#);
        if let Ok(Incoming { what: What::Notification(Event { body: Err((raw, _)), .. }), .. }) = read(&text) {
            prop_assert_eq!(&*raw, text);
        }
    }

    #[test]
    fn an_event_survives_a_round_trip(uuid in "\\PC{0,20}", id in "\\PC{0,20}", text in "\\PC{0,60}") {
        let body = serde_json::json!({"uuid": uuid, "subscriptionId": id, "body": {"text": text}}).to_string();
        let frame = format!(r#"[{},{body}]"#, serde_json::json!({"type": "ServerNotification", "messageId": uuid}));
        let read = event(&frame);
        prop_assert_eq!(read.position.as_deref(), Some(uuid.as_str()));
        prop_assert_eq!(read.subscription.as_deref(), Some(id.as_str()));
        let kept = read.body.unwrap();
        prop_assert_eq!(kept.get(), body);
    }
}
