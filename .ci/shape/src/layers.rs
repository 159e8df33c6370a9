//! The layers of the root crate. The test of the layers and the picture in `ARCHITECTURE.md` are made from this table.

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
            "waiting",
            "batches",
            "durable",
            "kind",
            "registry",
        ],
    ),
    layer(
        "What the reader gets: deliveries, typed events, status",
        &["delivery", "status", "policy", "event", "codec", "dedup", "service_clock"],
    ),
    layer("One HTTP caller: deadlines, retries, rate groups", &["http", "system"]),
    layer("Logins and tokens", &["auth"]),
    layer("What a transport needs of the service", &["control"]),
    layer("The REST client", &["rest"]),
    layer("Ways for events to arrive: pushed, or asked for", &["transport", "catch_up"]),
    layer("The life of a subscription, and its stream", &["subscription"]),
];

/// The other two event systems stand beside the subscription and do not know it.
pub const BESIDE: &[(&str, &str)] =
    &[("digital", "Engage Digital polls the app"), ("agent", "Contact Center sessions")];

/// The highest layer that they may name.
pub const BESIDE_STANDS_ON: usize = 3;
