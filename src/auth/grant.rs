//! Requests and responses of the token endpoint. Pure.

use std::time::{Duration, SystemTime};

use http::HeaderMap;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;
use url::form_urlencoded;
use zeroize::Zeroize as _;

use super::session::{Session, life};
use super::store::StoredTokens;
use crate::error::{Disposition, Error, ErrorKind, Result};
use crate::http::codes::refuses_login;
use crate::http::envelope::{Envelope, error_from, wait_asked_for};
use crate::policy::BackoffPolicy;
use crate::secret::Secret;

/// The credentials of a token request.
#[derive(Clone, Debug)]
pub(super) enum Grant {
    Jwt(Secret),
    Code { code: Secret, redirect_uri: String, verifier: Secret },
    Refresh(Secret),
}

impl Grant {
    /// The form fields of this grant.
    fn fields(&self) -> Vec<(&'static str, &str)> {
        match self {
            Self::Jwt(jwt) => {
                vec![("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"), ("assertion", jwt.expose())]
            }
            Self::Code { code, redirect_uri, verifier } => vec![
                ("grant_type", "authorization_code"),
                ("code", code.expose()),
                ("redirect_uri", redirect_uri),
                ("code_verifier", verifier.expose()),
            ],
            Self::Refresh(token) => vec![("grant_type", "refresh_token"), ("refresh_token", token.expose())],
        }
    }

    /// The secrets that an error must not repeat.
    pub(super) fn secrets(&self) -> Vec<&str> {
        match self {
            Self::Jwt(secret) | Self::Refresh(secret) => vec![secret.expose()],
            Self::Code { code, verifier, .. } => vec![code.expose(), verifier.expose()],
        }
    }

    /// The service documents `client_id` as a field of a code exchange.
    pub(super) fn names_client(&self) -> bool {
        matches!(self, Self::Code { .. })
    }
}

/// Optional parameters of a token request.
#[derive(Clone, Debug, Default)]
pub(super) struct TokenOptions {
    pub(super) access_token_ttl: Option<Duration>,
    pub(super) refresh_token_ttl: Option<Duration>,
    pub(super) scope: Option<String>,
    pub(super) endpoint_id: Option<String>,
}

/// The app's id and credentials in a form; empty if a header has them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Client<'a> {
    pub(super) id: Option<&'a str>,
    pub(super) assertion: Option<&'a Secret>,
}

impl Client<'_> {
    fn fields(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let id = self.id.map(|id| ("client_id", id));
        let assertion = self.assertion.map(|assertion| {
            let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
            [("client_assertion_type", kind), ("client_assertion", assertion.expose())]
        });
        id.into_iter().chain(assertion.into_iter().flatten())
    }
}

/// Room for the form of any request: one that grew would leave copies of the secrets behind.
const FORM: usize = 16 << 10;

/// The body of a request to revoke `token`.
pub(super) fn revoke_form(token: &Secret, client: Client<'_>) -> String {
    let mut form = form_urlencoded::Serializer::new(String::with_capacity(FORM));
    form.append_pair("token", token.expose()).extend_pairs(client.fields());
    form.finish()
}

/// The body of a token request.
pub(super) fn form(grant: &Grant, options: &TokenOptions, client: Client<'_>) -> String {
    let mut form = form_urlencoded::Serializer::new(String::with_capacity(FORM));
    form.extend_pairs(grant.fields()).extend_pairs(client.fields());
    for (name, ttl) in
        [("access_token_ttl", options.access_token_ttl), ("refresh_token_ttl", options.refresh_token_ttl)]
    {
        if let Some(ttl) = ttl {
            form.append_pair(name, &ttl.as_secs().to_string());
        }
    }
    for (name, option) in [("scope", &options.scope), ("endpoint_id", &options.endpoint_id)] {
        if let Some(option) = option {
            form.append_pair(name, option);
        }
    }
    form.finish()
}

/// The owner of the tokens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owner<'a> {
    pub(super) server: &'a str,
    pub(super) client_id: &'a str,
}

/// Reads the session in `body`. A refresh response may omit fields, which then stay as in
/// `previous`.
pub(super) fn read_session(
    body: &[u8],
    owner: Owner<'_>,
    previous: Option<&StoredTokens>,
    asked_at: (Instant, SystemTime),
) -> Result<Session> {
    let unreadable =
        |what| Error::new(ErrorKind::Protocol, what).with_status(200).with_ambiguous(true).with_help(Some(FOREIGN));
    let answer: Wiped = serde_json::from_slice(body).map_err(|_| unreadable("the token answer is not valid JSON"))?;
    let text = |name: &str| match answer.0.get(name) {
        Some(Value::String(text)) => Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
        Some(Value::Number(number)) => Some(number.to_string()),
        Some(_) | None => None,
    };
    let seconds = |name: &str| text(name).and_then(|text| text.parse::<f64>().ok());
    let access = text("access_token").ok_or_else(|| unreadable("the token answer has no access_token"))?;
    if !access.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(unreadable("the access_token cannot be sent in a header"));
    }
    let (asked_at, wall) = asked_at;
    let life = life(seconds("expires_in"));
    let rotated = text("refresh_token").map(Secret::from);
    let refresh_expires_at = match (&rotated, seconds("refresh_token_expires_in")) {
        (Some(_), Some(left)) => {
            Duration::try_from_secs_f64(left.max(0.0)).ok().and_then(|left| wall.checked_add(left))
        }
        (Some(_), None) => None,
        (None, _) => previous.and_then(|previous| previous.refresh_expires_at),
    };
    let stored = StoredTokens {
        server: owner.server.to_owned(),
        client_id: owner.client_id.to_owned(),
        access_token: access.into(),
        expires_at: wall + life,
        refresh_token: rotated.or_else(|| previous?.refresh_token.clone()),
        refresh_expires_at,
        scope: text("scope").or_else(|| Some(previous?.scope.clone())).unwrap_or_default(),
        owner_id: text("owner_id").or_else(|| previous?.owner_id.clone()),
    };
    Ok(Session::granted(stored, life, asked_at))
}

/// A parsed answer, whose texts are overwritten when it is dropped.
#[derive(Deserialize)]
struct Wiped(Value);

impl Drop for Wiped {
    fn drop(&mut self) {
        for value in self.0.as_object_mut().into_iter().flat_map(serde_json::Map::values_mut) {
            if let Value::String(text) = value {
                text.zeroize();
            }
        }
    }
}

/// Why a grant failed.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The grant itself is used, revoked or expired (`invalid_grant` and similar codes).
    Dead(Error),
    /// The service gave a reason, but the grant may still be valid (`invalid_client`, …): repeating
    /// the same request cannot help.
    Refused(Error),
    /// Anything else: transient errors, a response that is not from the service, or one without a
    /// known reason. None of these ends a login.
    Failed(Error),
}

impl Refusal {
    pub(super) fn error(&self) -> &Error {
        match self {
            Self::Dead(error) | Self::Refused(error) | Self::Failed(error) => error,
        }
    }

    pub(super) fn into_error(self) -> Error {
        match self {
            Self::Dead(error) | Self::Refused(error) | Self::Failed(error) => error,
        }
    }
}

/// What to check about an answer that is not the service's.
const FOREIGN: &str = "what answered may not be RingCentral: check the server's URL, and whether a proxy or a portal is \
                       in between";

/// Interprets a response other than 200 to a grant, which is a refresh token if `is_refresh`. Texts of the service that
/// repeat one of `secrets` are dropped.
pub(super) fn read_refusal(
    is_refresh: bool,
    status: u16,
    headers: &HeaderMap,
    body: &[u8],
    secrets: &[&str],
) -> Refusal {
    let seen = error_from(status, headers, body, secrets);
    let envelope = Envelope::read(body, secrets);
    // The service gives each refusal a code, and is never elsewhere.
    let is_foreign = envelope.code.is_none() && !matches!(status, 408 | 429 | 500..=599);
    let recast = |kind, headline, disposition| {
        Error::new(kind, envelope.describe(headline))
            .with_disposition(disposition)
            .with_status(status)
            .with_code(seen.code().map(str::to_owned))
            .with_request_id(seen.request_id().map(str::to_owned))
            .with_help(seen.help().or_else(|| is_foreign.then_some(FOREIGN)))
            .with_ambiguous(seen.is_ambiguous())
    };
    let refused = || recast(ErrorKind::Auth, "the service refused the login", Disposition::Fatal);
    let retry = Disposition::Retry { after: wait_asked_for(status, headers) };
    match status {
        400 | 401 | 403 if is_dead(&envelope, status == 400 || is_refresh) => Refusal::Dead(refused()),
        400 | 401 | 403 if is_refused(&envelope) => Refusal::Refused(refused()),
        // A gateway's page or an undocumented code says nothing about the grant (found 6.4).
        400 | 401 | 403 => Refusal::Failed(recast(ErrorKind::Auth, "the login was turned away", retry)),
        _ => Refusal::Failed(recast(seen.kind(), "the login failed", retry)),
    }
}

/// Whether the service gave a reason for refusing this app or user.
fn is_refused(envelope: &Envelope) -> bool {
    let by_word = matches!(
        envelope.oauth_error.as_deref(),
        Some(
            "access_denied"
                | "insufficient_scope"
                | "invalid_client"
                | "invalid_request"
                | "invalid_request_uri"
                | "invalid_scope"
                | "request_not_supported"
                | "request_uri_not_supported"
                | "unauthorized_client"
                | "unsupported_grant_type"
                | "unsupported_response_type"
        )
    );
    by_word || !names_token(envelope) && envelope.code.as_deref().is_some_and(refuses_login)
}

/// Whether the grant itself has ended: revoked, expired, used, unknown. Codes of tokens concern it if `of_grant`: with
/// other statuses than 400 they concern the token of a call (ringcentral-rest-and-events.md §1.6), and a login has none.
fn is_dead(envelope: &Envelope, of_grant: bool) -> bool {
    let by_word = matches!(envelope.oauth_error.as_deref(), Some("invalid_grant" | "expired_token"));
    by_word || of_grant && names_token(envelope)
}

/// Whether a token is invalid.
fn names_token(envelope: &Envelope) -> bool {
    matches!(
        envelope.code.as_deref(),
        Some("OAU-106" | "OAU-108" | "OAU-110" | "OAU-128" | "OAU-129" | "OAU-149" | "OAU-211" | "OAU-213")
    )
}

/// The attempts of one grant.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Attempts {
    repeats: u32,
    lost_once: bool,
}

impl Attempts {
    /// How long to wait before the grant is sent again; `None`: give up.
    ///
    /// After a lost response the grant is sent once more immediately, since the service answers a
    /// repeated refresh with the same token for a while. Transient errors are retried up to three
    /// times, 10 s apart (`pause`) or as the service requests; not at all while the old token is
    /// valid (`patient` is false).
    pub(super) fn again(
        &mut self,
        refusal: &Refusal,
        patient: bool,
        pause: Duration,
        random: f64,
        left: Duration,
    ) -> Option<Duration> {
        let Refusal::Failed(error) = refusal else { return None };
        let Disposition::Retry { after } = error.disposition() else { return None };
        let answered = error.status().is_some_and(|status| status != 200);
        // An immediate retry would get the same response: the caller waits longer.
        if matches!(error.status(), Some(300..=499)) && !matches!(error.status(), Some(408 | 429)) {
            return None;
        }
        let lost = error.is_ambiguous() && !answered;
        if lost && !self.lost_once {
            self.lost_once = true;
            return (!left.is_zero()).then_some(Duration::ZERO);
        }
        if !patient || self.repeats >= 3 {
            return None;
        }
        let wait = match after {
            Some(after) => after,
            // Nothing was sent, so the service needs no pause.
            None if !error.is_ambiguous() && !answered => BackoffPolicy::default().delay(self.repeats, None, random),
            None => pause,
        };
        self.repeats += 1;
        (wait < left).then_some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::super::session::PAUSE;
    use super::*;
    use proptest::prelude::*;

    const OWNER: Owner<'static> = Owner { server: "https://h/", client_id: "app" };

    fn session(body: &str, previous: Option<&StoredTokens>) -> Result<Session> {
        read_session(body.as_bytes(), OWNER, previous, (Instant::now(), SystemTime::UNIX_EPOCH))
    }

    #[test]
    fn an_answer_that_may_not_be_the_services_says_what_to_check() {
        let refusal =
            |status, body: &str| read_refusal(false, status, &HeaderMap::new(), body.as_bytes(), &[]).into_error();
        let coded = r#"{"errors":[{"errorCode":"OAU-140","message":"no"}]}"#;
        for (error, is_foreign) in [
            (refusal(404, "no"), true),
            (refusal(302, ""), true),
            (refusal(403, "<html>Log in to the network</html>"), true),
            (refusal(400, coded), false),
            (refusal(404, coded), false),
            (refusal(503, "<html>later</html>"), false),
            (refusal(429, ""), false),
            (session("<html>Log in to the network</html>", None).unwrap_err(), true),
            (session("{}", None).unwrap_err(), true),
        ] {
            assert_eq!(error.help() == Some(FOREIGN), is_foreign, "{error}");
        }
    }

    #[test]
    fn each_grant_has_its_form() {
        let options = TokenOptions {
            access_token_ttl: Some(Duration::from_secs(900)),
            refresh_token_ttl: Some(Duration::from_secs(86_400)),
            scope: Some("SMS ReadMessages".into()),
            endpoint_id: Some("this one".into()),
        };
        let (unnamed, assertion) = (Client::default(), Secret::new("a.s"));
        let named = Client { id: Some("app"), ..unnamed };
        let proven = Client { assertion: Some(&assertion), ..named };
        let none = TokenOptions::default();
        let code = Grant::Code { code: "c&1".into(), redirect_uri: "https://me/b?x".into(), verifier: "v".into() };
        for (grant, options, client, want) in [
            (
                Grant::Jwt("e.y".into()),
                &none,
                unnamed,
                "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=e.y",
            ),
            (
                code,
                &none,
                named,
                "grant_type=authorization_code&code=c%261&redirect_uri=https%3A%2F%2Fme%2Fb%3Fx&code_verifier=v&client_id=app",
            ),
            (
                Grant::Refresh("r".into()),
                &options,
                unnamed,
                "grant_type=refresh_token&refresh_token=r&access_token_ttl=900&refresh_token_ttl=86400&scope=SMS+ReadMessages&endpoint_id=this+one",
            ),
            (
                Grant::Refresh("r".into()),
                &none,
                proven,
                "grant_type=refresh_token&refresh_token=r&client_id=app&client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer&client_assertion=a.s",
            ),
        ] {
            assert_eq!(form(&grant, options, client), want);
        }
        assert_eq!(revoke_form(&"t".into(), unnamed), "token=t");
        let proof = "client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer&client_assertion=a.s";
        assert_eq!(revoke_form(&"t".into(), proven), format!("token=t&client_id=app&{proof}"));
    }

    #[test]
    fn a_token_answer_is_read_with_numbers_as_text_and_text_as_numbers() {
        let full = session(
            r#"{"access_token":"A","token_type":"bearer","expires_in":"7199","refresh_token":"R",
                "refresh_token_expires_in":604799,"scope":"ReadMessages SMS","owner_id":402853446008}"#,
            None,
        )
        .unwrap();
        assert_eq!(full.stored.expires_at, SystemTime::UNIX_EPOCH + Duration::from_secs(7199));
        assert_eq!(full.stored.refresh_expires_at, Some(SystemTime::UNIX_EPOCH + Duration::from_secs(604_799)));
        assert_eq!((full.access.owner_id(), full.access.scopes().count()), (Some("402853446008"), 2));

        let bare = session(r#"{"access_token":"B","refresh_token_expires_in":5}"#, Some(&full.stored)).unwrap();
        assert_eq!(bare.stored.refresh_token, Some(Secret::new("R")));
        assert_eq!(bare.stored.refresh_expires_at, full.stored.refresh_expires_at);
        assert_eq!((bare.access.owner_id(), bare.access.scopes().count()), (Some("402853446008"), 2));

        let rotated =
            session(r#"{"access_token":"C","refresh_token":"S","refresh_token_expires_in":"x"}"#, Some(&bare.stored));
        let rotated = rotated.unwrap().stored;
        assert_eq!((rotated.refresh_token, rotated.refresh_expires_at), (Some(Secret::new("S")), None));
    }

    #[test]
    fn an_answer_without_a_usable_token_is_an_error_without_its_text() {
        for body in [
            "",
            "<html>",
            "{}",
            r#"{"access_token":""}"#,
            r#"{"access_token":null}"#,
            r#"{"access_token":"a\nb s3cret"}"#,
        ] {
            let error = session(body, None).unwrap_err();
            assert_eq!((error.kind(), error.is_ambiguous()), (ErrorKind::Protocol, true), "{body}");
            assert!(!format!("{error:?}").contains("s3cret"));
        }
    }

    #[test]
    fn only_invalid_grant_responses_end_a_grant() {
        let word = |is_refresh, status, body: &str| match read_refusal(
            is_refresh,
            status,
            &HeaderMap::new(),
            body.as_bytes(),
            &[],
        ) {
            Refusal::Dead(error) => ("dead", error.kind(), error.disposition()),
            Refusal::Refused(error) => ("refused", error.kind(), error.disposition()),
            Refusal::Failed(error) => ("failed", error.kind(), error.disposition()),
        };
        let (fatal, retry) = (Disposition::Fatal, Disposition::Retry { after: None });
        let penalty = Disposition::Retry { after: Some(Duration::from_secs(30)) };
        for (status, body, want) in [
            (400, r#"{"error":"invalid_grant","errors":[{"errorCode":"OAU-211"}]}"#, ("dead", ErrorKind::Auth, fatal)),
            (400, r#"{"error":"invalid_grant"}"#, ("dead", ErrorKind::Auth, fatal)),
            (400, r#"{"errors":[{"errorCode":"OAU-213"}]}"#, ("dead", ErrorKind::Auth, fatal)),
            (401, r#"{"error":"expired_token","errors":[]}"#, ("dead", ErrorKind::Auth, fatal)),
            (401, r#"{"error":"invalid_client"}"#, ("refused", ErrorKind::Auth, fatal)),
            (
                400,
                r#"{"error":"invalid_request","errors":[{"errorCode":"OAU-250"}]}"#,
                ("refused", ErrorKind::Auth, fatal),
            ),
            (400, r#"{"errors":[{"errorCode":"OAU-123"}]}"#, ("refused", ErrorKind::Auth, fatal)),
            // Unknown reasons and foreign responses are transient.
            (400, r#"{"errors":[{"errorCode":"OAU-999"}]}"#, ("failed", ErrorKind::Auth, retry)),
            (400, r#"{"error":"temporarily_unavailable"}"#, ("failed", ErrorKind::Auth, retry)),
            (401, r#"{"errorCode":"TokenExpired"}"#, ("failed", ErrorKind::Auth, retry)),
            (401, "", ("failed", ErrorKind::Auth, retry)),
            (403, r#"{"errors":[{"errorCode":"CMN-408"}]}"#, ("failed", ErrorKind::Auth, retry)),
            (403, "<html>blocked</html>", ("failed", ErrorKind::Auth, retry)),
            (302, "", ("failed", ErrorKind::Protocol, retry)),
            (404, "", ("failed", ErrorKind::NotFound, retry)),
            (408, "", ("failed", ErrorKind::Timeout, retry)),
            (429, "", ("failed", ErrorKind::RateLimited, penalty)),
            (500, r#"{"error":"invalid_grant"}"#, ("failed", ErrorKind::Service, retry)),
            (503, "", ("failed", ErrorKind::Service, retry)),
        ] {
            for is_refresh in [false, true] {
                assert_eq!(word(is_refresh, status, body), want, "{is_refresh} {status} {body}");
            }
        }
        // A token that the service does not know is the grant only where the grant is a token.
        for code in ["OAU-128", "OAU-211", "OAU-213"] {
            let body = format!(r#"{{"errors":[{{"errorCode":"{code}"}}]}}"#);
            assert_eq!(word(true, 401, &body), ("dead", ErrorKind::Auth, fatal), "{code}");
            assert_eq!(word(false, 401, &body), ("failed", ErrorKind::Auth, retry), "{code}");
        }
    }

    #[test]
    fn a7_a_refusal_drops_the_services_text() {
        let body = r#"{"error":"invalid_grant","error_description":"JWT s3cret is revoked","message":"s3cret",
            "errors":[{"errorCode":"OAU-211 s3cret","message":"s3cret","parameterName":"s3cret"}]}"#;
        let refusal = read_refusal(true, 400, &HeaderMap::new(), body.as_bytes(), &["s3cret"]);
        assert!(!format!("{refusal:?} {}", refusal.error()).contains("s3cret"), "{refusal:?}");
    }

    #[test]
    fn transient_errors_are_retried_by_the_guides_rules() {
        let second = Duration::from_secs(1);
        let failed = |error: Error| Refusal::Failed(error);
        let lost = || failed(Error::new(ErrorKind::Timeout, "x").with_ambiguous(true));
        let unsent = || failed(Error::new(ErrorKind::Network, "x"));
        let down = || failed(Error::new(ErrorKind::Service, "x").with_status(500).with_ambiguous(true));
        let requested = || {
            let after = Disposition::Retry { after: Some(second * 4) };
            failed(Error::new(ErrorKind::RateLimited, "x").with_status(429).with_disposition(after))
        };
        let garbled = || failed(Error::new(ErrorKind::Protocol, "x").with_status(200).with_ambiguous(true));
        let again = |attempts: &mut Attempts, refusal: &Refusal, patient| {
            attempts.again(refusal, patient, PAUSE, 1.0, second * 30)
        };

        let mut attempts = Attempts::default();
        assert_eq!(again(&mut attempts, &lost(), false), Some(Duration::ZERO));
        assert_eq!(again(&mut attempts, &lost(), false), None);
        assert_eq!(again(&mut attempts, &lost(), true), Some(PAUSE));
        assert_eq!(again(&mut Attempts::default(), &garbled(), false), Some(Duration::ZERO));
        assert_eq!(again(&mut Attempts::default(), &down(), false), None);
        assert_eq!(again(&mut Attempts::default(), &unsent(), true), Some(Duration::from_millis(200)));

        let mut attempts = Attempts::default();
        for want in [Some(PAUSE), Some(PAUSE), Some(PAUSE), None] {
            assert_eq!(again(&mut attempts, &down(), true), want);
        }
        assert_eq!(again(&mut Attempts::default(), &requested(), true), Some(second * 4));
        assert_eq!(Attempts::default().again(&requested(), true, PAUSE, 1.0, second * 4), None);
        // Without a known reason the same response would follow.
        let odd = Disposition::Retry { after: None };
        for status in [302, 400, 401, 403, 404] {
            let odd = failed(Error::new(ErrorKind::Auth, "x").with_status(status).with_disposition(odd));
            assert_eq!(again(&mut Attempts::default(), &odd, true), None, "{status}");
        }
        let spent = failed(Error::new(ErrorKind::Auth, "x"));
        assert_eq!(again(&mut Attempts::default(), &spent, true), None);
        assert_eq!(again(&mut Attempts::default(), &Refusal::Dead(Error::new(ErrorKind::Network, "x")), true), None);
    }

    proptest! {
        #[test]
        fn no_answer_panics(body: Vec<u8>, status in 100_u16..1000) {
            let _ = session(&String::from_utf8_lossy(&body), None);
            let _ = read_refusal(false, status, &HeaderMap::new(), &body, &[]);
        }

        #[test]
        fn no_number_panics(left: f64, life: f64) {
            let body = format!(r#"{{"access_token":"a","refresh_token":"r","expires_in":"{life}","refresh_token_expires_in":"{left}"}}"#);
            prop_assert!(session(&body, None).is_ok());
        }
    }
}
