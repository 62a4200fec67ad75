// The code of the tour runs as doctests of the package `slim-tests`, which contains its network.
#![cfg_attr(not(doctest), doc = include_str!("../../docs/tour.md"))]
#![cfg_attr(doctest, doc = "A tour.")]
