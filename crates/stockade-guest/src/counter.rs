//! How fast the processor's time stamp counter runs.
//!
//! An emulated guest sees the host's counter and has no other clock to hold it against: a kernel
//! that has to find out by itself does so by a timer chip, fails when the host is busy, and then
//! waits for ever for a timer that it could not set. So the host measures and tells.

use std::time::{Duration, Instant};

use rustix::event::{Timespec, poll};

use crate::sys::counter_unsafe;

/// Long enough for an error below a ten-thousandth.
const SPAN: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

/// Both clocks are read within so much of each other, or read again.
const NEAR: Duration = Duration::from_micros(2);

/// Thousands of ticks a second, measured over 20 ms.
pub fn counter_khz() -> u64 {
    let (ticks, at) = both();
    // Ending early is no harm: what has passed is measured.
    poll(&mut [], Some(&SPAN)).ok();
    let (later_ticks, later) = both();
    let nanoseconds = later.duration_since(at).as_nanos().max(1);
    let ticks = u128::from(later_ticks.wrapping_sub(ticks));
    u64::try_from(ticks * 1_000_000 / nanoseconds).unwrap_or(u64::MAX)
}

/// The counter and the clock, at nearly the same moment.
fn both() -> (u64, Instant) {
    let mut read = (0, Instant::now());
    for _ in 0..100 {
        let before = Instant::now();
        read = (counter_unsafe::read(), Instant::now());
        if read.1.duration_since(before) <= NEAR {
            break;
        }
    }
    read
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_measurements_agree() {
        let (one, other) = (counter_khz(), counter_khz());
        assert!(one > 100_000, "{one} kHz");
        assert!(one.abs_diff(other) * 1000 < one, "{one} and {other} kHz");
    }
}
