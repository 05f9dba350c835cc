//! Numbers that look random and follow from a seed: the same on every machine, for ever.
//!
//! SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014). Whoever
//! draws has a generator of their own, split off by a name, so that leaving out one act of a plan
//! does not change what everybody else draws.

/// A generator.
#[derive(Clone, Debug)]
pub(crate) struct Random {
    state: u64,
}

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self { state: mix(seed) }
    }

    /// A generator for `name` and `number`, independent of how often this one was asked.
    pub(crate) fn split(seed: u64, name: &str, number: u64) -> Self {
        let named = name.bytes().fold(seed, |state, byte| {
            mix(state ^ u64::from(byte).wrapping_mul(0x0100_0000_01b3))
        });
        Self::new(named ^ mix(number))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.state)
    }

    /// From `low` to below `high`, which is above.
    pub(crate) fn within(&mut self, low: u64, high: u64) -> u64 {
        assert!(low < high, "an empty range");
        low + self.next() % (high - low)
    }

    /// True in `parts` of `of` cases.
    pub(crate) fn chance(&mut self, parts: u64, of: u64) -> bool {
        self.next() % of < parts
    }

    /// Mostly near `low`, sometimes near `high`: as delays are.
    pub(crate) fn delay(&mut self, low: u64, high: u64) -> u64 {
        let width = 1 + self.next() % (high - low).max(1);
        let width = 1 + self.next() % width;
        low + self.next() % width
    }
}

fn mix(state: u64) -> u64 {
    let state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}
