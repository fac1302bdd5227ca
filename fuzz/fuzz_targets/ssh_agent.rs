//! Any bytes as a message to the ssh agent.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|message: &[u8]| stockade_gateway::fuzzing::agent(message));
