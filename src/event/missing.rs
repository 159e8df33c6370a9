//! What an answer does not say of what was asked for.

use super::uri::Normal;

/// Which of the filters that were asked for an answer of the service leaves out:
/// they are neither among its `eventFilters` nor among its `disabledFilters`, so
/// that their events would be missed without a word.
///
/// Filters are compared by what they mean, as by
/// [`same_filters`](super::same_filters), and only what is surely left out is
/// told:
/// - `~` may be any id, and one filter of the answer may stand for several that
///   were asked for;
/// - of several presence filters on one path the service serves the most detailed
///   one only: it stands for the simpler ones;
/// - an answer without any filter (`served` is empty) says nothing, and nothing is
///   told;
/// - what a leading `!` excludes is not documented, so it is not looked for.
///
/// In the order in which they were asked for.
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
    fn what_an_answer_leaves_out_is_told_and_nothing_that_may_be_there() {
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
            // An empty list says nothing, a disabled filter or not.
            (&[STORE, POSTS], &[], &[], &[]),
            (&[STORE, POSTS], &[], &[POSTS], &[]),
            // The more detailed stands for the simpler, never the other way round.
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
            // A detailed one that is disabled serves nobody.
            (&[PRESENCE], &[POSTS], &[SIP], &[PRESENCE]),
            (&[STORE], &["/restapi/v1.0/account/1/extension/2/message-store?type=SMS"], &[], &[STORE]),
            // What cannot be told apart is not told.
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
        fn the_same_filters_leave_nothing_out(
            asked in prop::collection::vec(uri(), 0..5), served in prop::collection::vec(uri(), 0..5),
            disabled in prop::collection::vec(uri(), 0..3),
        ) {
            prop_assert!(missing_filters(&asked, &asked, &disabled).is_empty());
            prop_assert!(!same_filters(&asked, &served) || missing_filters(&asked, &served, &disabled).is_empty());
            let missing = missing_filters(&asked, &served, &disabled);
            prop_assert!(missing.iter().all(|it| asked.iter().any(|asked| asked == it)));
            // With what was missing in it the answer is complete.
            let mut whole = served.clone();
            whole.extend(missing.iter().map(|&it| it.to_owned()));
            prop_assert!(missing_filters(&asked, &whole, &disabled).is_empty() || served.is_empty());
        }
    }
}
