//! A bare client of the gateway: only frames.

use futures_util::{SinkExt as _, StreamExt as _};
use reqwest::Method;
use ringcentral_events::SubscriptionId;
use ringcentral_sandbox::Sandbox;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use super::bare::*;

pub(crate) const WSTOKEN: &str = "/restapi/oauth/wstoken";
pub(crate) const POSTS: &str = "/team-messaging/v1/posts";

pub(crate) struct Socket {
    pub(crate) stream: WebSocketStream<TcpStream>,
    next: u32,
}

/// A socket token.
pub(crate) async fn ws_token(client: &Client) -> String {
    let (status, answer) = client.call(Method::POST, WSTOKEN, None).await;
    assert_eq!(status, 200, "{answer}");
    answer["ws_access_token"].as_str().unwrap().to_owned()
}

pub(crate) async fn tcp(sandbox: &Sandbox) -> TcpStream {
    let address = sandbox.gateway_url().strip_prefix("ws://").unwrap().strip_suffix("/ws").unwrap();
    TcpStream::connect(address).await.unwrap()
}

/// Upgrades with this query; returns the status of a refusal.
pub(crate) async fn upgrade(sandbox: &Sandbox, query: &str) -> Result<Socket, u16> {
    let url = format!("{}?{query}", sandbox.gateway_url());
    match timeout(SOON, client_async(url, tcp(sandbox).await)).await.unwrap() {
        Ok((stream, answer)) => {
            assert_eq!(answer.status().as_u16(), 101);
            Ok(Socket { stream, next: 0 })
        }
        Err(Error::Http(answer)) => Err(answer.status().as_u16()),
        Err(error) => panic!("{error}"),
    }
}

/// An opened socket and its `ConnectionDetails`.
pub(crate) async fn connect(sandbox: &Sandbox, client: &Client) -> (Socket, Value) {
    let mut socket = upgrade(sandbox, &format!("access_token={}", ws_token(client).await)).await.unwrap();
    let details = socket.frame().await;
    assert_eq!(details[0]["type"], "ConnectionDetails", "{details}");
    (socket, details)
}

/// Like [`connect`], with a resume token.
pub(crate) async fn resume(sandbox: &Sandbox, client: &Client, wsc: &str) -> (Socket, Value) {
    let query = format!("access_token={}&wsc={wsc}", ws_token(client).await);
    let mut socket = upgrade(sandbox, &query).await.unwrap();
    let details = socket.frame().await;
    assert_eq!(details[0]["type"], "ConnectionDetails", "{details}");
    (socket, details)
}

pub(crate) fn wsc(frame: &Value) -> &str {
    frame[0]["wsc"]["token"].as_str().unwrap()
}

impl Socket {
    pub(crate) async fn send_text(&mut self, text: impl Into<String>) {
        timeout(SOON, self.stream.send(Message::text(text.into()))).await.unwrap().unwrap();
    }

    pub(crate) async fn send(&mut self, frame: &Value) {
        self.send_text(frame.to_string()).await;
    }

    /// The next message that is neither ping nor pong.
    pub(crate) async fn message(&mut self) -> Option<Result<Message, Error>> {
        loop {
            match timeout(SOON, self.stream.next()).await.expect("a message") {
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => return other,
            }
        }
    }

    /// The text of the next frame.
    pub(crate) async fn text(&mut self) -> String {
        match self.message().await {
            Some(Ok(Message::Text(text))) => text.to_string(),
            other => panic!("{other:?}"),
        }
    }

    /// The next frame.
    pub(crate) async fn frame(&mut self) -> Value {
        let text = self.text().await;
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// The close code; `None` when the connection ends without one.
    pub(crate) async fn closed(&mut self) -> Option<u16> {
        match self.message().await {
            Some(Ok(Message::Close(Some(frame)))) => Some(frame.code.into()),
            Some(Ok(Message::Close(None)) | Err(_)) | None => None,
            other => panic!("{other:?}"),
        }
    }

    /// Sends a request; its id.
    pub(crate) async fn ask(&mut self, method: &str, path: &str, body: Option<Value>) -> String {
        self.next += 1;
        let id = format!("q/{}", self.next);
        let meta = json!({ "type": "ClientRequest", "messageId": id, "method": method, "path": path });
        self.send(&body.map_or_else(|| json!([meta]), |body| json!([meta, body]))).await;
        id
    }

    /// Sends a request and reads its answer, which is the next frame.
    pub(crate) async fn call(&mut self, method: &str, path: &str, body: Option<Value>) -> Value {
        let id = self.ask(method, path, body).await;
        let frame = self.frame().await;
        assert_eq!(frame[0]["messageId"], id.as_str(), "{frame}");
        frame
    }

    pub(crate) async fn create(&mut self, filters: &[&str]) -> Value {
        self.call("POST", SUBSCRIPTION, Some(websocket(filters))).await
    }

    /// Subscribes, which must succeed.
    pub(crate) async fn subscribed(&mut self, filters: &[&str]) -> SubscriptionId {
        let frame = self.create(filters).await;
        assert_eq!(frame[0]["status"], 200, "{frame}");
        SubscriptionId::new(frame[1]["id"].as_str().unwrap())
    }

    /// Sends a heartbeat; the next frame must be its echo.
    pub(crate) async fn beat(&mut self) {
        let beat = json!([{ "type": "Heartbeat", "messageId": "beat/1" }]);
        self.send(&beat).await;
        assert_eq!(self.frame().await, beat);
    }

    /// The texts of the next `count` posts.
    pub(crate) async fn posts(&mut self, count: usize) -> Vec<String> {
        let mut texts = Vec::new();
        while texts.len() < count {
            let frame = self.frame().await;
            assert_eq!(frame[0]["type"], "ServerNotification", "{frame}");
            texts.push(frame[1]["body"]["text"].as_str().unwrap().to_owned());
        }
        texts
    }
}

pub(crate) fn websocket(filters: &[&str]) -> Value {
    json!({ "eventFilters": filters, "deliveryMode": { "transportType": "WebSocket" } })
}
