//! Arguments of `listen`.

use std::ffi::OsString;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use lexopt::{Arg, Parser, ValueExt as _};
use ringcentral_events::transport::TransportKind;
use ringcentral_events::{Error, EventFilter};

use super::lines::Format;
use super::support::cli::named;

pub(crate) const USAGE: &str = "usage: listen [options]

Prints events, one line each.
  --transport NAMES    websocket (the default), pubnub or poll; several, with
                       commas between them, are used in that order
  --filter URI         event filter; may be repeated
                       (/restapi/v1.0/account/~/extension/~/message-store)
  --subscriptions N    number of subscriptions of these filters, on one client (1)
  --expires-in SECS    lifetime to request (default: the service's)
  --checkpoint FILE    save the position there and resume from it, so that nothing
                       is lost; after a crash the events of the last second may be
                       printed again
  --tokens FILE        store the login there for the next run, which a WebSocket
                       session needs to survive a restart (with --checkpoint and your own server:
                       default FILE.tokens beside it)
  --format FORMAT      text (the default) or json: one object per line
  --show-raw           print undecodable text too; it may contain secrets
  --help

Ends at the end of standard input, on Ctrl-C or SIGTERM.
Login: RC_APP_CLIENT_ID, RC_APP_CLIENT_SECRET, RC_USER_JWT and RC_SERVER_URL (and
RC_PUBNUB_ORIGIN); without them the sandbox, an emulator of the service.";

/// The transports that this program supports.
const TRANSPORTS: [TransportKind; 3] = [TransportKind::WebSocket, TransportKind::PubNub, TransportKind::Poll];

/// The command line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Arguments {
    /// At least one, in the order of preference.
    pub(crate) transports: Vec<TransportKind>,
    pub(crate) filters: Vec<EventFilter>,
    pub(crate) subscriptions: NonZeroU32,
    pub(crate) expires_in: Option<Duration>,
    /// The checkpoint file.
    pub(crate) checkpoint: Option<PathBuf>,
    /// The token file, if given.
    pub(crate) tokens: Option<PathBuf>,
    pub(crate) format: Format,
    /// Whether to print the text of undecodable items.
    pub(crate) show_raw: bool,
}

impl Arguments {
    /// The token file, for a server that outlives this program.
    pub(crate) fn tokens(&self) -> Option<PathBuf> {
        self.tokens.clone().or_else(|| {
            let mut beside = self.checkpoint.clone()?.into_os_string();
            beside.push(".tokens");
            Some(beside.into())
        })
    }
}

/// The result of parsing the command line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Listen(Arguments),
    Help,
}

/// A usage error, and how to report it as far as that is known.
#[derive(Debug)]
pub(crate) struct Mistake {
    pub(crate) message: String,
    pub(crate) format: Format,
}

/// Parses the command line, without the program's name.
pub(crate) fn parse<I>(args: I) -> Result<Asked, Mistake>
where
    I: IntoIterator<Item = OsString>,
    I::IntoIter: 'static,
{
    let args: Vec<OsString> = args.into_iter().collect();
    let format = if wants_json(&args) { Format::Json } else { Format::Text };
    read(Parser::from_args(args)).map_err(|error| Mistake { message: error.to_string(), format })
}

/// Whether to report a usage error in JSON, no matter where on the line the error is.
fn wants_json(args: &[OsString]) -> bool {
    let pairs = args.iter().zip(args.iter().skip(1));
    pairs.into_iter().any(|(name, value)| name == "--format" && value == "json")
        || args.iter().any(|arg| arg == "--format=json")
}

fn read(mut parser: Parser) -> Result<Asked, lexopt::Error> {
    let mut asked = Arguments {
        transports: vec![TransportKind::WebSocket],
        filters: Vec::new(),
        subscriptions: NonZeroU32::MIN,
        expires_in: None,
        checkpoint: None,
        tokens: None,
        format: Format::Text,
        show_raw: false,
    };
    while let Some(arg) = parser.next()? {
        match arg {
            Arg::Long("transport") => {
                let names = parser.value()?.string()?;
                let transports = names.split(',').map(transport).collect::<Result<_, _>>();
                asked.transports = transports.map_err(|error| format!("--transport: {error}"))?;
            }
            Arg::Long("filter") => asked.filters.push(parsed(&mut parser, "--filter")?),
            Arg::Long("subscriptions") => {
                let number = parsed(&mut parser, "--subscriptions")?;
                asked.subscriptions = NonZeroU32::new(number).ok_or("--subscriptions 0: the least is 1")?;
            }
            Arg::Long("expires-in") => {
                asked.expires_in = Some(Duration::from_secs(parsed(&mut parser, "--expires-in")?))
            }
            Arg::Long("checkpoint") => asked.checkpoint = Some(parser.value()?.into()),
            Arg::Long("tokens") => asked.tokens = Some(parser.value()?.into()),
            Arg::Long("format") => asked.format = format(&parser.value()?.string()?)?,
            Arg::Long("show-raw") => asked.show_raw = true,
            Arg::Long("help") | Arg::Short('h') => return Ok(Asked::Help),
            other => return Err(other.unexpected()),
        }
    }
    if asked.checkpoint.is_some() && asked.subscriptions > NonZeroU32::MIN {
        return Err("--checkpoint supports only one subscription".into());
    }
    if asked.filters.is_empty() {
        asked.filters.push(EventFilter::message_store());
    }
    Ok(Asked::Listen(asked))
}

fn parsed<T>(parser: &mut Parser, name: &str) -> Result<T, lexopt::Error>
where
    T: FromStr<Err: Into<Box<dyn std::error::Error + Send + Sync>>>,
{
    parser.value()?.parse().map_err(|error| named(name, error))
}

fn transport(name: &str) -> Result<TransportKind, lexopt::Error> {
    let kind: TransportKind = name.parse().map_err(|error: Error| error.to_string())?;
    if TRANSPORTS.contains(&kind) {
        return Ok(kind);
    }
    let had = TRANSPORTS.map(TransportKind::as_str).join(", ");
    Err(format!("{kind} is not a transport of this program, which has: {had}").into())
}

fn format(name: &str) -> Result<Format, lexopt::Error> {
    match name {
        "json" => Ok(Format::Json),
        "text" => Ok(Format::Text),
        _ => Err(format!("--format {name:?} is not known; known are: json, text").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Asked, Mistake> {
        parse(line.split_whitespace().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn options_are_read_and_have_defaults() {
        let Asked::Listen(plain) = read("").unwrap() else { panic!("help was not requested") };
        assert_eq!(plain.filters, [EventFilter::message_store()]);
        assert_eq!(plain.transports, [TransportKind::WebSocket]);
        assert_eq!((plain.subscriptions.get(), plain.expires_in, plain.format), (1, None, Format::Text));
        assert!(!plain.show_raw);
        assert!(matches!(read("--show-raw").unwrap(), Asked::Listen(Arguments { show_raw: true, .. })));
        let Asked::Listen(full) =
            read("--transport PUBNUB --filter /a --filter=/b --subscriptions 3 --expires-in 60 --format json").unwrap()
        else {
            panic!("help was not requested")
        };
        assert_eq!(full.filters.iter().map(EventFilter::as_str).collect::<Vec<_>>(), ["/a", "/b"]);
        assert_eq!((full.subscriptions.get(), full.expires_in), (3, Some(Duration::from_secs(60))));
        assert_eq!((full.transports, full.format), (vec![TransportKind::PubNub], Format::Json));
        let Asked::Listen(other) = read("--transport websocket,poll").unwrap() else {
            panic!("help was not requested")
        };
        assert_eq!(other.transports, [TransportKind::WebSocket, TransportKind::Poll]);
        assert_eq!(read("--help").unwrap(), Asked::Help);
    }

    #[test]
    fn the_login_is_stored_beside_the_checkpoint_or_at_the_given_path() {
        for (line, want) in [
            ("", None),
            ("--checkpoint a/place", Some("a/place.tokens")),
            ("--tokens t", Some("t")),
            ("--checkpoint place --tokens t", Some("t")),
        ] {
            let Asked::Listen(asked) = read(line).unwrap() else { panic!("help was not requested") };
            assert_eq!(asked.tokens(), want.map(PathBuf::from), "{line}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (line, expected) in [
            ("--transport carrier-pigeon", "known are: PubNub, WebSocket, WebHook"),
            ("--checkpoint x --subscriptions 2", "--checkpoint supports only one subscription"),
            ("--transport websocket,", "known are"),
            ("--transport webhook", "--transport: WebHook is not a transport of this program"),
            ("--format xml", "known are: json, text"),
            ("--filter nonsense", "--filter \"nonsense\": "),
            ("--filter nonsense", "neither a path nor an http URL"),
            ("--subscriptions 0", "--subscriptions 0: the least is 1"),
            ("--subscriptions -1", "--subscriptions \"-1\": "),
            ("--expires-in soon", "--expires-in \"soon\": "),
            ("--subscriptions", "missing argument"),
            ("--what", "--what"),
            ("what", "what"),
        ] {
            let message = read(line).unwrap_err().message;
            assert!(message.contains(expected), "{line}: {message}");
        }
    }

    #[test]
    fn a_usage_error_is_reported_in_json_if_requested() {
        assert_eq!(read("--what --format json").unwrap_err().format, Format::Json);
        assert_eq!(read("--format=json --what").unwrap_err().format, Format::Json);
        assert_eq!(read("--what --format text").unwrap_err().format, Format::Text);
    }
}
