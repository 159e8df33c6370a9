//! Runs the sandbox as a program, for clients in any language.
//!
//! ```text
//! cargo run --example sandbox -- --hold-ms 2000
//! ```
//!
//! Prints one line of JSON with its addresses and credentials, then runs until its input ends or it
//! is stopped (SIGINT, SIGTERM). The documentation of `ringcentral_sandbox` describes its HTTP
//! control API.

use std::error::Error;
use std::io::Write as _;
use std::time::Duration;

use ringcentral_sandbox::Sandbox;
use serde_json::json;
use tokio::io::AsyncReadExt as _;

const USAGE: &str = "usage: sandbox [options]
  --port N               API server's port on 127.0.0.1 (0: any free one)
  --pubnub-port N        PubNub server's port on 127.0.0.1 (0: any free one)
  --gateway-port N       WebSocket gateway's port on 127.0.0.1 (0: any free one)
  --contact-center-port N
                         Contact Center's port on 127.0.0.1 (0: any free one)
  --hold-ms N            how long a poll without messages is held (280000)
  --subscription-ttl N   life of a subscription, seconds (900)
  --token-ttl N          life of an access token, seconds (3600)
  --ring N               messages kept per channel (100)
  --seed N               the same ids and secrets in every run
  --client-id TEXT --client-secret TEXT --jwt TEXT
                         accepted credentials (all three together)
  --no-rate-limits       never answer 429
  --reuse-ws-tokens      let a WebSocket token open more than one socket
  --event-latency-ms N   deliver events so long after they happened (0)
  --keep-running         do not stop at the end of input";

struct Args {
    sandbox: ringcentral_sandbox::SandboxBuilder,
    keep_running: bool,
}

fn args() -> Result<Option<Args>, Box<dyn Error>> {
    let mut sandbox = Sandbox::builder();
    let mut keep_running = false;
    let (mut id, mut secret, mut jwt) = (None, None, None);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value\n{USAGE}"));
        sandbox = match arg.as_str() {
            "--port" => sandbox.port(value()?.parse()?),
            "--pubnub-port" => sandbox.pubnub_port(value()?.parse()?),
            "--gateway-port" => sandbox.gateway_port(value()?.parse()?),
            "--contact-center-port" => sandbox.contact_center_port(value()?.parse()?),
            "--seed" => sandbox.seed(value()?.parse()?),
            "--hold-ms" => {
                let hold = Duration::from_millis(value()?.parse()?);
                sandbox.behavior(|behavior| behavior.hold = hold)
            }
            "--subscription-ttl" => {
                let lifetime = Duration::from_secs(value()?.parse()?);
                sandbox.behavior(|behavior| behavior.subscription_lifetime = lifetime)
            }
            "--token-ttl" => {
                let ttl = Duration::from_secs(value()?.parse()?);
                sandbox.behavior(|behavior| behavior.access_token_ttl = ttl)
            }
            "--ring" => {
                let ring = value()?.parse()?;
                sandbox.behavior(|behavior| (behavior.ring, behavior.response_cap) = (ring, ring))
            }
            "--reuse-ws-tokens" => sandbox.behavior(|behavior| behavior.gateway.wstoken_reuse = true),
            "--event-latency-ms" => {
                let latency = Duration::from_millis(value()?.parse()?);
                sandbox.behavior(|behavior| behavior.event_latency = latency)
            }
            "--no-rate-limits" => sandbox.behavior(|behavior| behavior.rate_limits.enforce = false),
            "--client-id" => {
                id = Some(value()?);
                sandbox
            }
            "--client-secret" => {
                secret = Some(value()?);
                sandbox
            }
            "--jwt" => {
                jwt = Some(value()?);
                sandbox
            }
            "--keep-running" => {
                keep_running = true;
                sandbox
            }
            "--help" | "-h" => return Ok(None),
            _ => return Err(format!("{arg} is not an option\n{USAGE}").into()),
        };
    }
    let sandbox = match (id, secret, jwt) {
        (None, None, None) => sandbox,
        (Some(id), Some(secret), Some(jwt)) => sandbox.credentials(id, secret, jwt),
        _ => return Err("--client-id, --client-secret and --jwt go together".into()),
    };
    Ok(Some(Args { sandbox, keep_running }))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let Some(Args { sandbox, keep_running }) = args()? else {
        println!("{USAGE}");
        return Ok(());
    };
    let sandbox = sandbox.start().await?;
    let (username, password) = sandbox.password_login();
    let mut line = json!({
        "base_url": sandbox.base_url(),
        "pubnub_origin": sandbox.pubnub_origin(),
        "gateway_url": sandbox.gateway_url(),
        "client_id": sandbox.client_id(),
        "client_secret": sandbox.client_secret().expose(),
        "jwt": sandbox.jwt().expose(),
        "public_client_id": sandbox.public_client_id(),
        "username": username,
        "password": password.expose(),
        "account_id": sandbox.account_id(),
        "extension_id": sandbox.extension_id(),
        "phone_number": sandbox.phone_number(),
        "chat_id": sandbox.chat_id(),
    });
    let center = sandbox.contact_center();
    let ((app, username, password), (key, secret)) = (center.central_login(), center.access_key());
    let (client, client_secret) = center.client();
    line["contact_center"] = json!({
        "url": center.url(),
        "central_app": app.expose(),
        "username": username,
        "password": password.expose(),
        "access_key_id": key.expose(),
        "access_key_secret": secret.expose(),
        "client_id": client,
        "client_secret": client_secret.expose(),
    });
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()?;
    drop(out);

    tokio::select! {
        () = stopped() => {}
        () = input_ended(), if !keep_running => {}
    }
    sandbox.stop().await;
    // A pending read of standard input must not delay the exit.
    std::process::exit(0);
}

/// Reads standard input to its end.
async fn input_ended() {
    let mut stdin = tokio::io::stdin();
    let mut buffer = [0; 1024];
    while matches!(stdin.read(&mut buffer).await, Ok(read) if read > 0) {}
}

#[cfg(unix)]
async fn stopped() {
    use tokio::signal::unix::{SignalKind, signal};
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut signal) => drop(signal.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminated => {}
    }
}

#[cfg(not(unix))]
async fn stopped() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}
