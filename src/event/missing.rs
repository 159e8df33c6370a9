//! Detects requested filters that a response omits.

use super::uri::Normal;

/// The requested filters that a response of the service omits: they are neither in its
/// `eventFilters` nor in its `disabledFilters`, so that their events would be missed silently.
///
/// Filters are compared by meaning, as by [`same_filters`](super::same_filters), and only certain
/// omissions are reported:
/// - `~` may be any id, and one filter of the response may represent several requested ones;
/// - of several presence filters on one path the service serves only the most detailed one, which
///   represents the simpler ones;
/// - a response without filters (`served` is empty) proves nothing, so nothing is reported;
/// - the meaning of a leading `!` is undocumented, so such filters are ignored.
///
/// In the order of the request.
///
/// ```
/// use ringcentral_events::event::missing_filters;
/// let asked = ["/restapi/v1.0/account/~/extension/~/presence", "/team-messaging/v1/posts"];
/// let served = ["/restapi/v1.0/account/1/extension/2/presence"];
/// let none: [&str; 0] = [];
/// assert_eq!(missing_filters(&asked, &served, &none), ["/team-messaging/v1/posts"]);
/// assert!(missing_filters(&asked, &served, &["/team-messaging/v1/posts"]).is_empty());
/// ```
#[must_use]
pub fn missing_filters<'a>(
    asked: &'a [impl AsRef<str>],
    served: &[impl AsRef<str>],
    disabled: &[impl AsRef<str>],
) -> Vec<&'a str> {
    if served.is_empty() {
        return Vec::new();
    }
    let served: Vec<Normal<'_>> = served.iter().map(|filter| Normal::of(filter.as_ref())).collect();
    let disabled: Vec<Normal<'_>> = disabled.iter().map(|filter| Normal::of(filter.as_ref())).collect();
    let is_told = |asked: &str| {
        let asked = Normal::of(asked);
        served.iter().any(|it| asked.agrees(it) || asked.is_simpler_presence_than(it))
            || disabled.iter().any(|it| asked.agrees(it))
    };
    asked.iter().map(AsRef::as_ref).filter(|asked| !asked.starts_with('!') && !is_told(asked)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::same_filters;
    use super::*;

    const PRESENCE: &str = "/restapi/v1.0/account/~/extension/~/presence";
    const DETAILED: &str = "/restapi/v1.0/account/1/extension/2/presence?detailedTelephonyState=true";
    const SIP: &str = "/restapi/v1.0/account/1/extension/2/presence?sipData=true&detailedTelephonyState=true";
    const STORE: &str = "/restapi/v1.0/account/~/extension/~/message-store";
    const POSTS: &str = "/team-messaging/v1/posts";

    #[test]
    fn certain_omissions_are_reported_and_ambiguous_ones_are_not() {
        let simpler = "/restapi/v1.0/account/~/extension/~/presence?detailedTelephonyState";
        let off = "/restapi/v1.0/account/~/extension/~/presence?detailedTelephonyState=false";
        let aggregated = "/restapi/v1.0/account/~/extension/~/presence?aggregated=true";
        let line = "/restapi/v1.0/account/~/extension/~/presence/line";
        for (asked, served, disabled, want) in [
            (&[STORE, POSTS][..], &[STORE, POSTS][..], &[][..], &[][..]),
            (&[STORE, POSTS], &["https://host/restapi/v1.0/account/1/extension/2/message-store"], &[], &[POSTS]),
            (&[STORE, POSTS], &[POSTS], &["/restapi/v1.0/account/1/extension/2/message-store"], &[]),
            (&[STORE, POSTS], &["/other"], &["/another"], &[STORE, POSTS]),
            (&[POSTS, POSTS], &[POSTS], &[], &[]),
            (&["/a?x=1&y=2"], &["/a?y=2&x=1"], &[], &[]),
            (&["/a?x=1&y=2"], &["/a?y=2"], &[], &["/a?x=1&y=2"]),
            // An empty list proves nothing, with or without a disabled filter.
            (&[STORE, POSTS], &[], &[], &[]),
            (&[STORE, POSTS], &[], &[POSTS], &[]),
            // The more detailed one represents the simpler one, never the other way round.
            (&[PRESENCE, DETAILED], &[DETAILED], &[], &[]),
            (&[PRESENCE, simpler, SIP], &[SIP], &[], &[]),
            (&[off], &[SIP], &[], &[]),
            (&[SIP], &[DETAILED], &[], &[SIP]),
            (&[simpler], &[PRESENCE], &[], &[simpler]),
            (&[aggregated], &[SIP], &[], &[aggregated]),
            (&[line], &[SIP], &[], &[line]),
            (
                &["/restapi/v1.0/account/1/extension/3/presence"],
                &[SIP],
                &[],
                &["/restapi/v1.0/account/1/extension/3/presence"],
            ),
            // A disabled detailed filter represents nothing.
            (&[PRESENCE], &[POSTS], &[SIP], &[PRESENCE]),
            (&[STORE], &["/restapi/v1.0/account/1/extension/2/message-store?type=SMS"], &[], &[STORE]),
            // Ambiguous filters are not reported.
            (&["/extension/~/x", "/extension/7/x"], &["/extension/7/x"], &[], &[]),
            (&["/extension/~/x", "/extension/7/x"], &["/extension/8/x"], &[], &["/extension/7/x"]),
            (&["!/a", POSTS], &[POSTS], &[], &[]),
        ] {
            assert_eq!(missing_filters(asked, served, disabled), want, "{asked:?} {served:?} {disabled:?}");
        }
    }

    fn uri() -> impl Strategy<Value = String> {
        let word = prop::sample::select(vec!["account", "extension", "~", "1", "2", "presence", "x"]);
        let pair = prop::sample::select(vec!["a=1", "b", "sipData=true", "detailedTelephonyState=true"]);
        (prop::collection::vec(word, 0..5), prop::collection::vec(pair, 0..3))
            .prop_map(|(path, query)| format!("/{}?{}", path.join("/"), query.join("&")))
    }

    proptest! {
        #[test]
        fn equal_filters_omit_nothing(
            asked in prop::collection::vec(uri(), 0..5), served in prop::collection::vec(uri(), 0..5),
            disabled in prop::collection::vec(uri(), 0..3),
        ) {
            prop_assert!(missing_filters(&asked, &asked, &disabled).is_empty());
            prop_assert!(!same_filters(&asked, &served) || missing_filters(&asked, &served, &disabled).is_empty());
            let missing = missing_filters(&asked, &served, &disabled);
            prop_assert!(missing.iter().all(|it| asked.iter().any(|asked| asked == it)));
            // Adding the omitted filters completes the response.
            let mut whole = served.clone();
            whole.extend(missing.iter().map(|&it| it.to_owned()));
            prop_assert!(missing_filters(&asked, &whole, &disabled).is_empty() || served.is_empty());
        }
    }
}
