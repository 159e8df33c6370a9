//! Shared by the examples of agent sessions: the account, or the sandbox's Contact Center.

#![allow(dead_code, reason = "each example uses its part")]

#[path = "cli.rs"]
pub(crate) mod cli;

use std::process::ExitCode;
use std::time::Duration;

pub(crate) use cli::Failure;
use ringcentral_events::agent::auth::CxOneTokens;
use ringcentral_events::agent::{AgentSession, AgentSessionBuilder};
use ringcentral_sandbox::Sandbox;
use ringcentral_sandbox::agent::{ContactCenter, ContactStep};

/// Far beyond any delay on loopback.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// The account from the environment; `None` if no variable is set.
pub(crate) fn account() -> Result<Option<AgentSessionBuilder>, Failure> {
    from_variables(|name| std::env::var(name).ok())
}

fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Option<AgentSessionBuilder>, Failure> {
    const REQUIRED: [&str; 5] =
        ["CXONE_CLIENT_ID", "CXONE_CLIENT_SECRET", "CXONE_KEY_ID", "CXONE_KEY_SECRET", "CXONE_PHONE"];
    let read = |name: &str| variable(name).filter(|value| !value.is_empty());
    let [Some(client), Some(secret), Some(key), Some(key_secret), Some(phone)] = REQUIRED.map(read) else {
        let missing: Vec<&str> = REQUIRED.into_iter().filter(|name| read(name).is_none()).collect();
        if missing.len() == REQUIRED.len() {
            return Ok(None);
        }
        return Err(format!("not set: {}", missing.join(", ")).into());
    };
    let mut tokens = CxOneTokens::builder(&client, secret, key, key_secret);
    if let Some(issuer) = read("CXONE_ISSUER") {
        tokens = tokens.issuer(issuer);
    }
    Ok(Some(AgentSession::builder(tokens.build()?).phone_number(phone)))
}

/// The sandbox's agent.
pub(crate) fn emulated(center: &ContactCenter) -> Result<AgentSessionBuilder, Failure> {
    let ((client, secret), (key, key_secret)) = (center.client(), center.access_key());
    let tokens = CxOneTokens::builder(&client, secret, key, key_secret).issuer(center.url()).build()?;
    Ok(AgentSession::builder(tokens).phone_number("+12055550100"))
}

const QUICKSTART: &str = "usage: agent_quickstart

Prints an agent's events until Ctrl-C.
Account: CXONE_CLIENT_ID, CXONE_CLIENT_SECRET, CXONE_KEY_ID, CXONE_KEY_SECRET and
CXONE_PHONE (and CXONE_ISSUER for another login server); without them the sandbox,
which simulates one call and ends.";

/// Runs `run` with the session that the environment describes, else with the sandbox's, until its
/// call has ended.
pub(crate) async fn quickstart<R>(run: R) -> ExitCode
where
    R: AsyncFnOnce(AgentSessionBuilder) -> Result<(), Failure>,
{
    cli::main(
        QUICKSTART,
        (),
        |(), _, _| Ok(false),
        async |()| {
            let stop = cli::stop_signal()?;
            if let Some(session) = account()? {
                return tokio::select! {
                    outcome = run(session) => outcome,
                    () = stop => Ok(()),
                };
            }
            let sandbox = Sandbox::start().await?;
            let center = sandbox.contact_center();
            tokio::select! {
                outcome = run(emulated(&center)?) => outcome,
                played = play(&center) => played,
                () = stop => Ok(()),
            }
        },
    )
    .await
}

/// The platform's side: a call that is answered and ends.
async fn play(center: &ContactCenter) -> Result<(), Failure> {
    let read = async || if center.wait_caught_up(SOON).await { Ok(()) } else { Err("the program does not poll") };
    if !center.wait_session(|session| session.state == "Available", SOON).await {
        return Err("the agent is not available".into());
    }
    read().await?;
    let contact = center.call("+12055550143")?;
    for step in [ContactStep::Answer, ContactStep::HangUp, ContactStep::Finish] {
        read().await?;
        center.step(&contact, step)?;
    }
    read().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_read_whole_or_its_missing_variables_are_named() {
        assert!(from_variables(|_| None).unwrap().is_none());
        assert!(from_variables(|name| (name != "CXONE_ISSUER").then(|| "x".into())).unwrap().is_some());
        let some = from_variables(|name| name.contains("KEY").then(|| "x".into()));
        assert_eq!(some.unwrap_err().to_string(), "not set: CXONE_CLIENT_ID, CXONE_CLIENT_SECRET, CXONE_PHONE");
    }
}
