use std::collections::BTreeSet;

use roxmltree::{Document, Node, ParsingOptions};
use slim_runtime::{Flow, LayerKind, Prunable, Slimming, Tracer, nn};
use tch::nn::VarStore;
use tch::{Device, Tensor};

use super::*;
use crate::model::Model;
use crate::network::{Arch, Spec};
use crate::numbers;

type Done = Result<()>;

/// A network, slimmed by half by γ that are drawn.
struct Sample {
    plan: Plan,
    dependencies: Dependencies,
    scores: Vec<(String, Vec<f64>)>,
}

impl Sample {
    fn new(arch: Arch, depth: Option<u32>) -> Result<Self> {
        let model = Model::new(Spec::new(arch, depth, None, 10)?, Device::Cpu)?;
        tch::manual_seed(0);
        model.draw_scales();
        Self::of(&model.net)
    }

    fn of(net: &impl Prunable) -> Result<Self> {
        let (plan, dependencies) = (net.plan(&Slimming::ratio(0.5))?, net.dependencies()?);
        let mut random = fastrand::Rng::with_seed(1);
        let norms = plan.layers().iter().filter(|layer| layer.kind == LayerKind::BatchNorm);
        // Zeros, and all of ten decades.
        let mut drawn = |width| (0..width).map(|place| if place == 0 { 0. } else { 10_f64.powf(-10. * random.f64()) }).collect();
        let scores = norms.map(|layer| (layer.path.clone(), drawn(layer.axes[0].width))).collect();
        Ok(Self { plan, dependencies, scores })
    }

    fn report(&self) -> Report<'_> {
        let stage = |name: &str, accuracy, macs| Stage { name: name.to_owned(), accuracy, parameters: self.plan.parameters().after, macs };
        Report {
            title: "A network".to_owned(),
            what: vec![("Data set".to_owned(), "digits".to_owned())],
            plan: &self.plan,
            passes: vec![("Pass 1".to_owned(), &self.plan)],
            stages: vec![stage("dense", Some(99.17), Some(1000)), stage("masked", None, None), stage("slimmed", Some(98.61), Some(250))],
            scores: self.scores.clone(),
            score_name: "|γ|".to_owned(),
            threshold: self.plan.threshold(),
            dependencies: &self.dependencies,
            times: vec![("planning".to_owned(), 0.02), ("surgery".to_owned(), 83.)],
            warnings: vec!["few images".to_owned()],
        }
    }
}

/// Pages are well-formed XML too, which is stricter than what browsers put up with.
fn parsed(html: &str) -> Result<Document<'_>> {
    Ok(Document::parse_with_options(html, ParsingOptions { allow_dtd: true, ..ParsingOptions::default() })?)
}

fn elements<'d, 'i>(page: &'d Document<'i>, name: &str) -> Vec<Node<'d, 'i>> {
    page.descendants().filter(|node| node.has_tag_name(name)).collect()
}

fn text(node: Node) -> String {
    node.descendants().filter_map(|node| node.text().filter(|_| node.is_text())).collect::<Vec<_>>().join(" ")
}

/// What holds for every page.
fn assert_sound(html: &str) -> Done {
    let page = parsed(html)?;
    let mut ids = BTreeSet::new();
    for node in page.descendants().filter(Node::is_element) {
        let name = node.tag_name().name();
        assert!(!["script", "link", "img", "iframe", "object", "base"].contains(&name), "<{name}>");
        for attribute in node.attributes() {
            let (key, value) = (attribute.name(), attribute.value());
            assert!(!key.starts_with("on") && key != "src", "{key}={value}");
            assert!(key != "href" || value.starts_with('#'), "{key}={value}");
        }
        if let Some(id) = node.attribute("id") {
            assert!(ids.insert(id), "the id {id} is there twice");
        }
        // Who cannot see a picture is told what it shows, and who has no mouse can scroll.
        let label = node.attribute("aria-label").unwrap_or_default();
        assert!(name != "svg" || (node.attribute("role") == Some("img") && !label.is_empty()));
        assert!(name != "figure" || node.children().any(|child| child.has_tag_name("figcaption")));
        let scrolls = name == "pre" || node.attribute("class").is_some_and(|class| class.starts_with("scroll"));
        assert!(!scrolls || node.attribute("tabindex") == Some("0"));
        assert!(name != "table" || node.descendants().any(|head| head.attribute("scope") == Some("col")));
        // Pictures are as wide as there is room.
        assert!(name != "svg" || (node.attribute("width").is_none() && node.attribute("viewBox").is_some()));
    }
    for link in elements(&page, "a") {
        let to = link.attribute("href").unwrap_or_default();
        assert!(ids.contains(&to[1..]), "nothing is called {to}");
    }
    let styles: String = elements(&page, "style").into_iter().map(text).collect();
    assert!(!styles.contains("url(") && !styles.contains("@import"));
    // Every colour of a picture is one that the style knows.
    let known: BTreeSet<String> = plots::INKS.iter().map(|ink| ink.hex()).collect();
    for node in elements(&page, "svg").into_iter().flat_map(|svg| svg.descendants()) {
        for colour in ["fill", "stroke"].into_iter().filter_map(|key| node.attribute(key)) {
            assert!(colour == "none" || known.contains(colour), "the colour {colour}");
        }
    }
    Ok(())
}

#[test]
fn pages_are_sound() -> Done {
    for (arch, depth) in [(Arch::Vgg, Some(11)), (Arch::Resnet18, None), (Arch::Densenet, Some(13)), (Arch::ShufflenetV2, None)] {
        assert_sound(&Sample::new(arch, depth)?.report().html()?)?;
    }
    Ok(())
}

#[test]
fn numbers_are_where_they_belong() -> Done {
    let sample = Sample::new(Arch::Vgg, Some(11))?;
    let html = sample.report().html()?;
    let page = parsed(&html)?;
    let big: Vec<_> = page.descendants().filter(|node| node.attribute("class") == Some("big")).map(text).collect();
    let (channels, parameters) = (sample.plan.channels().after, sample.plan.parameters().after);
    assert_eq!(big, [numbers::grouped(channels), numbers::grouped(parameters), "250".to_owned(), "98.61 %".to_owned()]);
    assert!(html.contains("−0.56 points"));
    let drawn = |label: &str| -> Vec<String> {
        let svgs = elements(&page, "svg").into_iter().filter(|svg| svg.attribute("aria-label").is_some_and(|all| all.starts_with(label)));
        svgs.flat_map(|svg| svg.descendants()).filter(|node| node.has_tag_name("text")).map(|node| text(node).trim().to_owned()).collect()
    };
    // Every batch norm has a bar with its numbers.
    let bars = drawn("Channels of 8 layers");
    for layer in sample.plan.layers().iter().filter(|layer| layer.kind == LayerKind::BatchNorm) {
        let axis = &layer.axes[0];
        assert!(bars.contains(&format!("{} → {}", axis.width, axis.keep.len())) && bars.contains(&layer.path), "{}", layer.path);
    }
    assert_eq!(bars.len(), 2 * 8);
    assert_eq!(drawn("Accuracy by stage: dense 99.17 %, masked unknown, slimmed 98.61 %").len(), 2 + 2 * 3);
    assert!(drawn("Histogram of 2,752 values of |γ|").iter().any(|text| text.starts_with("threshold 0.")));
    let tables = elements(&page, "pre").into_iter().map(text).collect::<Vec<_>>();
    assert!(tables.contains(&sample.plan.to_string()) && tables.contains(&sample.dependencies.to_dot()));
    Ok(())
}

#[test]
fn a_line_is_drawn_for_every_group_that_a_layer_makes() -> Done {
    let sample = Sample::new(Arch::Resnet18, None)?;
    let (svg, left_out) = plots::lines(&sample.dependencies)?;
    let drawing = parsed(&svg)?;
    let circles = |radius: &str| elements(&drawing, "circle").iter().filter(|dot| dot.attribute("r") == Some(radius)).count();
    let groups = &sample.dependencies.groups;
    let made =
        |coupled: bool| groups.iter().filter(|group| group.is_coupled() == coupled).map(|group| group.makers().count()).sum::<usize>();
    let read: usize = groups.iter().filter(|group| group.makers().count() > 0).map(|group| group.readers().count()).sum();
    assert_eq!((circles("5"), circles("4"), circles("2"), left_out), (made(true), made(false) + read, read, 0));
    Ok(())
}

/// A convolution whose path a page must not take for its own.
struct Hostile(nn::Conv2D, nn::BatchNorm, nn::Conv2D);

const NAME: &str = "</pre><script>alert(1)</script>\"'&";

impl Prunable for Hostile {
    fn trace(&self, cx: &mut Tracer, input: Flow) -> slim_runtime::Result<Flow> {
        cx.field(NAME, |cx| {
            let flow = cx.field("conv", |cx| self.0.trace(cx, input))?;
            let flow = cx.field("bn", |cx| self.1.trace(cx, flow))?;
            cx.field("head", |cx| self.2.trace(cx, flow))
        })
    }
}

#[test]
fn names_are_text() -> Done {
    let vs = VarStore::new(Device::Cpu);
    let p = vs.root();
    let conv = |name, from, to| nn::conv2d(&p / name, from, to, 1, nn::ConvConfig::default());
    let net = Hostile(conv("a", 3, 4), nn::batch_norm2d(&p / "b", 4, Default::default()), conv("c", 4, 2));
    let scales = Tensor::from_slice(&[0.1_f32, 0.2, 0.3, 0.4]);
    tch::no_grad(|| net.1.ws.as_ref().map(|ws| ws.shallow_clone().copy_(&scales)));
    let sample = Sample::of(&net)?;
    let mut report = sample.report();
    report.title = NAME.to_owned();
    report.what = vec![(NAME.to_owned(), NAME.to_owned())];
    report.warnings = vec![NAME.to_owned()];
    report.times = vec![(NAME.to_owned(), 1.)];
    report.passes = vec![(NAME.to_owned(), &sample.plan)];
    report.score_name = NAME.to_owned();
    report.stages.iter_mut().for_each(|stage| stage.name = NAME.to_owned());
    let html = report.html()?;
    assert!(!html.contains("<script"));
    assert_sound(&html)?;
    let page = parsed(&html)?;
    assert_eq!(elements(&page, "h1").into_iter().map(text).collect::<String>(), NAME);
    Ok(())
}

#[test]
fn what_is_not_known_is_left_out() -> Done {
    let sample = Sample::new(Arch::Vgg, Some(11))?;
    let mut report = sample.report();
    (report.scores, report.stages, report.threshold) = (Vec::new(), Vec::new(), None);
    (report.passes, report.times, report.warnings) = (Vec::new(), Vec::new(), Vec::new());
    let html = report.html()?;
    assert_sound(&html)?;
    assert!(!html.contains("id=\"scores\"") && !html.contains("<h2>Accuracy</h2>"));
    // Every layer has a threshold of its own.
    let html = Report { threshold: None, ..sample.report() }.html()?;
    assert_sound(&html)?;
    assert!(html.contains("2,752 values of |γ|; no one threshold decides."));
    Ok(())
}

#[test]
fn numbers_that_are_none_are_refused() -> Done {
    let sample = Sample::new(Arch::Vgg, Some(11))?;
    let refused = |report: Report| report.html().err().map(|error| error.to_string()).unwrap_or_default();
    let mut report = sample.report();
    report.stages[1].accuracy = Some(f64::NAN);
    assert_eq!(refused(report), "stage `masked`: an accuracy of NaN is no percentage");
    let mut report = sample.report();
    report.scores[0].1[3] = f64::INFINITY;
    assert_eq!(refused(report), "`feature.0.bn`: the score of channel 3 is inf");
    Ok(())
}

#[test]
fn every_colour_is_there_in_light_and_in_dark() {
    let style = include_str!("../../templates/report.css");
    for ink in plots::INKS {
        let name = ink.name;
        let values = style.matches(&format!("--{name}: ")).count();
        // Text and paper are also what the rest of the page has.
        assert_eq!(values, 2, "--{name} is defined {values} times");
    }
}
