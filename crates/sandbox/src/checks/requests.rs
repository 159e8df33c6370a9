//! Requests that a source must refuse, and unusual ones that it must accept.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request};
use serde_json::{Value, json};
use url::Url;

use super::report::Step;
use super::response::{Answered, Lost};
use super::violation::{Rule, Violations};
use super::wire::{self, post};
use crate::behavior::WireForm;
use ringcentral_events::digital::{Date, SIGNATURE_HEADER, Signer};

/// A modification of a request.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Trick {
    /// Signed with a wrong key.
    WrongKey,
    /// One byte of the body is changed after signing.
    FlippedByte,
    NoSignature,
    TwoSignatures,
    ShortSignature,
    /// The header is wrong and the query right: the header takes precedence.
    QueryBesideWrongHeader,
    /// Another form of the same JSON.
    Form(WireForm),
    /// A signed body of these bytes.
    Body(&'static [u8]),
    Method(&'static str),
}

/// The expected behavior of a correct source.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Want {
    /// Refuse: the request is not from the platform.
    Forged,
    /// Accept.
    Genuine,
    /// Refuse: the request is not an action.
    Nonsense,
}

/// A request and its expected answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Check {
    name: &'static str,
    trick: Trick,
    want: Want,
}

/// All checks. None of them writes anything.
pub(crate) fn all() -> Vec<Check> {
    let check = |name, trick, want| Check { name, trick, want };
    let mut all = vec![
        check("wrong key", Trick::WrongKey, Want::Forged),
        check("flipped byte", Trick::FlippedByte, Want::Forged),
        check("no signature", Trick::NoSignature, Want::Forged),
        check("two signatures", Trick::TwoSignatures, Want::Forged),
        check("short signature", Trick::ShortSignature, Want::Forged),
        check("query beside wrong header", Trick::QueryBesideWrongHeader, Want::Forged),
        check("not UTF-8", Trick::Body(b"{\"action\":\"\xff\"}"), Want::Nonsense),
        check("not JSON", Trick::Body(b"{\"action\":"), Want::Nonsense),
        check("a list", Trick::Body(b"[\"implementation.info\"]"), Want::Nonsense),
        check("no action", Trick::Body(b"{\"params\":{}}"), Want::Nonsense),
        check("a number for an action", Trick::Body(b"{\"action\":7}"), Want::Nonsense),
        check("an unknown collection", Trick::Body(b"{\"action\":\"gadgets.list\"}"), Want::Nonsense),
        check(
            "an undeclared operation",
            Trick::Body(b"{\"action\":\"messages.no_such_operation\",\"params\":{\"id\":\"x\"}}"),
            Want::Nonsense,
        ),
        check("GET", Trick::Method("GET"), Want::Nonsense),
        check("PUT", Trick::Method("PUT"), Want::Nonsense),
        check("no params", Trick::Body(b"{\"action\":\"implementation.info\"}"), Want::Genuine),
        check("null params", Trick::Body(b"{\"action\":\"implementation.info\",\"params\":null}"), Want::Genuine),
        check("empty params", Trick::Body(b"{\"action\":\"implementation.info\",\"params\":{}}"), Want::Genuine),
        check(
            "an unknown field",
            Trick::Body(b"{\"action\":\"implementation.info\",\"surprise\":{\"a\":[1]}}"),
            Want::Genuine,
        ),
    ];
    all.extend(WireForm::ALL.map(|form| check(form_name(form), Trick::Form(form), Want::Genuine)));
    all
}

fn form_name(form: WireForm) -> &'static str {
    match form {
        WireForm::Compact => "raw UTF-8",
        WireForm::Ascii => "ASCII escapes",
        WireForm::Html => "HTML escapes",
        WireForm::Slashes => "escaped slashes",
        WireForm::Pretty => "several lines",
        WireForm::Newline => "a line feed at the end",
    }
}

impl Check {
    pub(crate) fn request(&self, signer: &Signer, at: Date, address: &Url) -> Request<Bytes> {
        // These characters differ between the forms; unknown parameters are ignored.
        let params = match json!({ "note": "Ça va ? 😀 <b>a</b> & /" }) {
            Value::Object(params) => params,
            _ => serde_json::Map::new(),
        };
        let form = if let Trick::Form(form) = self.trick { form } else { WireForm::Compact };
        let is_form = matches!(self.trick, Trick::Form(_));
        let mut body = wire::write("implementation.info", is_form.then_some(&params), at, form);
        if let Trick::Body(bytes) = self.trick {
            body = bytes.to_vec();
        }
        let signature = signer.sign(&body);
        match self.trick {
            Trick::WrongKey => {
                let other = Signer::new("not the channel's token").map(|other| other.sign(&body)).unwrap_or_default();
                post(address, body, Some(&other), None)
            }
            Trick::FlippedByte => {
                // Changes a digit of the time, so that it remains an action.
                if let Some(digit) = body.iter_mut().rev().find(|byte| byte.is_ascii_digit()) {
                    *digit = if *digit == b'0' { b'1' } else { b'0' };
                }
                post(address, body, Some(&signature), None)
            }
            Trick::NoSignature => post(address, body, None, None),
            Trick::TwoSignatures => {
                let mut request = post(address, body, Some(&signature), None);
                if let Ok(value) = HeaderValue::from_str(&signature) {
                    request.headers_mut().append(SIGNATURE_HEADER, value);
                }
                request
            }
            Trick::ShortSignature => post(address, body, signature.get(..64), None),
            Trick::QueryBesideWrongHeader => {
                let wrong = signer.sign(b"something else");
                post(address, body, Some(&wrong), Some(&signature))
            }
            Trick::Method(name) => {
                let mut request = post(address, body, Some(&signature), None);
                *request.method_mut() = Method::from_bytes(name.as_bytes()).unwrap_or(Method::OPTIONS);
                request
            }
            Trick::Form(_) | Trick::Body(_) => post(address, body, Some(&signature), None),
        }
    }

    pub(crate) fn judge(&self, answered: &Answered, took: Duration) -> Step {
        let action = format!("check: {}", self.name);
        let mut violations = Violations::about(&action);
        let status = answered.as_ref().ok().map(|answer| answer.status);
        if let Ok(answer) = answered {
            violations.quote(&answer.body);
        }
        let outcome = match answered {
            Ok(answer) if (200..300).contains(&answer.status) => "accepted",
            Ok(_) => "refused",
            Err(Lost::Late) => "no answer in time",
            Err(Lost::TooLarge(_)) => "too large an answer",
            Err(Lost::Broken(_) | Lost::Scripted) => "no answer",
        };
        let accepted = outcome == "accepted";
        match (self.want, status) {
            (_, None) => violations.add(Rule::NoAnswer, None, format!("the source sent {outcome}")),
            (Want::Forged, Some(_)) if accepted => {
                violations.add(Rule::ForgeryAccepted, None, format!("a request with {} is accepted", self.name));
            }
            (Want::Nonsense, Some(_)) if accepted => {
                violations.add(Rule::NonsenseAccepted, None, format!("a request with {} is accepted", self.name));
            }
            (Want::Genuine, Some(status)) if !accepted => {
                violations.add(
                    Rule::GenuineRefused,
                    None,
                    format!("a request with {} gets status {status}", self.name),
                );
            }
            (Want::Forged | Want::Nonsense, Some(status)) if status >= 500 => {
                let why = format!("a request with {} gets status {status}, as if the source had failed", self.name);
                violations.add(Rule::RefusalStatus, None, why);
            }
            (Want::Forged | Want::Genuine | Want::Nonsense, Some(_)) => {}
        }
        let succeeded = accepted == (self.want == Want::Genuine) && status.is_some();
        Step { action, params: None, status, took, outcome: outcome.into(), succeeded, violations: violations.finish() }
    }
}
