//! Insights of recorded calls and meetings that push lost.

use std::time::Duration;

use crate::support::catch_up::{Follower, LATER, client, free, lines, now};
use ringcentral_events::catch_up::{CatchUp as _, Insights, SyncRequest};
use ringcentral_events::event::{GapClosure, RingSenseDomain};
use ringcentral_events::{EventFilter, EventKind, OpenReason};
use ringcentral_sandbox::{Fault, Fixture, Operation, Sandbox, SandboxBuilder};

fn filter(domain: RingSenseDomain) -> EventFilter {
    EventFilter::ring_sense_insights(domain)
}

fn quick() -> SandboxBuilder {
    free().behavior(|behavior| behavior.account.call_log_delay = Duration::ZERO)
}

fn insights(session: &str, summary: &str) -> Fixture {
    Fixture::insights("pbx", session, summary)
}

async fn follow(sandbox: &Sandbox) -> Follower<Insights> {
    Follower::begin(Insights::new(client(sandbox)), [filter(RingSenseDomain::Pbx)]).await
}

/// What one round leaves open.
async fn open(it: &mut Follower<Insights>) -> Vec<OpenReason> {
    let (since, mut all) = (Some(now()), Vec::new());
    loop {
        let page = it.page(since).await;
        it.position = page.next;
        all.extend(page.open.into_iter().map(|open| open.reason));
        if !page.more {
            return all;
        }
    }
}

#[tokio::test]
async fn found_3_8_insights_of_recorded_calls_are_found_and_once() {
    for (skew, in_list, empty) in [(0, false, false), (600_000, true, false), (-4_000_000, false, true)] {
        let sandbox = quick().behavior(|behavior| {
            behavior.clock_skew_ms = skew;
            behavior.account.insights_in_list = in_list;
            behavior.account.empty_insights = empty;
        });
        let sandbox = sandbox.start().await.unwrap();
        sandbox.trigger_all(&["1", "2", "3"].map(Fixture::recorded_call));
        sandbox.trigger_all(&[insights("s-sandbox-1", "old"), insights("s-sandbox-2", "notes")]);
        sandbox.trigger(&Fixture::telephony_session("Disconnected"));
        sandbox.advance(LATER);
        let mut it = follow(&sandbox).await;
        let gap = now();
        sandbox.trigger_all(&[insights("s-sandbox-2", "more"), Fixture::recorded_call("4")]);
        sandbox.trigger(&insights("s-sandbox-4", "new"));
        let found = it.sync(Some(gap)).await;
        assert_eq!(lines(&found), ["insights new", "insights notes, more"], "{skew}");
        for it in &found {
            assert_eq!(it.kind(), EventKind::RingSenseInsights);
            assert_eq!(it.event_uri(), "/ai/ringsense/v1/public/accounts/100200300/domains/pbx/insights");
            assert!(it.timestamp().is_some());
        }
        assert!(it.complete, "the source itself leaves nothing of it open");
        // Calls that were not recorded have no insights.
        assert_eq!(sandbox.requests_to(Operation::Insights).len(), 4);
        // Rounds are minutes apart.
        sandbox.clear_requests();
        assert_eq!(lines(&it.sync(Some(gap)).await), [""; 0]);
        assert!(sandbox.requests().is_empty());
    }
}

#[tokio::test]
async fn found_3_8_a_gap_of_insights_is_never_complete() {
    let sandbox = quick().start().await.unwrap();
    let source = Insights::new(client(&sandbox));
    let with_meetings = source.clone().meetings(Vec::new);
    for (domain, want, named) in [
        (RingSenseDomain::Pbx, GapClosure::Partial, GapClosure::Partial),
        (RingSenseDomain::Rcv, GapClosure::Nothing, GapClosure::Partial),
        (RingSenseDomain::Rcx, GapClosure::Nothing, GapClosure::Nothing),
        (RingSenseDomain::MsTeams, GapClosure::Nothing, GapClosure::Nothing),
        (RingSenseDomain::NiceInContact, GapClosure::Nothing, GapClosure::Nothing),
    ] {
        let filter = filter(domain);
        assert_eq!((source.covers(&filter), with_meetings.covers(&filter)), (want, named), "{filter}");
    }
    assert_eq!(source.covers(&EventFilter::missed_calls()), GapClosure::Nothing);
}

#[tokio::test]
async fn found_3_8_insights_of_named_meetings_are_found() {
    let sandbox = quick().start().await.unwrap();
    let source =
        Insights::new(client(&sandbox)).meetings(|| vec!["m-1".into(), "m-2".into(), "m-1".into(), "..".into()]);
    let mut it = Follower::begin(source, [filter(RingSenseDomain::Rcv)]).await;
    let gap = now();
    sandbox.trigger_all(&[Fixture::insights("rcv", "m-1", "met"), insights("m-2", "of another domain")]);
    assert_eq!(lines(&it.sync(Some(gap)).await), ["insights met"]);
    assert_eq!(sandbox.requests_to(Operation::Insights).len(), 2, "an id that is no path segment is not sent");
    assert!(!it.complete);
    assert!(sandbox.requests_to(Operation::CallLog).is_empty());
}

#[tokio::test]
async fn a_check_of_insights_costs_no_request() {
    let sandbox = quick().start().await.unwrap();
    sandbox.trigger_all(&[Fixture::recorded_call("1"), insights("s-sandbox-1", "new")]);
    let mut it = follow(&sandbox).await;
    sandbox.clear_requests();
    assert_eq!(lines(&it.sync(None).await), [""; 0]);
    assert!(it.complete && sandbox.requests().is_empty());
}

#[tokio::test]
async fn what_is_not_read_of_insights_is_left_open() {
    for (faults, want, found) in [
        (Fault::status(403).times(1), vec![OpenReason::Refused], 3),
        (Fault::status(403).times(3), vec![OpenReason::Refused; 3], 0),
        (Fault::status(500).times(1), vec![], 4),
        (Fault::status(500).until_cleared(), vec![OpenReason::Unread; 4], 0),
        (Fault::code(404, "CMN-102"), vec![], 3),
        (Fault::html(200), vec![OpenReason::Unread], 3),
    ] {
        let sandbox = quick().start().await.unwrap();
        let mut it = follow(&sandbox).await;
        for n in ["1", "2", "3", "4"] {
            sandbox.trigger_all(&[Fixture::recorded_call(n), insights(&format!("s-sandbox-{n}"), n)]);
        }
        let case = format!("{faults:?}");
        sandbox.faults().inject(Operation::Insights, faults);
        let (since, mut reasons, mut events) = (Some(now() - LATER), Vec::new(), 0);
        loop {
            let page = it.page(since).await;
            it.position = page.next;
            events += page.found.len();
            reasons.extend(page.open.into_iter().map(|open| open.reason));
            if !page.more {
                break;
            }
        }
        assert_eq!((reasons, events), (want, found), "{case}");
    }
}

#[tokio::test]
async fn more_sessions_than_a_round_reads_are_left_open() {
    let sandbox = quick().start().await.unwrap();
    let mut it = follow(&sandbox).await;
    for n in 0..300 {
        sandbox.trigger(&Fixture::recorded_call(n.to_string()));
    }
    assert_eq!(open(&mut it).await, [OpenReason::TooMuch]);
    assert_eq!(sandbox.requests_to(Operation::Insights).len(), 100);
    // Recordings lie behind a page of calls that were not recorded.
    let sandbox = quick().start().await.unwrap();
    let mut it = follow(&sandbox).await;
    sandbox.trigger_all(&[Fixture::recorded_call("1"), insights("s-sandbox-1", "new")]);
    for _ in 0..300 {
        sandbox.trigger(&Fixture::telephony_session("Disconnected"));
    }
    assert_eq!(lines(&it.sync(Some(now() - LATER)).await), ["insights new"]);
    assert!(it.complete);
}

#[tokio::test]
async fn a_log_without_recordings_finds_nothing() {
    let sandbox = quick().behavior(|behavior| behavior.account.recording_in_log = false).start().await.unwrap();
    let it = follow(&sandbox).await;
    sandbox.trigger_all(&[Fixture::recorded_call("1"), insights("s-sandbox-1", "new")]);
    let request = SyncRequest::new(Some(&it.position), &it.filters, Some(now() - LATER));
    let page = it.source.sync(request).await.unwrap();
    // So the gap stays open: the source makes up for it in part only.
    assert!(page.found.is_empty() && !page.more);
    assert_eq!(it.source.covers(&it.filters[0]), GapClosure::Partial);
}
