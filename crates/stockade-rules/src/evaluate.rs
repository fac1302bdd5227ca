//! What a set of rules says of a script: each part by itself, the most severe verdict first.

use std::collections::HashMap;

use stockade_policy::Verdict;

use crate::builtin;
use crate::rule::{Rule, RuleError, RuleRef};
use crate::shell::{Command, Script, Standing, Step, Word, are_harmless};

/// Rules whose examples hold.
#[derive(Debug, Clone, Default)]
pub struct RuleSet {
    rules: Vec<Rule>,
    /// Places in `rules`, by the names and paths of the programs that they speak of.
    by_program: HashMap<String, Vec<usize>>,
}

/// What is said of a script.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Judgement {
    /// What runs or is written, each with its verdict.
    pub parts: Vec<Part>,
    /// Whether a part cannot be known before it runs.
    pub is_opaque: bool,
}

/// One part of a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// What it is.
    pub kind: PartKind,
    /// Program and arguments; what is not known as it stands in the script.
    pub argv: Vec<String>,
    /// What the rules say; `None` when they say nothing.
    pub verdict: Option<Verdict>,
    /// The rule that says it.
    pub rule: Option<RuleRef>,
    /// Whether it is known to change nothing.
    pub reads_only: bool,
    /// Whether a redirection leads to where the boundary does not let anything be written; only
    /// somebody who looks at the disk knows, and says so by [`Judgement::with_outside`].
    pub is_outside: bool,
    /// The file that a redirection writes, where it is known, also from which folder.
    target: Option<String>,
}

/// What a part of a script is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartKind {
    /// A command.
    Command,
    /// A file that a redirection opens for writing.
    Write,
    /// Something that only the shell itself will know, and why.
    Opaque(&'static str),
}

impl RuleSet {
    /// Takes the rules when each holds what its examples say.
    ///
    /// # Errors
    ///
    /// The number of the first rule in `rules` whose examples fail, and how.
    pub fn new(rules: Vec<Rule>) -> Result<Self, (usize, RuleError)> {
        for (number, rule) in rules.iter().enumerate() {
            check(rule).map_err(|error| (number, error))?;
        }
        let mut by_program: HashMap<String, Vec<usize>> = HashMap::new();
        for (number, rule) in rules.iter().enumerate() {
            for name in rule.prefix().iter().take(1).flatten() {
                by_program.entry(name.clone()).or_default().push(number);
            }
        }
        Ok(Self { rules, by_program })
    }

    /// The rules, in the order in which they were given.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// What the rules say of an argument vector.
    pub fn evaluate_argv(&self, argv: &[String]) -> Judgement {
        self.evaluate(&Script::of_argv(argv))
    }

    /// What the rules say of a shell line.
    pub fn evaluate_line(&self, line: &str) -> Judgement {
        self.evaluate(&Script::parse(line))
    }

    /// What the rules say of each part of `script`.
    pub fn evaluate(&self, script: &Script) -> Judgement {
        let can_allow = !script.is_redefined();
        let moves = script.commands().any(changes_folder);
        let parts = script.steps().iter().filter_map(|step| match step {
            Step::Run(command) => self.command(command, can_allow),
            Step::Write(target) => {
                let part = Part::unsettled(PartKind::Write, vec![target.shown().to_owned()]);
                let known = target.known().filter(|path| !moves || path.starts_with('/'));
                Some(Part { target: known.map(str::to_owned), ..part })
            }
            Step::Opaque { written, why } => {
                Some(Part::unsettled(PartKind::Opaque(why), vec![written.clone()]))
            }
        });
        Judgement { parts: parts.collect(), is_opaque: script.is_opaque() }
    }

    /// `None` for a command that no rule speaks of and that need not be settled.
    fn command(&self, command: &Command, can_allow: bool) -> Option<Part> {
        let can_allow = can_allow && command.standing == Standing::Sure && are_harmless(command);
        let matching = self.about(command).filter(|(_, rule)| match rule.verdict() {
            Verdict::Allow => can_allow && allows(rule, command),
            Verdict::Ask | Verdict::Deny => concerns(rule, command),
        });
        // Of several that are as severe, the last: it stands in the nearest layer.
        let rule = matching.max_by_key(|(number, rule)| (rule.verdict(), *number));
        let rule = rule.map(|(_, rule)| rule);
        if rule.is_none() && command.standing != Standing::Sure {
            return None;
        }
        Some(Part {
            kind: PartKind::Command,
            argv: command.words.iter().map(|word| word.shown().to_owned()).collect(),
            verdict: rule.map(Rule::verdict),
            rule: rule.map(Rule::named),
            reads_only: can_allow && builtin::reads_only(command),
            is_outside: false,
            target: None,
        })
    }

    /// The rules, with their places, that speak of a program by one of its names.
    pub(crate) fn naming<'a>(
        &'a self,
        names: impl Iterator<Item = &'a str>,
    ) -> impl Iterator<Item = (usize, &'a Rule)> {
        let numbers = names.filter_map(|name| self.by_program.get(name)).flatten();
        numbers.filter_map(|&number| Some((number, self.rules.get(number)?)))
    }

    /// The rules, with their places, that speak of the command's program by its name or path.
    fn about<'a>(&'a self, command: &'a Command) -> impl Iterator<Item = (usize, &'a Rule)> {
        let program = command.words.first().and_then(Word::known);
        let base = program.map(base_name).filter(|base| Some(*base) != program);
        self.naming(program.into_iter().chain(base))
    }
}

impl Judgement {
    /// Notes of each file that a redirection writes whether it lies outside the boundary.
    #[must_use]
    pub fn with_outside(mut self, is_outside: impl Fn(&str) -> bool) -> Self {
        for part in &mut self.parts {
            part.is_outside = part.target.as_deref().is_some_and(&is_outside);
        }
        self
    }
}

impl Part {
    /// The file outside that it writes, as the script names it, if it is one.
    pub fn outside(&self) -> Option<&str> {
        self.target.as_deref().filter(|_| self.is_outside)
    }

    fn unsettled(kind: PartKind, argv: Vec<String>) -> Self {
        Self {
            kind,
            argv,
            verdict: None,
            rule: None,
            reads_only: false,
            is_outside: false,
            target: None,
        }
    }
}

/// Whether relative paths behind this command may start elsewhere.
fn changes_folder(command: &Command) -> bool {
    const MOVES: [&str; 4] = ["cd", "chdir", "popd", "pushd"];
    command.words.first().and_then(Word::known).is_none_or(|name| MOVES.contains(&name))
}

/// Whether the examples of a rule hold, each a shell line.
fn check(rule: &Rule) -> Result<(), RuleError> {
    let matches = |line: &String| {
        let script = Script::parse(line);
        let mut commands = script.commands();
        commands.any(|command| match rule.verdict() {
            Verdict::Allow => command.standing == Standing::Sure && allows(rule, command),
            Verdict::Ask | Verdict::Deny => concerns(rule, command),
        })
    };
    if let Some(line) = rule.examples().iter().find(|line| !matches(line)) {
        return Err(RuleError::Example(line.clone()));
    }
    match rule.counterexamples().iter().find(|line| matches(line)) {
        Some(line) => Err(RuleError::Counterexample(line.clone())),
        None => Ok(()),
    }
}

/// Whether every word of the rule stands in its place, exactly and known.
fn allows(rule: &Rule, command: &Command) -> bool {
    rule.prefix().len() <= command.words.len()
        && rule.prefix().iter().zip(&command.words).all(|(alternatives, word)| {
            word.known().is_some_and(|word| alternatives.iter().any(|text| text == word))
        })
}

/// The same for a rule that asks or denies, which also sees a program that is given by path and
/// words that stand behind the program's own global options.
pub(crate) fn concerns(rule: &Rule, command: &Command) -> bool {
    let (Some((names, rest)), Some(program)) =
        (rule.prefix().split_first(), command.words.first().and_then(Word::known))
    else {
        return false;
    };
    let base = base_name(program);
    if !names.iter().any(|name| name == program || name == base) {
        return false;
    }
    let follows = |from: usize| {
        let words = command.words.get(from..).unwrap_or_default();
        rest.len() <= words.len()
            && rest.iter().zip(words).all(|(alternatives, word)| {
                word.known().is_some_and(|word| alternatives.iter().any(|text| text == word))
            })
    };
    follows(1) || follows(builtin::after_global_options(base, &command.words))
}

/// The last component of a path.
pub(crate) fn base_name(program: &str) -> &str {
    program.rsplit('/').next().unwrap_or(program)
}
