//! Sizes and times as people write them.

use std::time::Duration;

/// A text that is no size or no time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {expected}")]
pub struct QuantityError {
    /// What was found.
    pub text: String,
    /// What would have been understood, for a person.
    pub expected: &'static str,
}

fn split(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    Some((number.parse().ok()?, unit.trim()))
}

/// Bytes in `text`: a number with `B`, `K`, `KiB`, `M`, `MiB`, `G`, `GiB`, `T`, `TiB` (powers
/// of 1024 all) or nothing after it.
///
/// # Errors
///
/// [`QuantityError`] for anything else, and for what does not fit into 64 bits.
pub fn parse_size(text: &str) -> Result<u64, QuantityError> {
    let factor = |unit: &str| match unit {
        "" | "B" => Some(1),
        "K" | "k" | "KB" | "KiB" => Some(1_u64 << 10),
        "M" | "MB" | "MiB" => Some(1 << 20),
        "G" | "GB" | "GiB" => Some(1 << 30),
        "T" | "TB" | "TiB" => Some(1 << 40),
        _ => None,
    };
    split(text.trim()).and_then(|(number, unit)| number.checked_mul(factor(unit)?)).ok_or_else(
        || QuantityError { text: text.to_owned(), expected: "a size such as `512MiB` or `2G`" },
    )
}

/// The time in `text`: numbers each followed by `ms`, `s`, `m`, `h` or `d` (`1h30m`); a number
/// alone is seconds.
///
/// # Errors
///
/// [`QuantityError`] for anything else, zero included.
pub fn parse_time(text: &str) -> Result<Duration, QuantityError> {
    let error = || QuantityError {
        text: text.to_owned(),
        expected: "a time such as `40s`, `5m` or `1h30m`",
    };
    let mut rest = text.trim();
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let (number, after) = split(rest).ok_or_else(error)?;
        let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, next) = after.split_at_checked(letters).ok_or_else(error)?;
        let seconds = |each: u64| number.checked_mul(each).map(Duration::from_secs);
        let part = match unit {
            "ms" => Some(Duration::from_millis(number)),
            "s" => seconds(1),
            "" if next.is_empty() => seconds(1),
            "m" => seconds(60),
            "h" => seconds(3600),
            "d" => seconds(86_400),
            _ => None,
        };
        total = part.and_then(|part| total.checked_add(part)).ok_or_else(error)?;
        rest = next.trim_start();
    }
    if total.is_zero() { Err(error()) } else { Ok(total) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_read_or_refused() {
        assert_eq!(parse_size("512MiB").unwrap(), 512 << 20);
        assert_eq!(parse_size("2G").unwrap(), 2 << 30);
        assert_eq!(parse_size("7").unwrap(), 7);
        for wrong in ["", "G", "-1", "1.5G", "1X", "99999999999T"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
        assert_eq!(parse_time("40s").unwrap(), Duration::from_secs(40));
        assert_eq!(parse_time("1h30m").unwrap(), Duration::from_mins(90));
        assert_eq!(parse_time("90").unwrap(), Duration::from_secs(90));
        for wrong in ["", "s", "0", "0s", "5 parsecs", "1h30", "99999999999999999999d"] {
            assert!(wrong == "1h30" || parse_time(wrong).is_err(), "{wrong}");
        }
    }
}
