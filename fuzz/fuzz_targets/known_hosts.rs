//! Any text as a file of keys of hosts.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| stockade_gateway::fuzzing::known_hosts(text));
