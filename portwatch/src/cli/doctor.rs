//! `portwatch doctor`: what this kernel permits. Asks the kernel only, never a running daemon.

use super::args::{self, Output};
use super::exit::Exit;
use super::failure::Failure;
use super::print;
use super::status::json;
use super::style::Terminal;
use crate::kernel::features::Features;
use crate::kernel::preflight;
use crate::probe::load::{self, LoadError};
use crate::probe::plan::{Plan, plan};
use crate::probe::report::DoctorReport;

pub(super) fn run(report: &args::Report) -> Result<Exit, Failure> {
    let features = Features::detect();
    let is_permitted = preflight::check(&features).is_ok();
    let asked = is_permitted.then(|| load::ask(features.clone(), None));
    let (features, plan, refusal) = match asked {
        Some(Ok((features, plan))) => (features, plan, None),
        Some(Err(error)) => (features.clone(), unasked(&features)?, Some(error)),
        None => (features.clone(), unasked(&features)?, None),
    };
    let found = DoctorReport::new(&features, &plan);
    match report.output {
        Output::Human => print(found.to_text(Terminal::stdout().colour).as_bytes())?,
        Output::Json => print(&json(&found)?)?,
    };
    verdict(&plan, refusal)
}

/// What the kernel's shape lets hope for.
fn unasked(features: &Features) -> Result<Plan, Failure> {
    plan(features, None).map_err(|error| Failure::new(Exit::Software, format_args!("bug: {error}")))
}

/// Is there a sensor to be had? A kernel that refuses even maps has none, whatever its shape.
fn verdict(plan: &Plan, refusal: Option<LoadError>) -> Result<Exit, Failure> {
    match refusal {
        Some(error) => Err(Failure::new(Exit::Unavailable, error)),
        None if plan.has_sensor() => Ok(Exit::Ok),
        None => Ok(Exit::Unavailable),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_tells_whether_a_sensor_can_be_had() {
        let mut features = Features::everything();
        let sees = unasked(&features).expect("a plan");
        assert_eq!(verdict(&sees, None), Ok(Exit::Ok));
        let refused = LoadError::Object("no memory".to_owned());
        assert_eq!(
            verdict(&sees, Some(refused)).expect_err("refused").code(),
            69
        );
        features.btf = Err("cannot read kernel types".to_owned());
        let blind = unasked(&features).expect("a plan");
        assert_eq!(verdict(&blind, None), Ok(Exit::Unavailable));
    }
}
