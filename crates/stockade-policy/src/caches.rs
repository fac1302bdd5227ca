//! The caches of toolchains, as data: what a run may write to in a layer of its own while the
//! user's stay as they are.
//!
//! What decides what runs (programs, configuration) is kept read-only even there: a task could
//! otherwise change what the next one in the same workspace runs without being seen.

use std::ffi::OsString;
use std::path::Path;

/// One folder of caches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheFolder {
    /// Relative to home.
    pub path: &'static str,
    /// What in it stays read-only.
    pub kept: &'static [&'static str],
}

/// Programs, configuration, and what a shell reads at its start.
const KEPT_OF_CARGO: &[&str] = &["bin", "config", "config.toml", "env"];

/// Credentials in these folders are hidden by their own table, `secrets`.
pub const CACHE_FOLDERS: &[CacheFolder] = &[
    CacheFolder { path: ".cache", kept: &[] },
    CacheFolder { path: ".cargo", kept: KEPT_OF_CARGO },
    CacheFolder { path: ".rustup", kept: &["settings.toml"] },
    CacheFolder { path: ".npm", kept: &[] },
    CacheFolder { path: ".yarn", kept: &["bin"] },
    CacheFolder { path: ".local/share/pnpm/store", kept: &[] },
    CacheFolder { path: ".bun/install/cache", kept: &[] },
    CacheFolder { path: ".deno", kept: &["bin"] },
    CacheFolder { path: "go", kept: &["bin"] },
    CacheFolder { path: ".gradle", kept: &["gradle.properties", "init.d", "init.gradle"] },
    CacheFolder { path: ".m2", kept: &["settings.xml", "settings-security.xml", "toolchains.xml"] },
    CacheFolder { path: ".ivy2", kept: &[] },
    CacheFolder { path: ".nuget", kept: &[] },
    CacheFolder { path: ".sbt", kept: &[] },
    CacheFolder { path: ".cabal", kept: &["bin", "config"] },
    CacheFolder { path: ".stack", kept: &["config.yaml"] },
    CacheFolder { path: ".pub-cache", kept: &["bin"] },
    CacheFolder { path: ".dotnet", kept: &["tools"] },
    // Not caches by their names, and written at each start of the tool all the same.
    CacheFolder { path: ".ipython", kept: &[] },
    CacheFolder { path: ".config/matplotlib", kept: &[] },
    CacheFolder { path: ".ansible", kept: &[] },
    // The preferences of Java programs (jshell), which write them when they end.
    CacheFolder { path: ".java", kept: &[] },
];

/// Where a cache is when no variable says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usual {
    /// In the user's folder of caches, `~/.cache`.
    Caches(&'static str),
    /// In home.
    Home(&'static str),
}

/// What a variable becomes; `{}` stands for a folder that is writable inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Instead {
    /// This, whatever it was.
    Set(&'static str, &'static str),
    /// Put in front of what the user's variable says, so that theirs is the last word.
    Front(&'static str, &'static str),
}

impl Instead {
    /// The variable.
    pub const fn name(self) -> &'static str {
        let (Self::Set(name, _) | Self::Front(name, _)) = self;
        name
    }

    /// What is written of it, with `base` where it belongs.
    pub fn led(self, base: &Path) -> OsString {
        let (Self::Set(_, text) | Self::Front(_, text)) = self;
        let mut led = OsString::new();
        for (index, part) in text.split("{}").enumerate() {
            if index > 0 {
                led.push(base);
            }
            led.push(part);
        }
        led
    }
}

/// A cache that gets another place when its tool could not use the usual one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moved {
    /// The variable that says where it is.
    pub variable: Option<&'static str>,
    /// Where it is when that is not set.
    pub usual: Usual,
    /// Only when there is none yet: one that is read-only is still of use.
    pub only_missing: bool,
    /// What is set then.
    pub instead: &'static [Instead],
}

/// The caches that are moved: of tools that fail when they cannot write them. Tools that go on
/// without are not here.
pub const MOVED: &[Moved] = &[
    Moved {
        variable: Some("GOCACHE"),
        usual: Usual::Caches("go-build"),
        only_missing: false,
        instead: &[Instead::Set("GOCACHE", "{}/go-build")],
    },
    Moved {
        variable: Some("UV_CACHE_DIR"),
        usual: Usual::Caches("uv"),
        only_missing: false,
        instead: &[Instead::Set("UV_CACHE_DIR", "{}/uv")],
    },
    Moved {
        variable: Some("CCACHE_DIR"),
        usual: Usual::Caches("ccache"),
        only_missing: false,
        instead: &[Instead::Set("CCACHE_READONLY", "1"), Instead::Set("CCACHE_TEMPDIR", "/tmp")],
    },
    Moved {
        variable: Some("PIP_CACHE_DIR"),
        usual: Usual::Caches("pip"),
        only_missing: false,
        instead: &[Instead::Set("PIP_CACHE_DIR", "{}/pip")],
    },
    // Programs, for which the user's own would have to be written to: run there, gone from here.
    own("UV_TOOL_DIR", ".local/share/uv/tools", &[Instead::Set("UV_TOOL_DIR", "{}/uv-tools")]),
    own("PIPX_HOME", ".local/share/pipx", &[Instead::Set("PIPX_HOME", "{}/pipx-home")]),
    missing("npm_config_cache", ".npm", &[Instead::Set("npm_config_cache", "{}/npm")]),
    missing("CARGO_HOME", ".cargo", &[Instead::Set("CARGO_HOME", "{}/cargo")]),
    missing("GOPATH", "go", &[Instead::Set("GOPATH", "{}/go")]),
    missing("GRADLE_USER_HOME", ".gradle", &[Instead::Set("GRADLE_USER_HOME", "{}/gradle")]),
    missing("YARN_GLOBAL_FOLDER", ".yarn", &[Instead::Set("YARN_GLOBAL_FOLDER", "{}/yarn")]),
    missing("PNPM_HOME", ".local/share/pnpm", &[Instead::Set("PNPM_HOME", "{}/pnpm")]),
    missing("NUGET_PACKAGES", ".nuget", &[Instead::Set("NUGET_PACKAGES", "{}/nuget")]),
    missing("DOTNET_CLI_HOME", ".dotnet", &[Instead::Set("DOTNET_CLI_HOME", "{}/dotnet")]),
    missing("IPYTHONDIR", ".ipython", &[Instead::Set("IPYTHONDIR", "{}/ipython")]),
    missing("JUPYTER_CONFIG_DIR", ".jupyter", &[Instead::Set("JUPYTER_CONFIG_DIR", "{}/jupyter")]),
    missing("MPLCONFIGDIR", ".config/matplotlib", &[Instead::Set("MPLCONFIGDIR", "{}/matplotlib")]),
    missing("ANSIBLE_HOME", ".ansible", &[Instead::Set("ANSIBLE_HOME", "{}/ansible")]),
    Moved {
        variable: None,
        usual: Usual::Home(".m2"),
        only_missing: true,
        instead: &[Instead::Front("MAVEN_OPTS", "-Dmaven.repo.local={}/m2")],
    },
    missing("XDG_CACHE_HOME", ".cache", &[Instead::Set("XDG_CACHE_HOME", "{}/caches")]),
];

/// Of a folder in home that is never written to.
const fn own(variable: &'static str, folder: &'static str, instead: &'static [Instead]) -> Moved {
    Moved { only_missing: false, ..missing(variable, folder, instead) }
}

const fn missing(
    variable: &'static str,
    folder: &'static str,
    instead: &'static [Instead],
) -> Moved {
    Moved { variable: Some(variable), usual: Usual::Home(folder), only_missing: true, instead }
}

/// Caches whose tools use the usual place only where they can link from it into the project, which
/// nothing can across the edge of a layer: the variable that names the place, and the place in home.
/// pnpm (11 and later) would begin a store in the project, without what the user's has.
pub const NAMED: &[(&str, &str)] = &[("pnpm_config_store_dir", ".local/share/pnpm/store")];

/// What a place of a cache begins with where there is no overlay to show the user's in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// Names that stay the user's: links, which are protected.
    Kept(&'static [&'static str]),
    /// A folder with what the user's has: so many levels of folders below it are made anew, and
    /// what lies in the last ones is the user's.
    Shadow(&'static str, usize),
}

/// A cache of the user's that can be read only where there is no overlay. Its tool gets another
/// place, which begins with what there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Apart {
    /// The variable that says where it is.
    pub variable: Option<&'static str>,
    /// Another one, with which it is elsewhere.
    pub unless: Option<&'static str>,
    /// Where it is in home when neither is set.
    pub usual: &'static str,
    /// What is set then; nothing where there is no such variable.
    pub instead: Option<Instead>,
    /// The folder of it where `{}` stands in [`Instead`].
    pub folder: &'static str,
    /// Whether paths in the usual place lead there as well. Not where programs are executed from it, or
    /// where more lies beside the cache than its place begins with.
    pub by_name: bool,
    /// What it begins with, by names in both.
    pub begins: &'static [Begin],
}

/// As deep as folders are.
const ALL: usize = 64;

/// A folder that has a variable for itself, with all that is in it.
const fn whole(
    variable: &'static str,
    usual: &'static str,
    instead: Instead,
    folder: &'static str,
) -> Apart {
    let (variable, instead) = (Some(variable), Some(instead));
    Apart { variable, unless: None, usual, instead, folder, by_name: true, begins: ALL_OF_IT }
}

const ALL_OF_IT: &[Begin] = &[Begin::Shadow("", ALL)];

/// These caches.
pub const APART: &[Apart] = &[
    Apart {
        variable: Some("CARGO_HOME"),
        unless: None,
        usual: ".cargo",
        instead: Some(Instead::Set("CARGO_HOME", "{}/cargo")),
        folder: "cargo",
        by_name: false,
        begins: &[
            Begin::Kept(KEPT_OF_CARGO),
            Begin::Shadow("registry/index", 4),
            Begin::Shadow("registry/cache", 1),
            Begin::Shadow("registry/src", 1),
            Begin::Shadow("git/db", 0),
            Begin::Shadow("git/checkouts", 1),
        ],
    },
    Apart {
        variable: Some("npm_config_cache"),
        unless: None,
        usual: ".npm",
        instead: Some(Instead::Set("npm_config_cache", "{}/npm")),
        folder: "npm",
        by_name: true,
        begins: &[
            Begin::Shadow("_cacache/content-v2", 3),
            Begin::Shadow("_cacache/index-v5", 2),
            // Logs, programs of `npx`, what packages keep: new ones beside those that are there.
            Begin::Shadow("_cacache", 1),
            Begin::Shadow("", 1),
        ],
    },
    Apart {
        variable: Some("GOMODCACHE"),
        unless: Some("GOPATH"),
        usual: "go/pkg/mod",
        instead: Some(Instead::Set("GOMODCACHE", "{}/go-modules")),
        folder: "go-modules",
        by_name: false,
        begins: ALL_OF_IT,
    },
    Apart {
        variable: None,
        unless: None,
        usual: ".m2/repository",
        instead: Some(Instead::Front("MAVEN_OPTS", "-Dmaven.repo.local={}/m2")),
        folder: "m2",
        by_name: false,
        begins: ALL_OF_IT,
    },
    Apart {
        variable: None,
        unless: None,
        usual: ".java",
        instead: None,
        folder: "java",
        by_name: true,
        begins: ALL_OF_IT,
    },
    // Not caches by their names: settings, and what their tools write at each start.
    whole("IPYTHONDIR", ".ipython", Instead::Set("IPYTHONDIR", "{}/ipython"), "ipython"),
    whole(
        "MPLCONFIGDIR",
        ".config/matplotlib",
        Instead::Set("MPLCONFIGDIR", "{}/matplotlib"),
        "matplotlib",
    ),
    whole("ANSIBLE_HOME", ".ansible", Instead::Set("ANSIBLE_HOME", "{}/ansible"), "ansible"),
    // For tools that are not in the table: what is there can be read, and new folders be made.
    Apart {
        variable: Some("XDG_CACHE_HOME"),
        unless: None,
        usual: ".cache",
        instead: Some(Instead::Set("XDG_CACHE_HOME", "{}/caches")),
        folder: "caches",
        by_name: false,
        // Two that write to what they find, and fail where they cannot.
        begins: &[
            Begin::Shadow("virtualenv", ALL),
            Begin::Shadow("pre-commit", 0),
            Begin::Shadow("", 0),
        ],
    },
];
