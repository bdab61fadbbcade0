//! How scenarios are told, run and counted: one portwatch is shared by all, started by the first.

use std::process::ExitCode;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use anyhow::{Result, anyhow};
use libtest_mimic::{Arguments, Completion, Failed, Trial};

use super::condition::{self, Claim, Condition};
use super::daemon::{Daemon, Home};
use super::deprived;
use super::report::Report;
use super::rungs::{Capability, Rung, Sees};
use super::watch::Watch;

/// What became of a scenario that did not fail.
#[derive(Debug)]
pub enum Outcome {
    /// It ran.
    Done,
    /// This machine or rung cannot run it, and why.
    Skipped(String),
}

impl From<()> for Outcome {
    fn from((): ()) -> Self {
        Self::Done
    }
}

/// A scenario: its name, and what it does.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// `capability::what_happens`.
    pub name: &'static str,
    /// Does it, and judges what portwatch says.
    pub run: fn(&Context) -> Result<Outcome>,
    /// With which others it can run at a time.
    pub company: Company,
    /// Whose doing it is about.
    pub part: Part,
}

/// With which others a scenario can run at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Company {
    /// With as many as there are threads; they share a portwatch.
    Together,
    /// With [`SIDE_BY_SIDE`] of its like, when the others are done: it mostly waits, in a network namespace of its own, for what a
    /// portwatch of its own says of a storm that it makes there. It must not use the shared portwatch.
    Beside,
    /// By itself, last: it floods, so that others could not trust their clocks, nor the shared portwatch its rings. It must not use
    /// the shared portwatch.
    Alone,
}

/// So many that mostly wait run at a time, however many processors there are.
const SIDE_BY_SIDE: usize = 4;

/// Whose doing a scenario is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The kernel has a part in it: it may differ on each, on each rung, and with each thing that is taken away.
    Kernel,
    /// The same, and what it makes is a line of the table of storms.
    Storm,
    /// portwatch's own, whatever the kernel is: mails, sinks, files. Emulated, these take as long as all others.
    Userland,
}

/// Set to `kernel`, it leaves out what the kernel has no part in; set to `storm`, all but what is in the table of storms.
const PART: &str = "PORTWATCH_TEST_PART";

/// What every scenario is given.
#[derive(Debug, Default)]
pub struct Context {
    rung: Option<String>,
    condition: Option<&'static Condition>,
    report: Report,
    shared: OnceLock<Result<Watch, String>>,
    running: OnceLock<Result<Running, String>>,
    starting: Mutex<()>,
}

/// A daemon with its folders.
#[derive(Debug)]
pub struct Running {
    /// Its folders.
    pub home: Home,
    /// It.
    pub daemon: Daemon,
}

impl Context {
    /// The shared portwatch, started at the first call.
    ///
    /// # Errors
    /// It did not start; then no scenario runs.
    pub fn watch(&self) -> Result<&Watch> {
        // get_or_init would do, but a start that panics must not start again in every scenario.
        let starting = self.starting.lock().unwrap_or_else(PoisonError::into_inner);
        let watch = self
            .shared
            .get_or_init(|| Watch::start(self.rung(), &[]).map_err(|error| format!("{error:#}")));
        drop(starting);
        watch
            .as_ref()
            .map_err(|told| anyhow!("portwatch did not start: {told}"))
    }

    /// A shared daemon without a configuration, for scenarios that ask it for what they made themselves and change nothing about
    /// it. A start takes seconds on an emulated machine. Started at the first call.
    ///
    /// # Errors
    /// It did not start; then none of them runs.
    pub fn running(&self) -> Result<&Running> {
        let starting = self.starting.lock().unwrap_or_else(PoisonError::into_inner);
        let running = self.running.get_or_init(|| {
            let home = Home::new().map_err(|error| format!("{error:#}"))?;
            let daemon = home
                .start(self.rung())
                .map_err(|error| format!("{error:#}"))?;
            Ok(Running { home, daemon })
        });
        drop(starting);
        running
            .as_ref()
            .map_err(|told| anyhow!("the shared daemon did not start: {told}"))
    }

    /// A portwatch of one's own.
    ///
    /// # Errors
    /// It did not start.
    pub fn fresh(&self, extra: &[&str]) -> Result<Watch> {
        Watch::start(self.rung(), extra)
    }

    /// The rung asked for, by name.
    #[must_use]
    pub fn rung(&self) -> Option<&str> {
        self.rung.as_deref()
    }

    /// Reports a finding that is more than that a scenario passed.
    pub fn found(&self, key: &str, value: &serde_json::Value) {
        self.report.find(key, value);
    }

    /// What was taken away from portwatch.
    #[must_use]
    pub const fn condition(&self) -> Option<&'static Condition> {
        self.condition
    }

    /// What the rung in use sees of this.
    ///
    /// # Errors
    /// portwatch did not start.
    pub fn sees(&self, capability: Capability) -> Result<Sees> {
        Ok(self.watch()?.sees(capability))
    }

    /// Wants portwatch to have said that it cannot see this, or only later: in a `sensor.degraded`,
    /// or in `doctor`.
    ///
    /// # Errors
    /// It kept silent.
    pub fn admits(&self, capability: Capability) -> Result<Outcome> {
        let watch = self.watch()?;
        let words = capability.words();
        let names_it = |text: &str| {
            let text = text.to_lowercase();
            words.iter().any(|word| text.contains(word))
        };
        let statements = watch.all(|event| {
            event.kind() == "sensor.degraded"
                && ["signal", "blind_to", "reason"]
                    .iter()
                    .any(|key| names_it(event.text(&format!("sensor.{key}"))))
        });
        let rung = watch.rung().name();
        if !statements.is_empty() {
            return Ok(Outcome::Skipped(format!(
                "{rung} does not see it, and says so"
            )));
        }
        let doctor = deprived::doctor(self.rung())?;
        let told = String::from_utf8_lossy(&doctor.stdout);
        if names_it(&told) {
            return Ok(Outcome::Skipped(format!(
                "{rung} does not see it, and doctor says so"
            )));
        }
        Err(anyhow!(
            "rung {rung} does not see {capability:?}, but neither sensor.degraded nor doctor says \
             so (none of {words:?} in either); doctor: {told}"
        ))
    }

    /// Reports what portwatch said of itself.
    fn tell(&self) {
        if let Some(Ok(watch)) = self.shared.get() {
            self.report.find("rung", &watch.rung().name().into());
            for kind in ["sensor.ready", "sensor.degraded"] {
                for event in watch.all(|event| event.kind() == kind) {
                    self.report.find(kind, event.at("sensor"));
                }
            }
        }
        if let Ok(doctor) = deprived::doctor(self.rung())
            && let Ok(value) = serde_json::from_slice(&doctor.stdout)
        {
            self.report.find("doctor", &value);
        }
    }

    /// Judges the shared stream as a whole, after the last scenario.
    fn conclude(&self) -> Result<()> {
        let Some(Ok(watch)) = self.shared.get() else {
            return Ok(());
        };
        let status = watch.interrupt()?;
        if status.code() != Some(130) {
            return Err(anyhow!(
                "Ctrl-C ended it with {status}: {}",
                watch.complaints()
            ));
        }
        if let Some(state) = watch
            .all(|event| event.kind() == "connection.state")
            .first()
        {
            return Err(anyhow!("states were streamed unasked: {}", state.value()));
        }
        if let Some(gap) = watch.all(|event| event.kind() == "gap").first() {
            return Err(anyhow!("events were lost: {}", gap.value()));
        }
        watch.check_stream()
    }
}

/// Runs scenarios as a test binary does: `[--rung RUNG] [--part kernel|storm] [libtest options] [FILTER]`. The rung can also
/// come from `PORTWATCH_TEST_RUNG`, the part from `PORTWATCH_TEST_PART`.
#[must_use]
pub fn run(scenarios: &[Scenario]) -> ExitCode {
    let mut rest: Vec<String> = std::env::args().collect();
    let rung = asked_option(&mut rest, "--rung", "PORTWATCH_TEST_RUNG");
    let asked = asked_option(&mut rest, "--part", PART).unwrap_or_default();
    if let Some(unknown) = rung.as_deref().filter(|name| Rung::named(name).is_none()) {
        eprintln!(
            "no rung {unknown:?}; there are {}",
            Rung::ALL.map(Rung::name).join(", ")
        );
        return ExitCode::from(64);
    }
    let condition = match asked_condition() {
        Ok(condition) => condition,
        Err(unknown) => {
            eprintln!("{unknown}");
            return ExitCode::from(64);
        }
    };
    if let Err(error) = crate::sys::raise_descriptor_limit() {
        eprintln!("the limit of descriptors stays as it is: {error}");
    }
    let mut arguments = Arguments::from_iter(rest);
    let threads = std::env::var("PORTWATCH_TEST_THREADS").ok();
    arguments.test_threads = arguments
        .test_threads
        .or_else(|| threads.and_then(|number| number.parse().ok()));
    if !["", "kernel", "storm"].contains(&asked.as_str()) {
        eprintln!("no part {asked:?}; there are kernel, storm");
        return ExitCode::from(64);
    }
    let is_asked = |scenario: &&Scenario| match asked.as_str() {
        "kernel" => scenario.part != Part::Userland,
        "storm" => scenario.part == Part::Storm,
        _ => true,
    };
    let wanted: Vec<Scenario> = scenarios.iter().filter(is_asked).copied().collect();
    let of = |company: Company| -> Vec<Scenario> {
        let these = wanted.iter().filter(|one| one.company == company);
        these.copied().collect()
    };
    let mut together = of(Company::Together);
    together.splice(0..0, condition.map(|_| deprived::SCENARIO));
    // Where portwatch has to refuse, there is nothing that it could see.
    if condition.is_some_and(|one| matches!(one.claim, Claim::Refuses(_))) {
        together.truncate(1);
        return run_part(&together, rung, condition, &arguments);
    }
    let mut all = run_part(&together, rung.clone(), condition, &arguments);
    for (company, threads) in [(Company::Beside, SIDE_BY_SIDE), (Company::Alone, 1)] {
        let these = of(company);
        if these.is_empty() {
            continue;
        }
        arguments.test_threads = Some(threads);
        let part = run_part(&these, rung.clone(), condition, &arguments);
        if all == ExitCode::SUCCESS {
            all = part;
        }
    }
    all
}

/// Runs scenarios that share a portwatch, and judges its stream at the end.
fn run_part(
    scenarios: &[Scenario],
    rung: Option<String>,
    condition: Option<&'static Condition>,
    arguments: &Arguments,
) -> ExitCode {
    let context = Arc::new(Context {
        rung,
        condition,
        report: Report::asked_for(),
        ..Context::default()
    });
    let trials = scenarios.iter().map(|scenario| {
        let (context, scenario) = (Arc::clone(&context), *scenario);
        Trial::ignorable_test(scenario.name, move || perform(scenario, &context))
    });
    let conclusion = libtest_mimic::run(arguments, trials.collect());
    // Others flood, or make storms: the shared portwatch, which may have been asked for its rung, loses then.
    if scenarios
        .iter()
        .all(|scenario| scenario.company != Company::Together)
    {
        return conclusion.exit_code();
    }
    if context.report.is_read() {
        context.tell();
    }
    if let Err(error) = context.conclude() {
        eprintln!("\nthe shared stream as a whole: {error:#}");
        context.report.find("stream", &format!("{error:#}").into());
        return ExitCode::from(101);
    }
    conclusion.exit_code()
}

/// Runs one scenario and reports it.
fn perform(scenario: Scenario, context: &Context) -> Result<Completion, Failed> {
    context.report.begin(scenario.name);
    let started = Instant::now();
    let result = as_root(scenario.run, context).or_else(|error| {
        let excused = context
            .condition
            .is_some_and(|condition| condition.excuses(scenario.name, &format!("{error:#}")));
        match excused {
            true => Ok(Outcome::Skipped(
                "it is not known here, and the event says so".to_owned(),
            )),
            false => Err(error),
        }
    });
    let (word, why) = match &result {
        Ok(Outcome::Done) => ("passed", String::new()),
        Ok(Outcome::Skipped(why)) => ("skipped", why.clone()),
        Err(error) => ("failed", format!("{error:#}")),
    };
    context
        .report
        .end(scenario.name, word, &why, started.elapsed());
    match result {
        Ok(Outcome::Done) => Ok(Completion::Completed),
        Ok(Outcome::Skipped(why)) => Ok(Completion::ignored_with(why)),
        Err(error) => Err(Failed::from(format!("{error:#}"))),
    }
}

fn asked_condition() -> Result<Option<&'static Condition>, String> {
    let Ok(name) = std::env::var("PORTWATCH_TEST_CONDITION") else {
        return Ok(None);
    };
    let known = || condition::ALL.map(|one| one.name).join(", ");
    condition::named(&name)
        .map(Some)
        .ok_or_else(|| format!("no condition {name:?}; there are {}", known()))
}

/// Probes are for root; a plain `cargo test` of a user says so instead of failing.
fn as_root(run: fn(&Context) -> Result<Outcome>, context: &Context) -> Result<Outcome> {
    if !rustix::process::geteuid().is_root() {
        return Ok(Outcome::Skipped("needs root".to_owned()));
    }
    run(context)
}

/// Takes `--name VALUE` or `--name=VALUE` out of the arguments, or else what the environment has.
fn asked_option(arguments: &mut Vec<String>, name: &str, variable: &str) -> Option<String> {
    let mut value = std::env::var(variable).ok();
    let mut rest = Vec::new();
    let mut words = std::mem::take(arguments).into_iter();
    while let Some(word) = words.next() {
        match word.strip_prefix(name) {
            Some("") => value = words.next(),
            Some(told) if told.starts_with('=') => value = Some(told[1..].to_owned()),
            _ => rest.push(word),
        }
    }
    *arguments = rest;
    value.filter(|value| !value.is_empty())
}
