//! Values without channels: the configuration that a model stores beside its layers.

use std::marker::PhantomData;

use crate::{Flow, PartVisitor, Prunable, Result, Tracer};

macro_rules! identity {
    ($($type:ty),+ $(,)?) => {
        $(impl Prunable for $type {
            fn trace(&self, _: &mut Tracer, input: Flow) -> Result<Flow> {
                Ok(input)
            }

            fn parts(&self, _: &mut PartVisitor<'_>) -> Result<()> {
                Ok(())
            }
        })+
    };
}

identity!(
    (),
    bool,
    char,
    i8,
    i16,
    i32,
    i64,
    i128,
    isize,
    u8,
    u16,
    u32,
    u64,
    u128,
    usize,
    f32,
    f64,
    String,
    &str
);
identity!(tch::Device, tch::Kind);

impl<T: ?Sized> Prunable for PhantomData<T> {
    fn trace(&self, _: &mut Tracer, input: Flow) -> Result<Flow> {
        Ok(input)
    }

    fn parts(&self, _: &mut PartVisitor<'_>) -> Result<()> {
        Ok(())
    }
}
