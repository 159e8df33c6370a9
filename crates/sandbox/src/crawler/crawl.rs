//! Decides what to ask a source next and interprets its answers: the platform's side as a state
//! machine, without sockets and clocks.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::compare::{NAMED_IDS, Walk, again, compare};
use super::core::Core;
use super::store::Origin;
use super::writes;
use crate::behavior::DigitalBehavior;
use crate::checks::Capabilities;
use crate::checks::{Answered, Failed, Needs, Said, read};
use crate::checks::{Page, read_page};
use crate::checks::{Rule, Severity, Violations};
use crate::checks::{Run, RunEnd, Step};
use ringcentral_events::digital::CollectionName;

/// The order of lists in a run; the position of private messages is undocumented.
const LISTS: [CollectionName; 3] = [CollectionName::Threads, CollectionName::Messages, CollectionName::PrivateMessages];
/// Maximum number of referenced contents shown in one run.
const SHOWS: usize = 100;

/// A step of a run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Task {
    /// `implementation.info`, followed by a run.
    Info {
        run: bool,
    },
    List(CollectionName),
    /// Queues a show for each unknown content that others point to.
    Resolve,
    Show(CollectionName, String),
    /// Records the references that were not resolved.
    Judge,
    Outbox,
    Job(usize),
    /// Repeats a successful write.
    Repeat(usize),
    /// Lists from the start, beside the incremental list.
    Walk(CollectionName),
    Compare(CollectionName),
}

/// An action to send.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) task: Task,
    pub(crate) action: String,
    pub(crate) params: Option<Map<String, Value>>,
    pub(crate) needs: Needs,
}

/// A reference from one content to another.
#[derive(Clone, Debug)]
struct Pointer {
    from: (CollectionName, String),
    field: &'static str,
    to: String,
}

/// A run, or part of one.
#[derive(Debug)]
pub(crate) struct Crawl {
    plan: VecDeque<Task>,
    run: Run,
    /// Pages of the current list.
    pages: u32,
    pointers: Vec<Pointer>,
    shows: usize,
    failed: bool,
    walks: BTreeMap<CollectionName, Walk>,
}

impl Crawl {
    pub(crate) fn new(number: u64, plan: impl IntoIterator<Item = Task>) -> Self {
        Self {
            plan: plan.into_iter().collect(),
            run: Run::new(number),
            pages: 0,
            pointers: Vec::new(),
            shows: 0,
            failed: false,
            walks: BTreeMap::new(),
        }
    }

    /// A regular run, as the platform makes it about once a minute.
    pub(crate) fn run(number: u64) -> Self {
        Self::new(number, [Task::Info { run: true }])
    }

    /// Lists everything from the start and compares it with the incremental lists.
    pub(crate) fn audit() -> Self {
        Self::new(0, LISTS.into_iter().flat_map(|name| [Task::Walk(name), Task::Compare(name)]))
    }

    /// Whether a failure occurred that makes the run a failed one.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed
    }

    pub(crate) fn finish(self) -> Run {
        self.run
    }

    /// The next action; `None` when the run is done.
    pub(crate) fn next(&mut self, core: &mut Core, behavior: &DigitalBehavior) -> Option<Ask> {
        while let Some(task) = self.plan.pop_front() {
            if let Some(ask) = self.prepare(task, core, behavior) {
                return Some(ask);
            }
        }
        None
    }

    fn prepare(&mut self, task: Task, core: &mut Core, behavior: &DigitalBehavior) -> Option<Ask> {
        let can = |collection, operation| core.caps.as_ref().is_some_and(|caps| caps.can(collection, operation));
        match &task {
            Task::Info { .. } => {
                let (action, params) = ("implementation.info".to_owned(), None);
                Some(Ask { task, action, params, needs: Needs::Json })
            }
            Task::List(collection) => {
                let collection = *collection;
                let since = core.store.since.get(&collection).cloned();
                can(collection, "list").then(|| list(task, collection, since, behavior))
            }
            Task::Walk(collection) => {
                let collection = *collection;
                let since = self.walks.entry(collection).or_default().since.clone();
                can(collection, "list").then(|| list(task, collection, since, behavior))
            }
            Task::Compare(collection) => {
                if let Some(walk) = self.walks.remove(collection) {
                    let mut violations = Violations::about(&format!("{collection}.list"));
                    compare(core, *collection, &walk, &mut violations);
                    self.run.violations.extend(violations.finish());
                }
                None
            }
            Task::Resolve => {
                self.resolve(core, behavior);
                None
            }
            Task::Judge => {
                self.judge(core);
                None
            }
            Task::Show(collection, id) => {
                let (action, params) = (format!("{collection}.show"), object(json!({ "id": id })));
                Some(Ask { task, action, params: Some(params), needs: Needs::JsonOrNothing })
            }
            Task::Outbox => {
                let mut open: Vec<_> = core.jobs.iter().filter(|job| job.status.is_open() && !job.busy).collect();
                open.sort_by_key(|job| (job.write.order(), job.number));
                let open: Vec<_> = open.into_iter().map(|job| Task::Job(job.number)).collect();
                open.into_iter().rev().for_each(|task| self.plan.push_front(task));
                None
            }
            Task::Job(number) | Task::Repeat(number) => {
                let (action, params, needs) = writes::send(core, *number, matches!(task, Task::Repeat(_)), behavior)?;
                Some(Ask { task, action, params: Some(params), needs })
            }
        }
    }

    /// Handles the answer to an action.
    pub(crate) fn answered(
        &mut self,
        core: &mut Core,
        behavior: &DigitalBehavior,
        ask: Ask,
        answered: &Answered,
        took: Duration,
    ) {
        let mut violations = Violations::about(&ask.action);
        let said = read(answered, &core.signer, behavior, ask.needs, &mut violations);
        let outcome = match (&ask.task, said) {
            (Task::Info { run }, said) => self.info(core, said, *run, &mut violations),
            (Task::List(collection), Ok(said)) => self.listed(core, behavior, *collection, &said, &mut violations),
            (Task::List(_), Err(failed)) => {
                self.list_failed(behavior);
                Err(failed.why)
            }
            (Task::Walk(collection), Ok(said)) => self.walked(core, behavior, *collection, &said),
            (Task::Walk(collection), Err(failed)) => {
                // An incomplete walk cannot be compared.
                self.walks.remove(collection);
                Err(failed.why)
            }
            (Task::Show(collection, id), Ok(said)) => self.shown(core, *collection, id, &said, &mut violations),
            (Task::Show(..), Err(failed)) => Err(failed.why),
            (Task::Job(number) | Task::Repeat(number), said) => {
                let repeated = matches!(ask.task, Task::Repeat(_));
                writes::answered(core, behavior, *number, repeated, said, &mut violations)
            }
            // These send nothing.
            (Task::Resolve | Task::Judge | Task::Outbox | Task::Compare(_), _) => Ok(String::new()),
        };
        let (succeeded, outcome) = match outcome {
            Ok(outcome) => (true, outcome),
            Err(why) => (false, format!("failed: {why}")),
        };
        let status = answered.as_ref().ok().map(|answer| answer.status);
        let violations = violations.finish();
        self.run.steps.push(Step {
            action: ask.action,
            params: ask.params,
            status,
            took,
            outcome,
            succeeded,
            violations,
        });
    }

    fn info(
        &mut self,
        core: &mut Core,
        said: Result<Said, Failed>,
        run: bool,
        violations: &mut Violations,
    ) -> Result<String, String> {
        let caps = match said {
            Ok(Said::Json(value)) => Capabilities::read(&value, violations).ok_or("the answer is unusable".to_owned()),
            Ok(Said::Nothing) => Err("the answer is empty".to_owned()),
            Err(failed) => Err(failed.why),
        };
        let caps = match caps {
            Ok(caps) => caps,
            Err(why) => {
                self.failed = true;
                self.run.end = RunEnd::Aborted;
                return Err(why);
            }
        };
        let listed = LISTS.into_iter().filter(|&name| caps.any(name));
        let listed: Vec<_> =
            listed.map(|name| format!("{name}: {}", caps.operations(name).collect::<Vec<_>>().join(" "))).collect();
        core.caps = Some(caps);
        if run {
            self.plan.extend(LISTS.map(Task::List));
            self.plan.extend([Task::Resolve, Task::Outbox]);
        }
        Ok(if listed.is_empty() { "it can do nothing".into() } else { listed.join("; ") })
    }

    fn list_failed(&mut self, behavior: &DigitalBehavior) {
        self.failed = true;
        self.pages = 0;
        if behavior.failed_list_ends_run {
            self.plan.clear();
            self.run.end = RunEnd::Aborted;
        }
    }

    fn listed(
        &mut self,
        core: &mut Core,
        behavior: &DigitalBehavior,
        collection: CollectionName,
        said: &Said,
        violations: &mut Violations,
    ) -> Result<String, String> {
        let since = core.store.since.get(&collection).cloned();
        let caps = core.caps.clone().unwrap_or_default();
        let page = match read_page(collection, said, &caps, since.as_deref(), violations) {
            Ok(page) => page,
            Err(why) => {
                self.list_failed(behavior);
                return Err(why);
            }
        };
        again(&page, &core.store, collection, since.as_deref(), violations);
        let imported = self.import(core, collection, &page, violations);
        let page_size = page.items.len();
        self.pages += 1;
        let goes_on = page.first.as_ref().is_some_and(|first| Some(first) != since.as_ref());
        if let (true, Some(first)) = (goes_on, page.first) {
            core.store.since.insert(collection, first);
            core.store.page.insert(collection, page.ids);
        }
        if goes_on && behavior.all_pages && self.pages < behavior.page_cap {
            self.plan.push_front(Task::List(collection));
        } else {
            if goes_on && behavior.all_pages {
                let why = format!("the list has not ended after {} pages", self.pages);
                violations.add(Rule::Endless, None, why);
            }
            self.pages = 0;
        }
        let known = page_size - imported.len();
        let known = if known > 0 { format!(", {known} known") } else { String::new() };
        Ok(listed("new", &imported) + &known)
    }

    /// Imports the contents of a page, oldest first.
    fn import(
        &mut self,
        core: &mut Core,
        collection: CollectionName,
        page: &Page<'_>,
        violations: &mut Violations,
    ) -> Vec<String> {
        let mut new = Vec::new();
        for (id, content) in page.items.iter().rev() {
            writes::compare_listed(core, collection, id, content, violations);
            let is_known = core.store.get(collection, id).is_some();
            let kept = core.store.put(collection, id, Origin::Listed, content);
            kept.listed += 1;
            if !is_known {
                new.push(id.clone());
            }
            self.point(core.caps.as_ref(), collection, id, content);
        }
        new
    }

    /// Remembers the references of a content.
    fn point(&mut self, caps: Option<&Capabilities>, from: CollectionName, id: &str, content: &Map<String, Value>) {
        let mut point = |field, to: Option<String>| {
            self.pointers.extend(to.map(|to| Pointer { from: (from, id.to_owned()), field, to }));
        };
        if from != CollectionName::Threads {
            point("in_reply_to_id", crate::checks::reply_to(content));
        }
        if from == CollectionName::Messages && caps.is_some_and(|caps| !caps.unthreaded()) {
            point("thread_id", crate::checks::id_of(content.get("thread_id")).map(|(id, _)| id));
        }
    }

    /// Queues a show for each unknown reference.
    fn resolve(&mut self, core: &Core, behavior: &DigitalBehavior) {
        self.pointers.retain(|pointer| !pointer.is_resolved(core));
        let caps = core.caps.as_ref();
        let mut shows: Vec<(CollectionName, String)> = Vec::new();
        for pointer in &self.pointers {
            let collection = pointer.collection();
            let show = (collection, pointer.to.clone());
            let can = caps.is_some_and(|caps| caps.can(collection, "show"));
            if behavior.show_unknown && can && self.shows < SHOWS && !shows.contains(&show) {
                self.shows += 1;
                shows.push(show);
            }
        }
        self.plan.push_front(Task::Judge);
        shows.into_iter().rev().for_each(|(collection, id)| self.plan.push_front(Task::Show(collection, id)));
    }

    fn judge(&mut self, core: &Core) {
        for pointer in std::mem::take(&mut self.pointers) {
            if pointer.is_resolved(core) {
                continue;
            }
            let (collection, id) = &pointer.from;
            let mut violations = Violations::about(&format!("{collection}.list"));
            let (rule, of) = match pointer.field {
                "thread_id" => (Rule::ThreadUnresolved, "no thread"),
                _ => (Rule::ReplyUnresolved, "no content"),
            };
            let why = format!("{} is {:?}, but the run found {of} with this id", pointer.field, pointer.to);
            // A failed list may have contained it.
            let severity = if self.failed { Severity::Warning } else { rule.severity() };
            violations.add_as(severity, rule, Some(id), why);
            self.run.violations.extend(violations.finish());
        }
    }

    fn walked(
        &mut self,
        core: &Core,
        behavior: &DigitalBehavior,
        collection: CollectionName,
        said: &Said,
    ) -> Result<String, String> {
        let mut walk = self.walks.remove(&collection).unwrap_or_default();
        let caps = core.caps.clone().unwrap_or_default();
        // Violations about single contents were recorded when they first arrived.
        let mut aside = Violations::about("");
        let page = read_page(collection, said, &caps, walk.since.as_deref(), &mut aside)?;
        let goes_on = page.first.is_some() && page.first != walk.since && walk.pages < behavior.page_cap;
        walk.add(&page);
        if goes_on {
            self.plan.push_front(Task::Walk(collection));
        }
        let ids = walk.last.clone();
        self.walks.insert(collection, walk);
        Ok(listed("listed", &ids))
    }

    fn shown(
        &mut self,
        core: &mut Core,
        collection: CollectionName,
        id: &str,
        said: &Said,
        violations: &mut Violations,
    ) -> Result<String, String> {
        let content = match said {
            Said::Nothing => return Ok(format!("no content {id}")),
            Said::Json(value) if crate::checks::is_empty(value) => return Ok(format!("no content {id}")),
            Said::Json(Value::Object(content)) => content,
            Said::Json(other) => {
                let why = format!("the answer is {}, not a content", crate::checks::kind(other));
                violations.add(Rule::ShowShape, Some(id), why.clone());
                return Err(why);
            }
        };
        let given = crate::checks::id_of(content.get("id")).map(|(id, _)| id);
        if given.as_deref() != Some(id) {
            let given = given.map_or("no id".to_owned(), |given| format!("the id {given:?}"));
            let why = format!("the content {id:?} was requested, but the answer has {given}");
            violations.add(Rule::ShowOther, Some(id), why.clone());
            return Err(why);
        }
        let caps = core.caps.clone().unwrap_or_default();
        let item = crate::checks::Item { collection, caps: &caps, object: content };
        if item.check(Some(id), violations) {
            core.store.put(collection, id, Origin::Shown, content);
            Ok(format!("shown {id}"))
        } else {
            Err("the content is ignored".into())
        }
    }
}

impl Pointer {
    /// The collection it points to.
    fn collection(&self) -> CollectionName {
        if self.field == "thread_id" { CollectionName::Threads } else { self.from.0 }
    }

    fn is_resolved(&self, core: &Core) -> bool {
        if self.field == "thread_id" {
            return core.store.get(CollectionName::Threads, &self.to).is_some();
        }
        LISTS.into_iter().any(|collection| core.store.get(collection, &self.to).is_some())
    }
}

fn list(task: Task, collection: CollectionName, since: Option<String>, behavior: &DigitalBehavior) -> Ask {
    let params = match since {
        Some(since) => Some(object(json!({ "since_id": since }))),
        None => behavior.empty_params.then(Map::new),
    };
    Ask { task, action: format!("{collection}.list"), params, needs: Needs::Json }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}

/// "2 new: m-1 m-2".
fn listed(what: &str, ids: &[String]) -> String {
    if ids.is_empty() {
        return format!("nothing {what}");
    }
    let more = ids.len().saturating_sub(NAMED_IDS);
    let shown = ids.iter().take(NAMED_IDS).cloned().collect::<Vec<_>>().join(" ");
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{} {what}: {shown}{more}", ids.len())
}
