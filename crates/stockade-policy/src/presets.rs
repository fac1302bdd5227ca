//! Names for groups of public services, as data.

use crate::HostEntry;

/// A group by its name. Each entry is written as in a configuration.
const PRESETS: &[(&str, &[&str])] = &[
    (
        "registries",
        &[
            // Rust.
            "crates.io",
            "index.crates.io",
            "static.crates.io",
            "static.rust-lang.org",
            // JavaScript.
            "registry.npmjs.org",
            "registry.yarnpkg.com",
            "nodejs.org",
            "jsr.io",
            "npm.jsr.io",
            // Python.
            "pypi.org",
            "files.pythonhosted.org",
            // Go.
            "proxy.golang.org",
            "sum.golang.org",
            "go.dev",
            "dl.google.com",
            // JVM.
            "repo.maven.apache.org",
            "repo1.maven.org",
            "plugins.gradle.org",
            "plugins-artifacts.gradle.org",
            "services.gradle.org",
            "downloads.gradle.org",
            // Ruby, PHP, .NET, Elixir, Haskell, Perl, R, Dart.
            "rubygems.org",
            "index.rubygems.org",
            "repo.packagist.org",
            "packagist.org",
            "api.nuget.org",
            "www.nuget.org",
            "repo.hex.pm",
            "hex.pm",
            "hackage.haskell.org",
            "www.cpan.org",
            "fastapi.metacpan.org",
            "cran.r-project.org",
            "pub.dev",
            // Distributions.
            "deb.debian.org",
            "security.debian.org",
            "archive.ubuntu.com",
            "security.ubuntu.com",
            "ports.ubuntu.com",
            "dl-cdn.alpinelinux.org",
        ],
    ),
    (
        "git-hosts",
        &[
            "github.com",
            "github.com:22",
            "ssh.github.com",
            "api.github.com",
            "codeload.github.com",
            "raw.githubusercontent.com",
            "objects.githubusercontent.com",
            "release-assets.githubusercontent.com",
            "github-cloud.githubusercontent.com",
            "gitlab.com",
            "gitlab.com:22",
            "altssh.gitlab.com",
            "bitbucket.org",
            "bitbucket.org:22",
            "altssh.bitbucket.org",
            "codeberg.org",
            "codeberg.org:22",
            "git.sr.ht",
            "git.sr.ht:22",
        ],
    ),
    (
        "llm",
        &[
            "api.anthropic.com",
            "api.openai.com",
            "generativelanguage.googleapis.com",
            "api.mistral.ai",
            "api.deepseek.com",
            "api.groq.com",
            "api.x.ai",
            "api.together.xyz",
            "api.fireworks.ai",
            "api.cohere.com",
            "openrouter.ai",
        ],
    ),
];

/// The entries of the preset `name`, if there is one.
pub fn preset(name: &str) -> Option<Vec<HostEntry>> {
    let (_, entries) = PRESETS.iter().find(|(known, _)| *known == name)?;
    let read = |entry: &&str| entry.parse().expect("invariant: the table has entries");
    Some(entries.iter().map(read).collect())
}

/// The names of the presets.
pub fn preset_names() -> impl Iterator<Item = &'static str> {
    PRESETS.iter().map(|(name, _)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_can_be_read_and_names_public_hosts() {
        for name in preset_names() {
            let entries = preset(name).unwrap();
            assert!(entries.iter().all(|entry| matches!(
                &entry.pattern,
                crate::HostPattern::Name(host) if host.as_str().contains('.')
            )));
            assert!(crate::HostName::new(name).is_ok_and(|host| !host.as_str().contains('.')));
        }
        assert!(preset("everything").is_none());
    }
}
