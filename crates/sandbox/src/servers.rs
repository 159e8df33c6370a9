//! The servers as tests see them: whether each is up, and its connections.

use std::sync::Arc;

use tokio::sync::Notify;

use crate::link::LinkControl;
use crate::requests::Service;

/// Ways to cut open connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Cut {
    Reset,
    Close,
    Blackhole,
    Finish,
}

/// The state of one server.
#[derive(Debug)]
pub(crate) struct Server {
    /// The state that a test wants; `listening` is the actual one.
    wanted_up: bool,
    /// Woken when `wanted_up` changes.
    power: Arc<Notify>,
    pub(crate) listening: bool,
    max_connections: usize,
    links: Vec<(u64, Arc<LinkControl>)>,
    next_link: u64,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            wanted_up: true,
            power: Arc::default(),
            listening: false,
            max_connections: 0,
            links: Vec::new(),
            next_link: 0,
        }
    }
}

impl Server {
    /// Requests that the server start or stop; its task does it.
    pub(crate) fn want(&mut self, up: bool) {
        self.wanted_up = up;
        self.power.notify_one();
    }

    pub(crate) fn is_wanted_up(&self) -> bool {
        self.wanted_up
    }

    pub(crate) fn power(&self) -> Arc<Notify> {
        Arc::clone(&self.power)
    }

    /// Counts a connection; returns its number.
    pub(crate) fn connected(&mut self, link: &Arc<LinkControl>) -> u64 {
        self.next_link += 1;
        self.links.push((self.next_link, Arc::clone(link)));
        self.max_connections = self.max_connections.max(self.links.len());
        self.next_link
    }

    pub(crate) fn disconnected(&mut self, link: u64) {
        self.links.retain(|(id, _)| *id != link);
    }

    /// The number of connections, and its maximum so far.
    pub(crate) fn connections(&self) -> (usize, usize) {
        (self.links.len(), self.max_connections)
    }
}

/// All servers.
#[derive(Debug, Default)]
pub(crate) struct Servers([Server; 4]);

impl Servers {
    pub(crate) fn of(&mut self, service: Service) -> &mut Server {
        let [api, pubnub, gateway, contact_center] = &mut self.0;
        match service {
            Service::Api => api,
            Service::PubNub => pubnub,
            Service::Gateway => gateway,
            Service::ContactCenter => contact_center,
        }
    }

    /// Cuts every open connection of a server.
    pub(crate) fn cut(&mut self, service: Service, how: Cut) {
        for (_, link) in &self.of(service).links {
            match how {
                Cut::Reset => link.reset(),
                Cut::Close => link.close(),
                Cut::Blackhole => link.silence(),
                // A socket has no responses in progress.
                Cut::Finish if service == Service::Gateway => link.close(),
                Cut::Finish => link.finish(),
            }
        }
    }
}
