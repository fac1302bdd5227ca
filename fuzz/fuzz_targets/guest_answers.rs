//! Any bytes as a place's answer to a listing and to a search.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| stockade_guest::fuzzing::answers(bytes));
