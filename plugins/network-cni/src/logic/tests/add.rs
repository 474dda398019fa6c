#![allow(clippy::unwrap_used)]

use super::*;

#[test]
fn results_go_down_the_chain() {
    let node = FakeNode::new([
        output(0, &json!({"ips": ["a"]})),
        output(0, &json!({"ips": ["a", "b"]})),
    ]);
    let attachment = runner(&node).add(&invocation(), &Wishes::default()).unwrap();
    assert_eq!(ran(&node), ["ADD /one/a", "ADD /one/b"]);
    let asked = node.asked();
    assert_eq!(
        stdin(&asked[0]),
        json!({"type": "a", "x": 1, "name": "net", "cniVersion": "1.0.0"})
    );
    assert_eq!(
        stdin(&asked[1]),
        json!({
            "type": "b", "name": "net", "cniVersion": "1.0.0",
            "capabilities": {"portMappings": true, "bandwidth": false},
            "runtimeConfig": {"portMappings": [{"hostPort": 80}]},
            "prevResult": {"ips": ["a"]},
        })
    );
    assert_eq!(
        serde_json::from_str::<Value>(&attachment.cni_result).unwrap(),
        json!({"ips": ["a", "b"]})
    );
}

#[test]
fn programs_learn_of_the_sandbox() {
    let node = FakeNode::new([output(0, &json!({})), output(0, &json!({}))]);
    runner(&node).add(&invocation(), &Wishes::default()).unwrap();
    let command = node.asked().remove(0);
    let expected = [
        ("PATH", PATH),
        ("CNI_COMMAND", "ADD"),
        ("CNI_PATH", "/one:/two/"),
        ("CNI_CONTAINERID", "c0ffee"),
        ("CNI_NETNS", "/run/netns/x"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_ARGS", "K8S_POD_NAME=web;IgnoreUnknown=1"),
    ];
    assert_eq!(command.env, expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
    assert!(command.args.is_empty());
}

#[test]
fn programs_are_looked_for_in_every_directory() {
    let node = FakeNode::new([missing(), output(0, &json!({})), output(0, &json!({}))]);
    let attachment = runner(&node).add(&invocation(), &Wishes::default()).unwrap();
    assert_eq!(ran(&node), ["ADD /one/a", "ADD /two/a", "ADD /one/b"]);
    let programs: Vec<_> = attachment.offline_teardown.iter().map(|c| c.program.as_str()).collect();
    assert_eq!(programs, ["/one/b", "/two/a"]);
}

#[test]
fn a_program_that_is_nowhere() {
    let denied = || Err(Error::Denied("the grant exec does not list it".to_owned()));
    for (answers, expected) in [
        (
            [missing(), missing()],
            Error::Unavailable("failed to find plugin \"a\" in path [/one /two/]".to_owned()),
        ),
        (
            [denied(), missing()],
            Error::Denied("the grant exec does not list it".to_owned()),
        ),
    ] {
        // Of the clean-up nothing more is found either.
        let again = [missing(), missing()];
        let node = FakeNode::new(answers.into_iter().chain(again));
        let error = runner(&node).add(&invocation(), &Wishes::default()).unwrap_err();
        assert!(error.message().starts_with(expected.message()), "{error}");
        assert_eq!(std::mem::discriminant(&error), std::mem::discriminant(&expected));
    }
}

#[test]
fn a_failure_undoes_what_was_done() {
    let report = json!({"cniVersion": "1.0.0", "code": 11, "msg": "no addresses", "details": "all taken"});
    let node = FakeNode::new([output(0, &json!({"ips": []})), output(1, &report), ok(), ok()]);
    let error = runner(&node).add(&invocation(), &Wishes::default()).unwrap_err();
    let text = r#"plugin type="b" name="net" failed (add): no addresses; all taken"#;
    assert_eq!(error, Error::Unavailable(text.to_owned()));
    assert_eq!(ran(&node), ["ADD /one/a", "ADD /one/b", "DEL /one/b", "DEL /one/a"]);
    assert_eq!(stdin(&node.asked()[3])["prevResult"], json!({"ips": []}));
}

#[test]
fn a_failed_clean_up_is_told_besides() {
    let node = FakeNode::new([
        output(1, &json!({"msg": "first"})),
        output(1, &json!({"msg": "second"})),
    ]);
    let error = runner(&node).add(&invocation(), &Wishes::default()).unwrap_err();
    let text =
        r#"plugin type="a" name="net" failed (add): first; clean-up: plugin type="a" name="net" failed (del): second"#;
    assert_eq!(error.message(), text);
}

#[test]
fn failures_are_told_in_libcnis_words() {
    let raw = |stdout: &str, stderr: &str| {
        Ok(Output {
            exit_code: 2,
            stdout: stdout.into(),
            stderr: stderr.into(),
        })
    };
    for (answer, text) in [
        (
            raw("", ""),
            "failed (add): netplugin failed with no error message: exit status 2",
        ),
        (
            raw(" \n", "panic: oh\n"),
            "failed (add): netplugin failed: \"panic: oh\"",
        ),
        (
            raw("oops", ""),
            "failed (add): netplugin failed but error parsing its diagnostic message \"oops\": ",
        ),
        (raw(r#"{"msg": "no"}"#, "noise"), "failed (add): no"),
        (Err(Error::Timeout("30s".to_owned())), "failed (add): 30s"),
        (raw_ok("[]"), "gave no result (add): "),
    ] {
        let node = FakeNode::new([answer, ok()]);
        let error = runner(&node).add(&invocation(), &Wishes::default()).unwrap_err();
        let expected = format!("plugin type=\"a\" name=\"net\" {text}");
        assert!(error.message().starts_with(&expected), "{error}\n{expected}");
    }
}

fn raw_ok(stdout: &str) -> Result<Output> {
    Ok(Output {
        exit_code: 0,
        stdout: stdout.into(),
        stderr: Vec::new(),
    })
}

#[test]
fn codes_tell_whether_trying_again_helps() {
    for (code, expected) in [
        (7, Error::Invalid(String::new())),
        (1, Error::Invalid(String::new())),
        (11, Error::Unavailable(String::new())),
        (50, Error::Unavailable(String::new())),
        (5, Error::Failed(String::new())),
        (999, Error::Failed(String::new())),
    ] {
        let node = FakeNode::new([output(1, &json!({"code": code, "msg": "m"})), ok()]);
        let error = runner(&node).add(&invocation(), &Wishes::default()).unwrap_err();
        assert_eq!(
            std::mem::discriminant(&error),
            std::mem::discriminant(&expected),
            "{code}"
        );
    }
}
