//! Why a session waits that no node has been asked for yet, and what its earlier attempts came to.

use super::seconds;
use crate::app::convert::{shortened, time_text};
use domain::{DependencyState, Need, SessionRecord, Timestamp};
use lifecycle::manager::Hold;
use public_api::Why;
use std::fmt::Write as _;

/// Most things that one sentence names.
const NAMES_LIMIT: usize = 3;

pub(super) fn held_back(why: &mut Why, hold: &Hold, record: &SessionRecord, now: Timestamp) {
    match hold {
        Hold::After { names } => {
            why.summary = format!("it waits for {}", others(names));
            why.evidence.extend(dependency_lines(record));
        }
        Hold::Pause { until, attempt } => {
            let left = if *until > now {
                format!("in {}", seconds(now, *until))
            } else {
                "now".to_owned()
            };
            why.summary = format!("attempt {attempt} begins {left}, after a pause");
            why.evidence
                .push(format!("the pause ends at {}", time_text(*until)));
        }
        Hold::Restored { nodes } => {
            let shown: Vec<&str> = nodes.iter().take(NAMES_LIMIT).map(String::as_str).collect();
            let mut shown = shown.join(", ");
            if nodes.len() > NAMES_LIMIT {
                write!(shown, " and {} more", nodes.len() - NAMES_LIMIT).expect("text grows");
            }
            why.summary = format!(
                "the site's store was restored from an older copy, and {shown} may have it: not \
                 heard of since"
            );
            why.suggestion = Some(
                "connect these nodes; it goes on there, or is placed when none of them has it. One that \
                 is gone for ever is taken out by `insula node rm --lost`"
                    .to_owned(),
            );
        }
        Hold::Throttle {
            array,
            limit,
            living,
        } => {
            let elements = if *living == 1 { "element" } else { "elements" };
            why.summary = format!(
                "{living} {elements} of array {array} are placed, and its throttle lets {limit} be"
            );
            why.suggestion = Some(format!(
                "`insula throttle {array} {}` lets more run, or wait until one has ended",
                limit.saturating_mul(2)
            ));
        }
    }
    why.evidence.extend(past_lines(record));
}

/// `the success of one, the end of two and 3 more`.
fn others(names: &[(String, Need)]) -> String {
    let mut texts: Vec<String> = names
        .iter()
        .take(NAMES_LIMIT)
        .map(|(name, need)| match need {
            Need::Succeeded => format!("the success of {name}"),
            Need::Ended => format!("the end of {name}"),
        })
        .collect();
    if names.len() > NAMES_LIMIT {
        texts.push(format!("{} more", names.len() - NAMES_LIMIT));
    }
    match texts.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        Some((last, _)) => last.clone(),
        None => "nothing".to_owned(),
    }
}

fn dependency_lines(record: &SessionRecord) -> Vec<String> {
    let lines = record.after.iter().map(|dependency| {
        let (name, need) = (&dependency.name, dependency.need.word());
        match &dependency.state {
            DependencyState::Waiting => format!("{name} has not {need} yet"),
            DependencyState::Met { at } => format!("{name} has {need}: seen at {}", time_text(*at)),
            DependencyState::Failed { name, outcome } => format!("{name} ended as {outcome}"),
        }
    });
    lines.collect()
}

/// How each earlier attempt ended, a line each.
pub(super) fn past_lines(record: &SessionRecord) -> Vec<String> {
    let lines = record.past.iter().map(|past| {
        let outcome = shortened(&past.outcome.to_string());
        format!("attempt {}: {outcome}", past.attempt)
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::others;
    use domain::Need;

    #[test]
    fn what_is_waited_for_is_one_sentence() {
        let name = |text: &str, need| (text.to_owned(), need);
        let mut names = vec![name("fit", Need::Succeeded)];
        assert_eq!(others(&names), "the success of fit");
        names.push(name("data", Need::Ended));
        assert_eq!(others(&names), "the success of fit and the end of data");
        names.extend([name("a", Need::Ended), name("b", Need::Ended)]);
        assert_eq!(
            others(&names),
            "the success of fit, the end of data, the end of a and 1 more"
        );
    }
}
