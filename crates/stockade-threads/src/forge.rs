//! A pull request for the branch of a thread: pushed from the user's own machine, proposed by the
//! forge's REST API in GitHub's shape.
//!
//! The token stays with this process and the git that pushes. It goes to the host that the remote
//! names and to that host's API, encrypted unless that is this machine.

mod address;
mod text;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use stockade_agents::{Reply, Rest, RestError, Secret};
use stockade_policy::acts_on_terminals;

pub use address::Address;
pub use text::{Report, body};

use crate::git::{GitError, Pushed, Repository};

/// What is repeated of a forge's refusal, in characters.
const WORDS_MAX: usize = 300;

/// Where a branch is pushed to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Remote {
    /// Its name in the user's configuration.
    pub name: String,
    /// Where it leads.
    pub url: String,
    /// The repository on the forge.
    pub address: Address,
}

/// What is proposed.
#[derive(Debug, Clone)]
pub struct Proposal<'a> {
    /// In one line.
    pub title: &'a str,
    /// What [`body`] makes.
    pub body: &'a str,
    /// The branch that was pushed.
    pub head: &'a str,
    /// Where it shall go: a branch that must be there, or the one that the thread began at when
    /// the forge has it, or the forge's default.
    pub base: Base<'a>,
    /// Whether it is a draft.
    pub is_draft: bool,
}

/// The branch that a pull request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base<'a> {
    /// This one.
    Named(&'a str),
    /// This one if the forge has it, else its default.
    Preferred(Option<&'a str>),
}

/// A pull request that is open.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Proposed {
    /// Where a person looks at it: text of the forge.
    pub url: String,
    /// Its number.
    pub number: u64,
    /// Whether it had been opened before.
    pub was_there: bool,
}

/// There is no pull request. A branch may have been pushed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ForgeError {
    /// The user's repository is gone.
    #[error("`{}` is no repository any more", .0.display())]
    NoRepository(PathBuf),
    /// It has no remote.
    #[error("the repository has no remote `{0}`")]
    NoRemote(String),
    /// The remote is no repository of a forge.
    #[error("remote `{name}` leads to `{url}`, which names no repository of a forge")]
    NoForge {
        /// Its name.
        name: String,
        /// Where it leads.
        url: String,
    },
    /// Git could not.
    #[error("cannot push to `{remote}`")]
    Push {
        /// Which remote.
        remote: String,
        /// What git says.
        source: GitError,
    },
    /// The user's configuration cannot be read.
    #[error("cannot look for the remote")]
    Git(#[from] GitError),
    /// The forge does not answer.
    #[error("cannot ask the forge")]
    Rest(#[from] RestError),
    /// It refuses.
    #[error("the forge answers {status} to {question}: {words}")]
    Refused {
        /// The status of HTTP.
        status: u16,
        /// What was asked.
        question: String,
        /// What it says, in one plain line.
        words: String,
    },
    /// Its answer is not what it documents.
    #[error("the forge's answer to {0} cannot be read")]
    Answer(String),
}

impl ForgeError {
    /// What the user can do about it, if anything.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoRemote(_) => Some("`git remote add origin URL`"),
            Self::NoForge { .. } => {
                Some("`--remote NAME` takes another; `threads branch` needs none")
            }
            Self::Push { .. } => Some("the branch is in your repository; push it as you like"),
            Self::NoRepository(_)
            | Self::Git(_)
            | Self::Rest(_)
            | Self::Refused { .. }
            | Self::Answer(_) => None,
        }
    }

    /// Whether another token might do: GitHub says that there is nothing where one may not look.
    pub fn is_about_the_token(&self) -> bool {
        match self {
            Self::Refused { status, .. } => matches!(status, 401 | 403 | 404),
            // As git says it of HTTP in every version, in the language that it was told to speak.
            Self::Push { source, .. } => {
                let said = source.to_string();
                let words =
                    ["Authentication failed", "could not read Username", "returned error: 403"];
                words.iter().any(|words| said.contains(words))
                    || (said.contains("repository '") && said.contains("' not found"))
            }
            Self::NoRepository(_)
            | Self::NoRemote(_)
            | Self::NoForge { .. }
            | Self::Git(_)
            | Self::Rest(_)
            | Self::Answer(_) => false,
        }
    }
}

impl Remote {
    /// The remote `name` of the repository at `root`, or without a name the one that git would
    /// push to.
    ///
    /// # Errors
    ///
    /// [`ForgeError`], with the name.
    pub fn find(root: &Path, name: Option<&str>) -> Result<Self, ForgeError> {
        let gone = || ForgeError::NoRepository(root.to_owned());
        let repository = Repository::discover(root)?.ok_or_else(gone)?;
        let name = match name {
            Some(name) => name.to_owned(),
            None => repository.push_remote()?.unwrap_or_else(|| "origin".to_owned()),
        };
        let url = repository.push_url(&name)?;
        let url = url.ok_or_else(|| ForgeError::NoRemote(name.clone()))?;
        let address = Address::parse(&url);
        let address =
            address.ok_or_else(|| ForgeError::NoForge { name: name.clone(), url: url.clone() })?;
        Ok(Self { name, url, address })
    }

    /// Pushes `commit` there as the branch `name`, as the user's own git would; nothing that is
    /// there is overwritten, and no hook runs.
    ///
    /// # Errors
    ///
    /// [`ForgeError::Push`].
    pub fn push(
        &self,
        root: &Path,
        (commit, name): (&str, &str),
        token: &Secret,
    ) -> Result<(), ForgeError> {
        let gone = || ForgeError::NoRepository(root.to_owned());
        let repository = Repository::discover(root)?.ok_or_else(gone)?;
        let pushed = Pushed { remote: &self.name, commit, branch: name };
        let credential = self.address.credential().map(|at| (at, token.expose()));
        let done = repository.push(&pushed, credential);
        done.map_err(|source| ForgeError::Push { remote: self.name.clone(), source })
    }
}

/// A forge that is spoken to.
#[derive(Debug)]
pub struct Forge {
    rest: Rest,
}

impl Forge {
    /// The forge whose API is at `api`.
    ///
    /// # Errors
    ///
    /// [`ForgeError::Rest`]: nothing was sent.
    pub fn new(api: &str, token: &Secret) -> Result<Self, ForgeError> {
        let headers = [("x-github-api-version", "2022-11-28")];
        Ok(Self { rest: Rest::new(api, token, &headers)? })
    }

    /// Opens a pull request, or finds the one that is open for the same branches.
    ///
    /// # Errors
    ///
    /// [`ForgeError`].
    pub fn propose(
        &self,
        address: &Address,
        proposal: &Proposal<'_>,
    ) -> Result<Proposed, ForgeError> {
        let at = format!("/repos/{}/{}", encoded(&address.owner), encoded(&address.repository));
        let base = self.base(&at, proposal.base)?;
        let pulls = format!("{at}/pulls");
        let request = json!({
            "title": proposal.title,
            "body": proposal.body,
            "head": proposal.head,
            "base": base,
            "draft": proposal.is_draft,
        });
        let reply = self.rest.post(&pulls, &request.to_string())?;
        if reply.status == 422 {
            // One that is open already is refused like anything that does not fit.
            let owner = encoded(&address.owner);
            let (head, base) = (encoded(proposal.head), encoded(&base));
            let path = format!("{pulls}?state=open&head={owner}:{head}&base={base}");
            let found = read(&self.rest.get(&path)?, "GET", &pulls)?;
            if let Some(first) = found.as_array().and_then(|all| all.first()) {
                return proposed(first, &pulls, true);
            }
        }
        proposed(&read(&reply, "POST", &pulls)?, &pulls, false)
    }

    fn base(&self, at: &str, base: Base<'_>) -> Result<String, ForgeError> {
        if let Base::Named(name) = base {
            return Ok(name.to_owned());
        }
        if let Base::Preferred(Some(name)) = base {
            let path = format!("{at}/branches/{}", encoded(name));
            let reply = self.rest.get(&path)?;
            if reply.status != 404 {
                return read(&reply, "GET", &path).map(|_| name.to_owned());
            }
        }
        let repository = read(&self.rest.get(at)?, "GET", at)?;
        let name = repository.get("default_branch").and_then(Value::as_str);
        name.map(str::to_owned).ok_or_else(|| ForgeError::Answer(format!("GET {at}")))
    }
}

fn read(reply: &Reply, method: &str, path: &str) -> Result<Value, ForgeError> {
    let question = format!("{method} {path}");
    let body: Option<Value> = serde_json::from_str(&reply.body).ok();
    if (200..300).contains(&reply.status) {
        return body.ok_or(ForgeError::Answer(question));
    }
    let said = body.as_ref().and_then(|body| {
        let errors = body.get("errors").map(Value::to_string).unwrap_or_default();
        Some(format!("{} {errors}", body.get("message")?.as_str()?))
    });
    let words = said.unwrap_or_else(|| reply.body.clone());
    let words =
        words.chars().filter(|c| !acts_on_terminals(*c)).take(WORDS_MAX).collect::<String>();
    Err(ForgeError::Refused { status: reply.status, question, words: words.trim().to_owned() })
}

fn proposed(pull: &Value, path: &str, was_there: bool) -> Result<Proposed, ForgeError> {
    let url = pull.get("html_url").and_then(Value::as_str).map(str::to_owned);
    let number = pull.get("number").and_then(Value::as_u64);
    match (url, number) {
        (Some(url), Some(number)) => Ok(Proposed { url, number, was_there }),
        _ => Err(ForgeError::Answer(path.to_owned())),
    }
}

/// `text` as one part of a path, or as a value of a query.
fn encoded(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            result.push(char::from(byte));
        } else {
            write!(result, "%{byte:02X}").expect("invariant: a String takes everything");
        }
    }
    result
}
