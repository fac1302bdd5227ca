//! Which variables change what a command does, and which are known not to.

use super::lex::is_name;
use super::script::{Assignment, Command, Word};

/// Read by programs to decide how they print or how much, and for nothing else.
const HARMLESS: &[&str] = &[
    "CI",
    "CLICOLOR",
    "CLICOLOR_FORCE",
    "COLUMNS",
    "DEBIAN_FRONTEND",
    "FORCE_COLOR",
    "LINES",
    "NODE_ENV",
    "NO_COLOR",
    "RUST_BACKTRACE",
    "RUST_LOG",
    "TZ",
    "VERBOSE",
];

/// Locales whose letters and encodings are those that scripts are read in here.
const LOCALES: &[&str] = &["C", "C.UTF-8", "C.utf8", "POSIX", "en_US.UTF-8"];

/// What a name has that programs take from the environment as more than a setting.
const TELLING: &[&str] = &["config", "options", "path", "preload", "proxy", "shell"];

/// Package managers read any option of theirs from variables that begin so.
const MANAGERS: &[&str] = &["npm_", "pip_", "pnpm_", "yarn_"];

/// Whether an assignment in front of a command leaves what runs as it is.
pub(crate) fn is_harmless(assignment: &Assignment) -> bool {
    let Some(value) = assignment.value.known() else { return false };
    let name = assignment.name.as_str();
    if name == "LANG" || name.starts_with("LC_") {
        return LOCALES.contains(&value);
    }
    // A slash could name a file to load: `NODE_ENV=../../x`.
    let others = if name == "TZ" { "_:,+-/" } else { "_.,:=@+-" };
    let is_safe = |character: char| character.is_ascii_alphanumeric() || others.contains(character);
    HARMLESS.contains(&name) && value.chars().all(is_safe)
}

/// Whether all that stands in front of `command` leaves what runs as it is. `read` splits by the `IFS` in
/// front of it, which in every shell is that command's alone: it is no special builtin.
pub(crate) fn are_harmless(command: &Command) -> bool {
    let reads = command.words.first().and_then(Word::known) == Some("read");
    let is_split = |it: &Assignment| reads && it.name == "IFS" && it.value.known().is_some();
    command.assignments.iter().all(|it| is_harmless(it) || is_split(it))
}

/// Whether a script may set `name` for itself without changing what its later commands are.
///
/// The variable may be exported already, so that names which programs look for count too. A
/// script's own are written small.
pub(super) fn is_own(name: &str) -> bool {
    let is_small = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let is_small = name.bytes().all(is_small) && name != "_" && name != "histchars";
    is_name(name)
        && (is_small || HARMLESS.contains(&name))
        && !TELLING.iter().any(|part| name.contains(part))
        && !MANAGERS.iter().any(|start| name.starts_with(start))
}

/// Splits `NAME=value` or `NAME+=value`: the name, and where the value starts.
pub(super) fn assigned(text: &str) -> Option<(&str, usize)> {
    let (name, _) = text.split_once('=')?;
    let value = name.len() + 1;
    let name = name.strip_suffix('+').unwrap_or(name);
    is_name(name).then_some((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_settings_that_change_no_program_are_harmless() {
        let is_harmless = |name: &str, value: &str| {
            let (name, value) = (name.to_owned(), Word::Known(value.to_owned()));
            is_harmless(&Assignment { name, value })
        };
        assert!(is_harmless("CI", "1") && is_harmless("LC_ALL", "C"));
        assert!(!is_harmless("LC_ALL", "ja_JP.SJIS"), "a letter may end in a backslash there");
        for name in ["PATH", "LD_PRELOAD", "GIT_DIR", "NODE_OPTIONS", "PYTHONPATH", "BASH_ENV"] {
            assert!(!is_harmless(name, "1") && !is_own(name), "{name}");
        }
        for name in ["ENV", "IFS", "npm_config_script_shell", "http_proxy", "PS4", "a-b", "_"] {
            assert!(!is_harmless(name, "1") && !is_own(name), "{name}");
        }
        assert!(is_own("i") && is_own("file_name2") && is_own("CI"));
    }
}
