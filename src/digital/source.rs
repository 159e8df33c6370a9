//! A source: what it can do, and what does it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde::Serialize;

use super::action::{Action, CollectionName, CustomAction, is_word, unknown_action};
use super::collection::{Collection, Content};
use super::contents::{ContentStore, MemoryContents, Once};
use super::create::{QueuingUpdate, Typing};
use super::failure::Failure;
use super::feed::{Feed, page};
use super::option::{self, Operations, SourceOption};
use crate::error::{Error, Result};

/// How many contents a list has at most.
const PAGE: usize = 100;
const PAGE_CAP: usize = 10_000;

type Handler = Arc<dyn Fn(Action) -> BoxFuture<'static, Result<Bytes, Failure>> + Send + Sync>;

/// Your app as the platform sees it: operations on collections, and what does them.
///
/// What is registered is what `implementation.info` says, so that the platform offers
/// no button that does nothing. Made by [`Source::builder`]; served by a
/// [`SourceEndpoint`](super::SourceEndpoint). Cheap to clone.
#[derive(Clone)]
pub struct Source(Arc<Inner>);

struct Inner {
    info: Bytes,
    handlers: BTreeMap<String, Handler>,
}

/// Collects what a [`Source`] can do.
///
/// Handlers are async functions. They run in tasks of their own: one that panics is
/// answered with 500, and one that writes runs to its end even when the platform has
/// gone, or when it took so long that the platform was told to come again.
#[must_use]
pub struct SourceBuilder {
    handlers: BTreeMap<String, Handler>,
    operations: Operations,
    options: Vec<SourceOption>,
    locales: BTreeMap<String, BTreeMap<String, String>>,
    read_marks: bool,
    once: Arc<dyn ContentStore>,
    once_used: Vec<PendingCreate>,
    page: usize,
    fault: Option<Error>,
}

/// Made into a handler once the store is known.
type PendingCreate = (CollectionName, Box<dyn FnOnce(Arc<Once>) -> Handler + Send>);

#[derive(Serialize)]
struct Info<'a> {
    objects: BTreeMap<&'static str, &'a [String]>,
    options: &'a [SourceOption],
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    locales: &'a BTreeMap<String, BTreeMap<String, String>>,
}

impl Source {
    /// A source that can do nothing yet.
    pub fn builder() -> SourceBuilder {
        SourceBuilder {
            handlers: BTreeMap::new(),
            operations: Operations::new(),
            options: Vec::new(),
            locales: BTreeMap::new(),
            read_marks: false,
            once: Arc::new(MemoryContents::default()),
            once_used: Vec::new(),
            page: PAGE,
            fault: None,
        }
    }

    /// What `implementation.info` answers, JSON.
    #[must_use]
    pub fn info(&self) -> &[u8] {
        &self.0.info
    }

    /// Whether the source does `action`.
    pub(super) fn knows(&self, action: &Action) -> bool {
        matches!(action, Action::ImplementationInfo) || self.0.handlers.contains_key(&action.name())
    }

    /// Does `action`. Nothing happens before the first poll.
    pub(super) async fn run(&self, action: Action) -> Result<Bytes, Failure> {
        if matches!(action, Action::ImplementationInfo) {
            return Ok(self.0.info.clone());
        }
        match self.0.handlers.get(&action.name()) {
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
    /// Lists (`….list`): what is new in a collection. Without one the platform learns
    /// of contents by the Send API only, and calls every three minutes, not every one.
    pub fn list<C: Collection>(self, _: C, feed: impl Feed<C::Content>) -> Self {
        let (feed, limit) = (Arc::new(feed), self.page);
        self.on(C::NAME, "list", move |action| {
            let feed = Arc::clone(&feed);
            async move {
                let Action::List { since_id, .. } = action else { return Err(misrouted()) };
                json(&page(&*feed, since_id.as_deref(), limit).await?)
            }
        })
    }

    /// Shows one content (`….show`), by its id; `None` where there is none.
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
                    // As the guide tells sources to say that there is nothing.
                    None => Ok(Bytes::from_static(b"{}")),
                }
            }
        })
    }

    /// Writes what an agent wrote (`….create`), and gives what became of it, with an id
    /// of the source's own: a new one, not that of the content which is answered.
    ///
    /// The handler runs once for each `content_id`; a repetition gets its answer from
    /// the [store](Self::contents).
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
                    let create = async { of_its_own(&handler(new).await?, reply_to.as_deref()) };
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

    /// Says that contents can be answered (`reply`). An answer is a create with
    /// `in_reply_to_id`; a content that can be answered has `reply` in its actions too.
    pub fn reply<C: Collection>(mut self, _: C) -> Self {
        self.advertise(C::NAME, "reply");
        self
    }

    /// Deletes a content (`….delete`, `….destroy`), and gives it as it was. When it was
    /// deleted before, the answer is the same.
    pub fn delete<C, F, Fut>(self, collection: C, handler: F) -> Self
    where
        C: Collection,
        F: Fn(String) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<C::Content, Failure>> + Send + 'static,
    {
        self.on_one(collection, "delete", handler)
    }

    /// Makes a content visible (`….publish`), and gives it as it is then.
    pub fn publish<C, F, Fut>(self, collection: C, handler: F) -> Self
    where
        C: Collection,
        F: Fn(String) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<C::Content, Failure>> + Send + 'static,
    {
        self.on_one(collection, "publish", handler)
    }

    /// Hides a content (`….unpublish`), and gives it as it is then.
    pub fn unpublish<C, F, Fut>(self, collection: C, handler: F) -> Self
    where
        C: Collection,
        F: Fn(String) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<C::Content, Failure>> + Send + 'static,
    {
        self.on_one(collection, "unpublish", handler)
    }

    /// An operation of your own on one content, such as `spam`, `unspam` or `sticky`: a
    /// button for agents on contents that have it in their actions. Gives the whole
    /// content as it is then. [`label`](Self::label) says what is on the button.
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
            self.blame("this operation has a method of its own");
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

    /// What a button of an operation of your own says, in a `language` such as `fr`, or
    /// `default`. Without one the platform makes it of the operation's name.
    pub fn label(mut self, language: &str, operation: &str, label: impl Into<String>) -> Self {
        self.locales.entry(language.to_owned()).or_default().insert(operation.to_owned(), label.into());
        self
    }

    /// Is told where a customer is in the queue (`messaging.queuing_update`); declares
    /// the option for it. Wants Task mode, and the channel in an active routing strategy.
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

    /// Adds an option. `messaging.typing_indicator` makes the source accept what an
    /// agent types, and do nothing with it.
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

    /// Is told that an agent types, `true`, or no longer does. Wants the option
    /// [`MessagingTypingIndicator`](SourceOption::MessagingTypingIndicator); whether
    /// the platform sends this to sources is not verified.
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
                    let told = match action {
                        Action::TypingStart(typing) => handler(true, typing).await,
                        Action::TypingStop(typing) => handler(false, typing).await,
                        _ => Err(misrouted()),
                    };
                    told.map(|()| Bytes::from_static(b"{}"))
                }
            });
        }
        self
    }

    /// Says that the source tells which messages were read (`status.mark_as_read` in
    /// `objects`), so that the platform takes
    /// [`SendApi::mark_as_read`](super::SendApi::mark_as_read). Shown with
    /// [`ViewMessaging`](SourceOption::ViewMessaging) only.
    pub fn read_marks(mut self) -> Self {
        self.read_marks = true;
        self
    }

    /// Where answers to creates are kept. [`MemoryContents`] by default, which a
    /// restart empties: a create whose answer was lost in it is then written again.
    pub fn contents(mut self, store: impl ContentStore) -> Self {
        self.once = Arc::new(store);
        self
    }

    /// How many contents a list has at most, in lists that are registered after this.
    /// 100 by default, to be within every deadline; there may be as many runs as the
    /// rest takes.
    pub fn page(mut self, limit: usize) -> Self {
        if limit == 0 || limit > PAGE_CAP {
            self.blame("a page has 1 to 10 000 contents");
        }
        self.page = limit;
        self
    }

    /// The source.
    ///
    /// # Errors
    /// [`Config`](crate::ErrorKind::Config) for what was given wrongly before: an
    /// operation that is registered twice or has no name, `reply` without `create`, a
    /// label of nothing, or options that do not go with each other or with the
    /// operations, of which the platform would drop some without a word.
    pub fn build(mut self) -> Result<Source> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        option::check(&self.options, &self.operations)?;
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
                    Action::Delete { id, .. } | Action::Publish { id, .. } | Action::Unpublish { id, .. } => {
                        object(&handler(id).await?)
                    }
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
        tracing::error!(%error, "an answer cannot be written as JSON");
        Failure::status(500, "the source's answer cannot be written")
    })
}

/// A content as an answer; without an id it would be read as nothing.
fn object<T: Content>(content: &T) -> Result<Bytes, Failure> {
    if content.id().is_empty() {
        tracing::error!("a handler gave a content without an id");
        return Err(Failure::status(500, "the source gave a content without an id"));
    }
    json(content)
}

/// A created content: under the id of what it answers it would become that.
fn of_its_own<T: Content>(content: &T, reply_to: Option<&str>) -> Result<Bytes, Failure> {
    if reply_to == Some(content.id()) {
        tracing::error!("a handler gave a created content the id of the one that it answers");
        return Err(Failure::status(500, "the source gave a created content the id of the one that it answers"));
    }
    object(content)
}

/// Handlers are found by the action's own name, so this is a fault of this crate.
fn misrouted() -> Failure {
    Failure::status(500, "the source mistook the action")
}
