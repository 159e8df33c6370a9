//! Resolves the extension that `~` represents.

use super::uri::Normal;
use crate::ids::ExtensionId;

/// The extension that `~` in the filters `asked` represents, from URIs that the service wrote out:
/// accepted filters, or the event URI of a notification (ringcentral-rest-and-events §5.1). `None`
/// if the URI may belong to a filter that names its extension.
pub(crate) fn own_extension(asked: &[impl AsRef<str>], written: &[impl AsRef<str>]) -> Option<ExtensionId> {
    let asked: Vec<Normal<'_>> = asked.iter().map(|filter| Normal::of(filter.as_ref())).collect();
    written.iter().find_map(|uri| {
        let uri = Normal::of(uri.as_ref());
        let id = uri.extension_id()?;
        let mut matching = asked.iter().filter(|filter| filter.agrees(&uri)).peekable();
        matching.peek()?;
        matching.all(Normal::is_of_own_extension).then(|| ExtensionId::from(id))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_out_uri_names_the_logins_extension() {
        const OWN: &str = "/restapi/v1.0/account/~/extension/~/voicemail";
        const SEVEN: &str = "/restapi/v1.0/account/4/extension/7/voicemail";
        const EIGHT: &str = "/restapi/v1.0/account/~/extension/8/voicemail";
        let own = |asked: &[&str], written: &[&str]| own_extension(asked, written).map(|id| id.as_str().to_owned());
        for (asked, written, want) in [
            (&[OWN][..], &[SEVEN][..], Some("7")),
            (&[EIGHT, OWN], &[EIGHT, SEVEN], Some("7")),
            // The URI may belong to the filter that names it.
            (&[EIGHT, OWN], &["/restapi/v1.0/account/4/extension/8/voicemail"], None),
            (&[OWN], &[OWN], None),
            (&[OWN], &["/restapi/v1.0/account/4/extension/7/fax"], None),
            (&[EIGHT], &[EIGHT], None),
            (&["/team-messaging/v1/posts"], &["/team-messaging/v1/posts"], None),
            (&[], &[SEVEN], None),
        ] {
            assert_eq!(own(asked, written).as_deref(), want, "{asked:?} {written:?}");
        }
    }
}
