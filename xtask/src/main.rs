//! `cargo xtask`: installs libtorch, runs the demo, the tests, the comparison with PyTorch and all
//! checks, checks `torchrun`, bundles tests, measures compile time.

mod bench;
mod browser;
mod bundle;
mod columns;
mod compile_time;
mod host;
mod install;
mod libtorch;
mod lock;
mod onnx_proto;
mod onnxruntime;
mod publish;
mod rooms;
mod setup;
mod source;
mod tasks;
mod torchrun;
mod versions;
mod workspace;

use clap::{Parser, Subcommand};
use std::{ffi::OsString, path::PathBuf, process::ExitCode};

/// Sets this workspace up, runs its demo, its tests and all its checks.
///
/// Start with `cargo xtask demo`. Every command installs libtorch first where it is missing;
/// afterwards plain `cargo build`, `cargo run` and `cargo test` work as well.
#[derive(Parser)]
#[command(bin_name = "cargo xtask", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install libtorch 2.11.0 into `.libtorch/`, unless it is there
    ///
    /// Needs Linux on x86-64, python3 with pip, and a C++ compiler. libtorch comes from PyPI's
    /// `torch` wheel. Without an NVIDIA driver it is installed without CUDA, 0.7 GB on disk; with
    /// one, or with --cuda, it is complete, 4.7 GB.
    ///
    /// What is whole is left alone; what is damaged or was interrupted is installed again.
    ///
    /// Your own libtorch is used instead, and nothing is installed, where `LIBTORCH` is the path of
    /// an unpacked libtorch 2.11.0, or `LIBTORCH_USE_PYTORCH=1` and torch 2.11.0 is installed in
    /// your Python.
    #[command(verbatim_doc_comment)]
    Setup {
        /// Install libtorch with CUDA, also where no NVIDIA driver is found
        #[arg(long)]
        cuda: bool,
        /// Install ONNX Runtime as well, into `.onnxruntime/`, for the tests and the example that
        /// run exported files [default with `test` and `ci`]
        #[arg(long)]
        onnxruntime: bool,
    },

    /// Run the demo
    ///
    /// The same as `cargo run -p slim-cli -- demo ARGS`, with libtorch installed first.
    /// `cargo xtask demo -- --help` shows the demo's own options.
    #[command(verbatim_doc_comment)]
    Demo {
        /// Handed to the demo
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },

    /// Run all tests: unit tests, integration tests, doctests, compile errors
    ///
    /// Two runs of `cargo test`: everything that links libtorch, and then the compile errors of the
    /// derive (package slim-ui-tests). Arguments go to the first run only:
    /// `cargo xtask test resnet`, `cargo xtask test --test api -- --nocapture`.
    ///
    /// `SLIM_DEVICE=cuda cargo xtask test -- --test-threads 4` computes on a GPU.
    #[command(verbatim_doc_comment)]
    Test {
        /// Handed to the first `cargo test`
        #[arg(allow_hyphen_values = true)]
        args: Vec<OsString>,
        /// Handed to the test programs of the first `cargo test`
        #[arg(last = true, allow_hyphen_values = true)]
        test_args: Vec<OsString>,
    },

    /// Compare slim with PyTorch and Torch-Pruning; `bench serve`: with ONNX Runtime and OpenVINO
    ///
    /// Installs PyTorch 2.11.0, torchvision 0.26.0, Torch-Pruning 1.6.1, ONNX Runtime and OpenVINO
    /// into `.bench/` (5.2 GB), unless they are there, and runs both sides in turn on the same
    /// weights, threads and inputs.
    /// Prints a table of ratios; a target that is missed is no failure, but two sides that do not
    /// leave the same channels are.
    ///
    /// The options are those of `compare`: `--json FILE`, `--device cuda`, `--only prune,forward`,
    /// `--networks resnet50`, `--rounds N`, `--threads N`; `--python PATH` takes a Python that has
    /// the packages, and nothing is installed. `cargo xtask bench -- --help` says more. criterion's
    /// benches are run by `cargo bench`.
    ///
    /// `cargo xtask bench serve` slims ResNet-50, VGG-19, MobileNetV2 and EfficientNet-B0, writes
    /// them as ONNX, and runs them in `slim_serve::Runner`, after `deploy`, in ONNX Runtime and in
    /// OpenVINO: it shows that the outputs are the same, and the ratios of the times.
    /// `--networks resnet50` takes one of them; `cargo xtask bench serve --help` says more.
    ///
    /// `cargo xtask bench choosing --data-dir DIR` trains small networks on CIFAR-10, slims them by
    /// several methods, repairs and fine-tunes them, and runs the reference procedure in PyTorch,
    /// which takes some hours. Rows that are finished are kept; a run that was stopped goes on.
    ///
    /// `cargo xtask bench overlap` measures what averaging gradients over processes costs, behind
    /// `backward` and during it. It needs no Python.
    #[command(verbatim_doc_comment)]
    Bench {
        /// Handed to `compare`, or behind `serve` to the comparison of serving
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },

    /// Check data-parallel training under PyTorch's own torchrun
    ///
    /// On one machine, by two agents, with restarts of processes that die, and with an agent that
    /// is killed. Installs PyTorch and the other packages of `bench` into `.bench/` (5.2 GB),
    /// unless they are there. `cargo xtask test` starts processes itself, and needs no PyTorch.
    #[command(verbatim_doc_comment)]
    Torchrun {
        /// Handed to tests/behaviour/distributed/torchrun.py, such as `--only restart`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },

    /// Look at HTML pages in a headless Chromium
    ///
    /// At 360, 800 and 1600 px, in light and in dark: an error in a script or on the console,
    /// something that is wider than its place, or text that is too pale, is a failure. Where there
    /// is no Chromium, Debian's is installed, as root; where that is not possible either, a warning
    /// says so.
    #[command(verbatim_doc_comment)]
    Look {
        /// The pages
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },

    /// Put the compiled tests into a folder, for a machine that has libtorch and no Rust
    ///
    /// Stripped programs, what they read, and a script that runs them:
    /// `FOLDER/run.sh --device cuda`, with the libtorch 2.11.0 that the other machine has, of the
    /// same architecture, with a C library that is not older than this one's. It is 50 MB at most,
    /// and 110 MB once its programs are unpacked. torch-sys and all else is compiled once more for
    /// it, since programs that are not optimised are too large.
    #[command(verbatim_doc_comment)]
    Bundle {
        /// The folder [default: target/bundle-cuda]
        #[arg(long, value_name = "FOLDER")]
        out: Option<PathBuf>,
    },

    /// Measure what the macros cost at compile time, next to serde's `Serialize`
    ///
    /// `cargo check` of crates with one struct of 10, 100 and 1,000 fields: cold, and with one
    /// field renamed. The crates are in `target/compile-time`, and are compiled without libtorch.
    /// Give it a quiet machine: it takes ten minutes.
    #[command(verbatim_doc_comment)]
    CompileTime {
        /// How often each crate is compiled; medians are printed
        #[arg(long, value_name = "N", default_value_t = 5)]
        runs: usize,
        /// Write the measurements to a file as well
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
    },

    /// Check that modules import only modules that stand before them
    ///
    /// The order of each crate's modules is a list in `xtask/src/rooms.rs`. An import that goes up
    /// is an error with its line, and with the line that makes it a circle.
    #[command(verbatim_doc_comment)]
    Rooms,

    /// Check that no comment and no prose is wider than 100 columns
    ///
    /// In Rust and Markdown; tables, code and links are left alone.
    #[command(verbatim_doc_comment)]
    Columns,

    /// Generate the messages of ONNX from the `onnx.proto` of its package on PyPI
    ///
    /// Writes `slim-runtime/src/serve/export/onnx/proto.rs`. No protoc is needed.
    #[command(verbatim_doc_comment)]
    OnnxProto,

    /// Run every check, in order, up to the first that fails
    ///
    /// setup, rustfmt, the order of modules, the width of lines, clippy, all tests, each bench
    /// once, the documentation, smoke runs of the examples, a look at reports in a browser, every
    /// version of tch that slim-runtime works with, and a dry run of publishing. Warnings are
    /// errors.
    #[command(verbatim_doc_comment)]
    Ci,
}

fn main() -> ExitCode {
    let done = match Cli::parse().task {
        Task::Setup { cuda, onnxruntime } => {
            tasks::set_up(cuda, onnxruntime, setup::Report::Always).map(|()| ExitCode::SUCCESS)
        }
        Task::Demo { args } => tasks::demo(&args),
        Task::Test { args, test_args } => tasks::test(&args, &test_args),
        Task::Bench { args } => bench::run(&args),
        Task::Torchrun { args } => torchrun::check(&args),
        Task::Look { files } => browser::check(&files),
        Task::Bundle { out } => bundle::run(out).map(|()| ExitCode::SUCCESS),
        Task::CompileTime { runs, json } => {
            compile_time::run(runs, json.as_deref()).map(|()| ExitCode::SUCCESS)
        }
        Task::Rooms => rooms::check().map(|()| ExitCode::SUCCESS),
        Task::Columns => columns::check().map(|()| ExitCode::SUCCESS),
        Task::OnnxProto => onnx_proto::generate().map(|()| ExitCode::SUCCESS),
        Task::Ci => tasks::ci(),
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
