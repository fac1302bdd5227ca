//! Which repository of which forge a remote's address means.

/// A repository of a forge.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Address {
    /// `https` or `http` when git speaks to it so; else `ssh`.
    pub scheme: Scheme,
    /// The host, with a port where the address of HTTP has one; in lower case.
    pub host: String,
    /// Whom it belongs to.
    pub owner: String,
    /// Its name, without `.git`.
    pub repository: String,
}

/// How git speaks to a forge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// HTTPS.
    Https,
    /// HTTP.
    Http,
    /// SSH.
    Ssh,
}

impl Address {
    /// Reads `https://HOST/OWNER/NAME`, `ssh://git@HOST/OWNER/NAME`, `git@HOST:OWNER/NAME`.
    pub fn parse(url: &str) -> Option<Self> {
        let (scheme, rest) = match url.split_once("://") {
            Some(("https", rest)) => (Scheme::Https, rest),
            Some(("http", rest)) => (Scheme::Http, rest),
            Some(("ssh" | "git+ssh" | "ssh+git", rest)) => (Scheme::Ssh, rest),
            Some(_) => return None,
            // As scp(1) has it; a path has a slash before its first colon, or none.
            None => {
                let (host, path) = url.split_once(':')?;
                if host.contains('/') {
                    return None;
                }
                let host = host.rsplit('@').next()?;
                return Self::of(Scheme::Ssh, host, path.trim_start_matches('/'));
            }
        };
        let (authority, path) = rest.split_once('/')?;
        let host = authority.rsplit('@').next()?;
        let host = match (scheme, host.rsplit_once(':')) {
            // Its port is that of SSH, which says nothing about the API.
            (Scheme::Ssh, Some((host, port))) if port.bytes().all(|b| b.is_ascii_digit()) => host,
            (Scheme::Ssh | Scheme::Https | Scheme::Http, _) => host,
        };
        Self::of(scheme, host, path)
    }

    fn of(scheme: Scheme, host: &str, path: &str) -> Option<Self> {
        let path = path.trim_end_matches('/');
        let (owner, name) = path.split_once('/')?;
        let name = name.strip_suffix(".git").unwrap_or(name);
        let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte);
        let is_name = |text: &str| {
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
            !text.is_empty() && text.bytes().all(is_plain) && text != "." && text != ".."
        };
        let is_sound = !host.is_empty() && host.bytes().all(is_host);
        (is_sound && is_name(owner) && is_name(name)).then(|| Self {
            scheme,
            host: host.to_ascii_lowercase(),
            owner: owner.to_owned(),
            repository: name.to_owned(),
        })
    }

    /// Whether it is GitHub's own cloud.
    pub fn is_github(&self) -> bool {
        self.host == "github.com" || self.host.ends_with(".ghe.com")
    }

    /// Whether it is at `server`, the URL of a forge. An address of SSH has another port, or none.
    pub fn is_at(&self, server: &str) -> bool {
        let Some((_, rest)) = server.split_once("://") else { return false };
        let at = rest.trim_end_matches('/');
        let name = match at.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
            _ => at,
        };
        let is_same = |host: &str| host.eq_ignore_ascii_case(&self.host);
        is_same(at) || (self.scheme == Scheme::Ssh && is_same(name))
    }

    /// Where the API of its forge is, as GitHub and GitHub Enterprise have it.
    pub fn api(&self) -> String {
        let host = &self.host;
        if self.is_github() {
            format!("https://api.{host}")
        } else {
            format!("https://{host}/api/v3")
        }
    }

    /// The address whose git is shown the token: none over SSH, nor unencrypted to another machine.
    pub(crate) fn credential(&self) -> Option<String> {
        let at = match self.scheme {
            Scheme::Https => format!("https://{}", self.host),
            Scheme::Http => format!("http://{}", self.host),
            Scheme::Ssh => return None,
        };
        stockade_policy::check_endpoint(&at).is_ok().then_some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_forges_are_read_and_others_are_not() {
        let read = |url: &str| {
            Address::parse(url).map(|at| format!("{} {}/{}", at.host, at.owner, at.repository))
        };
        for url in [
            "https://github.com/octo/cat.git",
            "https://user:pass@GitHub.com/octo/cat/",
            "git@github.com:octo/cat.git",
            "github.com:octo/cat",
            "ssh://git@github.com:22/octo/cat.git",
        ] {
            assert_eq!(read(url).as_deref(), Some("github.com octo/cat"), "{url}");
        }
        assert_eq!(read("http://127.0.0.1:80/a/b").as_deref(), Some("127.0.0.1:80 a/b"));
        for url in [
            "/srv/repo.git",
            "../repo.git",
            "file:///srv/a/b",
            "./a:b/c",
            "https://github.com/octo",
            "https://github.com/octo/cat/more",
            "https://github.com/../cat",
            "https://host name/octo/cat",
            "https:///octo/cat",
        ] {
            assert_eq!(read(url), None, "{url}");
        }
    }

    #[test]
    fn an_address_is_at_a_server_by_its_host_and_over_http_by_its_port() {
        let is_at = |url: &str, server: &str| Address::parse(url).unwrap().is_at(server);
        assert!(is_at("https://git.example.org:8443/a/b", "https://Git.example.org:8443/"));
        assert!(is_at("git@git.example.org:a/b", "https://git.example.org:8443"));
        assert!(is_at("ssh://git@git.example.org:22/a/b", "https://git.example.org"));
        for (url, server) in [
            ("https://git.example.org/a/b", "https://git.example.org:8443"),
            ("https://git.example.org:8443/a/b", "https://git.example.org"),
            ("git@git.example.org:a/b", "https://git.example.org.evil.net:22"),
            ("git@git.example.org:a/b", "git.example.org"),
        ] {
            assert!(!is_at(url, server), "{url} {server}");
        }
    }

    #[test]
    fn a_token_goes_nowhere_unencrypted_but_here() {
        let at = |url: &str| Address::parse(url).unwrap().credential();
        assert_eq!(at("https://github.com/a/b").as_deref(), Some("https://github.com"));
        assert!(at("http://127.0.0.1:81/a/b").is_some());
        assert_eq!(at("http://example.org/a/b"), None);
        assert_eq!(at("git@github.com:a/b"), None);
        let api = |url: &str| Address::parse(url).unwrap().api();
        assert_eq!(api("git@github.com:a/b"), "https://api.github.com");
        assert_eq!(api("https://git.example.org/a/b"), "https://git.example.org/api/v3");
    }
}
