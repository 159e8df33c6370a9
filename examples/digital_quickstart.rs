//! A source with one message, for Engage Digital: `cargo run --example digital_quickstart -- --sandbox`.
#[path = "support/digital.rs"]
mod digital;

use ringcentral_events::digital::{Date, MemoryFeed, Message, Messages, Source, SourceEndpoint, SourceOption, User};

async fn run(token: String, listener: tokio::net::TcpListener) -> Result<(), digital::Failure> {
    let feed = MemoryFeed::new(); // or your own `Feed` over a database
    let mut message = Message::new("m-1", User::new("ana", "Ana", Date::now()));
    message.body = Some("Where is my order?".to_owned());
    feed.put(message);
    let source = Source::builder().option(SourceOption::MessagesUnthreaded).list(Messages, feed).build()?;
    let endpoint = SourceEndpoint::builder(source, token).build()?;
    axum::serve(listener, axum::Router::new().route_service("/", endpoint)).await?;
    Ok(())
}

#[tokio::main]
async fn main() -> std::process::ExitCode {
    digital::quickstart(run).await
}
