//! The log of requests.

use std::collections::VecDeque;
use std::fmt;
use std::time::SystemTime;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use serde::{Deserialize, Serialize};

use super::http::Call;
use ringcentral_events::Secret;

/// A server of the sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Service {
    /// OAuth and REST.
    Api,
    /// PubNub.
    PubNub,
    /// The WebSocket gateway.
    Gateway,
    /// The Contact Center with its logins.
    #[serde(rename = "contact_center")]
    ContactCenter,
}

/// The operation of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Operation {
    /// `GET /restapi/oauth/authorize`.
    Authorize,
    /// `POST /restapi/oauth/token`.
    Token,
    /// `POST /restapi/oauth/revoke`.
    Revoke,
    /// `POST /restapi/oauth/wstoken`.
    WsToken,
    /// `POST …/subscription`.
    Create,
    /// `GET …/subscription`.
    List,
    /// `GET …/subscription/{id}`.
    Get,
    /// `PUT …/subscription/{id}`.
    Update,
    /// `POST …/subscription/{id}/renew`.
    Renew,
    /// `DELETE …/subscription/{id}`.
    Delete,
    /// `GET …/message-sync`.
    MessageSync,
    /// `GET`, `PUT` or `DELETE` below `…/message-store`.
    MessageStore,
    /// `GET …/call-log-sync`, of an extension or of the account.
    CallLogSync,
    /// `GET …/call-log`, of an extension or of the account.
    CallLog,
    /// `GET …/active-calls`, of an extension or of the account.
    ActiveCalls,
    /// `GET …/telephony/sessions/{id}`.
    TelephonySession,
    /// `GET …/recording/{id}`.
    Recording,
    /// `GET …/presence`, of an extension or of the account.
    Presence,
    /// `GET …/extension`.
    ExtensionList,
    /// `GET …/a2p-sms/messages`.
    A2pMessages,
    /// `GET …/recent/chats`.
    RecentChats,
    /// `GET …/chats`.
    Chats,
    /// `GET …/chats/{id}/posts`, or of a thread: `…/chats/{id}/threads/{id}/posts`.
    Posts,
    /// `GET …/domains/{domain}/sessions/{id}/insights`.
    Insights,
    /// `POST /realtime/sdk/{source_id}`: the Send API of Engage Digital; needs the feature
    /// `digital`.
    SendApi,
    /// Any other request to the API.
    OtherApi,
    /// A subscribe request with timetoken 0 or none.
    Handshake,
    /// A subscribe request with a cursor.
    Poll,
    /// PubNub's leave.
    Leave,
    /// PubNub's heartbeat.
    Heartbeat,
    /// PubNub's time.
    Time,
    /// Any other request to PubNub.
    OtherPubNub,
    /// The request for a socket at the gateway.
    Upgrade,
    /// The `ConnectionDetails` of a new socket: a target for faults, never in the log.
    ConnectionDetails,
    /// A notification on a socket: a target for faults, never in the log.
    Notification,
    /// A heartbeat on a socket.
    SocketHeartbeat,
    /// A frame that the gateway did not recognize; its text is the body.
    OtherFrame,
    /// `POST agent-sessions` of the Contact Center. This and the following need the feature
    /// `agent`.
    AgentStart,
    /// `POST agent-sessions/join`.
    AgentJoin,
    /// `GET agent-sessions/{id}/get-next-event`.
    AgentPoll,
    /// `DELETE agent-sessions/{id}`.
    AgentEnd,
    /// Any other call below `agent-sessions/{id}`: `state`, `keep-alive`, `agent-phone`,
    /// `interactions`.
    AgentCommand,
    /// A login or a refresh, by any of the three methods.
    AgentToken,
    /// Service discovery: `.well-known`, `whoami`.
    AgentDiscovery,
    /// Any other request to the Contact Center.
    OtherContactCenter,
}

impl Operation {
    /// Whether it is one of the verbs on subscriptions.
    #[must_use]
    pub fn is_subscription(self) -> bool {
        matches!(self, Self::Create | Self::List | Self::Get | Self::Update | Self::Renew | Self::Delete)
    }

    /// Whether it is a frame that the gateway sends unasked, which only an explicit target matches.
    pub(crate) fn is_unasked(self) -> bool {
        matches!(self, Self::ConnectionDetails | Self::Notification)
    }

    /// The operation of a call to the API.
    pub(crate) fn of_api(call: &Call) -> Self {
        let parts: Vec<&str> = call.path.split('/').skip(1).collect();
        match (call.method.as_str(), parts.as_slice()) {
            ("GET", ["restapi", "oauth", "authorize"]) => Self::Authorize,
            ("POST", ["restapi", "oauth", "token"]) => Self::Token,
            ("POST", ["restapi", "oauth", "revoke"]) => Self::Revoke,
            ("POST", ["restapi", "oauth", "wstoken"]) => Self::WsToken,
            ("POST", ["restapi", "v1.0", "subscription"]) => Self::Create,
            ("GET", ["restapi", "v1.0", "subscription"]) => Self::List,
            ("GET", ["restapi", "v1.0", "subscription", _]) => Self::Get,
            ("PUT", ["restapi", "v1.0", "subscription", _]) => Self::Update,
            ("POST", ["restapi", "v1.0", "subscription", _, "renew"]) => Self::Renew,
            ("DELETE", ["restapi", "v1.0", "subscription", _]) => Self::Delete,
            (_, ["restapi", "v1.0", "account", _, rest @ ..]) => Self::of_account(&call.method, rest),
            ("POST", ["realtime", "sdk", _]) => Self::SendApi,
            ("GET", [.., "recent", "chats"]) => Self::RecentChats,
            ("GET", ["team-messaging", "v1", "chats"] | ["restapi", "v1.0", "glip", "chats" | "groups"]) => Self::Chats,
            ("GET", [.., "chats" | "groups", _, "posts"] | [.., "chats", _, "threads", _, "posts"]) => Self::Posts,
            ("GET", ["ai", "ringsense", .., "sessions", _, "insights"]) => Self::Insights,
            _ => Self::OtherApi,
        }
    }

    fn of_account(method: &Method, rest: &[&str]) -> Self {
        let of_either = match rest {
            ["extension", _, rest @ ..] => rest,
            rest => rest,
        };
        match (method.as_str(), rest, of_either) {
            (_, ["extension", ..], ["message-store", ..]) => Self::MessageStore,
            ("GET", ["extension", ..], ["message-sync"]) => Self::MessageSync,
            ("GET", _, ["call-log-sync"]) => Self::CallLogSync,
            ("GET", _, ["call-log"]) => Self::CallLog,
            ("GET", _, ["active-calls"]) => Self::ActiveCalls,
            ("GET", ["telephony", "sessions", _], _) => Self::TelephonySession,
            ("GET", ["recording", _], _) => Self::Recording,
            ("GET", _, ["presence"]) => Self::Presence,
            ("GET", ["extension"], _) => Self::ExtensionList,
            ("GET", ["a2p-sms", "messages"], _) => Self::A2pMessages,
            _ => Self::OtherApi,
        }
    }

    /// The operation of a call to PubNub.
    pub(crate) fn of_pubnub(call: &Call) -> Self {
        let parts: Vec<&str> = call.path.split('/').skip(1).collect();
        let subscribe = |timetoken: Option<&str>| match timetoken {
            None | Some("" | "0") => Self::Handshake,
            Some(_) => Self::Poll,
        };
        match parts.as_slice() {
            ["v2", "subscribe", _, _, _] => subscribe(call.query("tt").as_deref()),
            ["subscribe", _, _, _, timetoken] => subscribe(Some(timetoken)),
            ["v2", "presence", .., "leave"] => Self::Leave,
            ["v2", "presence", .., "heartbeat"] => Self::Heartbeat,
            ["time", _] => Self::Time,
            _ => Self::OtherPubNub,
        }
    }
}

/// A recorded request.
///
/// `Debug` shows only method and path, and omits the session's id from the Contact Center's paths.
#[derive(Clone)]
#[non_exhaustive]
pub struct Recorded {
    /// The server that received it.
    pub service: Service,
    /// Its operation.
    pub operation: Operation,
    /// Its number, from 0, over all servers.
    pub sequence: u64,
    /// Its method.
    pub method: Method,
    /// Path and query as sent.
    pub path_and_query: String,
    /// Its headers; `Authorization` is replaced by `(redacted)`.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
    /// When it was read.
    pub at: SystemTime,
    /// The response status; `None` while it is open or if it was never answered.
    pub status: Option<u16>,
    authorization: Option<Secret>,
}

impl Recorded {
    /// The path without the query.
    #[must_use]
    pub fn path(&self) -> &str {
        self.path_and_query.split('?').next().unwrap_or_default()
    }

    /// Path and query, without the session's id of Contact Center paths.
    pub(crate) fn shown_path_and_query(&self) -> String {
        let query = self.path_and_query.find('?').map_or("", |at| &self.path_and_query[at..]);
        format!("{}{query}", self.shown_path())
    }

    fn shown_path(&self) -> std::borrow::Cow<'_, str> {
        if self.service == Service::ContactCenter {
            return without_id(self.path()).into();
        }
        self.path().into()
    }

    /// The first query parameter of this name, decoded.
    #[must_use]
    pub fn query(&self, name: &str) -> Option<String> {
        let (_, query) = self.path_and_query.split_once('?')?;
        url::form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }

    /// The first form field of this name, for bodies in
    /// `application/x-www-form-urlencoded`.
    #[must_use]
    pub fn form(&self, name: &str) -> Option<String> {
        url::form_urlencoded::parse(&self.body).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// If the body is not JSON.
    pub fn json(&self) -> serde_json::Result<serde_json::Value> {
        serde_json::from_slice(&self.body)
    }

    /// The `Authorization` header, unredacted.
    #[must_use]
    pub fn authorization(&self) -> Option<&Secret> {
        self.authorization.as_ref()
    }
}

impl fmt::Debug for Recorded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{} {:?} {} {}", self.sequence, self.operation, self.method, self.shown_path())?;
        match self.status {
            Some(status) => write!(f, " -> {status}"),
            None => Ok(()),
        }
    }
}

/// A path without the session id, which is a credential.
fn without_id(path: &str) -> String {
    let mut parts: Vec<&str> = path.split('/').collect();
    let sessions = parts.iter().position(|part| part.eq_ignore_ascii_case("agent-sessions"));
    if let Some(id) = sessions.and_then(|at| parts.get_mut(at + 1))
        && !id.eq_ignore_ascii_case("join")
        && !id.is_empty()
    {
        *id = "(id)";
    }
    parts.join("/")
}

/// The newest requests, and the count of all.
#[derive(Debug)]
pub(crate) struct RequestLog {
    records: VecDeque<Recorded>,
    capacity: usize,
    next: u64,
}

impl RequestLog {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { records: VecDeque::new(), capacity: capacity.max(1), next: 0 }
    }

    pub(crate) fn total(&self) -> u64 {
        self.next
    }

    pub(crate) fn records(&self) -> impl DoubleEndedIterator<Item = &Recorded> {
        self.records.iter()
    }

    pub(crate) fn record(&mut self, service: Service, operation: Operation, call: &Call, at: SystemTime) -> u64 {
        let sequence = self.next;
        self.next += 1;
        if self.records.len() >= self.capacity {
            self.records.pop_front();
        }
        let mut headers = call.headers.clone();
        let authorization = headers
            .get(header::AUTHORIZATION)
            .map(|value| Secret::new(String::from_utf8_lossy(value.as_bytes()).into_owned()));
        if authorization.is_some() {
            headers.insert(header::AUTHORIZATION, HeaderValue::from_static("(redacted)"));
        }
        let path_and_query =
            if call.query.is_empty() { call.path.clone() } else { format!("{}?{}", call.path, call.query) };
        self.records.push_back(Recorded {
            service,
            operation,
            sequence,
            method: call.method.clone(),
            path_and_query,
            headers,
            body: call.body.clone(),
            at,
            status: None,
            authorization,
        });
        sequence
    }

    /// Records a response's status.
    pub(crate) fn answered(&mut self, sequence: u64, status: u16) {
        let oldest = self.next - u64::try_from(self.records.len()).unwrap_or(u64::MAX);
        let at = sequence.checked_sub(oldest).and_then(|at| usize::try_from(at).ok());
        if let Some(record) = at.and_then(|at| self.records.get_mut(at)) {
            record.status = Some(status);
        }
    }

    pub(crate) fn clear(&mut self) {
        self.records.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(method: &str, target: &str) -> Call {
        let mut call = Call::bare(method.parse().unwrap(), target, "a=1");
        call.headers.insert(header::AUTHORIZATION, HeaderValue::from_static("Bearer hush"));
        call
    }

    #[test]
    fn every_request_has_its_operation() {
        use Operation as O;
        use Service::{Api, PubNub};
        for (service, method, target, want) in [
            (Api, "GET", "/restapi/oauth/authorize?x=1", O::Authorize),
            (Api, "POST", "/restapi/oauth/token", O::Token),
            (Api, "POST", "/restapi/oauth/revoke", O::Revoke),
            (Api, "POST", "/restapi/oauth/wstoken", O::WsToken),
            (Api, "POST", "/restapi/v1.0/subscription", O::Create),
            (Api, "GET", "/restapi/v1.0/subscription", O::List),
            (Api, "GET", "/restapi/v1.0/subscription/1", O::Get),
            (Api, "PUT", "/restapi/v1.0/subscription/1", O::Update),
            (Api, "POST", "/restapi/v1.0/subscription/1/renew", O::Renew),
            (Api, "DELETE", "/restapi/v1.0/subscription/1", O::Delete),
            (Api, "GET", "/restapi/v1.0/account/~/extension/~/message-sync?syncType=FSync", O::MessageSync),
            (Api, "GET", "/restapi/v1.0/account/~/extension/7/message-store", O::MessageStore),
            (Api, "DELETE", "/restapi/v1.0/account/~/extension/7/message-store/5", O::MessageStore),
            (Api, "GET", "/restapi/v1.0/account/~/call-log-sync", O::CallLogSync),
            (Api, "GET", "/restapi/v1.0/account/~/extension/7/call-log-sync", O::CallLogSync),
            (Api, "GET", "/restapi/v1.0/account/~/extension/7/call-log", O::CallLog),
            (Api, "GET", "/restapi/v1.0/account/~/active-calls", O::ActiveCalls),
            (Api, "GET", "/restapi/v1.0/account/~/telephony/sessions/s-1", O::TelephonySession),
            (Api, "GET", "/restapi/v1.0/account/~/recording/7", O::Recording),
            (Api, "GET", "/restapi/v1.0/account/~/extension/7/presence", O::Presence),
            (Api, "GET", "/restapi/v1.0/account/~/presence", O::Presence),
            (Api, "GET", "/restapi/v1.0/account/~/extension", O::ExtensionList),
            (Api, "GET", "/restapi/v1.0/account/~/extension/7", O::OtherApi),
            (Api, "GET", "/restapi/v1.0/account/~/a2p-sms/messages", O::A2pMessages),
            (Api, "GET", "/team-messaging/v1/recent/chats", O::RecentChats),
            (Api, "GET", "/team-messaging/v1/chats", O::Chats),
            (Api, "GET", "/team-messaging/v1/chats/5", O::OtherApi),
            (Api, "GET", "/team-messaging/v1/chats/5/posts", O::Posts),
            (Api, "GET", "/ai/ringsense/v1/public/accounts/~/domains/pbx/sessions/s/insights", O::Insights),
            (Api, "POST", "/team-messaging/v1/chats/5/posts", O::OtherApi),
            (Api, "POST", "/restapi/v1.0/account/~/extension/~/sms", O::OtherApi),
            (PubNub, "GET", "/v2/subscribe/k/c/0", O::Handshake),
            (PubNub, "GET", "/v2/subscribe/k/c/0?tt=0", O::Handshake),
            (PubNub, "GET", "/v2/subscribe/k/c/0?tt=17", O::Poll),
            (PubNub, "GET", "/subscribe/k/c/0/0", O::Handshake),
            (PubNub, "GET", "/subscribe/k/c/0/17", O::Poll),
            (PubNub, "GET", "/v2/presence/sub-key/k/channel/c/leave", O::Leave),
            (PubNub, "GET", "/v2/presence/sub_key/k/channel/c/heartbeat", O::Heartbeat),
            (PubNub, "GET", "/time/0", O::Time),
            (PubNub, "GET", "/nothing", O::OtherPubNub),
        ] {
            let call = call(method, target);
            let found = if service == Api { O::of_api(&call) } else { O::of_pubnub(&call) };
            assert_eq!(found, want, "{method} {target}");
        }
    }

    #[test]
    fn the_log_holds_the_newest_and_hides_the_authorization() {
        let mut log = RequestLog::new(2);
        for path in ["/a?tt=1", "/b", "/c"] {
            log.record(Service::Api, Operation::OtherApi, &call("GET", path), SystemTime::UNIX_EPOCH);
        }
        log.answered(0, 500);
        log.answered(2, 204);
        let records: Vec<&Recorded> = log.records().collect();
        assert_eq!((records.len(), log.total()), (2, 3));
        assert_eq!(records[1].status, Some(204));
        assert_eq!(records[0].status, None);
        assert_eq!(records[0].headers[header::AUTHORIZATION], "(redacted)");
        assert_eq!(records[0].authorization().unwrap().expose(), "Bearer hush");
        assert_eq!(records[0].form("a").as_deref(), Some("1"));
        assert!(!format!("{records:?}").contains("hush"));
    }

    #[test]
    fn a_path_is_shown_without_its_id() {
        for (path, want) in [
            (
                "/inContactAPI/services/v1/agent-sessions/a%2Fb=/get-next-event",
                "/inContactAPI/services/v1/agent-sessions/(id)/get-next-event",
            ),
            ("/x/Agent-Sessions/abc", "/x/Agent-Sessions/(id)"),
            ("/x/agent-sessions/join", "/x/agent-sessions/join"),
            ("/x/agent-sessions", "/x/agent-sessions"),
            ("/auth/token", "/auth/token"),
        ] {
            assert_eq!(without_id(path), want);
        }
    }
}
