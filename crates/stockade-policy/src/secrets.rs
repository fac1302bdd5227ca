//! The paths that cannot be read, as data, each with the reason.
//!
//! A path is here when what it holds opens something else (a key, a session, a password) or
//! is nobody else's business (mail, histories), and when honest work does without it: a hidden
//! file reads as empty, a hidden folder lists as empty. `~/.gitconfig` is not here, because
//! git needs it; `~/.config/stockade` is not, because it is read-only and no secret.

/// What a hidden path holds. It decides what may open it again: an agent's own state is open
/// to that agent, everything else only to the user's own configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secret {
    /// Keys and tokens of remote machines, clouds, registries and databases.
    Keys,
    /// Password stores and keyrings.
    Passwords,
    /// Cookies, sessions and stored passwords of browsers.
    Browser,
    /// Mail, chats and their log-ins.
    Messages,
    /// What was typed at prompts.
    History,
    /// Another agent's or editor's log-in, transcripts and settings.
    AgentState,
    /// Stockade's own record of other threads, and what they wrote to caches.
    Record,
}

impl Secret {
    /// Why such a path is hidden, for a person.
    pub fn why(self) -> &'static str {
        match self {
            Self::Keys => "it opens machines and accounts elsewhere",
            Self::Passwords => "it holds passwords",
            Self::Browser => "its cookies and sessions are log-ins",
            Self::Messages => "it holds private messages and their log-ins",
            Self::History => "people paste secrets into prompts, and histories keep them",
            Self::AgentState => "another agent's log-in and transcripts are not this one's",
            Self::Record => "what other threads did is not this one's",
        }
    }
}

/// Secrets, relative to home. Each is looked for at every start, so a path costs about half a
/// microsecond where it is not there.
pub const HIDDEN_IN_HOME: &[(Secret, &[&str])] = &[
    (
        Secret::Keys,
        &[
            ".ssh",
            ".gnupg",
            ".aws",
            ".azure",
            ".oci",
            ".aliyun",
            ".bluemix",
            ".kube",
            ".docker",
            ".minikube",
            ".terraform.d",
            ".terraformrc",
            ".pulumi/credentials.json",
            ".vault-token",
            ".boto",
            ".s3cfg",
            ".fly",
            ".vercel",
            ".netlify",
            ".railway",
            ".cloudflared",
            ".ngrok2",
            ".tsh",
            ".step",
            ".acme.sh",
            ".netrc",
            ".netrc.gpg",
            "_netrc",
            ".authinfo",
            ".authinfo.gpg",
            ".git-credentials",
            ".git-credential-cache",
            ".npmrc",
            ".yarnrc.yml",
            ".pypirc",
            ".cargo/credentials",
            ".cargo/credentials.toml",
            ".gem/credentials",
            ".m2/settings.xml",
            ".m2/settings-security.xml",
            ".gradle/gradle.properties",
            ".composer/auth.json",
            ".subversion/auth",
            ".huggingface/token",
            ".cache/huggingface/token",
            ".cache/huggingface/stored_tokens",
            ".cache/git/credential",
            ".kaggle",
            ".databrickscfg",
            ".snowflake",
            ".snowsql",
            ".dbt/profiles.yml",
            ".pgpass",
            ".my.cnf",
            ".mylogin.cnf",
            ".sentryclirc",
            ".streamlit/secrets.toml",
            ".local/share/jupyter/runtime",
            ".local/share/uv/credentials",
            ".local/share/gem/credentials",
            ".config/gcloud",
            ".config/gh",
            ".config/hub",
            ".config/glab-cli",
            ".config/tea",
            ".config/rclone",
            ".config/doctl",
            ".config/hcloud",
            ".config/scw",
            ".config/linode-cli",
            ".config/heroku",
            ".config/configstore",
            ".config/sops",
            ".config/age",
            ".config/argocd",
            ".config/ngrok",
            ".config/fly",
            ".config/netlify",
            ".config/.wrangler",
            ".config/stripe",
            ".config/pip",
            ".config/pypoetry/auth.toml",
            ".config/composer/auth.json",
            ".config/containers/auth.json",
            ".config/helm",
            ".config/kaggle",
            ".config/databricks",
            ".config/snowflake",
            ".config/git/credentials",
            ".config/openai",
            ".config/anthropic",
        ],
    ),
    (
        Secret::Passwords,
        &[
            ".password-store",
            ".pki",
            ".1password",
            ".local/share/keyrings",
            ".local/share/kwalletd",
            ".local/share/pass",
            ".config/op",
            ".config/1Password",
            ".config/Bitwarden",
            ".config/Bitwarden CLI",
            ".config/keepassxc",
            ".cache/keepassxc",
            ".config/gopass",
            ".local/share/gopass",
        ],
    ),
    (
        Secret::Browser,
        &[
            ".mozilla",
            ".librewolf",
            ".waterfox",
            ".zen",
            ".config/mozilla",
            ".config/google-chrome",
            ".config/google-chrome-beta",
            ".config/google-chrome-unstable",
            ".config/chromium",
            ".config/BraveSoftware",
            ".config/microsoft-edge",
            ".config/microsoft-edge-dev",
            ".config/vivaldi",
            ".config/opera",
            ".config/qutebrowser",
            ".local/share/qutebrowser",
            ".local/share/epiphany",
            ".local/share/torbrowser",
            ".w3m/cookie",
            ".lynx_cookies",
            "snap/firefox",
            "snap/chromium",
            "snap/brave",
            ".var/app/org.mozilla.firefox",
            ".var/app/com.google.Chrome",
            ".var/app/org.chromium.Chromium",
            ".var/app/com.brave.Browser",
            ".var/app/com.microsoft.Edge",
            ".var/app/io.gitlab.librewolf-community",
        ],
    ),
    (
        Secret::Messages,
        &[
            ".thunderbird",
            ".var/app/org.mozilla.Thunderbird",
            "snap/thunderbird",
            ".mutt",
            ".muttrc",
            ".config/mutt",
            ".config/neomutt",
            ".config/aerc",
            ".msmtprc",
            ".config/msmtp",
            ".mbsyncrc",
            ".offlineimaprc",
            ".fetchmailrc",
            "Maildir",
            "Mail",
            "mail",
            ".mail",
            ".local/share/mail",
            ".local/share/evolution",
            ".config/evolution",
            ".local/share/geary",
            ".config/Signal",
            ".config/Slack",
            ".config/discord",
            ".config/Element",
            ".config/teams",
            ".local/share/TelegramDesktop",
            ".weechat",
            ".config/weechat",
            ".irssi",
        ],
    ),
    (
        Secret::History,
        &[
            ".bash_history",
            ".zsh_history",
            ".zhistory",
            ".sh_history",
            ".ash_history",
            ".ksh_history",
            ".history",
            ".local/share/fish/fish_history",
            ".local/share/atuin",
            ".config/nushell/history.txt",
            ".config/nushell/history.sqlite3",
            ".python_history",
            ".local/state/python_history",
            ".node_repl_history",
            ".irb_history",
            ".local/share/irb/history",
            ".psql_history",
            ".mysql_history",
            ".mariadb_history",
            ".sqlite_history",
            ".rediscli_history",
            ".dbshell",
            ".mongosh",
            ".mongorc.js",
            ".lesshst",
            ".local/state/lesshst",
            ".viminfo",
            ".local/share/nvim/shada",
            ".local/state/nvim/shada",
            ".ipython/profile_default/history.sqlite",
            ".wget-hsts",
        ],
    ),
    (
        Secret::AgentState,
        &[
            ".codex",
            ".claude",
            ".claude.json",
            ".config/claude",
            ".cache/claude",
            ".local/state/claude",
            ".local/share/claude/credentials",
            ".gemini",
            ".config/opencode",
            ".local/share/opencode",
            ".local/state/opencode",
            ".aider",
            ".aider.conf.yml",
            ".copilot",
            ".config/github-copilot",
            ".goose",
            ".config/goose",
            ".local/share/goose",
            ".local/state/goose",
            ".cursor",
            ".config/cursor",
            ".config/Cursor",
            ".local/share/cursor-agent",
            ".continue",
            ".codeium",
            ".windsurf",
            ".qwen",
            ".factory",
            ".augment",
            ".cline",
            ".kilocode",
            ".kiro",
            ".pi",
            ".config/amp",
            ".local/share/amp",
            ".config/crush",
            ".local/share/crush",
            ".config/zed/prompts",
            ".config/Code/User/globalStorage",
            ".config/Code/User/workspaceStorage",
            ".vscode-server/data/User/globalStorage",
            ".config/JetBrains",
        ],
    ),
    (Secret::Record, &[".local/state/stockade", ".cache/stockade"]),
];

/// The same for names at the top of home that only start like this: backups that programs
/// leave beside the file itself.
pub const HIDDEN_BEGINNINGS_IN_HOME: &[(Secret, &str)] = &[
    (Secret::AgentState, ".claude.json."),
    (Secret::AgentState, ".aider.chat."),
    (Secret::AgentState, ".aider.input."),
    (Secret::History, ".bash_history-"),
    (Secret::History, ".zsh_history."),
];

/// What tools write at home by themselves, when they end or start, under names that begin like this:
/// histories by way of another name, and what is made anew each time. Nobody is asked about it.
pub const NOT_ASKED_IN_HOME: &[&str] = &[
    ".lesshs",
    ".local/state/lesshs",
    ".viminf",
    ".vim/.netrwhist",
    ".zcompdump",
    ".config/htop",
    ".config/fish",
    ".local/share/fish",
    ".local/share/nano",
    ".emacs.d/auto-save-list",
    ".emacs.d/eln-cache",
    ".config/emacs/auto-save-list",
    ".rnd",
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
    "/etc/NetworkManager/certs",
    "/etc/netplan",
    "/etc/wpa_supplicant",
    "/etc/ppp/chap-secrets",
    "/etc/ppp/pap-secrets",
    "/etc/openvpn",
    "/etc/ipsec.secrets",
    "/etc/swanctl",
    "/etc/cryptsetup-keys.d",
    "/etc/credstore",
    "/etc/credstore.encrypted",
    "/etc/pki/tls/private",
    "/etc/exim4/passwd.client",
    "/etc/postfix/sasl_passwd",
    "/etc/mysql/debian.cnf",
    "/etc/bind/rndc.key",
    "/etc/samba/private",
    "/etc/sssd",
    "/etc/gitlab-runner",
    "/etc/vault.d",
    "/etc/docker/key.json",
    "/etc/kubernetes",
    "/etc/rancher",
    "/var/lib/docker",
    "/var/lib/containerd",
    "/var/lib/kubelet",
    "/var/lib/postgresql",
    "/var/lib/mysql",
    "/var/lib/mongodb",
    "/var/lib/redis",
    "/var/lib/etcd",
    "/var/lib/rancher",
    "/var/lib/samba/private",
    "/var/lib/sss/db",
    "/var/lib/sss/secrets",
    "/var/lib/bluetooth",
    "/var/lib/iwd",
    "/var/lib/cloud",
    "/var/lib/tor",
    "/var/lib/systemd/credential.secret",
    "/var/lib/jenkins",
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_stands_once_and_in_the_right_form() {
        let hidden: Vec<&str> =
            HIDDEN_IN_HOME.iter().flat_map(|(_, paths)| paths.iter().copied()).collect();
        for (index, path) in hidden.iter().enumerate() {
            assert!(!path.starts_with('/') && !path.ends_with('/'), "{path}");
            assert!(!hidden.iter().take(index).any(|other| other == path), "{path} twice");
        }
        assert!(HIDDEN_IN_SYSTEM.iter().all(|path| path.starts_with('/')));
        assert!(HIDDEN_BEGINNINGS_IN_HOME.iter().all(|(_, start)| !start.contains('/')));
    }

    #[test]
    fn what_honest_work_reads_is_not_hidden() {
        let is_hidden = |path: &str| {
            HIDDEN_IN_HOME.iter().flat_map(|(_, paths)| paths.iter()).any(|hidden| {
                path.strip_prefix(hidden)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            })
        };
        for path in [
            ".gitconfig",
            ".config/git/config",
            ".cargo/config.toml",
            ".cargo/bin/cargo",
            ".rustup/toolchains",
            ".local/bin/claude",
            ".local/share/claude/versions/1",
            ".opencode/bin/opencode",
            ".m2/repository",
            ".bashrc",
            ".config/stockade/config.toml",
        ] {
            assert!(!is_hidden(path), "{path}");
        }
        assert!(is_hidden(".ssh/id_ed25519") && is_hidden(".codex/auth.json"));
    }
}
