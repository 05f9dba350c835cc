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

/// A length of time as a clock shows it: `0:07`, `12:34`, `1:02:03`, `2d 03:04:05`.
pub(crate) fn clock(seconds: i64) -> String {
    let seconds = seconds.max(0);
    let (days, hours) = (seconds / 86_400, seconds / 3_600 % 24);
    let (minutes, seconds) = (seconds / 60 % 60, seconds % 60);
    match (days, hours) {
        (0, 0) => format!("{minutes}:{seconds:02}"),
        (0, hours) => format!("{hours}:{minutes:02}:{seconds:02}"),
        (days, hours) => format!("{days}d {hours:02}:{minutes:02}:{seconds:02}"),
    }
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
    use super::{age, clock, length};

    #[test]
    fn clocks_have_as_many_parts_as_they_need() {
        let shown = [7, 754, 3_723, 183_845].map(clock);
        assert_eq!(shown, ["0:07", "12:34", "1:02:03", "2d 03:04:05"]);
    }

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
