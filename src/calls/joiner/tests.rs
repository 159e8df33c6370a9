use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::json;

use super::*;

const ACCOUNT: &str = "/restapi/v1.0/account/~";
const EXTENSION: &str = "/restapi/v1.0/account/~/extension/7";

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn wall(at: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + secs(1_772_000_000 + at)
}

fn session(id: &str, sequence: i64, party: &str, code: &str) -> TelephonySession {
    let body = json!({
        "telephonySessionId": id, "sessionId": format!("{id}0"), "sequence": sequence,
        "parties": [{"id": party, "status": {"code": code}}],
    });
    serde_json::from_value(body).unwrap()
}

fn record(id: &str, more: &serde_json::Value) -> CallRecord {
    let mut record = json!({
        "id": format!("r-{id}"), "telephonySessionId": id, "startTime": "2026-03-01T08:00:00Z", "duration": 5,
        "result": "Call connected",
    });
    record.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(record).unwrap()
}

fn log(records: Vec<CallRecord>) -> Result<Answer, Error> {
    Ok(Answer::Log { records, oldest: None, more: false })
}

/// A joiner, and a clock that only the test moves.
struct World {
    joiner: Joiner,
    start: Instant,
    now: Instant,
}

impl World {
    fn new() -> Self {
        let now = Instant::now();
        Self { joiner: Joiner::new(secs(180), now), start: now, now }
    }

    fn event(&mut self, event: &TelephonySession) {
        self.joiner.event(event, EXTENSION, wall(0), 500, self.now);
    }

    /// The first step before `at` seconds other than a wait, if any.
    fn step(&mut self, at: u64) -> Option<Step> {
        loop {
            match self.joiner.step(self.now) {
                Step::Wait(Some(until)) if until <= self.start + secs(at) => {
                    assert!(until > self.now, "a wait ends later");
                    self.now = until;
                }
                Step::Wait(_) => {
                    self.now = self.start + secs(at);
                    return None;
                }
                step => return Some(step),
            }
        }
    }

    fn asks(&mut self, at: u64) -> Request {
        match self.step(at) {
            Some(Step::Ask(request)) => request,
            other => panic!("{other:?} at {:?}", self.now - self.start),
        }
    }

    fn delivers(&mut self, at: u64) -> CallCompleted {
        match self.step(at) {
            Some(Step::Deliver(call)) => *call,
            other => panic!("{other:?} at {:?}", self.now - self.start),
        }
    }

    fn answer(&mut self, answer: Result<Answer, Error>) {
        self.joiner.answered(answer, self.now);
    }

    fn seconds(&self) -> u64 {
        (self.now - self.start).as_secs()
    }
}

fn missing(call: &CallCompleted) -> Vec<String> {
    call.missing.iter().map(ToString::to_string).collect()
}

fn not_found() -> Error {
    Error::new(ErrorKind::NotFound, "no such thing")
}

#[test]
fn a_call_is_joined_with_its_record_recording_and_voicemail() {
    let mut world = World::new();
    world.event(&session("s1", 1, "a", "Setup"));
    world.event(&session("s1", 2, "b", "Answered"));
    world.event(&session("s1", 3, "a", "Disconnected"));
    assert!(world.step(10).is_none(), "one party is still there");
    world.event(&session("s1", 4, "b", "Gone"));
    let Request::Log { scope, from, to, page } = world.asks(60) else { panic!() };
    assert_eq!((scope.as_str(), from, to, page), (EXTENSION, wall(0) - NARROW, None, 1));
    assert_eq!(world.seconds(), 10 + SETTLE.as_secs());
    let more = json!({
        "recording": {"id": 5}, "extension": {"id": 7}, "result": "Voicemail",
        "legs": [{"message": {"id": "9", "type": "VoiceMail"}}, {"recording": {"id": "6"}}, {"recording": {"id": "5"}}],
    });
    world.answer(log(vec![record("other", &json!({})), record("s1", &more)]));
    let (mut asked, key) = (Vec::new(), "s1".to_owned());
    for _ in 0..3 {
        let request = world.asks(60);
        world.answer(match &request {
            Request::Recording { id, .. } => {
                Ok(Answer::Recording(Box::new(serde_json::from_value(json!({"id": id, "contentUri": "x"})).unwrap())))
            }
            Request::Voicemail { id, .. } => {
                Ok(Answer::Voicemail(Box::new(serde_json::from_value(json!({"id": id})).unwrap())))
            }
            other => panic!("{other:?}"),
        });
        asked.push(request);
    }
    let recording = |id: &str| Request::Recording { key: key.clone(), scope: ACCOUNT.into(), id: id.into() };
    let voicemail = Request::Voicemail { key: key.clone(), scope: EXTENSION.into(), id: "9".into() };
    assert_eq!(asked, [recording("5"), voicemail, recording("6")]);
    let call = world.delivers(60);
    assert!(call.is_complete(), "{:?}", missing(&call));
    assert_eq!((call.records.len(), call.recordings.len(), call.voicemails.len()), (1, 2, 1));
    assert_eq!(call.session.parties.len(), 2);
    assert!(matches!(world.joiner.step(world.now), Step::Wait(None)));
    assert_eq!(world.joiner.pending(), 0);
}

#[test]
fn what_is_not_found_by_the_deadline_is_named_with_its_reason() {
    let refused = || Error::new(ErrorKind::Permission, "no permission");
    type Script = fn(&Request) -> Result<Answer, Error>;
    let cases: [(&str, Script, &[&str]); 6] = [
        ("an empty log", |_| log(Vec::new()), &["call-log record: not found before the deadline"]),
        (
            "a failing log",
            |_| Err(Error::new(ErrorKind::Service, "503")),
            &["call-log record: not found before the deadline"],
        ),
        (
            "a refused log",
            |_| Err(Error::new(ErrorKind::Permission, "no permission")),
            &["call-log record: refused: no permission"],
        ),
        (
            "a recording in processing",
            |request| match request {
                Request::Log { .. } => log(vec![record("s1", &json!({"recording": {"id": "5"}}))]),
                _ => Err(not_found()),
            },
            &["recording 5: not found before the deadline"],
        ),
        (
            "refused parts",
            |request| match request {
                Request::Log { .. } => {
                    log(vec![record("s1", &json!({"recording": {"id": "5"}, "message": {"id": "9"}}))])
                }
                _ => Err(Error::new(ErrorKind::Permission, "no permission")),
            },
            &["recording 5: refused: no permission", "voicemail 9: refused: no permission"],
        ),
        (
            "a voicemail that the log does not name",
            |_| log(vec![record("s1", &json!({"result": "Voicemail"}))]),
            &["voicemail: not found before the deadline"],
        ),
    ];
    for (name, script, want) in cases {
        let mut world = World::new();
        world.event(&session("s1", 1, "a", "Disconnected"));
        let call = loop {
            match world.step(10_000).unwrap() {
                Step::Deliver(call) => break call,
                Step::Ask(request) => world.answer(script(&request)),
                Step::Wait(_) => unreachable!(),
            }
        };
        assert_eq!(missing(&call), want, "{name}");
        let is_refused = want.iter().all(|it| it.contains("refused"));
        assert_eq!(world.seconds(), if is_refused { 20 } else { 180 }, "{name}");
        assert!(!call.is_complete());
    }
    assert!(is_final(&refused()));
}

#[test]
fn a_request_that_never_ends_does_not_delay_the_deadline() {
    let mut world = World::new();
    world.event(&session("s1", 1, "a", "Disconnected"));
    world.asks(30);
    assert_eq!(missing(&world.delivers(200)), ["call-log record: not found before the deadline"]);
    assert_eq!(world.seconds(), 180);
    world.answer(log(vec![record("s1", &json!({}))]));
    assert!(matches!(world.joiner.step(world.now), Step::Wait(None)), "its answer comes too late");
}

#[test]
fn all_waiting_calls_share_a_reading_and_readings_keep_their_distance() {
    let mut world = World::new();
    for id in ["s1", "s2", "s3"] {
        world.event(&session(id, 1, "a", "Disconnected"));
    }
    let Request::Log { from, .. } = world.asks(30) else { panic!() };
    assert_eq!(from, wall(0) - WIDE, "their beginning is unknown");
    world.answer(log(vec![record("s1", &json!({})), record("s2", &json!({}))]));
    let mut done = [world.delivers(30), world.delivers(30)];
    done.sort_by_key(|call| call.session.telephony_session_id.clone());
    assert_eq!(done[1].session.telephony_session_id.as_ref().unwrap(), &"s2");
    world.event(&session("s4", 1, "a", "Disconnected"));
    world.joiner.event(&session("s5", 1, "a", "Disconnected"), ACCOUNT, wall(0), 1, world.now);
    let mut readings = Vec::new();
    while let Some(step) = world.step(100) {
        if matches!(step, Step::Ask(Request::Log { .. })) {
            readings.push(world.seconds());
            world.answer(log(Vec::new()));
        }
    }
    assert!(readings.len() > 4 && readings.windows(2).all(|two| two[1] - two[0] >= SPACING.as_secs()), "{readings:?}");
}

#[test]
fn a_reading_continues_by_time_for_as_long_as_a_call_is_missing() {
    let mut world = World::new();
    world.event(&session("s1", 1, "a", "Setup"));
    world.event(&session("s1", 2, "a", "Disconnected"));
    world.asks(30);
    let page = |records, oldest: u64| Ok(Answer::Log { records, oldest: Some(wall(oldest)), more: true });
    world.answer(page(Vec::new(), 100));
    let Request::Log { to, page: number, .. } = world.asks(30) else { panic!() };
    assert_eq!((to, number), (Some(wall(100) + Duration::from_millis(1)), 2));
    // A page of one millisecond leads no further.
    world.answer(page(Vec::new(), 100));
    assert!(world.step(31).is_none());
    let Request::Log { from, page: number, .. } = world.asks(60) else { panic!() };
    assert_eq!((from, number), (wall(0) - WIDE, 1), "the next reading reaches further back");
    for oldest in (1..=u64::from(MAX_PAGES)).rev() {
        assert!(matches!(world.joiner.asked, Some(Request::Log { .. })));
        world.answer(page(Vec::new(), oldest));
        if oldest > 1 {
            world.asks(60);
        }
    }
    assert!(world.step(45).is_none(), "pages have a bound");
    world.asks(80);
    world.answer(page(vec![record("s1", &json!({}))], 50));
    assert!(world.delivers(80).is_complete(), "nothing else is missing");
}

#[test]
fn a_record_of_the_older_api_is_recognized() {
    let mut world = World::new();
    world.event(&session("s1", 1, "a", "Disconnected"));
    let mut old = session("s2", 1, "a", "Disconnected");
    old.telephony_session_id = None;
    world.event(&old);
    world.asks(30);
    let by_session = |id: &str| {
        let mut it = record(id, &json!({"sessionId": format!("{id}0")}));
        it.telephony_session_id = None;
        it
    };
    world.answer(log(vec![by_session("s1"), by_session("s2")]));
    assert!(world.delivers(30).is_complete() && world.delivers(30).is_complete());
}

#[test]
fn deleted_records_do_not_count_and_a_later_version_replaces_the_earlier() {
    let mut world = World::new();
    world.event(&session("s1", 1, "a", "Disconnected"));
    world.asks(30);
    world.answer(log(vec![record("s1", &json!({"deleted": true}))]));
    world.asks(60);
    world.answer(log(vec![record("s1", &json!({"result": "Voicemail"}))]));
    world.asks(60);
    world.answer(log(vec![record("s1", &json!({"result": "Voicemail", "message": {"id": "9"}}))]));
    assert!(matches!(world.asks(60), Request::Voicemail { .. }));
    world.answer(Ok(Answer::Voicemail(Box::default())));
    let call = world.delivers(60);
    assert_eq!((call.records.len(), call.voicemails.len()), (1, 1));
}

#[test]
fn recordings_that_only_events_name_are_read() {
    let mut world = World::new();
    let mut event = session("s1", 1, "a", "Disconnected");
    event.parties[0].recordings = serde_json::from_value(json!([{"id": "5"}])).unwrap();
    world.event(&event);
    assert!(matches!(world.asks(30), Request::Recording { .. }));
    world.answer(Ok(Answer::Recording(Box::new(serde_json::from_value(json!({"id": "5"})).unwrap()))));
    world.asks(30);
    world.answer(log(vec![record("s1", &json!({"recording": {"id": "5"}}))]));
    assert_eq!(world.delivers(30).recordings.len(), 1, "once");
}

#[test]
fn an_ended_call_may_continue_and_late_events_do_not_bring_it_back() {
    let mut world = World::new();
    world.event(&session("s1", 1, "a", "Answered"));
    world.event(&session("s1", 5, "a", "Disconnected"));
    assert!(world.step(10).is_none());
    world.event(&session("s1", 6, "b", "Answered"));
    assert!(world.step(100).is_none(), "it continues with another party");
    world.event(&session("s1", 7, "b", "Disconnected"));
    world.asks(130);
    world.answer(log(vec![record("s1", &json!({}))]));
    assert!(world.delivers(130).is_complete());
    for (event, revived) in [
        (session("s1", 7, "b", "Disconnected"), false),
        (session("s1", 4, "a", "Hold"), false),
        (session("s1", 8, "b", "Disconnected"), false),
        (session("s1", 9, "a", "Answered"), true),
    ] {
        world.event(&event);
        assert_eq!(world.joiner.pending(), usize::from(revived), "{:?}", event.sequence);
    }
    assert!(matches!(world.asks(130), Request::Session { .. }), "it may have been a late event");
}

#[test]
fn an_open_call_is_asked_about_after_a_gap_and_after_silence() {
    let mut world = World::new();
    world.event(&session("s1", 1, "a", "Answered"));
    assert!(world.step(SILENT.as_secs() - 1).is_none());
    let Request::Session { id, scope, .. } = world.asks(SILENT.as_secs()) else { panic!() };
    assert_eq!((id.as_str(), scope.as_str()), ("s1", ACCOUNT));
    world.answer(Ok(Answer::Session(session("s1", 0, "a", "Hold").parties)));
    assert!(world.step(SILENT.as_secs() + 60).is_none(), "it is still there");
    world.joiner.missed(world.now);
    assert!(matches!(world.asks(SILENT.as_secs() + 60), Request::Session { .. }));
    world.answer(Err(Error::new(ErrorKind::Service, "503")));
    assert!(world.step(SILENT.as_secs() + 60 + 59).is_none());
    assert!(matches!(world.asks(SILENT.as_secs() + 120), Request::Session { .. }));
    world.answer(Err(not_found()));
    assert!(matches!(world.asks(SILENT.as_secs() + 141), Request::Log { .. }), "it is over");
    world.answer(log(vec![record("s1", &json!({}))]));
    assert!(world.delivers(SILENT.as_secs() + 141).is_complete());
}

#[test]
fn a_call_about_which_nothing_can_be_learned_is_given_up_after_a_day() {
    let mut world = World::new();
    world.event(&session("s1", 1, "a", "Answered"));
    let call = loop {
        match world.step(100_000).unwrap() {
            Step::Deliver(call) => break call,
            Step::Ask(_) => world.answer(Err(Error::new(ErrorKind::Permission, "no permission"))),
            Step::Wait(_) => unreachable!(),
        }
    };
    assert_eq!(
        (missing(&call), world.seconds()),
        (vec!["call-log record: the end of the call is not known".into()], 86_400)
    );
}

#[test]
fn at_the_end_of_the_stream_every_call_is_delivered() {
    let mut world = World::new();
    for (id, code) in [("s1", "Answered"), ("s2", "Answered"), ("s3", "Answered"), ("s4", "Disconnected")] {
        world.event(&session(id, 1, "a", code));
    }
    world.joiner.finish(world.now);
    let mut delivered = Vec::new();
    while let Some(step) = world.step(1_000) {
        match step {
            Step::Deliver(call) => {
                let id = call.session.telephony_session_id.clone().unwrap();
                delivered.push(format!("{id} {}", missing(&call).join(" ")));
            }
            Step::Ask(Request::Session { id, .. }) => world.answer(match id.as_str() {
                "s1" => Ok(Answer::Session(session("s1", 1, "a", "Answered").parties)),
                "s2" => Err(not_found()),
                _ => Err(Error::new(ErrorKind::Network, "down")),
            }),
            Step::Ask(_) => world.answer(log(vec![record("s2", &json!({})), record("s4", &json!({}))])),
            Step::Wait(_) => unreachable!(),
        }
    }
    delivered.sort();
    let open = "call-log record: the end of the call is not known";
    assert_eq!(delivered, [format!("s1 {open}"), "s2 ".into(), format!("s3 {open}"), "s4 ".into()]);
    assert!(matches!(world.joiner.step(world.now), Step::Wait(None)));
}

#[test]
fn memory_has_bounds_and_what_exceeds_them_is_reported() {
    let mut world = World::new();
    for n in 0..20 {
        world.joiner.event(&session(&n.to_string(), 1, "a", "Answered"), EXTENSION, wall(0), MAX_BYTES / 10, world.now);
    }
    let call = world.delivers(1);
    assert_eq!(missing(&call), ["call-log record: too many calls at once"]);
    assert_eq!(call.session.telephony_session_id.as_ref().unwrap(), &"0", "the oldest");
    assert_eq!((world.joiner.pending(), world.joiner.dropped()), (19, 0));
    let mut world = World::new();
    for n in 0..MAX_CALLS + MAX_READY + 5 {
        world.joiner.event(&session(&n.to_string(), 1, "a", "Answered"), EXTENSION, wall(0), 1, world.now);
    }
    assert_eq!((world.joiner.pending(), world.joiner.dropped()), (MAX_CALLS + MAX_READY, 5));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// For any order and repetition of events and any answers of the service, each call is delivered once, within
    /// its deadline, and is complete exactly if its record was found.
    #[test]
    fn each_ended_call_is_delivered_once(
        events in Just((0..12_usize).collect::<Vec<_>>()).prop_shuffle(),
        again in prop::collection::vec(0..12_usize, 0..12),
        answers in prop::collection::vec(0..4_u8, 1..12),
        found in prop::collection::vec(any::<bool>(), 3),
    ) {
        let mut world = World::new();
        let ids = ["s0", "s1", "s2"];
        for at in events.into_iter().chain(again) {
            let (id, step) = (ids[at % 3], at / 3);
            let (party, code) = [("a", "Setup"), ("b", "Answered"), ("a", "Disconnected"), ("b", "Gone")][step];
            world.event(&session(id, i64::try_from(step).unwrap(), party, code));
        }
        let (mut delivered, mut turn) = (BTreeSet::new(), answers.iter().cycle());
        while let Some(step) = world.step(10_000) {
            match step {
                Step::Deliver(call) => {
                    let id = call.session.telephony_session_id.clone().unwrap();
                    let at = ids.iter().position(|it| *it == id.as_str()).unwrap();
                    prop_assert!(!call.is_complete() || found[at]);
                    prop_assert_eq!(call.records.is_empty(), !call.is_complete());
                    prop_assert!(delivered.insert(id.as_str().to_owned()), "once");
                }
                Step::Ask(_) => {
                    let records = ids.iter().zip(&found).filter(|(_, found)| **found);
                    let records = records.map(|(id, _)| record(id, &json!({}))).collect();
                    world.answer(match turn.next() {
                        Some(0) => Err(Error::new(ErrorKind::Network, "down")),
                        Some(1) => log(Vec::new()),
                        _ => log(records),
                    });
                }
                Step::Wait(_) => unreachable!(),
            }
        }
        prop_assert_eq!(delivered.len(), 3);
        prop_assert_eq!(world.joiner.pending(), 0);
        prop_assert!(world.joiner.bytes == 0);
    }
}
