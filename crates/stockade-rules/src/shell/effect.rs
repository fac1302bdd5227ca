//! What builtins do to the shell that runs them.
//!
//! A builtin that is not here, or that is used in a way that is not here, is opaque: `read`,
//! `printf -v`, `unset` and others evaluate the subscript of a name, which may run what variables hold.

use super::script::{Command, Word};
use super::variables::{are_harmless, assigned, is_own};

/// What a builtin does beyond its output.
pub(super) enum Effect {
    /// Nothing that later commands depend on.
    Nothing,
    /// Later names may mean other programs.
    Redefines,
    /// Not known.
    Opaque(&'static str),
    /// The shell reads this text as commands; not whole where a part of it is not known.
    Reads { text: String, is_whole: bool },
    /// It starts the command at this word, as a program or as the shell would.
    Starts { at: usize, is_program: bool },
}

/// Builtins that leave the shell as it is, for later names and for the reading of the script.
const HARMLESS: &[&str] = &[
    ":", "bg", "break", "caller", "cd", "chdir", "continue", "dirs", "disown", "echo", "exit",
    "false", "fg", "help", "kill", "popd", "pushd", "pwd", "return", "shift", "suspend", "times",
    "true", "type", "ulimit", "umask",
];

/// Builtins that are known to change what is read or run later, or to run something themselves.
const OPAQUE: &[&str] = &[
    ".", "alias", "bind", "compgen", "complete", "compopt", "enable", "fc", "let", "logout",
    "source", "unalias",
];

/// What `shopt` may be told: options that change which files a pattern finds.
const HARMLESS_OPTIONS: &[&str] = &[
    "-s",
    "-u",
    "-q",
    "dotglob",
    "failglob",
    "globstar",
    "inherit_errexit",
    "nocaseglob",
    "nullglob",
];

const UNKNOWN: Effect = Effect::Opaque("it may change what the shell runs later");

/// What the builtin `name` does; `None` when it is none.
pub(super) fn effect(name: &str, command: &Command) -> Option<Effect> {
    let words = command.words.get(1..).unwrap_or_default();
    let effect = match name {
        _ if OPAQUE.contains(&name) => UNKNOWN,
        _ if HARMLESS.contains(&name) => Effect::Nothing,
        "eval" => eval(words),
        "exec" => starts(words, true),
        "command" => match words.first().and_then(Word::known) {
            Some("-v" | "-V") => Effect::Nothing,
            _ => starts(words, false),
        },
        "builtin" => starts(words, false),
        "trap" => trap(words),
        "export" | "readonly" => declares(words, &["-p"], true),
        "declare" | "typeset" | "local" => declares(words, &["-r", "-x"], false),
        "unset" => only(words, is_own),
        "read" => takes(words, "rs", "adnNpt"),
        // Without a name it is `MAPFILE`.
        "mapfile" | "readarray" if !words.is_empty() => takes(words, "t", "dnOs"),
        "mapfile" | "readarray" => UNKNOWN,
        "getopts" => match (words.get(1).and_then(Word::known), words.first()) {
            (Some(name), Some(Word::Known(_))) if is_own(name) => Effect::Nothing,
            _ => UNKNOWN,
        },
        "set" => sets(words),
        "shopt" => only(words, |word| HARMLESS_OPTIONS.contains(&word)),
        "hash" => only(words, |word| word == "-r"),
        "history" => only(words, |_| false),
        "jobs" => only(words, |word| ["-l", "-n", "-p", "-r", "-s"].contains(&word)),
        "wait" => only(words, |word| word == "-n" || !word.starts_with('-')),
        "printf" => match words.first() {
            Some(Word::Known(option)) if option == "-v" => prints_into(&words[1..]),
            Some(word) if word.may_be_option() && word.known() != Some("--") => UNKNOWN,
            _ => Effect::Nothing,
        },
        "test" | "[" => tests(words),
        _ => return None,
    };
    // In a POSIX shell an assignment in front of a special builtin stays.
    let stays = !are_harmless(command);
    Some(if stays && !matches!(effect, Effect::Starts { is_program: true, .. }) {
        UNKNOWN
    } else {
        effect
    })
}

fn eval(words: &[Word]) -> Effect {
    let known: Vec<&str> = words.iter().filter_map(Word::known).collect();
    let is_whole = known.len() == words.len() && !words.iter().any(Word::may_be_option);
    Effect::Reads { text: known.join(" "), is_whole }
}

fn starts(words: &[Word], is_program: bool) -> Effect {
    match words.first() {
        None => Effect::Nothing,
        Some(word) if word.may_be_option() => UNKNOWN,
        Some(_) => Effect::Starts { at: 1, is_program },
    }
}

/// The text of a trap is read when the signal comes, as commands.
fn trap(words: &[Word]) -> Effect {
    let words = if words.first().and_then(Word::known) == Some("--") { &words[1..] } else { words };
    match words {
        [] | [Word::Known(_)] => Effect::Nothing,
        [Word::Known(action), ..] if action.is_empty() || action == "-" => Effect::Nothing,
        [Word::Known(action), ..] if !action.starts_with('-') => {
            Effect::Reads { text: action.clone(), is_whole: true }
        }
        _ => UNKNOWN,
    }
}

/// `export` and its like: names, and assignments to them.
fn declares(words: &[Word], options: &[&str], only_marks: bool) -> Effect {
    let mut effect = Effect::Nothing;
    for word in words {
        if word.known().is_some_and(|word| options.contains(&word)) {
            continue;
        }
        let name = match (assigned(word.start()), word) {
            (Some((name, _)), _) => name,
            (None, Word::Known(name)) if super::lex::is_name(name) => {
                if only_marks {
                    continue;
                }
                name
            }
            (None, _) => return UNKNOWN,
        };
        if !is_own(name) {
            effect = Effect::Redefines;
        }
    }
    effect
}

/// Options that change neither how later lines are read nor what they start.
fn sets(words: &[Word]) -> Effect {
    const NAMED: [&str; 6] = ["errexit", "noclobber", "noglob", "nounset", "pipefail", "xtrace"];
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let Some(text) = word.known() else { return UNKNOWN };
        if text == "--" {
            break;
        }
        let Some(letters) = text.strip_prefix(['-', '+']) else { break };
        if letters.is_empty() || !letters.bytes().all(|letter| b"Ceufxo".contains(&letter)) {
            return UNKNOWN;
        }
        for _ in letters.matches('o') {
            if !words.next().and_then(Word::known).is_some_and(|name| NAMED.contains(&name)) {
                return UNKNOWN;
            }
        }
    }
    Effect::Nothing
}

/// Nothing, when all words are known and as they should be.
fn only(words: &[Word], is_plain: impl Fn(&str) -> bool) -> Effect {
    let is_plain = |word: &Word| word.known().is_some_and(&is_plain);
    if words.iter().all(is_plain) { Effect::Nothing } else { UNKNOWN }
}

/// Takes lines into variables, with options of one letter, and others with a word after them. What is
/// no name may have a subscript.
fn takes(words: &[Word], alone: &str, with_word: &str) -> Effect {
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let Some(text) = word.known() else { return UNKNOWN };
        let Some(letters) = text.strip_prefix('-') else {
            if is_own(text) {
                continue;
            }
            return UNKNOWN;
        };
        let Some(last) = letters.chars().last() else { return UNKNOWN };
        let others = letters.len() - last.len_utf8();
        let all_alone =
            letters.get(..others).is_some_and(|all| all.chars().all(|it| alone.contains(it)));
        let is_known = all_alone
            && (alone.contains(last)
                || with_word.contains(last)
                    && words.next().and_then(Word::known).is_some_and(|value| match last {
                        'a' => is_own(value),
                        'd' | 'p' => true,
                        _ => value.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'),
                    }));
        if !is_known {
            return UNKNOWN;
        }
    }
    Effect::Nothing
}

/// `printf -v NAME FORMAT …`
fn prints_into(words: &[Word]) -> Effect {
    match words {
        [Word::Known(name), format, ..] if is_own(name) && !format.may_be_option() => {
            Effect::Nothing
        }
        _ => UNKNOWN,
    }
}

/// `-v NAME[SUBSCRIPT]` evaluates; whatever could be read as that is not known.
fn tests(words: &[Word]) -> Effect {
    let is_several = |word: &Word| matches!(word, Word::Unknown { is_one: false, .. });
    let may_evaluate = |pair: &[Word]| match pair {
        [first, second] => {
            let is_operator = first.known().is_none_or(|word| matches!(word, "-v" | "-R"));
            is_operator && second.known().is_none_or(|word| word.contains('['))
        }
        _ => false,
    };
    if words.iter().any(is_several) || words.windows(2).any(may_evaluate) {
        return UNKNOWN;
    }
    Effect::Nothing
}
