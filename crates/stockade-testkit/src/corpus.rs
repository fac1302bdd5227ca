//! The corpus as data: `corpus/attacks/*.toml` and `corpus/everyday/*.toml`.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::lab::{Mode, User};

/// What a case has to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It works unconfined and has no effect behind the boundary.
    Attack,
    /// It works unconfined and behind the boundary.
    Everyday,
}

/// One attack or job.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "each is a line that a case has or has not")]
pub struct Case {
    /// Unique; reads as a claim.
    pub name: String,
    /// Which claim of the threat model it tries: `F1`, `K3`; empty for everyday jobs.
    #[serde(default)]
    pub claim: String,
    /// What runs inside, for bash.
    pub attack: String,
    /// What is set up on the host's side before, sourced by the laboratory's shell.
    #[serde(default)]
    pub prepare: String,
    /// How it is run, when `run bash $CASE/attack` is not it.
    #[serde(default)]
    pub drive: String,
    /// Looked at on the host's side; success means that the effect is there.
    pub effect: String,
    /// Whom it is tried as; everybody when empty.
    #[serde(default)]
    users: Vec<String>,
    /// In which modes; both walled ones when empty.
    #[serde(default)]
    modes: Vec<String>,
    /// Programs without which it says nothing.
    #[serde(default)]
    pub needs: Vec<String>,
    /// Whether the laboratory must be root's own, not one in a user namespace.
    #[serde(default)]
    pub real_root: bool,
    /// Whether an internet of its own is beside the laboratory (`corpus/internet.sh`).
    #[serde(default)]
    pub internet: bool,
    /// Whether the workspace lies on a file system without a difference between upper and lower case.
    #[serde(default)]
    pub folding: bool,
    /// Whether it needs the machine to itself: what fills processors or memory makes others late.
    #[serde(default)]
    pub alone: bool,
    /// Further options of `stockade run`.
    #[serde(default)]
    pub options: String,
    /// The file it stands in, without its ending.
    #[serde(skip)]
    pub area: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    case: Vec<Case>,
}

impl Case {
    /// Whom it is tried as.
    pub fn users(&self) -> Vec<User> {
        let all = [User::Ordinary, User::Root];
        all.into_iter().filter(|user| wants(&self.users, user.as_str())).collect()
    }

    /// The modes it is tried in.
    pub fn modes(&self) -> Vec<Mode> {
        let all = [Mode::ReadOnly, Mode::WorkspaceWrite];
        all.into_iter().filter(|mode| wants(&self.modes, mode.as_str())).collect()
    }

    /// Writes its scripts where the laboratory looks for them.
    pub(crate) fn write_to(&self, folder: &Path) -> std::io::Result<()> {
        let scripts = [
            ("attack", &self.attack),
            ("prepare", &self.prepare),
            ("drive", &self.drive),
            ("effect", &self.effect),
        ];
        for (name, text) in scripts {
            if !text.is_empty() {
                fs::write(folder.join(name), text)?;
            }
        }
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../corpus");
        let internet: &[&str] = if self.internet { &["internet.sh", "internet.py"] } else { &[] };
        let folding: &[&str] = if self.folding { &["folding.py"] } else { &[] };
        for name in internet.iter().chain(folding) {
            fs::copy(corpus.join(name), folder.join(name))?;
        }
        Ok(())
    }
}

fn wants(list: &[String], name: &str) -> bool {
    list.is_empty() || list.iter().any(|entry| entry == name)
}

/// Reads every case of a kind, in order of file and place.
///
/// # Panics
///
/// When a file is not what it should be: the test that reads it has failed then.
pub fn load(kind: Kind) -> Vec<Case> {
    let folder = match kind {
        Kind::Attack => "attacks",
        Kind::Everyday => "everyday",
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../corpus").join(folder);
    let mut files: Vec<PathBuf> = fs::read_dir(&folder)
        .unwrap_or_else(|error| unreachable!("{}: {error}", folder.display()))
        .flatten()
        .map(|entry| entry.path())
        .collect();
    files.sort();
    let mut cases = Vec::new();
    for path in files {
        let text = fs::read_to_string(&path).unwrap_or_default();
        let file: File = toml::from_str(&text)
            .unwrap_or_else(|error| unreachable!("{}: {error}", path.display()));
        let area = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        cases.extend(file.case.into_iter().map(|case| Case { area: area.clone(), ..case }));
    }
    let mut names: Vec<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    names.sort_unstable();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "two cases of one name in {names:?}");
    cases
}
