//! Certificates as a Java virtual machine keeps them: a `JKS` file (the format that every version
//! since 1.2 reads; `sun.security.provider.JavaKeyStore`).

/// Begins the file, and its version.
const MAGIC: [u32; 2] = [0xfeed_feed, 2];
/// The kind of an entry that is a certificate.
const TRUSTED: u32 = 2;
/// As long as the hash over a password that ends the file. Whoever gives no password, as for those
/// of the system, does not look at it.
const HASH: usize = 20;

/// What begins a store: [`MAGIC`], and how many entries it has.
const HEAD: usize = 12;

/// The store that has what is in `old`, and `more` (PEM). From one in another format nothing is
/// taken: it has what is in `bundle` (PEM) instead. What is no certificate is left out.
pub(crate) fn store(old: &[u8], bundle: &str, more: &str) -> Vec<u8> {
    let (known, entries) = entries(old).unwrap_or_default();
    let bundle = if entries.is_empty() { bundle } else { "" };
    let certificates: Vec<_> = blocks(bundle).chain(blocks(more)).filter_map(decoded).collect();
    let mut store = Vec::with_capacity(old.len());
    let count = known.saturating_add(u32::try_from(certificates.len()).unwrap_or(u32::MAX));
    let [magic, version] = MAGIC;
    for number in [magic, version, count] {
        store.extend(number.to_be_bytes());
    }
    store.extend(entries);
    for (index, certificate) in certificates.iter().enumerate() {
        store.extend(TRUSTED.to_be_bytes());
        text(&mut store, &format!("stockade-{index}"));
        // When it was put in.
        store.extend([0; 8]);
        text(&mut store, "X.509");
        let length = u32::try_from(certificate.len()).unwrap_or(u32::MAX);
        store.extend(length.to_be_bytes());
        store.extend(certificate);
    }
    store.extend([0; HASH]);
    store
}

/// How many entries a store has, and these.
fn entries(store: &[u8]) -> Option<(u32, &[u8])> {
    let [magic, version] = MAGIC.map(u32::to_be_bytes);
    let rest = store.strip_prefix(&magic)?.strip_prefix(&version)?;
    let (count, _) = rest.split_first_chunk()?;
    let entries = store.get(HEAD..store.len().checked_sub(HASH)?)?;
    Some((u32::from_be_bytes(*count), entries))
}

/// ASCII with its length, as Java writes it.
fn text(store: &mut Vec<u8>, text: &str) {
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
    store.extend(length.to_be_bytes());
    store.extend(text.as_bytes());
}

/// What stands between the lines of each certificate (RFC 7468).
fn blocks(pem: &str) -> impl Iterator<Item = &str> {
    let parts = pem.split("-----BEGIN CERTIFICATE-----").skip(1);
    parts.filter_map(|part| part.split("-----END").next())
}

/// Bytes of Base 64 (RFC 4648, section 4) in lines.
fn decoded(text: &str) -> Option<Vec<u8>> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut word, mut bits) = (0_u32, 0);
    for digit in text.bytes().filter(|byte| !byte.is_ascii_whitespace() && *byte != b'=') {
        let value = DIGITS.iter().position(|known| *known == digit)?;
        word = word << 6 | u32::try_from(value).ok()?;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            let [.., byte] = (word >> bits).to_be_bytes();
            bytes.push(byte);
        }
    }
    (!bytes.is_empty()).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_has_what_is_a_certificate() {
        let pem = "# one\n-----BEGIN CERTIFICATE-----\nZm9v\nYmE=\n-----END CERTIFICATE-----\n\
                   -----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n\
                   -----BEGIN CERTIFICATE-----\r\nZg==\r\n-----END CERTIFICATE-----\r\n";
        let mut expected = vec![0xfe, 0xed, 0xfe, 0xed, 0, 0, 0, 2, 0, 0, 0, 2];
        for (name, bytes) in [("stockade-0", &b"fooba"[..]), ("stockade-1", b"f")] {
            expected.extend([0, 0, 0, 2, 0, 10]);
            expected.extend(name.as_bytes());
            expected.extend([0; 8]);
            expected.extend(b"\0\x05X.509\0\0\0");
            expected.push(u8::try_from(bytes.len()).unwrap());
            expected.extend(bytes);
        }
        expected.extend([0; 20]);
        assert_eq!(store(b"another format", pem, ""), expected);
        assert_eq!(store(&[], "", pem), expected);
    }

    #[test]
    fn a_store_keeps_what_it_had() {
        let one = "-----BEGIN CERTIFICATE-----\nZm9v\n-----END CERTIFICATE-----\n";
        let old = store(&[], one, "");
        let new = store(&old, "not looked at", one);
        let (entries, hash) = (&old[12..old.len() - 20], [0; 20]);
        assert_eq!(new[..12], *b"\xfe\xed\xfe\xed\0\0\0\x02\0\0\0\x02");
        assert_eq!(new[12..], [entries, entries, &hash].concat());
    }
}
