//! Names of threads.

use std::fmt;
use std::str::FromStr;

/// Digits that nobody mistakes for one another (Crockford's base 32, in lower case).
const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// 128 bits in digits of 5.
const LENGTH: usize = 26;

/// A thread's name: a UUID of version 7 in base 32, so that names sort by time.
///
/// The first ten digits are the milliseconds; eight tell apart threads a quarter of a second
/// away from each other, which is why people may shorten them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ThreadId(String);

/// The text is no name of a thread.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no thread's ID")]
pub struct IdError(String);

impl ThreadId {
    /// A new one, later than all before.
    pub fn generate() -> Self {
        let mut bits = uuid::Uuid::now_v7().as_u128();
        let mut text = vec![b'0'; LENGTH];
        for digit in text.iter_mut().rev() {
            let index = usize::try_from(bits % 32).expect("invariant: below 32");
            *digit = DIGITS.get(index).copied().unwrap_or(b'0');
            bits /= 32;
        }
        Self(text.into_iter().map(char::from).collect())
    }

    /// The whole name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ThreadId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let is_name = text.len() == LENGTH && text.bytes().all(|digit| DIGITS.contains(&digit));
        if is_name { Ok(Self(text.to_owned())) } else { Err(IdError(text.to_owned())) }
    }
}

impl fmt::Display for ThreadId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_by_time_and_read_back() {
        let names: Vec<ThreadId> = (0..100).map(|_| ThreadId::generate()).collect();
        assert!(names.is_sorted());
        assert!(names.iter().all(|name| name.as_str().parse().as_ref() == Ok(name)));
        assert!("../../etc".parse::<ThreadId>().is_err());
        assert!("i".repeat(LENGTH).parse::<ThreadId>().is_err(), "`i` is no digit");
    }
}
