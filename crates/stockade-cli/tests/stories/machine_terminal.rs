//! A command in a machine, with a person at a real terminal.

use std::io::{BufRead as _, BufReader};
use std::process::Command;

use serde_json::Value;
use stockade_testkit::model::{FakeModel, Step};

use crate::machine::{is_there, nobody, shown, small};
use crate::place::{Place, users};
use crate::tmux::Tmux;

/// Emulated machines on a busy host are slow, and the first one has its system made.
const SECONDS: u32 = 280;

/// Flags of the user's terminal, by its name.
fn settings(tmux: &Tmux) -> String {
    let tty = tmux.run(&["display-message", "-p", "#{pane_tty}"]).stdout;
    let tty = String::from_utf8(tty).unwrap();
    let said = Command::new("stty").args(["-a", "-F", tty.trim()]).output().unwrap();
    assert!(said.status.success(), "{said:?}");
    String::from_utf8(said.stdout).unwrap()
}

fn is_raw(settings: &str) -> bool {
    let flags = ["-icanon", "-isig", "-echo ", "-opost"];
    assert!(flags.iter().all(|flag| settings.contains(flag)) || !settings.contains(flags[0]));
    settings.contains(flags[0])
}

/// The window gets another size, which the command has seen, and another command is interrupted.
pub(crate) fn resize_and_interrupt(tmux: &Tmux) {
    let kind = |text: &str| drop(tmux.run(&["send-keys", text, "Enter"]));
    let see = |text: &str| drop(tmux.screen_within(SECONDS, text));
    tmux.run(&["resize-window", "-x", "72", "-y", "41"]);
    kind("until stty size | grep -q '41 72'; do sleep 0.1; done; echo resized-$((1+1))");
    see("resized-2");
    kind("echo sleeping-$((1+1)); sleep 600");
    see("sleeping-2");
    tmux.run(&["send-keys", "C-c"]);
}

/// Threat model, T1: "The user's terminal cannot be written to later, opened, reconfigured or fed
/// with input."
#[test]
fn a_command_in_a_machine_has_a_terminal_and_the_users_is_given_back() {
    let (true, Some(tmux)) = (is_there(), Tmux::new()) else { return };
    let place = small();
    assert_eq!(users().last(), users().iter().max(), "an ordinary user");
    tmux.start(&place.command(&nobody(), &["cloud", "--", "bash", "--norc"]));
    let kind = |text: &str| drop(tmux.run(&["send-keys", text, "Enter"]));
    let see = |text: &str| tmux.screen_within(SECONDS, text);
    see("bash-");
    assert!(is_raw(&settings(&tmux)));
    kind("stty size; echo two > src/a.txt; echo $TERM $(tty) $(id -un)");
    let screen = see("/dev/pts/0 agent");
    assert!(screen.contains("60 80") && !screen.contains("dumb"), "{screen}");
    // A window that changes, Ctrl-C and what job control makes of Ctrl-Z are the command's.
    resize_and_interrupt(&tmux);
    kind("echo status=$?-$((1+2)); sleep 600");
    see("status=130-3");
    tmux.run(&["send-keys", "C-z"]);
    see("Stopped");
    // Nothing draws in between, and a screen that nobody gave back is taken back.
    kind("kill -9 %1; sleep 3; printf '\\033[?1049h\\033[?25l\\033[?1000hdrawn'; kill -9 $$");
    let screen = see("STATUS 137");
    assert!(screen.contains("status=130-3") && screen.contains("[exit status 137]"), "{screen}");
    assert!(screen.contains("1 file changed") && !screen.contains("tokens"), "{screen}");
    assert!(!is_raw(&settings(&tmux)));
    let modes = "#{alternate_on} #{mouse_any_flag} #{cursor_flag}";
    let modes = tmux.run(&["display-message", "-p", modes]).stdout;
    assert_eq!(String::from_utf8(modes).unwrap().trim(), "0 0 1");
    let shown = shown(&place);
    assert_eq!((&shown["state"], &shown["changes"]), (&"failed".into(), &1.into()), "{shown}");
}

/// The open questions, as another terminal of the user's tells them.
fn open_question(place: &Place) -> Value {
    let listed = place.stockade(&nobody(), &["approvals", "--json"]);
    serde_json::from_slice(&listed.stdout).unwrap()
}

#[test]
fn a_person_leaves_a_thread_whose_question_is_open_and_has_it_again_elsewhere() {
    let (true, Some(tmux)) = (is_there(), Tmux::new()) else { return };
    let place = small();
    let shell = |line: &str| Step::Shell(line.to_owned());
    let last = "echo two > src/a.txt; sleep 600";
    let script = vec![shell("cargo fetch"), shell("cargo fetch --locked"), shell(last)];
    let model = FakeModel::start(script).unwrap();
    tmux.start(&place.command(&model, &["cloud", "x"]));
    let press = |key: &str| drop(tmux.run(&["send-keys", key]));
    let see = |text: &str| tmux.screen_within(SECONDS, text);
    see("no>");
    // The question waits while another thing is asked, and is there again.
    press("C-c");
    see("[d] detach");
    press("Enter");
    see("it goes on");
    let again = tmux.times_within(SECONDS, "no>", 2);
    assert!(!again.contains("(not run)"), "Enter was its answer: {again}");
    press("y");
    press("Enter");
    see("run: cargo fetch --locked");
    press("C-c");
    tmux.times_within(SECONDS, "[d] detach", 2);
    press("d");
    press("Enter");
    let screen = see("STATUS 130");
    assert!(screen.contains("goes on in the background"), "{screen}");
    // Keys are the shell's again, and the question is answered elsewhere.
    press("y");
    press("Enter");
    let open = open_question(&place);
    assert_eq!(open[0]["action"], "run: cargo fetch --locked", "{open}");
    let id = open[0]["id"].as_str().unwrap();
    let answer = place.stockade(&nobody(), &["approvals", "answer", id, "once"]);
    assert!(answer.status.success(), "{answer:?}");
    let mut log = place.start(&nobody(), &["threads", "log", "-f", "last"]);
    let mut lines = BufReader::new(log.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains(last)), "it goes on");
    let cancelled = place.stockade(&nobody(), &["threads", "cancel", "last"]);
    assert!(cancelled.status.success(), "{cancelled:?}");
    assert!(lines.last().unwrap().contains("cancelled"));
    assert!(log.wait().unwrap().success());
    let shown = shown(&place);
    assert_eq!((&shown["state"], &shown["changes"]), (&"cancelled".into(), &1.into()), "{shown}");
    let screen = tmux.run(&["capture-pane", "-p"]).stdout;
    let screen = String::from_utf8(screen).unwrap();
    let after = screen.split("STATUS 130").nth(1).unwrap();
    assert!(!after.contains("stockade"), "it still draws: {screen}");
}
