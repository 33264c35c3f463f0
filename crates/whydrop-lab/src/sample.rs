//! Scenarios drawn at random, the same ones from the same seed.

use crate::{Job, LabError, list};

/// `count` pairs of different scenarios, each pair to be played together. No pair comes twice.
///
/// From the same seed come the same pairs as long as the scenarios are the same.
pub fn pairs(count: usize, seed: u64) -> Result<Vec<Job>, LabError> {
    let names: Vec<_> = list()?.into_iter().map(|info| info.name).collect();
    let drawn = drawn(names.len(), count, seed).into_iter();
    let job = |(one, other): (usize, usize)| {
        Job::together(vec![names[one].clone(), names[other].clone()])
    };
    Ok(drawn.map(job).collect())
}

/// Different pairs of different numbers below `of`; fewer than `count` if there are no more.
fn drawn(of: usize, count: usize, seed: u64) -> Vec<(usize, usize)> {
    let mut all: Vec<_> = (0..of).flat_map(|one| (0..one).map(move |other| (one, other))).collect();
    let mut random = Random(seed);
    // The first steps of a shuffle.
    for place in 0..count.min(all.len()) {
        let other = place + random.below(all.len() - place);
        all.swap(place, other);
    }
    all.truncate(count);
    all
}

/// `SplitMix64` (Steele, Lea and Flood, 2014): small, and good enough to draw lots.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`, which is not zero. The remainder favours small numbers by less than
    /// one in a billion here.
    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_seed_gives_the_same_pairs_and_another_gives_others() {
        assert_eq!(drawn(100, 50, 7), drawn(100, 50, 7));
        assert_ne!(drawn(100, 50, 7), drawn(100, 50, 8));
    }

    #[test]
    fn pairs_differ() {
        let pairs = drawn(6, 100, 1);
        assert_eq!(pairs.len(), 15, "all there are");
        assert_eq!(pairs.iter().collect::<BTreeSet<_>>().len(), 15);
        assert!(pairs.iter().all(|(one, other)| one > other));
        assert!(drawn(1, 5, 1).is_empty());
    }

    #[test]
    fn numbers_are_those_of_the_published_generator() {
        // The first values for the seed 1234567, as the reference implementation gives them.
        let mut random = Random(1_234_567);
        let values = [random.next(), random.next(), random.next()];
        assert_eq!(
            values,
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
        );
    }
}
