//! The changes of a view.

use crate::event::TelephonySessionId;
use crate::ids::ExtensionId;

/// A change of a [`StateView`](super::StateView).
///
/// Changes of one call or extension that were not read yet are one change: ask the view for the present state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StateChange {
    /// A call began or changed.
    Call(TelephonySessionId),
    /// A call ended, or is no longer there.
    CallEnded(TelephonySessionId),
    /// The presence of an extension became known or changed.
    Presence(ExtensionId),
    /// The lists were read and no event is missing since: the view is the present state.
    Current,
    /// Events are missing, or may be: the view may be outdated until [`Current`](Self::Current).
    Stale,
}
