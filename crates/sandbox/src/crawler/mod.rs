//! The platform's side of a Digital source: its contents, the agents' writes, and the order of its requests. It moves
//! no bytes.

mod compare;
mod core;
mod crawl;
mod jobs;
mod realtime;
mod send_api;
mod store;
mod writes;

pub use self::jobs::{Job, SyncStatus, Write};
pub use self::realtime::Received;
pub use self::store::{Imported, Origin};

pub(crate) use self::core::{Channels, Core};
pub(crate) use self::crawl::{Ask, Crawl, Task};
pub(crate) use self::realtime::{Refusal, refused};
pub(crate) use self::send_api::{parse, receive};
