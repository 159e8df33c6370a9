//! Shared by the tests of events.
use std::path::Path;
use std::time::SystemTime;

use ringcentral_events::event::{EventKind, Notification, Origin};
use serde_json::value::RawValue;

/// A file of `tests/fixtures/events`; its name begins with its kind.
pub(crate) struct Fixture {
    pub(crate) name: String,
    pub(crate) kind: EventKind,
    pub(crate) text: String,
}

pub(crate) fn fixtures() -> Vec<Fixture> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/events");
    let mut fixtures: Vec<Fixture> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let wanted = name.split("--").next().unwrap();
            let kind = EventKind::all().find(|kind| kind.as_str() == wanted).unwrap_or_else(|| panic!("{name}"));
            Fixture { kind, text: std::fs::read_to_string(&path).unwrap(), name }
        })
        .collect();
    fixtures.sort_by(|a, b| a.name.cmp(&b.name));
    fixtures
}

pub(crate) fn parse(text: &str) -> Notification {
    let raw = RawValue::from_string(text.to_owned()).unwrap();
    Notification::parse(raw, Origin::Push, SystemTime::UNIX_EPOCH).unwrap()
}
