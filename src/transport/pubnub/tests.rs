use std::collections::HashMap;
use std::time::{Duration, UNIX_EPOCH};

use ::pubnub::core::{PubNubError, TransportResponse};
use ::pubnub::subscribe::result::APISuccessBody;
use ::pubnub::subscribe::{SubscribeResponseBody, result::EnvelopePayload};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::answer::{self, Answer, Damaged, Message, Read};
use super::pace::Pace;
use super::request::{self, Endpoint, encode};
use super::*;
use crate::control::Cursor;
use crate::transport::FrameBody;
use crate::{Disposition, ErrorKind, Secret};

const RETRY: Disposition = Disposition::Retry { after: None };

/// Reads a whole answer; a damaged one is an error here.
fn read(body: &[u8]) -> Result<Answer> {
    match answer::read(200, &HashMap::new(), body)? {
        Read::Whole(answer) => Ok(answer),
        Read::Damaged(_) => Err(Error::new(ErrorKind::Protocol, "damaged")),
    }
}

fn cursor(timetoken: &str, region: Option<u32>) -> Cursor {
    request::cursor(timetoken.parse().unwrap(), region)
}

fn target(key: &str, channel: &str, user: Option<&str>) -> Target {
    Target {
        subscription_id: "sub-1".into(),
        address: Secret::new(channel),
        subscriber_key: Secret::new(key),
        user_id: user.map(str::to_owned),
        cursor: cursor("17000000000000000", None),
        last_good: None,
    }
}

/// The frames' content: `+payload` or `-reason`.
fn shown(frames: &[Message]) -> Vec<String> {
    frames
        .iter()
        .map(|message| match &message.body {
            FrameBody::Payload(raw) => format!("+{}", raw.get()),
            FrameBody::Malformed { raw, reason } => {
                assert!(!raw.is_empty());
                format!("-{reason}")
            }
        })
        .collect()
}

// Answers.

#[test]
fn usual_answer_agrees_with_the_vendor_crate() {
    let body = r#"{"t":{"t":"15628652479932717","r":4},"m":[
        {"a":"1","f":514,"i":"pn-x","s":1,"p":{"t":"15628652479933927","r":4},"k":"sub-c-k","c":"ch","d":"Bz04jCY29UZGCeUiQMRbYw==","b":"ch"},
        {"a":"1","f":0,"p":{"t":"15628652479933928","r":4},"k":"sub-c-k","c":"ch","d":{"b":1,"a":[null]},"u":{"x":1},"cmt":"z"}]}"#;
    let ours = read(body.as_bytes()).unwrap();
    let Ok(SubscribeResponseBody::SuccessResponse(APISuccessBody { cursor, messages })) = serde_json::from_str(body)
    else {
        panic!("the crate does not read it");
    };
    assert_eq!(
        (ours.cursor.ticks().to_string(), ours.cursor.detail()),
        (cursor.timetoken, Some(&*cursor.region.to_string()))
    );
    let theirs: Vec<Value> = messages
        .into_iter()
        .map(|envelope| match envelope.payload {
            EnvelopePayload::Message(payload) => serde_json::to_value(payload).unwrap(),
            other => panic!("{other:?}"),
        })
        .collect();
    let frames: Vec<Value> = shown(&ours.frames)
        .iter()
        .map(|frame| serde_json::from_str(frame.strip_prefix('+').unwrap()).unwrap())
        .collect();
    assert_eq!(frames, theirs);
    assert_eq!(frames, [json!("Bz04jCY29UZGCeUiQMRbYw=="), json!({"b": 1, "a": [null]})]);
}

#[test]
fn vendor_crate_skips_what_we_report() {
    // `f` is missing in one, the other is not an object: this is why we decode ourselves.
    let body = r#"{"t":{"t":"15628652479932717","r":4},"m":[{"a":"1","p":{"t":"1","r":4},"c":"ch","d":{"x":1}},7]}"#;
    assert_eq!(shown(&read(body.as_bytes()).unwrap().frames), [r#"+{"x":1}"#, "-an envelope that is not an object"]);
    match serde_json::from_str(body) {
        Ok(SubscribeResponseBody::SuccessResponse(body)) => assert!(body.messages.is_empty()),
        Ok(SubscribeResponseBody::ErrorResponse(_)) | Err(_) => panic!("the crate reads it otherwise"),
    }
}

#[test]
fn payload_is_preserved_byte_for_byte() {
    let payload = r#"{ "b" : 1.0e+2 ,"a":"\/é", "a":18446744073709551616 }"#;
    let body = format!(r#"{{"m":[{{"d":{payload}}}],"t":{{"t":"1","r":1}}}}"#);
    assert_eq!(shown(&read(body.as_bytes()).unwrap().frames), [format!("+{payload}")]);
}

#[test]
fn every_kind_of_message_is_delivered() {
    for kind in ["0", "1", "2", "3", "4", "99", "-1", "\"x\"", "null", "{}"] {
        let body = format!(r#"{{"t":{{"t":"1","r":1}},"m":[{{"e":{kind},"c":5,"p":"?","d":"x"}}]}}"#);
        assert_eq!(shown(&read(body.as_bytes()).unwrap().frames), ["+\"x\""], "{kind}");
    }
}

#[test]
fn malformed_envelope_leaves_its_neighbours_alone() {
    let rows = [
        ("7", "-an envelope that is not an object"),
        ("null", "-an envelope that is not an object"),
        ("\"d\"", "-an envelope that is not an object"),
        ("[\"d\"]", "-an envelope that is not an object"),
        ("{}", "-an envelope without a payload"),
        ("{\"c\":\"x\",\"D\":1}", "-an envelope without a payload"),
        ("{\"d\":1,\"d\":2}", "-an envelope that cannot be read"),
        ("{\"\\ud800\":1,\"d\":2}", "+2"),
        ("{\"p\":1,\"p\":2,\"d\":2}", "+2"),
        ("{\"d\":null}", "+null"),
        ("{\"d\":[1]}", "+[1]"),
    ];
    for (envelope, expected) in rows {
        let body = format!(r#"{{"t":{{"t":"1","r":1}},"m":[{{"d":"a"}},{envelope},{{"d":"b"}}]}}"#);
        assert_eq!(shown(&read(body.as_bytes()).unwrap().frames), ["+\"a\"", expected, "+\"b\""], "{envelope}");
    }
}

#[test]
fn invalid_utf8_spoils_its_envelope_only() {
    let mut body = br#"{"t":{"t":"1","r":1},"m":[{"d":"a"},{"d":{"x":"?"}},{"d":"b"}]}"#.to_vec();
    let at = body.iter().position(|byte| *byte == b'?').unwrap();
    body[at] = 0xff;
    let answer = read(&body).unwrap();
    assert_eq!(shown(&answer.frames), ["+\"a\"", "-an envelope that is not UTF-8", "+\"b\""]);
    // The replacement character itself is valid.
    let fine = "{\"t\":{\"t\":\"1\",\"r\":1},\"m\":[{\"d\":\"\u{fffd}\"}]}";
    assert_eq!(shown(&read(fine.as_bytes()).unwrap().frames), ["+\"\u{fffd}\""]);
}

#[test]
fn position_is_read_exactly_and_leniently() {
    for (t, expected) in [
        (r#"{"t":"15628652479932717","r":4}"#, Some(("15628652479932717", Some(4)))),
        (r#"{"r":4,"t":"15628652479932717","x":[]}"#, Some(("15628652479932717", Some(4)))),
        (r#"{"t":15628652479932717,"r":4}"#, Some(("15628652479932717", Some(4)))),
        (r#"{"t":18446744073709551615,"r":"12"}"#, Some(("18446744073709551615", Some(12)))),
        (r#"{"t":"1"}"#, Some(("1", None))),
        (r#"{"t":"1","r":null}"#, Some(("1", None))),
        (r#"{"t":"1","r":-3}"#, Some(("1", None))),
        (r#"{"t":"1","r":4294967296}"#, Some(("1", None))),
        (r#"{"t":"1","r":{}}"#, Some(("1", None))),
        (r#"{"t":"0","r":4}"#, None),
        (r#"{"t":0,"r":4}"#, None),
        (r#"{"t":"","r":4}"#, None),
        (r#"{"t":"18446744073709551616","r":4}"#, None),
        (r#"{"t":1.5e16,"r":4}"#, None),
        (r#"{"t":-1,"r":4}"#, None),
        (r#"{"t":"+1","r":4}"#, None),
        (r#"{"t":" 1","r":4}"#, None),
        (r#"{"t":null,"r":4}"#, None),
        (r#"{"t":{"t":"1"},"r":4}"#, None),
        (r#"{"r":4}"#, None),
        (r#"["15628652479932717",4]"#, None),
        (r#""15628652479932717""#, None),
        ("15628652479932717", None),
        ("null", None),
    ] {
        let body = format!(r#"{{"t":{t},"m":[{{"d":"x"}}]}}"#);
        match (read(body.as_bytes()), expected) {
            (Ok(answer), Some((timetoken, region))) => assert_eq!(answer.cursor, cursor(timetoken, region), "{t}"),
            (Err(error), None) => {
                assert_eq!((error.kind(), error.disposition()), (ErrorKind::Protocol, RETRY), "{t}");
            }
            (got, _) => panic!("{t}: {got:?}"),
        }
    }
}

#[test]
fn invalid_answer_keeps_the_position() {
    for (body, kind) in [
        ("", ErrorKind::Protocol),
        ("<html>login</html>", ErrorKind::Protocol),
        ("null", ErrorKind::Protocol),
        ("1", ErrorKind::Protocol),
        ("\"x\"", ErrorKind::Protocol),
        ("{", ErrorKind::Protocol),
        ("{}", ErrorKind::Protocol),
        (r#"{"t":{"t":"1","r":1}}"#, ErrorKind::Protocol),
        (r#"{"t":{"t":"1","r":1},"m":{}}"#, ErrorKind::Protocol),
        (r#"{"t":{"t":"1","r":1},"m":[{"d":"x"}"#, ErrorKind::Protocol),
        (r#"{"t":{"t":"1","r":1},"m":[]}{"#, ErrorKind::Protocol),
        (r#"{"m":[{"d":"x"}]}"#, ErrorKind::Protocol),
        (r#"[0,"Invalid Key"]"#, ErrorKind::Service),
        (r#" [0,"Invalid Key","17000000000000000"]"#, ErrorKind::Service),
        (r#"{"error":true}"#, ErrorKind::Service),
        (r#"{"error":true,"status":200,"t":{"t":"1","r":1},"m":[]}"#, ErrorKind::Service),
        (r#"{"error":true,"status":429,"message":"Too many"}"#, ErrorKind::RateLimited),
        (r#"{"error":true,"status":503}"#, ErrorKind::Service),
        (r#"{"status":503,"message":"x"}"#, ErrorKind::Service),
    ] {
        let error = read(body.as_bytes()).unwrap_err();
        assert_eq!((error.kind(), error.disposition()), (kind, RETRY), "{body}");
        assert!(!format!("{error} {error:?}").contains("Invalid"), "{error:?}");
    }
    for body in
        [r#"{"error":true,"status":403,"payload":{"channels":["c"]}}"#, r#"{"message":"Forbidden","status":"403"}"#]
    {
        let error = read(body.as_bytes()).unwrap_err();
        assert_eq!((error.disposition(), error.status()), (Disposition::Recreate, Some(403)), "{body}");
    }
}

#[test]
fn empty_answer_is_a_success() {
    for body in [r#"{"t":{"t":"9","r":1},"m":[]}"#, r#" {"m":null,"t":{"t":"9","r":1},"error":false,"status":200}"#] {
        let answer = read(body.as_bytes()).unwrap();
        assert!(answer.frames.is_empty());
        assert_eq!(answer.cursor, cursor("9", Some(1)));
    }
}

#[test]
fn status_table() {
    use Disposition::Recreate;
    for (status, kind, disposition) in [
        (201, ErrorKind::Protocol, RETRY),
        (204, ErrorKind::Protocol, RETRY),
        (302, ErrorKind::Protocol, RETRY),
        (400, ErrorKind::Rejected, Recreate),
        (401, ErrorKind::Rejected, Recreate),
        (402, ErrorKind::Rejected, Recreate),
        (403, ErrorKind::Rejected, Recreate),
        (404, ErrorKind::NotFound, Recreate),
        (407, ErrorKind::Protocol, RETRY),
        (408, ErrorKind::Timeout, RETRY),
        (413, ErrorKind::Rejected, Recreate),
        (414, ErrorKind::Rejected, Recreate),
        (418, ErrorKind::Protocol, RETRY),
        (429, ErrorKind::RateLimited, RETRY),
        (500, ErrorKind::Service, RETRY),
        (503, ErrorKind::Service, RETRY),
        (530, ErrorKind::Service, RETRY),
        (599, ErrorKind::Service, RETRY),
        (600, ErrorKind::Protocol, RETRY),
    ] {
        // A good body does not make a bad status good.
        let error = answer::read(status, &HashMap::new(), br#"{"t":{"t":"1","r":1},"m":[]}"#).unwrap_err();
        assert_eq!((error.kind(), error.disposition(), error.status()), (kind, disposition, Some(status)));
    }
}

#[test]
fn retry_after_is_seconds_or_a_date_and_capped() {
    for (value, seconds) in [
        ("3", Some(3)),
        (" 3 ", Some(3)),
        ("0", Some(0)),
        ("86400", Some(300)),
        ("99999999999999999999999", Some(300)),
        ("Sun, 06 Nov 1994 08:50:00 GMT", Some(23)),
        ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
        ("Sun, 06 Nov 2094 08:00:00 GMT", Some(300)),
        ("", None),
        ("-3", None),
        ("soon", None),
    ] {
        for status in [429, 503] {
            let date = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
            let headers = [("retry-after", value), date].map(|(name, value)| (name.to_owned(), value.to_owned()));
            let error = answer::read(status, &headers.into(), b"").unwrap_err();
            assert_eq!(error.retry_after(), seconds.map(Duration::from_secs), "{status} {value:?}");
        }
    }
}

#[test]
fn failures_without_an_answer_are_classified() {
    let details = || "cause".to_owned();
    for (failure, kind, disposition) in [
        (PubNubError::Transport { details: details(), response: None }, ErrorKind::Network, RETRY),
        (PubNubError::RequestCancel { details: details() }, ErrorKind::Timeout, RETRY),
        (PubNubError::Deserialization { details: details() }, ErrorKind::Protocol, Disposition::Recreate),
        (PubNubError::EffectCanceled, ErrorKind::Network, RETRY),
    ] {
        let error = answer::failure(&failure);
        assert_eq!((error.kind(), error.disposition()), (kind, disposition));
        assert!(std::error::Error::source(&error).is_some());
    }
}

fn envelope() -> impl Strategy<Value = String> {
    let well = "[a-z]{0,8}".prop_map(|text| format!(r#"{{"c":"ch","d":"{text}"}}"#));
    let ill = prop::sample::select(vec!["0", "null", "[]", "{}", "true", "{\"d\":1,\"d\":1}", "[[\"d\"]]", "\"\""]);
    prop_oneof![well, ill.prop_map(str::to_owned)]
}

proptest! {
    #[test]
    fn any_bytes_never_panic(status in 0_u16..1000, bytes: Vec<u8>, header: String) {
        let headers = HashMap::from([("retry-after".to_owned(), header)]);
        let _ = answer::read(status, &headers, &bytes);
        let _ = answer::read(200, &headers, &[br#"{"t":{"t":"1"},"m":["#, bytes.as_slice(), b"]}"].concat());
    }

    #[test]
    fn one_changed_byte_never_panics_and_never_moves_to_now(at in 0_usize..120, to: u8) {
        let mut body = br#"{"t":{"t":"15628652479932717","r":4},"m":[{"a":"1","f":514,"p":{"t":"15628652479933927","r":4},"c":"ch","d":{"x":[1]}}]}"#.to_vec();
        let at = at % body.len();
        body[at] = to;
        if let Ok(answer) = read(&body) {
            prop_assert!(answer.cursor.ticks() > 0);
        }
    }

    #[test]
    fn every_envelope_becomes_one_frame_in_order(envelopes in prop::collection::vec(envelope(), 0..40)) {
        let body = format!(r#"{{"t":{{"t":"5","r":1}},"m":[{}]}}"#, envelopes.join(","));
        let frames = read(body.as_bytes()).unwrap().frames;
        prop_assert_eq!(frames.len(), envelopes.len());
        for (frame, envelope) in frames.iter().zip(&envelopes) {
            let payload = envelope.strip_prefix(r#"{"c":"ch","d":"#).and_then(|rest| rest.strip_suffix('}'));
            match (&frame.body, payload) {
                (FrameBody::Payload(raw), Some(payload)) => prop_assert_eq!(raw.get(), payload),
                (FrameBody::Malformed { raw, .. }, None) => prop_assert_eq!(&**raw, envelope.as_str()),
                (frame, _) => prop_assert!(false, "{:?} for {}", frame, envelope),
            }
        }
    }

    #[test]
    fn encoding_leaves_only_unreserved_characters(text: String) {
        let encoded = encode(&text);
        prop_assert!(encoded.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%".contains(&byte)));
        let query = format!("http://x/?a={encoded}");
        let url = Url::parse(&query).unwrap();
        prop_assert_eq!(&*url.query_pairs().next().unwrap().1, &text);
    }
}

// Requests.

#[test]
fn poll_names_key_channel_user_and_position() {
    let endpoint = Endpoint::new(&target("sub-c-1", "549_6/d,&é~", Some("100200301"))).unwrap();
    let request = endpoint.subscribe(&cursor("17000000000000000", Some(12)), Duration::from_millis(310_500));
    assert_eq!(request.path, "/v2/subscribe/sub-c-1/549_6%2Fd%2C%26%C3%A9~/0");
    assert_eq!(request.timeout, 311);
    let sdk = concat!("RingCentralEvents-Rust/", env!("CARGO_PKG_VERSION"));
    let expected = [("tt", "17000000000000000"), ("tr", "12"), ("uuid", "100200301"), ("pnsdk", sdk)];
    assert_eq!(request.query_parameters, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());

    let request = endpoint.subscribe(&cursor("17000000000000000", None), Duration::from_secs(310));
    assert_eq!((request.timeout, request.query_parameters.contains_key("tr")), (310, false));
    assert_eq!(endpoint.leave().path, "/v2/presence/sub-key/sub-c-1/channel/549_6%2Fd%2C%26%C3%A9~/leave");
    assert_eq!(endpoint.leave().timeout, 2);
    assert_eq!(endpoint.time().path, "/time/0");
}

#[test]
fn user_id_is_the_owner_or_a_stable_name_and_never_too_long() {
    let id = |user| Endpoint::new(&target("k", "c", user)).unwrap().time().query_parameters["uuid"].clone();
    assert_eq!(id(None), "ringcentral-events");
    assert_eq!(id(Some("")), "ringcentral-events");
    assert_eq!(id(Some("7")), "7");
    assert_eq!(id(Some(&"é".repeat(500))), "é".repeat(92));
}

#[test]
fn invalid_path_segment_is_refused() {
    for bad in ["", ".", ".."] {
        for target in [target(bad, "c", None), target("k", bad, None)] {
            let error = Endpoint::new(&target).unwrap_err();
            assert_eq!((error.kind(), error.disposition()), (ErrorKind::Protocol, Disposition::Fatal));
        }
    }
}

#[test]
fn cursor_that_would_mean_now_is_refused() {
    for bad in ["", "0", "00000000000000000", "-1", "1.5", "x", "18446744073709551616", "+5"] {
        assert_eq!(request::timetoken(bad), None, "{bad}");
    }
    assert_eq!(request::check(&Cursor::from_ticks(0)).unwrap_err().kind(), ErrorKind::Config);
    assert!(request::check(&Cursor::at(UNIX_EPOCH)).is_ok());
}

// Probe.

#[test]
fn only_the_services_own_answer_proves_that_it_is_alive() {
    let answer = |status| Ok(TransportResponse { status, headers: HashMap::new(), body: Some(b"[1]".to_vec()) });
    for status in [200, 204, 299] {
        assert!(link::is_life(&answer(status)), "{status}");
    }
    for status in [100, 199, 300, 302, 400, 403, 404, 407, 429, 500, 502, 503, 511] {
        assert!(!link::is_life(&answer(status)), "{status}");
    }
    assert!(!link::is_life(&Err(PubNubError::EffectCanceled)));
}

// Pace.

#[test]
fn answers_without_progress_slow_the_polls_down() {
    let mut pace = Pace::default();
    let at_once = Duration::from_millis(3);
    let gaps: Vec<_> = (0..7).map(|_| pace.after(at_once, false).unwrap().as_millis()).collect();
    assert_eq!(gaps, [100, 200, 400, 800, 1000, 1000, 1000]);
    assert_eq!(pace.after(at_once, true), None);
    assert_eq!(pace.after(at_once, false), Some(Duration::from_millis(100)));
    assert_eq!(pace.after(Duration::from_millis(50), false), None);
    assert_eq!(pace.after(at_once, false), Some(Duration::from_millis(100)));
    for _ in 0..1000 {
        assert!(pace.after(at_once, false) <= Some(Duration::from_secs(1)));
    }
}

// Builder.

#[test]
fn origin_is_https_or_loopback_and_nothing_else() {
    for good in [
        ("https://ringcentral.pubnubapi.com", "https://ringcentral.pubnubapi.com"),
        ("https://ps.pndsn.com/", "https://ps.pndsn.com"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://localhost:1/base/", "http://localhost:1/base"),
        ("http://[::1]:9", "http://[::1]:9"),
    ] {
        assert_eq!(origin(good.0).unwrap(), good.1);
        assert!(PubNub::builder().origin(good.0).build().is_ok());
    }
    for bad in [
        "",
        "ps.pndsn.com",
        "http://ps.pndsn.com",
        "http://10.0.0.1",
        "http://localhost.example.com",
        "ftp://127.0.0.1",
        "https://user@ps.pndsn.com",
        "https://:word@ps.pndsn.com",
        "https://ps.pndsn.com/?a=b",
        "https://ps.pndsn.com/#x",
        "data:text/plain,x",
    ] {
        let error = PubNub::builder().origin(bad).build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{bad}");
        assert!(!format!("{error:?}").contains("word"));
    }
}

#[test]
fn values_out_of_range_are_refused() {
    let zero = Duration::ZERO;
    let long = Duration::from_secs(3601);
    for builder in [
        PubNub::builder().poll_deadline(zero),
        PubNub::builder().poll_deadline(long),
        PubNub::builder().connect_timeout(zero),
        PubNub::builder().connect_timeout(long),
        PubNub::builder().buffer_size_hint(0),
        PubNub::builder().buffer_age(zero),
        PubNub::builder().max_response(0),
    ] {
        assert_eq!(builder.build().unwrap_err().kind(), ErrorKind::Config);
    }
}

#[test]
fn defaults_are_the_documented_ones() {
    let builder = PubNub::builder();
    assert_eq!(builder.origin, "https://ringcentral.pubnubapi.com");
    assert_eq!(builder.poll_deadline, Duration::from_secs(310));
    assert_eq!(builder.connect_timeout, Duration::from_secs(10));
    assert_eq!((builder.buffer_size_hint, builder.buffer_age), (100, Duration::from_secs(120)));
    assert_eq!(builder.max_response, 64 * 1024 * 1024);
    assert_eq!(PubNub::builder().build().unwrap().kind(), TransportKind::PubNub);
}

#[tokio::test]
async fn found_6_7_a_poll_answered_in_gzip_is_read_without_the_feature_agent() {
    use std::io::Write as _;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(br#"{"t":{"t":"17000000000000001","r":1},"m":[{"d":{"x":1}}]}"#).unwrap();
        let body = encoder.finish().unwrap();
        let head = format!("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n", body.len());
        let (mut socket, _) = listener.accept().await.unwrap();
        let _request = socket.read(&mut [0; 4096]).await.unwrap();
        socket.write_all(&[head.as_bytes(), &body].concat()).await.unwrap();
    });
    let pubnub = PubNub::builder().origin(origin).build().unwrap();
    let mut link = pubnub.open(target("k", "c", None)).await.unwrap();
    let frames = loop {
        if let crate::transport::LinkEvent::Batch(crate::transport::LinkBatch { frames, .. }) =
            link.next().await.unwrap()
        {
            break frames;
        }
    };
    assert!(matches!(&frames[0].body, FrameBody::Payload(raw) if raw.get() == r#"{"x":1}"#));
}

// Answers that cannot be read as a whole.

/// The result of an answer: its frames, its position, and `whole`, `damaged` or `lossy`.
fn salvaged(body: &str) -> (Vec<String>, Option<String>, &'static str) {
    match answer::read(200, &HashMap::new(), body.as_bytes()).unwrap() {
        Read::Whole(Answer { frames, cursor, .. }) => (shown(&frames), Some(cursor.ticks().to_string()), "whole"),
        Read::Damaged(Damaged { frames, cursor, has_all }) => {
            let kind = if has_all { "damaged" } else { "lossy" };
            (shown(&frames), cursor.map(|cursor| cursor.ticks().to_string()), kind)
        }
    }
}

#[test]
fn found_6_5_a_damaged_answer_is_read_message_by_message() {
    const BAD: &str = "-an envelope that cannot be read";
    let t = r#""t":{"t":"17000000000000001","r":1}"#;
    for (what, body, frames, position, kind) in [
        (
            "NaN in a payload",
            format!(r#"{{{t},"m":[{{"d":1}},{{"d":NaN}},{{"d":3}}]}}"#),
            vec!["+1", BAD, "+3"],
            true,
            "damaged",
        ),
        ("NaN beside one", format!(r#"{{{t},"m":[{{"f":NaN,"d":1}}]}}"#), vec!["+1"], true, "whole"),
        (
            "a raw line break",
            format!("{{{t},\"m\":[{{\"d\":\"a\nb\"}},{{\"d\":2}}]}}"),
            vec![BAD, "+2"],
            true,
            "damaged",
        ),
        ("extra commas", format!(r#"{{{t},"m":[{{"d":1}},,{{"d":2}},],}}"#), vec!["+1", "+2"], true, "whole"),
        ("a comma in an envelope", format!(r#"{{{t},"m":[{{"d":1,}}]}}"#), vec!["+1"], true, "whole"),
        ("doubled keys", format!(r#"{{{t},{t},"m":[{{"d":1}}],"m":[{{"d":2}}]}}"#), vec!["+1", "+2"], true, "whole"),
        ("a byte order mark", format!("\u{feff}{{{t},\"m\":[{{\"d\":1}}]}}"), vec!["+1"], true, "whole"),
        ("a JSONP callback", format!(r#"cb_0({{{t},"m":[{{"d":1}}]}});"#), vec!["+1"], true, "whole"),
        ("unknown fields", format!(r#"{{"x":[1],{t},"y":null,"m":[{{"z":{{}},"d":1}}]}}"#), vec!["+1"], true, "whole"),
        ("cut in a message", format!(r#"{{{t},"m":[{{"d":1}},{{"d":"ab"#), vec!["+1", BAD], true, "lossy"),
        ("cut between messages", format!(r#"{{{t},"m":[{{"d":1}}"#), vec!["+1"], true, "lossy"),
        ("cut before them", format!(r#"{{{t},"m""#), vec!["-an answer without a list of messages"], true, "lossy"),
        (
            "cut in the position",
            r#"{"t":{"t":"1700000"#.into(),
            vec!["-an answer without a list of messages"],
            false,
            "lossy",
        ),
        (
            "a list that is not an array",
            format!(r#"{{{t},"m":"x"}}"#),
            vec!["-a list of messages that is not an array"],
            true,
            "damaged",
        ),
        ("no position", r#"{"m":[{"d":1}]}"#.into(), vec!["+1"], false, "damaged"),
        ("a broken position", r#"{"t":{"t":NaN,"r":1},"m":[{"d":1}]}"#.into(), vec!["+1"], false, "damaged"),
        ("a broken region", r#"{"t":{"t":17000000000000001,"r":NaN},"m":[{"d":1}]}"#.into(), vec!["+1"], true, "whole"),
    ] {
        let frames: Vec<String> = frames.into_iter().map(str::to_owned).collect();
        let position = position.then(|| "17000000000000001".to_owned());
        assert_eq!(salvaged(&body), (frames, position, kind), "{what}: {body}");
    }
}

#[test]
fn found_6_5_reading_continues_from_the_earlier_of_two_positions_and_long_texts_are_truncated() {
    let body = r#"{"t":{"t":"17000000000000009"},"t":{"t":"17000000000000002"},"m":[]}"#;
    assert_eq!(salvaged(body), (vec![], Some("17000000000000002".into()), "whole"));
    let body = format!(r#"{{"t":{{"t":"1"}},"m":[{{"d":NaN,"x":"{}"}}]}}"#, "é".repeat(100_000));
    let Ok(Read::Damaged(damaged)) = answer::read(200, &HashMap::new(), body.as_bytes()) else { panic!() };
    let FrameBody::Malformed { raw, .. } = &damaged.frames[0].body else { panic!() };
    assert!(raw.len() <= 64 << 10 && raw.len() > 60_000);
}

#[test]
fn only_a_time_answer_is_read_as_a_position() {
    let read = |status, body: &str| answer::time(status, body.as_bytes()).map(|cursor| cursor.ticks().to_string());
    assert_eq!(read(200, "[17000000000000001]"), Some("17000000000000001".into()));
    assert_eq!(read(200, " [ \"17000000000000001\" ]\n"), Some("17000000000000001".into()));
    for (status, body) in [(200, "[1]"), (200, "<html>"), (200, ""), (403, "[17000000000000001]"), (200, "[NaN]")] {
        assert_eq!(read(status, body), None, "{body}");
    }
}

/// A loopback server that answers each poll with `answer` of its number, and answers time requests.
async fn scripted(answer: fn(usize) -> Option<&'static str>) -> PubNub {
    scripted_with(answer, true).await
}

/// Like [`scripted`]; without `time` it ends the connection on a time request.
async fn scripted_with(answer: fn(usize) -> Option<&'static str>, time: bool) -> PubNub {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let polls = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let polls = polls.clone();
            tokio::spawn(async move {
                let mut request = [0; 4096];
                while let Ok(1..) = socket.read(&mut request).await {
                    let line = String::from_utf8_lossy(&request);
                    let line = line.lines().next().unwrap_or_default().to_owned();
                    let is_present = line.contains("tt=0&") || line.contains("tt=0 ");
                    let body = if line.contains("/time/0") || is_present {
                        if !time {
                            return;
                        }
                        Some(if is_present {
                            r#"{"t":{"t":"17000000000000050","r":1},"m":[]}"#
                        } else {
                            "[17000000000000050]"
                        })
                    } else {
                        answer(polls.fetch_add(1, std::sync::atomic::Ordering::SeqCst))
                    };
                    let Some(body) = body else { std::future::pending().await };
                    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                    socket.write_all(answer.as_bytes()).await.unwrap();
                }
            });
        }
    });
    PubNub::builder().origin(origin).build().unwrap()
}

async fn batch(link: &mut Box<dyn Link>) -> (usize, String, Option<crate::transport::PossibleLoss>) {
    loop {
        if let crate::transport::LinkEvent::Batch(crate::transport::LinkBatch {
            frames, cursor, possible_loss, ..
        }) = link.next().await.unwrap()
        {
            return (frames.len(), cursor.ticks().to_string(), possible_loss);
        }
    }
}

#[tokio::test]
async fn found_6_5_an_unreadable_answer_is_skipped_after_some_attempts() {
    use crate::transport::PossibleLoss::Unreadable;

    // With a position, with all messages found, and without either.
    for (body, want) in [
        (r#"{"t":{"t":"17000000000000009","r":1},"m":[{"d":1},{"d":NaN}]}"#, (2, "17000000000000009", None)),
        (r#"{"t":{"t":"17000000000000009","r":1},"m":[{"d":1},{"d":"#, (2, "17000000000000009", Some(Unreadable))),
        (r#"{"t":{"t":"1700"#, (1, "17000000000000050", Some(Unreadable))),
        (r#"{"t":{"t":"17000000000000000"},"m":[{"d":NaN}]}"#, (1, "17000000000000050", Some(Unreadable))),
    ] {
        // In each case: the poll is repeated, and then reading continues past it.
        static BODY: std::sync::Mutex<&str> = std::sync::Mutex::new("");
        *BODY.lock().unwrap() = body;
        let pubnub = scripted(|n| match n {
            0..5 => Some(*BODY.lock().unwrap()),
            5 => Some(r#"{"t":{"t":"17000000000000099","r":1},"m":[{"d":7}]}"#),
            _ => None,
        })
        .await;
        let mut link = pubnub.open(target("k", "c", None)).await.unwrap();
        let (frames, position, loss) = batch(&mut link).await;
        assert_eq!((frames, &*position, loss), want, "{body}");
        assert_eq!(batch(&mut link).await, (1, "17000000000000099".into(), None), "{body}");
    }
}

#[tokio::test]
async fn found_6_5_one_damaged_answer_is_requested_again_without_loss() {
    let pubnub = scripted(|n| match n {
        0 => Some(r#"{"t":{"t":"17000000000000009","r":1},"m":[{"d":1},{"d":"#),
        1 => Some(r#"{"t":{"t":"17000000000000009","r":1},"m":[{"d":1},{"d":2}]}"#),
        _ => None,
    })
    .await;
    let mut link = pubnub.open(target("k", "c", None)).await.unwrap();
    assert_eq!(batch(&mut link).await, (2, "17000000000000009".into(), None));
}

#[tokio::test]
async fn found_6_5_null_instead_of_messages_is_requested_again_without_loss() {
    let pubnub = scripted(|n| match n {
        0 => Some(r#"{"t":{"t":"17000000000000009","r":1},"m":null}"#),
        // Also where the answer is otherwise damaged.
        2 => Some(r#"{"t":{"t":"17000000000000019","r":1},"m":null,}"#),
        1 => Some(r#"{"t":{"t":"17000000000000009","r":1},"m":[{"d":1},{"d":2}]}"#),
        3 => Some(r#"{"t":{"t":"17000000000000019","r":1},"m":[{"d":3}]}"#),
        _ => None,
    })
    .await;
    let mut link = pubnub.open(target("k", "c", None)).await.unwrap();
    assert_eq!(batch(&mut link).await, (2, "17000000000000009".into(), None));
    assert_eq!(batch(&mut link).await, (1, "17000000000000019".into(), None));
}

#[tokio::test]
async fn found_6_5_null_that_comes_again_is_an_empty_list() {
    let pubnub = scripted(|n| match n {
        0 | 1 => Some(r#"{"t":{"t":"17000000000000009","r":1},"m":null}"#),
        // At the same position nothing can be missing.
        2 => Some(r#"{"t":{"t":"17000000000000009","r":1},"m":null}"#),
        3 | 4 => Some(r#"{"t":{"t":"17000000000000019","r":1},"m":null}"#),
        5 => Some(r#"{"t":{"t":"17000000000000099","r":1},"m":[{"d":7}]}"#),
        _ => None,
    })
    .await;
    let mut link = pubnub.open(target("k", "c", None)).await.unwrap();
    for (frames, position) in [(0, "09"), (0, "09"), (0, "19"), (1, "99")] {
        assert_eq!(batch(&mut link).await, (frames, format!("170000000000000{position}"), None));
    }
}

#[tokio::test]
async fn a_poll_without_an_answer_is_repeated_from_the_same_position() {
    let mut pubnub = scripted(|n| match n {
        0 | 1 => None,
        _ => Some(r#"{"t":{"t":"17000000000000009","r":1},"m":[{"d":1}]}"#),
    })
    .await;
    pubnub.tuning.ask_again = Duration::from_millis(50);
    let mut link = pubnub.open(target("k", "c", None)).await.unwrap();
    assert_eq!(batch(&mut link).await, (1, "17000000000000009".into(), None));
}

#[tokio::test]
async fn a_dead_path_fails_while_the_poll_is_held() {
    let mut pubnub = scripted_with(|_| None, false).await;
    pubnub.tuning.ask_again = Duration::from_millis(600);
    let mut link = pubnub.open(target("k", "c", None)).await.unwrap();
    let error = link.next().await.unwrap_err();
    assert_eq!((error.kind(), error.disposition()), (ErrorKind::Timeout, RETRY));
}

/// A service that holds the first polls for ever, and answers time requests.
#[derive(Debug)]
struct Holds {
    polls: std::sync::atomic::AtomicUsize,
    held: usize,
    tells_time: bool,
    /// Whether the answers only begin.
    begins: bool,
    /// After how many requests for the present position another region answers.
    moves_after: usize,
    presents: std::sync::atomic::AtomicUsize,
}

/// The body of an answer that never arrives.
#[derive(Debug)]
struct Never;

#[async_trait]
impl crate::http::HttpBody for Never {
    async fn chunk(&mut self) -> std::result::Result<Option<bytes::Bytes>, crate::http::HttpError> {
        std::future::pending().await
    }

    async fn upgrade(self: Box<Self>) -> std::result::Result<Box<dyn crate::http::ByteStream>, crate::http::HttpError> {
        Err(crate::http::HttpError::new(crate::http::HttpErrorKind::Body))
    }
}

impl Holds {
    fn pubnub(held: usize, tells_time: bool) -> PubNub {
        Self::with(held, tells_time, false, usize::MAX)
    }

    fn with(held: usize, tells_time: bool, begins: bool, moves_after: usize) -> PubNub {
        let holds = Self { polls: 0.into(), held, tells_time, begins, moves_after, presents: 0.into() };
        let PubNub { http, tuning } = PubNub::builder().build().unwrap();
        PubNub { http: http.with_system(crate::System::new().with_http(holds)), tuning }
    }
}

#[async_trait]
impl crate::http::HttpClient for Holds {
    async fn send(
        &self,
        request: crate::http::HttpRequest,
    ) -> std::result::Result<crate::http::HttpResponse, crate::http::HttpError> {
        let is_present = request.url().query_pairs().any(|(name, value)| name == "tt" && value == "0");
        let is_time = request.url().path() == "/time/0" || is_present;
        let is_held = !is_time && self.polls.fetch_add(1, std::sync::atomic::Ordering::SeqCst) < self.held;
        if is_held || is_time && !self.tells_time {
            return std::future::pending().await;
        }
        let body = r#"{"t":{"t":"17000000000000009","r":1},"m":[{"d":1}]}"#;
        let before = self.presents.fetch_add(usize::from(is_present), std::sync::atomic::Ordering::SeqCst);
        let body = match (is_present, is_time) {
            (true, _) if before < self.moves_after => r#"{"t":{"t":"17000000000000050","r":1},"m":[]}"#,
            (true, _) => r#"{"t":{"t":"17000000000000050","r":2},"m":[]}"#,
            (_, true) => "[17000000000000050]",
            _ => body,
        };
        if self.begins && !is_time {
            let (status, headers) = (::http::StatusCode::OK, ::http::HeaderMap::new());
            return Ok(crate::http::HttpResponse::new(status, headers, Never));
        }
        Ok(crate::http::HttpResponse::whole(::http::StatusCode::OK, ::http::HeaderMap::new(), body))
    }
}

/// Nothing is published for an hour: each poll is held, and repeated.
#[tokio::test(start_paused = true)]
async fn a_quiet_channel_is_no_pause() {
    use crate::transport::{Coverage, LinkBatch, LinkEvent};

    let pubnub = Holds::pubnub(80, true);
    let mut link = pubnub.open(target("k", "c", None)).await.unwrap();
    let (mut proofs, mut last) = (0, tokio::time::Instant::now());
    loop {
        let LinkEvent::Batch(LinkBatch { frames, cursor, coverage, possible_loss, .. }) = link.next().await.unwrap()
        else {
            continue;
        };
        assert_eq!(possible_loss, None);
        if !frames.is_empty() {
            break;
        }
        let Coverage::Whole { asked } = coverage else { panic!("{coverage:?}") };
        assert_eq!(cursor, self::cursor("17000000000000000", Some(1)), "the position stays");
        assert!(asked.elapsed() < Duration::from_secs(1) && asked - last <= ASK_AGAIN, "{proofs}");
        (proofs, last) = (proofs + 1, asked);
    }
    // One proof for each repeated poll.
    assert_eq!(proofs, 79);
}

#[tokio::test(start_paused = true)]
async fn a_held_poll_proves_nothing_unless_the_service_answers_beside_it() {
    let pubnub = Holds::pubnub(80, false);
    let mut link = pubnub.open(target("k", "c", None)).await.unwrap();
    assert_eq!(link.next().await.unwrap_err().kind(), ErrorKind::Timeout);
    // A message that was published long before the first poll may have left the buffer.
    let pubnub = Holds::pubnub(1, true);
    let old = tokio::time::Instant::now();
    tokio::time::sleep(Duration::from_secs(600)).await;
    let mut link = pubnub.open(Target { last_good: Some(old), ..target("k", "c", None) }).await.unwrap();
    let (frames, _, loss) = batch(&mut link).await;
    assert!(frames == 1 && matches!(loss, Some(crate::transport::PossibleLoss::BufferAged { .. })), "{loss:?}");
}

/// Another region holds the poll although it has not all events of the former one (pubnub.md §7, row 8).
#[tokio::test(start_paused = true)]
async fn a_held_poll_proves_nothing_where_another_region_answers() {
    use crate::transport::{Coverage, LinkBatch, LinkEvent, PossibleLoss};

    let pubnub = Holds::with(80, true, false, 2);
    let mut link = pubnub.open(target("k", "c", None)).await.unwrap();
    let mut seen = Vec::new();
    while seen.last() != Some(&Some(PossibleLoss::RegionChanged)) {
        match link.next().await.unwrap() {
            LinkEvent::Batch(LinkBatch { coverage, possible_loss, .. }) => {
                assert_eq!(matches!(coverage, Coverage::Cut { .. }), possible_loss.is_some());
                seen.push(possible_loss);
            }
            LinkEvent::At(located) => assert_eq!(located, cursor("17000000000000000", Some(1))),
            other => assert!(matches!(other, LinkEvent::Alive), "{other:?}"),
        }
    }
    assert_eq!(seen.len(), 3, "two polls were held in the first region: {seen:?}");
}

/// Without an event nothing else would reveal it, and each later proof would be missing.
#[tokio::test(start_paused = true)]
async fn a_pause_longer_than_the_buffer_lasts_is_reported_without_an_event() {
    use crate::transport::{Coverage, LinkBatch, LinkEvent, PossibleLoss};

    let pubnub = Holds::pubnub(80, true);
    let old = tokio::time::Instant::now();
    tokio::time::sleep(Duration::from_secs(600)).await;
    let mut link = pubnub.open(Target { last_good: Some(old), ..target("k", "c", None) }).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 2 {
        if let LinkEvent::Batch(LinkBatch { frames, coverage, possible_loss, .. }) = link.next().await.unwrap() {
            assert!(frames.is_empty() && matches!(coverage, Coverage::Cut { .. }) == possible_loss.is_some());
            seen.push(possible_loss);
        }
    }
    assert!(matches!(seen[..], [Some(PossibleLoss::BufferAged { .. }), None]), "once: {seen:?}");
}

/// Addresses that change every 46 s would otherwise never be proven to be read.
#[tokio::test(start_paused = true)]
async fn a_link_on_a_quiet_channel_proves_soon_that_nothing_is_missing() {
    let pubnub = Holds::pubnub(80, true);
    let begin = tokio::time::Instant::now();
    let mut link = pubnub.open(target("k", "c", None)).await.unwrap();
    batch(&mut link).await;
    assert!(begin.elapsed() < Duration::from_secs(17), "{:?}", begin.elapsed());
    let proven = tokio::time::Instant::now();
    batch(&mut link).await;
    assert!(proven.elapsed() >= ASK_AGAIN, "later polls are repeated less often: {:?}", proven.elapsed());
}

/// The answer is in transit, and slow.
#[tokio::test(start_paused = true)]
async fn a_poll_whose_answer_has_begun_is_not_held() {
    let pubnub = Holds::with(1, true, true, usize::MAX);
    let mut link = pubnub.open(target("k", "c", None)).await.unwrap();
    loop {
        match link.next().await {
            Ok(event) => assert!(
                matches!(event, crate::transport::LinkEvent::Alive | crate::transport::LinkEvent::At(_)),
                "{event:?}"
            ),
            Err(error) => break assert_eq!(error.kind(), ErrorKind::Timeout),
        }
    }
}

#[tokio::test]
async fn an_answer_from_another_region_is_a_possible_loss() {
    use crate::transport::PossibleLoss::RegionChanged;

    let pubnub = scripted(|n| match n {
        0 => Some(r#"{"t":{"t":"17000000000000001","r":4},"m":[{"d":1}]}"#),
        1 => Some(r#"{"t":{"t":"17000000000000002","r":4},"m":[{"d":2}]}"#),
        // Without a region, a change of region cannot be seen.
        2 => Some(r#"{"t":{"t":"17000000000000003"},"m":[{"d":3}]}"#),
        3 => Some(r#"{"t":{"t":"17000000000000004","r":7},"m":[{"d":4}]}"#),
        4 => Some(r#"{"t":{"t":"17000000000000005","r":7},"m":[{"d":5}]}"#),
        _ => None,
    })
    .await;
    let mut link = pubnub.open(target("k", "c", None)).await.unwrap();
    for (n, loss) in [(1, None), (2, None), (3, None), (4, Some(RegionChanged)), (5, None)] {
        assert_eq!(batch(&mut link).await, (1, format!("1700000000000000{n}"), loss));
    }
}

/// A process that stops before the first events are finished continues from before them: only with their region does it
/// recognize another one (pubnub.md §7, row 8).
#[tokio::test]
async fn the_region_of_the_first_answer_belongs_to_the_position_before_it() {
    use crate::transport::LinkEvent;

    let pubnub = scripted(|n| match n {
        0 => Some(r#"{"t":{"t":"17000000000000001","r":4},"m":[{"d":1}]}"#),
        1 => Some(r#"{"t":{"t":"17000000000000002","r":4},"m":[{"d":2}]}"#),
        _ => None,
    })
    .await;
    let target = target("k", "c", None);
    let first = target.cursor.clone().with_detail(Some("4".into()));
    let mut link = pubnub.open(target).await.unwrap();
    let mut at = Vec::new();
    for _ in 0..2 {
        loop {
            match link.next().await.unwrap() {
                LinkEvent::Batch(_) => break,
                LinkEvent::At(cursor) => at.push(cursor),
                _ => {}
            }
        }
    }
    assert_eq!(at, [first]);
}

/// Answers with bodies that take `body` to come.
#[derive(Debug)]
struct SlowBody {
    polls: std::sync::atomic::AtomicUsize,
    events: usize,
    body: Duration,
}

#[derive(Debug)]
struct Late(Option<bytes::Bytes>, Duration);

#[async_trait]
impl crate::http::HttpBody for Late {
    async fn chunk(&mut self) -> std::result::Result<Option<bytes::Bytes>, crate::http::HttpError> {
        tokio::time::sleep(self.1).await;
        Ok(self.0.take())
    }

    async fn upgrade(self: Box<Self>) -> std::result::Result<Box<dyn crate::http::ByteStream>, crate::http::HttpError> {
        Err(crate::http::HttpError::new(crate::http::HttpErrorKind::Body))
    }
}

#[async_trait]
impl crate::http::HttpClient for SlowBody {
    async fn send(
        &self,
        request: crate::http::HttpRequest,
    ) -> std::result::Result<crate::http::HttpResponse, crate::http::HttpError> {
        if request.url().path() == "/time/0" {
            return std::future::pending().await;
        }
        let n = self.polls.fetch_add(1, std::sync::atomic::Ordering::SeqCst) * self.events;
        let events: Vec<String> = (n..n + self.events).map(|n| format!(r#"{{"d":{n}}}"#)).collect();
        let body = format!(r#"{{"t":{{"t":"{}","r":1}},"m":[{}]}}"#, 17_000_000_000_000_001 + n, events.join(","));
        let body = Late(Some(body.into()), self.body);
        let (status, headers) = (::http::StatusCode::OK, ::http::HeaderMap::new());
        Ok(crate::http::HttpResponse::new(status, headers, body))
    }
}

/// Found 2.4, over a slow path: what waits is answered at once and arrives late.
#[tokio::test(start_paused = true)]
async fn large_answers_over_a_slow_path_add_up_to_a_full_buffer() {
    use crate::transport::PossibleLoss::BufferFull;

    let slow = SlowBody { polls: 0.into(), events: 25, body: Duration::from_secs(3) };
    let PubNub { http, tuning } = PubNub::builder().build().unwrap();
    let pubnub = PubNub { http: http.with_system(crate::System::new().with_http(slow)), tuning };
    // It continues a link that failed.
    let after_fault = Target { cursor: cursor("17000000000000000", Some(1)), ..target("k", "c", None) };
    let mut link = pubnub.open(after_fault).await.unwrap();
    for loss in [None, None, None, Some(BufferFull { events: 100 })] {
        let (frames, _, suspected) = batch(&mut link).await;
        assert_eq!((frames, suspected), (25, loss));
    }
}

/// A service with one message, which holds the polls behind it, and says where it is.
#[derive(Debug)]
struct Places {
    asked: Arc<std::sync::Mutex<Vec<String>>>,
    /// The region that answers when the present position is asked for; `None`: no answer.
    region: Option<u32>,
}

#[async_trait]
impl crate::http::HttpClient for Places {
    async fn send(
        &self,
        request: crate::http::HttpRequest,
    ) -> std::result::Result<crate::http::HttpResponse, crate::http::HttpError> {
        let url = request.url();
        let from = url.query_pairs().find(|(name, _)| name == "tt").map_or(url.path().to_owned(), |(_, at)| at.into());
        self.asked.lock().unwrap().push(from.clone());
        let body = match (&*from, self.region) {
            ("/time/0", _) => "[17000000000000050]".to_owned(),
            ("0", Some(region)) => format!(r#"{{"t":{{"t":"17000000000000099","r":{region}}},"m":[]}}"#),
            ("17000000000000000", _) => r#"{"t":{"t":"17000000000000009","r":4},"m":[{"d":1}]}"#.to_owned(),
            _ => return std::future::pending().await,
        };
        Ok(crate::http::HttpResponse::whole(::http::StatusCode::OK, ::http::HeaderMap::new(), body))
    }
}

/// A held poll proves nothing: its connection may be dead, or another region may answer.
#[tokio::test(start_paused = true)]
async fn a_check_asks_for_the_present_position_and_then_again_at_the_cursor() {
    use crate::transport::{Coverage, LinkBatch, LinkEvent, PossibleLoss};
    use futures_util::FutureExt as _;

    for region in [Some(4), Some(7), None] {
        let asked = Arc::new(std::sync::Mutex::new(Vec::new()));
        let PubNub { http, tuning } = PubNub::builder().build().unwrap();
        let places = Places { asked: asked.clone(), region };
        let pubnub = PubNub { http: http.with_system(crate::System::new().with_http(places)), tuning };
        let mut link = pubnub.open(target("k", "c", None)).await.unwrap();
        assert_eq!(batch(&mut link).await.0, 1);
        assert!(link.next().now_or_never().is_none());
        assert_eq!(*asked.lock().unwrap(), ["17000000000000000", "17000000000000009"]);
        asked.lock().unwrap().clear();
        tokio::time::advance(Duration::from_millis(100)).await;
        let checked = tokio::time::Instant::now();
        link.check();
        let mut next = link.next().await;
        if region == Some(7) {
            let Ok(LinkEvent::Batch(LinkBatch { frames, coverage, possible_loss, .. })) = next else {
                panic!("{next:?}")
            };
            assert!(frames.is_empty() && possible_loss == Some(PossibleLoss::RegionChanged));
            let Coverage::Cut { asked } = coverage else { panic!("{coverage:?}") };
            assert_eq!(asked, checked, "what was published before may be lost");
            next = link.next().await;
        }
        match (next, region) {
            (Ok(LinkEvent::Answered { asked }), Some(_)) => assert!(asked >= checked),
            (Err(error), None) => assert_eq!(error.kind(), ErrorKind::Timeout),
            (other, _) => panic!("{other:?}"),
        }
        let again: &[&str] = if region.is_some() { &["0", "17000000000000009"] } else { &["0"] };
        assert_eq!(*asked.lock().unwrap(), again, "{region:?}");
    }
}

/// The first poll gets no answer; the next one gets its head soon and its body late.
#[derive(Debug, Default)]
struct LateAnswer {
    polls: std::sync::atomic::AtomicUsize,
}

#[async_trait]
impl crate::http::HttpClient for LateAnswer {
    async fn send(
        &self,
        request: crate::http::HttpRequest,
    ) -> std::result::Result<crate::http::HttpResponse, crate::http::HttpError> {
        let is_present = request.url().query_pairs().any(|(name, value)| name == "tt" && value == "0");
        let (status, headers) = (::http::StatusCode::OK, ::http::HeaderMap::new());
        tokio::time::sleep(Duration::from_millis(100)).await;
        if is_present {
            let body = r#"{"t":{"t":"17000000000000099","r":4},"m":[]}"#;
            return Ok(crate::http::HttpResponse::whole(status, headers, body));
        }
        if request.url().path() == "/time/0" || self.polls.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0 {
            return std::future::pending().await;
        }
        let body = Late(Some(r#"{"t":{"t":"17000000000000009","r":4},"m":[{"d":1}]}"#.into()), Duration::from_secs(2));
        Ok(crate::http::HttpResponse::new(status, headers, body))
    }
}

#[tokio::test(start_paused = true)]
async fn a_check_waits_for_an_answer_that_has_begun() {
    let PubNub { http, tuning } = PubNub::builder().build().unwrap();
    let pubnub = PubNub { http: http.with_system(crate::System::new().with_http(LateAnswer::default())), tuning };
    let mut link = pubnub.open(target("k", "c", None)).await.unwrap();
    link.check();
    let first = link.next().await.unwrap();
    let crate::transport::LinkEvent::Batch(crate::transport::LinkBatch { frames, .. }) = first else {
        panic!("taken for a held poll: {first:?}")
    };
    assert_eq!(frames.len(), 1);
}
