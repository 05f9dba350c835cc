//! Finding the first of many nodes that has enough of everything, without looking at each.
//!
//! A binary tree over the nodes in the order in which they are filled. A leaf has what its node
//! has of each slot and a bit for each row of the capability table; an inner node has the most
//! that any leaf below it has of each slot, and every row that any of them has. Where that is not
//! enough, nothing below it is. What is enough at an inner node may still come from two different
//! leaves, so a search may turn back: it takes logarithmic time where few nodes are rich in one
//! slot and poor in another, and never longer than a walk.

/// What is looked for: all amounts and all rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// By the slot's number; never zero.
    pub(crate) amounts: Vec<(usize, u64)>,
    /// Bits of the rows, by word.
    pub(crate) rows: Vec<u64>,
}

/// A tree of fixed size, in two flat arrays: node 1 is the root, `2n` and `2n + 1` are below `n`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tree {
    /// A power of two.
    leaves: usize,
    /// Amounts of each node.
    slots: usize,
    /// Words of rows of each node.
    words: usize,
    amounts: Vec<u64>,
    rows: Vec<u64>,
}

impl Tree {
    /// A tree in which nothing is there.
    pub(crate) fn new(leaves: usize, slots: usize, words: usize) -> Self {
        let leaves = leaves.max(1).next_power_of_two();
        Self {
            leaves,
            slots,
            words,
            amounts: vec![0; 2 * leaves * slots],
            rows: vec![0; 2 * leaves * words],
        }
    }

    /// Writes a leaf without what stands above it; [`Tree::build`] comes after the last of many.
    pub(crate) fn write(&mut self, leaf: usize, amounts: impl Iterator<Item = u64>, rows: &[u64]) {
        let at = self.leaves + leaf;
        let to = &mut self.amounts[at * self.slots..][..self.slots];
        for (to, amount) in to.iter_mut().zip(amounts.chain(std::iter::repeat(0))) {
            *to = amount;
        }
        let to = &mut self.rows[at * self.words..][..self.words];
        let rows = rows.iter().chain(std::iter::repeat(&0));
        for (to, row) in to.iter_mut().zip(rows) {
            *to = *row;
        }
    }

    /// Derives all inner nodes.
    pub(crate) fn build(&mut self) {
        for at in (1..self.leaves).rev() {
            self.derive(at);
        }
    }

    /// Derives what stands above a leaf, as far as it changes.
    pub(crate) fn rise(&mut self, leaf: usize) {
        let mut at = (self.leaves + leaf) / 2;
        while at > 0 && self.derive(at) {
            at /= 2;
        }
    }

    /// Which leaves have room for so many members together, and for how many each, the first ones
    /// as many as they can.
    pub(crate) fn shares(&self, wanted: &Wanted, members: u32) -> Option<Vec<(usize, u32)>> {
        let (mut missing, mut from) = (members, 0);
        let mut shares = Vec::new();
        while missing > 0 {
            let leaf = self.first(from, wanted)?;
            let share = self.times(leaf, wanted, missing);
            missing -= share;
            shares.push((leaf, share));
            from = leaf + 1;
        }
        Some(shares)
    }

    /// Takes `times` the wanted amounts from a leaf, but never more than is there.
    pub(crate) fn take(&mut self, leaf: usize, wanted: &Wanted, times: u32) {
        let at = (self.leaves + leaf) * self.slots;
        for (slot, amount) in &wanted.amounts {
            let left = &mut self.amounts[at + slot];
            *left = left.saturating_sub(amount.saturating_mul(times.into()));
        }
        self.rise(leaf);
    }

    /// The first leaf from `from` on that has what is wanted.
    pub(crate) fn first(&self, from: usize, wanted: &Wanted) -> Option<usize> {
        if from >= self.leaves {
            return None;
        }
        let mut at = self.leaves + from;
        loop {
            if self.has(at, wanted) {
                if at >= self.leaves {
                    return Some(at - self.leaves);
                }
                at *= 2;
                continue;
            }
            // To the next on the right that is not below this one.
            while at % 2 == 1 {
                if at == 1 {
                    return None;
                }
                at /= 2;
            }
            at += 1;
        }
    }

    /// How many times a leaf has the wanted amounts, at most `limit`.
    pub(crate) fn times(&self, leaf: usize, wanted: &Wanted, limit: u32) -> u32 {
        let at = (self.leaves + leaf) * self.slots;
        let times = wanted.amounts.iter();
        let times = times.map(|(slot, amount)| self.amounts[at + slot] / amount);
        times.fold(limit, |least, times| {
            u32::try_from(times).map_or(least, |times| times.min(least))
        })
    }

    /// Amounts of each node.
    pub(crate) fn slots(&self) -> usize {
        self.slots
    }

    /// It has a place for so many slots and words of rows, and no more.
    pub(crate) fn is_of(&self, slots: usize, words: usize) -> bool {
        (self.slots, self.words) == (slots, words)
    }

    /// A leaf has these amounts and rows, and all above it follows from what is below.
    pub(crate) fn is_leaf(
        &self,
        leaf: usize,
        amounts: impl Iterator<Item = u64>,
        rows: &[u64],
    ) -> bool {
        let mut at = self.leaves + leaf;
        let has = self.rows_of(at).iter();
        if !amounts.eq(self.amounts_of(at).iter().copied())
            || !has.eq(rows.iter().chain(std::iter::repeat(&0)).take(self.words))
        {
            return false;
        }
        while at > 1 {
            at /= 2;
            let most = |slot: usize| {
                let below = [2 * at, 2 * at + 1].map(|child| self.amounts_of(child)[slot]);
                below[0].max(below[1]) == self.amounts_of(at)[slot]
            };
            let all = |word: usize| {
                let below = [2 * at, 2 * at + 1].map(|child| self.rows_of(child)[word]);
                below[0] | below[1] == self.rows_of(at)[word]
            };
            if !(0..self.slots).all(most) || !(0..self.words).all(all) {
                return false;
            }
        }
        true
    }

    fn amounts_of(&self, at: usize) -> &[u64] {
        &self.amounts[at * self.slots..][..self.slots]
    }

    fn rows_of(&self, at: usize) -> &[u64] {
        &self.rows[at * self.words..][..self.words]
    }

    fn has(&self, at: usize, wanted: &Wanted) -> bool {
        let amounts = self.amounts_of(at);
        let mut rows = wanted.rows.iter().zip(self.rows_of(at));
        rows.all(|(all, has)| all & !has == 0)
            && wanted
                .amounts
                .iter()
                .all(|(slot, amount)| amounts[*slot] >= *amount)
    }

    /// Derives an inner node from the two below it; false if it stays as it was.
    fn derive(&mut self, at: usize) -> bool {
        let mut changed = false;
        let (upper, lower) = self.amounts.split_at_mut(2 * at * self.slots);
        let (left, right) = lower[..2 * self.slots].split_at(self.slots);
        let to = &mut upper[at * self.slots..][..self.slots];
        for (to, (left, right)) in to.iter_mut().zip(left.iter().zip(right)) {
            let most = *left.max(right);
            changed |= std::mem::replace(to, most) != most;
        }
        let (upper, lower) = self.rows.split_at_mut(2 * at * self.words);
        let (left, right) = lower[..2 * self.words].split_at(self.words);
        let to = &mut upper[at * self.words..][..self.words];
        for (to, (left, right)) in to.iter_mut().zip(left.iter().zip(right)) {
            let all = left | right;
            changed |= std::mem::replace(to, all) != all;
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::{Tree, Wanted};

    fn tree(leaves: &[(u64, u64, u64)]) -> Tree {
        let mut tree = Tree::new(leaves.len(), 2, 1);
        for (leaf, (one, other, rows)) in leaves.iter().enumerate() {
            tree.write(leaf, [*one, *other].into_iter(), &[*rows]);
        }
        tree.build();
        tree
    }

    fn wanted(one: u64, other: u64, rows: u64) -> Wanted {
        let amounts = [(0, one), (1, other)].into_iter();
        Wanted {
            amounts: amounts.filter(|(_, amount)| *amount > 0).collect(),
            rows: vec![rows],
        }
    }

    #[test]
    fn the_first_that_has_everything_is_found() {
        let tree = tree(&[(9, 0, 3), (0, 9, 3), (5, 5, 1), (5, 5, 3), (9, 9, 3)]);
        let check = |from, wanted: &Wanted, found| assert_eq!(tree.first(from, wanted), found);
        check(0, &wanted(1, 0, 1), Some(0));
        check(1, &wanted(1, 0, 1), Some(2));
        check(0, &wanted(5, 5, 1), Some(2));
        check(0, &wanted(5, 5, 2), Some(3));
        check(0, &wanted(6, 5, 1), Some(4));
        check(4, &wanted(9, 9, 3), Some(4));
        check(5, &wanted(1, 0, 1), None);
        check(0, &wanted(10, 0, 1), None);
        check(0, &wanted(1, 0, 4), None);
        check(8, &wanted(1, 0, 1), None);
    }

    #[test]
    fn what_is_taken_is_gone_and_no_more() {
        let mut tree = tree(&[(4, 8, 1), (4, 8, 1)]);
        let one = wanted(2, 1, 1);
        assert_eq!(tree.times(0, &one, 9), 2);
        assert_eq!(tree.times(0, &one, 1), 1);
        assert_eq!(tree.times(0, &wanted(0, 0, 1), 7), 7);
        tree.take(0, &one, 2);
        assert_eq!(tree.first(0, &one), Some(1));
        assert_eq!(tree.first(0, &wanted(0, 6, 1)), Some(0));
        tree.take(1, &one, 9);
        assert_eq!(tree.first(0, &one), None);
        tree.write(1, [4, 8].into_iter(), &[1]);
        tree.rise(1);
        assert_eq!(tree.first(0, &one), Some(1));
    }

    #[test]
    fn members_go_to_the_first_leaves_that_have_room_for_them() {
        let tree = tree(&[(5, 9, 1), (1, 9, 1), (4, 9, 1)]);
        let two = wanted(2, 1, 1);
        assert_eq!(tree.shares(&two, 0), Some(vec![]));
        assert_eq!(tree.shares(&two, 1), Some(vec![(0, 1)]));
        assert_eq!(tree.shares(&two, 4), Some(vec![(0, 2), (2, 2)]));
        assert_eq!(tree.shares(&two, 5), None);
    }

    /// What else is looked at nowhere: a tree that is not derived from its leaves, by one amount or
    /// one row at one place.
    #[test]
    fn a_tree_that_says_something_else_is_told_from_one_that_does_not() {
        let leaves = [(9, 1, 3), (0, 9, 1), (5, 5, 1), (5, 5, 3)];
        let whole = tree(&leaves);
        let is_right = |tree: &Tree, leaf: usize| {
            let (one, other, rows) = leaves[leaf];
            tree.is_leaf(leaf, [one, other].into_iter(), &[rows])
        };
        assert!((0..leaves.len()).all(|leaf| is_right(&whole, leaf)));
        assert!(!whole.is_leaf(0, [9, 1, 0].into_iter(), &[3]));
        // All nodes but the first place, where none is.
        for at in 1..2 * whole.leaves {
            // A leaf is asked for itself and for what stands above it.
            let below = |leaf: &usize| {
                let mut above = whole.leaves + leaf;
                while above > at {
                    above /= 2;
                }
                above == at
            };
            for place in 2 * at..2 * at + 2 {
                let mut other = whole.clone();
                other.amounts[place] += 1;
                let mut leaves = (0..leaves.len()).filter(below);
                assert!(leaves.all(|leaf| !is_right(&other, leaf)), "{at}");
            }
            let mut other = whole.clone();
            other.rows[at] ^= 2;
            let mut leaves = (0..leaves.len()).filter(below);
            assert!(leaves.all(|leaf| !is_right(&other, leaf)), "{at}");
        }
    }

    #[test]
    fn a_tree_of_one_and_of_none() {
        let mut small = tree(&[(1, 1, 1)]);
        assert_eq!(small.first(0, &wanted(1, 1, 1)), Some(0));
        small.take(0, &wanted(1, 1, 1), 1);
        assert_eq!(small.first(0, &wanted(1, 1, 1)), None);
        assert_eq!(small.first(0, &wanted(0, 0, 1)), Some(0));
        assert_eq!(Tree::new(0, 0, 1).first(0, &wanted(0, 0, 1)), None);
    }
}
