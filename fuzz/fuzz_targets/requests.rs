//! Any stream as HTTP/1 requests to one host, cut anywhere.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u16, &[u8])| {
    stockade_gateway::fuzzing::requests(input.1, input.0.into());
    stockade_gateway::fuzzing::head(input.1);
});
