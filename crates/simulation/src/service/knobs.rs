//! Behavior that the references leave open.
//!
//! Each knob has a plain value, the first, and others that a seed may draw.

use crate::rng::Rng;

macro_rules! knobs {
    (
        { $($(#[$doc:meta])* $name:ident: [$first:expr $(, $other:expr)* $(,)?];)* }
        { $($(#[$late_doc:meta])* $late:ident: [$late_first:expr $(, $late_other:expr)* $(,)?];)* }
        { $($(#[$set_doc:meta])* $set:ident: $set_first:expr;)* }
    ) => {
        /// The behaviour of the service in one schedule.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub(crate) struct Knobs {
            $($(#[$doc])* pub(crate) $name: u64,)*
            $($(#[$late_doc])* pub(crate) $late: u64,)*
            $($(#[$set_doc])* pub(crate) $set: u64,)*
        }

        impl Knobs {
            /// The plain service: everything as the references say or assume first.
            pub(crate) fn plain() -> Self {
                Self { $($name: $first,)* $($late: $late_first,)* $($set: $set_first,)* }
            }

            pub(crate) fn draw(rng: &mut Rng) -> Self {
                let mut knobs = Self::plain();
                $(
                    if rng.percent(50) {
                        knobs.$name = rng.pick(&[$first $(, $other)*]);
                    }
                )*
                knobs
            }

            /// Knobs that are drawn separately, so that seeds of the main suite do not change.
            pub(crate) fn draw_later(&mut self, rng: &mut Rng) {
                $(
                    if rng.percent(50) {
                        self.$late = rng.pick(&[$late_first $(, $late_other)*]);
                    }
                )*
            }

            /// Each knob that is not plain, by name, with a way to make it plain.
            pub(crate) fn unusual(&self) -> Vec<(&'static str, u64)> {
                let plain = Self::plain();
                let mut found = Vec::new();
                $(if self.$name != plain.$name { found.push((stringify!($name), self.$name)); })*
                $(if self.$late != plain.$late { found.push((stringify!($late), self.$late)); })*
                $(if self.$set != plain.$set { found.push((stringify!($set), self.$set)); })*
                found
            }

            pub(crate) fn make_plain(&mut self, name: &str) {
                let plain = Self::plain();
                match name {
                    $(stringify!($name) => self.$name = plain.$name,)*
                    $(stringify!($late) => self.$late = plain.$late,)*
                    $(stringify!($set) => self.$set = plain.$set,)*
                    _ => {}
                }
            }
        }
    };
}

knobs! {
{
    // ---- HTTP ----
    /// Milliseconds until an answer is ready, at most.
    http_work_ms: [20, 5, 100, 300];
    /// The `Date` header is there (1), or not.
    http_date: [1, 0];
    /// Answers are chunked.
    http_chunked: [0, 1];
    /// Seconds until an idle connection is closed.
    http_idle_s: [60, 5, 15, 300];
    /// The connection is closed after each answer.
    http_close: [0, 0, 0, 1];

    // ---- OAuth and rate groups (rest §1, §4.1) ----
    token_life_s: [3599, 600, 120];
    /// A refresh token comes with the access token (1), or not.
    token_refresh: [1, 0];
    /// 0: no X-Rate-Limit headers, 1: all of them.
    rate_headers: [1, 0];
    rate_auth: [5, 10];
    rate_light: [50, 25];
    rate_medium: [40, 20];
    rate_heavy: [10, 20];

    // ---- subscriptions (rest §2) ----
    /// PubNub's lease.
    lease_s: [899, 899, 60, 90, 150, 300];
    /// 0: expiresIn and expirationTime, 1: expiresIn only, 2: expirationTime only.
    lease_form: [0, 0, 1, 2];
    /// Renewals bring 0: nothing new, 1: another key, 2: another channel, 3: both, 4: another subscriber key too.
    renew_moves: [0, 0, 1, 2, 3, 4];
    /// `~` in filters is 0: expanded, 1: left.
    filters_tilde: [0, 1];
    /// Times end in 0: `Z`, 1: `+0000`.
    time_form: [0, 1];
    /// A new event's uuid is 0: the same for each subscription, 1: another.
    uuid_per_subscription: [0, 1];
    /// uuids are 0: UUIDs, 1: decimal numbers.
    uuid_form: [0, 1];
    /// Milliseconds between an event and its sending, at most (rest §5.1: `timestamp` is when it is sent).
    send_lag_ms: [0, 50, 300];
    /// 404 for a subscription that is gone: 0: CMN-102, 1: SUB-507.
    gone_code: [0, 1];

    // ---- PubNub ----
    pn_encrypted: [1, 1, 0];
    pn_buffer: [100, 300, 500];
    pn_hold_s: [280, 20, 55];
    pn_age_s: [1200, 120, 300];
    /// `t.t` is behind the last message by so many 100 ns (pubnub.md §4).
    pn_behind: [0, 1210, 2_000_000];
    /// A poll's answer waits so many milliseconds for more messages.
    pn_coalesce_ms: [0, 20, 150];
    /// Percent of answers that repeat the last message of the answer before (region switch).
    pn_repeat_percent: [0, 0, 5, 20];
    /// Envelopes have 0: all fields, 1: only c, d, p.
    pn_bare: [0, 1];
    /// A key that changed by a renewal is used 0: at once, 1: for what is published half a second later.
    pn_key_late: [0, 1];

    // ---- WebSocket gateway ----
    ws_token_life_s: [30, 60, 600];
    /// A wstoken is 0: single use, 1: good until it expires.
    ws_token_reuse: [0, 1];
    /// A bad token gets 0: 401, 1: an upgrade and close 4400.
    ws_bad_token: [0, 1];
    ws_ping_s: [30, 15, 60];
    ws_idle_s: [1800, 120];
    /// Pushed events are traffic for the idle limit.
    ws_push_is_traffic: [1, 0];
    ws_absolute_s: [86_400, 100, 200];
    ws_buffer: [100, 20];
    ws_recovery_s: [180, 30];
    /// Milliseconds from ConnectionDetails to the replay; 0: in one write.
    ws_replay_ms: [0, 0, 50, 3000, 12_000];
    /// What was written to a connection that died, and did not arrive: 0: is not replayed, 1: is.
    ws_replays_lost: [0, 1];
    /// So many events that did arrive are replayed too.
    ws_repeats: [0, 0, 3];
    /// Percent of the events that wait for a connection that wait twice.
    ws_doubles_percent: [0, 0, 30];
    ws_details_ms: [0, 30, 2000];
    /// Mid-session ConnectionDetails with a new token every so many seconds; 0: never.
    ws_rotate_s: [0, 0, 25];
    /// `wsc` stands in every server frame.
    ws_wsc_everywhere: [0, 1];
    /// Only the newest wsc is good (0), or every one of the session.
    ws_old_wsc: [0, 1];
    /// Close code when the gateway ends a connection in good order.
    ws_close_code: [1000, 1001, 1011, 1012];
    /// A session that is over takes its subscription with it (0), or leaves it until it expires.
    ws_sub_stays: [0, 1];
    /// 1: the first answer to a create over the socket comes after an event of the subscription.
    ws_event_first: [0, 1];
    /// Bytes that wait for a slow reader until the gateway resets the connection.
    ws_backlog: [4_000_000, 300_000];

    // ---- REST data (rest §6) ----
    /// `dateTo` itself is in the frame (0), or not.
    sync_date_to_exclusive: [0, 1];
    /// Records of one answer of a full sync at most: `recordCount` is a hint.
    sync_page: [250, 20];
    /// Milliseconds until a record is in the store.
    sync_lag_ms: [0, 100, 900];
    sync_token_life_s: [3600, 60];
    /// An outdated token is 0: CMN-101, 1: MSG-333.
    sync_gone_code: [0, 1];
    /// How far an incremental sync of messages reaches back before its token: documented, so nothing else is drawn
    /// (rest §6.1).
    sync_overlap_ms: [5000];
    /// Seconds until a call is in the log.
    calls_lag_s: [15, 20, 28];
    /// Seconds that a missed call rings.
    call_ring_s: [12, 0];

    // ---- agent sessions (incontact §5, §10) ----
    /// A stale id gets 0: a snapshot, 1: a replay of what is still queued.
    agent_stale: [0, 1];
    agent_branch_header: [1, 0];
    agent_queue: [500, 50];
    agent_inactivity_s: [120, 60, 300];

}
{
    /// Messages of one answer at most; 0: as many as the buffer holds. Outside of the
    /// published contract, so never drawn: some schedules set it (found 2.4).
    pn_answer_most: [0];
    /// Percent of an agent's answers that have no `sessionId` (incontact §5.3, found 1.9).
    agent_no_id_percent: [0, 0, 15, 40];
    /// After such an answer the former id is 0: stale, 1: good for what came behind it.
    agent_no_id_moves: [0, 1];
    /// A filter is not served, and named in `disabledFilters` (rest §2): 0: never, 1: from
    /// the creation on, 2: from the first renewal on.
    disables: [0, 0, 1, 2];
}
// Set by schedules that are made for them.
{
    /// A replayed frame has 0: the time at which the event was sent first, 1: that of its replay (websocket §1.12 does
    /// not say).
    ws_replay_renews: 0;
    /// Milliseconds that a replay takes; 0: it is written at once. No source says how fast it comes: at most five
    /// seconds after an outage that is shorter than twenty, and it is over half a minute after the recovery.
    ws_replay_takes_ms: 0;
}
}

#[cfg(test)]
mod tests {
    use super::Knobs;
    use crate::rng::Rng;

    #[test]
    fn knobs_are_drawn_and_made_plain_one_by_one() {
        let mut knobs = Knobs::draw(&mut Rng::new(3));
        let unusual = knobs.unusual();
        assert!(unusual.len() > 5, "{unusual:?}");
        for (name, _) in unusual {
            knobs.make_plain(name);
        }
        assert_eq!(knobs, Knobs::plain());
    }
}
