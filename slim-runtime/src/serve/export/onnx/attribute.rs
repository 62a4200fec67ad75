//! Attributes of nodes.

use super::proto::AttributeProto;
use super::proto::attribute_proto::AttributeType;

/// An integer, such as `axis`.
pub(super) fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { i: Some(value), ..typed(name, AttributeType::Int) }
}

/// A list of integers, such as `strides`.
pub(super) fn ints(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto { ints: values.to_vec(), ..typed(name, AttributeType::Ints) }
}

/// A number, such as `epsilon`. ONNX stores attributes in single precision.
pub(super) fn float(name: &str, value: f64) -> AttributeProto {
    AttributeProto { f: Some(value as f32), ..typed(name, AttributeType::Float) }
}

/// A text, such as `mode`.
pub(super) fn text(name: &str, value: &str) -> AttributeProto {
    AttributeProto { s: Some(value.as_bytes().to_vec()), ..typed(name, AttributeType::String) }
}

/// A list of texts, such as `activations`.
pub(super) fn texts(name: &str, values: &[&str]) -> AttributeProto {
    let strings = values.iter().map(|value| value.as_bytes().to_vec()).collect();
    AttributeProto { strings, ..typed(name, AttributeType::Strings) }
}

fn typed(name: &str, kind: AttributeType) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(kind as i32),
        ..AttributeProto::default()
    }
}
