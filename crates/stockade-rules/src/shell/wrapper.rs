//! How programs name the command, or the text, that they start: data, and how it is read.

use super::script::{Assignment, Word};
use super::variables::{assigned, is_harmless};

/// How one program names the command that it starts.
pub(super) struct Wrapper {
    pub(super) name: &'static str,
    /// Options without a value.
    flags: &'static [&'static str],
    /// Options with one, attached or as the next word.
    values: &'static [&'static str],
    /// Words before the command.
    operands: usize,
    /// Assignments may stand before the command.
    assigns: bool,
    /// The command runs as it would without the wrapper.
    is_plain: bool,
}

const PLAIN: Wrapper =
    Wrapper { name: "", flags: &[], values: &[], operands: 0, assigns: false, is_plain: true };

/// What these start is not what it would be without them; rules that allow do not see through.
const OTHER: Wrapper = Wrapper { is_plain: false, ..PLAIN };

#[rustfmt::skip]
pub(super) const WRAPPERS: &[Wrapper] = &[
    Wrapper { name: "env", assigns: true, ..PLAIN },
    Wrapper { name: "nice", values: &["-n", "--adjustment"], ..PLAIN },
    Wrapper { name: "nohup", ..PLAIN },
    Wrapper { name: "setsid", flags: &["-c", "-f", "-w", "--ctty", "--fork", "--wait"], ..PLAIN },
    Wrapper { name: "stdbuf", values: &["-i", "-o", "-e", "--input", "--output", "--error"], ..PLAIN },
    Wrapper { name: "time", flags: &["-p", "-v"], ..PLAIN },
    Wrapper {
        name: "timeout",
        flags: &["-v", "--foreground", "--preserve-status", "--verbose"],
        values: &["-k", "-s", "--kill-after", "--signal"],
        operands: 1,
        ..PLAIN
    },
    Wrapper {
        name: "xargs",
        flags: &["-0", "-r", "-t", "-x", "--exit", "--no-run-if-empty", "--null", "--verbose"],
        values: &["-a", "-d", "-n", "-s", "-I", "-L", "-P", "--arg-file", "--delimiter", "--max-args",
                  "--max-chars", "--max-lines", "--max-procs"],
        ..PLAIN
    },
    Wrapper { name: "busybox", ..OTHER },
    Wrapper { name: "chroot", operands: 1, ..OTHER },
    Wrapper { name: "chrt", flags: &["-b", "-f", "-i", "-o", "-r"], operands: 1, ..OTHER },
    Wrapper { name: "doas", flags: &["-n"], values: &["-C", "-u"], ..OTHER },
    Wrapper { name: "flock", flags: &["-e", "-n", "-o", "-s", "-u", "-x"], values: &["-E", "-w"], operands: 1, ..OTHER },
    Wrapper { name: "ionice", flags: &["-t"], values: &["-c", "-n"], ..OTHER },
    Wrapper { name: "strace", flags: &["-f"], values: &["-e", "-o"], ..OTHER },
    Wrapper {
        name: "sudo",
        flags: &["-b", "-E", "-H", "-i", "-k", "-n", "-S", "-s"],
        values: &["-C", "-D", "-R", "-T", "-U", "-g", "-h", "-p", "-u"],
        assigns: true,
        ..OTHER
    },
    Wrapper { name: "taskset", flags: &["-a", "-c"], operands: 1, ..OTHER },
    Wrapper { name: "unshare", ..OTHER },
    Wrapper { name: "watch", values: &["-n"], ..OTHER },
];

/// Where the command of a wrapper is.
pub(super) enum Inner {
    /// From this word on; `is_plain` when it runs as it would without the wrapper.
    At { at: usize, is_plain: bool },
    /// There is none.
    None,
    /// Its options are not known.
    Doubt,
}

/// Finds the command that `words`, a call of `wrapper`, starts.
pub(super) fn inner_of(wrapper: &Wrapper, words: &[Word]) -> Inner {
    let mut is_plain = wrapper.is_plain;
    let mut operands = wrapper.operands;
    let mut has_options = true;
    let mut at = 1;
    while let Some(word) = words.get(at) {
        let Some(text) = word.known() else {
            // The program's name may be unknown, what stands before it may not.
            let is_program = operands == 0 && !wrapper.assigns && !has_options;
            return if is_program { Inner::At { at, is_plain } } else { Inner::Doubt };
        };
        if has_options && text == "--" {
            has_options = false;
        } else if has_options && text.starts_with('-') {
            match option(wrapper, text) {
                Some(0) => {}
                // Several words would shift what follows; a mark stands for what is not known.
                Some(_) if words.get(at + 1).is_some_and(|value| is_sure(text, value)) => at += 1,
                Some(_) | None => return Inner::Doubt,
            }
        } else if wrapper.assigns && text.contains('=') {
            has_options = false;
            is_plain &= sets_harmlessly(text);
        } else if operands > 0 {
            operands -= 1;
            has_options = false;
        } else {
            return Inner::At { at, is_plain };
        }
        at += 1;
    }
    Inner::None
}

fn is_sure(option: &str, value: &Word) -> bool {
    if option == "-I" { value.known().is_some() } else { value.is_one() }
}

fn sets_harmlessly(text: &str) -> bool {
    assigned(text).is_some_and(|(name, value)| {
        let is_whole = text.get(..value) == Some(&format!("{name}="));
        let value = Word::Known(text.get(value..).unwrap_or_default().to_owned());
        is_whole && is_harmless(&Assignment { name: name.to_owned(), value })
    })
}

/// How many further words an option takes; `None` for one that is not in the table.
fn option(wrapper: &Wrapper, text: &str) -> Option<usize> {
    if wrapper.flags.contains(&text) {
        return Some(0);
    }
    if wrapper.values.contains(&text) {
        return Some(1);
    }
    let is_attached = wrapper.values.iter().any(|name| match text.strip_prefix(name) {
        Some(value) if name.starts_with("--") => value.starts_with('='),
        Some(_) => true,
        None => false,
    });
    is_attached.then_some(0)
}

/// What `xargs -I` puts its input in place of.
pub(super) fn marks_of(options: &[Word]) -> Vec<String> {
    let next = options.iter().skip(1).map(Some).chain([None]);
    let pairs = options.iter().zip(next);
    let mark = |(word, next): (&Word, Option<&Word>)| {
        let attached = word.known()?.strip_prefix("-I")?;
        let mark = if attached.is_empty() { next?.known()? } else { attached };
        Some(mark.to_owned())
    };
    pairs.filter_map(mark).collect()
}

/// A word in which `mark` stands for something that is not known.
pub(super) fn hole(word: &Word, mark: &str) -> Word {
    match word.known().and_then(|text| text.split_once(mark)) {
        Some((start, _)) => {
            let (written, start) = (word.shown().to_owned(), start.to_owned());
            Word::Unknown { written, start, is_one: true }
        }
        None => word.clone(),
    }
}

/// What a shell is told to run.
pub(super) enum ShellText {
    /// `-c TEXT`
    Text(String),
    /// A file, as any program.
    File,
    /// Standard input, a text that is not known, or options that change the reading.
    Unknown,
}

/// Reads the arguments of a shell.
pub(super) fn shell_text(words: &[Word]) -> ShellText {
    const NAMED: [&str; 5] = ["errexit", "noglob", "nounset", "pipefail", "xtrace"];
    const LONG: [&str; 3] = ["--login", "--noprofile", "--norc"];
    let mut takes_text = false;
    let mut rest = words.iter().skip(1);
    let mut next = rest.next();
    while let Some(word) = next {
        let Some(text) = word.known() else { return ShellText::Unknown };
        if text == "--" || text == "-" {
            next = rest.next();
            break;
        }
        if LONG.contains(&text) && !takes_text {
            next = rest.next();
            continue;
        }
        if text.starts_with('+') {
            return ShellText::Unknown;
        }
        let Some(letters) = text.strip_prefix('-') else { break };
        if !letters.bytes().all(|letter| b"ceflouvx".contains(&letter)) {
            return ShellText::Unknown;
        }
        takes_text |= letters.contains('c');
        for _ in letters.matches('o') {
            if !rest.next().and_then(Word::known).is_some_and(|name| NAMED.contains(&name)) {
                return ShellText::Unknown;
            }
        }
        next = rest.next();
    }
    match next.map(Word::known) {
        Some(Some(text)) if takes_text => ShellText::Text(text.to_owned()),
        // `/dev/stdin` and its like are no files.
        Some(Some(file)) if !file.starts_with("/dev/") && !file.starts_with("/proc/") => {
            ShellText::File
        }
        Some(_) | None => ShellText::Unknown,
    }
}
