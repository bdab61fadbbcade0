//! What `doctor` says: what this kernel permits, what each signal got and why, what to do about it.

mod text;

use schemars::JsonSchema;
use serde::Serialize;

use super::plan::{Choice, Plan};
use crate::event::Mechanism;
use crate::kernel::capability::Capability;
use crate::kernel::features::{Features, Lockdown};
use crate::kernel::permitted::{Permitted, ProgramKind};
use crate::kernel::preflight;
use crate::text::escape;

/// The name of this schema; a change that must break a reader bumps the number.
pub const SCHEMA: &str = "portwatch.doctor/1";

/// The answer of `doctor`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(title = "portwatch.doctor/1")]
pub struct DoctorReport {
    /// Always `portwatch.doctor/1`.
    pub schema: String,
    /// Kernel release.
    pub kernel: String,
    /// The outcome in one word.
    pub verdict: Verdict,
    /// The outcome in one sentence.
    pub summary: String,
    /// What the kernel has and permits.
    pub features: Vec<FeatureReport>,
    /// Capabilities that this process lacks.
    pub missing_capabilities: Vec<CapabilityReport>,
    /// What each signal got.
    pub signals: Vec<SignalReport>,
    /// Fields of kernel structures that this kernel does not have.
    pub missing_fields: Vec<FieldReport>,
}

/// The outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Every signal has a mechanism that sees all of it.
    Complete,
    /// Some signals miss something, or come late.
    Degraded,
    /// Nothing sees a listener when it opens.
    Blind,
}

/// One thing that the kernel has, or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct FeatureReport {
    /// Its name.
    pub name: String,
    /// Is it there?
    pub state: FeatureState,
    /// Where it is, or why it is not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// Is a feature there?
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FeatureState {
    /// It is.
    Yes,
    /// It is not.
    No,
    /// The kernel was not asked, for want of privileges.
    Unknown,
}

/// A capability that is missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct CapabilityReport {
    /// Its name, for example `CAP_BPF`.
    pub name: String,
    /// Nothing can be loaded without it.
    pub required: bool,
    /// What is lost without it.
    pub loses: String,
}

/// What a signal got.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SignalReport {
    /// Its name, for example `tcp.listen`.
    pub signal: String,
    /// The mechanism.
    pub mechanism: Mechanism,
    /// A better mechanism would see more.
    pub degraded: bool,
    /// Better mechanisms that were passed over, best first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rejected: Vec<RejectedReport>,
    /// What is not seen, or only later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blind_to: Option<String>,
    /// What the administrator can do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// A mechanism that was passed over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RejectedReport {
    /// The mechanism.
    pub mechanism: Mechanism,
    /// Why.
    pub reason: String,
}

/// A field that the kernel does not have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct FieldReport {
    /// The kernel's name for it: `struct.member`.
    pub field: String,
    /// What is not known without it.
    pub costs: String,
}

impl DoctorReport {
    /// Puts together what is known. Everything that came from the kernel is escaped here.
    #[must_use]
    pub fn new(features: &Features, plan: &Plan) -> Self {
        let signals: Vec<_> = plan.choices.iter().map(signal).collect();
        let degraded = signals.iter().filter(|signal| signal.degraded).count();
        let verdict = match (plan.has_sensor(), degraded) {
            (false, _) => Verdict::Blind,
            (true, 0) => Verdict::Complete,
            (true, _) => Verdict::Degraded,
        };
        Self {
            schema: SCHEMA.to_owned(),
            kernel: escape(features.release.as_bytes()),
            verdict,
            summary: summary(verdict, degraded, signals.len()) + caveat(features),
            features: list_features(features),
            missing_capabilities: list_capabilities(features),
            signals,
            missing_fields: features
                .missing_fields
                .iter()
                .map(|missing| FieldReport {
                    field: format!("{}.{}", missing.type_name, missing.path),
                    costs: missing.costs.to_owned(),
                })
                .collect(),
        }
    }

    /// For people: aligned, at most 100 columns, with ANSI colours if wanted.
    #[must_use]
    pub fn to_text(&self, colour: bool) -> String {
        text::render(self, colour)
    }
}

fn summary(verdict: Verdict, degraded: usize, all: usize) -> String {
    match verdict {
        Verdict::Complete => format!("all {all} signals are seen in full"),
        Verdict::Degraded => {
            format!("{degraded} of {all} signals miss something or come late")
        }
        Verdict::Blind => {
            "nothing sees a listener when it opens; only looking again from time to time finds it"
                .to_owned()
        }
    }
}

/// A plan made without asking the kernel is a hope.
fn caveat(features: &Features) -> &'static str {
    let is_unknown = |kind| features.permitted(kind) == &Permitted::Unknown;
    if ProgramKind::ALL.into_iter().any(is_unknown) {
        ", if the kernel permits what it was not asked about"
    } else {
        ""
    }
}

fn signal(choice: &Choice) -> SignalReport {
    SignalReport {
        signal: choice.signal.as_str().to_owned(),
        mechanism: choice.mechanism,
        degraded: choice.is_degraded(),
        rejected: choice
            .rejected
            .iter()
            .map(|rejected| RejectedReport {
                mechanism: rejected.mechanism,
                reason: escape(rejected.reason.as_bytes()),
            })
            .collect(),
        blind_to: choice.blind_to.map(str::to_owned),
        remedy: choice.remedy.map(str::to_owned),
    }
}

fn list_features(features: &Features) -> Vec<FeatureReport> {
    let known = |name: &str, answer: Result<Option<String>, String>| {
        let (state, detail) = match answer {
            Ok(detail) => (FeatureState::Yes, detail),
            Err(why) => (FeatureState::No, Some(why)),
        };
        feature(name, state, detail)
    };
    let lockdown = match features.lockdown {
        Lockdown::Confidentiality => Err("locked down for confidentiality".to_owned()),
        Lockdown::Integrity => Ok(Some("locked down for integrity".to_owned())),
        Lockdown::None => Ok(None),
    };
    let namespace = match features.initial_user_namespace {
        true => Ok(None),
        false => Err("capabilities of a user namespace do not permit BPF".to_owned()),
    };
    let tracefs = features.tracefs.as_ref().map_err(Clone::clone);
    let tracefs = tracefs.map(|tracefs| {
        Some(if tracefs.is_private() {
            "mounted for this process alone".to_owned()
        } else {
            tracefs.path().display().to_string()
        })
    });
    let cgroup2 = features.cgroup2.as_ref().map_err(Clone::clone);
    let mut list = vec![
        known("kernel types (BTF)", features.btf.clone().map(|()| None)),
        known("readable kernel memory", lockdown),
        known("host's user namespace", namespace),
        known("cgroup2", cgroup2.map(|at| Some(at.display().to_string()))),
        known("tracefs", tracefs),
        known("kprobes", features.kprobes.clone().map(|()| None)),
    ];
    list.extend(
        ProgramKind::ALL
            .into_iter()
            .map(|kind| program(features, kind)),
    );
    list
}

fn program(features: &Features, kind: ProgramKind) -> FeatureReport {
    let name = format!("{} programs", kind.as_str());
    match features.permitted(kind) {
        Permitted::Yes => feature(&name, FeatureState::Yes, None),
        Permitted::No(why) => feature(&name, FeatureState::No, Some(why.clone())),
        Permitted::Unknown => {
            let why = "the kernel was not asked; root may ask".to_owned();
            feature(&name, FeatureState::Unknown, Some(why))
        }
    }
}

fn feature(name: &str, state: FeatureState, detail: Option<String>) -> FeatureReport {
    FeatureReport {
        name: name.to_owned(),
        state,
        detail: detail.map(|detail| escape(detail.as_bytes())),
    }
}

fn list_capabilities(features: &Features) -> Vec<CapabilityReport> {
    let report = |capability: Capability, required, loses: &str| CapabilityReport {
        name: capability.as_str().to_owned(),
        required,
        loses: loses.to_owned(),
    };
    let required = preflight::check(features)
        .err()
        .map(|error| error.missing)
        .unwrap_or_default()
        .into_iter()
        .map(|one| report(one, true, "no probe can be loaded"));
    let optional = preflight::limitations(features)
        .into_iter()
        .map(|limitation| report(limitation.missing, false, limitation.loses));
    required.chain(optional).collect()
}

#[cfg(test)]
mod tests {
    use super::{DoctorReport, FeatureState, Verdict};
    use crate::kernel::capability::{Capabilities, Capability};
    use crate::kernel::features::Features;
    use crate::kernel::permitted::{Permitted, ProgramKind};
    use crate::probe::plan::plan;

    fn report(features: &Features) -> DoctorReport {
        DoctorReport::new(features, &plan(features, None).expect("nothing is forced"))
    }

    fn degraded_features() -> Features {
        let mut features = Features::everything();
        for kind in [ProgramKind::Fexit, ProgramKind::Fentry] {
            let answer = Permitted::No("operation\nnot permitted \x1b[2J".to_owned());
            features.permitted.insert(kind, answer);
        }
        features.kprobes = Err("the kernel is built without kprobes".to_owned());
        features
    }

    #[test]
    fn the_verdict_follows_the_plan() {
        assert_eq!(report(&Features::everything()).verdict, Verdict::Complete);
        let degraded = report(&degraded_features());
        assert_eq!(degraded.verdict, Verdict::Degraded);
        assert!(
            degraded
                .summary
                .ends_with("of 23 signals miss something or come late")
        );
        let mut blind = Features::everything();
        blind.btf = Err("cannot read kernel types".to_owned());
        assert_eq!(report(&blind).verdict, Verdict::Blind);
    }

    #[test]
    fn json_says_what_was_rejected_and_leaves_out_what_is_not_known() {
        let json = serde_json::to_value(report(&degraded_features())).expect("JSON");
        let signals = json["signals"].as_array().expect("a list");
        let udp = signals
            .iter()
            .find(|signal| signal["signal"] == "udp.bind")
            .expect("there");
        assert_eq!(udp["mechanism"], "cgroup");
        assert_eq!(udp["rejected"][0]["mechanism"], "fexit");
        assert_eq!(
            udp["rejected"][0]["reason"],
            r"the kernel refuses fexit programs: operation\x0anot permitted \x1b[2J"
        );
        assert!(udp.get("blind_to").is_none() && udp.get("remedy").is_none());
        assert_eq!(json["verdict"], "degraded");
        assert_eq!(json["schema"], "portwatch.doctor/1");
    }

    #[test]
    fn without_privileges_it_says_what_is_missing_and_unknown() {
        let mut features = Features::everything();
        features.capabilities = Capabilities::of(&[Capability::Bpf]);
        features.permitted.clear();
        let report = report(&features);
        let required: Vec<_> = report
            .missing_capabilities
            .iter()
            .filter(|one| one.required)
            .map(|one| one.name.as_str())
            .collect();
        assert_eq!(required, ["CAP_PERFMON"]);
        let fexit = report
            .features
            .iter()
            .find(|one| one.name == "fexit programs")
            .expect("listed");
        assert_eq!(fexit.state, FeatureState::Unknown);
        assert!(report.summary.ends_with("what it was not asked about"));
    }

    #[test]
    fn text_fits_the_screen_and_colour_changes_nothing_else() {
        for features in [Features::everything(), degraded_features()] {
            let report = report(&features);
            let plain = report.to_text(false);
            for line in plain.lines() {
                assert!(line.chars().count() <= 100, "{line}");
                assert_eq!(line, line.trim_end(), "no trailing space");
            }
            assert!(!plain.contains('\x1b'));
            let coloured = report.to_text(true);
            assert!(coloured.contains("\x1b[32m"));
            let mut stripped = String::new();
            for piece in coloured.split('\x1b') {
                let text = piece.split_once('m').filter(|_| piece.starts_with('['));
                stripped.push_str(text.map_or(piece, |(_, text)| text));
            }
            assert_eq!(stripped, plain);
        }
    }
}
