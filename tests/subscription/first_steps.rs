//! The shortest program: a login, a subscription with all defaults, and its first event.

use ringcentral_events::{Client, EventFilter, Subscription};
use ringcentral_sandbox::Sandbox;

use crate::support::common::soon;

async fn start(client: &Client) -> ringcentral_events::Result<Subscription> {
    soon(client.subscribe([EventFilter::instant_message()]).start()).await
}

#[cfg(feature = "websocket")]
#[tokio::test]
async fn without_a_transport_events_come_over_a_websocket() {
    use ringcentral_events::transport::TransportKind;
    use ringcentral_events::{Delivery, Event};
    use ringcentral_sandbox::Fixture;

    let sandbox = Sandbox::start().await.unwrap();
    let client = sandbox.client().unwrap();
    let mut events = start(&client).await.unwrap();
    assert_eq!(events.status().current().transport, TransportKind::WebSocket);
    sandbox.trigger(&Fixture::inbound_sms("+16505550100", "hello"));
    let delivery = soon(events.next()).await.unwrap().unwrap();
    let Delivery::Notification(it) = delivery else { panic!("{delivery:?}") };
    let Event::InstantMessage(sms) = it.event() else { panic!("{it:?}") };
    assert_eq!(sms.text(), Some("hello"));
    sandbox.trigger(&Fixture::inbound_sms("+16505550100", "and again"));
    let mut events = events.notifications();
    let it = soon(events.next()).await.unwrap().unwrap();
    let Event::InstantMessage(sms) = it.event() else { panic!("{it:?}") };
    assert_eq!(sms.text(), Some("and again"));
    assert!(events.into_inner().close().await.deleted);
}

#[cfg(not(feature = "websocket"))]
#[tokio::test]
async fn without_a_transport_and_the_feature_websocket_the_start_fails_at_once_and_names_both() {
    use ringcentral_events::ErrorKind;
    use ringcentral_sandbox::Service;

    let sandbox = Sandbox::start().await.unwrap();
    let error = start(&sandbox.client().unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    let shown = error.to_string();
    assert!(shown.contains("`websocket`") && shown.contains("`transport`"), "{shown}");
    assert!(sandbox.requests().iter().all(|request| request.service != Service::Api), "{:?}", sandbox.requests());
}

#[tokio::test]
async fn the_user_of_a_login_is_read() {
    let sandbox = Sandbox::builder().identity("900", "901").start().await.unwrap();
    let me = soon(sandbox.client().unwrap().me()).await.unwrap();
    assert_eq!((me.id.as_str(), me.person_id().as_str()), ("901", "901"));
    assert_eq!(me.account_id, Some("900".into()));
    assert_eq!((me.extension_number.as_deref(), me.name.as_deref()), (Some("101"), Some("Sandbox User")));
}
