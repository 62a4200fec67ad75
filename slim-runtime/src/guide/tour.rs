// Its code runs as doctests of the package `slim-tests`, which has the network that it is about.
#![cfg_attr(not(doctest), doc = include_str!("../../docs/tour.md"))]
#![cfg_attr(doctest, doc = "A tour.")]
