//! What is known of commands without any rule: which only read, and where the words of a
//! command stand behind its program's own options.
//!
//! A program is in the table when nothing that it can be told makes it write a file or start
//! another program, or with the options for which that holds. An option that is not listed is
//! not known: long options may be abbreviated, so that a list of the dangerous ones would have
//! holes (`sort --out=x`).

use crate::shell::{Command, Word, is_harmless};

/// Whatever they are told, these only read.
#[rustfmt::skip]
const READERS: &[&str] = &[
    "[", "arch", "b2sum", "base32", "base64", "basename", "cat", "cksum", "cmp", "comm", "cut",
    "df", "dirname", "du", "echo", "egrep", "expand", "expr", "factor", "false", "fgrep", "fold",
    "getconf", "grep", "groups", "head", "hostid", "id", "join", "jq", "ls", "lscpu", "md5sum",
    "nl", "nproc", "numfmt", "od", "paste", "printenv", "printf", "ps", "pwd", "readlink",
    "realpath", "rev", "seq", "sha1sum", "sha224sum", "sha256sum", "sha384sum", "sha512sum",
    "sleep", "stat", "strings", "sum", "tac", "tail", "test", "tr", "true", "tsort", "tty",
    "uname", "unexpand", "uptime", "wc", "which", "whoami",
    // Builtins that leave files and programs alone.
    ":", "break", "cd", "chdir", "continue", "declare", "dirs", "exit", "export", "getopts",
    "hash", "help", "jobs", "local", "popd", "pushd", "read", "readonly", "return", "set",
    "shift", "shopt", "times", "trap", "type", "typeset", "umask", "unset", "wait",
];

/// Programs that only read when they are told no more than this.
struct Reader {
    program: &'static str,
    /// The word behind the program, for programs that are many.
    verb: Option<&'static str>,
    /// Options; a value may be attached with `=`. One-letter options may be joined.
    options: &'static [&'static str],
    /// Options whose value may be the next word.
    values: &'static [&'static str],
    /// How many other words there may be.
    operands: usize,
}

const ANY: usize = usize::MAX;

const fn reader(
    program: &'static str,
    options: &'static [&'static str],
    values: &'static [&'static str],
) -> Reader {
    Reader { program, verb: None, options, values, operands: ANY }
}

const fn git(verb: &'static str, options: &'static [&'static str], operands: usize) -> Reader {
    // What takes a value differs from verb to verb: `git grep -nO` is `-n -O`, which starts a pager.
    Reader { program: "git", verb: Some(verb), options, values: &[], operands }
}

const fn git_log(verb: &'static str) -> Reader {
    const VALUES: &[&str] =
        &["-n", "-U", "--max-count", "--since", "--until", "--author", "--grep"];
    Reader { values: VALUES, ..git(verb, LOG, ANY) }
}

const fn git_values(
    verb: &'static str,
    options: &'static [&'static str],
    values: &'static [&'static str],
) -> Reader {
    Reader { values, ..git(verb, options, ANY) }
}

const LOG: &[&str] = &[
    "-p",
    "-s",
    "-w",
    "-b",
    "-1",
    "-2",
    "-3",
    "-5",
    "-10",
    "-20",
    "--oneline",
    "--stat",
    "--shortstat",
    "--numstat",
    "--name-only",
    "--name-status",
    "--summary",
    "--patch",
    "--no-patch",
    "--graph",
    "--all",
    "--decorate",
    "--pretty",
    "--format",
    "--abbrev-commit",
    "--reverse",
    "--follow",
    "--merges",
    "--no-merges",
    "--first-parent",
    "--cached",
    "--staged",
    "--word-diff",
    "--color",
    "--no-color",
    "--unified",
    "--check",
    "--quiet",
    "--exit-code",
    "--date",
    "--no-ext-diff",
    "--no-textconv",
    "--no-renames",
    "--diff-filter",
];

#[rustfmt::skip]
const SOME: &[Reader] = &[
    Reader { operands: 0, ..reader("date", &["-u", "-R", "-I", "--utc", "--iso-8601"], &["-d", "--date"]) },
    reader("diff", &["-u", "-r", "-N", "-q", "-a", "-i", "-b", "-w", "-B", "-E", "-y", "-s", "--brief", "--unified", "--recursive", "--color"], &["-U"]),
    Reader { operands: 0, ..reader("env", &[], &[]) },
    Reader { operands: 0, ..reader("exec", &[], &[]) },
    reader("command", &["-v", "-V"], &[]),
    reader("fd", &["-H", "-I", "-a", "-s", "-i", "-g", "-F", "-L", "-p", "-0"], &["-t", "-e", "-d", "-E"]),
    reader("file", &["-b", "-i", "-L", "-h", "--brief", "--mime", "--mime-type"], &[]),
    Reader { operands: 0, ..reader("hostname", &["-f", "-s", "-i", "-I"], &[]) },
    reader("rg", &["-n", "-i", "-l", "-c", "-w", "-o", "-v", "-F", "-S", "-s", "-U", "-H", "-N", "-0", "-P",
        "--files", "--hidden", "--no-ignore", "--line-number", "--ignore-case", "--files-with-matches",
        "--count", "--word-regexp", "--fixed-strings", "--no-heading", "--json", "--glob", "--type"],
        &["-g", "-t", "-T", "-A", "-B", "-C", "-m", "-e"]),
    reader("sort", &["-b", "-d", "-f", "-g", "-h", "-i", "-M", "-n", "-R", "-r", "-u", "-V", "-s", "-z", "-c"], &["-k", "-t"]),
    // It reads on in the same word behind `-L`: `-Lo 1 x` writes `x`.
    reader("tree", &["-a", "-d", "-f", "-l", "-s", "-h", "-F", "-C", "-L", "-I", "-P"], &[]),
    Reader { operands: 1, ..reader("uniq", &["-c", "-d", "-i", "-u"], &["-f", "-s", "-w"]) },
    git_values("blame", &["-w", "-s", "-e"], &["-L"]),
    git("cat-file", &["-p", "-t", "-s", "-e"], ANY),
    git("branch", &["-a", "-r", "-v", "--all", "--list", "--show-current"], 0),
    git("describe", &["--tags", "--always", "--dirty", "--long"], ANY),
    git_log("diff"),
    git("grep", &["-n", "-i", "-l", "-L", "-w", "-c", "-v", "-h", "-H", "-F", "-E", "-P", "-q", "-z", "--cached", "--untracked",
        "--line-number", "--ignore-case", "--name-only", "--count", "--heading", "--break", "--fixed-strings"], ANY),
    git_log("log"),
    git("ls-files", &["-c", "-d", "-m", "-o", "-s", "-u", "-z", "--others", "--exclude-standard", "--cached", "--modified"], ANY),
    git("ls-tree", &["-r", "-d", "-t", "-l", "-z", "--name-only"], ANY),
    git("remote", &["-v"], 0),
    git("merge-base", &["--is-ancestor", "--fork-point", "--all"], ANY),
    git("show-ref", &["--heads", "--tags", "--verify", "-s", "-q"], ANY),
    git_values("rev-list", &["--count", "--all", "--reverse"], &["-n", "--max-count"]),
    git("rev-parse", &["--abbrev-ref", "--short", "--verify", "--show-toplevel", "--git-dir", "--is-inside-work-tree", "--quiet", "-q"], ANY),
    git("shortlog", &["-s", "-n", "-e"], ANY),
    git_log("show"),
    git("status", &["-s", "-b", "-z", "--short", "--branch", "--porcelain", "--untracked-files", "--ignored"], ANY),
    git("tag", &["-l", "--list"], 0),
];

/// Programs that answer `--version` and do nothing else then.
#[rustfmt::skip]
const VERSIONED: &[&str] = &[
    "bash", "cargo", "clang", "cmake", "deno", "gcc", "git", "go", "java", "make", "node", "npm",
    "perl", "pip", "pip3", "python", "python3", "ruby", "rustc", "uv",
];

/// What `find` may be told: tests, and actions that print. A test's argument is an operand.
#[rustfmt::skip]
const FIND: &[&str] = &[
    "-a", "-and", "-empty", "-follow", "-group", "-H", "-iname", "-ipath", "-iregex", "-L",
    "-links", "-maxdepth", "-mindepth", "-mmin", "-mount", "-mtime", "-name", "-newer", "-not",
    "-o", "-or", "-P", "-path", "-perm", "-print", "-print0", "-prune", "-regex", "-size", "-type",
    "-user", "-wholename", "-xdev",
];

/// Whether nothing is set in front of the command that changes what it does.
pub(crate) fn is_plain(command: &Command) -> bool {
    command.assignments.iter().all(is_harmless)
}

/// Whether the command only reads.
pub(crate) fn reads_only(command: &Command) -> bool {
    let Some((program, words)) = command.words.split_first() else { return false };
    let Some(program) = program.known() else { return false };
    match program {
        "find" => words.iter().all(find_reads),
        "sed" => sed_prints(words),
        _ if READERS.contains(&program) => true,
        _ => {
            let is_version = matches!(words, [word] if word.known() == Some("--version"));
            (is_version && VERSIONED.contains(&program))
                || SOME.iter().any(|reader| reader.program == program && reader.reads(words))
        }
    }
}

impl Reader {
    fn reads(&self, words: &[Word]) -> bool {
        let words = match (self.verb, words) {
            (None, words) => words,
            (Some(verb), [pager, first, rest @ ..])
                if pager.known() == Some("--no-pager") && first.known() == Some(verb) =>
            {
                rest
            }
            (Some(verb), [first, rest @ ..]) if first.known() == Some(verb) => rest,
            (Some(_), _) => return false,
        };
        let mut operands = self.operands;
        let mut has_options = true;
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let text = word.start();
            if has_options && word.known() == Some("--") {
                has_options = false;
            } else if has_options && self.values.contains(&text) && word.known().is_some() {
                // What looks like an option may be one to the program.
                if words.next().is_none_or(Word::may_be_option) {
                    return false;
                }
            } else if has_options && word.may_be_option() && text != "-" {
                if word.known().is_none() || !self.knows(text) {
                    return false;
                }
            } else if !(self.program == "date" && text.starts_with('+')) {
                // One that is several words would be counted as one.
                if operands == 0 || (operands != ANY && word.known().is_none()) {
                    return false;
                }
                operands = operands.saturating_sub(usize::from(operands != ANY));
            }
        }
        true
    }

    fn knows(&self, text: &str) -> bool {
        let name = text.split_once('=').map_or(text, |(name, _)| name);
        if self.options.contains(&name) || self.values.contains(&name) {
            return true;
        }
        let Some(letters) = text.strip_prefix('-').filter(|rest| !rest.starts_with('-')) else {
            return false;
        };
        let is_known = |letter: char| self.options.contains(&format!("-{letter}").as_str());
        // The value of an option may be attached: `-n5`, `-k2`.
        let has_value = self.values.iter().any(|value| value.len() == 2 && text.starts_with(value));
        has_value || letters.chars().all(is_known)
    }
}

fn find_reads(word: &Word) -> bool {
    match word.known() {
        Some(text) => !text.starts_with('-') || FIND.contains(&text),
        None => !word.may_be_option(),
    }
}

/// `sed -n 5p FILE`, `sed -n 1,20p FILE`: a script of `sed` may write and run anything.
fn sed_prints(words: &[Word]) -> bool {
    let [quiet, script, files @ ..] = words else { return false };
    let lines = script.known().and_then(|script| script.strip_suffix('p'));
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty();
    let is_range = |lines: &str| match lines.split_once(',') {
        Some((first, last)) => is_number(first) && (is_number(last) || last == "$"),
        None => is_number(lines),
    };
    quiet.known() == Some("-n")
        && lines.is_some_and(is_range)
        && files.iter().all(|file| !file.may_be_option())
}

/// A program's options that stand before its verb and take the next word.
const GLOBAL: &[(&str, &[&str])] = &[
    ("apt", &["-o", "-c"]),
    ("apt-get", &["-o", "-c"]),
    ("cargo", &["-C", "-Z", "--color", "--config"]),
    ("docker", &["-c", "-H", "-l", "--config", "--context", "--host", "--log-level"]),
    ("gh", &["-R", "--repo"]),
    ("git", &["-c", "-C", "--git-dir", "--namespace", "--work-tree"]),
    ("helm", &["-n", "--kube-context", "--namespace"]),
    ("kubectl", &["-n", "-s", "--cluster", "--context", "--kubeconfig", "--namespace", "--server"]),
    ("npm", &["--cache", "--prefix", "--registry", "--userconfig", "-w", "--workspace"]),
    ("pip", &["--cache-dir", "--log", "--proxy", "--python"]),
    ("pip3", &["--cache-dir", "--log", "--proxy", "--python"]),
    ("pnpm", &["-C", "--dir", "--filter", "-F"]),
    ("podman", &["--connection", "--log-level", "--root", "--url"]),
    ("terraform", &[]),
    ("yarn", &["--cwd"]),
];

/// The first word behind the options that a program has before its verb; 1 for programs that
/// are not known to have any.
pub(crate) fn after_global_options(program: &str, words: &[Word]) -> usize {
    let Some((_, values)) = GLOBAL.iter().find(|(name, _)| *name == program) else { return 1 };
    let mut at = 1;
    while let Some(word) = words.get(at).and_then(Word::known) {
        // `cargo +nightly` names a toolchain.
        let is_option = word.starts_with('-') || (program == "cargo" && word.starts_with('+'));
        if !is_option {
            break;
        }
        at += 1 + usize::from(values.contains(&word));
    }
    at
}

#[cfg(test)]
mod tests {
    use crate::RuleSet;

    fn reads(line: &str) -> bool {
        let judgement = RuleSet::default().evaluate_line(line);
        !judgement.is_opaque && judgement.parts.iter().all(|part| part.reads_only)
    }

    #[test]
    fn commands_that_read_are_known_and_their_writing_options_are_not() {
        for line in [
            "ls -la",
            "cat a b | grep -n x | wc -l",
            "find . -name '*.rs' -type f",
            "sort -k2 -rn a",
            "sed -n 1,20p a",
            "sed -n '5p' a",
            "git status --short",
            "git --no-pager log --oneline -n 5 HEAD~1",
            "git diff --stat -- src",
            "rg -n -C3 TODO src/*.rs",
            "uniq -c a",
            "date -u +%F",
            "cd src && ls *",
            "export CI=1; ls $x",
            "command -v npm",
            "node --version",
            "nohup timeout 5 ls",
            "echo a > /dev/null 2>&1",
            "[ -f a ] && cat a",
            "",
        ] {
            assert!(reads(line), "{line}");
        }
        for line in [
            "sed -i s/a/b/ x",
            "sed -n 'w x' a",
            "sed -n 5p -i a",
            "find . -delete",
            "find . -fprint x",
            "find . -exec rm {} ;",
            "find * -name x",
            "sort -o x a",
            "sort --out=x a",
            "sort -ox a",
            "sort *",
            "uniq a b",
            "uniq $x",
            "date -s 1",
            "git diff --output=x",
            "git diff --outp x",
            "git shortlog -n --output=x",
            "git log -n --output=x",
            "git branch x",
            "git log $x",
            "git -c core.pager=x log",
            "git commit",
            "tree -o x",
            "rg --pre sh x",
            "file -C",
            "env sh",
            "hostname x",
            "tar xf a",
            "tee a",
            "awk x",
            "xargs rm",
            "echo a > b",
            "GIT_DIR=x git status",
            "./ls",
            "/tmp/ls",
            "python3 --version -c x",
        ] {
            assert!(!reads(line), "{line}");
        }
    }
}
