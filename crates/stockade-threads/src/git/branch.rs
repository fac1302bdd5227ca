//! What is written into the user's repository when they ask for a branch: a pack and a name.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::process::Stdio;

use stockade_agents::programs;

use super::clone::copy_history;
use super::{Git, GitError, ObjectId, Repository, ended, last_words, line, object};

/// Who a commit is by: the user, as their git has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    name: String,
    email: String,
}

impl Identity {
    /// Who makes commits that no repository of a user's gets to see.
    pub(crate) fn ours() -> Self {
        Self { name: "Stockade".to_owned(), email: "stockade@localhost".to_owned() }
    }
}

/// Variables of the user's that say who they are.
const WHO: [&str; 5] =
    ["GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL", "EMAIL"];

/// Who the user is, by their configuration or their environment. It runs nothing.
pub(crate) fn identity(repository: &Repository) -> Result<Identity, GitError> {
    const VERB: &str = "var";
    let mut git = repository.as_user();
    for name in WHO {
        if let Some(value) = std::env::var_os(name) {
            git = git.variable(name, value);
        }
    }
    let answer = git.run(&[VERB, "GIT_AUTHOR_IDENT"])?;
    // `NAME <EMAIL> SECONDS ZONE`
    let text = line(VERB, &answer)?;
    let parts = text.rsplit_once('>').and_then(|(who, _)| who.rsplit_once(" <"));
    let (name, email) = parts.ok_or_else(|| GitError::answer(VERB))?;
    Ok(Identity { name: name.to_owned(), email: email.to_owned() })
}

/// Copies what `tip` has and `base` has not from the repository in `directory`, which we made,
/// into the user's. Each object is checked as it comes.
pub(crate) fn give_commits(
    directory: &Path,
    repository: &Repository,
    (tip, base): (&str, &str),
) -> Result<(), GitError> {
    let into = repository.own();
    let from = Git::bare(directory).borrowing(&repository.objects);
    copy_history(&from, &into, &format!("{tip}\n^{base}\n"), true)
}

/// What is pushed, and where.
pub(crate) struct Pushed<'a> {
    pub(crate) remote: &'a str,
    pub(crate) commit: &'a str,
    pub(crate) branch: &'a str,
}

/// The variable that the pushing git's helper reads, so that no command line shows the token.
const TOKEN: &str = "STOCKADE_FORGE_TOKEN";

/// Asked after the user's own helpers, and only by the git that pushes.
const HELPER: &str = "!f() { test \"$1\" = get && printf 'username=x-access-token\\npassword=%s\\n' \
                      \"$STOCKADE_FORGE_TOKEN\"; }; f";

/// Variables by which a caller's git is told of another repository than this one.
const ELSEWHERE: [&str; 9] = [
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_COMMON_DIR",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
    "GIT_CONFIG",
];

impl Git {
    /// As somebody, at some time.
    pub(crate) fn signed(self, who: &Identity, when: &str) -> Self {
        let who = self
            .variable("GIT_AUTHOR_NAME", &who.name)
            .variable("GIT_AUTHOR_EMAIL", &who.email)
            .variable("GIT_COMMITTER_NAME", &who.name)
            .variable("GIT_COMMITTER_EMAIL", &who.email);
        who.variable("GIT_AUTHOR_DATE", when).variable("GIT_COMMITTER_DATE", when)
    }
}

impl Repository {
    /// Git with this repository, of whose configuration nothing runs.
    fn own(&self) -> Git {
        Git::discovering(&self.top).variable("GIT_DIR", &self.directory)
    }

    /// Git with this repository as its user has it: what they configured counts.
    pub(crate) fn as_user(&self) -> Git {
        let mut git = self.own();
        git.is_users = true;
        for name in ["HOME", "XDG_CONFIG_HOME"] {
            if let Some(value) = std::env::var_os(name) {
                git = git.variable(name, value);
            }
        }
        git
    }

    /// Git with the repository in `directory`, which we made, that reads this one's objects too.
    pub(crate) fn lend(&self, directory: &Path) -> Git {
        Git::bare(directory).borrowing(&self.objects)
    }

    /// Whether it has that commit.
    pub(crate) fn has_commit(&self, commit: &str) -> Result<bool, GitError> {
        let name = format!("{commit}^{{commit}}");
        Ok(self.own().is_true(&["rev-parse", "--quiet", "--verify", &name])?.is_some())
    }

    /// Whether git takes `name` for a branch.
    pub(crate) fn is_branch_name(&self, name: &str) -> Result<bool, GitError> {
        if name.starts_with('-') || name.starts_with("refs/") || name.contains("@{") {
            return Ok(false);
        }
        let (status, _) = self.own().status_of(&["check-ref-format", "--branch", name])?;
        Ok(status == Some(0))
    }

    /// Where the branch `name` points, if there is one.
    pub(crate) fn branch_tip(&self, name: &str) -> Result<Option<String>, GitError> {
        let reference = format!("refs/heads/{name}");
        let words = ["rev-parse", "--quiet", "--verify", &reference];
        let found = self.own().is_true(&words)?;
        found.map(|answer| Ok(object("rev-parse", &answer)?.to_string())).transpose()
    }

    /// Makes the branch `name`, unless it is there and points to `tip`.
    pub(crate) fn make_branch(
        &self,
        name: &str,
        tip: &str,
        who: &Identity,
        why: &str,
    ) -> Result<(), GitError> {
        if self.branch_tip(name)?.as_deref() == Some(tip) {
            return Ok(());
        }
        let tip: ObjectId = tip.parse().ok().ok_or_else(|| GitError::answer("commit-tree"))?;
        let nothing = "0".repeat(tip.as_str().len());
        let git = self
            .own()
            .variable("GIT_COMMITTER_NAME", &who.name)
            .variable("GIT_COMMITTER_EMAIL", &who.email);
        let reference = format!("refs/heads/{name}");
        let words = ["update-ref", "-m", why, &reference, tip.as_str(), &nothing];
        git.run(&words.map(OsStr::new)).map(drop)
    }

    /// The remote that git would push to, by the user's configuration.
    pub(crate) fn push_remote(&self) -> Result<Option<String>, GitError> {
        let branch = self.branch.as_deref().unwrap_or_default();
        let keys = [
            format!("branch.{branch}.pushRemote"),
            "remote.pushDefault".to_owned(),
            format!("branch.{branch}.remote"),
        ];
        for key in keys {
            let answer = self.as_user().is_true(&["config", "--get", &key])?;
            let name = answer.map(|answer| line("config", &answer).map(str::to_owned));
            // `.` is this repository.
            if let Some(name) = name.transpose()?.filter(|name| !name.is_empty() && name != ".") {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }

    /// Where the remote `name` leads when something is pushed; `None` without one.
    pub(crate) fn push_url(&self, name: &str) -> Result<Option<String>, GitError> {
        let words = ["remote", "get-url", "--push", "--", name];
        let (status, answer) = self.as_user().status_of(&words)?;
        if status != Some(0) {
            return Ok(None);
        }
        Ok(line("remote", &answer)?.lines().next().map(str::to_owned))
    }

    /// Pushes as the user would: their configuration, agent and helpers count. No hook runs, and
    /// nothing on the other side is overwritten. `credential` is an address and the token for it.
    pub(crate) fn push(
        &self,
        pushed: &Pushed<'_>,
        credential: Option<(String, &str)>,
    ) -> Result<(), GitError> {
        const VERB: &str = "push";
        let mut command = programs::command("git");
        for name in ELSEWHERE {
            command.env_remove(name);
        }
        command.env("GIT_DIR", &self.directory).env("LC_ALL", "C").current_dir(&self.top);
        let settings = ["core.hooksPath=/dev/null", "core.fsmonitor=false"];
        command.args(settings.iter().flat_map(|setting| ["-c", setting]));
        if let Some((at, token)) = credential {
            command.arg("-c").arg(format!("credential.{at}.helper={HELPER}")).env(TOKEN, token);
        }
        let refspec = format!("{}:refs/heads/{}", pushed.commit, pushed.branch);
        let words = [VERB, "--quiet", "--no-verify", "--no-follow-tags", "--recurse-submodules=no"];
        command.args(words).args(["--", pushed.remote, &refspec]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(GitError::Start)?;
        let words = last_words(child.stderr.take());
        let status = child.wait().map_err(|source: io::Error| GitError::io(VERB)(source))?;
        ended(VERB, status, &words)
    }
}
