//! Any stream as what a place says to the host's side of its channel.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| stockade_guest::fuzzing::host(bytes));
