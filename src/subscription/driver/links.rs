//! What the links report.

use std::panic::AssertUnwindSafe;

use super::*;
use crate::guard;

impl Driver {
    pub(super) fn opened(&mut self, id: LinkId, result: Result<Box<dyn Link>>) {
        let Some(at) = self.opening.iter().position(|opening| opening.id == id) else {
            // Closed while it was being opened.
            if let Ok(link) = result {
                self.pending.push(ops::part(link));
            }
            return;
        };
        let Opening { id, place, .. } = self.opening.swap_remove(at);
        match result {
            Ok(link) => self.reading.push(Reading { id, place, link }),
            Err(error) => self.link_failed(id, error),
        }
    }

    pub(super) fn link_failed(&mut self, link: LinkId, error: Error) {
        tracing::debug!(%error, kind = ?error.kind(), subscription = self.id_for_log(), "the link failed");
        let is_current = self.machine.is_current(link) && self.lease_way == self.way;
        let mut disposition = error.disposition();
        if self.machine.phase() != machine::Phase::Closing {
            let lasts = |driver: &mut Self| !driver.machine.was_ever_up() || driver.refused_links.note(Instant::now());
            disposition = self.final_if(disposition, &error, lasts);
        }
        if is_current && disposition == Disposition::Fatal && self.fail_over_refused(&error) {
            return self.note(error);
        }
        let input = match (disposition, error.kind()) {
            (Disposition::Recreate, ErrorKind::SessionLost) => Input::LinkLost { link, cause: Cause::SessionLost },
            (Disposition::Recreate, ErrorKind::Protocol) => Input::LinkLost { link, cause: Cause::TooLarge },
            (disposition, _) => Input::LinkFailed { link, disposition },
        };
        self.note(error);
        self.give(input);
    }

    pub(super) fn link_event(&mut self, at: usize, event: Result<LinkEvent>) {
        let Some(reading) = self.reading.get(at) else { return };
        let (id, place) = (reading.id, reading.place);
        match event {
            Err(error) => {
                drop(self.reading.swap_remove(at));
                self.link_failed(id, error);
            }
            Ok(LinkEvent::Alive) => {
                self.refused_links = Refusals::default();
                self.give(Input::LinkAlive { link: id });
            }
            Ok(LinkEvent::At(cursor)) => self.at(place, cursor),
            Ok(LinkEvent::Leaving) => self.give(Input::LinkLeaving { link: id }),
            Ok(LinkEvent::Batch { frames, cursor, suspected_loss }) => {
                self.give(if frames.is_empty() {
                    Input::LinkAlive { link: id }
                } else {
                    Input::LinkProgress { link: id }
                });
                // What the news leads to (the end of a gap) comes before the events.
                self.carry_out();
                self.batch(place, frames, cursor, suspected_loss);
            }
        }
    }

    /// That is no sign that the subscription delivers.
    fn at(&mut self, place: u64, cursor: Cursor) {
        let Some(listening) = self.listening.clone().filter(|_| place == self.place) else { return };
        self.cursor = Some(cursor.clone());
        let at = self.good_since().unwrap_or_else(|| self.setup.clock.wall());
        self.queue.push_mark(Mark { cursor, place: listening, at, served: self.served_since() });
    }

    pub(super) fn batch(&mut self, place: u64, frames: Vec<Frame>, cursor: Cursor, loss: Option<SuspectedLoss>) {
        match loss {
            Some(SuspectedLoss::BufferFull { events }) => {
                self.possible_gap(GapCause::ServiceBufferFull { events }, self.good_since());
            }
            Some(SuspectedLoss::BufferAged { pause }) => {
                self.possible_gap(GapCause::ServiceBufferAged { pause }, self.good_since());
            }
            Some(SuspectedLoss::ReplayFull { events, since }) => {
                self.possible_gap(GapCause::ServiceBufferFull { events }, Some(since));
            }
            Some(SuspectedLoss::Unheard { since }) => self.possible_gap(GapCause::ConnectionBroken, Some(since)),
            None => {}
        }
        for frame in frames {
            self.queue.push_frame(frame, &self.keys);
        }
        if place == self.place {
            let now = (Instant::now(), self.setup.clock.wall());
            self.cursor = Some(cursor.clone());
            self.last_good = Some(now);
            // While a former link still delivers, only its own place covers all.
            let alone = self.reading.iter().all(|reading| reading.place == self.place);
            if let Some(place) = self.listening.clone().filter(|_| alone) {
                self.queue.push_mark(Mark { cursor, place, at: now.1, served: self.served_since() });
            }
        }
    }
}

/// The next event of any link; never, if there is none.
pub(super) async fn next_event(links: &mut [Reading]) -> (usize, Result<LinkEvent>) {
    if links.is_empty() {
        return std::future::pending().await;
    }
    let (event, at, _) = select_all(links.iter_mut().map(event_of)).await;
    (at, event)
}

/// A link may be a user's, and panic.
fn event_of(reading: &mut Reading) -> impl Future<Output = Result<LinkEvent>> + Send + Unpin {
    let event = AssertUnwindSafe(reading.link.next()).catch_unwind();
    event.map(|event| event.unwrap_or_else(|_| Err(guard::panicked("the transport's link"))))
}
