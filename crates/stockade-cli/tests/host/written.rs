//! What is written and closed is nobody's any more: PID 1 opened it, and holds it no longer than the
//! program does.

use super::{Home, text};

/// A machine that is busy lets PID 1 wait for its turn while the program already goes on.
const BUSY: &str = "for i in 1 2 3; do (while :; do :; done) & done\n";

#[test]
fn what_was_just_written_can_be_executed_and_its_lock_is_free() {
    let home = Home::new();
    let script = "cd src; i=0
        while [ $i -lt 150 ]; do
            cp /bin/true p$i && ./p$i || exit 1
            i=$((i+1))
        done
        python3 -c '
import fcntl, os
for _ in range(500):
    file = open(\"lock\", \"w\")
    fcntl.flock(file, fcntl.LOCK_EX)
    file.close()
    other = os.open(\"lock\", os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(other)
' && echo all";
    let output = home.run(&[], &format!("{BUSY}{script}"));
    assert!(output.status.success() && text(&output).contains("all\n"), "{}", text(&output));
}
