//! Parts of a request's body that are objects, and nothing else: what serde derives for a struct
//! takes an array of its fields' values as well, which no description of ours allows.

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::fmt;
use std::marker::PhantomData;

/// For `deserialize_with`: an object.
pub(crate) fn one<'de, D, T>(input: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Object::deserialize(input).map(|object| object.0)
}

/// The same, or nothing.
pub(crate) fn optional<'de, D, T>(input: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let object = Option::<Object<T>>::deserialize(input)?;
    Ok(object.map(|object| object.0))
}

/// A list of them.
pub(crate) fn many<'de, D, T>(input: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let objects = Vec::<Object<T>>::deserialize(input)?;
    Ok(objects.into_iter().map(|object| object.0).collect())
}

struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        input.deserialize_map(Fields(PhantomData)).map(Self)
    }
}

struct Fields<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
    type Value = T;

    fn expecting(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        text.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(fields))
    }
}

#[cfg(test)]
mod tests {
    use crate::{CreateArray, CreateSession, DrainNode};
    use serde::de::DeserializeOwned;

    fn is_taken<T: DeserializeOwned>(text: &str) -> bool {
        serde_json::from_str::<T>(text).is_ok()
    }

    #[test]
    fn an_array_is_no_object() {
        for (object, array) in [
            (
                r#"{"command":["a"],"mounts":[{"source":"/a","target":"/b"}]}"#,
                r#"{"command":["a"],"mounts":[["/a","/b",true]]}"#,
            ),
            (
                r#"{"command":["a"],"terminal":{"columns":80,"rows":24}}"#,
                r#"{"command":["a"],"terminal":[80,24]}"#,
            ),
            (
                r#"{"command":["a"],"after":[{"session":"b"}]}"#,
                r#"{"command":["a"],"after":[["b","ended"]]}"#,
            ),
        ] {
            assert!(is_taken::<CreateSession>(object), "{object}");
            assert!(!is_taken::<CreateSession>(array), "{array}");
        }
        let array = |element: &str| format!(r#"{{"session":{{}},"elements":[{element}]}}"#);
        assert!(is_taken::<CreateArray>(&array(r#"{"index":1}"#)));
        assert!(!is_taken::<CreateArray>(&array(r#"[1,null,{}]"#)));
        assert!(is_taken::<DrainNode>(r#"{"stop":{}}"#));
        assert!(is_taken::<DrainNode>(r#"{"stop":null}"#));
        assert!(!is_taken::<DrainNode>(r#"{"stop":[]}"#));
    }
}
