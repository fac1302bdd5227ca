//! Names on file systems that know no difference between upper and lower case: vfat, NTFS, ext4 and
//! f2fs with `casefold`, and what WSL, CIFS and virtual machines show of Windows and macOS. There
//! `.VSCODE` is the `.vscode` that an editor opens, and `.git/HOOKS` what git runs.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::{Kind, Tree, git, layout};
use crate::names;

/// `name` as such a file system compares it, or `None` when that is what it is. Wider than each of
/// them: full case folding, no characters that nobody sees (ext4), no dots and blanks at the end (vfat).
pub(crate) fn folded(name: &[u8]) -> Option<Vec<u8>> {
    let is_plain = |byte: &u8| byte.is_ascii() && !byte.is_ascii_uppercase();
    let ends_plain = !matches!(name.last(), Some(b'.' | b' '));
    if ends_plain && name.iter().all(is_plain) {
        return None;
    }
    let text = match String::from_utf8_lossy(name) {
        Cow::Borrowed(text) => text.chars().filter(|it| !is_unseen(*it)).fold(
            String::with_capacity(name.len()),
            |mut folded, it| {
                match ligature(it) {
                    Some(letters) => folded.push_str(letters),
                    None => folded.extend(it.to_lowercase()),
                }
                folded
            },
        ),
        // Such a name is none of these file systems'.
        Cow::Owned(_) => return Some(name.to_ascii_lowercase()),
    };
    let text = text.trim_end_matches(['.', ' ']);
    (!text.is_empty() && text.as_bytes() != name).then(|| text.as_bytes().to_vec())
}

/// Letters that fold to ASCII ones and are not their capitals (Unicode, `CaseFolding.txt`).
fn ligature(letter: char) -> Option<&'static str> {
    Some(match letter {
        '\u{17f}' => "s",
        '\u{212a}' => "k",
        '\u{df}' | '\u{1e9e}' => "ss",
        '\u{fb00}' => "ff",
        '\u{fb01}' => "fi",
        '\u{fb02}' => "fl",
        '\u{fb03}' => "ffi",
        '\u{fb04}' => "ffl",
        '\u{fb05}' | '\u{fb06}' => "st",
        _ => return None,
    })
}

/// Characters that count for nothing (Unicode, `Default_Ignorable_Code_Point`).
fn is_unseen(letter: char) -> bool {
    matches!(
        letter,
        '\u{ad}'
            | '\u{34f}'
            | '\u{61c}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fff8}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

/// The names of the tables that have capitals.
const MIXED: [&[u8]; 4] = [b"HEAD", b".Rprofile", b".Renviron", b".externalToolBuilders"];

/// The name of the tables that `name` would be there; `None` where it is none, or is written so.
pub(super) fn respelled(name: &[u8]) -> Option<Vec<u8>> {
    let Some(folded) = folded(name) else {
        let mixed = MIXED.iter().find(|mixed| mixed.eq_ignore_ascii_case(name))?;
        return (*mixed != name).then(|| mixed.to_vec());
    };
    let known = names::spelled(&folded).or_else(|| layout::spelled(&folded));
    let known = known.map_or_else(
        || {
            let is_one = git::is_dot_git(&folded)
                || names::is_protected(&folded)
                || names::is_open_part(&folded);
            is_one.then_some(folded)
        },
        |known| Some(known.to_vec()),
    );
    known.filter(|known| known != name)
}

/// `path` as the tables have its names, below `root`; `None` when it has none of them under another
/// spelling, or when spelling counts there.
pub(super) fn path(tree: &dyn Tree, root: &Path, path: &Path) -> Option<PathBuf> {
    let below = path.strip_prefix(root).ok()?;
    let mut found = root.to_owned();
    let mut is_other = false;
    for part in below {
        let name = part.as_bytes();
        let known = respelled(name).filter(|known| is_same(tree, &found, (name, known)));
        let known = known.or_else(|| aliased(tree, &found, name));
        is_other |= known.is_some();
        found.push(known.as_deref().map_or(part, OsStr::from_bytes));
    }
    is_other.then_some(found)
}

/// Whether `name` may be a short one, which NTFS and vfat give every file besides its own (`GIT~1`).
pub(super) fn is_short(name: &[u8]) -> bool {
    name.windows(2).any(|pair| matches!(pair, [b'~', b'0'..=b'9']))
}

/// The name of the tables that a short name leads to: what is there without being listed has another
/// name. Which one cannot be seen, so it is the most like it of those that would be refused.
fn aliased(tree: &dyn Tree, folder: &Path, name: &[u8]) -> Option<Vec<u8>> {
    if !is_short(name) || tree.kind(&folder.join(OsStr::from_bytes(name))).is_none() {
        return None;
    }
    let names = tree.names(folder)?;
    if names.iter().any(|listed| listed.eq_ignore_ascii_case(name)) {
        return None;
    }
    let begins = name.split(|byte| *byte == b'~').next()?.to_ascii_lowercase();
    let is_like = |known: &Vec<u8>| {
        let bare: Vec<u8> = known.iter().filter(|byte| **byte != b'.').copied().collect();
        bare.to_ascii_lowercase().starts_with(&begins)
    };
    let spelled = |listed: Vec<u8>| respelled(&listed).unwrap_or(listed);
    let mut known = names.into_iter().map(spelled).filter(|listed| super::is_known(listed));
    let first = known.next()?;
    if is_like(&first) {
        return Some(first);
    }
    Some(known.find(is_like).unwrap_or(first))
}

/// Whether both names are one in `folder`.
fn is_same(tree: &dyn Tree, folder: &Path, (one, other): (&[u8], &[u8])) -> bool {
    let there = |name: &[u8]| tree.kind(&folder.join(OsStr::from_bytes(name))).is_some();
    match (there(one), there(other)) {
        (true, false) | (false, true) => false,
        (true, true) => {
            let names = tree.names(folder).unwrap_or_default();
            let has = |name: &[u8]| names.iter().any(|it| it == name);
            !(has(one) && has(other))
        }
        (false, false) => folds(tree, folder),
    }
}

/// Whether `folder` finds what is in it by another case; an empty one is like what it lies in.
fn folds(tree: &dyn Tree, folder: &Path) -> bool {
    let names = tree.names(folder).unwrap_or_default();
    for name in &names {
        let other = names::in_other_case(name);
        if other != *name && !names.contains(&other) {
            return tree.kind(&folder.join(OsStr::from_bytes(&other))).is_some();
        }
    }
    let (Some(above), Some(name)) = (folder.parent(), folder.file_name()) else { return false };
    let other = names::in_other_case(name.as_bytes());
    if other == name.as_bytes() || tree.kind(folder).is_none() {
        return folds(tree, above);
    }
    tree.kind(&above.join(OsStr::from_bytes(&other))) == Some(Kind::Folder)
        && !tree.names(above).unwrap_or_default().contains(&other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_any_spelling_is_the_one_of_the_table() {
        for (name, known) in [
            (".VSCODE", ".vscode"),
            (".v\u{17f}code", ".vscode"),
            (".CLAUDE", ".claude"),
            (".g\u{200c}it", ".git"),
            (".Git", ".git"),
            ("Hoo\u{212a}s", "hooks"),
            ("head", "HEAD"),
            (".ENV.local", ".env.local"),
            (".rprofile", ".Rprofile"),
            (".con\u{fb01}g", ".config"),
            (".vscode.", ".vscode"),
            ("X.Code-Workspace", "x.code-workspace"),
        ] {
            let found = respelled(name.as_bytes());
            assert_eq!(found.as_deref(), Some(known.as_bytes()), "{name}");
        }
        for name in [
            ".vscode",
            "hooks",
            "HEAD",
            ".Rprofile",
            "README.md",
            "Cargo.toml",
            ".ENV.EXAMPLE",
            "\u{e9}t\u{e9}",
            "..",
            ".",
            "a.",
            "MAKEFILE",
            "x.code-workspace",
        ] {
            assert_eq!(respelled(name.as_bytes()), None, "{name}");
        }
        assert_eq!(respelled(b"\xff.VSCODE"), None);
        let parts = names::PROTECTED.iter().flat_map(|entry| entry.name.split('/'));
        for part in parts.filter(|part| part.bytes().any(|byte| byte.is_ascii_uppercase())) {
            assert!(MIXED.contains(&part.as_bytes()), "{part}");
        }
    }
}
