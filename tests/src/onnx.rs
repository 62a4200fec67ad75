//! Runs ONNX files in ONNX Runtime, on tensors of libtorch.

use std::path::Path;
use std::sync::OnceLock;

use ort::environment::Environment;
use ort::session::{Session, SessionInputValue};
use ort::value::{DynValue, Tensor as Value, TensorElementType};
use tch::{Device, Kind, Tensor};

/// The outputs of the file in its order, for inputs by their names.
///
/// # Panics
/// ONNX Runtime is not installed, or refuses the file or the inputs.
pub fn run(file: &Path, inputs: &[(&str, &Tensor)]) -> Vec<Tensor> {
    let mut session = session(file);
    let named: Vec<_> = inputs
        .iter()
        .map(|(name, tensor)| ((*name).to_owned(), SessionInputValue::from(to_onnx(tensor))))
        .collect();
    let outputs = session.run(named).unwrap();
    outputs.values().map(|output| from_onnx(&output)).collect()
}

/// An entry of the file's metadata.
///
/// # Panics
/// ONNX Runtime is not installed, or refuses the file.
pub fn metadata(file: &Path, key: &str) -> Option<String> {
    session(file).metadata().unwrap().custom(key)
}

fn session(file: &Path) -> Session {
    Session::builder(runtime()).unwrap().commit_from_file(file).unwrap()
}

/// Asserts that the file computes `expected`, up to a share of its largest magnitude.
///
/// # Panics
/// It does not.
#[track_caller]
pub fn assert_computes(
    file: &Path,
    inputs: &[(&str, &Tensor)],
    expected: &[Tensor],
    tolerance: f64,
) {
    let outputs = run(file, inputs);
    assert_eq!(outputs.len(), expected.len());
    for (index, (output, expected)) in outputs.iter().zip(expected).enumerate() {
        assert_eq!((output.kind(), output.size()), (expected.kind(), expected.size()));
        let [output, expected] =
            [output, expected].map(|tensor| tensor.to_device(Device::Cpu).to_kind(Kind::Double));
        let largest = |tensor: &Tensor| tensor.abs().max().double_value(&[]);
        let (difference, magnitude) = (largest(&(output - &expected)), largest(&expected));
        // A comparison that is false for NaN, too.
        assert!(
            difference <= tolerance * magnitude,
            "output {index} (up to {magnitude:e}) differs by {difference:e}"
        );
    }
}

/// ONNX Runtime from the library of `cargo xtask setup --onnxruntime`. A process has one.
fn runtime() -> &'static Environment {
    static RUNTIME: OnceLock<Environment> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let library = std::env::var_os("ORT_DYLIB_PATH").unwrap_or_default();
        match ort::init_from(&library) {
            Ok(environment) => environment.build().unwrap(),
            Err(error) => {
                panic!("{}: {error}; `cargo xtask setup --onnxruntime`", library.display())
            }
        }
    })
}

fn to_onnx(tensor: &Tensor) -> DynValue {
    fn value<
        T: tch::kind::Element
            + ort::value::PrimitiveTensorElementType
            + Clone
            + std::fmt::Debug
            + Default
            + 'static,
    >(
        tensor: &Tensor,
    ) -> DynValue {
        let tensor = tensor.detach().to_device(Device::Cpu).contiguous();
        let mut values = vec![T::default(); tensor.numel()];
        tensor.copy_data(&mut values, tensor.numel());
        Value::from_array((tensor.size(), values)).unwrap().into_dyn()
    }
    match tensor.kind() {
        Kind::Float => value::<f32>(tensor),
        Kind::Double => value::<f64>(tensor),
        Kind::Int64 => value::<i64>(tensor),
        Kind::Int => value::<i32>(tensor),
        Kind::Bool => value::<bool>(tensor),
        kind => panic!("no input of {kind:?}"),
    }
}

fn from_onnx(value: &DynValue) -> Tensor {
    macro_rules! tensor {
        ($element:ty) => {{
            let (shape, values) = value.try_extract_tensor::<$element>().unwrap();
            Tensor::from_slice(values).view(&shape[..])
        }};
    }
    match value.dtype().tensor_type() {
        Some(TensorElementType::Float32) => tensor!(f32),
        Some(TensorElementType::Float64) => tensor!(f64),
        Some(TensorElementType::Int64) => tensor!(i64),
        Some(TensorElementType::Int32) => tensor!(i32),
        Some(TensorElementType::Bool) => tensor!(bool),
        other => panic!("no output of {other:?}"),
    }
}
