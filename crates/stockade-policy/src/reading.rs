//! What stays readable when reads are an allow-list (`read = "workspace"`): the system, the
//! toolchains, the workspace.

/// Entries of `/` that are the system's own. What else there is (homes, disks, data) is not shown.
pub const SYSTEM_AT_TOP: &[&str] = &[
    "bin", "dev", "etc", "gnu", "lib", "lib32", "lib64", "libx32", "nix", "opt", "proc", "run",
    "sbin", "snap", "sys", "tmp", "usr", "var",
];

/// Entries of `/var` that programs need.
pub const SYSTEM_IN_VAR: &[&str] = &["cache", "lib", "lock", "run", "tmp"];

/// What of home is a toolchain, or says who commits. Secrets in it stay hidden.
pub const TOOLCHAINS_IN_HOME: &[&str] = &[
    ".asdf",
    ".bun",
    ".cargo",
    ".config/git",
    ".deno",
    ".dotnet",
    ".fnm",
    ".ghcup",
    ".gitconfig",
    ".gradle",
    ".jenv",
    ".juliaup",
    ".local/bin",
    ".local/lib",
    ".local/share/fnm",
    ".local/share/mise",
    ".local/share/pipx",
    ".local/share/pnpm",
    ".local/share/uv",
    ".m2/repository",
    ".npm",
    ".nvm",
    ".opam",
    ".pyenv",
    ".rbenv",
    ".rustup",
    ".rvm",
    ".sdkman",
    ".stack",
    ".volta",
    "go",
];
