//! The names that are protected, as data, each with the reason.
//!
//! Why build files (`package.json`, `Makefile`, CI definitions) are not here: an honest task
//! changes them, and they are reviewed as changes. What is here runs, or is trusted, without
//! anybody looking at it again.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// What a repository's git directory holds that git reads as instructions, relative to it.
/// `*` stands for one component.
pub const GIT_PROTECTED: [&str; 8] = [
    "hooks",
    "config",
    "config.worktree",
    "info/attributes",
    "info/grafts",
    "commondir",
    "gitdir",
    "objects/info/alternates",
];

/// One protected name at the top of a workspace or repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Protected {
    /// Relative path; a `*` that its last component begins or ends with matches any beginning or end.
    pub name: &'static str,
    /// What would run or be trusted later on the host.
    pub why: &'static str,
}

const fn protected(name: &'static str, why: &'static str) -> Protected {
    Protected { name, why }
}

const AGENT: &str = "an agent on the host reads its permissions and hooks from it";
const EDITOR: &str = "an editor on the host runs tasks or settings from it";
const SECRETS: &str = "the application's secrets and switches";
const PROMPT: &str = "a prompt or debugger that the user starts in the folder runs it";
const TOOL: &str = "a tool on the host runs what it names";
const DIRENV: &str = "direnv runs it on entering the folder";
const WORK_TREE: &str = "it is run where an agent gets a new work tree";

/// Protected at the top of the workspace and of every repository.
pub const PROTECTED: &[Protected] = &[
    protected(".env", SECRETS),
    protected(".env.*", SECRETS),
    protected(".envrc", DIRENV),
    protected(".envrc.*", DIRENV),
    protected(".direnv/bin", DIRENV),
    protected(".direnv/flake-profile*", DIRENV),
    protected(".direnv/nix-profile*", DIRENV),
    protected(".stockade", "Stockade's own project file"),
    protected(".codex", AGENT),
    protected(".claude", AGENT),
    protected(".gemini", AGENT),
    protected(".cursor", AGENT),
    protected(".opencode", AGENT),
    protected(".aider.conf.yml", AGENT),
    protected(".kiro", AGENT),
    protected(".qwen", AGENT),
    protected(".roo", AGENT),
    protected(".windsurf", AGENT),
    protected(".continue", AGENT),
    protected(".amazonq", AGENT),
    protected(".factory", AGENT),
    protected(".agents", AGENT),
    protected(".trae", AGENT),
    protected(".junie", AGENT),
    protected(".kilocode", AGENT),
    protected(".augment", AGENT),
    protected(".openhands", AGENT),
    protected(".vibe", AGENT),
    protected(".grok", AGENT),
    protected(".qoder", AGENT),
    protected(".iflow", AGENT),
    protected(".codebuddy", AGENT),
    protected(".pi", AGENT),
    protected(".amp", AGENT),
    protected(".opencode.json", AGENT),
    protected(".crush.json", AGENT),
    protected("crush.json", AGENT),
    protected("opencode.json", AGENT),
    protected("opencode.jsonc", AGENT),
    protected(".clinerules/hooks", AGENT),
    protected(".github/hooks", AGENT),
    protected(".github/copilot", AGENT),
    protected(".github/extensions", AGENT),
    protected(".github/lsp.json", AGENT),
    protected(".github/mcp.json", AGENT),
    protected(".gitlab/duo", AGENT),
    protected(".agent", AGENT),
    protected(".cline", AGENT),
    protected(".kilo", AGENT),
    protected("kilo.json", AGENT),
    protected("kilo.jsonc", AGENT),
    protected(".openclaw", AGENT),
    protected(".omp", AGENT),
    protected(".letta", AGENT),
    protected(".bob", AGENT),
    protected(".tabnine", AGENT),
    protected(".eca", AGENT),
    protected(".mastracode", AGENT),
    protected(".aider-desk", AGENT),
    protected(".autohand", AGENT),
    protected(".commandcode", AGENT),
    protected(".cortex", AGENT),
    protected(".devin", AGENT),
    protected(".forge", AGENT),
    protected(".goose", AGENT),
    protected(".hermes", AGENT),
    protected(".kimi", AGENT),
    protected(".kode", AGENT),
    protected(".lingma", AGENT),
    protected(".mux", AGENT),
    protected(".neovate", AGENT),
    protected(".pochi", AGENT),
    protected(".rovodev", AGENT),
    protected(".zencoder", AGENT),
    protected(".crush/crush.json", AGENT),
    protected("conductor.json", WORK_TREE),
    protected(".conductor", WORK_TREE),
    protected(".superset", WORK_TREE),
    protected(".emdash.json", WORK_TREE),
    protected(".workmux.yaml", WORK_TREE),
    protected(".gtrconfig", WORK_TREE),
    protected(".dmux-hooks", WORK_TREE),
    protected(".mcp.json", "agents start the servers that it names"),
    protected(".vscode", EDITOR),
    protected(".idea", EDITOR),
    protected(".zed", EDITOR),
    protected(".run/*.run.xml", EDITOR),
    protected(".fleet", EDITOR),
    protected(".theia", EDITOR),
    protected(".helix", EDITOR),
    protected(".vim", EDITOR),
    protected(".exrc", EDITOR),
    protected(".nvimrc", EDITOR),
    protected(".nvim.lua", EDITOR),
    protected(".project", EDITOR),
    protected(".externalToolBuilders", EDITOR),
    protected(".devcontainer", EDITOR),
    protected(".devcontainer.json", EDITOR),
    protected("*.code-workspace", EDITOR),
    protected("*.sublime-project", EDITOR),
    protected(".husky", "git hooks that npm installs"),
    protected(".pre-commit-config.yaml", TOOL),
    protected(".pre-commit-config.yml", TOOL),
    protected("prek.toml", TOOL),
    protected("captainhook.json", TOOL),
    protected("grumphp.*", TOOL),
    protected("whisky.json", TOOL),
    protected(".huskyrc", TOOL),
    protected(".huskyrc.*", TOOL),
    protected(".rusty-hook.toml", TOOL),
    protected(".trunk", TOOL),
    protected("hk.pkl", TOOL),
    protected("hk.local.pkl", TOOL),
    protected(".config/hk.pkl", TOOL),
    protected(".config/hk.local.pkl", TOOL),
    protected("lefthook.*", TOOL),
    protected("lefthook-local.*", TOOL),
    protected(".lefthook", TOOL),
    protected(".lefthook.*", TOOL),
    protected(".lefthook-local", TOOL),
    protected(".lefthook-local.*", TOOL),
    protected(".config/lefthook.yml", TOOL),
    protected(".config/lefthook.yaml", TOOL),
    protected(".config/lefthook.toml", TOOL),
    protected(".config/lefthook.json", TOOL),
    protected(".config/lefthook.jsonc", TOOL),
    protected(".config/lefthook-local.yml", TOOL),
    protected(".config/lefthook-local.yaml", TOOL),
    protected(".config/lefthook-local.toml", TOOL),
    protected(".config/lefthook-local.json", TOOL),
    protected(".config/lefthook-local.jsonc", TOOL),
    protected(".irbrc", PROMPT),
    protected(".pryrc", PROMPT),
    protected(".rdbgrc", PROMPT),
    protected(".byebugrc", PROMPT),
    protected(".pdbrc", PROMPT),
    protected(".perldb", PROMPT),
    protected(".psysh.php", PROMPT),
    protected(".Rprofile", PROMPT),
    protected(".Renviron", PROMPT),
    protected(".octaverc", PROMPT),
    protected(".ghci", PROMPT),
    protected(".ocamlinit", PROMPT),
    protected(".iex.exs", PROMPT),
    protected(".cargo/config.toml", "cargo runs the programs that it names"),
    protected(".cargo/config", "cargo runs the programs that it names"),
    protected(".npmrc", "npm takes its registry and scripts from it"),
    protected(".yarnrc", "yarn runs the program that it names"),
    protected(".yarnrc.yml", "yarn runs the program that it names"),
    protected(".mise", TOOL),
    protected(".mise.toml", TOOL),
    protected(".mise.local.toml", TOOL),
    protected("mise.toml", TOOL),
    protected("mise.local.toml", TOOL),
    protected(".config/mise", TOOL),
    protected(".config/mise.toml", TOOL),
    protected(".config/mise.local.toml", TOOL),
    protected("mise/config.toml", TOOL),
    protected("mise/config.local.toml", TOOL),
    protected("mise/conf.d", TOOL),
    protected(".miserc.toml", TOOL),
    protected(".config/miserc.toml", TOOL),
    protected(".tool-versions", "mise and asdf take programs from the folders that it names"),
    protected(".hg/hgrc", "mercurial runs hooks from it"),
    protected(".hg/hgrc-not-shared", "mercurial runs hooks from it"),
    protected(".hg/sharedpath", "mercurial runs hooks of the repository that it names"),
    protected(".jj/repo/config.toml", "jj runs programs from it"),
    protected(".jj/workspace-config.toml", "jj runs programs from it"),
    protected(".sl/config", "sapling runs hooks from it"),
    protected(".pijul/config", "pijul runs hooks from it"),
    protected("_darcs/prefs/defaults", "darcs runs hooks from it"),
    protected(".sl/sharedpath", "sapling runs hooks of the repository that it names"),
];

/// Names that look protected and are templates that people commit.
pub const UNPROTECTED: [&str; 6] = [
    ".env.example",
    ".env.sample",
    ".env.template",
    ".envrc.example",
    ".envrc.sample",
    ".envrc.template",
];

/// The entry that protects `name`, one component at the top of a folder.
pub fn protecting(name: &[u8]) -> Option<&'static Protected> {
    if UNPROTECTED.iter().any(|free| free.as_bytes() == name) {
        return None;
    }
    PROTECTED.iter().find(|entry| matches(entry.name, name))
}

/// Whether `name`, one component at the top of a folder, is protected there.
pub fn is_protected(name: &[u8]) -> bool {
    may_match(name) && protecting(name).is_some()
}

/// By the byte that a protected name can begin with those that can follow it ([`bit`]), the bytes that
/// one with any beginning can end with, and the length of the shortest such end: each component of each
/// path that is written to is asked about, and hardly any is one of those.
const EDGES: ([u32; 256], [bool; 256], usize) = edges();

/// Letters of one case have a bit each, and every other byte shares one.
const fn bit(second: u8) -> u32 {
    1 << (second & 31)
}

const fn edges() -> ([u32; 256], [bool; 256], usize) {
    let (mut begins, mut ends, mut shortest) = ([0; 256], [false; 256], usize::MAX);
    let mut entries = PROTECTED;
    while let [entry, rest @ ..] = entries {
        match entry.name.as_bytes() {
            [b'*', end @ .., last] => {
                ends[*last as usize] = true;
                if end.len() + 1 < shortest {
                    shortest = end.len() + 1;
                }
            }
            [first, second, ..] => begins[*first as usize] |= bit(*second),
            [] | [_] => {}
        }
        entries = rest;
    }
    (begins, ends, shortest)
}

/// Whether there is an entry that begins, or ends after a `*`, as `name` does.
fn may_match(name: &[u8]) -> bool {
    let ([first, second, ..], [.., last]) = (name, name) else { return false };
    let (begins, ends, shortest) = &EDGES;
    let follow = begins.get(usize::from(*first)).copied().unwrap_or(0);
    let is_end = || ends.get(usize::from(*last)).is_some_and(|is_there| *is_there);
    follow & bit(*second) != 0 || (name.len() >= *shortest && is_end())
}

/// What an entry of `unprotected` can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lift {
    /// It names something protected that the user may open.
    Possible,
    /// It names git's hooks, or all of `.git`: what is planted there runs on the host.
    Never,
    /// It names nothing that is protected.
    Unknown,
}

/// Judges `name` as an entry of `unprotected`.
pub fn lift(name: &str) -> Lift {
    let name = name.trim_end_matches('/');
    match name.strip_prefix(".git") {
        Some("" | "/hooks") => return Lift::Never,
        Some(inner) if inner.starts_with("/hooks/") => return Lift::Never,
        Some(inner) if GIT_PROTECTED.iter().any(|known| inner.strip_prefix('/') == Some(known)) => {
            return Lift::Possible;
        }
        Some(_) | None => {}
    }
    if PROTECTED.iter().any(|entry| entry.name == name) || is_protected(name.as_bytes()) {
        Lift::Possible
    } else {
        Lift::Unknown
    }
}

/// Whether one of `lifted` (entries of `unprotected`) opens `name`, a protected name relative
/// to the top of its folder: by the name itself or by the table's pattern for it.
pub fn is_lifted(lifted: &[String], name: &str) -> bool {
    let pattern = protecting(name.as_bytes()).map_or(name, |entry| entry.name);
    lifted
        .iter()
        .filter(|entry| lift(entry) == Lift::Possible)
        .map(|entry| entry.trim_end_matches('/'))
        .any(|entry| entry == name || entry == pattern)
}

/// Folders that a protected name of more than one component begins with and that are not hidden.
pub(crate) const PLAIN_FOLDERS: [&[u8]; 2] = [b"mise", b"_darcs"];

/// Components of protected names of more than one that stand for any beginning or end of a name.
const OPEN_PARTS: [&str; 3] = ["*.run.xml", "flake-profile*", "nix-profile*"];

/// Whether `folded`, which is in lower case, is one of them.
pub(crate) fn is_open_part(folded: &[u8]) -> bool {
    OPEN_PARTS.iter().any(|part| is_part(part, folded))
}

/// By the letter that a component of a protected name can begin with those lengths that it can have, a bit each.
const PARTS: [u64; 256] = parts();

const fn parts() -> [u64; 256] {
    let mut lengths = [0; 256];
    let mut entries = PROTECTED;
    while let [entry, rest @ ..] = entries {
        let mut text = entry.name.as_bytes();
        let (mut first, mut length) = (None, 0);
        loop {
            match text {
                [b'/', after @ ..] => {
                    text = after;
                    (first, length) = (None, 0);
                }
                [byte, after @ ..] => {
                    text = after;
                    if first.is_none() {
                        first = Some(byte.to_ascii_lowercase());
                    }
                    length += 1;
                    let ends = matches!(text, [] | [b'/', ..]);
                    if let (true, Some(first)) = (ends, first) {
                        lengths[first as usize] |= 1 << (length & 63);
                    }
                }
                [] => break,
            }
        }
        entries = rest;
    }
    lengths
}

/// The component of a protected name, without `*`, that `folded` is, which is in lower case.
pub(crate) fn spelled(folded: &[u8]) -> Option<&'static [u8]> {
    let lengths = PARTS.get(usize::from(*folded.first()?)).copied().unwrap_or(0);
    if lengths & (1 << (folded.len() & 63)) == 0 {
        return None;
    }
    let mut parts =
        PROTECTED.iter().flat_map(|entry| entry.name.as_bytes().split(|it| *it == b'/'));
    parts.find(|part| part.eq_ignore_ascii_case(folded))
}

/// `name` with upper and lower case swapped in ASCII: who finds a file by it knows no difference.
pub fn in_other_case(name: &[u8]) -> Vec<u8> {
    let swap = |byte: &u8| match byte {
        b'a'..=b'z' => byte.to_ascii_uppercase(),
        _ => byte.to_ascii_lowercase(),
    };
    name.iter().map(swap).collect()
}

/// Whether `name` is protected at the top of a folder on a file system that knows no difference between
/// upper and lower case.
pub fn is_protected_in_any_case(name: &[u8]) -> bool {
    let folded = crate::guard::folded(name);
    let folded = folded.as_deref().unwrap_or(name);
    is_protected(name) || is_protected(folded) || spelled(folded).is_some_and(is_protected)
}

/// The protected names of more than one component.
pub fn nested() -> impl Iterator<Item = &'static str> {
    nested_entries().map(|entry| entry.name)
}

/// The same with their reasons.
pub fn nested_entries() -> impl Iterator<Item = &'static Protected> {
    PROTECTED.iter().filter(|entry| entry.name.contains('/'))
}

/// Whether `part`, one component of a path, is what `wanted`, one component of an entry, stands for.
pub fn is_part(wanted: &str, part: &[u8]) -> bool {
    matches(wanted, part)
}

/// Whether `path` ends with the entry `name` of more than one component.
pub fn ends_with(path: &Path, name: &str) -> bool {
    let mut parts = path.iter().rev();
    name.rsplit('/').all(|wanted| parts.next().is_some_and(|part| is_part(wanted, part.as_bytes())))
}

/// Whether `path`, relative to a top, is what the entry `name` of more than one component stands for.
pub fn is_at(path: &Path, name: &str) -> bool {
    path.components().count() == name.split('/').count() && ends_with(path, name)
}

fn matches(pattern: &str, name: &[u8]) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(end), _) => name.ends_with(end.as_bytes()),
        (None, Some(start)) => name.starts_with(start.as_bytes()) && name.len() > start.len(),
        (None, None) => name == pattern.as_bytes(),
    }
}

/// Folders of home that are never writable, not even in a root that was asked for: Stockade's
/// policy for the next run, its record, and the images that its machines boot.
pub const NEVER_WRITABLE_IN_HOME: [&str; 3] =
    [".config/stockade", ".local/state/stockade", ".cache/stockade"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protected_names_match_whole_and_templates_are_free() {
        for name in [
            ".env",
            ".env.local",
            ".envrc.private",
            ".vscode",
            "x.code-workspace",
            ".mcp.json",
            ".iex.exs",
        ] {
            assert!(is_protected(name.as_bytes()), "{name}");
        }
        for name in [".env.example", ".envrc.example", ".envy", ".env.", "env", ".vscode2"] {
            assert!(!is_protected(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn no_name_of_the_table_is_left_out_by_its_edges() {
        for entry in PROTECTED {
            for middle in ["", "x", "-local", ".e"] {
                let name = entry.name.replace('*', middle);
                let is_one = protecting(name.as_bytes()).is_some();
                assert_eq!(is_protected(name.as_bytes()), is_one, "{name}");
            }
        }
        assert!(
            !may_match(b"") && !may_match(b"home") && !may_match(b"4711"),
            "or it saves nothing"
        );
    }

    #[test]
    fn each_component_is_known_in_lower_case_too() {
        for entry in PROTECTED {
            for part in entry.name.split('/') {
                let found = spelled(part.to_ascii_lowercase().as_bytes());
                assert!(found.is_some_and(|it| it.eq_ignore_ascii_case(part.as_bytes())), "{part}");
            }
            let (first, last) =
                (entry.name.split('/').next().unwrap(), entry.name.rsplit('/').next());
            let is_open = entry.name.contains('/') && entry.name.contains('*');
            assert_eq!(is_open, OPEN_PARTS.contains(&last.unwrap()), "{entry:?}");
            let is_plain = PLAIN_FOLDERS.contains(&first.as_bytes());
            assert!(!entry.name.contains('/') || first.starts_with('.') || is_plain, "{entry:?}");
        }
        assert!(is_protected_in_any_case(b".rprofile") && is_protected_in_any_case(b".ENV.x"));
        assert!(!is_protected_in_any_case(b"README.md") && spelled(b"readme").is_none());
    }

    #[test]
    fn an_entry_of_a_folder_may_leave_its_end_open() {
        let name = ".direnv/flake-profile*";
        assert!(ends_with(Path::new("/w/.direnv/flake-profile-a5.rc"), name));
        assert!(is_at(Path::new(".direnv/flake-profile-a5.rc"), name));
        for other in
            ["/w/.direnv/flake-profile", "/w/flake-profile-a5.rc", "/w/.direnv/python-3.13"]
        {
            assert!(!ends_with(Path::new(other), name), "{other}");
        }
        assert!(!is_at(Path::new("a/.direnv/flake-profile-a5.rc"), name));
    }

    #[test]
    fn every_entry_is_relative_and_says_why() {
        for entry in PROTECTED {
            assert!(!entry.name.starts_with('/') && !entry.why.is_empty(), "{entry:?}");
        }
    }

    #[test]
    fn what_is_protected_can_be_lifted_and_hooks_never() {
        #[rustfmt::skip]
        const CASES: &[(&str, Lift)] = &[
            (".env",             Lift::Possible),
            (".env.*",           Lift::Possible),
            (".env.local",       Lift::Possible),
            ("a.code-workspace", Lift::Possible),
            (".cargo/config",    Lift::Possible),
            (".git/config",      Lift::Possible),
            (".git/hooks",       Lift::Never),
            (".git/hooks/",      Lift::Never),
            (".git",             Lift::Never),
            (".env.example",     Lift::Unknown),
            (".vscod",           Lift::Unknown),
            ("src",              Lift::Unknown),
            ("/etc/shadow",      Lift::Unknown),
        ];
        for &(name, expected) in CASES {
            assert_eq!(lift(name), expected, "{name}");
        }
    }

    #[test]
    fn lifting_reaches_what_was_named_and_nothing_else() {
        let lifted = |list: &[&str], name: &str| {
            let list: Vec<String> = list.iter().map(|&name| name.to_owned()).collect();
            is_lifted(&list, name)
        };
        assert!(lifted(&[".env.*"], ".env.local") && lifted(&[".env.local"], ".env.local"));
        assert!(!lifted(&[".env"], ".env.local") && !lifted(&[".env.local"], ".env.test"));
        assert!(lifted(&[".git/config"], ".git/config") && !lifted(&[".git/config"], ".git/hooks"));
        assert!(!lifted(&[".git/hooks", ".git"], ".git/hooks"), "never the hooks");
    }
}
