//! Any bytes as the diff of a hostile machine: a patch whose names are sound, or the line that is not taken.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stockade_threads::patch::Patch;

fuzz_target!(|text: &[u8]| match Patch::parse(text) {
    Ok(patch) => {
        for file in &patch.files {
            let path = file.path.as_bytes();
            assert!(!path.is_empty() && !path.starts_with(b"/"));
            for name in path.split(|&byte| byte == b'/') {
                assert!(!name.is_empty() && name != b"." && name != b"..");
                assert!(!name.eq_ignore_ascii_case(b".git"));
            }
        }
    }
    Err(error) => assert!(!error.to_string().is_empty()),
});
