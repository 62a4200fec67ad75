//! Which channels are one: a disjoint-set forest.

use crate::flow::ChannelId;

/// Union by smallest id, with path halving. The root of a class is its first channel, so results do not depend on the order of unions.
#[derive(Debug, Default)]
pub(crate) struct UnionFind {
    parent: Vec<ChannelId>,
}

impl UnionFind {
    /// Makes `count` new channels, each a class of its own.
    pub(crate) fn fresh(&mut self, count: usize) -> impl Iterator<Item = ChannelId> + use<> {
        // A network of 2³² channels does not fit any memory, so the cast is exact.
        let start = self.parent.len() as ChannelId;
        let ids = start..start + count as ChannelId;
        self.parent.extend(ids.clone());
        ids
    }

    pub(crate) fn find(&mut self, mut id: ChannelId) -> ChannelId {
        while self.parent[id as usize] != id {
            let grandparent = self.parent[self.parent[id as usize] as usize];
            self.parent[id as usize] = grandparent;
            id = grandparent;
        }
        id
    }

    pub(crate) fn union(&mut self, a: ChannelId, b: ChannelId) {
        let (a, b) = (self.find(a), self.find(b));
        self.parent[a.max(b) as usize] = a.min(b);
    }

    /// The root of every channel.
    pub(crate) fn into_roots(mut self) -> Vec<ChannelId> {
        (0..self.parent.len() as ChannelId).map(|id| self.find(id)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_what_unions_connect_and_are_named_by_their_first_channel() {
        let mut classes = UnionFind::default();
        assert_eq!(classes.fresh(4).collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert_eq!(classes.fresh(2).collect::<Vec<_>>(), [4, 5]);
        classes.union(5, 3);
        classes.union(3, 1);
        classes.union(4, 2);
        assert_eq!(classes.into_roots(), [0, 1, 2, 1, 2, 1]);
    }
}
