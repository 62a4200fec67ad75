//! A crate of nothing but a build script, which writes random networks, and a test that slims them.
