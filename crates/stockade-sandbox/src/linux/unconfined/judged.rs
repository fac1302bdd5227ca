//! Rules about what is executed where there is no boundary.
//!
//! The command's own process installs the filter and sends its listener to this one, which
//! answers as PID 1 does elsewhere. No stub stands in the view, because there is none.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::Launch;
use crate::launch::{Tell, Told};
use crate::linux::control::{self, Report};
use crate::linux::seccomp;
use crate::linux::supervisor::{Denials, Supervisor};
use crate::linux::sys::{credentials_unsafe, seccomp_unsafe};

/// What a person loses by it.
const NOTE: &str = "rules that ask or deny are held by a filter of system calls: `sudo` and other \
    set-uid programs gain nothing under it, and programs of 32 bits do not run";

/// This process' side.
#[derive(Debug)]
pub(super) struct Judging {
    /// Where the listener comes from.
    listener: Option<OwnedFd>,
    running: Option<(Supervisor, Arc<Denials>, OwnedFd)>,
}

/// The command's side.
#[derive(Debug)]
pub(super) struct Judged(Option<OwnedFd>);

/// Both sides, before the fork; they do nothing where nobody judges.
pub(super) fn prepare(launch: &Launch) -> io::Result<(Judging, Judged)> {
    let (near, far) = match launch.execs {
        Some(_) => control::pair().map(|(near, far)| (Some(near), Some(far)))?,
        None => (None, None),
    };
    Ok((Judging { listener: near, running: None }, Judged(far)))
}

impl Judged {
    /// From here on what is executed is judged.
    pub(super) fn enter(self) -> io::Result<()> {
        let Some(socket) = self.0 else { return Ok(()) };
        let filter = seccomp::execs_alone();
        let listener = match seccomp_unsafe::install(&filter, true) {
            // Only root may keep the rights that a set-uid program gives (seccomp(2)).
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                credentials_unsafe::set_no_new_privs()?;
                seccomp_unsafe::install(&filter, true)?
            }
            listener => listener?,
        };
        let listener: Vec<OwnedFd> = listener.into_iter().collect();
        Report::Listeners.send(&socket, &listener)
    }
}

impl Judging {
    /// Begins to answer; nothing has been executed before.
    pub(super) fn begin(&mut self, launch: &Launch, tell: Tell<'_>) -> io::Result<()> {
        let Some(socket) = self.listener.take() else { return Ok(()) };
        // Without one the command's process has ended, and says why by its own pipe.
        let Some((_, mut listeners)) = Report::receive(&socket)? else { return Ok(()) };
        let Some(listener) = listeners.pop() else { return Ok(()) };
        tell(Told::Note(NOTE));
        let (near, far) = control::pair()?;
        let denials = Arc::new(Denials::new(near, None, None));
        let judges = (None, launch.execs.clone());
        let started =
            Supervisor::start(listener, judges, (None, None), (Arc::clone(&denials), None))?;
        self.running = Some((started, denials, far));
        Ok(())
    }

    /// Tells what was refused, when nothing that could be is left.
    pub(super) fn finish(self, tell: Tell<'_>) {
        let Some((supervisor, denials, far)) = self.running else { return };
        drop(supervisor);
        // It may have more to say than the socket takes at once.
        let rest = std::thread::Builder::new().spawn(move || {
            denials.finish();
            denials.close();
        });
        while let Ok(Some((report, _))) = Report::receive(&far) {
            match report {
                Report::Denied(denial) => tell(Told::Denied(denial)),
                Report::DeniedMore(count) => tell(Told::DeniedMore(count)),
                Report::Ended(_)
                | Report::Failed(_)
                | Report::NotRun(..)
                | Report::Note(_)
                | Report::Standing
                | Report::Started
                | Report::Terminal
                | Report::Listeners
                | Report::TakeAway { .. }
                | Report::Stopped(_) => break,
            }
        }
        if let Ok(rest) = rest {
            // It has said all.
            rest.join().ok();
        }
    }
}
