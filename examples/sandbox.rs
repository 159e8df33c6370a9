//! Runs the sandbox as a program, for clients in any language.
//!
//! ```text
//! cargo run --example sandbox -- --hold-ms 2000
//! ```
//!
//! Prints one line of JSON with its addresses and credentials, then runs until its input ends or it
//! is stopped (SIGINT, SIGTERM). The documentation of `ringcentral_sandbox` describes its HTTP
//! control API.

#[path = "support/cli.rs"]
mod cli;

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use cli::{Failure, Misuse};
use lexopt::{Parser, ValueExt as _};
use ringcentral_sandbox::{Sandbox, SandboxBuilder};
use serde_json::json;
use tokio::io::AsyncReadExt as _;

const USAGE: &str = "usage: sandbox [options]

Emulates RingCentral on this machine, and prints addresses and credentials.
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
  --no-rate-limits       never answer 429, and announce no limits
  --reuse-ws-tokens      let a WebSocket token open more than one socket
  --event-latency-ms N   deliver events so long after they happened (0)
  --shell                print export commands for a shell instead of JSON
  --keep-running         do not stop at the end of input";

struct Args {
    sandbox: SandboxBuilder,
    keep_running: bool,
    shell: bool,
    client_id: Option<String>,
    client_secret: Option<String>,
    jwt: Option<String>,
}

fn option(args: &mut Args, name: &str, parser: &mut Parser) -> Result<bool, lexopt::Error> {
    let sandbox = args.sandbox.clone();
    args.sandbox = match name {
        "--port" => sandbox.port(parser.value()?.parse()?),
        "--pubnub-port" => sandbox.pubnub_port(parser.value()?.parse()?),
        "--gateway-port" => sandbox.gateway_port(parser.value()?.parse()?),
        "--contact-center-port" => sandbox.contact_center_port(parser.value()?.parse()?),
        "--seed" => sandbox.seed(parser.value()?.parse()?),
        "--hold-ms" => {
            let hold = Duration::from_millis(parser.value()?.parse()?);
            sandbox.behavior(|behavior| behavior.hold = hold)
        }
        "--subscription-ttl" => {
            let lifetime = Duration::from_secs(parser.value()?.parse()?);
            sandbox.behavior(|behavior| behavior.subscription_lifetime = lifetime)
        }
        "--token-ttl" => {
            let ttl = Duration::from_secs(parser.value()?.parse()?);
            sandbox.behavior(|behavior| behavior.access_token_ttl = ttl)
        }
        "--ring" => {
            let ring = parser.value()?.parse()?;
            sandbox.behavior(|behavior| (behavior.ring, behavior.response_cap) = (ring, ring))
        }
        "--event-latency-ms" => {
            let latency = Duration::from_millis(parser.value()?.parse()?);
            sandbox.behavior(|behavior| behavior.event_latency = latency)
        }
        "--reuse-ws-tokens" => sandbox.behavior(|behavior| behavior.gateway.wstoken_reuse = true),
        "--no-rate-limits" => sandbox.behavior(|behavior| {
            // Clients wait when the headers say that nothing is left.
            (behavior.rate_limits.enforce, behavior.rate_limits.headers) = (false, false);
        }),
        _ => {
            match name {
                "--client-id" => args.client_id = Some(parser.value()?.string()?),
                "--client-secret" => args.client_secret = Some(parser.value()?.string()?),
                "--jwt" => args.jwt = Some(parser.value()?.string()?),
                "--keep-running" => args.keep_running = true,
                "--shell" => args.shell = true,
                _ => return Ok(false),
            }
            sandbox
        }
    };
    Ok(true)
}

/// Prints the addresses and credentials, as JSON or as commands for a shell.
fn print(sandbox: &Sandbox, shell: bool) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    if shell {
        for (name, value) in [
            ("RC_SERVER_URL", sandbox.base_url()),
            ("RC_APP_CLIENT_ID", sandbox.client_id()),
            ("RC_APP_CLIENT_SECRET", sandbox.client_secret().expose()),
            ("RC_USER_JWT", sandbox.jwt().expose()),
            ("RC_PUBNUB_ORIGIN", sandbox.pubnub_origin()),
        ] {
            writeln!(out, "export {name}={value}")?;
        }
        return out.flush();
    }
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
    writeln!(out, "{line}")?;
    out.flush()
}

async fn run(args: Args) -> Result<(), Failure> {
    let sandbox = match (args.client_id, args.client_secret, args.jwt) {
        (None, None, None) => args.sandbox,
        (Some(id), Some(secret), Some(jwt)) => args.sandbox.credentials(id, secret, jwt),
        _ => return Err(Misuse("--client-id, --client-secret and --jwt go together").into()),
    };
    let stop = cli::stop_signal()?;
    let sandbox = sandbox.start().await?;
    print(&sandbox, args.shell)?;
    tokio::select! {
        () = stop => {}
        () = input_ended(), if !args.keep_running => {}
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

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args = Args {
        sandbox: Sandbox::builder(),
        keep_running: false,
        shell: false,
        client_id: None,
        client_secret: None,
        jwt: None,
    };
    cli::main(USAGE, args, option, run).await
}
