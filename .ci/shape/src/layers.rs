//! The layers of the root crate and of the sandbox. The tests of the layers and the picture in `ARCHITECTURE.md` are
//! made from these tables.

/// A layer: what it is for, and its modules.
#[derive(Clone, Copy, Debug)]
pub struct Layer {
    /// Its purpose.
    pub title: &'static str,
    /// Its modules, by their paths below `src`.
    pub modules: &'static [&'static str],
}

const fn layer(title: &'static str, modules: &'static [&'static str]) -> Layer {
    Layer { title, modules }
}

/// From the bottom up: a module may name its own layer and lower ones.
pub const LAYERS: &[Layer] = &[
    layer(
        "Ground: errors, ids, secrets, time, storage",
        &[
            "error",
            "ids",
            "secret",
            "timestamp",
            "clock",
            "random",
            "guard",
            "decode",
            "salvage",
            "json",
            "waiting",
            "batches",
            "durable",
            "kind",
            "registry",
            "words",
        ],
    ),
    layer(
        "What the reader gets: deliveries, typed events, status",
        &["delivery", "status", "policy", "event", "codec", "dedup", "service_clock", "stored", "telemetry", "health"],
    ),
    layer("One HTTP caller: deadlines, retries, rate groups", &["http", "system"]),
    layer("Logins and tokens", &["auth"]),
    layer("What a transport needs of the service", &["control"]),
    layer("The REST client", &["rest"]),
    layer("Ways for events to arrive: pushed, or asked for", &["transport", "catch_up"]),
    layer("What is made of events: completed calls, the present state", &["calls", "state"]),
    layer("The life of a subscription, and its stream", &["subscription"]),
];

/// The other two event systems stand beside the subscription and do not know it.
pub const BESIDE: &[(&str, &str)] =
    &[("digital", "Engage Digital polls the app"), ("agent", "Contact Center sessions")];

/// The highest layer that they may name.
pub const BESIDE_STANDS_ON: usize = 3;

/// The sandbox, from the bottom up. Its root names the parts of the top layer, and only these name the root.
pub const SANDBOX: &[Layer] = &[
    layer("Values", &["cipher", "clock", "fixtures", "http", "behavior", "link", "random"]),
    layer(
        "What all services share",
        &["amend", "budget", "context", "fault", "faults", "filters", "requests", "servers"],
    ),
    layer(
        "The services, each with its own state",
        &["account", "center", "checks", "crawler", "gateway", "oauth", "pubnub", "stubs", "subscriptions"],
    ),
    layer("All services together, and events from one to the other", &["state"]),
    layer("The routes of REST", &["rest"]),
    layer("One lock", &["shared"]),
    layer(
        "IO, and what a test holds",
        &["agent", "builder", "control", "digital", "schedule", "server", "socket", "subscribe", "view"],
    ),
];

/// The circles of modules that the sandbox may have: sockets, requests and greetings of the gateway call each other.
pub const SANDBOX_CIRCLES: &[&[&str]] = &[&[
    "gateway",
    "gateway::admit",
    "gateway::events",
    "gateway::greeting",
    "gateway::requests",
    "gateway::sockets",
    "gateway::timers",
]];
