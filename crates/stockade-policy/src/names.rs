//! The names that are protected or hidden, as data, each with the reason.
//!
//! Why build files (`package.json`, `Makefile`, CI definitions) are not here: an honest task
//! changes them, and they are reviewed as changes. What is here runs, or is trusted, without
//! anybody looking at it again.

/// What a repository's git directory holds that git reads as instructions, relative to it.
/// `*` stands for one component.
pub const GIT_PROTECTED: [&str; 8] = [
    "hooks",
    "config",
    "config.worktree",
    "info/attributes",
    "info/grafts",
    "commondir",
    "gitdir",
    "objects/info/alternates",
];

/// One protected name at the top of a workspace or repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Protected {
    /// Relative path; a trailing `*` in the last component matches any end of the name.
    pub name: &'static str,
    /// What would run or be trusted later on the host.
    pub why: &'static str,
}

const fn protected(name: &'static str, why: &'static str) -> Protected {
    Protected { name, why }
}

const AGENT: &str = "an agent on the host reads its permissions and hooks from it";
const EDITOR: &str = "an editor on the host runs tasks or settings from it";
const SECRETS: &str = "the application's secrets and switches";
const TOOL: &str = "a tool on the host runs what it names";

/// Protected at the top of the workspace and of every repository.
pub const PROTECTED: &[Protected] = &[
    protected(".env", SECRETS),
    protected(".env.*", SECRETS),
    protected(".envrc", "direnv runs it on entering the folder"),
    protected(".stockade", "Stockade's own project file"),
    protected(".codex", AGENT),
    protected(".claude", AGENT),
    protected(".gemini", AGENT),
    protected(".cursor", AGENT),
    protected(".opencode", AGENT),
    protected(".mcp.json", "agents start the servers that it names"),
    protected(".vscode", EDITOR),
    protected(".idea", EDITOR),
    protected(".zed", EDITOR),
    protected(".devcontainer", EDITOR),
    protected("*.code-workspace", EDITOR),
    protected(".husky", "git hooks that npm installs"),
    protected(".pre-commit-config.yaml", TOOL),
    protected(".cargo/config.toml", "cargo runs the programs that it names"),
    protected(".cargo/config", "cargo runs the programs that it names"),
    protected(".npmrc", "npm takes its registry and scripts from it"),
    protected(".yarnrc.yml", "yarn runs the program that it names"),
    protected(".mise.toml", TOOL),
    protected(".hg/hgrc", "mercurial runs hooks from it"),
    protected(".jj/repo/config.toml", "jj runs programs from it"),
];

/// Names that look protected and are templates that people commit.
pub const UNPROTECTED: [&str; 3] = [".env.example", ".env.sample", ".env.template"];

/// Whether `name`, one component at the top of a folder, is protected there.
pub fn is_protected(name: &[u8]) -> bool {
    if UNPROTECTED.iter().any(|free| free.as_bytes() == name) {
        return false;
    }
    PROTECTED.iter().any(|entry| matches(entry.name, name))
}

/// The protected names of more than one component.
pub fn nested() -> impl Iterator<Item = &'static str> {
    PROTECTED.iter().map(|entry| entry.name).filter(|name| name.contains('/'))
}

fn matches(pattern: &str, name: &[u8]) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(end), _) => name.ends_with(end.as_bytes()),
        (None, Some(start)) => name.starts_with(start.as_bytes()) && name.len() > start.len(),
        (None, None) => name == pattern.as_bytes(),
    }
}

/// Secrets, relative to home.
pub const HIDDEN_IN_HOME: &[&str] = &[
    // Keys and tokens of remote machines, clouds and forges.
    ".ssh",
    ".gnupg",
    ".aws",
    ".azure",
    ".config/gcloud",
    ".config/gh",
    ".config/hub",
    ".config/glab-cli",
    ".config/op",
    ".config/rclone",
    ".config/doctl",
    ".config/heroku",
    ".config/configstore",
    ".config/sops",
    ".config/age",
    ".kube",
    ".docker",
    ".oci",
    ".terraform.d",
    ".vault-token",
    ".boto",
    ".s3cfg",
    ".netrc",
    "_netrc",
    ".git-credentials",
    ".config/git/credentials",
    ".npmrc",
    ".yarnrc.yml",
    ".pypirc",
    ".config/pip",
    ".cargo/credentials",
    ".cargo/credentials.toml",
    ".gem/credentials",
    ".m2/settings.xml",
    ".m2/settings-security.xml",
    ".gradle/gradle.properties",
    ".config/containers/auth.json",
    ".config/helm",
    ".fly",
    ".config/fly",
    ".config/netlify",
    ".vercel",
    ".config/.wrangler",
    ".huggingface/token",
    ".cache/huggingface/token",
    ".kaggle",
    ".pgpass",
    ".my.cnf",
    ".config/stripe",
    // Password stores and keyrings.
    ".password-store",
    ".local/share/keyrings",
    ".local/share/kwalletd",
    ".config/Bitwarden",
    ".config/Bitwarden CLI",
    ".config/keepassxc",
    ".1password",
    ".config/1Password",
    ".pki",
    // Browsers: cookies and stored passwords.
    ".mozilla",
    ".config/google-chrome",
    ".config/chromium",
    ".config/BraveSoftware",
    ".config/microsoft-edge",
    ".config/vivaldi",
    ".config/opera",
    "snap/firefox",
    "snap/chromium",
    ".var/app/org.mozilla.firefox",
    ".var/app/com.google.Chrome",
    // Mail and messages.
    ".thunderbird",
    ".mutt",
    ".muttrc",
    ".msmtprc",
    ".fetchmailrc",
    "Maildir",
    "mail",
    ".config/Signal",
    ".config/Slack",
    ".config/discord",
    ".local/share/TelegramDesktop",
    ".local/share/evolution",
    // Histories: people paste secrets into prompts.
    ".bash_history",
    ".zsh_history",
    ".zhistory",
    ".local/share/fish/fish_history",
    ".sh_history",
    ".ash_history",
    ".history",
    ".python_history",
    ".node_repl_history",
    ".irb_history",
    ".psql_history",
    ".mysql_history",
    ".sqlite_history",
    ".rediscli_history",
    ".dbshell",
    ".lesshst",
    ".viminfo",
    ".wget-hsts",
    // Other agents: their log-ins, transcripts and settings.
    ".codex",
    ".claude",
    ".claude.json",
    ".config/claude",
    ".local/share/claude/credentials",
    ".gemini",
    ".config/opencode",
    ".local/share/opencode",
    ".local/state/opencode",
    ".aider",
    ".aider.conf.yml",
    ".copilot",
    ".config/github-copilot",
    ".config/goose",
    ".local/share/goose",
    ".local/state/goose",
    ".cursor",
    ".config/cursor",
    ".local/share/cursor-agent",
    ".continue",
    ".config/Cursor",
    ".codeium",
    ".qwen",
    ".factory",
    // Stockade's own record.
    ".local/state/stockade",
];

/// Secrets of the system. Ordinary users cannot read them anyway; uid 0 without capabilities
/// still owns them.
pub const HIDDEN_IN_SYSTEM: &[&str] = &[
    "/etc/shadow",
    "/etc/shadow-",
    "/etc/gshadow",
    "/etc/gshadow-",
    "/etc/security/opasswd",
    "/etc/sudoers",
    "/etc/sudoers.d",
    "/etc/krb5.keytab",
    "/etc/ssl/private",
    "/etc/letsencrypt",
    "/etc/wireguard",
    "/etc/NetworkManager/system-connections",
    "/etc/ppp/chap-secrets",
    "/etc/docker/key.json",
    "/etc/kubernetes",
    "/etc/rancher",
    "/var/lib/docker",
    "/var/lib/containerd",
    "/var/lib/kubelet",
    "/var/lib/postgresql",
    "/var/lib/mysql",
    "/var/log",
    "/var/mail",
    "/var/spool/mail",
    "/var/spool/cron",
    "/var/backups",
    "/var/cache/debconf/passwords.dat",
    "/sys/kernel/debug",
    "/sys/kernel/tracing",
    "/sys/kernel/security",
    "/sys/fs/bpf",
    "/sys/fs/pstore",
    "/sys/firmware",
];

/// Host keys: the names below `/etc/ssh` that start and end like this.
pub const HIDDEN_HOST_KEY: (&str, &str) = ("ssh_host_", "_key");

/// Folders of home that are readable and never writable, not even as a root that was asked
/// for: what would change Stockade's own policy for the next run.
pub const NEVER_WRITABLE_IN_HOME: [&str; 2] = [".config/stockade", ".local/state/stockade"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protected_names_match_whole_and_templates_are_free() {
        for name in [".env", ".env.local", ".vscode", "x.code-workspace", ".mcp.json"] {
            assert!(is_protected(name.as_bytes()), "{name}");
        }
        for name in [".env.example", ".envy", ".env.", "env", ".vscode2", "package.json"] {
            assert!(!is_protected(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn every_entry_is_relative_and_says_why() {
        for entry in PROTECTED {
            assert!(!entry.name.starts_with('/') && !entry.why.is_empty(), "{entry:?}");
        }
        assert!(HIDDEN_IN_HOME.iter().all(|path| !path.starts_with('/')));
        assert!(HIDDEN_IN_SYSTEM.iter().all(|path| path.starts_with('/')));
    }
}
