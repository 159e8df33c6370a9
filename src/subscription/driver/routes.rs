//! Several transports, one at a time.

use std::sync::Arc;

use tokio::time::Instant;

use super::Driver;
use crate::control::ControlPlane;
use crate::delivery::GapCause;
use crate::error::{Error, ErrorKind};
use crate::subscription::machine::{self, Input};
use crate::subscription::setup::Route;

impl Driver {
    /// Switches to another transport, if it is time to.
    pub(super) fn fail_over(&mut self) {
        let delivers = match self.machine.phase() {
            machine::Phase::Live => true,
            machine::Phase::Starting
            | machine::Phase::Connecting
            | machine::Phase::Reconnecting
            | machine::Phase::Recreating => false,
            machine::Phase::Closing | machine::Phase::Closed => return self.routes.end(),
        };
        let routes = &self.setup.routes;
        let can_connect = |to: usize| routes.get(to).is_none_or(Route::can_connect);
        if let Some(to) = self.routes.due(Instant::now(), delivers, can_connect) {
            self.switch(to);
        }
    }

    /// Switches to another transport because the service refuses the present one; `false` if that is no reason, or none
    /// is left.
    pub(super) fn fail_over_refused(&mut self, error: &Error) -> bool {
        if self.report.ending.has_begun()
            || !matches!(error.kind(), ErrorKind::TransportRefused | ErrorKind::Permission)
        {
            return false;
        }
        let Some(to) = self.routes.refused(Instant::now()) else { return false };
        self.switch(to);
        true
    }

    fn switch(&mut self, to: usize) {
        let Some(route) = self.setup.routes.get(to).cloned() else { return };
        tracing::info!(transport = %route.transport.kind(), subscription = self.id_for_log(), "another transport is used");
        self.routes.switched(Instant::now(), to, self.machine.generation(), self.active.held.lease().is_some());
        self.polls_end(&GapCause::TransportChanged);
        let Route { control, transport, has_address, polls } = route;
        self.setup.control = control;
        self.setup.transport = transport;
        self.setup.has_address = has_address;
        self.setup.polls = polls;
        self.recovery.polls_alone(polls);
        self.feed(Input::TransportSwitched);
    }

    /// The control plane of one of the transports.
    pub(super) fn control_of(&self, route: usize) -> Arc<dyn ControlPlane> {
        self.setup.routes.get(route).map_or_else(|| self.setup.control.clone(), |route| route.control.clone())
    }
}
