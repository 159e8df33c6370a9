//! The calls about agent sessions: one request each, bounded, with a token that is valid for long enough.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Method};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};
use url::Url;

use super::answer;
use super::station::Station;
use crate::auth::{AccessToken, TokenProvider, bearer};
use crate::error::{Disposition, Error, ErrorKind, Result};
use crate::guard::guarded;
use crate::http::{Answer, BoundedClient, HttpRequest, Purpose, Redirects, USER_AGENT, segment};
use crate::secret::Secret;
use crate::system::System;

/// The deadline of a call other than a poll.
pub(crate) const CALL: Duration = Duration::from_secs(30);
/// The deadline of a token request.
const TOKEN: Duration = Duration::from_secs(30);

/// The calls about agent sessions: the service, or a test's model of it.
#[async_trait]
pub(crate) trait Calls: fmt::Debug + Send + Sync + 'static {
    /// A token that stays valid for a request that takes `life`.
    async fn token(&self, life: Duration) -> Result<AccessToken>;
    /// Another token instead of a refused one.
    async fn refresh(&self, refused: &AccessToken) -> Result<AccessToken>;
    /// `GET agent-sessions/{id}/get-next-event`.
    async fn poll(&self, id: &Secret, token: &AccessToken, ask: Duration, within: Duration) -> Result<Answer>;
    /// `POST agent-sessions`.
    async fn start(&self, station: &Station) -> Result<Secret>;
    /// `POST agent-sessions/join`.
    async fn join(&self, agent: Option<&str>) -> Result<Secret>;
    /// `DELETE agent-sessions/{id}`. 404 means that it has ended already.
    async fn end(&self, id: &Secret, query: &[(&str, String)]) -> Result<()>;
    /// `POST agent-sessions/{id}/state`.
    async fn set_state(&self, id: &Secret, state: &str, reason: Option<&str>) -> Result<()>;
}

/// State that all calls over HTTP share.
#[derive(Debug)]
pub(crate) struct Api {
    http: BoundedClient,
    tokens: Arc<dyn TokenProvider>,
    base: Option<Url>,
    version: Box<str>,
    headers: HeaderMap,
    /// A fresh token expires sooner than a poll ends: requesting another one before each poll would not help.
    all_are_short: AtomicBool,
}

/// One call.
struct Call<'a> {
    method: Method,
    /// The path after `agent-sessions`.
    path: &'a [&'a str],
    query: &'a [(&'a str, String)],
    body: Option<Value>,
    within: Duration,
}

impl Api {
    pub(crate) fn new(
        tokens: Arc<dyn TokenProvider>,
        base: Option<Url>,
        version: Box<str>,
        application: Option<&str>,
        body_limit: usize,
        system: &System,
    ) -> Result<Self> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(name) = application {
            let value = HeaderValue::from_str(name);
            let value = value.map_err(|_| Error::config("the application's name cannot be sent in a header"))?;
            headers.insert(HeaderName::from_static("originating-service-identifier"), value);
        }
        // A redirect would send the token to another host.
        let http = BoundedClient::new(system.http().clone(), USER_AGENT, body_limit, Redirects::Refuse)?;
        Ok(Self { http: http.compressed(), tokens, base, version, headers, all_are_short: AtomicBool::new(false) })
    }

    /// Makes a call once, and once more with another token after a 401.
    async fn called(
        &self,
        path: &[&str],
        method: Method,
        query: &[(&str, String)],
        body: Option<Value>,
    ) -> Result<Answer> {
        let call = || Call { method: method.clone(), path, query, body: body.clone(), within: CALL };
        let token = self.token(CALL).await?;
        let answer = self.send(&token, call()).await?;
        if answer.status != http::StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        let token = self.refresh(&token).await?;
        self.send(&token, call()).await
    }

    async fn send(&self, token: &AccessToken, call: Call<'_>) -> Result<Answer> {
        let mut url = self.base()?;
        let mut path = format!("{}/services/{}/agent-sessions", url.path().trim_end_matches('/'), self.version);
        let template = template(&path, call.path);
        for part in call.path {
            path.push('/');
            path.push_str(&segment(part)?);
        }
        url.set_path(&path);
        if !call.query.is_empty() {
            url.query_pairs_mut().extend_pairs(call.query);
        }
        let mut request = HttpRequest::new(call.method, url, Purpose::Call);
        request.headers_mut().clone_from(&self.headers);
        request.headers_mut().insert(AUTHORIZATION, bearer(token)?);
        if let Some(body) = call.body {
            request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            request = request.with_body(body.to_string());
        }
        self.http.traced(request, Instant::now() + call.within, || template).await
    }

    /// The URL of sessions; the token provider may move it with each token.
    fn base(&self) -> Result<Url> {
        let base = match &self.base {
            Some(base) => Some(base.clone()),
            None => self.tokens.server(),
        };
        let base = base.ok_or_else(|| {
            Error::config("the token provider does not name the URL of sessions; give the builder a base_url")
        })?;
        api_base(&base).map(|(base, _)| base)
    }

    /// A token, and the URL where it is valid: the error of the discovery says more than that the URL is unknown.
    async fn located(&self) -> Result<AccessToken> {
        let token = in_time(self.tokens.token()).await?;
        if self.base.is_none() && self.tokens.server().is_none() {
            in_time(self.tokens.locate_server()).await?;
        }
        Ok(token)
    }
}

#[async_trait]
impl Calls for Api {
    async fn token(&self, life: Duration) -> Result<AccessToken> {
        let token = self.located().await?;
        let left = token.expires_in().unwrap_or(Duration::MAX);
        if left >= life {
            self.all_are_short.store(false, Ordering::Relaxed);
            return Ok(token);
        }
        if self.all_are_short.load(Ordering::Relaxed) && !left.is_zero() {
            return Ok(token);
        }
        match self.refresh(&token).await {
            Ok(better) => {
                let is_short = better.expires_in().is_some_and(|left| left < life);
                self.all_are_short.store(is_short, Ordering::Relaxed);
                Ok(better)
            }
            // Its remaining life is short, but it is still valid.
            Err(error) if answer::passing(&error).is_some() && !left.is_zero() => {
                tracing::warn!(%error, "the token expires soon and cannot be renewed yet");
                Ok(token)
            }
            Err(error) => Err(error),
        }
    }

    async fn refresh(&self, refused: &AccessToken) -> Result<AccessToken> {
        in_time(self.tokens.refresh(refused)).await
    }

    async fn poll(&self, id: &Secret, token: &AccessToken, ask: Duration, within: Duration) -> Result<Answer> {
        let path = [id.expose(), "get-next-event"];
        let query = [("timeout", ask.as_secs().to_string())];
        self.send(token, Call { method: Method::GET, path: &path, query: &query, body: None, within }).await
    }

    async fn start(&self, station: &Station) -> Result<Secret> {
        let answer = self.called(&[], Method::POST, &[], Some(station.to_json())).await?;
        succeeded("start a session", answer, &[]).and_then(|answer| answer::established(&answer))
    }

    async fn join(&self, agent: Option<&str>) -> Result<Secret> {
        let body = agent.map_or_else(|| json!({}), |agent| json!({ "asAgentId": agent }));
        let answer = self.called(&["join"], Method::POST, &[], Some(body)).await?;
        succeeded("join the session", answer, &[]).and_then(|answer| answer::established(&answer))
    }

    async fn end(&self, id: &Secret, query: &[(&str, String)]) -> Result<()> {
        let answer = self.called(&[id.expose()], Method::DELETE, query, None).await?;
        if answer.status == http::StatusCode::NOT_FOUND {
            return Ok(());
        }
        carried_out("end the session", answer, &[id])
    }

    async fn set_state(&self, id: &Secret, state: &str, reason: Option<&str>) -> Result<()> {
        let body = json!({ "state": state, "reason": reason.unwrap_or_default() });
        let answer = self.called(&[id.expose(), "state"], Method::POST, &[], Some(body)).await?;
        carried_out("set the state", answer, &[id])
    }
}

/// A call's path without the session's id, which is a secret: the first part, unless that is an operation.
fn template(sessions: &str, parts: &[&str]) -> String {
    let parts = parts.iter().enumerate().map(|(at, part)| if at == 0 && *part != "join" { "*" } else { part });
    std::iter::once(sessions).chain(parts).collect::<Vec<_>>().join("/")
}

/// `…/inContactAPI`, from an origin alone, from a URL that ends with it in any casing, or from the base of its calls,
/// whose version is returned beside it.
pub(crate) fn api_base(base: &Url) -> Result<(Url, Option<Box<str>>)> {
    let parts: Vec<&str> = base.path().split('/').filter(|part| !part.is_empty()).collect();
    let same = |text: &'static str| move |part: &&&str| part.eq_ignore_ascii_case(text);
    let ends = [
        parts.iter().position(|part| same("inContactAPI")(&part)),
        parts.iter().position(|part| same("services")(&part)),
    ];
    let (kept, rest) = match ends {
        [Some(api), _] => (api + 1, parts.get(api + 1..).unwrap_or_default()),
        [None, Some(services)] => (services, parts.get(services..).unwrap_or_default()),
        [None, None] => (parts.len(), &[][..]),
    };
    let version = match rest {
        [] => None,
        [services] if same("services")(&services) => None,
        [services, version] if same("services")(&services) && is_version(version) => Some(Box::from(*version)),
        [services, version, sessions]
            if same("services")(&services) && is_version(version) && same("agent-sessions")(&sessions) =>
        {
            Some(Box::from(*version))
        }
        _ => return Err(Error::config("the API's URL must end with its host, /inContactAPI or /services/v23.0")),
    };
    let mut kept: Vec<&str> = parts.iter().take(kept).copied().collect();
    if ends[0].is_none() {
        kept.push("inContactAPI");
    }
    let mut url = base.clone();
    url.set_path(&kept.join("/"));
    url.set_query(None);
    url.set_fragment(None);
    Ok((url, version))
}

/// `v23.0`, in any casing.
fn is_version(text: &str) -> bool {
    text.strip_prefix(['v', 'V'])
        .is_some_and(|it| !it.is_empty() && it.bytes().all(|it| it.is_ascii_digit() || it == b'.'))
}

fn succeeded(what: &str, answer: Answer, secrets: &[&Secret]) -> Result<Answer> {
    if answer.status.is_success() { Ok(answer) } else { Err(answer::error(what, &answer, secrets)) }
}

/// Something between this machine and the service, such as a portal, answers everything with a page and 200.
fn carried_out(what: &str, answer: Answer, secrets: &[&Secret]) -> Result<()> {
    let answer = succeeded(what, answer, secrets)?;
    if !answer.body.trim_ascii_start().starts_with(b"<") {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Protocol, format!("could not {what}: the answer is not the service's"))
        .with_status(answer.status.as_u16())
        .with_disposition(Disposition::Retry { after: None })
        .with_ambiguous(true))
}

async fn in_time<T>(asked: impl Future<Output = Result<T>>) -> Result<T> {
    let late = |_| Err(Error::new(ErrorKind::Timeout, "the token provider did not answer in time"));
    let asked = guarded("the token provider", asked);
    timeout(TOKEN, asked).await.unwrap_or_else(late).map_err(Error::of_login)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_in_place_of_the_services_answer_carries_nothing_out() {
        for (status, body, is_done) in [
            (202, "", true),
            (200, " {}", true),
            (200, "null", true),
            (200, "\n<html>Log in to the network</html>", false),
            (500, "", false),
        ] {
            let answer = Answer {
                status: http::StatusCode::from_u16(status).unwrap(),
                headers: HeaderMap::new(),
                body: body.as_bytes().to_vec().into(),
            };
            let done = carried_out("end the session", answer, &[]);
            assert_eq!(done.is_ok(), is_done, "{status} {body}");
        }
    }

    #[test]
    fn a_span_shows_no_id_of_a_session() {
        for (parts, want) in [
            (&[][..], "/a"),
            (&["join"], "/a/join"),
            (&["secret"], "/a/*"),
            (&["secret", "get-next-event"], "/a/*/get-next-event"),
        ] {
            assert_eq!(template("/a", parts), want);
        }
    }

    #[test]
    fn a_base_url_is_joined_with_any_slashes_and_casing() {
        for (base, want) in [
            ("https://api.example", "https://api.example/inContactAPI"),
            ("https://api.example/", "https://api.example/inContactAPI"),
            ("https://api.example/inContactAPI/", "https://api.example/inContactAPI"),
            ("https://api.example//incontactapi//", "https://api.example/incontactapi"),
            ("https://api.example:8443/x/?a=1#b", "https://api.example:8443/x/inContactAPI"),
            ("https://api.example/services/v27.0", "https://api.example/inContactAPI"),
            ("https://api.example/inContactAPI/services/", "https://api.example/inContactAPI"),
            ("https://api.example/InContactAPI/services/V27.0/", "https://api.example/InContactAPI"),
            ("https://api.example/x/inContactAPI/services/v27/agent-sessions", "https://api.example/x/inContactAPI"),
        ] {
            assert_eq!(api_base(&base.parse().unwrap()).unwrap().0.as_str(), want, "{base}");
        }
        let (_, version) = api_base(&"https://h/inContactAPI/services/v27.0/".parse().unwrap()).unwrap();
        assert_eq!(version.as_deref(), Some("v27.0"));
        for bad in [
            "https://h/inContactAPI/inContactAPI",
            "https://h/inContactAPI/v27.0",
            "https://h/inContactAPI/services/v27.0/services/v27.0",
            "https://h/services/latest",
        ] {
            assert_eq!(api_base(&bad.parse().unwrap()).unwrap_err().kind(), ErrorKind::Config, "{bad}");
        }
    }

    /// A GOAWAY breaks neither the answer in flight nor the next poll.
    #[tokio::test]
    async fn f45_a_connection_that_ends_by_goaway_is_replaced() {
        use crate::agent::machine::SessionOrigin;
        use crate::agent::{AgentCursor, AgentDelivery, AgentSession};
        use crate::auth::StaticToken;
        use ringcentral_sandbox::{Operation, Sandbox, Service};

        let soon = Duration::from_secs(20);
        let sandbox = Sandbox::start().await.unwrap();
        let center = sandbox.contact_center();
        let tokens = Arc::new(StaticToken::new(AccessToken::new(center.access_token().expose())));
        let base = Some(center.url().parse().unwrap());
        let http = crate::http::ReqwestClient::configured(|settings| settings.http2_prior_knowledge());
        let system = System::new().with_http(http);
        let api = Api::new(tokens, base, "v23.0".into(), None, 1024 * 1024, &system).unwrap();
        let builder = AgentSession::builder(StaticToken::new(AccessToken::new("unused"))).phone_number("+12055550100");
        let id = api.start(&builder.station).await.unwrap();
        let session = builder.session(api, AgentCursor::new(id), SessionOrigin::Started);
        let mut events = session.events().unwrap();
        let next = async |events: &mut crate::agent::AgentEvents| {
            let AgentDelivery::Notification(event) = events.next().await.unwrap().unwrap() else { panic!() };
            event.event().kind().as_str()
        };
        for kind in ["AgentSessionStart", "AgentState", "UpdateIndicators"] {
            assert_eq!(next(&mut events).await, kind);
        }
        let mut polls = 1;
        for _ in 0..3 {
            assert!(center.wait_open_polls(1, soon).await);
            sandbox.finish_connections(Service::ContactCenter);
            center.push(r#"{"Type":"Mute"}"#).unwrap();
            assert_eq!(next(&mut events).await, "Mute");
            polls += 1;
        }
        assert!(sandbox.wait_requests(Operation::AgentPoll, polls + 1, soon).await);
        let timeouts: Vec<_> =
            sandbox.requests_to(Operation::AgentPoll).iter().map(|poll| poll.query("timeout").unwrap()).collect();
        assert!(timeouts.iter().all(|timeout| timeout == "60"), "no poll failed: {timeouts:?}");
        assert_eq!(center.session().unwrap().overlaps, 0);
    }
}
