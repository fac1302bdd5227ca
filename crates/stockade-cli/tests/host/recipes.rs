//! Recipes of agents: told, tried, replaced by the user's own, and put to work as a thread.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output, Stdio};

use super::{Home, text};

/// What an agent is in these tests.
const AGENT: &str = "#!/bin/sh\nif [ \"$1\" = --version ]; then echo 1.2; exit; fi\n\
                     echo \"$*\" > said; echo more >> src/file; echo state > ~/.claude/mine; exit 3\n";

impl Home {
    fn install(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// With the programs of the home before those of the system.
    fn agents(&self, words: &[&str]) -> Output {
        let path = |name: &str| self.path(name).display().to_string();
        Command::new(env!("CARGO_BIN_EXE_stockade"))
            .args(words)
            .current_dir(self.path("work"))
            .env_clear()
            .env("HOME", self.folder.path())
            .env("PATH", format!("{}:{}:/usr/bin:/bin", path("work/bin"), path("bin")))
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    fn said(&self, words: &[&str]) -> String {
        let output = self.agents(words);
        assert!(output.status.success(), "{words:?}: {}", text(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

#[test]
fn recipes_are_listed_shown_and_tried() {
    let home = Home::new();
    home.install("bin/claude", AGENT);
    let list = home.said(&["agents"]);
    let claude = list.lines().find(|line| line.starts_with("claude")).unwrap();
    assert!(claude.contains("bin/claude") && claude.contains("built in"), "{claude}");
    assert!(list.lines().any(|line| line.starts_with("aider") && line.contains("not found")));
    let shown = home.said(&["agents", "show", "claude"]);
    for line in ["host       api.anthropic.com", "flag       --dangerously-skip-permissions"] {
        assert!(shown.contains(line), "{line} in {shown}");
    }
    let json = home.said(&["agents", "list", "--json"]);
    assert!(json.starts_with('[') && json.contains("\"name\":\"codex\""), "{json}");
    assert!(home.said(&["agents", "probe", "claude"]).contains("1.2"));
    for (words, status) in [
        (&["agents", "probe", "codex"][..], 1),
        (&["agents", "show", "nobody"], 1),
        (&["agents", "frobnicate"], 2),
    ] {
        assert_eq!(home.agents(words).status.code(), Some(status), "{words:?}");
    }
}

#[test]
fn the_users_recipe_wins_and_a_repository_has_none() {
    let home = Home::new();
    home.install("bin/claude", AGENT);
    let recipe = "name = \"claude\"\nprograms = [\"claude\"]\nprompt = [\"--ask\", \"{prompt}\"]\n";
    for folder in ["work/.stockade/agents", "work/.config/stockade/agents"] {
        home.install(&format!("{folder}/claude.toml"), &recipe.replace("--ask", "--theirs"));
    }
    assert!(home.said(&["agents", "show", "claude"]).contains("recipe     built in"));
    home.install(".config/stockade/agents/claude.toml", recipe);
    let shown = home.said(&["agents", "show", "claude"]);
    assert!(shown.contains("agents/claude.toml") && !shown.contains("flag "), "{shown}");
    assert!(shown.contains("task by    --ask PROMPT"), "{shown}");
    home.install(".config/stockade/agents/claude.toml", "name = \"claude\"\nprogram = 1\n");
    for words in [&["agents"][..], &["run", "--", "true"]] {
        let output = home.agents(words);
        assert!(!output.status.success(), "{}", text(&output));
        assert!(text(&output).contains("claude.toml` is no recipe"), "{}", text(&output));
    }
}

#[test]
fn another_agent_works_as_a_thread() {
    let home = Home::new();
    home.install("bin/claude", AGENT);
    let output = home.agents(&["local", "--agent", "claude", "Repair it."]);
    assert_eq!(output.status.code(), Some(3), "the agent's own: {}", text(&output));
    let said = fs::read_to_string(home.path("work/said")).unwrap();
    assert_eq!(said, "-p Repair it. --dangerously-skip-permissions\n");
    assert_eq!(fs::read_to_string(home.path(".claude/mine")).unwrap(), "state\n");
    let list = home.said(&["threads", "list"]);
    assert!(list.contains("local") && list.contains("Repair it."), "{list}");
    let diff = home.said(&["threads", "diff"]);
    assert!(diff.contains("b/said") && diff.contains("+more"), "{diff}");
    assert!(home.said(&["log"]).contains("claude"));
}

/// Nothing is read at the start: what a look at the tree would leave out is not named.
#[test]
fn what_an_agent_changed_is_told_without_a_look_at_the_tree() {
    let home = Home::new();
    home.install("bin/claude", AGENT);
    let large = fs::File::create(home.path("work/large")).unwrap();
    large.set_len(65 << 20).unwrap();
    let output = home.agents(&["local", "--agent", "claude", "Repair it."]);
    assert_eq!(output.status.code(), Some(3), "{}", text(&output));
    let diff = home.agents(&["threads", "diff"]);
    let said = text(&diff);
    assert!(said.contains("b/said") && said.contains("b/src/file"), "{said}");
    assert!(!said.contains("large"), "{said}");
}

/// Inside another Stockade nothing can be kept: then the tree is looked at, before the agent runs.
#[test]
fn what_an_agent_changed_is_told_where_nothing_is_kept() {
    let home = Home::new();
    fs::write(home.path("work/src/old"), "before\n").unwrap();
    fs::File::create(home.path("work/large")).unwrap().set_len(65 << 20).unwrap();
    let own = env!("CARGO_BIN_EXE_stockade");
    let agent = "#!/bin/sh\necho after > src/old; echo new > src/made\n";
    home.install("bin/mine", agent);
    let mine = home.path("bin/mine").display().to_string();
    let script = format!(
        "export XDG_STATE_HOME=$TMPDIR/state; {own} local --degrade --agent {mine} x && \
         {own} threads diff"
    );
    let output = home.agents(&["run", "--", "sh", "-c", &script]);
    let said = text(&output);
    assert!(output.status.success() && said.contains("cannot be taken back"), "{said}");
    assert!(said.contains("-before") && said.contains("+after"), "{said}");
    assert!(said.contains("b/src/made"), "{said}");
    assert!(said.contains("large"), "the control of the test above: {said}");
}

#[test]
fn another_agent_works_in_a_draft_and_its_state_is_its_own() {
    let home = Home::new();
    home.install("bin/claude", AGENT);
    let output = home.agents(&["local", "--draft", "--agent", "claude", "Repair it."]);
    assert_eq!(output.status.code(), Some(3), "{}", text(&output));
    assert!(!home.path("work/said").exists() && !home.path("work/src/file").exists());
    assert_eq!(fs::read_to_string(home.path(".claude/mine")).unwrap(), "state\n");
    home.said(&["threads", "apply"]);
    assert!(home.path("work/said").exists() && home.path("work/src/file").exists());
}

/// A recipe opens the agent's log-in: not to what a task may have put under its name.
#[test]
fn an_agent_that_a_task_could_have_written_is_not_started() {
    let home = Home::new();
    home.install("work/bin/claude", AGENT);
    for words in [&["local", "--agent", "claude", "x"][..], &["agents", "probe", "claude"]] {
        let output = home.agents(words);
        assert!(!output.status.success(), "{}", text(&output));
        assert!(text(&output).contains("where a task may write"), "{}", text(&output));
    }
    assert!(!home.path("work/said").exists());
    let output = home.agents(&["local", "--agent", "no-such-agent", "x"]);
    assert_eq!(output.status.code(), Some(127), "{}", text(&output));
}
