use super::super::fakes::FakeSource;
use super::*;
use crate::catch_up::SyncToken;
use crate::event::Origin;

const STORE: &str = "/restapi/v1.0/account/~/extension/~/message-store";
const PRESENCE: &str = "/restapi/v1.0/account/~/extension/~/presence";

fn at(secs: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(secs)
}

fn texts(filters: &[&str]) -> Vec<String> {
    filters.iter().map(|filter| (*filter).to_owned()).collect()
}

/// With one source, of messages, which is asked for messages.
fn recovery(fake: &FakeSource) -> Recovery {
    let mut recovery = Recovery::of(&[Arc::new(fake.clone())], Pace::default(), 7);
    recovery.cover(&texts(&[STORE]));
    recovery
}

fn open(filter: &str) -> Unrecovered {
    let (closure, changes) = (GapClosure::Nothing, Changes::ALL);
    Unrecovered { filter: filter.to_owned(), closure, changes, reason: OpenReason::NoSource }
}

fn asked_since(recovery: &mut Recovery, since: Option<u64>) -> Option<Option<SystemTime>> {
    let query = recovery.ask(0, since.map(at), at(9_000), |at| at + Duration::from_secs(7));
    query.map(|query| query.since)
}

#[test]
fn a_gap_that_spans_a_clock_set_back_is_filled_by_the_clock_as_it_is() {
    let (fake, now) = (FakeSource::default(), Instant::now());
    let set_back = Duration::from_secs(120);
    // The clock is set back while the gap is open, while it is filled, or before it.
    for (open, filled, ends) in [(true, false, 821), (false, true, 821), (true, true, 941), (false, false, 701)] {
        let mut recovery = recovery(&fake);
        recovery.move_back(set_back);
        recovery.opened(&texts(&[STORE]));
        if open {
            recovery.move_back(set_back);
        }
        let unended = recovery.take_unended(None);
        recovery.fill(Some(at(500)), unended, now);
        if filled {
            recovery.move_back(set_back);
        }
        let since = if filled { 380 } else { 500 };
        assert_eq!(recovery.since(None), Some(at(since)));
        assert_eq!(asked_since(&mut recovery, Some(since)), Some(Some(at(since + 7))));
        let unended = recovery.filled().unwrap();
        // The beginning that the reader knows is by the clock as it was.
        assert_eq!(
            recovery.resumed(unended, &texts(&[STORE]), None, (at(700), at(701))).at,
            at(ends),
            "{open} {filled}"
        );
    }
}

#[test]
fn the_end_of_a_gap_reports_all_gaps_that_it_ends() {
    let (fake, now) = (FakeSource::default(), Instant::now());
    let mut recovery = recovery(&fake);
    let recreated = |old: &str, new: &str| Some(Recreated { old: old.into(), new: new.into() });
    assert!(!recovery.fill_more(Some(at(1)), &texts(&[STORE]), now) && !recovery.fill_with_next());
    recovery.opened(&texts(&[PRESENCE]));
    recovery.leave_open(vec![open("a")]);
    let unended = recovery.take_unended(recreated("1", "2"));
    recovery.fill(Some(at(500)), unended, now);
    // Another gap begins while the first is being filled.
    assert!(recovery.fill_more(Some(at(400)), &texts(&["b", PRESENCE]), now));
    assert!(recovery.fill_with_next() && !recovery.is_filling());
    let unended = recovery.take_unended(recreated("2", "3"));
    assert_eq!(unended.filters, [PRESENCE, "b"]);
    assert_eq!(unended.unrecovered, [open("a")]);
    assert_eq!(unended.recreated, recreated("1", "3"));
    recovery.fill(Some(at(600)), unended, now);
    assert_eq!(recovery.since(None), Some(at(400)), "of all of them");
    let unended = recovery.filled().unwrap();
    assert_eq!((recovery.since(None), recovery.is_filling()), (None, false));
    // A filter that is requested is judged by the sources, any other is not recovered.
    let resumed = recovery.resumed(unended, &texts(&[STORE]), None, (at(700), at(701)));
    let left: Vec<&str> = resumed.unrecovered.iter().map(|open| open.filter.as_str()).collect();
    assert_eq!((left, resumed.complete, resumed.at), (vec![PRESENCE, "b", "a"], false, at(701)));
    assert_eq!(recovery.take_unended(None).filters, [""; 0]);
}

#[test]
fn a_gap_that_is_cut_remains_missing_for_the_next_query() {
    let (fake, now) = (FakeSource::default(), Instant::now());
    let mut recovery = recovery(&fake);
    recovery.fill(Some(at(500)), Unended::of(texts(&[STORE])), now);
    assert!(recovery.cut().is_some() && recovery.cut().is_none() && recovery.filled().is_none());
    assert_eq!((recovery.since(None), recovery.since(Some(at(300)))), (Some(at(500)), Some(at(300))));
}

#[test]
fn later_events_wait_5_s_from_the_first_of_them() {
    let (fake, now) = (FakeSource::default(), Instant::now());
    let mut recovery = recovery(&fake);
    let secs = |secs| now + Duration::from_secs(secs);
    assert!(!recovery.waited_enough(true, secs(0)), "no gap is being filled");
    recovery.fill(None, Unended::default(), now);
    for (second, holds_back, want) in
        [(1, false, false), (2, true, false), (6, true, false), (7, true, true), (8, false, false), (9, true, false)]
    {
        assert_eq!(recovery.waited_enough(holds_back, secs(second)), want, "{second}");
        assert_eq!(recovery.waits_until(), holds_back.then(|| secs(if second < 9 { 7 } else { 14 })), "{second}");
    }
}

#[test]
fn without_push_everything_up_to_the_last_answers_is_read_and_the_rest_is_left_out() {
    let fake = FakeSource::default();
    fake.settles_after(Duration::from_secs(30));
    let mut recovery = recovery(&fake);
    let answered = |recovery: &mut Recovery, secs: u64| {
        recovery.begin(0, at(secs)).unwrap();
        recovery.begun(0, SourcePosition::new(SyncToken::new("t", at(secs)), true, at(secs)));
    };
    answered(&mut recovery, 1_000);
    assert_eq!((recovery.polled_up_to(at(900)), recovery.left_out(&texts(&[PRESENCE]))), (None, vec![]));
    recovery.polls_alone(true);
    assert_eq!(recovery.polled_up_to(at(900)), Some(at(1_000)));
    assert_eq!(recovery.left_out(&texts(&[STORE, PRESENCE])), [PRESENCE]);
    answered(&mut recovery, 2_000);
    assert_eq!(recovery.polled_up_to(at(1_500)), Some(at(2_000)));
    assert_eq!(recovery.end_polls(), [(at(1_970), texts(&[STORE]))]);
    assert_eq!(recovery.end_polls(), [], "reported once");
}

fn count() -> Notification {
    let body = r#"{"extensionId":2,"changes":[{"type":"SMS","newCount":1,"newMessageIds":[5]}]}"#;
    let text = format!(r#"{{"uuid":"u","event":"{STORE}","body":{body}}}"#);
    let raw = serde_json::value::RawValue::from_string(text).unwrap();
    Notification::parse(raw, Origin::Push, at(8_000)).unwrap()
}

#[test]
fn a_count_is_delivered_if_no_source_finds_its_messages() {
    let (fake, now) = (FakeSource::default(), Instant::now());
    fake.tells_messages();
    let mut recovery = recovery(&fake);
    assert!(recovery.count(&count(), None, now).is_none(), "counts are not replaced");
    recovery.enrich = true;
    recovery.plan.push_up(now.into_std());
    assert!(recovery.count(&count(), None, now).is_some_and(|counted| counted.overflow.is_none()));
    // Changes are asked for since the last answer, also without a gap.
    recovery.begin(0, at(8_100));
    recovery.begun(0, SourcePosition::new(SyncToken::new("t", at(8_100)), true, at(8_100)));
    assert_eq!(recovery.counts_wait_since(), Some(at(8_100)));
    assert_eq!(asked_since(&mut recovery, None), Some(Some(at(8_107))));
    // A call without an answer asked for nothing.
    recovery.failed(0);
    let judged = recovery.judge_counts(0, now, |_| false);
    assert_eq!((judged.deliver.len(), judged.again_after.is_some()), (0, true));
    assert_eq!(asked_since(&mut recovery, Some(8_500)), Some(Some(at(8_107))), "not later than the last answer");
    let judged = recovery.judge_counts(0, now, |_| false);
    assert_eq!((judged.deliver.len(), judged.missing_since), (1, None));
}

#[test]
fn what_is_answered_in_part_is_left_to_a_gap_around_it() {
    let (fake, now) = (FakeSource::default(), Instant::now());
    let mut recovery = recovery(&fake);
    assert_eq!(recovery.leave_to_gap_around(vec![open("a")], false), Err(vec![open("a")]));
    assert_eq!(recovery.leave_to_gap_around(vec![open("a")], true), Ok(()));
    let unended = recovery.take_unended(None);
    recovery.fill(None, unended, now);
    assert_eq!(recovery.leave_to_gap_around(vec![open("b")], true), Ok(()));
    assert_eq!(recovery.cut().unwrap().unrecovered, [open("a"), open("b")]);
    let (part, unrecovered) = recovery.part(0, Some(at(3)), Some(OpenReason::NotFound), at(9)).unwrap();
    assert_eq!((part.since, part.filters, unrecovered.len()), (Some(at(3)), texts(&[STORE]), 1));
}

#[test]
fn push_that_is_up_or_down_is_what_the_phase_and_the_transport_say() {
    let now = Instant::now();
    // Whether sources are queried, and whether in place of push, a minute later.
    for (phase, polls, want) in [
        (Phase::Starting, false, None),
        (Phase::Connecting, false, Some(true)),
        (Phase::Live, false, Some(false)),
        (Phase::Live, true, Some(true)),
        (Phase::Reconnecting, false, Some(true)),
        (Phase::Recreating, false, Some(true)),
        (Phase::Closing, false, None),
        (Phase::Closed, true, None),
    ] {
        let mut recovery = recovery(&FakeSource::default());
        recovery.polls_alone(polls);
        recovery.plan.continues_from_position(0);
        assert_eq!(recovery.observe(phase, true, now), want.is_some(), "{phase:?}");
        assert_eq!(recovery.plan.is_polling(now.into_std() + Duration::from_secs(60)), want == Some(true), "{phase:?}");
        assert_eq!(recovery.is_polled(), polls, "{phase:?}");
        recovery.cover(&[]);
        assert!(!recovery.observe(phase, true, now), "{phase:?}: no source covers anything");
    }
}
