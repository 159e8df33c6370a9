//! Options, `--help`, exit codes, errors and logs of all examples.

#![allow(dead_code, reason = "each example uses its part")]

use std::error::Error;
use std::ffi::OsString;
use std::io::{self, Write as _};
use std::process::ExitCode;

use lexopt::{Arg, Parser, ValueExt as _};
use ringcentral_events::transport::TransportKind;
use tracing_subscriber::EnvFilter;

pub(crate) type Failure = Box<dyn Error + Send + Sync>;

/// Reads the command line into `asked` and runs `run`. The exit code is 0 after success or `--help`,
/// 1 after an error and 2 after a usage error.
///
/// `option` gets the name of each option (`--port`) or the text of an argument without a name, reads
/// the option's value from the parser, and returns whether the program knows it.
pub(crate) async fn main<A>(
    usage: &str,
    asked: A,
    option: impl FnMut(&mut A, &str, &mut Parser) -> Result<bool, lexopt::Error>,
    run: impl AsyncFnOnce(A) -> Result<(), Failure>,
) -> ExitCode {
    let name = usage.split_whitespace().nth(1).unwrap_or_default();
    match read(std::env::args_os().skip(1), asked, option) {
        Ok(Some(asked)) => {
            log_to_stderr();
            match run(asked).await {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) if error.is::<Misuse>() => misused(name, usage, &error),
                Err(error) => {
                    eprintln!("{name}: {}", printable(&error_chain(&*error)));
                    ExitCode::FAILURE
                }
            }
        }
        Ok(None) => {
            // A closed reader needs no help text.
            let _ = writeln!(io::stdout(), "{usage}");
            ExitCode::SUCCESS
        }
        Err(error) => misused(name, usage, &error),
    }
}

fn misused(name: &str, usage: &str, error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("{name}: {}\n{usage}", printable(&error.to_string()));
    ExitCode::from(2)
}

/// A usage error that shows only when all options are read.
#[derive(Debug)]
pub(crate) struct Misuse(pub(crate) &'static str);

impl std::fmt::Display for Misuse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl Error for Misuse {}

/// `None` if help is requested.
fn read<A, I>(
    args: I,
    mut asked: A,
    mut option: impl FnMut(&mut A, &str, &mut Parser) -> Result<bool, lexopt::Error>,
) -> Result<Option<A>, lexopt::Error>
where
    I: IntoIterator<Item = OsString>,
    I::IntoIter: 'static,
{
    let mut parser = Parser::from_args(args);
    while let Some(arg) = parser.next()? {
        let name = match arg {
            Arg::Long("help") | Arg::Short('h') => return Ok(None),
            Arg::Long(name) => format!("--{name}"),
            Arg::Short(name) => format!("-{name}"),
            Arg::Value(value) => value.string()?,
        };
        if !option(&mut asked, &name, &mut parser).map_err(|error| named(&name, error))? {
            return Err(format!("unknown option or argument {name:?}").into());
        }
    }
    Ok(Some(asked))
}

/// An error about an option's value, with the option's name.
pub(crate) fn named(name: &str, error: lexopt::Error) -> lexopt::Error {
    match error {
        lexopt::Error::ParsingFailed { value, error } => format!("{name} {value:?}: {error}").into(),
        other => other,
    }
}

/// The value of `--transport`, one of `known`.
pub(crate) fn transport(parser: &mut Parser, known: &[TransportKind]) -> Result<TransportKind, lexopt::Error> {
    let name = parser.value()?.string()?;
    match name.parse::<TransportKind>() {
        Ok(kind) if known.contains(&kind) => Ok(kind),
        _ => {
            let known: Vec<String> = known.iter().map(|kind| kind.as_str().to_lowercase()).collect();
            Err(format!("--transport {name:?} is not one of: {}", known.join(", ")).into())
        }
    }
}

/// An error and all its causes on one line.
pub(crate) fn error_chain(error: &dyn Error) -> String {
    let mut story = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        story.push_str(": ");
        story.push_str(&error.to_string());
        cause = error.source();
    }
    story
}

/// `text` on one line without terminal controls: control, bidirectional and invisible characters
/// are escaped.
pub(crate) fn printable(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut shown, c| {
        if c.is_control() || is_format(c) {
            shown.extend(c.escape_unicode());
        } else {
            shown.push(c);
        }
        shown
    })
}

/// Bidirectional marks, line separators and zero-width characters, except the joiners that scripts
/// and emoji need.
fn is_format(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
    )
}

/// Logs to stderr; `RUST_LOG` is the filter.
pub(crate) fn log_to_stderr() {
    let wanted = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(wanted).with_writer(io::stderr).with_ansi(false).init();
}

/// Waits for Ctrl-C or, on Unix, SIGTERM. From this call on neither ends the process by default.
#[cfg(unix)]
pub(crate) fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// Waits for Ctrl-C. From this call on it does not end the process by default.
#[cfg(windows)]
pub(crate) fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    let mut interrupt = tokio::signal::windows::ctrl_c()?;
    Ok(async move {
        interrupt.recv().await;
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Option<(u16, String)>, String> {
        let args: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        let option = |asked: &mut (u16, String), name: &str, parser: &mut Parser| {
            match name {
                "--port" => asked.0 = parser.value()?.parse()?,
                url if !url.starts_with('-') => asked.1 = url.to_owned(),
                _ => return Ok(false),
            }
            Ok(true)
        };
        read(args, (0, String::new()), option).map_err(|error| error.to_string())
    }

    #[test]
    fn options_arguments_help_and_mistakes_are_recognized() {
        assert_eq!(parse("--port 7 http://x"), Ok(Some((7, "http://x".into()))));
        assert_eq!(parse("--port=7"), Ok(Some((7, String::new()))));
        assert_eq!((parse("--port 7 --help"), parse("-h")), (Ok(None), Ok(None)));
        for (line, named) in [("--port", "--port"), ("--port x", "invalid digit"), ("--what", "--what"), ("-x", "-x")] {
            let message = parse(line).unwrap_err();
            assert!(message.contains(named), "{line}: {message}");
        }
    }

    #[test]
    fn terminal_controls_are_escaped_and_other_text_is_unchanged() {
        for (text, want) in [
            ("plain é ☃ 👩\u{200d}🚀 \\ \"q\"", "plain é ☃ 👩\u{200d}🚀 \\ \"q\""),
            ("\u{1b}[31mred", r"\u{1b}[31mred"),
            ("a\r\nb\tc\u{7f}", r"a\u{d}\u{a}b\u{9}c\u{7f}"),
            ("\u{9b}2J\u{85}", r"\u{9b}2J\u{85}"),
            ("\u{202e}gpj.exe\u{2066}\u{200f}", r"\u{202e}gpj.exe\u{2066}\u{200f}"),
            ("\u{2028}\u{feff}\u{e0041}", r"\u{2028}\u{feff}\u{e0041}"),
        ] {
            assert_eq!(printable(text), want);
        }
    }

    #[test]
    fn an_error_chain_has_every_cause_once() {
        let error = ringcentral_events::Error::new(ringcentral_events::ErrorKind::Config, "outer")
            .with_source(io::Error::other("inner"));
        assert_eq!(error_chain(&error), "outer: inner");
    }
}
