//! What a recording lacks of a step's snapshot, said outside the step's own check.

use std::path::Path;

use otlp::{Expected, Order, Rules};

use crate::{
    check::{Failure, Outcome, finding},
    diagnosis::Diagnosis,
    error::LabError,
    exported, findings,
    guide::{Guide, Home},
    lab::{Recording, Role},
};

/// Compares `recording` with the snapshot `name` of step `step`'s check, such as `fast`.
///
/// `workspace` is the folder that `steps` and `solutions` are in, `role` says which program
/// the step is about. The findings are those of the check, but for what only the check itself
/// knows: file, TODO, hint and chapter.
///
/// # Errors
/// The findings; or [`LabError`], if there is no such snapshot or it can't be read.
pub fn judge(workspace: &Path, step: u8, role: Role, name: &str, recording: &Recording) -> Outcome {
    let guide = guide(workspace, step, role);
    told(&guide, name, &expected(&guide, name)?, recording)
}

/// Compares `recording` with another one, such as that of the step's solution, where the
/// check has no snapshot. All else is as in [`judge`].
///
/// # Errors
/// The findings.
pub fn judge_by(
    workspace: &Path,
    step: u8,
    role: Role,
    solution: &Recording,
    recording: &Recording,
) -> Outcome {
    let guide = guide(workspace, step, role);
    let contract = guide.contract();
    let expected = Rules::new(&contract)
        .order(Order::Structure)
        .normalize(&solution.spans);
    // As a snapshot, which leaves out what differs each time.
    let expected = Expected::parse(&expected.to_string())
        .map_err(|error| LabError::part("the solution's trace", error))?;
    told(&guide, "the solution", &expected, recording).map_err(|failure| match failure {
        // It would send the reader to a snapshot.
        Failure::Diagnosis(diagnosis) => Failure::from(Diagnosis {
            next: None,
            ..*diagnosis
        }),
        failure @ Failure::Lab(_) => failure,
    })
}

fn guide(workspace: &Path, step: u8, role: Role) -> Guide {
    let package = format!("step-{step:02}");
    let folder = format!("steps/{package}");
    let home = Home {
        manifest_dir: workspace.join(&folder).display().to_string().into(),
        file: format!("{folder}/tests/check.rs").into(),
        package: package.into(),
        binary: "".into(),
    };
    let mut guide = Guide::new(format!("{step:02}"), home);
    guide.subject = role.service();
    guide
}

fn told(guide: &Guide, name: &str, expected: &Expected, recording: &Recording) -> Outcome {
    findings::compare(guide, name, expected, recording).map_err(Failure::Diagnosis)?;
    finding(exported::conventions(guide, &recording.spans))
}

/// The snapshot of that name.
pub(crate) fn expected(guide: &Guide, name: &str) -> Result<Expected, Failure> {
    Ok(snapshot(&guide.snapshot_path(name))?)
}

/// What the snapshot in this file expects.
///
/// # Errors
/// If there is no such file, or it holds no snapshot.
pub fn snapshot(path: &Path) -> Result<Expected, LabError> {
    let unreadable =
        |reason: String| LabError::part("the snapshot", format!("{}: {reason}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))?;
    Expected::parse(contents(&text)).map_err(|error| unreadable(error.to_string()))
}

/// What follows the header of a `.snap` file.
fn contents(file: &str) -> &str {
    let body = file
        .strip_prefix("---\n")
        .and_then(|rest| rest.split_once("\n---\n"))
        .map_or(file, |(_header, body)| body);
    body.trim_start_matches('\n')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_of_a_snapshot_is_left_out() {
        let file = "---\nsource: steps/step-01/tests/check.rs\nexpression: text\n---\ntrace 1\n";
        assert_eq!(contents(file), "trace 1\n");
        assert_eq!(contents("trace 1\n"), "trace 1\n");
    }
}
