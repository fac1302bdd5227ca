//! The user's ssh keys, for log-ins that the gateway allows: which one a host is shown, and who signs
//! by it. No key is read into this process: the user's agent signs, or one that is started for the one
//! signature and has the file's key.

use std::collections::HashMap;
use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{Mutex, PoisonError};

use stockade_agents::programs;
use stockade_gateway::{Keys, KnownHosts, PublicKey, UserAgent, base64};
use stockade_policy::Logins;

/// Larger than any file of keys; in bytes.
const FILE_BYTES: u64 = 4 << 20;

/// Has the agent around it hold one key, says where it listens, and takes the key back and ends it when
/// nobody waits any more, which is also when this process is gone: at once, or where signals are held
/// back as in here, when it sees that it is alone. Nobody is asked for the words that open a key.
const HOLD: &str = r#"if ssh-add -q -- "$1" < /dev/null; then
  printf '%s\n' "$SSH_AUTH_SOCK"
  read -r end
  ssh-add -q -D
fi
kill "$SSH_AGENT_PID""#;

/// The keys of one user.
#[derive(Debug)]
pub(crate) struct UserKeys {
    logins: Logins,
    /// What a host was shown once, it is shown as long as this runs.
    found: Mutex<HashMap<String, Found>>,
}

#[derive(Debug, Clone)]
struct Found {
    key: PublicKey,
    /// Where the other half is, if it is in a file.
    private: Option<PathBuf>,
}

impl UserKeys {
    pub(crate) fn new(logins: Logins) -> Self {
        Self { logins, found: Mutex::default() }
    }

    fn agent(&self) -> Option<UserAgent> {
        UserAgent::connect(self.logins.agent.as_deref()?).ok()
    }

    fn held(&self) -> Vec<PublicKey> {
        self.agent().and_then(|agent| agent.keys().ok()).unwrap_or_default()
    }

    fn find(&self, host: &str) -> Result<Found, String> {
        if let Some(rule) = self.logins.rule(host) {
            let path = rule.key.as_path();
            return in_file(path).ok_or_else(|| {
                let place = &rule.place;
                format!("no key can be read in `{}` ({place})", path.display())
            });
        }
        let held = self.held();
        let is_usable = |found: &Found| {
            found.private.is_some() || held.iter().any(|key| key.blob == found.key.blob)
        };
        let named = self.identities(host);
        if let Some(found) = named.iter().filter_map(|path| in_file(path)).find(is_usable) {
            return Ok(found);
        }
        match held.as_slice() {
            [key] => Ok(Found { key: key.clone(), private: None }),
            [] => Err("there is no key for it; `[[network.ssh]]` names one".to_owned()),
            _ => Err("your agent has several keys; `[[network.ssh]]` names one".to_owned()),
        }
    }

    /// The files that ssh would try for `host`, by its own configuration.
    fn identities(&self, host: &str) -> Vec<PathBuf> {
        let mut ssh = programs::command("ssh");
        ssh.args(["-G", "--", host]).stdin(Stdio::null()).stderr(Stdio::null());
        let printed = ssh.output().map(|output| output.stdout).unwrap_or_default();
        let printed = String::from_utf8_lossy(&printed).into_owned();
        let files = printed.lines().filter_map(|line| line.strip_prefix("identityfile "));
        files
            .filter_map(|file| match (file.strip_prefix("~/"), &self.logins.home) {
                (Some(rest), Some(home)) => Some(home.join(rest)),
                (Some(_), None) => None,
                (None, _) => Some(PathBuf::from(file)),
            })
            .collect()
    }
}

impl Keys for UserKeys {
    /// Read anew for each question: whoever connects once outside is known from then on.
    fn known(&self) -> KnownHosts {
        let mut known = KnownHosts::default();
        for file in &self.logins.known_hosts {
            // One that is not there says nothing.
            known.read(&read(file).unwrap_or_default());
        }
        known
    }

    fn key(&self, host: &str) -> Result<PublicKey, String> {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = found.get(host) {
            return Ok(found.key.clone());
        }
        let new = self.find(host)?;
        let key = new.key.clone();
        found.insert(host.to_owned(), new);
        Ok(key)
    }

    fn sign(&self, key: &PublicKey, bind: &[u8], request: &[u8]) -> Result<Vec<u8>, String> {
        if self.held().iter().any(|held| held.blob == key.blob)
            && let Some(agent) = self.agent()
        {
            let signed = agent.sign(bind, request);
            return signed.map_err(|error| format!("your agent did not sign: {error}"));
        }
        let private = {
            let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
            let found = found.values().find(|found| found.key.blob == key.blob);
            found.and_then(|found| found.private.clone())
        };
        let Some(private) = private else {
            return Err("your agent does not hold that key any more".to_owned());
        };
        let shown = private.display();
        let agent = OwnAgent::start(&private).map_err(|error| {
            format!("`{shown}` cannot be used as it is ({error}): `ssh-add {shown}` opens it")
        })?;
        let signed = UserAgent::connect(&agent.socket).and_then(|agent| agent.sign(bind, request));
        signed.map_err(|error| format!("no signature by `{shown}`: {error}"))
    }
}

/// An agent that holds one key, as long as this lives.
#[derive(Debug)]
struct OwnAgent {
    child: Child,
    socket: PathBuf,
}

impl OwnAgent {
    fn start(private: &Path) -> io::Result<Self> {
        let mut child = programs::command("ssh-agent")
            .args(["sh", "-c", HOLD, "sh"])
            .arg(private)
            // A key that has to be opened by words is one for the user's own agent.
            .envs([("SSH_ASKPASS", "false"), ("SSH_ASKPASS_REQUIRE", "force")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut line = String::new();
        let said = child.stdout.take().map(|out| BufReader::new(out).read_line(&mut line));
        let this = Self { child, socket: PathBuf::from(line.trim_end()) };
        match said {
            Some(Ok(length)) if length > 1 => Ok(this),
            Some(Err(error)) => Err(error),
            Some(Ok(_)) | None => Err(io::Error::other("ssh-add did not take it")),
        }
    }
}

impl Drop for OwnAgent {
    fn drop(&mut self) {
        // The end of its input ends it.
        drop(self.child.stdin.take());
        self.child.wait().ok();
    }
}

/// The key of which `path` is one half.
fn in_file(path: &Path) -> Option<Found> {
    let is_public = path.extension().is_some_and(|extension| extension == "pub");
    let private = if is_public { path.with_extension("") } else { path.to_owned() };
    let public = if is_public {
        path.to_owned()
    } else {
        let mut name = path.as_os_str().to_owned();
        name.push(".pub");
        PathBuf::from(name)
    };
    let private = Some(private).filter(|private| private.is_file());
    let text = read(&public).ok();
    let text = text.or_else(|| private.as_deref().and_then(public_half))?;
    let mut words = text.split_ascii_whitespace();
    let (_kind, blob) = (words.next()?, base64::decode(words.next()?.as_bytes())?);
    let comment = words.collect::<Vec<_>>().join(" ");
    let comment = if comment.is_empty() { public.display().to_string() } else { comment };
    Some(Found { key: PublicKey { blob, comment }, private })
}

/// As `ssh-keygen` finds it: without words only in a key that needs none.
fn public_half(private: &Path) -> Option<String> {
    let mut keygen = programs::command("ssh-keygen");
    keygen.args(["-y", "-P", "", "-f"]).arg(private).stdin(Stdio::null()).stderr(Stdio::null());
    let output = keygen.output().ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok()
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    fs::File::open(path)?.take(FILE_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests;
