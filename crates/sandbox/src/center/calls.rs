//! Batches of events for the actions of an agent and a caller.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};

use super::event::Event;
use super::events::{agent_state, contact_id, named};
use crate::behavior::TimeFormat;
use crate::context::Context;

/// A step of a contact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ContactStep {
    /// The agent accepts: `Active`, and the leg is up.
    Answer,
    /// The agent declines: the contact leaves this agent.
    Reject,
    /// `Holding`.
    Hold,
    /// `Active` again.
    Resume,
    /// `Masking`.
    Mask,
    /// `Active` again.
    Unmask,
    /// The customer hangs up and after-call work begins: `Disconnected`, not final.
    HangUp,
    /// The after-call work is done: `Disconnected`, final.
    Finish,
}

/// The event with another status; fields that JSON libraries cannot read are preserved.
fn changed(event: &Event, status: &str, last: bool, at: &str) -> Option<Event> {
    let mut object: BTreeMap<String, Box<RawValue>> = serde_json::from_str(&event.text).ok()?;
    let code = if status == "Disconnected" { "1" } else { event.field("disconnectcode").unwrap_or_default() };
    let last = if last { "True" } else { "False" };
    for (name, value) in [
        ("Status", status),
        ("FinalState", last),
        ("LastStateChangeTime", at),
        ("LastStateChangeTimeUTC", at),
        ("DisconnectCode", code),
    ] {
        object.retain(|held, _| !held.eq_ignore_ascii_case(name));
        object.insert(name.to_owned(), to_raw_value(value).ok()?);
    }
    Some(Event::read(&serde_json::to_string(&object).ok()?))
}

fn leg(status: &str, last: bool) -> Value {
    let mut event = named("AgentLeg");
    event["AgentLegId"] = "880010001".into();
    event["Status"] = status.into();
    event["FinalState"] = if last { "True" } else { "False" }.into();
    event
}

/// The agent's phone leg rings, is up or is down.
pub(super) fn phone(action: &str) -> Option<Vec<Value>> {
    let mute = |muted: &str| {
        let mut event = named("Mute");
        event["AgentMuted"] = muted.into();
        vec![event]
    };
    Some(match action {
        "dial" => vec![leg("Dialing", false), leg("Active", false)],
        "end" => vec![leg("Disconnected", true)],
        "mute" => mute("True"),
        "unmute" => mute("False"),
        _ => return None,
    })
}

/// The batch of an incoming call, and its contact's id.
pub(crate) fn incoming(ctx: &mut Context, from: &str) -> (String, Vec<Value>) {
    let id = contact_id(&mut ctx.rng);
    let at = ctx.write_time_as(ctx.moment().wall, TimeFormat::Zulu);
    let mut call = named("CallContactEvent");
    for (name, value) in [
        ("ContactID", id.as_str()),
        ("MasterID", id.as_str()),
        ("ParentContactId", ""),
        ("Status", "Incoming"),
        ("OriginalState", "False"),
        ("CallType", "Regular"),
        ("DNIS", "+18005550199"),
        ("ANI", from),
        ("Skill", "Billing"),
        ("IsInbound", "True"),
        ("StartTime", at.as_str()),
        ("StartTimeUTC", at.as_str()),
        ("LastStateChangeTime", at.as_str()),
        ("LastStateChangeTimeUTC", at.as_str()),
        ("ScreenPopUrl", ""),
        ("DisconnectCode", ""),
        ("IsLogging", "False"),
        ("Timeout", ""),
        ("AllowDispositions", "True"),
        ("IsLinked", "False"),
        ("FinalState", "False"),
        ("DeliveryType", "single"),
        ("CustomData", ""),
    ] {
        call[name] = value.into();
    }
    call["ScreenPopUrlVariables"] = json!([{ "ani": from }]);
    let mut pop = named("PopURL");
    for (name, value) in [
        ("ContactId", id.as_str()),
        ("URL", "https://crm.example/caller"),
        ("TabTitle", "Caller"),
        ("PopDestination", "ContactPanel"),
        ("PopoutWindowHeight", "600"),
        ("PopoutWindowWidth", "800"),
        ("ClosePopoutUponTermination", "True"),
    ] {
        pop[name] = value.into();
    }
    (id, vec![agent_state("InboundContact", "", &at), leg("Dialing", false), call, pop])
}

/// The batch of a step; `None` if the session has no such contact.
pub(super) fn step(ctx: &Context, contact: &Event, leg_is_up: bool, step: ContactStep) -> Option<Vec<Event>> {
    let at = ctx.write_time_as(ctx.moment().wall, TimeFormat::Zulu);
    let to = |status, last| changed(contact, status, last, &at);
    Some(match step {
        ContactStep::Answer if leg_is_up => vec![to("Active", false)?],
        ContactStep::Answer => vec![Event::of(&leg("Active", false)), to("Active", false)?],
        ContactStep::Resume | ContactStep::Unmask => vec![to("Active", false)?],
        ContactStep::Hold => vec![to("Holding", false)?],
        ContactStep::Mask => vec![to("Masking", false)?],
        ContactStep::HangUp => {
            let mut after = agent_state("Unavailable", "", &at);
            after["IsAcw"] = "True".into();
            after["AcwTimeout"] = "30".into();
            after["NextStates"] = json!([{ "State": "Available", "OutReason": "" }]);
            vec![to("Disconnected", false)?, Event::of(&after)]
        }
        ContactStep::Finish | ContactStep::Reject => {
            vec![to("Disconnected", true)?, Event::of(&agent_state("Available", "", &at))]
        }
    })
}
