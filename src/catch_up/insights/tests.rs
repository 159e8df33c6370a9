use serde_json::json;

use super::*;

const NOON: u64 = 1_714_996_800_000;

fn object(value: Value) -> Map<String, Value> {
    let Value::Object(object) = value else { panic!("{value}") };
    object
}

#[test]
fn a_round_reads_what_the_last_one_did_not() {
    let read = Read { since: NOON, upto: NOON + 90_000, at: NOON + 60_000 };
    for (since, from, from_when) in [
        // The same gap, and one that began later: behind what was read.
        (NOON, NOON, Some(NOON + 90_000)),
        (NOON - OVERLAP, NOON, Some(NOON + 90_000)),
        (NOON + 500_000, NOON, Some(NOON + 90_000)),
        // An earlier one: from its beginning.
        (NOON - OVERLAP - 1, NOON - OVERLAP - 1, None),
    ] {
        let round = Round::new(since, Some(read), NOON + 600_000);
        assert_eq!((round.since, round.from), (from, from_when), "{since}");
        let mut fresh = Round::new(since, None, NOON + 600_000);
        assert_eq!((fresh.since, fresh.from), (since, None));
        assert_eq!(fresh.answered_at(NOON + 9, -7), since - 7, "in the service's time");
        assert_eq!((fresh.answered_at(NOON + 99, 0), fresh.upto), (since - 7, Some(NOON + 9)));
    }
}

#[test]
fn rounds_are_minutes_apart_except_for_a_gap_that_began_earlier() {
    let held = InsightPosition { read: Some(Read { since: NOON, upto: NOON, at: NOON }), round: None };
    for (since, now, rests) in [
        (NOON, NOON, true),
        (NOON, NOON + APART - 1, true),
        (NOON, NOON + APART, false),
        // The clock was set back.
        (NOON, NOON - 1, false),
        (NOON - 60_000, NOON + 1, false),
    ] {
        assert_eq!(held.rests(since, now), rests, "{since} {now}");
    }
    assert!(!InsightPosition::default().rests(NOON, NOON));
    assert!(u128::from(APART) < SETTLES.as_millis(), "what one leaves out is read once it has settled");
}

#[test]
fn a_round_for_less_or_from_long_ago_begins_anew() {
    let round = Round::new(NOON, None, NOON);
    for (since, now, serves) in [
        (NOON, NOON, true),
        (NOON + 60_000, NOON + STALE - 1, true),
        (NOON, NOON + STALE, false),
        (NOON, NOON - 1, false),
        (NOON - OVERLAP - 1, NOON, false),
    ] {
        assert_eq!(round.serves(since, now), serves, "{since} {now}");
    }
}

#[test]
fn the_log_is_read_back_by_time_and_within_a_millisecond_by_number() {
    let calls = [object(json!({"startTime": "2024-05-06T12:00:00Z"})), object(json!({}))];
    for (to, page, want) in [
        (None, 1, (Some(NOON + 1), 1)),
        (Some(NOON + 2), 4, (Some(NOON + 1), 1)),
        (Some(NOON + 1), 1, (Some(NOON + 1), 2)),
    ] {
        assert_eq!(next_page(&calls, to, page), want);
    }
    assert_eq!(next_page(&[], None, 1), (None, 2));
}

#[test]
fn an_answer_has_insights_in_each_form_that_it_may_have() {
    let one = || json!({"insights": {"Summary": []}});
    for (answer, want) in [
        (one(), Some(1)),
        (json!([one(), one()]), Some(2)),
        (json!({"records": [one()]}), Some(1)),
        (json!({"records": []}), Some(0)),
        (json!({}), Some(0)),
        (json!(null), Some(0)),
        (json!({"records": null}), None),
        (json!({"records": [1]}), None),
        (json!({"errorCode": "X"}), None),
        (json!("text"), None),
    ] {
        assert_eq!(records(answer.clone()).map(|all| all.len()), want, "{answer}");
    }
}

#[test]
fn insights_count_by_their_last_change() {
    let filter = EventFilter::ring_sense_insights(RingSenseDomain::Pbx);
    for (times, want) in [
        (json!({"creationTime": "2024-05-06T11:00:00Z", "lastModifiedTime": "2024-05-06T12:00:00Z"}), 1),
        (json!({"creationTime": "2024-05-06T12:00:00Z"}), 1),
        (json!({"creationTime": "2024-05-06T11:59:59Z"}), 0),
        (json!({"creationTime": "2024-05-06T12:00:01Z", "lastModifiedTime": "2024-05-06T11:59:59Z"}), 0),
        (json!({"creationTime": "2024-05-06T11:00:00Z", "lastModifiedTime": 7}), 0),
        // It cannot be distinguished from new ones.
        (json!({}), 1),
    ] {
        let mut record = object(times.clone());
        record.insert("insights".into(), json!({"Summary": [{"value": "x"}]}));
        let events = found(&filter, None, "s", vec![record.clone()], NOON).unwrap();
        assert_eq!(events.len(), want, "{times}");
        if let Some(event) = events.first() {
            assert!(event.notification.get().contains(r#""sourceSessionId":"s""#));
            assert!(event.notification.get().contains(r#""domain":"pbx""#));
        }
        record.insert("insights".into(), json!({}));
        assert!(found(&filter, None, "s", vec![record], NOON).unwrap().is_empty(), "none yet");
    }
}

#[test]
fn how_late_insights_may_be_has_a_floor_and_a_cap() {
    let client = Client::builder(crate::auth::StaticToken::new(crate::auth::AccessToken::new("t")));
    let source = Insights::new(client.build().unwrap());
    for (late, want) in [(Duration::ZERO, LEAST_LATE), (Duration::MAX, MOST_LATE)] {
        assert_eq!(source.clone().late(late).late, want, "{late:?}");
    }
    assert_eq!(source.late, LATE);
}

#[test]
fn a_session_is_asked_for_below_the_filters_collection() {
    for (filter, want) in [
        ("/ai/ringsense/v1/public/accounts/~/domains/pbx/insights", "/ai/ringsense/v1/public/accounts/~/domains/pbx"),
        ("/a/insights/?x=/insights", "/a"),
    ] {
        assert_eq!(collection(filter), want);
    }
}
