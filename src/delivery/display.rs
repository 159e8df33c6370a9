//! Deliveries as one line for people and logs, without the account's data.

use std::fmt;

use super::{Certainty, Delivery, DisabledFilter, Gap, Resumed, Undecodable, Unrecovered};
use crate::timestamp::Timestamp;

/// One line without the account's data: see the types of its items.
impl fmt::Display for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Notification(it) => it.fmt(f),
            Self::Gap(it) => it.fmt(f),
            Self::Resumed(it) => it.fmt(f),
            Self::Undecodable(it) => it.fmt(f),
            Self::FiltersDisabled(filters) => {
                f.write_str("the service does not serve ")?;
                listed(f, filters)
            }
        }
    }
}

fn listed(f: &mut fmt::Formatter<'_>, items: &[impl fmt::Display]) -> fmt::Result {
    items.iter().enumerate().try_for_each(|(at, item)| write!(f, "{}{item}", if at == 0 { "" } else { ", " }))
}

/// The filter, and the code of the reason if there is one.
impl fmt::Display for DisabledFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.filter.escape_debug())?;
        if self.reason.is_empty() { Ok(()) } else { write!(f, " ({})", self.reason.escape_debug()) }
    }
}

/// As in "3 events are missing since 2026-01-02T03:04:05.000Z: the reader was too slow and the queue was full".
impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.lost {
            Some(1) => f.write_str("1 event ")?,
            Some(lost) => write!(f, "{lost} events ")?,
            None => f.write_str("events ")?,
        }
        f.write_str(match (self.certainty, self.lost) {
            (Certainty::Certain, Some(1)) => "is missing",
            (Certainty::Certain, _) => "are missing",
            (Certainty::Possible, _) => "may be missing",
        })?;
        if let Some(since) = self.since {
            write!(f, " since {}", Timestamp::from(since))?;
        }
        if let Some(until) = self.until {
            write!(f, " until {}", Timestamp::from(until))?;
        }
        write!(f, ": {}", self.cause)
    }
}

/// As in "events arrive again since 2026-01-02T03:04:05.000Z, nothing is missing".
impl fmt::Display for Resumed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "events arrive again since {}", Timestamp::from(self.at))?;
        if let Some(ids) = &self.recreated {
            write!(f, ", subscription {} replaces {}", ids.new, ids.old)?;
        }
        if self.complete {
            return f.write_str(", nothing is missing");
        }
        f.write_str(", events may be missing of ")?;
        if self.unrecovered.is_empty() { f.write_str("all filters") } else { listed(f, &self.unrecovered) }
    }
}

/// The filter, the kinds of change that may be missing, and the reason.
impl fmt::Display for Unrecovered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}: {})", self.filter.escape_debug(), self.changes, self.reason.as_str())
    }
}

/// The size and the reason, not the text.
impl fmt::Display for Undecodable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes that could not be decoded: {}", self.raw.len(), self.reason.escape_debug())
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use serde_json::value::RawValue;

    use super::super::{Changes, GapCause, OpenReason, Recreated};
    use super::*;
    use crate::event::{GapClosure, Notification, Origin};
    use crate::ids::SubscriptionId;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_714_979_289 + seconds)
    }

    fn event(raw: &str, origin: Origin) -> Delivery {
        let raw = RawValue::from_string(raw.to_owned()).unwrap();
        Delivery::Notification(Box::new(Notification::parse(raw, origin, at(0)).unwrap()))
    }

    #[test]
    fn a_delivery_is_one_line_without_the_accounts_data() {
        let gap = Gap {
            cause: GapCause::Overflow,
            certainty: Certainty::Certain,
            since: Some(at(0)),
            until: None,
            lost: Some(3),
            filters: vec!["/a".into()],
        };
        let possible = Gap { certainty: Certainty::Possible, until: Some(at(1)), lost: None, ..gap.clone() };
        let open = Unrecovered {
            filter: "/a".into(),
            closure: GapClosure::Partial,
            changes: Changes::NEW.and(Changes::DELETED),
            reason: OpenReason::NoSource,
        };
        let ids = Recreated { old: SubscriptionId::new("s1"), new: SubscriptionId::new("s2") };
        let complete = Resumed { complete: true, at: at(0), recreated: None, unrecovered: Vec::new() };
        let partly =
            Resumed { complete: false, recreated: Some(ids), unrecovered: vec![open.clone(), open], ..complete };
        let disabled = DisabledFilter { filter: "/b".into(), reason: "SUB-412".into(), message: None };
        let sms = r#"{"uuid":"u\u001b[2J","event":"/restapi/v1.0/account/1/extension/2/message-store/instant?type=SMS","timestamp":"2024-05-06T07:08:09Z","ownerId":"2","body":{"from":{"phoneNumber":"+16505550100"},"subject":"secret text"}}"#;
        for (delivery, want) in [
            (event(sms, Origin::Push), r"InstantMessage u\u{1b}[2J, sent 2024-05-06T07:08:09Z"),
            (event(r#"{"event":"/x"}"#, Origin::CatchUp), "Unknown without uuid, found by catch-up"),
            (event(r#"{"event":"/x"}"#, Origin::Snapshot), "Unknown without uuid, part of a snapshot"),
            (
                Delivery::Gap(gap.clone()),
                "3 events are missing since 2024-05-06T07:08:09.000Z: the reader was too slow and the queue was full",
            ),
            (
                Delivery::Gap(Gap { lost: Some(1), since: None, ..gap }),
                "1 event is missing: the reader was too slow and the queue was full",
            ),
            (
                Delivery::Gap(possible),
                "events may be missing since 2024-05-06T07:08:09.000Z until 2024-05-06T07:08:10.000Z: the reader was too slow and the queue was full",
            ),
            (
                Delivery::Resumed(complete.clone()),
                "events arrive again since 2024-05-06T07:08:09.000Z, nothing is missing",
            ),
            (
                Delivery::Resumed(Resumed { complete: false, ..complete }),
                "events arrive again since 2024-05-06T07:08:09.000Z, events may be missing of all filters",
            ),
            (
                Delivery::Resumed(partly),
                "events arrive again since 2024-05-06T07:08:09.000Z, subscription s2 replaces s1, events may be missing of /a (new, deleted: no_source), /a (new, deleted: no_source)",
            ),
            (
                Delivery::Undecodable(Undecodable {
                    reason: "why".into(),
                    raw: "secret text".into(),
                    received_at: at(0),
                }),
                "11 bytes that could not be decoded: why",
            ),
            (
                Delivery::FiltersDisabled(vec![disabled, DisabledFilter::left_out("/c")]),
                "the service does not serve /b (SUB-412), /c",
            ),
        ] {
            assert_eq!(delivery.to_string(), want);
        }
    }
}
