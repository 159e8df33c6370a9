//! A schedule: everything that a run is made of, drawn from one seed.

use crate::net::{Dir, End, Profile};
use crate::rng::Rng;
use crate::service::knobs::Knobs;
use crate::service::{Op, Wrong};
use crate::time::{MS, SEC, Us};
use crate::world::{Emission, Filter, What};

/// What the client is set up to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mode {
    PubNub,
    WebSocket,
    /// WebSocket, then PubNub, then polls.
    FailOver,
    Agent,
}

impl Mode {
    pub(crate) const ALL: [Self; 4] = [Self::PubNub, Self::WebSocket, Self::FailOver, Self::Agent];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::PubNub => "pubnub",
            Self::WebSocket => "websocket",
            Self::FailOver => "failover",
            Self::Agent => "agent",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hosts {
    All,
    Platform,
    Push,
}

/// One thing that goes wrong. Lengths are milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FaultKind {
    /// The connections that bring events end.
    End(End),
    /// They pass nothing on in one direction.
    Hold(Dir, u64),
    /// They pass nothing on.
    BlackHole(u64),
    /// A box in their path swallows everything, and resets them in the end.
    Swallow(u64),
    /// What the service sends over them comes in crumbs.
    Dribble(u64),
    /// Everything takes longer.
    Slow { by_ms: u64, ms: u64 },
    /// Connections are refused; those that there are end so, or stay.
    Refuse { hosts: Hosts, ms: u64, kill: Option<End> },
    /// Nothing comes through at all.
    Hang { hosts: Hosts, ms: u64 },
    /// Answers of one kind of request go wrong.
    Http { op: Op, wrong: Wrong, times: u64, ms: u64 },
    /// The subscription is gone at the service, without a word.
    LoseSubscription,
    /// The subscription is suspended, without a word.
    Suspend,
    /// PubNub loses its buffers.
    PurgeBuffers,
    /// Access tokens die.
    ExpireTokens,
    /// Every login is over, its refresh token too.
    EndLogins,
    /// The gateway closes its sockets with this code.
    CloseSockets(u64),
    /// The gateway loses its sessions.
    ForgetSessions,
    /// Another program of the same user and app subscribes to the same.
    Foreign,
    /// The client's process is stopped; its clocks go on.
    Freeze(u64),
    /// The client's machine sleeps; only its wall clock goes on.
    Sleep(u64),
    /// The client's wall clock jumps by so many seconds.
    WallJump(i64),
    /// The program does not read.
    Stall(u64),
    /// The program ends without a word and starts again after so many milliseconds from the
    /// resume token that it had taken `age_ms` before; `anew`: with another login.
    Restart { down_ms: u64, age_ms: u64, anew: bool },
}

impl FaultKind {
    /// Its row in the table of faults and phases.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::End(End::ResetLossy) => "reset, lossy",
            Self::End(End::ResetBehind) => "reset behind data",
            Self::End(End::FinLossy) => "fin, lossy",
            Self::End(End::FinBehind) => "fin behind data",
            Self::Hold(Dir::ToClient, _) => "silence to client",
            Self::Hold(Dir::ToService, _) => "silence to service",
            Self::BlackHole(_) => "black hole",
            Self::Swallow(_) => "swallow, then reset",
            Self::Dribble(_) => "dribble",
            Self::Slow { .. } => "latency",
            Self::Refuse { .. } => "refused",
            Self::Hang { .. } => "nothing passes",
            Self::Http { wrong: Wrong::Status(..), .. } => "status",
            Self::Http { wrong: Wrong::ResetBefore, .. } => "request lost",
            Self::Http { wrong: Wrong::ResetAfter | Wrong::Silent, .. } => "answer lost",
            Self::Http { wrong: Wrong::CutHead | Wrong::CutBody | Wrong::BadLength, .. } => "answer cut",
            Self::Http { wrong: Wrong::Slow(_), .. } => "answer late",
            Self::Http { wrong: Wrong::Html, .. } => "answer garbage",
            Self::LoseSubscription => "subscription lost",
            Self::Suspend => "subscription suspended",
            Self::PurgeBuffers => "buffers lost",
            Self::ExpireTokens => "tokens expired",
            Self::EndLogins => "logins ended",
            Self::CloseSockets(_) => "sockets closed",
            Self::ForgetSessions => "sessions lost",
            Self::Foreign => "foreign subscription",
            Self::Freeze(_) => "freeze",
            Self::Sleep(_) => "sleep",
            Self::WallJump(_) => "wall clock jump",
            Self::Stall(_) => "stalled reader",
            Self::Restart { .. } => "restart",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) at: Us,
    pub(crate) what: FaultKind,
}

/// Everything of one run.
#[derive(Debug, Clone)]
pub(crate) struct Schedule {
    pub(crate) seed: u64,
    pub(crate) mode: Mode,
    pub(crate) knobs: Knobs,
    pub(crate) profile: Profile,
    pub(crate) filters: Vec<Filter>,
    pub(crate) events: Vec<Emission>,
    pub(crate) faults: Vec<Fault>,
    /// When the program closes.
    pub(crate) end: Us,
    /// Sources are there to ask for what was missed.
    pub(crate) catch_up: bool,
    /// The client's queue, in bytes.
    pub(crate) queue_bytes: u64,
    /// Seconds by which the client's wall clock is wrong from the beginning.
    pub(crate) skew: i64,
    /// Messages that are deleted again, by their event, and when.
    pub(crate) deletions: Vec<(Us, u32)>,
}

/// No event comes, and no fault begins, in the last part of a run but where that is drawn.
const TAIL: Us = 25 * SEC;

impl Schedule {
    pub(crate) fn draw(seed: u64, mode: Option<Mode>) -> Self {
        let mut rng = Rng::part(seed, 1);
        let drawn = match rng.below(20) {
            0..=7 => Mode::PubNub,
            8..=15 => Mode::WebSocket,
            16..=17 => Mode::FailOver,
            _ => Mode::Agent,
        };
        let mode = mode.unwrap_or(drawn);
        let plain = rng.percent(20);
        let knobs = if plain { Knobs::plain() } else { Knobs::draw(&mut rng) };
        let profile = Profile {
            latency: rng.pick(&[2, 10, 40, 120]) * MS,
            jitter: rng.pick(&[0, 5, 30]) * MS,
            bandwidth: rng.pick(&[10_000_000, 1_000_000, 100_000]),
            window: rng.pick(&[256 * 1024, 64 * 1024, 16 * 1024]) as usize,
            reset_purges: rng.percent(50),
        };
        // A few are long enough for what happens every quarter or half of an hour.
        let is_long = rng.percent(4);
        let end = if is_long { rng.range(1_900, 2_500) } else { rng.range(90, 240) } * SEC;
        let filters = if mode == Mode::Agent { Vec::new() } else { draw_filters(&mut rng) };
        let calm = rng.percent(12);
        let faults = if calm { Vec::new() } else { draw_faults(&mut rng, mode, end) };
        let events = draw_events(&mut rng, mode, &filters, end - TAIL, is_long, &faults);
        let deletions = draw_deletions(&mut rng, &events);
        let skew = if rng.percent(70) { 0 } else { rng.pick(&[3600, -3600, 40, -40, 3]) };
        Self {
            seed,
            mode,
            knobs,
            profile,
            filters,
            events,
            faults,
            end,
            catch_up: rng.percent(65) || mode == Mode::FailOver,
            queue_bytes: rng.pick(&[8 << 20, 8 << 20, 20_000]),
            skew,
            deletions,
        }
    }

    /// Nothing goes wrong by itself, either.
    pub(crate) fn is_calm(&self) -> bool {
        let knobs = &self.knobs;
        self.faults.iter().all(|fault| matches!(fault.what, FaultKind::Foreign | FaultKind::WallJump(_)))
            && knobs.ws_absolute_s > self.end / SEC
            && knobs.ws_idle_s > self.end / SEC
            && knobs.token_life_s > self.end / SEC
            && !self.has_burst()
    }

    /// More at once than some buffer holds.
    pub(crate) fn has_burst(&self) -> bool {
        let least = if self.queue_bytes < 1 << 20 { 15 } else { self.knobs.pn_buffer.min(self.knobs.ws_buffer) / 2 };
        let least = usize::try_from(least).unwrap_or(usize::MAX);
        self.events
            .windows(least.max(1))
            .any(|part| part.last().zip(part.first()).is_some_and(|(b, a)| b.at - a.at < 3 * SEC))
    }

    /// As text to read and to run again.
    pub(crate) fn describe(&self) -> String {
        use std::fmt::Write as _;
        let mut out = String::new();
        let _ = writeln!(
            out,
            "seed {} over {}: ends at {} s, catch-up {}, queue {} B, skew {} s, latency {} ms, {} B/s, window {} B, reset purges {}",
            self.seed,
            self.mode.name(),
            self.end / SEC,
            self.catch_up,
            self.queue_bytes,
            self.skew,
            self.profile.latency / MS,
            self.profile.bandwidth,
            self.profile.window,
            self.profile.reset_purges,
        );
        let _ = writeln!(out, "  filters {:?}", self.filters);
        let _ = writeln!(out, "  knobs {:?}", self.knobs.unusual());
        for fault in &self.faults {
            let _ = writeln!(out, "  {:>7.3} s {:?}", fault.at as f64 / SEC as f64, fault.what);
        }
        for (at, event) in &self.deletions {
            let _ = writeln!(out, "  {:>7.3} s event {event} is deleted", *at as f64 / SEC as f64);
        }
        for event in &self.events {
            let _ = writeln!(out, "  {:>7.3} s event {} {:?}", event.at as f64 / SEC as f64, event.id, event.what);
        }
        out
    }
}

fn draw_filters(rng: &mut Rng) -> Vec<Filter> {
    let mut filters: Vec<Filter> = Filter::ALL
        .into_iter()
        .filter(|filter| match filter {
            Filter::Sms => true,
            Filter::Telephony => rng.percent(25),
            Filter::Missed => rng.percent(30),
            _ => rng.percent(45),
        })
        .collect();
    filters.sort_unstable();
    filters
}

/// Some messages are deleted soon after they came.
fn draw_deletions(rng: &mut Rng, events: &[Emission]) -> Vec<(Us, u32)> {
    if !rng.percent(12) {
        return Vec::new();
    }
    let mut deletions = Vec::new();
    for event in events.iter().filter(|event| matches!(event.what, What::Sms | What::Voicemail)) {
        if rng.percent(20) {
            deletions.push((event.at + rng.range(200, 20_000) * MS, event.id));
        }
    }
    deletions
}

fn draw_events(
    rng: &mut Rng,
    mode: Mode,
    filters: &[Filter],
    last: Us,
    is_long: bool,
    faults: &[Fault],
) -> Vec<Emission> {
    let mut times: Vec<Us> = Vec::new();
    let gap = if is_long { 40_000 } else { rng.pick(&[600, 1500, 4000, 9000]) } * MS;
    let mut at = rng.below(3 * SEC);
    while at < last {
        times.push(at);
        at += rng.range(gap / 4, gap * 7 / 4);
    }
    times.truncate(110);
    if rng.percent(30) {
        // Many at once do most harm while something is wrong.
        let at = match faults.first() {
            Some(_) if rng.percent(70) => {
                let fault = rng.pick(faults);
                (fault.at + rng.below(12 * SEC)).min(last)
            }
            _ => rng.below(last),
        };
        let n = rng.pick(&[8, 30, 60, 130, 160]);
        let spread = rng.pick(&[1, 200, 1500]) * MS;
        times.extend((0..n).map(|_| at + rng.below(spread)));
    }
    times.sort_unstable();
    let mut events = Vec::new();
    let (mut posts, mut calls) = (0u32, Vec::<(u32, u32)>::new());
    let mut next_call = 0;
    for (id, at) in times.into_iter().enumerate() {
        let id = u32::try_from(id).unwrap_or(u32::MAX);
        let steps = |calls: &mut Vec<(u32, u32)>, next: &mut u32, rng: &mut Rng| {
            let index = usize::try_from(rng.below(3)).unwrap_or(0);
            if calls.len() <= index {
                *next += 1;
                calls.push((*next, 0));
            }
            let index = index.min(calls.len() - 1);
            let (call, step) = calls[index];
            calls[index].1 += 1;
            let last = step >= 2 && rng.percent(50);
            if last {
                calls.remove(index);
            }
            (call, step, last)
        };
        let what = if mode == Mode::Agent {
            if rng.percent(60) {
                What::AgentShot
            } else {
                let (contact, step, last) = steps(&mut calls, &mut next_call, rng);
                What::AgentContact { contact, step, last }
            }
        } else {
            match rng.pick(filters) {
                Filter::Voicemail => What::Voicemail,
                Filter::Posts => {
                    if posts > 0 && rng.percent(35) {
                        What::PostChanged(u32::try_from(rng.range(1, u64::from(posts))).unwrap_or(1))
                    } else {
                        posts += 1;
                        What::PostAdded(posts)
                    }
                }
                Filter::Missed => What::MissedCall,
                Filter::Telephony => {
                    let (call, step, last) = steps(&mut calls, &mut next_call, rng);
                    What::Telephony { call: 50_000 + call, step, last }
                }
                Filter::Sms | Filter::Agent => What::Sms,
            }
        };
        events.push(Emission { id, at, what });
    }
    events
}

/// Milliseconds from short to long, so that every bound is passed by some.
fn length(rng: &mut Rng) -> u64 {
    match rng.below(10) {
        0..=3 => rng.range(50, 2_000),
        4..=6 => rng.range(2_000, 12_000),
        7..=8 => rng.range(12_000, 45_000),
        _ => rng.range(45_000, 90_000),
    }
}

fn draw_end(rng: &mut Rng) -> End {
    rng.pick(&[End::ResetLossy, End::ResetBehind, End::FinLossy, End::FinBehind])
}

fn draw_wrong(rng: &mut Rng) -> Wrong {
    match rng.below(16) {
        0 => Wrong::Status(500, None),
        1 => Wrong::Status(503, None),
        2 => {
            let wait = rng.pick(&[1, 3, 10]);
            Wrong::Status(503, Some(wait))
        }
        3 => Wrong::Status(502, None),
        4 => Wrong::Status(401, None),
        5 => Wrong::Html,
        6 | 7 => Wrong::ResetBefore,
        8 | 9 => Wrong::ResetAfter,
        10 => Wrong::CutHead,
        11 => Wrong::CutBody,
        12 => Wrong::BadLength,
        13 => Wrong::Silent,
        _ => {
            let late = rng.pick(&[200, 2_000, 8_000, 15_000, 40_000]);
            Wrong::Slow(late)
        }
    }
}

fn draw_ops(mode: Mode) -> &'static [Op] {
    match mode {
        Mode::PubNub => &[
            Op::Token,
            Op::Create,
            Op::Create,
            Op::Renew,
            Op::Renew,
            Op::Get,
            Op::List,
            Op::Delete,
            Op::PubNubPoll,
            Op::PubNubPoll,
            Op::PubNubPoll,
            Op::Sync,
            Op::Sync,
            Op::Sync,
        ],
        Mode::WebSocket => &[
            Op::Token,
            Op::WsToken,
            Op::WsToken,
            Op::Upgrade,
            Op::Upgrade,
            Op::Create,
            Op::Create,
            Op::Get,
            Op::Delete,
            Op::Sync,
            Op::Sync,
            Op::Sync,
        ],
        Mode::FailOver => &[
            Op::Token,
            Op::WsToken,
            Op::Upgrade,
            Op::Create,
            Op::Renew,
            Op::Get,
            Op::Delete,
            Op::PubNubPoll,
            Op::Sync,
            Op::Sync,
        ],
        Mode::Agent => &[Op::AgentPoll, Op::AgentPoll, Op::AgentPoll, Op::AgentOther],
    }
}

fn draw_fault(rng: &mut Rng, mode: Mode) -> FaultKind {
    let hosts = |rng: &mut Rng| rng.pick(&[Hosts::All, Hosts::All, Hosts::Push, Hosts::Push, Hosts::Platform]);
    let ms = length(rng);
    loop {
        let what = match rng.below(36) {
            0..=3 => FaultKind::End(draw_end(rng)),
            4 | 5 => FaultKind::Hold(rng.pick(&[Dir::ToClient, Dir::ToService]), ms),
            6 | 7 => FaultKind::BlackHole(ms),
            8 | 9 => FaultKind::Swallow(ms.min(40_000)),
            10 => FaultKind::Dribble(ms.min(20_000)),
            11 => FaultKind::Slow { by_ms: rng.pick(&[300, 2_000, 9_000]), ms },
            12 | 13 => {
                let kill = if rng.percent(75) { Some(draw_end(rng)) } else { None };
                FaultKind::Refuse { hosts: hosts(rng), ms, kill }
            }
            14 => FaultKind::Hang { hosts: hosts(rng), ms },
            15..=19 => {
                let times = rng.pick(&[1, 1, 1, 2, 4]);
                FaultKind::Http { op: rng.pick(draw_ops(mode)), wrong: draw_wrong(rng), times, ms: 60_000 }
            }
            20 => FaultKind::LoseSubscription,
            21 => FaultKind::Suspend,
            22 => FaultKind::PurgeBuffers,
            23 => FaultKind::ExpireTokens,
            24 => FaultKind::EndLogins,
            25 => FaultKind::CloseSockets(rng.pick(&[1000, 1001, 1006, 1011, 1012, 1013, 4000])),
            26 => FaultKind::ForgetSessions,
            27 => FaultKind::Foreign,
            28 | 29 => FaultKind::Freeze(ms),
            30 => FaultKind::Sleep(ms),
            31 => FaultKind::WallJump(rng.pick(&[3600, -3600, 20, -20, 86_400])),
            32 | 33 => FaultKind::Stall(ms),
            _ => {
                let down_ms = rng.pick(&[10, 1_000, 5_000, 30_000]);
                let age_ms = rng.pick(&[0, 0, 500, 8_000]);
                FaultKind::Restart { down_ms, age_ms, anew: rng.percent(50) }
            }
        };
        let is_rest = matches!(
            what,
            FaultKind::LoseSubscription
                | FaultKind::Suspend
                | FaultKind::ExpireTokens
                | FaultKind::EndLogins
                | FaultKind::Foreign
                | FaultKind::Restart { .. }
        );
        let fits = match what {
            FaultKind::PurgeBuffers => mode == Mode::PubNub,
            FaultKind::CloseSockets(_) | FaultKind::ForgetSessions => matches!(mode, Mode::WebSocket | Mode::FailOver),
            _ => !is_rest || mode != Mode::Agent,
        };
        if fits {
            return what;
        }
    }
}

fn draw_faults(rng: &mut Rng, mode: Mode, end: Us) -> Vec<Fault> {
    let mut faults = Vec::new();
    let n = rng.pick(&[1, 1, 1, 2, 2, 3, 5]);
    // Some come while everything starts.
    let mut at = if rng.percent(15) { rng.below(2 * SEC) } else { rng.below(end - TAIL) };
    for _ in 0..n {
        let what = draw_fault(rng, mode);
        // A create that may have been carried out, and the same of another program.
        if matches!(what, FaultKind::Http { op: Op::Create, .. }) && rng.percent(40) {
            faults.push(Fault { at: at.saturating_sub(rng.below(2 * SEC)), what: FaultKind::Foreign });
        }
        faults.push(Fault { at, what });
        // A create that goes wrong needs a reason to create.
        if matches!(what, FaultKind::Http { op: Op::Create, .. }) && rng.percent(50) {
            faults.push(Fault { at: at + rng.below(2 * SEC), what: FaultKind::LoseSubscription });
        }
        // The next comes in the wake of this one, or somewhere else.
        at = if rng.percent(45) { at + rng.below(15 * SEC) } else { rng.below(end - TAIL) };
        at = at.min(end - TAIL);
    }
    // A path that dies, and the program closes before anyone can have noticed.
    if rng.percent(8) {
        let at = end - rng.range(1, 12) * SEC;
        let what = if rng.percent(50) { FaultKind::BlackHole(60_000) } else { FaultKind::Swallow(30_000) };
        faults.push(Fault { at, what });
    }
    faults.sort_by_key(|fault| fault.at);
    faults
}

#[cfg(test)]
mod tests {
    use super::{Mode, Schedule};

    #[test]
    fn a_seed_draws_one_schedule_and_seeds_draw_all_modes() {
        assert_eq!(Schedule::draw(5, None).describe(), Schedule::draw(5, None).describe());
        for mode in Mode::ALL {
            assert!((0..200).any(|seed| Schedule::draw(seed, None).mode == mode), "{mode:?}");
        }
        for seed in 0..500 {
            let schedule = Schedule::draw(seed, None);
            assert!(schedule.events.windows(2).all(|two| two[0].at <= two[1].at && two[0].id < two[1].id));
            assert!(schedule.events.len() <= 270);
        }
    }
}
