//! A bare client for the sandbox: only HTTP, so that a test sees exactly what the sandbox sent.

use reqwest::Method;
use ringcentral_sandbox::{Sandbox, SandboxBuilder};
use serde_json::{Value, json};

pub(crate) use super::common::*;

pub(crate) const STORE: &str = "/restapi/v1.0/account/~/extension/~/message-store";
pub(crate) const PRESENCE: &str = "/restapi/v1.0/account/~/extension/~/presence";
pub(crate) const SUBSCRIPTION: &str = "/restapi/v1.0/subscription";

/// Limits off, polls held a fifth of a second.
pub(crate) fn quick() -> SandboxBuilder {
    Sandbox::builder().behavior(|behavior| {
        behavior.rate_limits.enforce = false;
        behavior.hold = ms(200);
    })
}

/// `POST /restapi/oauth/token` with the confidential app's credentials.
pub(crate) async fn token(sandbox: &Sandbox, form: &[(&str, &str)]) -> (u16, Value) {
    token_as(sandbox, Some((sandbox.client_id(), sandbox.client_secret().expose())), form).await
}

pub(crate) async fn token_as(sandbox: &Sandbox, client: Option<(&str, &str)>, form: &[(&str, &str)]) -> (u16, Value) {
    let encoded = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
    let mut request = http()
        .post(format!("{}/restapi/oauth/token", sandbox.base_url()))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(encoded);
    if let Some((id, secret)) = client {
        request = request.basic_auth(id, Some(secret));
    }
    body(request.send().await.unwrap()).await
}

/// A logged-in client.
pub(crate) struct Client {
    pub(crate) http: reqwest::Client,
    pub(crate) base: String,
    pub(crate) origin: String,
    pub(crate) token: String,
}

impl Client {
    pub(crate) async fn login(sandbox: &Sandbox) -> Self {
        let jwt = sandbox.jwt();
        let form = [("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"), ("assertion", jwt.expose())];
        let (status, answer) = token(sandbox, &form).await;
        assert_eq!(status, 200, "{answer}");
        Self {
            http: http(),
            base: sandbox.base_url().to_owned(),
            origin: sandbox.pubnub_origin().to_owned(),
            token: answer["access_token"].as_str().unwrap().to_owned(),
        }
    }

    pub(crate) fn request(&self, method: Method, path: &str, json: Option<&Value>) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base)).bearer_auth(&self.token);
        match json {
            Some(json) => request.header("content-type", "application/json").body(json.to_string()),
            None => request,
        }
    }

    pub(crate) async fn call(&self, method: Method, path: &str, json: Option<&Value>) -> (u16, Value) {
        body(self.request(method, path, json).send().await.unwrap()).await
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        self.call(Method::GET, path, None).await
    }

    pub(crate) async fn create(&self, filters: &[&str]) -> (u16, Value) {
        self.create_with(filters, json!({ "transportType": "PubNub" })).await
    }

    pub(crate) async fn create_with(&self, filters: &[&str], delivery_mode: Value) -> (u16, Value) {
        let request = json!({ "eventFilters": filters, "deliveryMode": delivery_mode });
        self.call(Method::POST, SUBSCRIPTION, Some(&request)).await
    }

    /// Creates a subscription that must succeed.
    pub(crate) async fn subscribed(&self, filters: &[&str]) -> Value {
        let (status, info) = self.create(filters).await;
        assert_eq!(status, 200, "{info}");
        info
    }

    /// A v2 subscribe request.
    pub(crate) fn poll(&self, info: &Value, cursor: &Cursor) -> reqwest::RequestBuilder {
        let mode = &info["deliveryMode"];
        let (key, channel) = (mode["subscriberKey"].as_str().unwrap(), mode["address"].as_str().unwrap());
        let Cursor { timetoken, region } = cursor;
        let mut url = format!("{}/v2/subscribe/{key}/{channel}/0?tt={timetoken}&uuid=test", self.origin);
        if let Some(region) = region {
            url = format!("{url}&tr={region}");
        }
        self.http.get(url)
    }

    /// Polls once; the answer's messages, and the cursor moved.
    pub(crate) async fn next(&self, info: &Value, cursor: &mut Cursor) -> Vec<Value> {
        let (status, answer) = body(self.poll(info, cursor).send().await.unwrap()).await;
        assert_eq!(status, 200, "{answer}");
        *cursor = Cursor::of(&answer);
        answer["m"].as_array().unwrap().clone()
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Cursor {
    pub(crate) timetoken: String,
    pub(crate) region: Option<u64>,
}

impl Cursor {
    pub(crate) fn start() -> Self {
        Self { timetoken: "0".into(), region: None }
    }

    pub(crate) fn of(answer: &Value) -> Self {
        let text = answer["t"]["t"].as_str().unwrap();
        assert!(text.len() == 17 && text.bytes().all(|b| b.is_ascii_digit()), "{text}");
        Self { timetoken: text.into(), region: answer["t"]["r"].as_u64() }
    }

    pub(crate) fn ticks(&self) -> u64 {
        self.timetoken.parse().unwrap()
    }
}

/// AES-128-ECB with PKCS#7, like a client.
pub(crate) fn decrypt(key: &str, text: &str) -> Value {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use ecb::cipher::block_padding::Pkcs7;
    use ecb::cipher::{BlockModeDecrypt, KeyInit};
    let key: [u8; 16] = STANDARD.decode(key).unwrap().try_into().unwrap();
    let mut sealed = STANDARD.decode(text).unwrap();
    let plain = ecb::Decryptor::<aes::Aes128>::new(&key.into()).decrypt_padded::<Pkcs7>(&mut sealed).unwrap();
    serde_json::from_slice(plain).unwrap()
}

/// The notification of a message, decrypted if the subscription is encrypted.
pub(crate) fn notification(info: &Value, message: &Value) -> Value {
    match info["deliveryMode"]["encryptionKey"].as_str() {
        Some(key) => decrypt(key, message["d"].as_str().unwrap()),
        None => message["d"].clone(),
    }
}
