//! Parts of several devices.
//!
//! The vectors are facts about the allocation maps of Backend.AI's agent, read from what its tests
//! (`tests/agent/test_alloc_map.py`) ask for and expect, in ten-thousandths. Where ours differs on
//! purpose is said beside the case.

use proptest::prelude::{Just, prop, prop_oneof};
use proptest::{prop_assert, prop_assert_eq, proptest};
use scheduler::devices::{Parts, Spread, split};

const FILL: Parts = Parts {
    spread: Spread::Fill,
    least_free: 0,
    quantum: 1,
};
const EVEN: Parts = Parts {
    spread: Spread::Even,
    ..FILL
};

fn check(free: &[u64], amount: u64, parts: Parts, given: Option<&[u64]>) {
    let found = split(free, amount, parts);
    assert_eq!(found.as_deref(), given, "{amount} of {free:?}, {parts:?}");
}

#[test]
fn filling_takes_whole_devices_first() {
    let two = [10_000, 10_000];
    check(&two, 15_000, FILL, Some(&[10_000, 5_000]));
    check(&[0, 5_000], 15_000, FILL, None);
    let eight = [10_000; 8];
    let mut given = eight;
    given[7] = 9_500;
    check(&eight, 79_500, FILL, Some(&given));
    check(&[0, 0, 0, 0, 0, 0, 0, 500], 10_000, FILL, None);
    check(
        &[1_000_000, 1_000_000],
        1_300_000,
        FILL,
        Some(&[1_000_000, 300_000]),
    );
    check(&[0, 700_000], 710_000, FILL, None);
}

/// The freest is taken, so two that are asked for little in turn end alike.
#[test]
fn filling_little_by_little_uses_both() {
    let mut free = [10_000, 10_000];
    for _ in 0..1_000 {
        let given = split(&free, 1, FILL).expect("there is enough");
        free = [free[0] - given[0], free[1] - given[1]];
    }
    assert_eq!(free, [9_500, 9_500]);
}

#[test]
fn even_parts_of_devices_that_differ() {
    let free = [500, 1_000, 2_000, 3_000, 0];
    let with = |least_free| Parts { least_free, ..EVEN };
    check(&free, 6_600, EVEN, None);
    check(&free, 600, with(6_000), None);
    check(&free, 2_000, EVEN, Some(&[0, 0, 2_000, 0, 0]));
    check(&free, 2_000, with(2_500), Some(&[0, 0, 0, 2_000, 0]));
    check(&free, 5_000, EVEN, Some(&[0, 0, 2_000, 3_000, 0]));
    check(&free, 6_500, EVEN, Some(&[500, 1_000, 2_000, 3_000, 0]));
    check(
        &free,
        6_000,
        with(1_000),
        Some(&[0, 1_000, 2_000, 3_000, 0]),
    );
    // Twenty times a hundredth: the smallest that has it gives it, until it has none.
    let mut left = free;
    for _ in 0..20 {
        let given = split(&left, 100, EVEN).expect("there is enough");
        for (left, given) in left.iter_mut().zip(given) {
            *left -= given;
        }
    }
    assert_eq!(left, [0, 0, 1_500, 3_000, 0]);
}

#[test]
fn even_parts_are_rounded_to_what_is_asked_for() {
    let free = [8_000, 7_500, 7_000, 3_000, 0];
    let hundredths = Parts {
        quantum: 100,
        ..EVEN
    };
    check(
        &free,
        23_100,
        hundredths,
        Some(&[6_700, 6_700, 6_700, 3_000, 0]),
    );
    // There the first two have the odd hundredth; here the least free have, as all fill up alike.
    check(
        &free,
        20_000,
        hundredths,
        Some(&[6_600, 6_700, 6_700, 0, 0]),
    );
    check(
        &[20_000, 30_000, 30_000, 50_000],
        60_000,
        EVEN,
        Some(&[0, 30_000, 30_000, 0]),
    );
    let many = [
        10_000, 15_000, 20_000, 30_000, 30_000, 40_000, 45_000, 50_000, 50_000,
    ];
    let large = Parts {
        least_free: 25_000,
        ..EVEN
    };
    check(
        &many,
        60_000,
        large,
        Some(&[0, 0, 0, 30_000, 30_000, 0, 0, 0, 0]),
    );
    let given = split(&[10_000; 8], 60_000, EVEN).expect("there is enough");
    assert_eq!(given.iter().filter(|part| **part == 10_000).count(), 6);
    assert_eq!(given.iter().filter(|part| **part == 0).count(), 2);
    let quarters = |spread| Parts {
        spread,
        least_free: 0,
        quantum: 2_500,
    };
    check(
        &[10_000; 2],
        15_000,
        quarters(Spread::Even),
        Some(&[7_500, 7_500]),
    );
    check(
        &[10_000; 2],
        15_000,
        quarters(Spread::Fill),
        Some(&[10_000, 5_000]),
    );
}

/// Backend.AI takes three devices for the first, and four in equal parts for the second: ours uses
/// no more devices than have to be. And it gives less than was asked where that is no multiple of
/// the quantum, which ours refuses.
#[test]
fn where_ours_differs() {
    check(
        &[3_000, 3_000, 9_000],
        10_000,
        EVEN,
        Some(&[0, 3_000, 7_000]),
    );
    let many = [
        10_000, 15_000, 20_000, 30_000, 30_000, 40_000, 45_000, 50_000, 50_000,
    ];
    let given = split(&many, 110_000, EVEN).expect("there is enough");
    assert_eq!(given.iter().filter(|part| **part > 0).count(), 3);
    let quarters = Parts {
        quantum: 2_500,
        ..EVEN
    };
    check(&[10_000; 2], 2_400, quarters, None);
    check(&[10_000; 2], 5_200, quarters, None);
    check(&[10_000; 2], 17_500, quarters, Some(&[10_000, 7_500]));
    check(&[], 0, EVEN, Some(&[]));
    check(&[u64::MAX, u64::MAX], u64::MAX, FILL, Some(&[u64::MAX, 0]));
}

proptest! {
    #[test]
    fn nothing_is_given_that_is_not_there(
        free in prop::collection::vec(0_u64..12_000, 0..9),
        amount in prop_oneof![0_u64..12_000, 0_u64..60_000],
        spread in prop_oneof![Just(Spread::Fill), Just(Spread::Even)],
        least_free in 0_u64..3_000,
        quantum in prop_oneof![Just(0_u64), Just(1), Just(100), Just(2_500)],
    ) {
        let parts = Parts { spread, least_free, quantum };
        let unit = quantum.max(1);
        let amount = amount / unit * unit;
        let whole = |free: &u64| if *free >= least_free { free / unit * unit } else { 0 };
        let mut usable: Vec<u64> = free.iter().map(whole).collect();
        let found = split(&free, amount, parts);
        prop_assert_eq!(found.is_some(), usable.iter().sum::<u64>() >= amount);
        let Some(given) = found else {
            return Ok(());
        };
        prop_assert_eq!(given.len(), free.len());
        prop_assert_eq!(given.iter().sum::<u64>(), amount, "neither less nor more");
        for (given, usable) in given.iter().zip(&usable) {
            prop_assert!(given <= usable && given % unit == 0);
        }
        let used = given.iter().filter(|part| **part > 0).count();
        if spread == Spread::Even {
            let most = given.iter().max().copied().unwrap_or(0);
            for (given, usable) in given.iter().zip(&usable).filter(|(given, _)| **given > 0) {
                prop_assert!(given + unit >= most || given == usable, "equal, or all it has");
            }
        } else {
            let broken = given.iter().zip(&usable).filter(|(part, has)| **part > 0 && part != has);
            prop_assert!(broken.count() <= 1, "all but one are used up");
        }
        usable.sort_unstable();
        let mut freest = 0;
        let fewest = usable.iter().rev().take_while(|free| {
            let missing = freest < amount;
            freest += **free;
            missing
        });
        prop_assert_eq!(used, fewest.count(), "no more devices than have to be");
    }
}
