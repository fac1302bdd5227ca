//! Keys of hosts, and what they have signed (RFC 4253, 5656, 8332, 8709).

use ring::digest;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA512, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};

use super::wire::Fields;
use crate::base64;

/// Whether `key` has signed `message`. Kinds that are not known here have signed nothing:
/// certificates, keys of hardware, P-521, and RSA with SHA-1.
pub(crate) fn has_signed(key: &[u8], message: &[u8], signature: &[u8]) -> bool {
    verify(key, message, signature).is_some()
}

fn verify(key: &[u8], message: &[u8], signature: &[u8]) -> Option<()> {
    let (mut key, mut signature) = (Fields(key), Fields(signature));
    let (kind, algorithm) = (key.string()?, signature.string()?);
    let value = signature.string()?;
    if !signature.end() {
        return None;
    }
    match kind {
        b"ssh-ed25519" if algorithm == kind => {
            let point = key.string().filter(|_| key.end())?;
            UnparsedPublicKey::new(&ED25519, point).verify(message, value).ok()
        }
        b"ecdsa-sha2-nistp256" if algorithm == kind => {
            by_curve(&mut key, (&ECDSA_P256_SHA256_FIXED, b"nistp256", 32), message, value)
        }
        b"ecdsa-sha2-nistp384" if algorithm == kind => {
            by_curve(&mut key, (&ECDSA_P384_SHA384_FIXED, b"nistp384", 48), message, value)
        }
        b"ssh-rsa" => {
            let (e, n) = (key.positive()?, key.positive()?);
            let algorithm = match algorithm {
                b"rsa-sha2-256" => &RSA_PKCS1_2048_8192_SHA256,
                b"rsa-sha2-512" => &RSA_PKCS1_2048_8192_SHA512,
                _ => return None,
            };
            let key = key.end().then_some(RsaPublicKeyComponents { n, e })?;
            key.verify(algorithm, message, value).ok()
        }
        _ => None,
    }
}

fn by_curve(
    key: &mut Fields<'_>,
    (algorithm, curve, length): (&'static dyn VerificationAlgorithm, &[u8], usize),
    message: &[u8],
    value: &[u8],
) -> Option<()> {
    let is_curve = key.string()? == curve;
    let point = key.string().filter(|_| is_curve && key.end())?;
    let mut numbers = Fields(value);
    let mut fixed = Vec::new();
    for _ in 0..2 {
        let number = numbers.positive().filter(|number| number.len() <= length)?;
        fixed.resize(fixed.len() + length - number.len(), 0);
        fixed.extend(number);
    }
    numbers.end().then(|| UnparsedPublicKey::new(algorithm, point).verify(message, &fixed).ok())?
}

/// A key as ssh shows it: `SHA256:` and its digest.
pub fn fingerprint(key: &[u8]) -> String {
    let digest = base64::encode(digest::digest(&digest::SHA256, key).as_ref());
    format!("SHA256:{}", digest.trim_end_matches('='))
}

#[cfg(test)]
mod tests {
    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};

    use super::super::wire::string;
    use super::*;

    fn blob(parts: &[&[u8]]) -> Vec<u8> {
        let mut blob = Vec::new();
        for part in parts {
            string(&mut blob, part);
        }
        blob
    }

    fn positive(bytes: &[u8]) -> Vec<u8> {
        let start = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len());
        let bytes = &bytes[start..];
        let sign: &[u8] = if bytes.first().is_some_and(|byte| *byte >= 0x80) { &[0] } else { &[] };
        [sign, bytes].concat()
    }

    #[test]
    fn what_ed25519_signed_holds_and_nothing_else() {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let key = blob(&[b"ssh-ed25519", pair.public_key().as_ref()]);
        let signature = blob(&[b"ssh-ed25519", pair.sign(b"session").as_ref()]);
        assert!(has_signed(&key, b"session", &signature));
        assert!(!has_signed(&key, b"sessioN", &signature));
        let other = Ed25519KeyPair::from_seed_unchecked(&[8; 32]).unwrap();
        let other = blob(&[b"ssh-ed25519", other.public_key().as_ref()]);
        assert!(!has_signed(&other, b"session", &signature));
        assert!(!has_signed(&[&key[..], b"\0"].concat(), b"session", &signature));
        assert!(!has_signed(&key, b"session", &[&signature[..], b"\0"].concat()));
        for end in 0..key.len() {
            assert!(!has_signed(&key[..end], b"session", &signature));
        }
    }

    #[test]
    fn so_does_what_a_curve_signed_whatever_its_numbers() {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let secret = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, secret.as_ref(), &random).unwrap();
        let kind = b"ecdsa-sha2-nistp256";
        let key = blob(&[kind, b"nistp256", pair.public_key().as_ref()]);
        // Half of the numbers need the zero, some are shorter.
        for round in 0..64_u8 {
            let signed = pair.sign(&random, &[round]).unwrap();
            let (r, s) = signed.as_ref().split_at(32);
            let value = blob(&[&positive(r), &positive(s)]);
            assert!(has_signed(&key, &[round], &blob(&[kind, &value])), "{r:?} {s:?}");
            assert!(!has_signed(&key, &[round + 1], &blob(&[kind, &value])));
        }
        let strange = blob(&[kind, b"nistp384", pair.public_key().as_ref()]);
        assert!(!has_signed(&strange, b"", &blob(&[kind, &blob(&[b"1", b"1"])])));
    }

    #[test]
    fn a_fingerprint_is_that_of_ssh() {
        // `printf x | sha256sum | xxd -r -p | base64`
        assert_eq!(fingerprint(b"x"), "SHA256:LXEWQrcmsEQBYnyp+6wy9chTD7GQPMTbAiWHF5IaSIE");
    }
}
