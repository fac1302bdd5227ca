//! `stockade config`: the resolved policy with the source of each value, and trust in the file
//! that a project brings.

use std::fs;
use std::io;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Serialize;
use stockade_config::{Env, Loaded, Origins, Request};
use stockade_policy::{AbsPath, Mode};

use super::boundary;
use crate::cli::BoundaryArgs;
use crate::failure::Failure;
use crate::ui;

const FAILED: u8 = 1;
const MISUSED: u8 = 2;

/// Flags of `stockade config`.
#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    act: Option<Act>,
}

#[derive(Debug, Subcommand)]
enum Act {
    /// Every resolved value, and where it comes from
    Show {
        #[command(flatten)]
        boundary: Box<BoundaryArgs>,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Check a file, or all the layers of a start
    Validate {
        #[command(flatten)]
        boundary: Box<BoundaryArgs>,
        /// The file; without one, what a start here would read
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// The JSON Schema of a configuration file
    Schema,
    /// Let the project's own file, with exactly its present content, count like yours
    Trust(Here),
    /// Take that back
    Untrust(Here),
}

/// The project that is meant.
#[derive(Debug, Args)]
struct Here {
    /// The workspace, instead of the current folder
    #[arg(short = 'C', long = "cd", value_name = "DIR")]
    folder: Option<PathBuf>,
}

/// Does it; the value is the exit status.
pub(crate) fn run(arguments: &ConfigArgs) -> Result<u8, Failure> {
    let failed = |failure: Failure| failure.with_status(MISUSED);
    match &arguments.act {
        None => {
            let boundary = BoundaryArgs::default();
            show(&boundary, false).map_err(failed)
        }
        Some(Act::Show { boundary, json }) => show(boundary, *json).map_err(failed),
        Some(Act::Validate { boundary, file }) => {
            validate(boundary, file.as_deref()).map_err(failed)
        }
        Some(Act::Schema) => {
            ui::line(&stockade_config::json_schema()).map_err(unprinted)?;
            Ok(0)
        }
        Some(Act::Trust(here)) => trust(here),
        Some(Act::Untrust(here)) => untrust(here),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the signature is what `map_err` takes")]
fn unprinted(error: io::Error) -> Failure {
    Failure::new(format!("cannot print: {error}"), "").with_status(FAILED)
}

/// What is printed with `--json`.
#[derive(Debug, Serialize)]
struct Shown {
    values: Vec<Told>,
    policy: Policy,
    warnings: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Told {
    key: String,
    value: serde_json::Value,
    source: String,
}

/// The paths that the layers come to.
#[derive(Debug, Serialize)]
struct Policy {
    workspace: String,
    mode: &'static str,
    network: &'static str,
    writable: Vec<Place>,
    protected: Vec<Place>,
    hidden: Vec<Place>,
    readable: Vec<Place>,
}

#[derive(Debug, Serialize)]
struct Place {
    path: String,
    source: String,
}

fn show(arguments: &BoundaryArgs, json: bool) -> Result<u8, Failure> {
    boundary::without_events(arguments)?;
    let env = boundary::surroundings(arguments)?;
    let request = boundary::request(arguments)?;
    let loaded = stockade_config::load(&env, &request)?;
    let shown = shown(&env, &request, &loaded);
    if json {
        ui::json(&shown).map_err(unprinted)?;
        return Ok(0);
    }
    for warning in &loaded.warnings {
        ui::say("warning", warning);
    }
    let line = |text: &str| ui::line(&text.replace('\n', "\\n")).map_err(unprinted);
    for value in &shown.values {
        line(&format!("{} = {}  # {}", value.key, value.value, value.source))?;
    }
    line("")?;
    let policy = &shown.policy;
    line(&format!("workspace {}", policy.workspace))?;
    for (name, places) in [
        ("writable", &policy.writable),
        ("protected", &policy.protected),
        ("hidden", &policy.hidden),
        ("readable", &policy.readable),
    ] {
        for place in places {
            line(&format!("{name} {}  # {}", place.path, place.source))?;
        }
    }
    Ok(0)
}

fn shown(env: &Env, request: &Request, loaded: &Loaded) -> Shown {
    let origins = Origins::of(env, request, loaded);
    // Without a boundary nothing is hidden.
    let is_bounded = loaded.policy.mode != Mode::DangerFullAccess;
    let places = |paths: &[AbsPath], source: &dyn Fn(&Path) -> String| {
        let place = |path: &AbsPath| Place {
            path: path.as_path().to_string_lossy().into_owned(),
            source: source(path.as_path()),
        };
        paths.iter().filter(|_| is_bounded).map(place).collect()
    };
    let policy = &loaded.policy;
    let values = loaded.values(request).into_iter().map(|value| Told {
        key: value.key,
        // It was JSON when it was made.
        value: serde_json::from_str(&value.value).unwrap_or(value.value.into()),
        source: value.source,
    });
    Shown {
        values: values.collect(),
        policy: Policy {
            workspace: policy.workspace.as_path().to_string_lossy().into_owned(),
            mode: policy.mode.as_str(),
            network: policy.network.word(),
            writable: places(&policy.writable, &|path| origins.writable(path)),
            protected: places(&policy.protected, &Origins::protected),
            hidden: places(&policy.hidden, &|path| origins.hidden(path)),
            readable: places(&policy.readable, &|path| origins.readable(path)),
        },
        warnings: loaded.warnings.clone(),
    }
}

fn validate(arguments: &BoundaryArgs, file: Option<&Path>) -> Result<u8, Failure> {
    if let Some(file) = file {
        stockade_config::validate(file)?;
        ui::line(&format!("{}: good", file.display())).map_err(unprinted)?;
        return Ok(0);
    }
    boundary::without_events(arguments)?;
    let env = boundary::surroundings(arguments)?;
    let loaded = stockade_config::load(&env, &boundary::request(arguments)?)?;
    for warning in &loaded.warnings {
        ui::say("warning", warning);
    }
    ui::line("all layers: good").map_err(unprinted)?;
    Ok(0)
}

impl Here {
    fn boundary(&self) -> BoundaryArgs {
        BoundaryArgs { folder: self.folder.clone(), ..BoundaryArgs::default() }
    }
}

fn trust(here: &Here) -> Result<u8, Failure> {
    let misused = |failure: Failure| failure.with_status(MISUSED);
    let env = boundary::surroundings(&here.boundary()).map_err(misused)?;
    let request = boundary::request(&here.boundary()).map_err(misused)?;
    let trust = stockade_config::project_trust(&env, &request);
    let trust = trust.map_err(|error| misused(error.into()))?;
    if !trust.is_trusted {
        for line in &trust.widens {
            // Told as what now counts, not as what does not.
            ui::say("trusted", &line.replace("ignored: ", "was ignored: "));
        }
        write(&trust.file, &trust.text).map_err(|error| {
            let text = format!("cannot write `{}`: {error}", trust.file.display());
            Failure::new(text, "trust is kept in your own configuration folder").with_status(FAILED)
        })?;
    }
    let what = format!("{} counts like yours while it is {}", trust.project.display(), trust.hash);
    ui::line(&what).map_err(unprinted)?;
    Ok(0)
}

/// Writes the file whole or not at all.
fn write(file: &Path, text: &str) -> io::Result<()> {
    let folder = file.parent().unwrap_or(Path::new("/"));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let unfinished = file.with_extension("new");
    let mut options = fs::OpenOptions::new();
    let mut new = options.write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    new.write_all(text.as_bytes())?;
    new.sync_data()?;
    fs::rename(&unfinished, file)
}

fn untrust(here: &Here) -> Result<u8, Failure> {
    let misused = |failure: Failure| failure.with_status(MISUSED);
    let env = boundary::surroundings(&here.boundary()).map_err(misused)?;
    let request = boundary::request(&here.boundary()).map_err(misused)?;
    let file = stockade_config::trust_file(&env, &request);
    let file = file.map_err(|error| misused(error.into()))?;
    let said = match fs::remove_file(&file) {
        Ok(()) => "it only narrows again",
        Err(error) if error.kind() == io::ErrorKind::NotFound => "it was not trusted",
        Err(error) => {
            let text = format!("cannot remove `{}`: {error}", file.display());
            return Err(Failure::new(text, "").with_status(FAILED));
        }
    };
    ui::line(&format!("the project's own file: {said}")).map_err(unprinted)?;
    Ok(0)
}
