//! A service that needs little CPU time for an event: login, subscriptions, PubNub's long polls and the gateway's
//! sockets, at one address. `GET /go` makes all events before it sends the first.

use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ringcentral_events::Secret;
use ringcentral_sandbox::encrypt;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// The key of every subscription.
pub const KEY: &str = "pdj+XYIRRBryWS2k33qXiA==";
/// Events of one answer to a poll.
const FULL: usize = 100;
/// Bytes written to a socket at once.
const PIECE: usize = 256 << 10;
const HOLD: Duration = Duration::from_secs(30);
/// PubNub's unit of time.
const TICK: u64 = 100;

/// Events of one `go`.
#[derive(Debug, Default)]
struct Run {
    to: String,
    /// The position of the first, and the ticks between two.
    base: u64,
    spacing: u64,
    /// Frames of the gateway, with their header.
    frames: Vec<Vec<u8>>,
    /// Messages of PubNub.
    messages: Vec<String>,
}

/// The events of the last `go`, and how many of them may be sent.
type Released = (Arc<Run>, usize);

#[derive(Debug)]
struct Service {
    host: String,
    subscriptions: AtomicU64,
    events: AtomicU64,
    released: watch::Sender<Released>,
    newest: Mutex<String>,
}

fn nanos() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap()
}

fn date(nanos: u64) -> String {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(nanos / 1_000_000 * 1_000_000))
        .unwrap()
        .format(&Rfc3339)
        .unwrap()
}

/// An instant text message whose text has `text` bytes.
pub fn event(number: u64, subscription: &str, at: u64, text: usize) -> String {
    let (at, words) = (date(at), "Your appointment is at ten. ".repeat(text / 28 + 1));
    let extension = "/restapi/v1.0/account/100200300/extension/100200301/message-store";
    format!(
        r##"{{"uuid":"{number:08x}-2222-4333-8444-555555555555","event":"{extension}/instant?type=SMS","timestamp":"{at}","subscriptionId":"{subscription}","ownerId":"100200301","body":{{"id":"{}","to":[{{"phoneNumber":"+16508974563","location":"Moss Beach, CA"}}],"from":{{"phoneNumber":"+14157809227","name":"John Smith"}},"type":"SMS","creationTime":"{at}","lastModifiedTime":"{at}","readStatus":"Unread","priority":"Normal","attachments":[{{"uri":"{extension}/2640223004/content/2640223004","id":"606090030016","type":"Text","contentType":"text/plain","size":4096}}],"direction":"Inbound","availability":"Alive","subject":"{}","messageStatus":"Received","conversationId":"7876416245344257449"}}}}"##,
        700_000_000 + number,
        &words[..text]
    )
}

/// The event as the gateway frames it.
pub fn frame(number: u64, event: &str) -> String {
    format!(
        r#"[{{"type":"ServerNotification","messageId":"{number:08x}-2222-4333-8444-555555555555","status":200,"headers":{{"RCRequestId":"{number:08x}-aaaa-11ee-8888-005056bf0000"}}}},{event}]"#
    )
}

/// The event as PubNub's `d`.
pub fn sealed(event: &str) -> String {
    encrypt(&Secret::new(KEY), event.as_bytes()).unwrap()
}

fn websocket(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0x80 | opcode];
    match payload.len() {
        length @ 0..=125 => out.push(u8::try_from(length).unwrap()),
        length => {
            out.push(126);
            out.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
    }
    out.extend(payload);
    out
}

impl Service {
    fn subscription(&self, id: &str, filters: &Value, transport: &str) -> Value {
        let filters: Vec<String> =
            filters.as_array().into_iter().flatten().filter_map(Value::as_str).map(expand).collect();
        let mode = match transport {
            "PubNub" => json!({
                "transportType": "PubNub", "encryption": true, "address": id, "subscriberKey": "sub-c-bench",
                "encryptionAlgorithm": "AES", "encryptionKey": KEY,
            }),
            _ => json!({ "transportType": "WebSocket", "encryption": false }),
        };
        json!({
            "uri": format!("http://{}/restapi/v1.0/subscription/{id}", self.host), "id": id, "status": "Active",
            "creationTime": date(nanos()), "expirationTime": date(nanos() + 600_000_000_000_000), "expiresIn": 600_000,
            "eventFilters": filters, "deliveryMode": mode,
        })
    }

    fn create(&self, body: &[u8]) -> Value {
        let number = self.subscriptions.fetch_add(1, Ordering::Relaxed);
        let id = format!("{number:08x}-2222-4333-8444-666666666666");
        self.newest.lock().unwrap().clone_from(&id);
        let asked: Value = serde_json::from_slice(body).unwrap_or_default();
        self.subscription(
            &id,
            &asked["eventFilters"],
            asked["deliveryMode"]["transportType"].as_str().unwrap_or_default(),
        )
    }

    /// Makes the events, then sends them as time passes; answers with their schedule.
    async fn go(self: &Arc<Self>, query: &str) -> Value {
        let parameter = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        let number = |name: &str| parameter(name).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        let (count, rate) = (usize::try_from(number("events")).unwrap(), number("rate"));
        let text = usize::try_from(number("text")).unwrap();
        let to = match parameter("to") {
            Some(to) => to.to_owned(),
            None if number("again") == 1 => self.released.borrow().0.to.clone(),
            None => self.newest.lock().unwrap().clone(),
        };
        // Time to make them: they are dated when they are sent.
        let start = nanos() + 200_000_000;
        let spacing = 1_000_000_000_u64.checked_div(rate).unwrap_or(TICK);
        let first = self.events.fetch_add(count as u64, Ordering::Relaxed);
        let mut run = Run { to, base: start / TICK, spacing: spacing / TICK, ..Run::default() };
        for at in 0..count as u64 {
            let number = first + at;
            let event = event(number, &run.to, start + at * spacing, text);
            let position = run.base + at * run.spacing;
            run.frames.push(websocket(1, frame(number, &event).as_bytes()));
            run.messages.push(format!(
                r#"{{"a":"4","f":0,"p":{{"t":"{position}","r":1}},"k":"sub-c-bench","c":"{to}","d":"{}","b":"{to}"}}"#,
                sealed(&event),
                to = run.to,
            ));
        }
        let run = Arc::new(run);
        let service = self.clone();
        std::thread::spawn(move || service.release(&run, start, spacing, rate));
        json!({ "start": start, "spacing": spacing })
    }

    fn release(&self, run: &Arc<Run>, start: u64, spacing: u64, rate: u64) {
        let count = run.frames.len();
        let mut released = 0;
        while released < count {
            released = if rate == 0 { count } else { released + 1 };
            let due = start + (released as u64 - 1) * spacing * u64::from(rate > 0);
            std::thread::sleep(Duration::from_nanos(due.saturating_sub(nanos())));
            self.released.send_replace((run.clone(), released));
        }
    }

    async fn connection(self: Arc<Self>, mut socket: TcpStream) -> std::io::Result<()> {
        socket.set_nodelay(true)?;
        let mut bytes = Vec::with_capacity(4096);
        loop {
            let end = loop {
                if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                    break at + 4;
                }
                if socket.read_buf(&mut bytes).await? == 0 {
                    return Ok(());
                }
            };
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let header = |name: &str| {
                let mut lines = head.lines().filter_map(|line| line.split_once(':'));
                lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned())
            };
            let length: usize = header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
            while bytes.len() < end + length {
                if socket.read_buf(&mut bytes).await? == 0 {
                    return Ok(());
                }
            }
            let body: Vec<u8> = bytes.drain(..end + length).skip(end).collect();
            let mut words = head.split(' ');
            let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            if let Some(key) = header("sec-websocket-key") {
                let accept = derive_accept_key(key.as_bytes());
                let answer = format!(
                    "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: {accept}\r\n\r\n"
                );
                socket.write_all(answer.as_bytes()).await?;
                return self.gateway(socket).await;
            }
            let (path, query) = target.split_once('?').unwrap_or((target, ""));
            let answer = self.answer(method, path, query, &body).await;
            let close = head.contains("connection: close");
            // A client that knows the limits does not space its calls out of caution.
            let group = if path.contains("/oauth/") { "auth" } else { "light" };
            let text = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nx-rate-limit-group: {group}\r\nx-rate-limit-limit: 1000000\r\nx-rate-limit-remaining: 999999\r\nx-rate-limit-window: 60\r\n\r\n",
                answer.len()
            );
            socket.write_all(&[text.as_bytes(), answer.as_bytes()].concat()).await?;
            if close {
                return Ok(());
            }
        }
    }

    async fn answer(self: &Arc<Self>, method: &str, path: &str, query: &str, body: &[u8]) -> String {
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        match (method, parts.as_slice()) {
            (_, ["go"]) => self.go(query).await.to_string(),
            (_, ["v2", "subscribe", _, channel, _]) => self.poll(channel, query).await,
            (_, ["time", _]) => format!("[{}]", nanos() / TICK),
            (_, ["v2", "presence", ..]) => r#"{"status":200,"message":"OK","service":"Presence"}"#.to_owned(),
            ("POST", ["restapi", "oauth", "token"]) => json!({
                "access_token": "bench-token", "token_type": "bearer", "expires_in": 3600, "scope": "",
                "owner_id": "100200301", "endpoint_id": "bench", "refresh_token": "bench-refresh",
                "refresh_token_expires_in": 604_800,
            })
            .to_string(),
            ("POST", ["restapi", "oauth", "wstoken"]) => {
                json!({ "uri": format!("ws://{}/ws", self.host), "ws_access_token": "bench", "expires_in": 300 })
                    .to_string()
            }
            ("POST", ["restapi", "v1.0", "subscription"]) => self.create(body).to_string(),
            ("GET", ["restapi", "v1.0", "subscription"]) => json!({ "records": [] }).to_string(),
            (_, ["restapi", "v1.0", "subscription", id, ..]) if method != "DELETE" => {
                let filters = json!([crate::measure::FILTER]);
                self.subscription(id, &filters, "PubNub").to_string()
            }
            _ => "{}".to_owned(),
        }
    }

    /// Answers a poll with up to a hundred events after its position, or waits for one.
    async fn poll(&self, channel: &str, query: &str) -> String {
        let from = query.split('&').find_map(|pair| pair.strip_prefix("tt=")).and_then(|text| text.parse::<u64>().ok());
        let from = from.unwrap_or(0);
        let mut released = self.released.subscribe();
        let found = |(run, count): &Released| {
            let next = if from < run.base { 0 } else { (from - run.base) / run.spacing.max(1) + 1 };
            let next = usize::try_from(next).unwrap();
            (run.to == channel && next < *count).then(|| (next, (*count).min(next + FULL)))
        };
        if from > 0 {
            let ready = tokio::time::timeout(HOLD, released.wait_for(|it| found(it).is_some())).await;
            if let Ok(Ok(it)) = ready {
                let (run, (next, end)) = (it.0.clone(), found(&it).unwrap());
                drop(it);
                let position = run.base + (end as u64 - 1) * run.spacing;
                return format!(r#"{{"t":{{"t":"{position}","r":1}},"m":[{}]}}"#, run.messages[next..end].join(","));
            }
        }
        format!(r#"{{"t":{{"t":"{}","r":1}},"m":[]}}"#, nanos() / TICK)
    }

    async fn gateway(self: Arc<Self>, mut socket: TcpStream) -> std::io::Result<()> {
        let details = json!([
            {
                "type": "ConnectionDetails", "messageId": "details", "status": 200,
                "wsc": { "token": "bench-wsc", "sequence": 1 }, "headers": { "RCRequestId": "details" },
            },
            {
                "creationTime": date(nanos()), "maxConnectionsPerSession": 100_000, "recoveryBufferSize": 100,
                "recoveryTimeout": 180, "idleTimeout": 600, "absoluteTimeout": 86_400, "maxActiveRequests": 10,
            },
        ]);
        socket.write_all(&websocket(1, details.to_string().as_bytes())).await?;
        let (mut bytes, mut own, mut sent) = (Vec::with_capacity(2048), String::new(), (0_u64, 0_usize));
        let mut released = self.released.subscribe();
        released.mark_changed();
        loop {
            tokio::select! {
                read = socket.read_buf(&mut bytes) => if read? == 0 { return Ok(()) },
                _ = released.changed() => {
                    let (run, count) = released.borrow_and_update().clone();
                    if run.to != own || own.is_empty() {
                        continue;
                    }
                    if sent.0 != run.base {
                        sent = (run.base, 0);
                    }
                    let mut piece = Vec::with_capacity(PIECE + 65_536);
                    for frame in &run.frames[sent.1..count] {
                        piece.extend_from_slice(frame);
                        if piece.len() >= PIECE {
                            socket.write_all(&piece).await?;
                            piece.clear();
                        }
                    }
                    socket.write_all(&piece).await?;
                    sent.1 = count;
                }
            }
            while let Some((opcode, payload)) = unmask(&mut bytes) {
                match opcode {
                    8 => {
                        socket.write_all(&websocket(8, &payload)).await?;
                        return Ok(());
                    }
                    9 => socket.write_all(&websocket(10, &payload)).await?,
                    1 => {
                        let answer = self.request(&payload, &mut own);
                        socket.write_all(&websocket(1, answer.as_bytes())).await?;
                    }
                    _ => {}
                }
            }
        }
    }

    fn request(&self, payload: &[u8], own: &mut String) -> String {
        let request: Value = serde_json::from_slice(payload).unwrap_or_default();
        let (meta, body) = (&request[0], &request[1]);
        let id = &meta["messageId"];
        if meta["type"] == "Heartbeat" {
            return json!([{ "type": "Heartbeat", "messageId": id }]).to_string();
        }
        let info = if meta["method"] == "POST" && own.is_empty() {
            self.create(body.to_string().as_bytes())
        } else {
            self.subscription(own, &json!([crate::measure::FILTER]), "WebSocket")
        };
        *own = info["id"].as_str().unwrap_or_default().to_owned();
        let headers = json!({ "RCRequestId": "reply", "WSG-SubscriptionId": own, "Content-Type": "application/json" });
        json!([{ "type": "ClientRequest", "messageId": id, "status": 200, "headers": headers }, info]).to_string()
    }
}

fn expand(filter: &str) -> String {
    filter.replace("account/~", "account/100200300").replace("extension/~", "extension/100200301")
}

/// The first whole frame of a client.
fn unmask(bytes: &mut Vec<u8>) -> Option<(u8, Vec<u8>)> {
    let (opcode, short) = (bytes.first()? & 0x0f, usize::from(bytes.get(1)? & 0x7f));
    let (length, at) = match short {
        126 => (usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?])), 4),
        short => (short, 2),
    };
    let mask: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
    let payload = bytes.get(at + 4..at + 4 + length)?;
    let payload = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
    bytes.drain(..at + 4 + length);
    Some((opcode, payload))
}

/// Serves until its input ends.
pub fn serve() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let port = crate::measure::argument("--port").and_then(|text| text.parse::<u16>().ok()).unwrap_or(0);
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        println!("http://{host}");
        let service = Arc::new(Service {
            host,
            subscriptions: AtomicU64::new(1),
            events: AtomicU64::new(1),
            released: watch::Sender::new(Released::default()),
            newest: Mutex::default(),
        });
        let accept = async {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                // A client that ends in the middle of an answer is no fault.
                let connection = service.clone().connection(socket);
                tokio::spawn(async { drop(connection.await) });
            }
        };
        let input = tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
        tokio::select! { () = accept => {}, _ = input => {} }
    });
}

/// A generator in a separate process. Dropping it ends the process.
#[derive(Debug)]
pub struct Generator {
    process: Child,
    pub url: String,
}

impl Generator {
    pub fn start() -> Self {
        use std::io::BufRead as _;
        let mut command = Command::new(std::env::current_exe().unwrap());
        let mut process = command.arg("--generate").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut url = String::new();
        std::io::BufReader::new(process.stdout.take().unwrap()).read_line(&mut url).unwrap();
        Self { process, url: url.trim().to_owned() }
    }
}

impl Drop for Generator {
    fn drop(&mut self) {
        // The end of its input ends it.
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}
