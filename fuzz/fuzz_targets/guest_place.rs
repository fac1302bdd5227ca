//! Any stream as what a host says to the place's side of the channel; nothing is carried out.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| stockade_guest::fuzzing::place(bytes));
