//! Lines with times and, on a terminal, colours; and the ciphertexts that a transport reads.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use ringcentral_events::Result;
use ringcentral_events::control::{ControlPlane, DeliveryModeRequest};
use ringcentral_events::transport::{FrameBody, Link, LinkEvent, Target, Transport, TransportBinding, TransportKind};
use tokio::time::Instant;

use super::support::printable;

static SCREEN: LazyLock<Screen> = LazyLock::new(|| {
    let wants_none = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    Screen { start: Instant::now(), colours: io::stdout().is_terminal() && !wants_none && !is_dumb }
});

struct Screen {
    start: Instant,
    colours: bool,
}

/// A line of text.
pub(crate) fn line(text: &str) -> io::Result<()> {
    // Times count from the first line.
    LazyLock::force(&SCREEN);
    writeln!(io::stdout().lock(), "{text}")
}

/// One line per event: the seconds since the start, the stage and the details.
pub(crate) fn say(stage: &str, what: &str) -> io::Result<()> {
    let elapsed = SCREEN.start.elapsed().as_secs_f64();
    line(&format(elapsed, stage, &printable(what), SCREEN.colours))
}

fn format(elapsed: f64, stage: &str, what: &str, colours: bool) -> String {
    let time = format!("{elapsed:>8.3} s");
    let stage_text = format!("{stage:<20}");
    if !colours {
        return format!("{time}  {stage_text} {what}");
    }
    let colour = match stage {
        "gap" | "link lost" | "subscription lost" | "undecodable" | "not replied" => "33",
        "ciphertext" => "35",
        "replied" => "36",
        _ if stage.ends_with("received") => "32",
        _ => "1",
    };
    format!("\u{1b}[2m{time}\u{1b}[0m  \u{1b}[{colour}m{stage_text}\u{1b}[0m {what}")
}

/// A transport that prints each encrypted payload as it comes.
#[derive(Debug)]
pub(crate) struct Ciphertexts(pub(crate) Arc<dyn Transport>);

#[async_trait]
impl Transport for Ciphertexts {
    fn kind(&self) -> TransportKind {
        self.0.kind()
    }

    fn delivery_mode(&self) -> DeliveryModeRequest {
        self.0.delivery_mode()
    }

    fn bind(&self, control: &Arc<dyn ControlPlane>) -> Option<TransportBinding> {
        let mut binding = self.0.bind(control)?;
        binding.transport = Arc::new(Self(binding.transport));
        Some(binding)
    }

    async fn open(&self, target: Target) -> Result<Box<dyn Link>> {
        Ok(Box::new(Shown(self.0.open(target).await?)))
    }
}

struct Shown(Box<dyn Link>);

#[async_trait]
impl Link for Shown {
    async fn next(&mut self) -> Result<LinkEvent> {
        let event = self.0.next().await?;
        if let LinkEvent::Batch(batch) = &event {
            let bodies = batch.frames.iter().map(|frame| &frame.body);
            for text in bodies.filter_map(ciphertext) {
                // A closed output ends the program elsewhere.
                let _ = say("ciphertext", &text);
            }
        }
        Ok(event)
    }

    fn check(&mut self) {
        self.0.check();
    }

    async fn close(self: Box<Self>) {
        self.0.close().await;
    }
}

/// The beginning of an encrypted payload, which is a JSON string: base64 of AES-128-ECB.
fn ciphertext(body: &FrameBody) -> Option<String> {
    let FrameBody::Payload(raw) = body else { return None };
    let base64 = raw.get().strip_prefix('"')?.strip_suffix('"')?;
    let shown: String = base64.chars().take(40).collect();
    Some(format!("{shown}… ({} characters of base64, AES-128)", base64.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::value::RawValue;

    #[test]
    fn lines_have_colours_only_if_wanted() {
        assert_eq!(format(1.5, "login", "Ana", false), "   1.500 s  login                Ana");
        for stage in ["gap", "ciphertext", "replied", "SMS received", "login"] {
            let line = format(1.5, stage, "x", true);
            assert!(line.contains("\u{1b}[") && line.ends_with("\u{1b}[0m x"), "{line:?}");
        }
    }

    #[test]
    fn an_encrypted_payload_is_a_string() {
        let body = |json: &str| FrameBody::Payload(RawValue::from_string(json.into()).unwrap());
        let long = format!("\"{}\"", "A".repeat(100));
        let shown = ciphertext(&body(&long)).unwrap();
        assert!(shown.starts_with(&"A".repeat(40)) && shown.contains("(100 characters"), "{shown}");
        assert_eq!(ciphertext(&body("{}")), None);
        assert_eq!(ciphertext(&FrameBody::Malformed { raw: "\"x\"".into(), reason: "x" }), None);
    }
}
