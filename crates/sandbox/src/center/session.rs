//! A session: how it answers polls, and its timeouts. No IO.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::event::Event;
use super::events::{agent_state, named, remote_end};
use super::ids;
use super::live::Live;
use super::log::{Log, Place};
use crate::behavior::{AfterEnd, AgentBehavior, Concurrent, Idle, JoinedIds, StaleId};
use crate::clock::later;
use crate::random::number;

/// The parameters of a start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Station {
    pub(crate) id: String,
    pub(crate) phone: String,
    /// `inactivityTimeout`, if present and not 0.
    pub(crate) inactivity: Option<Duration>,
    pub(crate) force_logout: bool,
}

/// What a poll with an id receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// The events after it.
    Fresh,
    /// The current state, with this branch.
    Snapshot {
        branch: u8,
    },
    Over,
    Unknown,
}

/// An open poll. No `Debug`: its id is a secret.
struct Open {
    number: u64,
    id: String,
    /// It waits for events after this one.
    at: u64,
    deadline: Instant,
    wake: Arc<Notify>,
    superseded: bool,
    /// Its task has been woken for the deadline.
    due: bool,
}

/// The result of a poll.
#[derive(Debug, PartialEq)]
pub(crate) enum PollResult {
    Batch {
        id: String,
        events: Vec<Event>,
        branch: u8,
    },
    Quiet,
    Over,
    Unknown,
    /// The poll must wait.
    Wait,
}

/// Counts the polls of a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) polls: u64,
    pub(crate) overlaps: u64,
    pub(crate) stale: u64,
    pub(crate) snapshots: u64,
    pub(crate) longest_pause: Duration,
}

/// One session of one agent. No `Debug`: it contains ids.
pub(crate) struct Session {
    pub(crate) agent: String,
    pub(crate) station: Station,
    pub(crate) live: Live,
    pub(crate) log: Log,
    pub(crate) counts: Counts,
    open: Vec<Open>,
    next_poll: u64,
    last_activity: Instant,
    /// When the last answer was sent, in real time.
    answered: Option<Instant>,
    /// Inactivity has made the agent unavailable.
    is_idle: bool,
    ended: Option<Instant>,
    /// An empty batch is due.
    nudged: bool,
}

impl Session {
    /// Starts a session, whose initial events wait for the first poll. Returns the id to poll with.
    pub(crate) fn start(
        agent: &str,
        station: Station,
        at: &str,
        behavior: &AgentBehavior,
        rng: &mut Rng,
        now: Instant,
    ) -> (Self, String) {
        let mut session = Self {
            agent: agent.to_owned(),
            station,
            live: Live::default(),
            log: Log::default(),
            counts: Counts::default(),
            open: Vec::new(),
            next_poll: 0,
            last_activity: now,
            answered: None,
            is_idle: false,
            ended: None,
            nudged: false,
        };
        let id = session.log.mint(ids::mint(behavior.ids, rng), false, None);
        for event in session.first(at, behavior, rng) {
            session.push(Event::of(&event), behavior, now);
        }
        (session, id)
    }

    fn first(&self, at: &str, behavior: &AgentBehavior, rng: &mut Rng) -> [Value; 3] {
        let station = if self.station.id.is_empty() { "0" } else { &self.station.id };
        let started = json!({
            "IISHost": "SANDBOX-WEB", "VCHost": "SANDBOX-VC", "Type": "AgentSessionStart",
            "BusNo": "990001", "AgentId": self.agent, "StationId": station,
            "StationPhoneNumber": self.station.phone, "StationCallerId": "",
            "SessionId": number(rng, 9), "DialerCampaign": "", "DialerCampaignStartTime": "",
            "SupervisorPermissionLevel": "0", "CanMask": "True", "AgentSchedulePermission": "False",
            "ScoreRecordingsPermission": "False", "HideAgentStatePermission": "",
            "CanMultiPartyConference": "True", "MaxConcurrentChats": "3", "CanRecord": "True",
            "EnabledForMCH": "True", "UseCustomerCard": "False",
            "AgentUUId": crate::random::uuid(rng), "EntityMode": "", "ClientConnectorPort": "31322",
        });
        [started, agent_state(&behavior.first_state, "", at), named("UpdateIndicators")]
    }

    /// Adds an event; returns its number.
    pub(crate) fn push(&mut self, event: Event, behavior: &AgentBehavior, now: Instant) -> u64 {
        self.live.fold(&event);
        if event.ends_session() {
            self.ended = Some(now);
        }
        let number = self.log.push(event, behavior.queue_capacity);
        self.wake();
        number
    }

    /// Answers the waiting polls, or the next one, with an empty batch.
    pub(crate) fn end_poll(&mut self) {
        self.nudged = true;
        self.wake();
    }

    fn wake(&self) {
        for open in &self.open {
            open.wake.notify_one();
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.ended.is_some()
    }

    pub(crate) fn open_polls(&self) -> usize {
        self.open.len()
    }

    /// Records a request with one of its ids.
    pub(crate) fn touch(&mut self, now: Instant) {
        self.last_activity = now;
        self.is_idle = false;
    }

    /// Issues an id to another program, whose first poll gets a snapshot.
    pub(crate) fn join(&mut self, behavior: &AgentBehavior, rng: &mut Rng, now: Instant) -> String {
        self.touch(now);
        if behavior.joined_ids == JoinedIds::MakeOthersOld {
            self.log.make_all_old();
        }
        self.log.mint(ids::mint(behavior.ids, rng), true, None)
    }

    /// Whether the session ended so long ago that its ids are unknown. Pending events are still
    /// delivered once if ids become unknown immediately.
    pub(crate) fn is_forgotten(&self, behavior: &AgentBehavior, now: Instant) -> bool {
        self.ended.is_some_and(|ended| match behavior.after_end {
            AfterEnd::Conflict => false,
            AfterEnd::Unknown => self.log.queued() == 0,
            AfterEnd::ConflictThenUnknown => now >= later(ended, behavior.conflict_for),
        })
    }

    fn class(&self, id: &str, Place { at, joined, .. }: Place, behavior: &AgentBehavior, now: Instant) -> Class {
        let fresh = self.log.is_newest(id) && !joined;
        let replay = behavior.stale_id == StaleId::Replay && !joined;
        let can_replay = self.log.has_all_after(at) && (fresh || replay);
        if self.is_forgotten(behavior, now) {
            Class::Unknown
        } else if can_replay && self.log.is_behind(at) {
            // The end must be delivered to each holder of an id before the answer is 409.
            Class::Fresh
        } else if self.is_over() {
            Class::Over
        } else if can_replay {
            Class::Fresh
        } else if fresh {
            Class::Snapshot { branch: 3 }
        } else if joined && self.log.is_newest(id) {
            Class::Snapshot { branch: behavior.joined_branch }
        } else if behavior.stale_id == StaleId::Unknown {
            Class::Unknown
        } else {
            Class::Snapshot { branch: behavior.stale_branch }
        }
    }

    /// Opens a poll; returns its number and its result, which may be to wait.
    pub(crate) fn poll(
        &mut self,
        id: &str,
        timeout: Duration,
        behavior: &AgentBehavior,
        rng: &mut Rng,
        now: Instant,
    ) -> (u64, Arc<Notify>, PollResult) {
        self.counts.polls += 1;
        self.counts.overlaps += u64::from(!self.open.is_empty());
        self.counts.stale += u64::from(!self.log.is_newest(id));
        let (number, wake) = (self.next_poll, Arc::new(Notify::new()));
        self.next_poll += 1;
        if !self.open.is_empty() && behavior.concurrent == Concurrent::SecondConflict {
            return (number, wake, PollResult::Over);
        }
        self.touch(now);
        if behavior.concurrent == Concurrent::NewestWins {
            for open in &mut self.open {
                open.superseded = true;
                open.wake.notify_one();
            }
        }
        let Some(place) = self.log.place(id) else { return (number, wake, PollResult::Unknown) };
        self.log.acknowledge(id);
        let class = self.class(id, place, behavior, now);
        if self.is_over() && matches!(class, Class::Over | Class::Unknown) {
            self.log.miss(place);
        }
        let result = match class {
            Class::Over => PollResult::Over,
            Class::Unknown => PollResult::Unknown,
            Class::Snapshot { branch } => self.snapshot(place, branch, behavior, rng),
            Class::Fresh => {
                let deadline = later(later(now, timeout), behavior.answer_late);
                self.open.push(Open {
                    number,
                    id: id.to_owned(),
                    at: place.at,
                    deadline,
                    wake: wake.clone(),
                    superseded: false,
                    due: false,
                });
                self.look(number, behavior, rng, now)
            }
        };
        (number, wake, result)
    }

    /// The current result of an open poll.
    pub(crate) fn look(&mut self, number: u64, behavior: &AgentBehavior, rng: &mut Rng, now: Instant) -> PollResult {
        let Some(open) = self.open.iter().find(|open| open.number == number) else { return PollResult::Quiet };
        if open.superseded {
            return PollResult::Quiet;
        }
        let (at, is_due) = (open.at, now >= open.deadline);
        let id = open.id.clone();
        let Some(place) = self.log.place(&id) else { return PollResult::Unknown };
        if self.log.is_behind(at) {
            if !self.log.has_all_after(at) {
                return self.snapshot(place, 3, behavior, rng);
            }
            return self.batch(&id, place, behavior, rng);
        }
        if std::mem::take(&mut self.nudged) {
            return self.batch(&id, place, behavior, rng);
        }
        if is_due { PollResult::Quiet } else { PollResult::Wait }
    }

    fn batch(&mut self, id: &str, place: Place, behavior: &AgentBehavior, rng: &mut Rng) -> PollResult {
        let events = self.log.answer(place.at);
        // Another poll with the same id may have been answered first.
        let line = self.log.is_newest(id).then_some(place.line);
        PollResult::Batch { id: self.log.mint(ids::mint(behavior.ids, rng), false, line), events, branch: 1 }
    }

    fn snapshot(&mut self, place: Place, branch: u8, behavior: &AgentBehavior, rng: &mut Rng) -> PollResult {
        self.counts.snapshots += 1;
        self.log.miss(place);
        let events = self.live.snapshot(behavior.snapshot_order, rng);
        let line = self.log.has_line(place.line).then_some(place.line);
        PollResult::Batch { id: self.log.mint(ids::mint(behavior.ids, rng), false, line), events, branch }
    }

    /// Measures the time from the last answer to this poll, in real time.
    pub(crate) fn asked(&mut self, real: Instant) {
        if let Some(answered) = self.answered.take() {
            self.counts.longest_pause = self.counts.longest_pause.max(real.saturating_duration_since(answered));
        }
    }

    /// Records the time of an answer.
    pub(crate) fn answered(&mut self, real: Instant) {
        self.answered = Some(real);
    }

    /// Closes a poll, answered or not. An open poll counts as activity.
    pub(crate) fn close(&mut self, number: u64, now: Instant) {
        let before = self.open.len();
        self.open.retain(|open| open.number != number);
        if self.open.len() < before {
            self.touch(now);
        }
    }

    fn inactivity(&self, behavior: &AgentBehavior) -> Duration {
        self.station.inactivity.unwrap_or(behavior.inactivity_timeout)
    }

    /// The next deadline.
    pub(crate) fn next_deadline(&self, behavior: &AgentBehavior) -> Option<Instant> {
        let polls = self.open.iter().filter(|open| !open.due).map(|open| open.deadline).min();
        let may_idle = !self.is_over() && !self.is_idle && self.open.is_empty();
        let idle = may_idle.then(|| later(self.last_activity, self.inactivity(behavior)));
        polls.into_iter().chain(idle).min()
    }

    /// Performs what is due.
    pub(crate) fn run_due(&mut self, at: &str, behavior: &AgentBehavior, now: Instant) {
        for open in self.open.iter_mut().filter(|open| open.deadline <= now) {
            open.due = true;
            open.wake.notify_one();
        }
        let is_due = self.open.is_empty() && now >= later(self.last_activity, self.inactivity(behavior));
        if !is_due || self.is_over() || self.is_idle {
            return;
        }
        self.is_idle = true;
        let event = match behavior.idle {
            Idle::SetUnavailable if !self.station.force_logout => agent_state("Unavailable", "", at),
            Idle::SetUnavailable | Idle::EndSession => remote_end("SessionTimeout"),
        };
        self.push(Event::of(&event), behavior, now);
    }
}

#[cfg(test)]
mod tests;
