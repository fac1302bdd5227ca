//! Any datagram as a question for a name.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|packet: &[u8]| stockade_gateway::fuzzing::names(packet));
