//! Reads what libtest and libtest-mimic print, and adds it up.

use std::ops::AddAssign;

/// Numbers of tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) ignored: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
    }
}

/// The counts of a `test result: …` line; `None` for every other line.
pub(crate) fn counts(line: &str) -> Option<Counts> {
    let (_, numbers) = line
        .trim()
        .strip_prefix("test result: ")?
        .split_once(". ")?;
    let mut counts = Counts::default();
    for part in numbers.split(';') {
        let Some((number, what)) = part.trim().split_once(' ') else {
            continue;
        };
        let Ok(number) = number.parse() else { continue };
        match what {
            "passed" => counts.passed = number,
            "failed" => counts.failed = number,
            "ignored" => counts.ignored = number,
            _ => {}
        }
    }
    Some(counts)
}

/// The name in a `test NAME ... FAILED` line.
pub(crate) fn failure(line: &str) -> Option<&str> {
    let name = line
        .trim()
        .strip_prefix("test ")?
        .strip_suffix("FAILED")?
        .trim_end();
    Some(name.strip_suffix("...").unwrap_or(name).trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_line_is_counted_and_others_are_not() {
        let line = "test result: FAILED. 31 passed; 2 failed; 1 ignored; 0 measured; 4 filtered out; finished in 1.50s\r";
        assert_eq!(
            counts(line),
            Some(Counts {
                passed: 31,
                failed: 2,
                ignored: 1
            })
        );
        assert_eq!(
            counts("test result: ok. 3 passed; 0 failed").map(|c| c.passed),
            Some(3)
        );
        for line in ["running 3 tests", "test result", "test tcp ... ok", ""] {
            assert_eq!(counts(line), None, "{line}");
        }
    }

    #[test]
    fn a_failed_test_is_named() {
        assert_eq!(
            failure("test tcp::listen  ... FAILED\r"),
            Some("tcp::listen")
        );
        assert_eq!(failure("test tcp::listen  ... ok"), None);
        assert_eq!(failure("test result: FAILED. 0 passed; 1 failed"), None);
    }
}
