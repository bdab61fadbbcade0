//! Carries a plan out: loads the object with this kernel's offsets, attaches, and steps down a rung
//! where the kernel refuses.

use std::cell::OnceCell;
use std::fs::File;

use aya::programs::{CgroupAttachMode, Program as Loaded, ProgramError};
use aya::{Btf, Ebpf, EbpfLoader, Endianness};
use portwatch_common::offsets::Offsets;
use portwatch_common::settings::Settings;
use portwatch_common::storm::WINDOW_NS;
use thiserror::Error;
use zerocopy::IntoBytes as _;

use super::object::{Object, names};
use super::plan::{Attach, ImpossibleRung, Plan, Program, Rung, plan};
use super::prober::{KernelProber, Trial};
use super::sensors::Sensors;
use super::spare;
use super::tracefs_view::with_tracefs;
use crate::kernel::features::Features;

/// `SOCKFS_MAGIC`, `include/uapi/linux/magic.h`.
const SOCKFS_MAGIC: u32 = 0x534f_434b;

/// A link to a cgroup always stands beside others; the kernel refuses the flag that would ask for it.
const LINK: CgroupAttachMode = CgroupAttachMode::Single;

/// A tick of 250 a second, which most kernels have.
const TICK_NS: u32 = 4_000_000;

/// A plan that keeps failing ends here: more than the programs there are.
const MAX_ATTEMPTS: usize = 64;

/// Bytes of each ring; powers of two, at least a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Listeners.
    pub critical: u32,
    /// Process lifecycles.
    pub process: u32,
    /// Connection states.
    pub bulk: u32,
}

impl Sizes {
    /// For asking what the kernel permits.
    const SMALLEST: Self = Self {
        critical: 4096,
        process: 4096,
        bulk: 4096,
    };
}

/// Level of the kernel side's own diagnostics (`aya-log`): 0 off, 1 error … 5 trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelLogLevel(pub u8);

/// How to load.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// Ring sizes.
    pub sizes: Sizes,
    /// `--rung`.
    pub rung: Option<Rung>,
    /// `--kernel-log`.
    pub log: KernelLogLevel,
}

/// Why there are no sensors.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The rung that was asked for cannot be had.
    #[error(transparent)]
    Rung(#[from] ImpossibleRung),
    /// The object was refused as a whole (maps).
    #[error("the kernel refused the probes' maps: {0}; `portwatch doctor` says what is missing")]
    Object(String),
    /// It cannot be unpacked.
    #[error("the program's own file is damaged: {0}; install it anew")]
    Damaged(#[source] std::io::Error),
    /// A program is not in the object.
    #[error("the eBPF object has no program {0}: it was built from other sources")]
    NoSuchProgram(String),
    /// The kernel refused a program.
    #[error("{}", first_line(.0))]
    Program(#[source] ProgramError),
    /// There is no cgroup2 to attach to.
    #[error("no cgroup2 is mounted")]
    NoCgroup,
    /// The loader's thread failed.
    #[error("the probes could not be loaded: {0}")]
    Thread(#[source] std::io::Error),
}

impl From<ProgramError> for LoadError {
    fn from(error: ProgramError) -> Self {
        Self::Program(error)
    }
}

/// What is loaded, and by which plan.
pub struct Outcome {
    /// The features, with what the kernel said when asked.
    pub features: Features,
    /// The plan that holds.
    pub plan: Plan,
    /// The sensors, none when the plan needs no program.
    pub sensors: Option<Sensors>,
}

/// Asks the kernel what it permits, plans, loads and attaches; each refusal leads to the next plan.
///
/// # Errors
/// When a forced rung is impossible, or not even maps can be made.
pub fn load(features: Features, request: Request) -> Result<Outcome, LoadError> {
    let needed = features.tracefs.is_ok();
    with_tracefs(needed, move || load_here(features, request)).map_err(LoadError::Thread)?
}

/// Only asks the kernel what it permits: for `doctor`.
///
/// # Errors
/// As [`load`].
pub fn ask(mut features: Features, rung: Option<Rung>) -> Result<(Features, Plan), LoadError> {
    let needed = features.tracefs.is_ok();
    with_tracefs(needed, move || {
        let (offsets, settings) = (features.offsets, settings(&features, None));
        without_maps(
            ask_kernel(&mut features, &offsets, &settings),
            &mut features,
        )?;
        let plan = plan(&features, rung)?;
        Ok((features, plan))
    })
    .map_err(LoadError::Thread)?
}

fn load_here(mut features: Features, request: Request) -> Result<Outcome, LoadError> {
    // What the maker of objects borrows is older than it: settings, one for each attempt.
    let (offsets, asking) = (features.offsets, settings(&features, None));
    let attempts = [const { OnceCell::new() }; MAX_ATTEMPTS];
    let asked = ask_kernel(&mut features, &offsets, &asking);
    let asked = without_maps(asked, &mut features)?.flatten();
    let mut plan = plan(&features, request.rung)?;
    let Some(mut asked) = asked else {
        return Ok(Outcome {
            features,
            plan,
            sensors: None,
        });
    };
    if features.limits_locked_memory() {
        // Both objects' maps at once may be more than is permitted.
        asked.trial = None;
    }
    for attempt in &attempts {
        let programs = plan.programs();
        if programs.is_empty() {
            break;
        }
        let settings = attempt.get_or_init(|| settings(&features, Some(&plan)));
        let made = asked.maker.make(request.sizes, settings, &request.log);
        let attached = made
            .map_err(|error| (None, error))
            .and_then(|ebpf| attach_all(&features, &programs, &asked.btf, ebpf));
        match attached {
            Ok(ebpf) => {
                let sensors = Sensors::new(ebpf, &programs)?;
                return Ok(Outcome {
                    features,
                    plan,
                    sensors: Some(sensors),
                });
            }
            Err((Some(program), error)) => {
                tracing::debug!(program, %error, "stepping down a rung");
                plan = plan.demote_program(program, &error.to_string());
            }
            Err((None, error)) => {
                without_maps(Err::<(), _>(error), &mut features)?;
                plan = self::plan(&features, request.rung)?;
                break;
            }
        }
    }
    Ok(Outcome {
        features,
        plan,
        sensors: None,
    })
}

/// Maps that are refused (for want of locked memory, before Linux 5.11) are a reason to look
/// again from time to time, and none to see nothing.
fn without_maps<T>(
    result: Result<T, LoadError>,
    features: &mut Features,
) -> Result<Option<T>, LoadError> {
    match result {
        Err(LoadError::Object(reason)) => {
            tracing::warn!(reason, "the probes' maps are refused");
            features.maps = Err(format!("the kernel refuses the probes' maps: {reason}"));
            Ok(None)
        }
        other => other.map(Some),
    }
}

/// What is left of asking: what attaching needs, and what was tried.
struct Asked<'a> {
    btf: Btf,
    maker: Maker<'a>,
    trial: Option<Trial>,
}

/// Lets the kernel answer for each kind of program. Gives what programs attach to, when BTF tells.
fn ask_kernel<'a>(
    features: &mut Features,
    offsets: &'a Offsets,
    settings: &'a Settings,
) -> Result<Option<Asked<'a>>, LoadError> {
    if features.btf.is_err() {
        return Ok(None);
    }
    let types = features.attach_types.to_bytes();
    let Ok(btf) = Btf::parse(&types, Endianness::default()) else {
        return Ok(None);
    };
    drop(types);
    let mut maker = Maker::new(offsets)?;
    let trial = maker.make(Sizes::SMALLEST, settings, &KernelLogLevel(0))?;
    let mut prober = KernelProber::new(features, &btf, trial);
    features.ask(&mut prober);
    let trial = Some(prober.into_trial());
    Ok(Some(Asked { btf, maker, trial }))
}

/// The constants of the probes; without a plan, nothing is reported by system call tracepoints.
fn settings(features: &Features, plan: Option<&Plan>) -> Settings {
    let tick_ns = tick_ns();
    Settings {
        cookie_helper: u32::from(features.has_cookie_helper()),
        listen_tentative: plan.map_or(0, |plan| u32::from(plan.listen_tentative())),
        syscall_signals: plan.map_or(0, Plan::syscall_signals),
        sockfs_magic: SOCKFS_MAGIC,
        spares: u32::from(features.preempts_probes),
        sock_ops: plan.map_or(0, Plan::sock_ops_signals),
        tick_ns,
        window_shift: window_shift(tick_ns),
        nests: u32::from(!features.skips_nested()),
    }
}

/// Length of the kernel's tick, which is the grain of its coarse clocks.
fn tick_ns() -> u32 {
    let grain = rustix::time::clock_getres(rustix::time::ClockId::MonotonicCoarse);
    u32::try_from(grain.tv_nsec).unwrap_or(TICK_NS)
}

/// Two to the power of this many ticks come nearest to [`WINDOW_NS`].
fn window_shift(tick_ns: u32) -> u32 {
    let off = |shift: &u32| (u64::from(tick_ns) << shift).abs_diff(WINDOW_NS);
    (0..32).min_by_key(off).unwrap_or_default()
}

/// Makes the maps of the object, as often as it is asked to. One for all: aya reads and takes apart the types of the whole kernel
/// when its loader is made, although it is told not to use them, and that takes longer than the object itself.
struct Maker<'a> {
    loader: EbpfLoader<'a>,
    object: Object,
}

impl<'a> Maker<'a> {
    fn new(offsets: &'a Offsets) -> Result<Self, LoadError> {
        let object = Object::unpack().map_err(LoadError::Damaged)?;
        let mut loader = EbpfLoader::new();
        loader
            .btf(None)
            .override_global(names::OFFSETS, offsets.as_bytes(), true);
        Ok(Self { loader, object })
    }

    /// Parses the object and makes its maps.
    fn make(
        &mut self,
        sizes: Sizes,
        settings: &'a Settings,
        log: &'a KernelLogLevel,
    ) -> Result<Ebpf, LoadError> {
        self.loader
            .map_max_entries(names::CRITICAL, sizes.critical)
            .map_max_entries(names::PROCESS, sizes.process)
            .map_max_entries(names::BULK, sizes.bulk)
            .override_global(names::SETTINGS, settings.as_bytes(), true)
            .override_global(names::LOG_LEVEL, &log.0, true)
            .load(self.object.as_ref())
            .map_err(|error| LoadError::Object(first_line(&error)))
    }
}

type Refused = (Option<&'static str>, LoadError);

fn attach_all(
    features: &Features,
    programs: &[Program],
    btf: &Btf,
    mut ebpf: Ebpf,
) -> Result<Ebpf, Refused> {
    let cgroup = match &features.cgroup2 {
        Ok(path) => File::open(path).ok(),
        Err(_) => None,
    };
    // Closing hooks first: a listener that opens while the rest attaches must not be able to close unseen.
    let (closing, opening): (Vec<_>, Vec<_>) = programs
        .iter()
        .partition(|program| tells_of_ends(program.name));
    let parts = programs.iter().filter_map(spare::part_of);
    let parts: Vec<Program> = parts.filter(|_| features.preempts_probes).collect();
    for program in closing.into_iter().chain(&parts).chain(opening) {
        let spare = spare::of(program).filter(|_| features.preempts_probes);
        let (earlier, later) = match spare {
            Some(spare) if runs_last_first(program) => (Some(spare), None),
            spare => (None, spare),
        };
        attach_spare(&mut ebpf, btf, earlier);
        attach(&mut ebpf, btf, cgroup.as_ref(), program)
            .map_err(|error| (Some(program.name), error))?;
        attach_spare(&mut ebpf, btf, later);
    }
    Ok(ebpf)
}

/// Those of TCP listeners are changes of their state.
fn tells_of_ends(program: &str) -> bool {
    program.contains("close") || ["sock_release", "state_tp_btf"].contains(&program)
}

/// Does the kernel run what was attached last before what was attached first? A spare program must run
/// behind the one that it stands in for.
fn runs_last_first(program: &Program) -> bool {
    matches!(program.attach, Attach::Fexit { .. } | Attach::Fentry { .. })
}

/// Without it, the other one sees everything that it is not skipped for, and what it is skipped for is told.
fn attach_spare(ebpf: &mut Ebpf, btf: &Btf, spare: Option<Program>) {
    if let Some(spare) = spare
        && let Err(error) = attach(ebpf, btf, None, &spare)
    {
        tracing::warn!(program = spare.name, %error, "a spare probe is refused");
    }
}

/// Loads one program and attaches it.
pub(super) fn attach(
    ebpf: &mut Ebpf,
    btf: &Btf,
    cgroup: Option<&File>,
    program: &Program,
) -> Result<(), LoadError> {
    let loaded = ebpf
        .program_mut(program.name)
        .ok_or_else(|| LoadError::NoSuchProgram(program.name.to_owned()))?;
    match (loaded, program.attach) {
        (Loaded::FExit(loaded), Attach::Fexit { function }) => {
            loaded.load(function, btf)?;
            loaded.attach()?;
        }
        (Loaded::FEntry(loaded), Attach::Fentry { function }) => {
            loaded.load(function, btf)?;
            loaded.attach()?;
        }
        (Loaded::KProbe(loaded), Attach::Kprobe { function } | Attach::Kretprobe { function }) => {
            loaded.load()?;
            loaded.attach(function, 0)?;
        }
        (Loaded::BtfTracePoint(loaded), Attach::TpBtf { tracepoint }) => {
            loaded.load(tracepoint, btf)?;
            loaded.attach()?;
        }
        (Loaded::TracePoint(loaded), Attach::Tracepoint { category, name }) => {
            loaded.load()?;
            loaded.attach(category, name)?;
        }
        (Loaded::SockOps(loaded), Attach::SockOps) => {
            loaded.load()?;
            loaded.attach(cgroup.ok_or(LoadError::NoCgroup)?, LINK)?;
        }
        (Loaded::CgroupSock(loaded), Attach::CgroupSock(_)) => {
            loaded.load()?;
            loaded.attach(cgroup.ok_or(LoadError::NoCgroup)?, LINK)?;
        }
        (Loaded::Iter(loaded), Attach::Iter { target }) => loaded.load(target, btf)?,
        _ => return Err(LoadError::NoSuchProgram(program.name.to_owned())),
    }
    Ok(())
}

/// The chain of causes in one line, without what the verifier said: a person can use the error alone.
fn first_line(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    let line = text.lines().next().unwrap_or_default();
    let line = line.split(". Verifier output").next().unwrap_or_default();
    line.chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::{WINDOW_NS, tick_ns, window_shift};

    #[test]
    fn a_window_is_about_a_second_whatever_the_tick() {
        for (hertz, shift) in [(100, 7), (250, 8), (300, 8), (1_000, 10)] {
            assert_eq!(
                window_shift(1_000_000_000 / hertz),
                shift,
                "{hertz} a second"
            );
        }
        let here = u64::from(tick_ns()) << window_shift(tick_ns());
        assert!(here.abs_diff(WINDOW_NS) < WINDOW_NS / 2, "{here} ns");
    }
}
