//! A thread with a person at its terminal, and one that goes on later.

use std::fs;

use serde_json::{Value, json};
use stockade_testkit::model::{FakeModel, Fault, Step};

use crate::place::{Place, text, users};
use crate::questions::Terminal;

fn shell(line: &str) -> Step {
    Step::Shell(line.to_owned())
}

fn write(path: &str, content: &str) -> Step {
    Step::tool("write", json!({"path": path, "content": content}))
}

/// A place whose configuration names `model`, for verbs that take no flags for it.
fn place_with(model: &FakeModel, uid: u32) -> Place {
    let place = Place::new(uid);
    place.configure(&format!(
        "\n[model]\napi = \"responses\"\nbase_url = \"http://127.0.0.1:{}/v1\"\nname = \"x\"\n",
        model.port()
    ));
    place
}

fn threads(place: &Place, model: &FakeModel, words: &[&str]) -> String {
    let output = place.stockade(model, words);
    assert!(output.status.success(), "{words:?}: {}", text(&output));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_person_says_what_is_to_be_done_and_what_else() {
    for uid in users() {
        let model = FakeModel::start(vec![
            write("src/one", "1\n"),
            Step::say("Made one."),
            write("src/two", "2\n"),
            Step::say("And two."),
        ])
        .unwrap();
        let place = place_with(&model, uid);
        let mut terminal = Terminal::foreground(&place.command(&model, &["local"]));
        terminal.expect(Some("writable here: src, tests, /tmp"));
        terminal.expect(Some("\n> "));
        terminal.type_in("\n");
        terminal.expect(Some("> "));
        terminal.type_in("Make one.\n");
        terminal.expect(Some("created src/one"));
        terminal.expect(Some("  +1"));
        terminal.expect(Some("Made one."));
        terminal.expect(Some("tokens read"));
        terminal.expect(Some("\n> "));
        // What there is by now can be seen from elsewhere when the next turn begins.
        terminal.type_in("Now two.\n");
        terminal.expect(Some("And two."));
        terminal.expect(Some("\n> "));
        assert!(threads(&place, &model, &["threads", "diff"]).contains("src/one"));
        terminal.type_in("\u{4}");
        terminal.expect(Some("finished; thread"));
        terminal.expect(None);
        assert!(terminal.child.wait().unwrap().success());
        let diff = threads(&place, &model, &["threads", "diff"]);
        assert!(diff.contains("src/one") && diff.contains("src/two"), "{diff}");
        let list = threads(&place, &model, &["threads", "list"]);
        assert_eq!(list.lines().count(), 1, "one thread: {list}");
        assert!(list.contains("Make one.") && list.contains("completed"), "{list}");
    }
}

#[test]
fn ctrl_c_interrupts_the_turn_and_the_conversation_goes_on() {
    let model = FakeModel::start(vec![
        shell("touch src/began; echo up; sleep 100; touch src/late"),
        Step::say("Stopped it."),
    ])
    .unwrap();
    let place = place_with(&model, *users().last().unwrap());
    let mut terminal = Terminal::foreground(&place.command(&model, &["local"]));
    terminal.expect(Some("\n> "));
    terminal.type_in("Wait.\n");
    terminal.expect(Some("\nup"));
    terminal.type_in("\u{3}");
    terminal.expect(Some("interrupted"));
    terminal.expect(Some("\n> "));
    terminal.type_in("What now?\n");
    terminal.expect(Some("Stopped it."));
    terminal.expect(Some("\n> "));
    // At the prompt: once for the line, twice for the thread.
    terminal.type_in("\u{3}");
    terminal.expect(Some("Ctrl-C again"));
    terminal.expect(Some("> "));
    terminal.type_in("\u{3}");
    terminal.expect(Some("finished; thread"));
    terminal.expect(None);
    assert!(terminal.child.wait().unwrap().success());
    assert!(place.work().join("src/began").exists() && !place.work().join("src/late").exists());
    let last = model.requests().last().unwrap().to_string();
    assert!(last.contains("interrupted: whether this was carried out"), "{last}");
}

#[test]
fn what_was_broken_off_in_the_middle_of_a_line_stands_alone() {
    let text = "A sentence that is broken off before its end, and all of it was shown by then";
    let script = vec![Step::say(text), Step::say("Again.")];
    let model = FakeModel::start_faulty(script, vec![Fault::Stall]).unwrap();
    let place = place_with(&model, *users().last().unwrap());
    let mut terminal = Terminal::foreground(&place.command(&model, &["local"]));
    terminal.expect(Some("\n> "));
    terminal.type_in("Say it.\n");
    terminal.expect(Some("shown by"));
    terminal.type_in("\u{3}");
    terminal.expect(Some("\nstockade: interrupted"));
    terminal.expect(Some("\n> "));
    terminal.type_in("And?\n");
    // What waited to be a whole word is not said in the next turn.
    terminal.expect(Some("\nA sentence"));
    terminal.expect(Some("\n> "));
    terminal.type_in("\u{4}");
    terminal.expect(None);
    assert!(terminal.child.wait().unwrap().success());
}

#[test]
fn without_a_terminal_a_thread_without_a_prompt_does_not_begin() {
    let model = FakeModel::start(vec![Step::say("never")]).unwrap();
    let place = place_with(&model, *users().last().unwrap());
    for words in [&["local"][..], &["local", "--json"]] {
        let output = place.stockade(&model, words);
        assert_eq!(output.status.code(), Some(125), "{}", text(&output));
        assert!(text(&output).contains("without a prompt"), "{}", text(&output));
    }
    assert!(model.requests().is_empty());
}

#[test]
fn a_thread_that_ended_goes_on_with_what_its_record_says() {
    for uid in users() {
        let first = FakeModel::start(vec![
            write("src/one", "1\n"),
            shell("cat src/one"),
            Step::say("Made one."),
        ])
        .unwrap();
        let place = place_with(&first, uid);
        threads(&place, &first, &["local", "Make one."]);
        fs::write(place.work().join("src/theirs"), "mine\n").unwrap();
        let second = FakeModel::start(vec![write("src/two", "2\n"), Step::say("Two.")]).unwrap();
        let url = format!("model.base_url=\"http://127.0.0.1:{}/v1\"", second.port());
        let words = ["threads", "resume", "-c", &url, "--json", "last", "And now the second."];
        let lines = threads(&place, &second, &words);
        let asked = second.requests()[0].to_string();
        for words in ["Make one.", "You ran: cat src/one", "Made one.", "And now the second."] {
            assert!(asked.contains(words), "{uid}: {words} in {asked}");
        }
        let first_line: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
        assert_eq!(
            (&first_line["type"], &first_line["from"]),
            (&json!("thread.resumed"), &json!("completed"))
        );
        // One diff from the beginning, and not what the user made in between.
        let diff = threads(&place, &second, &["threads", "diff"]);
        assert!(diff.contains("src/one") && diff.contains("src/two"), "{diff}");
        assert!(!diff.contains("theirs"), "{diff}");
        let list = threads(&place, &second, &["threads", "list"]);
        assert_eq!(list.lines().count(), 1, "{list}");
        threads(&place, &second, &["log", "--verify"]);
    }
}

#[test]
fn a_draft_goes_on_as_a_draft() {
    let first = FakeModel::start(vec![write("src/one", "1\n"), Step::say("One.")]).unwrap();
    let place = place_with(&first, *users().last().unwrap());
    threads(&place, &first, &["local", "--draft", "Make one."]);
    let second = FakeModel::start(vec![
        shell("cat src/one && echo more >> src/one && echo 2 > src/two"),
        Step::say("Two."),
    ])
    .unwrap();
    let url = format!("model.base_url=\"http://127.0.0.1:{}/v1\"", second.port());
    threads(&place, &second, &["threads", "apply"]);
    threads(&place, &second, &["threads", "resume", "-c", &url, "last", "Go on."]);
    assert_eq!(fs::read_to_string(place.work().join("src/one")).unwrap(), "1\n");
    assert!(!place.work().join("src/two").exists());
    threads(&place, &second, &["threads", "apply"]);
    assert_eq!(fs::read_to_string(place.work().join("src/one")).unwrap(), "1\nmore\n");
    assert_eq!(fs::read_to_string(place.work().join("src/two")).unwrap(), "2\n");
    threads(&place, &second, &["threads", "discard", "last"]);
    let output = place.stockade(&second, &["threads", "resume", "-c", &url, "last", "More."]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("discarded"), "{}", text(&output));
}

/// On a terminal that can take a line back there is one about what is being waited for, and it is
/// gone before anything else is written; colours are left out where the user does not want them.
#[test]
fn a_line_tells_time_turn_and_tokens_and_goes_away() {
    let model = FakeModel::start(vec![shell("sleep 2; echo up"), Step::say("Waited.")]).unwrap();
    let place = place_with(&model, *users().last().unwrap());
    let mut command = place.command(&model, &["local", "Wait."]);
    command.env("TERM", "xterm").env("NO_COLOR", "1");
    let mut terminal = Terminal::foreground(&command);
    terminal.expect(Some("$ sleep 2; echo up\r\n\r\u{1b}[K· "));
    terminal.expect(Some("turn 1/100 · 2 tokens"));
    terminal.expect(Some("\r\u{1b}[Kup\r\n"));
    terminal.expect(Some("Waited."));
    terminal.expect(Some("finished; thread"));
    terminal.expect(None);
    assert!(terminal.child.wait().unwrap().success());
}
