//! The protocol between the two sides: one JSON object per line.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use anyhow::{Result, anyhow, bail};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tch::Device;

/// A network that the peer holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Model {
    /// The network before slimming.
    Dense,
    /// The slimmed network.
    Slimmed,
    /// The slimmed network, optimised by `torch.jit.optimize_for_inference`.
    Optimized,
}

/// Images that the peer holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// The only set of images.
    Images,
}

/// A request to the peer. The peer has a method of the same name for each variant; the fields are
/// the method's arguments.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "do", rename_all = "snake_case")]
#[allow(missing_docs, reason = "the methods say what they are")]
pub enum Request {
    /// Sets the threads and the device; answered by a [`Greeting`].
    Hello { threads: i32, device: String },
    /// Builds a network as wide as its weights.
    Load { model: Model, network: String, classes: i64, weights: PathBuf },
    /// Reads images from a file.
    Input { input: Input, file: PathBuf },
    /// Optimises a network for inference.
    Optimize { model: Model, of: Model, input: Input },
    /// Prunes copies with Torch-Pruning; answered by [`Seconds`].
    Prune { model: Model, input: Input, everywhere: bool, passes: usize },
    /// Prunes a copy, and writes its weights to a file.
    Pruned { model: Model, input: Input, everywhere: bool, file: PathBuf },
    /// Runs forward passes; answered by [`Seconds`].
    Forward { model: Model, input: Input, passes: usize },
    /// Writes a network's output for the images to a file.
    Output { model: Model, input: Input, file: PathBuf },
    /// Drops networks and images.
    Forget,
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

/// The answer to [`Request::Hello`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Greeting {
    /// The versions of the peer's packages, by package.
    pub versions: BTreeMap<String, String>,
    /// The number of threads that the peer computes with.
    pub threads: i32,
}

/// The duration of each pass.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Seconds {
    /// The seconds of each pass.
    pub seconds: Vec<f64>,
}

/// The answer to a request that returns no values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Done {}

/// PyTorch's name of a device.
pub(super) fn device(device: Device) -> String {
    match device {
        Device::Cuda(number) => format!("cuda:{number}"),
        _ => "cpu".to_owned(),
    }
}

/// Reads an answer.
///
/// # Errors
/// The peer reports an error, with its traceback; or the line is not the expected answer.
pub(super) fn answer<T: DeserializeOwned>(line: &str) -> Result<T> {
    let value: Value =
        serde_json::from_str(line).map_err(|error| anyhow!("no answer, but {line:?} ({error})"))?;
    if let Some(traceback) = value.get("error") {
        let traceback = traceback.as_str().unwrap_or_default().trim();
        bail!("{traceback}");
    }
    serde_json::from_value(value)
        .map_err(|error| anyhow!("another answer than was asked for: {} ({error})", line.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_lines() -> Result<()> {
        let requests = [
            Request::Hello { threads: 2, device: device(Device::Cuda(1)) },
            Request::Load {
                model: Model::Dense,
                network: "resnet50".into(),
                classes: 1000,
                weights: "/tmp/w.safetensors".into(),
            },
            Request::Prune {
                model: Model::Dense,
                input: Input::Images,
                everywhere: false,
                passes: 3,
            },
            Request::Forward { model: Model::Optimized, input: Input::Images, passes: 1 },
            Request::Forget,
        ];
        let lines: Vec<_> = requests.iter().map(serde_json::to_string).collect::<Result<_, _>>()?;
        insta::assert_snapshot!(lines.join("\n"), @r#"
        {"do":"hello","threads":2,"device":"cuda:1"}
        {"do":"load","model":"dense","network":"resnet50","classes":1000,"weights":"/tmp/w.safetensors"}
        {"do":"prune","model":"dense","input":"images","everywhere":false,"passes":3}
        {"do":"forward","model":"optimized","input":"images","passes":1}
        {"do":"forget"}
        "#);
        Ok(())
    }

    /// The script has a method for each request, with the same arguments.
    #[test]
    fn every_request_is_a_method_with_its_arguments() -> Result<()> {
        let (model, input, file) = (Model::Dense, Input::Images, PathBuf::new());
        let requests = [
            Request::Hello { threads: 2, device: "cpu".into() },
            Request::Load { model, network: String::new(), classes: 1, weights: file.clone() },
            Request::Input { input, file: file.clone() },
            Request::Optimize { model, of: model, input },
            Request::Prune { model, input, everywhere: false, passes: 1 },
            Request::Pruned { model, input, everywhere: false, file: file.clone() },
            Request::Forward { model, input, passes: 1 },
            Request::Output { model, input, file },
            Request::Forget,
        ];
        let (_, methods) = super::super::SCRIPT.split_once("class Peer").unwrap();
        for request in requests {
            // serde_json's map is sorted by name, so the arguments are sorted, too.
            let Value::Object(mut fields) = serde_json::to_value(&request)? else {
                panic!("no object: {request}")
            };
            let name =
                fields.remove("do").and_then(|name| name.as_str().map(str::to_owned)).unwrap();
            let head = methods
                .lines()
                .find_map(|line| line.strip_prefix(&format!("    def {name}(self")))
                .unwrap();
            let mut arguments: Vec<_> = head
                .trim_end_matches("):")
                .split(", ")
                .filter(|argument| !argument.is_empty())
                .collect();
            arguments.sort_unstable();
            assert_eq!(arguments, fields.keys().map(String::as_str).collect::<Vec<_>>(), "{name}");
        }
        Ok(())
    }

    #[test]
    fn answers_are_read() -> Result<()> {
        assert_eq!(answer::<Done>("{}\n")?, Done {});
        assert_eq!(
            answer::<Seconds>("{\"seconds\": [0.25, 1]}\n")?,
            Seconds { seconds: vec![0.25, 1.] }
        );
        let greeting: Greeting =
            answer("{\"versions\": {\"torch\": \"2.11.0+cu130\"}, \"threads\": 2}")?;
        assert_eq!((greeting.versions["torch"].as_str(), greeting.threads), ("2.11.0+cu130", 2));
        Ok(())
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        let said =
            |line| answer::<Seconds>(line).err().map(|error| error.to_string()).unwrap_or_default();
        insta::assert_snapshot!([said("Segmentation fault\n"), said("{}"), said("{\"error\": \"Traceback\\n  line 1\\nKeyError: 'dense'\\n\"}")].join("\n"), @r#"
        no answer, but "Segmentation fault\n" (expected value at line 1 column 1)
        another answer than was asked for: {} (missing field `seconds`)
        Traceback
          line 1
        KeyError: 'dense'
        "#);
    }
}
