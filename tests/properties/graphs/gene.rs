//! Random numbers from which a network grows.

use proptest::prelude::*;

/// Numbers that decide which op or block is added.
#[derive(Debug, Clone, Copy)]
pub struct Gene {
    pub kind: Kind,
    pub picks: [u16; 3],
    pub numbers: [u8; 4],
    pub flags: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Conv,
    Grouped,
    WholeGroups,
    Depthwise,
    ConvTranspose,
    PreActivation,
    Activate,
    Add,
    Gate,
    SqueezeExcite,
    Concat,
    Chunk,
    ViewShuffle,
    PixelShuffle,
    Split,
    Shuffle,
    PerChannel,
    Mixing,
    Linear,
    Again,
    Tie,
    Keep,
}

pub fn gene() -> impl Strategy<Value = Gene> {
    let rare = prop::sample::select(vec![
        Kind::Grouped,
        Kind::WholeGroups,
        Kind::Depthwise,
        Kind::ConvTranspose,
        Kind::PreActivation,
        Kind::Activate,
        Kind::Gate,
        Kind::SqueezeExcite,
        Kind::Concat,
        Kind::Chunk,
        Kind::ViewShuffle,
        Kind::PixelShuffle,
        Kind::Split,
        Kind::Shuffle,
        Kind::PerChannel,
        Kind::Linear,
        Kind::Again,
        Kind::Tie,
    ]);
    let holding = prop_oneof![Just(Kind::Mixing), Just(Kind::Keep)];
    let kind = prop_oneof![5 => Just(Kind::Conv), 3 => Just(Kind::Add), 20 => rare, 1 => holding];
    (kind, any::<[u16; 3]>(), any::<[u8; 4]>(), any::<u16>())
        .prop_map(|(kind, picks, numbers, flags)| Gene { kind, picks, numbers, flags })
}

impl Gene {
    pub fn flag(&self, bit: u32) -> bool {
        self.flags >> bit & 1 == 1
    }

    /// A number in `0..count`.
    pub fn number(&self, which: usize, count: i64) -> i64 {
        i64::from(self.numbers[which]) % count
    }

    /// One of `all`, if there is any.
    pub fn pick<T: Copy>(&self, which: usize, all: &[T]) -> Option<T> {
        (!all.is_empty()).then(|| all[usize::from(self.picks[which]) % all.len()])
    }

    pub fn width(&self, which: usize) -> i64 {
        [1, 2, 3, 4, 4, 5, 6, 6, 8, 8][self.number(which, 10) as usize]
    }

    pub fn kernel(&self) -> i64 {
        [1, 3][usize::from(self.flag(0))]
    }

    /// A divisor of `width` that is at least `least`.
    pub fn divisor(&self, width: i64, least: i64) -> Option<i64> {
        let divisors: Vec<_> = (least..=width).filter(|divisor| width % divisor == 0).collect();
        self.pick(2, &divisors)
    }
}
