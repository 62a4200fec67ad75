//! Writes networks as Rust code: random graphs of layers and operations, in the many ways of
//! writing them.

mod control;
mod layers;
mod steps;
mod tensors;

use std::fmt::Write;

use fastrand::Rng;

/// A module with `count` networks, and a table of them.
pub(crate) fn module(seed: u64, count: usize) -> String {
    let mut text = String::new();
    let mut rows = String::new();
    for index in 0..count {
        let name = format!("Net{index}");
        let mut network = Network::new(Rng::with_seed(seed.wrapping_mul(1_000_003) + index as u64));
        network.grow();
        text.push_str(&network.code(&name));
        let _ = writeln!(rows, "    (\"{name}\", check::<{name}>),");
    }
    let _ = writeln!(text, "const NETWORKS: &[(&str, fn() -> Tally)] = &[\n{rows}];");
    text
}

/// A tensor `[2, channels, size, size]` of a forward pass.
#[derive(Debug, Clone)]
struct Image {
    name: String,
    channels: i64,
    size: i64,
}

struct Field {
    name: String,
    ty: String,
    /// The expression that makes the field from its path `p`.
    init: String,
    skipped: bool,
}

/// A network that is being written.
struct Network {
    rng: Rng,
    fields: Vec<Field>,
    body: Vec<String>,
    /// Methods next to `forward_t`.
    helpers: Vec<String>,
    /// Tensors that a later step may use.
    images: Vec<Image>,
    /// Convolutions that a later step may use again: field, inputs, outputs.
    convolutions: Vec<(String, i64, i64)>,
    /// Tensors of the model: field, shape.
    tensors: Vec<(String, String)>,
    names: usize,
}

impl Network {
    fn new(rng: Rng) -> Self {
        Network {
            rng,
            fields: Vec::new(),
            body: Vec::new(),
            helpers: Vec::new(),
            images: Vec::new(),
            convolutions: Vec::new(),
            tensors: Vec::new(),
            names: 0,
        }
    }

    /// Writes all steps.
    fn grow(&mut self) {
        let stem = self.stem();
        self.images.push(stem);
        for _ in 0..self.rng.usize(4..12) {
            self.step();
        }
        self.head();
    }

    fn code(mut self, name: &str) -> String {
        self.rng.shuffle(&mut self.fields);
        // If sizes are literals, the symbolic pass must know the size of the input.
        let literal = ["unflatten", "upsample", "narrow", "i((", "Tensor::ones", "Tensor::zeros"];
        let is_literal =
            self.body.iter().any(|line| literal.iter().any(|literal| line.contains(literal)));
        let shape =
            if is_literal || self.chance(30) { "#[prune(input = [3, 8, 8])]\n" } else { "" };
        let mut text = format!("#[derive(Debug, Prunable)]\n{shape}struct {name} {{\n");
        for field in &self.fields {
            let skip = if field.skipped { "#[prune(skip)] " } else { "" };
            let _ = writeln!(text, "    {skip}{}: {},", field.name, field.ty);
        }
        let _ = writeln!(
            text,
            "}}\n\n#[forward]\nimpl ModuleT for {name} {{\n    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {{"
        );
        for line in &self.body {
            let _ = writeln!(text, "        {line}");
        }
        text.push_str("    }\n}\n\n");
        if !self.helpers.is_empty() {
            let _ = writeln!(text, "#[forward]\nimpl {name} {{");
            for helper in &self.helpers {
                let _ = writeln!(text, "    {helper}");
            }
            text.push_str("}\n\n");
        }
        let _ = writeln!(
            text,
            "impl Network for {name} {{\n    fn new(root: &nn::Path) -> Self {{\n        {name} {{"
        );
        for Field { name, init, .. } in &self.fields {
            let _ = writeln!(
                text,
                "            {name}: {{ let p = &(root / \"{name}\"); let _ = p; {init} }},"
            );
        }
        text.push_str("        }\n    }\n}\n\n");
        text
    }

    fn name(&mut self, prefix: &str) -> String {
        self.names += 1;
        format!("{prefix}{}", self.names)
    }

    /// Adds a field, and returns the expression by which `forward` names it.
    fn field(&mut self, prefix: &str, ty: &str, init: String) -> String {
        let name = self.name(prefix);
        self.fields.push(Field { name: name.clone(), ty: ty.to_owned(), init, skipped: false });
        format!("self.{name}")
    }

    /// Adds a field that is no part of the data flow.
    fn option(&mut self, prefix: &str, ty: &str, init: &str) -> String {
        let name = self.name(prefix);
        let (ty, init) = (ty.to_owned(), init.to_owned());
        self.fields.push(Field { name: name.clone(), ty, init, skipped: true });
        format!("self.{name}")
    }

    /// Adds a statement that binds an expression to a new name.
    fn bind(&mut self, value: &str, channels: i64, size: i64) -> Image {
        let name = self.name("v");
        self.body.push(format!("let {name}: Tensor = {value};"));
        Image { name, channels, size }
    }

    fn say(&mut self, statement: String) {
        self.body.push(statement);
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.rng.usize(0..from.len())]
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.rng.u32(0..100) < percent
    }

    /// A random tensor; later tensors are more likely.
    fn image(&mut self) -> Image {
        let count = self.images.len();
        let back = self.rng.usize(0..count).min(self.rng.usize(0..count));
        self.images[count - 1 - back].clone()
    }
}
