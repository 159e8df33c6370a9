//! Maps records of the call log to the events that push would have delivered.

use serde_json::json;
use serde_json::value::RawValue;

use super::{Found, scope, time};
use crate::error::Result;
use crate::event::lenient::Lenient as _;
use crate::event::uri::Parts;
use crate::event::{self, CallResult, Direction, EventFilter, EventKind, PartyAddress};
use crate::ids::ExtensionId;

fn number_of(end: &PartyAddress) -> Option<&str> {
    end.phone_number.as_deref().or(end.extension_number.as_deref())
}

/// A call of the log.
pub(super) struct CallRecord(event::CallRecord);

impl CallRecord {
    pub(super) fn of(raw: &RawValue) -> Self {
        Self(event::CallRecord::read(raw.into()).unwrap_or_default())
    }

    pub(super) fn started(&self) -> Option<u64> {
        self.0.start_time.as_ref()?.system_time().map(time::millis_up)
    }

    pub(super) fn ended(&self) -> Option<u64> {
        self.started().map(|start| start.saturating_add(self.0.duration.unwrap_or(0).saturating_mul(1000)))
    }

    /// Its id, if its end is unknown: such a call is listed under its start.
    pub(super) fn endless_id(&self) -> Option<&str> {
        self.0.id.as_deref().filter(|_| self.0.duration.unwrap_or(0) == 0)
    }

    fn is_missed(&self) -> bool {
        self.0.result == Some(CallResult::Missed)
    }

    /// Whether the record's fields match the filter's parameters, as far as present.
    fn fits(&self, filter: &EventFilter) -> bool {
        let numbers = [&self.0.from, &self.0.to].map(|end| end.as_ref().and_then(number_of));
        let fits = |key: &str, value: &str| match key {
            "direction" => self.0.direction.as_ref().is_none_or(|direction| direction.as_str() == value),
            "missedCall" => value == if self.is_missed() { "true" } else { "false" },
            "phoneNumber" => numbers.iter().flatten().any(|number| *number == value),
            "statusCode" => value == GONE,
            _ => true,
        };
        let pairs = Parts::of(filter.as_str()).pairs();
        pairs.clone().all(|(key, _)| pairs.clone().any(|(other, value)| other == key && fits(&key, &value)))
    }
}

/// The status of a party whose call has ended.
const GONE: &str = "Disconnected";

/// The events of a call for a filter.
pub(super) fn found(filter: &EventFilter, answered: Option<&str>, record: &CallRecord) -> Result<Option<Found>> {
    let call = &record.0;
    if call.deleted == Some(true) || (call.session_id.is_none() && call.telephony_session_id.is_none()) {
        return Ok(None);
    }
    let uri = scope::event_uri(filter, answered);
    let stamp = record.ended().map(time::text);
    let owner = call.extension.as_ref().map(ExtensionId::as_str);
    let owner = owner.or_else(|| answered.and_then(|uri| scope::id_in(uri, "extension")));
    let number = |end: &Option<PartyAddress>| end.as_ref().and_then(number_of).map(str::to_owned);
    let name = |end: &Option<PartyAddress>| end.as_ref().and_then(|end| end.name.clone());
    let body = match filter.kind() {
        EventKind::MissedCall if record.is_missed() && call.direction != Some(Direction::Outbound) => json!({
            "extensionId": owner,
            "sessionId": call.session_id,
            "telephonySessionId": call.telephony_session_id,
            "from": number(&call.from),
            "fromName": name(&call.from),
            "to": number(&call.to),
            "toName": name(&call.to),
        }),
        EventKind::ExtensionTelephonySessions | EventKind::AccountTelephonySessions if record.fits(filter) => json!({
            "sessionId": call.session_id,
            "telephonySessionId": call.telephony_session_id,
            "eventTime": stamp,
            "parties": [{
                "id": call.party_id,
                "extensionId": owner,
                "direction": call.direction,
                "from": call.from,
                "to": call.to,
                "status": { "code": GONE },
                "missedCall": record.is_missed(),
            }],
        }),
        _ => return Ok(None),
    };
    Found::change(&uri, stamp.as_deref(), &body).map(Some)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::event::Event;
    use crate::{Notification, Origin};

    fn call(result: &str, direction: &str) -> Value {
        json!({
            "id": "x", "sessionId": 8, "telephonySessionId": "s-1", "partyId": "p-1", "duration": 5,
            "startTime": "2024-05-06T12:00:00Z", "direction": direction, "result": result,
            "from": {"phoneNumber": "+1650", "name": "Ann"}, "to": {"extensionNumber": "101"},
            "extension": {"id": 7},
        })
    }

    fn told(filter: &EventFilter, record: &Value) -> Option<Notification> {
        let raw = RawValue::from_string(record.to_string()).unwrap();
        let answered = Some("https://h/restapi/v1.0/account/4/extension/7/call-log-sync");
        let found = found(filter, answered, &CallRecord::of(&raw)).unwrap()?;
        Some(Notification::parse(found.notification, Origin::CatchUp, std::time::SystemTime::UNIX_EPOCH).unwrap())
    }

    #[test]
    fn a_call_is_delivered_for_the_filters_it_matches() {
        let sessions = |query: &str| {
            EventFilter::custom(format!("/restapi/v1.0/account/~/extension/~/telephony/sessions{query}")).unwrap()
        };
        for (filter, result, direction, want) in [
            (EventFilter::missed_calls(), "Missed", "Inbound", true),
            (EventFilter::missed_calls(), "Missed", "Outbound", false),
            (EventFilter::missed_calls(), "Call connected", "Inbound", false),
            (EventFilter::account_telephony_sessions(), "Call connected", "Inbound", true),
            (sessions(""), "Missed", "Outbound", true),
            (sessions("?direction=Inbound"), "Missed", "Inbound", true),
            (sessions("?direction=Inbound"), "Missed", "Outbound", false),
            (sessions("?missedCall=true"), "Missed", "Inbound", true),
            (sessions("?missedCall=true"), "Voicemail", "Inbound", false),
            (sessions("?missedCall=false"), "Voicemail", "Inbound", true),
            (sessions("?phoneNumber=+1650"), "Voicemail", "Inbound", true),
            (sessions("?phoneNumber=+1651"), "Voicemail", "Inbound", false),
            (sessions("?phoneNumber=101&phoneNumber=+1651"), "Voicemail", "Inbound", true),
            (sessions("?statusCode=Answered"), "Voicemail", "Inbound", false),
            (sessions("?statusCode=Answered&statusCode=Disconnected"), "Voicemail", "Inbound", true),
            (sessions("?sipData=true"), "Voicemail", "Inbound", true),
            (EventFilter::presence(), "Missed", "Inbound", false),
        ] {
            assert_eq!(told(&filter, &call(result, direction)).is_some(), want, "{filter} {result} {direction}");
        }
        let mut deleted = call("Missed", "Inbound");
        deleted["deleted"] = json!(true);
        assert!(told(&EventFilter::missed_calls(), &deleted).is_none());
        assert!(told(&EventFilter::missed_calls(), &json!({"result": "Missed"})).is_none(), "of no session");
    }

    #[test]
    fn a_call_has_the_form_of_the_pushed_event() {
        let it = told(&EventFilter::missed_calls(), &call("Missed", "Inbound")).unwrap();
        assert_eq!(it.event_uri(), "/restapi/v1.0/account/4/extension/7/missed-calls");
        assert_eq!(it.timestamp().unwrap().as_str(), "2024-05-06T12:00:05.000Z");
        let Event::MissedCall(missed) = it.event() else { panic!("{it:?}") };
        assert_eq!(missed.session_id.as_ref().unwrap(), "8");
        assert_eq!((missed.from.as_deref(), missed.from_name.as_deref()), (Some("+1650"), Some("Ann")));
        assert_eq!((missed.to.as_deref(), missed.extension_id.as_ref().unwrap().as_str()), (Some("101"), "7"));

        let it = told(&EventFilter::telephony_sessions(), &call("Missed", "Inbound")).unwrap();
        let Event::ExtensionTelephonySessions(session) = it.event() else { panic!("{it:?}") };
        assert!(session.is_missed() && session.sequence.is_none());
        assert_eq!(session.party_state(&"p-1".into()).unwrap().as_str(), "Disconnected");
        assert_eq!(session.parties[0].from.as_ref().unwrap().name.as_deref(), Some("Ann"));
    }

    #[test]
    fn an_odd_field_spoils_only_itself() {
        let mut record = call("Missed", "Inbound");
        for (field, odd) in
            [("startTime", json!(7)), ("duration", json!("x")), ("from", json!([])), ("partyId", json!({}))]
        {
            record[field] = odd;
            assert!(told(&EventFilter::missed_calls(), &record).is_some(), "{field}");
        }
    }
}
