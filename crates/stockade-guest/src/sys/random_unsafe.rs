//! The kernel's random numbers.
#![expect(unsafe_code, reason = "rustix has no calls for the kernel's random numbers")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;

/// `_IOW('R', 0x03, int [2])` and `_IO('R', 0x07)`, as asm-generic/ioctl.h counts them: of x86-64 and aarch64.
const RNDADDENTROPY: libc::Ioctl = 0x4008_5203;
const RNDRESEEDCRNG: libc::Ioctl = 0x5207;

/// `struct rand_pool_info` of linux/random.h, with room for what is added here.
#[repr(C)]
struct Pool<const N: usize> {
    entropy_count: libc::c_int,
    buf_size: libc::c_int,
    bytes: [u8; N],
}

/// Adds `seed` to the kernel's random numbers, and has every processor draw anew from what comes of that.
///
/// The second call is what makes it count at once: bytes that are only added wait for the next time that the
/// kernel looks at them, up to minutes (drivers/char/random.c, `crng_reseed_interval`).
pub(crate) fn reseed<const N: usize>(seed: &[u8; N]) -> io::Result<()> {
    let size = libc::c_int::try_from(N).map_err(io::Error::other)?;
    let pool = Pool { entropy_count: size * 8, buf_size: size, bytes: *seed };
    let device = File::options().write(true).open("/dev/urandom")?;
    // SAFETY: `RNDADDENTROPY` reads two integers and as many bytes as the second says, all of `pool`.
    let added = unsafe { libc::ioctl(device.as_raw_fd(), RNDADDENTROPY, &raw const pool) };
    if added != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `RNDRESEEDCRNG` takes no argument.
    let drawn = unsafe { libc::ioctl(device.as_raw_fd(), RNDRESEEDCRNG) };
    if drawn == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
