//! Which variables of the user's environment a command inside gets.

/// Variables that pass, by their whole names.
const PASSED: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "PWD",
    "LANG",
    "LANGUAGE",
    "TZ",
    "TZDIR",
    "TERM",
    "COLORTERM",
    "TERMINFO",
    "TERMINFO_DIRS",
    "TERM_PROGRAM",
    "TERM_PROGRAM_VERSION",
    "NO_COLOR",
    "FORCE_COLOR",
    "CLICOLOR",
    "CLICOLOR_FORCE",
    "LS_COLORS",
    "COLUMNS",
    "LINES",
    "EDITOR",
    "VISUAL",
    "PAGER",
    "LESS",
    "MANPAGER",
    "CI",
    "MAKEFLAGS",
    "MAKELEVEL",
    "CC",
    "CXX",
    "CPP",
    "LD",
    "AR",
    "AS",
    "NM",
    "RANLIB",
    "STRIP",
    "CFLAGS",
    "CXXFLAGS",
    "CPPFLAGS",
    "LDFLAGS",
    "PKG_CONFIG_PATH",
    "PKG_CONFIG_LIBDIR",
    "CMAKE_PREFIX_PATH",
    "CMAKE_GENERATOR",
    "C_INCLUDE_PATH",
    "CPLUS_INCLUDE_PATH",
    "CPATH",
    "LIBRARY_PATH",
    "CARGO_HOME",
    "CARGO_TARGET_DIR",
    "CARGO_INCREMENTAL",
    "CARGO_TERM_COLOR",
    "CARGO_BUILD_JOBS",
    "CARGO_NET_OFFLINE",
    "RUSTUP_HOME",
    "RUSTUP_TOOLCHAIN",
    "RUSTFLAGS",
    "RUSTDOCFLAGS",
    "RUST_BACKTRACE",
    "RUST_LOG",
    "RUST_MIN_STACK",
    "GOPATH",
    "GOROOT",
    "GOCACHE",
    "GOMODCACHE",
    "GOFLAGS",
    "GOPROXY",
    "GOPRIVATE",
    "GOTOOLCHAIN",
    "GOOS",
    "GOARCH",
    "CGO_ENABLED",
    "NODE_ENV",
    "NODE_PATH",
    "NODE_OPTIONS",
    "NVM_DIR",
    "NVM_BIN",
    "FNM_DIR",
    "VOLTA_HOME",
    "PNPM_HOME",
    "BUN_INSTALL",
    "DENO_DIR",
    "COREPACK_HOME",
    "npm_config_cache",
    "npm_config_prefix",
    "PYTHONPATH",
    "PYTHONHOME",
    "PYTHONDONTWRITEBYTECODE",
    "PYTHONUNBUFFERED",
    "PYTHONHASHSEED",
    "PYTHONWARNINGS",
    "PYENV_ROOT",
    "PYENV_VERSION",
    "VIRTUAL_ENV",
    "CONDA_PREFIX",
    "CONDA_DEFAULT_ENV",
    "UV_CACHE_DIR",
    "CCACHE_DIR",
    "PIP_CACHE_DIR",
    "POETRY_HOME",
    "PIPX_HOME",
    "PIPX_BIN_DIR",
    "TOX_ENV",
    "PYTEST_ADDOPTS",
    "JAVA_HOME",
    "JDK_HOME",
    "MAVEN_HOME",
    "MAVEN_OPTS",
    "GRADLE_HOME",
    "GRADLE_USER_HOME",
    "SDKMAN_DIR",
    "ANDROID_HOME",
    "KOTLIN_HOME",
    "SCALA_HOME",
    "DOTNET_ROOT",
    "DOTNET_CLI_TELEMETRY_OPTOUT",
    "NUGET_PACKAGES",
    "GEM_HOME",
    "GEM_PATH",
    "BUNDLE_PATH",
    "RBENV_ROOT",
    "RBENV_VERSION",
    "RUBYLIB",
    "RUBYOPT",
    "PERL5LIB",
    "PERL_MM_OPT",
    "COMPOSER_HOME",
    "ASDF_DIR",
    "ASDF_DATA_DIR",
    "MISE_DATA_DIR",
    "MISE_SHELL",
    "ZIG_GLOBAL_CACHE_DIR",
    "GHCUP_INSTALL_BASE_PREFIX",
    "NIX_PATH",
    "NIX_PROFILES",
    "NIX_SSL_CERT_FILE",
    "IN_NIX_SHELL",
    "GUIX_PROFILE",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "GIT_SSL_CAINFO",
    "XDG_CONFIG_HOME",
    "XDG_CACHE_HOME",
    "XDG_DATA_HOME",
    "XDG_STATE_HOME",
    "XDG_DATA_DIRS",
    "XDG_CONFIG_DIRS",
    "GIT_AUTHOR_NAME",
    "GIT_AUTHOR_EMAIL",
    "GIT_COMMITTER_NAME",
    "GIT_COMMITTER_EMAIL",
    "GIT_PAGER",
    "GIT_EDITOR",
    "MALLOC_ARENA_MAX",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "SOURCE_DATE_EPOCH",
    "HOSTNAME",
    "SHLVL",
];

/// What tells tools that a host which is not reachable will not be so in a minute: a look-up
/// fails at once, and they would try again for as long as npm's 70 seconds.
pub const WITHOUT_NETWORK: &[(&str, &str)] = &[
    ("CARGO_NET_RETRY", "0"),
    ("PIP_RETRIES", "0"),
    ("UV_HTTP_RETRIES", "0"),
    ("npm_config_fetch_retries", "0"),
];

/// What tells tools not to keep at home, at their end, what nobody asked them to keep, and to have
/// what they need for as long as they run where they may make a folder: sockets, the tokens of
/// Jupyter's kernels and a profile of Chromium's, whose own places are hidden.
pub const WITHOUT_HOME: &[(&str, &str)] = &[
    ("CHROME_CONFIG_HOME", "/tmp"),
    ("JUPYTER_RUNTIME_DIR", "/tmp/.jupyter"),
    ("LESSHISTFILE", "-"),
    ("SCREENDIR", "/tmp/.screen"),
];

/// What tells fakeroot, which makes owners up, not to try them first: of an owner that a user
/// namespace does not know the kernel says that it is invalid, which fakeroot takes for its own failure.
pub const WITHOUT_OWNERS: &[(&str, &str)] = &[("FAKEROOTDONTTRYCHOWN", "1")];

/// What tells uid 0 that it is like any other user: without capabilities a file has no other owner,
/// and tar would take an archive of somebody else's files for a failure.
pub const FOR_ROOT: &[(&str, &str)] = &[("TAR_OPTIONS", "--no-same-owner")];

/// Where programs find the proxy, as a URL: at [`crate::PROXY_PORT`].
pub const PROXY: &str = "http://198.18.0.1:3128";

/// Variables that lead programs to the proxy. Nothing depends on them: they let a program that
/// knows them say why a host was refused.
pub const PROXY_VARIABLES: &[&str] = &["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"];

/// Variables with the hosts that no proxy is asked for, and these.
pub const DIRECT_VARIABLES: &[&str] = &["NO_PROXY", "no_proxy"];

/// The sandbox's own loopback, in the spellings that programs compare with.
pub const DIRECT: &str = "localhost,127.0.0.1,::1,0.0.0.0,.localhost,127.0.0.0/8";

/// Files in which the systems that we know keep the certificates they trust, one after the other.
pub const BUNDLES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];

/// The same for Java virtual machines of the system, in the format of theirs.
pub const JAVA_STORES: &[&str] = &[
    "/etc/ssl/certs/java/cacerts",
    "/etc/pki/ca-trust/extracted/java/cacerts",
    "/var/lib/ca-certificates/java-cacerts",
];

/// Variables that lead programs to such a file.
pub const BUNDLE_VARIABLES: &[&str] = &[
    "SSL_CERT_FILE",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "GIT_SSL_CAINFO",
    "CARGO_HTTP_CAINFO",
    "PIP_CERT",
];

/// Beginnings of names that pass.
const PASSED_BEGINNINGS: &[&str] = &["LC_"];

/// Parts of names that mark a secret. They are looked for in the name in upper case.
const SECRET_PARTS: &[&str] =
    &["KEY", "TOKEN", "SECRET", "PASSW", "PASSPHRASE", "CREDENTIAL", "COOKIE", "SESSION_ID"];

/// Ends of names that do: `DB_PASS`, `MYSQL_PWD`, `GITHUB_PAT`.
const SECRET_ENDS: &[&str] = &["_PASS", "_PWD", "_PAT", "_CRED", "_CREDS", "_AUTH"];

/// Names that lead the dynamic linker, or to a socket outside.
const DOOR_BEGINNINGS: &[&str] = &["LD_", "DYLD_", "DBUS_"];
const DOORS: &[&str] = &[
    "SSH_AUTH_SOCK",
    "SSH_AGENT_PID",
    "DOCKER_HOST",
    "DOCKER_CONTEXT",
    "CONTAINER_HOST",
    "GPG_AGENT_INFO",
    "XDG_RUNTIME_DIR",
    "WAYLAND_DISPLAY",
    "DISPLAY",
    "XAUTHORITY",
    "TMUX",
    "STY",
    "PULSE_SERVER",
    "NOTIFY_SOCKET",
    "VSCODE_IPC_HOOK",
    "VSCODE_IPC_HOOK_CLI",
    "VSCODE_GIT_IPC_HANDLE",
    "ICEAUTHORITY",
    "SWAYSOCK",
    "I3SOCK",
    "KUBECONFIG",
    "BASH_ENV",
    "ENV",
    "PROMPT_COMMAND",
    "TMPDIR",
    "TMP",
    "TEMP",
];

/// Whether a name is such that only its literal mention lets it pass.
pub fn is_guarded(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    SECRET_PARTS.iter().any(|part| upper.contains(part))
        || SECRET_ENDS.iter().any(|end| upper.ends_with(end))
        || DOOR_BEGINNINGS.iter().any(|start| upper.starts_with(start))
        || DOORS.contains(&upper.as_str())
}

/// Whether the user's variable `name` passes, given the names and globs of `env.pass`.
///
/// A glob never reaches a guarded name: `AWS_*` does not pass `AWS_SECRET_ACCESS_KEY`.
pub fn passes(name: &str, pass: &[String]) -> bool {
    if pass.iter().any(|literal| literal == name) {
        return true;
    }
    if is_guarded(name) {
        return false;
    }
    PASSED.contains(&name)
        || PASSED_BEGINNINGS.iter().any(|start| name.starts_with(start))
        || pass.iter().any(|pattern| glob(pattern.as_bytes(), name.as_bytes()))
}

/// Whether `value` carries a log-in in a URL: `https://TOKEN@host`, `postgres://user:pw@host`.
///
/// Such a value is a secret whatever its variable is called (`GOPROXY`), so it passes under a
/// literal name only. A user name alone (`ssh://git@host`) is none, except in front of a web
/// host, where tokens stand.
pub fn carries_login(value: &[u8]) -> bool {
    let mut rest = value;
    while let Some(at) = rest.windows(3).position(|window| window == b"://") {
        let (scheme, after) = rest.split_at(at);
        let after = after.get(3..).unwrap_or_default();
        let ends = |byte: &u8| byte.is_ascii_whitespace() || b"/?#,|\"'".contains(byte);
        let end = after.iter().position(ends).unwrap_or(after.len());
        let authority = after.get(..end).unwrap_or_default();
        if let Some(at) = authority.iter().rposition(|byte| *byte == b'@') {
            let user = authority.get(..at).unwrap_or_default();
            let password = user.iter().position(|byte| *byte == b':');
            let is_web = scheme.ends_with(b"http") || scheme.ends_with(b"https");
            if password.is_some_and(|at| at + 1 < user.len()) || (is_web && !user.is_empty()) {
                return true;
            }
        }
        rest = after;
    }
    false
}

/// Whether `name` matches `pattern`, in which `*` stands for any text and `?` for one byte.
pub fn glob(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut from) = (0, 0);
    // Where to go on when what follows the last star does not match here.
    let mut retry: Option<(usize, usize)> = None;
    while from < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                retry = Some((at + 1, from));
                at += 1;
            }
            Some(&byte) if byte == b'?' || Some(&byte) == name.get(from) => {
                at += 1;
                from += 1;
            }
            _ => match retry {
                Some((after_star, start)) => {
                    retry = Some((after_star, start + 1));
                    at = after_star;
                    from = start + 1;
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(at).all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_pass_only_by_their_literal_name() {
        #[rustfmt::skip]
        const CASES: &[(&str, &[&str], bool)] = &[
            ("PATH",                  &[],                 true),
            ("LC_ALL",                &[],                 true),
            ("MY_SETTING",            &[],                 false),
            ("MY_SETTING",            &["MY_*"],           true),
            ("AWS_SECRET_ACCESS_KEY", &["AWS_*"],          false),
            ("AWS_SECRET_ACCESS_KEY", &["*"],              false),
            ("OPENAI_API_KEY",        &["OPENAI_API_KEY"], true),
            ("github_token",          &["github*"],        false),
            ("LD_PRELOAD",            &["*"],              false),
            ("SSH_AUTH_SOCK",         &["SSH_*"],          false),
            ("SSH_AUTH_SOCK",         &["SSH_AUTH_SOCK"],  true),
            ("DB_PASS",               &["DB_*"],           false),
            ("MYSQL_PWD",             &["*"],              false),
            ("DB_PASSIVE",            &["DB_*"],           true),
            ("BASH_ENV",              &["*"],              false),
        ];
        let pass = |list: &[&str]| list.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        for &(name, list, expected) in CASES {
            assert_eq!(passes(name, &pass(list)), expected, "{name} with {list:?}");
        }
        assert!(PASSED.iter().all(|name| !is_guarded(name)), "the list contradicts itself");
    }

    #[test]
    fn a_log_in_inside_a_url_is_found() {
        #[rustfmt::skip]
        const CASES: &[(&str, bool)] = &[
            ("https://proxy.example/x,direct",      false),
            ("https://TOKEN@proxy.example/x",       true),
            ("direct,https://u:p@proxy.example",    true),
            ("postgres://u:p@db/x",                 true),
            ("postgres://u@db/x",                   false),
            ("ssh://git@host/x",                    false),
            ("https://host/path@2",                 false),
            ("a@b", false), ("", false), ("://", false), ("https://@host", false),
        ];
        for &(value, expected) in CASES {
            assert_eq!(carries_login(value.as_bytes()), expected, "{value}");
        }
    }

    #[test]
    fn globs_match_whole_names() {
        #[rustfmt::skip]
        const CASES: &[(&str, &str, bool)] = &[
            ("*",      "",      true),
            ("a*c",    "abbc",  true),
            ("a*c",    "abcd",  false),
            ("*.pem",  "x.pem", true),
            ("a?c",    "abc",   true),
            ("a?c",    "ac",    false),
            ("*a*b*",  "xaxbx", true),
            ("abc",    "abcd",  false),
        ];
        for &(pattern, name, expected) in CASES {
            assert_eq!(glob(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
    }
}
