//! `stockade threads`: what threads there are, what they did, and what becomes of it.

mod apply;
mod branch;
mod diff;
mod log;
mod pr;
mod resume;

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Serialize;
use stockade_config::{Env, Request};
use stockade_threads::changes::ChangeSet;
use stockade_threads::draft::{Draft, DraftError, Look};
use stockade_threads::flags::{Flag, Weight, flags, of_held};
use stockade_threads::record::{Check, Event, Kind, PathText, State, Usage};
use stockade_threads::store::{Detail, PhaseSeen, Store, Summary};
use stockade_threads::wrote::{self, Wrote};
use stockade_threads::{ThreadId, files};
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::attached::Front;
use crate::failure::Failure;
use crate::ui;

pub(crate) use log::{LogArgs, log};

/// A verb that failed, and its usage or configuration that is wrong.
pub(super) const FAILED: u8 = 1;
const MISUSED: u8 = 2;

/// Flags of `stockade threads`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct ThreadsArgs {
    #[command(subcommand)]
    verb: Option<ThreadsVerb>,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, Subcommand)]
enum ThreadsVerb {
    /// All threads, newest first
    List(ListArgs),
    /// One thread: how it stands, phases, checks, flags
    Show(ShowArgs),
    /// The record of a thread
    Log(LogArgs),
    /// What a thread changed, as a patch
    Diff(diff::DiffArgs),
    /// Bring what a thread changed into the present files
    Apply(apply::ApplyArgs),
    /// Make a branch of what a thread changed; your current branch and files stay
    Branch(branch::BranchArgs),
    /// Push that branch, and open a pull request for it
    Pr(pr::PrArgs),
    /// Drop what a thread changed; its record stays
    Discard(OneArgs),
    /// Go on with a thread, or follow it up
    Resume(Box<resume::ResumeArgs>),
    /// End a thread that is at work, or that lost its process
    Cancel(OneArgs),
    /// Remove threads with all that is kept of them
    Rm(RemoveArgs),
    #[command(external_subcommand)]
    Other(Vec<OsString>),
}

/// Where the user stands, which decides what `last` and `--here` mean.
#[derive(Debug, Args)]
pub(crate) struct Place {
    /// Instead of the current folder
    #[arg(short = 'C', long = "cd", value_name = "DIR")]
    folder: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct ListArgs {
    #[command(flatten)]
    place: Place,
    /// Only threads of this workspace
    #[arg(long)]
    here: bool,
    /// Print one JSON array
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct ShowArgs {
    #[command(flatten)]
    place: Place,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// The thread: its ID, the start of it, or `last`
    #[arg(default_value = "last")]
    id: String,
}

#[derive(Debug, Args)]
struct OneArgs {
    #[command(flatten)]
    place: Place,
    /// The thread: its ID, the start of it, or `last`
    id: String,
}

#[derive(Debug, Args)]
struct RemoveArgs {
    #[command(flatten)]
    place: Place,
    /// The threads
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
}

/// What became of one file that is written or taken back.
#[derive(Debug, Serialize)]
pub(super) struct File<'a> {
    #[serde(flatten)]
    pub(super) path: PathText,
    pub(super) outcome: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) why: Option<String>,
}

/// The store, and the folder in which the user stands.
#[derive(Debug)]
pub(super) struct Desk {
    env: Env,
    store: Store,
    here: PathBuf,
}

impl Desk {
    pub(super) fn open(place: &Place) -> Result<Self, Failure> {
        let env = Env::snapshot();
        let env = env.map_err(|error| failed("cannot find the current folder", &error))?;
        let folder = place.folder.as_ref().map_or_else(|| env.current.clone(), PathBuf::clone);
        let here = fs::canonicalize(&folder)
            .map_err(|error| failed(&format!("cannot open `{}`", folder.display()), &error))?;
        let root = env.state_folder().ok_or_else(|| {
            let text = "no place for records of threads: no home is known";
            Failure::new(text, "set `HOME`").with_status(FAILED)
        })?;
        let store = Store::open(&root).map_err(of_store)?;
        super::held::settle_lost(&env);
        Ok(Self { env, store, here })
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    pub(super) fn here(&self) -> &Path {
        &self.here
    }

    /// Paths of the user's, from the root on.
    pub(super) fn absolute(&self, paths: &[PathBuf]) -> Vec<PathBuf> {
        paths.iter().map(|path| normalized(&self.here.join(path))).collect()
    }

    fn find(&self, name: &str) -> Result<ThreadId, Failure> {
        self.store.find(name, &self.here).map_err(of_store)
    }

    /// The same for who looks at changes: `last` is a run, too, that has changed something.
    fn find_changed(&self, name: &str) -> Result<ThreadId, Failure> {
        if name == "last" {
            let root = self.store.root();
            let has_any = |id: &ThreadId| {
                self.store.folder(id).is_dir() || stockade_threads::undo::has_any(root, id)
            };
            let threads = self.store.list(Some(&self.here)).map_err(of_store)?;
            let mut ids = threads.iter().filter_map(|summary| summary.id.parse().ok());
            if let Some(id) = ids.find(has_any) {
                return Ok(id);
            }
            if !threads.is_empty() {
                let text = "no thread and no run here has changes";
                return Err(Failure::new(text, NOT_KEPT).with_status(FAILED));
            }
        }
        self.find(name)
    }

    /// What a thread on the user's own files changed, where that is not in its record; `None` where it
    /// is, and where nothing was kept.
    fn wrote(&self, id: &ThreadId, with_ignored: bool) -> Result<Option<Wrote>, Failure> {
        let detail = self.store.detail_at_rest(id).map_err(of_store)?;
        let is_draft = Draft::open(&self.store.folder(id)).map_err(of_draft)?.is_some();
        let is_told = detail.changes.is_some() && !with_ignored;
        let is_over = detail.summary.state.is_final() && !detail.is_discarded;
        if is_draft || is_told || !is_over || detail.summary.kind == Kind::Cloud {
            return Ok(None);
        }
        let workspace = detail.started.workspace();
        let request = Request { workspace: Some(workspace.clone()), ..Request::default() };
        let loaded = stockade_config::load(&self.env, &request)
            .map_err(|error| Failure::from(error).with_status(MISUSED))?;
        let hidden: Vec<PathBuf> =
            loaded.policy.hidden.iter().map(|path| path.as_path().to_owned()).collect();
        let look =
            wrote::Look { workspace: &workspace, hidden: &hidden, with_ignored, earlier: None };
        wrote::now(&self.store, id, look).map_err(|error| Failure::of(&error, FAILED, error.hint()))
    }

    fn detail(&self, id: &ThreadId) -> Result<Detail, Failure> {
        self.store.detail(id).map_err(of_store)
    }

    /// The changes of a thread, `None` when its record has none.
    fn changes(&self, id: &ThreadId, detail: &Detail) -> Result<Option<ChangeSet>, Failure> {
        let open = |changes| ChangeSet::open(&self.store.folder(id), changes);
        let opened = detail.changes.as_ref().map(open).transpose();
        opened.map_err(|error| Failure::of(&error, FAILED, error.hint()))
    }

    /// The same where there must be some; `with_ignored` are files that git ignores in it too.
    fn result(&self, id: &ThreadId, with_ignored: bool) -> Result<ChangeSet, Failure> {
        if with_ignored {
            return self.with_ignored(id);
        }
        let detail = self.store.detail_at_rest(id).map_err(of_store)?;
        if let Some(changes) = self.changes(id, &detail)? {
            return Ok(changes);
        }
        if let Some(changes) = self.left_draft(id, &detail)? {
            return Ok(changes);
        }
        Err(no_changes(id, &detail))
    }

    /// The changes of a draft whose process was killed before it recorded them.
    fn left_draft(&self, id: &ThreadId, detail: &Detail) -> Result<Option<ChangeSet>, Failure> {
        if !detail.summary.state.is_final() || detail.is_discarded {
            return Ok(None);
        }
        let Some(draft) = Draft::open(&self.store.folder(id)).map_err(of_draft)? else {
            return Ok(None);
        };
        let thread = self.store.resume(id).map_err(of_store)?;
        let changes = draft.changes(Look::default()).map_err(of_draft)?;
        thread.record(&Event::Changes(changes)).map_err(of_store)?;
        self.changes(id, &self.detail(id)?)
    }

    /// The changes of a draft with those of ignored files, which the record has the number of.
    fn with_ignored(&self, id: &ThreadId) -> Result<ChangeSet, Failure> {
        let folder = self.store.folder(id);
        let Some(draft) = Draft::open(&folder).map_err(of_draft)? else {
            let text = format!("thread `{id}` is no draft: ignored files were not looked at");
            return Err(Failure::new(text, "").with_status(FAILED));
        };
        // Nobody else looks at the same time.
        let _thread = self.store.resume(id).map_err(of_store)?;
        let detail = self.detail(id)?;
        let look = Look { with_ignored: true, earlier: detail.changes.as_ref() };
        let changes = draft.changes(look).map_err(of_draft)?;
        let opened = ChangeSet::open(&folder, &changes);
        opened.map_err(|error| Failure::of(&error, FAILED, error.hint()))
    }

    /// `paths` as the user names them from where they stand, relative to `root`. Where nobody
    /// stands below it, they are taken as they are.
    fn relative(&self, paths: &[PathBuf], root: &Path) -> Vec<PathBuf> {
        let relative = |path: &PathBuf| {
            let whole = normalized(&self.here.join(path));
            let inside = whole.strip_prefix(root).map(Path::to_owned);
            inside.unwrap_or_else(|_| normalized(path))
        };
        let paths = paths.iter().map(relative);
        // The root itself is everything.
        paths.map(|path| if path.as_os_str().is_empty() { ".".into() } else { path }).collect()
    }
}

/// Why nothing may be known of what was changed.
const NOT_KEPT: &str = "it changed no file, or ran where nothing is kept (`read-only`, \
                        `danger-full-access`), or what was kept has been cleaned";

/// Why there are none.
fn no_changes(id: &ThreadId, detail: &Detail) -> Failure {
    let (text, hint) = if detail.is_discarded {
        ("has no changes any more: they were discarded", "")
    } else if detail.summary.state.is_final() {
        ("has no changes", NOT_KEPT)
    } else {
        ("is still at work", "its changes are recorded when it ends")
    };
    Failure::new(format!("thread `{id}` {text}"), hint).with_status(FAILED)
}

/// Without `.` and `..`, by the text alone: a deleted file is not on the disk.
fn normalized(path: &Path) -> PathBuf {
    let mut result = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => {
                result.pop();
            }
            std::path::Component::CurDir => {}
            std::path::Component::Prefix(_)
            | std::path::Component::RootDir
            | std::path::Component::Normal(_) => result.push(part),
        }
    }
    result
}

/// Runs the verb; the value is the exit status.
pub(crate) fn run(arguments: &ThreadsArgs, front: Option<Front>) -> Result<u8, Failure> {
    match &arguments.verb {
        None => list(&arguments.list),
        Some(ThreadsVerb::List(arguments)) => list(arguments),
        Some(ThreadsVerb::Show(arguments)) => show(arguments),
        Some(ThreadsVerb::Log(arguments)) => log(arguments),
        Some(ThreadsVerb::Diff(arguments)) => diff::run(arguments),
        Some(ThreadsVerb::Apply(arguments)) => apply::run(arguments),
        Some(ThreadsVerb::Branch(arguments)) => branch::run(arguments),
        Some(ThreadsVerb::Pr(arguments)) => pr::run(arguments),
        Some(ThreadsVerb::Discard(arguments)) => discard(arguments),
        Some(ThreadsVerb::Resume(arguments)) => resume::run(arguments, front),
        Some(ThreadsVerb::Cancel(arguments)) => cancel(arguments),
        Some(ThreadsVerb::Rm(arguments)) => remove(arguments),
        Some(ThreadsVerb::Other(words)) => {
            let verb = words.first().map(|verb| verb.to_string_lossy()).unwrap_or_default();
            let text = format!("unknown verb `threads {verb}`");
            Err(Failure::new(text, "`stockade threads --help` lists them").with_status(MISUSED))
        }
    }
}

fn list(arguments: &ListArgs) -> Result<u8, Failure> {
    let desk = Desk::open(&arguments.place)?;
    let here = arguments.here.then_some(desk.here.as_path());
    let threads = desk.store.list(here).map_err(of_store)?;
    if arguments.json {
        ui::json(&threads).map_err(unprinted)?;
        return Ok(0);
    }
    if threads.is_empty() {
        ui::say("stockade", "no threads yet");
    }
    if here.is_none() {
        say_unreadable(&desk, &threads)?;
    }
    let length = distinct(&threads);
    for thread in &threads {
        let id = thread.id.get(..length).unwrap_or(&thread.id);
        let created = thread.created.get(..16).unwrap_or(&thread.created).replace('T', " ");
        let (state, kind) = (thread.state.as_str(), thread.kind.as_str());
        let changes = match thread.changes {
            0 => String::new(),
            count => files(count),
        };
        let text =
            format!("{id}  {state:<11}  {kind:<5}  {created}  {changes:>9}  {}", thread.title);
        let text = one_line(&text);
        ui::line(&within(&text, ui::columns())).map_err(unprinted)?;
    }
    Ok(0)
}

/// Names the threads that are there and not among those `listed`.
fn say_unreadable(desk: &Desk, listed: &[Summary]) -> Result<(), Failure> {
    for id in desk.store.unreadable(listed).map_err(of_store)? {
        let text = format!("thread {id} cannot be read; `stockade log --verify {id}` says why");
        ui::say("warning", &text);
    }
    Ok(())
}

/// Where less fits on a line, the title would be what is cut off: the line is broken instead.
const NARROW: usize = 72;

/// As much of a line as a terminal has room for.
fn within(text: &str, columns: Option<usize>) -> String {
    // Controls take more room than one character, once they are escaped.
    let text = ui::printable(text);
    match columns {
        Some(columns) if columns >= NARROW && text.width() > columns => {
            let mut room = columns.saturating_sub(1);
            let fits = |character: &char| {
                let left = room.checked_sub(character.width().unwrap_or_default());
                room = left.unwrap_or_default();
                left.is_some()
            };
            text.chars().take_while(fits).chain(['…']).collect()
        }
        Some(_) | None => text,
    }
}

/// How many digits tell all of `threads` apart.
fn distinct(threads: &[Summary]) -> usize {
    const SHORTEST: usize = 8;
    let common = |pair: &[Summary]| {
        let [one, other] = pair else { return 0 };
        one.id.bytes().zip(other.id.bytes()).take_while(|(one, other)| one == other).count()
    };
    // They are sorted, so that neighbours have the longest start in common.
    threads.windows(2).map(|pair| common(pair) + 1).max().unwrap_or(0).max(SHORTEST)
}

#[derive(Debug, Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    summary: &'a Summary,
    flags: &'a [Flag],
    phases: &'a [PhaseSeen],
    checks: &'a [Check],
    usage: Usage,
}

fn show(arguments: &ShowArgs) -> Result<u8, Failure> {
    let desk = Desk::open(&arguments.place)?;
    let id = desk.find(&arguments.id)?;
    let detail = desk.detail(&id)?;
    let mut flags = match desk.changes(&id, &detail)? {
        Some(changes) => flags(&changes).map_err(|error| Failure::of(&error, FAILED, None))?,
        None => Vec::new(),
    };
    flags.extend(of_held(stockade_threads::held::list(desk.store.root(), &id)));
    let Detail { summary, phases, checks, usage, .. } = &detail;
    if arguments.json {
        let shown = Shown { summary, flags: &flags, phases, checks, usage: *usage };
        ui::json(&shown).map_err(unprinted)?;
    } else {
        for line in described(&detail, &flags) {
            ui::line(&one_line(&line)).map_err(unprinted)?;
        }
    }
    Ok(0)
}

fn described(detail: &Detail, flags: &[Flag]) -> Vec<String> {
    let Detail { summary, started, phases, checks, usage, finished, .. } = detail;
    let mut lines = vec![
        format!("thread     {}", summary.id),
        format!("title      {}", summary.title),
        format!("kind       {}", summary.kind.as_str()),
        format!("state      {}", state(summary.state, finished.as_ref())),
        format!("workspace  {}", summary.workspace),
        format!("policy     {}, {}", started.mode, started.policy),
        format!("boundary   {}", started.enforcement.join(", ")),
        format!("created    {}", summary.created),
        format!("updated    {}", summary.updated),
    ];
    if *usage != Usage::default() {
        let (read, written) = (usage.input_tokens, usage.output_tokens);
        lines.push(format!("tokens     {read} read, {written} written"));
    }
    lines.push(format!("changes    {}", files(summary.changes)));
    for phase in phases {
        let seconds = phase.seconds.map(|seconds| format!(", {seconds:.1} s")).unwrap_or_default();
        lines.push(format!("phase      {}: {:?}{seconds}", phase.name, phase.state).to_lowercase());
    }
    for check in checks {
        lines.push(format!("check      {}: {}, {:.1} s", check.name, check.exit, check.seconds));
    }
    for flag in flags {
        let weight = if flag.weight == Weight::Hold { "hold" } else { "note" };
        let path = stockade_threads::quoted(flag.path.to_path().as_os_str().as_encoded_bytes());
        lines.push(format!("{weight}       {path}: {}", flag.flag.as_str()));
    }
    lines
}

fn state(state: State, finished: Option<&(u8, String)>) -> String {
    match finished {
        Some((exit, summary)) => format!("{}, exit {exit}: {summary}", state.as_str()),
        None => state.as_str().to_owned(),
    }
}

fn remove(arguments: &RemoveArgs) -> Result<u8, Failure> {
    let desk = Desk::open(&arguments.place)?;
    // All are found before the first is gone, so that a wrong name removes nothing.
    let ids: Result<Vec<ThreadId>, Failure> =
        arguments.ids.iter().map(|name| desk.find(name)).collect();
    for id in ids? {
        desk.store.remove(&id).map_err(of_store)?;
    }
    Ok(0)
}

fn discard(arguments: &OneArgs) -> Result<u8, Failure> {
    let desk = Desk::open(&arguments.place)?;
    let id = desk.find(&arguments.id)?;
    let detail = desk.detail(&id)?;
    let is_draft = Draft::open(&desk.store.folder(&id)).map_err(of_draft)?.is_some();
    if detail.summary.kind != Kind::Cloud && !is_draft && !detail.is_discarded {
        let text = format!("thread `{id}` worked on your own files: there is nothing to drop");
        return Err(
            Failure::new(text, "`stockade threads diff` shows what it changed").with_status(FAILED)
        );
    }
    desk.store.discard(&id).map_err(of_store)?;
    Ok(0)
}

fn cancel(arguments: &OneArgs) -> Result<u8, Failure> {
    let desk = Desk::open(&arguments.place)?;
    let id = desk.find(&arguments.id)?;
    desk.store.cancel(&id).map_err(of_store)?;
    Ok(0)
}

/// `text` with its line breaks escaped too.
fn one_line(text: &str) -> String {
    text.replace('\n', "\\n")
}

pub(super) fn of_store(error: stockade_threads::store::StoreError) -> Failure {
    Failure::from(error).with_status(FAILED)
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn of_draft(error: DraftError) -> Failure {
    Failure::of(&error, FAILED, error.hint())
}

fn failed(text: &str, error: &io::Error) -> Failure {
    Failure::new(format!("{text}: {error}"), "").with_status(FAILED)
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
pub(super) fn unprinted(error: io::Error) -> Failure {
    failed("cannot write to standard output", &error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_list_fits_where_there_is_room_for_a_title() {
        let line = "x".repeat(100);
        assert_eq!(within(&line, Some(80)), "x".repeat(79) + "…");
        for columns in [None, Some(100), Some(40)] {
            assert_eq!(within(&line, columns), line);
        }
        assert_eq!(within("a\u{1b}b", None), "a\\u{1b}b");
    }
}
