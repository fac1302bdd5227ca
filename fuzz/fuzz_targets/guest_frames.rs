//! Any stream as frames of the channel into a place, from either side.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| stockade_guest::fuzzing::frames(bytes));
