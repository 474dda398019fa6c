use k8s_openapi::api::core::v1::ContainerRestartRuleOnExitCodes;

use super::*;

fn spec(policy: &str) -> PodSpec {
    PodSpec {
        restart_policy: Some(policy.into()),
        ..PodSpec::default()
    }
}

fn rule(action: &str, operator: &str, values: &[i32]) -> ContainerRestartRule {
    ContainerRestartRule {
        action: action.into(),
        exit_codes: Some(ContainerRestartRuleOnExitCodes {
            operator: operator.into(),
            values: Some(values.to_vec()),
        }),
    }
}

fn container(policy: Option<&str>, rules: Vec<ContainerRestartRule>) -> Container {
    Container {
        name: "c".into(),
        restart_policy: policy.map(Into::into),
        restart_policy_rules: (!rules.is_empty()).then_some(rules),
        ..Container::default()
    }
}

#[test]
fn pod_policies() {
    let c = container(None, vec![]);
    for (policy, on_success, on_failure) in [
        ("Always", true, true),
        ("OnFailure", false, true),
        ("Never", false, false),
    ] {
        assert_eq!(should_restart(&spec(policy), &c, 0), on_success, "{policy} 0");
        assert_eq!(should_restart(&spec(policy), &c, 3), on_failure, "{policy} 3");
    }
}

#[test]
fn the_containers_own_policy_wins() {
    assert!(!should_restart(&spec("Always"), &container(Some("Never"), vec![]), 1));
    assert!(should_restart(&spec("Never"), &container(Some("OnFailure"), vec![]), 1));
    assert!(!should_restart(
        &spec("Never"),
        &container(Some("OnFailure"), vec![]),
        0
    ));
    assert!(should_restart(&spec("Never"), &container(Some("Always"), vec![]), 0));
}

#[test]
fn the_first_matching_rule_decides_before_the_policy() {
    let c = container(
        Some("Never"),
        vec![rule("Restart", "In", &[42]), rule("RestartAllContainers", "In", &[43])],
    );
    for (code, expected) in [(42, true), (43, true), (1, false), (0, false)] {
        assert_eq!(should_restart(&spec("Always"), &c, code), expected, "{code}");
    }
    let c = container(Some("Never"), vec![rule("Restart", "NotIn", &[0, 1])]);
    for (code, expected) in [(0, false), (1, false), (2, true)] {
        assert_eq!(should_restart(&spec("Always"), &c, code), expected, "{code}");
    }
    let c = container(
        Some("Never"),
        vec![rule("Unheard", "In", &[7]), rule("Restart", "Unheard", &[8])],
    );
    assert!(!should_restart(&spec("Always"), &c, 7));
    assert!(!should_restart(&spec("Always"), &c, 8));
}

#[test]
fn rules_without_a_policy_are_ignored() {
    let c = container(None, vec![rule("Restart", "In", &[42])]);
    assert!(!should_restart(&spec("Never"), &c, 42));
}

#[test]
fn a_failure_with_exit_code_zero_restarts_under_on_failure() {
    let c = container(None, vec![]);
    assert!(should_restart_failed(&spec("OnFailure"), &c, 0));
    assert!(!should_restart_failed(&spec("Never"), &c, 0));
}
