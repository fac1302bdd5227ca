//! Calls that only the kernel can carry out, led to another path.
//!
//! To change to a folder and to execute a file the kernel follows the path itself, so a folder that
//! is another by name (`crate::linux::moved`) takes another path in the call. Nothing that the
//! program has is written to: its thread is stopped where the call waits, makes three calls in its stead
//! (a page with the path in it, the call with that page, the page given back), and goes on as if
//! it had made one. The call with the path is trapped like any other; what is decided here
//! is where it leads, not whether it may.
//!
//! A thread that is traced already (a debugger inside) cannot be led.
//!
//! What a stopped thread does is learned by whoever reaps: one process waits for its children in one
//! place.

use std::collections::HashMap;
use std::io;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// How long a call may take. Who waits longer lets the thread go with the call.
const LONGEST: Duration = Duration::from_mins(1);

/// The threads that are led now, and what was last heard of each.
#[derive(Debug, Default)]
pub(crate) struct Led {
    heard: Mutex<HashMap<i32, Option<i32>>>,
    news: Condvar,
}

impl Led {
    /// Takes the state change `status` (as of waitpid(2)) of `tid`, if it is one of these; `false` when
    /// it is not. An end is for others as well.
    pub(crate) fn hear(&self, tid: i32, status: i32) -> bool {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(slot) = heard.get_mut(&tid) else { return false };
        *slot = Some(status);
        self.news.notify_all();
        libc::WIFSTOPPED(status)
    }

    /// What `tid` does next.
    #[cfg(target_arch = "x86_64")]
    fn next(&self, tid: i32) -> io::Result<i32> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let is_silent =
            |heard: &mut HashMap<i32, Option<i32>>| heard.get(&tid).is_some_and(Option::is_none);
        let (mut heard, _) = self
            .news
            .wait_timeout_while(heard, LONGEST, is_silent)
            .unwrap_or_else(PoisonError::into_inner);
        heard.get_mut(&tid).and_then(Option::take).ok_or_else(|| io::ErrorKind::TimedOut.into())
    }

    fn begin(&self, tid: i32) {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).insert(tid, None);
    }

    fn finish(&self, tid: i32) {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).remove(&tid);
    }

    /// Has `tid`, which waits in the call `number` until `answer` lets it go on with an error of the
    /// kernel's own, make it with `path` in argument `index`. `confirm` says whether it still waits.
    ///
    /// # Errors
    ///
    /// When it cannot be led; it waits as before.
    pub(super) fn lead(
        &self,
        tid: i32,
        (number, index): (i64, usize),
        path: &[u8],
        ways: (&dyn Fn() -> io::Result<()>, &dyn Fn() -> io::Result<()>),
    ) -> io::Result<()> {
        self.begin(tid);
        let led = turn::lead(self, tid, (number, index), path, ways);
        if led.is_err() {
            self.finish(tid);
        }
        led
    }
}

/// Tells the kernel that a call is to be made again (linux/errno.h); programs never see it.
pub(super) const AGAIN: i32 = 512;

#[cfg(target_arch = "x86_64")]
mod turn {
    use std::io;

    use super::{AGAIN, Led};
    use crate::linux::sys::memory_unsafe;
    use crate::linux::sys::trace_unsafe::{self as trace, Registers};

    /// The length of the instruction that makes a call.
    const INSTRUCTION: u64 = 2;
    /// Nothing is to be made again when the thread goes on.
    const NO_CALL: u64 = u64::MAX;
    /// A path with its end fits.
    const PAGE: u64 = 4096;

    /// What came instead of the next stop of a call.
    enum Broken {
        /// A signal, or its process is to stop: the number to go on with.
        By(i32),
        /// It is gone, or nothing was heard.
        Lost,
    }

    impl From<io::Error> for Broken {
        fn from(_: io::Error) -> Self {
            Self::Lost
        }
    }

    pub(super) fn lead(
        led: &Led,
        tid: i32,
        (number, index): (i64, usize),
        path: &[u8],
        (confirm, answer): (&dyn Fn() -> io::Result<()>, &dyn Fn() -> io::Result<()>),
    ) -> io::Result<()> {
        trace::seize(tid)?;
        // Where that fails it is let go at the end of this thread, as it cannot be while it runs.
        confirm()?;
        trace::interrupt(tid)?;
        // From here on it cannot be made to wait again. It stops before it runs its own code.
        answer()?;
        let status = led.next(tid)?;
        let call = number.cast_unsigned();
        let before = trace::registers(tid)?;
        let asked_again = before.orig_rax == call
            && before.rax == u64::from(AGAIN.cast_unsigned()).wrapping_neg();
        if status >> 16 != trace::ASKED || !asked_again {
            let_go(led, tid, 0);
            return Ok(());
        }
        // A signal in between would have all of it begin anew, and one that comes often for ever.
        let mask = trace::signal_mask(tid)?;
        trace::set_signal_mask(tid, u64::MAX).ok();
        let made = run(led, tid, &before, (call, index, path));
        trace::set_signal_mask(tid, mask).ok();
        match made {
            Ok(Some(result)) => {
                let after = Registers { rax: result, orig_rax: NO_CALL, ..before };
                trace::set_registers(tid, &after).ok();
                let_go(led, tid, 0);
            }
            // Another program runs in it.
            Ok(None) => let_go(led, tid, 0),
            // What cannot be blocked: its process is to stop.
            Err(Broken::By(signal)) => {
                // As if that had come before the call, which begins anew after it.
                let rip = before.rip.wrapping_sub(INSTRUCTION);
                let again = Registers { rip, rax: call, orig_rax: NO_CALL, ..before };
                trace::set_registers(tid, &again).ok();
                let_go(led, tid, signal);
            }
            Err(Broken::Lost) => return Err(io::ErrorKind::NotFound.into()),
        }
        Ok(())
    }

    /// Nothing is waited for any more once it runs: its next call may be led at once, by another.
    fn let_go(led: &Led, tid: i32, signal: i32) {
        led.finish(tid);
        trace::let_go(tid, signal).ok();
    }

    /// Makes the calls; what the one that matters said, `None` when a program was executed.
    fn run(
        led: &Led,
        tid: i32,
        before: &Registers,
        (call, index, path): (u64, usize, &[u8]),
    ) -> Result<Option<u64>, Broken> {
        let flags = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS).cast_unsigned();
        let access = (libc::PROT_READ | libc::PROT_WRITE).cast_unsigned();
        let none = u64::MAX;
        let page = [0, PAGE, access.into(), flags.into(), none, 0];
        let at = make(led, tid, before, (libc::SYS_mmap.cast_unsigned(), page))?;
        let text = [path, &[0]].concat();
        if at > none - PAGE || text.len() as u64 > PAGE {
            return Ok(Some(error(libc::ENOMEM)));
        }
        if memory_unsafe::write_memory(tid, at, &text).is_err() {
            return Ok(Some(error(libc::EACCES)));
        }
        let mut arguments = [before.rdi, before.rsi, before.rdx, before.r10, before.r8, before.r9];
        if let Some(argument) = arguments.get_mut(index) {
            *argument = at;
        }
        let result = make(led, tid, before, (call, arguments))?;
        let is_execution =
            [libc::SYS_execve, libc::SYS_execveat].map(i64::cast_unsigned).contains(&call);
        if is_execution && result == 0 {
            return Ok(None);
        }
        let unmap = (libc::SYS_munmap.cast_unsigned(), [at, PAGE, 0, 0, 0, 0]);
        // The call was made, and is not made a second time.
        match make(led, tid, before, unmap) {
            Err(Broken::Lost) => Err(Broken::Lost),
            Ok(_) | Err(Broken::By(_)) => Ok(Some(result)),
        }
    }

    fn error(number: i32) -> u64 {
        u64::from(number.cast_unsigned()).wrapping_neg()
    }

    /// Has the thread make one call; what it said.
    fn make(
        led: &Led,
        tid: i32,
        before: &Registers,
        (call, [rdi, rsi, rdx, r10, r8, r9]): (u64, [u64; 6]),
    ) -> Result<u64, Broken> {
        let rip = before.rip.wrapping_sub(INSTRUCTION);
        let registers =
            Registers { rip, rax: call, orig_rax: NO_CALL, rdi, rsi, rdx, r10, r8, r9, ..*before };
        trace::set_registers(tid, &registers)?;
        for _begin_and_end in 0..2 {
            trace::go_on(tid)?;
            let status = led.next(tid)?;
            if !libc::WIFSTOPPED(status) {
                return Err(Broken::Lost);
            }
            if libc::WSTOPSIG(status) != trace::CALL {
                let is_signal = status >> 16 == 0;
                return Err(Broken::By(if is_signal { libc::WSTOPSIG(status) } else { 0 }));
            }
        }
        Ok(trace::registers(tid)?.rax)
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod turn {
    use std::io;

    use super::Led;

    pub(super) fn lead(
        _led: &Led,
        _tid: i32,
        _call: (i64, usize),
        _path: &[u8],
        _ways: (&dyn Fn() -> io::Result<()>, &dyn Fn() -> io::Result<()>),
    ) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stops_are_for_whoever_leads_and_ends_for_everybody() {
        let led = Led::default();
        // As waitpid(2) has a stop by SIGTRAP, and an end with status 3.
        let (stop, end) = (0x057f, 0x0300);
        assert!(!led.hear(7, stop), "nobody leads it");
        led.begin(7);
        assert!(led.hear(7, stop) && !led.hear(8, stop));
        assert_eq!(led.heard.lock().unwrap().get(&7), Some(&Some(stop)));
        assert!(!led.hear(7, end), "its parent waits for it too");
        assert_eq!(led.heard.lock().unwrap().get(&7), Some(&Some(end)));
        led.finish(7);
        assert!(!led.hear(7, stop));
    }
}
