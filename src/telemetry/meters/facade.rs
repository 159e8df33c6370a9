//! With the feature `metrics`.

use metrics::{Counter, Gauge, Histogram, Unit, counter, gauge, histogram};

use crate::clock::Clock;
use crate::delivery::{Delivery, Gap, Resumed};
use crate::error::Error;
use crate::event::Origin;
use crate::kind::TransportKind;
use crate::status::{Phase, Status};

const EVENTS: &str = "ringcentral_events_total";
const LAG: &str = "ringcentral_event_lag_seconds";
const UNDECODABLE: &str = "ringcentral_undecodable_total";
const DUPLICATES: &str = "ringcentral_duplicates_total";
const GAPS_OPENED: &str = "ringcentral_gaps_opened_total";
const GAPS_CLOSED: &str = "ringcentral_gaps_closed_total";
const RECONNECTS: &str = "ringcentral_reconnects_total";
const RECREATIONS: &str = "ringcentral_recreations_total";
const RENEWALS: &str = "ringcentral_renewals_total";
const SUBSCRIPTIONS: &str = "ringcentral_subscriptions";
const GAP_OPEN: &str = "ringcentral_gap_open";
const POLLING: &str = "ringcentral_polling";
const QUEUE_BYTES: &str = "ringcentral_queue_bytes";
const RATE_REMAINING: &str = "ringcentral_rate_limit_remaining";
const RATE_LIMIT: &str = "ringcentral_rate_limit";
const POLLS: &str = "ringcentral_polls_total";
const POLLED_EVENTS: &str = "ringcentral_polled_events_total";
const AGENT_SESSIONS: &str = "ringcentral_agent_sessions";
const AGENT_EVENTS: &str = "ringcentral_agent_events_total";
const DIGITAL_ACTIONS: &str = "ringcentral_digital_actions_total";
const DIGITAL_SECONDS: &str = "ringcentral_digital_action_seconds";
const DIGITAL_LISTED: &str = "ringcentral_digital_listed_total";

fn describe() {
    use metrics::{describe_counter, describe_gauge, describe_histogram};
    describe_counter!(EVENTS, Unit::Count, "Events that the stream yielded");
    describe_histogram!(LAG, Unit::Seconds, "From an event's timestamp to its delivery");
    describe_counter!(UNDECODABLE, Unit::Count, "Payloads that could not be decrypted or read");
    describe_counter!(DUPLICATES, Unit::Count, "Repetitions that were dropped");
    describe_counter!(GAPS_OPENED, Unit::Count, "Gaps that the stream yielded");
    describe_counter!(GAPS_CLOSED, Unit::Count, "Ends of gaps that the stream yielded");
    describe_counter!(RECONNECTS, Unit::Count, "Links that were lost while the subscription was held");
    describe_counter!(RECREATIONS, Unit::Count, "Subscriptions that were lost and created anew");
    describe_counter!(RENEWALS, Unit::Count, "Renewals of the lease");
    describe_gauge!(SUBSCRIPTIONS, Unit::Count, "Subscriptions in each phase");
    describe_gauge!(GAP_OPEN, Unit::Count, "Subscriptions with an open gap");
    describe_gauge!(POLLING, Unit::Count, "Subscriptions for which sources are polled in place of push");
    describe_gauge!(QUEUE_BYTES, Unit::Bytes, "Received events that wait to be read");
    describe_gauge!(RATE_REMAINING, Unit::Count, "Requests left in the present window of a rate group");
    describe_gauge!(RATE_LIMIT, Unit::Count, "The limit of the window of a rate group");
    describe_counter!(POLLS, Unit::Count, "Polls that were answered, or failed");
    describe_counter!(POLLED_EVENTS, Unit::Count, "Events in the answers to polls");
    describe_gauge!(AGENT_SESSIONS, Unit::Count, "Agent sessions in each phase");
    describe_counter!(AGENT_EVENTS, Unit::Count, "Events of agent sessions that the stream yielded");
    describe_counter!(DIGITAL_ACTIONS, Unit::Count, "Requests of the Digital platform");
    describe_histogram!(DIGITAL_SECONDS, Unit::Seconds, "From a request of the Digital platform to its answer");
    describe_counter!(DIGITAL_LISTED, Unit::Count, "Contents in the answers to lists");
}

/// One subscription's share of the gauges, which add up all subscriptions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Share {
    phase: Phase,
    transport: TransportKind,
    has_gap: bool,
    is_polling: bool,
}

impl Share {
    fn of(status: &Status) -> Self {
        let Status { phase, transport, is_polling, .. } = *status;
        Self { phase, transport, has_gap: status.missing_since.is_some(), is_polling }
    }

    /// Adds it to the gauges, or takes it away again.
    fn add(self, sign: f64) {
        let of = |is: bool| if is { sign } else { 0.0 };
        let (transport, phase) = (self.transport.as_str(), self.phase.as_str());
        gauge!(SUBSCRIPTIONS, "transport" => transport, "phase" => phase).increment(sign);
        gauge!(GAP_OPEN).increment(of(self.has_gap));
        gauge!(POLLING).increment(of(self.is_polling));
    }
}

/// The metrics of one subscription.
pub(crate) struct Lifecycle {
    share: Share,
    queue: Gauge,
    queued: usize,
    duplicates: Counter,
}

impl std::fmt::Debug for Lifecycle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lifecycle").field("share", &self.share).finish_non_exhaustive()
    }
}

impl Lifecycle {
    pub(crate) fn new(status: &Status) -> Self {
        describe();
        let share = Share::of(status);
        share.add(1.0);
        Self { share, queue: gauge!(QUEUE_BYTES), queued: 0, duplicates: counter!(DUPLICATES) }
    }

    /// The status is another one now.
    pub(crate) fn changed(&mut self, status: &Status) {
        let (old, new) = (self.share, Share::of(status));
        if old == new {
            return;
        }
        self.share = new;
        old.add(-1.0);
        new.add(1.0);
        let transport = new.transport.as_str();
        match (old.phase, new.phase) {
            (old, new) if old == new => {}
            (_, Phase::Reconnecting) => counter!(RECONNECTS, "transport" => transport).increment(1),
            (_, Phase::Recreating) => counter!(RECREATIONS, "transport" => transport).increment(1),
            _ => {}
        }
    }

    /// So many bytes wait to be read.
    pub(crate) fn queued(&mut self, bytes: usize) {
        if bytes != self.queued {
            self.queue.increment(bytes as f64 - self.queued as f64);
            self.queued = bytes;
        }
    }

    pub(crate) fn duplicate(&self) {
        self.duplicates.increment(1);
    }

    /// A renewal was answered, or failed.
    pub(crate) fn renewed(&self, error: Option<&Error>) {
        let outcome = error.map_or("ok", |error| error.kind().as_str());
        counter!(RENEWALS, "transport" => self.share.transport.as_str(), "outcome" => outcome).increment(1);
    }
}

impl Drop for Lifecycle {
    fn drop(&mut self) {
        self.queued(0);
        self.share.add(-1.0);
    }
}

/// The metrics of the yielded deliveries.
pub(crate) struct Yields {
    clock: Clock,
    by_origin: [(Origin, Counter, Histogram); 3],
}

impl std::fmt::Debug for Yields {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Yields")
    }
}

impl Yields {
    pub(crate) fn new(clock: Clock) -> Self {
        let by_origin = [Origin::Push, Origin::CatchUp, Origin::Snapshot].map(|origin| {
            let name = origin.as_str();
            (origin, counter!(EVENTS, "origin" => name), histogram!(LAG, "origin" => name))
        });
        Self { clock, by_origin }
    }

    pub(crate) fn yielded(&self, delivery: &Delivery) {
        match delivery {
            Delivery::Notification(event) => {
                let Some((_, count, lag)) = self.by_origin.iter().find(|(it, ..)| *it == event.origin()) else {
                    return;
                };
                count.increment(1);
                if let Some(emitted) = event.timestamp().and_then(|at| at.system_time()) {
                    lag.record(self.clock.wall().duration_since(emitted).unwrap_or_default().as_secs_f64());
                }
            }
            Delivery::Gap(gap) => gap_opened(gap),
            Delivery::Resumed(resumed) => gap_closed(resumed),
            Delivery::Undecodable(_) => undecodable(),
            Delivery::FiltersDisabled(_) => {}
        }
    }
}

/// A stream yielded a gap.
pub(crate) fn gap_opened(gap: &Gap) {
    let (cause, certainty) = (gap.cause.as_str(), gap.certainty.as_str());
    counter!(GAPS_OPENED, "cause" => cause, "certainty" => certainty).increment(1);
}

/// A stream yielded the end of all gaps before.
pub(crate) fn gap_closed(resumed: &Resumed) {
    let complete = if resumed.complete { "true" } else { "false" };
    counter!(GAPS_CLOSED, "complete" => complete).increment(1);
}

/// A stream yielded what could not be decoded.
pub(crate) fn undecodable() {
    counter!(UNDECODABLE).increment(1);
}

/// A poll was answered, or failed.
#[cfg(any(feature = "pubnub", feature = "agent"))]
pub(crate) fn polled(source: &'static str, outcome: &'static str, events: usize) {
    counter!(POLLS, "source" => source, "outcome" => outcome).increment(1);
    counter!(POLLED_EVENTS, "source" => source).increment(events as u64);
}

/// The stream of an agent session yielded an event.
#[cfg(feature = "agent")]
pub(crate) fn agent_event(origin: &'static str) {
    counter!(AGENT_EVENTS, "origin" => origin).increment(1);
}

/// One agent session's share of the gauge.
#[cfg(feature = "agent")]
#[derive(Debug)]
pub(crate) struct AgentLifecycle(Phase);

#[cfg(feature = "agent")]
impl AgentLifecycle {
    pub(crate) fn new(phase: Phase) -> Self {
        describe();
        gauge!(AGENT_SESSIONS, "phase" => phase.as_str()).increment(1.0);
        Self(phase)
    }

    pub(crate) fn changed(&mut self, phase: Phase) {
        if phase != self.0 {
            gauge!(AGENT_SESSIONS, "phase" => self.0.as_str()).decrement(1.0);
            gauge!(AGENT_SESSIONS, "phase" => phase.as_str()).increment(1.0);
            self.0 = phase;
        }
    }
}

#[cfg(feature = "agent")]
impl Drop for AgentLifecycle {
    fn drop(&mut self) {
        gauge!(AGENT_SESSIONS, "phase" => self.0.as_str()).decrement(1.0);
    }
}

/// An action of the Digital platform was answered.
#[cfg(feature = "digital")]
pub(crate) fn acted(action: &'static str, status: u16, took: std::time::Duration) {
    let outcome = match status {
        ..400 => "ok",
        400..500 => "refused",
        500.. => "failed",
    };
    counter!(DIGITAL_ACTIONS, "action" => action, "outcome" => outcome).increment(1);
    histogram!(DIGITAL_SECONDS, "action" => action).record(took.as_secs_f64());
}

/// A list of a Digital source was answered.
#[cfg(feature = "digital")]
pub(crate) fn listed(collection: &'static str, contents: usize) {
    counter!(DIGITAL_LISTED, "collection" => collection).increment(contents as u64);
}

/// The remaining calls of a rate group's window and its limit, if both are known.
pub(crate) fn rate_budget(group: &str, left: impl FnOnce() -> Option<(u64, u64)>) {
    if let Some((left, limit)) = left() {
        gauge!(RATE_REMAINING, "group" => group.to_owned()).set(left as f64);
        gauge!(RATE_LIMIT, "group" => group.to_owned()).set(limit as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_documented_metric_is_recorded_under_its_name_and_each_recorded_one_is_documented() {
        let rows =
            include_str!("../../telemetry.rs").lines().filter_map(|line| line.strip_prefix("//! | `ringcentral_"));
        let documented: Vec<String> =
            rows.map(|row| format!("ringcentral_{}", row.split('`').next().unwrap_or_default())).collect();
        let recorded = [
            EVENTS,
            LAG,
            UNDECODABLE,
            DUPLICATES,
            GAPS_OPENED,
            GAPS_CLOSED,
            RECONNECTS,
            RECREATIONS,
            RENEWALS,
            SUBSCRIPTIONS,
            GAP_OPEN,
            POLLING,
            QUEUE_BYTES,
            RATE_REMAINING,
            RATE_LIMIT,
            POLLS,
            POLLED_EVENTS,
            AGENT_SESSIONS,
            AGENT_EVENTS,
            DIGITAL_ACTIONS,
            DIGITAL_SECONDS,
            DIGITAL_LISTED,
        ];
        assert_eq!(documented, recorded);
    }
}
