//! Crawls a source as Engage Digital (RingCX Digital) does, and reports violations of the protocol.
//!
//! ```text
//! RC_DIGITAL_TOKEN=… cargo run --example digital_crawler -- http://127.0.0.1:8080/
//! ```
//!
//! For sources in any language. Makes runs, replies as an agent if requested, compares, and sends
//! forgeries; exits with 1 if the source breaks a rule. With `--stay` it serves the Send API until
//! its input ends, and prints the requests.

#[path = "support/cli.rs"]
mod cli;

use std::io::Write as _;
use std::process::ExitCode;

use cli::{Failure, Misuse};
use lexopt::{Parser, ValueExt as _};
use ringcentral_events::digital::CollectionName;
use ringcentral_sandbox::Sandbox;
use ringcentral_sandbox::digital::{DigitalBehavior, DigitalChannel, Run, Severity, SourceAt, WireForm, Write};
use serde_json::json;
use tokio::io::AsyncReadExt as _;

const USAGE: &str = "usage: digital_crawler URL [options]

Crawls a source as Engage Digital does, and reports violations of the protocol.
  --runs N           how many runs (2)
  --reply TEXT       an agent answers the newest message, before the last run
  --delete           and deletes its answer again
  --show ID          asks for a message
  --check            tries forgeries and unusual requests
  --wire FORM        how requests are written: compact, ascii, html, slashes, pretty, newline
  --undeclared       the Send API takes what the source did not declare
  --stay             serves the Send API until the end of input
  --json             a JSON object per line
  RC_DIGITAL_TOKEN   the channel's API access token";

#[derive(Default)]
struct Args {
    source: Option<SourceAt>,
    runs: Option<u32>,
    reply: Option<String>,
    wire: Option<WireForm>,
    delete: bool,
    show: Option<String>,
    check: bool,
    undeclared: bool,
    stay: bool,
    json: bool,
}

fn option(args: &mut Args, name: &str, parser: &mut Parser) -> Result<bool, lexopt::Error> {
    match name {
        "--runs" => args.runs = Some(parser.value()?.parse()?),
        "--reply" => args.reply = Some(parser.value()?.string()?),
        "--wire" => {
            let form = json!(parser.value()?.string()?);
            args.wire = Some(serde_json::from_value(form).map_err(|error| format!("--wire: {error}"))?);
        }
        "--delete" => args.delete = true,
        "--show" => args.show = Some(parser.value()?.string()?),
        "--check" => args.check = true,
        "--undeclared" => args.undeclared = true,
        "--stay" => args.stay = true,
        "--json" => args.json = true,
        url if !url.starts_with('-') && args.source.is_none() => {
            let named = |error| format!("the URL {url:?}: {}", cli::error_chain(&error));
            args.source = Some(SourceAt::url(url).map_err(named)?);
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// Prints steps and counts violations.
struct Report {
    json: bool,
    errors: usize,
    warnings: usize,
}

impl Report {
    fn print(&mut self, stage: &str, run: &Run) -> Result<(), Failure> {
        let mut out = std::io::stdout();
        for step in &run.steps {
            if self.json {
                let (status, outcome) = (step.status, &step.outcome);
                let line = json!({
                    "type": "step", "stage": stage, "action": step.action, "status": status, "outcome": outcome,
                    "succeeded": step.succeeded,
                });
                writeln!(out, "{line}")?;
            } else {
                writeln!(out, "{stage:<8} {step}")?;
            }
        }
        for violation in run.violations() {
            match violation.severity {
                Severity::Warning => self.warnings += 1,
                _ => self.errors += 1,
            }
            if self.json {
                let line = json!({
                    "type": "violation", "stage": stage, "rule": violation.rule.as_str(), "action": violation.action,
                    "severity": format!("{:?}", violation.severity).to_lowercase(), "id": violation.id,
                    "message": violation.message,
                });
                writeln!(out, "{line}")?;
            }
        }
        if !self.json {
            run.violations.iter().try_for_each(|violation| writeln!(out, "{stage:<8}   {violation}"))?;
        }
        Ok(())
    }

    fn line(&self, kind: &str, mut line: serde_json::Value) -> Result<(), Failure> {
        let mut out = std::io::stdout();
        if self.json {
            line["type"] = json!(kind);
            writeln!(out, "{line}")?;
        } else {
            writeln!(out, "{kind:<8} {line}")?;
        }
        out.flush()?;
        Ok(())
    }
}

/// An agent replies to the newest message, and may delete the reply.
async fn answer(channel: &DigitalChannel, report: &mut Report, text: &str, delete: bool) -> Result<(), Failure> {
    let (collection, newest) = [CollectionName::Messages, CollectionName::PrivateMessages]
        .into_iter()
        .find_map(|collection| Some((collection, channel.contents(collection).into_iter().next_back()?)))
        .ok_or("the source has no message to answer")?;
    let agent = channel.puppet().ok_or("the source has no identity that an agent may write as (puppetizable)")?;
    let customer = newest.content.get("author").and_then(|author| author["id"].as_str()).unwrap_or_default();
    let write = match newest.text("thread_id") {
        Some(thread) if collection == CollectionName::Messages => Write::message(&agent, text).in_thread(thread),
        _ if collection == CollectionName::Messages => Write::message(&agent, text),
        _ => Write::private_message(&agent, customer, text),
    };
    let written = channel.write(write.in_reply_to(&newest.id)).await?;
    report.print("agent", &written.run)?;
    if let (true, Some(id)) = (delete, written.job.id.as_deref()) {
        report.print("agent", &channel.write(Write::on(collection, "delete", id)).await?.run)?;
    }
    Ok(())
}

async fn run(args: Args) -> Result<(), Failure> {
    let source = args.source.ok_or(Misuse("the URL of the source is missing"))?;
    let token = std::env::var("RC_DIGITAL_TOKEN").ok().filter(|token| !token.is_empty());
    let token = token.ok_or("RC_DIGITAL_TOKEN, the channel's API access token, is not set")?;
    let behavior = |behavior: &mut DigitalBehavior| {
        behavior.wire = args.wire.unwrap_or(behavior.wire);
        behavior.check_declared = !args.undeclared;
    };
    let sandbox = Sandbox::builder().behavior(|all| behavior(&mut all.digital)).start().await?;
    let channel = sandbox.digital_channel(source, token)?;
    let mut report = Report { json: args.json, errors: 0, warnings: 0 };
    report.line("ready", json!({ "send_url": channel.send_url() }))?;
    let runs = args.runs.unwrap_or(2);
    for number in 1..=runs {
        if let (true, Some(text)) = (number == runs && number > 1, &args.reply) {
            answer(&channel, &mut report, text, args.delete).await?;
        }
        report.print("crawl", &channel.run().await)?;
    }
    if let Some(id) = &args.show {
        report.print("show", &channel.show(CollectionName::Messages, id).await)?;
    }
    report.print("audit", &channel.audit().await)?;
    if args.check {
        report.print("check", &channel.check_requests().await)?;
    }
    if args.stay {
        report.line("serving", json!({ "send_url": channel.send_url() }))?;
        tokio::io::stdin().read_to_end(&mut Vec::new()).await?;
        for received in channel.received() {
            report.line("received", json!({ "action": received.action, "params": received.params }))?;
        }
    }
    let contents = CollectionName::ALL.map(|name| (name.to_string(), json!(channel.contents(name).len())));
    let contents: serde_json::Map<_, _> = contents.into_iter().collect();
    report.line("end", json!({ "errors": report.errors, "warnings": report.warnings, "contents": contents }))?;
    match report.errors {
        0 => Ok(()),
        count => Err(format!("the source breaks {count} rules").into()),
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    cli::main(USAGE, Args::default(), option, run).await
}
