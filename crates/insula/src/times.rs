//! Instants and lengths of time for people.

use jiff::Timestamp;

/// How long ago `text` (RFC 3339) was, in its largest unit: `3s`, `5m`, `2h`, `4d`.
pub(crate) fn age(text: &str, now: Timestamp) -> String {
    let Ok(then) = text.parse::<Timestamp>() else {
        return text.to_owned();
    };
    length(now.as_second() - then.as_second())
}

/// A length of time in its largest unit.
pub(crate) fn length(seconds: i64) -> String {
    let seconds = seconds.max(0);
    for (unit, size) in [("d", 86_400), ("h", 3_600), ("m", 60)] {
        if seconds >= size {
            return format!("{}{unit}", seconds / size);
        }
    }
    format!("{seconds}s")
}

/// An instant (RFC 3339 in UTC) in the zone of this machine, to the second.
pub(crate) fn local(text: &str) -> String {
    let Ok(then) = text.parse::<Timestamp>() else {
        return text.to_owned();
    };
    let zone = jiff::tz::TimeZone::system();
    then.to_zoned(zone)
        .strftime("%Y-%m-%d %H:%M:%S %Z")
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::{age, length};

    #[test]
    fn ages_have_one_unit() {
        let now = "2026-11-21T12:00:00Z".parse().expect("an instant");
        for (then, expected) in [
            ("2026-11-21T11:59:57Z", "3s"),
            ("2026-11-21T11:00:01.5Z", "59m"),
            ("2026-11-20T11:00:00Z", "1d"),
            ("2026-11-21T12:00:09Z", "0s"),
            ("no time", "no time"),
        ] {
            assert_eq!(age(then, now), expected);
        }
        assert_eq!(length(7_300), "2h");
    }
}
