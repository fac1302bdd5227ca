//! Which names in a git directory git obeys, and which make a folder one.

/// A name in a git directory that git takes orders from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Control {
    /// `hooks` itself.
    HooksFolder,
    /// What is in it.
    Hook,
    /// `config`.
    Config,
    /// `config.worktree`.
    WorktreeConfig,
    /// `commondir`, of the linked worktree that is the folder it is in, or where there is none.
    Commondir { of_worktree: bool },
    /// `gitdir`, of a linked worktree.
    Gitdir,
    /// `info/attributes`, `info/grafts`.
    Info,
    /// `objects/info/alternates`.
    Alternates,
    /// A folder that the others lie in: `info`, `objects`, `modules`, `worktrees`.
    Structure,
}

/// What `parts`, relative to a git directory, are to git, and how many of them, from the end,
/// are the name in the git directory that it belongs to (a submodule's lies below `modules`).
pub(super) fn control(parts: &[&[u8]]) -> Option<(Control, usize)> {
    let found = match parts {
        [b"hooks"] => Control::HooksFolder,
        [b"hooks", ..] => Control::Hook,
        [b"config"] => Control::Config,
        [b"config.worktree"] => Control::WorktreeConfig,
        [b"commondir"] => Control::Commondir { of_worktree: false },
        [b"gitdir"] => Control::Gitdir,
        [b"info", b"attributes" | b"grafts"] => Control::Info,
        [b"objects", b"info", b"alternates"] => Control::Alternates,
        [b"info" | b"objects" | b"modules" | b"worktrees"]
        | [b"objects", b"info"]
        | [b"worktrees", _] => Control::Structure,
        [b"worktrees", _, b"commondir"] => {
            return Some((Control::Commondir { of_worktree: true }, 1));
        }
        [b"worktrees", _, b"gitdir"] => return Some((Control::Gitdir, 1)),
        [b"worktrees", _, b"config.worktree"] => return Some((Control::WorktreeConfig, 1)),
        [b"modules", rest @ ..] => {
            // A submodule's name may be anything, and may contain slashes.
            return (1..rest.len())
                .find_map(|start| control(rest.get(start..)?))
                .or(Some((Control::Structure, parts.len())));
        }
        _ => return None,
    };
    Some((found, parts.len()))
}

/// Names that are not judged by text alone.
const OF_GIT: [&[u8]; 14] = [
    b"hooks",
    b"config",
    b"config.worktree",
    b"commondir",
    b"gitdir",
    b"info",
    b"attributes",
    b"grafts",
    b"alternates",
    b"modules",
    b"HEAD",
    b"objects",
    b"refs",
    b"worktrees",
];

/// Whether it is one of them.
pub(super) fn is_of_git(name: &[u8]) -> bool {
    OF_GIT.contains(&name)
}

/// The one that `folded` is, which is in lower case.
pub(super) fn spelled(folded: &[u8]) -> Option<&'static [u8]> {
    OF_GIT.into_iter().find(|known| known.eq_ignore_ascii_case(folded))
}

/// Names by which git knows a folder as a git directory, or as that of a linked worktree.
pub(super) fn makes_repository(name: &[u8]) -> bool {
    matches!(name, b"HEAD" | b"objects" | b"refs" | b"commondir" | b"worktrees")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_in_submodules_of_any_name_too() {
        let control = |path: &str| {
            let parts: Vec<&[u8]> = path.split('/').map(str::as_bytes).collect();
            super::control(&parts)
        };
        assert_eq!(control("hooks"), Some((Control::HooksFolder, 1)));
        assert_eq!(control("hooks/pre-commit"), Some((Control::Hook, 2)));
        assert_eq!(control("modules/a/config"), Some((Control::Config, 1)));
        assert_eq!(control("modules/deps/sub/hooks/x"), Some((Control::Hook, 2)));
        assert_eq!(control("modules/a/modules/b/config"), Some((Control::Config, 1)));
        assert_eq!(control("modules/hooks/HEAD"), Some((Control::Structure, 3)), "its name");
        assert_eq!(control("worktrees/x/commondir").map(|found| found.1), Some(1));
        assert_eq!(control("commondir"), Some((Control::Commondir { of_worktree: false }, 1)));
        assert_eq!(control("refs/heads/config"), None);
        assert_eq!(control("objects/12/hooks"), None);
    }
}
