#![allow(clippy::unwrap_used)]

use super::*;

fn output(exit_code: i32, stdout: &str, stderr: &str) -> Result<Output> {
    Ok(Output {
        exit_code,
        stdout: stdout.into(),
        stderr: stderr.into(),
    })
}

fn checked(answer: Result<Output>, command: &[&str]) -> (Result<Outcome>, Vec<String>) {
    let exec = FakeExec::new([answer]);
    let outcome = run(&FakePodNet::default(), &exec, &json!({"exec": {"command": command}}));
    (outcome, exec.asked().remove(0))
}

#[test]
fn the_exit_code_decides() {
    assert_eq!(
        checked(output(0, "fine\n", ""), &["true"]).0,
        Ok(Outcome::pass("fine\n"))
    );
    assert_eq!(
        checked(output(3, "out", "err"), &["false"]).0,
        Ok(Outcome::fail("outerr"))
    );
}

#[test]
fn output_is_cut_at_ten_kibibytes() {
    let (outcome, _) = checked(output(1, &"x".repeat(10_000), &"y".repeat(10_000)), &["cat"]);
    let message = outcome.unwrap().message;
    assert_eq!(message, "x".repeat(10_000) + &"y".repeat(240));
}

#[test]
fn arguments_are_expanded_from_literal_values_only() {
    let (_, argv) = checked(
        output(0, "", ""),
        &["$(A)", "x$(B)y", "$(C)", "$$(A)", "$A", "$(A", "5$", "$$$(A)"],
    );
    assert_eq!(argv, ["one", "xy", "$(C)", "$(A)", "$A", "$(A", "5$", "$one"]);
}

#[test]
fn running_out_of_time_is_a_failure() {
    let (outcome, _) = checked(Err(Error::Timeout("late".to_owned())), &["sh", "-c", "sleep \"9\""]);
    assert_eq!(
        outcome,
        Ok(Outcome::fail(
            r#"command timed out: "sh -c sleep \"9\"" timed out after 1s"#
        ))
    );
}

#[test]
fn a_fault_of_the_runtime_says_nothing_about_the_container() {
    let error = Error::Unavailable("containerd is away".to_owned());
    assert_eq!(checked(Err(error.clone()), &["true"]).0, Err(error));
}
