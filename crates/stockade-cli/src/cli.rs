//! The command line: definitions only. What a flag means is decided where it is used.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::commands::agents::AgentsArgs;
use crate::commands::approvals::ApprovalsArgs;
use crate::commands::check::CheckArgs;
use crate::commands::clean::CleanArgs;
use crate::commands::cloud::CloudArgs;
use crate::commands::config::ConfigArgs;
use crate::commands::doctor::DoctorArgs;
use crate::commands::explain::ExplainArgs;
use crate::commands::rules::RulesArgs;
use crate::commands::threads::{LogArgs, ThreadsArgs};
use crate::commands::undo::UndoArgs;
use crate::failure::STOCKADE_FAILED;

/// A bounded place for a coding agent to work in.
#[derive(Debug, Parser)]
#[command(name = "stockade", version, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    verb: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run one command, or a whole agent, inside the boundary
    Run(Box<RunArgs>),
    /// Put an agent to work on these files, inside the boundary
    Local(Box<LocalArgs>),
    /// Say what would be decided about a command, and by which rule
    Check(Box<CheckArgs>),
    /// Put an agent, or a command, to work on a clone in a machine of its own; ends in a diff
    Cloud(Box<CloudArgs>),
    /// Remove what is old, or too much, of what Stockade itself keeps
    Clean(CleanArgs),
    /// Whether something is possible here, and which line of policy decides
    Explain(Box<ExplainArgs>),
    /// The resolved policy with the source of each value; trust in a project's own file
    Config(Box<ConfigArgs>),
    /// The recipes of known agents: list, show, probe
    Agents(AgentsArgs),
    /// Open questions, from another terminal: list, answer
    Approvals(ApprovalsArgs),
    /// Command rules: where each came from, how often it decided; add, revoke, test, import
    Rules(Box<RulesArgs>),
    /// Threads: list, show, log, diff, apply, branch, pr, discard, resume, cancel, rm
    Threads(ThreadsArgs),
    /// Take back what a thread changed in the files here
    Undo(UndoArgs),
    /// The record of a thread: commands, refusals, answers
    Log(LogArgs),
    /// Try each mechanism for real, and say what is lost without it
    Doctor(DoctorArgs),
    /// A script that completes the command line: bash, zsh, fish, elvish, powershell
    Completions {
        /// For which shell
        shell: clap_complete::Shell,
    },
    /// The manual page, for `man -l -`
    Man,
    #[command(external_subcommand)]
    Other(Vec<OsString>),
}

/// What was asked for.
#[derive(Debug)]
pub(crate) enum Verb {
    /// `stockade run`.
    Run(Box<RunArgs>),
    /// `stockade local`.
    Local(Box<LocalArgs>),
    /// `stockade check`.
    Check(Box<CheckArgs>),
    /// `stockade cloud`.
    Cloud(Box<CloudArgs>),
    /// `stockade clean`.
    Clean(CleanArgs),
    /// `stockade explain`.
    Explain(Box<ExplainArgs>),
    /// `stockade config`.
    Config(Box<ConfigArgs>),
    /// `stockade agents`.
    Agents(AgentsArgs),
    /// `stockade approvals`.
    Approvals(ApprovalsArgs),
    /// `stockade rules`.
    Rules(Box<RulesArgs>),
    /// `stockade threads`.
    Threads(ThreadsArgs),
    /// `stockade undo`.
    Undo(UndoArgs),
    /// `stockade log`.
    Log(LogArgs),
    /// `stockade doctor`.
    Doctor(DoctorArgs),
    /// `stockade completions` and `stockade man`: text that is made from the definitions here.
    Text(Vec<u8>),
    /// A verb of the fixed command line that this version does not have.
    NotYet(String),
}

/// The verbs that there are, for who has typed another one.
pub(crate) const VERBS: &str = "`run`, `local`, `cloud`, `check`, `explain`, `config`, `rules`, `agents`, `approvals`, `threads`, `undo`, `log`, `clean`, `completions`, `man` and `doctor`";

/// Verbs that scripts may depend on, and that are still to come.
#[rustfmt::skip]
const PLANNED: &[&str] = &[
    "serve",
];

/// Who a command is in a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum MachineUser {
    /// An ordinary user.
    User,
    /// Root, of the machine.
    Root,
}

/// Flags of every verb that puts up a boundary.
#[derive(Debug, Default, Args)]
#[expect(clippy::struct_excessive_bools, reason = "one for each flag")]
pub(crate) struct BoundaryArgs {
    /// Sandbox mode: `read-only`, `workspace-write`, `danger-full-access`
    #[arg(short, long, value_name = "MODE")]
    pub(crate) sandbox: Option<String>,
    /// Approval policy: `untrusted`, `on-request`, `never`
    #[arg(short, long, value_name = "POLICY")]
    pub(crate) ask_for_approval: Option<String>,
    /// The workspace, instead of the current folder
    #[arg(short = 'C', long = "cd", value_name = "DIR")]
    pub(crate) folder: Option<PathBuf>,
    /// A further writable folder
    #[arg(long, value_name = "DIR")]
    pub(crate) add_dir: Vec<PathBuf>,
    /// A path that cannot be read; `*`, `?` and `**` reach into the workspace
    #[arg(long, value_name = "PATH")]
    pub(crate) hide: Vec<PathBuf>,
    /// Pass a variable on, or set it
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<OsString>,
    /// Let a host be reached: `github.com`, `*.example.org:443`, `10.0.0.5:5432`, `HOST:*`, a preset
    /// (`registries`, `git-hosts`, `llm`), or one port of this machine, `localhost:PORT`
    #[arg(long, value_name = "HOST[:PORT]")]
    pub(crate) allow_host: Vec<String>,
    /// Open a port inside on 127.0.0.1 outside
    #[arg(long, value_name = "[HOSTPORT:]PORT")]
    pub(crate) publish: Vec<String>,
    /// End the run after this time: `40s`, `5m`, `1h30m`
    #[arg(long, value_name = "TIME")]
    pub(crate) timeout: Option<String>,
    /// Set one configuration value
    #[arg(short, long, value_name = "KEY=TOML")]
    pub(crate) config: Vec<String>,
    /// Use `~/.config/stockade/NAME.config.toml` as well
    #[arg(short, long, value_name = "NAME")]
    pub(crate) profile: Option<String>,
    /// Read Codex' own configuration too, below yours: FILE, or the one that Codex reads
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "")]
    pub(crate) codex_config: Option<OsString>,
    /// Leave the project's own `.stockade/config.toml` out
    #[arg(long)]
    pub(crate) no_project_config: bool,
    /// Write what happens to PATH, one JSON object a line; not in a writable root
    #[arg(long, value_name = "PATH")]
    pub(crate) json_file: Option<PathBuf>,
    /// Run without what this machine has no mechanism for, and say what that is
    #[arg(long)]
    pub(crate) degrade: bool,
    /// Say nothing that is not an error
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Say how the boundary is made up
    #[arg(short, long)]
    pub(crate) verbose: bool,
    /// Of `stockade run`: in a machine of its own, without network; `--vm=root` as root there
    #[arg(long, value_name = "USER", value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "user")]
    pub(crate) vm: Option<MachineUser>,
}

/// Flags of `stockade run`.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) boundary: BoundaryArgs,
    /// Write into a draft, and leave the files alone until `threads apply`
    #[arg(long)]
    pub(crate) draft: bool,
    /// Refused: a run's output, being the command's, cannot carry it.
    #[arg(long, hide = true)]
    pub(crate) json: bool,
    /// The command and its arguments; without one, a shell
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}

/// Flags of `stockade local`.
#[derive(Debug, Args)]
pub(crate) struct LocalArgs {
    #[command(flatten)]
    pub(crate) boundary: BoundaryArgs,
    /// Write into a draft, and leave the files alone until `threads apply`
    #[arg(long)]
    pub(crate) draft: bool,
    /// Who works: `builtin`, the name of a recipe (`stockade agents`), or a program
    #[arg(long, value_name = "NAME", default_value = "builtin")]
    pub(crate) agent: String,
    /// Print one JSON object a line for everything that happens
    #[arg(long)]
    pub(crate) json: bool,
    /// The task; `-` reads it from standard input
    #[arg(value_name = "PROMPT")]
    pub(crate) prompt: Option<String>,
}

/// Help, a version, or a usage error: what is to be shown, and the exit status.
#[derive(Debug)]
pub(crate) struct Shown {
    error: clap::Error,
    status: u8,
}

impl Shown {
    /// Prints it where it belongs.
    pub(crate) fn show(&self) -> ExitCode {
        // Standard output that is closed has nobody to read help.
        self.error.print().ok();
        ExitCode::from(self.status)
    }
}

/// Reads the command line.
pub(crate) fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Verb, Shown> {
    let mut arguments: Vec<OsString> = arguments.collect();
    // `help` and `help run`, which other tools have taught.
    if arguments.get(1).is_some_and(|verb| verb == OsStr::new("help")) {
        arguments.remove(1);
        arguments.truncate(2);
        arguments.push("--help".into());
    }
    // Scripts tell from 125 that nothing of their command has run.
    let runs = arguments
        .get(1)
        .is_some_and(|verb| ["run", "local", "cloud"].iter().any(|run| verb == run));
    if let Some(run) = only_run(&arguments) {
        return mistaken_flag(&arguments, &run.command)
            .map_or(Ok(Verb::Run(run)), |error| Err(Shown { error, status: STOCKADE_FAILED }));
    }
    match Cli::try_parse_from(&arguments) {
        Ok(Cli { verb: Command::Run(run) }) => match mistaken_flag(&arguments, &run.command) {
            Some(error) => Err(Shown { error, status: STOCKADE_FAILED }),
            None => Ok(Verb::Run(run)),
        },
        Ok(Cli { verb: Command::Check(check) }) => {
            match mistaken_flag(&arguments, &check.command) {
                Some(error) => Err(Shown { error, status: 2 }),
                None => Ok(Verb::Check(check)),
            }
        }
        Ok(Cli { verb: Command::Local(local) }) => Ok(Verb::Local(local)),
        Ok(Cli { verb: Command::Cloud(cloud) }) => Ok(Verb::Cloud(cloud)),
        Ok(Cli { verb: Command::Completions { shell } }) => Ok(Verb::Text(completions(shell))),
        Ok(Cli { verb: Command::Man }) => Ok(Verb::Text(manual())),
        Ok(Cli { verb: Command::Clean(clean) }) => Ok(Verb::Clean(clean)),
        Ok(Cli { verb: Command::Explain(explain) }) => Ok(Verb::Explain(explain)),
        Ok(Cli { verb: Command::Config(config) }) => Ok(Verb::Config(config)),
        Ok(Cli { verb: Command::Agents(agents) }) => Ok(Verb::Agents(agents)),
        Ok(Cli { verb: Command::Approvals(approvals) }) => Ok(Verb::Approvals(approvals)),
        Ok(Cli { verb: Command::Rules(rules) }) => Ok(Verb::Rules(rules)),
        Ok(Cli { verb: Command::Threads(threads) }) => Ok(Verb::Threads(threads)),
        Ok(Cli { verb: Command::Undo(undo) }) => Ok(Verb::Undo(undo)),
        Ok(Cli { verb: Command::Log(log) }) => Ok(Verb::Log(log)),
        Ok(Cli { verb: Command::Doctor(doctor) }) => Ok(Verb::Doctor(doctor)),
        Ok(Cli { verb: Command::Other(words) }) => {
            let verb = words.first().map(|verb| verb.to_string_lossy().into_owned());
            let verb = verb.unwrap_or_default();
            if PLANNED.contains(&verb.as_str()) {
                return Ok(Verb::NotYet(verb));
            }
            let message = format!("unknown verb `{verb}`; there are {VERBS}");
            let error = clap::Error::raw(clap::error::ErrorKind::InvalidSubcommand, message + "\n");
            Err(Shown { error, status: 2 })
        }
        Err(error) => {
            let status = match (error.use_stderr(), runs) {
                (false, _) => 0,
                (true, true) => STOCKADE_FAILED,
                (true, false) => 2,
            };
            Err(Shown { error, status })
        }
    }
}

/// The flags of `run` without those of the other verbs, whose definitions a start would pay for.
/// Whatever is not plainly right is left to the whole command line, with its help and its errors.
fn only_run(arguments: &[OsString]) -> Option<Box<RunArgs>> {
    let (verb, words) = arguments.get(1..)?.split_first()?;
    if verb != "run" {
        return None;
    }
    let command = RunArgs::augment_args(clap::Command::new("run")).no_binary_name(true);
    let mut matches = command.try_get_matches_from(words).ok()?;
    RunArgs::from_arg_matches_mut(&mut matches).ok().map(Box::new)
}

fn completions(shell: clap_complete::Shell) -> Vec<u8> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "stockade", &mut text);
    text
}

/// The page of the program, and after it that of each verb.
fn manual() -> Vec<u8> {
    let mut text = Vec::new();
    let mut program = Cli::command();
    program.build();
    let verbs = program.get_subcommands().filter(|verb| !verb.is_hide_set()).cloned();
    for page in std::iter::once(program.clone()).chain(verbs) {
        clap_mangen::Man::new(page).render(&mut text).expect("invariant: memory takes all of it");
    }
    text
}

/// A flag that the verb does not know is no command: only after `--` may one start with a dash.
fn mistaken_flag(arguments: &[OsString], command: &[OsString]) -> Option<clap::Error> {
    let first = command.first()?.to_string_lossy();
    let before = arguments.len().checked_sub(command.len() + 1)?;
    if !first.starts_with('-') || arguments.get(before).is_some_and(|word| word == "--") {
        return None;
    }
    let verb = arguments.get(1).map(|verb| verb.to_string_lossy()).unwrap_or_default();
    let message = format!(
        "unknown flag `{first}`; `stockade {verb} --help` lists them, and a command that starts \
         with a dash goes after `--`\n"
    );
    Some(clap::Error::raw(clap::error::ErrorKind::UnknownArgument, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(line: &str) -> RunArgs {
        match parse(line.split_whitespace().map(OsString::from)) {
            Ok(Verb::Run(arguments)) => *arguments,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn everything_after_the_command_is_the_commands() {
        let arguments = run("stockade run -q ls -l --help -C x");
        assert_eq!(arguments.command, ["ls", "-l", "--help", "-C", "x"]);
        assert!(arguments.boundary.quiet && arguments.boundary.folder.is_none());
        assert_eq!(run("stockade run -- -odd --name").command, ["-odd", "--name"]);
        assert!(run("stockade run").command.is_empty());
    }

    #[test]
    fn the_short_way_to_run_reads_what_the_whole_command_line_reads() {
        let lines = [
            "run",
            "run -q ls -l --help -C x",
            "run -qv -C w --add-dir a --add-dir=b --hide .env --env A --env B=c -- -odd --name",
            "run -s read-only -a never --timeout 5s -c a=1 -p x --codex-config ls",
            "run --json --no-project-config --allow-host localhost:1 sh",
            "run --vm true",
        ];
        for line in lines {
            let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
            let words = [vec!["stockade".into()], words].concat();
            let whole = match Cli::try_parse_from(&words) {
                Ok(Cli { verb: Command::Run(run) }) => run,
                other => panic!("{line}: {other:?}"),
            };
            let short = only_run(&words).expect(line);
            assert_eq!(format!("{short:?}"), format!("{whole:?}"), "{line}");
        }
        for line in ["run --help", "run -h", "run --no-such", "run --version", "run -s", "local x"]
        {
            let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
            let words = [vec!["stockade".into()], words].concat();
            let is_run = matches!(Cli::try_parse_from(&words), Ok(Cli { verb: Command::Run(_) }));
            assert_eq!(only_run(&words).is_some(), is_run, "{line}");
        }
    }

    #[test]
    fn every_shell_and_the_manual_are_written_from_the_definitions() {
        use clap::ValueEnum as _;
        for shell in clap_complete::Shell::value_variants() {
            let text = String::from_utf8(completions(*shell)).unwrap();
            assert!(text.contains("ask-for-approval") && text.contains("explain"), "{shell}");
        }
        let text = String::from_utf8(manual()).unwrap();
        for part in ["stockade", "run", "codex", "explain"] {
            assert!(text.contains(part), "{part}");
        }
    }

    #[test]
    fn usage_errors_of_run_are_125_and_of_others_2() {
        let status = |line: &str| match parse(line.split_whitespace().map(OsString::from)) {
            Err(shown) => shown.status,
            Ok(verb) => panic!("{verb:?}"),
        };
        assert_eq!(status("stockade run --no-such-flag x"), 125);
        assert_eq!(status("stockade frobnicate"), 2);
        assert_eq!(status("stockade check --no-such-flag x"), 2);
        assert_eq!(status("stockade check"), 2);
        assert_eq!(status("stockade check --line a -- b"), 2);
        assert_eq!(status("stockade --no-such-flag"), 2);
        for line in ["stockade run --help", "stockade help", "stockade help run -q"] {
            assert_eq!(status(line), 0, "{line}");
        }
    }
}
