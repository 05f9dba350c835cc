//! Who goes first among sessions that wait for a place.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Of sessions that wait for a place one of a higher priority goes before one of a lower, and of
/// equal ones the older. It stops nothing that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Priority(u8);

/// A number is no priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{number} is not between {} and {}", Priority::LEAST, Priority::MOST)]
pub struct InvalidPriority {
    /// What was given.
    pub number: u32,
}

impl Priority {
    /// The lowest.
    pub const LEAST: Self = Self(0);
    /// Of whoever does not say.
    pub const USUAL: Self = Self(50);
    /// The highest.
    pub const MOST: Self = Self(100);

    /// As a number, 0 to 100.
    pub fn number(self) -> u32 {
        self.0.into()
    }

    /// It is that of whoever does not say.
    pub fn is_usual(&self) -> bool {
        *self == Self::USUAL
    }

    /// The next higher one, if there is one.
    pub fn next(self) -> Option<Self> {
        Self::try_from(self.number() + 1).ok()
    }
}

impl Default for Priority {
    fn default() -> Self {
        Self::USUAL
    }
}

impl TryFrom<u32> for Priority {
    type Error = InvalidPriority;

    fn try_from(number: u32) -> Result<Self, InvalidPriority> {
        let priority = u8::try_from(number).map(Self).ok();
        let priority = priority.filter(|priority| *priority <= Self::MOST);
        priority.ok_or(InvalidPriority { number })
    }
}

impl From<Priority> for u32 {
    fn from(priority: Priority) -> Self {
        priority.number()
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

#[cfg(test)]
mod tests {
    use super::Priority;

    #[test]
    fn a_priority_is_a_number_from_0_to_100() {
        for number in [0, 1, 50, 100] {
            let priority = Priority::try_from(number).expect("one");
            assert_eq!(priority.number(), number);
            assert_eq!(priority.to_string(), number.to_string());
        }
        for number in [101, 256, u32::MAX] {
            let error = Priority::try_from(number).expect_err("none");
            let said = format!("{number} is not between 0 and 100");
            assert_eq!(error.to_string(), said);
        }
        assert_eq!(Priority::default(), Priority::USUAL);
        assert_eq!(Priority::USUAL.next().map(Priority::number), Some(51));
        assert_eq!(Priority::MOST.next(), None);
    }
}
