//! What holds for any bytes at all: one property for each way in that is open to hostile bytes.
//!
//! `cargo xtask fuzz` searches for bytes that break one; `cargo test` tries those that were of interest
//! before. A property sits beside the code that it is about, in a module `fuzz`, and panics where it does
//! not hold. None of this is in the program.

pub use crate::check::fuzz::answer;
pub use crate::config::fuzz::config;
pub use crate::daemon::fuzz::line;
pub use crate::decode::fuzz::record;
pub use crate::enrich::fuzz::{files, procfs};
pub use crate::filter::fuzz::filter;
pub use crate::interface::fuzz::control;
pub use crate::interface::metrics::fuzz::scrape;
pub use crate::inventory::fuzz::{inventory, netlink};
pub use crate::kernel::btf::fuzz::btf;
pub use crate::sink::buffer::fuzz::buffer;
pub use crate::sink::transport::http::fuzz::reply;
pub use crate::sink::transport::kafka::fuzz::kafka;
pub use crate::sink::transport::nats::fuzz::nats;
pub use crate::sink::transport::relp::fuzz::relp;
pub use crate::text::fuzz::text;

/// No character of it could move a cursor or forge a line.
pub(crate) fn assert_plain(text: &str) {
    assert!(
        !text.contains(char::is_control),
        "control characters in {text:?}"
    );
    assert_eq!(crate::text::guard(text), text, "characters that deceive");
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::*;

    /// Makes inputs by hand, with their names.
    type Seeds = fn() -> Vec<(&'static str, Vec<u8>)>;

    /// Name, property, seeds.
    type Target = (&'static str, fn(&[u8]), Seeds);

    const TARGETS: [Target; 18] = [
        ("answer", answer, crate::check::fuzz::seeds),
        ("btf", btf, crate::kernel::btf::fuzz::seeds),
        ("buffer", buffer, crate::sink::buffer::fuzz::seeds),
        ("config", config, crate::config::fuzz::seeds),
        ("control", control, crate::interface::fuzz::seeds),
        ("files", files, crate::enrich::fuzz::file_seeds),
        ("filter", filter, crate::filter::fuzz::seeds),
        ("inventory", inventory, crate::inventory::fuzz::seeds),
        ("kafka", kafka, crate::sink::transport::kafka::fuzz::seeds),
        ("line", line, crate::decode::fuzz::seeds),
        ("nats", nats, crate::sink::transport::nats::fuzz::seeds),
        ("netlink", netlink, crate::inventory::fuzz::netlink_seeds),
        ("procfs", procfs, crate::enrich::fuzz::proc_seeds),
        ("record", record, crate::decode::fuzz::seeds),
        ("relp", relp, crate::sink::transport::relp::fuzz::seeds),
        ("reply", reply, crate::sink::transport::http::fuzz::seeds),
        ("scrape", scrape, crate::interface::metrics::fuzz::seeds),
        ("text", text, crate::text::fuzz::seeds),
    ];
    const MAX_FILES: usize = 150;
    const MAX_BYTES: u64 = 1 << 20;

    fn fuzz_dir() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
    }

    fn names(dir: &Path) -> BTreeSet<String> {
        let entries = fs::read_dir(dir).expect("a directory");
        let stem = |path: PathBuf| {
            path.file_stem()
                .and_then(|name| name.to_str().map(str::to_owned))
        };
        entries
            .map(|entry| stem(entry.expect("an entry").path()).expect("a name"))
            .collect()
    }

    /// After a change of what the seeds are made of, `PORTWATCH_SEEDS=write` writes them anew.
    #[test]
    fn every_target_has_its_program_and_its_seeds() {
        let expected: BTreeSet<String> = TARGETS
            .iter()
            .map(|(name, ..)| (*name).to_owned())
            .collect();
        assert_eq!(names(&fuzz_dir().join("fuzz_targets")), expected);
        let write = std::env::var_os("PORTWATCH_SEEDS").is_some_and(|word| word == "write");
        for (name, _, seeds) in TARGETS {
            let dir = fuzz_dir().join("corpus").join(name);
            for (seed, bytes) in seeds() {
                let path = dir.join(format!("seed-{seed}"));
                if write {
                    fs::create_dir_all(&dir).expect("a directory");
                    fs::write(&path, &bytes).expect("a seed");
                }
                let committed = fs::read(&path).unwrap_or_default();
                assert!(
                    committed == bytes,
                    "{} is stale; run this test with PORTWATCH_SEEDS=write",
                    path.display()
                );
            }
        }
        assert_eq!(names(&fuzz_dir().join("corpus")), expected);
    }

    #[test]
    fn the_properties_hold_for_the_committed_corpora() {
        let mut total = 0;
        for (name, property, _) in TARGETS {
            let dir = fuzz_dir().join("corpus").join(name);
            let files: Vec<PathBuf> = fs::read_dir(&dir)
                .expect("a corpus")
                .map(|entry| entry.expect("an entry").path())
                .collect();
            assert!(files.len() <= MAX_FILES, "{name} has {} files", files.len());
            for path in files {
                let bytes = fs::read(&path).expect("an input");
                total += bytes.len() as u64;
                // Shown when the property fails.
                println!("{}", path.display());
                property(&bytes);
            }
        }
        assert!(total < MAX_BYTES, "the corpora have {total} bytes");
    }
}
