//! Events that the platform itself makes.

use fastrand::Rng;
use serde_json::{Value, json};

use crate::random::number;

pub(super) fn named(kind: &str) -> Value {
    json!({ "IISHost": "SANDBOX-WEB", "VCHost": "SANDBOX-VC", "Type": kind })
}

pub(super) fn agent_state(state: &str, reason: &str, at: &str) -> Value {
    let mut event = named("AgentState");
    event["CurrentState"] = state.into();
    event["CurrentOutReason"] = reason.into();
    event["StartTimeUTC"] = at.into();
    event["IsAcw"] = "False".into();
    event["AcwTimeout"] = "0".into();
    event["NextStates"] = json!([]);
    event["NextIsAcw"] = "False".into();
    event
}

pub(super) fn remote_end(message: &str) -> Value {
    let mut event = named("RemoteAgentSessionEnd");
    event["Message"] = message.into();
    event["Success"] = "True".into();
    event
}

pub(super) fn own_end(success: bool) -> Value {
    let mut event = named("AgentSessionEnd");
    event["Message"] = "".into();
    event["Success"] = if success { "True" } else { "False" }.into();
    event
}

/// A decimal id of a contact.
pub(super) fn contact_id(rng: &mut Rng) -> String {
    format!("9001{}", number(rng, 8))
}
