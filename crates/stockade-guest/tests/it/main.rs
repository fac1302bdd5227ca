//! Both sides of the channel on a socket pair, and each side alone against a hostile other.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod calls;
mod hostile;
mod outlet;
mod terminal;

use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread::{self, JoinHandle};

use stockade_guest::{Client, Exec, ExecOutcome, ServeOptions, Stream, serve};

/// A place that is served from a thread, in a folder of its own.
struct Served {
    folder: tempfile::TempDir,
    client: Client,
    serving: JoinHandle<io::Result<()>>,
}

fn served() -> Served {
    let folder = tempfile::tempdir().unwrap();
    let (host, serving) = serve_in(folder.path());
    let client = Client::connect(host.try_clone().unwrap(), host).unwrap();
    Served { folder, client, serving }
}

/// The host's end of a channel whose other end is served.
fn serve_in(folder: &Path) -> (UnixStream, JoinHandle<io::Result<()>>) {
    let (host, place) = UnixStream::pair().unwrap();
    let options = ServeOptions { folder: folder.to_owned() };
    let serving = thread::spawn(move || serve(place.try_clone().unwrap(), place, options));
    (host, serving)
}

fn shell(line: &str) -> Exec {
    Exec { argv: ["sh", "-c", line].map(Into::into).into(), ..Exec::default() }
}

/// Runs to the end; what came on standard output and on standard error.
fn run(client: &Client, exec: &Exec) -> (ExecOutcome, Vec<u8>, Vec<u8>) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let outcome = client.exec(exec, &|| false, &mut |stream, data| match stream {
        Stream::Stdout => out.extend_from_slice(data),
        Stream::Stderr => err.extend_from_slice(data),
    });
    (outcome.unwrap(), out, err)
}
