//! A source: its capabilities and handlers.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde::Serialize;

use super::action::{Action, CollectionName, CustomAction, is_word, unknown_action};
use super::collection::{Collection, Content};
use super::create::{QueuingUpdate, Typing};
use super::failure::Failure;
use super::feed::{Feed, page};
use super::idempotency::{IdempotencyStore, MemoryIdempotencyStore, Once};
use super::options::{self, Operations, SourceOption};
use crate::error::{Error, Result};
use crate::telemetry;

/// Default maximum number of contents in a list.
const PAGE: usize = 100;
const PAGE_CAP: usize = 10_000;

type Handler = Arc<dyn Fn(Action) -> BoxFuture<'static, Result<Bytes, Failure>> + Send + Sync>;

/// Your app as the platform sees it: operations on collections, and their handlers.
///
/// `implementation.info` advertises exactly the registered operations, so that the platform offers
/// no button without effect. Created by [`Source::builder`]; served by a
/// [`SourceEndpoint`](super::SourceEndpoint). Cheap to clone.
#[derive(Clone)]
pub struct Source(Arc<Inner>);

struct Inner {
    info: Bytes,
    handlers: BTreeMap<String, Handler>,
}

/// Builds a [`Source`].
///
/// Handlers are async functions that run in separate tasks: a panic becomes a 500, and a write runs
/// to its end even if the platform disconnects or the deadline passes and the platform is asked to
/// retry.
#[must_use]
pub struct SourceBuilder {
    handlers: BTreeMap<String, Handler>,
    operations: Operations,
    options: Vec<SourceOption>,
    locales: BTreeMap<String, BTreeMap<String, String>>,
    read_marks: bool,
    once: Arc<dyn IdempotencyStore>,
    once_used: Vec<PendingCreate>,
    page: usize,
    fault: Option<Error>,
}

/// Becomes a handler once the store is known.
type PendingCreate = (CollectionName, Box<dyn FnOnce(Arc<Once>) -> Handler + Send>);

#[derive(Serialize)]
struct Info<'a> {
    objects: BTreeMap<&'static str, &'a [String]>,
    options: &'a [SourceOption],
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    locales: &'a BTreeMap<String, BTreeMap<String, String>>,
}

impl Source {
    /// A source without operations.
    pub fn builder() -> SourceBuilder {
        SourceBuilder {
            handlers: BTreeMap::new(),
            operations: Operations::new(),
            options: Vec::new(),
            locales: BTreeMap::new(),
            read_marks: false,
            once: Arc::new(MemoryIdempotencyStore::default()),
            once_used: Vec::new(),
            page: PAGE,
            fault: None,
        }
    }

    /// The answer to `implementation.info`, JSON.
    #[must_use]
    pub fn info(&self) -> &[u8] {
        &self.0.info
    }

    /// Whether the source supports `action`.
    pub(super) fn knows(&self, action: &Action) -> bool {
        matches!(action, Action::ImplementationInfo) || self.handler(action).is_some()
    }

    /// Which of the two names of a deletion the platform uses is not certain (digital-source.md §16): either handler
    /// serves both.
    fn handler(&self, action: &Action) -> Option<&Handler> {
        let handlers = &self.0.handlers;
        handlers.get(&action.name()).or_else(|| match action {
            Action::Delete { collection, .. } => handlers.get(&format!("{collection}.destroy")),
            Action::Destroy { collection, .. } => handlers.get(&format!("{collection}.delete")),
            _ => None,
        })
    }

    /// Runs `action`. Nothing happens before the first poll.
    pub(super) async fn run(&self, action: Action) -> Result<Bytes, Failure> {
        if matches!(action, Action::ImplementationInfo) {
            return Ok(self.0.info.clone());
        }
        match self.handler(&action) {
            Some(handler) => handler(action).await,
            None => Err(Failure::status(400, unknown_action().to_string())),
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut actions: Vec<_> = self.0.handlers.keys().collect();
        actions.sort();
        f.debug_struct("Source").field("actions", &actions).finish()
    }
}

impl SourceBuilder {
    /// Registers lists (`….list`), the new contents of a collection. Without a list the platform
    /// learns of contents only through the Send API, and calls every three minutes instead of every
    /// minute.
    pub fn list<C: Collection>(self, _: C, feed: impl Feed<C::Content>) -> Self {
        let (feed, limit) = (Arc::new(feed), self.page);
        self.on(C::NAME, "list", move |action| {
            let feed = Arc::clone(&feed);
            async move {
                let Action::List { since_id, .. } = action else { return Err(misrouted()) };
                let page = page(&*feed, since_id.as_deref(), limit).await?;
                telemetry::listed(C::NAME.as_str(), page.len());
                json(&page)
            }
        })
    }

    /// Shows one content (`….show`) by its id; `None` if it does not exist.
    pub fn show<C, F, Fut>(self, _: C, handler: F) -> Self
    where
        C: Collection,
        F: Fn(String) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Option<C::Content>, Failure>> + Send + 'static,
    {
        let handler = Arc::new(handler);
        self.on(C::NAME, "show", move |action| {
            let handler = Arc::clone(&handler);
            async move {
                let Action::Show { id, .. } = action else { return Err(misrouted()) };
                match handler(id).await? {
                    Some(content) => object(&content),
                    // The guide's way to say that there is nothing.
                    None => Ok(Bytes::from_static(b"{}")),
                }
            }
        })
    }

    /// Writes an agent's content (`….create`) and returns the result with a new id in the source,
    /// different from that of the content it replies to.
    ///
    /// The handler runs once for each `content_id`; a repetition gets the answer from the
    /// [store](Self::contents).
    pub fn create<C, F, Fut>(mut self, _: C, handler: F) -> Self
    where
        C: Collection,
        F: Fn(C::New) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<C::Content, Failure>> + Send + 'static,
    {
        let handler = Arc::new(handler);
        let make = move |once: Arc<Once>| -> Handler {
            Arc::new(move |action| {
                let (handler, once) = (Arc::clone(&handler), Arc::clone(&once));
                Box::pin(async move {
                    let created = C::new_of(action).ok_or_else(misrouted)?;
                    let (content_id, reply_to, new) = (created.content_id, created.in_reply_to_id, created.new);
                    let create = async { with_distinct_id(&handler(new).await?, reply_to.as_deref()) };
                    match content_id {
                        Some(id) => once.run(C::NAME, &id, create).await,
                        None => create.await,
                    }
                })
            })
        };
        self.advertise(C::NAME, "create");
        self.once_used.push((C::NAME, Box::new(make)));
        self
    }

    /// Declares that contents can be replied to (`reply`). A reply is a create with
    /// `in_reply_to_id`; such contents must also have `reply` in their actions.
    pub fn reply<C: Collection>(mut self, _: C) -> Self {
        self.advertise(C::NAME, "reply");
        self
    }

    /// Deletes a content (`….delete`) and returns its last state. A repeated deletion returns the
    /// same. Also handles `….destroy`, unless that has its own handler.
    pub fn delete<C, F, Fut>(self, collection: C, handler: F) -> Self
    where
        C: Collection,
        F: Fn(String) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<C::Content, Failure>> + Send + 'static,
    {
        self.on_one(collection, "delete", handler)
    }

    /// Deletes a content as [`delete`](Self::delete) does, declared as `destroy`: the name in the
    /// polling guide's examples, where every other page has `delete`. Whether the platform still
    /// takes it for a deletion or shows a custom button is unverified, so declare `delete`, or both.
    /// Also handles `….delete`, unless that has its own handler.
    pub fn destroy<C, F, Fut>(self, collection: C, handler: F) -> Self
    where
        C: Collection,
        F: Fn(String) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<C::Content, Failure>> + Send + 'static,
    {
        self.on_one(collection, "destroy", handler)
    }

    /// Makes a content visible (`….publish`) and returns its new state.
    pub fn publish<C, F, Fut>(self, collection: C, handler: F) -> Self
    where
        C: Collection,
        F: Fn(String) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<C::Content, Failure>> + Send + 'static,
    {
        self.on_one(collection, "publish", handler)
    }

    /// Hides a content (`….unpublish`) and returns its new state.
    pub fn unpublish<C, F, Fut>(self, collection: C, handler: F) -> Self
    where
        C: Collection,
        F: Fn(String) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<C::Content, Failure>> + Send + 'static,
    {
        self.on_one(collection, "unpublish", handler)
    }

    /// Registers a custom operation on one content, such as `spam`, `unspam` or `sticky`: a button
    /// for agents on contents that have it in their actions. Returns the content's complete new
    /// state. [`label`](Self::label) sets the button's text.
    pub fn custom<C, F, Fut>(mut self, _: C, operation: &str, handler: F) -> Self
    where
        C: Collection,
        F: Fn(CustomAction) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<C::Content, Failure>> + Send + 'static,
    {
        const STANDARD: [&str; 8] = ["create", "delete", "destroy", "list", "publish", "reply", "show", "unpublish"];
        if !is_word(operation) {
            self.blame("the name of an operation is letters, digits and underscores");
        } else if STANDARD.contains(&operation) {
            self.blame("register this standard operation with its own method");
        }
        let handler = Arc::new(handler);
        self.on(C::NAME, operation, move |action| {
            let handler = Arc::clone(&handler);
            async move {
                let Action::Custom(custom) = action else { return Err(misrouted()) };
                object(&handler(custom).await?)
            }
        })
    }

    /// Sets the button text of a custom operation in a `language` such as `fr`, or `default`.
    /// Without one the platform derives it from the operation's name.
    pub fn label(mut self, language: &str, operation: &str, label: impl Into<String>) -> Self {
        self.locales.entry(language.to_owned()).or_default().insert(operation.to_owned(), label.into());
        self
    }

    /// Receives the customer's position in the queue (`messaging.queuing_update`) and declares the
    /// option. Requires Task mode, and the channel in an active routing strategy.
    pub fn queuing_update<F, Fut>(mut self, handler: F) -> Self
    where
        F: Fn(QueuingUpdate) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        let handler = Arc::new(handler);
        self = self.option(SourceOption::MessagingQueuingUpdate);
        self.route("messaging.queuing_update".to_owned(), move |action| {
            let handler = Arc::clone(&handler);
            async move {
                let Action::QueuingUpdate(update) = action else { return Err(misrouted()) };
                handler(update).await.map(|()| Bytes::from_static(b"{}"))
            }
        })
    }

    /// Adds an option. `messaging.typing_indicator` alone makes the source accept and ignore
    /// agents' typing.
    pub fn option(mut self, option: SourceOption) -> Self {
        if option == SourceOption::MessagingTypingIndicator {
            for name in ["typing.start", "typing.stop"] {
                if !self.handlers.contains_key(name) {
                    self = self.route(name.to_owned(), |_| async { Ok(Bytes::from_static(b"{}")) });
                }
            }
        }
        if !self.options.contains(&option) {
            self.options.push(option);
        }
        self
    }

    /// Receives agents' typing: `true` for a start, `false` for a stop. Requires the option
    /// [`MessagingTypingIndicator`](SourceOption::MessagingTypingIndicator); whether the platform
    /// sends this to sources is unverified.
    pub fn typing<F, Fut>(mut self, handler: F) -> Self
    where
        F: Fn(bool, Typing) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        let handler = Arc::new(handler);
        self = self.option(SourceOption::MessagingTypingIndicator);
        for name in ["typing.start", "typing.stop"] {
            let handler = Arc::clone(&handler);
            self = self.route(name.to_owned(), move |action| {
                let handler = Arc::clone(&handler);
                async move {
                    let delivered = match action {
                        Action::TypingStart(typing) => handler(true, typing).await,
                        Action::TypingStop(typing) => handler(false, typing).await,
                        _ => Err(misrouted()),
                    };
                    delivered.map(|()| Bytes::from_static(b"{}"))
                }
            });
        }
        self
    }

    /// Declares that the source reports read messages (`status.mark_as_read` in `objects`), so that
    /// the platform accepts [`SendApi::mark_as_read`](super::SendApi::mark_as_read). Displayed with
    /// [`ViewMessaging`](SourceOption::ViewMessaging) only.
    pub fn read_marks(mut self) -> Self {
        self.read_marks = true;
        self
    }

    /// The store of answers to creates. Default [`MemoryIdempotencyStore`], which a restart empties: a
    /// create whose answer was lost at that time is then written again.
    pub fn contents(mut self, store: impl IdempotencyStore) -> Self {
        self.once = Arc::new(store);
        self
    }

    /// Maximum number of contents in lists registered after this. Default 100, to meet every
    /// deadline; further runs fetch the rest.
    pub fn page(mut self, limit: usize) -> Self {
        if limit == 0 || limit > PAGE_CAP {
            self.blame("a page has 1 to 10 000 contents");
        }
        self.page = limit;
        self
    }

    /// Builds the source.
    ///
    /// # Errors
    /// [`Config`](crate::ErrorKind::Config) for any earlier mistake: an operation that is
    /// registered twice or has no name, `reply` without `create`, a label without an operation, or
    /// options that conflict with each other or with the operations, some of which the platform
    /// would silently drop.
    pub fn build(mut self) -> Result<Source> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        options::check(&self.options, &self.operations)?;
        if options::ignores_threads(&self.options, &self.operations) {
            tracing::warn!("with messages.unthreaded the platform ignores every operation on threads");
        }
        for operations in self.operations.values() {
            let has = |name: &str| operations.iter().any(|operation| operation == name);
            if has("reply") && !has("create") {
                return Err(Error::config("reply needs create, which is what a reply arrives as"));
            }
        }
        let queuing = self.options.contains(&SourceOption::MessagingQueuingUpdate);
        if queuing && !self.handlers.contains_key("messaging.queuing_update") {
            return Err(Error::config("messaging.queuing_update needs a handler for it"));
        }
        let known = |operation: &String| self.operations.values().any(|operations| operations.contains(operation));
        if !self.locales.values().flat_map(BTreeMap::keys).all(known) {
            return Err(Error::config("a label is for an operation that is not registered"));
        }
        let objects = self.operations.iter().map(|(name, operations)| (name.as_str(), operations.as_slice()));
        let status = ["mark_as_read".to_owned()];
        let status = self.read_marks.then_some(("status", &status[..]));
        let objects = objects.chain(status).collect();
        let info = Info { objects, options: &self.options, locales: &self.locales };
        let info = serde_json::to_vec(&info)
            .map_err(|error| Error::config("what the source can do cannot be written").with_source(error))?;
        let once = Arc::new(Once::new(self.once));
        for (collection, make) in self.once_used {
            self.handlers.insert(format!("{collection}.create"), make(Arc::clone(&once)));
        }
        Ok(Source(Arc::new(Inner { info: info.into(), handlers: self.handlers })))
    }

    fn on_one<C, F, Fut>(self, _: C, operation: &'static str, handler: F) -> Self
    where
        C: Collection,
        F: Fn(String) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<C::Content, Failure>> + Send + 'static,
    {
        let handler = Arc::new(handler);
        self.on(C::NAME, operation, move |action| {
            let handler = Arc::clone(&handler);
            async move {
                match action {
                    Action::Delete { id, .. }
                    | Action::Destroy { id, .. }
                    | Action::Publish { id, .. }
                    | Action::Unpublish { id, .. } => object(&handler(id).await?),
                    _ => Err(misrouted()),
                }
            }
        })
    }

    fn on<F, Fut>(mut self, collection: CollectionName, operation: &str, handler: F) -> Self
    where
        F: Fn(Action) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Bytes, Failure>> + Send + 'static,
    {
        self.advertise(collection, operation);
        self.route(format!("{collection}.{operation}"), handler)
    }

    fn route<F, Fut>(mut self, name: String, handler: F) -> Self
    where
        F: Fn(Action) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Bytes, Failure>> + Send + 'static,
    {
        self.handlers.insert(name, Arc::new(move |action| Box::pin(handler(action))));
        self
    }

    fn advertise(&mut self, collection: CollectionName, operation: &str) {
        let operations = self.operations.entry(collection).or_default();
        if operations.iter().any(|known| known == operation) {
            self.blame("an operation is registered twice");
        } else {
            operations.push(operation.to_owned());
        }
    }

    fn blame(&mut self, fault: &'static str) {
        self.fault.get_or_insert_with(|| Error::config(fault));
    }
}

impl fmt::Debug for SourceBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceBuilder")
            .field("operations", &self.operations)
            .field("options", &self.options)
            .field("contents", &self.once)
            .finish()
    }
}

fn json<T: Serialize>(value: &T) -> Result<Bytes, Failure> {
    serde_json::to_vec(value).map(Bytes::from).map_err(|error| {
        tracing::error!(%error, "failed to serialize an answer");
        Failure::status(500, "the source's answer cannot be written")
    })
}

/// A content as an answer; without an id it would be ignored.
fn object<T: Content>(content: &T) -> Result<Bytes, Failure> {
    if content.id().is_empty() {
        tracing::error!("a handler returned a content without an id");
        return Err(Failure::status(500, "the source gave a content without an id"));
    }
    json(content)
}

/// Rejects a created content with the id of the content it replies to, which it would overwrite.
fn with_distinct_id<T: Content>(content: &T, reply_to: Option<&str>) -> Result<Bytes, Failure> {
    if reply_to == Some(content.id()) {
        tracing::error!("a handler returned a created content with the id of the one it replies to");
        return Err(Failure::status(500, "the source gave a created content the id of the one that it answers"));
    }
    object(content)
}

/// Handlers are found by the action's name, so this is a bug in this crate.
fn misrouted() -> Failure {
    Failure::status(500, "the source mistook the action")
}
