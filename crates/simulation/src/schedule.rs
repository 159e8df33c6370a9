//! A schedule: everything that a run is made of, drawn from one seed.

use crate::disk::DiskProfile;
use crate::net::{Dir, End, Profile};
use crate::rng::Rng;
use crate::service::knobs::Knobs;
use crate::service::{Op, Wrong};
use crate::time::{MS, SEC, Us};
use crate::world::{Emission, Filter, What};

/// The client's transports.
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

/// The kinds of schedules. A seed gives a different schedule in each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Suite {
    Main,
    /// With what the main suite does not draw, and faults in phases that are short.
    Wide,
    /// A program that stores its position, and crashes.
    Crash,
}

impl Suite {
    pub(crate) const ALL: [Self; 3] = [Self::Main, Self::Wide, Self::Crash];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Main => "main",
            Self::Wide => "wide",
            Self::Crash => "crash",
        }
    }

    /// Of so many schedules of the main suite a run has so many tenths of this one.
    pub(crate) fn tenths(self) -> u64 {
        match self {
            Self::Main | Self::Wide => 10,
            Self::Crash => 6,
        }
    }

    pub(crate) fn draw(self, seed: u64, mode: Option<Mode>) -> Schedule {
        match self {
            Self::Main => Schedule::draw(seed, mode),
            Self::Wide => Schedule::draw_wide(seed, mode),
            Self::Crash => Schedule::draw_crash(seed, mode),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hosts {
    All,
    Platform,
    Push,
}

/// One fault. Lengths are in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FaultKind {
    /// The connections that carry events end.
    End(End),
    /// They forward nothing in one direction.
    Hold(Dir, u64),
    /// They forward nothing.
    BlackHole(u64),
    /// A middlebox in their path swallows everything, and finally resets them.
    Swallow(u64),
    /// The service's data arrives over them in small pieces.
    Dribble(u64),
    /// Everything takes longer.
    Slow { by_ms: u64, ms: u64 },
    /// Connections are refused; existing ones end in this way, or stay.
    Refuse { hosts: Hosts, ms: u64, kill: Option<End> },
    /// No data gets through.
    Hang { hosts: Hosts, ms: u64 },
    /// Answers to one kind of request fail.
    Http { op: Op, wrong: Wrong, times: u64, ms: u64 },
    /// The service silently loses the subscription.
    LoseSubscription,
    /// The service silently suspends the subscription.
    Suspend,
    /// PubNub loses its buffers.
    PurgeBuffers,
    /// PubNub sends its whole buffer again.
    RepeatAll,
    /// The program requests a reconnection.
    Revalidate,
    /// Access tokens die.
    ExpireTokens,
    /// Every login has ended, including its refresh token.
    EndLogins,
    /// The gateway closes its sockets with this code.
    CloseSockets(u64),
    /// The gateway loses its sessions.
    ForgetSessions,
    /// Another program of the same user and app creates the same subscription.
    Foreign,
    /// The client's process is stopped; its clocks continue.
    Freeze(u64),
    /// The client's machine sleeps; only its wall clock continues.
    Sleep(u64),
    /// The client's wall clock jumps by this many seconds.
    WallJump(i64),
    /// The clock of the service's hosts is set back by this many seconds.
    ClockSet(u64),
    /// The program does not read.
    Stall(u64),
    /// The program ends without closing and restarts after `down_ms` from the resume token that it had taken `age_ms`
    /// before; `anew`: with another login.
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
            Self::RepeatAll => "all messages again",
            Self::Revalidate => "asked to revalidate",
            Self::ExpireTokens => "tokens expired",
            Self::EndLogins => "logins ended",
            Self::CloseSockets(_) => "sockets closed",
            Self::ForgetSessions => "sessions lost",
            Self::Foreign => "foreign subscription",
            Self::Freeze(_) => "freeze",
            Self::Sleep(_) => "sleep",
            Self::WallJump(_) => "wall clock jump",
            Self::ClockSet(_) => "clock set",
            Self::Stall(_) => "stalled reader",
            Self::Restart { .. } => "restart",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) at: Us,
    pub(crate) what: FaultKind,
    /// The client's phase that it waits for, from `at` on.
    pub(crate) phase: Option<&'static str>,
}

impl Fault {
    pub(crate) fn new(at: Us, what: FaultKind) -> Self {
        Self { at, what, phase: None }
    }
}

/// Where the position in the stream is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Store {
    File,
    Redb,
}

impl Store {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Redb => "redb",
        }
    }
}

/// The end of a process, and the beginning of the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Crash {
    /// The time after the process began.
    pub(crate) after: Us,
    /// The number of the following disk operation before which it happens; without it at that time.
    pub(crate) operation: Option<u64>,
    /// The machine loses power; otherwise the process is killed.
    pub(crate) power: bool,
    pub(crate) down_ms: u64,
}

/// The life of a program with a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CrashPlan {
    pub(crate) store: Store,
    /// The program acknowledges explicitly; otherwise requesting the next event does.
    pub(crate) explicit: bool,
    /// The percentage of the deliveries that it acknowledges.
    pub(crate) ack_percent: u64,
    pub(crate) disk: DiskProfile,
    pub(crate) crashes: Vec<Crash>,
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
    /// Sources exist that can find missed events.
    pub(crate) catch_up: bool,
    /// The client's queue, in bytes.
    pub(crate) queue_bytes: u64,
    /// Seconds by which the client's wall clock is wrong from the beginning.
    pub(crate) skew: i64,
    /// Messages that are deleted again, by their event, and when.
    pub(crate) deletions: Vec<(Us, u32)>,
    /// The program stores its position, and crashes.
    pub(crate) crashes: Option<CrashPlan>,
    /// Whether counts of changed messages are replaced by the messages.
    pub(crate) enrich: bool,
    /// When the program replaces its filters, and by which.
    pub(crate) updates: Vec<(Us, Vec<Filter>)>,
}

/// Phases that a client is not in for long.
pub(crate) const PHASES: [&str; 5] = ["starting", "connecting", "reconnecting", "recreating", "closing"];

/// The faults that are put into them.
pub(crate) const FORCED: [&str; 33] = [
    "reset, lossy",
    "reset behind data",
    "fin, lossy",
    "fin behind data",
    "silence to client",
    "silence to service",
    "black hole",
    "swallow, then reset",
    "dribble",
    "latency",
    "refused",
    "nothing passes",
    "status",
    "request lost",
    "answer lost",
    "answer cut",
    "answer late",
    "answer garbage",
    "subscription lost",
    "subscription suspended",
    "tokens expired",
    "logins ended",
    "foreign subscription",
    "freeze",
    "sleep",
    "wall clock jump",
    "stalled reader",
    "restart",
    "buffers lost",
    "all messages again",
    "asked to revalidate",
    "sockets closed",
    "sessions lost",
];

/// Two of the pairs of them, so that many seeds have each as often as any other.
fn forced(seed: u64) -> [(&'static str, &'static str); 2] {
    [2 * seed, 2 * seed + 1].map(|number| {
        let pair = usize::try_from(number % (FORCED.len() * PHASES.len()) as u64).unwrap_or(0);
        (FORCED[pair % FORCED.len()], PHASES[pair / FORCED.len()])
    })
}

/// No event occurs, and no fault begins, in the last part of a run unless that is drawn.
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
        // A few are long enough for events of every quarter or half of an hour.
        let is_long = rng.percent(4);
        let end = if is_long { rng.range(1_900, 2_500) } else { rng.range(90, 240) } * SEC;
        let filters = if mode == Mode::Agent { Vec::new() } else { draw_filters(&mut rng) };
        let calm = rng.percent(12);
        let faults = if calm { Vec::new() } else { draw_faults(&mut rng, mode, end) };
        let events = draw_events(&mut rng, mode, &filters, end - TAIL, is_long, &faults);
        let deletions = draw_deletions(&mut rng, &events);
        let skew = if rng.percent(70) { 0 } else { rng.pick(&[3600, -3600, 40, -40, 3]) };
        let faults = set_clock(seed, faults, end);
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
            crashes: None,
            enrich: false,
            updates: Vec::new(),
        }
    }

    /// Draws what [`draw`](Self::draw) does not, on top of one of its schedules.
    pub(crate) fn draw_wide(seed: u64, mode: Option<Mode>) -> Self {
        let mut rng = Rng::part(seed, 51);
        let kind = rng.below(100);
        let pairs = forced(seed);
        let mode = mode.or_else(|| {
            Some(match kind {
                0..=7 => Mode::PubNub,
                8..=14 => Mode::Agent,
                15 | 16 | 20..=22 => Mode::WebSocket,
                17..=19 | 23 => Mode::PubNub,
                24 => Mode::FailOver,
                _ if pairs.iter().any(|(name, _)| ["buffers lost", "all messages again"].contains(name)) => {
                    Mode::PubNub
                }
                _ if pairs.iter().any(|(name, _)| ["sockets closed", "sessions lost"].contains(name)) => {
                    Mode::WebSocket
                }
                // A socket exists before anything is created over it.
                _ if pairs.iter().any(|(_, phase)| *phase == "connecting") => Mode::PubNub,
                _ => rng.pick(&[Mode::PubNub, Mode::PubNub, Mode::WebSocket, Mode::WebSocket, Mode::FailOver]),
            })
        });
        let mut schedule = Self::draw(seed + (1 << 40), mode);
        schedule.seed = seed;
        if schedule.mode == Mode::Agent || rng.percent(50) {
            schedule.knobs.draw_later(&mut rng);
        }
        match kind {
            0..=3 if schedule.mode == Mode::PubNub => schedule.limit_answers(&mut rng),
            4..=7 if schedule.mode == Mode::PubNub => schedule.repeat_all(&mut rng),
            15 | 16 if schedule.mode == Mode::WebSocket => schedule.overflow(&mut rng),
            17 if schedule.mode == Mode::PubNub => schedule.outlast_buffer(&mut rng),
            18 if schedule.mode == Mode::PubNub => schedule.lose_renewals(&mut rng),
            19 if schedule.mode == Mode::PubNub => schedule.lose_before_check(&mut rng),
            23 if schedule.mode == Mode::PubNub => schedule.page_in_a_millisecond(&mut rng),
            20..=22 if schedule.mode == Mode::WebSocket => schedule.replay(&mut rng),
            24 if schedule.mode == Mode::FailOver => schedule.late_lists(&mut rng),
            _ if schedule.mode == Mode::Agent => {}
            _ => {
                schedule.widen(&mut rng);
                schedule.force_phases(pairs, &mut rng);
            }
        }
        schedule
    }

    /// After an outage more messages wait than one answer holds, and more than the service retains (found 2.4).
    fn limit_answers(&mut self, rng: &mut Rng) {
        self.knobs.pn_answer_most = rng.pick(&[50, 25]);
        self.knobs.pn_buffer = 100;
        self.knobs.pn_repeat_percent = 0;
        (self.filters, self.catch_up, self.queue_bytes) = (vec![Filter::Sms], rng.percent(50), 8 << 20);
        self.end = 110 * SEC;
        let at = rng.range(10, 60) * SEC;
        let kill = Some(draw_end(rng));
        let ms = rng.range(3, 12) * 1000;
        self.faults = vec![Fault::new(at, FaultKind::Refuse { hosts: Hosts::Push, ms, kill })];
        let mut times: Vec<Us> = (0..30).map(|i| i * 2 * SEC).collect();
        times.extend((0..rng.range(90, 170)).map(|_| at + 500 * MS + rng.below(SEC)));
        self.only_messages(times);
    }

    /// Messages that were read come again, in answers as large as the buffer (found 2.5).
    fn repeat_all(&mut self, rng: &mut Rng) {
        self.knobs.pn_answer_most = 0;
        (self.filters, self.catch_up, self.queue_bytes) = (vec![Filter::Sms], rng.percent(50), 8 << 20);
        self.end = 120 * SEC;
        let at = rng.range(75, 90) * SEC;
        self.faults = (0..rng.range(1, 3)).map(|i| Fault::new(at + i * 3 * SEC, FaultKind::RepeatAll)).collect();
        self.only_messages((0..130).map(|i| 2 * SEC + i * rng.range(480, 520) * MS).collect());
    }

    /// More events than the client's queue holds arrive while the program does not read, half the time after an outage
    /// (found 1.6).
    fn overflow(&mut self, rng: &mut Rng) {
        (self.filters, self.catch_up, self.queue_bytes) = (vec![Filter::Sms], rng.percent(50), 20_000);
        self.end = 125 * SEC;
        let at = rng.range(10, 20) * SEC;
        self.faults = vec![Fault::new(at, FaultKind::Stall(rng.range(50, 70) * 1000))];
        if rng.percent(50) {
            let kill = Some(draw_end(rng));
            let ms = rng.range(2, 15) * 1000;
            self.faults.push(Fault::new(at + SEC, FaultKind::Refuse { hosts: Hosts::Push, ms, kill }));
        }
        self.only_messages((0..260).map(|i| 2 * SEC + i * rng.range(240, 260) * MS).collect());
    }

    /// More is missed within some milliseconds than a page of a full sync holds (found 3.2).
    fn page_in_a_millisecond(&mut self, rng: &mut Rng) {
        self.knobs.sync_page = 20;
        self.knobs.sync_token_life_s = 60;
        self.knobs.sync_date_to_exclusive = rng.pick(&[1, 1, 0]);
        (self.filters, self.catch_up, self.queue_bytes) = (vec![Filter::Sms], true, 8 << 20);
        self.end = 300 * SEC;
        let at = rng.range(100, 150) * SEC;
        self.faults = vec![Fault::new(at, rng.pick(&[FaultKind::LoseSubscription, FaultKind::Suspend]))];
        let spread = rng.range(2, 6) * MS;
        let mut times: Vec<Us> = (0..40).map(|i| 2 * SEC + i * 5 * SEC).collect();
        times.extend((0..rng.range(30, 90)).map(|_| at + SEC + rng.below(spread)));
        self.only_messages(times);
    }

    /// The gateway says goodbye, so that only its buffer can lose anything, and replays late,
    /// or some events twice, with live ones right behind (found 2.1 to 2.3).
    fn replay(&mut self, rng: &mut Rng) {
        self.knobs.ws_buffer = 20;
        self.knobs.ws_recovery_s = 180;
        self.knobs.ws_absolute_s = 86_400;
        self.knobs.ws_repeats = 0;
        self.knobs.ws_replay_ms = rng.pick(&[0, 50, 3000, 12_000]);
        self.knobs.ws_doubles_percent = rng.pick(&[0, 0, 30]);
        (self.filters, self.catch_up, self.queue_bytes) = (vec![Filter::Sms], rng.percent(30), 8 << 20);
        self.end = 110 * SEC;
        let at = rng.range(10, 30) * SEC;
        self.faults = vec![
            Fault::new(at, FaultKind::CloseSockets(rng.pick(&[1000, 1001, 1012]))),
            Fault::new(at, FaultKind::Refuse { hosts: Hosts::Push, ms: 5_000, kill: None }),
        ];
        let mut times: Vec<Us> = (0..rng.range(4, 40)).map(|_| at + 500 * MS + rng.below(4 * SEC)).collect();
        times.extend((0..60).map(|i| at + 20 * SEC + i * 400 * MS));
        self.only_messages(times);
        self.replay_slowly(at);
    }

    /// In half of them replayed frames bear the time of the replay, and come slowly: after a long outage as slowly as a
    /// busy stream.
    fn replay_slowly(&mut self, at: Us) {
        let mut rng = Rng::part(self.seed, 52);
        if rng.percent(50) {
            return;
        }
        self.knobs.ws_replay_renews = 1;
        self.knobs.ws_replay_ms = rng.pick(&[0, 50, 3_000]);
        self.knobs.ws_replay_takes_ms = rng.pick(&[0, 2_000, 4_000]);
        if rng.percent(50) {
            return;
        }
        self.knobs.ws_replay_ms = 0;
        self.knobs.ws_replay_takes_ms = rng.pick(&[10_000, 24_000, 28_000]);
        let ms = rng.range(20_000, 28_000);
        self.faults[1].what = FaultKind::Refuse { hosts: Hosts::Push, ms, kill: None };
        let mut times: Vec<Us> = (0..rng.range(10, 40)).map(|_| at + 500 * MS + rng.below((ms - 1_000) * MS)).collect();
        times.extend((0..12).map(|i| at + 62 * SEC + i * SEC));
        self.only_messages(times);
    }

    /// Renewals that changed the address or the key, and whose answers are lost (found 1.5).
    fn lose_renewals(&mut self, rng: &mut Rng) {
        self.knobs.lease_s = rng.pick(&[60, 90, 150]);
        self.knobs.renew_moves = rng.range(1, 4);
        self.knobs.pn_encrypted = 1;
        (self.filters, self.catch_up) = (vec![Filter::Sms, Filter::Telephony], rng.percent(30));
        self.end = 200 * SEC;
        let wrong = rng.pick(&[Wrong::ResetAfter, Wrong::Silent, Wrong::CutBody, Wrong::CutHead]);
        let times = rng.range(1, 3);
        self.faults = vec![Fault::new(0, FaultKind::Http { op: Op::Renew, wrong, times, ms: 300_000 })];
        self.only_messages((0..330).map(|i| 2 * SEC + i * 500 * MS).collect());
        if rng.percent(40) {
            // The lease runs out in the client's view, and the former channel still delivers while no other can be had.
            let fails = |op, times| FaultKind::Http { op, wrong: Wrong::Status(503, None), times, ms: 300_000 };
            self.faults[0].what = FaultKind::Http { op: Op::Renew, wrong, times: 30, ms: 300_000 };
            self.faults.push(Fault::new(0, fails(Op::Get, 60)));
            self.faults.push(Fault::new(20 * SEC, fails(Op::Create, rng.range(2, 8))));
        }
    }

    /// Push is down for so long that polls replace it, and their first lists answer late. Polls find no change of a call.
    fn late_lists(&mut self, rng: &mut Rng) {
        (self.filters, self.catch_up, self.queue_bytes) = (vec![Filter::Sms, Filter::Telephony], true, 8 << 20);
        self.end = 260 * SEC;
        let at = rng.range(10, 30) * SEC;
        let kill = Some(draw_end(rng));
        let ms = rng.range(90, 200) * 1000;
        let wrong = Wrong::Slow(rng.pick(&[2_000, 7_000, 12_000, 20_000]));
        let times = rng.range(2, 12);
        self.faults = vec![
            Fault::new(at, FaultKind::Refuse { hosts: Hosts::Push, ms, kill }),
            Fault::new(at + rng.range(20, 35) * SEC, FaultKind::Http { op: Op::Sync, wrong, times, ms: 60_000 }),
        ];
        self.only_messages((0..220).map(|i| 2 * SEC + i * SEC).collect());
        for event in self.events.iter_mut().filter(|event| event.id % 2 == 1) {
            event.what = What::Telephony { call: 50_000 + event.id, step: 0, last: false };
        }
    }

    /// The subscription is lost shortly before a source is asked to be up to date, which it is
    /// every half an hour (found 3.1).
    fn lose_before_check(&mut self, rng: &mut Rng) {
        (self.filters, self.catch_up) = (vec![Filter::Sms, Filter::Voicemail], true);
        self.end = 2_100 * SEC;
        let at = rng.range(1_740, 1_830) * SEC;
        let what = rng.pick(&[FaultKind::LoseSubscription, FaultKind::Suspend]);
        self.faults = vec![Fault::new(at, what)];
        let before = (0..30).map(|i| 1_600 * SEC + i * 3 * SEC);
        self.only_messages(before.chain((0..90).map(|i| 1_700 * SEC + i * 4 * SEC)).collect());
        // Changes of what had come before: only a list of changes shows them.
        let (before, then) = self.events.split_at_mut(30);
        before.iter_mut().for_each(|event| event.what = What::Voicemail);
        for (event, voicemail) in then.iter_mut().step_by(2).zip(before) {
            event.what = What::VoicemailRead(voicemail.id);
        }
    }

    /// An outage that is longer than the service retains messages.
    fn outlast_buffer(&mut self, rng: &mut Rng) {
        self.knobs.pn_age_s = rng.pick(&[120, 300]);
        (self.filters, self.catch_up) = (vec![Filter::Sms], rng.percent(50));
        self.end = 1_500 * SEC;
        let kill = Some(draw_end(rng));
        let ms = rng.range(130, 1_300) * 1000;
        self.faults = vec![Fault::new(20 * SEC, FaultKind::Refuse { hosts: Hosts::Push, ms, kill })];
        self.only_messages((0..100).map(|i| 2 * SEC + i * 14 * SEC).collect());
    }

    fn only_messages(&mut self, mut times: Vec<Us>) {
        times.sort_unstable();
        self.deletions = Vec::new();
        let number = |id: usize| u32::try_from(id).unwrap_or(u32::MAX);
        self.events =
            times.into_iter().enumerate().map(|(id, at)| Emission { id: number(id), at, what: What::Sms }).collect();
    }

    fn widen(&mut self, rng: &mut Rng) {
        if rng.percent(25) {
            // Messages that only the store reports.
            self.enrich = rng.percent(70);
            self.filters.push(Filter::Store);
            self.catch_up = true;
            for event in &mut self.events {
                if event.what == What::Sms && rng.percent(60) {
                    event.what = What::Stored;
                }
            }
        }
        if rng.percent(25) && self.filters.len() > 1 {
            // A filter less, and later perhaps all of them again.
            let all = self.filters.clone();
            let mut fewer = all.clone();
            let gone = usize::try_from(rng.below(fewer.len() as u64)).unwrap_or(0);
            fewer.remove(gone);
            let at = rng.range(10, 60) * SEC;
            self.updates.push((at, fewer));
            if rng.percent(60) {
                self.updates.push((at + rng.range(2, 25) * SEC, all));
            }
        }
        if rng.percent(8) {
            let at = rng.below(self.end - TAIL);
            self.faults.push(Fault::new(at, FaultKind::Revalidate));
        }
        self.faults.sort_by_key(|fault| fault.at);
    }

    /// Faults in phases that are short.
    fn force_phases(&mut self, pairs: [(&'static str, &'static str); 2], rng: &mut Rng) {
        self.faults.truncate(1);
        for ((name, phase), at) in pairs.into_iter().zip([rng.range(8, 25) * SEC, rng.range(45, 60) * SEC]) {
            let is_possible = match name {
                "buffers lost" | "all messages again" => self.mode == Mode::PubNub,
                "sockets closed" | "sessions lost" => self.mode != Mode::PubNub,
                _ => true,
            };
            if is_possible {
                self.force(name, phase, at, rng);
            }
        }
        self.faults.sort_by_key(|fault| fault.at);
    }

    fn force(&mut self, name: &str, phase: &'static str, at: Us, rng: &mut Rng) {
        let slow = |op, ms| FaultKind::Http { op, wrong: Wrong::Slow(ms), times: 2, ms: 60_000 };
        let mut at = at;
        let causes: &[FaultKind] = match phase {
            "starting" => {
                at = 0;
                &[]
            }
            "connecting" if self.mode == Mode::PubNub => {
                at = 0;
                &[FaultKind::Refuse { hosts: Hosts::Push, ms: 4_000, kill: None }]
            }
            "connecting" | "recreating" => &[
                FaultKind::LoseSubscription,
                FaultKind::ForgetSessions,
                slow(Op::Create, 4_000),
                slow(Op::Upgrade, 3_000),
                slow(Op::PubNubPoll, 3_000),
                FaultKind::Revalidate,
            ],
            "reconnecting" => &[FaultKind::Refuse { hosts: Hosts::Push, ms: 6_000, kill: Some(End::ResetBehind) }],
            _ => {
                at = self.end;
                self.faults.push(Fault::new(at - SEC, slow(Op::Delete, 5_000)));
                &[]
            }
        };
        let what = match name {
            "all messages again" => FaultKind::RepeatAll,
            "asked to revalidate" => FaultKind::Revalidate,
            _ => loop {
                let what = draw_fault(rng, self.mode);
                if what.name() == name {
                    break what;
                }
            },
        };
        let is_socket = self.mode != Mode::PubNub;
        let causes = causes.iter().filter(|it| is_socket || !matches!(it, FaultKind::ForgetSessions));
        self.faults.extend(causes.map(|cause| Fault::new(at, *cause)));
        let delay = if matches!(phase, "starting" | "closing") { rng.below(300 * MS) } else { rng.below(1_500 * MS) };
        let by_program = matches!(what, FaultKind::Stall(_) | FaultKind::Restart { .. } | FaultKind::Revalidate);
        if by_program && matches!(phase, "starting" | "closing") {
            return;
        }
        self.faults.push(Fault { at: at + delay, what, phase: Some(phase) });
    }

    /// A program that stores its position, and crashes at drawn points. The part in common with [`draw`](Self::draw) is
    /// drawn there; this adds the crashes.
    pub(crate) fn draw_crash(seed: u64, mode: Option<Mode>) -> Self {
        let mut rng = Rng::part(seed, 41);
        let drawn = rng.pick(&[Mode::PubNub, Mode::PubNub, Mode::WebSocket, Mode::WebSocket, Mode::FailOver]);
        let mut schedule = Self::draw(seed, Some(mode.unwrap_or(drawn)));
        schedule.end = schedule.end.min(rng.range(75, 120) * SEC);
        let last = schedule.end - TAIL;
        schedule.events.retain(|event| event.at < last);
        let is_restart = |what| matches!(what, FaultKind::Restart { .. });
        schedule.faults.retain(|fault| fault.at < last && !is_restart(fault.what));
        schedule.faults.truncate(if rng.percent(50) { 0 } else { 1 });
        let crashes = (0..rng.pick(&[1, 2, 3, 4])).map(|_| Crash {
            // Some happen during the start.
            after: if rng.percent(25) { 0 } else { rng.below(28 * SEC) },
            operation: rng.percent(75).then(|| rng.below(14)),
            power: rng.percent(60),
            down_ms: rng.pick(&[10, 1_000, 5_000, 12_000]),
        });
        schedule.crashes = Some(CrashPlan {
            crashes: crashes.collect(),
            store: rng.pick(&[Store::File, Store::Redb]),
            explicit: rng.percent(50),
            ack_percent: rng.pick(&[100, 30, 5]),
            disk: DiskProfile {
                lies_percent: rng.pick(&[0, 0, 20, 100]),
                fails_percent: rng.pick(&[0, 0, 0, 10]),
                step_ms: rng.pick(&[0, 5, 60]),
            },
        });
        schedule
    }

    /// Without any fault.
    pub(crate) fn is_calm(&self) -> bool {
        let knobs = &self.knobs;
        self.faults
            .iter()
            .all(|fault| matches!(fault.what, FaultKind::Foreign | FaultKind::WallJump(_) | FaultKind::ClockSet(_)))
            && self.crashes.is_none()
            && knobs.agent_no_id_percent == 0
            && knobs.disables == 0
            && knobs.ws_absolute_s > self.end / SEC
            && knobs.ws_idle_s > self.end / SEC
            && knobs.token_life_s > self.end / SEC
            && !self.has_burst()
    }

    /// More events at once than some buffer holds.
    pub(crate) fn has_burst(&self) -> bool {
        let least = if self.queue_bytes < 1 << 20 { 15 } else { self.knobs.pn_buffer.min(self.knobs.ws_buffer) / 2 };
        let least = usize::try_from(least).unwrap_or(usize::MAX);
        self.events
            .windows(least.max(1))
            .any(|part| part.last().zip(part.first()).is_some_and(|(b, a)| b.at - a.at < 3 * SEC))
    }

    /// As text, to read and to run again.
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
        let _ = writeln!(out, "  filters {:?}, enriched {}", self.filters, self.enrich);
        for (at, filters) in &self.updates {
            let _ = writeln!(out, "  {:>7.3} s filters {filters:?}", *at as f64 / SEC as f64);
        }
        let _ = writeln!(out, "  knobs {:?}", self.knobs.unusual());
        for fault in &self.faults {
            let when = fault.phase.map_or(String::new(), |phase| format!(", once {phase}"));
            let _ = writeln!(out, "  {:>7.3} s {:?}{when}", fault.at as f64 / SEC as f64, fault.what);
        }
        if let Some(plan) = &self.crashes {
            let (store, explicit, acks) = (plan.store.name(), plan.explicit, plan.ack_percent);
            let _ = writeln!(out, "  store {store}, explicit {explicit}, acks {acks} %, {:?}", plan.disk);
            for crash in &plan.crashes {
                let _ = writeln!(out, "  {crash:?}");
            }
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

/// Sets the service's clock back, shortly before or some time before another fault: what is lost then was proven by the
/// clock as it was. Drawn apart, so that other schedules do not change.
fn set_clock(seed: u64, mut faults: Vec<Fault>, end: Us) -> Vec<Fault> {
    let mut rng = Rng::part(seed, 61);
    if !rng.percent(5) {
        return faults;
    }
    let before = rng.pick(&[0, 3, 40]) * SEC + rng.below(10 * SEC);
    let at = match faults.first() {
        Some(fault) if rng.percent(80) => fault.at.saturating_sub(before).max(SEC),
        _ => rng.range(SEC, end - TAIL),
    };
    faults.push(Fault::new(at, FaultKind::ClockSet(rng.pick(&[10, 30, 120, 600, 3600]))));
    faults.sort_by_key(|fault| fault.at);
    faults
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
        // Many events at once do most harm during a fault.
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
                Filter::Sms | Filter::Store | Filter::Agent => What::Sms,
            }
        };
        events.push(Emission { id, at, what });
    }
    events
}

/// Milliseconds from short to long, so that some exceed each limit.
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
    // Some happen during the start.
    let mut at = if rng.percent(15) { rng.below(2 * SEC) } else { rng.below(end - TAIL) };
    for _ in 0..n {
        let what = draw_fault(rng, mode);
        // A create that may have been carried out, and the same of another program.
        if matches!(what, FaultKind::Http { op: Op::Create, .. }) && rng.percent(40) {
            faults.push(Fault::new(at.saturating_sub(rng.below(2 * SEC)), FaultKind::Foreign));
        }
        faults.push(Fault::new(at, what));
        // A create that goes wrong needs a reason to create.
        if matches!(what, FaultKind::Http { op: Op::Create, .. }) && rng.percent(50) {
            faults.push(Fault::new(at + rng.below(2 * SEC), FaultKind::LoseSubscription));
        }
        // The next comes in the wake of this one, or somewhere else.
        at = if rng.percent(45) { at + rng.below(15 * SEC) } else { rng.below(end - TAIL) };
        at = at.min(end - TAIL);
    }
    // A path that dies, and the program closes before anything can have noticed.
    if rng.percent(8) {
        let at = end - rng.range(1, 12) * SEC;
        let what = if rng.percent(50) { FaultKind::BlackHole(60_000) } else { FaultKind::Swallow(30_000) };
        faults.push(Fault::new(at, what));
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
