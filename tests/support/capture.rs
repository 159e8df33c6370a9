//! Captures all logs, by `tracing` and by `log`, at every level.

use std::fmt::{Debug, Write as _};
use std::sync::{Arc, Mutex};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Stores the logs. Loggers are global to the process, so the test runs in a separate process (`process::ran_alone`).
#[derive(Clone, Default)]
pub(crate) struct Capture(Arc<Mutex<String>>);

struct Line<'a>(&'a mut String);

impl Visit for Line<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, " {field}={value:?}").unwrap();
    }
}

impl Capture {
    /// Captures everything that this process logs from now on, by `tracing` and by `log`.
    pub(crate) fn install() -> (Self, Self) {
        let (ours, others) = (Self::default(), Self::default());
        tracing::subscriber::set_global_default(ours.clone()).unwrap();
        log::set_boxed_logger(Box::new(others.clone())).unwrap();
        log::set_max_level(log::LevelFilter::Trace);
        (ours, others)
    }

    fn line(&self, metadata: &Metadata<'_>, record: impl FnOnce(&mut Line<'_>)) {
        let mut text = self.0.lock().unwrap();
        write!(text, "\n{} {}", metadata.level(), metadata.target()).unwrap();
        record(&mut Line(&mut text));
    }

    /// The logs so far.
    pub(crate) fn text(&self) -> String {
        self.0.lock().unwrap().clone()
    }
}

impl Subscriber for Capture {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, span: &Attributes<'_>) -> Id {
        self.line(span.metadata(), |line| span.record(line));
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, values: &Record<'_>) {
        values.record(&mut Line(&mut self.0.lock().unwrap()));
    }
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        self.line(event.metadata(), |line| event.record(line));
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

impl log::Log for Capture {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }
    fn log(&self, record: &log::Record<'_>) {
        // The sandbox's end of a connection is in this process too, and logs what it sends. The client's end is covered
        // by the tests of its bytes.
        if !record.target().starts_with("tungstenite") {
            write!(self.0.lock().unwrap(), "\n{} {} {}", record.level(), record.target(), record.args()).unwrap();
        }
    }
    fn flush(&self) {}
}
