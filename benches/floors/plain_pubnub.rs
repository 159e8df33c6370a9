//! A loop of polls on `reqwest`: every message is decoded, decrypted in place and parsed into plain structs, and a field
//! is read.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ecb::cipher::block_padding::Pkcs7;
use ecb::cipher::{BlockModeDecrypt as _, KeyInit as _};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Notification, text};
use crate::measure::Meter;

#[derive(Debug, Deserialize)]
pub struct Answer {
    pub t: Position,
    pub m: Vec<Message>,
}

#[derive(Debug, Deserialize)]
pub struct Position {
    pub t: String,
    pub r: u32,
}

#[derive(Debug, Deserialize)]
pub struct Message {
    pub a: String,
    pub f: u32,
    pub p: Position,
    pub k: String,
    pub c: String,
    pub d: String,
    pub b: String,
}

/// The JSON in a message's `d`, decrypted in place.
pub fn open(d: &str, key: &[u8; 16]) -> Vec<u8> {
    let mut bytes = STANDARD.decode(d).unwrap();
    let length = ecb::Decryptor::<aes::Aes128>::new(key.into()).decrypt_padded::<Pkcs7>(&mut bytes).unwrap().len();
    bytes.truncate(length);
    bytes
}

/// The event in a message's `d`.
pub fn decode(d: &str, key: &[u8; 16]) -> Notification {
    serde_json::from_slice(&open(d, key)).unwrap()
}

pub async fn run(url: &str, meter: &mut Meter) {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = json!({ "eventFilters": [crate::measure::FILTER], "deliveryMode": { "transportType": "PubNub" } });
    let request = http.post(format!("{url}/restapi/v1.0/subscription")).body(request.to_string());
    let created: Value = serde_json::from_slice(&request.send().await.unwrap().bytes().await.unwrap()).unwrap();
    let mode = &created["deliveryMode"];
    let key: [u8; 16] = STANDARD.decode(text(&mode["encryptionKey"])).unwrap().try_into().unwrap();
    let channel = format!("{url}/v2/subscribe/{}/{}/0", text(&mode["subscriberKey"]), text(&mode["address"]));
    let mut position = "0".to_owned();
    loop {
        let answer = http.get(format!("{channel}?tt={position}")).send().await.unwrap().bytes().await.unwrap();
        let answer: Answer = serde_json::from_slice(&answer).unwrap();
        if std::mem::replace(&mut position, answer.t.t) == "0" {
            meter.ready(None);
        }
        for message in answer.m {
            if meter.event(&decode(&message.d, &key).body.subject) {
                return;
            }
        }
    }
}
