//! Indices as people write them: `1-100`, `1-99:2`, `1-4,9`.

use crate::app::problems::field;
use domain::ARRAY_LIMIT;
use public_api::Problem;
use std::collections::BTreeSet;

/// The indices that a text names, ascending.
pub(super) fn parse_indices(text: &str) -> Result<BTreeSet<u32>, Problem> {
    let mut indices = BTreeSet::new();
    for part in text.split(',') {
        let range = parse_part(part.trim()).ok_or_else(|| {
            let shown: String = part.chars().take(40).collect();
            field("indices", format!("`{shown}` names no indices"))
                .hint("write ranges with commas between them: `1-100`, `1-99:2`, `1-4,9`")
        })?;
        for index in range {
            if !indices.insert(index) {
                return Err(field("indices", format!("{index} is named twice")));
            }
            if indices.len() > ARRAY_LIMIT {
                return Err(too_many(&format!("more than {ARRAY_LIMIT}")));
            }
        }
    }
    Ok(indices)
}

pub(super) fn too_many(asked: &str) -> Problem {
    let detail = format!("an array has at most {ARRAY_LIMIT} elements, and {asked} are asked for");
    field("elements", detail).hint("make more than one array, or let each element do more")
}

fn parse_part(part: &str) -> Option<impl Iterator<Item = u32>> {
    let (range, step) = match part.split_once(':') {
        Some((range, step)) => (range, number(step)?),
        None => (part, 1),
    };
    let (first, last) = match range.split_once('-') {
        Some((first, last)) => (number(first)?, number(last)?),
        None if part.contains(':') => return None,
        None => {
            let only = number(range)?;
            (only, only)
        }
    };
    let step = usize::try_from(step).ok().filter(|step| *step > 0)?;
    (first <= last).then(|| (first..=last).step_by(step))
}

/// Digits only: no sign, no space.
fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

#[cfg(test)]
mod tests {
    use super::parse_indices;

    #[test]
    fn ranges_steps_and_lists_name_indices() {
        for (text, expect) in [
            ("7", vec![7]),
            ("1-3", vec![1, 2, 3]),
            ("1-10:4", vec![1, 5, 9]),
            ("0-0", vec![0]),
            ("9,1-2", vec![1, 2, 9]),
            ("4294967294-4294967295", vec![u32::MAX - 1, u32::MAX]),
        ] {
            let found: Vec<u32> = parse_indices(text).expect("indices").into_iter().collect();
            assert_eq!(found, expect, "{text}");
        }
        assert_eq!(parse_indices("1-10000").expect("indices").len(), 10_000);
    }

    #[test]
    fn what_names_none_or_too_many_is_refused() {
        for text in [
            "",
            "a",
            "1-",
            "-1",
            "3-1",
            "1-9:0",
            "1:2",
            "1,,2",
            "+1",
            "1-3,2",
            "1--3",
            "4294967296",
            "1-10001",
            "0-4294967295",
        ] {
            assert!(parse_indices(text).is_err(), "{text}");
        }
    }
}
