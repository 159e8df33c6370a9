//! Whether an event was delivered before. Pure.
//!
//! One question with three memories, each for what only it can recognize:
//!
//! - [`Seen`]: the same event again, by its key. A cursor is read again after a fault, two links overlap while an
//!   address moves, a publisher repeats itself.
//! - [`Overlap`]: the same event from another subscription, by its content, while one takes over from the other. The
//!   service may give the two copies different uuids.
//! - [`Subjects`]: the same event from the other origin, by its subject and version. What was pushed is found by a
//!   catch-up source, or the other way around, in another form.
//!
//! Each is bounded by count and by time. Beyond its bound an event is delivered twice rather than not at all.

mod overlap;
mod seen;
mod subjects;

pub(crate) use overlap::Overlap;
pub(crate) use seen::Seen;
pub(crate) use subjects::{About, Subjects};
