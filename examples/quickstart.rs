//! Prints text messages and team posts, and where some may be missing: `cargo run --example quickstart`.
mod support; // the options, and the sandbox if no `RC_*` variable is set; else `Client::from_env()`

use ringcentral_events::{Client, Delivery, Event, EventFilter, Result, transport::Transport};
use std::{process::ExitCode, sync::Arc};

async fn run(client: Client, transport: Arc<dyn Transport>) -> Result<()> {
    let filters = [EventFilter::instant_message(), EventFilter::team_posts()];
    let mut events = client.subscribe(filters).transport(transport).start().await?;
    while let Some(delivery) = events.next().await {
        match delivery? {
            Delivery::Notification(it) => match it.event() {
                Event::InstantMessage(sms) => println!("SMS: {:?}", sms.text()),
                other => println!("{}: {}", other.kind(), it.raw()),
            },
            other => println!("{other}"),
        }
    }
    Ok(())
}

#[tokio::main]
async fn main() -> ExitCode {
    support::quickstart(run).await
}
