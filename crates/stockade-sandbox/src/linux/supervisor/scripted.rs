//! A shell of a test's own, which goes on when it is told: `echo; read go` in its script is where it waits.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

pub(super) struct Scripted {
    child: Child,
    go: ChildStdin,
    said: BufReader<ChildStdout>,
}

impl Scripted {
    /// Starts it, up to where it waits first.
    pub(super) fn start(script: &str) -> Self {
        let mut child = Command::new("/bin/sh")
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (go, said) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut scripted = Self { child, go, said: BufReader::new(said) };
        scripted.wait();
        scripted
    }

    fn wait(&mut self) {
        self.said.read_line(&mut String::new()).unwrap();
    }

    pub(super) fn id(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// Lets it go on, up to where it waits next.
    pub(super) fn go_on(&mut self) {
        self.go.write_all(b"\n").unwrap();
        self.wait();
    }

    /// Lets it end.
    pub(super) fn end(self) {
        let Self { mut child, go, said: _ } = self;
        drop(go);
        child.wait().unwrap();
    }
}
