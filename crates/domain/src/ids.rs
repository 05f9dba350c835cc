//! Identifiers: one newtype per noun, printed as short lower-case text.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// Crockford's base 32 in lower case: no i, l, o, u, so an id can be read aloud.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// Characters of a printed id: 13 x 5 bits hold 64.
const TEXT_LENGTH: usize = 13;
/// Microseconds-free epoch of ids: 2025-01-01T00:00:00Z in milliseconds since 1970.
const ID_EPOCH_MS: i64 = 1_735_689_600_000;
/// Low bits of an id that are random; the 40 above count milliseconds (34 years).
const RANDOM_BITS: u32 = 24;

/// A text is not an id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an id: {TEXT_LENGTH} characters of 0-9 and a-z without i, l, o, u")]
pub struct ParseIdError {
    text: String,
}

fn write_base32(value: u64, out: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut text = [0; TEXT_LENGTH];
    for (place, character) in (0..TEXT_LENGTH).rev().zip(&mut text) {
        let digit = (value >> (place * 5)) & 31;
        *character = ALPHABET[usize::try_from(digit).expect("five bits fit")];
    }
    out.write_str(std::str::from_utf8(&text).expect("ASCII"))
}

fn parse_base32(text: &str) -> Result<u64, ParseIdError> {
    let error = || ParseIdError {
        text: text.chars().take(40).collect(),
    };
    if text.len() != TEXT_LENGTH {
        return Err(error());
    }
    text.bytes().try_fold(0_u64, |value, byte| {
        let digit = ALPHABET
            .iter()
            .position(|known| *known == byte)
            .ok_or_else(error)?;
        let digit = u64::try_from(digit).expect("an index below 32");
        value
            .checked_mul(32)
            .and_then(|value| value.checked_add(digit))
            .ok_or_else(error)
    })
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        ///
        /// 64 bits: 40 of milliseconds since 2025, 24 random; sorts by time of creation.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl $name {
            /// An id made at `wall` with `random` bits, of which the low 24 count.
            pub fn new(wall: crate::time::Timestamp, random: u64) -> Self {
                let ms = u64::try_from(wall.0 / 1_000 - ID_EPOCH_MS).unwrap_or(0);
                let random = random & ((1 << RANDOM_BITS) - 1);
                Self(((ms & ((1 << 40) - 1)) << RANDOM_BITS) | random)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_base32(self.0, out)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;
            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                parse_base32(text).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
                out.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(input)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

id!(
    /// A session, for ever: it is never used again.
    SessionId
);
id!(
    /// A group of sessions made by one request.
    ArrayId
);
id!(
    /// A machine with an agent.
    NodeId
);
id!(
    /// One site, made when its store is made; an agent obeys one site only.
    SiteId
);
id!(
    /// A staged upload: a tar archive that waits for the session that names it.
    UploadId
);

/// The number of one try to run a session, from 1.
pub type AttemptNumber = u32;

/// One container of one attempt of one session. It is run at most once, ever.
///
/// Printed as `SESSION.ATTEMPT.INDEX`, for example `0k3v9w1x5zq2e.1.0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId {
    /// The session.
    pub session: SessionId,
    /// Which try, from 1.
    pub attempt: AttemptNumber,
    /// Which member of the session, from 0; 0 is the main one.
    pub index: u32,
}

impl fmt::Display for MemberId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{}.{}", self.session, self.attempt, self.index)
    }
}

impl FromStr for MemberId {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let error = || ParseIdError {
            text: text.chars().take(60).collect(),
        };
        let mut parts = text.split('.');
        let session = parts.next().ok_or_else(error)?.parse()?;
        let attempt = parts
            .next()
            .and_then(|part| part.parse().ok())
            .ok_or_else(error)?;
        let index = parts
            .next()
            .and_then(|part| part.parse().ok())
            .ok_or_else(error)?;
        if parts.next().is_some() {
            return Err(error());
        }
        let id = Self {
            session,
            attempt,
            index,
        };
        // One text per id: `01` or `+1` would be a second name of the same directory.
        if id.to_string() == text {
            Ok(id)
        } else {
            Err(error())
        }
    }
}

impl Serialize for MemberId {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MemberId {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(input)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::{MemberId, SessionId};
    use crate::time::Timestamp;

    #[test]
    fn ids_sort_by_time_and_survive_text() {
        let early = SessionId::new(Timestamp(1_790_000_000_000_000), u64::MAX);
        let late = SessionId::new(Timestamp(1_790_000_000_001_000), 0);
        assert!(early < late);
        assert!(early.to_string() < late.to_string());
        assert_eq!(early.to_string().parse(), Ok(early));
        assert_eq!(
            SessionId(u64::MAX).to_string().parse(),
            Ok(SessionId(u64::MAX))
        );
    }

    #[test]
    fn what_is_not_an_id_is_refused() {
        for text in [
            "",
            "abc",
            "0k3v9w1x5zq2u",
            "zzzzzzzzzzzzz",
            "0K3V9W1X5ZQ2E",
            "../../etc/pass",
        ] {
            assert!(text.parse::<SessionId>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_member_has_one_text_only() {
        let id = MemberId {
            session: SessionId(7),
            attempt: 2,
            index: 0,
        };
        assert_eq!(id.to_string().parse(), Ok(id));
        for text in [
            "0000000000007.02.0",
            "0000000000007.2",
            "0000000000007.2.0.0",
            "0000000000007.+2.0",
        ] {
            assert!(text.parse::<MemberId>().is_err(), "{text}");
        }
    }
}
