#![allow(clippy::unwrap_used)]

use witlet_ports::network::Command as Wanted;

use super::*;
use crate::error::FaultKind;
use crate::grants::PinnedProgram;

fn grant(programs: &[&str]) -> Exec {
    Exec {
        programs: programs.iter().map(|p| Program::Path((*p).to_owned())).collect(),
    }
}

fn shell(script: &str) -> Wanted {
    Wanted {
        program: "/bin/sh".into(),
        args: vec!["-c".into(), script.into()],
        env: vec![("A".into(), "b".into())],
        stdin: b"input".to_vec(),
    }
}

const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn what_a_grant_lists() {
    let grant = grant(&["/opt/cni/bin/*", "/bin/true"]);
    for (program, kind) in [
        ("/bin/true", None),
        ("/opt/cni/bin/bridge", None),
        ("/opt/cni/bin/sub/bridge", Some(FaultKind::Denied)),
        ("/opt/cni/bin", Some(FaultKind::Denied)),
        ("/bin/false", Some(FaultKind::Denied)),
        ("/opt/cni/bin/../../../bin/false", Some(FaultKind::Invalid)),
        ("true", Some(FaultKind::Invalid)),
        ("", Some(FaultKind::Invalid)),
    ] {
        assert_eq!(listed(&grant, program).err().map(|f| f.kind), kind, "{program}");
    }
}

#[tokio::test]
async fn input_output_and_a_clean_environment() {
    let grant = grant(&["/bin/sh"]);
    let output = run(
        &grant,
        shell("cat; echo \"|$A|$HOME|$PWD\"; echo err >&2; exit 7"),
        PATIENCE,
    )
    .await
    .unwrap();
    assert_eq!(output.exit_code, 7);
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "input|b||/\n");
    assert_eq!(output.stderr, b"err\n");
    let killed = run(&grant, shell("kill -9 $$"), PATIENCE).await.unwrap();
    assert_eq!(killed.exit_code, 137);
}

#[tokio::test]
async fn time_is_up() {
    let fault = run(&grant(&["/bin/sh"]), shell("sleep 1000"), Duration::from_millis(50))
        .await
        .err()
        .unwrap();
    assert_eq!(
        (fault.kind, fault.text.as_str()),
        (FaultKind::Timeout, "/bin/sh did not end within 50ms")
    );
}

#[tokio::test]
async fn a_call_that_is_given_up_ends_the_whole_family() {
    let dir = tempfile::tempdir().unwrap();
    let pid_file = dir.path().join("pid");
    let script = format!("sleep 1000 & echo $! > {}; wait", pid_file.display());
    let grant = grant(&["/bin/sh"]);
    let started = async {
        loop {
            let text = std::fs::read_to_string(&pid_file).unwrap_or_default();
            if text.ends_with('\n') {
                break text.trim().parse::<i32>().unwrap();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let pid = tokio::select! {
        _ = run(&grant, shell(&script), PATIENCE) => panic!("it cannot end"),
        pid = started => rustix::process::Pid::from_raw(pid).unwrap(),
    };
    // The grandchild is gone too; whoever became its parent reaps it.
    let gone = async {
        while rustix::process::test_kill_process(pid).is_ok() && !is_zombie(pid) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.unwrap();
}

fn is_zombie(pid: rustix::process::Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|s| s.trim_start().starts_with('Z'))
}

#[tokio::test]
async fn endless_output_is_an_error() {
    let grant = grant(&["/bin/sh"]);
    let fault = run(
        &grant,
        shell("while :; do echo 0123456789012345678901234567890123456789; done"),
        PATIENCE,
    )
    .await;
    assert_eq!(fault.err().unwrap().text, "the program wrote more than 1048576 bytes");
}

#[tokio::test]
async fn a_pinned_program() {
    let pin = |sha256: &str| Exec {
        programs: vec![Program::Pinned(PinnedProgram {
            path: "/bin/sh".into(),
            sha256: sha256.into(),
        })],
    };
    let right = hex(&Sha256::digest(std::fs::read("/bin/sh").unwrap()));
    assert_eq!(run(&pin(&right), shell("true"), PATIENCE).await.unwrap().exit_code, 0);
    let fault = run(&pin(&"0".repeat(64)), shell("true"), PATIENCE).await.err().unwrap();
    assert_eq!(fault.kind, FaultKind::Denied);
    assert!(fault.text.contains(&right), "{fault}");
}

#[tokio::test]
async fn a_program_that_is_not_there() {
    let fault = run(
        &grant(&["/none"]),
        Wanted {
            program: "/none".into(),
            ..shell("")
        },
        PATIENCE,
    )
    .await
    .err()
    .unwrap();
    assert_eq!(
        (fault.kind, fault.text.as_str()),
        (FaultKind::NotFound, "/none: no such file or directory")
    );
}
