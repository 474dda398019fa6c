#![allow(clippy::unwrap_used)]

use super::*;

#[test]
fn check_runs_forwards_with_the_result_of_add() {
    let node = FakeNode::new([output(0, &json!({"n": 1})), output(0, &json!({"n": 2})), ok(), ok()]);
    let runner = runner(&node);
    let attachment = runner.add(&invocation(), &Wishes::default()).unwrap();
    runner.check(&invocation(), Some(&attachment.state)).unwrap();
    assert_eq!(ran(&node)[2..], ["CHECK /one/a", "CHECK /one/b"]);
    assert_eq!(stdin(&node.asked()[2])["prevResult"], json!({"n": 2}));
}

#[test]
fn check_needs_something_to_check() {
    let node = FakeNode::new([]);
    assert!(runner(&node).check(&invocation(), None).is_err());
    let state = json!({"cniVersion": "0.3.1", "name": "n", "plugins": [], "binDirs": []}).to_string();
    let error = runner(&node).check(&invocation(), Some(&state)).unwrap_err();
    assert_eq!(
        error.message(),
        "configuration version \"0.3.1\" does not support CHECK command"
    );
}

#[test]
fn check_tells_what_is_wrong() {
    let node = FakeNode::new([
        output(0, &json!({})),
        output(0, &json!({})),
        output(1, &json!({"msg": "gone"})),
    ]);
    let runner = runner(&node);
    let attachment = runner.add(&invocation(), &Wishes::default()).unwrap();
    let error = runner.check(&invocation(), Some(&attachment.state)).unwrap_err();
    assert_eq!(error.message(), "plugin type=\"a\" name=\"net\" failed (check): gone");
}

#[test]
fn status_asks_for_versions() {
    let speaks = |versions: Value| output(0, &json!({"cniVersion": "1.0.0", "supportedVersions": versions}));
    let node = FakeNode::new([speaks(json!(["0.4.0", "1.0.0"])), speaks(json!(["0.4.0"]))]);
    let error = runner(&node).status().unwrap_err();
    assert_eq!(
        error.message(),
        "plugin type=\"b\" name=\"net\" does not support config version \"1.0.0\""
    );
    let command = node.asked().remove(0);
    assert_eq!(stdin(&command), json!({"cniVersion": "1.0.0"}));
    assert_eq!(env(&command, "CNI_NETNS"), None);

    let config = Config {
        cni_version: Some("1.1.0".to_owned()),
        ..config()
    };
    let versions = || speaks(json!(["1.1.0"]));
    let node = FakeNode::new([
        versions(),
        ok(),
        versions(),
        output(1, &json!({"code": 50, "msg": "full"})),
    ]);
    let error = Runner { node: &node, config }.status().unwrap_err();
    assert_eq!(
        error,
        Error::Unavailable("plugin type=\"b\" name=\"net\" failed (status): full".to_owned())
    );
    assert_eq!(
        ran(&node),
        ["VERSION /one/a", "STATUS /one/a", "VERSION /one/b", "STATUS /one/b"]
    );
}

#[test]
fn status_misses_programs() {
    let node = FakeNode::new([missing(), missing()]);
    let error = runner(&node).status().unwrap_err();
    assert_eq!(
        error,
        Error::Unavailable("failed to find plugin \"a\" in path [/one /two/]".to_owned())
    );
}

#[test]
fn by_default_a_bridge_with_host_ports() {
    let config: Config = parse("{}").unwrap();
    let chain = config.chain(false).unwrap();
    assert_eq!(
        json!(chain),
        json!([
            {
                "type": "bridge", "bridge": "witlet0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
                "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.85.0.0/16"}]], "routes": [{"dst": "0.0.0.0/0"}]},
            },
            {"type": "portmap", "snat": true, "capabilities": {"portMappings": true}},
        ])
    );
}

#[test]
fn both_families() {
    let config: Config =
        parse(r#"{"subnet": ["10.1.0.0/24", "fd00::/64"], "mtu": 1400, "data_dir": "/run/x", "bridge": "b0"}"#)
            .unwrap();
    let bridge = &config.chain(false).unwrap()[0];
    assert_eq!(
        bridge["ipam"]["ranges"],
        json!([[{"subnet": "10.1.0.0/24"}], [{"subnet": "fd00::/64"}]])
    );
    assert_eq!(bridge["ipam"]["routes"], json!([{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]));
    assert_eq!(
        (&bridge["mtu"], &bridge["bridge"], &bridge["ipam"]["dataDir"]),
        (&json!(1400), &json!("b0"), &json!("/run/x"))
    );
}

#[test]
fn mistakes_in_the_configuration_are_told() {
    assert!(
        parse::<Config>(r#"{"bridg": "b0"}"#)
            .unwrap_err()
            .message()
            .contains("unknown field `bridg`")
    );
    for (config, text) in [
        (r#"{"plugins": []}"#, "config: plugins: a chain has at least one plugin"),
        (r#"{"subnet": []}"#, "config: subnet: pods need at least one"),
        (r#"{"plugins": [{"type": "../x"}]}"#, "invalid plugin name: \"../x\""),
        (r#"{"plugins": [{}]}"#, "invalid plugin name: \"\""),
    ] {
        let node = FakeNode::new([]);
        let error = Runner {
            node: &node,
            config: parse(config).unwrap(),
        }
        .add(&invocation(), &Wishes::default())
        .unwrap_err();
        assert_eq!(error, Error::Invalid(text.to_owned()));
    }
}

#[test]
fn the_runtimes_version_is_spoken() {
    let node = FakeNode::new([output(0, &json!({})), output(0, &json!({}))]);
    let old = Invocation {
        config: r#"{"cniVersion": "0.4.0"}"#.to_owned(),
        ..invocation()
    };
    runner(&node).add(&old, &Wishes::default()).unwrap();
    assert_eq!(stdin(&node.asked()[0])["cniVersion"], "0.4.0");
}
