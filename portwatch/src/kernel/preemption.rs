//! May this kernel preempt a probe in the middle?

use std::io::Read as _;
use std::path::Path;

use flate2::read::GzDecoder;

use super::read;

/// Longer than any kernel's configuration is.
const CONFIG_MAX: u64 = 1 << 20;

/// Asks in this order: the model that was chosen at boot, the one that the kernel was configured with, and
/// whether it has any but none. When in doubt it may, which costs a little and loses nothing.
pub(super) fn may_preempt(release: &str, version: &str) -> bool {
    version.contains("PREEMPT")
        && chosen(&read::text(Path::new("/proc/cmdline"), 8192).unwrap_or_default())
            .or_else(|| configured(&config(release)?))
            .unwrap_or(true)
}

/// `preempt=` of the kernel's command line; the last one counts.
fn chosen(cmdline: &str) -> Option<bool> {
    let words = cmdline.split_ascii_whitespace();
    let model = words
        .filter_map(|word| word.strip_prefix("preempt="))
        .next_back()?;
    Some(!matches!(model, "none" | "voluntary"))
}

/// The model that a kernel's configuration makes the default.
fn configured(config: &str) -> Option<bool> {
    let is_set = |option: &str| {
        let is_it = |line: &str| line.strip_prefix(option) == Some("=y");
        config.lines().any(is_it)
    };
    if is_set("CONFIG_PREEMPT") || is_set("CONFIG_PREEMPT_LAZY") || is_set("CONFIG_PREEMPT_RT") {
        return Some(true);
    }
    (is_set("CONFIG_PREEMPT_NONE") || is_set("CONFIG_PREEMPT_VOLUNTARY")).then_some(false)
}

/// The configuration of this kernel, where it is kept.
fn config(release: &str) -> Option<String> {
    let beside = [
        format!("/boot/config-{release}"),
        format!("/lib/modules/{release}/config"),
    ];
    let plain = |path: &String| read::text(Path::new(path), CONFIG_MAX).ok();
    if let Some(text) = beside.iter().find_map(plain) {
        return Some(text);
    }
    let packed = std::fs::File::open("/proc/config.gz").ok()?;
    let mut text = String::new();
    let mut unpacked = GzDecoder::new(packed).take(CONFIG_MAX);
    unpacked.read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::{chosen, config, configured, may_preempt};

    #[test]
    fn the_command_line_decides() {
        assert_eq!(chosen("root=/dev/sda quiet\n"), None);
        assert_eq!(chosen("preempt=none preempt=lazy\n"), Some(true));
        assert_eq!(chosen("quiet preempt=voluntary\n"), Some(false));
        assert_eq!(chosen("preempt=full"), Some(true));
    }

    #[test]
    fn then_the_configuration() {
        let dynamic = "CONFIG_PREEMPT_BUILD=y\n# CONFIG_PREEMPT is not set\nCONFIG_PREEMPT_NONE=y\nCONFIG_PREEMPT_DYNAMIC=y\n";
        assert_eq!(configured(dynamic), Some(false));
        assert_eq!(configured("CONFIG_PREEMPT_LAZY=y\n"), Some(true));
        assert_eq!(configured("CONFIG_PREEMPT_VOLUNTARY=y\n"), Some(false));
        assert_eq!(configured("CONFIG_PREEMPT=y\n"), Some(true));
        assert_eq!(configured("CONFIG_SMP=y\n"), None);
    }

    #[test]
    fn a_kernel_that_knows_no_preemption_has_none() {
        assert!(!may_preempt("5.10.0", "#1 SMP Debian 5.10.1"));
    }

    #[test]
    fn a_packed_configuration_is_read() {
        let release = rustix::system::uname()
            .release()
            .to_string_lossy()
            .into_owned();
        match config(&release) {
            Some(config) => assert!(config.contains("CONFIG_BPF"), "{} bytes", config.len()),
            None => eprintln!("skipped: this kernel keeps its configuration nowhere"),
        }
    }
}
