//! `stockade explain`: whether something is possible here, and which line of policy decides.
//! Nothing runs.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde::Serialize;
use stockade_config::{HostDisk, Loaded, Origins};
use stockade_policy::{Decider, Explanation, Wish, explain, explain_connect};

use super::boundary;
use crate::cli::BoundaryArgs;
use crate::failure::Failure;
use crate::ui;

const FAILED: u8 = 1;
const MISUSED: u8 = 2;
const DENY: u8 = 4;

/// Flags of `stockade explain`.
#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    #[command(flatten)]
    boundary: BoundaryArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// What would be done
    act: Act,
    /// A path, or for `connect` a HOST:PORT or the path of a socket
    #[arg(value_name = "X")]
    subject: PathBuf,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Act {
    /// Read a file, or list a folder
    Read,
    /// Write a file, or make it
    Write,
    /// Connect to a host or a socket
    Connect,
}

impl Act {
    fn word(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Connect => "connect",
        }
    }
}

/// What is printed with `--json`.
#[derive(Debug, Serialize)]
struct Answer<'a> {
    decision: &'static str,
    act: &'static str,
    subject: &'a str,
    /// After every link.
    target: &'a str,
    reason: &'a str,
    /// `FILE:LINE`, a flag, or `built-in`.
    decided_by: &'a str,
}

/// Prints the answer; the value is the exit status.
pub(crate) fn run(arguments: &ExplainArgs) -> Result<u8, Failure> {
    let misused = |failure: Failure| failure.with_status(MISUSED);
    boundary::without_events(&arguments.boundary).map_err(misused)?;
    let env = boundary::surroundings(&arguments.boundary).map_err(misused)?;
    let request = boundary::request(&arguments.boundary).map_err(misused)?;
    let loaded = stockade_config::load(&env, &request);
    let loaded = loaded.map_err(|error| misused(error.into()))?;
    boundary::announce(&arguments.boundary, &loaded, None, &env);
    let origins = Origins::of(&env, &request, &loaded);
    let subject = arguments.subject.to_string_lossy();
    let policy = &loaded.policy;
    let asked = |wish| {
        let path = env.current.join(&arguments.subject);
        explain(policy, wish, &path, &HostDisk::new())
    };
    let found = match arguments.act {
        Act::Read => asked(Wish::Read),
        Act::Write => asked(Wish::Write),
        Act::Connect => explain_connect(policy, &subject),
    };
    let (reason, source) = told(&found, &origins, &loaded);
    let decision = if found.is_possible { "allow" } else { "deny" };
    let target = found.target.to_string_lossy();
    let printed = if arguments.json {
        let act = arguments.act.word();
        let (subject, target) = (&*subject, &*target);
        let (reason, decided_by) = (&*reason, &*source);
        ui::json(&Answer { decision, act, subject, target, reason, decided_by })
    } else {
        let mut text = format!("{decision}: {} {target}: {reason}", arguments.act.word());
        let source = format!(" ({source})");
        if !text.contains(&source) {
            text.push_str(&source);
        }
        ui::line(&text.replace('\n', "\\n"))
    };
    printed.map_err(|error| {
        Failure::new(format!("cannot print the answer: {error}"), "").with_status(FAILED)
    })?;
    Ok(if found.is_possible { 0 } else { DENY })
}

/// The reason for a person, and the line that decides.
fn told(found: &Explanation, origins: &Origins, loaded: &Loaded) -> (String, String) {
    let shown = |path: &Path| path.display().to_string();
    let built_in = || "built-in".to_owned();
    let source = |key: &str| {
        let found = loaded.sources().into_iter().find(|(name, _)| name == key);
        found.map_or_else(built_in, |(_, place)| place)
    };
    match &found.decided_by {
        Decider::NoBoundary => ("there is no boundary".into(), source("sandbox_mode")),
        Decider::ReadOnlyMode => ("the mode is read-only".into(), source("sandbox_mode")),
        Decider::OutsideRoots => {
            let roots = loaded.policy.writable.iter().map(|root| shown(root.as_path()));
            let roots: Vec<String> = roots.collect();
            let why = format!("outside the writable roots (writable here: {})", roots.join(", "));
            (why, source("sandbox_workspace_write.writable_roots"))
        }
        Decider::Writable(root) => {
            let why = format!("in the writable root {}", shown(root.as_path()));
            (why, origins.writable(root.as_path()))
        }
        Decider::Cache(folder) => {
            let why = format!(
                "{} is a folder of caches: what is written goes to a layer, and yours stays",
                shown(folder.as_path())
            );
            (why, source("caches"))
        }
        Decider::Protected(path) => {
            (format!("{} is protected", shown(path.as_path())), Origins::protected(path.as_path()))
        }
        Decider::Guarded { name, why } => (format!("{name} is protected: {why}"), built_in()),
        Decider::Hidden(path) => {
            let rest = if found.is_possible { ", but for what is shown in it" } else { "" };
            let why = format!("{} is hidden{rest}", shown(path.as_path()));
            (why, origins.hidden(path.as_path()))
        }
        Decider::Readable(path) => {
            let why = format!("{} is shown in what is hidden", shown(path.as_path()));
            (why, origins.readable(path.as_path()))
        }
        Decider::Private(folder) => {
            let why = format!("{folder} is another in every run, with nothing of the host's in it");
            (why, built_in())
        }
        Decider::Everything => ("what is not hidden can be read".into(), source("read")),
        Decider::OwnKernelView => ("/dev and /proc are the run's own".into(), built_in()),
        Decider::Permissions(path) => {
            (format!("owner and mode of {} decide", shown(path)), "the file system".into())
        }
        Decider::Missing(path) => {
            (format!("there is no {}", shown(path)), "the file system".into())
        }
        Decider::Links => ("its links go in a circle".into(), "the file system".into()),
        Decider::HostPort(port) => {
            (format!("port {port} of the host's loopback is opened"), source("network.allow"))
        }
        Decider::Host { why, place } => {
            (why.clone(), place.clone().unwrap_or_else(|| source("network.allow")))
        }
        Decider::ClosedNetwork => {
            let why = "there is no network but the run's own loopback; `--allow-host HOST[:PORT]` \
                       opens a host, `--allow-host localhost:PORT` a port of this machine's";
            (why.into(), source("network.allow"))
        }
        Decider::NamedSocket => ("sockets of programs outside are out of reach".into(), built_in()),
    }
}
