//! Which paths an agent may write and read, said before it is tried.
//!
//! The boundary holds either way. This is where a refusal gets its words: the kernel's are
//! "Read-only file system", from which nobody learns what would be possible instead. Paths are
//! resolved on this machine's disk, as the boundary resolves them.

use std::fs;
use std::path::{Component, Path, PathBuf};

use stockade_policy::{AbsPath, Mode, Policy, acts_on_terminals, names};

/// Folders that every place has for itself.
const PRIVATE: [&str; 3] = ["/tmp", "/var/tmp", "/dev/shm"];

/// What a [`Refusal`] is decided by when a path is in no writable root.
pub(crate) const OUTSIDE: &str = "writable_roots";

/// The paths of one resolved policy.
#[derive(Debug, Clone)]
pub struct Bounds {
    policy: Policy,
    /// Protected names that the user has lifted.
    unprotected: Vec<String>,
}

/// Why a path is out of reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// `write` or `read`.
    pub op: &'static str,
    /// What it would have reached.
    pub target: PathBuf,
    /// What is told, without "refused: ".
    pub words: String,
    /// What decided.
    pub decided_by: &'static str,
}

impl Refusal {
    /// Why, in words that fit after a name and a colon.
    pub(crate) fn short(&self) -> &'static str {
        match self.decided_by {
            "hidden" => "it is hidden",
            "protected" => "it is protected",
            "sandbox_mode" => "the mode is read-only",
            OUTSIDE => "it is outside the writable roots",
            _ => "it may not be written",
        }
    }
}

impl Bounds {
    /// The bounds of `policy`; `unprotected` are the protected names that the user has lifted.
    pub fn new(policy: Policy, unprotected: Vec<String>) -> Self {
        Self { policy, unprotected }
    }

    /// The policy that they are the bounds of.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Judges a write to `path`; a relative one starts at the workspace.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] in words.
    pub fn write(&self, path: &Path) -> Result<(), Refusal> {
        let refuse = |target: &Path, decided_by, why: &str| {
            let shown = self.shown(target);
            let words = match decided_by {
                OUTSIDE => format!("write to {shown} {why}"),
                _ => format!("write to {shown}: {why}"),
            };
            Err(Refusal { op: "write", target: target.to_owned(), words, decided_by })
        };
        let target = match resolve(&self.policy.workspace.as_path().join(path)) {
            Ok(target) => target,
            Err(path) => {
                return refuse(&path, "path", "`..` leads out of a folder that is not there");
            }
        };
        match self.policy.mode {
            Mode::DangerFullAccess => return Ok(()),
            Mode::ReadOnly
                if !self.is_private(&target) && !covers(&self.policy.writable, &target) =>
            {
                return refuse(&target, "sandbox_mode", "the mode is read-only");
            }
            Mode::ReadOnly | Mode::WorkspaceWrite => {}
        }
        if self.is_hidden(&target) {
            return refuse(&target, "hidden", "it is hidden");
        }
        if let Some(why) = self.protecting(&target) {
            return refuse(&target, "protected", &format!("it is protected ({why})"));
        }
        if self.is_private(&target) || covers(&self.policy.writable, &target) {
            return Ok(());
        }
        let why =
            format!("is outside the writable roots (writable here: {})", self.writable_here());
        refuse(&target, OUTSIDE, &why)
    }

    /// Judges a change of the user's own file at `path`, which is absolute: the folders that a place has
    /// for itself are not theirs. The error fits after a name and a colon.
    pub(crate) fn change(&self, path: &Path) -> Result<(), &'static str> {
        match self.write(path) {
            Err(refusal) => Err(refusal.short()),
            Ok(()) if self.is_private(path) => Err("it is outside the writable roots"),
            // There or not: the supervisor, who would see it come into being, is not asked.
            Ok(()) if self.is_protected_in_a_top(path) => Err("it is protected"),
            Ok(()) => Ok(()),
        }
    }

    /// Whether a write to `path` would leave what may be written, and nothing else speaks against
    /// it.
    pub fn is_outside(&self, path: &Path) -> bool {
        // Every place has devices of its own, and what is open there.
        let is_own = ["/dev", "/proc/self/fd"].iter().any(|own| path.starts_with(own));
        !is_own && self.write(path).is_err_and(|refusal| refusal.decided_by == OUTSIDE)
    }

    /// Judges a read of `path`; a relative one starts at the workspace.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] in words.
    pub fn read(&self, path: &Path) -> Result<(), Refusal> {
        let path = self.policy.workspace.as_path().join(path);
        let target = resolve(&path).unwrap_or(path);
        if self.policy.mode == Mode::DangerFullAccess || !self.is_hidden(&target) {
            return Ok(());
        }
        let words = format!("read of {}: it is hidden", self.shown(&target));
        Err(Refusal { op: "read", target, words, decided_by: "hidden" })
    }

    /// What a write that only the kernel refused is told.
    pub(crate) fn unforeseen(&self, path: &Path) -> Refusal {
        let target = self.policy.workspace.as_path().join(path);
        let shown = self.shown(&target);
        let words = format!(
            "write to {shown} is outside what may be written (writable here: {})",
            self.writable_here()
        );
        Refusal { op: "write", target, words, decided_by: "boundary" }
    }

    /// The writable roots for a person and for the agent, as they would name them.
    pub fn writable_here(&self) -> String {
        let is_git =
            |path: &AbsPath| path.as_path().components().any(|part| part.as_os_str() == ".git");
        let roots = self.policy.writable.iter().filter(|path| !is_git(path));
        let mut shown: Vec<String> = roots.map(|root| self.shown(root.as_path())).collect();
        shown.push("/tmp".to_owned());
        shown.join(", ")
    }

    /// `path` from the workspace where it lies in it, without anything that draws on a terminal.
    pub(crate) fn shown(&self, path: &Path) -> String {
        let workspace = self.policy.workspace.as_path();
        let path = match path.strip_prefix(workspace) {
            Ok(inside) if inside.as_os_str().is_empty() => Path::new("."),
            Ok(inside) => inside,
            Err(_) => path,
        };
        shown(path)
    }

    fn is_private(&self, target: &Path) -> bool {
        let workspace = self.policy.workspace.as_path();
        !target.starts_with(workspace)
            && !covers(&self.policy.writable, target)
            && PRIVATE.iter().any(|private| target.starts_with(private))
    }

    fn is_hidden(&self, target: &Path) -> bool {
        let nearest = |paths: &[AbsPath]| depth(paths, target);
        nearest(&self.policy.hidden) > nearest(&self.policy.readable)
    }

    /// Why `target` is protected: by a path that the policy names, or by a name that nothing has
    /// yet at the top of the workspace.
    fn protecting(&self, target: &Path) -> Option<&'static str> {
        let inside = target.strip_prefix(self.policy.workspace.as_path()).ok();
        let by_name = inside.and_then(|inside| self.protected_name(inside));
        let held = depth(&self.policy.protected, target);
        if held > 0 && held >= depth(&self.policy.writable, target) {
            return Some(by_name.unwrap_or("it would run or be trusted later on the host"));
        }
        let is_new = target.symlink_metadata().is_err();
        by_name.filter(|_| is_new && covers(&self.policy.writable, target))
    }

    fn is_protected_in_a_top(&self, path: &Path) -> bool {
        let is_top = |folder: &&Path| {
            folder == &self.policy.workspace.as_path()
                || self.policy.tops.iter().any(|top| top.as_path() == *folder)
                // A repository in it, which was there before: no result brings one.
                || folder.join(".git").symlink_metadata().is_ok()
        };
        let mut inside = path.ancestors().skip(1).filter(is_top);
        inside.any(|top| {
            let inside = path.strip_prefix(top).unwrap_or(path);
            self.protected_name(inside).is_some()
        })
    }

    fn protected_name(&self, inside: &Path) -> Option<&'static str> {
        let mut parts = inside.components().map(Component::as_os_str);
        let first = parts.next()?.to_str()?;
        let is_lifted = |name: &str| names::is_lifted(&self.unprotected, name);
        if let Some(entry) = names::protecting(first.as_bytes()) {
            return (!is_lifted(first)).then_some(entry.why);
        }
        let found = names::nested_entries().find(|entry| {
            let is_in = inside.ancestors().any(|path| names::is_at(path, entry.name));
            is_in && !is_lifted(entry.name)
        });
        if let Some(entry) = found {
            return Some(entry.why);
        }
        let of_git = inside.strip_prefix(".git").ok()?;
        let is_gits = names::GIT_PROTECTED.iter().any(|name| of_git.starts_with(name));
        is_gits.then_some("git on the host takes instructions from it")
    }
}

/// The number of components of the deepest of `paths` that `target` is or lies in; 0 for none.
fn depth(paths: &[AbsPath], target: &Path) -> usize {
    let around = paths.iter().filter(|path| target.starts_with(path.as_path()));
    around.map(|path| path.as_path().components().count()).max().unwrap_or(0)
}

fn covers(roots: &[AbsPath], target: &Path) -> bool {
    depth(roots, target) > 0
}

/// `path` without anything that draws on a terminal.
pub(crate) fn shown(path: &Path) -> String {
    path.display().to_string().chars().flat_map(escaped).collect()
}

fn escaped(character: char) -> Vec<char> {
    if acts_on_terminals(character) {
        character.escape_unicode().collect()
    } else {
        vec![character]
    }
}

/// Where `path` leads: links of the part that exists are followed, the rest is added. `Err` when
/// the rest goes up again, which has no meaning.
fn resolve(path: &Path) -> Result<PathBuf, PathBuf> {
    for existing in path.ancestors() {
        let Ok(found) = fs::canonicalize(existing) else { continue };
        let rest = path.strip_prefix(existing).unwrap_or(Path::new(""));
        if rest.components().any(|part| part == Component::ParentDir) {
            return Err(path.to_owned());
        }
        // Joined with nothing, a file would end in a slash.
        return Ok(if rest.as_os_str().is_empty() { found } else { found.join(rest) });
    }
    Err(path.to_owned())
}

#[cfg(test)]
mod tests {
    use stockade_policy::{Limits, Network};

    use super::*;

    struct Lab {
        folder: tempfile::TempDir,
        bounds: Bounds,
    }

    fn lab(mode: Mode, writable: &[&str]) -> Lab {
        let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/bounds");
        fs::create_dir_all(&base).unwrap();
        let folder = tempfile::tempdir_in(base.canonicalize().unwrap()).unwrap();
        let work = folder.path().join("work");
        for name in ["src/deep", "keys", ".git/hooks"] {
            fs::create_dir_all(work.join(name)).unwrap();
        }
        fs::write(work.join(".env"), "").unwrap();
        std::os::unix::fs::symlink("../keys", work.join("src/way")).unwrap();
        let absolute = |name: &str| AbsPath::new(work.join(name)).unwrap();
        let policy = Policy {
            mode,
            workspace: absolute(""),
            home: None,
            writable: writable.iter().map(|name| absolute(name)).collect(),
            protected: [".env", ".git/hooks"].map(absolute).to_vec(),
            hidden: vec![absolute("keys")],
            readable: vec![],
            caches: vec![],
            tops: Vec::new(),
            unprotected: Vec::new(),
            awaited: Vec::new(),
            network: Network::default(),
            limits: Limits::for_memory(1 << 30),
        };
        Lab { folder, bounds: Bounds::new(policy, vec![".envrc".to_owned()]) }
    }

    fn told(lab: &Lab, path: &str) -> String {
        lab.bounds.write(Path::new(path)).map_or_else(|refusal| refusal.words, |()| "ok".to_owned())
    }

    #[test]
    fn a_refusal_says_where_one_may_write() {
        let lab = lab(Mode::WorkspaceWrite, &["src", ".git"]);
        assert_eq!(
            told(&lab, "Dockerfile"),
            "write to Dockerfile is outside the writable roots (writable here: src, /tmp)"
        );
        let outside = lab.folder.path().join("x\u{1b}y");
        let words = told(&lab, outside.to_str().unwrap());
        assert!(words.contains("x\\u{1b}y is outside") && !words.contains('\u{1b}'), "{words}");
    }

    #[test]
    fn a_change_of_a_file_is_judged_by_the_files_alone() {
        let mut lab = lab(Mode::WorkspaceWrite, &[""]);
        let work = lab.folder.path().join("work");
        fs::create_dir_all(work.join("src/nested/.git")).unwrap();
        lab.bounds.policy.tops = vec![AbsPath::new(work.join("src/deep")).unwrap()];
        let told = |path: PathBuf| lab.bounds.change(&path).err().unwrap_or("ok");
        for (path, expected) in [
            ("src/a", "ok"),
            (".envrc", "ok"),
            ("src/.mcp.json", "ok"),
            ("src/way/a", "it is hidden"),
            (".env", "it is protected"),
            (".mcp.json", "it is protected"),
            ("src/deep/.vscode/tasks.json", "it is protected"),
            ("src/nested/.mcp.json", "it is protected"),
            ("src/nested/x/.mcp.json", "ok"),
            ("../a", "it is outside the writable roots"),
        ] {
            assert_eq!(told(work.join(path)), expected, "{path}");
        }
        // A place has this one for itself; for the user it is a folder like others.
        assert_eq!(told("/tmp/of/another/a".into()), "it is outside the writable roots");
        assert!(lab.bounds.write("/tmp/of/another/a".as_ref()).is_ok());
    }

    #[test]
    fn paths_are_judged_where_they_lead() {
        let lab = lab(Mode::WorkspaceWrite, &[""]);
        let hidden = "write to keys/a: it is hidden";
        for (path, expected) in [
            ("src/a", "ok"),
            ("src/new/deep/a", "ok"),
            ("src/deep/../../src/a", "ok"),
            ("/tmp/a", "ok"),
            (".env", "write to .env: it is protected (the application's secrets and switches)"),
            (
                "src/../.env",
                "write to .env: it is protected (the application's secrets and switches)",
            ),
            (".env.example", "ok"),
            (".envrc", "ok"),
            (
                ".git/hooks/post-commit",
                "write to .git/hooks/post-commit: it is protected (git on the host takes instructions from it)",
            ),
            (
                ".vscode/tasks.json",
                "write to .vscode/tasks.json: it is protected (an editor on the host runs tasks or settings from it)",
            ),
            ("src/.vscode/tasks.json", "ok"),
            ("src/way/a", hidden),
            ("keys/a", hidden),
        ] {
            assert_eq!(told(&lab, path), expected, "{path}");
        }
        assert!(told(&lab, "no/../x").contains("not there"));
        assert!(told(&lab, "../x").contains("outside the writable roots"));
        assert!(lab.bounds.read(Path::new("src/way/a")).is_err());
        assert!(lab.bounds.read(Path::new(".env")).is_ok());
    }

    #[test]
    fn the_mode_is_told_as_the_reason() {
        let lab = lab(Mode::ReadOnly, &[]);
        assert_eq!(told(&lab, "src/a"), "write to src/a: the mode is read-only");
        assert_eq!(told(&lab, "/tmp/a"), "ok");
    }
}
