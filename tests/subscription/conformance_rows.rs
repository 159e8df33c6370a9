//! The tests of each conformance row, and of each row of the acceptance list for PubNub and WebSocket. A row without a
//! test, or with a renamed one, fails here.

use std::collections::HashSet;
use std::path::Path;

/// Row, requirement, and its tests.
const ROWS: &[(&str, &str, &[&str])] = &[
    (
        "L1",
        "only a matching 2xx answer changes state",
        &["l1_only_a_confirmed_update_changes_the_filters", "l1_only_a_2xx_answer_to_a_change_changes_the_filters"],
    ),
    (
        "L2",
        "one change pending; a second is refused before sending",
        &["l2_a_second_change_is_refused_before_it_is_sent", "l2_a_second_change_is_refused_before_sending"],
    ),
    (
        "L3",
        "renews before expiry, Z and +0000, clocks ten minutes apart",
        &[
            "l3_renewal_comes_before_expiry_for_every_way_of_telling_it",
            "l3_renews_before_expiry_by_a_plus_0000_time",
            "l3_renews_before_expiry_by_a_zulu_time",
            "l3_renews_before_expiry_with_clocks_ten_minutes_apart",
        ],
    ),
    (
        "L4",
        "a failing renewal is retried until expiry",
        &[
            "l4_a_failing_renewal_is_retried_until_expiry_then_recreated_with_one_gap",
            "l4_a_renewal_that_fails_is_retried_and_nothing_is_lost",
            "l4_a_failing_renewal_is_retried_and_nothing_is_lost",
        ],
    ),
    (
        "L5",
        "404, CMN-102, SUB-507: one recreate, both ids delivered",
        &[
            "l5_a_subscription_that_is_gone_is_recreated_once",
            "l5_cmn_102_recreates_once_and_reports_both_ids",
            "l5_sub_507_recreates_once_and_reports_both_ids",
            "l5_a_bare_404_recreates_once_and_reports_both_ids",
        ],
    ),
    (
        "L6",
        "a new address or key on renewal: switched without loss",
        &[
            "l6_a_moved_address_opens_the_new_link_before_the_old_one_closes",
            "l6_a_renewal_that_moves_the_address_switches_without_loss",
            "renewal_that_changes_the_key_loses_nothing",
            "renewal_that_changes_the_address_loses_nothing",
            "renewal_that_changes_the_subscriber_key_loses_nothing",
            "renewal_that_changes_everything_loses_nothing",
            "move_noticed_late_loses_nothing",
            "moves_in_a_row_lose_nothing_and_leave_one_poll",
            "move_while_the_link_is_down_is_a_possible_gap",
        ],
    ),
    (
        "L7",
        "cancelled during create, change or back-off: nothing of which the id was read is left",
        &[
            "l7_closing_at_any_moment_leaves_no_orphan",
            "l7_cancelling_the_start_leaves_nothing_at_the_service",
            "l7_a_start_cancelled_while_the_service_creates_leaves_nothing",
            "an_unconfirmed_subscription_is_left_to_expire",
            "l7_dropped_during_a_failing_change_or_a_back_off_leaves_nothing",
        ],
    ),
    (
        "L8",
        "adopt by id; an expired id is recreated",
        &[
            "l8_an_existing_subscription_is_adopted_and_its_filters_set",
            "l8_an_expired_one_is_recreated_with_a_gap",
            "l8_a_stored_subscription_is_adopted_by_id",
            "l8_an_id_that_expired_is_recreated_with_a_gap",
        ],
    ),
    (
        "L9",
        "a delete takes 404 as done and repeats a 401",
        &[
            "l9_a_delete_treats_404_as_done_and_retries_after_401",
            "l9_dropping_deletes_in_the_background_and_keeping_does_not",
        ],
    ),
    (
        "L10",
        "disabledFilters are delivered",
        &["l10_disabled_filters_are_delivered_and_again_only_when_they_change", "l10_disabled_filters_are_delivered"],
    ),
    (
        "L11",
        "SUB-505 prunes own leftovers only, then creates",
        &["l11_a_full_service_is_made_room_in_by_own_leftovers_only", "l11_sub_505_deletes_own_orphans_only"],
    ),
    (
        "L12",
        "filter sets are equal after order, ~ and query order",
        &[
            "sets_of_filters_are_compared_by_meaning",
            "l12_an_adopted_subscription_with_equivalent_filters_is_not_updated",
        ],
    ),
    ("P1", "known answers of AES in ECB", &["p1_known_answers", "p1_known_answer_of_the_service"]),
    (
        "P2",
        "wrong key, padding, base64, plain JSON: typed, and the stream continues",
        &[
            "p2_every_failure_has_its_own_error",
            "p2_wrong_key_is_an_error",
            "p2_undecodable_payloads_are_delivered_and_the_stream_continues",
            "p2_plain_objects_are_read_when_encryption_is_off",
        ],
    ),
    (
        "P3",
        "the position survives reconnect and restart",
        &[
            "p3_a_link_continues_where_the_last_one_stopped",
            "p3_a_resume_token_continues_where_the_reader_stopped",
            "p3_the_position_survives_a_reconnect",
            "p3_the_position_survives_a_restart",
        ],
    ),
    (
        "P4",
        "a poll without message is no error; 403 and malformed answers are",
        &["p4_a_poll_without_messages_is_not_an_error", "p4_a_malformed_answer_and_a_403_are_reported"],
    ),
    (
        "P5",
        "expiry with failing renewals: recreate and gap",
        &[
            "p5_failing_renewals_end_in_expiry_a_gap_and_a_new_subscription",
            "p5_renewals_that_fail_until_expiry_end_in_a_new_subscription_and_a_gap",
            "p5_a_service_down_beyond_the_lease_is_one_gap",
        ],
    ),
    (
        "S1",
        "a panicking handler stops no other subscription",
        &["s1_a_panic_of_one_reader_stops_no_other_reader", "s1_a_panic_of_one_reader_stops_no_other"],
    ),
    (
        "S2",
        "a stopped consumer takes bounded memory",
        &[
            "s2_a_stopped_reader_takes_bounded_memory_and_gets_one_gap",
            "slow_reader_with_a_full_queue_gets_one_gap_with_the_count",
            "found_6_13_a_flood_into_a_small_queue_waits_at_the_service_and_arrives_whole",
        ],
    ),
    ("S3", "order as delivered, place by sequence", &["s3_the_services_order_is_preserved"]),
    (
        "S4",
        "what was delivered is known after a restart",
        &[
            "repetitions_from_before_the_last_mark_are_recognised_after_a_restart",
            "a_crash_at_any_point_loses_nothing_and_repeats_only_unacknowledged_events",
            "after_a_crash_a_lost_subscription_is_made_up_for_from_where_its_source_stood",
        ],
    ),
    (
        "S5",
        "killed: at least once",
        &[
            "s5_a_killed_process_receives_unacknowledged_events_again",
            "a_crash_at_any_point_loses_nothing_and_repeats_only_unacknowledged_events",
        ],
    ),
    ("A6", "a refresh does not break the recovery", &["a6_a_refreshed_token_continues_the_session"]),
    (
        "Y1",
        "full, then incremental; the overlap is delivered once",
        &["y1_an_incremental_sync_follows_a_full_one_and_its_overlap_is_delivered_once"],
    ),
    (
        "Y2",
        "a refused token: full, without duplicates",
        &["y2_a_refused_token_leads_to_a_full_sync_without_duplicates"],
    ),
    ("Y3", "Retry-After is obeyed", &["y3_a_closed_rate_group_is_reported_and_the_position_stays_valid"]),
    (
        "Y4",
        "polls while push is down, and hands back",
        &["y4_push_that_is_down_for_long_is_stood_in_for_and_hands_back"],
    ),
    ("Y5", "a call-log token older than an hour: full", &["y5_a_token_older_than_an_hour_is_not_used"]),
    ("Y6", "changed and deleted messages are changes", &["y6_updated_and_deleted_messages_are_changes"]),
    (
        "S6",
        "drain and discard",
        &[
            "s6_draining_delivers_received_events_and_ends",
            "s6_discarding_reports_the_count",
            "s6_draining_delivers_received_events_and_deletes",
            "s6_discarding_counts_the_discarded_events",
        ],
    ),
    (
        "A1",
        "a hundred callers, one refresh",
        &["a1_a_hundred_callers_cause_one_refresh", "a1_a_hundred_callers_with_an_expired_token_cause_one_refresh"],
    ),
    (
        "A2",
        "5xx and timeouts keep the tokens",
        &[
            "a2_transient_errors_preserve_the_tokens",
            "a2_a_hanging_service_preserves_the_tokens",
            "a2_token_errors_lose_no_event",
        ],
    ),
    ("A3", "a rotated token is stored before use", &["a3_a_rotated_token_is_stored_before_it_is_used"]),
    ("A4", "two processes make one refresh", &["a4_two_processes_that_share_a_token_file_make_one_renewal"]),
    (
        "A5",
        "invalid_grant is fatal once",
        &["a5_invalid_grant_is_fatal_once", "a5_a_permanently_refused_login_ends_the_stream_with_its_error"],
    ),
    (
        "A7",
        "no secret in Debug, logs, errors",
        &[
            "a7_credentials_are_never_shown",
            "a7_debug_of_a_subscription_shows_no_secret",
            "a7_no_log_no_debug_and_no_error_shows_a_secret",
            "no_log_level_shows_channel_key_url_or_payload",
        ],
    ),
    ("fault: 500 JSON", "", &["fault_500_json"]),
    ("fault: 500 HTML", "", &["fault_500_html"]),
    ("fault: 503 empty", "", &["fault_503_empty"]),
    (
        "fault: 403",
        "recreated, with a gap",
        &[
            "fault_403_recreates_the_subscription_with_a_gap",
            "fault_403_for_a_while_is_still_one_gap",
            "fault_other_refusals_recreate_the_subscription_too",
        ],
    ),
    ("fault: 429 with Retry-After", "", &["fault_429_with_retry_after"]),
    ("fault: 429 without", "", &["fault_429_without_retry_after"]),
    (
        "fault: 200 with cut JSON",
        "",
        &[
            "fault_damaged_answers_are_requested_again_from_the_same_position",
            "fault_bodies_truncated_by_the_connections_end",
        ],
    ),
    ("fault: 200 with HTML", "", &["fault_200_html"]),
    ("fault: closed before headers", "", &["fault_connection_closed_before_headers"]),
    ("fault: reset in mid-body", "", &["fault_reset_in_mid_body"]),
    ("fault: server never answers", "", &["fault_server_never_answers", "fault_half_open_connection"]),
    (
        "fault: server down",
        "",
        &["fault_server_down_for_some_seconds", "fault_server_down_longer_than_it_retains_events_is_a_possible_gap"],
    ),
    ("fault: an envelope lacks `f`", "", &["fault_envelope_without_f"]),
    (
        "fault: t.t jumps ahead, then back",
        "",
        &["fault_timetoken_jumps_ahead_then_back", "fault_position_behind_the_messages_beside_it"],
    ),
    (
        "healthy: 100 to 1000 messages in one answer",
        "",
        &[
            "burst_of_100_to_1000_in_one_answer_loses_nothing",
            "burst_of_100_to_1000_in_one_answer_loses_nothing_on_two_workers",
            "burst_as_large_as_the_services_buffer_is_preceded_by_a_possible_gap",
            "burst_beyond_the_services_buffer_is_in_the_gap",
        ],
    ),
    ("healthy: slow consumer, ring of 100", "", &["slow_reader_with_the_100_message_ring_loses_nothing"]),
    ("healthy: flood", "", &["a_flood_into_a_large_queue_arrives_whole"]),
    (
        "scale: 1000 subscriptions",
        "1000 polls, 54 MiB, nothing after",
        &[
            "a_thousand_subscriptions_open_a_thousand_polls_within_54_mib",
            "a_thousand_subscriptions_fit_on_a_current_thread_runtime",
        ],
    ),
    ("scale: 1000 cycles", "flat memory", &["a_thousand_cycles_of_subscribe_and_drop_leave_nothing"]),
    (
        "scale: a channel more",
        "never two polls for long",
        &["an_update_during_events_never_opens_a_second_poll", "moves_in_a_row_lose_nothing_and_leave_one_poll"],
    ),
    (
        "lease: reader stopped for three lifetimes",
        "",
        &[
            "a_reader_stopped_for_three_lifetimes_misses_nothing",
            "reader_stopped_for_three_lease_lifetimes_loses_nothing",
        ],
    ),
    ("W1", "sends nothing before ConnectionDetails", &["w01_nothing_is_sent_before_connection_details"]),
    (
        "W2",
        "heartbeat after silence, put off by any message",
        &[
            "w02_heartbeats_are_sent_in_silence_and_the_login_stays_alive",
            "w02_any_text_delays_the_heartbeat_up_to_a_third_of_the_gateways_limit",
        ],
    ),
    (
        "W3",
        "no heartbeat reply closes and reconnects (probe B)",
        &[
            "probe_b_w03_no_heartbeat_reply_closes_and_reconnects",
            "probe_b_w12_a_black_hole_is_abandoned_and_no_event_is_lost_silently",
        ],
    ),
    (
        "W4",
        "every fault in every phase (probe A)",
        &[
            "w04_the_subscription_survives_every_fault_in_every_phase_or_names_it",
            "probe_a_w04_one_refused_token_does_not_end_the_subscription",
            "probe_a_one_refused_token_during_a_recovery_does_not_end_the_subscription",
        ],
    ),
    (
        "W5",
        "replayed events in one segment with ConnectionDetails (probe E)",
        &[
            "probe_e_w05_replayed_events_in_the_segment_of_connection_details_arrive",
            "w05_replayed_events_in_the_segment_of_connection_details_arrive",
        ],
    ),
    (
        "W6",
        "recovery failed: resubscribe, again when refused, one gap (probe F)",
        &[
            "probe_f_w06_a_failed_recovery_and_a_refused_subscription_end_in_one_gap_and_a_live_stream",
            "w06_a_failed_recovery_resubscribes_on_the_same_connection_and_reports_one_gap",
        ],
    ),
    (
        "W7",
        "after recoveryTimeout without wsc",
        &["w07_after_the_window_the_token_is_not_presented_and_the_loss_is_reported"],
    ),
    (
        "W8",
        "hand-over before 24 h, each event once",
        &["w08_another_connection_takes_over_before_the_limit_and_each_event_is_delivered_once"],
    ),
    (
        "W9",
        "WSG-90x, 1003, 4400, any close",
        &[
            "w09_every_end_of_a_connection_is_recovered_without_a_gap",
            "w40_every_end_of_a_connection_is_transient",
            "w05_each_close_code_4400_gets_another_token",
            "another_login_cannot_recover_and_the_loss_is_reported",
        ],
    ),
    (
        "W10",
        "wsc from every frame, the newest of the present connection",
        &[
            "w10_the_newest_token_of_the_present_connection_is_presented_from_any_frame",
            "w10_the_newest_token_from_any_frame_recovers_the_session",
        ],
    ),
    (
        "W11",
        "frames in every bad shape",
        &[
            "w11_unreadable_frames_do_not_end_the_connection",
            "w11_malformed_frames_do_not_end_the_connection",
            "w11_an_oversized_frame_ends_only_the_connection",
            "a_message_that_is_too_large_is_not_requested_for_ever",
        ],
    ),
    (
        "W12",
        "a refused subscription leaves nothing behind (probe C)",
        &[
            "probe_c_w12_a_refused_subscription_leaves_nothing_behind",
            "probe_c_w12_a_refused_subscription_is_an_error_that_names_the_permission",
        ],
    ),
    ("W13", "foreign subscriptionId dropped and counted", &["w13_w27_foreign_messages_are_dropped_and_counted"]),
    (
        "W14",
        "ten subscriptions get only their own events, once (probe D)",
        &[
            "w14_ten_subscriptions_get_only_their_own_events",
            "w14_ten_subscriptions_get_their_own_events_once",
            "probe_d_w18_repeated_and_reordered_events_are_delivered_once",
        ],
    ),
    (
        "W15",
        "REST over the socket: any order, maxActiveRequests",
        &["w15_answers_arrive_in_any_order_and_concurrent_calls_are_limited", "calls_go_over_the_connection"],
    ),
];

/// The required rows.
const WANTED: &[&str] = &[
    "L1", "L2", "L3", "L4", "L5", "L6", "L7", "L8", "L9", "L10", "L11", "L12", "P1", "P2", "P3", "P4", "P5", "S1",
    "S2", "S3", "S4", "S5", "S6", "A1", "A2", "A3", "A4", "A5", "A6", "A7", "Y1", "Y2", "Y3", "Y4", "Y5", "Y6", "W1",
    "W2", "W3", "W4", "W5", "W6", "W7", "W8", "W9", "W10", "W11", "W12", "W13", "W14", "W15",
];

/// Names of the functions in `text` that an attribute makes tests, and whether one of them is ignored.
fn tests_in(text: &str) -> (Vec<String>, bool) {
    let (mut names, mut is_test, mut ignored) = (Vec::new(), false, false);
    for line in text.lines().map(str::trim) {
        if line.starts_with("#[") {
            is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
            ignored |= line.starts_with("#[ignore");
        } else if let Some(rest) = line.strip_prefix("async fn ").or_else(|| line.strip_prefix("fn ")) {
            names.extend(is_test.then(|| rest.split('(').next().unwrap().to_owned()));
            is_test = false;
        }
    }
    (names, ignored)
}

fn collect(directory: &Path, names: &mut HashSet<String>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, names);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let (found, ignored) = tests_in(&std::fs::read_to_string(&path).unwrap());
            assert!(!ignored, "an ignored test in {}", path.display());
            names.extend(found);
        }
    }
}

#[test]
fn every_row_has_its_tests_and_none_is_ignored() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut names = HashSet::new();
    for folder in ["src", "tests", "crates"] {
        collect(&root.join(folder), &mut names);
    }
    for (row, _, tests) in ROWS {
        assert!(!tests.is_empty(), "{row} has no test");
        for test in *tests {
            assert!(names.contains(*test), "{row}: there is no test {test}");
        }
    }
    for row in WANTED {
        assert_eq!(ROWS.iter().filter(|(name, ..)| name == row).count(), 1, "{row}");
    }
}

#[test]
fn tests_are_distinguished_from_other_functions() {
    let text =
        "fn helper() {}\n#[tokio::test(start_paused = true)]\nasync fn one() {}\nfn two() {}\n#[test]\nfn three() {}";
    assert_eq!(tests_in(text), (vec!["one".to_owned(), "three".to_owned()], false));
}
