//! A part of several devices of one node, device by device.
//!
//! A node offers a slot like `cuda.shares` as one number, ten-thousandths of all its devices; what a
//! member gets of it comes from single devices. This says from which. No more devices are used than
//! have to be, so that programs need not know of several, and nobody is given less than was asked.

/// How an amount is spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// From those that have most free, one after the other: what is left over is on one of them.
    Fill,
    /// From those that have least free and still enough, in parts as equal as these allow: a program
    /// that works on all of them in step waits for none.
    Even,
}

/// What parts have to be like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts {
    /// How.
    pub spread: Spread,
    /// A device that has less than this free is not used.
    pub least_free: u64,
    /// Every part is a multiple of this; 0 is taken for 1.
    pub quantum: u64,
}

/// Splits `amount` over devices of which so much is free: what each gives, in their order. `None`
/// if they have too little, or if `amount` is no multiple of the quantum.
pub fn split(free: &[u64], amount: u64, parts: Parts) -> Option<Vec<u64>> {
    let quantum = parts.quantum.max(1);
    if !amount.is_multiple_of(quantum) {
        return None;
    }
    // From here on all is counted in quanta.
    let mut wanted = u128::from(amount / quantum);
    let usable = free.iter().enumerate();
    let usable = usable.filter(|(_, free)| **free >= parts.least_free.max(1));
    let mut devices: Vec<(usize, u64)> = usable.map(|(at, free)| (at, free / quantum)).collect();
    // The freest last; of equals the first device is taken first, by either rule.
    match parts.spread {
        Spread::Fill => devices.sort_by_key(|(at, free)| (*free, std::cmp::Reverse(*at))),
        Spread::Even => devices.sort_by_key(|(at, free)| (*free, *at)),
    }
    let count = fewest(&devices, wanted)?;
    let chosen = match parts.spread {
        Spread::Fill => &devices[devices.len() - count..],
        Spread::Even => narrowest(&devices, count, wanted),
    };
    let mut given = vec![0; free.len()];
    let mut left = chosen.len();
    let order: Box<dyn Iterator<Item = &(usize, u64)>> = match parts.spread {
        Spread::Fill => Box::new(chosen.iter().rev()),
        Spread::Even => Box::new(chosen.iter()),
    };
    for (at, free) in order {
        let share = match parts.spread {
            Spread::Fill => wanted,
            // The least free come first: what they lack, the others share.
            Spread::Even => wanted.div_ceil(u128::try_from(left).unwrap_or(1).max(1)),
        };
        let part = u64::try_from(share).map_or(*free, |share| share.min(*free));
        given[*at] = part * quantum;
        wanted -= u128::from(part);
        left -= 1;
    }
    Some(given)
}

/// How many of the freest devices have `wanted` together. `devices`: the freest last.
fn fewest(devices: &[(usize, u64)], wanted: u128) -> Option<usize> {
    let mut sum = 0;
    let mut count = 0;
    let mut freest = devices.iter().rev();
    while sum < wanted {
        sum += u128::from(freest.next()?.1);
        count += 1;
    }
    Some(count)
}

/// The first `count` neighbours that have enough together, so that those with more stay whole.
fn narrowest(devices: &[(usize, u64)], count: usize, wanted: u128) -> &[(usize, u64)] {
    let has_enough = |some: &&[(usize, u64)]| {
        let sum: u128 = some.iter().map(|(_, free)| u128::from(*free)).sum();
        sum >= wanted
    };
    let mut windows = devices.windows(count.max(1));
    windows.find(has_enough).unwrap_or(&[])
}
