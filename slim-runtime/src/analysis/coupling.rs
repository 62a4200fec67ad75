//! Coupling: finds which channels stay or go together.

use crate::graph::{ChannelId, Recording, Sources, Step, Ties};

/// The class of each channel id, named by the smallest id in the class. A class is a channel group:
/// its channels stay or go together.
pub(crate) fn classes(recording: &Recording) -> Vec<ChannelId> {
    let mut classes = UnionFind::new(recording.channels());
    for step in &recording.steps {
        match step {
            Step::Operation(operation) => {
                let ids = |operand: usize| &*recording.values[operation.operands[operand]];
                match &operation.operator.sources {
                    Sources::Zip => {
                        let first = ids(0);
                        (1..operation.operands.len())
                            .for_each(|other| classes.zip(first, ids(other)));
                    }
                    Sources::Blocks(size) => ids(0).chunks(*size).for_each(|block| {
                        block.iter().for_each(|&id| classes.union(block[0], id));
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
                        ids.chunks(*size).for_each(|part| classes.zip(ids, part));
                    }
                    Ties::To(representatives) => {
                        let ids = ids(0);
                        for (&id, &representative) in ids.iter().zip(representatives.iter()) {
                            classes.union(id, ids[representative as usize]);
                        }
                    }
                }
            }
            Step::Layer(layer) => {
                recording.layer(*layer).ties.iter().for_each(|(a, b)| classes.zip(a, b));
            }
            Step::Hold(..) | Step::Sum(..) => {}
        }
    }
    classes.into_roots()
}

/// A disjoint-set forest. Union by smallest id, with path halving: the root of a class is its
/// smallest id, so results do not depend on the order of unions.
pub(crate) struct UnionFind {
    parent: Vec<ChannelId>,
}

impl UnionFind {
    /// `count` channels, each in a class of its own.
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

    /// Joins the classes of two lists of channels, position by position.
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
    fn classes_are_what_unions_connect_and_are_named_by_their_first_channel() {
        let mut classes = UnionFind::new(6);
        classes.union(5, 3);
        classes.union(3, 1);
        classes.union(4, 2);
        assert_eq!(classes.into_roots(), [0, 1, 2, 1, 2, 1]);
    }
}
