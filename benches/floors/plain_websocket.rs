//! A socket loop on `tokio-tungstenite`: every frame is parsed into plain structs, and a field is read.

use futures_util::{SinkExt as _, StreamExt as _};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;

use super::{Notification, text};
use crate::measure::Meter;

/// The first element of a frame.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Meta {
    #[serde(rename = "type")]
    pub kind: String,
    pub message_id: String,
    pub status: u16,
    pub headers: Headers,
}

#[derive(Debug, Deserialize)]
pub struct Headers {
    #[serde(rename = "RCRequestId")]
    pub request_id: String,
}

/// A notification as the gateway frames it.
#[derive(Debug, Deserialize)]
pub struct Frame(pub Meta, pub Notification);

pub async fn run(url: &str, meter: &mut Meter) {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let token: Value = serde_json::from_slice(
        &http.post(format!("{url}/restapi/oauth/wstoken")).send().await.unwrap().bytes().await.unwrap(),
    )
    .unwrap();
    let uri = format!("{}?access_token={}", text(&token["uri"]), text(&token["ws_access_token"]));
    let socket = TcpStream::connect(url.trim_start_matches("http://")).await.unwrap();
    socket.set_nodelay(true).unwrap();
    let (mut socket, _) = client_async(uri, socket).await.unwrap();
    let request = json!([
        { "type": "ClientRequest", "messageId": "1", "method": "POST", "path": "/restapi/v1.0/subscription" },
        { "eventFilters": [crate::measure::FILTER], "deliveryMode": { "transportType": "WebSocket" } },
    ]);
    socket.send(Message::text(request.to_string())).await.unwrap();
    while let Some(message) = socket.next().await {
        let Message::Text(frame) = message.unwrap() else { continue };
        if let Ok(Frame(_, notification)) = serde_json::from_str(&frame) {
            if meter.event(&notification.body.subject) {
                return;
            }
        } else if frame.contains("ClientRequest") {
            meter.ready(None);
        }
    }
    panic!("the socket ended");
}
