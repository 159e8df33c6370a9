//! Ids in events of an agent session.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, de};

use crate::ids::{id, text_or_number};

id! {
    /// A contact: a call, a chat, a voicemail or a work item. A transfer gives it another one; the master contact's id
    /// stays.
    ContactId;
    /// An agent.
    AgentId;
    /// A skill: a queue that contacts arrive through.
    SkillId;
}
