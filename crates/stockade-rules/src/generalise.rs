//! From one command to the beginnings of commands that a person may have meant by saying yes.

use crate::builtin::after_global_options;
use crate::evaluate::base_name;
use crate::shell::Word;

/// Programs whose name says nothing of what they will do: what they run is in their arguments. A
/// rule that allows one of them whole allows everything.
#[rustfmt::skip]
const OPEN_ENDED: &[&str] = &[
    "ash", "awk", "bash", "bun", "bunx", "busybox", "chroot", "csh", "dash", "deno", "doas", "emacs", "env", "eval",
    "exec", "expect", "fish", "flock", "gawk", "gdb", "ionice", "irb", "java", "ksh", "lua", "make", "mksh", "nice",
    "node", "nohup", "npx", "nsenter", "osascript", "parallel", "perl", "php", "pnpx", "powershell", "pwsh", "pypy",
    "pypy3", "python", "python2", "python3", "R", "Rscript", "rm", "ruby", "screen", "sed", "setsid", "sh", "ssh",
    "ssh-agent", "stdbuf", "strace", "su", "sudo", "tclsh", "time", "timeout", "tmux", "ts-node", "tsx", "unshare",
    "uvx", "vi", "vim", "watch", "xargs", "zsh",
];

/// Programs whose first word is a verb, and the verbs behind which there is another name.
const NAMED_VERBS: &[(&str, &[&str])] = &[
    ("npm", &["run", "run-script", "exec"]),
    ("pnpm", &["run", "exec", "dlx"]),
    ("yarn", &["run", "dlx"]),
    ("bun", &["run", "x"]),
    ("docker", &["compose", "container", "image", "run"]),
    ("git", &["remote", "stash", "submodule", "worktree", "config"]),
    ("cargo", &["run", "xtask"]),
    ("go", &["tool", "mod"]),
    ("uv", &["run", "tool", "pip"]),
    ("kubectl", &["get", "create", "delete", "apply"]),
];

/// The most that are offered.
const OFFERED: usize = 4;

/// The longest prefix that is offered, in words.
const WORDS_MAX: usize = 6;

/// Three or four beginnings of `argv`, widest last, for an answer that is to hold for the next
/// hundred commands. Never one that allows everything a program that runs programs may be told;
/// fewer where there are not as many, none where there is no sensible one.
pub fn generalised(argv: &[String]) -> Vec<Vec<String>> {
    let Some(program) = argv.first().filter(|program| !program.is_empty()) else {
        return Vec::new();
    };
    // A relative path means another program in another folder.
    if program.contains('/') && !program.starts_with('/') {
        return Vec::new();
    }
    let is_open_ended = OPEN_ENDED.contains(&base_name(program));
    let verbs = verbs(program, argv);
    let mut lengths = vec![argv.len().min(WORDS_MAX)];
    // With the first option behind the verb, for what differs by it: `cargo test -p`.
    if argv.get(verbs).is_some_and(|word| word.starts_with('-')) {
        lengths.push(verbs + 1);
        if argv.len() > verbs + 1 {
            lengths.push(verbs + 2);
        }
    }
    lengths.extend([verbs, verbs.saturating_sub(1).max(1), 1]);
    let least = if is_open_ended { 2 } else { 1 };
    lengths.retain(|length| (least..=argv.len().min(WORDS_MAX)).contains(length));
    lengths.sort_unstable_by(|a, b| b.cmp(a));
    lengths.dedup();
    // The widest and the ones around the verb say most; between them and the longest are variants.
    while lengths.len() > OFFERED {
        lengths.remove(1);
    }
    let prefixes = lengths.into_iter().map(|length| argv.iter().take(length).cloned().collect());
    let prefixes: Vec<Vec<String>> = prefixes.collect();
    let is_code = |words: &Vec<String>| is_open_ended && words.len() < 2;
    prefixes.into_iter().filter(|words| !is_code(words) && !is_bare_code(words)).collect()
}

/// The one that fits best where only one is wanted: the program with its verb.
pub fn best_general(argv: &[String]) -> Option<Vec<String>> {
    let offered = generalised(argv);
    let program = argv.first()?;
    let wanted = verbs(program, argv);
    let position = offered.iter().position(|words| words.len() <= wanted);
    position.and_then(|at| offered.get(at)).or(offered.last()).cloned()
}

/// `python3 -c`, `bash -c`, `node -e`: what comes then is any program.
fn is_bare_code(words: &[String]) -> bool {
    let [program, option] = words else { return false };
    let takes_code = matches!(
        option.as_str(),
        "-c" | "-e" | "-lc" | "-ec" | "-E" | "-p" | "-r" | "-x" | "-i" | "-" | "--" | "--eval"
    );
    takes_code && OPEN_ENDED.contains(&base_name(program))
}

/// How many words name what is done: the program, what stands before its verb, the verb, and a
/// name behind that where one belongs to it.
fn verbs(program: &str, argv: &[String]) -> usize {
    let base = base_name(program);
    let words: Vec<Word> = argv.iter().cloned().map(Word::Known).collect();
    let at = after_global_options(base, &words);
    let is_name = |word: &String| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_:".contains(c);
        !word.is_empty() && !word.starts_with('-') && word.len() <= 32 && word.chars().all(plain)
    };
    let Some(verb) = argv.get(at).filter(|word| is_name(word)) else { return 1 };
    let named = NAMED_VERBS.iter().find(|(name, _)| *name == base);
    let has_name = named.is_some_and(|(_, verbs)| verbs.contains(&verb.as_str()));
    at + 1 + usize::from(has_name && argv.get(at + 1).is_some_and(is_name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_beginnings_are_offered_and_none_that_allows_everything() {
        for (line, expected) in [
            ("cargo test -p x --lib", "cargo test -p x --lib|cargo test -p|cargo test|cargo"),
            ("npm run build -- --watch", "npm run build -- --watch|npm run build|npm run|npm"),
            ("git push origin main", "git push origin main|git push|git"),
            ("git -C sub push origin", "git -C sub push origin|git -C sub push|git -C sub|git"),
            ("python3 scripts/gen.py --fast", "python3 scripts/gen.py --fast"),
            ("python3 -c print()", "python3 -c print()"),
            ("bash -c", ""),
            ("python3", ""),
            ("make test", "make test"),
            ("ls", "ls"),
            ("./build.sh now", ""),
            ("/usr/bin/foo a b", "/usr/bin/foo a b|/usr/bin/foo a|/usr/bin/foo"),
            ("rm -rf build", "rm -rf build|rm -rf"),
        ] {
            let argv: Vec<String> = line.split(' ').map(str::to_owned).collect();
            let offered = generalised(&argv);
            let shown: Vec<String> = offered.iter().map(|words| words.join(" ")).collect();
            assert_eq!(shown.join("|"), expected, "{line}");
            assert!(offered.len() <= 4 && offered.iter().all(|words| argv.starts_with(words)));
        }
        assert!(generalised(&[]).is_empty());
    }

    #[test]
    fn the_best_one_is_the_program_with_its_verb() {
        for (line, expected) in [
            ("cargo test -p x --lib", "cargo test"),
            ("npm run build -- --watch", "npm run build"),
            ("ls -la", "ls"),
            ("python3 x.py", "python3 x.py"),
        ] {
            let argv: Vec<String> = line.split(' ').map(str::to_owned).collect();
            assert_eq!(best_general(&argv).unwrap().join(" "), expected, "{line}");
        }
    }
}
