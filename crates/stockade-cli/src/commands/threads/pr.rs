//! `stockade threads pr`: the branch of a thread, pushed and proposed.

use std::ffi::OsStr;
use std::io;
use std::path::Path;

use clap::Args;
use serde::Serialize;
use stockade_agents::{KeyError, Secret, programs};
use stockade_config::Env;
use stockade_threads::ThreadId;
use stockade_threads::flags::flags;
use stockade_threads::forge::{Address, Base, Forge, ForgeError, Proposal, Remote, Report, body};
use stockade_threads::record::{Event, Proposed};
use stockade_threads::store::Detail;

use super::{Desk, FAILED, Place, branch, no_changes, of_store, unprinted};
use crate::failure::Failure;
use crate::ui;

/// Flags of `stockade threads pr`.
#[derive(Debug, Args)]
pub(crate) struct PrArgs {
    #[command(flatten)]
    place: Place,
    /// Push to this remote, instead of the one that git would push to
    #[arg(long, value_name = "NAME")]
    remote: Option<String>,
    /// Propose it for this branch, instead of the one that the thread began at
    #[arg(long, value_name = "BRANCH")]
    base: Option<String>,
    /// Its title, instead of the thread's
    #[arg(long, value_name = "TEXT")]
    title: Option<String>,
    /// Open it as a draft
    #[arg(long)]
    draft: bool,
    /// Print one JSON object: `url`, `number`, `branch`
    #[arg(long)]
    json: bool,
    /// The thread: its ID, the start of it, or `last`
    #[arg(default_value = "last")]
    id: String,
}

#[derive(Debug, Serialize)]
struct Printed<'a> {
    url: &'a str,
    number: u64,
    branch: &'a str,
}

pub(super) fn run(arguments: &PrArgs) -> Result<u8, Failure> {
    let desk = Desk::open(&arguments.place)?;
    let id = desk.find(&arguments.id)?;
    let detail = desk.detail(&id)?;
    let Some(changes) = &detail.changes else { return Err(no_changes(&id, &detail)) };
    let root = changes.root.to_path();
    // Whatever is missing is missing before anything is made.
    let found = Remote::find(&root, arguments.remote.as_deref());
    let remote = found.map_err(|error| of_forge(&error, None))?;
    let server = Server::of(&remote.address, &desk.env);
    let (token, source) = server.token(&remote.address, &desk.env)?;
    let of_forge = |error: ForgeError| of_forge(&error, Some(&source));
    let forge = Forge::new(&server.api, &token).map_err(of_forge)?;

    let name = detail.branched.as_ref().map(|branched| branched.branch.as_str());
    let branched = branch::make(&desk, &id, name)?;
    let pushed = (branched.commit.as_str(), branched.branch.as_str());
    remote.push(&root, pushed, &token).map_err(of_forge)?;
    let text = text(&desk, &id, &detail)?;
    let title = arguments.title.as_deref().unwrap_or(&detail.summary.title);
    let title: String = title.chars().filter(|c| !c.is_control()).collect();
    let proposal = Proposal {
        title: &title,
        body: &text,
        head: &branched.branch,
        base: match &arguments.base {
            Some(base) => Base::Named(base),
            None => {
                Base::Preferred(changes.clone.as_ref().and_then(|clone| clone.branch.as_deref()))
            }
        },
        is_draft: arguments.draft,
    };
    let done = forge.propose(&remote.address, &proposal).map_err(of_forge)?;
    let (url, number) = (done.url.clone(), done.number);
    let proposed = Proposed { url, number, branch: branched.branch.clone() };
    let thread = desk.store.resume(&id).map_err(of_store)?;
    thread.record(&Event::Proposed(proposed)).map_err(of_store)?;
    print(arguments.json, &done, &branched.branch).map_err(unprinted)?;
    Ok(0)
}

fn print(is_json: bool, done: &stockade_threads::forge::Proposed, branch: &str) -> io::Result<()> {
    if is_json {
        return ui::json(&Printed { url: &done.url, number: done.number, branch });
    }
    if done.was_there {
        ui::say("stockade", "this pull request was open already; its branch has the commits");
    }
    ui::line(&done.url.replace('\n', " "))
}

/// What the pull request says.
fn text(desk: &Desk, id: &ThreadId, detail: &Detail) -> Result<String, Failure> {
    let mut report = Report::default();
    for record in desk.store.records(id).map_err(of_store)? {
        report.add(&record.map_err(of_store)?.event);
    }
    let changes = desk.changes(id, detail)?;
    let flags = changes.map(|changes| flags(&changes)).transpose();
    let flags = flags.map_err(|error| Failure::of(&error, FAILED, None))?.unwrap_or_default();
    Ok(body(&report, &flags, id.as_str()))
}

/// Where the API is, and which variables have a token for it.
struct Server {
    api: String,
    variables: [&'static str; 2],
}

impl Server {
    /// A token is for one server. `GH_TOKEN` and `GITHUB_TOKEN` are for GitHub, or for the server
    /// that `GITHUB_SERVER_URL` names, as in GitHub's own runners.
    fn of(address: &Address, env: &Env) -> Self {
        let variable = |name: &str| env.vars.get(OsStr::new(name)).and_then(|value| value.to_str());
        let is_named = variable("GITHUB_SERVER_URL").is_some_and(|url| address.is_at(url));
        let api = variable("GITHUB_API_URL").filter(|_| is_named);
        let variables = if is_named || address.is_github() {
            ["GH_TOKEN", "GITHUB_TOKEN"]
        } else {
            ["GH_ENTERPRISE_TOKEN", "GITHUB_ENTERPRISE_TOKEN"]
        };
        Self { api: api.map_or_else(|| address.api(), str::to_owned), variables }
    }

    /// From the environment, from `gh`, or from the keyring; and what gave it, for a person.
    fn token(&self, address: &Address, env: &Env) -> Result<(Secret, String), Failure> {
        for name in self.variables {
            let value = env.vars.get(OsStr::new(name)).and_then(|value| value.to_str());
            if let Some(value) = value.filter(|value| !value.trim().is_empty()) {
                return Ok((Secret::new(value), format!("`{name}`")));
            }
        }
        let host = address.host.as_str();
        let service = format!("gh:{host}");
        let programs = [
            &["gh", "auth", "token", "--hostname", host][..],
            &["secret-tool", "lookup", "service", service.as_str()],
        ];
        for words in programs.into_iter().filter(|words| is_there(words)) {
            let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
            match Secret::from_quiet_command(&words) {
                Ok(token) => return Ok((token, format!("`{}`", words.join(" ")))),
                // It has none; the next may.
                Err(KeyError::Failed { .. } | KeyError::Nothing { .. }) => {}
                Err(error) => return Err(Failure::of(&error, FAILED, None)),
            }
        }
        let [first, second] = self.variables;
        let hint =
            format!("set `{first}` or `{second}`, or log in: `gh auth login --hostname {host}`");
        Err(Failure::new(format!("no token for `{host}`"), hint).with_status(FAILED))
    }
}

/// Whether the first of `words` is a program that would be run.
fn is_there(words: &[&str]) -> bool {
    let folders = programs::path().map(|path| std::env::split_paths(path).collect::<Vec<_>>());
    let program = words.first().copied().unwrap_or_default();
    folders.unwrap_or_default().iter().any(|folder| Path::new(folder).join(program).is_file())
}

/// `source` is what gave the token.
fn of_forge(error: &ForgeError, source: Option<&str>) -> Failure {
    match source.filter(|_| error.is_about_the_token()) {
        Some(source) => {
            let hint = format!(
                "the token is from {source}: it needs to read and write the repository's contents and \
                 pull requests"
            );
            Failure::of(error, FAILED, Some(&hint))
        }
        None => Failure::of(error, FAILED, error.hint()),
    }
}
