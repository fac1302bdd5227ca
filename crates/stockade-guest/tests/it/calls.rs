//! What the calls do.

use std::cell::Cell;
use std::fs;
use std::net::Shutdown;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use stockade_guest::{CallError, Client, End, EntryKind, Exec, Stream};

use crate::{Served, run, serve_in, served, shell};

fn errno(error: &CallError) -> i32 {
    if let CallError::Refused { errno, .. } = error { *errno } else { 0 }
}

fn is_alive(pid: &str) -> bool {
    // A process that has ended and was not waited for is no more alive than one that is gone.
    let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !status.is_empty() && !status.contains(") Z ")
}

/// Waits for what comes about by itself, ten seconds at most.
fn eventually(what: &str, mut is_true: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !is_true() {
        assert!(Instant::now() < deadline, "never: {what}");
        thread::park_timeout(Duration::from_millis(10));
    }
}

#[test]
fn a_command_has_its_output_status_folder_environment_and_input() {
    let served = served();
    let folder = served.folder.path().canonicalize().unwrap();
    fs::create_dir(folder.join("sub")).unwrap();
    let exec = Exec {
        folder: Some("sub".into()),
        environment: Some(vec![
            ("A".into(), "b c".into()),
            ("PATH".into(), "/usr/bin:/bin".into()),
        ]),
        stdin: b"from the host".to_vec(),
        ..shell("pwd; echo \"$A\" >&2; cat; exit 7")
    };
    let (outcome, out, err) = run(&served.client, &exec);
    assert_eq!(outcome.end, End::Exited(7));
    let expected = format!("{}\nfrom the host", folder.join("sub").display());
    assert_eq!(String::from_utf8(out).unwrap(), expected);
    assert_eq!(err, b"b c\n");
    let (outcome, ..) = run(&served.client, &shell("kill -TERM $$"));
    assert_eq!(outcome.end, End::Killed(15));
}

#[test]
fn what_cannot_be_started_is_refused_and_the_place_goes_on() {
    let served = served();
    fs::write(served.folder.path().join("plain"), "").unwrap();
    let refused = |argv: &[&str], folder: &str| {
        let exec = Exec {
            argv: argv.iter().map(Into::into).collect(),
            folder: Some(folder.into()),
            ..Exec::default()
        };
        errno(&served.client.exec(&exec, &|| false, &mut |_, _| {}).unwrap_err())
    };
    assert_eq!(refused(&["no-such-program"], "."), 2);
    assert_eq!(refused(&["true"], "no-such-folder"), 2);
    assert_eq!(refused(&["true"], "plain"), 20);
    assert_eq!(refused(&["./plain"], "."), 13);
    assert_eq!(refused(&[], "."), 22);
    let long = "x".repeat(300 * 1024);
    assert_eq!(refused(&["echo", &long], "."), 7);
    served.client.ping().unwrap();
}

#[test]
fn much_output_and_much_input_arrive_whole() {
    let served = served();
    let input: Vec<u8> = (0..3_000_000_u32).map(|i| i.to_le_bytes()[0] ^ 0x5a).collect();
    let exec = Exec { stdin: input.clone(), ..shell("cat; cat /dev/null >&2") };
    let (outcome, out, _) = run(&served.client, &exec);
    assert_eq!(outcome.end, End::Exited(0));
    assert!(out == input, "{} bytes of {}", out.len(), input.len());
    // A command that reads nothing is not waited for.
    let (outcome, ..) = run(&served.client, &Exec { stdin: input, ..shell("exit 3") });
    assert_eq!(outcome.end, End::Exited(3));
}

#[test]
fn a_stalled_reader_stalls_its_own_call_only() {
    let served = served();
    let is_stopped = Cell::new(false);
    let mut count = 0_usize;
    let mut answered = 0;
    let exec = shell("yes");
    let outcome = served.client.exec(&exec, &|| is_stopped.get(), &mut |_, data| {
        // Each piece is held up by a call of its own, and another command.
        served.client.ping().unwrap();
        if answered < 3 {
            assert_eq!(run(&served.client, &shell("echo hi")).1, b"hi\n");
        }
        answered += 1;
        count += data.len();
        is_stopped.set(count > 2_000_000);
    });
    assert_eq!(outcome.unwrap().end, End::Stopped);
    assert!(answered > 3);
}

#[test]
fn a_command_whose_time_is_over_goes_with_its_group() {
    let served = served();
    let exec = Exec {
        timeout: Some(Duration::from_secs(2)),
        ..shell("sleep 1000 & echo $!; echo said >&2; wait")
    };
    let started = Instant::now();
    let (outcome, out, err) = run(&served.client, &exec);
    assert_eq!(outcome.end, End::TimedOut);
    assert_eq!(err, b"said\n", "output before the end is kept");
    assert!(started.elapsed() < Duration::from_mins(1));
    let pid = String::from_utf8(out).unwrap().trim().to_owned();
    eventually("the child of the command is gone", || !is_alive(&pid));
}

#[test]
fn a_command_that_is_stopped_goes_with_its_group() {
    let served = served();
    let pid = std::cell::RefCell::new(String::new());
    let outcome = served.client.exec(
        &shell("sleep 1000 & echo $!; wait"),
        &|| !pid.borrow().is_empty(),
        &mut |_, data| pid.borrow_mut().push_str(&String::from_utf8_lossy(data)),
    );
    assert_eq!(outcome.unwrap().end, End::Stopped);
    eventually("the child of the command is gone", || !is_alive(pid.borrow().trim()));
}

#[test]
fn what_a_command_leaves_behind_does_not_hold_up_its_end() {
    let served = served();
    let started = Instant::now();
    let (outcome, out, _) = run(&served.client, &shell("sleep 1000 & echo $!; echo done"));
    assert_eq!(outcome.end, End::Exited(0));
    assert!(started.elapsed() < Duration::from_mins(1));
    let text = String::from_utf8(out).unwrap();
    let (pid, rest) = text.split_once('\n').unwrap();
    assert_eq!(rest, "done\n");
    assert!(is_alive(pid), "it was only left alone");
    run(&served.client, &shell(&format!("kill {pid}")));
}

#[test]
fn a_slow_reader_gets_all_that_was_written_before_the_end() {
    let served = served();
    let exec = shell("head -c 400000 /dev/zero; sleep 0.4 & exit 0");
    let mut count = 0;
    let outcome = served.client.exec(&exec, &|| false, &mut |_, data| {
        // Longer than what is left open is waited for.
        thread::park_timeout(Duration::from_millis(300));
        count += data.len();
    });
    assert_eq!(outcome.unwrap().end, End::Exited(0));
    assert_eq!(count, 400_000);
}

#[test]
fn the_end_of_the_channel_ends_what_runs() {
    let folder = tempfile::tempdir().unwrap();
    let (host, serving) = serve_in(folder.path());
    let client = Client::connect(host.try_clone().unwrap(), host.try_clone().unwrap()).unwrap();
    let (sender, receiver) = mpsc::channel();
    let running = thread::spawn(move || {
        client.exec(&shell("echo $$; sleep 1000; true"), &|| false, &mut |_, data| {
            sender.send(String::from_utf8_lossy(data).into_owned()).unwrap();
        })
    });
    let pid = receiver.recv().unwrap();
    assert!(is_alive(pid.trim()));
    host.shutdown(Shutdown::Both).unwrap();
    assert!(matches!(running.join().unwrap(), Err(CallError::Lost)));
    serving.join().unwrap().ok();
    assert!(!is_alive(pid.trim()), "served until the command was gone");
}

#[test]
fn the_last_client_closes_the_channel() {
    let served = served();
    let other = served.client.clone();
    drop(served.client);
    other.ping().unwrap();
    drop(other);
    assert!(served.serving.join().unwrap().is_ok());
}

#[test]
fn files_are_read_written_and_deleted_in_place() {
    let served = served();
    let (client, folder) = (&served.client, served.folder.path());
    client.write_file("new/deep/file".as_ref(), Some(b"one")).unwrap();
    assert_eq!(fs::read(folder.join("new/deep/file")).unwrap(), b"one");
    let script = folder.join("script");
    fs::write(&script, "a longer text than what comes").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o750)).unwrap();
    fs::hard_link(&script, folder.join("other-name")).unwrap();
    client.write_file("script".as_ref(), Some(b"short")).unwrap();
    assert_eq!(fs::read(folder.join("other-name")).unwrap(), b"short");
    assert_eq!(fs::metadata(&script).unwrap().permissions().mode() & 0o777, 0o750);
    let big: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
    client.write_file("big".as_ref(), Some(&big)).unwrap();
    assert!(client.read_file("big".as_ref(), u64::MAX).unwrap() == big);
    assert_eq!(errno(&client.read_file("big".as_ref(), 3_999_999).unwrap_err()), 27);
    client.write_file("empty".as_ref(), Some(b"")).unwrap();
    assert_eq!(client.read_file("empty".as_ref(), 0).unwrap(), b"");
    client.write_file("empty".as_ref(), None).unwrap();
    assert_eq!(errno(&client.write_file("empty".as_ref(), None).unwrap_err()), 2);
    assert_eq!(errno(&client.read_file("empty".as_ref(), 9).unwrap_err()), 2);
    assert_eq!(errno(&client.read_file(".".as_ref(), 9).unwrap_err()), 21);
}

#[test]
fn a_fifo_or_a_device_is_refused_without_waiting() {
    let served = served();
    run(&served.client, &shell("mkfifo fifo"));
    for path in ["fifo", "/dev/zero"] {
        assert!(served.client.read_file(path.as_ref(), 10).is_err());
        assert!(served.client.write_file(path.as_ref(), Some(b"x")).is_err());
    }
}

#[test]
fn a_folder_is_listed_by_name_and_links_are_not_followed() {
    let served = served();
    let folder = served.folder.path();
    fs::write(folder.join("b"), "four").unwrap();
    fs::create_dir(folder.join("a")).unwrap();
    symlink("b", folder.join("c")).unwrap();
    let entries = served.client.list(".".as_ref()).unwrap();
    let seen: Vec<_> =
        entries.iter().map(|entry| (entry.name.to_str().unwrap(), entry.kind)).collect();
    assert_eq!(seen, [("a", EntryKind::Folder), ("b", EntryKind::File), ("c", EntryKind::Link)]);
    assert_eq!(entries[1].bytes, 4);
    assert_eq!(errno(&served.client.list("b".as_ref()).unwrap_err()), 20);
}

#[test]
fn a_search_finds_lines_and_leaves_out_what_nobody_looks_for() {
    let served = served();
    let folder = served.folder.path();
    for (path, text) in [
        ("src/a.rs", "one\nneedle 1\r\n"),
        ("src/b.rs", "needle 2\nneedle 3"),
        (".env.example", "needle 4\n"),
        (".gitignore", "ignored\n"),
        ("ignored", "needle\n"),
        (".git/config", "needle\n"),
        ("binary", "needle\n\0"),
        ("long", &format!("needle{}\n", "x".repeat(2000))),
    ] {
        fs::create_dir_all(folder.join(path).parent().unwrap()).unwrap();
        fs::write(folder.join(path), text).unwrap();
    }
    let found = |path: &str, max| served.client.search("ne+dle \\d", path.as_ref(), max).unwrap();
    let all: Vec<_> = found(".", 100).into_iter().map(|f| (f.path, f.line, f.text)).collect();
    let line = |path: &str, line, text: &str| (PathBuf::from(path), line, text.as_bytes().to_vec());
    assert_eq!(
        all,
        [
            line(".env.example", 1, "needle 4"),
            line("src/a.rs", 2, "needle 1"),
            line("src/b.rs", 1, "needle 2"),
            line("src/b.rs", 2, "needle 3"),
        ]
    );
    assert_eq!(found(".", 3).len(), 3);
    assert_eq!(found("src/b.rs", 9).first().unwrap().path, Path::new("src/b.rs"));
    assert_eq!(found("src", 9).first().unwrap().path, Path::new("src/a.rs"));
    let long = served.client.search("x+$", "long".as_ref(), 1).unwrap();
    assert_eq!(long.first().unwrap().text.len(), 500);
    assert_eq!(errno(&served.client.search("(", ".".as_ref(), 1).unwrap_err()), 22);
    assert_eq!(errno(&served.client.search("x", "nowhere".as_ref(), 1).unwrap_err()), 2);
}

#[test]
fn many_calls_at_once_each_get_their_own() {
    let served = served();
    thread::scope(|scope| {
        for number in 0..20 {
            let client = served.client.clone();
            scope.spawn(move || {
                let line = format!("i=0; while [ $i -lt 50 ]; do echo {number}; i=$((i+1)); done");
                let mut text = String::new();
                let outcome = client.exec(&shell(&line), &|| false, &mut |stream, data| {
                    assert_eq!(stream, Stream::Stdout);
                    text.push_str(&String::from_utf8_lossy(data));
                });
                assert_eq!(outcome.unwrap().end, End::Exited(0));
                assert_eq!(text, format!("{number}\n").repeat(50));
            });
        }
    });
}

#[test]
fn a_command_is_found_as_a_shell_finds_it_and_leads_a_session_of_its_own() {
    let Served { folder, client, serving } = served();
    let at = |name: &str| folder.path().join(name);
    let script = |name: &str, text: &str, mode: u32| {
        fs::create_dir_all(at(name).parent().unwrap()).unwrap();
        fs::write(at(name), text).unwrap();
        fs::set_permissions(at(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    script("first/told", "#!/bin/sh\necho first\n", 0o644);
    script("second/told", "#!/bin/sh\necho second \"$@\"\n", 0o755);
    script("here", "#!/bin/sh\necho here\n", 0o755);
    script("plain", "echo no first line\n", 0o755);
    fs::create_dir(at("first/here")).unwrap();
    let variables = |path: &str| {
        let all = [("PATH", "/nowhere"), ("X", "1"), ("PATH", path)];
        Some(all.map(|(name, value)| (name.into(), value.into())).into())
    };
    let said = |argv: &[&str], path: &str| {
        let argv = argv.iter().map(Into::into).collect();
        let exec = Exec { argv, environment: variables(path), ..Exec::default() };
        String::from_utf8(run(&client, &exec).1).unwrap()
    };
    // What may not be executed is passed over, and so is a folder of that name.
    assert_eq!(said(&["told", "a b"], "first:second:/usr/bin"), "second a b\n");
    assert_eq!(said(&["here"], "first::/usr/bin"), "here\n");
    assert_eq!(said(&["./here"], "/usr/bin"), "here\n");
    assert_eq!(said(&["plain"], ".:/usr/bin"), "no first line\n");
    assert_eq!(said(&["env"], "/usr/bin"), "X=1\nPATH=/usr/bin\n");
    let missing =
        Exec { argv: vec!["told".into()], environment: variables("first"), ..Exec::default() };
    let refused = client.exec(&missing, &|| false, &mut |_, _| {}).unwrap_err();
    assert_eq!(errno(&refused), libc::EACCES, "{refused}");

    // Process, group and session are one, no signal is blocked, and SIGPIPE ends what nobody reads.
    let line = "read -r _ _ _ _ group session _ < /proc/$$/stat; echo $(($$ == group)) $(($$ == session)); \
                grep -E 'Sig(Blk|Ign)' /proc/self/status";
    let told = said(&["sh", "-c", line], "/usr/bin:/bin");
    let rest = told.strip_prefix("1 1\nSigBlk:\t0000000000000000\nSigIgn:\t");
    let ignored = u64::from_str_radix(rest.unwrap_or_else(|| panic!("{told}")).trim(), 16).unwrap();
    assert_eq!(ignored & (1 << (libc::SIGPIPE - 1)), 0, "{told}");
    drop(client);
    serving.join().unwrap().unwrap();
}
