//! The processor's time stamp counter.
#![expect(unsafe_code, reason = "the instruction that reads the counter has no safe form")]

/// The counter's present value.
pub(crate) fn read() -> u64 {
    // SAFETY: every x86-64 processor has the instruction, and it touches no memory. It can be
    // forbidden to a process (PR_SET_TSC), which is then ended by a signal; nobody does so here.
    unsafe { core::arch::x86_64::_rdtsc() }
}
