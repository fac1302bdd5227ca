//! Any text as a configuration file: an answer with its place, or none, and never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Err(error) = stockade_config::validate_text(text) {
        // To show where it is wrong is a part of it.
        assert!(!error.to_string().is_empty());
    }
});
