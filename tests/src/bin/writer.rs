//! Writes versions 1, 2, 3, … of a file, until it is killed or has written `TIMES` versions:
//! `writer FILE ELEMENTS TIMES`.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::PathBuf;

use slim_tests::versioned::write;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [file, elements, times] = &arguments[..] else { panic!("writer FILE ELEMENTS TIMES") };
    let (file, elements) = (PathBuf::from(file), elements.parse().unwrap());
    for version in 1..=times.parse::<u32>().unwrap() {
        match write(&file, elements, f64::from(version)) {
            Ok(()) => println!("written {version}"),
            Err(error) => println!("refused: {error:?}"),
        }
    }
}
