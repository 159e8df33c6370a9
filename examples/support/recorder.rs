//! A recorder for the facade `metrics` that prints Prometheus' text form. In production use one of the recorders that
//! exist, such as `metrics-exporter-prometheus`; this one shows that any will do.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use metrics::{Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, SharedString, Unit};

/// Upper bounds of the buckets of all histograms, in seconds.
const BUCKETS: [f64; 10] = [0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0];

/// All series, by metric and labels.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recorder(Arc<Mutex<Series>>);

#[derive(Debug, Default)]
struct Series {
    values: BTreeMap<(String, String), Arc<Value>>,
    help: BTreeMap<String, String>,
}

#[derive(Debug)]
enum Value {
    Counter(AtomicU64),
    /// Changed under a lock: an addition must not overwrite another.
    Gauge(Mutex<f64>),
    Histogram(Mutex<Observed>),
}

#[derive(Debug, Default)]
struct Observed {
    buckets: [u64; BUCKETS.len()],
    sum: f64,
    count: u64,
}

impl CounterFn for Value {
    fn increment(&self, by: u64) {
        if let Self::Counter(value) = self {
            value.fetch_add(by, Ordering::Relaxed);
        }
    }

    fn absolute(&self, to: u64) {
        if let Self::Counter(value) = self {
            value.fetch_max(to, Ordering::Relaxed);
        }
    }
}

impl Value {
    fn gauge(&self, change: impl FnOnce(&mut f64)) {
        if let Self::Gauge(value) = self {
            change(&mut value.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }
}

impl GaugeFn for Value {
    fn increment(&self, by: f64) {
        self.gauge(|value| *value += by);
    }

    fn decrement(&self, by: f64) {
        self.gauge(|value| *value -= by);
    }

    fn set(&self, to: f64) {
        self.gauge(|value| *value = to);
    }
}

impl HistogramFn for Value {
    fn record(&self, seen: f64) {
        if let Self::Histogram(observed) = self {
            let mut observed = observed.lock().unwrap_or_else(PoisonError::into_inner);
            for (bucket, bound) in observed.buckets.iter_mut().zip(BUCKETS) {
                *bucket += u64::from(seen <= bound);
            }
            observed.sum += seen;
            observed.count += 1;
        }
    }
}

impl Recorder {
    fn series(&self, key: &Key, new: Value) -> Arc<Value> {
        let labels: Vec<String> =
            key.labels().map(|label| format!("{}=\"{}\"", label.key(), escaped(label.value()))).collect();
        let key = (key.name().to_owned(), labels.join(","));
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.values.entry(key).or_insert_with(|| Arc::new(new)).clone()
    }

    fn describe(&self, key: &KeyName, help: &SharedString) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.help.insert(key.as_str().to_owned(), help.to_string());
    }

    /// Prometheus' text form of all series.
    pub(crate) fn text(&self) -> String {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut text, mut last) = (String::new(), "");
        for ((name, labels), value) in &all.values {
            let kind = match &**value {
                Value::Counter(_) => "counter",
                Value::Gauge(_) => "gauge",
                Value::Histogram(_) => "histogram",
            };
            if last != name {
                let help = all.help.get(name).map(String::as_str).unwrap_or_default();
                // Writing to a string cannot fail.
                let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
                last = name;
            }
            let of = |more: &str| match (labels.is_empty(), more.is_empty()) {
                (true, true) => String::new(),
                (false, false) => format!("{{{labels},{more}}}"),
                _ => format!("{{{labels}{more}}}"),
            };
            let _ = match &**value {
                Value::Counter(value) => writeln!(text, "{name}{} {}", of(""), value.load(Ordering::Relaxed)),
                Value::Gauge(value) => {
                    writeln!(text, "{name}{} {}", of(""), value.lock().unwrap_or_else(PoisonError::into_inner))
                }
                Value::Histogram(observed) => {
                    let observed = observed.lock().unwrap_or_else(PoisonError::into_inner);
                    for (bucket, bound) in observed.buckets.iter().zip(BUCKETS) {
                        let _ = writeln!(text, "{name}_bucket{} {bucket}", of(&format!("le=\"{bound}\"")));
                    }
                    let _ = writeln!(text, "{name}_bucket{} {}", of("le=\"+Inf\""), observed.count);
                    let _ = writeln!(text, "{name}_sum{} {}", of(""), observed.sum);
                    writeln!(text, "{name}_count{} {}", of(""), observed.count)
                }
            };
        }
        text
    }
}

fn escaped(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

impl metrics::Recorder for Recorder {
    fn describe_counter(&self, key: KeyName, _: Option<Unit>, help: SharedString) {
        self.describe(&key, &help);
    }

    fn describe_gauge(&self, key: KeyName, _: Option<Unit>, help: SharedString) {
        self.describe(&key, &help);
    }

    fn describe_histogram(&self, key: KeyName, _: Option<Unit>, help: SharedString) {
        self.describe(&key, &help);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.series(key, Value::Counter(AtomicU64::new(0))))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.series(key, Value::Gauge(Mutex::new(0.0))))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.series(key, Value::Histogram(Mutex::default())))
    }
}
