//! Checks of a Digital source: the rules of its protocol, and whether an answer follows them.
//!
//! Each rule is one sentence, the documentation of a [`Rule`]. What breaks a rule is a [`Violation`]. The checks keep no
//! state and send nothing: the crawler gives them what the source answered.

mod capabilities;
mod item;
mod page;
mod report;
mod requests;
mod response;
mod violation;
mod wire;

pub use self::capabilities::Capabilities;
pub use self::report::{Run, RunEnd, Step};
pub use self::violation::{Rule, Severity, Violation};

pub(crate) use self::capabilities::{field, is_empty, kind};
pub(crate) use self::item::{Item, check_user, id_of, reply_to, wrong_structure};
pub(crate) use self::page::{Page, read_page};
pub(crate) use self::requests::all;
pub(crate) use self::response::{Answer, Answered, Failed, Lost, Needs, Said, read};
pub(crate) use self::violation::Violations;
pub(crate) use self::wire::{post, write};
