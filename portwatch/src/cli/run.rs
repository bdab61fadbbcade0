//! `portwatch run`: the daemon, in the foreground.

use tracing::level_filters::LevelFilter;

use super::args;
use super::exit::Exit;
use super::failure::Failure;
use super::log;
use crate::config::{self, Config, Paths};
use crate::daemon::reload::Load;
use crate::daemon::service::{self, Service};
use crate::daemon::{Approving, Options};
use crate::probe::load::KernelLogLevel;
use crate::probe::plan::Rung;

pub(super) fn run(args: &args::Run, paths: &Paths) -> Result<Exit, Failure> {
    log::start(LevelFilter::INFO);
    let loaded = config::load(paths)?;
    for file in &loaded.files {
        tracing::info!(file = %file.display(), "configured");
    }
    service::run(Service {
        options: options(
            args.probing,
            &loaded.config,
            Approving {
                state_dir: paths.state_dir.clone(),
                learn: Some(loaded.config.baseline.learn),
            },
        ),
        runtime_dir: paths.runtime_dir.clone(),
        config: loaded.config,
        load: Load::new({
            let paths = paths.clone();
            move || Ok(config::load(&paths)?.config)
        }),
    })?;
    Ok(Exit::Ok)
}

/// How to watch: the configuration, then the command line.
pub(super) fn options(probing: args::Probing, config: &Config, approving: Approving) -> Options {
    let rung = probing.rung.map(|rung| Rung::of(rung.mechanism()));
    let level = probing
        .kernel_log
        .map(|level| KernelLogLevel(level.level()));
    Options::new(config, approving, rung, level)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_wins_and_says_the_same_as_the_plan() {
        let none = args::Probing::default();
        let approving = || Approving {
            state_dir: "/nonexistent".into(),
            learn: None,
        };
        assert_eq!(options(none, &Config::default(), approving()).rung, None);
        let probing = args::Probing {
            kernel_log: Some(args::KernelLog::Trace),
            rung: Some(args::Rung::TpBtf),
        };
        let options = options(probing, &Config::default(), approving());
        assert_eq!(options.rung, Some(Rung::TpBtf));
        assert_eq!(options.log, KernelLogLevel(5));
        for rung in <args::Rung as clap::ValueEnum>::value_variants() {
            let name = clap::ValueEnum::to_possible_value(rung).expect("a name");
            assert_eq!(Rung::of(rung.mechanism()).as_str(), name.get_name());
        }
    }
}
