//! Push, an outage of push, polling meanwhile, and the return to push.
//!
//! ```text
//! cargo run --example hybrid_fallback
//! cargo run --example hybrid_fallback -- --transport pubnub
//! ```
//!
//! Without an account: it starts the sandbox, stops push and restarts it, and ends. With
//! `RC_APP_CLIENT_ID`, `RC_APP_CLIENT_SECRET`, `RC_USER_JWT` and `RC_SERVER_URL` set (and
//! `RC_PUBNUB_ORIGIN` for another PubNub server) it follows that server until Ctrl-C.

mod support;

use std::collections::HashMap;
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use lexopt::{Parser, ValueExt as _};
use ringcentral_events::transport::{Transport, TransportKind};
use ringcentral_events::{
    Delivery, Event, EventFilter, Notification, Origin, Phase, Status, StatusWatch, Subscription, catch_up,
};
use ringcentral_sandbox::{Fixture, Operation, Sandbox, Service};
use support::tasks::held;
use support::{Failure, LAST_WORDS, Server, Stop, cli, printable, stop_signal};
use tokio::time::timeout;

const USAGE: &str = "usage: hybrid_fallback [--transport websocket|pubnub] [--poll-after SECS]

Follows text messages, and polls while push is down.
  --transport NAME   websocket (the default) or pubnub
  --poll-after SECS  how long push may be down before polls replace it (2)
Login: RC_APP_CLIENT_ID, RC_APP_CLIENT_SECRET, RC_USER_JWT and RC_SERVER_URL;
without them the sandbox, an emulator of the service, with an outage.";
/// Timeout of a step of the script.
const PATIENCE: Duration = Duration::from_secs(60);

/// The command line.
struct Asked {
    transport: TransportKind,
    poll_after: Duration,
}

fn option(asked: &mut Asked, name: &str, parser: &mut Parser) -> Result<bool, lexopt::Error> {
    match name {
        "--transport" => {
            asked.transport = cli::transport(parser, &[TransportKind::WebSocket, TransportKind::PubNub])?;
        }
        "--poll-after" => asked.poll_after = Duration::from_secs(parser.value()?.parse()?),
        _ => return Ok(false),
    }
    Ok(true)
}

/// One line per event.
fn say(stage: &str, what: &str) -> std::io::Result<()> {
    writeln!(std::io::stdout().lock(), "{stage:<16} {}", printable(what))
}

struct App {
    subscription: Subscription,
    status: StatusWatch,
    phase: Phase,
    is_polling: bool,
    poll_after: Duration,
    /// How often each text message was delivered, and its first origin.
    texts: HashMap<String, (u32, Origin)>,
}

impl App {
    async fn start(asked: &Asked, server: &Server, transport: Arc<dyn Transport>) -> Result<Self, Failure> {
        let client = server.client()?;
        let subscription = client
            .subscribe([EventFilter::instant_message()])
            .shared_transport(transport)
            // Used after a gap, and for polling during a long outage of push.
            .catch_up_all(catch_up::standard(&client))
            .poll_after(asked.poll_after)
            .start()
            .await?;
        let status = subscription.status();
        say("subscribed", &format!("over {}; polls while push is down", asked.transport))?;
        let texts = HashMap::new();
        Ok(Self {
            subscription,
            status,
            phase: Phase::Starting,
            is_polling: false,
            poll_after: asked.poll_after,
            texts,
        })
    }

    /// Waits for one delivery or status change and prints it. `false` at the end.
    async fn step(&mut self) -> Result<bool, Failure> {
        tokio::select! {
            biased;
            Some(status) = self.status.changed() => self.follow(&status)?,
            delivery = self.subscription.next() => match delivery {
                Some(delivery) => self.deliver(&delivery?)?,
                None => return Ok(false),
            },
        }
        Ok(true)
    }

    /// Steps until `reached`, with a timeout.
    async fn until(&mut self, what: &str, reached: impl Fn(&Self) -> bool) -> Result<(), Failure> {
        let steps = async {
            while !reached(self) {
                if !self.step().await? {
                    return Err(format!("the stream ended while waiting for {what}").into());
                }
            }
            Ok(())
        };
        timeout(PATIENCE, steps).await.map_err(|_| format!("waited {} s for {what}", PATIENCE.as_secs()))?
    }

    fn follow(&mut self, status: &Status) -> Result<(), Failure> {
        if !std::mem::replace(&mut self.is_polling, status.is_polling) && status.is_polling {
            say("status polling", "events are polled")?;
        }
        if std::mem::replace(&mut self.phase, status.phase) == status.phase {
            return Ok(());
        }
        match status.phase {
            Phase::Live => say("status live", "events are pushed")?,
            Phase::Reconnecting | Phase::Recreating => {
                let after = self.poll_after.as_secs();
                say("status down", &format!("no push; polling starts after {after} s"))?;
            }
            Phase::Closed => say("status closed", "the subscription is deleted")?,
            _ => {}
        }
        Ok(())
    }

    fn deliver(&mut self, delivery: &Delivery) -> Result<(), Failure> {
        match delivery {
            Delivery::Notification(notification) => self.print(notification)?,
            Delivery::Gap(gap) => say("gap", &format!("{}: {}", gap.certainty.as_str(), gap.cause))?,
            Delivery::Resumed(resumed) if resumed.complete => say("resumed", "all missed events were recovered")?,
            Delivery::Resumed(_) => say("resumed", "some events may be lost")?,
            other => say("other", &format!("{other:?}"))?,
        }
        Ok(())
    }

    fn print(&mut self, notification: &Notification) -> Result<(), Failure> {
        let Event::InstantMessage(sms) = notification.event() else {
            return Ok(say("event", &notification.kind().to_string())?);
        };
        let how = match notification.origin() {
            Origin::Push => "SMS pushed",
            _ => "SMS recovered",
        };
        let id = sms.id.as_ref().map_or_else(|| "?".into(), ToString::to_string);
        let (from, text) = (sms.from_number().unwrap_or("?"), sms.text().unwrap_or("?"));
        say(how, &format!("id={id} from={from} text={text:?}"))?;
        self.texts.entry(id).or_insert((0, notification.origin())).0 += 1;
        Ok(())
    }

    /// Deletes the subscription and prints the remaining deliveries.
    async fn close(mut self) -> Result<HashMap<String, (u32, Origin)>, Failure> {
        self.subscription.shutdown_handle().drain();
        while self.step().await? {}
        let deleted = self.status.current().deleted;
        if deleted { Ok(self.texts) } else { Err("the service did not confirm that it is deleted".into()) }
    }
}

/// The offline demonstration. Every step waits for its condition, for at most [`PATIENCE`].
async fn script(app: &mut App, sandbox: &Sandbox, push: Service) -> Result<(), Failure> {
    let sms = |text: &str| drop(sandbox.trigger(&Fixture::inbound_sms("+16505550100", text)));
    app.until("push", |app| app.phase == Phase::Live).await?;
    // The position from which later polls continue.
    if !sandbox.wait_requests(Operation::MessageSync, 1, PATIENCE).await {
        return Err("the message store was not queried for its first position".into());
    }
    sms("Sent while push is up");
    app.until("the first message", |app| app.texts.len() == 1).await?;

    sandbox.stop_service(push).await;
    app.until("the outage to be noticed", |app| app.phase != Phase::Live).await?;
    sms("Sent while push is down");
    app.until("the second message", |app| app.texts.len() == 2).await?;

    sandbox.start_service(push).await;
    app.until("push to come back", |app| app.phase == Phase::Live).await?;
    sms("Sent after push came back");
    app.until("the third message", |app| app.texts.len() == 3).await
}

/// Runs `run` with an app until it is done or stopped, and waits until nothing is left at the
/// service. Returns the received texts.
async fn with_app<R>(
    asked: &Asked,
    server: &Server,
    stop: &Stop,
    run: R,
) -> Result<HashMap<String, (u32, Origin)>, Failure>
where
    R: AsyncFnOnce(&mut App) -> Result<(), Failure>,
{
    let (mut transports, tasks) = held(vec![server.transport(asked.transport)?]);
    let transport = transports.remove(0);
    let outcome = match stop.grace(App::start(asked, server, transport)).await {
        Some(Ok(mut app)) => {
            let outcome = tokio::select! {
                outcome = run(&mut app) => outcome,
                () = stop.asked() => Ok(()),
            };
            let closed = app.close().await;
            outcome.and(closed)
        }
        Some(Err(error)) => Err(error),
        None => Err("stopped before the service answered".into()),
    };
    let over = tasks.over_within(LAST_WORDS).await;
    let texts = outcome?;
    over?;
    Ok(texts)
}

async fn offline(asked: &Asked, stop: &Stop) -> Result<(), Failure> {
    let sandbox = Sandbox::start().await?;
    let push = if asked.transport == TransportKind::WebSocket { Service::Gateway } else { Service::PubNub };
    let run = async |app: &mut App| script(app, &sandbox, push).await;
    let texts = with_app(asked, &Server::of(&sandbox), stop, run).await;
    sandbox.stop().await;
    let texts = texts?;
    let once = texts.values().filter(|(times, _)| *times == 1).count();
    let found = texts.values().filter(|(_, origin)| *origin != Origin::Push).count();
    let (received, twice) = (texts.len(), texts.len() - once);
    say("ok", &format!("3 sent, {received} received, {twice} duplicates, {found} recovered by polling"))?;
    // Over WebSocket the broken connection is a possible gap: until it is closed, pushed events may
    // come from catch-up first.
    if (received, twice) == (3, 0) && found > 0 { Ok(()) } else { Err("not every message arrived once".into()) }
}

/// Follows a server until it is stopped.
async fn online(asked: &Asked, server: &Server, stop: &Stop) -> Result<(), Failure> {
    let follow = async |app: &mut App| {
        while app.step().await? {}
        Ok(())
    };
    with_app(asked, server, stop, follow).await.map(drop)
}

#[tokio::main]
async fn main() -> ExitCode {
    // Short for the demonstration; the crate's default is 20 s.
    let asked = Asked { transport: TransportKind::WebSocket, poll_after: Duration::from_secs(2) };
    cli::main(USAGE, asked, option, async |asked| {
        let stop = Stop::when(stop_signal()?, std::future::pending());
        match Server::from_env() {
            Some(server) => online(&asked, &server, &stop).await,
            None => offline(&asked, &stop).await,
        }
    })
    .await
}
