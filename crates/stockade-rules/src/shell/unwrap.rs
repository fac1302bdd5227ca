//! Commands that start other commands, and builtins that change what the shell does next.
//!
//! What is seen through is data, in [`wrapper`](super::wrapper). An option that is not listed
//! there makes the command opaque, and what might be inside it a hint.

use super::effect::{Effect, effect};
use super::parse::{Dialect, Kind};
use super::script::{Command, Standing, Step, Text, Word};
use super::variables::is_harmless;
use super::wrapper::{Inner, ShellText, WRAPPERS, Wrapper, hole, inner_of, marks_of, shell_text};
use crate::evaluate::base_name;

/// Commands in one another: `env nice timeout 5 …`.
const LEVELS_MAX: usize = 200;

/// Words that are copied on the way through all of them.
const COPIES_MAX: usize = 1 << 18;

/// Words of a wrapper that are kept; no rule is longer.
const WORDS_KEPT: usize = 32;

/// What was seen in a command or in a text.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) steps: Vec<Step>,
    /// Texts that a shell will read.
    pub(super) texts: Vec<Text>,
    pub(super) is_redefined: bool,
}

/// A command that waits to be looked at.
struct Waiting {
    command: Command,
    /// The shell that looks its name up, whose builtins then come before programs.
    in_shell: Option<Dialect>,
    level: usize,
}

/// Puts into `seen` what `command` does, and what it starts in turn. `level` counts the texts
/// around it.
pub(super) fn settle(command: Command, in_shell: Option<Dialect>, level: usize, seen: &mut Seen) {
    let waiting = vec![Waiting { command, in_shell, level: 0 }];
    let mut settling = Settling { text_level: level, seen, waiting, level: 0, copies: 0 };
    while let Some(Waiting { command, in_shell, level }) = settling.waiting.pop() {
        settling.level = level;
        settling.copies += command.words.len();
        if level > LEVELS_MAX || settling.copies > COPIES_MAX {
            settling.opaque(&command, "it is nested too deeply");
        } else {
            settling.one(command, in_shell);
        }
    }
}

struct Settling<'a> {
    text_level: usize,
    seen: &'a mut Seen,
    waiting: Vec<Waiting>,
    /// Of the command under consideration.
    level: usize,
    copies: usize,
}

impl Settling<'_> {
    fn one(&mut self, command: Command, in_shell: Option<Dialect>) {
        let Some(program) = command.words.first().and_then(Word::known).map(str::to_owned) else {
            self.opaque(&command, "the name of the program is not known");
            return self.starts(&command, 1, Standing::Hint, in_shell);
        };
        let base = base_name(&program);
        if let Some(dialect) = in_shell
            && let Some(effect) = effect(&program, &command)
        {
            return self.of_builtin(effect, command, dialect);
        }
        // Only a bare name, or one in the system's own folders, is the program it seems to be.
        let folder = program.strip_suffix(base).unwrap_or_default();
        let is_known = ["", "/bin/", "/usr/bin/"].contains(&folder)
            && command.assignments.iter().all(is_harmless);
        match base {
            "bash" => self.shell(command, Some(Dialect::Bash), is_known),
            "sh" | "dash" => self.shell(command, Some(Dialect::Sh), is_known),
            "zsh" | "ksh" | "mksh" | "ash" | "fish" | "rbash" | "csh" | "tcsh" => {
                self.shell(command, None, is_known);
            }
            "find" => self.find(command),
            "git" => self.git(command),
            _ => match WRAPPERS.iter().find(|wrapper| wrapper.name == base) {
                Some(wrapper) => self.wrapper(command, wrapper, is_known),
                None => self.seen.steps.push(Step::Run(command)),
            },
        }
    }

    /// The command from word `at` on is started by `outer`.
    fn starts(
        &mut self,
        outer: &Command,
        at: usize,
        standing: Standing,
        in_shell: Option<Dialect>,
    ) {
        let words: Vec<Word> = outer.words.iter().skip(at).cloned().collect();
        if words.is_empty() {
            return;
        }
        // What was set for the outer one is set for what it starts.
        let assignments = outer.assignments.clone();
        let standing = if outer.standing == Standing::Hint { Standing::Hint } else { standing };
        let command = Command { words, assignments, standing };
        self.waiting.push(Waiting { command, in_shell, level: self.level + 1 });
    }

    /// A text is read by a shell.
    fn text(&mut self, content: String, dialect: Dialect, is_sure: bool, is_apart: bool) {
        let (kind, level) = (Kind::Commands, self.text_level + 1);
        self.seen.texts.push(Text { content, kind, dialect, is_sure, level, is_apart });
    }

    /// Notes that what `command` does is not known; what rules may say of it is still asked.
    fn opaque(&mut self, command: &Command, why: &'static str) {
        if command.standing != Standing::Hint {
            let shown: Vec<&str> = command.words.iter().take(WORDS_KEPT).map(Word::shown).collect();
            let written = shown.join(" ").chars().take(120).collect();
            self.seen.steps.push(Step::Opaque { written, why });
        }
        self.outer(command, Standing::Hint);
    }

    /// The command that starts another one, for rules that ask about it or deny it.
    fn outer(&mut self, command: &Command, standing: Standing) {
        let is_hint = command.standing == Standing::Hint;
        let kept = if standing == Standing::Sure { usize::MAX } else { WORDS_KEPT };
        self.seen.steps.push(Step::Run(Command {
            words: command.words.iter().take(kept).cloned().collect(),
            assignments: command.assignments.clone(),
            standing: if is_hint { Standing::Hint } else { standing },
        }));
    }

    fn of_builtin(&mut self, effect: Effect, command: Command, dialect: Dialect) {
        let is_hint = command.standing == Standing::Hint;
        match effect {
            Effect::Nothing => self.seen.steps.push(Step::Run(command)),
            Effect::Redefines => {
                self.seen.is_redefined |= !is_hint;
                self.seen.steps.push(Step::Run(command));
            }
            Effect::Opaque(why) => self.opaque(&command, why),
            Effect::Reads { text, is_whole } => {
                if is_whole {
                    self.outer(&command, Standing::Transparent);
                } else {
                    self.opaque(&command, "the shell runs a text that is not known");
                }
                self.text(text, dialect, is_whole && !is_hint, false);
            }
            Effect::Starts { at, is_program } => {
                self.outer(&command, Standing::Transparent);
                let in_shell = (!is_program).then_some(dialect);
                self.starts(&command, at, command.standing, in_shell);
            }
        }
    }

    /// `bash -c TEXT`, or a shell that reads what is not known. `None`: its language is not
    /// the one that is read here.
    fn shell(&mut self, command: Command, dialect: Option<Dialect>, is_known: bool) {
        let is_sure = command.standing != Standing::Hint;
        match (shell_text(&command.words), dialect) {
            (ShellText::File, _) => self.seen.steps.push(Step::Run(command)),
            (ShellText::Text(text), Some(dialect)) if is_known => {
                self.outer(&command, Standing::Transparent);
                self.text(text, dialect, is_sure, true);
            }
            (ShellText::Text(text), _) => {
                self.opaque(&command, "a shell of another kind, or place, runs a text");
                self.text(text, Dialect::Bash, false, true);
            }
            (ShellText::Unknown, _) => {
                self.opaque(&command, "a shell runs a text that is not known");
            }
        }
    }

    fn wrapper(&mut self, mut command: Command, wrapper: &Wrapper, is_known: bool) {
        match inner_of(wrapper, &command.words) {
            Inner::None => self.seen.steps.push(Step::Run(command)),
            Inner::At { at, is_plain } => {
                let is_plain = is_plain && is_known;
                self.outer(&command, if is_plain { Standing::Transparent } else { Standing::Sure });
                if wrapper.name == "xargs" {
                    fill(&mut command.words, at);
                }
                let standing = if is_plain { command.standing } else { Standing::Hint };
                self.starts(&command, at, standing, None);
            }
            Inner::Doubt => {
                self.opaque(&command, "an option may change what it starts");
                // Where the command starts is a guess, so a few places are looked at.
                let rest = command.words.iter().enumerate().skip(1);
                let operands = rest.filter(|(_, word)| !word.start().starts_with('-'));
                let places: Vec<usize> = operands.map(|(at, _)| at).take(3).collect();
                for at in places {
                    self.starts(&command, at, Standing::Hint, None);
                }
            }
        }
    }

    /// What `-exec` and its like start is judged beside `find` itself.
    fn find(&mut self, command: Command) {
        const EXEC: [&str; 4] = ["-exec", "-execdir", "-ok", "-okdir"];
        let is_exec = |word: &Word| word.known().is_some_and(|word| EXEC.contains(&word));
        let is_end = |word: &Word| matches!(word.known(), Some(";" | "+"));
        let mut rest = command.words.as_slice();
        while let Some(at) = rest.iter().position(is_exec) {
            let behind = rest.get(at + 1..).unwrap_or_default();
            let length = behind.iter().position(is_end).unwrap_or(behind.len());
            let words = behind.iter().take(length).map(|word| hole(word, "{}")).collect();
            rest = behind.get(length..).unwrap_or_default();
            let (assignments, standing) = (command.assignments.clone(), command.standing);
            self.starts(&Command { words, assignments, standing }, 0, standing, None);
        }
        let may_be_exec = |word: &Word| match word {
            Word::Known(_) => false,
            Word::Unknown { is_one, .. } => !is_one && word.may_be_option(),
        };
        if command.words.iter().any(may_be_exec) {
            self.opaque(&command, "what is not known may be `-exec`");
        } else {
            self.seen.steps.push(Step::Run(command));
        }
    }

    /// Configuration on the command line can name programs to run.
    fn git(&mut self, command: Command) {
        const PLAIN: [&str; 4] = ["color.ui", "core.quotepath", "user.email", "user.name"];
        const VALUED: [&str; 4] = ["-C", "--git-dir", "--namespace", "--work-tree"];
        let mut is_plain = true;
        let mut words = command.words.iter().skip(1);
        while let Some(word) = words.next() {
            let start = word.start();
            if start == "-c" {
                let setting = words.next().map_or("", Word::start);
                let key = setting.split('=').next().unwrap_or_default().to_ascii_lowercase();
                is_plain &= PLAIN.contains(&key.as_str());
                if let Some((_, text)) = setting.split_once("=!") {
                    self.text(text.to_owned(), Dialect::Sh, false, true);
                }
            } else if VALUED.contains(&start) {
                words.next();
            } else if start.starts_with("--config-env") || start.starts_with("--exec-path=") {
                is_plain = false;
            } else if word.known().is_none() {
                is_plain &= !word.may_be_option();
                break;
            } else if !start.starts_with('-') {
                break;
            }
        }
        if is_plain {
            self.seen.steps.push(Step::Run(command));
        } else {
            self.opaque(&command, "a setting on the command line may name a program");
        }
    }
}

/// Puts in what `xargs` will: in the place of its marks, or at the end.
fn fill(words: &mut Vec<Word>, at: usize) {
    let marks = marks_of(words.get(1..at).unwrap_or_default());
    for word in words.iter_mut().skip(at) {
        for mark in &marks {
            *word = hole(word, mark);
        }
    }
    if marks.is_empty() {
        let written = "(from what it reads)".to_owned();
        words.push(Word::Unknown { written, start: String::new(), is_one: false });
    }
}
