//! Runs the examples like a person or another program.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use ringcentral_events::SubscriptionId;
use ringcentral_events::digital::{Date, SendApi, User};
use ringcentral_sandbox::{Fault, Fixture, Operation, Refusal, Sandbox, SentKind, Service};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::sync::OnceCell;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(60);
const BUILD: Duration = Duration::from_secs(900);
const VARIABLES: [&str; 5] =
    ["RC_SERVER_URL", "RC_APP_CLIENT_ID", "RC_APP_CLIENT_SECRET", "RC_USER_JWT", "RC_PUBNUB_ORIGIN"];

static BUILT: OnceCell<HashMap<String, PathBuf>> = OnceCell::const_new();

/// The path of an example. Cargo builds no examples for `cargo test --test examples`, and existing binaries may be
/// outdated, so this builds them; after `cargo test` has just built them it takes no time.
async fn example(name: &str) -> PathBuf {
    BUILT.get_or_init(build).await[name].clone()
}

async fn build() -> HashMap<String, PathBuf> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--examples", "--all-features", "--message-format=json-render-diagnostics"]);
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    cargo.current_dir(env!("CARGO_MANIFEST_DIR")).stderr(Stdio::inherit()).kill_on_drop(true);
    let output = timeout(BUILD, cargo.output()).await.expect("built in time").expect("cargo runs");
    assert!(output.status.success(), "the examples are built");
    let messages = String::from_utf8(output.stdout).unwrap();
    let artifacts = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    artifacts
        .filter(|artifact| artifact["target"]["kind"][0] == "example")
        .filter_map(|artifact| {
            Some((artifact["target"]["name"].as_str()?.into(), artifact["executable"].as_str()?.into()))
        })
        .collect()
}

/// A running example. Killed when dropped.
struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Lines<BufReader<ChildStdout>>,
    stderr: ChildStderr,
}

impl Running {
    async fn start(name: &str, args: &[&str], server: Option<&Sandbox>) -> Self {
        Self::spawn(command(name, args, server).await)
    }

    fn spawn(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        let stderr = child.stderr.take().unwrap();
        Self { child, stdin, stdout, stderr }
    }

    /// Runs `listen` with JSON output; over PubNub, unless the arguments name a transport.
    async fn listen(args: &[&str], server: &Sandbox) -> Self {
        let transport: &[&str] = if args.contains(&"--transport") { &[] } else { &["--transport", "pubnub"] };
        let all = [&["--format", "json"], transport, args].concat();
        Self::start("listen", &all, Some(server)).await
    }

    async fn line(&mut self) -> Option<String> {
        timeout(PATIENCE, self.stdout.next_line()).await.expect("a line in time").unwrap()
    }

    async fn json(&mut self) -> Option<Value> {
        let line = self.line().await?;
        Some(serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}")))
    }

    /// The next line of a type; skips the lines before it.
    async fn next(&mut self, kind: &str) -> Value {
        self.find(|line| line["type"] == kind).await
    }

    async fn find(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut skipped = Vec::new();
        while let Some(line) = self.json().await {
            if wanted(&line) {
                return line;
            }
            skipped.push(line);
        }
        panic!("not among {skipped:#?}");
    }

    async fn starts_with(&mut self, stage: &str) -> String {
        let mut skipped = Vec::new();
        while let Some(line) = self.line().await {
            if untimed(&line).starts_with(stage) {
                return untimed(&line).to_owned();
            }
            skipped.push(line);
        }
        panic!("no {stage:?} among {skipped:#?}\n{}", rest(&mut self.stderr).await);
    }

    fn end_input(&mut self) {
        self.stdin = None;
    }

    /// Sends SIGTERM, like `kill`.
    #[cfg(unix)]
    async fn terminate(&self) {
        let pid = self.child.id().expect("runs").to_string();
        assert!(Command::new("kill").arg(pid).status().await.unwrap().success());
    }

    /// Waits for its end; returns the rest of its stdout and stderr.
    async fn end(mut self) -> (ExitStatus, Vec<String>, String) {
        let mut lines = Vec::new();
        while let Some(line) = self.line().await {
            lines.push(line);
        }
        let errors = rest(&mut self.stderr).await;
        (timeout(PATIENCE, self.child.wait()).await.expect("ends in time").unwrap(), lines, errors)
    }
}

async fn rest(of: &mut (impl AsyncRead + Unpin)) -> String {
    let mut text = String::new();
    timeout(PATIENCE, of.read_to_string(&mut text)).await.expect("ends in time").unwrap();
    text
}

async fn command(name: &str, args: &[&str], server: Option<&Sandbox>) -> Command {
    let mut command = Command::new(example(name).await);
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    for name in VARIABLES {
        command.env_remove(name);
    }
    for name in ["RUST_LOG", "RC_DIGITAL_TOKEN", "CXONE_CLIENT_ID", "CXONE_CLIENT_SECRET", "CXONE_KEY_ID"] {
        command.env_remove(name);
    }
    command.env_remove("CXONE_KEY_SECRET").env_remove("CXONE_PHONE");
    if let Some(sandbox) = server {
        let (secret, jwt) = (sandbox.client_secret(), sandbox.jwt());
        let values = [sandbox.base_url(), sandbox.client_id(), secret.expose(), jwt.expose(), sandbox.pubnub_origin()];
        command.envs(VARIABLES.into_iter().zip(values));
    }
    command
}

/// A line without the seconds since the start that some examples print first.
fn untimed(line: &str) -> &str {
    let time = line.split_once(" s  ").filter(|(time, _)| time.trim().parse::<f64>().is_ok());
    time.map_or(line, |(_, rest)| rest)
}

fn id_of(value: &Value) -> SubscriptionId {
    value.as_str().expect("an id").into()
}

fn parse(lines: &[String]) -> Vec<Value> {
    lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
}

const SMS: &str = "/restapi/v1.0/account/~/extension/~/message-store/instant?type=SMS";
const POSTS: &str = "/team-messaging/v1/posts";

// --- all examples ------------------------------------------------------------

/// Every example, with arguments that it cannot accept.
const EXAMPLES: [(&str, &[&str]); 12] = [
    ("agent_desktop", &["now"]),
    ("agent_quickstart", &["--transport", "websocket"]),
    ("digital_crawler", &[]),
    ("digital_quickstart", &["--port"]),
    ("digital_source", &["--port", "x"]),
    ("hybrid_fallback", &["--transport", "webhook"]),
    ("listen", &["--filter", "x"]),
    ("message_bot", &["--transport"]),
    ("message_page", &["--port", "70000"]),
    ("prometheus", &["--outage", "soon"]),
    ("quickstart", &["-x"]),
    ("sandbox", &["--jwt", "x"]),
];

#[tokio::test]
async fn every_example_explains_itself_and_names_mistakes_on_its_command_line() {
    let built = BUILT.get_or_init(build).await;
    assert_eq!(built.len(), EXAMPLES.len(), "{built:?}");
    for (name, wrong) in EXAMPLES {
        for help in ["--help", "-h"] {
            let (status, lines, errors) = Running::start(name, &[help], None).await.end().await;
            assert_eq!((status.code(), errors.as_str()), (Some(0), ""), "{name} {help}");
            assert!(lines[0].starts_with(&format!("usage: {name}")), "{lines:#?}");
        }
        for args in [wrong, &["--no-such-option"], &["too", "many"]] {
            let (status, lines, errors) = Running::start(name, args, None).await.end().await;
            assert_eq!((status.code(), lines.len()), (Some(2), 0), "{name} {args:?}: {errors}");
            let usage = format!("\nusage: {name}");
            assert!(errors.starts_with(&format!("{name}: ")) && errors.contains(&usage), "{args:?}: {errors}");
            let mistake = errors.lines().next().unwrap();
            assert!(args.first().is_none_or(|named| mistake.contains(named)), "{args:?}: {mistake}");
        }
    }
}

#[tokio::test]
async fn an_error_is_one_line_without_its_debug_form_and_exits_with_1() {
    for (name, args, variable, named) in [
        ("quickstart", &[][..], ("RC_USER_JWT", "x"), "RC_APP_CLIENT_ID, RC_APP_CLIENT_SECRET"),
        ("message_bot", &[], ("RC_APP_CLIENT_ID", "x"), "RC_APP_CLIENT_SECRET, RC_USER_JWT"),
        ("message_page", &[], ("RC_SERVER_URL", "a b"), "RC_SERVER_URL contains a space"),
        ("hybrid_fallback", &[], ("RC_USER_JWT", "\"x\""), "RC_USER_JWT contains a quotation mark"),
        ("listen", &[], ("RC_APP_CLIENT_SECRET", "a b"), "RC_APP_CLIENT_SECRET contains a space"),
        ("agent_desktop", &[], ("CXONE_KEY_ID", "x"), "CXONE_CLIENT_ID"),
        ("agent_quickstart", &[], ("CXONE_PHONE", "x"), "CXONE_KEY_SECRET"),
        ("digital_source", &[], ("RC_DIGITAL_TOKEN", ""), "RC_DIGITAL_TOKEN"),
        ("digital_quickstart", &[], ("RC_DIGITAL_TOKEN", ""), "RC_DIGITAL_TOKEN"),
        ("digital_crawler", &["http://127.0.0.1:9/"], ("RC_DIGITAL_TOKEN", ""), "RC_DIGITAL_TOKEN"),
    ] {
        let mut command = command(name, args, None).await;
        command.env(variable.0, variable.1);
        let (status, _, errors) = Running::spawn(command).end().await;
        assert_eq!(status.code(), Some(1), "{name}: {errors}");
        let last = errors.lines().last().unwrap();
        assert!(last.starts_with(&format!("{name}: ")) && last.contains(named), "{errors}");
        assert!(!errors.contains("kind:") && !errors.contains("Inner"), "{errors}");
    }
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    for (name, args) in [
        ("digital_source", &["--sandbox", "--port", port.as_str()][..]),
        ("digital_quickstart", &["--sandbox", "--port", port.as_str()]),
        ("message_page", &["--port", port.as_str()]),
        ("sandbox", &["--port", port.as_str()]),
    ] {
        let (status, lines, errors) = Running::start(name, args, None).await.end().await;
        assert_eq!((status.code(), lines.len()), (Some(1), 0), "{name}: {errors}");
        assert!(errors.contains(&format!("cannot listen on 127.0.0.1:{port}")), "{errors}");
    }
}

// --- the test script ------------------------------------------------------------

/// Runs `.ci/test --check` on a machine whose commands are `basic` ones and the given ones.
#[cfg(unix)]
async fn preflight(commands: &[(&str, &str)], gibibytes: &str) -> (Option<i32>, String) {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    let directory = tempfile::tempdir().unwrap();
    let found = |name: &str| {
        let path = std::env::var_os("PATH").expect("a path");
        std::env::split_paths(&path).map(|at| at.join(name)).find(|at| at.is_file()).expect(name)
    };
    for name in ["bash", "dirname", "awk", "df", "du", "mkdir"] {
        symlink(found(name), directory.path().join(name)).unwrap();
    }
    for (name, script) in commands {
        let path = directory.path().join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mut script = Command::new("bash");
    script.args([concat!(env!("CARGO_MANIFEST_DIR"), "/.ci/test"), "--check"]).env("PATH", directory.path());
    script.env("NEED_GIB", gibibytes).env("CARGO_TARGET_DIR", directory.path()).env_remove("CC").kill_on_drop(true);
    let output = timeout(PATIENCE, script.output()).await.expect("ends in time").unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[cfg(unix)]
#[tokio::test]
async fn the_test_script_names_everything_that_is_missing_before_it_builds() {
    let complete = [
        ("cargo", "exit 9"),
        ("rustc", "echo 'rustc 1.89.0 (abc 2026-01-01)'"),
        ("cc", "exit 0"),
        ("python3", "exit 0"),
        ("node", "echo 20.1.0"),
        ("npm", "exit 0"),
        ("openssl", "exit 0"),
    ];
    assert_eq!(preflight(&complete, "0").await, (Some(0), String::new()));
    let (code, errors) = preflight(&[], "9999999").await;
    assert_eq!(code, Some(1), "{errors}");
    let named: Vec<&str> = errors.lines().filter_map(|line| line.strip_prefix("missing: ")).collect();
    let all = ["Rust 1.89", "a C compiler", "python3", "node 20", "npm", "openssl", "9999999 GiB of disk space"];
    assert_eq!(named.len(), all.len(), "{errors}");
    assert!(named.iter().zip(all).all(|(line, name)| line.starts_with(name)), "{errors}");
    let mut old = complete;
    (old[1].1, old[4].1) = ("echo 'rustc 1.88.9 (abc 2026-01-01)'", "echo 9.11.0");
    let (code, errors) = preflight(&old, "0").await;
    assert_eq!(code, Some(1));
    assert!(errors.contains("found: 1.88.9") && errors.contains("found: 9.11.0"), "{errors}");
}

// --- quickstarts and the page --------------------------------------------------

#[cfg(unix)]
#[tokio::test]
async fn quickstart_prints_events_over_both_transports_and_leaves_nothing_behind() {
    for args in [&[][..], &["--transport", "websocket"], &["--transport", "pubnub"]] {
        let sandbox = Sandbox::start().await.unwrap();
        let mut quickstart = Running::start("quickstart", args, Some(&sandbox)).await;
        let sms = Fixture::inbound_sms("+16505550100", "hello");
        let triggered = async {
            while sandbox.trigger(&sms).is_empty() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, triggered).await.expect("subscribed in time");
        assert_eq!(quickstart.starts_with("SMS: ").await, "SMS: Some(\"hello\")");
        quickstart.terminate().await;
        let (status, lines, errors) = quickstart.end().await;
        assert!(status.success(), "{status}\n{lines:#?}\n{errors}");
        assert!(sandbox.subscriptions().is_empty(), "{args:?}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn quickstart_needs_no_account() {
    let mut quickstart = Running::start("quickstart", &[], None).await;
    quickstart.starts_with("SMS: Some(\"Hello number 1\")").await;
    quickstart.starts_with("TeamMessagingPost: ").await;
    quickstart.terminate().await;
    let (status, lines, errors) = quickstart.end().await;
    assert!(status.success(), "{status}\n{lines:#?}\n{errors}");
    assert!(errors.contains("this is the sandbox"), "{errors}");
}

#[cfg(unix)]
#[tokio::test]
async fn message_page_shows_messages_as_text_and_its_health() {
    let sandbox = Sandbox::start().await.unwrap();
    let mut page = Running::start("message_page", &[], Some(&sandbox)).await;
    let url = page.starts_with("ready ").await.split_whitespace().last().unwrap().to_owned();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let get = async |path: &str| http.get(format!("{url}{path}")).send().await.unwrap();
    let until = async |what: &str, reached: &dyn Fn(u16, &str) -> bool, path: &str| {
        let seen = async {
            loop {
                let answer = get(path).await;
                let (status, text) = (answer.status().as_u16(), answer.text().await.unwrap());
                if reached(status, &text) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, seen).await.unwrap_or_else(|_| panic!("waited for {what}"));
    };
    until("health", &|status, _| status == 200, "health").await;
    sandbox.trigger(&Fixture::inbound_sms("+16505550100", "<b>hello</b>"));
    sandbox.trigger(&Fixture::team_post("a post"));
    let shown = "<li>team post: a post</li><li>+16505550100: &lt;b&gt;hello&lt;/b&gt;</li>";
    until("the messages", &|_, text| text.contains(shown), "").await;
    sandbox.faults().inject(Operation::Upgrade, Fault::status(503).until_cleared());
    sandbox.stop_service(Service::Gateway).await;
    until("the outage", &|status, _| status == 503, "health").await;
    sandbox.start_service(Service::Gateway).await;
    sandbox.faults().clear_all();
    until("the recovery", &|status, _| status == 200, "health").await;
    page.terminate().await;
    let (status, lines, errors) = page.end().await;
    assert!(status.success(), "{status}\n{lines:#?}\n{errors}");
    assert!(sandbox.subscriptions().is_empty());
}

#[cfg(unix)]
#[tokio::test]
async fn prometheus_shows_an_outage_in_its_metrics_and_its_readiness_but_not_in_its_liveness() {
    let sandbox = Sandbox::start().await.unwrap();
    let mut app = Running::start("prometheus", &["--port", "0"], Some(&sandbox)).await;
    let metrics = app.starts_with("metrics ").await.split_whitespace().last().unwrap().to_owned();
    let url = metrics.strip_suffix("/metrics").unwrap().to_owned();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let get = async |path: &str| {
        let answer = http.get(format!("{url}{path}")).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let until = async |path: &str, reached: &dyn Fn(u16, &str) -> bool| {
        let seen = async {
            loop {
                let (status, text) = get(path).await;
                if reached(status, &text) {
                    break text;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, seen).await.unwrap_or_else(|_| panic!("waited for {path}"))
    };
    until("/health/ready", &|status, _| status == 200).await;
    sandbox.trigger(&Fixture::inbound_sms("+16505550100", "hello"));
    let counted = |text: &str, line: &str| text.lines().any(|it| it == line);
    until("/metrics", &|_, text| counted(text, r#"ringcentral_events_total{origin="push"} 1"#)).await;
    sandbox.faults().inject(Operation::Upgrade, Fault::status(503).until_cleared());
    sandbox.stop_service(Service::Gateway).await;
    let body = until("/health/ready", &|status, _| status == 503).await;
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap()["reason"], "reconnecting");
    assert_eq!(get("/health/live").await.0, 200, "a restart would not help");
    until("/metrics", &|_, text| counted(text, r#"ringcentral_reconnects_total{transport="WebSocket"} 1"#)).await;
    sandbox.start_service(Service::Gateway).await;
    sandbox.faults().clear_all();
    until("/health/ready", &|status, _| status == 200).await;
    app.terminate().await;
    let (status, lines, errors) = app.end().await;
    assert!(status.success(), "{status}\n{lines:#?}\n{errors}");
}

#[tokio::test]
async fn digital_quickstart_is_crawled_by_the_sandbox() {
    let (status, lines, errors) = Running::start("digital_quickstart", &["--sandbox"], None).await.end().await;
    assert!(status.success(), "{status}\n{lines:#?}\n{errors}");
    assert!(lines[0].starts_with("ready ") && lines[1].starts_with("crawl "), "{lines:#?}");
    assert_eq!(lines.last().unwrap(), "message          m-1 \"Where is my order?\"");
}

#[tokio::test]
async fn agent_quickstart_prints_a_call_of_the_sandbox() {
    let (status, lines, errors) = Running::start("agent_quickstart", &[], None).await.end().await;
    assert!(status.success(), "{status}\n{lines:#?}\n{errors}");
    let mut rest = lines.iter();
    for line in ["AgentSessionStart", "AgentState", "call Some("] {
        assert!(rest.any(|it| it.starts_with(line)), "no {line:?}, or not there: {lines:#?}");
    }
}

#[tokio::test]
async fn the_sandbox_prints_its_login_for_a_shell() {
    let mut sandbox = Running::start("sandbox", &["--shell", "--seed", "7"], None).await;
    for name in VARIABLES {
        let line = sandbox.line().await.unwrap();
        let value = line.strip_prefix(&format!("export {name}=")).unwrap_or_else(|| panic!("{line}"));
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.:/".contains(c);
        assert!(!value.is_empty() && value.chars().all(is_plain), "no character needs quotes: {line}");
    }
    sandbox.end_input();
    let (status, ..) = sandbox.end().await;
    assert!(status.success());
}

// --- message_bot -----------------------------------------------------------

#[tokio::test]
async fn message_bot_prints_every_stage_in_order_and_exits() {
    for transport in ["websocket", "pubnub"] {
        let bot = Running::start("message_bot", &["--transport", transport], None).await;
        let (status, lines, errors) = bot.end().await;
        assert!(status.success(), "{status}\n{lines:#?}\n{errors}");
        assert!(lines[0].to_lowercase().contains(&format!("over {transport}")), "{lines:#?}");
        assert!(lines.iter().all(|line| !line.contains('\u{1b}')), "colours only on a terminal: {lines:#?}");
        let mut rest = lines.iter().map(|line| untimed(line));
        for stage in [
            "login ",
            "subscribed ",
            "SMS received ",
            "replied ",
            "team post received ",
            "replied ",
            "own post seen ",
            "presence received ",
            "link lost ",
            "SMS received ",
            "replied ",
            "recovered ",
            "deleted ",
            "Shown in ",
            "a text message arrived and was answered",
            "the connection was lost",
        ] {
            assert!(rest.any(|line| line.starts_with(stage)), "no {stage:?}, or not there: {lines:#?}");
        }
        let has = |text: &str| lines.iter().any(|line| line.contains(text));
        assert!(has("from=+16505550100 to=+16505550101 text=\"Hello, is anybody there?\""), "{lines:#?}");
        assert_eq!(has("renewed "), transport == "pubnub", "{lines:#?}");
        assert!(!has("not replied"), "{lines:#?}");
        // A broken socket is a possible gap, a failed poll is none.
        assert_eq!(
            (has(" gap "), has(" ciphertext ")),
            (transport == "websocket", transport == "pubnub"),
            "{lines:#?}"
        );
        let received = |line: &&String| untimed(line).starts_with("SMS received ");
        assert_eq!(lines.iter().filter(received).count(), 2, "{lines:#?}");
    }
}

#[tokio::test]
async fn message_bot_continues_with_keep_running_and_prints_how_to_send_messages() {
    let mut bot = Running::start("message_bot", &["--keep-running"], None).await;
    bot.starts_with("waiting ").await;
    let hint = bot.line().await.unwrap();
    let words: Vec<&str> = untimed(&hint).split_whitespace().collect();
    assert_eq!((words[0], words[2]), ("curl", "-d"), "{hint}");
    let answer = reqwest::Client::new().post(words[1]).body(words[3].trim_matches('\'').to_owned()).send().await;
    assert_eq!(answer.unwrap().status(), 200);
    let line = bot.starts_with("SMS received ").await;
    assert!(line.contains("text=\"hello\""), "{line}");
    bot.starts_with("replied ").await;
    #[cfg(unix)]
    {
        bot.terminate().await;
        let (status, lines, errors) = bot.end().await;
        assert!(status.success(), "{status}\n{lines:#?}\n{errors}");
        assert!(lines.iter().any(|line| untimed(line).starts_with("deleted ")), "{lines:#?}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn message_bot_serves_a_named_server_until_it_is_stopped() {
    let sandbox = Sandbox::start().await.unwrap();
    let mut bot = Running::start("message_bot", &[], Some(&sandbox)).await;
    bot.starts_with("subscribed ").await;
    assert_eq!(sandbox.trigger(&Fixture::inbound_sms("+16505550123", "ping")).len(), 2, "the message and its hint");
    bot.starts_with("replied ").await;
    let sent = sandbox.sent_messages();
    assert_eq!((sent.len(), sent[0].kind, sent[0].text.as_str()), (1, SentKind::Sms, "Bot: pong"));
    assert_eq!(sent[0].to, ["+16505550123"]);
    bot.terminate().await;
    let (status, lines, errors) = bot.end().await;
    assert!(status.success(), "{status}\n{lines:#?}\n{errors}");
    assert!(sandbox.subscriptions().is_empty());
}

#[tokio::test]
async fn message_bot_names_the_missing_variable() {
    let mut command = command("message_bot", &[], None).await;
    command.env("RC_SERVER_URL", "http://127.0.0.1:9").env("RC_USER_JWT", "x");
    let (status, lines, errors) = Running::spawn(command).end().await;
    assert_eq!(status.code(), Some(1), "{lines:#?}");
    assert!(errors.contains("not set in the environment: RC_APP_CLIENT_ID, RC_APP_CLIENT_SECRET"), "{errors}");
}

// --- hybrid_fallback -------------------------------------------------------

#[tokio::test]
async fn hybrid_fallback_prints_push_the_outage_polled_events_and_the_return() {
    for transport in ["pubnub", "websocket"] {
        let app = Running::start("hybrid_fallback", &["--transport", transport], None).await;
        let (status, lines, errors) = app.end().await;
        assert!(status.success(), "{status}\n{lines:#?}\n{errors}");
        let mut rest = lines.iter();
        for stage in [
            "subscribed ",
            "status live ",
            "SMS pushed ",
            "status down ",
            "SMS recovered ",
            "status live ",
            "SMS ",
            "status closed ",
            "ok ",
        ] {
            assert!(rest.any(|line| line.starts_with(stage)), "no {stage:?}, or not there: {lines:#?}");
        }
        assert_eq!(lines.iter().filter(|line| line.starts_with("SMS ")).count(), 3, "{lines:#?}");
    }
}

#[tokio::test]
async fn hybrid_fallback_names_mistakes_on_its_command_line() {
    for (args, complaint) in [
        (&["--transport", "webhook"][..], "--transport \"webhook\" is not one of: websocket, pubnub"),
        (&["--poll-after"], "--poll-after"),
        (&["--poll-after", "soon"], "invalid digit"),
        (&["-x"], "unknown option or argument \"-x\""),
    ] {
        let (status, lines, errors) = Running::start("hybrid_fallback", args, None).await.end().await;
        assert!(!status.success() && errors.contains(complaint), "{status}\n{lines:#?}\n{errors}");
    }
}

// --- digital_source, digital_crawler ----------------------------------------

#[tokio::test]
async fn digital_source_is_crawled_answered_and_checked_by_the_sandbox() {
    let forum = Running::start("digital_source", &["--sandbox"], None).await;
    let (status, lines, errors) = forum.end().await;
    assert!(status.success(), "{status}\n{lines:#?}\n{errors}");
    let mut rest = lines.iter();
    for stage in [
        "crawl            implementation.info ",
        "crawl            threads.list             200  1 new: t-1",
        "crawl            messages.list            200  2 new: m-1 m-2",
        "thread           t-1 \"Delivery\"",
        "message          m-1 \"Where is my order?\"",
        "sent             m-3 ",
        "agent            messages.create          200  created m-4",
        "agent            messages.unpublish       200  unpublished m-1",
        "agent            messages.publish         200  published m-1",
        "agent            messages.spam            200  did spam on m-2",
        "agent            messages.delete          200  deleted m-4",
        "crawl            messages.list ",
        "audit            messages.list ",
        "check            ",
        "ok               ",
    ] {
        assert!(rest.any(|line| line.starts_with(stage)), "no {stage:?}, or not there: {lines:#?}");
    }
    assert!(!lines.iter().any(|line| line.contains("error ") || line.contains("warning ")), "{lines:#?}");
}

#[tokio::test]
async fn digital_crawler_checks_a_source_at_its_url_and_prints_the_requests() {
    let mut source = command("digital_source", &[], None).await;
    let mut source = Running::spawn({
        source.env("RC_DIGITAL_TOKEN", "token");
        source
    });
    let ready = source.starts_with("ready ").await;
    let url = ready.split_whitespace().last().unwrap().to_owned();
    let crawler = async |token: &str, args: &[&str]| {
        let mut crawler = command("digital_crawler", &[&[url.as_str(), "--json"], args].concat(), None).await;
        crawler.env("RC_DIGITAL_TOKEN", token);
        Running::spawn(crawler)
    };
    let (status, lines, errors) =
        crawler("token", &["--reply", "On its way.", "--delete", "--check"]).await.end().await;
    assert!(status.success(), "{status}\n{lines:#?}\n{errors}");
    let end = parse(&lines).pop().unwrap();
    assert_eq!((&end["type"], &end["errors"], &end["warnings"]), (&"end".into(), &0.into(), &0.into()), "{end}");
    let (status, lines, _) = crawler("another", &["--runs", "1"]).await.end().await;
    assert_eq!(status.code(), Some(1));
    assert!(lines.iter().any(|line| line.contains("\"rule\":\"status\"")), "{lines:#?}");

    let mut crawler = crawler("token", &["--runs", "1", "--stay"]).await;
    let serving = crawler.next("serving").await;
    let api = SendApi::builder(serving["send_url"].as_str().unwrap(), "token").build().unwrap();
    api.create_user(&User::new("ana", "Ana", Date::now())).await.unwrap();
    crawler.end_input();
    let received = crawler.next("received").await;
    assert_eq!((&received["action"], &received["params"]["screenname"]), (&"users.create".into(), &"Ana".into()));
    let (status, ..) = crawler.end().await;
    assert!(status.success());
}

// --- listen ----------------------------------------------------------------

#[tokio::test]
async fn listen_supports_websocket() {
    let sandbox = Sandbox::start().await.unwrap();
    let mut listen = Running::listen(&["--transport", "websocket", "--filter", POSTS], &sandbox).await;
    let ready = listen.json().await.unwrap();
    assert_eq!((&ready["type"], &ready["transport"]), (&"ready".into(), &"WebSocket".into()), "{ready}");
    listen.find(|line| line["type"] == "status" && line["phase"] == "live").await;
    let uuids = sandbox.trigger_json(POSTS, r#"{"id":"1","eventType":"PostAdded"}"#).unwrap();
    let event: Value = serde_json::from_str(&listen.line_of("event").await).unwrap();
    assert_eq!(event["uuid"], uuids[0].as_str());
    listen.terminate().await;
    let (status, lines, errors) = listen.end().await;
    assert!(status.success(), "{status}\n{lines:#?}\n{errors}");
    assert!(sandbox.subscriptions().is_empty());
}

#[tokio::test]
async fn listen_supports_polling_and_falls_back_to_it() {
    let sms = "/restapi/v1.0/account/~/extension/~/message-store/instant?type=SMS";
    for names in ["poll", "pubnub,poll"] {
        let sandbox = Sandbox::builder()
            .behavior(|behavior| behavior.refuse_pubnub = Some(Refusal::Sub528))
            .start()
            .await
            .unwrap();
        let mut listen = Running::listen(&["--transport", names, "--filter", sms], &sandbox).await;
        let ready = listen.json().await.unwrap();
        assert_eq!((&ready["type"], &ready["transport"]), (&"ready".into(), &"Poll".into()), "{ready}");
        sandbox.trigger(&Fixture::inbound_sms("+16505550100", "found"));
        let event: Value = serde_json::from_str(&listen.line_of("event").await).unwrap();
        assert_eq!(event["body"]["subject"], "found", "{event}");
        listen.terminate().await;
        let (status, lines, errors) = listen.end().await;
        assert!(status.success(), "{status}\n{lines:#?}\n{errors}");
    }
    // Only push delivers lines.
    let sandbox = Sandbox::start().await.unwrap();
    let presence = "/restapi/v1.0/account/~/extension/~/presence/line";
    let mut listen = Running::listen(&["--transport", "poll", "--filter", presence], &sandbox).await;
    let error = listen.next("error").await;
    assert_eq!(error["kind"], "config", "{error}");
}

#[tokio::test]
async fn listen_prints_events_errors_and_its_end_in_json() {
    let sandbox = Sandbox::start().await.unwrap();
    let mut listen = Running::listen(&["--filter", SMS, "--filter", POSTS, "--expires-in", "4"], &sandbox).await;
    let ready = listen.json().await.unwrap();
    assert_eq!((&ready["type"], &ready["transport"]), (&"ready".into(), &"PubNub".into()), "{ready}");
    let first = id_of(&ready["subscription_ids"][0]);
    assert_eq!(sandbox.subscriptions()[0].id, first);
    listen.find(|line| line["type"] == "status" && line["phase"] == "live").await;

    // An event, typed by its kind and with the body's own bytes.
    let body = r#"{"b" : 1.50,"id":18446744073709551616,"text":"\u00e9","eventType":"PostAdded"}"#;
    let uuids = sandbox.trigger_json(POSTS, body).unwrap();
    let event = listen.line_of("event").await;
    assert!(event.contains(&format!("\"body\":{body},")), "{event}");
    let event: Value = serde_json::from_str(&event).unwrap();
    assert_eq!(event["uuid"], uuids[0].as_str());
    assert_eq!((&event["kind"], &event["origin"]), (&"TeamMessagingPost".into(), &"push".into()));
    assert_eq!((&event["event"], &event["index"]), (&POSTS.into(), &0.into()));
    assert!(event["received_ns"].as_u64().is_some_and(|ns| ns > 1_600_000_000_000_000_000), "{event}");
    assert_eq!(id_of(&event["subscription_id"]), first);
    assert_eq!(event["owner_id"], sandbox.extension_id());

    // An undecodable event is reported, and the stream continues.
    sandbox.publish_raw(&first, "\"no base64!\"").unwrap();
    let bad = listen.next("undecodable").await;
    assert_eq!((bad.get("raw"), &bad["bytes"]), (None, &12.into()), "it may hold secrets: {bad}");

    // A broken connection is not a gap.
    sandbox.stop_service(Service::PubNub).await;
    let down = listen.find(|line| line["phase"] == "reconnecting").await;
    assert!(down["failed_attempts"].as_u64() >= Some(1) && down["error"].is_string(), "{down}");
    let uuids = sandbox.trigger(&Fixture::inbound_sms("+16505550100", "meanwhile"));
    sandbox.start_service(Service::PubNub).await;
    let event = listen.find(|line| line["type"] == "event" || line["type"] == "gap").await;
    assert_eq!(event["uuid"], uuids[0].as_str(), "{event}");

    // A lost subscription is one.
    assert!(sandbox.expire(&first));
    let gap = listen.next("gap").await;
    assert_eq!((&gap["cause"], &gap["certainty"]), (&"subscription_gone".into(), &"certain".into()), "{gap}");
    let resumed = listen.next("resumed").await;
    let second = id_of(&resumed["new_id"]);
    assert_eq!((id_of(&resumed["old_id"]), &resumed["complete"]), (first.clone(), &false.into()), "{resumed}");
    assert_eq!(sandbox.subscriptions()[0].id, second);

    listen.end_input();
    let (status, lines, errors) = listen.end().await;
    assert!(status.success(), "{status}\n{lines:#?}\n{errors}");
    let lines = parse(&lines);
    let closed = lines.last().unwrap();
    assert_eq!((&closed["type"], &closed["deleted"]), (&"closed".into(), &true.into()), "{closed}");
    assert_eq!(closed["subscription_ids"], serde_json::json!([second.as_str()]), "{closed}");
    assert!(lines.iter().any(|line| line["phase"] == "closed"), "{lines:#?}");
    assert!(sandbox.subscriptions().is_empty());
}

impl Running {
    /// The text of the next line of a type.
    async fn line_of(&mut self, kind: &str) -> String {
        loop {
            let line = self.line().await.expect("such a line");
            if line.starts_with(&format!("{{\"type\":\"{kind}\"")) {
                return line;
            }
        }
    }
}

#[tokio::test]
async fn listen_shows_undecodable_text_if_requested() {
    let sandbox = Sandbox::start().await.unwrap();
    let mut listen = Running::listen(&["--show-raw"], &sandbox).await;
    let ready = listen.next("ready").await;
    sandbox.publish_raw(&id_of(&ready["subscription_ids"][0]), "\"no base64!\"").unwrap();
    let bad = listen.next("undecodable").await;
    assert_eq!((&bad["raw"], &bad["bytes"]), (&"\"no base64!\"".into(), &12.into()), "{bad}");
    listen.end_input();
    assert!(listen.end().await.0.success());
}

#[tokio::test]
async fn listen_shares_one_client_between_its_subscriptions() {
    let sandbox = Sandbox::start().await.unwrap();
    let mut listen = Running::listen(&["--filter", POSTS, "--subscriptions", "3"], &sandbox).await;
    let ready = listen.next("ready").await;
    let ids: Vec<SubscriptionId> = ready["subscription_ids"].as_array().unwrap().iter().map(id_of).collect();
    assert_eq!(sandbox.subscriptions().into_iter().map(|view| view.id).collect::<Vec<_>>(), ids);
    assert_eq!(sandbox.gauges().tokens_issued, 1);
    let mut uuids = sandbox.trigger(&Fixture::team_post("to all"));
    let mut seen = Vec::new();
    for _ in 0..3 {
        let event = listen.next("event").await;
        let index = usize::try_from(event["index"].as_u64().unwrap()).unwrap();
        assert_eq!(id_of(&event["subscription_id"]), ids[index]);
        seen.push(event["uuid"].as_str().unwrap().to_owned());
    }
    seen.sort();
    uuids.sort();
    assert_eq!(seen, uuids);
    listen.end_input();
    let (status, lines, _) = listen.end().await;
    assert!(status.success());
    assert_eq!(parse(&lines).last().unwrap()["events"], 3);
    assert!(sandbox.subscriptions().is_empty());
}

#[tokio::test]
async fn listen_prints_received_events_before_it_ends() {
    let sandbox = Sandbox::start().await.unwrap();
    let mut listen = Running::listen(&["--filter", POSTS], &sandbox).await;
    listen.find(|line| line["phase"] == "live").await;
    let uuids = sandbox.trigger_all(&vec![Fixture::team_post("one of many"); 90]);
    assert!(sandbox.wait_caught_up(PATIENCE).await);
    listen.end_input();
    let (status, lines, errors) = listen.end().await;
    assert!(status.success(), "{errors}");
    let lines = parse(&lines);
    let seen: Vec<&str> = lines.iter().filter_map(|line| line["uuid"].as_str()).collect();
    assert_eq!(seen, uuids);
    assert_eq!(lines.last().unwrap()["events"], 90);
}

#[tokio::test]
async fn listen_names_the_reason_of_a_refusal_and_the_remedy() {
    let sandbox =
        Sandbox::builder().behavior(|behavior| behavior.refuse_pubnub = Some(Refusal::Sub528)).start().await.unwrap();
    let listen = Running::listen(&[], &sandbox).await;
    let (status, lines, errors) = listen.end().await;
    assert_eq!(status.code(), Some(1));
    let lines = parse(&lines);
    assert_eq!(lines.len(), 1, "{lines:#?}");
    let error = &lines[0];
    assert_eq!((&error["type"], &error["kind"]), (&"error".into(), &"transport_refused".into()), "{error}");
    assert_eq!((&error["code"], &error["status"]), (&"SUB-528".into(), &403.into()), "{error}");
    assert!(error["message"].as_str().unwrap().contains("WebSocket"), "{error}");
    assert!(errors.contains("WebSocket"), "{errors}");
}

#[tokio::test]
async fn listen_deletes_all_subscriptions_when_one_is_refused() {
    let sandbox = Sandbox::builder().behavior(|behavior| behavior.subscription_limit = 2).start().await.unwrap();
    let listen = Running::listen(&["--subscriptions", "3"], &sandbox).await;
    let (status, lines, _) = listen.end().await;
    assert_eq!(status.code(), Some(1));
    let lines = parse(&lines);
    let error = lines.iter().find(|line| line["type"] == "error").expect("an error");
    assert_eq!((&error["kind"], &error["code"]), (&"subscription_limit".into(), &"SUB-505".into()), "{error}");
    let closed = lines.last().unwrap();
    assert_eq!((&closed["type"], &closed["deleted"]), (&"closed".into(), &true.into()), "{closed}");
    assert_eq!(closed["subscription_ids"].as_array().map(Vec::len), Some(2), "{closed}");
    assert!(sandbox.subscriptions().is_empty());
}

#[cfg(unix)]
#[tokio::test]
async fn listen_deletes_its_subscription_on_sigterm() {
    let sandbox = Sandbox::start().await.unwrap();
    let mut listen = Running::listen(&[], &sandbox).await;
    listen.next("ready").await;
    listen.terminate().await;
    let (status, lines, errors) = listen.end().await;
    assert!(status.success(), "{status}\n{errors}");
    assert_eq!(parse(&lines).last().unwrap()["deleted"], true);
    assert!(sandbox.subscriptions().is_empty());
}

#[cfg(unix)]
#[tokio::test]
async fn listen_exits_though_the_service_does_not_answer() {
    let sandbox = Sandbox::start().await.unwrap();
    sandbox.faults().inject(Operation::Create, Fault::status(503).until_cleared());
    let listen = Running::listen(&[], &sandbox).await;
    assert!(sandbox.wait_requests(Operation::Create, 1, PATIENCE).await);
    listen.terminate().await;
    let (status, lines, _) = listen.end().await;
    assert_eq!(status.code(), Some(1));
    let lines = parse(&lines);
    assert_eq!((lines.len(), &lines[0]["kind"]), (2, &"timeout".into()), "{lines:#?}");
    assert_eq!(lines[1], serde_json::json!({"type":"closed","deleted":true,"subscription_ids":[],"events":0}));
}

#[cfg(unix)]
#[tokio::test]
async fn listen_deletes_its_subscriptions_when_terminated_during_the_start() {
    for (fault, known) in [(Fault::status(503).header("Retry-After", "30"), true), (Fault::hang(), false)] {
        let sandbox = Sandbox::start().await.unwrap();
        sandbox.faults().inject(Operation::Create, fault.after(2).until_cleared());
        let listen = Running::listen(&["--subscriptions", "5"], &sandbox).await;
        assert!(sandbox.wait_requests(Operation::Create, 3, PATIENCE).await);
        assert_eq!(sandbox.subscriptions().len(), 2);
        listen.terminate().await;
        let (status, lines, errors) = listen.end().await;
        assert_eq!(status.code(), Some(1), "{errors}");
        let lines = parse(&lines);
        let error = lines.iter().find(|line| line["type"] == "error").expect("an error");
        assert_eq!(error["kind"], "timeout", "{error}");
        let closed = lines.last().unwrap();
        assert_eq!(closed["type"], "closed", "{closed}");
        assert_eq!(closed["subscription_ids"].as_array().map(Vec::len), Some(2), "{closed}");
        // The result of an unanswered creation may be unknown.
        assert!(!known || closed["deleted"] == true, "{closed}");
        assert!(sandbox.subscriptions().is_empty());
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_subscription_created_after_the_end_is_deleted() {
    let pubnub = ["--transport", "pubnub"];
    for (name, args) in [("listen", &["--format", "json"][..]), ("message_bot", &[])] {
        let args = &[&pubnub, args].concat();
        let sandbox = Sandbox::start().await.unwrap();
        sandbox.faults().inject(Operation::Create, Fault::delay(Duration::from_secs(3)));
        let running = Running::start(name, args, Some(&sandbox)).await;
        assert!(sandbox.wait_requests(Operation::Create, 1, PATIENCE).await);
        running.terminate().await;
        let (status, lines, errors) = running.end().await;
        assert_eq!(status.code(), Some(1), "{name}: {lines:#?}\n{errors}");
        assert!(errors.contains("stopped before"), "{errors}");
        assert!(sandbox.subscriptions().is_empty(), "{name}");
        assert_eq!(sandbox.requests_to(Operation::Delete).len(), 1, "{name}");
    }
}

#[tokio::test]
async fn listen_exits_once_ready_without_input() {
    let sandbox = Sandbox::start().await.unwrap();
    let mut listen = Running::listen(&[], &sandbox).await;
    listen.end_input();
    let (status, lines, errors) = listen.end().await;
    assert!(status.success(), "{status}\n{errors}");
    let lines = parse(&lines);
    assert_eq!((&lines[0]["type"], &lines.last().unwrap()["type"]), (&"ready".into(), &"closed".into()));
    assert!(sandbox.subscriptions().is_empty());
}

#[tokio::test]
async fn listen_exits_successfully_when_its_output_is_closed() {
    let sandbox = Sandbox::start().await.unwrap();
    let mut listen = Running::listen(&["--filter", POSTS], &sandbox).await;
    listen.find(|line| line["phase"] == "live").await;
    let Running { mut child, stdin: _stdin, stdout, mut stderr } = listen;
    drop(stdout);
    sandbox.trigger(&Fixture::team_post("into the void"));
    let status = timeout(PATIENCE, child.wait()).await.expect("ends in time").unwrap();
    assert!(status.success(), "{status}\n{}", rest(&mut stderr).await);
    assert!(sandbox.subscriptions().is_empty());
}

#[tokio::test]
async fn listen_reports_an_unconfirmed_deletion() {
    let sandbox = Sandbox::start().await.unwrap();
    let mut listen = Running::listen(&[], &sandbox).await;
    listen.next("ready").await;
    sandbox.faults().inject(Operation::Delete, Fault::status(403).until_cleared());
    listen.end_input();
    let (status, lines, errors) = listen.end().await;
    assert_eq!(status.code(), Some(1), "{errors}");
    assert_eq!(parse(&lines).last().unwrap()["deleted"], false);
}

/// Reads the output until the process is killed, a random time `after` its start; with `saved`, after it has also saved
/// a new position there. Calls `publish` at each line. Returns the numbers of the events in complete lines.
#[cfg(unix)]
async fn printed_until_killed(
    mut listen: Running,
    saved: Option<&std::path::Path>,
    after: Duration,
    publish: &mut impl FnMut() -> Option<u64>,
) -> Vec<u64> {
    let mut numbers: Vec<u64> = Vec::new();
    if let Some(place) = saved {
        let first = publish().expect("one is left");
        while numbers.last() != Some(&first) {
            let line = listen.line().await.unwrap_or_else(|| panic!("ended before it printed {first}"));
            numbers.extend(number(&line));
        }
        // It saves the position of this event or, if it has done so by now, that of the next one.
        let before = std::fs::read(place).unwrap();
        publish();
        let changes = async {
            while std::fs::read(place).unwrap() == before {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, changes).await.expect("saved in time");
    }
    let killed = tokio::time::sleep(after);
    tokio::pin!(killed);
    loop {
        tokio::select! {
            biased;
            () = &mut killed => break,
            line = listen.stdout.next_line() => {
                numbers.extend(number(&line.unwrap().expect("runs until it is killed")));
                publish();
            }
        }
    }
    listen.child.kill().await.unwrap();
    // What it printed by then counts, except an incomplete line.
    let mut last = String::new();
    let mut rest = listen.stdout.into_inner();
    while rest.read_line(&mut last).await.unwrap() > 0 {
        numbers.extend(number(&last).filter(|_| last.ends_with('\n')));
        last.clear();
    }
    numbers
}

/// The number of the event in a line, if there is one.
fn number(line: &str) -> Option<u64> {
    let line: Value = serde_json::from_str(line).ok()?;
    assert!(line["type"] != "error", "{line}");
    if line["type"] == "gap" {
        println!("{line}");
    }
    line["body"]["n"].as_u64()
}

/// PubNub retains 100 messages of a channel. A gap may rightly be reported when more than this many follow the last
/// saved position.
#[cfg(unix)]
const RETAINED: u64 = 80;

/// `KILLS` sets how often; `KILL_SEED` decides when.
#[cfg(unix)]
#[tokio::test]
async fn s5_listen_prints_every_event_though_killed_repeatedly() {
    let set = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let (kills, seed) = (set("KILLS").unwrap_or(12), set("KILL_SEED").unwrap_or_else(|| fastrand::u64(..)));
    println!("KILL_SEED={seed}");
    let mut chance = fastrand::Rng::with_seed(seed);
    let sandbox = Sandbox::builder()
        .behavior(|behavior| (behavior.rate_limits.enforce, behavior.rate_limits.headers) = (false, false))
        .start()
        .await
        .unwrap();
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("place.json");
    let args = ["--checkpoint", place.to_str().unwrap(), "--filter", SMS];
    // Events can be lost only after a subscription exists.
    let mut listen = Running::listen(&args, &sandbox).await;
    listen.next("ready").await;
    let (mut published, mut printed, mut again) = (0_u64, std::collections::HashSet::new(), 0_u64);
    // Where the previous process began, according to the checkpoint.
    let mut saved = 0;
    for _ in 0..kills {
        // During the start, reading or saving, and sometimes much later.
        let longest = if chance.u8(0..5) == 0 { 1500 } else { 300 };
        let after = Duration::from_millis(chance.u64(0..longest));
        // On a busy machine no process may have lived long enough to save anything: a position is saved once a second.
        // Then one process lives until it has.
        let room = (saved + RETAINED).saturating_sub(published);
        let until_saved = (room == 0).then_some(place.as_path());
        let mut left = if room == 0 { 2 } else { chance.u64(1..12).min(room) };
        let mut publish = || {
            left = left.checked_sub(1)?;
            let number = published;
            let body = serde_json::json!({ "id": number.to_string(), "n": number });
            assert!(!sandbox.trigger_json(SMS, &body.to_string()).unwrap().is_empty(), "it was left to live");
            published += 1;
            Some(number)
        };
        let numbers = printed_until_killed(listen, until_saved, after, &mut publish).await;
        // The rest while no process runs.
        while publish().is_some() {}
        saved = numbers.first().copied().unwrap_or(saved);
        assert!(numbers.is_sorted_by(|a, b| a < b), "in order, and once in a life: {numbers:?}");
        again += numbers.into_iter().map(|n| u64::from(!printed.insert(n))).sum::<u64>();
        listen = Running::listen(&args, &sandbox).await;
    }
    while printed.len() < usize::try_from(published).unwrap() {
        printed.extend(number(&listen.line().await.expect("all are printed")));
    }
    assert_eq!(printed, (0..published).collect(), "KILL_SEED={seed}");
    assert_eq!(sandbox.requests_to(Operation::Create).len(), 1, "one subscription all along");
    assert_eq!(sandbox.requests_to(Operation::Token).len(), 1, "one login serves all lives");
    println!("{kills} kills, {published} events, {again} printed again");
    listen.end_input();
    let (status, lines, errors) = listen.end().await;
    assert!(status.success(), "{status}\n{lines:#?}\n{errors}");
}

#[tokio::test]
async fn listen_uses_a_stored_login_again() {
    let sandbox = Sandbox::start().await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let tokens = directory.path().join("tokens.json");
    let args = ["--transport", "websocket", "--tokens", tokens.to_str().unwrap()];
    for run in 1..=2 {
        let mut listen = Running::listen(&args, &sandbox).await;
        listen.next("ready").await;
        listen.end_input();
        let (status, _, errors) = listen.end().await;
        assert!(status.success(), "{errors}");
        assert_eq!(sandbox.requests_to(Operation::WsToken).len(), run);
    }
    assert_eq!(sandbox.requests_to(Operation::Token).len(), 1, "the second run used the stored login");
}

#[tokio::test]
async fn listen_refuses_an_unusable_token_file_before_it_logs_in_and_names_the_way_out() {
    let sandbox = Sandbox::start().await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let (missing, corrupt) = (directory.path().join("no/tokens"), directory.path().join("corrupt"));
    std::fs::write(&corrupt, "{\"server\":").unwrap();
    #[cfg(unix)]
    std::fs::set_permissions(&corrupt, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    for (path, cure) in [
        (missing, "does not exist; create it, or give another path"),
        (corrupt, "is corrupt; delete it, and log in again"),
    ] {
        let path = path.to_str().unwrap();
        let (status, _, errors) = Running::listen(&["--tokens", path], &sandbox).await.end().await;
        assert_eq!(status.code(), Some(1), "{errors}");
        assert!(errors.contains(&format!("the token file {path}")) && errors.contains(cure), "{errors}");
    }
    assert!(sandbox.requests_to(Operation::Token).is_empty(), "nothing was sent");
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_is_named_at_once_with_its_port_and_what_to_check() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = free.local_addr().unwrap();
    drop(free);
    for name in ["quickstart", "listen", "message_bot"] {
        let mut command = command(name, &[], None).await;
        for variable in VARIABLES {
            command.env(variable, "x");
        }
        command.env("RC_SERVER_URL", format!("http://{at}")).env_remove("RC_PUBNUB_ORIGIN");
        let running = Running::spawn(command);
        let mut errors = BufReader::new(running.stderr).lines();
        let line = timeout(PATIENCE, errors.next_line()).await.expect("a line in time").unwrap().unwrap();
        let named = format!("no connection to {at}");
        assert!(line.contains(&named), "{name}: {line}");
        assert!(line.contains("check the server's URL, the network"), "{name}: {line}");
    }
}

#[tokio::test]
async fn listen_names_mistakes_on_its_command_line() {
    let listen = Running::start("listen", &["--transport", "pigeon", "--format", "json"], None).await;
    let (status, lines, errors) = listen.end().await;
    assert_eq!(status.code(), Some(2));
    let lines = parse(&lines);
    assert_eq!((lines.len(), &lines[0]["kind"]), (1, &"config".into()));
    for text in [lines[0]["message"].as_str().unwrap(), &errors] {
        assert!(text.contains("\"pigeon\" is not known; known are: PubNub"), "{text}");
    }
}

#[tokio::test]
async fn listen_shows_something_without_an_account() {
    let mut listen = Running::start("listen", &["--filter", POSTS], None).await;
    assert!(listen.line().await.unwrap().starts_with("Ready! "));
    let event = listen.starts_with("--> [0] ").await;
    assert!(event.contains(" TeamMessagingPost ") && event.contains("Hello, team"), "{event}");
    listen.end_input();
    let (status, lines, errors) = listen.end().await;
    assert!(status.success(), "{status}\n{errors}");
    assert!(lines.last().unwrap().starts_with("Deleted: "), "{lines:#?}");
    assert!(errors.contains("/_sandbox/trigger -d "), "{errors}");
}

#[tokio::test]
async fn a7_logs_at_level_trace_show_no_secret() {
    let sandbox = Sandbox::start().await.unwrap();
    let presence = "/restapi/v1.0/account/~/extension/~/presence";
    let args = ["--transport", "pubnub", "--format", "json", "--filter", presence, "--expires-in", "4"];
    let mut command = command("listen", &args, Some(&sandbox)).await;
    command.env("RUST_LOG", "ringcentral_events=trace");
    let mut listen = Running::spawn(command);
    listen.find(|line| line["phase"] == "live").await;
    sandbox.trigger(&Fixture::presence("Busy", "Ringing"));
    listen.next("event").await;
    let [view] = sandbox.subscriptions().try_into().unwrap();
    assert!(sandbox.wait_requests(Operation::Renew, 1, PATIENCE).await);
    listen.end_input();
    let (status, lines, logs) = listen.end().await;
    assert!(status.success(), "{logs}");
    assert!(logs.contains("TRACE") || logs.contains("DEBUG"), "there are logs: {logs}");
    let all = lines.join("\n") + &logs;
    for secret in [
        sandbox.client_secret().expose(),
        sandbox.jwt().expose(),
        view.address.expose(),
        view.subscriber_key.expose(),
        view.encryption_key.as_ref().expect("presence is encrypted").expose(),
        "Bearer ",
    ] {
        assert!(!all.contains(secret), "{secret} in {all}");
    }
}
