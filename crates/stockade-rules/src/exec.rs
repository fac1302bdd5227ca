//! What rules say of one `execve`, whoever calls it: the file that the kernel would start, and the
//! words that it would be given.
//!
//! Nothing is looked through here. What `env`, a shell or a script starts comes by as an `execve`
//! of its own, and words that only mention a denied program are words.

use stockade_policy::Verdict;

use crate::evaluate::{RuleSet, base_name, concerns};
use crate::rule::RuleRef;
use crate::shell::{Command, Standing, Word};

/// Names of the loader, which starts the file that it is given: `ld-linux-x86-64.so.2 FILE`.
const LOADERS: [&str; 3] = ["ld-linux", "ld-musl", "ld.so"];

/// Options of the loader that take the next word (`ld.so --help`).
const LOADER_VALUES: [&str; 7] = [
    "--argv0",
    "--audit",
    "--glibc-hwcaps-mask",
    "--glibc-hwcaps-prepend",
    "--inhibit-rpath",
    "--library-path",
    "--preload",
];

/// One `execve`, as whoever holds it back has read it. What is not UTF-8 may be lossy: it is no
/// word of any rule.
#[derive(Debug, Clone, Copy)]
pub struct Exec<'a> {
    /// The file by the name that the caller gave.
    pub asked: &'a str,
    /// The same without links.
    pub file: &'a str,
    /// The words, from `argv[0]`.
    pub argv: &'a [String],
}

impl RuleSet {
    /// Whether a rule asks or denies, so that each `execve` has to be judged.
    pub fn holds_execs(&self) -> bool {
        self.rules().iter().any(|rule| rule.verdict() != Verdict::Allow)
    }

    /// The strictest rule that asks about `exec` or denies it. A rule that allows opens nothing
    /// here: what no rule speaks of runs inside the boundary.
    pub fn judge_exec(&self, exec: Exec<'_>) -> Option<(Verdict, RuleRef)> {
        let words = exec.argv.get(1..).unwrap_or_default();
        let called = exec.argv.first().map_or("", |name| name.trim_start_matches('-'));
        let mut names = vec![exec.asked, exec.file, called];
        let mut rest = words;
        if LOADERS.iter().any(|loader| base_name(exec.file).starts_with(loader))
            && let Some(at) = loaded(words)
        {
            names.extend(words.get(at).map(String::as_str));
            rest = words.get(at + 1..).unwrap_or_default();
        }
        let all = names.iter().map(|name| self.strictest(name, rest));
        let strictest = all.chain([self.strictest(exec.file, words)]).flatten();
        let strictest = strictest.max_by_key(|(verdict, number)| (*verdict, *number));
        strictest.and_then(|(verdict, number)| Some((verdict, self.rules().get(number)?.named())))
    }

    /// The programs that are denied whole, whatever they are told: by name or absolute path.
    pub fn denied_programs(&self) -> impl Iterator<Item = (&str, RuleRef)> {
        let whole = self
            .rules()
            .iter()
            .filter(|rule| rule.verdict() == Verdict::Deny && rule.prefix().len() == 1);
        whole.flat_map(|rule| {
            let names = rule.prefix().iter().flatten();
            names.map(|name| (name.as_str(), rule.named()))
        })
    }

    /// The place in the list of the strictest rule about `program` with `words`.
    fn strictest(&self, program: &str, words: &[String]) -> Option<(Verdict, usize)> {
        if program.is_empty() {
            return None;
        }
        let base = base_name(program);
        let names = std::iter::once(program).chain((base != program).then_some(base));
        let found: Vec<_> =
            self.naming(names).filter(|(_, rule)| rule.verdict() != Verdict::Allow).collect();
        if found.is_empty() {
            return None;
        }
        let words = std::iter::once(program).chain(words.iter().map(String::as_str));
        let words = words.map(|word| Word::Known(word.to_owned())).collect();
        let command = Command { words, assignments: Vec::new(), standing: Standing::Sure };
        let matching = found.into_iter().filter(|(_, rule)| concerns(rule, &command));
        matching.map(|(number, rule)| (rule.verdict(), number)).max()
    }
}

/// Where in the loader's words the file stands that it starts.
fn loaded(words: &[String]) -> Option<usize> {
    let mut at = 0;
    while let Some(word) = words.get(at).filter(|word| word.starts_with('-')) {
        at += 1 + usize::from(LOADER_VALUES.contains(&word.as_str()));
    }
    (at < words.len()).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule::{Rule, split_words};

    fn rules() -> RuleSet {
        let rule = |prefix: &str, verdict| {
            let words = split_words(prefix).unwrap().into_iter().map(|word| vec![word]);
            Rule::new(words.collect(), verdict, "config.toml:1").unwrap()
        };
        RuleSet::new(vec![
            rule("docker", Verdict::Deny),
            rule("git push", Verdict::Ask),
            rule("git push --force", Verdict::Deny),
            rule("npm publish", Verdict::Deny),
            rule("/opt/x", Verdict::Deny),
            rule("make", Verdict::Allow),
        ])
        .unwrap()
    }

    #[test]
    fn a_file_is_judged_by_its_names_and_the_words_it_is_given() {
        #[rustfmt::skip]
        const CASES: &[(&str, &str, &[&str], Option<Verdict>)] = &[
            ("/usr/bin/docker", "/usr/bin/docker", &["docker", "ps"], Some(Verdict::Deny)),
            ("./docker", "/work/docker", &["x"], Some(Verdict::Deny)),
            ("/tmp/link", "/usr/bin/docker", &["link"], Some(Verdict::Deny)),
            ("/usr/bin/npm", "/usr/lib/npm-cli.js", &["npm", "publish"], Some(Verdict::Deny)),
            ("/usr/bin/npm", "/usr/lib/npm-cli.js", &["npm", "--prefix", "x", "publish"], Some(Verdict::Deny)),
            ("/usr/bin/npm", "/usr/lib/npm-cli.js", &["npm", "test", "publish"], None),
            ("/bin/busybox", "/bin/busybox", &["docker"], Some(Verdict::Deny)),
            ("/lib/ld-linux-x86-64.so.2", "/lib/ld-linux-x86-64.so.2", &["ld", "/usr/bin/docker", "ps"], Some(Verdict::Deny)),
            ("/lib/ld-linux-x86-64.so.2", "/lib/ld-linux-x86-64.so.2", &["ld", "--argv0", "x", "/usr/bin/docker"], Some(Verdict::Deny)),
            ("/lib/ld-linux-x86-64.so.2", "/lib/ld-linux-x86-64.so.2", &["ld", "/bin/echo", "docker"], None),
            ("/usr/bin/git", "/usr/bin/git", &["git", "-C", "x", "push"], Some(Verdict::Ask)),
            ("/usr/bin/git", "/usr/bin/git", &["git", "push", "--force"], Some(Verdict::Deny)),
            ("/usr/bin/git", "/usr/bin/git", &["git", "log", "push"], None),
            ("/opt/x", "/opt/x", &["x"], Some(Verdict::Deny)),
            ("/usr/bin/x", "/usr/bin/x", &["x"], None),
            // What only mentions it, and what starts it later.
            ("/bin/echo", "/bin/echo", &["echo", "docker"], None),
            ("/bin/sh", "/bin/sh", &["sh", "-c", "docker ps"], None),
            ("/usr/bin/env", "/usr/bin/env", &["env", "docker"], None),
            ("/usr/bin/make", "/usr/bin/make", &["make"], None),
            ("/bin/true", "/bin/true", &[], None),
        ];
        let rules = rules();
        for &(asked, file, argv, expected) in CASES {
            let argv: Vec<String> = argv.iter().map(|&word| word.to_owned()).collect();
            let judged = rules.judge_exec(Exec { asked, file, argv: &argv });
            assert_eq!(judged.map(|(verdict, _)| verdict), expected, "{asked} {argv:?}");
        }
    }

    #[test]
    fn only_rules_that_ask_or_deny_hold_execs() {
        assert!(rules().holds_execs() && !RuleSet::default().holds_execs());
        let names: Vec<_> = rules().denied_programs().map(|(name, _)| name.to_owned()).collect();
        assert_eq!(names, ["docker", "/opt/x"]);
    }
}
