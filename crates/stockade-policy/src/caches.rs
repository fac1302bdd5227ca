//! The caches of toolchains, as data: what a run may write to in a layer of its own while the
//! user's stay as they are.
//!
//! What decides what runs (programs, configuration) is kept read-only even there: a task could
//! otherwise change what the next one in the same workspace runs without being seen.

/// One folder of caches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheFolder {
    /// Relative to home.
    pub path: &'static str,
    /// What in it stays read-only.
    pub kept: &'static [&'static str],
}

/// Credentials in these folders are hidden by their own table, `secrets`.
pub const CACHE_FOLDERS: &[CacheFolder] = &[
    CacheFolder { path: ".cache", kept: &[] },
    CacheFolder { path: ".cargo", kept: &["bin", "config", "config.toml", "env"] },
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
];
