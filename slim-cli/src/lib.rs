//! The program `slim`, and the modules that its commands share: networks by name, data sets,
//! training, files, reports.

pub mod commands;
pub mod data;
pub mod device;
pub mod files;
pub mod measure;
pub mod model;
pub mod network;
pub mod numbers;
pub mod options;
pub mod passes;
pub mod processes;
pub mod program;
pub mod prune;
pub mod report;
pub mod slimming;
pub mod terminal;
pub mod train;
