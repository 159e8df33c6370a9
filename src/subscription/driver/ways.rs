//! Several transports, one at a time.

use super::*;

/// How many transport switches are remembered. They are a second apart at least and calls end within a minute, so no
/// call of an older one is in flight.
const CHANGES_KNOWN: usize = 128;

/// One of the transports of a subscription.
#[derive(Clone)]
pub(in crate::subscription) struct Way {
    pub(in crate::subscription) control: Arc<dyn ControlPlane>,
    pub(in crate::subscription) transport: Arc<dyn Transport>,
    pub(in crate::subscription) has_address: bool,
    pub(in crate::subscription) polls: bool,
}

impl Driver {
    /// Changes to another transport, if it is time to.
    pub(super) fn fail_over(&mut self) {
        let now = Instant::now().into_std();
        match self.machine.phase() {
            machine::Phase::Live => self.failover.observe(now, true),
            machine::Phase::Starting
            | machine::Phase::Connecting
            | machine::Phase::Reconnecting
            | machine::Phase::Recreating => self.failover.observe(now, false),
            machine::Phase::Closing | machine::Phase::Closed => return self.failover.end(),
        }
        if let Some(to) = self.failover.due(now) {
            self.exchange(to);
        }
    }

    /// Changes to another transport because the service refuses the present one; `false` if that is no reason, or none
    /// is left.
    pub(super) fn fail_over_refused(&mut self, error: &Error) -> bool {
        if self.ending_since.is_some() || !matches!(error.kind(), ErrorKind::TransportRefused | ErrorKind::Permission) {
            return false;
        }
        let Some(to) = self.failover.refused(Instant::now().into_std()) else { return false };
        self.exchange(to);
        true
    }

    fn exchange(&mut self, to: usize) {
        let Some(way) = self.setup.ways.get(to).cloned() else { return };
        tracing::info!(transport = %way.transport.kind(), subscription = self.id_for_log(), "another transport is used");
        if self.ways_until.len() == CHANGES_KNOWN {
            self.ways_until.remove(0);
        }
        self.ways_until.push((self.machine.generation(), self.way));
        self.way = to;
        let Way { control, transport, has_address, polls } = way;
        self.setup.control = control;
        self.setup.transport = transport;
        self.setup.has_address = has_address;
        self.setup.polls = polls;
        self.recovery.plan.polls_alone(polls);
        if self.lease.is_some() {
            self.overlap.begin(Instant::now());
        }
        self.give(Input::Exchanged);
    }

    /// The transport of an operation.
    pub(super) fn way_of(&self, op: Op) -> usize {
        self.ways_until.iter().find(|(until, _)| op <= *until).map_or(self.way, |(_, way)| *way)
    }

    /// The control plane of one of the transports.
    pub(super) fn control_of(&self, way: usize) -> Arc<dyn ControlPlane> {
        self.setup.ways.get(way).map_or_else(|| self.setup.control.clone(), |way| way.control.clone())
    }
}
