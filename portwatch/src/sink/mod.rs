//! Where events go: the bus and its bounded readers.
