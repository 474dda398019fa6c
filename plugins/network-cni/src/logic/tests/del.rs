#![allow(clippy::unwrap_used)]

use super::*;

fn added() -> Attachment {
    let node = FakeNode::new([output(0, &json!({"n": 1})), output(0, &json!({"n": 2}))]);
    runner(&node).add(&invocation(), &Wishes::default()).unwrap()
}

#[test]
fn undoes_what_add_did_whatever_the_configuration_is_now() {
    let attachment = added();
    let node = FakeNode::new([ok(), ok()]);
    let other = Runner {
        node: &node,
        config: Config::default(),
    };
    let gone = Invocation {
        netns: String::new(),
        config: String::new(),
        ..invocation()
    };
    other.del(&gone, Some(&attachment.state)).unwrap();
    assert_eq!(ran(&node), ["DEL /one/b", "DEL /one/a"]);
    let asked = node.asked();
    assert_eq!(env(&asked[0], "CNI_NETNS").unwrap(), "");
    assert_eq!(stdin(&asked[0])["prevResult"], json!({"n": 2}));
    assert_eq!(
        stdin(&asked[0])["runtimeConfig"],
        json!({"portMappings": [{"hostPort": 80}]})
    );
    assert_eq!(stdin(&asked[1])["prevResult"], json!({"n": 2}));
}

#[test]
fn the_offline_commands_are_those_of_del() {
    let attachment = added();
    let node = FakeNode::new([ok(), ok()]);
    runner(&node).del(&invocation(), Some(&attachment.state)).unwrap();
    assert_eq!(attachment.offline_teardown, node.asked());
}

#[test]
fn works_without_state() {
    let node = FakeNode::new([ok(), ok()]);
    runner(&node).del(&invocation(), None).unwrap();
    assert_eq!(ran(&node), ["DEL /one/b", "DEL /one/a"]);
    assert_eq!(stdin(&node.asked()[0]).get("prevResult"), None);
}

#[test]
fn a_failure_does_not_stop_the_others() {
    let node = FakeNode::new([output(1, &json!({"msg": "one"})), output(1, &json!({"msg": "two"}))]);
    let error = runner(&node).del(&invocation(), None).unwrap_err();
    assert_eq!(error.message(), "plugin type=\"b\" name=\"net\" failed (del): one");
    assert_eq!(ran(&node), ["DEL /one/b", "DEL /one/a"]);
}

#[test]
fn old_versions_get_no_result() {
    let config = Config {
        cni_version: Some("0.3.1".to_owned()),
        ..config()
    };
    let node = FakeNode::new([output(0, &json!({})), output(0, &json!({})), ok(), ok()]);
    let runner = Runner { node: &node, config };
    let attachment = runner.add(&invocation(), &Wishes::default()).unwrap();
    runner.del(&invocation(), Some(&attachment.state)).unwrap();
    assert_eq!(stdin(&node.asked()[1])["prevResult"], json!({}));
    assert_eq!(stdin(&node.asked()[2]).get("prevResult"), None);
}

#[test]
fn broken_state_is_told() {
    let node = FakeNode::new([]);
    let error = runner(&node).del(&invocation(), Some("{")).unwrap_err();
    assert!(error.message().starts_with("the state of an earlier ADD: "), "{error}");
}
