//! Any text as a `.rules` file of Codex.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Err(error) = stockade_rules::import(text) {
        assert!(!error.to_string().is_empty());
    }
});
