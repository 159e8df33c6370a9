//! RingCentral's OAuth: log in, stay logged in, log out.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use http::Method;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use tokio::time::{Instant, timeout};
use url::Url;

use super::assertion::Assertion;
use super::code::AuthorizationRequest;
use super::flight::{Flight, Outcome};
use super::grant::{
    Attempts, Client, Grant, Owner, Refusal, TokenOptions, form, read_refusal, read_session, revoke_form,
};
use super::session::{Decision, Hold, Phase, Session, not_logged_in};
use super::store::{StoreLock, StoredTokens, TokenStore};
use super::{AccessToken, TokenProvider};
use crate::error::{Disposition, Error, ErrorKind, Result};
use crate::guard::guarded;
use crate::http::budget::Permit;
use crate::http::{BoundedClient, HttpRequest, Purpose, RateBudget};
use crate::secret::{self, Secret};
use crate::system::System;
use crate::waiting;

const TOKEN_PATH: &str = "/restapi/oauth/token";
const REVOKE_PATH: &str = "/restapi/oauth/revoke";
const STORE_DEADLINE: Duration = Duration::from_secs(10);

/// Logs in and maintains the session.
///
/// An `OAuth` is one session of one user and app; clones share it. Use one per user and app: the
/// service allows about five sessions of them and drops the oldest.
///
/// - A token is renewed 60 s before it expires (at half its lifetime if that is less), measured on
///   the monotonic clock from before the request was sent.
/// - Concurrent callers share one token request. It runs in a separate task for at most half a
///   minute, so that a dropped caller does not lose a rotated refresh token.
/// - A new session is saved in the [`TokenStore`] before its token is used. If the store fails,
///   callers get [`ErrorKind::Store`], and the session stays in memory until a later call saves it.
/// - Only a response of the `invalid_grant` class drops tokens. Other errors (5xx, timeouts, 429,
///   an undocumented reason) never do: the old token is used while it is valid. If a new one is
///   needed, failing logins are spaced 10 s, then 20 s, 40 s and 60 s apart, or a minute if the
///   service repeatedly refuses tokens it has just granted (after the fourth); calls in between
///   fail with that error and the remaining time.
/// - After a refused refresh, the JWT is used if there is one. Without one, or if the JWT is
///   refused too, the access token is used until it expires, and the refresh is retried 10 s later,
///   then after 20 s, 40 s, 60 s. Without a valid access token, calls fail with [`ErrorKind::Auth`]
///   without a request, until [`exchange`](Self::exchange) supplies new credentials.
///
/// ```no_run
/// # async fn run() -> ringcentral_events::Result<()> {
/// use ringcentral_events::{auth::OAuth, rest::Client};
///
/// let oauth = OAuth::jwt("client id", "the user's JWT").client_secret("client secret").build()?;
/// let client = Client::builder(oauth.clone()).build()?;
/// // ...
/// oauth.revoke().await
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct OAuth(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    app: App,
    http: BoundedClient,
    system: System,
    budget: RateBudget,
    store: Arc<dyn TokenStore>,
    state: Mutex<State>,
}

/// The app and its credentials.
#[derive(Debug)]
pub(super) struct App {
    pub(super) server: Url,
    pub(super) client_id: String,
    pub(super) basic: Option<HeaderValue>,
    pub(super) client_secret: Option<Secret>,
    pub(super) assertion: Option<Assertion>,
    pub(super) jwt: Option<Secret>,
    pub(super) options: TokenOptions,
    pub(super) pause: Duration,
    pub(super) deadline: Duration,
}

struct State {
    phase: Phase,
    hold: Hold,
    flight: Option<Flight>,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("phase", &self.phase).finish_non_exhaustive()
    }
}

/// The purpose of a flight.
enum Job {
    Renew,
    Exchange(Grant),
    Revoke,
}

impl OAuth {
    pub(super) fn new(app: App, http: BoundedClient, system: System, store: Arc<dyn TokenStore>) -> Self {
        let state = Mutex::new(State { phase: Phase::Unread, hold: Hold::default(), flight: None });
        Self(Arc::new(Shared { app, http, system, budget: RateBudget::new(), store, state }))
    }

    /// Starts a login in the user's browser. `redirect_uri` must exactly match one registered for
    /// the app.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] if the system has no randomness.
    pub fn authorize(&self, redirect_uri: impl Into<String>) -> Result<AuthorizationRequest> {
        AuthorizationRequest::new(&self.0.app.server, &self.0.app.client_id, redirect_uri.into(), &self.0.system)
    }

    /// Completes a login in the user's browser: checks the `state` of `redirect`, the URL that the
    /// browser was redirected to, and exchanges its code for a session.
    ///
    /// Cancel safe: once started, the exchange continues without the caller.
    ///
    /// # Errors
    /// [`ErrorKind::Auth`] if the `state` differs, the user declined ([`Error::code`] is
    /// `access_denied`), or the service refused the code; [`ErrorKind::Store`] if the session
    /// cannot be saved.
    pub async fn exchange(&self, request: &AuthorizationRequest, redirect: &str) -> Result<AccessToken> {
        let grant = Grant::Code {
            code: request.code(redirect)?,
            redirect_uri: request.redirect_uri().to_owned(),
            verifier: request.verifier().clone(),
        };
        let flight = self.start_alone(Job::Exchange(grant)).await?;
        flight.wait().await?.ok_or_else(not_logged_in)
    }

    /// Ends the session at the service (all of its tokens) and deletes it here.
    ///
    /// The service's response is ignored, as its guide asks: the session is deleted here in any
    /// case. With a JWT the next call logs in again.
    ///
    /// Cancel safe: once started, it continues without the caller.
    ///
    /// # Errors
    /// [`ErrorKind::Store`] if the store cannot be read or cleared.
    pub async fn revoke(&self) -> Result<()> {
        let flight = self.start_alone(Job::Revoke).await?;
        flight.wait().await.map(|_| ())
    }

    async fn obtain(&self, rejected: Option<&AccessToken>) -> Result<AccessToken> {
        loop {
            let flight = {
                let mut state = self.0.state();
                let now = Instant::now();
                if let Some(rejected) = rejected {
                    let State { phase, hold, .. } = &mut *state;
                    phase.refuse(rejected, hold, now);
                }
                match state.phase.decide(now) {
                    Decision::Use(token) => return Ok(token),
                    Decision::Fail(error) => return Err(error),
                    Decision::Renew { urgent } => {
                        let is_flying = state.flight.as_ref().is_some_and(Flight::is_alive);
                        if let Some(error) = state.hold.error(now).filter(|_| urgent && !is_flying) {
                            return Err(error);
                        }
                        self.join_or_start(&mut state, Job::Renew)?
                    }
                }
            };
            match flight.wait().await {
                Ok(Some(token)) => return Ok(token),
                // A logout was in progress: check again.
                Ok(None) => {}
                Err(error) => {
                    // An early renewal may fail while the old token is still valid.
                    return match self.0.state().phase.decide(Instant::now()) {
                        Decision::Use(token) => Ok(token),
                        Decision::Fail(_) | Decision::Renew { .. } => Err(error),
                    };
                }
            }
        }
    }

    fn join_or_start(&self, state: &mut State, job: Job) -> Result<Flight> {
        if let Some(flight) = state.flight.as_ref().filter(|flight| flight.is_alive()) {
            return Ok(flight.clone());
        }
        let shared = self.0.clone();
        let flight = Flight::start(async move {
            let outcome = shared.run(job).await;
            shared.state().flight = None;
            outcome
        })?;
        state.flight = Some(flight.clone());
        Ok(flight)
    }

    /// Starts `job` once no other is in progress. Each job has a deadline.
    async fn start_alone(&self, job: Job) -> Result<Flight> {
        loop {
            let other = {
                let mut state = self.0.state();
                match state.flight.clone().filter(Flight::is_alive) {
                    Some(other) => other,
                    None => return self.join_or_start(&mut state, job),
                }
            };
            // Its result belongs to its callers.
            let _theirs = other.wait().await;
        }
    }
}

#[async_trait]
impl TokenProvider for OAuth {
    /// Cancel safe: a started login or refresh continues without the caller.
    async fn token(&self) -> Result<AccessToken> {
        self.obtain(None).await
    }

    /// Cancel safe: a started login or refresh continues without the caller.
    async fn refresh(&self, rejected: &AccessToken) -> Result<AccessToken> {
        self.obtain(Some(rejected)).await
    }

    fn server(&self) -> Option<Url> {
        Some(self.0.app.server.clone())
    }

    fn rate_budget(&self) -> Option<RateBudget> {
        Some(self.0.budget.clone())
    }

    fn system(&self) -> Option<System> {
        Some(self.0.system.clone())
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Never held across a call that may panic or wait.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn run(&self, job: Job) -> Outcome {
        match job {
            Job::Renew => self.renew().await.map(Some),
            Job::Exchange(grant) => self.exchange(&grant).await.map(Some),
            Job::Revoke => self.revoke().await.map(|()| None),
        }
    }

    async fn renew(&self) -> Result<AccessToken> {
        let deadline = Instant::now() + self.app.deadline;
        self.recall().await?;
        self.save_unsaved().await?;
        // The token just loaded or saved may suffice.
        let decision = self.state().phase.decide(Instant::now());
        let urgent = match decision {
            Decision::Use(token) => return Ok(token),
            Decision::Fail(error) => return Err(error),
            Decision::Renew { urgent } => urgent,
        };
        let outcome = self.grant_again(urgent, deadline).await;
        if let Err(error) = &outcome {
            let now = Instant::now();
            let mut state = self.state();
            state.phase.renewal_failed(error, now);
            // A valid token needs no renewal; its remaining wait is handled above.
            if !state.phase.is_good(now) {
                state.hold.failed(error, now);
            }
        }
        outcome
    }

    /// Loads the stored session, unless that was done already.
    async fn recall(&self) -> Result<()> {
        if !matches!(self.state().phase, Phase::Unread) {
            return Ok(());
        }
        let found = self.load().await?;
        self.state().phase = found.map_or(Phase::Empty, Phase::live);
        Ok(())
    }

    /// Uses the refresh token if there is one, then the JWT if there is one.
    async fn grant_again(&self, urgent: bool, deadline: Instant) -> Result<AccessToken> {
        let lock = self.lock_store(deadline).await?;
        if lock.is_some()
            && let Some(token) = self.renewed_elsewhere().await?
        {
            return Ok(token);
        }
        let mut previous = self.state().phase.session().map(|session| session.stored.clone());
        let mut looked_again = false;
        let (mut refused, mut turned_away) = (None, None);
        while let Some(refresh) = previous.as_ref().and_then(|stored| self.usable_refresh(stored)) {
            let refusal = match self.grant(&Grant::Refresh(refresh.clone()), previous.as_ref(), urgent, deadline).await
            {
                Ok(session) => return self.install(session).await,
                Err(refusal) => refusal,
            };
            match refusal {
                // The refresh token may still be valid; the JWT serves meanwhile.
                Refusal::Failed(error) if error.kind() == ErrorKind::Auth && self.app.jwt.is_some() => {
                    turned_away = Some(error);
                }
                Refusal::Failed(error) => return Err(error),
                Refusal::Refused(error) => refused = Some(error),
                Refusal::Dead(error) => {
                    // Another process may have rotated the token: then its session is in the store,
                    // and this request was late.
                    let other = if looked_again { None } else { self.load().await? };
                    let other = other.filter(|other| other.stored.refresh_token.as_ref() != Some(&refresh));
                    looked_again = true;
                    if let Some(session) = other {
                        previous = Some(session.stored.clone());
                        let mut state = self.state();
                        state.phase = Phase::live(session);
                        if let Decision::Use(token) = state.phase.decide(Instant::now()) {
                            return Ok(token);
                        }
                        continue;
                    }
                    tracing::info!(code = error.code(), "the session has ended");
                    self.state().phase = Phase::Empty;
                    refused = Some(self.forget(error).await);
                }
            }
            break;
        }
        let Some(jwt) = self.app.jwt.clone() else {
            return Err(refused.map_or_else(not_logged_in, |error| self.die(error)));
        };
        match self.grant(&Grant::Jwt(jwt), None, urgent, deadline).await {
            Ok(session) => self.install(session).await,
            Err(refusal @ (Refusal::Dead(_) | Refusal::Refused(_))) => {
                Err(turned_away.unwrap_or_else(|| self.die(refusal.into_error())))
            }
            Err(Refusal::Failed(error)) => Err(error),
        }
    }

    /// Prevents other processes from renewing concurrently. A lock that takes too long is skipped:
    /// concurrent renewals are detected below.
    async fn lock_store(&self, deadline: Instant) -> Result<Option<StoreLock>> {
        let patience = deadline.saturating_duration_since(Instant::now()) / 2;
        timeout(patience, guarded("the token store", self.store.lock())).await.unwrap_or_else(|_| {
            tracing::warn!("another process holds the lock of the token store");
            Ok(None)
        })
    }

    /// The token of a session that another process has stored.
    async fn renewed_elsewhere(&self) -> Result<Option<AccessToken>> {
        let Some(other) = self.load().await? else { return Ok(None) };
        let mut state = self.state();
        let is_ours = |mine: &Session| mine.stored.access_token == other.stored.access_token;
        // An unsaved session is newer than a stored one.
        if matches!(state.phase, Phase::Unsaved(_)) || state.phase.session().is_some_and(is_ours) {
            return Ok(None);
        }
        state.phase = Phase::live(other);
        Ok(match state.phase.decide(Instant::now()) {
            Decision::Use(token) => Some(token),
            Decision::Renew { .. } | Decision::Fail(_) => None,
        })
    }

    /// The refresh token, unless it has expired and another grant is available.
    fn usable_refresh(&self, stored: &StoredTokens) -> Option<Secret> {
        let over = stored.refresh_expires_at.is_some_and(|at| at <= self.system.now());
        stored.refresh_token.clone().filter(|_| !over || self.app.jwt.is_none())
    }

    /// No credentials are left: later calls fail with `error` without a request. A valid access
    /// token is still used, and the renewal retried later: the service refused the request, not the
    /// token.
    fn die(&self, error: Error) -> Error {
        let mut state = self.state();
        if state.phase.is_good(Instant::now()) {
            tracing::info!(code = error.code(), "the refresh was refused; using the token until it expires");
        } else {
            tracing::info!(code = error.code(), "the credentials were refused; waiting for new ones");
            state.phase = Phase::Dead(error.clone());
        }
        error
    }

    /// Clears the store. If that fails, it is reported as the cause of `error`.
    async fn forget(&self, error: Error) -> Error {
        match self.in_time(self.store.clear()).await {
            Ok(()) => error,
            Err(failure) => error.with_source(failure),
        }
    }

    async fn exchange(&self, grant: &Grant) -> Result<AccessToken> {
        let deadline = Instant::now() + self.app.deadline;
        match self.grant(grant, None, true, deadline).await {
            Ok(session) => self.install(session).await,
            Err(refusal) => Err(refusal.into_error()),
        }
    }

    /// Saves `session` before it is used.
    async fn install(&self, session: Session) -> Result<AccessToken> {
        let token = session.access.clone();
        self.state().phase = Phase::Unsaved(session);
        self.save_unsaved().await?;
        tracing::info!(expires_in = ?token.expires_in(), "logged in");
        Ok(token)
    }

    async fn save_unsaved(&self) -> Result<()> {
        let session = match &self.state().phase {
            Phase::Unsaved(session) => session.clone(),
            Phase::Unread | Phase::Empty | Phase::Live { .. } | Phase::Dead(_) => return Ok(()),
        };
        self.in_time(self.store.save(&session.stored)).await?;
        let mut state = self.state();
        state.phase = Phase::live(session);
        state.hold.granted(Instant::now());
        Ok(())
    }

    /// The stored session, if it belongs to this app.
    async fn load(&self) -> Result<Option<Session>> {
        let Some(stored) = self.in_time(self.store.load()).await? else { return Ok(None) };
        if stored.server != self.app.server.as_str() || stored.client_id != self.app.client_id {
            // Sending it would pass one server's credentials to another.
            return Err(Error::new(ErrorKind::Store, "the stored tokens belong to another server or app")
                .with_disposition(Disposition::Fatal));
        }
        Ok(Some(Session::stored(stored, self.system.now(), Instant::now())))
    }

    async fn in_time<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let slow = |_| Error::new(ErrorKind::Store, "the token store did not answer in time");
        timeout(STORE_DEADLINE, guarded("the token store", work)).await.map_err(slow)?
    }

    /// Requests a session, with the retries that the guide allows. `urgent` means that there is no
    /// valid token meanwhile.
    async fn grant(
        &self,
        grant: &Grant,
        previous: Option<&StoredTokens>,
        urgent: bool,
        deadline: Instant,
    ) -> Result<Session, Refusal> {
        let mut attempts = Attempts::default();
        loop {
            let refusal = match self.grant_once(grant, previous, urgent, deadline).await {
                Ok(session) => return Ok(session),
                Err(refusal) => refusal,
            };
            tracing::debug!(error = %refusal.error(), "token request failed");
            let left = deadline.saturating_duration_since(Instant::now());
            match attempts.again(&refusal, urgent, self.app.pause, self.system.jitter(), left) {
                Some(wait) => waiting::pause(wait, refusal.error()).await,
                None => return Err(refusal),
            }
        }
    }

    async fn grant_once(
        &self,
        grant: &Grant,
        previous: Option<&StoredTokens>,
        urgent: bool,
        deadline: Instant,
    ) -> Result<Session, Refusal> {
        // Callers wait for this: they must not wait for a rate group while their token is valid.
        let patience = if urgent { deadline } else { Instant::now() };
        let permit = self.budget.admit(&Method::POST, TOKEN_PATH, patience).await.map_err(Refusal::Failed)?;
        let assertion = match self.app.assertion(deadline).await {
            Ok(assertion) => assertion,
            Err(error) => return Err(unanswered(permit, error.with_ambiguous(false))),
        };
        let client = self.app.client(assertion.as_ref(), grant.names_client());
        let request = match self.app.post(TOKEN_PATH, form(grant, &self.app.options, client)) {
            Ok(request) => request,
            Err(error) => return Err(unanswered(permit, error)),
        };
        let asked_at = (Instant::now(), self.system.now());
        // The first attempt gets half of the time, so that a second one fits.
        let deadline = deadline.min(asked_at.0 + self.app.deadline / 2);
        let answer = permit.exchange(&self.http, request, deadline).await.map_err(Refusal::Failed)?;
        let status = answer.status.as_u16();
        if answer.status.is_success() {
            let owner = Owner { server: self.app.server.as_str(), client_id: &self.app.client_id };
            let session = read_session(&answer.body, owner, previous, asked_at).map_err(Refusal::Failed);
            secret::wipe(answer.body);
            return session;
        }
        let mut secrets = grant.secrets();
        secrets.extend(self.app.client_secret.iter().chain(&assertion).map(Secret::expose));
        let is_refresh = matches!(grant, Grant::Refresh(_));
        Err(read_refusal(is_refresh, status, &answer.headers, &answer.body, &secrets))
    }

    async fn revoke(&self) -> Result<()> {
        self.recall().await?;
        let session = {
            let mut state = self.state();
            let session = state.phase.session().cloned();
            if !matches!(state.phase, Phase::Dead(_)) {
                state.phase = Phase::Empty;
            }
            session
        };
        self.in_time(self.store.clear()).await?;
        let Some(session) = session else { return Ok(()) };
        let token = session.stored.refresh_token.as_ref().unwrap_or(&session.stored.access_token);
        match self.revoke_at_service(token).await {
            Ok(status) => tracing::debug!(status, "revoked"),
            // By design: the guide says not to repeat it, and nothing here depends on it.
            Err(error) => tracing::debug!(%error, "failed to revoke the session at the service"),
        }
        Ok(())
    }

    async fn revoke_at_service(&self, token: &Secret) -> Result<u16> {
        let deadline = Instant::now() + self.app.deadline / 2;
        let assertion = self.app.assertion(deadline).await?;
        let form = revoke_form(token, self.app.client(assertion.as_ref(), false));
        let request = self.app.post(REVOKE_PATH, form)?;
        let permit = self.budget.admit(&Method::POST, REVOKE_PATH, deadline).await?;
        Ok(permit.exchange(&self.http, request, deadline).await?.status.as_u16())
    }
}

fn unanswered(permit: Permit, error: Error) -> Refusal {
    permit.failed(&error);
    Refusal::Failed(error)
}

impl App {
    /// The client assertion for one request, if the app uses one.
    async fn assertion(&self, deadline: Instant) -> Result<Option<Secret>> {
        match &self.assertion {
            Some(assertion) => assertion.get(deadline).await.map(Some),
            None => Ok(None),
        }
    }

    /// The app's fields in the form: its id, unless the header has it.
    fn client<'a>(&'a self, assertion: Option<&'a Secret>, always_named: bool) -> Client<'a> {
        let id = (always_named || self.basic.is_none()).then_some(self.client_id.as_str());
        Client { id, assertion }
    }

    fn post(&self, path: &str, form: String) -> Result<HttpRequest> {
        let url = self.server.join(path).map_err(|error| Error::config("no URL").with_source(error))?;
        let mut request = HttpRequest::new(Method::POST, url, Purpose::Call).with_body(secret::body(form));
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(basic) = &self.basic {
            headers.insert(AUTHORIZATION, basic.clone());
        }
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    /// Nothing listens there: every request fails.
    const NOWHERE: &str = "http://127.0.0.1:1";

    fn session(left: u64) -> StoredTokens {
        let now = crate::clock::wall_now().duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let json = serde_json::json!({
            "server": format!("{NOWHERE}/"), "client_id": "app", "access_token": "access-0",
            "expires_at": now + left, "refresh_token": "refresh-0",
        });
        StoredTokens::from_json(&json.to_string()).unwrap()
    }

    #[derive(Debug)]
    struct Silent;

    #[async_trait]
    impl TokenStore for Silent {
        async fn load(&self) -> Result<Option<StoredTokens>> {
            std::future::pending().await
        }
        async fn save(&self, _tokens: &StoredTokens) -> Result<()> {
            std::future::pending().await
        }
        async fn clear(&self) -> Result<()> {
            std::future::pending().await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_never_answers_is_an_error_after_its_deadline() {
        let oauth = OAuth::jwt("app", "jwt").server(NOWHERE).store(Silent).build().unwrap();
        let start = Instant::now();
        assert_eq!(oauth.token().await.unwrap_err().kind(), ErrorKind::Store);
        assert!(start.elapsed() >= STORE_DEADLINE && start.elapsed() < STORE_DEADLINE * 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_valid_token_does_not_wait_for_the_rate_group_of_its_renewal() {
        let store = super::super::MemoryTokenStore::new();
        store.save(&session(30)).await.unwrap();
        let oauth = OAuth::authorization_code("app").server(NOWHERE).store(store).build().unwrap();
        let permit = oauth.0.budget.admit(&Method::POST, TOKEN_PATH, Instant::now()).await.unwrap();
        let headers = HeaderMap::from_iter([(http::header::RETRY_AFTER, 20.into())]);
        permit.answered(&Method::POST, TOKEN_PATH, 429, &headers);
        let start = Instant::now();
        assert_eq!(oauth.token().await.unwrap().secret().expose(), "access-0");
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}
