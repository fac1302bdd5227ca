//! Any stream as what a machine that waits is told.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| stockade_guest::fuzzing::start(bytes));
