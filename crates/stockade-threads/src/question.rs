//! Asking a person about one exact action.

use std::path::{Component, Path, PathBuf};

use stockade_policy::{Host, HostEntry, HostName, HostPattern, Ports};

use crate::neighbours::is_shared;

/// What a person is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
    /// The action: a command line, or `write to PATH`.
    pub action: String,
    /// What would happen, and why it is asked.
    pub effect: String,
    /// Beginnings of commands that a yes may be meant for, widest last.
    pub prefixes: Vec<Vec<String>>,
    /// Whether a yes can be kept for the project: not where several rules ask.
    pub can_be_kept: bool,
    /// For a host: entries of `network.allow` that a yes for the project may be meant for, widest last.
    pub hosts: Vec<String>,
    /// The words of the one rule that asks, to which a yes for the project is an answer.
    pub rule: Option<String>,
    /// For a path outside: that path, and folders above it, widest last; a yes may be meant for one of them
    /// with all that is below it.
    pub paths: Vec<String>,
}

/// What is kept of a yes for the project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept<'a> {
    /// Commands that begin so.
    Commands(&'a [String]),
    /// Commands that begin so, to this rule, which asks about them.
    Answer(&'a str, &'a [String]),
    /// An entry of `network.allow`.
    Host(&'a str),
    /// A path that may be written, with all that is below it.
    Path(&'a str),
}

/// Entries that allow `host` at `port`, widest last; none for an address.
pub(crate) fn entries(host: &str, port: u16) -> Vec<String> {
    let Ok(Host::Name(name)) = Host::new(host) else { return Vec::new() };
    let entry = |pattern: HostPattern, ports: Ports| HostEntry { pattern, ports }.to_string();
    let mut all = vec![entry(HostPattern::Name(name.clone()), Ports::One(port))];
    if Ports::Web.contain(port) {
        all.push(entry(HostPattern::Name(name.clone()), Ports::Web));
    }
    // Never a whole top level, nor what is one but for its dot (`co.uk`), nor what strangers are under.
    let parent = name.as_str().split_once('.').map_or("", |(_, parent)| parent);
    let is_wide = parent
        .split_once('.')
        .is_none_or(|(second, rest)| second.len() <= 3 && !rest.contains('.') && rest.len() == 2);
    if !is_wide
        && !is_shared(parent)
        && let Ok(parent) = HostName::new(parent)
    {
        all.push(entry(HostPattern::Below(parent), Ports::One(port)));
    }
    all
}

/// Whether `entry` is one that allows what `offered` begins with, which names one host and port.
pub(crate) fn is_entry_for(entry: &str, offered: &[String]) -> bool {
    let asked = offered.first().and_then(|first| first.rsplit_once(':'));
    let Some((host, port)) = asked else { return false };
    let (Ok(host), Ok(port)) = (Host::new(host), port.parse()) else { return false };
    entry.parse::<HostEntry>().is_ok_and(|entry| entry.covers(&host, port))
}

/// Whether `entry` is the first of `offered`, or a folder above it, in plain spelling.
pub(crate) fn is_path_for(entry: &str, offered: &[String]) -> bool {
    let is_plain = Path::new(entry)
        .components()
        .all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    is_plain
        && Path::new(entry).is_absolute()
        && offered.first().is_some_and(|first| Path::new(first).starts_with(entry))
}

/// The one spelling of a path that [`is_path_for`] has taken.
pub(crate) fn spelled(entry: &str) -> String {
    let path: PathBuf = Path::new(entry).components().collect();
    path.to_string_lossy().into_owned()
}

impl Asked {
    /// Whether it is about a command, and beginnings of it are what a yes may be meant for.
    pub fn is_about_commands(&self) -> bool {
        self.hosts.is_empty() && self.paths.is_empty()
    }

    /// Whether a yes for the thread may be meant for `words`, and not for this action alone.
    pub fn may_grant(&self, words: &[String]) -> bool {
        match words {
            [entry] if !self.paths.is_empty() => is_path_for(entry, &self.paths),
            _ => self.is_about_commands(),
        }
    }

    /// Whether a yes for the project may be kept as `words`.
    pub fn may_keep(&self, words: &[String]) -> bool {
        match words {
            [entry] if !self.hosts.is_empty() => is_entry_for(entry, &self.hosts),
            [entry] if !self.paths.is_empty() => is_path_for(entry, &self.paths),
            _ => self.can_be_kept && self.is_about_commands(),
        }
    }
}

/// What a person said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// This time.
    Once,
    /// For the rest of the thread: this very action, commands that begin so, or the one path.
    Thread(Option<Vec<String>>),
    /// In this project from now on: commands that begin so, or for a host or a path the one entry.
    Project(Vec<String>),
    /// No, with a word to the agent that may be empty.
    Deny(String),
    /// There is nobody to ask.
    Nobody,
    /// Nobody answered in time.
    Late,
    /// The user wants the thread to end.
    Stop,
}

/// Who asks.
pub trait Ask: Send + Sync {
    /// Whether there is somebody in front of it.
    fn is_present(&self) -> bool;

    /// Puts the question, and waits for the reply, or for one that `elsewhere` has.
    fn ask(&self, question: &Asked, elsewhere: &dyn Fn() -> Option<Reply>) -> Reply;
}

/// Nobody to ask: a question is a denial at once, unless somebody answers from another terminal.
#[derive(Debug, Clone, Copy)]
pub struct Nobody;

impl Ask for Nobody {
    fn is_present(&self) -> bool {
        false
    }

    fn ask(&self, _question: &Asked, _elsewhere: &dyn Fn() -> Option<Reply>) -> Reply {
        Reply::Nobody
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_yes_is_meant_for_covers_what_was_asked_and_never_a_top_level() {
        for (host, port, expected) in [
            (
                "api.new.example.org",
                443,
                "api.new.example.org:443 api.new.example.org *.new.example.org:443",
            ),
            ("new.example.org", 22, "new.example.org:22 *.example.org:22"),
            ("example.org", 80, "example.org:80 example.org"),
            ("shop.co.uk", 8443, "shop.co.uk:8443"),
            ("alice.github.io", 443, "alice.github.io:443 alice.github.io"),
            ("b.s3.eu-west-1.amazonaws.com", 22, "b.s3.eu-west-1.amazonaws.com:22"),
            ("192.0.2.1", 443, ""),
            ("::1", 443, ""),
        ] {
            let offered = entries(host, port);
            assert_eq!(offered.join(" "), expected, "{host}");
            assert!(offered.iter().all(|entry| is_entry_for(entry, &offered)), "{host}");
        }
        let about = |paths: &[&str]| Asked {
            paths: paths.iter().map(|&path| path.to_owned()).collect(),
            ..Asked::default()
        };
        let asked = about(&["/home/me/out/x", "/home/me/out"]);
        for (path, is_one) in [
            ("/home/me/out/x", true),
            ("/home/me/out/", true),
            ("/home", true),
            ("/home/me/ou", false),
            ("/home/me/out/x/y", false),
            ("home/me/out", false),
            ("/home/me/other/../out", false),
            ("", false),
        ] {
            let words = [path.to_owned()];
            assert_eq!(
                (asked.may_keep(&words), asked.may_grant(&words)),
                (is_one, is_one),
                "{path}"
            );
        }
        assert_eq!(spelled("/home//me/out/"), "/home/me/out");
        assert!(!asked.may_keep(&["/home".to_owned(), "x".to_owned()]));
        let offered = entries("new.example.org", 443);
        for (entry, is_one) in [
            ("new.example.org:*", true),
            ("*.example.org", true),
            ("new.example.org:80", false),
            ("other.example.org", false),
            ("registries", false),
            ("*", false),
            ("", false),
        ] {
            assert_eq!(is_entry_for(entry, &offered), is_one, "{entry}");
        }
    }
}
