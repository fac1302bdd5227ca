//! Every key of a configuration file: one table, which the reader, the JSON Schema and the
//! reference are made from.
//!
//! Invariant: a key that is not here is unknown to the reader, whatever its code would do with
//! it; a test reads an example of each that is here.

use crate::diagnose::nearest;

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A string.
    Text,
    /// One of these.
    Word(&'static [&'static str]),
    /// An approval policy: a word, or Codex' table of them.
    Approval,
    /// `true` or `false`.
    Flag,
    /// A whole number, within these bounds.
    Number(u64, u64),
    /// `"512MiB"`.
    Size,
    /// `"40s"`.
    Time,
    /// A date, or a date with a time.
    Date,
    /// A list of strings.
    Texts,
    /// A list of TCP ports.
    Ports,
    /// A table of strings, under names of the user's.
    Map,
    /// A string, or a list of words, each of which may be one of several.
    Prefix,
    /// A table with one of these entries: strings and a list of words.
    Key,
}

/// One key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known {
    /// With the tables that it stands in: `limits.tmp_size`.
    pub(crate) path: &'static str,
    pub(crate) kind: Kind,
    /// For a person, in a few words.
    pub(crate) about: &'static str,
}

const fn key(path: &'static str, kind: Kind, about: &'static str) -> Known {
    Known { path, kind, about }
}

/// Tables that stand in a list: `[[rules]]`.
pub(crate) const LISTS: [&str; 3] = ["rules", "network.rules", "network.ssh"];

pub(crate) const MODES: &[&str] = &["read-only", "workspace-write", "danger-full-access"];
pub(crate) const APPROVALS: &[&str] = &["untrusted", "on-request", "never", "on-failure"];

pub(crate) const SCOPES: &[&str] = &["user", "thread", "project", "system"];

/// How a terminal calls.
const NOTIFY: &[&str] = &["off", "bell", "desktop"];

/// All of them, in the order in which they are told.
pub(crate) const KEYS: &[Known] = &[
    key("sandbox_mode", Kind::Word(MODES), "what may be written"),
    key("approval_policy", Kind::Approval, "when an agent's commands ask"),
    key("sandbox_workspace_write.writable_roots", Kind::Texts, "folders that may be written"),
    key("sandbox_workspace_write.network_access", Kind::Flag, "every public host"),
    key("sandbox_workspace_write.exclude_tmpdir_env_var", Kind::Flag, "always so"),
    key("sandbox_workspace_write.exclude_slash_tmp", Kind::Flag, "always so"),
    key("hidden", Kind::Texts, "paths that cannot be read"),
    key("readable", Kind::Texts, "hidden paths that can be read all the same"),
    key("unprotected", Kind::Texts, "protected names to lift"),
    key("read", Kind::Word(&["everything", "workspace"]), "what is readable unless hidden"),
    key(
        "caches",
        Kind::Word(&["copy-on-write", "read-only"]),
        "caches of toolchains: written to in a layer of the workspace's, or not at all",
    ),
    key("env.pass", Kind::Texts, "names or globs of variables to pass"),
    key("env.set", Kind::Map, "variables to set"),
    key("network.allow", Kind::Texts, "hosts that can be reached"),
    key("network.deny", Kind::Texts, "hosts that cannot"),
    key("network.private", Kind::Texts, "private networks that allowed names may lead to"),
    key("network.upstream", Kind::Text, "the proxy to dial by, or `none`"),
    key("network.rules.host", Kind::Text, "whose requests are limited"),
    key("network.rules.methods", Kind::Texts, "methods that it may be asked by"),
    key("network.rules.paths", Kind::Texts, "paths that it may be asked for"),
    key("network.rules.upgrade", Kind::Flag, "whether `Upgrade` passes, for WebSockets"),
    key("network.rules.credential", Kind::Key, "where a secret comes from that is added outside"),
    key("network.rules.variable", Kind::Text, "which holds its placeholder inside"),
    key("network.rules.header", Kind::Text, "the one header that may carry it"),
    key("network.ssh.host", Kind::Text, "where a key logs in, by its whole name"),
    key("network.ssh.key", Kind::Text, "a file of it, the private or the public one"),
    key("network.ssh.user", Kind::Text, "as whom; `git` where it is not said"),
    key("limits.memory", Kind::Size, "memory of all processes together"),
    key("limits.processes", Kind::Number(16, 4_194_304), "processes and threads alive at once"),
    key("limits.open_files", Kind::Number(64, 1_048_576), "open files of one process"),
    key("limits.tmp_size", Kind::Size, "private temporary files"),
    key("limits.wall_time", Kind::Time, "the whole run"),
    key("rules.prefix", Kind::Prefix, "the beginning of a command"),
    key("rules.allow", Kind::Flag, "short for `decision`"),
    key("rules.decision", Kind::Word(&["allow", "ask", "deny"]), "what becomes of it"),
    key("rules.reason", Kind::Text, "what is told"),
    key("rules.grant.paths", Kind::Texts, "paths that an approval makes writable"),
    key("rules.grant.hosts", Kind::Texts, "hosts that an approval opens"),
    key("rules.grant.ports", Kind::Ports, "ports of the host's loopback that an approval opens"),
    key("rules.scope", Kind::Word(SCOPES), "for whom it holds, as where it stands says"),
    key("rules.expires", Kind::Date, "until when it holds"),
    key("rules.match", Kind::Texts, "command lines that it must match"),
    key("rules.not_match", Kind::Texts, "command lines that it must not"),
    key("model.api", Kind::Word(&["responses", "chat", "messages"]), "what its server speaks"),
    key("model.base_url", Kind::Text, "where its server is"),
    key("model.name", Kind::Text, "the model, as its server knows it"),
    key("model.key", Kind::Key, "where its key comes from"),
    key("model.context_tokens", Kind::Number(1, i64::MAX as u64), "what it can read at once"),
    key("agent.command_timeout", Kind::Time, "one command of the built-in agent"),
    key("agent.max_turns", Kind::Number(1, 1_000_000), "questions to the model"),
    key("agent.max_tokens", Kind::Number(1, i64::MAX as u64), "tokens in all"),
    key("agent.question_timeout", Kind::Time, "how long a question waits for its answer"),
    key("agent.notify", Kind::Word(NOTIFY), "how the terminal calls when a question waits"),
    key("agent.bell", Kind::Flag, "short for `notify = \"bell\"`"),
    key("cloud.memory", Kind::Size, "memory of the machine"),
    key("cloud.cpus", Kind::Number(1, 255), "its processors"),
    key("cloud.disk", Kind::Size, "how large its disk may grow"),
    key("cloud.wall_time", Kind::Time, "what a cloud thread has"),
    key("cloud.parallel", Kind::Number(1, 64), "machines at once"),
    key("cloud.setup", Kind::Text, "a script before the agent"),
    key("cloud.setup_network", Kind::Texts, "hosts for that script"),
    key("cloud.checks", Kind::Texts, "command lines after the agent"),
    key("log.required", Kind::Flag, "nothing runs that cannot be recorded"),
    key("retention.automatic", Kind::Flag, "old records go once a day, and it is said"),
    key("retention.runs", Kind::Time, "records of runs"),
    key("retention.threads", Kind::Time, "threads that hold no changes"),
    key("retention.undo", Kind::Time, "what undo needs"),
    key("retention.undo_size", Kind::Size, "and how much of it"),
];

/// The names that may stand in `table` (empty: at the top), in order.
pub(crate) fn names_in(table: &str) -> Vec<&'static str> {
    let mut names: Vec<&'static str> = Vec::new();
    for known in KEYS {
        let inner = match table {
            "" => Some(known.path),
            table => known.path.strip_prefix(table).and_then(|rest| rest.strip_prefix('.')),
        };
        let name = inner.and_then(|inner| inner.split('.').next());
        names.extend(name.filter(|name| !names.contains(name)));
    }
    names
}

/// What to say to a name that `table` does not have: the nearest that it has, the table that
/// it belongs in, or all there are.
pub(crate) fn advice(table: &str, name: &str) -> String {
    let known = names_in(table);
    let elsewhere = |known: &&Known| {
        let place = known.path.rsplit_once('.');
        place.is_some_and(|(place, leaf)| leaf == name && place != table)
    };
    // A name that is exactly right elsewhere is more than one that is nearly right here.
    if let Some((place, _)) = KEYS.iter().find(elsewhere).and_then(|key| key.path.rsplit_once('.'))
    {
        return format!("`{name}` belongs in `[{place}]`");
    }
    if !table.is_empty() && names_in("").contains(&name) {
        return format!("`{name}` belongs at the top, before any `[table]`");
    }
    match nearest(name, &known) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("known here: {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_by_table() {
        assert_eq!(names_in("env"), ["pass", "set"]);
        assert_eq!(names_in("rules.grant"), ["paths", "hosts", "ports"]);
        assert!(names_in("").starts_with(&["sandbox_mode", "approval_policy"]));
        assert!(names_in("").contains(&"rules") && !names_in("").contains(&"hosts"));
    }

    #[test]
    fn a_name_in_the_wrong_table_is_told_where_it_belongs() {
        let cases = [
            ("", "writable_roots", "`writable_roots` belongs in `[sandbox_workspace_write]`"),
            ("env", "hidden", "`hidden` belongs at the top, before any `[table]`"),
            ("", "sandbox_mod", "did you mean `sandbox_mode`?"),
            ("env", "xyzzy", "known here: pass, set"),
        ];
        for (table, name, expected) in cases {
            assert_eq!(advice(table, name), expected);
        }
    }
}
