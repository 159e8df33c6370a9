//! The sandbox as the server of `listen`.

use ringcentral_sandbox::{Fixture, Sandbox};

use crate::support::Server;

/// The emulated server.
pub(crate) struct Emulator(Sandbox);

impl Emulator {
    pub(crate) async fn start() -> ringcentral_events::Result<Self> {
        Sandbox::start().await.map(Self)
    }

    pub(crate) fn server(&self) -> Server {
        Server::of(&self.0)
    }

    /// Triggers one event of each documented family, and prints how to trigger more.
    pub(crate) fn show(&self) {
        let sms = Fixture::inbound_sms("+16505550100", "Hello from the sandbox");
        let (post, call) = (Fixture::team_post("Hello, team"), Fixture::telephony_session("Proceeding"));
        self.0.trigger_all(&[sms, post, Fixture::presence("Busy", "CallConnected"), call]);
        eprintln!("The sandbox emulates RingCentral. To trigger more events from another terminal:");
        let url = self.0.base_url();
        eprintln!("  curl {url}/_sandbox/trigger -d '{{\"fixture\":\"inbound_sms\",\"text\":\"hello\"}}'");
    }

    pub(crate) async fn stop(self) {
        self.0.stop().await;
    }
}
