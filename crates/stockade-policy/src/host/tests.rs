use proptest::prelude::*;

use super::*;

fn entry(text: &str) -> Result<HostEntry, HostError> {
    text.parse()
}

#[test]
fn an_entry_has_one_spelling() {
    for (text, canonical) in [
        ("github.com", "github.com"),
        ("GitHub.COM.", "github.com"),
        ("github.com:22", "github.com:22"),
        ("github.com:*", "github.com:*"),
        ("*.Example.org:443", "*.example.org:443"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("my_bucket.example.org", "my_bucket.example.org"),
        ("intranet", "intranet"),
        ("10.0.0.5:5432", "10.0.0.5:5432"),
        ("192.0.2.0/24:443", "192.0.2.0/24:443"),
        ("192.0.2.1/32", "192.0.2.1"),
        ("[2001:DB8:0::1]:80", "[2001:db8::1]:80"),
        ("[2001:db8::/32]:443", "[2001:db8::/32]:443"),
    ] {
        let read = entry(text).unwrap();
        assert_eq!(read.to_string(), canonical, "{text}");
        assert_eq!(entry(canonical).unwrap(), read, "{text}");
    }
}

#[test]
fn what_could_be_read_otherwise_is_refused() {
    use HostError::*;
    for (text, error) in [
        ("", Length),
        (".", Length),
        ("a..b", Length),
        (".example.org", Length),
        ("example.org..", Length),
        ("bücher.example", International),
        ("ｇithub.com", International),
        ("github.com。", International),
        ("evil.org\0.github.com", Character),
        ("evil.org%00.github.com", Character),
        ("git hub.com", Character),
        ("github.com\n", Character),
        ("github.com/path", Url),
        ("*.github.com:443/path", Url),
        ("user@github.com", Character),
        ("https://github.com", Url),
        ("a*.example.org", Character),
        ("*.*.example.org", Character),
        ("*", Everything),
        ("*:443", Everything),
        ("*.", Length),
        ("-a.example.org", Hyphen),
        ("a-.example.org", Hyphen),
        ("2130706433", Number),
        ("0x7f000001", Number),
        ("0x7f.1", Number),
        ("127.1", Number),
        ("0177.0.0.1", Number),
        ("10.0.0.05", Number),
        ("1.2.3.4.", Number),
        ("1.2.3.4.5", Number),
        ("example.0x", Number),
        ("[::ffff:10.0.0.1]:80", Mapped),
        ("[::ffff:a00:1]", Mapped),
        ("[fe80::1%eth0]:80", Zone),
        ("2001:db8::1", Brackets),
        ("[2001:db8::1", Brackets),
        ("[2001:db8::1]80", Brackets),
        ("[10.0.0.1]:80", Address),
        ("[example.org]:80", Address),
        ("10.0.0.1/8", Prefix),
        ("10.0.0.0/33", Prefix),
        ("10.0.0.0/08", Prefix),
        ("10.0.0.0/", Prefix),
        ("[2001:db8::1/32]", Prefix),
        ("github.com:", Port),
        ("github.com:0", Port),
        ("github.com:022", Port),
        ("github.com:+22", Port),
        ("github.com:65536", Port),
        ("github.com:22:22", Brackets),
        ("localhost", Localhost),
        ("LOCALHOST.:80", Localhost),
        ("*.localhost", Localhost),
        ("app.localhost:80", Localhost),
        ("127.0.0.1:80", NoDestination),
        ("0.0.0.0/0", NoDestination),
        ("0.0.0.0:80", NoDestination),
        ("[::1]:80", NoDestination),
        ("[::]:80", NoDestination),
        ("224.0.0.1:80", NoDestination),
        ("198.18.0.1:53", NoDestination),
        ("255.255.255.255:80", NoDestination),
    ] {
        assert_eq!(entry(text), Err(error), "{text:?}");
    }
}

#[test]
fn a_star_is_for_sub_domains_only() {
    let host = |text: &str| Host::new(text).unwrap();
    let below = entry("*.example.org:443").unwrap();
    assert!(below.covers(&host("a.example.org"), 443));
    assert!(below.covers(&host("a.b.EXAMPLE.org."), 443));
    assert!(!below.covers(&host("example.org"), 443), "not the name itself");
    assert!(!below.covers(&host("evilexample.org"), 443));
    assert!(!below.covers(&host("a.example.org"), 80));
    assert!(!below.covers(&host("a.example.org.evil.net"), 443));
    let plain = entry("example.org").unwrap();
    assert!(plain.covers(&host("example.org"), 80) && plain.covers(&host("example.org"), 443));
    assert!(!plain.covers(&host("example.org"), 22) && !plain.covers(&host("a.example.org"), 443));
}

#[test]
fn a_range_is_for_addresses_only() {
    let range = entry("192.0.2.0/24:443").unwrap();
    assert!(range.covers(&Host::new("192.0.2.77").unwrap(), 443));
    assert!(!range.covers(&Host::new("192.0.3.1").unwrap(), 443));
    assert_eq!(Host::of("::ffff:192.0.2.7".parse().unwrap()).to_string(), "192.0.2.7");
    assert!(Host::new("[::ffff:192.0.2.7]").is_err());
    assert!(Host::new("2001:db8::1").is_err(), "without brackets");
}

proptest! {
    /// Nothing panics, and what is accepted reads the same when it is printed.
    #[test]
    fn any_text_is_refused_or_has_one_spelling(text in "\\PC{0,40}|[a-z0-9.:*/\\[\\]%-]{0,40}") {
        if let Ok(read) = entry(&text) {
            let printed = read.to_string();
            prop_assert_eq!(entry(&printed).unwrap(), read);
            prop_assert_eq!(printed.clone(), printed.to_ascii_lowercase());
        }
    }

    /// What is a name here is an address nowhere.
    #[test]
    fn no_name_is_an_address(text in "[0-9a-fx.]{1,24}") {
        if let Ok(name) = HostName::new(&text) {
            prop_assert!(name.as_str().parse::<std::net::IpAddr>().is_err());
            let last = name.as_str().rsplit('.').next().unwrap();
            prop_assert!(!last.bytes().all(|byte| byte.is_ascii_digit()));
        }
    }

    /// A sub-domain ends with a dot and its parent, and is longer.
    #[test]
    fn below_means_below(head in "[a-z]{1,8}", parent in "[a-z]{1,8}\\.[a-z]{2,6}") {
        let parent = HostName::new(&parent).unwrap();
        let below = HostName::new(&format!("{head}.{parent}")).unwrap();
        let beside = HostName::new(&format!("{head}{parent}")).unwrap();
        prop_assert!(below.is_below(&parent));
        prop_assert!(!beside.is_below(&parent) && !parent.is_below(&parent));
    }
}
