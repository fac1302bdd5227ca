//! `bench/vm`: what a machine costs, beside a plain QEMU boot of the same kernel, interleaved in
//! one run. Emulated, as that is what every machine has; `--kvm` where KVM works. `boot`, `calls`,
//! `large` or `image` measure that part alone.
//!
//! "Plain" is the same machine and kernel without disks, until the first line of its PID 1: what no
//! product could be faster than. Read medians and ratios; milliseconds are this machine's.

use std::error::Error;
use std::fs;
use std::io::{BufRead as _, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use stockade_guest::{Client, End, Exec, TRIAL, TRIAL_PASSED, counter_khz};
use stockade_vm::{Accelerator, Phase, Progress, Vm, VmSpec};

const ROUNDS: usize = 9;
/// Rounds of commands, in turns with as many of a shell inside.
const TURNS: usize = 15;
const CALLS: u32 = 20;
/// Files of the large repository.
const FILES: u32 = 50_000;
/// DESIGN §13: a microVM at most so many times the bare boot of the same kernel.
const BOOT_BUDGET: f64 = 1.3;
/// A start from a template, of what a boot takes.
const TEMPLATE_BUDGET: f64 = 0.33;
/// Milliseconds that a command's way through the channel may add.
const CALL_BUDGET: f64 = 1.0;
/// The first `git status` of a large repository, of what the same takes on the guest's own disk.
const LARGE_BUDGET: f64 = 1.3;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let is_kvm = arguments.iter().any(|argument| argument == "--kvm");
    let parts: Vec<&String> =
        arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let is_wanted = |part: &str| parts.is_empty() || parts.iter().any(|wanted| *wanted == part);
    let bench = Bench {
        cache: Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/vm-cache"),
        accelerator: if is_kvm { Accelerator::Kvm } else { Accelerator::Emulation },
        is_booted: false,
        is_root: false,
    };
    // What is built once is built before anything is measured.
    bench.machine()?.vm.stop()?;
    let mut out = std::io::stdout();
    writeln!(out, "| what | median ms | beside | budget | |\n|---|---|---|---|---|")?;
    if is_wanted("boot") {
        bench.boots(&mut out)?;
    }
    if is_wanted("calls") {
        bench.calls(&mut out)?;
    }
    if is_wanted("large") {
        bench.large(&mut out)?;
    }
    if is_wanted("image") {
        bench.image(&mut out)?;
    }
    Ok(())
}

fn verdict(is_held: bool) -> &'static str {
    if is_held { "held" } else { "**over**" }
}

#[derive(Clone)]
struct Bench {
    cache: PathBuf,
    accelerator: Accelerator,
    /// Whether its machines are booted, template or not.
    is_booted: bool,
    /// Whether commands are root there.
    is_root: bool,
}

struct Machine {
    vm: Vm,
    boot: Duration,
    image: Duration,
    disk: Duration,
    /// Removed with it.
    state: tempfile::TempDir,
}

impl Bench {
    /// Boots and starts, in turns with plain ones.
    fn boots(&self, out: &mut impl Write) -> Outcome<()> {
        let boots = Self { is_booted: true, ..self.clone() };
        let (mut plain, mut booted, mut begun) = (Vec::new(), Vec::new(), Vec::new());
        let (mut ready_booted, mut ready) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            plain.push(self.plain()?);
            for (bench, boot, ready) in
                [(&boots, &mut booted, &mut ready_booted), (self, &mut begun, &mut ready)]
            {
                let started = Instant::now();
                let machine = bench.machine()?;
                run(machine.vm.client(), &["true"])?;
                ready.push(started.elapsed());
                boot.push(machine.boot);
                machine.vm.stop()?;
            }
        }
        let (plain, booted, begun) = (median(plain), median(booted), median(begun));
        let [ready_booted, ready] = [ready_booted, ready].map(median);
        writeln!(out, "| plain boot of the kernel to PID 1 | {plain:.0} | | | |")?;
        writeln!(
            out,
            "| boot to the agent's greeting | {booted:.0} | {:.2} × plain | {BOOT_BUDGET} × | {} |",
            booted / plain,
            verdict(booted / plain <= BOOT_BUDGET)
        )?;
        writeln!(
            out,
            "| start from a template to the agent's greeting | {begun:.0} | {:.2} × plain, {:.2} × the boot | \
             {TEMPLATE_BUDGET} × the boot | {} |",
            begun / plain,
            begun / booted,
            verdict(begun / booted <= TEMPLATE_BUDGET)
        )?;
        for (how, ready) in [("by a boot", ready_booted), ("from a template", ready)] {
            writeln!(
                out,
                "| all of it {how}, to the end of a first command | {ready:.0} | {:.2} × plain | | |",
                ready / plain
            )?;
        }
        Ok(())
    }

    fn machine(&self) -> Outcome<Machine> {
        let state = tempfile::tempdir()?;
        let repository = state.path().join("clone");
        fs::create_dir(&repository)?;
        fs::write(repository.join("file"), "content")?;
        self.with(state)
    }

    /// A machine whose repository is `clone` in `state`.
    fn with(&self, state: tempfile::TempDir) -> Outcome<Machine> {
        let repository = state.path().join("clone");
        let spec = VmSpec {
            cache: self.cache.clone(),
            state: state.path().to_owned(),
            repository,
            folder: "/work".into(),
            is_root: self.is_root,
            toolchains: Vec::new(),
            program: Vec::new(),
            memory_bytes: 1 << 30,
            cpus: 1,
            disk_bytes: 1 << 30,
            setup: None,
            is_booted: self.is_booted,
            accelerator: Some(self.accelerator),
            walls: None,
        };
        let [mut boot, mut image, mut disk] = [Duration::ZERO; 3];
        let vm = Vm::boot(&spec, &|| false, &mut |step| match step {
            Progress::Finished(Phase::Boot, took) => boot = took,
            Progress::Finished(Phase::Image, took) => image = took,
            Progress::Finished(Phase::Disk, took) => disk = took,
            Progress::Started(_) | Progress::Note(_) => {}
        })?;
        Ok(Machine { vm, boot, image, disk, state })
    }

    /// The file of the cache that was used last.
    fn cached(&self, stem: &str) -> Outcome<PathBuf> {
        let is_one = |path: &PathBuf| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(stem))
        };
        let files = fs::read_dir(&self.cache)?.flatten().map(|entry| entry.path()).filter(is_one);
        let latest =
            files.max_by_key(|path| fs::metadata(path).and_then(|data| data.modified()).ok());
        Ok(latest.ok_or("nothing is cached")?)
    }

    /// Starts the kernel with nothing but a PID 1, until that has said a line.
    fn plain(&self) -> Outcome<Duration> {
        let (accelerator, cpu) = match self.accelerator {
            Accelerator::Kvm => ("kvm", "host"),
            Accelerator::Emulation => ("tcg", "max"),
        };
        let words = format!(
            "quiet loglevel=3 console=ttyS0 panic=-1 reboot=t random.trust_cpu=on \
             no_timer_check tsc_early_khz={} {TRIAL}",
            counter_khz()
        );
        let started = Instant::now();
        let mut child = Command::new("qemu-system-x86_64")
            .args(["-M", "microvm,x-option-roms=off,pit=off,pic=off,rtc=on", "-bios", "qboot.rom"])
            .args(["-accel", accelerator, "-cpu", cpu, "-m", "1024M", "-smp", "1"])
            .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
            .args(["-serial", "stdio", "-append", &words, "-kernel"])
            .arg(self.cached("kernel-")?)
            .arg("-initrd")
            .arg(self.cached("initramfs-")?)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let out = BufReader::new(child.stdout.take().ok_or("no output")?);
        let passed = out.lines().map_while(Result::ok).any(|line| line.contains(TRIAL_PASSED));
        let took = started.elapsed();
        child.kill()?;
        child.wait()?;
        if passed { Ok(took) } else { Err("the plain boot failed".into()) }
    }

    /// Calls, in turns with commands that a shell inside starts.
    fn calls(&self, out: &mut impl Write) -> Outcome<()> {
        let machine = self.machine()?;
        let client = machine.vm.client();
        let (mut pings, mut lists, mut commands) = (Vec::new(), Vec::new(), Vec::new());
        let (mut forks, mut added) = (Vec::new(), Vec::new());
        let shell = |count: u32| {
            let line = format!("i=0; while [ $i -lt {count} ]; do /bin/true; i=$((i+1)); done");
            timed(|| run(client, &["sh", "-c", &line]))
        };
        for _ in 0..TURNS {
            let mut round = Vec::new();
            for _ in 0..CALLS {
                pings.push(timed(|| Ok(client.ping()?))?);
                lists.push(timed(|| Ok(client.list("..".as_ref()).map(drop)?))?);
                round.push(timed(|| run(client, &["/bin/true"]))?);
            }
            // Without the shell's own start.
            let fork = shell(CALLS)?.saturating_sub(shell(0)?) / CALLS;
            added.push(median(round.clone()) - millis(fork));
            forks.push(fork);
            commands.extend(round);
        }
        added.sort_by(f64::total_cmp);
        let added = added.get(TURNS / 2).copied().unwrap_or_default();
        writeln!(out, "| ping | {:.2} | | | |", median(pings))?;
        writeln!(out, "| a call that starts nothing | {:.2} | | | |", median(lists))?;
        writeln!(
            out,
            "| fork and exec of `true` by a shell inside | {:.2} | | | |",
            median(forks)
        )?;
        writeln!(
            out,
            "| the same by a call | {:.2} | {added:+.2} ms, in the median round | {CALL_BUDGET} ms | {} |",
            median(commands),
            verdict(added <= CALL_BUDGET)
        )?;
        run(client, &["sh", "-c", "head -c 67108864 /dev/zero > much"])?;
        let mut length = 0;
        let took = timed(|| {
            length = client.read_file("much".as_ref(), u64::MAX)?.len();
            Ok(())
        })?;
        let rate = f64::from(u32::try_from(length >> 20)?) / took.as_secs_f64();
        writeln!(
            out,
            "| a file of 64 MiB out of it | {:.0} | {rate:.0} MiB/s | | |",
            millis(took)
        )?;
        Ok(machine.vm.stop()?)
    }
}

impl Bench {
    /// A large repository, from the start of its machine to the first `git status`, beside the first one
    /// of a clone that the guest has made on its disk. Root there, who alone can empty its caches.
    fn large(&self, out: &mut impl Write) -> Outcome<()> {
        let bench = Self { is_root: true, ..self.clone() };
        bench.machine()?.vm.stop()?;
        let state = tempfile::tempdir()?;
        repository(&state.path().join("clone"))?;
        let started = Instant::now();
        let machine = bench.with(state)?;
        let client = machine.vm.client();
        let status = |folder: &str| {
            let line = ["git", "-C", folder, "-c", "safe.directory=*", "status", "--porcelain"];
            timed(|| run(client, &line)).map(millis)
        };
        let first = status(".")?;
        let all = millis(started.elapsed());
        let second = status(".")?;
        memory(&machine, out)?;
        let clone = "git -c safe.directory='*' clone -q . .git/copy && sync && \
                    echo 3 > /proc/sys/vm/drop_caches";
        run(client, &["sh", "-c", clone])?;
        let cloned = status(".git/copy")?;
        run(client, &["sh", "-c", "echo 3 > /proc/sys/vm/drop_caches"])?;
        let again = status(".")?;
        writeln!(
            out,
            "| {FILES} files, from the start to the end of `git status` | {all:.0} | the disk {:.0}, the \
             boot {:.0} | | |",
            millis(machine.disk),
            millis(machine.boot),
        )?;
        writeln!(
            out,
            "| that first `git status` | {first:.0} | {:.2} × the first one of a clone made on the guest's disk \
             ({cloned:.0}) | {LARGE_BUDGET} × | {} |",
            first / cloned,
            verdict(first / cloned <= LARGE_BUDGET)
        )?;
        writeln!(
            out,
            "| a second one, and one with empty caches | {second:.0} | {again:.0} | | |"
        )?;
        Ok(machine.vm.stop()?)
    }

    /// The image of the system, built anew in a cache of its own.
    fn image(&self, out: &mut impl Write) -> Outcome<()> {
        let cache = self.cache.with_extension("new");
        let fresh = Self { cache: cache.clone(), ..self.clone() };
        let first = fresh.machine()?;
        let built = millis(first.image);
        first.vm.stop()?;
        let mut found = Vec::new();
        for _ in 0..ROUNDS {
            let next = fresh.machine()?;
            found.push(next.image);
            next.vm.stop()?;
        }
        let found = median(found);
        fs::remove_dir_all(cache)?;
        writeln!(
            out,
            "| kernel, image of the system and template, once | {built:.0} | {found:.0} ms for each machine \
             after | | |"
        )?;
        Ok(())
    }
}

/// What QEMU holds of the host's memory, beside what the guest says that it uses.
fn memory(machine: &Machine, out: &mut impl Write) -> Outcome<()> {
    let state = machine.state.path().to_string_lossy().into_owned();
    let mut held: u64 = 0;
    for process in fs::read_dir("/proc")?.flatten() {
        let path = process.path();
        let line = fs::read(path.join("cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&line).contains(&state) {
            held += kib(&fs::read_to_string(path.join("smaps_rollup")).unwrap_or_default(), "Pss:");
        }
    }
    let inside =
        String::from_utf8(machine.vm.client().read_file("/proc/meminfo".as_ref(), 1 << 16)?)?;
    let used = kib(&inside, "MemTotal:") - kib(&inside, "MemFree:");
    writeln!(
        out,
        "| memory of QEMU, MiB | {} | {} MiB are not free in the guest | | |",
        held >> 10,
        used >> 10
    )?;
    Ok(())
}

fn kib(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.unwrap_or(0)
}

fn run(client: &Client, argv: &[&str]) -> Outcome<()> {
    let exec = Exec { argv: argv.iter().map(Into::into).collect(), ..Exec::default() };
    let outcome = client.exec(&exec, &|| false, &mut |_, _| {})?;
    if outcome.end == End::Exited(0) {
        Ok(())
    } else {
        Err(format!("{argv:?}: {outcome:?}").into())
    }
}

/// A repository of [`FILES`] files.
fn repository(clone: &Path) -> Outcome<()> {
    for folder in 0..FILES / 100 {
        let folder = clone.join(format!("d{}/d{folder}", folder % 20));
        fs::create_dir_all(&folder)?;
        for file in 0..100 {
            fs::write(folder.join(format!("f{file}.txt")), format!("{file}\n"))?;
        }
    }
    let git = "git init -q && git add -A && git -c user.name=b -c user.email=b@example.org \
               commit -q -m b && git update-index -q --refresh";
    if !Command::new("sh").args(["-c", git]).current_dir(clone).status()?.success() {
        return Err("no repository".into());
    }
    Ok(())
}

fn timed(act: impl FnOnce() -> Outcome<()>) -> Outcome<Duration> {
    let started = Instant::now();
    act()?;
    Ok(started.elapsed())
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// In milliseconds.
fn median(mut durations: Vec<Duration>) -> f64 {
    durations.sort();
    durations.get(durations.len() / 2).copied().map_or(0.0, millis)
}
