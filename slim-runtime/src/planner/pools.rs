//! Which channels compete with each other, and for what.

use std::collections::HashMap;
use std::rc::Rc;

use super::scores::Scores;
use super::walk::Terrain;
use crate::plan::Hold;
use crate::slimming::{Scope, Slimming, Target, check};
use crate::tracer::{AxisRole, Graph, LayerNode, UnionFind};
use crate::{Error, Result};

/// Channels of which the least important go until a target is met.
pub(super) struct Pool<'s> {
    pub(super) target: &'s Target,
    /// Whether it is what no other pool has, of the whole network.
    pub(super) is_global: bool,
    /// The scored layers, as positions in [`Scores::layers`].
    pub(super) layers: Vec<usize>,
    /// The classes that may go, those with the smallest scores first and of equal ones the last in the data flow.
    pub(super) order: Vec<usize>,
    /// The scores of all entries of these classes, ascending.
    pub(super) ranked: Vec<f64>,
}

/// By class: why it must stay, be it for the network's sake or because `keep` says so.
pub(super) fn held(graph: &Graph, slimming: &Slimming) -> Result<Vec<Option<Rc<Hold>>>> {
    let mut held = graph.held.clone();
    for pattern in &slimming.keep {
        let hold = Rc::new(Hold::Keep { by: format!("keep(\"{pattern}\")") });
        for layer in matching(graph, pattern)? {
            for class in given(graph, layer) {
                held[class].get_or_insert_with(|| Rc::clone(&hold));
            }
        }
    }
    Ok(held)
}

/// The layers that a pattern means.
///
/// # Errors
/// [`Error::NoLayer`] when there are none.
fn matching<'g>(graph: &'g Graph, pattern: &str) -> Result<Vec<&'g LayerNode>> {
    let parsed = check::parse(pattern)?;
    let layers: Vec<_> = graph.layers.iter().filter(|layer| parsed.matches(&layer.path)).collect();
    if layers.is_empty() {
        let known = graph.layers.iter().map(|layer| layer.path.clone()).collect();
        return Err(Error::NoLayer { pattern: pattern.to_owned(), known });
    }
    Ok(layers)
}

/// The classes of what a layer gives or scales.
fn given<'g>(graph: &'g Graph, layer: &'g LayerNode) -> impl Iterator<Item = usize> + 'g {
    let axes = layer.axes.iter().filter(|axis| axis.role != AxisRole::Read);
    axes.flat_map(|axis| axis.ids.iter().map(|&id| graph.class(id)))
}

/// # Errors
/// [`Error::NoLayer`].
pub(super) fn pools<'s>(terrain: &Terrain, scores: &Scores, held: &[Option<Rc<Hold>>], slimming: &'s Slimming) -> Result<Vec<Pool<'s>>> {
    if slimming.layers.is_empty() && slimming.scope == Scope::Global {
        return Ok(vec![Pool::new(&slimming.target, true, (0..scores.layers.len()).collect(), scores, held)]);
    }
    // By class: which target of its own it has.
    let mut own: HashMap<usize, usize> = HashMap::new();
    for (index, (pattern, _)) in slimming.layers.iter().enumerate() {
        for layer in matching(terrain.graph, pattern)? {
            own.extend(given(terrain.graph, layer).map(|class| (class, index)));
        }
    }
    let (mut global, mut pools) = (Vec::new(), Vec::new());
    for layers in groups(scores, held) {
        let classes = || layers.iter().flat_map(|&layer| &scores.layers[layer].classes);
        let own = classes().filter(|&&class| held[class].is_none()).filter_map(|class| own.get(class)).max();
        match (own, slimming.scope) {
            (Some(&index), _) => pools.push(Pool::new(&slimming.layers[index].1, false, layers, scores, held)),
            (None, Scope::Local) => pools.push(Pool::new(&slimming.target, false, layers, scores, held)),
            (None, Scope::Global) => global.extend(layers),
        }
    }
    if slimming.scope == Scope::Global {
        global.sort_unstable();
        pools.push(Pool::new(&slimming.target, true, global, scores, held));
    }
    Ok(pools)
}

/// Scored layers whose channels stay or go together, in the order of the data flow.
fn groups(scores: &Scores, held: &[Option<Rc<Hold>>]) -> Vec<Vec<usize>> {
    let mut together = UnionFind::default();
    let mut first: Vec<Option<u32>> = vec![None; held.len()];
    for (layer, index) in scores.layers.iter().zip(together.fresh(scores.layers.len())) {
        for &class in layer.classes.iter().filter(|&&class| held[class].is_none()) {
            together.union(*first[class].get_or_insert(index), index);
        }
    }
    let mut groups = vec![Vec::new(); scores.layers.len()];
    together.into_roots().into_iter().enumerate().for_each(|(layer, group)| groups[group as usize].push(layer));
    groups.retain(|group| !group.is_empty());
    groups
}

impl<'s> Pool<'s> {
    fn new(target: &'s Target, is_global: bool, layers: Vec<usize>, scores: &Scores, held: &[Option<Rc<Hold>>]) -> Self {
        let entries = layers.iter().flat_map(|&layer| scores.layers[layer].classes.iter().copied());
        let entries = entries.filter(|&class| held[class].is_none());
        let entries: Vec<_> = entries.filter_map(|class| scores.by_class[class].map(|score| (score, class))).collect();
        let mut seen = vec![false; scores.by_class.len()];
        let mut order: Vec<_> = entries.iter().copied().filter(|&(_, class)| !std::mem::replace(&mut seen[class], true)).collect();
        order.reverse();
        order.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut ranked: Vec<_> = entries.into_iter().map(|(score, _)| score).collect();
        ranked.sort_unstable_by(f64::total_cmp);
        Self { target, is_global, layers, order: order.into_iter().map(|(_, class)| class).collect(), ranked }
    }

    /// Whether nothing tells its channels apart.
    pub(super) fn is_level(&self) -> bool {
        self.order.len() > 1 && self.ranked.first() == self.ranked.last()
    }
}
