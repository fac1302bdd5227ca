//! Any stream as the hello of TLS.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|stream: &[u8]| stockade_gateway::fuzzing::hello(stream));
