use std::collections::BTreeMap as Map;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const BOTH: [Listed; 2] = [Listed::Presence { is_detailed: true }, Listed::Calls];

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn wall(at: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + secs(1_772_000_000 + at)
}

fn raw(body: &Value) -> Box<RawValue> {
    serde_json::from_str(&body.to_string()).unwrap()
}

fn session(id: &str, sequence: impl Into<Option<i64>>, parties: &[(&str, &str)]) -> TelephonySession {
    let parties: Vec<_> = parties.iter().map(|(id, code)| json!({"id": id, "status": {"code": code}})).collect();
    serde_json::from_value(json!({"telephonySessionId": id, "sequence": sequence.into(), "parties": parties})).unwrap()
}

/// A state, and a clock that only the test moves.
struct World {
    state: State,
    start: Instant,
    now: Instant,
    seen: Vec<StateChange>,
}

impl World {
    fn new(lists: &[Listed]) -> Self {
        let now = Instant::now();
        Self { state: State::new(lists.iter().copied(), now), start: now, now, seen: Vec::new() }
    }

    fn seconds(&self) -> u64 {
        (self.now - self.start).as_secs()
    }

    /// The next step that is no wait before `at` seconds.
    fn step(&mut self, at: u64) -> Option<Step> {
        loop {
            match self.state.step(self.now) {
                Step::Wait(Some(until)) if until <= self.start + secs(at) => {
                    assert!(until > self.now, "a wait ends later");
                    self.now = until;
                }
                Step::Wait(_) => {
                    self.now = self.now.max(self.start + secs(at));
                    return None;
                }
                Step::Change(change) => self.seen.push(change),
                step @ Step::Ask(_) => return Some(step),
            }
        }
    }

    fn changes(&mut self) -> String {
        let mut all = Vec::new();
        while let Some(change) = self.state.next_change() {
            self.seen.push(change);
        }
        for change in self.seen.drain(..) {
            all.push(match change {
                StateChange::Call(id) => format!("+{id}"),
                StateChange::CallEnded(id) => format!("-{id}"),
                StateChange::Presence(id) => format!("@{id}"),
                StateChange::Current => "current".into(),
                StateChange::Stale => "stale".into(),
            });
        }
        all.join(" ")
    }

    fn asks(&mut self, at: u64) -> String {
        match self.step(at) {
            Some(Step::Ask(Request::Presence { from, .. })) => {
                format!("presence{}", if from.is_some() { " on" } else { "" })
            }
            Some(Step::Ask(Request::Calls { page, .. })) => format!("calls {page}"),
            Some(Step::Ask(Request::Session { id, .. })) => format!("session {id}"),
            other => panic!("{other:?} at {} s", self.seconds()),
        }
    }

    fn answer(&mut self, answer: Result<Answer, Error>) {
        self.state.answered(answer, self.now);
    }

    fn presence(&mut self, found: &[(&str, Value)]) {
        let found = found
            .iter()
            .map(|(id, body)| Found { extension: (*id).into(), body: raw(body), at: Some(wall(self.seconds())) })
            .collect();
        self.answer(Ok(Answer::Presence { found, more: None, is_whole: true }));
    }

    fn calls(&mut self, ids: &[&str]) {
        let ids = ids.iter().map(|id| (*id).into()).collect();
        self.answer(Ok(Answer::Calls { ids, more: false, is_whole: true }));
    }

    fn event(&mut self, event: &TelephonySession) {
        self.state.call_event(event, self.now);
    }

    fn presence_event(&mut self, id: &str, body: &Value, sequence: impl Into<Option<i64>>, at: u64) {
        self.state.presence_event(id.into(), &raw(body), sequence.into(), Some(wall(at)));
    }

    /// Reads both lists, which are empty, until the state is current.
    fn settle(&mut self) {
        self.asks(0);
        self.presence(&[]);
        self.asks(0);
        self.calls(&[]);
        assert_eq!(self.asks(10), "calls 1");
        self.calls(&[]);
        assert_eq!(self.changes(), "current");
    }
}

#[test]
fn the_state_is_listed_and_current_once_the_lag_of_the_list_is_closed() {
    let mut world = World::new(&BOTH);
    assert_eq!(world.asks(0), "presence");
    world.presence(&[("7", json!({"presenceStatus": "Busy"}))]);
    assert_eq!(world.changes(), "@7");
    assert_eq!(world.asks(0), "calls 1");
    world.calls(&["s1", "s2"]);
    assert_eq!(world.asks(0), "session s1");
    world.answer(Ok(Answer::Session(Some(Box::new(session("x", None, &[("a", "Answered")]))))));
    assert_eq!(world.asks(0), "session s2");
    world.answer(Ok(Answer::Session(None)));
    assert_eq!(world.changes(), "+s1");
    assert!(!world.state.is_current(), "a call may have begun within the lag");
    assert!(world.step(9).is_none());
    assert_eq!(world.asks(10), "calls 1");
    world.answer(Ok(Answer::Calls { ids: vec!["s1".into()], more: true, is_whole: true }));
    assert_eq!(world.asks(10), "calls 2");
    world.calls(&["s3"]);
    for (id, state) in [("s1", "Hold"), ("s3", "Setup")] {
        assert_eq!(world.asks(10), format!("session {id}"));
        world.answer(Ok(Answer::Session(Some(Box::new(session("x", None, &[("a", state)]))))));
    }
    assert_eq!(world.changes(), "+s1 +s3 current");
    assert!(world.state.is_current() && world.step(100).is_none());
    assert_eq!(world.state.calls().count(), 2);
    let presence = world.state.presence(&"7".into()).unwrap();
    assert_eq!(presence.presence_status.as_ref().unwrap().as_str(), "Busy");
}

#[test]
fn calls_follow_their_events() {
    let mut world = World::new(&BOTH);
    world.settle();
    for (event, changes, calls) in [
        (session("s1", 1, &[("a", "Setup")]), "+s1", 1),
        (session("s1", 1, &[("a", "Setup")]), "", 1),
        (session("s1", 4, &[("b", "Answered")]), "+s1", 1),
        (session("s1", 3, &[("b", "Setup")]), "", 1),
        (session("s1", 5, &[("a", "Disconnected")]), "+s1", 1),
        (session("s1", 6, &[("b", "Gone")]), "-s1", 0),
        (session("s1", 2, &[("b", "Proceeding")]), "", 0),
        (session("s1", 9, &[("b", "Answered")]), "+s1", 1),
        (session("s2", 1, &[("a", "Disconnected")]), "", 1),
    ] {
        world.event(&event);
        assert_eq!((world.changes().as_str(), world.state.calls().count()), (changes, calls), "{:?}", event.sequence);
    }
    let parties = &world.state.call(&"s1".into()).unwrap().parties;
    assert_eq!(parties.len(), 2);
}

#[test]
fn changes_that_were_not_read_are_one_change() {
    let mut world = World::new(&BOTH);
    world.settle();
    for sequence in 1..5 {
        world.event(&session("s1", sequence, &[(&sequence.to_string(), "Answered")]));
        world.presence_event("7", &json!({"message": sequence}), sequence, 20);
    }
    assert_eq!(world.changes(), "+s1 @7");
    world.event(&session("s2", 1, &[("a", "Setup")]));
    world.event(&session("s2", 2, &[("a", "Disconnected")]));
    assert_eq!(world.changes(), "-s2");
}

#[test]
fn presence_is_merged_in_order() {
    let mut world = World::new(&BOTH);
    world.settle();
    let call = |status: &str| json!({"telephonySessionId": "s", "telephonyStatus": status});
    for (body, sequence, at, changes, status, calls) in [
        (json!({"telephonyStatus": "Ringing", "activeCalls": [call("Ringing")]}), Some(5), 30, "@7", "Ringing", 1),
        (json!({"presenceStatus": "Busy"}), Some(6), 31, "@7", "Ringing", 1),
        (json!({"telephonyStatus": "OnHold"}), Some(4), 32, "", "Ringing", 1),
        (json!({"telephonyStatus": "OnHold"}), Some(6), 32, "", "Ringing", 1),
        (json!({"telephonyStatus": "OnHold"}), None, 29, "", "Ringing", 1),
        (json!({"telephonyStatus": "CallConnected"}), None, 33, "@7", "CallConnected", 1),
        (json!({"telephonyStatus": "NoCall", "activeCalls": [call("NoCall")]}), Some(8), 34, "@7", "NoCall", 0),
        (json!({"telephonyStatus": "Ringing", "activeCalls": [call("Ringing")]}), Some(9), 35, "@7", "Ringing", 1),
        (json!({"telephonyStatus": "NoCall"}), Some(10), 36, "@7", "NoCall", 0),
        (json!({"telephonyStatus": "NoCall"}), Some(11), 37, "", "NoCall", 0),
    ] {
        world.presence_event("7", &body, sequence, at);
        let it = world.state.presence(&"7".into()).unwrap();
        let got = (it.telephony_status.as_ref().unwrap().as_str(), it.active_calls.len());
        assert_eq!(got, (status, calls), "{sequence:?}");
        assert_eq!(world.changes(), changes, "{sequence:?}");
    }
}

#[test]
fn a_list_replaces_presence_but_not_what_was_sent_meanwhile() {
    let mut world = World::new(&BOTH[..1]);
    world.presence_event("7", &json!({"presenceStatus": "Busy", "message": "old"}), 3, 0);
    world.changes();
    world.asks(0);
    world.now += secs(2);
    world.presence_event("7", &json!({"presenceStatus": "Offline"}), 4, 1);
    // The list was made before that event.
    world.presence(&[("7", json!({"presenceStatus": "Available", "dndStatus": "TakeAllCalls"}))]);
    let it = world.state.presence(&"7".into()).unwrap().clone();
    assert_eq!(it.presence_status.unwrap().as_str(), "Offline");
    assert_eq!((it.message, it.dnd_status.unwrap().as_str()), (None, "TakeAllCalls"));
    assert_eq!(world.changes(), "@7 current");
    // It was late, and sent before the list: the list includes it.
    world.state.relist(world.now);
    world.now += secs(60);
    world.asks(62);
    world.presence_event("7", &json!({"presenceStatus": "Busy"}), 5, 3);
    world.presence(&[("7", json!({"presenceStatus": "Available"}))]);
    assert_eq!(world.state.presence(&"7".into()).unwrap().presence_status.as_ref().unwrap().as_str(), "Available");
    world.changes();
    // The list includes what was sent before it.
    world.state.relist(world.now);
    world.asks(72);
    world.presence(&[("7", json!({"presenceStatus": "Available"}))]);
    world.changes();
    world.presence_event("7", &json!({"presenceStatus": "Busy"}), 9, 0);
    assert_eq!(world.changes(), "");
    world.presence_event("7", &json!({"presenceStatus": "Busy"}), 10, 72);
    assert_eq!(world.changes(), "@7");
}

#[test]
fn a_list_without_details_leaves_the_calls() {
    for is_detailed in [true, false] {
        let mut world = World::new(&[Listed::Presence { is_detailed }]);
        world.presence_event("7", &json!({"telephonyStatus": "Ringing", "activeCalls": [{"id": "1"}]}), 1, 0);
        world.asks(0);
        world.presence(&[("7", json!({"telephonyStatus": "Ringing"}))]);
        let calls = world.state.presence(&"7".into()).unwrap().active_calls.len();
        // What was sent since the request is applied again.
        assert_eq!(calls, usize::from(!is_detailed));
    }
}

#[test]
fn a_gap_makes_the_state_stale_until_it_is_listed_or_proven() {
    let mut world = World::new(&BOTH);
    world.settle();
    world.event(&session("s1", 1, &[("a", "Answered")]));
    assert_eq!(world.changes(), "+s1");
    world.state.gap();
    world.state.gap();
    assert_eq!(world.changes(), "stale");
    assert!(world.step(60).is_none(), "no list helps before the end of the gap");
    world.state.resumed(true, world.now);
    assert_eq!(world.changes(), "current");
    world.state.gap();
    world.state.resumed(false, world.now);
    assert_eq!(world.changes(), "stale");
    assert_eq!(world.asks(60), "presence");
    // Another gap: what is being read proves nothing.
    world.state.gap();
    world.presence(&[]);
    assert!(world.step(80).is_none());
    world.state.resumed(true, world.now);
    assert_eq!(world.asks(80), "presence", "it was not current before that gap");
    world.presence(&[]);
    for at in [80, 90] {
        assert_eq!(world.asks(at), "calls 1");
        world.calls(&[]);
        assert_eq!(world.asks(at), "session s1", "a known call that the list omits");
        world.answer(Ok(Answer::Session(Some(Box::new(session("s1", None, &[("a", "Answered")]))))));
    }
    assert_eq!(world.changes(), "current");
    world.state.relist(world.now);
    assert_eq!(world.asks(90), "presence");
    world.presence(&[]);
    assert_eq!(world.asks(100), "calls 1", "some time after the reading before");
    world.calls(&[]);
    world.asks(100);
    world.answer(Ok(Answer::Session(None)));
    assert_eq!(world.changes(), "stale -s1 current", "it ended in the gap");
}

#[test]
fn a_call_that_changes_while_it_is_read_is_read_again() {
    let mut world = World::new(&BOTH[1..]);
    world.event(&session("s1", 5, &[("a", "Answered")]));
    assert_eq!(world.changes(), "+s1");
    assert_eq!(world.asks(0), "calls 1");
    world.calls(&[]);
    assert_eq!(world.asks(0), "session s1");
    world.event(&session("s1", 6, &[("a", "Hold")]));
    world.answer(Ok(Answer::Session(Some(Box::new(session("s1", None, &[("a", "Answered")]))))));
    assert_eq!(world.asks(0), "session s1");
    world.answer(Ok(Answer::Session(Some(Box::new(session("s1", None, &[("a", "Hold"), ("b", "Answered")]))))));
    assert_eq!(world.state.call(&"s1".into()).unwrap().parties.len(), 2);
    assert_eq!(world.asks(10), "calls 1");
    world.calls(&["s1"]);
    assert_eq!(world.asks(10), "session s1");
    // One that changes all the time ends the reading without a proof.
    for sequence in 10..14 {
        world.event(&session("s1", sequence, &[("a", "Hold")]));
        world.answer(Ok(Answer::Session(None)));
        if sequence < 13 {
            assert_eq!(world.asks(10), "session s1");
        }
    }
    assert!(world.step(39).is_none() && !world.state.is_current());
    assert_eq!(world.asks(40), "calls 1");
}

#[test]
fn failed_lists_are_read_again_and_refused_ones_later() {
    let refused = Error::new(ErrorKind::Permission, "no permission");
    let failed = Error::new(ErrorKind::Service, "503");
    for (error, pause) in [(refused, 600), (failed, 30)] {
        let mut world = World::new(&BOTH[..1]);
        world.asks(0);
        world.answer(Err(error));
        assert!(world.state.last_error().is_some() && !world.state.is_current());
        assert!(world.step(pause - 1).is_none());
        assert_eq!(world.asks(pause), "presence");
        world.answer(Ok(Answer::Presence { found: Vec::new(), more: None, is_whole: false }));
        assert!(world.step(pause + 29).is_none() && !world.state.is_current(), "an incomplete answer proves nothing");
        assert_eq!(world.asks(pause + 30), "presence");
        world.presence(&[]);
        assert!(world.state.last_error().is_none() && world.state.is_current());
    }
}

#[test]
fn a_silent_call_is_asked_about() {
    let mut world = World::new(&BOTH);
    world.settle();
    world.event(&session("s1", 1, &[("a", "Answered")]));
    world.changes();
    let silent = SILENT.as_secs() + 10;
    assert_eq!(world.asks(silent), "session s1");
    world.answer(Err(Error::new(ErrorKind::Network, "down")));
    assert_eq!(world.asks(silent + SILENT.as_secs()), "session s1");
    world.answer(Ok(Answer::Session(None)));
    assert_eq!(world.changes(), "-s1");
    assert!(world.state.is_current());
    let mut unlisted = World::new(&BOTH[..1]);
    unlisted.asks(0);
    unlisted.presence(&[]);
    unlisted.event(&session("s1", 1, &[("a", "Answered")]));
    unlisted.changes();
    assert!(unlisted.step(10_000).is_none(), "without a list of calls there is nothing to ask");
}

#[test]
fn memory_has_bounds_and_beyond_them_the_state_is_stale() {
    let mut world = World::new(&BOTH);
    world.settle();
    for n in 0..=MAX_CALLS {
        world.event(&session(&n.to_string(), 1, &[("a", "Answered")]));
    }
    assert!(!world.state.is_current());
    assert_eq!(world.state.calls().count(), MAX_CALLS);
    let mut world = World::new(&BOTH[..1]);
    world.asks(0);
    world.presence(&[]);
    world.changes();
    for n in 0..=MAX_PRESENCES {
        world.presence_event(&n.to_string(), &json!({"message": "x"}), 1, 9);
    }
    assert!(!world.state.is_current());
    assert_eq!(world.state.presences().count(), MAX_PRESENCES);
    assert!(world.state.changes.len() <= MAX_CHANGES);
    assert_eq!(world.changes(), "stale", "for all of them");
    // What comes during a list, too: then the list proves nothing.
    let mut world = World::new(&BOTH[..1]);
    world.asks(0);
    let long = "x".repeat(MAX_MEANWHILE / 4);
    for n in 0..6 {
        world.presence_event("7", &json!({"message": format!("{n}{long}")}), n, 9);
    }
    world.presence(&[]);
    assert!(!world.state.is_current());
}

/// The service: what is, by one clock.
#[derive(Clone, Debug, Default)]
struct Service {
    time: u64,
    calls: Map<u8, (i64, Map<u8, &'static str>)>,
    presence: Map<u8, (i64, u8)>,
}

#[derive(Clone, Debug)]
enum Event {
    Call(TelephonySession),
    Presence(u8, i64, u8, u64),
}

#[derive(Clone, Copy, Debug)]
enum Act {
    Call {
        call: u8,
        party: u8,
        state: usize,
    },
    Presence {
        extension: u8,
        value: u8,
    },
    /// Delivers one of the events on their way, perhaps twice.
    Deliver {
        at: usize,
        again: bool,
    },
    /// Loses what is on its way, in a gap.
    Lose,
    /// One step of the client; whether the service answers from before the events since.
    Step {
        early: bool,
    },
}

fn is_end(code: &str) -> bool {
    matches!(code, "Disconnected" | "Gone")
}

const STATES: [&str; 5] = ["Setup", "Answered", "Hold", "Disconnected", "Gone"];

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => (0..3_u8, 0..4_u8, 0..STATES.len()).prop_map(|(call, party, state)| Act::Call { call, party, state }),
        2 => (0..2_u8, any::<u8>()).prop_map(|(extension, value)| Act::Presence { extension, value }),
        5 => (any::<usize>(), any::<bool>()).prop_map(|(at, again)| Act::Deliver { at, again }),
        1 => Just(Act::Lose),
        4 => any::<bool>().prop_map(|early| Act::Step { early }),
    ]
}

struct Run {
    world: World,
    service: Service,
    way: Vec<Event>,
    asked: Option<(Request, Service)>,
}

impl Run {
    fn new() -> Self {
        Self { world: World::new(&BOTH), service: Service::default(), way: Vec::new(), asked: None }
    }

    fn tick(&mut self) {
        self.service.time += 3;
        self.world.now += secs(3);
    }

    fn act(&mut self, act: Act) {
        self.tick();
        match act {
            Act::Call { call, party, state } => {
                let (sequence, parties) = self.service.calls.entry(call).or_default();
                if parties.get(&party).is_some_and(|state| is_end(state)) {
                    // A leg that comes back is another party.
                    return;
                }
                *sequence += 1;
                parties.insert(party, STATES[state]);
                let event = session(&format!("s{call}"), *sequence, &[(&format!("p{party}"), STATES[state])]);
                self.way.push(Event::Call(event));
            }
            Act::Presence { extension, value } => {
                let (sequence, now) = self.service.presence.entry(extension).or_default();
                (*sequence, *now) = (*sequence + 1, value);
                self.way.push(Event::Presence(extension, *sequence, value, self.service.time));
            }
            Act::Deliver { at, again } if !self.way.is_empty() => {
                let at = at % self.way.len();
                let event = if again { self.way[at].clone() } else { self.way.remove(at) };
                self.deliver(&event);
            }
            Act::Deliver { .. } => {}
            Act::Lose => {
                self.way.clear();
                self.world.state.gap();
                self.world.state.resumed(false, self.world.now);
            }
            Act::Step { early } => self.step(early),
        }
    }

    fn deliver(&mut self, event: &Event) {
        match event {
            Event::Call(event) => self.world.event(event),
            Event::Presence(id, sequence, value, at) => {
                self.world.presence_event(&id.to_string(), &json!({"message": value}), *sequence, *at);
            }
        }
    }

    fn step(&mut self, early: bool) {
        let Some((request, before)) = self.asked.take() else {
            while let Step::Change(_) | Step::Ask(_) = {
                let step = self.world.state.step(self.world.now);
                if let Step::Ask(request) = &step {
                    self.asked = Some((request.clone(), self.service.clone()));
                    return;
                }
                step
            } {}
            return;
        };
        let service = if early { before } else { self.service.clone() };
        let is_live = |parties: &Map<u8, &str>| parties.values().any(|it| !is_end(it));
        match request {
            Request::Presence { .. } => {
                let body = |value: u8| json!({"message": value});
                let found: Vec<_> =
                    service.presence.iter().map(|(id, (_, value))| (id.to_string(), body(*value))).collect();
                let found = found
                    .into_iter()
                    .map(|(id, body)| Found {
                        extension: id.into(),
                        body: raw(&body),
                        at: Some(wall(self.service.time)),
                    })
                    .collect();
                self.world.answer(Ok(Answer::Presence { found, more: None, is_whole: true }));
            }
            Request::Calls { .. } => {
                let live = service.calls.iter().filter(|(_, (_, parties))| is_live(parties));
                let ids: Vec<String> = live.map(|(id, _)| format!("s{id}")).collect();
                let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
                self.world.calls(&ids);
            }
            Request::Session { id, .. } => {
                let number: u8 = id.as_str()[1..].parse().unwrap();
                let parties = service.calls.get(&number).map(|(_, parties)| parties).filter(|it| is_live(it));
                let answer = parties.map(|parties| {
                    let parties: Vec<_> = parties.iter().map(|(id, state)| (format!("p{id}"), *state)).collect();
                    let parties: Vec<_> = parties.iter().map(|(id, state)| (id.as_str(), *state)).collect();
                    Box::new(session(id.as_str(), None, &parties))
                });
                self.world.answer(Ok(Answer::Session(answer)));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// For any order of delivery, losses in gaps and lists meanwhile: at rest the state is the service's.
    #[test]
    fn at_rest_the_state_is_that_of_the_service(acts in prop::collection::vec(act(), 1..80)) {
        let mut run = Run::new();
        for act in acts {
            run.act(act);
        }
        while !run.way.is_empty() {
            run.act(Act::Deliver { at: 0, again: false });
        }
        for _ in 0..400 {
            run.tick();
            run.step(false);
            if run.asked.is_none() {
                run.step(false);
                if run.asked.is_none() && run.world.state.is_current() {
                    break;
                }
            }
        }
        prop_assert!(run.world.state.is_current(), "{:?}", run.world.state.lists);
        let got: Map<String, Map<String, String>> = run.world.state.calls().map(|call| {
            let parties = call.party_states().map(|(id, code)| (id.to_string(), code.to_string()));
            // A call that ended in a gap and comes back has parties that left before.
            let parties = parties.filter(|(_, code)| !is_end(code));
            (call.telephony_session_id.as_ref().unwrap().to_string(), parties.collect())
        }).collect();
        let want: Map<String, Map<String, String>> = run.service.calls.iter()
            .filter(|(_, (_, parties))| parties.values().any(|it| !is_end(it)))
            .map(|(id, (_, parties))| {
                let parties = parties.iter().filter(|(_, code)| !is_end(code));
                (format!("s{id}"), parties.map(|(id, code)| (format!("p{id}"), (*code).to_owned())).collect())
            }).collect();
        prop_assert_eq!(got, want);
        for (id, (_, value)) in &run.service.presence {
            let presence = run.world.state.presence(&id.to_string().as_str().into()).unwrap();
            let want = value.to_string();
            prop_assert_eq!(presence.message.as_deref(), Some(want.as_str()));
        }
    }
}
