//! Scripts of our own in the place of programs that are denied whatever they are told.
//!
//! What is judged when it is executed can be raced, or read as data and copied; what is not there
//! cannot.

use std::os::fd::OwnedFd;

use super::covers;
use super::failure::{Failure, step};
use super::mounts::{is_absent, open_quietly};
use crate::Stub;

/// Puts each stub over its program; `scratch` is the private tmpfs. A program that the view does
/// not show needs none.
pub(super) fn stand(scratch: &OwnedFd, stubs: &[Stub]) -> Result<(), Failure> {
    for (index, stub) in stubs.iter().enumerate() {
        let path = stub.path.as_path();
        let target = match open_quietly(path) {
            Ok(target) => target,
            Err(error) if is_absent(&error) => continue,
            Err(error) => return Err(step("open", path)(error)),
        };
        let name = format!("stub-{index}");
        let script = script(&stub.text);
        covers::make(scratch, &name, (0o555, script.as_bytes()))
            .map_err(step("make a stub for", path))?;
        covers::lay(scratch, &name, (&target, path))?;
    }
    Ok(())
}

/// Says the line on standard error, in the shell's own words only: nothing else is started.
fn script(text: &str) -> String {
    let text = text.replace(char::is_control, " ").replace('\'', r"'\''");
    format!("#!/bin/sh\nprintf '%s\\n' '{text}' >&2\nexit 126\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_ends_its_quotes() {
        let script = script("it's $(x)\nrm `y`");
        assert_eq!(script, "#!/bin/sh\nprintf '%s\\n' 'it'\\''s $(x) rm `y`' >&2\nexit 126\n");
    }
}
