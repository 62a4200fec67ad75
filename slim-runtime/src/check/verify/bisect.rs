//! Delta debugging: finds the smallest failing parts of a set with few tests (Zeller and
//! Hildebrandt, TSE 2002).

use crate::Result;

/// Each test is two forward passes. A single culprit among 1,000 takes at most 20 tests. After this
/// many, the search returns the sets found so far.
const MOST_TESTS: usize = 64;

/// Finds parts of `0..count` that fail by themselves; the whole fails with `whole`. Each part is
/// minimal as far as the number of tests allows: without any one of its members, or any half of
/// them, it no longer fails. Without all of the parts, the rest does not fail.
///
/// # Errors
/// Those of `test`, which returns how a part fails.
pub(crate) fn culprits<D>(
    count: usize,
    whole: D,
    test: impl FnMut(&[usize]) -> Result<Option<D>>,
) -> Result<Vec<(Vec<usize>, D)>> {
    let mut search = Search { test, left: MOST_TESTS };
    let (mut found, mut rest, mut failure) = (Vec::new(), (0..count).collect::<Vec<_>>(), whole);
    loop {
        let (culprit, how) = search.smallest(rest.clone(), failure)?;
        rest.retain(|member| !culprit.contains(member));
        found.push((culprit, how));
        match search.test(&rest)? {
            Some(again) => failure = again,
            None => return Ok(found),
        }
    }
}

struct Search<T> {
    test: T,
    /// How many tests are still allowed.
    left: usize,
}

impl<D, T: FnMut(&[usize]) -> Result<Option<D>>> Search<T> {
    fn test(&mut self, part: &[usize]) -> Result<Option<D>> {
        if part.is_empty() || self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        (self.test)(part)
    }

    /// A minimal failing part of `set`, which fails with `how`: tries `pieces` pieces of it first,
    /// then the set without one of them.
    fn smallest(&mut self, mut set: Vec<usize>, mut how: D) -> Result<(Vec<usize>, D)> {
        let mut pieces = 2;
        while set.len() > 1 {
            let chunks: Vec<Vec<usize>> =
                set.chunks(set.len().div_ceil(pieces)).map(<[usize]>::to_vec).collect();
            let without = |chunk: &Vec<usize>| {
                set.iter().copied().filter(|member| !chunk.contains(member)).collect()
            };
            // With two pieces, each is the complement of the other.
            let complements: Vec<_> =
                if chunks.len() > 2 { chunks.iter().map(without).collect() } else { Vec::new() };
            let last = chunks.len() == set.len();
            let narrower = match self.first(chunks)? {
                Some(found) => Some((found, 2)),
                None => self.first(complements)?.map(|found| (found, (pieces - 1).max(2))),
            };
            match narrower {
                Some(((part, failure), next)) => (set, how, pieces) = (part, failure, next),
                None if last => break,
                None => pieces = (2 * pieces).min(set.len()),
            }
        }
        Ok((set, how))
    }

    fn first(&mut self, parts: Vec<Vec<usize>>) -> Result<Option<(Vec<usize>, D)>> {
        for part in parts {
            if let Some(how) = self.test(&part)? {
                return Ok(Some((part, how)));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The parts found among `count` members if a part fails that contains all of one of `causes`,
    /// and the number of tests.
    fn found(count: usize, causes: &[&[usize]]) -> (Vec<Vec<usize>>, usize) {
        let mut tests = 0;
        let fails = |part: &[usize]| {
            tests += 1;
            Ok(causes
                .iter()
                .any(|cause| cause.iter().all(|member| part.contains(member)))
                .then_some(()))
        };
        let found = culprits(count, (), fails).unwrap();
        (found.into_iter().map(|(part, ())| part).collect(), tests)
    }

    #[test]
    fn a_single_culprit_takes_two_tests_for_each_halving() {
        for culprit in 0..100 {
            let (parts, tests) = found(100, &[&[culprit]]);
            assert_eq!(parts, [[culprit]]);
            // Seven halvings, and one test of the rest.
            assert!(tests <= 15, "{tests}");
        }
        assert_eq!(found(1, &[&[0]]), (vec![vec![0]], 0));
    }

    #[test]
    fn several_culprits_are_all_found() {
        let (mut parts, _) = found(20, &[&[3], &[4], &[17]]);
        parts.sort();
        assert_eq!(parts, [[3], [4], [17]]);
    }

    #[test]
    fn members_that_fail_only_together_are_found_together() {
        for (a, b) in [(0, 1), (0, 19), (7, 12), (18, 19)] {
            assert_eq!(found(20, &[&[a, b]]).0, [[a, b]]);
        }
        assert_eq!(found(8, &[&[1, 4, 6]]).0, [[1, 4, 6]]);
        let (mut parts, _) = found(20, &[&[2, 11], &[5]]);
        parts.sort();
        assert_eq!(parts, [vec![2, 11], vec![5]]);
    }

    #[test]
    fn what_takes_too_many_tests_is_found_roughly() {
        let everyone: Vec<usize> = (0..100).collect();
        let (parts, tests) = found(100, &[&everyone]);
        assert_eq!(parts, [everyone]);
        assert!(tests <= MOST_TESTS);
    }
}
