//! Nothing but a build script, which writes random networks, and the test that slims them.
