//! Any text as a repository's configuration: what is refused once is refused with more.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use stockade_policy::git_config::{Change, check_change, check_new};

fuzz_target!(|text: &[u8]| {
    // Nothing changes: nothing is refused, if it can be read.
    let folder = Path::new("/work/project/.git");
    let same = Change { before: text, current: text, new: text, is_new: false, folder };
    let readable = check_change(&Change { before: b"", current: b"", new: b"", ..same }).is_ok();
    assert!(readable, "an empty file");
    if check_new(text, folder).is_ok() {
        assert!(check_change(&same).is_ok(), "what may be new may stay");
        let hooks = [text, b"\n[core]\n\thooksPath = /tmp/x\n"].concat();
        assert!(check_new(&hooks, folder).is_err(), "hooks elsewhere");
    }
});
