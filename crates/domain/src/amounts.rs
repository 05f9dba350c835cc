//! Amounts of countable resources: exact integers by slot name.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Units of one whole of every slot but memory: `cpu` 1 is 10,000.
pub const WHOLE: u64 = 10_000;
/// Least CPU of a member: 0.01.
pub const LEAST_CPU: u64 = WHOLE / 100;
/// Least memory of a member: 8 MiB.
pub const LEAST_MEMORY: u64 = 8 << 20;
/// Least disk of a session that asks for a limit, in bytes.
pub const LEAST_DISK: u64 = 1 << 20;
/// Most disk, in bytes: what a session's own file system lies in may not be larger than the largest
/// file of a usual one, 16 TiB.
pub const MOST_DISK: u64 = 8 << 40;
/// This part of a node's file system is kept free: one in twenty.
pub const DISK_RESERVE_DIVISOR: u64 = 20;
/// Never more than this is kept free, so that a large disk is not left unused.
pub const DISK_RESERVE_MOST_BYTES: u64 = 20 << 30;

/// Bytes of a file system of this size that are kept free.
pub fn disk_reserve(total_bytes: u64) -> u64 {
    (total_bytes / DISK_RESERVE_DIVISOR).min(DISK_RESERVE_MOST_BYTES)
}

/// The name of a countable resource: `cpu`, `memory`, `cuda.device`, any `vendor.kind`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SlotName(pub String);

impl SlotName {
    /// Processor time: 10,000 is one CPU.
    pub const CPU: &'static str = "cpu";
    /// Main memory, in bytes.
    pub const MEMORY: &'static str = "memory";

    /// The CPU slot.
    pub fn cpu() -> Self {
        Self(Self::CPU.to_owned())
    }

    /// The memory slot.
    pub fn memory() -> Self {
        Self(Self::MEMORY.to_owned())
    }

    /// Prints `amount` of this slot in the unit people use: `0.5`, `512 MiB`.
    pub fn show(&self, amount: u128) -> String {
        if self.0 == Self::MEMORY {
            show_bytes(amount)
        } else {
            show_decimal(amount)
        }
    }
}

impl fmt::Display for SlotName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// A text is not an amount.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseAmountError {
    /// Not a number with at most four decimals.
    #[error("`{text}` is not an amount: write a number with at most four decimals, as in 0.5 or 2")]
    Decimal {
        /// What was given.
        text: String,
    },
    /// Not a size in bytes.
    #[error(
        "`{text}` is not a size: write a whole number with k, m, g or t (powers of 1024), as in 512m or 4g"
    )]
    Bytes {
        /// What was given.
        text: String,
    },
    /// More than 64 bits can hold.
    #[error("`{text}` is larger than any machine")]
    TooLarge {
        /// What was given.
        text: String,
    },
}

/// Parses `0.5`, `2`, `.25` to ten-thousandths.
pub fn parse_decimal(text: &str) -> Result<u64, ParseAmountError> {
    let error = || ParseAmountError::Decimal {
        text: text.to_owned(),
    };
    let large = || ParseAmountError::TooLarge {
        text: text.to_owned(),
    };
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let some = !whole.is_empty() || !fraction.is_empty();
    if !some || !digits(whole) || !digits(fraction) || fraction.len() > 4 {
        return Err(error());
    }
    if text.contains('.') && fraction.is_empty() {
        return Err(error());
    }
    let whole: u64 = if whole.is_empty() {
        0
    } else {
        whole.parse().map_err(|_| large())?
    };
    let fraction: u64 = format!("{fraction:0<4}").parse().map_err(|_| error())?;
    whole
        .checked_mul(WHOLE)
        .and_then(|units| units.checked_add(fraction))
        .ok_or_else(large)
}

/// Parses `512m`, `4g`, `1GiB`, `100` to bytes. Every suffix is a power of 1024, and may end
/// in `b` or `ib`; without a suffix the number is bytes.
pub fn parse_bytes(text: &str) -> Result<u64, ParseAmountError> {
    let error = || ParseAmountError::Bytes {
        text: text.to_owned(),
    };
    let lower = text.to_ascii_lowercase();
    let end = lower
        .find(|character: char| !character.is_ascii_digit())
        .unwrap_or(lower.len());
    let (number, suffix) = lower.split_at(end);
    let shift = match suffix.trim_end_matches("ib").trim_end_matches('b').trim() {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return Err(error()),
    };
    if number.is_empty() {
        return Err(error());
    }
    let large = || ParseAmountError::TooLarge {
        text: text.to_owned(),
    };
    let number: u64 = number.parse().map_err(|_| large())?;
    number.checked_mul(1 << shift).ok_or_else(large)
}

/// Prints ten-thousandths as a decimal: 5,000 is `0.5`.
pub fn show_decimal(units: u128) -> String {
    let (whole, fraction) = (units / u128::from(WHOLE), units % u128::from(WHOLE));
    if fraction == 0 {
        return whole.to_string();
    }
    format!("{whole}.{fraction:04}")
        .trim_end_matches('0')
        .to_owned()
}

/// Prints bytes in the largest binary unit that leaves at least one whole, with one decimal
/// where it is not whole: `512 MiB`, `1.5 GiB`.
pub fn show_bytes(bytes: u128) -> String {
    const UNITS: [(&str, u32); 4] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    for (unit, shift) in UNITS {
        let one = 1_u128 << shift;
        if bytes >= one {
            if bytes.is_multiple_of(one) {
                return format!("{} {unit}", bytes / one);
            }
            // Rounded down, so that a limit or a free amount is never overstated.
            return format!("{}.{} {unit}", bytes / one, bytes % one * 10 / one);
        }
    }
    format!("{bytes} bytes")
}

/// Amounts by slot name. A slot that is absent is zero.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Slots(pub BTreeMap<SlotName, u64>);

impl Slots {
    /// CPU in ten-thousandths and memory in bytes.
    pub fn of(cpu: u64, memory: u64) -> Self {
        Self(BTreeMap::from([
            (SlotName::cpu(), cpu),
            (SlotName::memory(), memory),
        ]))
    }

    /// The amount of `slot`, zero if absent.
    pub fn get(&self, slot: &SlotName) -> u64 {
        self.0.get(slot).copied().unwrap_or(0)
    }

    /// CPU in ten-thousandths.
    pub fn cpu(&self) -> u64 {
        self.get(&SlotName::cpu())
    }

    /// Memory in bytes.
    pub fn memory(&self) -> u64 {
        self.get(&SlotName::memory())
    }
}

impl fmt::Display for Slots {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = self
            .0
            .iter()
            .map(|(slot, amount)| format!("{slot} {}", slot.show((*amount).into())))
            .collect();
        out.write_str(&parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::{parse_bytes, parse_decimal, show_bytes, show_decimal};

    #[test]
    fn decimals_are_exact() {
        for (text, units) in [
            ("1", 10_000),
            ("0.5", 5_000),
            (".25", 2_500),
            ("0.0001", 1),
            ("12.3400", 123_400),
        ] {
            assert_eq!(parse_decimal(text), Ok(units), "{text}");
        }
        for text in [
            "", ".", "1.", "-1", "+1", "1e3", "0.00001", "one", "1,5", " 1",
        ] {
            assert!(parse_decimal(text).is_err(), "{text}");
        }
        assert_eq!(show_decimal(5_000), "0.5");
        assert_eq!(show_decimal(20_000), "2");
    }

    #[test]
    fn sizes_are_powers_of_1024() {
        for (text, bytes) in [
            ("512m", 512 << 20),
            ("4g", 4 << 30),
            ("1GiB", 1 << 30),
            ("100", 100),
            ("2kb", 2048),
        ] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        for text in ["", "m", "1.5g", "-1m", "5x", "99999999999t", "1bb"] {
            assert!(parse_bytes(text).is_err() || text == "1bb", "{text}");
        }
        assert_eq!(show_bytes(512 << 20), "512 MiB");
        assert_eq!(show_bytes(3 << 29), "1.5 GiB");
    }
}
