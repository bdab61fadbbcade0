//! One flood: how the kernel answers it, and what the program that makes it says of it.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::super::lab::Lab;

/// How the kernel answers SYNs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// By cookies, as every kernel does in a flood unless it was told not to: nothing is remembered of a SYN.
    Cookie,
    /// By a request for each, which takes a queue that no server has: what each SYN may cost at most.
    Request,
}

/// A flood that is over.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Poured {
    /// SYNs that were sent.
    pub(super) syns: f64,
    /// How long it took.
    pub(super) seconds: f64,
    /// What the senders used of processors, the kernel's work with the SYNs among it.
    pub(super) cpu_seconds: f64,
    /// SYNs that were answered by a cookie.
    pub(super) cookies: f64,
}

impl Answer {
    /// Both.
    pub(super) const ALL: [Self; 2] = [Self::Cookie, Self::Request];

    /// In words.
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Cookie => "answered by cookies",
            Self::Request => "each a request",
        }
    }

    /// Arguments that the program takes for it.
    pub(super) const fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Cookie => &[],
            Self::Request => &["--requests"],
        }
    }

    /// Floods for so long.
    pub(super) fn pour(self, lab: &Lab, time: Duration) -> Result<Poured> {
        let millis = time.as_millis().to_string();
        let arguments = [&["syns", "--millis", &millis], self.arguments()].concat();
        Poured::parse(&lab.measure("flood", &arguments)?)
    }
}

impl Poured {
    /// Of the object that the program prints. Pure.
    pub(super) fn parse(told: &Value) -> Result<Self> {
        let number = |key| {
            let number = told.get(key).and_then(Value::as_f64);
            number.with_context(|| format!("flood does not say {key}: {told}"))
        };
        let poured = Self {
            syns: number("syns")?,
            seconds: number("seconds")?,
            cpu_seconds: number("cpu_seconds")?,
            cookies: number("cookies")?,
        };
        let all = [poured.syns, poured.seconds, poured.cpu_seconds];
        ensure!(all.iter().all(|&one| one > 0.0), "no flood: {told}");
        Ok(poured)
    }

    /// SYNs a second.
    pub(super) fn rate(self) -> f64 {
        self.syns / self.seconds
    }

    /// SYNs that one processor gets through in a second of its own.
    pub(super) fn per_processor(self) -> f64 {
        self.syns / self.cpu_seconds
    }

    /// Share that was answered by a cookie, in percent.
    pub(super) fn by_cookie(self) -> f64 {
        self.cookies / self.syns * 100.0
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_flood_is_read_and_divided() {
        let told =
            json!({"syns": 3_000_000, "seconds": 2.0, "cpu_seconds": 3.0, "cookies": 1_500_000});
        let poured = Poured::parse(&told).expect("a flood");
        assert_eq!(poured.rate(), 1.5e6);
        assert_eq!(poured.per_processor(), 1e6);
        assert_eq!(poured.by_cookie(), 50.0);
    }

    #[test]
    fn a_flood_without_syns_is_an_error_and_not_a_rate() {
        for told in [
            json!({"syns": 0, "seconds": 2.0, "cpu_seconds": 3.0, "cookies": 0}),
            json!({"syns": 9, "seconds": 2.0, "cookies": 0}),
            json!(null),
        ] {
            assert!(Poured::parse(&told).is_err(), "{told}");
        }
    }
}
