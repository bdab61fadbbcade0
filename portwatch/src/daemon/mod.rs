//! Wiring: the pipeline task, start-up, shutdown.
