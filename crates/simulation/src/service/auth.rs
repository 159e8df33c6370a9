//! Logins, tokens and rate groups (rest §1, §4.1; websocket §1.2).

use std::collections::{BTreeMap, VecDeque};

use serde_json::json;

use super::http::{Answer, Request};
use super::knobs::Knobs;
use super::{Cx, Op, Service, SvcEv};
use crate::time::{SEC, Us};
use crate::world::EXTENSION;

pub(crate) const CLIENT_ID: &str = "sim-client";
pub(crate) const CLIENT_SECRET: &str = "sim-secret";
pub(crate) const JWT: &str = "sim.jwt.assertion";

#[derive(Debug, Clone, Copy)]
struct Token {
    login: u64,
    until: Us,
    is_revoked: bool,
}

#[derive(Debug, Clone)]
struct Refresh {
    login: u64,
    used: Option<(Us, serde_json::Value)>,
    is_dead: bool,
}

/// Every login and its tokens.
#[derive(Debug, Default)]
pub(crate) struct Auth {
    access: BTreeMap<String, Token>,
    refresh: BTreeMap<String, Refresh>,
    logins: u64,
    ended: Vec<u64>,
}

impl Auth {
    /// The login of a bearer token.
    pub(crate) fn check(&self, bearer: Option<&str>, now: Us) -> Result<u64, Answer> {
        let refuse = |code| Answer::error(401, code, "Token is not valid", None);
        let token = bearer.and_then(|text| self.access.get(text)).ok_or_else(|| refuse("OAU-213"))?;
        if token.is_revoked || self.ended.contains(&token.login) {
            return Err(refuse("OAU-213"));
        }
        if token.until <= now {
            return Err(refuse("OAU-128"));
        }
        Ok(token.login)
    }

    pub(crate) fn is_alive(&self, login: u64, now: Us) -> bool {
        !self.ended.contains(&login)
            && self.access.values().any(|token| token.login == login && !token.is_revoked && token.until > now)
    }

    /// All access tokens die at once; the logins stay.
    pub(crate) fn expire_all(&mut self) {
        for token in self.access.values_mut() {
            token.is_revoked = true;
        }
    }

    /// Every login is over, its refresh tokens too.
    pub(crate) fn end_all(&mut self) -> Vec<u64> {
        self.expire_all();
        for token in self.refresh.values_mut() {
            token.is_dead = true;
        }
        self.ended = (1..=self.logins).collect();
        self.ended.clone()
    }
}

impl Service {
    pub(super) fn token(&mut self, request: &Request, cx: &mut Cx<'_>) -> Answer {
        let form = request.form();
        let field = |name: &str| form.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let refuse = |error: &str, code: &str| {
            let body = json!({"error": error, "error_description": "Refused", "errors": [{"errorCode": code, "message": "Refused"}]});
            Answer::json(400, &body)
        };
        let now = cx.now();
        let login = match field("grant_type") {
            Some("urn:ietf:params:oauth:grant-type:jwt-bearer") => {
                if field("assertion") != Some(JWT) {
                    return refuse("invalid_grant", "OAU-140");
                }
                self.auth.logins += 1;
                // Five sessions per user and app; the oldest gives way (rest §1.4).
                if self.auth.logins > 5 {
                    let oldest = self.auth.logins - 5;
                    self.auth.ended.push(oldest);
                    self.end_sessions_of(oldest, cx);
                }
                self.auth.logins
            }
            Some("refresh_token") => {
                let text = field("refresh_token").unwrap_or_default().to_owned();
                let Some(known) = self.auth.refresh.get_mut(&text) else { return refuse("invalid_grant", "OAU-213") };
                if known.is_dead || self.auth.ended.contains(&known.login) {
                    return refuse("invalid_grant", "OAU-211");
                }
                if let Some((at, answer)) = &known.used {
                    // A lost answer may be asked for again for a while (rest §1.4).
                    if now < at + 10 * SEC {
                        return Answer::json(200, answer);
                    }
                    return refuse("invalid_grant", "OAU-211");
                }
                let login = known.login;
                for token in self.auth.access.values_mut().filter(|token| token.login == login) {
                    token.is_revoked = true;
                }
                login
            }
            _ => return refuse("unsupported_grant_type", "OAU-125"),
        };
        let access = format!("at-{login}-{}", self.hex(16));
        let life = self.knobs.token_life_s;
        self.auth.access.insert(access.clone(), Token { login, until: now + life * SEC, is_revoked: false });
        cx.q.after(life * SEC, SvcEv::TokenEnd(login).into());
        let mut body = json!({
            "access_token": access, "token_type": "bearer", "expires_in": life, "scope": "ReadMessages SubscriptionWebhook",
            "owner_id": EXTENSION, "endpoint_id": "sim-endpoint",
        });
        if self.knobs.token_refresh == 1
            && let Some(map) = body.as_object_mut()
        {
            let text = format!("rt-{login}-{}", self.hex(16));
            map.insert("refresh_token".into(), text.clone().into());
            map.insert("refresh_token_expires_in".into(), 604_800.into());
            self.auth.refresh.insert(text, Refresh { login, used: None, is_dead: false });
        }
        if let Some(old) = field("refresh_token").and_then(|text| self.auth.refresh.get_mut(text)) {
            old.used = Some((now, body.clone()));
        }
        Answer::json(200, &body)
    }

    pub(super) fn revoke(&mut self, request: &Request, cx: &mut Cx<'_>) -> Answer {
        let form = request.form();
        let token = form.iter().find(|(key, _)| key == "token").map(|(_, value)| value.clone()).unwrap_or_default();
        let login = self.auth.access.get(&token).map(|it| it.login);
        if let Some(login) = login.or_else(|| self.auth.refresh.get(&token).map(|it| it.login)) {
            self.auth.ended.push(login);
            self.end_sessions_of(login, cx);
        }
        Answer::empty(200)
    }

    pub(super) fn login_may_end(&mut self, login: u64, cx: &mut Cx<'_>) {
        if !self.auth.is_alive(login, cx.now()) {
            self.end_sessions_of(login, cx);
        }
    }
}

/// Rate groups (rest §4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Group {
    Light,
    Medium,
    Heavy,
    Auth,
}

impl Group {
    pub(crate) fn of(op: Op, path: &str) -> Self {
        match op {
            Op::Token | Op::WsToken => Self::Auth,
            Op::Create | Op::Update | Op::Delete => Self::Medium,
            Op::List | Op::Get | Op::Renew => Self::Light,
            _ if path.starts_with("/restapi/oauth/") => Self::Auth,
            _ if path.ends_with("call-log-sync") || path.ends_with("call-log") || path.ends_with("active-calls") => {
                Self::Heavy
            }
            _ if path.ends_with("/posts") || path == "/team-messaging/v1/chats" => Self::Medium,
            _ => Self::Light,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Light => "light",
            Self::Medium => "medium",
            Self::Heavy => "heavy",
            Self::Auth => "auth",
        }
    }
}

const WINDOW: Us = 60 * SEC;

/// Calls of the last minute, by group.
#[derive(Debug)]
pub(crate) struct Rates {
    calls: [VecDeque<Us>; 4],
    limits: [usize; 4],
    penalty: [Us; 4],
}

impl Rates {
    pub(crate) fn new(knobs: &Knobs) -> Self {
        let limits = [knobs.rate_light, knobs.rate_medium, knobs.rate_heavy, knobs.rate_auth];
        Self {
            calls: Default::default(),
            limits: limits.map(|n| usize::try_from(n).unwrap_or(usize::MAX)),
            penalty: [0; 4],
        }
    }

    /// Counts a call; the answer when it is one too many.
    pub(crate) fn take(&mut self, group: Group, now: Us, _headers: bool) -> Option<Answer> {
        let g = group as usize;
        let calls = &mut self.calls[g];
        while calls.front().is_some_and(|at| at + WINDOW <= now) {
            calls.pop_front();
        }
        if self.penalty[g] > now || calls.len() >= self.limits[g] {
            self.penalty[g] = now + WINDOW;
            return Some(Answer::error(429, "CMN-301", "Request rate exceeded", None).header("Retry-After", "60"));
        }
        calls.push_back(now);
        None
    }

    /// Whether a call of the group would be served now, with `room` to spare.
    pub(crate) fn has_room(&self, group: Group, now: Us, room: usize) -> bool {
        let g = group as usize;
        let recent = self.calls[g].iter().filter(|at| **at + WINDOW > now).count();
        self.penalty[g] <= now && recent + room <= self.limits[g]
    }

    pub(crate) fn label(&self, answer: Answer, group: Group, now: Us, headers: bool) -> Answer {
        if !headers {
            return answer;
        }
        let g = group as usize;
        let used = self.calls[g].iter().filter(|at| **at + WINDOW > now).count();
        answer
            .header("X-Rate-Limit-Group", group.name())
            .header("X-Rate-Limit-Limit", self.limits[g].to_string())
            .header("X-Rate-Limit-Remaining", self.limits[g].saturating_sub(used).to_string())
            .header("X-Rate-Limit-Window", "60")
    }
}

#[cfg(test)]
mod tests {
    use super::{Group, Rates};
    use crate::service::knobs::Knobs;
    use crate::time::SEC;

    #[test]
    fn a_group_has_a_sliding_window_and_a_penalty_that_a_call_restarts() {
        let mut rates = Rates::new(&Knobs::plain());
        let mut take = |at: u64| rates.take(Group::Auth, at * SEC, true).is_none();
        assert!([0, 10, 20, 30, 40].into_iter().all(&mut take));
        assert!(!take(59), "the sixth within a minute");
        assert!(!take(100), "the penalty runs until 119, and starts again");
        assert!(!take(159));
        assert!(take(220));
    }
}
