//! The one program that Stockade puts into a microVM, and beside its machine.
//!
//! | started as | is |
//! |---|---|
//! | PID 1 | the guest's init: mounts, starts the second form, reaps, switches the machine off |
//! | `stockade-guest serve FOLDER` | serves the channel on its standard input, as an ordinary user |
//! | `stockade-guest docker` | waits until somebody speaks to Docker, and becomes its service |
//! | `stockade-guest hold PARENT COMMAND…` | on the host: COMMAND, which dies with its PARENT |

mod docker;
mod full;
mod hold;
mod init;
mod machine;
mod mounts;

use std::ffi::OsString;
use std::fmt::Display;
use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::process::ExitCode;

use rustix::process::DumpableBehavior;
use stockade_guest::{ServeOptions, serve};

fn main() -> ExitCode {
    if std::process::id() == 1 {
        return init::run();
    }
    let mut arguments = std::env::args_os().skip(1);
    let result = match arguments.next() {
        Some(form) if form == "serve" => serve_channel(arguments.next()),
        Some(form) if form == "docker" => docker::run(),
        Some(form) if form == "hold" => hold::run(arguments),
        _ => Err(Failure::new("start", "one of its forms: PID 1, `serve`, `docker`, `hold`")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            say(&failure);
            ExitCode::from(125)
        }
    }
}

/// What could not be done, to what, and why.
#[derive(Debug)]
struct Failure(String);

impl Failure {
    fn new(step: &str, what: impl Display) -> Self {
        Self(format!("cannot {step} {what}"))
    }

    fn because(step: &str, what: impl Display, error: &dyn Display) -> Self {
        Self(format!("cannot {step} {what}: {error}"))
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[expect(clippy::print_stderr, reason = "its only way to say why; in a guest it is the console")]
fn say(what: &dyn Display) {
    eprintln!("stockade-guest: {what}");
}

fn serve_channel(folder: Option<OsString>) -> Result<(), Failure> {
    let folder = folder.ok_or_else(|| Failure::new("serve", "no folder"))?;
    // What it starts runs as the same user, and would otherwise reach the channel through /proc.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|error| Failure::because("hide", "the channel", &error))?;
    let taken = |error| Failure::because("take", "the channel", &error);
    let reader = std::io::stdin().as_fd().try_clone_to_owned().map(File::from).map_err(taken)?;
    let writer = reader.try_clone().map_err(taken)?;
    let options = ServeOptions { folder: PathBuf::from(folder) };
    serve(reader, writer, options).map_err(|error| Failure::because("serve", "the host", &error))
}
