//! Shows an agent's state, phone and contacts as they change.
//!
//! ```text
//! cargo run --example agent_desktop --features agent
//! ```
//!
//! Needs no account: the sandbox simulates a call that arrives, is held, resumed and ended, and drops
//! one answer in the middle. With `CXONE_CLIENT_ID`, `CXONE_CLIENT_SECRET`, `CXONE_KEY_ID`,
//! `CXONE_KEY_SECRET` and `CXONE_PHONE` set (and `CXONE_ISSUER` for another login server) it follows
//! that agent until Ctrl-C.

#[path = "support/agent.rs"]
mod agent;

use std::io::{self, Write as _};
use std::process::ExitCode;

use agent::{Failure, SOON, cli};
use ringcentral_events::agent::{
    AgentDelivery, AgentEvent, AgentNotification, AgentOrigin, AgentSession, ContactStatus, Desk, EndSession,
};
use ringcentral_sandbox::agent::{ContactCenter, ContactStep};
use ringcentral_sandbox::{Fault, Operation, Sandbox};

const USAGE: &str = "usage: agent_desktop

Shows an agent's state, phone and contacts as they change, until Ctrl-C.
Account: CXONE_CLIENT_ID, CXONE_CLIENT_SECRET, CXONE_KEY_ID, CXONE_KEY_SECRET and
CXONE_PHONE (and CXONE_ISSUER for another login server); without them the sandbox,
which simulates one call and ends.";

/// The outcome to check when the sandbox simulates the call.
#[derive(Default)]
struct Seen {
    arrived: bool,
    held: bool,
    ended: bool,
    gaps: u32,
    one_shots: u32,
}

/// The platform's side: a call, and a dropped answer.
async fn play(sandbox: &Sandbox, center: &ContactCenter) -> Result<(), Failure> {
    // All events were read, and the program polls again.
    let read = async || if center.wait_caught_up(SOON).await { Ok(()) } else { Err("the program does not poll") };
    let pop = r#"{"Type":"PopURL","URL":"https://crm.example/offer"}"#;
    if !center.wait_session(|session| session.state == "Available", SOON).await {
        return Err("the agent is not available".into());
    }
    read().await?;
    let contact = center.call("+12055550143")?;
    read().await?;
    center.step(&contact, ContactStep::Answer)?;
    read().await?;
    // Drops the answer to the poll after the next one.
    let dropped = sandbox.faults().inject(Operation::AgentPoll, Fault::reset().after_effect());
    center.end_poll()?;
    if !sandbox.faults().wait_hits(dropped, 1, SOON).await {
        return Err("the program does not poll".into());
    }
    center.step(&contact, ContactStep::Hold)?;
    if !center.wait_session(|session| session.snapshots == 1, SOON).await {
        return Err("the program did not resume polling".into());
    }
    read().await?;
    center.step(&contact, ContactStep::Resume)?;
    center.push(pop)?;
    read().await?;
    center.step(&contact, ContactStep::HangUp)?;
    read().await?;
    center.step(&contact, ContactStep::Finish)?;
    Ok(())
}

/// Runs until the session ends, by Ctrl-C or, with `one_call`, by the end of a call.
async fn run(session: AgentSession, one_call: bool) -> Result<Seen, Failure> {
    let mut events = session.events()?;
    let (mut desk, mut seen) = (Desk::new(), Seen::default());
    session.set_available().await?;
    let interrupted = cli::stop_signal()?;
    tokio::pin!(interrupted);
    let mut is_ending = false;
    loop {
        let delivery = tokio::select! {
            delivery = events.next() => delivery,
            () = &mut interrupted, if !is_ending => {
                is_ending = true;
                session.end(EndSession::new().force_logoff(true)).await?;
                continue;
            }
        };
        let Some(delivery) = delivery else { return Ok(seen) };
        let delivery = delivery?;
        desk.apply(&delivery);
        print(&delivery, &desk, &mut seen)?;
        if one_call && seen.ended && !is_ending {
            is_ending = true;
            session.end(EndSession::new()).await?;
        }
    }
}

fn print(delivery: &AgentDelivery, desk: &Desk, seen: &mut Seen) -> Result<(), Failure> {
    match delivery {
        AgentDelivery::Notification(notification) => event(notification, desk, seen),
        AgentDelivery::Gap(gap) => {
            seen.gaps += 1;
            say("gap", &format!("events may be missing: {}", gap.cause))
        }
        AgentDelivery::Resumed(_) => say("resumed", &format!("{} contacts on the desk", desk.contacts().count())),
        AgentDelivery::ContactsGone(gone) => {
            for contact in gone {
                say("gone", &format!("contact {} ended meanwhile", contact.contact_id))?;
            }
            Ok(())
        }
        AgentDelivery::Undecodable(bad) => say("undecodable", &bad.reason),
        AgentDelivery::SessionEnded(ended) => say("over", ended.reason.as_str()),
        other => say("other", &format!("{other:?}")),
    }
}

fn event(notification: &AgentNotification, desk: &Desk, seen: &mut Seen) -> Result<(), Failure> {
    let again = if notification.origin() == AgentOrigin::Snapshot { ", from the snapshot" } else { "" };
    match notification.event() {
        AgentEvent::AgentState(state) => {
            let word = state.state.as_ref().map_or("?", |state| state.as_str());
            let after = if state.is_acw == Some(true) { ", in after-call work" } else { "" };
            say("state", &format!("{word}{after}{again}"))
        }
        AgentEvent::AgentLeg(_) => say("phone", if desk.is_connected() { "connected" } else { "not connected" }),
        AgentEvent::CallContact(call) => {
            let what = match call.status() {
                Some(ContactStatus::Incoming) => {
                    seen.arrived = true;
                    format!("arrives from {}", call.ani.as_deref().unwrap_or("?"))
                }
                Some(ContactStatus::Holding) => {
                    seen.held = true;
                    "is on hold".to_owned()
                }
                Some(ContactStatus::Disconnected) if call.final_state == Some(true) => {
                    seen.ended = true;
                    "is finished".to_owned()
                }
                Some(ContactStatus::Disconnected) => "has hung up".to_owned(),
                Some(status) => format!("is {status}"),
                None => "is".to_owned(),
            };
            say("call", &format!("{} {what}{again}", call.contact_id.as_ref().map_or("?", |id| id.as_str())))
        }
        AgentEvent::PopUrl(pop) => {
            seen.one_shots += 1;
            say("show", pop.url.as_deref().unwrap_or("?"))
        }
        other => say("event", other.kind().as_str()),
    }
}

fn say(what: &str, text: &str) -> Result<(), Failure> {
    Ok(writeln!(io::stdout(), "{what:<12} {}", cli::printable(text))?)
}

/// The account's agent, or the sandbox's with one call.
async fn show() -> Result<(), Failure> {
    if let Some(session) = agent::account()? {
        return run(session.start().await?, false).await.map(drop);
    }
    let sandbox = Sandbox::start().await?;
    let center = sandbox.contact_center();
    let session = agent::emulated(&center)?.start().await?;
    let (seen, ()) = tokio::try_join!(run(session, true), play(&sandbox, &center))?;
    if !(seen.arrived && seen.held && seen.ended && seen.gaps == 1 && seen.one_shots == 2) {
        return Err("the program did not see the whole call".into());
    }
    say("done", "a call arrived, was held and ended, and one dropped answer was a gap")
}

#[tokio::main]
async fn main() -> ExitCode {
    cli::main(USAGE, (), |(), _, _| Ok(false), async |()| show().await).await
}
