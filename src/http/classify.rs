//! Classifies responses, in one place.

use super::codes::{
    GONE, PERMISSION, PROTOCOL, RATE_LIMITED, REJECTED, SERVICE, TIMEOUT, TOKEN_GONE, Verdict, verdict,
};

/// The kind and disposition of a failure, from its HTTP status and error code. Total: every pair
/// has a verdict, and the message text is ignored.
///
/// A status that concerns the whole service (429, 5xx) outranks the code, and so does a 401: with
/// any code, another token is worth one attempt, and undocumented codes occur (found 6.4). Then the
/// code decides, then the status.
pub(crate) fn classify(status: Option<u16>, code: Option<&str>) -> Verdict {
    let code = code.map(str::trim).filter(|code| !code.is_empty());
    match status {
        Some(429) => RATE_LIMITED,
        Some(500..=599) => SERVICE,
        Some(401) => TOKEN_GONE,
        Some(_) | None => {
            code.and_then(|code| verdict(status, code)).unwrap_or_else(|| by_status(status, code.is_some()))
        }
    }
}

fn by_status(status: Option<u16>, has_code: bool) -> Verdict {
    match status {
        Some(403) => PERMISSION,
        Some(404 | 410) => GONE,
        Some(408) => TIMEOUT,
        Some(400..=499) => REJECTED,
        None if has_code => REJECTED,
        // Not a failure by its status, yet not the expected response; or unknown.
        Some(_) | None => PROTOCOL,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::codes::{AUTH, LIMIT, NO_SUCH_PATH, NOT_READY, PASSING, SYNC_AGAIN, TRANSPORT};
    use super::*;
    use crate::error::{Disposition, ErrorKind};

    const RETRY: Disposition = Disposition::Retry { after: None };

    /// Every code the reference documents, with the status it documents.
    #[test]
    fn every_documented_code_has_its_verdict() {
        let rows: &[(u16, &[&str], Verdict)] = &[
            // Documented or not, concerning the token, the app or the user: one new token.
            (401, &["OAU-128", "OAU-129", "OAU-149", "OAU-213", "OAU-210", "OAU-211", "invalid_token"], TOKEN_GONE),
            (400, &["OAU-128", "OAU-129", "OAU-149", "OAU-213", "OAU-211", "OAU-222"], AUTH),
            (
                403,
                &[
                    "OAU-101", "OAU-102", "OAU-105", "OAU-106", "OAU-108", "OAU-109", "OAU-110", "OAU-112", "OAU-113",
                    "OAU-116", "OAU-117", "OAU-119", "OAU-167",
                ],
                AUTH,
            ),
            (400, &["OAU-111", "OAU-123", "OAU-147", "OAU-148", "OAU-150"], AUTH),
            (
                401,
                &[
                    "OAU-120", "OAU-121", "OAU-123", "OAU-125", "OAU-127", "OAU-134", "OAU-136", "OAU-140", "OAU-141",
                    "OAU-142", "OAU-146", "OAU-151", "OAU-165", "OAU-168",
                ],
                TOKEN_GONE,
            ),
            (400, &["OAU-232", "OAU-236"], REJECTED),
            (401, &["AGW-401", "AGW-402", "CMN-405", "CMN-101", "SUB-505"], TOKEN_GONE),
            (403, &["AGW-401", "AGW-402", "CMN-405"], AUTH),
            (404, &["AGW-404", "CMN-120"], NO_SUCH_PATH),
            (400, &["CMN-101", "CMN-103", "CMN-104"], REJECTED),
            (404, &["CMN-102", "SUB-507"], GONE),
            (500, &["CMN-201", "CMN-203"], SERVICE),
            (503, &["CMN-201"], SERVICE),
            (429, &["CMN-301", "CMN-302", "CMN-303", "CMN-304", "CMN-310", "MSG-305"], RATE_LIMITED),
            (403, &["CMN-401", "CMN-408"], PERMISSION),
            (
                403,
                &[
                    "SUB-402", "SUB-403", "SUB-404", "SUB-405", "SUB-408", "SUB-412", "SUB-518", "SUB-527", "SUB-530",
                    "SUB-531",
                ],
                PERMISSION,
            ),
            (403, &["SUB-406"], NOT_READY),
            (403, &["SUB-407"], REJECTED),
            (403, &["SUB-505"], LIMIT),
            (400, &["SUB-508", "SUB-509", "SUB-515", "SUB-516", "SUB-520", "SUB-523", "SUB-524", "SUB-525"], REJECTED),
            (405, &["SUB-511"], REJECTED),
            (400, &["SUB-521", "SUB-522"], PASSING),
            (403, &["SUB-528"], TRANSPORT),
            (400, &["MSG-333", "CLG-101", "CLG-102", "CLG-103", "CLG-104", "CLG-105"], SYNC_AGAIN),
            (400, &["invalid_grant", "invalid_client", "unauthorized_client", "expired_token", "access_denied"], AUTH),
            (
                400,
                &[
                    "invalid_request",
                    "unsupported_grant_type",
                    "invalid_scope",
                    "invalid_request_uri",
                    "unsupported_response_type",
                    "request_not_supported",
                    "request_uri_not_supported",
                    "InvalidParameter",
                ],
                REJECTED,
            ),
            (403, &["insufficient_scope", "InsufficientPermissions"], PERMISSION),
            (401, &["TokenExpired", "TokenInvalid"], TOKEN_GONE),
        ];
        for (status, codes, want) in rows {
            for code in *codes {
                assert_eq!(classify(Some(*status), Some(code)), *want, "{status} {code}");
            }
        }
    }

    #[test]
    fn a_code_without_a_status_has_the_same_verdict() {
        for (code, want) in [
            ("SUB-412", PERMISSION),
            ("SUB-528", TRANSPORT),
            ("OAU-128", TOKEN_GONE),
            ("CMN-201", SERVICE),
            ("CMN-301", RATE_LIMITED),
            ("CMN-102", GONE),
            (" sub-505 ", LIMIT),
            ("TokenExpired", TOKEN_GONE),
            ("SUB-999", REJECTED),
            ("WSG-808", REJECTED),
        ] {
            assert_eq!(classify(None, Some(code)), want, "{code}");
        }
        assert_eq!(classify(None, None), PROTOCOL);
    }

    #[test]
    fn a_status_without_a_known_code_decides_alone() {
        for (status, bare, unknown) in [
            (200, PROTOCOL, PROTOCOL),
            (302, PROTOCOL, PROTOCOL),
            (400, REJECTED, REJECTED),
            (401, TOKEN_GONE, TOKEN_GONE),
            (403, PERMISSION, PERMISSION),
            (404, GONE, GONE),
            (405, REJECTED, REJECTED),
            (408, TIMEOUT, TIMEOUT),
            (409, REJECTED, REJECTED),
            (410, GONE, GONE),
            (413, REJECTED, REJECTED),
            (418, REJECTED, REJECTED),
            (429, RATE_LIMITED, RATE_LIMITED),
            (500, SERVICE, SERVICE),
            (502, SERVICE, SERVICE),
            (503, SERVICE, SERVICE),
            (504, SERVICE, SERVICE),
            (599, SERVICE, SERVICE),
            (0, PROTOCOL, PROTOCOL),
            (999, PROTOCOL, PROTOCOL),
        ] {
            assert_eq!(classify(Some(status), None), bare, "{status}");
            assert_eq!(classify(Some(status), Some("")), bare, "{status}");
            assert_eq!(classify(Some(status), Some("XYZ-1")), unknown, "{status}");
        }
    }

    #[test]
    fn a_status_that_speaks_for_the_service_outranks_the_code() {
        assert_eq!(classify(Some(429), Some("SUB-528")), RATE_LIMITED);
        assert_eq!(classify(Some(503), Some("OAU-128")), SERVICE);
        // A bad parameter is not a missing subscription, and vice versa.
        assert_eq!(classify(Some(404), Some("CMN-101")), GONE);
    }

    proptest! {
        #[test]
        fn every_pair_has_a_verdict(status: Option<u16>, code in proptest::option::of("\\PC{0,12}")) {
            let (kind, disposition) = classify(status, code.as_deref());
            if matches!(status, Some(429 | 500..=599)) {
                prop_assert_eq!(disposition, RETRY);
            }
            if kind == ErrorKind::Permission && disposition != NOT_READY.1 {
                prop_assert_eq!(disposition, Disposition::Fatal);
            }
        }

        #[test]
        fn code_like_text_has_a_verdict_that_only_its_number_decides(
            status: Option<u16>, family in "(OAU|AGW|CMN|SUB|MSG|CLG|oau|Sub)", number: u32,
        ) {
            let code = format!("{family}-{number}");
            prop_assert_eq!(classify(status, Some(&code)), classify(status, Some(&format!(" {code} "))));
            prop_assert_eq!(classify(status, Some(&code)), classify(status, Some(&code.to_ascii_uppercase())));
        }
    }
}
