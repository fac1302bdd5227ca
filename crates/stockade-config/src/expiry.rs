//! Until when a rule holds.

use std::time::SystemTime;

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use toml::de::DeValue;

use crate::diagnose::ConfigError;
use crate::schema::{Reader, Value};

/// The end of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expiry {
    text: String,
    at: SystemTime,
}

impl Expiry {
    /// Reads a date (that day still counts, in UTC), or a date with a time; without an offset that
    /// is UTC too.
    pub fn parse(text: &str) -> Option<Self> {
        // TOML also writes a space between date and time.
        let form = text.trim().replacen(' ', "T", 1);
        let of_date = |date: Date| date.to_zoned(TimeZone::UTC).ok()?.checked_add(1.day()).ok();
        let at = if let Ok(instant) = form.parse::<Timestamp>() {
            instant
        } else if let Some(date) = (!form.contains('T')).then(|| form.parse().ok()).flatten() {
            of_date(date)?.timestamp()
        } else {
            form.parse::<DateTime>().ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp()
        };
        Some(Self { text: text.trim().to_owned(), at: at.into() })
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it is over.
    pub fn is_over(&self, now: SystemTime) -> bool {
        now >= self.at
    }
}

impl Reader<'_> {
    pub(crate) fn expiry(&self, value: &Value<'_>) -> Result<Expiry, ConfigError> {
        let expected = "a date, such as `2030-12-31` or `2030-12-31T18:00:00Z`";
        let expiry = if let DeValue::Datetime(time) = value.get_ref() {
            Expiry::parse(&time.to_string())
        } else if let DeValue::String(text) = value.get_ref() {
            Expiry::parse(text)
        } else {
            None
        };
        expiry.ok_or_else(|| self.wrong_value(value, expected))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn a_date_counts_to_its_end_and_a_time_to_itself() {
        for (text, seconds) in [
            ("1970-01-01", 86_400),
            ("1970-01-02T00:00:01Z", 86_401),
            ("1970-01-02T01:00:00+01:00", 86_400),
            ("1970-01-02 00:00:05", 86_405),
        ] {
            let expiry = Expiry::parse(text).unwrap();
            let at = UNIX_EPOCH + Duration::from_secs(seconds);
            assert!(expiry.is_over(at), "{text}");
            assert!(!expiry.is_over(at - Duration::from_nanos(1)), "{text}");
            assert_eq!(expiry.as_str(), text);
        }
        for wrong in ["", "tomorrow", "2030-02-30", "12:00:00", "2030", "2030-13-01T00:00:00Z"] {
            assert_eq!(Expiry::parse(wrong), None, "{wrong}");
        }
    }
}
