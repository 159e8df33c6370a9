//! What an agent session shows in logs, errors and `Debug`, at every level.
//!
//! In a separate process, since loggers are global to the process.

use crate::support::agent::*;
use crate::support::capture::Capture;
use crate::support::process::ran_alone;
use crate::support::scripted::{Reply, Scripted, texts_of};
use ringcentral_events::agent::auth::CentralTokens;
use ringcentral_events::agent::{AgentSession, EndSession};
use serde_json::json;

#[tokio::test]
async fn no_level_shows_session_ids_tokens_or_passwords() {
    if ran_alone(module_path!(), "no_level_shows_session_ids_tokens_or_passwords").await {
        return;
    }
    let (tracing_lines, log_lines) = Capture::install();

    let service = Service::start().await;
    let base = service.server.url();
    let tokens = Scripted::start(move |seen| {
        let base = base.clone();
        async move {
            let body = json!({ "access_token": format!("t0ken{}", seen.n), "refresh_token": format!("ren3wal{}", seen.n),
                "expires_in": 3600, "resource_server_base_uri": base });
            Reply::new(200, body.to_string())
        }
    })
    .await;
    let provider = CentralTokens::builder("a@v:s3cretapp", "ada", "passw0rd").token_url(tokens.url()).build().unwrap();
    let mut shown = format!("{provider:?}");
    service.calls.then(Reply::new(202, json!({ "sessionId": "sessi0n0" }).to_string()));
    service
        .polls
        .then(batch("sessi0n1", &[start_event(), custom("pay10ad")]))
        .then(Reply::new(401, "").with("icStatusDescription", "t0ken0 of sessi0n1"))
        .then(Reply::Reset)
        .then(Reply::Reset)
        .then(Reply::new(500, "sessi0n1"))
        .then(Reply::new(200, "sessi0n2 pay10ad"))
        .then(batch("sessi0n3", &[start_event()]).with("icBranchValue", "3"))
        .then(Reply::new(403, json!({ "error": "sessi0n3 may not" }).to_string()));
    let session = AgentSession::builder(provider).phone_number("1").start().await.unwrap();
    shown.push_str(&format!("{session:?}"));
    let mut events = session.events().unwrap();
    loop {
        shown.push_str(&format!("{events:?} {:?} {:?}", events.cursor(), session.status().current()));
        match next(&mut events).await {
            Some(Ok(delivery)) => shown.push_str(&name(&delivery)),
            Some(Err(error)) => shown.push_str(&texts_of(&error)),
            None => break,
        }
    }
    service.calls.then(Reply::new(400, json!({ "error": "no end of sessi0n3" }).to_string()));
    let refused = session.end(EndSession::new()).await.unwrap_err();
    shown.push_str(&texts_of(&refused));

    let (ours, others) = (tracing_lines.text(), log_lines.text());
    // Both loggers captured something, and every scripted step happened.
    assert!(ours.contains("poll failed") && ours.contains("poll refused") && ours.contains("TRACE"), "{ours}");
    log::info!("heard");
    assert!(log_lines.text().contains("heard"));
    assert!(service.polls.is_done() && shown.contains("undecodable"), "{shown}");
    for secret in ["sessi0n", "t0ken", "ren3wal", "passw0rd", "s3cretapp", "pay10ad"] {
        assert!(!ours.contains(secret), "{secret} in {ours}");
        assert!(!others.contains(secret), "{secret} in {others}");
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
}
