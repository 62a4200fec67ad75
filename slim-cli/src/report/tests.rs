use std::collections::{BTreeMap, BTreeSet};

use roxmltree::{Document, Node, ParsingOptions};
use slim_runtime::{Flow, LayerKind, Prunable, Slimming, Tracer, nn};
use tch::nn::VarStore;
use tch::{Device, Tensor};

use super::*;
use crate::model::Model;
use crate::network::{Arch, Spec};
use crate::numbers;

type Done = Result<()>;

/// A network that is slimmed by half, with drawn γ and drawn scores.
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
        // A zero, and scores of ten decades.
        let mut drawn = |width| {
            (0..width)
                .map(|place| if place == 0 { 0. } else { 10_f64.powf(-10. * random.f64()) })
                .collect()
        };
        let scores = norms.map(|layer| (layer.path.clone(), drawn(layer.axes[0].width))).collect();
        Ok(Self { plan, dependencies, scores })
    }

    fn report(&self) -> Report<'_> {
        let stage = |name: &str, accuracy, macs| Stage {
            name: name.to_owned(),
            accuracy,
            parameters: self.plan.parameters().after,
            macs,
        };
        Report {
            title: "A network".to_owned(),
            what: vec![("Data set".to_owned(), "digits".to_owned())],
            plan: &self.plan,
            passes: Vec::new(),
            stages: vec![
                stage("dense", Some(99.17), Some(1000)),
                stage("masked", None, None),
                stage("slimmed", Some(98.61), Some(250)),
            ],
            scores: self.scores.clone(),
            score_name: "|γ|".to_owned(),
            threshold: self.plan.threshold(),
            dependencies: &self.dependencies,
            times: vec![("planning".to_owned(), 0.02), ("surgery".to_owned(), 83.)],
            warnings: vec!["few images".to_owned()],
        }
    }
}

/// Parses a page as XML, which is stricter than browsers.
fn parsed(html: &str) -> Result<Document<'_>> {
    Ok(Document::parse_with_options(
        html,
        ParsingOptions { allow_dtd: true, ..ParsingOptions::default() },
    )?)
}

fn elements<'d, 'i>(page: &'d Document<'i>, name: &str) -> Vec<Node<'d, 'i>> {
    page.descendants().filter(|node| node.has_tag_name(name)).collect()
}

fn text(node: Node) -> String {
    node.descendants()
        .filter_map(|node| node.text().filter(|_| node.is_text()))
        .collect::<Vec<_>>()
        .join(" ")
}

/// Checks what holds for every page.
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
        // Pictures have labels for screen readers, and the keyboard can scroll.
        let label = node.attribute("aria-label").unwrap_or_default();
        assert!(name != "svg" || (node.attribute("role") == Some("img") && !label.is_empty()));
        assert!(name != "figure" || node.children().any(|child| child.has_tag_name("figcaption")));
        let scrolls = name == "pre"
            || node.attribute("class").is_some_and(|class| class.starts_with("scroll"));
        assert!(!scrolls || node.attribute("tabindex") == Some("0"));
        assert!(
            name != "table"
                || node.descendants().any(|head| head.attribute("scope") == Some("col"))
        );
        // Pictures scale to the available width.
        assert!(
            name != "svg"
                || (node.attribute("width").is_none() && node.attribute("viewBox").is_some())
        );
    }
    for link in elements(&page, "a") {
        let to = link.attribute("href").unwrap_or_default();
        assert!(ids.contains(&to[1..]), "nothing is called {to}");
    }
    let styles: String = elements(&page, "style").into_iter().map(text).collect();
    assert!(!styles.contains("url(") && !styles.contains("@import"));
    // Every colour of a picture is a placeholder that the style defines.
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
    for (arch, depth) in [
        (Arch::Vgg, Some(11)),
        (Arch::Resnet18, None),
        (Arch::Densenet, Some(13)),
        (Arch::ShufflenetV2, None),
    ] {
        assert_sound(&Sample::new(arch, depth)?.report().html()?)?;
    }
    Ok(())
}

#[test]
fn numbers_are_where_they_belong() -> Done {
    let sample = Sample::new(Arch::Vgg, Some(11))?;
    let html = sample.report().html()?;
    let page = parsed(&html)?;
    let big: Vec<_> = page
        .descendants()
        .filter(|node| node.attribute("class") == Some("big"))
        .map(text)
        .collect();
    let (channels, parameters) = (sample.plan.channels().after, sample.plan.parameters().after);
    assert_eq!(
        big,
        [
            numbers::grouped(channels),
            numbers::grouped(parameters),
            "250".to_owned(),
            "98.61 %".to_owned()
        ]
    );
    assert!(html.contains("−0.56 points"));
    let drawn = |label: &str| -> Vec<String> {
        let svgs = elements(&page, "svg")
            .into_iter()
            .filter(|svg| svg.attribute("aria-label").is_some_and(|all| all.starts_with(label)));
        svgs.flat_map(|svg| svg.descendants())
            .filter(|node| node.has_tag_name("text"))
            .map(|node| text(node).trim().to_owned())
            .collect()
    };
    // Every batch norm has a bar with its numbers.
    let bars = drawn("Channels of 8 layers");
    for layer in sample.plan.layers().iter().filter(|layer| layer.kind == LayerKind::BatchNorm) {
        let axis = &layer.axes[0];
        assert!(
            bars.contains(&format!("{} → {}", axis.width, axis.keep.len()))
                && bars.contains(&layer.path),
            "{}",
            layer.path
        );
    }
    assert_eq!(bars.len(), 2 * 8);
    assert_eq!(
        drawn("Accuracy by stage: dense 99.17 %, masked unknown, slimmed 98.61 %").len(),
        2 + 2 * 3
    );
    assert!(
        drawn("Histogram of 2,752 values of |γ|")
            .iter()
            .any(|text| text.starts_with("threshold 0."))
    );
    let tables = elements(&page, "pre").into_iter().map(text).collect::<Vec<_>>();
    assert!(
        tables.contains(&sample.plan.to_string()) && tables.contains(&sample.dependencies.to_dot())
    );
    Ok(())
}

/// A VGG of four layers with ten channels each, with the same γ every time.
fn small() -> Result<Model> {
    let model = Model::new(
        Spec::new(Arch::Vgg, None, Some("[10, 10, 10, 10]".parse()?), 10)?,
        Device::Cpu,
    )?;
    let _no_grad = tch::no_grad_guard();
    let mut random = fastrand::Rng::with_seed(0);
    let variables: BTreeMap<_, _> = model.vs.variables().into_iter().collect();
    for (_, mut scale) in variables
        .into_iter()
        .filter(|(name, variable)| name.ends_with("weight") && variable.dim() == 1)
    {
        scale.copy_(&Tensor::from_slice(&[(); 10].map(|()| random.f32())));
    }
    Ok(model)
}

#[test]
fn channels_go_and_stay_by_the_plan() -> Done {
    let model = small()?;
    let said = |slimming: Slimming| -> Result<(String, Vec<String>)> {
        let (plan, dependencies) = (model.net.plan(&slimming)?, model.net.dependencies()?);
        let scores: Vec<_> = model
            .net
            .scores(&slimming)?
            .into_iter()
            .map(|layer| (layer.path, layer.scores))
            .collect();
        let html = Sample { plan, dependencies, scores }.report().html()?;
        let page = parsed(&html)?;
        let strips = elements(&page, "svg")
            .into_iter()
            .filter(|svg| svg.attribute("aria-label").is_some_and(|all| all.starts_with("Where")));
        let texts = strips
            .flat_map(|svg| {
                svg.descendants().filter(|node| node.has_tag_name("text")).collect::<Vec<_>>()
            })
            .map(text);
        let stay =
            texts.map(|text| text.trim().to_owned()).filter(|text| text.contains(" / ")).collect();
        let summary = elements(&page, "figcaption")
            .into_iter()
            .map(text)
            .find(|text| text.contains(" channels go, "));
        Ok((summary.unwrap_or_default(), stay))
    };
    let (summary, stay) = said(Slimming::ratio(0.5))?;
    insta::assert_snapshot!(summary, @"21 of 40 channels go, by their |γ|. 21 are not above the threshold, 0.5110.   go,   stay.");
    insta::assert_snapshot!(stay.join(", "), @"4 / 10, 4 / 10, 6 / 10, 5 / 10");
    let (summary, stay) = said(Slimming::ratio(0.5).keep("feature.2.*"))?;
    insta::assert_snapshot!(summary, @"16 of 40 channels go, by their |γ|. 18 are not above the threshold, 0.3779; 2 of them stay all the same. Bounds, what is kept, coupled channels and ties decide that.   go,   stay.");
    insta::assert_snapshot!(stay.join(", "), @"4 / 10, 5 / 10, 10 / 10, 5 / 10");
    let (summary, stay) = said(Slimming::ratio(0.5).round_to(4))?;
    insta::assert_snapshot!(summary, @"16 of 40 channels go, by their |γ|. 21 are not above the threshold, 0.5110; 5 of them stay all the same. Bounds, what is kept, coupled channels and ties decide that.   go,   stay.");
    insta::assert_snapshot!(stay.join(", "), @"4 / 10, 4 / 10, 8 / 10, 8 / 10");
    let (summary, stay) = said(Slimming::ratio(0.5).round_down_to(4))?;
    insta::assert_snapshot!(summary, @"24 of 40 channels go, by their |γ|. 21 are not above the threshold, 0.5110; 3 above it go, too. Bounds, what is kept, coupled channels and ties decide that.   go,   stay.");
    insta::assert_snapshot!(stay.join(", "), @"4 / 10, 4 / 10, 4 / 10, 4 / 10");
    Ok(())
}

#[test]
fn a_later_pass_begins_where_the_one_before_ended() -> Done {
    let mut model = small()?;
    let first = model.net.slim(0.5)?;
    let (dependencies, slimming) = (model.net.dependencies()?, Slimming::ratio(0.5));
    let scores: Vec<_> =
        model.net.scores(&slimming)?.into_iter().map(|layer| (layer.path, layer.scores)).collect();
    let second = model.net.plan(&slimming)?;
    let second = model.net.apply(&second)?;
    let whole = first.then(&second)?;
    let sample = Sample { plan: whole.plan().clone(), dependencies, scores };
    let mut report = sample.report();
    report.passes = vec![("this pass".to_owned(), second.plan())];
    let said = |report: &Report| -> Result<[String; 2]> {
        let html = report.html()?;
        assert_sound(&html)?;
        // The scores are those of the last pass.
        let (before, after) = (second.plan().channels().before, second.plan().channels().after);
        assert!(
            html.contains(&format!("{} of {before} channels go in the last pass", before - after))
        );
        let page = parsed(&html)?;
        let paragraphs = elements(&page, "p");
        let is_figure =
            |p: &&Node| p.descendants().any(|node| node.attribute("class") == Some("change"));
        let figures: Vec<_> = paragraphs.iter().filter(is_figure).map(|p| text(*p)).collect();
        let original =
            paragraphs.iter().map(|p| text(*p)).find(|text| text.contains("pruned before"));
        Ok([figures.join("; "), original.unwrap_or_default()])
    };
    let [figures, original] = said(&report)?;
    insta::assert_snapshot!(figures, @"−47.4 %  from 19 before this pass; −67.0 %  from 836 before this pass; −75.0 %  from 1,000 before this pass; −0.56 points  from 99.17 % before this pass");
    insta::assert_snapshot!(original, @"The network was pruned before. Of the original, 10 of 40 channels (−75.0 %) and 276 of 3,160 parameters (−91.3 %) are left.");
    // If the stages span all passes, the figures are those of the original network.
    report.stages[0].parameters = whole.plan().parameters().before;
    let [figures, original] = said(&report)?;
    insta::assert_snapshot!(figures, @"−75.0 %  from 40; −91.3 %  from 3,160; −75.0 %  from 1,000; −0.56 points  from 99.17 %");
    assert_eq!(original, "");
    Ok(())
}

#[test]
fn a_line_is_drawn_for_every_group_that_a_layer_makes() -> Done {
    let sample = Sample::new(Arch::Resnet18, None)?;
    let (svg, left_out) = plots::lines(&sample.dependencies)?;
    let drawing = parsed(&svg)?;
    let circles = |radius: &str| {
        elements(&drawing, "circle").iter().filter(|dot| dot.attribute("r") == Some(radius)).count()
    };
    let groups = &sample.dependencies.groups;
    let made = |coupled: bool| {
        groups
            .iter()
            .filter(|group| group.is_coupled() == coupled)
            .map(|group| group.producers().count())
            .sum::<usize>()
    };
    let read: usize = groups
        .iter()
        .filter(|group| group.producers().count() > 0)
        .map(|group| group.consumers().count())
        .sum();
    assert_eq!(
        (circles("5"), circles("4"), circles("2"), left_out),
        (made(true), made(false) + read, read, 0)
    );
    Ok(())
}

/// A network with a path that a page must escape.
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
    let net = Hostile(
        conv("a", 3, 4),
        nn::batch_norm2d(&p / "b", 4, Default::default()),
        conv("c", 4, 2),
    );
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
    (report.times, report.warnings) = (Vec::new(), Vec::new());
    let html = report.html()?;
    assert_sound(&html)?;
    assert!(!html.contains("id=\"scores\"") && !html.contains("<h2>Accuracy</h2>"));
    // No single threshold: every layer has its own.
    let html = Report { threshold: None, ..sample.report() }.html()?;
    assert_sound(&html)?;
    let gone = numbers::grouped(sample.plan.channels().before - sample.plan.channels().after);
    assert!(html.contains(&format!(
        "{gone} of 2,752 channels go, by their |γ|. No one threshold decides. 8 scores are zero."
    )));
    Ok(())
}

#[test]
fn numbers_that_are_none_are_refused() -> Done {
    let sample = Sample::new(Arch::Vgg, Some(11))?;
    let refused =
        |report: Report| report.html().err().map(|error| error.to_string()).unwrap_or_default();
    let mut report = sample.report();
    report.stages[1].accuracy = Some(f64::NAN);
    assert_eq!(refused(report), "stage `masked`: an accuracy of NaN is no percentage");
    let mut report = sample.report();
    report.scores[0].1[3] = f64::INFINITY;
    assert_eq!(refused(report), "`feature.0.bn`: the score of channel 3 is inf");
    let mut report = sample.report();
    report.scores[0].1.pop();
    assert_eq!(refused(report), "`feature.0.bn` has 63 scores, and 64 channels in the plan");
    let mut report = sample.report();
    report.scores[0].0 = "classifier".to_owned();
    assert_eq!(refused(report), "`classifier` has scores, and none in the plan");
    Ok(())
}

#[test]
fn every_colour_is_there_in_light_and_in_dark() {
    let style = include_str!("../../templates/report.css");
    for ink in plots::INKS {
        let name = ink.name;
        let values = style.matches(&format!("--{name}: ")).count();
        // The rest of the page uses the colours of text and paper too.
        assert_eq!(values, 2, "--{name} is defined {values} times");
    }
}
