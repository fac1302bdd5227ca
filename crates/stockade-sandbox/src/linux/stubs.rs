//! Scripts of our own in the place of programs that are denied whatever they are told.
//!
//! What is judged when it is executed can be raced, or read as data and copied; what is not there
//! cannot.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};

use super::failure::{Failure, step};
use super::mounts::{attach_on, close, is_absent, open_quietly, subtree};
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
        make(scratch, &name, &script(&stub.text)).map_err(step("make a stub for", path))?;
        let tree = subtree(scratch, &name)?;
        close(&tree, path)?;
        attach_on(&tree, &target).map_err(step("mount over", path))?;
    }
    Ok(())
}

fn make(scratch: &OwnedFd, name: &str, script: &str) -> io::Result<()> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(scratch, name, flags, Mode::from_raw_mode(0o555))?;
    // Made under the user's umask.
    rustix::fs::fchmod(&file, Mode::from_raw_mode(0o555))?;
    File::from(file).write_all(script.as_bytes())
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
