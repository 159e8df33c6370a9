//! The parts that the benches share: a meter of a client's process, and the lines of figures.

use std::collections::VecDeque;
use std::hint::black_box;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

/// The events of the benches.
pub const FILTER: &str = "/restapi/v1.0/account/~/extension/~/message-store/instant?type=SMS";

/// The events to measure: `events` at `rate` a second, or as fast as they are read for 0, after `warm` others.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub warm: usize,
    pub events: usize,
    pub rate: u64,
    /// The length of each message's text, in bytes.
    pub text: usize,
}

impl Load {
    /// As an argument of a client's process.
    pub fn write(self) -> String {
        format!("{},{},{},{}", self.warm, self.events, self.rate, self.text)
    }

    pub fn read(text: &str) -> Self {
        let mut numbers = text.split(',').map(|number| number.parse::<usize>().unwrap());
        let mut next = || numbers.next().unwrap();
        Self { warm: next(), events: next(), rate: next() as u64, text: next() }
    }
}

/// User and system time of this process, exact to the nanosecond.
pub fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap())
}

/// Counts the events that a client reads, and measures its process from the first event after the warm-up to the last.
#[derive(Debug)]
pub struct Meter {
    host: String,
    load: Load,
    seen: usize,
    /// Deliveries that were no events.
    pub others: usize,
    /// The CPU time before the first measured event.
    began: Option<Duration>,
    /// When the generator sends the first event, and the time between two.
    schedule: (Duration, Duration),
    late: VecDeque<Duration>,
}

impl Meter {
    pub fn new(url: &str, load: Load) -> Self {
        let host = url.trim_start_matches("http://").to_owned();
        let schedule = (Duration::ZERO, Duration::ZERO);
        Self { host, load, seen: 0, others: 0, began: None, schedule, late: VecDeque::with_capacity(load.events) }
    }

    /// The client listens: lets the generator send the warm-up to `subscription`, or to the newest one.
    pub fn ready(&mut self, subscription: Option<&str>) {
        let (warm, to) = (self.load.warm, subscription.map_or(String::new(), |id| format!("&to={id}")));
        self.go(warm, 0, &to);
    }

    fn go(&mut self, events: usize, rate: u64, to: &str) {
        let text = self.load.text;
        let answer = get(&self.host, &format!("/go?events={events}&rate={rate}&text={text}{to}"));
        let nanos = |name: &str| Duration::from_nanos(answer[name].as_u64().unwrap());
        self.schedule = (nanos("start"), nanos("spacing"));
    }

    /// A field of an event was read; true if that was the last event.
    pub fn event(&mut self, field: &str) -> bool {
        assert!(black_box(field).len() >= self.load.text, "a field was not read: {field}");
        self.seen += 1;
        if self.seen == self.load.warm {
            self.began = Some(cpu());
            self.go(self.load.events, self.load.rate, "&again=1");
        } else if self.load.rate > 0 && self.seen > self.load.warm {
            let number = u32::try_from(self.seen - self.load.warm - 1).unwrap();
            self.late.push_back(now().saturating_sub(self.schedule.0 + self.schedule.1 * number));
        }
        self.seen == self.load.warm + self.load.events
    }

    /// Prints what was measured, for the process that started this one.
    pub fn report(mut self) {
        let before = self.began.expect("the load was never begun");
        let (cpu, wall) = (cpu() - before, now().saturating_sub(self.schedule.0));
        let late = self.late.make_contiguous();
        late.sort_unstable();
        let part = |part: usize| late.get(late.len() * part / 100).map(|late| micros(*late));
        let events = self.load.events as f64;
        let line = json!({
            "cpu": micros(cpu) / events, "wall": micros(wall) / events, "p50": part(50), "p99": part(99),
            "others": self.others,
        });
        println!("{line}");
    }
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

pub fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// A request to the generator.
pub fn get(host: &str, path: &str) -> Value {
    let mut socket = TcpStream::connect(host).unwrap();
    write!(socket, "GET {path} HTTP/1.1\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
}

/// Whether to measure; `cargo test` only runs a bench.
pub fn is_measured() -> bool {
    std::env::args().any(|arg| arg == "--bench")
}

/// The argument that follows `name`.
pub fn argument(name: &str) -> Option<String> {
    std::env::args().skip_while(|arg| arg != name).nth(1)
}

pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// One figure as a line of JSON.
pub fn line(bench: &str, case: &str, unit: &str, value: f64, floor: Option<f64>, more: Value) {
    let round = |value: f64| (value * 1000.0).round() / 1000.0;
    let mut line = json!({
        "bench": bench, "case": case, "unit": unit, "value": round(value), "floor": floor.map(round),
        "ratio": floor.map(|floor| round(value / floor)),
    });
    if let (Value::Object(line), Value::Object(more)) = (&mut line, more) {
        line.extend(more);
    }
    println!("{line}");
}
