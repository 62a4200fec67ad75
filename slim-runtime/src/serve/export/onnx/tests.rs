//! Files that are written, read back.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use prost::Message;
use tch::{Device, Kind, Tensor};

use super::attribute;
use super::builder::{Builder, Dim, FileOptions, Name};
use super::file::Written;
use super::proto::tensor_proto::{DataLocation, DataType};
use super::proto::{GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto};

const IMAGE: [Dim; 4] = [Dim::Free("batch"), Dim::Fixed(3), Dim::Fixed(8), Dim::Fixed(8)];

/// A file in a folder of its own.
struct File {
    folder: tempfile::TempDir,
}

impl File {
    fn new() -> Self {
        File { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("net.onnx")
    }

    fn write(&self, builder: Builder) -> Written {
        let metadata = [("classes".to_owned(), "10".to_owned())].into();
        builder.finish(&self.path(), &metadata).unwrap()
    }

    fn model(&self) -> ModelProto {
        ModelProto::decode(&*fs::read(self.path()).unwrap()).unwrap()
    }

    fn graph(&self) -> GraphProto {
        self.model().graph.unwrap()
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(self.folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

fn builder() -> Builder {
    Builder::new(&FileOptions::default(), Kind::Float)
}

fn written(builder: Builder) -> GraphProto {
    let file = File::new();
    file.write(builder);
    file.graph()
}

fn tensor<'g>(graph: &'g GraphProto, name: &str) -> &'g TensorProto {
    graph.initializer.iter().find(|tensor| tensor.name() == name).unwrap()
}

fn floats(tensor: &TensorProto) -> Vec<f32> {
    let (chunks, _) = tensor.raw_data().as_chunks();
    chunks.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
}

fn ops(graph: &GraphProto) -> Vec<&str> {
    graph.node.iter().map(NodeProto::op_type).collect()
}

/// Values that no other tensor of the test has.
fn values(shape: &[i64]) -> Tensor {
    Tensor::arange(shape.iter().product::<i64>(), (Kind::Float, Device::Cpu)).view(shape)
}

fn output(builder: &mut Builder, value: &Name) {
    builder.output("output", value, Kind::Float, &[Dim::Free("batch"), Dim::Fixed(6)]).unwrap();
}

#[test]
fn a_file_of_two_nodes_has_all_that_was_put_into_it() {
    let mut builder = builder();
    let x = builder.input("input", Kind::Float, &IMAGE).unwrap();
    builder.scope("layer2.0");
    let weight = builder.weight("layer2.0.conv.weight", &values(&[6, 3, 8, 8])).unwrap();
    let absent: Name = "".into();
    let pads = attribute::ints("pads", &[0; 4]);
    let y = builder.node("Conv", &[&x, &weight, &absent], vec![pads]);
    let shape = builder.ints(&[0, 6]);
    let y = builder.node("Reshape", &[&y, &shape], vec![attribute::int("allowzero", 0)]);
    output(&mut builder, &y);
    let file = File::new();
    let report = file.write(builder);

    assert_eq!(report, Written { bytes: fs::metadata(file.path()).unwrap().len(), data: None });
    let model = file.model();
    assert_eq!((model.producer_name(), model.producer_version()), ("slim", "0.1.0"));
    assert_eq!((model.ir_version(), model.opset_import[0].version()), (12, 24));
    assert_eq!((model.metadata_props[0].key(), model.metadata_props[0].value()), ("classes", "10"));
    let graph = model.graph.unwrap();
    let [conv, reshape] = &graph.node[..] else { panic!("{:?}", graph.node) };
    assert_eq!((conv.name(), conv.op_type()), ("/layer2.0/Conv", "Conv"));
    assert_eq!(conv.input, ["input", "layer2.0.conv.weight", ""]);
    assert_eq!((conv.attribute[0].name(), &conv.attribute[0].ints[..]), ("pads", &[0; 4][..]));
    assert_eq!(reshape.input, [&*conv.output[0], "/constant"]);
    assert_eq!(reshape.output, ["output"]);
    let weight = tensor(&graph, "layer2.0.conv.weight");
    assert_eq!((&weight.dims[..], weight.data_type()), (&[6, 3, 8, 8][..], DataType::Float as i32));
    assert_eq!(floats(weight), (0..6 * 3 * 64).map(|value| value as f32).collect::<Vec<_>>());
    let shape = tensor(&graph, "/constant");
    assert_eq!(shape.dims, [2]);
    assert_eq!(shape.raw_data(), [0_i64.to_le_bytes(), 6_i64.to_le_bytes()].concat());
    assert_eq!((graph.input[0].name(), graph.output[0].name()), ("input", "output"));
    assert_eq!(format!("{:?}", graph.input[0].r#type).matches("batch").count(), 1);
}

#[test]
fn all_names_are_unique() {
    let mut builder = builder();
    let x = builder.input("input", Kind::Float, &IMAGE).unwrap();
    let first = builder.weight("weight", &values(&[2])).unwrap();
    let second = builder.weight("weight", &values(&[2])).unwrap();
    // This is the name that the second weight would like to have.
    let third = builder.weight("weight_1", &values(&[2])).unwrap();
    let fourth = builder.weight("input", &values(&[2])).unwrap();
    let names: Vec<_> = [&first, &second, &third, &fourth].map(|name| &**name).into();
    assert_eq!(names, ["weight", "weight_1", "weight_1_1", "input_1"]);

    let a = builder.node("Relu", &[&x], vec![]);
    let b = builder.node("Relu", &[&a], vec![]);
    builder.scope("Relu");
    let parts = builder.nodes("Split", &[&b], 2, vec![]);
    let names: Vec<_> = [&a, &b, &parts[0], &parts[1]].map(|name| &**name).into();
    assert_eq!(names, ["/Relu", "/Relu_1", "/Relu/Split_output_0", "/Relu/Split_output_1"]);
}

#[test]
fn a_tensor_is_stored_once_and_another_of_equal_values_beside_it() {
    let mut builder = builder();
    let weight = values(&[4, 6]);
    let name = builder.weight("tied", &weight).unwrap();
    assert_eq!(builder.weight("other", &weight.shallow_clone()).unwrap(), name);
    assert_ne!(builder.weight("copy", &weight.copy()).unwrap(), name);
    // The same memory with other strides.
    let turned = builder.weight("turned", &weight.view([6, 4]).tr()).unwrap();
    assert_ne!(turned, name);
    assert_eq!(builder.ints(&[1, 2]), builder.ints(&[1, 2]));
    assert_ne!(builder.ints(&[1]), builder.int(1));
    assert_ne!(builder.float(0.), builder.float(-0.));
    let graph = written(builder);
    let expected: Vec<f32> = Vec::try_from(weight.view([6, 4]).tr().reshape([-1])).unwrap();
    assert_eq!(floats(tensor(&graph, &turned)), expected);
    assert_eq!(graph.initializer.len(), 3 + 1 + 2 + 2);
}

#[test]
fn memory_is_not_reused_while_the_graph_is_built() {
    let mut builder = builder();
    let names: Vec<_> = (0..20)
        .map(|value| {
            let passing = Tensor::full([64], f64::from(value), (Kind::Float, Device::Cpu));
            builder.weight("passing", &passing).unwrap()
        })
        .collect();
    let graph = written(builder);
    for (value, name) in names.iter().enumerate() {
        assert_eq!(floats(tensor(&graph, name)), [value as f32; 64]);
    }
}

#[test]
fn every_kind_and_layout_is_stored() {
    let kinds = [
        (Kind::Float, DataType::Float),
        (Kind::Double, DataType::Double),
        (Kind::Half, DataType::Float16),
        (Kind::BFloat16, DataType::Bfloat16),
        (Kind::Int64, DataType::Int64),
        (Kind::Int, DataType::Int32),
        (Kind::Uint8, DataType::Uint8),
        (Kind::Int8, DataType::Int8),
        (Kind::Bool, DataType::Bool),
    ];
    let mut builder = builder();
    for (kind, _) in kinds {
        builder.weight(&format!("{kind:?}"), &values(&[2, 3]).to_kind(kind)).unwrap();
    }
    builder.weight("none", &values(&[0, 3])).unwrap();
    builder.weight("scalar", &Tensor::from(2.5_f32)).unwrap();
    builder
        .weight("expanded", &Tensor::from_slice(&[1_f32, 2.]).view([2, 1]).expand([2, 2], false))
        .unwrap();
    builder.weight("blocked", &values(&[1, 2, 2, 2]).to_mkldnn()).unwrap();
    let error = builder.weight("odd", &Tensor::zeros([2], (Kind::ComplexFloat, Device::Cpu)));
    assert!(error.unwrap_err().to_string().contains("no tensors of ComplexFloat"));
    let graph = written(builder);
    for (kind, data_type) in kinds {
        let stored = tensor(&graph, &format!("{kind:?}"));
        assert_eq!(stored.data_type(), data_type as i32);
        let back = Tensor::from_data_size(stored.raw_data(), &stored.dims, kind);
        assert_eq!(back, values(&[2, 3]).to_kind(kind), "{kind:?}");
    }
    assert_eq!(
        (&tensor(&graph, "none").dims[..], floats(tensor(&graph, "none"))),
        (&[0, 3][..], vec![])
    );
    assert_eq!(
        (&tensor(&graph, "scalar").dims[..], floats(tensor(&graph, "scalar"))),
        (&[][..], vec![2.5])
    );
    assert_eq!(floats(tensor(&graph, "expanded")), [1., 1., 2., 2.]);
    assert_eq!(floats(tensor(&graph, "blocked")), [0., 1., 2., 3., 4., 5., 6., 7.]);
}

#[test]
fn numbers_are_of_the_kind_of_the_network() {
    let mut double = Builder::new(&FileOptions::default(), Kind::Double);
    let name = double.float(0.1);
    let graph = written(double);
    assert_eq!(tensor(&graph, &name).raw_data(), 0.1_f64.to_le_bytes());
    let mut single = builder();
    let name = single.float(0.1);
    let graph = written(single);
    assert_eq!((tensor(&graph, &name).dims.len(), floats(tensor(&graph, &name))), (0, vec![0.1]));
}

#[test]
fn half_precision_is_cast_back_and_keeps_what_it_cannot_hold() {
    let mut builder = Builder::new(&FileOptions { half: true, external: false }, Kind::Float);
    let weight = values(&[2, 3]) / 3;
    let name = builder.weight("fc.weight", &weight).unwrap();
    assert_eq!(builder.weight("again", &weight).unwrap(), name);
    builder.weight("fc.bias", &values(&[2])).unwrap();
    builder.weight("large", &(values(&[2, 2]) * 1e5)).unwrap();
    builder
        .weight("mask", &Tensor::full([2, 2], f64::NEG_INFINITY, (Kind::Float, Device::Cpu)))
        .unwrap();
    builder.weight("index", &values(&[2, 2]).to_kind(Kind::Int64)).unwrap();
    let graph = written(builder);
    let kinds: Vec<_> =
        graph.initializer.iter().map(|tensor| (tensor.name(), tensor.data_type() as u8)).collect();
    let (half, float) = (DataType::Float16 as u8, DataType::Float as u8);
    let expected = [
        ("fc.weight", half),
        ("fc.bias", float),
        ("large", float),
        ("mask", half),
        ("index", DataType::Int64 as u8),
    ];
    assert_eq!(kinds, expected);
    let cast = &graph.node[0];
    assert_eq!((cast.op_type(), &*cast.input[0], &*cast.output[0]), ("Cast", "fc.weight", &*name));
    assert_eq!(cast.attribute[0].i(), i64::from(float));
    let stored = tensor(&graph, "fc.weight").raw_data();
    assert_eq!(Tensor::from_data_size(stored, &[2, 3], Kind::Half), weight.to_kind(Kind::Half));
}

/// A graph of two large weights and a small one, all of which are outputs.
fn large(external: bool, value: f64) -> Builder {
    let mut builder = Builder::new(&FileOptions { half: false, external }, Kind::Float);
    for (name, size) in [("a", 300), ("small", 255), ("b", 2000)] {
        let weight = Tensor::full([size], value, (Kind::Float, Device::Cpu));
        let weight = builder.weight(name, &weight).unwrap();
        builder.output(&format!("{name}.out"), &weight, Kind::Float, &[Dim::Fixed(size)]).unwrap();
    }
    builder
}

#[test]
fn external_data_is_aligned_and_small_tensors_stay_inside() {
    let file = File::new();
    let report = file.write(large(true, 2.));
    let data_path = file.folder.path().join("net.onnx.data");
    let data = fs::read(&data_path).unwrap();
    let bytes = fs::metadata(file.path()).unwrap().len() + data.len() as u64;
    assert_eq!(report, Written { bytes, data: Some(data_path) });
    assert_eq!(file.names(), ["net.onnx", "net.onnx.data"]);
    let graph = file.graph();
    for (name, offset, length) in [("a", 0, 1200), ("b", 4096, 8000)] {
        let stored = tensor(&graph, name);
        assert_eq!(stored.data_location(), DataLocation::External);
        assert!(stored.raw_data.is_none());
        let said: Vec<_> =
            stored.external_data.iter().map(|entry| (entry.key(), entry.value())).collect();
        let (from, size) = (offset.to_string(), length.to_string());
        assert_eq!(said, [("location", "net.onnx.data"), ("offset", &*from), ("length", &*size)]);
        assert!(data[offset..][..length].chunks(4).all(|value| value == 2_f32.to_le_bytes()));
    }
    assert_eq!(floats(tensor(&graph, "small")), [2.; 255]);
}

#[test]
fn a_failure_leaves_an_earlier_model_and_its_data() {
    let file = File::new();
    file.write(large(true, 2.));
    let before = fs::read(file.path()).unwrap();
    let data_path = file.folder.path().join("net.onnx.data");
    // The data cannot be replaced, which is found before the model is.
    let mut permissions = fs::metadata(&data_path).unwrap().permissions();
    permissions.set_readonly(true);
    fs::set_permissions(&data_path, permissions).unwrap();
    let error = large(true, 3.).finish(&file.path(), &BTreeMap::new()).unwrap_err().full_text();
    assert!(error.contains("net.onnx.data") && error.contains("read-only"), "{error}");
    assert_eq!(fs::read(file.path()).unwrap(), before);
    assert_eq!(file.names(), ["net.onnx", "net.onnx.data"]);
    // A model without data does not need that file.
    file.write(large(false, 3.));
    assert_eq!(floats(tensor(&file.graph(), "a")), [3.; 300]);
}

#[test]
fn a_folder_that_does_not_exist_is_an_error_with_the_path() {
    let error = builder().finish(Path::new("/nowhere/net.onnx"), &BTreeMap::new()).unwrap_err();
    assert!(error.full_text().starts_with("/nowhere/net.onnx"), "{}", error.full_text());
}

#[test]
fn outputs_take_over_the_name_of_what_is_computed() {
    let mut builder = builder();
    let x = builder.input("input", Kind::Float, &IMAGE).unwrap();
    let taken = builder.weight("output", &values(&[3, 1, 1])).unwrap();
    let y = builder.node("Mul", &[&x, &taken], vec![]);
    output(&mut builder, &y);
    // What is used after it was made an output.
    let z = builder.node("Relu", &[&y], vec![]);
    builder.output("z", &z, Kind::Float, &IMAGE).unwrap();
    let graph = written(builder);
    assert_eq!(ops(&graph), ["Mul", "Relu"]);
    assert_eq!(graph.initializer[0].name(), "output_1");
    assert_eq!(graph.node[0].input, ["input", "output_1"]);
    assert_eq!(
        (&graph.node[0].output[..], &graph.node[1].input[..]),
        (&["output".to_owned()][..], &["output".to_owned()][..])
    );
    assert_eq!(graph.node[1].output, ["z"]);
}

#[test]
fn an_output_that_is_an_input_or_another_output_gets_an_identity() {
    let mut builder = builder();
    let x = builder.input("input", Kind::Float, &IMAGE).unwrap();
    let y = builder.node("Relu", &[&x], vec![]);
    for (name, value) in [("first", &y), ("second", &y), ("same", &x), ("input", &x)] {
        builder.output(name, value, Kind::Float, &IMAGE).unwrap();
    }
    let graph = written(builder);
    assert_eq!(ops(&graph), ["Relu", "Identity", "Identity", "Identity"]);
    let edges: Vec<_> = graph.node.iter().map(|node| (&*node.input[0], &*node.output[0])).collect();
    assert_eq!(
        edges,
        [("input", "first"), ("first", "second"), ("input", "same"), ("input", "input_1")]
    );
    let outputs: Vec<_> = graph.output.iter().map(ValueInfoProto::name).collect();
    assert_eq!(outputs, ["first", "second", "same", "input_1"]);
}
