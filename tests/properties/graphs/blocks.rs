//! Groups, joins and cuts.

use crate::gene::{Gene, Kind};
use crate::graph::{Groups, Op, Shape, Spec, Squash, Value};
use crate::grow::{Behind, Grower, WIDEST};

impl Grower {
    /// Concatenates a value and the raw output of a convolution, so that groups of channels are
    /// behind a batch norm in part. The result has a multiple of 4 channels.
    fn uneven(&mut self, gene: &Gene) -> Option<Value> {
        let from = self.value(gene, 0, |shape| !shape.flat && shape.width < 8)?;
        let width = self.shape(from).width;
        let raw = self.conv(gene, from, 4 - width % 4, Groups::Equal(1));
        let total = Shape { width: width + raw.outputs, flat: false };
        let raw = self.layer(Spec::Conv(raw), from);
        Some(self.op(Op::Concat(vec![from, raw]), total, Behind::Other))
    }

    pub fn grow_grouped(&mut self, gene: &Gene) -> Option<()> {
        let from = match gene.kind {
            Kind::WholeGroups if gene.flag(14) => self.uneven(gene)?,
            _ => self.value(gene, 0, |shape| {
                !shape.flat && (shape.width > 1 || gene.kind == Kind::ConvTranspose)
            })?,
        };
        let width = self.shape(from).width;
        let transposed = gene.kind == Kind::ConvTranspose;
        let depthwise = gene.kind == Kind::Depthwise || transposed && gene.flag(9) && width > 1;
        let mut conv = if depthwise {
            self.conv(gene, from, width * (1 + gene.number(1, 2)), Groups::Whole(width))
        } else {
            let groups = match gene.kind {
                Kind::ConvTranspose if gene.flag(10) => 1,
                Kind::WholeGroups => gene.divisor(width, 2)?,
                _ => gene.divisor(width, 2).filter(|&groups| groups < width).unwrap_or(1),
            };
            let outputs = groups * (1 + gene.number(1, 8 / groups.min(4)));
            let whole = gene.kind == Kind::WholeGroups;
            self.conv(
                gene,
                from,
                outputs,
                if whole { Groups::Whole(groups) } else { Groups::Equal(groups) },
            )
        };
        if conv.outputs > WIDEST {
            return None;
        }
        // Only the bias of tch's transposed convolution shows its number of groups.
        conv.plain &= !transposed || conv.bias || conv.groups == Groups::Equal(1);
        let to =
            self.layer(if transposed { Spec::ConvTranspose(conv) } else { Spec::Conv(conv) }, from);
        if !gene.flag(15) {
            self.tail(gene, to);
        }
        Some(())
    }

    pub fn grow_join(&mut self, gene: &Gene) -> Option<()> {
        let a = self.value(gene, 0, |_| true)?;
        let shape = self.shape(a);
        let other = self.value(gene, 1, |other| other == shape).filter(|&b| b != a && gene.flag(9));
        let b = match other {
            Some(b) => b,
            None if shape.flat => {
                let from = self.value(gene, 2, |_| true)?;
                self.linear(gene, from, shape.width)
            }
            None => {
                let from = self.value(gene, 2, |shape| !shape.flat)?;
                let conv = self.conv(gene, from, shape.width, Groups::Equal(1));
                self.layer(Spec::Conv(conv), from)
            }
        };
        let b = match other {
            None if gene.number(2, 4) > 0 => self.norm(b, true, gene.flag(2)),
            _ => b,
        };
        let b = if gene.number(3, 16) == 0 { self.norm(b, false, gene.flag(2)) } else { b };
        let op = if gene.kind == Kind::Add {
            Op::Add(a, b)
        } else {
            // A sigmoid of zero is not zero. As a gate it is right only if the other factor is
            // behind a batch norm, or if the gate is behind none.
            let right = self.behind[a] == Behind::Norm || self.behind[b] == Behind::Conv;
            let squash = if gene.flag(11) { Squash::Sigmoid } else { Squash::Hardsigmoid };
            Op::Multiply(a, b, (right && gene.flag(10)).then_some(squash))
        };
        let to = self.op(op, shape, Behind::Other);
        if gene.flag(12) {
            self.activate(gene, to);
        }
        Some(())
    }

    pub fn grow_cut(&mut self, gene: &Gene) -> Option<()> {
        let factor = 2;
        let pixels = |shape: Shape| {
            !shape.flat && self.graph.rank == 2 && shape.width % (factor * factor) == 0
        };
        let from = match gene.kind {
            Kind::PixelShuffle if gene.flag(14) && self.graph.rank == 2 => self.uneven(gene)?,
            Kind::PixelShuffle => self.value(gene, 0, pixels)?,
            _ => self.value(gene, 0, |shape| shape.width > 1)?,
        };
        let shape = self.shape(from);
        match gene.kind {
            Kind::PixelShuffle => {
                self.op(
                    Op::PixelShuffle { from, factor },
                    Shape { width: shape.width / 4, ..shape },
                    Behind::Other,
                );
            }
            Kind::Chunk => {
                let chunks = gene.divisor(shape.width, 2)?;
                let part = Shape { width: shape.width / chunks, ..shape };
                for index in 0..chunks.min(2) {
                    self.op(
                        Op::Chunk {
                            from,
                            chunks,
                            index: (index + gene.number(1, chunks)) % chunks,
                        },
                        part,
                        Behind::Other,
                    );
                }
            }
            Kind::ViewShuffle => {
                let groups = gene.divisor(shape.width, 2)?;
                self.op(Op::ViewShuffle { from, groups }, shape, Behind::Other);
            }
            Kind::Shuffle => {
                let groups = gene.divisor(shape.width, 2)?;
                self.layer(Spec::Shuffle { width: shape.width, groups }, from);
            }
            _ => {
                let first = 1 + gene.number(1, shape.width - 1);
                let rest = shape.width - first;
                let second = 1 + gene.number(2, rest);
                let sizes =
                    [first, second, rest - second].into_iter().filter(|&size| size > 0).collect();
                self.layer(Spec::Split { sizes }, from);
            }
        }
        Some(())
    }
}
