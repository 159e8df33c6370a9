//! A source's response, and the checks it must pass before it is read.

use bytes::Bytes;
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, LOCATION};
use serde_json::Value;

use super::violation::{Rule, Severity, Violations};
use crate::behavior::DigitalBehavior;
use ringcentral_events::digital::{SIGNATURE_HEADER, Signer};

const DIGITS: usize = 128;

/// A complete response.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// Why no response arrived.
#[derive(Clone, Debug)]
pub(crate) enum Lost {
    /// No response within the timeout.
    Late,
    /// Larger than the platform's limit.
    TooLarge(usize),
    /// The connection failed or broke.
    Broken(String),
    /// A test discarded the response; not the source's fault.
    Scripted,
}

/// A response, or the reason why it is missing.
pub(crate) type Answered = Result<Answer, Lost>;

/// The meaning of a response that passed the checks.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Said {
    /// A success with JSON.
    Json(Value),
    /// A success without a body, where the body is optional.
    Nothing,
}

/// What a failure means for the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failed {
    pub(crate) status: Option<u16>,
    pub(crate) why: String,
}

/// What an action's response must contain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Needs {
    /// JSON.
    Json,
    /// JSON or nothing; 404 counts as nothing.
    JsonOrNothing,
    /// Only a success status: the body is not read.
    Success,
}

/// Checks status, signature and JSON, and records every violation.
pub(crate) fn read(
    answered: &Answered,
    signer: &Signer,
    behavior: &DigitalBehavior,
    needs: Needs,
    violations: &mut Violations,
) -> Result<Said, Failed> {
    let answer = match answered {
        Ok(answer) => answer,
        Err(lost) => return Err(no_answer(lost, behavior, violations)),
    };
    violations.quote(&answer.body);
    let failed = |why: String| Failed { status: Some(answer.status), why };
    if answer.body.len() > behavior.answer_limit {
        let why = format!("the body of {} bytes is larger than {}", answer.body.len(), behavior.answer_limit);
        violations.add(Rule::TooLarge, None, why.clone());
        return Err(failed(why));
    }
    if !(200..300).contains(&answer.status) {
        let signature = signature(answer, signer);
        if needs == Needs::JsonOrNothing && answer.status == 404 {
            if let Err((rule, why)) = signature {
                violations.add_as(Severity::Warning, rule, None, why);
            }
            return Ok(Said::Nothing);
        }
        let why = refused(answer, violations);
        if let Err((rule, why)) = signature {
            violations.add_as(Severity::Warning, rule, None, why);
        }
        return Err(failed(why));
    }
    if let Err((rule, why)) = signature(answer, signer) {
        if !behavior.unsigned_answers {
            violations.add(rule, None, why.clone());
            return Err(failed(why));
        }
        violations.add_as(Severity::Warning, rule, None, why);
    }
    if answer.headers.contains_key(CONTENT_ENCODING) {
        violations.add(
            Rule::ContentCoding,
            None,
            "the answer has a content coding, but the signature must cover the plain body",
        );
    }
    if needs == Needs::Success {
        return Ok(Said::Nothing);
    }
    json(answer, needs, violations).map_err(failed)
}

fn json(answer: &Answer, needs: Needs, violations: &mut Violations) -> Result<Said, String> {
    let text = std::str::from_utf8(&answer.body).map_err(|error| {
        let why = format!("the body is not UTF-8 from byte {}", error.valid_up_to());
        violations.add(Rule::NotUtf8, None, why.clone());
        why
    })?;
    if text.trim().is_empty() && needs == Needs::JsonOrNothing {
        return Ok(Said::Nothing);
    }
    let value = serde_json::from_str(text).map_err(|error| {
        let why = format!("the body is not JSON: {error}");
        violations.add(Rule::NotJson, None, why.clone());
        why
    })?;
    let content_type = answer.headers.get(CONTENT_TYPE).map(|value| String::from_utf8_lossy(value.as_bytes()));
    match content_type {
        Some(text) if text.to_ascii_lowercase().starts_with("application/json") => {}
        Some(text) => {
            violations.add(Rule::ContentType, None, format!("the content type is {text}, not application/json"))
        }
        None => violations.add(Rule::ContentType, None, "the answer has no content type"),
    }
    Ok(Said::Json(value))
}

fn no_answer(lost: &Lost, behavior: &DigitalBehavior, violations: &mut Violations) -> Failed {
    let (rule, why) = match lost {
        Lost::Scripted => return Failed { status: None, why: "the test discarded the answer".into() },
        Lost::Late => (Rule::Late, format!("the source sent no answer within {} ms", behavior.timeout.as_millis())),
        Lost::TooLarge(limit) => (Rule::TooLarge, format!("the body is larger than {limit} bytes")),
        Lost::Broken(why) => (Rule::NoAnswer, format!("the source sent no answer: {why}")),
    };
    violations.add(rule, None, why.clone());
    Failed { status: None, why }
}

fn refused(answer: &Answer, violations: &mut Violations) -> String {
    let said: String = String::from_utf8_lossy(&answer.body).chars().filter(|c| !c.is_control()).take(120).collect();
    let (rule, why) = if (300..400).contains(&answer.status) {
        let to = if answer.headers.contains_key(LOCATION) { "somewhere else" } else { "nowhere" };
        (Rule::Redirect, format!("the answer with status {} redirects {to}; redirects are not followed", answer.status))
    } else if said.is_empty() {
        (Rule::Status, format!("the answer has status {}", answer.status))
    } else {
        (Rule::Status, format!("the answer has status {}: {said}", answer.status))
    };
    violations.add(rule, None, why.clone());
    why
}

/// Exactly one signature header, well formed, and valid for the body.
fn signature(answer: &Answer, signer: &Signer) -> Result<(), (Rule, String)> {
    let given: Vec<_> = answer.headers.get_all(SIGNATURE_HEADER).iter().collect();
    let given = match given.as_slice() {
        [] => return Err((Rule::SignatureMissing, "the answer has no header X-SMCCSDK-SIGNATURE".into())),
        [one] => String::from_utf8_lossy(one.as_bytes()).into_owned(),
        more => return Err((Rule::SignatureTwice, format!("the answer has {} signatures", more.len()))),
    };
    let is_form = given.len() == DIGITS && given.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if !is_form {
        let (length, upper) = (given.len(), given.bytes().any(|byte| byte.is_ascii_uppercase()));
        let why = if length != DIGITS {
            format!("the signature has {length} characters, not {DIGITS}")
        } else if upper {
            "the signature has upper-case letters".to_owned()
        } else {
            "the signature is not hexadecimal".to_owned()
        };
        return Err((Rule::SignatureForm, why));
    }
    signer.verify(&answer.body, &given).map_err(|_| {
        let hint = signed_text(&answer.body, &given, signer);
        (
            Rule::SignatureWrong,
            format!("the signature is not that of the {} bytes of the body{hint}", answer.body.len()),
        )
    })
}

/// Recognizes common mistakes: sources sign before encoding, or sign another form of the same JSON.
fn signed_text(body: &[u8], given: &str, signer: &Signer) -> &'static str {
    let is_of = |bytes: &[u8]| signer.verify(bytes, given).is_ok();
    if is_of(body.trim_ascii()) {
        return ", but that of the body without the white space around it";
    }
    let value = serde_json::from_slice::<Value>(body);
    if let Ok(Value::String(text)) = &value
        && is_of(text.as_bytes())
    {
        return ", but that of the text without its quotes";
    }
    if is_of(b"") {
        return ", but that of an empty one";
    }
    let Ok(value) = value else { return "" };
    if is_of(value.to_string().as_bytes()) { ", but that of the same JSON written compactly" } else { "" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};

    fn answer(status: u16, headers: &[(&'static str, &str)], body: &[u8]) -> Answered {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        }
        Ok(Answer { status, headers: map, body: Bytes::copy_from_slice(body) })
    }

    fn found(answered: &Answered, needs: Needs, behavior: &DigitalBehavior) -> (bool, Vec<(Rule, String)>) {
        let mut violations = Violations::about("x");
        let said = read(answered, &Signer::new("token").unwrap(), behavior, needs, &mut violations);
        (said.is_ok(), violations.finish().into_iter().map(|found| (found.rule, found.message)).collect())
    }

    #[test]
    fn every_rule_of_an_answer_has_its_finding() {
        let signer = Signer::new("token").unwrap();
        let sign = |body: &[u8]| signer.sign(body);
        let json = ("content-type", "application/json; charset=utf-8");
        let good = sign(b"[]");
        let upper = good.to_uppercase();
        let table: Vec<(Answered, Rule, &str)> = vec![
            (Err(Lost::Late), Rule::Late, "no answer within 10000 ms"),
            (Err(Lost::TooLarge(5)), Rule::TooLarge, "the body is larger than 5 bytes"),
            (Err(Lost::Broken("no connection".into())), Rule::NoAnswer, "no connection"),
            (answer(200, &[json], b"[]"), Rule::SignatureMissing, "no header X-SMCCSDK-SIGNATURE"),
            (
                answer(200, &[json, (SIGNATURE_HEADER, &good), (SIGNATURE_HEADER, &good)], b"[]"),
                Rule::SignatureTwice,
                "2 signatures",
            ),
            (answer(200, &[json, (SIGNATURE_HEADER, &good[..127])], b"[]"), Rule::SignatureForm, "127 characters"),
            (answer(200, &[json, (SIGNATURE_HEADER, &upper)], b"[]"), Rule::SignatureForm, "upper-case"),
            (answer(200, &[json, (SIGNATURE_HEADER, &"z".repeat(128))], b"[]"), Rule::SignatureForm, "not hexadecimal"),
            (answer(200, &[json, (SIGNATURE_HEADER, &good)], b"[ 1 ]"), Rule::SignatureWrong, "5 bytes of the body"),
            (
                answer(200, &[json, (SIGNATURE_HEADER, &good)], b"[]\n"),
                Rule::SignatureWrong,
                "without the white space around it",
            ),
            (answer(200, &[json, (SIGNATURE_HEADER, &good)], b"[ ]"), Rule::SignatureWrong, "written compactly"),
            (answer(200, &[json, (SIGNATURE_HEADER, &sign(b""))], b"[]"), Rule::SignatureWrong, "that of an empty one"),
            (
                answer(200, &[json, (SIGNATURE_HEADER, &sign(b"x"))], b"\"x\""),
                Rule::SignatureWrong,
                "that of the text without its quotes",
            ),
            (
                answer(200, &[json, (SIGNATURE_HEADER, &sign(b"[\xff]"))], b"[\xff]"),
                Rule::NotUtf8,
                "not UTF-8 from byte 1",
            ),
            (answer(200, &[json, (SIGNATURE_HEADER, &sign(b"{"))], b"{"), Rule::NotJson, "not JSON: EOF"),
            (answer(200, &[json, (SIGNATURE_HEADER, &sign(b""))], b""), Rule::NotJson, "not JSON"),
            (
                answer(200, &[("content-type", "text/html"), (SIGNATURE_HEADER, &good)], b"[]"),
                Rule::ContentType,
                "text/html",
            ),
            (answer(200, &[(SIGNATURE_HEADER, &good)], b"[]"), Rule::ContentType, "no content type"),
            (
                answer(200, &[json, ("content-encoding", "gzip"), (SIGNATURE_HEADER, &good)], b"[]"),
                Rule::ContentCoding,
                "content coding",
            ),
            (answer(503, &[(SIGNATURE_HEADER, &sign(b"later"))], b"later"), Rule::Status, "status 503: later"),
            (answer(500, &[(SIGNATURE_HEADER, &sign(b""))], b""), Rule::Status, "status 500"),
            (
                answer(302, &[("location", "/x"), (SIGNATURE_HEADER, &sign(b""))], b""),
                Rule::Redirect,
                "status 302 redirects somewhere else",
            ),
            (answer(404, &[(SIGNATURE_HEADER, &sign(b""))], b""), Rule::Status, "status 404"),
        ];
        for (answered, rule, message) in table {
            let (read, found) = found(&answered, Needs::Json, &DigitalBehavior::default());
            let is_warning = rule.severity() == Severity::Warning;
            assert_eq!((found.len(), read), (1, is_warning), "{rule}: {found:?}");
            assert!(found[0].0 == rule && found[0].1.contains(message), "{rule}: {found:?}");
        }
    }

    #[test]
    fn optional_bodies_may_be_missing() {
        let signer = Signer::new("token").unwrap();
        let empty = answer(200, &[(SIGNATURE_HEADER, &signer.sign(b""))], b"");
        let gone = answer(404, &[(SIGNATURE_HEADER, &signer.sign(b"no"))], b"no");
        let behavior = DigitalBehavior::default();
        assert_eq!(found(&empty, Needs::JsonOrNothing, &behavior), (true, Vec::new()));
        assert_eq!(found(&gone, Needs::JsonOrNothing, &behavior), (true, Vec::new()));
        let garbage = answer(204, &[(SIGNATURE_HEADER, &signer.sign(b"\xff"))], b"\xff");
        assert_eq!(found(&garbage, Needs::Success, &behavior), (true, Vec::new()));
        assert!(!found(&garbage, Needs::Json, &behavior).0);
    }

    #[test]
    fn the_setting_accepts_an_unsigned_answer() {
        let behavior = DigitalBehavior { unsigned_answers: true, ..DigitalBehavior::default() };
        let (read, found) = found(&answer(200, &[("content-type", "application/json")], b"[]"), Needs::Json, &behavior);
        assert!(read && found[0].0 == Rule::SignatureMissing, "{found:?}");
    }

    #[test]
    fn a_body_over_the_limit_is_not_read() {
        let behavior = DigitalBehavior { answer_limit: 3, ..DigitalBehavior::default() };
        let (read, found) = found(&answer(200, &[], b"[  ]"), Needs::Json, &behavior);
        assert!(!read && found[0] == (Rule::TooLarge, "the body of 4 bytes is larger than 3".into()), "{found:?}");
    }
}
