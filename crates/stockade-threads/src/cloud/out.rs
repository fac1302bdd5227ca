//! What leads out of a machine for a while: connections of its programs that this side waits for, and
//! hands to a gateway.

use std::os::unix::net::UnixStream;
use std::time::Duration;

use stockade_gateway::{Blocked, Gateway};
use stockade_guest::{CallError, Outlet};

use crate::place::{Place as _, Vm};

/// How long connections that were cut off may take to be told of.
const SETTLED: Duration = Duration::from_secs(2);

/// A way out.
pub(super) struct Out {
    gateway: Gateway,
    outlet: Outlet,
}

impl Out {
    /// Opens it: each connection is one end of what `serve` gets the other of.
    pub(super) fn open(
        vm: &Vm,
        gateway: Gateway,
        serve: impl Fn(&Gateway, UnixStream) + Send + Sync + 'static,
    ) -> Result<Self, CallError> {
        let serving = gateway.clone();
        let connect = move || {
            let (near, far) = UnixStream::pair()?;
            serve(&serving, far);
            Ok(near)
        };
        let outlet = vm.client().outlet(connect)?;
        Ok(Self { gateway, outlet })
    }

    /// The port of the machine's loopback that leads there.
    pub(super) fn port(&self) -> u16 {
        self.outlet.port()
    }

    /// Cuts off what is connected; the value is what was refused.
    pub(super) fn close(self) -> Result<Vec<Blocked>, CallError> {
        let Self { gateway, outlet } = self;
        outlet.close()?;
        gateway.settle(SETTLED);
        Ok(gateway.blocked())
    }
}
