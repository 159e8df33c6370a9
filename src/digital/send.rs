//! The Send API: pushes contents from the source to the platform.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use serde::Serialize;
use serde_json::json;
use tokio::time::Instant;
use url::Url;

use super::collection::{Collection, Content};
use super::create::Typing;
use super::object::User;
use super::signature::{SIGNATURE_HEADER, Signer};
use crate::error::{Disposition, Error, ErrorKind, Result};
use crate::http::envelope::wait_asked_for;
use crate::http::loopback::is_exposed;
use crate::http::retry::{Attempts, Idempotency, Next};
use crate::http::{Answer, BoundedClient, HttpRequest, Purpose, Redirects, USER_AGENT};
use crate::policy::BackoffPolicy;
use crate::secret::Secret;
use crate::system::System;

const DEADLINE: Duration = Duration::from_secs(30);
/// The path for spans: the real one ends with the id of the source, and comes from a setting that is secret.
const TEMPLATE: &str = "/realtime/sdk/*";
const DEADLINE_CAP: Duration = Duration::from_secs(600);
/// The documented limit of a request, in bytes.
const REQUEST_LIMIT: usize = 20_971_520;
/// A normal answer is one word.
const ANSWER_LIMIT: usize = 64 << 10;
/// Minimum time between two `typing.start` of one thread.
const TYPING: Duration = Duration::from_secs(2);
/// Maximum number of threads whose typing is remembered; beyond it only the service limits the
/// rate.
const THREADS: usize = 1000;
/// Maximum length of an answer's text in an error, in characters.
const TEXT: usize = 200;

/// Sends actions to a channel's real-time endpoint.
///
/// Every call ends within its deadline and sends one signed action: there is no batch. After 5xx
/// and network errors it is repeated up to three times with jittered backoff, since ids identify
/// contents; it is inferred, not documented, that the service accepts an id twice. Refused actions
/// are not repeated.
///
/// Clones share the service's rate limits: after a 429 no call is sent before the requested wait is
/// over (2 s if none is given). A call waits as long as its deadline allows. A 429 on typing
/// concerns one thread and delays no other call.
///
/// The service requires a working `implementation.info`, so a
/// [`SourceEndpoint`](super::SourceEndpoint) is needed too. Cheap to clone.
///
/// ```no_run
/// # async fn run() -> ringcentral_events::Result<()> {
/// use ringcentral_events::digital::{Date, Message, Messages, SendApi, User};
///
/// let url = "https://example.digital.ringcentral.com/realtime/sdk/5f3a0e6b7c8d9e0f1a2b3c4d";
/// let api = SendApi::builder(url, "the channel's API access token").build()?;
/// let mut message = Message::new("m-42", User::new("cust-7", "Ana", Date::now()));
/// message.thread_id = Some("t-1".into());
/// message.body = Some("Hello".into());
/// api.create(Messages, &message).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct SendApi(Arc<Inner>);

struct Inner {
    url: Url,
    signer: Signer,
    token: Secret,
    http: BoundedClient,
    system: System,
    backoff: BackoffPolicy,
    deadline: Duration,
    typing: Mutex<TypingLimit>,
    /// The service accepts no requests from this client until then.
    pause: Mutex<Option<Instant>>,
}

/// Builds a [`SendApi`].
#[derive(Debug)]
#[must_use]
pub struct SendApiBuilder {
    url: Secret,
    token: Secret,
    backoff: BackoffPolicy,
    deadline: Duration,
    system: Option<System>,
}

impl SendApi {
    /// A client for the endpoint at `url`, which the channel's settings show in full
    /// (`https://…/realtime/sdk/{source_id}`), with the channel's API access token.
    pub fn builder(url: impl Into<Secret>, token: impl Into<Secret>) -> SendApiBuilder {
        let (url, token) = (url.into(), token.into());
        SendApiBuilder { url, token, backoff: BackoffPolicy::default(), deadline: DEADLINE, system: None }
    }

    /// Sends a new or changed content, identified by its id (`messages.create`,
    /// `private_messages.create`, `threads.create`). A message with an unknown thread creates that
    /// thread.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for a content that [is incomplete](Content::check); else as for
    /// [`send`](Self::send).
    pub async fn create<C: Collection>(&self, _: C, content: &C::Content) -> Result<()> {
        content.check()?;
        self.send(&format!("{}.create", C::NAME), content).await
    }

    /// Sends an identity (`users.create`): one that the platform may write as, or a recipient that
    /// it does not know yet.
    ///
    /// # Errors
    /// As for [`create`](Self::create).
    pub async fn create_user(&self, user: &User) -> Result<()> {
        user.check()?;
        self.send("users.create", user).await
    }

    /// Marks an agent's message as read (`status.mark_as_read`), by its id in the source. Displayed
    /// with `view.messaging` only; the source declares it by
    /// [`read_marks`](super::SourceBuilder::read_marks).
    ///
    /// # Errors
    /// [`ErrorKind::Config`] without an id; else as for [`send`](Self::send).
    pub async fn mark_as_read(&self, id: &str) -> Result<()> {
        if id.is_empty() {
            return Err(Error::config("the message that was read has an id"));
        }
        self.send("status.mark_as_read", &json!({ "id": id })).await
    }

    /// Reports that a customer is typing (`typing.start`).
    ///
    /// # Errors
    /// [`ErrorKind::RateLimited`] within 2 s of the last one in the same thread, which the service
    /// would refuse, or while the service asks to wait; nothing is sent then. [`ErrorKind::Config`]
    /// without a preview, or without a thread or content. Else as for [`send`](Self::send), but
    /// never repeated: the next one replaces it.
    pub async fn typing_start(&self, typing: &Typing) -> Result<()> {
        let place = place(typing)?;
        if typing.preview.is_none() {
            return Err(Error::config("what was typed is missing"));
        }
        self.limit().start(place, Instant::now()).map_err(|wait| {
            let error =
                Error::new(ErrorKind::RateLimited, "the last typing indicator is less than 2 s old; nothing was sent");
            error.with_disposition(Disposition::Retry { after: Some(wait) })
        })?;
        // A request that was never sent does not count.
        let sent = self.post("typing.start", typing, Idempotency::Never).await;
        sent.inspect_err(|error| {
            if error.sent_nothing() {
                self.limit().stop(place);
            }
        })
    }

    /// Reports that a customer stopped typing (`typing.stop`).
    ///
    /// # Errors
    /// As for [`typing_start`](Self::typing_start), except for the rate.
    pub async fn typing_stop(&self, typing: &Typing) -> Result<()> {
        let place = place(typing)?;
        self.post("typing.stop", typing, Idempotency::Never).await?;
        self.limit().stop(place);
        Ok(())
    }

    /// Sends any action with parameters.
    ///
    /// If cancelled, it is unknown whether the action was performed.
    ///
    /// # Errors
    /// - [`ErrorKind::Config`]: the parameters cannot be serialized, or the action exceeds 20 971
    ///   520 bytes. Nothing was sent.
    /// - [`ErrorKind::Auth`]: the token is not this channel's (422).
    /// - [`ErrorKind::NotFound`]: no source has this URL (422, 404).
    /// - [`ErrorKind::Rejected`]: refused permanently; the text states the reason (400, 413, 422).
    /// - [`ErrorKind::RateLimited`]: too many requests (429).
    /// - [`ErrorKind::Service`], [`ErrorKind::Network`], [`ErrorKind::Timeout`],
    ///   [`ErrorKind::Protocol`]: after the last repetition. With
    ///   [`is_ambiguous`](Error::is_ambiguous) it may have been performed.
    pub async fn send(&self, action: &str, params: &(impl Serialize + Sync + ?Sized)) -> Result<()> {
        self.post(action, params, Idempotency::Safe).await
    }

    async fn post(&self, action: &str, params: &(impl Serialize + Sync + ?Sized), repeat: Idempotency) -> Result<()> {
        #[derive(Serialize)]
        struct Sent<'a, P: ?Sized> {
            action: &'a str,
            params: &'a P,
        }
        let deadline = Instant::now() + self.0.deadline;
        let body = serde_json::to_vec(&Sent { action, params })
            .map_err(|error| Error::config("the parameters cannot be written as JSON").with_source(error))?;
        if body.len() > REQUEST_LIMIT {
            return Err(Error::config(format!("the action is larger than {REQUEST_LIMIT} bytes; nothing was sent")));
        }
        let body = Bytes::from(body);
        let mut attempts = Attempts::new(repeat, self.0.backoff, deadline);
        loop {
            self.pass_pause(repeat, deadline).await?;
            let error = match self.attempt(&body, deadline).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            // Typing is never repeated and has a separate limit.
            if let (ErrorKind::RateLimited, Some(wait), Idempotency::Safe) = (error.kind(), error.retry_after(), repeat)
            {
                self.pause(wait);
            }
            match attempts.after(error, self.0.system.jitter()).await? {
                Next::Repeat => {}
                // There is no token to replace.
                Next::Refresh(error) => return Err(error),
            }
        }
    }

    /// Waits for the end of a requested pause; an error if that exceeds the deadline.
    async fn pass_pause(&self, repeat: Idempotency, deadline: Instant) -> Result<()> {
        loop {
            let now = Instant::now();
            let until = *self.0.pause.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(until) = until.filter(|until| *until > now) else { return Ok(()) };
            if repeat == Idempotency::Never || until >= deadline {
                let error = Error::new(ErrorKind::RateLimited, "the service asked to wait; nothing was sent");
                return Err(error.with_disposition(Disposition::Retry { after: Some(until - now) }));
            }
            tokio::time::sleep_until(until).await;
        }
    }

    /// Delays all calls by `wait`.
    fn pause(&self, wait: Duration) {
        let until = Instant::now() + wait;
        let mut pause = self.0.pause.lock().unwrap_or_else(PoisonError::into_inner);
        *pause = Some(pause.map_or(until, |old| old.max(until)));
    }

    fn request(&self, body: &Bytes, signature: &str) -> Result<HttpRequest> {
        let request = HttpRequest::new(Method::POST, self.0.url.clone(), Purpose::Call);
        let mut request = request.with_body(body.clone());
        let mut value = HeaderValue::from_str(signature)
            .map_err(|_| Error::new(ErrorKind::Internal, "a signature is no header's value"))?;
        value.set_sensitive(true);
        request.headers_mut().insert(HeaderName::from_static(SIGNATURE_HEADER), value);
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(request)
    }

    async fn attempt(&self, body: &Bytes, deadline: Instant) -> Result<()> {
        let signature = self.0.signer.sign(body);
        let request = self.request(body, &signature)?;
        let Answer { status, headers, body } = self.0.http.traced(request, deadline, || TEMPLATE.to_owned()).await?;
        outcome(status, &headers, &body, &[self.0.token.expose(), &signature])
    }

    fn limit(&self) -> std::sync::MutexGuard<'_, TypingLimit> {
        self.0.typing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for SendApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let server = self.0.url.origin().ascii_serialization();
        f.debug_struct("SendApi").field("server", &server).field("deadline", &self.0.deadline).finish_non_exhaustive()
    }
}

impl SendApiBuilder {
    /// The deadline of a call, including repetitions. Default 30 s, at most 10 minutes.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// The delay before a repetition. Default: [`BackoffPolicy::default`].
    pub fn backoff(mut self, backoff: BackoffPolicy) -> Self {
        self.backoff = backoff;
        self
    }

    /// The HTTP client and randomness. Default: the system's.
    pub fn system(mut self, system: System) -> Self {
        self.system = Some(system);
        self
    }

    /// Builds the client.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for a URL that is not `https`, except on loopback, or contains a user, for an invalid
    /// token, as in [`Signer::new`], and for a deadline out of its range.
    pub fn build(self) -> Result<SendApi> {
        // Does not echo the text, which may contain a password.
        let url = Url::parse(self.url.expose().trim())
            .map_err(|error| Error::config("invalid endpoint URL").with_source(error))?;
        let anonymous = url.username().is_empty() && url.password().is_none();
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() || !anonymous {
            return Err(Error::config("the endpoint's URL is http(s), with a host and without a user"));
        }
        if is_exposed(&url) {
            return Err(Error::config("the endpoint's URL is https, except on loopback"));
        }
        if self.deadline.is_zero() || self.deadline > DEADLINE_CAP {
            return Err(Error::config("the deadline of a call is up to 10 minutes, and not zero"));
        }
        let system = match self.system {
            Some(system) => system,
            None => System::checked()?,
        };
        Ok(SendApi(Arc::new(Inner {
            url,
            signer: Signer::new(self.token.clone())?,
            token: self.token,
            // The signed body must not be redirected.
            http: BoundedClient::new(system.http().clone(), USER_AGENT, ANSWER_LIMIT, Redirects::Refuse)?,
            system,
            backoff: self.backoff,
            deadline: self.deadline,
            typing: Mutex::default(),
            pause: Mutex::default(),
        })))
    }
}

/// The location of typing: the thread, else the content.
fn place(typing: &Typing) -> Result<&str> {
    let given = [&typing.thread_id, &typing.in_reply_to_id].into_iter().flatten().find(|id| !id.is_empty());
    given.map(String::as_str).ok_or_else(|| Error::config("typing is in a thread, or answers a content"))
}

/// When typing was last reported, by thread.
#[derive(Default)]
struct TypingLimit(HashMap<String, Instant>);

impl TypingLimit {
    /// Checks the rate; returns the remaining wait.
    fn start(&mut self, place: &str, now: Instant) -> Result<(), Duration> {
        if let Some(sent) = self.0.get(place) {
            let free = *sent + TYPING;
            if now < free {
                return Err(free - now);
            }
        }
        if self.0.len() >= THREADS {
            self.0.retain(|_, sent| now < *sent + TYPING);
        }
        if self.0.len() < THREADS {
            self.0.insert(place.to_owned(), now);
        }
        Ok(())
    }

    fn stop(&mut self, place: &str) {
        self.0.remove(place);
    }
}

/// Interprets a response. The form of error texts is undocumented: the status decides, and the text
/// is searched.
fn outcome(status: StatusCode, headers: &HeaderMap, body: &[u8], secrets: &[&str]) -> Result<()> {
    let text = String::from_utf8_lossy(body);
    if status.is_success() {
        // Documented as the bare word; quoted, it is the same as JSON.
        return if matches!(text.trim(), "ok" | "\"ok\"") {
            Ok(())
        } else {
            let error = Error::new(ErrorKind::Protocol, "the answer is a success, but not the word that says so");
            Err(error.with_status(status.as_u16()).with_ambiguous(true))
        };
    }
    let (kind, disposition, headline) = classify(status.as_u16(), &text, headers);
    let said: String = text.chars().filter(|c| !c.is_control()).take(TEXT).collect();
    let repeats = secrets.iter().any(|secret| text.contains(secret));
    let message = if said.trim().is_empty() || repeats { headline.into() } else { format!("{headline}: {said}") };
    let error = Error::new(kind, message).with_disposition(disposition).with_status(status.as_u16());
    Err(error.with_ambiguous(matches!(status.as_u16(), 408 | 500..=599)))
}

fn classify(status: u16, text: &str, headers: &HeaderMap) -> (ErrorKind, Disposition, &'static str) {
    let says = |words: &str| text.to_ascii_lowercase().contains(words);
    match status {
        422 if says("invalid signature") => (ErrorKind::Auth, Disposition::Fatal, "the token is not this channel's"),
        401 => (ErrorKind::Auth, Disposition::Fatal, "the service refused the signature"),
        403 => (ErrorKind::Permission, Disposition::Fatal, "the service refused the action"),
        422 if says("source not found") => (ErrorKind::NotFound, Disposition::Fatal, "the URL is of no source"),
        404 => (ErrorKind::NotFound, Disposition::Fatal, "the URL is of no source"),
        429 => {
            // "Please try again in a few seconds."
            let after = wait_asked_for(status, headers).filter(|_| headers.contains_key(http::header::RETRY_AFTER));
            (ErrorKind::RateLimited, Disposition::Retry { after: after.or(Some(TYPING)) }, "too many requests")
        }
        408 => (ErrorKind::Timeout, Disposition::Retry { after: None }, "the service gave up waiting"),
        500..=599 => {
            let after = wait_asked_for(status, headers);
            (ErrorKind::Service, Disposition::Retry { after }, "the service failed")
        }
        300..=399 => (ErrorKind::Protocol, Disposition::Fatal, "a redirect that is not followed"),
        _ => (ErrorKind::Rejected, Disposition::Fatal, "the service refused the action"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16, text: &str) -> Result<()> {
        outcome(StatusCode::from_u16(status).unwrap(), &HeaderMap::new(), text.as_bytes(), &["hunter2"])
    }

    fn api() -> SendApi {
        SendApi::builder("http://127.0.0.1:9/realtime/sdk/1", "hunter2").build().unwrap()
    }

    #[test]
    fn no_log_of_a_request_shows_its_signature() {
        let request = api().request(&Bytes::from_static(b"{}"), "5167").unwrap();
        assert_eq!(request.headers()[SIGNATURE_HEADER], "5167");
        assert!(!format!("{:?}", request.headers()).contains("5167"));
    }

    #[tokio::test(start_paused = true)]
    async fn the_longest_of_several_waits_counts() {
        let api = api();
        let began = Instant::now();
        api.pause(Duration::from_secs(9));
        api.clone().pause(Duration::from_secs(2));
        api.pass_pause(Idempotency::Safe, began + Duration::from_secs(60)).await.unwrap();
        assert_eq!(began.elapsed(), Duration::from_secs(9));
    }

    #[test]
    fn only_the_word_is_a_success() {
        for good in ["ok", "ok\n", "\"ok\""] {
            assert!(answered(200, good).is_ok(), "{good}");
        }
        for bad in ["", "OK", "<html>ok</html>", "{\"status\":\"ok\"}"] {
            let error = answered(200, bad).unwrap_err();
            assert_eq!((error.kind(), error.is_ambiguous()), (ErrorKind::Protocol, true), "{bad}");
        }
    }

    #[test]
    fn documented_refusals_are_permanent_and_other_errors_transient() {
        use ErrorKind::{Auth, NotFound, Permission, Protocol, RateLimited, Rejected, Service, Timeout};
        let fatal = Disposition::Fatal;
        let retry = Disposition::Retry { after: None };
        for (status, text, kind, disposition) in [
            (400, "Bad request", Rejected, fatal),
            (400, "{\"error\":\"Invalid request format\"}", Rejected, fatal),
            (413, "Invalid request size (max: 20971520 bytes)", Rejected, fatal),
            (422, "Source not found", NotFound, fatal),
            (422, "Invalid signature", Auth, fatal),
            (422, "Invalid action", Rejected, fatal),
            (422, "Invalid resource format", Rejected, fatal),
            (422, "Source doesn't support structured contents", Rejected, fatal),
            (422, "The author must be puppetizable", Rejected, fatal),
            (
                429,
                "too many typing requests, please try again in a few seconds",
                RateLimited,
                Disposition::Retry { after: Some(TYPING) },
            ),
            (500, "", Service, retry),
            (503, "x", Service, retry),
            (408, "", Timeout, retry),
            (401, "", Auth, fatal),
            (403, "", Permission, fatal),
            (404, "", NotFound, fatal),
            (302, "", Protocol, fatal),
            (418, "", Rejected, fatal),
        ] {
            let error = answered(status, text).unwrap_err();
            assert_eq!((error.kind(), error.disposition()), (kind, disposition), "{status} {text}");
            assert_eq!(error.status(), Some(status));
            assert_eq!(error.is_ambiguous(), matches!(status, 408 | 500 | 503), "{status}");
        }
    }

    #[test]
    fn an_error_quotes_the_service_unless_the_text_repeats_a_secret() {
        let error = answered(422, "structured_content: \"title\" must not be empty\u{7}").unwrap_err();
        assert!(error.to_string().contains("\"title\" must not be empty (HTTP 422)"), "{error}");
        let error = answered(422, "no token hunter2 here").unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"));
        assert!(answered(422, &"x".repeat(1000)).unwrap_err().to_string().len() < 300);
    }

    #[test]
    fn retry_after_is_clamped_to_its_bounds() {
        let mut headers = HeaderMap::new();
        headers.insert("retry-after", HeaderValue::from_static("7"));
        for status in [429, 503] {
            let error = outcome(StatusCode::from_u16(status).unwrap(), &headers, b"", &[]).unwrap_err();
            assert_eq!(error.retry_after(), Some(Duration::from_secs(7)), "{status}");
        }
    }

    #[test]
    fn typing_is_sent_once_per_two_seconds_and_thread() {
        let (mut limit, now) = (TypingLimit::default(), Instant::now());
        assert_eq!(limit.start("t-1", now), Ok(()));
        assert_eq!(limit.start("t-1", now + Duration::from_millis(500)), Err(Duration::from_millis(1500)));
        assert_eq!(limit.start("t-2", now), Ok(()));
        assert_eq!(limit.start("t-1", now + TYPING), Ok(()));
        limit.stop("t-1");
        assert_eq!(limit.start("t-1", now + TYPING), Ok(()));
        for thread in 0..2 * THREADS {
            assert_eq!(limit.start(&format!("many-{thread}"), now), Ok(()));
        }
        assert_eq!(limit.0.len(), THREADS, "memory is bounded");
        assert_eq!(limit.start("late", now + TYPING * 3), Ok(()));
        assert_eq!(limit.0.len(), 1, "and released");
    }
}
