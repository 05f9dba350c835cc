//! `--env`: variables of a session, with a value or with the one that they have here.

use crate::failure::Failure;
use crate::settings::Environment;

/// A variable as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Variable {
    name: String,
    /// The caller's own if absent.
    value: Option<String>,
}

/// `NAME=VALUE`, or `NAME` for the value that it has here.
pub(crate) fn variable(text: &str) -> Result<Variable, String> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (text, None),
    };
    if name.is_empty() {
        return Err("write NAME=VALUE, or NAME for the value that it has here".to_owned());
    }
    let name = name.to_owned();
    Ok(Variable { name, value })
}

/// The variables with their values; refused is a name that is not set here: what was meant to go
/// along would be missing inside, and nothing would tell.
pub(crate) fn with_values(
    variables: &[Variable],
    environment: &Environment,
) -> Result<Vec<(String, String)>, Failure> {
    let filled = variables.iter().map(|variable| {
        let name = &variable.name;
        let value = match &variable.value {
            Some(value) => value.clone(),
            None => own_value(name, environment)?,
        };
        Ok((name.clone(), value))
    });
    filled.collect()
}

fn own_value(name: &str, environment: &Environment) -> Result<String, Failure> {
    let Some(value) = environment.raw(name) else {
        let message = format!("--env {name}: there is no variable of this name here");
        let hint = format!("set and export it, or write its value: --env {name}=VALUE");
        return Err(Failure::new(message).hint(hint));
    };
    let value = value.to_str().ok_or_else(|| {
        Failure::new(format!("--env {name}: its value here is not UTF-8"))
            .hint(format!("write one that is: --env {name}=VALUE"))
    })?;
    Ok(value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::{variable, with_values};
    use crate::settings::Environment;
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt as _;

    #[test]
    fn a_name_alone_takes_the_value_that_it_has_here() {
        let set = [("TOKEN", "a=b"), ("EMPTY", "")].map(|(name, value)| (name, value.into()));
        let bytes = OsString::from_vec(vec![0xff]);
        let here = Environment::of(set.into_iter().chain([("BYTES", bytes)]), "/");
        let of = |text: &str| {
            let variable = variable(text).expect(text);
            let filled = with_values(&[variable], &here);
            filled.map_err(|failure| failure.error.to_string())
        };
        for (text, name, value) in [
            ("A=b=c", "A", "b=c"),
            ("A=", "A", ""),
            ("TOKEN=mine", "TOKEN", "mine"),
            ("TOKEN", "TOKEN", "a=b"),
            ("EMPTY", "EMPTY", ""),
        ] {
            let pair = (name.to_owned(), value.to_owned());
            assert_eq!(of(text), Ok(vec![pair]), "{text}");
        }
        let unset = of("UNSET").expect_err("it is not set");
        assert_eq!(unset, "--env UNSET: there is no variable of this name here");
        let bytes = of("BYTES").expect_err("no text");
        assert!(bytes.contains("not UTF-8"), "{bytes}");
        for text in ["", "=x"] {
            assert!(variable(text).is_err(), "{text:?}");
        }
    }
}
