//! Values of statements and of rows: numbers of 64 bits and text, or none.

use crate::rows::RowError;
use std::borrow::Cow;

/// One value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    /// None.
    Null,
    /// A number; truth is 1, else 0.
    Number(i64),
    /// A text.
    Text(Cow<'a, str>),
}

impl Value<'_> {
    /// The same, for longer than what it was made of.
    pub(crate) fn into_owned(self) -> Value<'static> {
        match self {
            Self::Null => Value::Null,
            Self::Number(number) => Value::Number(number),
            Self::Text(text) => Value::Text(Cow::Owned(text.into_owned())),
        }
    }
}

impl From<String> for Value<'_> {
    fn from(text: String) -> Self {
        Self::Text(Cow::Owned(text))
    }
}

/// The values of a statement, in the order of their numbers.
macro_rules! values {
    ($($value:expr),* $(,)?) => {
        &[$($crate::sql::AsValue::as_value(&$value)),*]
    };
}
pub(crate) use values;

/// What can be a value.
pub(crate) trait AsValue {
    /// The value, of what lives elsewhere.
    fn as_value(&self) -> Value<'_>;
}

impl AsValue for i64 {
    fn as_value(&self) -> Value<'_> {
        Value::Number(*self)
    }
}

impl AsValue for u32 {
    fn as_value(&self) -> Value<'_> {
        Value::Number((*self).into())
    }
}

impl AsValue for bool {
    fn as_value(&self) -> Value<'_> {
        Value::Number((*self).into())
    }
}

impl AsValue for str {
    fn as_value(&self) -> Value<'_> {
        Value::Text(Cow::Borrowed(self))
    }
}

impl AsValue for String {
    fn as_value(&self) -> Value<'_> {
        self.as_str().as_value()
    }
}

impl<T: AsValue + ?Sized> AsValue for &T {
    fn as_value(&self) -> Value<'_> {
        (**self).as_value()
    }
}

impl<T: AsValue> AsValue for Option<T> {
    fn as_value(&self) -> Value<'_> {
        self.as_ref().map_or(Value::Null, T::as_value)
    }
}

/// A row as its store gives it.
pub(crate) trait Columns {
    /// The value at a place, counted from 0.
    fn value(&self, place: usize) -> Result<Value<'_>, RowError>;
}

impl dyn Columns + '_ {
    /// The value at a place, as the type that is wanted.
    pub(crate) fn get<T: FromValue>(&self, place: usize) -> Result<T, RowError> {
        T::from_value(self.value(place)?).ok_or(RowError::Kind { place })
    }

    /// The text at a place, where it lies.
    pub(crate) fn document(&self, place: usize) -> Result<Cow<'_, str>, RowError> {
        match self.value(place)? {
            Value::Text(text) => Ok(text),
            Value::Null | Value::Number(_) => Err(RowError::Kind { place }),
        }
    }
}

/// What a value can be taken for.
pub(crate) trait FromValue: Sized {
    /// `None` if it is of another kind or does not fit.
    fn from_value(value: Value<'_>) -> Option<Self>;
}

impl FromValue for i64 {
    fn from_value(value: Value<'_>) -> Option<Self> {
        match value {
            Value::Number(number) => Some(number),
            Value::Null | Value::Text(_) => None,
        }
    }
}

impl FromValue for u32 {
    fn from_value(value: Value<'_>) -> Option<Self> {
        i64::from_value(value).and_then(|number| number.try_into().ok())
    }
}

impl FromValue for bool {
    fn from_value(value: Value<'_>) -> Option<Self> {
        i64::from_value(value).map(|number| number != 0)
    }
}

impl FromValue for String {
    fn from_value(value: Value<'_>) -> Option<Self> {
        match value {
            Value::Text(text) => Some(text.into_owned()),
            Value::Null | Value::Number(_) => None,
        }
    }
}

impl<T: FromValue> FromValue for Option<T> {
    fn from_value(value: Value<'_>) -> Option<Self> {
        match value {
            Value::Null => Some(None),
            other => T::from_value(other).map(Some),
        }
    }
}
