//! The state that all services share: identity, behavior, clock, randomness, scripted faults, the log of requests.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ringcentral_events::Timestamp;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::behavior::{Behavior, TimeFormat};
use crate::clock::{Clock, FAR, Moment};
use crate::faults::FaultTable;
use crate::http::Refused;
use crate::requests::RequestLog;

/// The sandbox's identity: one account, one user, two apps.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) account_id: String,
    pub(crate) extension_id: String,
    pub(crate) client_id: String,
    pub(crate) client_secret: String,
    pub(crate) public_client_id: String,
    pub(crate) jwt: String,
    pub(crate) username: String,
    pub(crate) password: String,
    pub(crate) phone_number: String,
}

/// Passed to each service in addition to its own state. No `Debug`: it holds secrets.
pub(crate) struct Context {
    pub(crate) identity: Identity,
    pub(crate) behavior: Behavior,
    pub(crate) rng: fastrand::Rng,
    pub(crate) clock: Clock,
    pub(crate) base_url: String,
    pub(crate) faults: FaultTable,
    pub(crate) log: RequestLog,
    /// Wakes the task that performs what is due.
    pub(crate) wake: Arc<Notify>,
}

impl Context {
    /// Refuses what needs a permission that the app or the user lacks. `A or B` needs one of both; the first is named.
    pub(crate) fn permit(&self, needed: Option<&'static str>) -> Result<(), Refused> {
        let is_among = |list: &[String], name: &str| list.iter().any(|it| it == name);
        let lacks = |list: &[String]| {
            let needed = needed.filter(|needed| needed.split(" or ").all(|name| is_among(list, name)))?;
            needed.split(" or ").next()
        };
        if let Some(name) = lacks(&self.behavior.app_lacks) {
            return Err(Refused::permission("CMN-401", "application", name));
        }
        lacks(&self.behavior.user_lacks).map_or(Ok(()), |name| Err(Refused::permission("CMN-408", "user", name)))
    }

    /// The time.
    pub(crate) fn moment(&self) -> Moment {
        self.clock.read()
    }

    /// Reports that deadlines or the clock changed.
    pub(crate) fn poke(&self) {
        self.wake.notify_one();
    }

    /// The service's wall clock at `wall`, including the skew.
    pub(crate) fn service_time(&self, wall: SystemTime) -> SystemTime {
        let skew = Duration::from_millis(self.behavior.clock_skew_ms.unsigned_abs()).min(FAR);
        let skewed = if self.behavior.clock_skew_ms >= 0 { wall.checked_add(skew) } else { wall.checked_sub(skew) };
        skewed.unwrap_or(wall)
    }

    /// The service's wall clock, used in records and queries.
    pub(crate) fn service_now(&self) -> SystemTime {
        self.service_time(self.moment().wall)
    }

    /// A time in the format that the setting selects.
    pub(crate) fn write_time(&self, wall: SystemTime) -> String {
        self.write_time_as(wall, self.behavior.time_format)
    }

    /// A time in the given format.
    pub(crate) fn write_time_as(&self, wall: SystemTime, format: TimeFormat) -> String {
        format.write(self.service_time(wall))
    }

    /// The service's time `at`, in the format that the setting selects.
    pub(crate) fn write_service_time(&self, at: SystemTime) -> String {
        self.behavior.time_format.write(at)
    }

    /// The service's time for records: the text, and the time truncated to the text's precision.
    pub(crate) fn written_now(&self) -> (SystemTime, String) {
        let now = self.service_now();
        let text = self.write_service_time(now);
        (Timestamp::new(&*text).system_time().unwrap_or(now), text)
    }

    /// The extension in a path, `~` resolved; `None` if the account has no such extension.
    pub(crate) fn extension_of(&self, segment: &str) -> Option<String> {
        let own = &self.identity.extension_id;
        match segment {
            "~" => Some(own.clone()),
            id if id == own || self.behavior.account.other_extensions.iter().any(|other| other == id) => {
                Some(id.to_owned())
            }
            _ => None,
        }
    }

    /// The URL of an extension's resource.
    pub(crate) fn extension_uri(&self, extension: &str, tail: &str) -> String {
        format!("{}{}", self.base_url, self.extension_path(extension, tail))
    }

    /// The path of an extension's resource.
    pub(crate) fn extension_path(&self, extension: &str, tail: &str) -> String {
        format!("/restapi/v1.0/account/{}/extension/{extension}{tail}", self.identity.account_id)
    }
}

/// A service's delayed actions.
#[derive(Debug)]
pub(crate) struct Timers<T> {
    entries: Vec<(Instant, T)>,
}

impl<T> Default for Timers<T> {
    fn default() -> Self {
        Self { entries: Vec::new() }
    }
}

impl<T> Timers<T> {
    pub(crate) fn add(&mut self, ctx: &Context, at: Instant, action: T) {
        self.entries.push((at, action));
        ctx.poke();
    }

    /// The next deadline.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.entries.iter().map(|(at, _)| *at).min()
    }

    /// Removes and returns what is due, earliest first.
    pub(crate) fn take(&mut self, now: Instant) -> Vec<T> {
        self.entries.sort_by_key(|(at, _)| *at);
        let due = self.entries.partition_point(|(at, _)| *at <= now);
        self.entries.drain(..due).map(|(_, action)| action).collect()
    }
}
