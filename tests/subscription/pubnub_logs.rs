//! The contents of the logs, at every level, by `tracing` and by `log`.
//!
//! In a separate process, since loggers are global to the process.

use std::time::Duration;

use crate::support::capture::Capture;
use crate::support::process::ran_alone;
use crate::support::pubnub::*;
use ringcentral_events::transport::Transport;
use tokio::join;

#[tokio::test]
async fn no_log_level_shows_channel_key_url_or_payload() {
    if ran_alone(module_path!(), "no_log_level_shows_channel_key_url_or_payload").await {
        return;
    }
    let (tracing_lines, log_lines) = Capture::install();

    let mut server = Server::start().await;
    let transport = builder(&server).poll_deadline(Duration::from_millis(1500)).build().unwrap();
    let mut link = transport.open(target(cursor(TT, Some(4)))).await.unwrap();
    let body = r#"{"t":{"t":"17000000000000005","r":4},"m":[{"d":"pay10ad"},{"x":"pay10ad"},"pay10ad"]}"#;
    let (_, ()) = join!(batch(&mut link), async { server.poll().await.json(body).await });
    let forbidden = format!(r#"{{"error":true,"status":403,"message":"{CHANNEL} pay10ad"}}"#);
    let (_, ()) = join!(error(&mut link), async { server.poll().await.status("403 x", "", &forbidden).await });
    let (_, ()) = join!(error(&mut link), async { server.poll().await.json(&forbidden).await });
    let (_, ()) = join!(error(&mut link), async { server.poll().await.json("pay10ad").await });
    let (_, ()) = join!(error(&mut link), async { server.poll().await.raw_and_close("").await });
    let (_, poll) = join!(error(&mut link), server.poll());
    drop(poll);
    let ((), ()) = join!(soon(link.close()), async { server.leave().await.raw_and_close("").await });
    let shown = format!("{transport:?}");

    let (ours, others) = (tracing_lines.text(), log_lines.text());
    // Both loggers captured something.
    assert!(ours.contains("ringcentral_events::transport::pubnub"), "{ours}");
    assert!(ours.contains("poll answered") && ours.contains("poll failed") && ours.contains("TRACE"), "{ours}");
    log::info!("heard");
    assert!(log_lines.text().contains("heard"));
    for secret in [KEY, CHANNEL, "/v2/", "pay10ad", "tt=", "uuid"] {
        assert!(!ours.contains(secret), "{secret} in {ours}");
        assert!(!others.contains(secret), "{secret} in {others}");
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
    // The vendor's crate logs URLs and bodies at `info`, but in parts unused here.
    assert!(!others.contains("pubnub"), "{others}");
}
