//! The script of faults.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use http::Method;
use serde::{Deserialize, Serialize};

use super::behavior::millis;
pub(crate) use super::fault::Action;
use super::fault::Fault;
use super::http::Call;
use super::requests::{Operation, Recorded, Service};

/// The requests that a fault applies to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Target {
    /// Every request to any server.
    Any,
    /// Every request to the API server.
    Api,
    /// Every request to the PubNub server.
    #[serde(rename = "pubnub")]
    PubNub,
    /// Every request to the gateway: upgrades, requests and heartbeats.
    Gateway,
    /// Every request to the Contact Center.
    ContactCenter,
    /// Any operation under `/restapi/oauth`.
    Oauth,
    /// Any verb on subscriptions.
    Subscriptions,
    /// Subscribe requests of either version, including handshakes.
    Subscribe,
    /// One operation.
    Operation(Operation),
    /// Requests whose path begins with this prefix.
    Path(String),
    /// Requests with this method and path prefix.
    MethodPath(String, String),
}

impl Target {
    /// Requests whose path begins with `prefix`.
    #[must_use]
    pub fn path(prefix: impl Into<String>) -> Self {
        Self::Path(prefix.into())
    }

    fn matches(&self, service: Service, operation: Operation, method: &Method, path: &str) -> bool {
        if operation.is_unasked() {
            return *self == Self::Operation(operation);
        }
        match self {
            Self::Any => true,
            Self::Api => service == Service::Api,
            Self::PubNub => service == Service::PubNub,
            Self::Gateway => service == Service::Gateway,
            Self::ContactCenter => service == Service::ContactCenter,
            Self::Oauth => path.starts_with("/restapi/oauth"),
            Self::Subscriptions => operation.is_subscription(),
            Self::Subscribe => matches!(operation, Operation::Handshake | Operation::Poll),
            Self::Operation(wanted) => *wanted == operation,
            Self::Path(prefix) => path.starts_with(prefix.as_str()),
            Self::MethodPath(wanted, prefix) => {
                method.as_str().eq_ignore_ascii_case(wanted) && path.starts_with(prefix.as_str())
            }
        }
    }
}

impl From<Operation> for Target {
    fn from(operation: Operation) -> Self {
        Self::Operation(operation)
    }
}

/// Identifies a fault, to clear it or count its hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FaultId(u64);

impl fmt::Display for FaultId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<u64> for FaultId {
    fn from(id: u64) -> Self {
        Self(id)
    }
}

/// The script of faults.
#[derive(Debug, Default)]
pub(crate) struct FaultTable {
    rules: Vec<Rule>,
    next: u64,
    /// Faults of the next deliveries.
    deliveries: VecDeque<Option<DeliveryFault>>,
}

#[derive(Debug)]
struct Rule {
    id: FaultId,
    target: Target,
    fault: Fault,
    passed: u32,
    hits: u32,
}

fn once() -> usize {
    1
}

/// Faults for the next notifications.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Deliveries {
    #[serde(flatten)]
    pub(crate) fault: DeliveryFault,
    #[serde(default = "once")]
    pub(crate) count: usize,
}

/// A fault of one delivery to a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum DeliveryFault {
    /// It is published twice.
    Duplicate,
    /// It is published after the next one on the same channel.
    Swap,
    /// It is published later.
    Delay {
        #[serde(rename = "ms", with = "millis")]
        by: Duration,
    },
    /// It is never published.
    Lose,
}

/// A fault that applies to a request.
#[derive(Clone, Debug)]
pub(crate) struct Hit {
    pub(crate) action: Action,
    pub(crate) after_effect: bool,
}

/// Maximum number of deliveries scripted by one call.
const MAX_DELIVERIES: usize = 100_000;

impl FaultTable {
    pub(crate) fn add(&mut self, target: Target, fault: Fault) -> FaultId {
        let id = FaultId(self.next);
        self.next += 1;
        self.rules.push(Rule { id, target, fault, passed: 0, hits: 0 });
        id
    }

    pub(crate) fn clear(&mut self, id: FaultId) {
        self.rules.retain(|rule| rule.id != id);
    }

    pub(crate) fn clear_all(&mut self) {
        self.rules.clear();
        self.deliveries.clear();
    }

    /// Scripts faults of the next notifications.
    pub(crate) fn script_deliveries(&mut self, script: Deliveries) {
        for _ in 0..script.count.min(MAX_DELIVERIES) {
            self.deliveries.push_back(Some(script.fault));
            if script.fault == DeliveryFault::Swap {
                self.deliveries.push_back(None);
            }
        }
    }

    /// Takes the fault of a notification.
    pub(crate) fn next_delivery(&mut self) -> Option<DeliveryFault> {
        self.deliveries.pop_front().flatten()
    }

    pub(crate) fn hits(&self, id: FaultId) -> u32 {
        self.rules.iter().find(|rule| rule.id == id).map_or(0, |rule| rule.hits)
    }

    /// The first matching fault that is due. Matching faults before it count the request as passed.
    pub(crate) fn take(&mut self, service: Service, operation: Operation, call: &Call) -> Option<Hit> {
        for rule in &mut self.rules {
            let spent = rule.fault.times.is_some_and(|times| rule.hits >= times);
            if spent || !rule.target.matches(service, operation, &call.method, &call.path) {
                continue;
            }
            if rule.passed < rule.fault.after {
                rule.passed += 1;
                continue;
            }
            rule.hits += 1;
            let action = rule.fault.action.clone();
            let after_effect = rule.fault.after_effect || action.transforms();
            return Some(Hit { action, after_effect });
        }
        None
    }
}

/// Whether a recorded request matches `target`.
pub(crate) fn hits_record(target: &Target, record: &Recorded) -> bool {
    target.matches(record.service, record.operation, &record.method, record.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(method: Method, path: &str) -> Call {
        Call::bare(method, path, "")
    }

    fn take(table: &mut FaultTable, operation: Operation) -> Option<Action> {
        table.take(Service::Api, operation, &call(Method::POST, "/restapi/v1.0/subscription")).map(|hit| hit.action)
    }

    #[test]
    fn a_fault_waits_then_applies_its_number_of_times() {
        let mut table = FaultTable::default();
        let id = table.add(Operation::Renew.into(), Fault::close().after(1).times(2));
        assert_eq!(take(&mut table, Operation::Create), None);
        assert_eq!(take(&mut table, Operation::Renew), None);
        assert_eq!(take(&mut table, Operation::Renew), Some(Action::Close));
        assert_eq!(take(&mut table, Operation::Renew), Some(Action::Close));
        assert_eq!(take(&mut table, Operation::Renew), None);
        assert_eq!(table.hits(id), 2);
    }

    #[test]
    fn faults_apply_in_order_and_are_cleared_by_id() {
        let mut table = FaultTable::default();
        let first = table.add(Target::Any, Fault::hang().until_cleared());
        table.add(Target::Subscriptions, Fault::close());
        assert_eq!(take(&mut table, Operation::Renew), Some(Action::Hang));
        table.clear(first);
        assert_eq!(take(&mut table, Operation::Renew), Some(Action::Close));
        assert_eq!(take(&mut table, Operation::Renew), None);
    }

    #[test]
    fn a_fault_is_read_from_json() {
        let fault: Fault =
            serde_json::from_str(r#"{"kind":"status","status":429,"headers":[["Retry-After","3"]],"times":2}"#)
                .unwrap();
        let reply = fault.action.own_reply().unwrap();
        assert_eq!((reply.status().as_u16(), &reply.headers()["retry-after"]), (429, &"3".parse().unwrap()));
        assert_eq!(fault.times, Some(2));
        let drip: Fault = serde_json::from_str(r#"{"kind":"drip","every_ms":5,"times":null}"#).unwrap();
        assert_eq!(drip.action, Action::Drip { chunk: 1, every: Duration::from_millis(5) });
        assert_eq!(drip.times, None);
        let target: Target = serde_json::from_str(r#"{"operation":"renew"}"#).unwrap();
        assert_eq!(target, Operation::Renew.into());
    }
}
