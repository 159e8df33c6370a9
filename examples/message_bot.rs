//! A bot that answers text messages and team posts.
//!
//! ```text
//! cargo run --example message_bot
//! cargo run --example message_bot -- --transport pubnub
//! ```
//!
//! Without an account: it starts the sandbox, demonstrates everything that can happen to a bot, and
//! ends. With `--keep-running` it continues, for messages sent by hand. With `RC_APP_CLIENT_ID`,
//! `RC_APP_CLIENT_SECRET`, `RC_USER_JWT` and `RC_SERVER_URL` set (and `RC_PUBNUB_ORIGIN` for another
//! PubNub server) the same bot serves that server until Ctrl-C.
//!
//! `RUST_LOG=ringcentral_events=debug` shows the crate's actions.

#[path = "support/screen.rs"]
mod screen;
mod support;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ringcentral_events::event::{ChatId, Message, PersonId, Post};
use ringcentral_events::transport::{Transport, TransportKind};
use ringcentral_events::{Client, Delivery, Event, EventFilter, Phase, Status, StatusWatch, Subscription, Timestamp};
use ringcentral_sandbox::{Fixture, Sandbox, Service};
use screen::{Ciphertexts, say};
use support::tasks::held;
use support::{Failure, LAST_WORDS, Server, Stop, cli, error_chain, stop_signal};
use tokio::time::{Instant, timeout};

const USAGE: &str = "usage: message_bot [--transport websocket|pubnub] [--keep-running]

A bot that answers text messages and team posts.
  --transport NAME   websocket (the default) or pubnub
  --keep-running     without an account: continue after the demonstration
Login: RC_APP_CLIENT_ID, RC_APP_CLIENT_SECRET, RC_USER_JWT and RC_SERVER_URL;
without them the sandbox, an emulator of the service.";
/// Timeout of a step of the script.
const PATIENCE: Duration = Duration::from_secs(30);
/// Short enough for a renewal within the script.
const LEASE: Duration = Duration::from_secs(8);
/// The prefix of all of the bot's messages.
const MARK: &str = "Bot:";

/// A reply and its destination.
#[derive(Debug, PartialEq, Eq)]
enum Reply {
    Sms { from: String, to: String, text: String },
    Post { chat: ChatId, text: String },
}

/// The reply of the bot with the id `me` to an event, if any. It never replies to itself: its own
/// posts arrive as events too.
fn reply_to(event: &Event, me: &PersonId) -> Option<Reply> {
    match event {
        Event::InstantMessage(sms) if sms.is_inbound() => {
            let (from, to) = (own_number(sms)?.to_owned(), sms.from_number()?.to_owned());
            (from != to).then_some(Reply::Sms { from, to, text: answer(sms.text()?)? })
        }
        Event::TeamMessagingPost(post) if post.is_added() && !may_be_own(post, me) => {
            Some(Reply::Post { chat: post.group_id.clone()?, text: answer(post.text.as_deref()?)? })
        }
        _ => None,
    }
}

/// Of several recipients, the owner of this message store.
fn own_number(sms: &Message) -> Option<&str> {
    let own = sms.to.iter().find(|party| party.target == Some(true)).or(sms.to.first())?;
    own.phone_number.as_deref()
}

fn may_be_own(post: &Post, me: &PersonId) -> bool {
    post.creator_id.as_ref().is_none_or(|creator| creator == me)
}

/// Prevents two such bots from replying to each other endlessly: each ignores the other's messages.
fn answer(text: &str) -> Option<String> {
    match text.trim() {
        "" => None,
        text if text.starts_with(MARK) => None,
        text if text.eq_ignore_ascii_case("ping") => Some(format!("{MARK} pong")),
        text => Some(format!("{MARK} you said {text:?}")),
    }
}

/// The script's conditions.
#[derive(Debug, Default)]
struct Seen {
    sms: u32,
    posts: u32,
    own_posts: u32,
    hints: u32,
    presence: u32,
    replies: u32,
    gaps: u32,
    renewals: u32,
    phase: Option<Phase>,
}

impl Seen {
    /// The counts, for the last line.
    fn summary(&self) -> String {
        let Self { sms, posts, replies, gaps, .. } = self;
        format!(": {sms} text messages and {posts} team posts received, {replies} answers sent, {gaps} gaps")
    }
}

struct Bot {
    client: Client,
    me: PersonId,
    subscription: Subscription,
    status: StatusWatch,
    expires_at: Option<SystemTime>,
    prints_renewals: bool,
    seen: Seen,
}

impl Bot {
    /// Logs in and subscribes.
    async fn start(
        server: &Server,
        transport: Arc<dyn Transport>,
        expires_in: Option<Duration>,
    ) -> Result<Self, Failure> {
        let client = server.client()?;
        let user = client.me().await?;
        let name = user.name.as_deref().unwrap_or("?");
        say("login", &format!("{name} (extension {}) at {}", user.id, client.server()))?;

        let mut builder = client
            .subscribe([
                EventFilter::instant_message(),
                EventFilter::message_store(),
                EventFilter::team_posts(),
                EventFilter::presence(),
            ])
            .shared_transport(transport);
        if let Some(lifetime) = expires_in {
            builder = builder.expires_in(lifetime);
        }
        let subscription = builder.start().await?;
        let (status, now) = (subscription.status(), subscription.status().current());
        let until = match now.transport {
            TransportKind::PubNub => until(now.expires_at),
            _ => "for as long as its session".to_owned(),
        };
        say("subscribed", &format!("{} over {}, {until}", id_of(&now), now.transport))?;
        // Over WebSocket the expiry is that of the latest check.
        let prints_renewals = now.transport == TransportKind::PubNub;
        let (expires_at, seen) = (now.expires_at, Seen::default());
        let me = user.person_id();
        Ok(Self { client, me, subscription, status, expires_at, prints_renewals, seen })
    }

    /// Handles one delivery or status change. `false` at the end.
    async fn step(&mut self) -> Result<bool, Failure> {
        tokio::select! {
            biased;
            Some(status) = self.status.changed() => self.follow(&status)?,
            delivery = self.subscription.next() => match delivery {
                Some(delivery) => self.deliver(delivery?).await?,
                None => return Ok(false),
            },
        }
        Ok(true)
    }

    /// Steps until `reached`, with a timeout.
    async fn until(&mut self, what: &str, reached: impl Fn(&Seen) -> bool) -> Result<(), Failure> {
        let steps = async {
            while !reached(&self.seen) {
                if !self.step().await? {
                    return Err(format!("the stream ended while waiting for {what}").into());
                }
            }
            Ok(())
        };
        timeout(PATIENCE, steps).await.map_err(|_| format!("waited {} s for {what}", PATIENCE.as_secs()))?
    }

    async fn deliver(&mut self, delivery: Delivery) -> Result<(), Failure> {
        match delivery {
            Delivery::Notification(notification) => {
                self.handle(notification.event())?;
                if let Some(reply) = reply_to(notification.event(), &self.me) {
                    self.reply(reply).await?;
                }
            }
            Delivery::Gap(gap) => {
                self.seen.gaps += 1;
                say("gap", &format!("loss {}: {}", gap.certainty.as_str(), gap.cause))?;
            }
            Delivery::Resumed(resumed) => match resumed.recreated {
                Some(recreated) => say("resumed", &format!("as {}, before {}", recreated.new, recreated.old))?,
                None => say("resumed", "the end of the gap")?,
            },
            Delivery::Undecodable(bad) => say("undecodable", &bad.reason)?,
            Delivery::FiltersDisabled(filters) => {
                for filter in filters {
                    say("filter disabled", &format!("{}: {}", filter.filter, filter.reason))?;
                }
            }
            other => say("other", &format!("{other:?}"))?,
        }
        Ok(())
    }

    fn handle(&mut self, event: &Event) -> Result<(), Failure> {
        match event {
            Event::InstantMessage(sms) => {
                self.seen.sms += 1;
                let (id, from, to) = (text(sms.id.as_ref()), text(sms.from_number()), text(own_number(sms)));
                say("SMS received", &format!("id={id} from={from} to={to} text={:?}", text(sms.text())))?;
            }
            Event::TeamMessagingPost(post) if may_be_own(post, &self.me) => {
                self.seen.own_posts += 1;
                say("own post seen", &format!("id={}, not answered", text(post.id.as_ref())))?;
            }
            Event::TeamMessagingPost(post) => {
                self.seen.posts += 1;
                let (id, chat) = (text(post.id.as_ref()), text(post.group_id.as_ref()));
                let (from, words) = (text(post.creator_id.as_ref()), text(post.text.as_deref()));
                say("team post received", &format!("id={id} chat={chat} from={from} text={words:?}"))?;
            }
            Event::MessageStore(hint) => {
                self.seen.hints += 1;
                say("message store", &format!("{} new, {} updated", hint.new_count(), hint.updated_count()))?;
            }
            Event::ExtensionPresence(presence) => {
                self.seen.presence += 1;
                let (status, phone) =
                    (text(presence.presence_status.as_ref()), text(presence.telephony_status.as_ref()));
                say(
                    "presence received",
                    &format!("extension={} {status}, {phone}", text(presence.extension_id.as_ref())),
                )?;
            }
            other => say("event received", &other.kind().to_string())?,
        }
        Ok(())
    }

    /// A reply that cannot be sent is printed, and the bot continues.
    async fn reply(&mut self, reply: Reply) -> Result<(), Failure> {
        let sent = match &reply {
            Reply::Sms { from, to, text } => {
                let sent = self.client.send_sms(from, to, text).await;
                sent.map(|sent| format!("id={} to={to} text={text:?}", sent.id))
            }
            Reply::Post { chat, text } => {
                let sent = self.client.post_message(chat, text).await;
                sent.map(|sent| format!("id={} chat={chat} text={text:?}", sent.id))
            }
        };
        match sent {
            Ok(what) => {
                self.seen.replies += 1;
                say("replied", &what)?;
            }
            Err(error) => say("not replied", &error_chain(&error))?,
        }
        Ok(())
    }

    fn follow(&mut self, status: &Status) -> Result<(), Failure> {
        if self.seen.phase.replace(status.phase) != Some(status.phase) {
            match status.phase {
                Phase::Live => say("live", "events can arrive")?,
                Phase::Reconnecting => {
                    say("link lost", "the subscription is still active; the service buffers its events")?
                }
                Phase::Recreating => say("subscription lost", "creating another")?,
                _ => {}
            }
        }
        if status.expires_at > self.expires_at {
            self.expires_at = status.expires_at;
            self.seen.renewals += 1;
            if self.prints_renewals {
                say("renewed", &format!("{}, {}", id_of(status), until(status.expires_at)))?;
            }
        }
        Ok(())
    }

    /// Deletes the subscription.
    async fn close(self) -> Result<(), Failure> {
        let which = id_of(&self.status.current());
        let closed = self.subscription.close().await;
        if let Some(error) = closed.error {
            return Err(error.into());
        }
        let mut late = 0;
        for delivery in closed.unread {
            match delivery {
                Delivery::Notification(_) => late += 1,
                Delivery::Gap(gap) => say("gap", &format!("loss {}: {}", gap.certainty.as_str(), gap.cause))?,
                _ => {}
            }
        }
        if late > 0 {
            say("not answered", &format!("{late} events came too late"))?;
        }
        if !closed.deleted {
            return Err(format!("the service did not confirm that {which} is deleted").into());
        }
        say("deleted", &which)?;
        Ok(())
    }
}

fn id_of(status: &Status) -> String {
    status.subscription_id.as_ref().map_or_else(|| "no subscription".into(), |id| format!("subscription {id}"))
}

fn until(expires_at: Option<SystemTime>) -> String {
    expires_at.map_or_else(|| "for ever".into(), |at| format!("until {}", Timestamp::from(at)))
}

/// An optional field of the service.
fn text<T: ToString>(field: Option<T>) -> String {
    field.map_or_else(|| "?".into(), |field| field.to_string())
}

/// The results of the demonstration, and its duration.
#[derive(Default)]
struct Shown(Vec<(Duration, String)>);

impl Shown {
    async fn step(&mut self, what: &str, step: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
        let begun = Instant::now();
        step.await?;
        self.0.push((begun.elapsed(), what.to_owned()));
        Ok(())
    }
}

/// The offline demonstration. Every step waits for its condition, for at most [`PATIENCE`].
async fn script(bot: &mut Bot, sandbox: &Sandbox, push: Service, shown: &mut Shown) -> Result<(), Failure> {
    let live = |seen: &Seen| seen.phase == Some(Phase::Live);
    shown.step("the transport connected", bot.until("the service to answer", live)).await?;

    sandbox.trigger(&Fixture::inbound_sms("+16505550100", "Hello, is anybody there?"));
    let step = bot.until("the text message", |seen| seen.sms == 1 && seen.replies == 1);
    shown.step("a text message arrived and was answered", step).await?;

    sandbox.trigger(&Fixture::team_post("ping"));
    let step = bot.until("the team post, and the answer to it", |seen| seen.posts == 1 && seen.own_posts == 1);
    shown.step("a team post was answered; the answer, itself an event, was not", step).await?;

    sandbox.trigger(&Fixture::presence("Busy", "CallConnected"));
    shown.step("presence arrived", bot.until("presence", |seen| seen.presence == 1)).await?;

    // Over WebSocket a subscription lives as long as its connection's session: no renewal.
    if push == Service::PubNub {
        let step = bot.until("the renewal", |seen| seen.renewals > 0);
        shown.step("the subscription was renewed before its end", step).await?;
    }

    sandbox.stop_service(push).await;
    let step = bot.until("the link to break", |seen| seen.phase == Some(Phase::Reconnecting));
    shown.step("the connection was lost", step).await?;
    sandbox.trigger(&Fixture::inbound_sms("+16505550100", "Sent while the link was down"));
    sandbox.start_service(push).await;
    let back = |seen: &Seen| live(seen) && seen.sms == 2 && seen.replies == 3;
    let step = bot.until("the message sent meanwhile", back);
    shown.step("the connection came back, and so did the message sent meanwhile", step).await?;
    // One for each received message, and one for each reply.
    let step = bot.until("the last of the hints", |seen| seen.hints == 4);
    shown.step("four message-store notifications arrived", step).await?;
    match push {
        // A broken socket proves nothing about the last moments before it: reported, not guessed.
        Service::Gateway => say("recovered", "the message sent meanwhile arrived; a possible loss was reported")?,
        _ if bot.seen.gaps > 0 => return Err(format!("a gap where nothing was lost: {:?}", bot.seen).into()),
        _ => say("recovered", "the message sent meanwhile arrived, nothing was lost")?,
    }
    Ok(())
}

/// Serves until the stream ends.
async fn serve(bot: &mut Bot) -> Result<(), Failure> {
    while bot.step().await? {}
    Ok(())
}

/// Runs `run` with a bot, and waits until nothing is left at the service, even if the bot was
/// stopped while subscribing.
async fn with_bot<R>(
    server: &Server,
    transport: Arc<dyn Transport>,
    expires_in: Option<Duration>,
    stop: &Stop,
    run: R,
) -> Result<(), Failure>
where
    R: AsyncFnOnce(&mut Bot) -> Result<(), Failure>,
{
    let (mut transports, tasks) = held(vec![transport]);
    let transport = transports.remove(0);
    let outcome = match stop.grace(Bot::start(server, transport, expires_in)).await {
        Some(Ok(mut bot)) => {
            let outcome = tokio::select! {
                outcome = run(&mut bot) => outcome,
                () = stop.asked() => Ok(()),
            };
            outcome.and(bot.close().await)
        }
        Some(Err(error)) => Err(error),
        None => Err("stopped before the service answered".into()),
    };
    let over = tasks.over_within(LAST_WORDS).await;
    outcome.and(over.map_err(Failure::from))
}

/// Without an account: the script, then messages from a person.
async fn offline(asked: &Asked, stop: &Stop) -> Result<(), Failure> {
    let sandbox = Sandbox::start().await?;
    let server = Server::of(&sandbox);
    screen::line(&format!("A bot against an emulator of RingCentral on this machine, over {}.", asked.transport))?;
    screen::line("It logs in, subscribes, answers a text message and a team post, sees presence, loses its")?;
    screen::line("connection, recovers the message that was sent meanwhile, and deletes its subscription.")?;
    let (transport, push): (Arc<dyn Transport>, _) = match asked.transport {
        TransportKind::PubNub => {
            screen::line("Events over PubNub are encrypted: each is shown as it comes, and then decrypted. The")?;
            screen::line("subscription lives 8 s, to show a renewal.")?;
            (Arc::new(Ciphertexts(server.transport(asked.transport)?)), Service::PubNub)
        }
        _ => (server.transport(asked.transport)?, Service::Gateway),
    };
    screen::line("")?;
    let (begun, mut shown) = (Instant::now(), Shown::default());
    let run = async |bot: &mut Bot| {
        script(bot, &sandbox, push, &mut shown).await?;
        if !asked.keep_running {
            return Ok(());
        }
        // Its short lease is renewed every few seconds.
        bot.prints_renewals = false;
        say("waiting", "send it messages from another terminal, Ctrl-C to end:")?;
        let url = sandbox.base_url();
        for what in [r#""inbound_sms","text":"hello""#, r#""team_post","text":"ping""#] {
            say("", &format!("curl {url}/_sandbox/trigger -d '{{\"fixture\":{what}}}'"))?;
        }
        serve(bot).await
    };
    let outcome = with_bot(&server, transport, Some(LEASE), stop, run).await;
    let left = sandbox.subscriptions().len();
    sandbox.stop().await;
    outcome?;
    if left > 0 {
        return Err(format!("{left} subscriptions are left at the sandbox").into());
    }
    screen::line("")?;
    screen::line(&format!("Shown in {:.1} s, over {}:", begun.elapsed().as_secs_f64(), asked.transport))?;
    for (took, what) in &shown.0 {
        screen::line(&format!("{:>8.3} s  {what}", took.as_secs_f64()))?;
    }
    Ok(())
}

/// With an account: until it is stopped.
async fn online(asked: &Asked, server: &Server, stop: &Stop) -> Result<(), Failure> {
    screen::line(&format!("A bot that answers text messages and team posts, over {}.", asked.transport))?;
    screen::line("It answers \"ping\" with \"pong\" and repeats everything else. Ctrl-C ends.")?;
    let (begun, mut seen) = (Instant::now(), String::new());
    let run = async |bot: &mut Bot| {
        let outcome = serve(bot).await;
        seen = bot.seen.summary();
        outcome
    };
    with_bot(server, server.transport(asked.transport)?, None, stop, run).await?;
    screen::line(&format!("Ran for {} s{seen}.", begun.elapsed().as_secs()))?;
    Ok(())
}

/// The command line.
struct Asked {
    transport: TransportKind,
    keep_running: bool,
}

fn option(asked: &mut Asked, name: &str, parser: &mut lexopt::Parser) -> Result<bool, lexopt::Error> {
    match name {
        "--transport" => {
            asked.transport = cli::transport(parser, &[TransportKind::WebSocket, TransportKind::PubNub])?;
        }
        "--keep-running" => asked.keep_running = true,
        _ => return Ok(false),
    }
    Ok(true)
}

#[tokio::main]
async fn main() -> ExitCode {
    let asked = Asked { transport: TransportKind::WebSocket, keep_running: false };
    cli::main(USAGE, asked, option, async |asked| {
        let stop = Stop::when(stop_signal()?, std::future::pending());
        match Server::from_env() {
            Some(server) => online(&asked, &server, &stop).await,
            None => offline(&asked, &stop).await,
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{json, value::to_raw_value};

    const ME: &str = "100200301";

    fn reply(uri: &str, body: &serde_json::Value) -> Option<Reply> {
        reply_to(&Event::from_body(uri, &to_raw_value(body).unwrap()), &ME.into())
    }

    fn sms(change: &serde_json::Value) -> Option<Reply> {
        let mut body = json!({
            "direction": "Inbound", "subject": "hello",
            "from": { "phoneNumber": "+1" }, "to": [{ "phoneNumber": "+3" }, { "phoneNumber": "+2", "target": true }],
        });
        merge(&mut body, change);
        reply("/restapi/v1.0/account/1/extension/2/message-store/instant?type=SMS", &body)
    }

    fn post(change: &serde_json::Value) -> Option<Reply> {
        let mut body = json!({ "eventType": "PostAdded", "groupId": "9", "creatorId": "7", "text": "Ping" });
        merge(&mut body, change);
        reply("/team-messaging/v1/posts", &body)
    }

    fn merge(body: &mut serde_json::Value, change: &serde_json::Value) {
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    }

    #[test]
    fn a_text_message_is_answered_from_the_number_it_came_to() {
        let text = "Bot: you said \"hello\"".to_owned();
        assert_eq!(sms(&json!({})), Some(Reply::Sms { from: "+2".into(), to: "+1".into(), text }));
    }

    #[test]
    fn a_post_is_answered_in_its_chat() {
        assert_eq!(post(&json!({})), Some(Reply::Post { chat: "9".into(), text: "Bot: pong".into() }));
    }

    #[test]
    fn own_posts_bots_and_empty_texts_are_ignored() {
        for change in [
            json!({ "direction": "Outbound" }),
            json!({ "from": { "phoneNumber": "+2" } }),
            json!({ "from": null }),
            json!({ "to": [] }),
            json!({ "subject": " " }),
            json!({ "subject": null }),
            json!({ "subject": "Bot: hello" }),
        ] {
            assert_eq!(sms(&change), None, "{change}");
        }
        for change in [
            json!({ "creatorId": ME }),
            json!({ "creatorId": 100_200_301 }),
            json!({ "creatorId": null }),
            json!({ "eventType": "PostChanged" }),
            json!({ "groupId": null }),
            json!({ "text": "" }),
            json!({ "text": "Bot: pong" }),
        ] {
            assert_eq!(post(&change), None, "{change}");
        }
        assert_eq!(reply("/restapi/v1.0/account/1/extension/2/presence", &json!({})), None);
    }
}
