//! Coupling: finds which channels stay or go together.

use crate::graph::{ChannelId, Recording, Sources, Step, Ties};

/// The channel group of each channel id, named by its smallest id. The channels of a channel group
/// stay or go together.
pub(crate) fn channel_groups(recording: &Recording) -> Vec<ChannelId> {
    let mut channel_groups = UnionFind::new(recording.channels());
    for step in &recording.steps {
        match step {
            Step::Operation(operation) => {
                let ids = |operand: usize| &*recording.values[operation.operands[operand]];
                match &operation.operator.sources {
                    Sources::Zip => {
                        let first = ids(0);
                        (1..operation.operands.len())
                            .for_each(|other| channel_groups.zip(first, ids(other)));
                    }
                    Sources::Blocks(size) => ids(0).chunks(*size).for_each(|block| {
                        block.iter().for_each(|&id| channel_groups.union(block[0], id));
                    }),
                    Sources::New
                    | Sources::Same
                    | Sources::Concat
                    | Sources::Select(_)
                    | Sources::Broadcast => {}
                }
                match &operation.operator.ties {
                    Ties::None => {}
                    Ties::Parts(size) => {
                        let ids = ids(0);
                        ids.chunks(*size).for_each(|part| channel_groups.zip(ids, part));
                    }
                    Ties::To(representatives) => {
                        let ids = ids(0);
                        for (&id, &representative) in ids.iter().zip(representatives.iter()) {
                            channel_groups.union(id, ids[representative as usize]);
                        }
                    }
                }
            }
            Step::Layer(layer) => {
                recording.layer(*layer).ties.iter().for_each(|(a, b)| channel_groups.zip(a, b));
            }
            Step::Hold(..) | Step::Sum(..) => {}
        }
    }
    channel_groups.into_roots()
}

/// A disjoint-set forest. Union by smallest id, with path halving: the root of a channel group is
/// its smallest id, so results do not depend on the order of unions.
pub(crate) struct UnionFind {
    parent: Vec<ChannelId>,
}

impl UnionFind {
    /// `count` channels, each in a channel group of its own.
    pub(crate) fn new(count: usize) -> Self {
        Self { parent: (0..count as ChannelId).collect() }
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

    /// Joins the channel groups of two lists of channels, position by position.
    fn zip(&mut self, a: &[ChannelId], b: &[ChannelId]) {
        a.iter().zip(b).for_each(|(&a, &b)| self.union(a, b));
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
    fn channel_groups_are_what_unions_connect_and_are_named_by_their_first_channel() {
        let mut channel_groups = UnionFind::new(6);
        channel_groups.union(5, 3);
        channel_groups.union(3, 1);
        channel_groups.union(4, 2);
        assert_eq!(channel_groups.into_roots(), [0, 1, 2, 1, 2, 1]);
    }
}
