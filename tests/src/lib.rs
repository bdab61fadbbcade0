//! portwatch against running kernels: a scripted process that opens sockets (the actor), a reader of
//! portwatch's own output (the watch), and what each mechanism is expected to see (the rungs).
//!
//! Nothing here uses portwatch's library: the suite judges the program from outside, by its JSON lines.
//! Nothing here needs a shell or a tool of the host, so that the scenarios run unchanged in a bare VM.
//!
//! | variable | meaning |
//! |---|---|
//! | `PORTWATCH_BIN`, `PORTWATCH_ACTOR` | the programs, where they do not lie beside the test |
//! | `PORTWATCH_TEST_RUNG` | the rung to force, as `--rung` does |
//! | `PORTWATCH_TEST_ARGS` | more arguments for every start of portwatch |
//! | `PORTWATCH_TEST_SLOWNESS` | a factor on every patience, for emulated machines |
//! | `PORTWATCH_TEST_CONDITION` | what was taken away (`harness::condition`), and so what portwatch is held to |
//! | `PORTWATCH_TEST_REPORT` | a file for the findings, a JSON object a line |
//! | `PORTWATCH_TEST_THREADS` | scenarios at once, where `--test-threads` does not say; more than processors, as most wait |
//! | `PORTWATCH_TEST_FLOOD` | set: also run the flood of ten thousand processes |

pub mod actor;
pub mod address;
pub mod channel;
pub mod harness;
pub mod percentile;
pub mod sys;
