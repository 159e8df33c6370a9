//! The subscription calls, against a scripted server.

use std::time::Duration;

use crate::support::scripted::{Reply, Scripted};
use ringcentral_events::auth::{AccessToken, StaticToken};
use ringcentral_events::control::{ControlPlane, CreateSubscription, Deletion, DeliveryModeRequest};
use ringcentral_events::rest::{Client, RestControl};
use ringcentral_events::transport::TransportKind;
use ringcentral_events::{Disposition, ErrorKind, SubscriptionId};

const INFO: &str = r#"{"id":"s-1","eventFilters":["/restapi/v1.0/account/1/extension/2/message-store"],"expiresIn":899,
    "status":"Active","deliveryMode":{"transportType":"PubNub","encryption":true,"address":"1_a","subscriberKey":"sub-c-1",
    "encryptionAlgorithm":"AES","encryptionKey":"a2V5"}}"#;

fn control(server: &Scripted) -> RestControl {
    let token = AccessToken::new("t").with_owner_id("7");
    let client = Client::builder(StaticToken::new(token)).server(server.url()).deadline(Duration::from_secs(5));
    RestControl::new(client.build().unwrap())
}

async fn always(reply: Reply) -> Scripted {
    Scripted::start(move |_| {
        let reply = reply.clone();
        async move { reply }
    })
    .await
}

fn request() -> CreateSubscription {
    let filter = "/restapi/v1.0/account/~/extension/~/message-store".to_owned();
    CreateSubscription::new(vec![filter], DeliveryModeRequest::new(TransportKind::PubNub).encryption(true))
}

fn id() -> SubscriptionId {
    SubscriptionId::new("s-1")
}

#[tokio::test]
async fn each_call_has_its_verb_path_and_body() {
    let server = Scripted::start(|seen| async move {
        match seen.line().as_str() {
            "DELETE /restapi/v1.0/subscription/s-1" => Reply::new(204, ""),
            "GET /restapi/v1.0/subscription" => Reply::new(200, format!(r#"{{"uri":"x","records":[{INFO},{INFO}]}}"#)),
            _ => Reply::new(200, INFO),
        }
    })
    .await;
    let control = control(&server);
    let info = control.create(&request()).await.unwrap();
    assert_eq!((info.id.as_str(), info.expires_in), ("s-1", Some(Duration::from_secs(899))));
    assert_eq!(control.list().await.unwrap().len(), 2);
    control.get(&id()).await.unwrap();
    control.update(&id(), &["/a".into(), "/b".into()]).await.unwrap();
    control.renew(&id()).await.unwrap();
    control.delete(&id()).await.unwrap();
    assert_eq!(control.owner_id().await.unwrap().as_deref(), Some("7"));
    assert_eq!(
        server.lines(),
        [
            "POST /restapi/v1.0/subscription",
            "GET /restapi/v1.0/subscription",
            "GET /restapi/v1.0/subscription/s-1",
            "PUT /restapi/v1.0/subscription/s-1",
            "POST /restapi/v1.0/subscription/s-1/renew",
            "DELETE /restapi/v1.0/subscription/s-1",
        ]
    );
    let bodies: Vec<String> = server.seen().into_iter().map(|seen| seen.body).collect();
    let created: serde_json::Value = serde_json::from_str(&bodies[0]).unwrap();
    assert_eq!(
        created,
        serde_json::json!({"eventFilters":["/restapi/v1.0/account/~/extension/~/message-store"],
            "deliveryMode":{"transportType":"PubNub","encryption":true}})
    );
    assert_eq!((bodies[3].as_str(), bodies[4].as_str()), (r#"{"eventFilters":["/a","/b"]}"#, ""));
}

#[tokio::test]
async fn l9_a_delete_treats_404_as_done_and_401_as_transient() {
    for (reply, found) in [
        (Reply::code(404, "CMN-102"), Deletion::GoneAlready),
        (Reply::code(404, "SUB-507"), Deletion::GoneAlready),
        (Reply::new(404, ""), Deletion::GoneAlready),
        (Reply::new(204, ""), Deletion::Deleted),
    ] {
        let server = always(reply.clone()).await;
        let outcome = control(&server).delete(&id()).await;
        assert_eq!(outcome.unwrap_or_else(|error| panic!("{reply:?}: {error}")), found, "{reply:?}");
    }
    for (reply, kind) in [
        // Nothing proves that it is gone.
        (Reply::code(401, "OAU-213"), ErrorKind::Auth),
        (Reply::code(401, "OAU-151"), ErrorKind::Auth),
        (Reply::code(403, "CMN-408"), ErrorKind::Permission),
        (Reply::new(500, ""), ErrorKind::Service),
        (Reply::Reset, ErrorKind::Network),
    ] {
        let server = always(reply).await;
        assert_eq!(control(&server).delete(&id()).await.unwrap_err().kind(), kind);
        assert_eq!(server.seen().len(), 1);
    }
}

#[tokio::test]
async fn a_page_in_answer_to_a_delete_is_no_confirmation() {
    for (status, body, confirms) in [
        (200, "<html><body>Please log in</body></html>", false),
        (200, " \r\n<!DOCTYPE html>", false),
        (204, "", true),
        (200, "\r\n", true),
        (200, INFO, true),
    ] {
        let server = always(Reply::new(status, body)).await;
        match control(&server).delete(&id()).await {
            Ok(done) => assert!(confirms && done == Deletion::Deleted, "{status} {body}"),
            // It is repeated, and may have been carried out.
            Err(error) => {
                assert!(!confirms && error.is_ambiguous(), "{status} {body}: {error}");
                assert_eq!(error.kind(), ErrorKind::Protocol);
                assert!(matches!(error.disposition(), Disposition::Retry { after: None }), "{error:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_delete_is_sent_with_an_exhausted_budget_but_not_during_a_penalty() {
    let used_up = |status, body| {
        Reply::new(status, body).with("x-rate-limit-group", "medium").with("x-rate-limit-remaining", "0")
    };
    let server = Scripted::start(move |seen| async move {
        match seen.line().as_str() {
            "POST /restapi/v1.0/subscription" => used_up(200, INFO),
            "DELETE /restapi/v1.0/subscription/s-1" => used_up(429, "").with("retry-after", "60"),
            _ => Reply::new(500, ""),
        }
    })
    .await;
    let control = control(&server);
    control.create(&request()).await.unwrap();
    assert_eq!(control.update(&id(), &["/a".into()]).await.unwrap_err().kind(), ErrorKind::RateLimited);
    for _ in 0..2 {
        assert_eq!(control.delete(&id()).await.unwrap_err().kind(), ErrorKind::RateLimited);
    }
    assert_eq!(server.lines(), ["POST /restapi/v1.0/subscription", "DELETE /restapi/v1.0/subscription/s-1"]);
}

#[tokio::test]
async fn each_call_is_one_attempt() {
    for reply in
        [Reply::new(500, ""), Reply::new(503, ""), Reply::code(429, "CMN-301").with("retry-after", "1"), Reply::Reset]
    {
        let server = always(reply).await;
        let error = control(&server).get(&id()).await.unwrap_err();
        assert!(matches!(error.disposition(), Disposition::Retry { .. }));
        assert_eq!(server.seen().len(), 1);
    }
}

#[tokio::test]
async fn an_ambiguous_create_is_reported_as_such() {
    for (reply, unclear) in [
        (Reply::Reset, true),
        (Reply::Cut, true),
        (Reply::new(504, ""), true),
        (Reply::new(200, "<html>"), true),
        (Reply::new(200, r#"{"id":null,"deliveryMode":{}}"#), true),
        (Reply::new(200, r#"{"deliveryMode":{"transportType":"PubNub"}}"#), true),
        (Reply::new(200, "[]"), true),
        (Reply::code(429, "CMN-301"), false),
        (Reply::code(400, "SUB-508"), false),
        (Reply::code(403, "SUB-528"), false),
    ] {
        let server = always(reply.clone()).await;
        let error = control(&server).create(&request()).await.unwrap_err();
        assert_eq!((error.is_ambiguous(), server.seen().len()), (unclear, 1), "{reply:?}");
    }
}

#[tokio::test]
async fn an_odd_field_hides_neither_a_creation_nor_a_record_of_the_list() {
    let deep = "[".repeat(1000) + &"]".repeat(1000);
    for odd in [
        r#""expirationTime":1795645404189"#,
        r#""disabledFilters":["/x"]"#,
        r#""disabledFilters":{"filter":"/x"}"#,
        r#""status":5"#,
        r#""expiresIn":[899],"creationTime":{}"#,
        r#""blacklistedData":"x""#,
        r#""deliveryMode":{"transportType":null,"encryption":{},"encryptionAlgorithm":5}"#,
        r#""deliveryMode":null"#,
        &format!(r#""more":{deep}"#),
    ] {
        let info = format!(r#"{{"id":"s-1",{odd}}}"#);
        let server = always(Reply::new(200, info.clone())).await;
        let control = control(&server);
        for read in [control.create(&request()).await, control.renew(&id()).await, control.get(&id()).await] {
            assert_eq!(read.unwrap_or_else(|error| panic!("{info}: {error}")).id, id());
        }
        let server = always(Reply::new(200, format!(r#"{{"records":[{info},{{"id":[]}},{INFO}]}}"#))).await;
        assert_eq!(self::control(&server).list().await.unwrap().len(), 2, "{info}");
    }
}

#[tokio::test]
async fn l11_refusals_of_a_create_have_their_kinds() {
    let not_ready = Disposition::Retry { after: Some(Duration::from_secs(10)) };
    for (reply, kind, disposition) in [
        (Reply::code(403, "SUB-406"), ErrorKind::Permission, not_ready),
        (Reply::code(406, "SUB-406"), ErrorKind::Permission, not_ready),
        (Reply::new(406, ""), ErrorKind::Rejected, not_ready),
        (Reply::code(406, "XYZ-1"), ErrorKind::Rejected, Disposition::Fatal),
        (Reply::code(403, "SUB-505"), ErrorKind::SubscriptionLimit, Disposition::Prune),
        (Reply::code(403, "SUB-528"), ErrorKind::TransportRefused, Disposition::Fatal),
        (Reply::code(403, "CMN-401"), ErrorKind::Permission, Disposition::Fatal),
        (Reply::code(404, "CMN-102"), ErrorKind::NotFound, Disposition::Fatal),
    ] {
        let server = always(reply).await;
        let error = control(&server).create(&request()).await.unwrap_err();
        assert_eq!((error.kind(), error.disposition()), (kind, disposition));
    }
    // In other calls 406 concerns the request, so a retry does not help.
    let server = always(Reply::new(406, "")).await;
    assert_eq!(control(&server).get(&id()).await.unwrap_err().disposition(), Disposition::Fatal);
    let server = always(Reply::code(404, "CMN-102")).await;
    assert_eq!(control(&server).renew(&id()).await.unwrap_err().disposition(), Disposition::Recreate);
}

#[tokio::test]
async fn an_id_that_would_change_the_path_is_refused_before_sending() {
    let server = always(Reply::new(204, "")).await;
    for bad in ["", ".", ".."] {
        let error = control(&server).delete(&SubscriptionId::new(bad)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
    }
    control(&server).delete(&SubscriptionId::new("a/b?c")).await.unwrap();
    assert_eq!(server.lines(), ["DELETE /restapi/v1.0/subscription/a%2Fb%3Fc"]);
}
