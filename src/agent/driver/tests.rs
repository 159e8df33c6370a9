use std::time::SystemTime;

use super::*;
use crate::agent::AgentSession;
use crate::auth::StaticToken;
use crate::batches;

#[tokio::test]
async fn unread_events_of_a_dropped_stream_do_not_move_the_next_ones_start() {
    let builder = AgentSession::builder(StaticToken::new(AccessToken::new("t"))).base_url("http://127.0.0.1:9");
    let session = builder.resume(AgentCursor::from_text("S0")).unwrap();
    let shared = session.shared();
    let events = session.events().unwrap();
    {
        // As its task does after the session was lost and started again.
        let mut start = shared.stream_start();
        (start.cursor, start.origin) = (AgentCursor::from_text("S1"), SessionOrigin::Started);
    }
    drop(events);
    // The answer to an old position is a snapshot and no list of new events.
    let start = shared.stream_start();
    assert_eq!((start.cursor.expose(), start.origin), ("S0", SessionOrigin::Continued));
}

#[tokio::test]
async fn a_task_without_its_stream_moves_no_position_and_delivers_nothing() {
    let builder = AgentSession::builder(StaticToken::new(AccessToken::new("t"))).base_url("http://127.0.0.1:9");
    let session = builder.resume(AgentCursor::from_text("S0")).unwrap();
    let shared = session.shared();
    let answer = |id: &str| crate::http::Answer {
        status: http::StatusCode::OK,
        headers: http::HeaderMap::new(),
        body: format!(r#"{{"sessionId":"{id}","events":[{{"Type":"Mute"}}]}}"#).into(),
    };
    let (sender, mut batches) = batches::channel(1 << 20);
    let mut driver = Driver::new(shared.clone(), &shared.stream_start(), sender);
    driver.batch(&answer("S1"), Duration::ZERO);
    assert_eq!(session.newest_cursor().expose(), "S1");
    assert_eq!(batches.try_recv().unwrap().0.items.len(), 1);
    shared.stream_start().stream += 1;
    driver.batch(&answer("S2"), Duration::ZERO);
    assert_eq!(session.newest_cursor().expose(), "S1");
    assert!(batches.try_recv().is_err());
}

/// An answer, and its delay in seconds; `None` never arrives.
type Timed = (u64, Option<crate::http::Answer>);

/// The answers to polls.
#[derive(Clone, Debug)]
struct Script(Arc<std::sync::Mutex<VecDeque<Timed>>>);

#[async_trait::async_trait]
impl crate::agent::client::Calls for Script {
    async fn token(&self, _life: Duration) -> Result<AccessToken> {
        Ok(AccessToken::new("t"))
    }

    async fn refresh(&self, _refused: &AccessToken) -> Result<AccessToken> {
        Ok(AccessToken::new("t"))
    }

    async fn poll(
        &self,
        _id: &crate::secret::Secret,
        _token: &AccessToken,
        _ask: Duration,
        _within: Duration,
    ) -> Result<crate::http::Answer> {
        let (takes, answer) = self.0.lock().unwrap().pop_front().unwrap();
        tokio::time::sleep(Duration::from_secs(takes)).await;
        answer.ok_or_else(|| Error::new(ErrorKind::Timeout, "no answer").with_ambiguous(true))
    }

    async fn start(&self, _station: &crate::agent::station::Station) -> Result<crate::secret::Secret> {
        unreachable!("no session is started")
    }

    async fn join(&self, _agent: Option<&str>) -> Result<crate::secret::Secret> {
        unreachable!("no session is joined")
    }

    async fn end(&self, _id: &crate::secret::Secret, _query: &[(&str, String)]) -> Result<()> {
        Ok(())
    }

    async fn set_state(&self, _id: &crate::secret::Secret, _state: &str, _reason: Option<&str>) -> Result<()> {
        Ok(())
    }
}

fn answer(status: u16, date: Option<u64>, body: &str) -> crate::http::Answer {
    let mut headers = http::HeaderMap::new();
    if let Some(seconds) = date {
        let date = format!("Sun, 06 Nov 1994 08:{:02}:{:02} GMT", seconds / 60, seconds % 60);
        headers.insert(http::header::DATE, date.parse().unwrap());
    }
    crate::http::Answer { status: http::StatusCode::from_u16(status).unwrap(), headers, body: body.to_owned().into() }
}

fn start(date: Option<u64>, id: &str) -> crate::http::Answer {
    answer(200, date, &format!(r#"{{"sessionId":"{id}","events":[{{"Type":"AgentSessionStart"}}]}}"#))
}

fn session(polls: Vec<Timed>) -> AgentSession {
    let script = Script(Arc::new(std::sync::Mutex::new(polls.into())));
    let builder = AgentSession::builder(StaticToken::new(AccessToken::new("t")));
    builder.session(script, AgentCursor::from_text("S0"), SessionOrigin::Started)
}

/// The gaps of four polls, as cause and beginning.
async fn gaps(session: &AgentSession) -> Vec<(crate::delivery::GapCause, Option<SystemTime>)> {
    let shared = session.shared();
    let (sender, mut batches) = batches::channel(1 << 20);
    let mut driver = Driver::new(shared.clone(), &shared.stream_start(), sender);
    for _ in 0..4 {
        driver.poll(Duration::from_secs(60)).await;
    }
    let mut gaps = Vec::new();
    while let Ok((queued, _)) = batches.try_recv() {
        gaps.extend(queued.items.into_iter().filter_map(|item| match item {
            Ok(AgentDelivery::Gap(gap)) => Some((gap.cause, gap.since)),
            _ => None,
        }));
    }
    gaps
}

#[tokio::test(start_paused = true)]
async fn without_a_date_a_gap_begins_when_the_last_proven_poll_was_sent() {
    // The polls, and how many seconds before the detection events may be missing.
    for (polls, seconds) in [
        // The network drops everything for 54 s, and the first answer after it is a snapshot.
        (vec![(1, Some(start(None, "S1"))), (27, None), (27, None), (1, Some(start(None, "S2")))], 56),
        // A quiet answer after one that may be lost proves nothing about that one.
        (
            vec![
                (1, Some(start(None, "S1"))),
                (27, None),
                (60, Some(answer(304, None, ""))),
                (1, Some(start(None, "S2"))),
            ],
            89,
        ),
        // Without a lost answer it proves that everything was read until its poll was sent.
        (
            vec![
                (1, Some(start(None, "S1"))),
                (60, Some(answer(304, None, ""))),
                (27, None),
                (1, Some(start(None, "S2"))),
            ],
            88,
        ),
    ] {
        let session = session(polls);
        let gaps = gaps(&session).await;
        let [(crate::delivery::GapCause::AnswerLost, Some(since))] = gaps[..] else { panic!("{gaps:?}") };
        let before = session.shared().settings.system.now().duration_since(since).unwrap();
        assert!(before >= Duration::from_secs(seconds), "{before:?} {seconds}");
    }
}

/// A poll that is held for a minute proves that nothing was missed during it; one with events without times proves
/// what happened before it was sent.
#[tokio::test(start_paused = true)]
async fn a_gap_begins_where_the_last_proving_answer_was_made() {
    let base = SystemTime::UNIX_EPOCH + Duration::from_secs(784_108_800);
    for (polls, seconds) in [
        (
            vec![
                (1, Some(start(Some(1), "S1"))),
                (60, Some(answer(304, Some(61), ""))),
                (27, None),
                (1, Some(start(Some(89), "S2"))),
            ],
            61,
        ),
        // A quiet answer after one that may be lost proves nothing about that one.
        (
            vec![
                (1, Some(start(Some(1), "S1"))),
                (27, None),
                (60, Some(answer(304, Some(88), ""))),
                (1, Some(start(Some(89), "S2"))),
            ],
            0,
        ),
        (
            vec![
                (1, Some(start(Some(1), "S1"))),
                (
                    40,
                    Some(answer(
                        200,
                        Some(41),
                        r#"{"sessionId":"S2","events":[{"Type":"AgentState","StartTimeUTC":"1994-11-06T08:00:21Z"}]}"#,
                    )),
                ),
                (27, None),
                (1, Some(start(Some(89), "S2"))),
            ],
            21,
        ),
    ] {
        let gaps = gaps(&session(polls)).await;
        let since = base + Duration::from_secs(seconds) - Duration::from_secs(1);
        assert_eq!(gaps, [(crate::delivery::GapCause::AnswerLost, Some(since))]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_clock_does_not_put_a_gaps_end_before_its_beginning() {
    // The service's clock is years ahead of this machine's, or behind it.
    for year in [1994, 9000] {
        let mut polls: Vec<Timed> = vec![
            (1, Some(start(None, "S1"))),
            (27, None),
            (1, Some(start(Some(30), "S2"))),
            (1, Some(answer(304, None, ""))),
        ];
        for answer in polls.iter_mut().filter_map(|(_, answer)| answer.as_mut()) {
            if let Some(date) = answer.headers.get_mut(http::header::DATE) {
                *date = date.to_str().unwrap().replace("1994", &year.to_string()).parse().unwrap();
            }
        }
        let session = session(polls);
        let shared = session.shared();
        let (sender, mut batches) = batches::channel(1 << 20);
        let mut driver = Driver::new(shared.clone(), &shared.stream_start(), sender);
        for _ in 0..4 {
            driver.poll(Duration::from_secs(60)).await;
        }
        let mut times = Vec::new();
        while let Ok((queued, _)) = batches.try_recv() {
            times.extend(queued.items.into_iter().filter_map(|item| match item {
                Ok(AgentDelivery::Gap(gap)) => gap.since,
                Ok(AgentDelivery::Resumed(resumed)) => Some(resumed.at),
                _ => None,
            }));
        }
        assert!(times.len() == 2 && times[0] < times[1], "{year}: {times:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_after_another_one_knows_up_to_when_events_were_delivered() {
    let base = SystemTime::UNIX_EPOCH + Duration::from_secs(784_108_800);
    // How many answers of the first stream are read, and where the second one's gap begins.
    for (read, seconds) in [(2, 1), (1, 0)] {
        let session = session(vec![
            (1, Some(start(Some(1), "S1"))),
            (1, Some(answer(200, Some(2), r#"{"sessionId":"S2","events":[{"Type":"Mute"}]}"#))),
            (60, None),
            (1, Some(start(Some(90), "S3"))),
            (60, None),
        ]);
        let mut events = session.events().unwrap();
        for _ in 0..read {
            assert!(matches!(events.next().await, Some(Ok(AgentDelivery::Notification(_)))));
        }
        // The second answer has arrived, read or not.
        tokio::time::sleep(Duration::from_secs(5)).await;
        drop(events);
        // The third poll of the stream is aborted, so the next one gets the fourth answer.
        let mut events = session.events().unwrap();
        let Some(Ok(AgentDelivery::Gap(gap))) = events.next().await else { panic!("no gap") };
        assert_eq!(gap.since, Some(base + Duration::from_secs(seconds) - Duration::from_secs(1)), "{read}");
    }
}

/// A service with a large answer for every poll, and a reader that does not read.
#[tokio::test(start_paused = true)]
async fn unread_deliveries_are_bounded_by_bytes() {
    let large = |n: u32| {
        let data = "x".repeat(10_000);
        answer(200, None, &format!(r#"{{"sessionId":"S{n}","events":[{{"Type":"Mute","Data":"{data}"}}]}}"#))
    };
    let polls: Vec<_> = (1..=1000).map(|n| (0, Some(large(n)))).collect();
    let script = Script(Arc::new(std::sync::Mutex::new(polls.into())));
    let builder = AgentSession::builder(StaticToken::new(AccessToken::new("t"))).queue_bytes(100_000);
    let session = builder.session(script.clone(), AgentCursor::from_text("S0"), SessionOrigin::Started);
    let mut events = session.events().unwrap();
    tokio::time::sleep(Duration::from_secs(600)).await;
    let left = || script.0.lock().unwrap().len();
    // Each batch weighs more than its text, and the last one may exceed the limit.
    assert!((1000 - 11..1000).contains(&left()), "{}", left());
    let before = left();
    for _ in 0..5 {
        futures_util::StreamExt::next(&mut events).await.unwrap().unwrap();
    }
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!(before > left() && before - left() <= 6, "polling continues while there is room: {}", left());
}
