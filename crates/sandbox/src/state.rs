//! The sandbox's state, behind one lock.

use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::Instant;

use super::account::Account;
use super::budget::Budgets;
use super::faults::FaultTable;
use super::gateway::Gateway;
use super::knobs::{Knobs, TimeFormat};
use super::messages::Messages;
use super::oauth::OAuth;
use super::pubnub::PubNub;
use super::requests::{RequestLog, Service};
use super::schedule::Schedule;
use super::subscriptions::Subscriptions;
use ringcentral_events::Timestamp;

/// The maximum distance of a deadline.
const FAR: Duration = Duration::from_secs(10 * 365 * 86_400);

/// `now` plus `by`, capped.
pub(super) fn later(now: Instant, by: Duration) -> Instant {
    now + by.min(FAR)
}

/// Like [`later`], on the wall clock.
pub(super) fn later_on(wall: SystemTime, by: Duration) -> SystemTime {
    wall + by.min(FAR)
}

/// `by` before `wall`.
pub(super) fn earlier_on(wall: SystemTime, by: Duration) -> SystemTime {
    wall - by.min(FAR)
}

/// The sandbox's identity: one account, one user, two apps.
#[derive(Clone)]
pub(super) struct Identity {
    pub(super) account_id: String,
    pub(super) extension_id: String,
    pub(super) client_id: String,
    pub(super) client_secret: String,
    pub(super) public_client_id: String,
    pub(super) jwt: String,
    pub(super) username: String,
    pub(super) password: String,
    pub(super) phone_number: String,
}

/// The state of all servers. No `Debug`: it holds keys and tokens.
pub(super) struct State {
    pub(super) identity: Identity,
    pub(super) knobs: Knobs,
    pub(super) rng: fastrand::Rng,
    pub(super) clock: Clock,
    pub(super) base_url: String,
    pub(super) oauth: OAuth,
    pub(super) budgets: Budgets,
    pub(super) subscriptions: Subscriptions,
    pub(super) account: Account,
    pub(super) messages: Messages,
    pub(super) pubnub: PubNub,
    pub(super) gateway: Gateway,
    pub(super) faults: FaultTable,
    pub(super) log: RequestLog,
    pub(super) schedule: Schedule,
    pub(super) servers: [ServerState; 4],
    pub(super) agents: super::agent::Center,
    pub(super) digital: super::digital::Channels,
    /// Messages that a swap fault holds until the next one of their channel.
    pub(super) held_back: Vec<(super::pubnub::ChannelId, String)>,
}

/// The state of one server.
#[derive(Debug, Default)]
pub(super) struct ServerState {
    /// The state that a test wants; `listening` is the actual one.
    pub(super) wanted_up: bool,
    /// Woken when `wanted_up` changes.
    pub(super) power: std::sync::Arc<tokio::sync::Notify>,
    pub(super) listening: bool,
    pub(super) max_connections: usize,
    pub(super) links: Vec<(u64, std::sync::Arc<super::link::LinkControl>)>,
    pub(super) next_link: u64,
}

impl ServerState {
    /// Requests that the server start or stop; its task does it.
    pub(super) fn want(&mut self, up: bool) {
        self.wanted_up = up;
        self.power.notify_one();
    }
}

/// Ways to cut open connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Cut {
    Reset,
    Close,
    BlackHole,
    Finish,
}

/// The sandbox's clock: the real clock plus the offset set by tests.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Clock {
    moved: Duration,
}

/// One reading of the clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    /// For deadlines.
    pub(super) now: Instant,
    /// For timetokens.
    pub(super) wall: SystemTime,
}

/// The machine's wall clock.
#[allow(clippy::disallowed_methods, reason = "the one place of this crate that reads it")]
fn wall_now() -> SystemTime {
    SystemTime::now()
}

impl Clock {
    pub(super) fn read(self) -> Moment {
        Moment { now: Instant::now() + self.moved, wall: wall_now() + self.moved }
    }

    /// Moves the clock, by ten years at most in total.
    pub(super) fn advance(&mut self, by: Duration) {
        self.moved = self.moved.saturating_add(by).min(FAR);
    }

    /// Converts a deadline of this clock to tokio's.
    pub(super) fn real(self, at: Instant) -> Instant {
        at.checked_sub(self.moved).unwrap_or_else(Instant::now)
    }
}

impl State {
    /// The time.
    pub(super) fn moment(&self) -> Moment {
        self.clock.read()
    }

    /// Cuts every open connection of a server.
    pub(super) fn cut(&mut self, service: Service, how: Cut) {
        for (_, link) in &self.server(service).links {
            match how {
                Cut::Reset => link.reset(),
                Cut::Close => link.close(),
                Cut::BlackHole => link.mute(),
                // A socket has no responses in progress.
                Cut::Finish if service == Service::Gateway => link.close(),
                Cut::Finish => link.finish(),
            }
        }
        if service == Service::Gateway && how != Cut::BlackHole {
            super::gateway::part(self);
        }
    }

    /// Moves the clock and performs what is due by then.
    pub(super) fn advance(&mut self, by: Duration) {
        self.clock.advance(by);
        super::gateway::clock_moved(self, by);
        // Expired things must end before the next call arrives.
        super::agent::run_due(self);
        self.schedule.poke();
    }

    pub(super) fn server(&mut self, service: Service) -> &mut ServerState {
        match service {
            Service::Api => &mut self.servers[0],
            Service::PubNub => &mut self.servers[1],
            Service::Gateway => &mut self.servers[2],
            Service::ContactCenter => &mut self.servers[3],
        }
    }

    /// The service's wall clock, including the skew.
    pub(super) fn service_time(&self, wall: SystemTime) -> SystemTime {
        let skew = Duration::from_millis(self.knobs.clock_skew_ms.unsigned_abs()).min(FAR);
        let skewed = if self.knobs.clock_skew_ms >= 0 { wall.checked_add(skew) } else { wall.checked_sub(skew) };
        skewed.unwrap_or(wall)
    }

    /// A time in the format that the knob selects.
    pub(super) fn write_time(&self, wall: SystemTime) -> String {
        self.write_time_as(wall, self.knobs.time_format)
    }

    /// A time in the given format.
    pub(super) fn write_time_as(&self, wall: SystemTime, format: TimeFormat) -> String {
        self.format_time(self.service_time(wall), format)
    }

    /// A time of the service's clock in the given format.
    #[allow(clippy::unused_self, reason = "beside its siblings")]
    pub(super) fn format_time(&self, at: SystemTime, format: TimeFormat) -> String {
        let zulu = Timestamp::from(at).as_str().to_owned();
        let body = zulu.trim_end_matches('Z');
        match format {
            TimeFormat::Zulu => zulu,
            TimeFormat::PlusFour => format!("{body}+0000"),
            TimeFormat::PlusTwo => format!("{body}+00"),
            TimeFormat::NoFraction => format!("{}Z", body.split('.').next().unwrap_or(body)),
        }
    }
}

/// A random UUID, version 4, as text.
pub(super) fn uuid(rng: &mut fastrand::Rng) -> String {
    let bits = (rng.u128(..) & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    let parts = [0..8, 8..12, 12..16, 16..20, 20..32].map(|range| hex.get(range).unwrap_or_default());
    parts.join("-")
}

/// Random letters and digits.
pub(super) fn token(rng: &mut fastrand::Rng, prefix: &str, length: usize) -> String {
    let mut text = String::from(prefix);
    for _ in 0..length {
        let _ = write!(text, "{}", rng.alphanumeric());
    }
    text
}

/// A random decimal number with exactly `digits` digits.
pub(super) fn number(rng: &mut fastrand::Rng, digits: usize) -> String {
    let mut text = String::from(rng.char('1'..='9'));
    while text.len() < digits {
        text.push(rng.digit(10));
    }
    text
}

/// The state, and a way to wait for its changes.
pub(super) struct Shared {
    state: Mutex<State>,
    changed: watch::Sender<()>,
}

impl Shared {
    pub(super) fn new(state: State) -> Self {
        Self { state: Mutex::new(state), changed: watch::Sender::new(()) }
    }

    /// Locks the state. Ignores poison, so that a panic in one test's closure does not fail the
    /// others: changes are never partial.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and wakes the waiters.
    pub(super) fn update<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let result = change(&mut self.lock());
        self.changed.send_replace(());
        result
    }

    /// Waits until `found` returns a value, or until `deadline`.
    pub(super) async fn wait_until<R>(
        &self,
        deadline: Instant,
        mut found: impl FnMut(&mut State) -> Option<R>,
    ) -> Option<R> {
        let mut changed = self.changed.subscribe();
        loop {
            changed.mark_unchanged();
            if let Some(result) = found(&mut self.lock()) {
                return Some(result);
            }
            tokio::select! {
                change = changed.changed() => if change.is_err() { return None },
                () = tokio::time::sleep_until(deadline) => return found(&mut self.lock()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_has_its_version_and_variant() {
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..50 {
            let id = uuid(&mut rng);
            let bytes = id.as_bytes();
            assert_eq!((id.len(), bytes[8], bytes[13], bytes[14]), (36, b'-', b'-', b'4'), "{id}");
            assert!(b"89ab".contains(&bytes[19]), "{id}");
        }
    }

    #[test]
    fn a_number_has_its_digits() {
        let mut rng = fastrand::Rng::with_seed(1);
        for digits in [1, 2, 19] {
            let text = number(&mut rng, digits);
            assert!(text.len() == digits && !text.starts_with('0'), "{text}");
        }
    }
}
