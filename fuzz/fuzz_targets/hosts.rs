//! Any text as a host: what is taken has one form, which is taken as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stockade_policy::{Host, HostEntry};

fuzz_target!(|text: &str| {
    if let Ok(host) = Host::new(text) {
        let form = host.to_string();
        assert_eq!(Host::new(&form).as_ref(), Ok(&host), "{text:?} becomes {form:?}");
        assert!(
            form.is_ascii() && !form.contains(|c: char| c.is_ascii_control() || c == ' '),
            "{form:?}"
        );
    }
    if let Ok(entry) = text.parse::<HostEntry>() {
        let form = entry.to_string();
        assert_eq!(form.parse::<HostEntry>().as_ref(), Ok(&entry), "{text:?} becomes {form:?}");
    }
});
