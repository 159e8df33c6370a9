//! The builder of a sandbox.

use std::sync::Arc;

use tokio::sync::Notify;

use super::behavior::Behavior;
use super::center::Center;
use super::clock::Clock;
use super::context::{Context, Identity};
use super::faults::FaultTable;
use super::gateway::{self, Gateway};
use super::random::token;
use super::requests::{RequestLog, Service};
use super::server::Port;
use super::shared::Shared;
use super::state::State;
use super::{Running, Sandbox, schedule, server};
use ringcentral_events::Secret;
use ringcentral_events::{Error, ErrorKind, Result};

/// Number of requests recorded for [`Sandbox::requests`].
const LOG: usize = 10_000;

/// Builds a [`Sandbox`]; created by [`Sandbox::builder`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it is started"]
pub struct SandboxBuilder {
    port: u16,
    pubnub_port: u16,
    gateway_port: u16,
    contact_center_port: u16,
    seed: Option<u64>,
    log: usize,
    behavior: Behavior,
    account_id: String,
    extension_id: String,
    credentials: Option<(String, Secret, Secret)>,
}

impl Default for SandboxBuilder {
    fn default() -> Self {
        Self {
            port: 0,
            pubnub_port: 0,
            gateway_port: 0,
            contact_center_port: 0,
            seed: None,
            log: LOG,
            behavior: Behavior::default(),
            account_id: "100200300".into(),
            extension_id: "100200301".into(),
            credentials: None,
        }
    }
}

impl SandboxBuilder {
    /// Port of the API server on 127.0.0.1. Default 0: any free one.
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Port of the PubNub server on 127.0.0.1. Default 0: any free one.
    pub fn pubnub_port(mut self, port: u16) -> Self {
        self.pubnub_port = port;
        self
    }

    /// Port of the WebSocket gateway on 127.0.0.1. Default 0: any free one.
    pub fn gateway_port(mut self, port: u16) -> Self {
        self.gateway_port = port;
        self
    }

    /// Port of the Contact Center on 127.0.0.1. Default 0: any free one.
    pub fn contact_center_port(mut self, port: u16) -> Self {
        self.contact_center_port = port;
        self
    }

    /// Makes ids, tokens and keys reproducible. Default: random.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// The number of newest requests that [`Sandbox::requests`] records. Default 10 000.
    pub fn request_log(mut self, requests: usize) -> Self {
        self.log = requests;
        self
    }

    /// The account's and the user's id, decimal numbers. Default `100200300` and
    /// `100200301`.
    pub fn identity(mut self, account_id: impl Into<String>, extension_id: impl Into<String>) -> Self {
        self.account_id = account_id.into();
        self.extension_id = extension_id.into();
        self
    }

    /// Sets the accepted client id, client secret and JWT. Default: a fixed id and random secrets.
    pub fn credentials(
        mut self,
        client_id: impl Into<String>,
        client_secret: impl Into<Secret>,
        jwt: impl Into<Secret>,
    ) -> Self {
        self.credentials = Some((client_id.into(), client_secret.into(), jwt.into()));
        self
    }

    /// Changes the initial [`Behavior`].
    pub fn behavior(mut self, change: impl FnOnce(&mut Behavior)) -> Self {
        change(&mut self.behavior);
        self
    }

    /// Starts the servers on the current tokio runtime.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for ids that are not decimal numbers, [`ErrorKind::Network`] if a port
    /// is unavailable.
    pub async fn start(self) -> Result<Sandbox> {
        for id in [&self.account_id, &self.extension_id] {
            if id.is_empty() || id.len() > 20 || !id.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(Error::new(
                    ErrorKind::Config,
                    "account and extension ids of a sandbox must be decimal numbers",
                ));
            }
        }
        let open = |port| {
            Port::open(port).map_err(|error| {
                let message = format!("the sandbox cannot listen on 127.0.0.1:{port}");
                Error::new(ErrorKind::Network, message).with_source(error)
            })
        };
        let (api, api_listener) = open(self.port)?;
        let (pubnub, pubnub_listener) = open(self.pubnub_port)?;
        let (gateway, gateway_listener) = open(self.gateway_port)?;
        let gateway_url = format!("ws://{}{}", gateway.address(), gateway::PATH);
        let base_url = format!("http://{}", api.address());
        let pubnub_origin = format!("http://{}", pubnub.address());
        let identity = self.make_identity();
        let (center, center_listener) = open(self.contact_center_port)?;
        let mut ctx = self.context(identity.clone(), base_url.clone());
        let agents = Center::at(format!("http://{}", center.address()), &mut ctx.rng);
        let state = State::new(ctx, Gateway::at(gateway_url.clone()), agents);
        let shared = Arc::new(Shared::new(state));
        let tasks = vec![
            tokio::spawn(server::keep(Arc::clone(&shared), Service::ContactCenter, center, center_listener)),
            tokio::spawn(server::keep(Arc::clone(&shared), Service::Api, api, api_listener)),
            tokio::spawn(server::keep(Arc::clone(&shared), Service::PubNub, pubnub, pubnub_listener)),
            tokio::spawn(server::keep(Arc::clone(&shared), Service::Gateway, gateway, gateway_listener)),
            tokio::spawn(schedule::keep(Arc::clone(&shared))),
        ];
        Ok(Sandbox { shared, running: Running(tasks), identity, base_url, pubnub_origin, gateway_url })
    }

    fn rng(&self) -> fastrand::Rng {
        self.seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed)
    }

    fn make_identity(&self) -> Identity {
        let rng = &mut self.rng();
        let given = self.credentials.as_ref();
        let given = given.map(|(id, secret, jwt)| (id.clone(), secret.expose().to_owned(), jwt.expose().to_owned()));
        let (client_id, client_secret, jwt) = given.unwrap_or_else(|| {
            ("sandbox-client-id".into(), token(rng, "sandbox-secret-", 24), token(rng, "eyJhbGciOiJTQU5EQk9YIn0.", 64))
        });
        Identity {
            account_id: self.account_id.clone(),
            extension_id: self.extension_id.clone(),
            client_id,
            client_secret,
            public_client_id: "sandbox-public-client-id".into(),
            jwt,
            username: "+16505550101".into(),
            password: token(rng, "sandbox-password-", 12),
            phone_number: "+16505550101".into(),
        }
    }

    fn context(&self, identity: Identity, base_url: String) -> Context {
        Context {
            identity,
            behavior: self.behavior.clone(),
            rng: self.rng().fork(),
            clock: Clock::default(),
            base_url,
            faults: FaultTable::default(),
            log: RequestLog::new(self.log),
            wake: Arc::new(Notify::new()),
        }
    }
}
