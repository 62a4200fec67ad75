//! What channels carry once the scales of their batch norms are zero: what absorption has to know, in a detailed trace alone.

use std::rc::Rc;

use tch::{Device, Kind, Tensor};

use super::Tracer;
use crate::flow::{Channels, Flow};
use crate::{Activation, Error, Result};

/// What a channel carries at each of its positions, once the scales of its batch norms are zero and their shifts are what they are.
#[derive(Debug, Clone)]
pub(crate) enum Sent {
    Known(f64),
    /// It came out of a batch norm as `value`, and nothing says which activations it has passed since.
    Unsaid {
        value: f64,
        /// The first layer that it came out of.
        since: usize,
        /// Whether it has been added to others, or multiplied.
        joined: bool,
    },
    /// Not a number that does not depend on the input; why, as the end of a sentence.
    Unknown(Rc<str>),
}

impl Sent {
    /// Every activation here maps zero to zero, so nothing need be said of it.
    fn fresh(value: f64, since: usize, said: bool) -> Self {
        if said || value == 0.0 {
            Sent::Known(value)
        } else {
            Sent::Unsaid { value, since, joined: false }
        }
    }

    pub(super) fn is_zero(&self) -> bool {
        matches!(self, Sent::Known(0.0))
    }

    fn value(&self) -> f64 {
        match self {
            Sent::Known(value) | Sent::Unsaid { value, .. } => *value,
            Sent::Unknown(_) => 0.0,
        }
    }

    fn joined(a: &Sent, b: &Sent, value: f64) -> Self {
        match (a, b) {
            (Sent::Unknown(why), _) | (_, Sent::Unknown(why)) => Sent::Unknown(Rc::clone(why)),
            (Sent::Unsaid { since, .. }, Sent::Unsaid { since: other, .. }) => {
                Sent::Unsaid { value, since: *since.min(other), joined: true }
            }
            (Sent::Unsaid { since, .. }, _) | (_, Sent::Unsaid { since, .. }) => {
                Sent::Unsaid { value, since: *since, joined: true }
            }
            (Sent::Known(_), Sent::Known(_)) => Sent::Known(value),
        }
    }

    pub(super) fn sum(a: &Sent, b: &Sent) -> Self {
        if a.is_zero() {
            return b.clone();
        }
        if b.is_zero() { a.clone() } else { Sent::joined(a, b, a.value() + b.value()) }
    }

    pub(super) fn product(a: &Sent, b: &Sent) -> Self {
        if a.is_zero() || b.is_zero() {
            Sent::Known(0.0)
        } else {
            Sent::joined(a, b, a.value() * b.value())
        }
    }
}

/// A part of the model that is being traced.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Scope {
    /// How many layers are in front of it.
    start: usize,
    /// Whether its trace says everything that its forward pass does.
    explicit: bool,
}

impl Tracer {
    /// `flow` passes this activation. Only [absorption](crate::Slimming::absorb) has to know; an activation that does not map zero to zero is
    /// [`ungate`](Self::ungate).
    ///
    /// It says all that happens to channels since they came out of this part's batch norms; what is done to those of other parts, their own traces say.
    ///
    /// # Errors
    /// [`Error::Torch`].
    pub fn activation(&mut self, flow: &Flow, activation: Activation) -> Result<Flow> {
        let start = self.scope().start;
        let path = self.path();
        self.map_sent(flow, activation != Activation::Identity, |all| {
            let values: Vec<f64> = all.iter().map(Sent::value).collect();
            let activated = activation.apply(&values).map_err(Error::torch(&path))?;
            let said = all.iter().zip(activated).map(|(sent, value)| match sent {
                Sent::Known(_) => Sent::Known(value),
                Sent::Unsaid { since, .. } if *since >= start => Sent::Known(value),
                Sent::Unsaid { .. } if activation != Activation::Identity => Sent::Unknown(
                    format!("nothing says what they pass in front of the activation in `{path}`")
                        .into(),
                ),
                other => other.clone(),
            });
            Ok(said.collect())
        })
    }

    /// `flow` passes an operation of which is only known that it keeps channels as they are and maps zero to zero. What `#[prune(elementwise)]` calls.
    ///
    /// # Errors
    /// None that is known.
    pub fn elementwise(&mut self, flow: &Flow) -> Result<Flow> {
        let since = self.layers.len();
        self.map_sent(flow, true, |all| {
            let unsaid = |sent: &Sent| match sent {
                Sent::Known(value) => Sent::fresh(*value, since, false),
                other => other.clone(),
            };
            Ok(all.iter().map(unsaid).collect())
        })
    }

    /// Everything that this part's forward pass does is said in its trace: a batch norm among its own fields is followed by an activation where
    /// [`activation`](Self::activation) says so, and by none elsewhere. What `model!` calls.
    pub fn explicit(&mut self) {
        self.scopes.last_mut().unwrap_or(&mut self.root).explicit = true;
    }

    pub(super) fn enter(&mut self) {
        self.scopes.push(Scope { start: self.layers.len(), explicit: false });
    }

    fn scope(&self) -> Scope {
        self.scopes.last().copied().unwrap_or(self.root)
    }

    /// Whether the part around the current one says everything.
    fn is_said(&self) -> bool {
        match &self.scopes[..] {
            [] => false,
            [_] => self.root.explicit,
            [.., around, _] => around.explicit,
        }
    }

    fn map_sent(
        &mut self,
        flow: &Flow,
        changes: bool,
        map: impl Fn(&[Sent]) -> Result<Vec<Sent>>,
    ) -> Result<Flow> {
        self.mapped(flow, changes, &map)
    }

    fn mapped(
        &mut self,
        flow: &Flow,
        changes: bool,
        map: &dyn Fn(&[Sent]) -> Result<Vec<Sent>>,
    ) -> Result<Flow> {
        match flow {
            Flow::Channels(channels) if self.detailed => {
                if changes {
                    self.used(channels);
                }
                let sent = channels.sent.as_deref().map(map).transpose()?.map(Into::into);
                let origin = channels.origin.filter(|_| !changes);
                Ok(Flow::Channels(Channels { sent, origin, ..channels.clone() }))
            }
            Flow::Tuple(parts) => parts
                .iter()
                .map(|part| self.mapped(part, changes, map))
                .collect::<Result<_>>()
                .map(Flow::Tuple),
            flow => Ok(flow.clone()),
        }
    }

    /// What comes out of the batch norm that is being traced, whose shift is `beta`.
    pub(super) fn sent_by_norm(
        &self,
        beta: Option<&Tensor>,
        width: usize,
    ) -> Result<Option<Rc<[Sent]>>> {
        if !self.detailed {
            return Ok(None);
        }
        let (since, said) = (self.layers.len() - 1, self.is_said());
        let Some(beta) = beta else { return Ok(Some(vec![Sent::Known(0.0); width].into())) };
        let _no_grad = tch::no_grad_guard();
        let read =
            || Vec::<f64>::try_from(&beta.f_to_kind(Kind::Double)?.f_to_device(Device::Cpu)?);
        let values = read().map_err(Error::torch(format!("{}.bias", self.path())))?;
        if let Some((channel, &value)) =
            values.iter().enumerate().find(|(_, value)| !value.is_finite())
        {
            return Err(Error::NonFinite {
                path: self.path(),
                tensor: "bias".to_owned(),
                channel,
                value,
            });
        }
        Ok(Some(values.into_iter().map(|value| Sent::fresh(value, since, said)).collect()))
    }

    /// What comes out of the layer that is being traced, and that makes these channels.
    pub(super) fn sent_by_maker(&self, width: usize) -> Option<Rc<[Sent]>> {
        let why =
            || Sent::Unknown(format!("what `{}` gives depends on the input", self.path()).into());
        self.detailed.then(|| vec![why(); width].into())
    }

    /// `flow` behind something that maps zero to zero and, here and there, anything else to other values.
    pub(crate) fn changed_but_zero(&mut self, flow: Flow) -> Result<Flow> {
        let unknown = |sent: &[Sent]| {
            self.unknown_but_zero(Some(sent)).map(|sent| sent.to_vec()).unwrap_or_default()
        };
        match flow {
            Flow::Channels(channels) => {
                let sent = channels.sent.as_deref().map(unknown).map(Into::into);
                self.used(&channels);
                Ok(Flow::Channels(Channels { sent, origin: None, ..channels }))
            }
            flow => Ok(flow),
        }
    }

    /// What is behind a layer that maps zero to zero and may do anything else.
    pub(crate) fn unknown_but_zero(&self, sent: Option<&[Sent]>) -> Option<Rc<[Sent]>> {
        let why: Rc<str> = format!("nothing says what `{}` makes of them", self.path()).into();
        let through = |sent: &Sent| match sent {
            Sent::Known(0.0) | Sent::Unknown(_) => sent.clone(),
            _ => Sent::Unknown(Rc::clone(&why)),
        };
        sent.map(|sent| sent.iter().map(through).collect())
    }

    /// What is behind something that tells the channels of a block apart by place or group: what all of them are, if they are alike.
    pub(super) fn sent_by_blocks(&self, channels: &Channels, block: usize) -> Option<Rc<[Sent]>> {
        let why: Rc<str> =
            format!("`{}` makes one channel of several that are not alike", self.path()).into();
        let of = |block: &[Sent]| match block {
            [first @ Sent::Known(value), others @ ..]
                if others
                    .iter()
                    .all(|other| matches!(other, Sent::Known(other) if other == value)) =>
            {
                first.clone()
            }
            [only] => only.clone(),
            _ => Sent::Unknown(Rc::clone(&why)),
        };
        channels.sent.as_ref().map(|sent| sent.chunks(block).map(of).collect())
    }

    pub(super) fn joined(
        &self,
        a: &Channels,
        b: &Channels,
        join: impl Fn(&Sent, &Sent) -> Sent,
    ) -> Option<Rc<[Sent]>> {
        self.detailed.then(|| {
            self.known_or_not(a)
                .iter()
                .zip(self.known_or_not(b).iter())
                .map(|(a, b)| join(a, b))
                .collect()
        })
    }

    pub(super) fn concatenated(&self, parts: &[Channels]) -> Option<Rc<[Sent]>> {
        self.detailed
            .then(|| parts.iter().flat_map(|part| self.known_or_not(part).to_vec()).collect())
    }

    /// What channels carry; nothing has been recorded where no batch norm made them.
    pub(super) fn known_or_not(&self, channels: &Channels) -> Rc<[Sent]> {
        let unknown = || {
            vec![
                Sent::Unknown(format!("nothing says what {} gives", channels.source).into());
                channels.len()
            ]
            .into()
        };
        channels.sent.clone().unwrap_or_else(unknown)
    }

    /// Remembers that only the largest values of a layer's output may come to who reads it behind this.
    pub(crate) fn takes_maximum(&mut self, flow: &Flow) {
        if let Flow::Channels(Channels { origin: Some(layer), .. }) = flow {
            self.layers[*layer].details.maximum = true;
        }
    }

    /// Remembers that something reads a layer's output.
    pub(super) fn used(&mut self, channels: &Channels) {
        if let Some(layer) = channels.origin {
            *self.uses.entry(layer).or_default() += 1;
        }
    }
}
