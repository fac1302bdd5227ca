//! What is known of commands without any rule: which only read, and where the words of a
//! command stand behind its program's own options.
//!
//! A program is in the table when nothing that it can be told makes it write a file or start
//! another program, or with the options for which that holds. An option that is not listed is
//! not known: long options may be abbreviated, so that a list of the dangerous ones would have
//! holes (`sort --out=x`).

mod programs;
mod scripts;

use crate::shell::{Command, Word};

use programs::{ANY, FIND, READERS, Reader, SOME, VERSIONED};

/// Whether the command only reads.
pub(crate) fn reads_only(command: &Command) -> bool {
    let Some((program, words)) = command.words.split_first() else { return false };
    let Some(program) = program.known() else { return false };
    match program {
        "find" => find_reads(words),
        "sed" => scripts::sed_prints(words),
        "awk" | "gawk" | "mawk" => scripts::awk_prints(words),
        "tar" => tar_lists(words),
        _ if READERS.contains(&program) => true,
        _ => {
            let told = VERSIONED.iter().find(|(names, _)| names.contains(&program));
            let is_version = |flags: &[&str]| matches!(words, [word] if word.known().is_some_and(|word| flags.contains(&word)));
            told.is_some_and(|(_, flags)| is_version(flags))
                || SOME.iter().any(|reader| reader.program == program && reader.reads(words))
        }
    }
}

/// What an option is to a program of which some are known.
enum Told {
    Unknown,
    /// With whether the next word belongs to it, and whether it is the one that is needed.
    Known {
        takes_next: bool,
        is_needed: bool,
    },
}

impl Reader {
    fn reads(&self, words: &[Word]) -> bool {
        let words = if self.program == "git" { behind_git_options(words) } else { words };
        let Some((verbs, words)) = words.split_at_checked(self.verbs.len()) else { return false };
        if !verbs.iter().zip(self.verbs).all(|(word, verb)| word.known() == Some(*verb)) {
            return false;
        }
        let mut has_needed = self.needs.is_empty();
        let mut operands = self.operands;
        let mut has_options = true;
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let text = word.start();
            if has_options && word.known() == Some("--") {
                has_options = false;
            } else if has_options && word.may_be_option() && text != "-" {
                let told = word.known().map_or(Told::Unknown, |text| self.option(text));
                let Told::Known { takes_next, is_needed } = told else { return false };
                has_needed |= is_needed;
                // What looks like an option may be one to the program.
                if takes_next && words.next().is_none_or(Word::may_be_option) {
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
        has_needed
    }

    fn option(&self, text: &str) -> Told {
        let known = |takes_next, is_needed| Told::Known { takes_next, is_needed };
        let (name, is_attached) = match text.split_once('=') {
            Some((name, _)) => (name, true),
            None => (text, false),
        };
        let is_flag = self.options.contains(&name);
        if (is_flag || self.values.contains(&name)) && (name.starts_with("--") || !is_attached) {
            return known(!is_flag && !is_attached, self.needs.contains(&name));
        }
        let Some(letters) = text.strip_prefix('-').filter(|rest| !rest.starts_with('-')) else {
            return Told::Unknown;
        };
        let is_number = letters.bytes().all(|byte| byte.is_ascii_digit()) && !letters.is_empty();
        if is_number && self.options.contains(&"-#") {
            return known(false, false);
        }
        let mut is_needed = false;
        for (at, letter) in letters.char_indices() {
            let name = format!("-{letter}");
            let name = name.as_str();
            let is_flag = self.options.contains(&name);
            is_needed |= self.needs.contains(&name);
            if self.values.contains(&name) {
                // What follows in the word is its value; a flag's may be missing.
                let is_last = at + letter.len_utf8() == letters.len();
                return known(is_last && !is_flag, is_needed);
            }
            if !is_flag {
                return Told::Unknown;
            }
        }
        known(false, is_needed)
    }
}

/// What stands behind git's own options. One that names a program makes the command opaque.
fn behind_git_options(mut words: &[Word]) -> &[Word] {
    loop {
        words = match words {
            [option, rest @ ..] if matches!(option.known(), Some("--no-pager" | "-P")) => rest,
            [option, value, rest @ ..]
                if matches!(option.known(), Some("-C" | "-c")) && value.is_one() =>
            {
                rest
            }
            _ => return words,
        };
    }
}

/// What `-exec` starts is judged by itself.
fn find_reads(words: &[Word]) -> bool {
    const EXEC: [&str; 2] = ["-exec", "-execdir"];
    let mut is_in_exec = false;
    words.iter().all(|word| match word.known() {
        Some(";" | "+") if is_in_exec => {
            is_in_exec = false;
            true
        }
        _ if is_in_exec => true,
        Some(text) if EXEC.contains(&text) => {
            is_in_exec = true;
            true
        }
        Some(text) => !text.starts_with('-') || FIND.contains(&text),
        None => !word.may_be_option(),
    })
}

/// `tar tzf FILE`, `tar -tvf FILE NAME…`: other options name programs, and so does a name of an
/// archive with a colon, which is on another machine.
fn tar_lists(words: &[Word]) -> bool {
    let [options, archive, names @ ..] = words else { return false };
    let letters = options.known().map(|text| text.strip_prefix('-').unwrap_or(text));
    letters.is_some_and(|letters| {
        let is_listing = letters.bytes().all(|letter| b"tvzjJf".contains(&letter));
        is_listing && letters.contains('t') && letters.ends_with('f')
    }) && archive.known().is_some_and(|name| !name.starts_with('-') && !name.contains(':'))
        && names.iter().all(|name| !name.may_be_option())
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

    #[rustfmt::skip]
    const READS: &[&str] = &[
        "ls -la", "cat a b | grep -n x | wc -l", "find . -name '*.rs' -type f", "sort -k2 -rn a", "sed -n 1,20p a", "sed -n '5p' a",
        "git status --short", "git --no-pager log --oneline -n 5 HEAD~1", "git diff --stat -- src", "rg -n -C3 TODO src/*.rs",
        "sed -n '1,5p;/^fn/,/^}/p' a", "sed -E -e 's/[^/]*$//' -e 's#a#b#gI;/^$/d' a | sed 5q", "sed 's/[[:space:]]*$//;s/[]|]/x/2p' a",
        "awk -v n=1 '$3>5 {print $1\"\\t\"$2, \"x > y | z\"; n+=$2} END {print n}' a", "awk -F: '/^a|b/ && $3>5 {print $1; n+=$2} END {print n}' a",
        "find src -name '*.rs' -newermt 2024-01-01 -exec grep -l x {} +", "find . -name a -printf '%p\\n' -o -name b -ls",
        "tar tzf a.tgz | head; tar -tvf a.tar dir", "gzip -dc a.gz | cmp - b; unzip -p a.zip b; unzip -l a.zip",
        "git -C src -c color.ui=never log -15 -S foo --format=%h",
        "git branch --list 'a/*'; git branch --contains HEAD; git tag -l 'v*'; git tag -n5",
        "git config --get user.name; git remote get-url origin; git stash list -p",
        "git reflog -10; git reflog show HEAD; git worktree list; git status -uall",
        "rg -nC 3 --sort path -uu x; rg -ng '*.rs' x; fd -e rs --max-depth 2",
        "lsof -ti:3000; lsof -i -P -n; ss -tlnp; top -bn1; java -version; history",
        "diff <(sort a) <(sort b); while read -r l; do echo \"$l\"; done < <(ls)", "xargs -I{} grep -n x {}", "uniq -c a", "date -u +%F",
        "cd src && ls *", "export CI=1; ls $x", "command -v npm", "node --version", "nohup timeout 5 ls", "echo a > /dev/null 2>&1",
        "[ -f a ] && cat a", "",
    ];

    #[rustfmt::skip]
    const ACTS: &[&str] = &[
        "sed -i s/a/b/ x", "sed -n 'w x' a", "sed -n 5p -i a", "find . -delete", "find . -fprint x", "find . -exec rm {} ;", "find * -name x",
        "sort -o x a", "sort --out=x a", "sort -ox a", "sort *", "uniq a b", "uniq $x", "date -s 1", "git diff --output=x", "git diff --outp x",
        "git shortlog -n --output=x", "git log -n --output=x", "git branch x", "git log $x", "git -c core.pager=x log", "git commit", "tree -o x",
        "rg --pre sh x", "file -C", "env sh", "hostname x", "tar xf a", "tee a", "awk -f x", "xargs rm", "echo a > b", "GIT_DIR=x git status", "./ls",
        "/tmp/ls", "sed 's/a/b/w x' a", "sed 's/a/b/e' a", "sed 's/a/b/;w x' a", "sed '1e id' a", "sed -n '/a/{p;w x' a", "sed 'y/[/]/;w d/;p' a",
        "sed 's/[[.x.]/]/;w d/;p' a", "sed 's/[\\]/]/w x' a", "sed -n p -e '1w x' a", "sed -f x a", "sed -ni p a", "sed -n -e p --in-place a",
        "sed --expression=p a", "sed $x a", "awk '{print > \"x\"}' a", "awk '{print $1 > FILENAME}' a", "awk '{print /;/ > FILENAME}' a",
        "awk '{print | \"sh\"}' a", "awk '{printf \"a\" >> \"x\"}' a", "awk 'BEGIN{system(\"id\")}'", "awk 'BEGIN{\"id\" | getline x}'",
        "awk '/\"/{print > \"x\"} /\"/' a", "awk '# \"\n{print > \"x\"} # \"' a", "awk 'BEGIN{a=\"\\\\\";print > \"x\";b=\"\"}'", "awk -f x a",
        "awk -i inplace 1 a", "awk --source 1 a", "awk -v $x 1 a", "awk \"$x\" a", "awk 1 /inet/tcp/0/h/80", "find . -exec rm {} +",
        "find . -exec grep x {} + -delete", "find . -exec grep + -delete {} ;", "find . -ok ls {} ;", "tar tf host:a", "tar tf $x", "tar xf a -O",
        "tar tf a --to-command=x", "tar tIf x a", "gzip a", "gzip -k a", "gunzip a.gz", "unzip a.zip", "unzip -q a.zip", "xxd a b", "xxd -pl 64 a",
        "xxd -r a", "git branch -l x", "git branch --list -d x", "git tag x", "git config user.name x", "git config user.name",
        "git config --get --unset a.b", "git remote add a b", "git stash", "git stash drop", "git reflog expire", "git reflog delete x",
        "git worktree add x", "git symbolic-ref HEAD refs/x", "git log -p -O x", "git grep -nOless x", "git -C x commit", "git -C $x log",
        "git -C x -c core.fsmonitor=y status", "git submodule foreach x", "rg --hostname-bin x y", "rg -nz x", "fd -x rm", "fd -uX rm", "ss -K",
        "ss -tD x", "top", "nm --plugin x y", "history -w x", "sort -uo x a", "sort --compress-program=x a", "env FOO=1", "node -v -e x", "bash -v",
        "cargo --version", "ls > >(tee x)", "python3 --version -c x",
    ];

    #[test]
    fn commands_that_read_are_known_and_their_writing_options_are_not() {
        for line in READS {
            assert!(reads(line), "{line}");
        }
        for line in ACTS {
            assert!(!reads(line), "{line}");
        }
    }
}
