//! Prints the result of an export.

use std::fmt;

use super::{Float, Int8, Onnx, Port, PortDim};

impl fmt::Display for Onnx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list =
            |ports: &[Port]| ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        write!(f, "wrote {} ({})", self.file.display(), super::super::report::size(self.bytes))?;
        if let Some(data) = &self.data {
            write!(f, " with {}", data.display())?;
        }
        write!(f, ": {} to {}", list(&self.inputs), list(&self.outputs))?;
        match self.folded {
            0 => {}
            1 => f.write_str("; 1 batch norm folded")?,
            count => write!(f, "; {count} batch norms folded")?,
        }
        let Some(Int8 { layers, floats }) = &self.int8 else { return Ok(()) };
        write!(f, "; {} of {} layers in 8 bits", layers.len(), layers.len() + floats.len())?;
        floats
            .iter()
            .try_for_each(|Float { path, reason }| write!(f, "\n  `{path}` in floats: {reason}"))
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dims = self.dims.iter().map(ToString::to_string).collect::<Vec<_>>();
        write!(f, "{} [{}]", self.name, dims.join(", "))
    }
}

impl fmt::Display for PortDim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PortDim::Fixed(size) => write!(f, "{size}"),
            PortDim::Free(name) => f.write_str(name),
        }
    }
}
