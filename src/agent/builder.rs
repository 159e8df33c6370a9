//! Configures a session.

use std::sync::Arc;
use std::time::Duration;

use url::Url;

use super::answer::session_exists;
use super::client::{Api, Calls, api_base};
use super::machine::{Rules, SessionOrigin};
use super::proven::Moment;
use super::session::AgentSession;
use super::shared::{AgentCursor, Settings};
use super::station::Station;
use crate::auth::TokenProvider;
use crate::error::{Error, Result};
use crate::http::server_url;
use crate::policy::BackoffPolicy;
use crate::system::System;

/// The longest poll that the service accepts.
const MAX_POLL: Duration = Duration::from_secs(60);
const MARGIN: Duration = Duration::from_secs(30);
/// The longest time to wait for a poll: a longer one would be an unsupervised connection.
const MAX_MARGIN: Duration = Duration::from_secs(3600);
const GIVE_UP_AFTER: Duration = Duration::from_secs(600);
const QUEUE_BYTES: usize = 8 * 1024 * 1024;
const BODY_LIMIT: usize = 16 * 1024 * 1024;
const VERSION: &str = "v23.0";

/// What a start does when the agent already has a session (409).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnExisting {
    /// Join it: its stream begins with a [`Gap`](crate::Gap), since its earlier events are not delivered again, and
    /// then delivers its state.
    #[default]
    Join,
    /// Fail with [`ErrorKind::Busy`](crate::ErrorKind::Busy).
    Fail,
}

/// What a stream does when the service no longer has its session (404, 409).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnLost {
    /// It ends: 409 with [`SessionEnded`](super::SessionEnded), 404 with an error.
    #[default]
    End,
    /// Report a [`Gap`](crate::Gap), and join the session or, without one, start one at the same station. An end event
    /// ends the stream nevertheless.
    Reestablish,
}

/// Sets up an [`AgentSession`].
#[derive(Clone, Debug)]
#[must_use]
pub struct AgentSessionBuilder {
    tokens: Arc<dyn TokenProvider>,
    base: Option<String>,
    version: Option<String>,
    application: Option<String>,
    pub(super) station: Station,
    on_existing: OnExisting,
    on_lost: OnLost,
    unsuccessful_end_is_end: bool,
    poll_timeout: Duration,
    margin: Duration,
    give_up_after: Duration,
    backoff: BackoffPolicy,
    queue_bytes: usize,
    body_limit: usize,
    system: Option<System>,
}

impl AgentSession {
    /// Configures a session whose calls carry the tokens of `tokens`.
    pub fn builder(tokens: impl TokenProvider) -> AgentSessionBuilder {
        AgentSessionBuilder::new(tokens)
    }
}

impl AgentSessionBuilder {
    pub(crate) fn new(tokens: impl TokenProvider) -> Self {
        Self {
            tokens: Arc::new(tokens),
            base: None,
            version: None,
            application: None,
            station: Station::default(),
            on_existing: OnExisting::default(),
            on_lost: OnLost::default(),
            unsuccessful_end_is_end: true,
            poll_timeout: MAX_POLL,
            margin: MARGIN,
            give_up_after: GIVE_UP_AFTER,
            backoff: BackoffPolicy::new().base(Duration::from_millis(500)).cap(Duration::from_secs(10)),
            queue_bytes: QUEUE_BYTES,
            body_limit: BODY_LIMIT,
            system: None,
        }
    }

    /// The URL of sessions: `resource_server_base_uri` of the token's answer or `api_endpoint` of the tenant's
    /// configuration, with or without `/inContactAPI/` and `/services/v23.0`.
    ///
    /// Default: the token provider's URL ([`TokenProvider::server`]), which is read before each request. A URL that is
    /// set here overrides it, and no discovery is needed.
    pub fn base_url(mut self, url: impl Into<String>) -> Self {
        self.base = Some(url.into());
        self
    }

    /// The version in the path (`services/v23.0/`). Default: that of the [`base_url`](Self::base_url), otherwise
    /// `v23.0`, which the vendor's own program uses.
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.version = Some(version.into());
        self
    }

    /// This program's name (`Originating-Service-Identifier`). Default: none is sent.
    pub fn application(mut self, name: impl Into<String>) -> Self {
        self.application = Some(name.into());
        self
    }

    /// The agent's phone number (`stationPhoneNumber`). A start needs either this or a station; neither has a default.
    pub fn phone_number(mut self, number: impl Into<String>) -> Self {
        self.station.phone = number.into();
        self
    }

    /// The agent's phone is in the browser or in this program (`stationPhoneNumber` `WebRTC`).
    pub fn web_rtc(self) -> Self {
        self.phone_number("WebRTC")
    }

    /// The agent's station (`stationId`).
    pub fn station_id(mut self, id: u32) -> Self {
        self.station.id = id.to_string();
        self
    }

    /// The agent, if not the token's own (`asAgentId`); needs a permission.
    pub fn as_agent(mut self, id: impl Into<String>) -> Self {
        self.station.agent = Some(id.into());
        self
    }

    /// After what time without a poll the service acts (`inactivityTimeout`): 30 to 300 s, or 0 for the platform's own.
    /// That the unit is seconds is unverified. Default: not sent.
    pub fn inactivity_timeout(mut self, time: Duration) -> Self {
        self.station.inactivity = Some(time);
        self
    }

    /// Whether the service then logs the agent out (`inactivityForceLogout`). Default: not sent.
    pub fn inactivity_force_logout(mut self, force: bool) -> Self {
        self.station.force_logout = Some(force);
        self
    }

    /// The session's context (`apiApplicationContext`). Default: nothing.
    pub fn application_context(mut self, context: impl Into<String>) -> Self {
        self.station.context = Some(context.into());
        self
    }

    /// What to do when a start finds a session. Default: join it.
    pub fn on_existing(mut self, on_existing: OnExisting) -> Self {
        self.on_existing = on_existing;
        self
    }

    /// What to do when the session is lost. Default: end the stream.
    pub fn on_lost(mut self, on_lost: OnLost) -> Self {
        self.on_lost = on_lost;
        self
    }

    /// Whether `AgentSessionEnd` with `Success` `False` is an end. Default `true`, as in the vendor's own program; its
    /// meaning is not documented. With `false` polling continues, and a session that has ended answers with 409.
    pub fn unsuccessful_end_is_end(mut self, is_end: bool) -> Self {
        self.unsuccessful_end_is_end = is_end;
        self
    }

    /// How long the service may hold a poll: whole seconds, 0 to 60. Default 60 s; use 15 s where a proxy cuts silent
    /// connections sooner.
    ///
    /// [`start`](Self::start) refuses any other value. With 0 every answer comes at once, and after five consecutive
    /// answers without events polls are spaced by 1 to 10 s.
    pub fn poll_timeout(mut self, timeout: Duration) -> Self {
        self.poll_timeout = timeout;
        self
    }

    /// How much longer than that an answer may take before the poll is given up. Default 30 s: the vendor's own program
    /// waits 90 s in all. At most an hour.
    pub fn margin(mut self, margin: Duration) -> Self {
        self.margin = margin;
        self
    }

    /// For how long consecutive polls may fail before the stream ends with the error. Default 10 minutes, as in the
    /// vendor's own program.
    pub fn give_up_after(mut self, time: Duration) -> Self {
        self.give_up_after = time;
        self
    }

    /// How failing polls are spaced. Default 500 ms to 10 s, at random; never less than 500 ms. A wait that the service
    /// asks for is obeyed up to 5 minutes.
    pub fn backoff(mut self, backoff: BackoffPolicy) -> Self {
        self.backoff = backoff;
        self
    }

    /// How many received bytes may wait for the reader. Default 8 MiB.
    ///
    /// While more bytes wait there is **no poll**: the service retains the events, and ends the session or drops events
    /// if that takes too long, which the stream then reports.
    pub fn queue_bytes(mut self, bytes: usize) -> Self {
        self.queue_bytes = bytes;
        self
    }

    /// The largest answer, in bytes, decompressed. Default 16 MiB. A larger one is a [`Gap`](crate::Gap) with the cause
    /// [`TooLarge`](crate::GapCause::TooLarge).
    pub fn body_limit(mut self, bytes: usize) -> Self {
        self.body_limit = bytes;
        self
    }

    /// The source of HTTP, the time of day and randomness. Default: the one that the token provider uses
    /// ([`TokenProvider::system`]), otherwise the machine's own.
    pub fn system(mut self, system: System) -> Self {
        self.system = Some(system);
        self
    }

    /// Starts a session (`POST agent-sessions`), or joins the existing one.
    ///
    /// Not cancel safe: the session of a dropped start may exist; another start joins it.
    ///
    /// # Errors
    /// [`Config`](crate::ErrorKind::Config) for values out of their bounds and for neither or both of phone number and
    /// station, before anything is sent; then the service's answer, with its own words such as `StationIDInUse`.
    pub async fn start(self) -> Result<AgentSession> {
        if self.station.id.is_empty() == self.station.phone.is_empty() {
            return Err(Error::config("a session needs a phone number or a station, one of them"));
        }
        if let Some(time) = self.station.inactivity
            && !(time.is_zero() || (30..=300).contains(&time.as_secs()))
        {
            return Err(Error::config("the inactivity timeout is 0, or 30 to 300 s"));
        }
        let api = self.api()?;
        let asked = Moment { at: tokio::time::Instant::now(), wall: self.inherited_system().unwrap_or_default().now() };
        match api.start(&self.station).await {
            Ok(id) => self.session(api, AgentCursor::new(id), SessionOrigin::Started).began(asked).polling(),
            Err(error) if self.on_existing == OnExisting::Join && session_exists(&error) => {
                tracing::info!("joining the existing session");
                let id = api.join(self.station.agent()).await?;
                self.session(api, AgentCursor::new(id), SessionOrigin::Joined).polling()
            }
            Err(error) => Err(error),
        }
    }

    /// Joins the existing session (`POST agent-sessions/join`): after a crash, or beside another program of the same
    /// agent.
    ///
    /// # Errors
    /// As for [`start`](Self::start); [`Busy`](crate::ErrorKind::Busy) (409) when no session exists.
    pub async fn join(self) -> Result<AgentSession> {
        let api = self.api()?;
        let id = api.join(self.station.agent()).await?;
        self.session(api, AgentCursor::new(id), SessionOrigin::Joined).polling()
    }

    /// Continues a session from a stored position ([`AgentEvents::cursor`](super::AgentEvents::cursor)). The first poll,
    /// which begins at once, shows whether the session exists. If it has ended, a possible [`Gap`](crate::Gap) precedes the
    /// end: events that were in transit when the position was stored may not have arrived.
    ///
    /// # Errors
    /// [`Config`](crate::ErrorKind::Config) for values out of their bounds, and outside of a tokio runtime.
    pub fn resume(self, cursor: AgentCursor) -> Result<AgentSession> {
        let api = self.api()?;
        self.session(api, cursor, SessionOrigin::Continued).polling()
    }

    fn inherited_system(&self) -> Option<System> {
        self.system.clone().or_else(|| self.tokens.system())
    }

    fn api(&self) -> Result<Api> {
        if self.poll_timeout > MAX_POLL || self.poll_timeout.subsec_nanos() != 0 {
            return Err(Error::config("a poll may be held for 0 to 60 whole seconds"));
        }
        let base = self.base.as_deref().map(|base| api_base(&api_url(base)?)).transpose()?;
        let (base, of_base) = base.map_or((None, None), |(base, version)| (Some(base), version));
        let version = self.version.as_deref().or(of_base.as_deref()).unwrap_or(VERSION).trim().trim_matches('/');
        let good = |it: char| it.is_ascii_alphanumeric() || it == '.';
        if version.is_empty() || !version.chars().all(good) || version.chars().all(|it| it == '.') {
            return Err(Error::config("invalid version; a valid one looks like v23.0"));
        }
        let application = self.application.as_deref();
        let system = match self.inherited_system() {
            Some(system) => system,
            None => System::checked()?,
        };
        Api::new(self.tokens.clone(), base, version.into(), application, self.body_limit, &system)
    }

    pub(crate) fn session(self, api: impl Calls, cursor: AgentCursor, origin: SessionOrigin) -> AgentSession {
        let rules = Rules {
            timeout: self.poll_timeout,
            give_up_after: self.give_up_after,
            backoff: self.backoff,
            reestablish: self.on_lost == OnLost::Reestablish,
            unsuccessful_end_is_end: self.unsuccessful_end_is_end,
        };
        let settings = Settings {
            rules,
            margin: self.margin.min(MAX_MARGIN),
            queue_bytes: self.queue_bytes,
            system: self.inherited_system().unwrap_or_default(),
            station: self.station,
        };
        AgentSession::new(api, settings, cursor, origin)
    }
}

/// Reads an API's URL: `http` or `https`, a host, a path, and no more.
pub(crate) fn api_url(text: &str) -> Result<Url> {
    let mut url =
        Url::parse(text.trim()).map_err(|error| Error::config("invalid URL of the API").with_source(error))?;
    let path = url.path().to_owned();
    url.set_path("");
    server_url(url.as_str())?;
    url.set_path(&path);
    Ok(url)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::auth::{AccessToken, StaticToken};
    use crate::error::ErrorKind;

    fn builder() -> AgentSessionBuilder {
        AgentSession::builder(StaticToken::new(AccessToken::new("t"))).base_url("http://127.0.0.1:9/").phone_number("1")
    }

    #[test]
    fn without_a_runtime_a_session_is_refused() {
        let error = builder().resume(AgentCursor::new("S0".into())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
    }

    #[tokio::test]
    async fn a_poll_is_0_to_60_whole_seconds() {
        let resume = |timeout| builder().poll_timeout(timeout).resume(AgentCursor::new("S0".into()));
        for seconds in [0, 1, 60] {
            assert!(resume(Duration::from_secs(seconds)).is_ok(), "{seconds}");
        }
        for bad in [Duration::from_secs(61), Duration::from_millis(1500), Duration::MAX] {
            assert_eq!(resume(bad).unwrap_err().kind(), ErrorKind::Config, "{bad:?}");
        }
    }

    #[tokio::test]
    async fn invalid_settings_are_refused_before_anything_is_sent() {
        for bad in [
            builder().station_id(7),
            builder().phone_number(""),
            builder().inactivity_timeout(Duration::from_secs(29)),
            builder().inactivity_timeout(Duration::from_secs(301)),
            builder().version("../x"),
            builder().version(""),
            builder().base_url("ftp://h"),
            builder().base_url("https://u:pw@h"),
            builder().base_url("https://h/x?token=1"),
            builder().base_url("https://h/inContactAPI/inContactAPI"),
            builder().poll_timeout(Duration::from_secs(61)),
        ] {
            let error = bad.start().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        }
    }

    #[test]
    fn a_start_sends_exactly_the_configured_values() {
        let station =
            builder().as_agent("7").inactivity_timeout(Duration::from_secs(120)).application_context("c").station;
        assert_eq!(
            station.to_json(),
            json!({ "stationId": "", "stationPhoneNumber": "1", "asAgentId": "7", "inactivityTimeout": 120,
                "apiApplicationContext": "c" })
        );
        assert_eq!(builder().station.to_json(), json!({ "stationId": "", "stationPhoneNumber": "1" }));
    }
}
