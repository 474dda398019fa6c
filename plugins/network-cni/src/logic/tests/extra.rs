#![allow(clippy::unwrap_used)]

use super::*;

fn wishes(networks: &[(&str, &str, &[&str])]) -> Wishes {
    let wanted = |(name, ifname, ips): &(&str, &str, &[&str])| Wanted {
        name: (*name).to_owned(),
        ifname: (*ifname).to_owned(),
        ips: ips.iter().map(|i| (*i).to_owned()).collect(),
    };
    Wishes {
        networks: networks.iter().map(wanted).collect(),
        bandwidth: None,
    }
}

fn config() -> Config {
    parse(
        r#"{
            "name": "net", "bin_dirs": ["/one"], "network_dir": "/etc/nets/",
            "plugins": [{"type": "a"}],
            "networks": {"fast": [{"type": "f", "capabilities": {"ips": true}}, {"type": "g"}]}
        }"#,
    )
    .unwrap()
}

fn result(n: u32) -> Result<Output> {
    output(0, &json!({ "n": n }))
}

fn interfaces(node: &FakeNode) -> Vec<String> {
    let one = |c: &Command| format!("{} {}", env(c, "CNI_IFNAME").unwrap_or_default(), c.program);
    node.asked().iter().map(one).collect()
}

#[test]
fn every_network_has_an_interface() {
    let conflist = output(
        0,
        &json!({"cniVersion": "0.4.0", "name": "x", "plugins": [{"type": "h"}]}),
    );
    let node = FakeNode::new([conflist, result(1), result(2), result(3), result(4)]);
    let runner = Runner {
        node: &node,
        config: config(),
    };
    let wishes = wishes(&[("fast", "net1", &["10.1.0.9/24"]), ("slow", "s0", &[])]);
    let attachment = runner.add(&invocation(), &wishes).unwrap();
    assert_eq!(
        interfaces(&node),
        [
            " /usr/bin/cat",
            "eth0 /one/a",
            "net1 /one/f",
            "net1 /one/g",
            "s0 /one/h"
        ]
    );
    let asked = node.asked();
    assert_eq!(asked[0].args, ["--", "/etc/nets/slow.conflist"]);
    assert_eq!(stdin(&asked[1]).get("prevResult"), None);
    assert_eq!(stdin(&asked[2])["runtimeConfig"], json!({"ips": ["10.1.0.9/24"]}));
    assert_eq!(stdin(&asked[3])["prevResult"], json!({"n": 2}));
    assert_eq!(
        (&stdin(&asked[4])["cniVersion"], &stdin(&asked[4])["name"]),
        (&json!("0.4.0"), &json!("slow"))
    );
    // The runtime learns of the pod's own network only; the host of all.
    let mut result: Value = serde_json::from_str(&attachment.cni_result).unwrap();
    let told = result
        .as_object_mut()
        .unwrap()
        .remove("k8s.v1.cni.cncf.io/network-status");
    assert_eq!(result, json!({"n": 1}));
    assert_eq!(
        told,
        Some(json!([
            {"name": "net", "interface": "eth0", "default": true, "dns": {}},
            {"name": "fast", "interface": "net1", "dns": {}},
            {"name": "slow", "interface": "s0", "dns": {}},
        ]))
    );

    // Whatever the configuration has become.
    let node = FakeNode::new([ok(), ok(), ok(), ok()]);
    let runner = Runner {
        node: &node,
        config: Config::default(),
    };
    runner.del(&invocation(), Some(&attachment.state)).unwrap();
    assert_eq!(
        interfaces(&node),
        ["s0 /one/h", "net1 /one/g", "net1 /one/f", "eth0 /one/a"]
    );
    assert_eq!(attachment.offline_teardown, node.asked());

    let node = FakeNode::new([ok(), ok(), ok(), ok()]);
    let runner = Runner {
        node: &node,
        config: Config::default(),
    };
    runner.check(&invocation(), Some(&attachment.state)).unwrap();
    assert_eq!(
        interfaces(&node),
        ["eth0 /one/a", "net1 /one/f", "net1 /one/g", "s0 /one/h"]
    );
}

#[test]
fn a_failed_network_undoes_all() {
    let failed = output(1, &json!({"msg": "full"}));
    let node = FakeNode::new([result(1), result(2), failed, ok(), ok(), ok()]);
    let runner = Runner {
        node: &node,
        config: config(),
    };
    let error = runner
        .add(&invocation(), &wishes(&[("fast", "net1", &[])]))
        .unwrap_err();
    assert!(error.message().contains("full"), "{error}");
    let verbs: Vec<_> = ran(&node);
    assert_eq!(
        verbs,
        [
            "ADD /one/a",
            "ADD /one/f",
            "ADD /one/g",
            "DEL /one/g",
            "DEL /one/f",
            "DEL /one/a"
        ]
    );
}

#[test]
fn an_unknown_network_changes_nothing() {
    let missing = Ok(Output {
        exit_code: 1,
        stdout: Vec::new(),
        stderr: b"cat: /etc/nets/none.conflist: No such file or directory".to_vec(),
    });
    let node = FakeNode::new([missing]);
    let runner = Runner {
        node: &node,
        config: config(),
    };
    let error = runner
        .add(&invocation(), &wishes(&[("none", "net1", &[])]))
        .unwrap_err();
    assert!(error.message().contains("none.conflist: No such file"), "{error}");
    let node = FakeNode::default();
    let runner = Runner {
        node: &node,
        config: Config::default(),
    };
    let error = runner
        .add(&invocation(), &wishes(&[("none", "net1", &[])]))
        .unwrap_err();
    assert_eq!(error.message(), "there is no network \"none\" on this node");
}

#[test]
fn bandwidth_is_the_runtimes_or_the_pods() {
    let limited = Wishes {
        bandwidth: Some(json!({"egressRate": 5}).as_object().unwrap().clone()),
        ..Wishes::default()
    };
    let config: Config = parse(
        r#"{"name": "net", "bin_dirs": ["/one"], "plugins": [{"type": "bandwidth", "capabilities": {"bandwidth": true}}]}"#,
    )
    .unwrap();
    let quiet = Invocation {
        config: String::new(),
        ..invocation()
    };
    for (invocation, expected) in [
        (quiet, json!({"egressRate": 5})),
        (invocation(), json!({"ingressRate": 1})),
    ] {
        let node = FakeNode::new([result(1)]);
        let runner = Runner {
            node: &node,
            config: config.clone(),
        };
        runner.add(&invocation, &limited).unwrap();
        assert_eq!(stdin(&node.asked()[0])["runtimeConfig"]["bandwidth"], expected);
    }
    let types = |limited: bool| -> Vec<_> {
        let chain = Config::default().chain(limited).unwrap();
        chain.iter().map(|p| p["type"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(types(false), ["bridge", "portmap"]);
    assert_eq!(
        types(true),
        ["bridge", "portmap", "bandwidth"],
        "only where somebody asks for it: it may not be there"
    );
}
