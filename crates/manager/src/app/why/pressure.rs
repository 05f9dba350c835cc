//! What a running session waits for, in words.

use domain::amounts::show_bytes;
use domain::{Pressure, Scarce, SlotName, Slots};

/// What a session waits for noticeably, the most wanted first: a line for each.
pub(super) fn stall_lines(pressure: Pressure, slots: &Slots) -> Vec<String> {
    let noticeable = pressure.most_wanted().into_iter();
    let noticeable = noticeable.filter(|(_, stall)| stall.is_noticeable());
    let lines = noticeable.map(|(what, stall)| {
        let waits = format!("it waited {} % of the last 10 s", stall.percent());
        match what {
            Scarce::Memory => {
                let limit = show_bytes(slots.memory().into());
                format!("{waits} for memory to be made free: its limit is {limit}")
            }
            Scarce::Cpu => {
                let limit = SlotName::cpu().show(slots.cpu().into());
                format!("{waits} for a CPU: its limit is {limit}")
            }
            Scarce::Io => format!("{waits} for disks"),
        }
    });
    lines.collect()
}

/// What would help a running session the most, if something would.
pub(super) fn stall_remedy(pressure: Pressure, slots: &Slots) -> Option<String> {
    let (what, stall) = pressure.most_wanted()[0];
    match what {
        Scarce::Memory if stall.is_noticeable() => {
            let twice = (slots.memory() >> 20).saturating_mul(2);
            Some(format!("ask for more the next time: `--memory {twice}m`"))
        }
        Scarce::Memory | Scarce::Cpu | Scarce::Io => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{stall_lines, stall_remedy};
    use domain::{Pressure, Slots, Stall};

    fn stall(percent: u32) -> Stall {
        Stall {
            recent_hundredths: percent * 100,
            total_micros: 1,
        }
    }

    #[test]
    fn what_is_waited_for_is_told_in_words() {
        let slots = Slots::of(5_000, 512 << 20);
        let mut pressure = Pressure {
            cpu: stall(12),
            memory: stall(40),
            io: stall(9),
        };
        assert_eq!(
            stall_lines(pressure, &slots),
            [
                "it waited 40 % of the last 10 s for memory to be made free: its limit is 512 MiB",
                "it waited 12 % of the last 10 s for a CPU: its limit is 0.5",
            ]
        );
        assert_eq!(
            stall_remedy(pressure, &slots).as_deref(),
            Some("ask for more the next time: `--memory 1024m`")
        );
        // What is hardly waited for is not worth a word.
        pressure = Pressure {
            io: stall(9),
            ..Pressure::default()
        };
        assert!(stall_lines(pressure, &slots).is_empty());
        assert_eq!(stall_remedy(pressure, &slots), None);
    }
}
