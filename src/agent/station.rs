//! Where the agent's calls arrive, as a start names it.

use std::time::Duration;

use serde_json::{Value, json};

/// The location of the agent's phone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Station {
    pub(super) id: String,
    pub(super) phone: String,
    pub(super) agent: Option<String>,
    pub(super) inactivity: Option<Duration>,
    pub(super) force_logout: Option<bool>,
    pub(super) context: Option<String>,
}

impl Station {
    /// The body of a start.
    pub(crate) fn to_json(&self) -> Value {
        let mut body = json!({ "stationId": self.id, "stationPhoneNumber": self.phone });
        let mut put = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                body[key] = value;
            }
        };
        put("asAgentId", self.agent.as_deref().map(Value::from));
        put("inactivityTimeout", self.inactivity.map(|time| time.as_secs().into()));
        put("inactivityForceLogout", self.force_logout.map(Value::from));
        put("apiApplicationContext", self.context.as_deref().map(Value::from));
        body
    }

    pub(crate) fn agent(&self) -> Option<&str> {
        self.agent.as_deref()
    }
}
