//! The behavior of a link, over loopback against a hand-written server.

use std::error::Error as StdError;
use std::time::Duration;

use crate::support::pubnub::*;
use ringcentral_events::transport::{Link, LinkBatch, LinkEvent, PossibleLoss, PubNub, Target, Transport};
use ringcentral_events::{Disposition, Error, ErrorKind, Secret};
use tokio::join;
use tokio::net::{TcpListener, TcpSocket};
use tokio::time::Instant;

const RETRY: Disposition = Disposition::Retry { after: None };

// Positions.

#[tokio::test]
async fn each_poll_carries_the_cursor_of_the_last_answer() {
    let mut server = Server::start().await;
    let mut link = link(&server).await;
    // Ahead, and back again: both are valid for the service.
    let positions = ["17000000000000000", "17000000030000000", "16999999990000000", "17000000000000001"];
    for (n, pair) in positions.windows(2).enumerate() {
        let ((frames, cursor, loss), ()) = join!(batch(&mut link), async {
            let poll = server.poll().await;
            let region = (n > 0).then(|| "4".to_owned());
            assert_eq!(poll.position(), (pair[0].to_owned(), region));
            poll.json(answer(pair[1], [n])).await;
        });
        assert_eq!(frames, numbered([n]));
        assert_eq!(cursor, crate::support::pubnub::cursor(pair[1], Some(4)));
        assert_eq!(loss, None);
    }
}

#[tokio::test]
async fn poll_is_the_documented_request() {
    let mut server = Server::start().await;
    let target = Target {
        address: Secret::new("54/7 é,x"),
        user_id: Some("a b&c".to_owned()),
        ..target(cursor("17000000000000000", Some(12)))
    };
    let transport = builder(&server).origin(format!("{}/base/", server.origin())).build().unwrap();
    let mut link = transport.open(target).await.unwrap();
    let (_, ()) = join!(batch(&mut link), async {
        let poll = server.poll().await;
        let path = "/base/v2/subscribe/sub-c-5ub5cr1be/54%2F7%20%C3%A9%2Cx/0";
        let sdk = concat!("RingCentralEvents-Rust%2F", env!("CARGO_PKG_VERSION"));
        assert_eq!(poll.line, format!("{path}?pnsdk={sdk}&tr=12&tt=17000000000000000&uuid=a%20b%26c"));
        poll.json(answer(TT, [])).await;
    });
}

#[tokio::test]
async fn invalid_cursor_is_refused_before_anything_is_sent() {
    let server = Server::start().await;
    let transport = builder(&server).build().unwrap();
    let error = transport.open(target(cursor("0", None))).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert_eq!(server.waiting(), (0, 0, 0));
}

#[tokio::test]
async fn p4_poll_without_a_message_is_not_an_error() {
    let mut server = Server::start().await;
    let mut link = link(&server).await;
    let ((frames, cursor, loss), ()) =
        join!(batch(&mut link), async { server.poll().await.json(answer("17000000000000009", [])).await });
    assert_eq!((frames.len(), cursor, loss), (0, crate::support::pubnub::cursor("17000000000000009", Some(4)), None));
}

// Faults. After each, a new link from the same cursor reads the available messages.

/// The server's reaction to one poll.
enum Fault {
    Status(&'static str, &'static str, &'static str),
    Json(&'static str),
    Close,
    CloseAfter(&'static str),
    ResetAfter(&'static str),
}

fn nothing_secret(error: &Error) {
    let mut text = format!("{error:?} {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(" {error:?} {error}"));
        cause = error.source();
    }
    for secret in [KEY, CHANNEL, TT, "http://", "127.0.0.1", "uuid", "subscribe/"] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}

async fn fault(fault: Fault, kind: ErrorKind, disposition: Disposition) {
    let mut server = Server::start().await;
    let transport = builder(&server).build().unwrap();
    let from = cursor(TT, Some(7));
    let mut link = transport.open(target(from.clone())).await.unwrap();
    let (error, ()) = join!(error(&mut link), async {
        let poll = server.poll().await;
        match fault {
            Fault::Status(status, headers, body) => poll.status(status, headers, body).await,
            Fault::Json(body) => poll.json(body).await,
            Fault::Close => poll.raw_and_close("").await,
            Fault::CloseAfter(bytes) => poll.raw_and_close(bytes).await,
            Fault::ResetAfter(bytes) => poll.raw_and_reset(bytes).await,
        }
    });
    assert_eq!((error.kind(), error.disposition()), (kind, disposition), "{error:?}");
    nothing_secret(&error);
    drop(link);

    let mut link = transport.open(target(from)).await.unwrap();
    let ((frames, ..), ()) = join!(batch(&mut link), async {
        let poll = server.poll().await;
        assert_eq!(poll.position(), (TT.to_owned(), Some("7".to_owned())));
        poll.json(answer("17000000000000005", 0..3)).await;
    });
    assert_eq!(frames, numbered(0..3));
}

macro_rules! faults {
    ($($name:ident: $fault:expr => $kind:ident, $disposition:expr;)*) => {$(
        #[tokio::test]
        async fn $name() {
            fault($fault, ErrorKind::$kind, $disposition).await;
        }
    )*};
}

const PART: &str =
    "HTTP/1.1 200 OK\r\ncontent-length: 5000\r\n\r\n{\"t\":{\"t\":\"17000000000000005\",\"r\":4},\"m\":[";

faults! {
    fault_500_json: Fault::Status("500 x", "", r#"{"status":500,"error":true}"#) => Service, RETRY;
    fault_500_html: Fault::Status("500 x", "content-type: text/html\r\n", "<html></html>") => Service, RETRY;
    fault_503_empty: Fault::Status("503 x", "", "") => Service, RETRY;
    fault_503_retry_after: Fault::Status("503 x", "Retry-After: 7\r\n", "")
        => Service, Disposition::Retry { after: Some(Duration::from_secs(7)) };
    fault_530: Fault::Status("530 x", "", "") => Service, RETRY;
    fault_429: Fault::Status("429 x", "", "") => RateLimited, RETRY;
    fault_429_retry_after: Fault::Status("429 x", "Retry-After: 3\r\n", "")
        => RateLimited, Disposition::Retry { after: Some(Duration::from_secs(3)) };
    fault_400: Fault::Status("400 x", "", r#"{"message":"Invalid Subscribe Key","error":true,"status":400}"#)
        => Rejected, Disposition::Recreate;
    fault_401: Fault::Status("401 x", "", "") => Rejected, Disposition::Recreate;
    fault_402: Fault::Status("402 x", "", "") => Rejected, Disposition::Recreate;
    fault_403: Fault::Status("403 x", "", r#"{"message":"Forbidden","payload":{"channels":["54770517599294_6dda849e"]}}"#)
        => Rejected, Disposition::Recreate;
    fault_404: Fault::Status("404 x", "", "") => NotFound, Disposition::Recreate;
    fault_414: Fault::Status("414 x", "", "") => Rejected, Disposition::Recreate;
    fault_403_in_a_200: Fault::Json(r#"{"message":"Forbidden","error":true,"status":403}"#)
        => Rejected, Disposition::Recreate;
    fault_429_in_a_200: Fault::Json(r#"{"status":429,"service":"Balancer","error":true}"#) => RateLimited, RETRY;
    fault_old_error_form: Fault::Json(r#"[0,"text","17000000000000005"]"#) => Service, RETRY;
    fault_200_html: Fault::Json("<html>Sign in to this hotel</html>") => Protocol, RETRY;
    fault_200_empty: Fault::Json("") => Protocol, RETRY;
    fault_close_before_headers: Fault::Close => Network, RETRY;
    fault_close_in_headers: Fault::CloseAfter("HTTP/1.1 200 OK\r\ncontent-le") => Network, RETRY;
    fault_close_in_body: Fault::CloseAfter(PART) => Network, RETRY;
    fault_reset_in_body: Fault::ResetAfter(PART) => Network, RETRY;
    fault_close_in_the_body_of_a_403: Fault::CloseAfter("HTTP/1.1 403 x\r\ncontent-length: 50\r\n\r\n{")
        => Rejected, Disposition::Recreate;
    fault_not_http: Fault::CloseAfter("SSH-2.0-x\r\n\r\n") => Network, RETRY;
}

#[tokio::test]
async fn fault_damaged_answers_are_requested_again_from_the_same_position() {
    for body in [
        r#"{"t":{"t":"17000000000000005","r":4},"m":[{"d":{"n":0}},{"d":"#,
        r#"{"m":[{"d":{"n":0}},{"d":{"n":1}},{"d":{"n":2}}]}"#,
        r#"{"t":{"t":"0","r":4},"m":[{"d":{"n":0}}]}"#,
    ] {
        let mut server = Server::start().await;
        let mut link = builder(&server).build().unwrap().open(target(cursor(TT, Some(7)))).await.unwrap();
        let ((frames, ..), ()) = join!(batch(&mut link), async {
            server.poll().await.json(body).await;
            let poll = server.poll().await;
            assert_eq!(poll.position(), (TT.to_owned(), Some("7".to_owned())));
            poll.json(answer("17000000000000005", 0..3)).await;
        });
        assert_eq!(frames, numbered(0..3), "{body}");
    }
}

#[tokio::test]
async fn redirect_is_not_followed() {
    let elsewhere = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let location = format!("Location: http://{}/\r\n", elsewhere.local_addr().unwrap());
    let mut server = Server::start().await;
    let mut link = link(&server).await;
    let (error, ()) = join!(error(&mut link), async {
        server.poll().await.status("302 Found", &location, "").await;
    });
    assert_eq!((error.kind(), error.disposition(), error.status()), (ErrorKind::Protocol, RETRY, Some(302)));
}

#[tokio::test]
async fn fault_never_answered() {
    let mut server = Server::start().await;
    let mut link = link_of(builder(&server).poll_deadline(Duration::from_millis(400))).await;
    let (error, poll) = error_after(&mut link, server.poll()).await;
    assert_eq!((error.kind(), error.disposition()), (ErrorKind::Timeout, RETRY));
    assert!(error.source().unwrap().to_string().contains("within 400ms"), "{error:?}");
    nothing_secret(&error);
    poll.closed_by_client().await;
}

#[tokio::test]
async fn fault_body_that_never_ends() {
    let mut server = Server::start().await;
    let mut link = link_of(builder(&server).poll_deadline(Duration::from_millis(400))).await;
    let (error, ()) = error_after(&mut link, async { server.poll().await.raw(PART).await }).await;
    assert_eq!((error.kind(), error.disposition()), (ErrorKind::Timeout, RETRY));
}

/// The error of a poll that was `served`. On a busy machine a deadline may pass before the server reads the request.
async fn error_after<T>(link: &mut Box<dyn Link>, served: impl Future<Output = T>) -> (ringcentral_events::Error, T) {
    let mut served = std::pin::pin!(served);
    loop {
        tokio::select! {
            served = &mut served => return (error(link).await, served),
            error = error(link) => assert_eq!(error.kind(), ErrorKind::Timeout),
        }
    }
}

#[tokio::test]
async fn fault_nobody_listens() {
    // Bound but not listening, so that no other process gets the port.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let origin = format!("http://{}", socket.local_addr().unwrap());
    let mut link = link_of(PubNub::builder().origin(origin)).await;
    let error = error(&mut link).await;
    assert_eq!((error.kind(), error.disposition()), (ErrorKind::Network, RETRY));
    nothing_secret(&error);
}

#[tokio::test]
async fn refusal_is_classified_by_its_status_with_any_body() {
    let long = "x".repeat(200 << 10);
    let mut server = Server::start().await;
    let mut link = link(&server).await;
    let (error, ()) =
        join!(crate::support::pubnub::error(&mut link), async { server.poll().await.status("403 x", "", long).await });
    assert_eq!((error.kind(), error.disposition()), (ErrorKind::Rejected, Disposition::Recreate));

    let (error, ()) = join!(crate::support::pubnub::error(&mut link), async {
        server.poll().await.raw("HTTP/1.1 403 x\r\ncontent-length: 50\r\n\r\n").await;
    });
    assert_eq!((error.kind(), error.disposition()), (ErrorKind::Rejected, Disposition::Recreate));
}

// Answers.

#[tokio::test]
async fn envelope_without_f_is_delivered_and_a_malformed_one_stays_in_order() {
    let mut server = Server::start().await;
    let mut link = link(&server).await;
    let body = r#"{"t":{"t":"17000000000000005","r":4},"m":[{"c":"x","d":"a"},5,{"c":"x"},{"d":{"b":1}}]}"#;
    let ((frames, ..), ()) = join!(batch(&mut link), async { server.poll().await.json(body).await });
    assert_eq!(frames, ["\"a\"", "malformed 5", "malformed {\"c\":\"x\"}", "{\"b\":1}"]);
}

#[tokio::test]
async fn a_thousand_messages_in_one_answer_all_arrive_with_a_warning() {
    let mut server = Server::start().await;
    let mut link = link(&server).await;
    for (count, loss) in [
        (99, None),
        (100, Some(PossibleLoss::BufferFull { events: 100 })),
        (1000, Some(PossibleLoss::BufferFull { events: 1000 })),
    ] {
        let ((frames, _, suspected), ()) =
            join!(batch(&mut link), async { server.poll().await.json(answer(TT, 0..count)).await });
        assert_eq!(frames, numbered(0..count));
        assert_eq!(suspected, loss);
    }
}

#[tokio::test]
async fn a_raised_buffer_is_full_later() {
    let mut server = Server::start().await;
    let mut link = link_of(builder(&server).buffer_size_hint(300)).await;
    let ((frames, _, suspected), ()) =
        join!(batch(&mut link), async { server.poll().await.json(answer(TT, 0..299)).await });
    assert_eq!((frames.len(), suspected), (299, None));
}

#[tokio::test]
async fn pause_beyond_the_buffers_age_is_a_possible_loss_once() {
    let mut server = Server::start().await;
    let transport = builder(&server).buffer_age(Duration::from_secs(60)).build().unwrap();
    let last_good = Instant::now().checked_sub(Duration::from_secs(61));
    let mut link = transport.open(Target { last_good, ..target(cursor(TT, None)) }).await.unwrap();
    for expected in [true, false, false] {
        let ((_, _, loss), ()) = join!(batch(&mut link), async { server.poll().await.json(answer(TT, [])).await });
        assert_eq!(matches!(loss, Some(PossibleLoss::BufferAged { pause }) if !pause.is_zero()), expected, "{loss:?}");
    }
}

#[tokio::test]
async fn pause_within_the_buffers_age_is_no_loss() {
    let mut server = Server::start().await;
    let transport = builder(&server).build().unwrap();
    let last_good = Some(Instant::now());
    let mut link = transport.open(Target { last_good, ..target(cursor(TT, None)) }).await.unwrap();
    let ((_, _, loss), ()) = join!(batch(&mut link), async { server.poll().await.json(answer(TT, [1])).await });
    assert_eq!(loss, None);
}

#[tokio::test]
async fn first_link_reports_no_possible_loss() {
    let mut server = Server::start().await;
    let mut link = link_of(builder(&server).buffer_age(Duration::from_nanos(1))).await;
    let ((_, _, loss), ()) = join!(batch(&mut link), async { server.poll().await.json(answer(TT, [1])).await });
    assert_eq!(loss, None);
}

#[tokio::test]
async fn oversized_answer_requires_a_new_subscription() {
    let chunk = "x".repeat(600);
    let declared = format!("HTTP/1.1 200 OK\r\ncontent-length: 1001\r\n\r\n{chunk}");
    let chunked = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n258\r\n{chunk}\r\n258\r\n{chunk}\r\n");
    for oversize in [declared, chunked] {
        let mut server = Server::start().await;
        let transport = builder(&server).max_response(1000).build().unwrap();
        let mut link = transport.open(target(cursor(TT, None))).await.unwrap();
        let (error, ()) = join!(error(&mut link), async { server.poll().await.raw(oversize).await });
        assert_eq!((error.kind(), error.disposition()), (ErrorKind::Protocol, Disposition::Recreate));

        // The size as such is valid.
        let body = answer(TT, [1]);
        let body = format!("{body}{}", " ".repeat(1000 - body.len()));
        let mut link = transport.open(target(cursor(TT, None))).await.unwrap();
        let ((frames, ..), ()) = join!(batch(&mut link), async { server.poll().await.json(body).await });
        assert_eq!(frames, numbered([1]));
    }
}

#[tokio::test]
async fn immediate_answers_without_progress_do_not_cause_a_tight_loop() {
    // Nothing new, or the same message from the same position for ever.
    for body in [answer(TT, []), answer(TT, [7])] {
        let mut server = Server::start().await;
        let mut link = link(&server).await;
        let paused = async {
            let mut pauses = 0;
            while pauses < 3 {
                let answered = Instant::now();
                let poll = server.poll().await;
                // The shortest pause; a loop without one is hardly ever that slow.
                pauses += u32::from(answered.elapsed() >= Duration::from_millis(100));
                poll.json(&body).await;
            }
        };
        tokio::select! {
            () = soon(paused) => {}
            () = async { loop { batch(&mut link).await; } } => {}
        }
    }
}

// Liveness.

async fn alive(link: &mut Box<dyn Link>) {
    match soon(link.next()).await.unwrap() {
        LinkEvent::Alive => {}
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn silent_first_poll_is_probed_once() {
    let mut server = Server::start().await;
    let mut link = link(&server).await;
    let ((), poll) = join!(alive(&mut link), async {
        let poll = server.poll().await;
        server.time().await.status("200 OK", "", "[17000000000000000]").await;
        poll
    });
    // Held long enough for another probe to be due, twice.
    for poll in [Some(poll), None] {
        let ((frames, ..), ()) = join!(batch(&mut link), async {
            let poll = match poll {
                Some(poll) => poll,
                None => server.poll().await,
            };
            tokio::time::sleep(Duration::from_millis(300)).await;
            poll.json(answer(TT, [1])).await;
        });
        assert_eq!(frames, numbered([1]));
    }
    assert_eq!(server.waiting(), (0, 0, 0));
}

#[tokio::test]
async fn failed_probe_neither_proves_life_nor_fails_the_link() {
    // A proxy's answers in the service's place, and no answer.
    for status in ["302 Found", "404 x", "407 x", "502 x", "503 x", ""] {
        let mut server = Server::start().await;
        let mut link = link(&server).await;
        let (event, ()) = join!(soon(link.next()), async {
            let poll = server.poll().await;
            let time = server.time().await;
            match status {
                "" => time.raw_and_close("").await,
                status => time.status(status, "", "[17000000000000000]").await,
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
            poll.json(answer(TT, [1])).await;
        });
        // The poll's own answer is reported first.
        assert!(matches!(event.unwrap(), LinkEvent::At(_)), "{status}");
        assert_eq!(server.waiting(), (0, 0, 0));
    }
}

#[tokio::test]
async fn poll_answer_before_the_probes_answer_ends_the_probe() {
    let mut server = Server::start().await;
    let mut link = link(&server).await;
    let (event, time) = join!(soon(link.next()), async {
        let poll = server.poll().await;
        let time = server.time().await;
        poll.json(answer(TT, [1])).await;
        time
    });
    assert!(matches!(event.unwrap(), LinkEvent::At(_)));
    time.closed_by_client().await;
}

// Cancel, close, drop.

#[tokio::test]
async fn dropped_next_neither_aborts_nor_repeats_the_poll() {
    let mut server = Server::start().await;
    let mut link = link(&server).await;
    let poll = tokio::select! {
        event = link.next() => panic!("{event:?}"),
        poll = server.poll() => poll,
    };
    // Dropped while the poll is in flight, while the probe waits, while the probe is in flight.
    for _ in 0..20 {
        let short = tokio::time::timeout(Duration::from_millis(20), link.next()).await;
        assert!(short.is_err(), "{short:?}");
    }
    let time = tokio::select! {
        event = link.next() => panic!("{event:?}"),
        time = server.time() => time,
    };
    time.status("200 OK", "", "[1]").await;
    alive(&mut link).await;
    poll.json(answer("17000000000000005", 0..3)).await;
    let (frames, cursor, _) = batch(&mut link).await;
    assert_eq!((frames, cursor), (numbered(0..3), crate::support::pubnub::cursor("17000000000000005", Some(4))));
    assert_eq!(server.waiting(), (0, 0, 0));
}

#[tokio::test]
async fn next_dropped_at_any_moment_loses_nothing() {
    let mut server = Server::start().await;
    let mut link = link(&server).await;
    let serving = tokio::spawn(async move {
        let mut asked = Vec::new();
        for n in 0..30_usize {
            let poll = server.poll().await;
            asked.push(poll.position().0);
            poll.json(answer(&format!("170000000000001{n:02}"), [n])).await;
        }
        asked
    });
    let mut got = Vec::new();
    let mut waits = (0..).map(|n: u64| Duration::from_micros(n * 37 % 900));
    while got.len() < 30 {
        match tokio::time::timeout(waits.next().unwrap(), link.next()).await {
            Ok(Ok(LinkEvent::Batch(LinkBatch { frames, .. }))) => got.extend(frames.iter().map(shown)),
            Ok(Ok(_)) | Err(_) => {}
            Ok(Err(error)) => panic!("{error:?}"),
        }
    }
    assert_eq!(got, numbered(0..30));
    let expected: Vec<_> =
        [TT.to_owned()].into_iter().chain((0..29).map(|n| format!("170000000000001{n:02}"))).collect();
    assert_eq!(soon(serving).await.unwrap(), expected);
}

#[tokio::test]
async fn close_aborts_the_poll_and_sends_a_leave() {
    let mut server = Server::start().await;
    let mut link = link(&server).await;
    let poll = tokio::select! {
        event = link.next() => panic!("{event:?}"),
        poll = server.poll() => poll,
    };
    let closing = tokio::spawn(link.close());
    poll.closed_by_client().await;
    // First the poll, then the leave, which waits for its answer.
    assert!(!closing.is_finished());
    let leave = server.leave().await;
    assert!(leave.line.starts_with(&format!("/v2/presence/sub-key/{KEY}/channel/{CHANNEL}/leave?")));
    assert_eq!(leave.query("uuid").as_deref(), Some("100200301"));
    leave.json(r#"{"status":200,"message":"OK","action":"leave","service":"Presence"}"#).await;
    soon(closing).await.unwrap();
}

#[tokio::test]
async fn close_does_not_wait_for_a_silent_or_absent_service() {
    let mut server = Server::start().await;
    let link = link(&server).await;
    let ((), leave) = join!(soon(link.close()), server.leave());
    leave.closed_by_client().await;

    let link = crate::support::pubnub::link(&server).await;
    let ((), ()) = join!(soon(link.close()), async { server.leave().await.raw_and_close("").await });
}

#[tokio::test]
async fn dropped_link_closes_its_poll_and_its_probe() {
    let mut server = Server::start().await;
    let mut link = link(&server).await;
    let (poll, time) = tokio::select! {
        event = link.next() => panic!("{event:?}"),
        both = async { (server.poll().await, server.time().await) } => both,
    };
    drop(link);
    poll.closed_by_client().await;
    time.closed_by_client().await;
    assert_eq!(server.waiting(), (0, 0, 0));
}

#[tokio::test]
async fn every_link_has_one_poll_and_none_once_it_is_gone() {
    let mut server = Server::start().await;
    let transport = builder(&server).build().unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let mut link = transport.open(target(cursor(TT, None))).await.unwrap();
        tasks.spawn(async move {
            loop {
                if let Err(error) = link.next().await {
                    return error;
                }
            }
        });
    }
    let mut polls = Vec::new();
    while polls.len() < 50 {
        polls.push(server.poll().await);
    }
    soon(tasks.shutdown()).await;
    for poll in polls {
        poll.closed_by_client().await;
    }
    assert_eq!(server.waiting().0, 0);
}

#[tokio::test]
async fn found_1_8_a_checked_link_asks_for_the_present_position_and_polls_again() {
    let mut server = Server::start().await;
    let mut link = link(&server).await;
    let dead = tokio::select! {
        event = link.next() => panic!("{event:?}"),
        poll = server.poll() => poll,
    };
    link.check();
    let ((frames, ..), ()) = join!(batch(&mut link), async {
        // The held poll's connection may be dead: another one answers first.
        let present = server.poll().await;
        assert_eq!(present.position(), ("0".to_owned(), None));
        present.json(answer(TT, [])).await;
        let again = server.poll().await;
        assert_eq!(again.position(), dead.position());
        again.json(answer(TT, [7])).await;
    });
    assert_eq!(frames.len(), 1);
    // Nothing is unread: the next poll is held.
    let asked = loop {
        match soon(link.next()).await.unwrap() {
            LinkEvent::Alive => {}
            LinkEvent::Answered { asked } => break asked,
            other => panic!("{other:?}"),
        }
    };
    assert!(asked <= Instant::now());
}
