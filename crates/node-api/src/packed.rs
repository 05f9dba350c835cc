//! Lists of member ids as they travel: 16 bytes each in one run of bytes. These lists name every
//! member whose files are kept, thousands after a busy day, in each message; as texts they would
//! cost more than all the rest of it.

use domain::{MemberId, SessionId};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serializer};

/// Bytes of one id: session, attempt and index, the highest byte first, so that ids and bytes
/// have the same order.
const ID_BYTES: usize = 16;

pub(crate) fn serialize<S: Serializer>(ids: &[MemberId], out: S) -> Result<S::Ok, S::Error> {
    let mut bytes = Vec::with_capacity(ids.len() * ID_BYTES);
    for id in ids {
        bytes.extend_from_slice(&id.session.0.to_be_bytes());
        bytes.extend_from_slice(&id.attempt.to_be_bytes());
        bytes.extend_from_slice(&id.index.to_be_bytes());
    }
    out.serialize_bytes(&bytes)
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<MemberId>, D::Error> {
    let bytes = serde_bytes::ByteBuf::deserialize(input)?;
    let (ids, rest) = bytes.as_chunks::<ID_BYTES>();
    if !rest.is_empty() {
        return Err(D::Error::invalid_length(
            bytes.len(),
            &"16 bytes for each member id",
        ));
    }
    Ok(ids.iter().map(unpack).collect())
}

fn unpack(bytes: &[u8; ID_BYTES]) -> MemberId {
    let number = u128::from_be_bytes(*bytes);
    let low = |shift: u32| u32::try_from((number >> shift) & u128::from(u32::MAX));
    MemberId {
        session: SessionId(u64::try_from(number >> 64).expect("64 bits are left")),
        attempt: low(32).expect("32 bits are left"),
        index: low(0).expect("32 bits are left"),
    }
}

#[cfg(test)]
mod tests {
    use domain::{MemberId, SessionId};
    use serde::{Deserialize, Serialize};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Message {
        #[serde(default, with = "super")]
        ids: Vec<MemberId>,
    }

    #[derive(Serialize)]
    struct Older {}

    #[derive(Serialize)]
    struct Damaged<'a> {
        #[serde(with = "serde_bytes")]
        ids: &'a [u8],
    }

    #[test]
    fn ids_survive_the_way_and_take_sixteen_bytes_each() {
        let ids: Vec<MemberId> = (0..100)
            .map(|number| MemberId {
                session: SessionId(u64::MAX - u64::from(number)),
                attempt: number,
                index: u32::MAX - number,
            })
            .collect();
        let bytes = rmp_serde::to_vec_named(&Message { ids: ids.clone() }).expect("encoded");
        assert!(bytes.len() < 100 * 16 + 16, "{}", bytes.len());
        let read: Message = rmp_serde::from_slice(&bytes).expect("decoded");
        assert_eq!(read.ids, ids);
    }

    #[test]
    fn a_message_without_them_or_with_half_an_id() {
        let none = rmp_serde::to_vec_named(&Older {}).expect("encoded");
        let read: Message = rmp_serde::from_slice(&none).expect("decoded");
        assert_eq!(read.ids, vec![]);
        let half = rmp_serde::to_vec_named(&Damaged { ids: &[1; 24] }).expect("encoded");
        assert!(rmp_serde::from_slice::<Message>(&half).is_err());
    }
}
