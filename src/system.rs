//! What the crate takes from outside: network, time of day, randomness.

use std::sync::Arc;
use std::time::SystemTime;

use crate::clock::{Clock, SystemClock, WallClock};
use crate::error::{Error, Result};
use crate::http::{HttpClient, ReqwestClient};
use crate::random::{self, Random, SystemRandom};

/// What the crate takes from the machine: HTTP, the time of day and randomness.
///
/// Set it once, where the first part is made: with
/// [`OAuthBuilder::system`](crate::auth::OAuthBuilder::system), or with
/// [`ClientBuilder::system`](crate::rest::ClientBuilder::system) where the tokens come
/// from elsewhere. What is made from that client, such as subscriptions, their transports
/// and their catch-up sources, inherits it. Clones share the HTTP client and its
/// connections.
///
/// Waits and deadlines are not part of it: they run on `tokio::time`, which tests can
/// pause.
///
/// ```
/// use std::time::{Duration, SystemTime};
///
/// use ringcentral_events::{Client, OAuth, System, WallClock};
///
/// /// A clock that is an hour slow.
/// #[derive(Debug)]
/// struct Slow;
///
/// impl WallClock for Slow {
///     fn now(&self) -> SystemTime {
///         SystemTime::now() - Duration::from_secs(3600)
///     }
/// }
///
/// # fn main() -> ringcentral_events::Result<()> {
/// let system = System::new().with_clock(Slow);
/// let oauth = OAuth::jwt("client id", "the user's JWT").system(system).build()?;
/// let client = Client::builder(oauth).build()?; // has the same clock
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct System {
    http: Arc<dyn HttpClient>,
    clock: Arc<dyn WallClock>,
    random: Arc<dyn Random>,
}

impl System {
    /// The machine's own.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The machine's own, once it is certain that requests can be sent.
    pub(crate) fn checked() -> Result<Self> {
        let http = ReqwestClient::new();
        http.prepare().map_err(|error| Error::config("the HTTP client cannot be built").with_source(error))?;
        Ok(Self::new().with_http(http))
    }

    /// Another HTTP client.
    #[must_use]
    pub fn with_http(self, http: impl HttpClient) -> Self {
        Self { http: Arc::new(http), ..self }
    }

    /// Another clock.
    #[must_use]
    pub fn with_clock(self, clock: impl WallClock) -> Self {
        Self { clock: Arc::new(clock), ..self }
    }

    /// Another source of randomness.
    #[must_use]
    pub fn with_random(self, random: impl Random) -> Self {
        Self { random: Arc::new(random), ..self }
    }

    /// The HTTP client.
    #[must_use]
    pub fn http(&self) -> &Arc<dyn HttpClient> {
        &self.http
    }

    /// The time of day.
    #[must_use]
    pub fn now(&self) -> SystemTime {
        self.clock.now()
    }

    pub(crate) fn clock(&self) -> Clock {
        Clock(self.clock.clone())
    }

    /// `N` random bytes.
    pub(crate) fn random_bytes<const N: usize>(&self) -> Result<[u8; N]> {
        random::bytes(&*self.random)
    }

    /// A number from 0 up to 1, to spread waits with.
    pub(crate) fn jitter(&self) -> f64 {
        random::fraction(&*self.random)
    }
}

impl Default for System {
    fn default() -> Self {
        Self { http: Arc::new(ReqwestClient::new()), clock: Arc::new(SystemClock), random: Arc::new(SystemRandom) }
    }
}
