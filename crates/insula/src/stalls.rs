//! What sessions and nodes wait for, in a few words.

use domain::{Pressure, Scarce, Stall};
use public_api::PressureView;

/// What is waited for most, if it is for as much as a hundredth of the time: `37% memory`.
pub(crate) fn most(pressure: PressureView) -> Option<(Stall, String)> {
    shares(pressure).into_iter().next()
}

/// All that is waited for, the most wanted first: `37% memory, 12% cpu`.
pub(crate) fn all(pressure: PressureView) -> Option<String> {
    let words: Vec<String> = shares(pressure).into_iter().map(|(_, word)| word).collect();
    (!words.is_empty()).then(|| words.join(", "))
}

fn shares(pressure: PressureView) -> Vec<(Stall, String)> {
    let wanted = Pressure::from(pressure).most_wanted().into_iter();
    let worth = wanted.filter(|(_, stall)| stall.percent() > 0);
    let words = worth.map(|(what, stall): (Scarce, Stall)| {
        let word = format!("{}% {}", stall.percent(), what.word());
        (stall, word)
    });
    words.collect()
}

#[cfg(test)]
mod tests {
    use super::{all, most};
    use public_api::{PressureView, StallView};

    #[test]
    fn the_most_wanted_is_told_first() {
        let stall = |recent_hundredths| StallView {
            recent_hundredths,
            total_micros: 1,
        };
        let pressure = PressureView {
            cpu: stall(1_234),
            memory: stall(3_690),
            io: stall(49),
        };
        assert_eq!(all(pressure).as_deref(), Some("37% memory, 12% cpu"));
        let (stall, word) = most(pressure).expect("it waits");
        assert_eq!((stall.is_noticeable(), word.as_str()), (true, "37% memory"));
        assert_eq!(all(PressureView::default()), None);
    }
}
