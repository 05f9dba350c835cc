//! Lengths of time as people write them: `90s`, `10m`, `1h30m`, `2d`.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A length of time in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Span(pub u64);

impl Span {
    /// The length in microseconds.
    pub fn micros(self) -> u64 {
        self.0.saturating_mul(1_000)
    }
}

/// A text is not a length of time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a length of time: write numbers with ms, s, m, h or d, as in 90s, 10m or 1h30m"
)]
pub struct ParseDurationError {
    text: String,
}

impl FromStr for Span {
    type Err = ParseDurationError;
    fn from_str(text: &str) -> Result<Self, ParseDurationError> {
        let error = || ParseDurationError {
            text: text.to_owned(),
        };
        let mut rest = text;
        let mut total: u64 = 0;
        let mut last_unit = u64::MAX;
        while !rest.is_empty() {
            let end = rest
                .find(|character: char| !character.is_ascii_digit())
                .ok_or_else(error)?;
            let (number, tail) = rest.split_at(end);
            let number: u64 = number.parse().map_err(|_| error())?;
            let end = tail
                .find(|character: char| character.is_ascii_digit())
                .unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(end);
            let unit = match unit {
                "ms" => 1,
                "s" => 1_000,
                "m" => 60_000,
                "h" => 3_600_000,
                "d" => 86_400_000,
                _ => return Err(error()),
            };
            if unit >= last_unit {
                return Err(error());
            }
            last_unit = unit;
            let part = number.checked_mul(unit).ok_or_else(error)?;
            total = total.checked_add(part).ok_or_else(error)?;
            rest = tail;
        }
        if last_unit == u64::MAX {
            Err(error())
        } else {
            Ok(Self(total))
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(&str, u64); 5] = [
            ("d", 86_400_000),
            ("h", 3_600_000),
            ("m", 60_000),
            ("s", 1_000),
            ("ms", 1),
        ];
        let mut rest = self.0;
        if rest == 0 {
            return out.write_str("0s");
        }
        for (unit, length) in UNITS {
            if rest >= length {
                write!(out, "{}{unit}", rest / length)?;
                rest %= length;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Span;

    #[test]
    fn lengths_are_read_and_printed_alike() {
        for (text, ms) in [
            ("90s", 90_000),
            ("1h30m", 5_400_000),
            ("250ms", 250),
            ("2d", 172_800_000),
        ] {
            assert_eq!(text.parse(), Ok(Span(ms)), "{text}");
        }
        assert_eq!(Span(5_400_000).to_string(), "1h30m");
        assert_eq!(Span(90_000).to_string(), "1m30s");
        for text in ["", "10", "m", "1m1h", "1m1m", "-1s", "1.5h", "10 m"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }
}
