//! Collects the spans that the crate opens.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;

#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) id: u64,
    pub(crate) name: &'static str,
    pub(crate) target: String,
    pub(crate) level: String,
    pub(crate) parent: Option<u64>,
    pub(crate) fields: BTreeMap<String, String>,
    pub(crate) is_closed: bool,
}

impl Visit for Seen {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.fields.insert(field.name().to_owned(), value.to_owned());
    }
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.fields.insert(field.name().to_owned(), format!("{value:?}"));
    }
}

impl Seen {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }
}

#[derive(Clone, Default)]
pub(crate) struct Collector(pub(crate) Arc<Mutex<Vec<Seen>>>, pub(crate) Arc<Notify>);

impl Collector {
    /// A collector of all spans of this process.
    pub(crate) fn global() -> Self {
        let seen = Self::default();
        tracing::subscriber::set_global_default(tracing_subscriber::registry().with(seen.clone())).unwrap();
        seen
    }

    /// The crate's own spans of this name; other crates open some too.
    pub(crate) fn named(&self, name: &str) -> Vec<Seen> {
        let all = self.0.lock().unwrap();
        let ours = all.iter().filter(|span| span.target.starts_with("ringcentral_events::"));
        ours.filter(|span| span.name == name).cloned().collect()
    }

    fn change(&self, id: &Id, change: impl FnOnce(&mut Seen)) {
        let mut all = self.0.lock().unwrap();
        // Ids are used again.
        change(all.iter_mut().rev().find(|span| span.id == id.into_u64()).unwrap());
    }
}

impl<S: tracing::Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Collector {
    fn on_new_span(&self, span: &Attributes<'_>, id: &Id, ctx: Context<'_, S>) {
        let meta = span.metadata();
        let mut seen = Seen {
            id: id.into_u64(),
            name: meta.name(),
            target: meta.target().to_owned(),
            level: meta.level().to_string(),
            parent: ctx.span(id).unwrap().parent().map(|parent| parent.id().into_u64()),
            ..Seen::default()
        };
        span.record(&mut seen);
        self.0.lock().unwrap().push(seen);
    }
    fn on_record(&self, id: &Id, values: &Record<'_>, _: Context<'_, S>) {
        self.change(id, |span| values.record(span));
    }
    fn on_close(&self, id: Id, _: Context<'_, S>) {
        self.change(&id, |span| span.is_closed = true);
        self.1.notify_one();
    }
}
