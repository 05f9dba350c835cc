//! Arguments that people write, checked before anything is asked of a site.

use domain::{SessionName, Span};
use public_api::{AfterNeed, AfterOrder, MountView};
use std::path::{Component, Path};
use std::str::FromStr as _;

/// Signals by name, as `kill -l` has them; those for real-time use have numbers only.
const SIGNALS: [(&str, i32); 31] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("PWR", 30),
    ("SYS", 31),
];

/// A number of CPUs, as text.
pub(crate) fn cpu(text: &str) -> Result<String, String> {
    let parsed = domain::amounts::parse_decimal(text);
    parsed
        .map(|_| text.to_owned())
        .map_err(|error| error.to_string())
}

/// A size of memory, as text.
pub(crate) fn memory(text: &str) -> Result<String, String> {
    let parsed = domain::amounts::parse_bytes(text);
    parsed
        .map(|_| text.to_owned())
        .map_err(|error| error.to_string())
}

/// A length of time, as text.
pub(crate) fn span(text: &str) -> Result<String, String> {
    Span::from_str(text)
        .map(|span| span.to_string())
        .map_err(|error| error.to_string())
}

/// A length of time, as text, or an instant.
pub(crate) fn since(text: &str) -> Result<String, String> {
    match text.parse::<jiff::Timestamp>() {
        Ok(instant) => Ok(instant.to_string()),
        Err(_) => span(text)
            .map_err(|error| format!("{error}; an instant is written as in 2026-11-21T08:00:00Z")),
    }
}

/// Indices of an array's elements; the site looks at them as a whole.
pub(crate) fn indices(text: &str) -> Result<String, String> {
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits && text.parse::<u32>().is_ok()
    };
    let well = text.split(',').all(|part| {
        let (range, step) = part.split_once(':').unwrap_or((part, "1"));
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        number(first) && number(last) && number(step)
    });
    if well {
        return Ok(text.to_owned());
    }
    Err("write ranges with commas between them: 1-100, 1-99:2 or 1-4,9".to_owned())
}

/// Something that has to end first, `SESSION`, `SESSION:succeeded` or `SESSION:ended`.
pub(crate) fn after(text: &str) -> Result<AfterOrder, String> {
    let (session, need) = match text.split_once(':') {
        None | Some((_, "succeeded")) => (text.split(':').next(), AfterNeed::Succeeded),
        Some((session, "ended")) => (Some(session), AfterNeed::Ended),
        Some((_, other)) => {
            return Err(format!(
                "`{other}` is not `succeeded`, the default, or `ended`"
            ));
        }
    };
    match session {
        Some(session) if !session.is_empty() => Ok(AfterOrder {
            session: session.to_owned(),
            need,
        }),
        _ => Err("write SESSION, SESSION:succeeded or SESSION:ended".to_owned()),
    }
}

/// The name of a new session.
pub(crate) fn name(text: &str) -> Result<String, String> {
    SessionName::from_str(text)
        .map(|name| name.to_string())
        .map_err(|error| error.to_string())
}

/// A variable, `NAME=VALUE`.
pub(crate) fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some(("", _)) => Err("the name before `=` is missing".to_owned()),
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => Err(format!("write {text}=VALUE")),
    }
}

/// Words of a command, given as one argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Words(pub(crate) Vec<String>);

/// Words with blanks between them, or a JSON array where blanks are in them.
pub(crate) fn words(text: &str) -> Result<Words, String> {
    if text.trim_start().starts_with('[') {
        let words = serde_json::from_str(text).map(Words);
        return words.map_err(|_| r#"write a JSON array of texts, as in ["sh", "-c"]"#.to_owned());
    }
    // To split inside of them would be wrong, and to read them as a shell does is a shell's work.
    if text.contains(['"', '\'']) {
        let array = r#"["sh", "-c", "echo a b"]"#;
        return Err(format!(
            "quotes are not read here: write a JSON array, as in {array}"
        ));
    }
    let words = text.split_whitespace().map(str::to_owned);
    Ok(Words(words.collect()))
}

/// A path of the node shown inside, `HOST:PATH[:ro]`. The host's path is made absolute later.
pub(crate) fn mount(text: &str) -> Result<MountView, String> {
    let right = || "write HOST:PATH or HOST:PATH:ro, as in ./data:/data:ro".to_owned();
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, read_only) = match parts.as_slice() {
        [source, target] | [source, target, "rw"] => (*source, *target, false),
        [source, target, "ro"] => (*source, *target, true),
        _ => return Err(right()),
    };
    if source.is_empty() {
        return Err(right());
    }
    absolute_inside(target)?;
    Ok(MountView {
        source: source.to_owned(),
        target: target.to_owned(),
        read_only,
    })
}

/// An absolute path inside a session.
pub(crate) fn absolute_inside(text: &str) -> Result<String, String> {
    let path = Path::new(text);
    if !path.is_absolute() {
        return Err(format!("the path inside has to be absolute, as in /{text}"));
    }
    if path.components().any(|part| part == Component::ParentDir) {
        return Err("the path inside must not have `..` in it".to_owned());
    }
    Ok(text.to_owned())
}

/// A signal: `TERM`, `SIGTERM` or 15.
pub(crate) fn signal(text: &str) -> Result<i32, String> {
    if let Ok(number) = text.parse::<i32>() {
        let known = (1..=64).contains(&number);
        return if known {
            Ok(number)
        } else {
            Err("signals are 1 to 64".to_owned())
        };
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let found = SIGNALS.iter().find(|(known, _)| *known == name);
    found.map(|(_, number)| *number).ok_or_else(|| {
        let near = crate::nearest::nearest(name, SIGNALS.iter().map(|(known, _)| *known));
        format!(
            "there is no such signal; `{}` is one",
            near.unwrap_or("TERM")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::{after, indices, mount, signal, variable, words};
    use public_api::AfterNeed;

    #[test]
    fn indices_are_ranges_and_what_comes_before_may_say_how() {
        for text in ["1", "1-100", "1-99:2", "0-3,7,9-20:5"] {
            assert_eq!(indices(text).as_deref(), Ok(text));
        }
        for text in [
            "",
            "1-",
            "-3",
            "a",
            "1-2-3",
            "1,",
            "1-9:",
            "1 - 2",
            "99999999999",
        ] {
            assert!(indices(text).is_err(), "{text}");
        }
        for (text, session, need) in [
            ("a", "a", AfterNeed::Succeeded),
            ("a.7:succeeded", "a.7", AfterNeed::Succeeded),
            ("a:ended", "a", AfterNeed::Ended),
        ] {
            let order = after(text).expect(text);
            assert_eq!((order.session.as_str(), order.need), (session, need));
        }
        for text in ["", ":ended", "a:failed", "a:"] {
            assert!(after(text).is_err(), "{text}");
        }
    }

    #[test]
    fn words_are_separated_by_blanks_or_written_as_json() {
        for (text, expected) in [
            ("", &[][..]),
            ("sh  -c", &["sh", "-c"]),
            (r#" ["a  b", ""]"#, &["a  b", ""]),
        ] {
            assert_eq!(words(text).expect(text).0, expected);
        }
        assert!(words("[1]").is_err());
        for text in [r#"sh -c "echo a b""#, "sh -c 'echo a b'", "it's"] {
            let error = words(text).expect_err(text);
            assert!(error.contains("JSON array"), "{error}");
        }
    }

    #[test]
    fn mounts_have_two_paths_and_perhaps_a_mode() {
        for (text, source, target, read_only) in [
            ("./data:/data", "./data", "/data", false),
            ("/a:/b:ro", "/a", "/b", true),
            ("/a:/b:rw", "/a", "/b", false),
        ] {
            let found = mount(text).expect(text);
            let found = (
                found.source.as_str(),
                found.target.as_str(),
                found.read_only,
            );
            assert_eq!(found, (source, target, read_only));
        }
        for text in ["/a", ":/b", "/a:b", "/a:/b:rx", "/a:/b/../c", ""] {
            assert!(mount(text).is_err(), "{text}");
        }
    }

    #[test]
    fn signals_have_names_and_numbers() {
        for (text, number) in [
            ("TERM", 15),
            ("sigint", 2),
            ("9", 9),
            ("64", 64),
            ("SIGCHLD", 17),
        ] {
            assert_eq!(signal(text), Ok(number));
        }
        assert_eq!(
            signal("TREM").expect_err("no signal"),
            "there is no such signal; `TERM` is one"
        );
        assert!(signal("0").is_err() && signal("65").is_err());
    }

    #[test]
    fn variables_have_a_value_even_if_it_is_empty() {
        assert_eq!(variable("A=b=c"), Ok(("A".to_owned(), "b=c".to_owned())));
        assert_eq!(variable("A="), Ok(("A".to_owned(), String::new())));
        assert_eq!(variable("A"), Err("write A=VALUE".to_owned()));
        assert!(variable("=x").is_err());
    }
}
