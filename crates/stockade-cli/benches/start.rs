//! What a start costs: `true` bare, under bubblewrap where it is installed, and by
//! `stockade run`, in turns, in a home that holds every hidden path.
//!
//! `cargo bench --package stockade-cli`. Wall time only; `bench/compare` has CPU time, walks
//! over many files, a compile, a test run and the memory of the supervisor.
#![expect(clippy::print_stdout, reason = "the figures are the output")]

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use stockade_policy::names::HIDDEN_IN_HOME;

const ROUNDS: usize = 200;

/// One way to run a command.
struct Kind {
    name: &'static str,
    prefix: Vec<String>,
    seen: Vec<Duration>,
}

fn main() -> Result<(), Box<dyn Error>> {
    // Below the build folder: the private temporary folders would not show it.
    let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let home = place.path().join("home");
    let work = home.join("work");
    fs::create_dir_all(&work)?;
    for name in HIDDEN_IN_HOME {
        fs::create_dir_all(home.join(name))?;
    }
    let mut kinds = kinds(&work);
    for kind in &kinds {
        once(kind, &home, &work)?;
    }
    for round in 0..ROUNDS {
        let first = round % kinds.len();
        for offset in 0..kinds.len() {
            let index = (first + offset) % kinds.len();
            if let Some(kind) = kinds.get_mut(index) {
                let took = once(kind, &home, &work)?;
                kind.seen.push(took);
            }
        }
    }
    for kind in &mut kinds {
        kind.seen.sort_unstable();
    }
    print(&kinds);
    Ok(())
}

fn kinds(work: &Path) -> Vec<Kind> {
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let kind = |name, prefix| Kind { name, prefix, seen: Vec::new() };
    let mut kinds = vec![kind("bare", Vec::new())];
    if Path::new("/usr/bin/bwrap").exists() {
        let mut prefix = words("/usr/bin/bwrap --ro-bind / / --dev /dev --proc /proc --tmpfs /tmp");
        let work = work.to_string_lossy().into_owned();
        prefix.extend(["--bind".to_owned(), work.clone(), work.clone()]);
        prefix.extend(words("--unshare-all --die-with-parent --chdir"));
        prefix.extend([work, "--".to_owned()]);
        kinds.push(kind("bubblewrap", prefix));
    }
    let stockade = [env!("CARGO_BIN_EXE_stockade"), "run", "-q", "--"].map(str::to_owned);
    kinds.push(kind("stockade", stockade.into()));
    kinds
}

fn once(kind: &Kind, home: &Path, work: &Path) -> Result<Duration, Box<dyn Error>> {
    let mut words = kind.prefix.clone();
    words.push("/bin/true".to_owned());
    let (program, arguments) = words.split_first().ok_or("no command")?;
    let mut command = Command::new(program);
    command.args(arguments).current_dir(work).env_clear().stdin(Stdio::null());
    command.env("HOME", home).env("PATH", "/usr/bin:/bin");
    let start = Instant::now();
    let status = command.status()?;
    let took = start.elapsed();
    if status.success() { Ok(took) } else { Err(format!("{}: {status}", kind.name).into()) }
}

fn print(kinds: &[Kind]) {
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let at = |kind: &Kind, share: usize| {
        kind.seen.get(kind.seen.len() * share / 100).copied().unwrap_or_default()
    };
    println!("{:<12} {:>9} {:>9} {:>9}", "start", "5 % ms", "median ms", "95 % ms");
    for kind in kinds {
        let [low, median, high] = [5, 50, 95].map(|share| ms(at(kind, share)));
        println!("{:<12} {low:>9.2} {median:>9.2} {high:>9.2}", kind.name);
    }
}
