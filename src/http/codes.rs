//! The service's error codes: what each is classified as, what it means and what to do about it.
//!
//! One table, from which requests are classified, errors get their advice, and `docs/errors.md` is written.

use std::time::Duration;

use crate::error::{Disposition, ErrorKind};

/// How long to wait for an extension that is not ready (RingCentral's bot framework: 10 s).
pub(crate) const NOT_READY_PAUSE: Duration = Duration::from_secs(10);

pub(super) type Verdict = (ErrorKind, Disposition);

const RETRY: Disposition = Disposition::Retry { after: None };
pub(super) const RATE_LIMITED: Verdict = (ErrorKind::RateLimited, RETRY);
pub(super) const SERVICE: Verdict = (ErrorKind::Service, RETRY);
pub(super) const TIMEOUT: Verdict = (ErrorKind::Timeout, RETRY);
pub(super) const PROTOCOL: Verdict = (ErrorKind::Protocol, RETRY);
pub(super) const TOKEN_GONE: Verdict = (ErrorKind::Auth, Disposition::Refresh);
pub(super) const AUTH: Verdict = (ErrorKind::Auth, Disposition::Fatal);
pub(super) const PERMISSION: Verdict = (ErrorKind::Permission, Disposition::Fatal);
/// A permission that a newly installed bot has not received yet.
pub(super) const NOT_READY: Verdict = (ErrorKind::Permission, Disposition::Retry { after: Some(NOT_READY_PAUSE) });
pub(super) const TRANSPORT: Verdict = (ErrorKind::TransportRefused, Disposition::Fatal);
pub(super) const LIMIT: Verdict = (ErrorKind::SubscriptionLimit, Disposition::Prune);
pub(super) const GONE: Verdict = (ErrorKind::NotFound, Disposition::Recreate);
pub(super) const NO_SUCH_PATH: Verdict = (ErrorKind::NotFound, Disposition::Fatal);
pub(super) const REJECTED: Verdict = (ErrorKind::Rejected, Disposition::Fatal);
pub(super) const PASSING: Verdict = (ErrorKind::Rejected, RETRY);
pub(super) const SYNC_AGAIN: Verdict = (ErrorKind::Rejected, Disposition::Resync);

/// Codes that mean the same, and are handled alike.
#[derive(Debug)]
pub(super) struct Row {
    /// `OAU`, `SUB`, …; empty for words.
    family: &'static str,
    numbers: &'static [u16],
    /// OAuth's error names, and the legacy ones in the head of some envelopes.
    words: &'static [&'static str],
    verdict: Verdict,
    cause: &'static str,
    /// Advice for a person. Empty if the crate handles the error.
    cure: &'static str,
}

const fn row(
    family: &'static str,
    numbers: &'static [u16],
    verdict: Verdict,
    cause: &'static str,
    cure: &'static str,
) -> Row {
    Row { family, numbers, words: &[], verdict, cause, cure }
}

const fn words(words: &'static [&'static str], verdict: Verdict, cause: &'static str, cure: &'static str) -> Row {
    Row { family: "", numbers: &[], words, verdict, cause, cure }
}

const AUTHORIZE: &str = "let the user authorize the app again, or create another JWT";
const FILTER: &str = "remove this filter, or use it for an extension that permits it";
const ENDPOINT: &str = "correct the endpoint, and try again";

/// The documented codes (ringcentral-rest-and-events.md §1.6, §2.6, §4; websocket-and-webhooks.md §1.4).
static ROWS: &[Row] = &[
    row("OAU", &[128, 129, 149, 213], AUTH, "the token has expired, or is corrupted or unknown", AUTHORIZE),
    row("OAU", &[106, 108, 110], AUTH, "the authorization code is invalid, has expired or is another app's", AUTHORIZE),
    row("OAU", &[211], AUTH, "the grant was revoked", AUTHORIZE),
    row("OAU", &[109, 113], AUTH, "the redirect URI is not the one in the app's settings", "register the redirect URI"),
    row("OAU", &[111, 116, 150], AUTH, "the token request is malformed", "check the parameters of the login"),
    row("OAU", &[147, 148], AUTH, "too many failed logins locked the user out", "wait before the next login"),
    row(
        "OAU",
        &[102, 112, 125, 168],
        AUTH,
        "the app may not use this kind of login",
        "permit the grant type in the app's settings",
    ),
    row(
        "OAU",
        &[105, 119, 141, 142, 167],
        AUTH,
        "this extension or account may not log in",
        "use the login of a user with an active extension",
    ),
    row(
        "OAU",
        &[117],
        AUTH,
        "the requested scope exceeds the app's permissions",
        "add the permissions to the app, or request fewer",
    ),
    row(
        "OAU",
        &[120, 121, 127, 165],
        AUTH,
        "the app is not valid here: another environment, or not released",
        "use the client id of this server: the sandbox and production have different ones",
    ),
    row(
        "OAU",
        &[123, 134, 146],
        AUTH,
        "the client id or the client secret is wrong",
        "compare both with the app's credentials, and the server with the app's environment",
    ),
    row(
        "OAU",
        &[140],
        AUTH,
        "the credentials are wrong",
        "check the JWT or the password: it belongs to this app and this server",
    ),
    row("OAU", &[101, 136, 222], AUTH, "the account, brand or extension does not exist", "check whose login this is"),
    row("OAU", &[151], AUTH, "the token is not a user's", "log in with a JWT or an authorization code"),
    row(
        "OAU",
        &[232, 236],
        REJECTED,
        "the extension does not exist, or is disabled or frozen",
        "use an active extension",
    ),
    row("AGW", &[401, 402], AUTH, "the request has no usable access token", "log in again"),
    row("AGW", &[404], NO_SUCH_PATH, "the API has no such path", "check the path of the call"),
    row(
        "CMN",
        &[101, 103, 104],
        REJECTED,
        "a parameter or the body is invalid",
        "correct the parameter that the error names",
    ),
    row("CMN", &[102], GONE, "the resource does not exist, or not any more", ""),
    row("CMN", &[120], NO_SUCH_PATH, "the API has no such path", "check the path of the call"),
    row("CMN", &[201, 203], SERVICE, "the service is temporarily unavailable", ""),
    row(
        "CMN",
        &[301, 302, 303, 304, 310],
        RATE_LIMITED,
        "the user and app have sent more than their rate limit allows",
        "send less, or ask for a higher limit; the crate waits as long as the service demands",
    ),
    row(
        "CMN",
        &[401],
        PERMISSION,
        "the app lacks a permission",
        "add the permission to the app in the developer console, and log in again",
    ),
    row("CMN", &[408], PERMISSION, "the user lacks a permission", "let an administrator grant it to the user's role"),
    row("CMN", &[405], AUTH, "the call needs the login of an extension", "log in as a user"),
    row("SUB", &[402], PERMISSION, "extensions of this type have no presence", FILTER),
    row("SUB", &[403, 404], PERMISSION, "the user does not permit monitoring or picking up calls", FILTER),
    row(
        "SUB",
        &[405, 408],
        PERMISSION,
        "the filter concerns another extension or account",
        "use the login of that user, or of an administrator",
    ),
    row(
        "SUB",
        &[406],
        NOT_READY,
        "the extension is unknown, or a new bot that is not ready yet",
        "wait if the bot is new; otherwise check the extension in the filter",
    ),
    row("SUB", &[412], PERMISSION, "the extension lacks a permission for this filter", "let an administrator grant it"),
    row(
        "SUB",
        &[518, 527, 530, 531],
        PERMISSION,
        "the filter is not served for another extension",
        "use the login of that user",
    ),
    row(
        "SUB",
        &[407, 509, 511],
        REJECTED,
        "the service does not support this for the requested transport",
        "use another transport, or other filters",
    ),
    row("SUB", &[508], REJECTED, "an event filter is invalid", "correct the filter that the message names"),
    row(
        "SUB",
        &[515, 516],
        REJECTED,
        "the reminder filter is invalid, or the only one",
        "add another filter, and check the reminder's parameters",
    ),
    row(
        "SUB",
        &[505],
        LIMIT,
        "the user and app have too many subscriptions",
        "close subscriptions that are not needed any more: `GET /restapi/v1.0/subscription` lists them",
    ),
    row("SUB", &[507], GONE, "the subscription or its session has ended", ""),
    row(
        "SUB",
        &[520],
        REJECTED,
        "the webhook did not return the validation token",
        "return the header Validation-Token with status 200",
    ),
    row(
        "SUB",
        &[521, 522],
        PASSING,
        "the webhook cannot be reached, or answers with another status than 200",
        ENDPOINT,
    ),
    row("SUB", &[523], REJECTED, "the webhook's address is not https", "use https"),
    row(
        "SUB",
        &[524],
        REJECTED,
        "the webhook's certificate is not valid",
        "use a certificate of a public authority, with its chain",
    ),
    row(
        "SUB",
        &[525],
        REJECTED,
        "the webhook's answer is not valid",
        "answer within the time limit, with at most 1024 bytes",
    ),
    row(
        "SUB",
        &[528],
        TRANSPORT,
        "the app may not use this transport",
        "add the permission WebSocketsSubscription to the app, and use the WebSocket transport",
    ),
    row("MSG", &[305], RATE_LIMITED, "too many messages", "send less; the crate waits as long as the service demands"),
    row("MSG", &[333], SYNC_AGAIN, "the sync token is not valid any more", ""),
    row(
        "CLG",
        &[100, 101, 102, 103, 104, 105, 106, 107, 108, 109],
        SYNC_AGAIN,
        "the sync token of the call log is not valid any more",
        "",
    ),
    row("WSG", &[808], REJECTED, "the gateway cannot read the request", "send a JSON object, a text or no body"),
    words(&["TokenExpired", "TokenInvalid", "invalid_token"], TOKEN_GONE, "the access token is not valid", ""),
    words(
        &["invalid_grant", "expired_token", "access_denied"],
        AUTH,
        "the JWT, code or refresh token is invalid, expired or revoked",
        AUTHORIZE,
    ),
    words(
        &["invalid_client", "unauthorized_client"],
        AUTH,
        "the app is unknown here, its secret is wrong, or it may not use this kind of login",
        "check the client id, the client secret, the server and the app's grant types",
    ),
    words(
        &["insufficient_scope", "InsufficientPermissions"],
        PERMISSION,
        "a permission is missing",
        "add it to the app or to the user's role, and log in again",
    ),
    words(
        &["invalid_scope"],
        REJECTED,
        "the requested scope exceeds the app's permissions",
        "add the permissions to the app, or request fewer",
    ),
    words(
        &["unsupported_grant_type", "unsupported_response_type"],
        REJECTED,
        "the app may not use this kind of login",
        "permit it in the app's settings",
    ),
    words(
        &[
            "invalid_request",
            "invalid_request_uri",
            "request_not_supported",
            "request_uri_not_supported",
            "InvalidParameter",
        ],
        REJECTED,
        "a parameter of the request is invalid",
        "correct the parameter that the message names",
    ),
];

/// The row of a code.
fn find(code: &str) -> Option<&'static Row> {
    let code = code.trim();
    let Some((family, number)) = code.rsplit_once('-') else {
        return ROWS.iter().find(|row| row.words.contains(&code));
    };
    let number: u16 = number.parse().ok()?;
    ROWS.iter().find(|row| row.family.eq_ignore_ascii_case(family) && row.numbers.contains(&number))
}

/// The verdict on a documented code; `None` for an unknown one.
pub(super) fn verdict(status: Option<u16>, code: &str) -> Option<Verdict> {
    let row = find(code)?;
    match (row.family, row.verdict) {
        // On the token endpoint these come with 400 and concern the grant; without a status, the token of a call.
        ("OAU", _) if row.numbers == [128, 129, 149, 213] && status.is_none() => Some(TOKEN_GONE),
        // A 401 is handled before; with another status the word does not concern the token.
        ("", TOKEN_GONE) if status.is_some() => None,
        // A bad parameter is not a missing resource.
        ("CMN", REJECTED) if status == Some(404) => None,
        (_, verdict) => Some(verdict),
    }
}

/// Advice about a code; `None` for an unknown one, and if the crate handles the error.
pub(super) fn cure(code: &str) -> Option<&'static str> {
    find(code).map(|row| row.cure).filter(|cure| !cure.is_empty())
}

/// The meaning of a code; `None` for an unknown one.
pub(super) fn cause(code: &str) -> Option<&'static str> {
    find(code).map(|row| row.cause)
}

/// Whether a code in the answer to a login refuses it.
pub(crate) fn refuses_login(code: &str) -> bool {
    find(code).is_some_and(|row| row.family == "OAU")
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    /// The table of `docs/errors.md`.
    fn table() -> String {
        let mut text = String::from("| Code | Kind | Cause | What to do |\n| --- | --- | --- | --- |\n");
        for row in ROWS {
            let numbers = row.numbers.iter().map(|number| format!("`{}-{number}`", row.family));
            let codes: Vec<String> = numbers.chain(row.words.iter().map(|word| format!("`{word}`"))).collect();
            let cure = if row.cure.is_empty() { "nothing: the crate handles it" } else { row.cure };
            writeln!(text, "| {} | `{}` | {} | {cure} |", codes.join(" "), row.verdict.0, row.cause).unwrap();
        }
        text
    }

    /// Set `WRITE_DOCS` to write it.
    #[test]
    fn the_documented_table_is_the_one_that_classifies() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/errors.md");
        if std::env::var_os("WRITE_DOCS").is_some() {
            std::fs::write(path, table()).unwrap();
        }
        assert_eq!(std::fs::read_to_string(path).unwrap(), table(), "run this test with WRITE_DOCS=1");
    }

    #[test]
    fn each_code_has_one_row_a_cause_and_a_cure_unless_the_crate_handles_it() {
        for row in ROWS {
            assert!(!row.cause.is_empty() && row.words.is_empty() != row.family.is_empty(), "{row:?}");
            for number in row.numbers {
                let code = format!("{}-{number}", row.family);
                assert!(find(&code).is_some_and(|found| std::ptr::eq(found, row)), "{code} has two rows");
            }
            assert!(row.words.iter().all(|word| find(word).is_some_and(|found| std::ptr::eq(found, row))), "{row:?}");
            // A person has to act on what is final.
            assert!(row.verdict.1 != Disposition::Fatal || !row.cure.is_empty(), "{row:?}");
        }
        assert_eq!([cure("OAU-999"), cure("SUB-507"), cure("XYZ-1")], [None; 3]);
        assert!(cure(" sub-505 ").unwrap().contains("subscriptions"));
    }

    #[test]
    fn only_codes_of_logins_refuse_one() {
        assert!(["OAU-140", "OAU-232", " oau-146 "].iter().all(|code| refuses_login(code)));
        assert!(["OAU-999", "SUB-505", "invalid_grant", "OAU-"].iter().all(|code| !refuses_login(code)));
    }
}
