//! Prints an agent's events: `cargo run --example agent_quickstart --features agent`.
#[path = "support/agent.rs"]
mod agent;

use ringcentral_events::agent::{AgentDelivery, AgentEvent, AgentSessionBuilder, Desk};

async fn run(session: AgentSessionBuilder) -> Result<(), agent::Failure> {
    let session = session.start().await?;
    session.set_available().await?;
    let (mut events, mut desk) = (session.events()?, Desk::new());
    while let Some(delivery) = events.next().await {
        let delivery = delivery?;
        desk.apply(&delivery); // the state and the contacts, also after a gap
        match &delivery {
            AgentDelivery::Notification(it) => match it.event() {
                AgentEvent::CallContact(call) => println!("call {:?}: {:?}", call.contact_id, call.status()),
                other => println!("{}", other.kind().as_str()),
            },
            other => println!("{other:?}"),
        }
    }
    Ok(())
}

#[tokio::main]
async fn main() -> std::process::ExitCode {
    agent::quickstart(run).await
}
