//! Configuration: defaults, file, checks.
