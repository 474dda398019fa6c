#![allow(clippy::unwrap_used)]
use witlet_plugin_host::config::PluginConfig;
use witlet_plugin_host::units::Span;

use super::*;

fn load(text: &str) -> Result<Config, Problems> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("witlet.toml");
    fs::write(&path, text).unwrap();
    Config::load(&path)
}

#[test]
fn the_smallest_configuration_has_the_default_plugins() {
    let config = load("[standalone]\n").unwrap();
    let on: Vec<&str> = config
        .plugins
        .plugins
        .iter()
        .filter(|(_, s)| s.enabled)
        .map(|(n, _)| n.as_str())
        .collect();
    assert_eq!(
        on,
        [
            "network-cni",
            "policy-pod-security",
            "probe-standard",
            "volume-standard"
        ]
    );
}

#[test]
fn a_cluster_node_leaves_the_network_alone() {
    let config = load("[api]\nkubeconfig = \"/etc/kubernetes/kubelet.conf\"\n").unwrap();
    assert!(!config.plugins.plugins.contains_key("network-cni"));
}

#[test]
fn every_problem_is_reported_with_its_line() {
    let text = "[node]\nnmae = \"a\"\nmax_pods = \"many\"\nroot_dir = \"relative\"\n[runtime]\ntimeout = \"2 parsecs\"\n[server]\nhealthz = \"x\"\n[bogus]\na = 1\n";
    let problems = load(text).unwrap_err();
    let lines: Vec<Option<usize>> = problems.0.iter().map(|p| p.line).collect();
    for line in [2, 3, 6, 8, 9] {
        assert!(lines.contains(&Some(line)), "line {line}: {problems}");
    }
    let all = problems.to_string();
    assert!(
        all.contains("nmae") && all.contains("root_dir") && all.contains("[standalone]"),
        "{all}"
    );
}

#[test]
fn drop_ins_are_merged_in_name_order() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("witlet.toml");
    fs::write(&path, "[standalone]\n[node]\nname = \"a\"\nmax_pods = 5\n").unwrap();
    fs::create_dir(dir.path().join("conf.d")).unwrap();
    fs::write(dir.path().join("conf.d/20.toml"), "[node]\nname = \"c\"\n").unwrap();
    fs::write(dir.path().join("conf.d/10.toml"), "[node]\nname = \"b\"\n").unwrap();
    let config = Config::load(&path).unwrap();
    assert_eq!(
        (config.sections.node.name.as_deref(), config.sections.node.max_pods),
        (Some("c"), 5)
    );
}

#[test]
fn a_default_plugin_is_changed_by_its_stanza() {
    let text = "[standalone]\n[plugin.policy-pod-security]\nconfig = { level = \"baseline\" }\n[plugin.sink-log]\nenabled = true\n";
    let config = load(text).unwrap();
    assert_eq!(
        config.plugins.plugins["policy-pod-security"].config["level"].as_str(),
        Some("baseline")
    );
    assert!(config.plugins.plugins["sink-log"].enabled);
}

#[test]
fn the_commented_example_is_a_valid_configuration() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/witlet.toml");
    let text = fs::read_to_string(path).unwrap();
    load(&text).unwrap();
    // Every commented key exists as well. Prose has a blank after the '#'.
    let key = |line: &str| {
        line.strip_prefix('#')
            .filter(|l| !l.is_empty() && !l.starts_with(' '))
            .map(str::to_owned)
    };
    let all: String = text
        .lines()
        .map(|l| key(l).unwrap_or_else(|| l.to_owned()) + "\n")
        .collect();
    let mut problems = Problems::default();
    problems.check::<Sections>(Path::new("witlet.toml"), &all);
    let mut stanzas = all.parse::<Table>().unwrap()["plugin"].as_table().unwrap().clone();
    if !cfg!(feature = "native-plugins") {
        // Valid, but for a build that has them.
        let device = stanzas.remove("device").unwrap();
        let device: PluginConfig = device.try_into().unwrap();
        let [problem] = &device.problems("device")[..] else {
            panic!("{:?}", device.problems("device"))
        };
        assert!(problem.contains("built without native plugins"), "{problem}");
    }
    // A node of its own has all default plugins.
    let sections = Sections {
        standalone: Some(Standalone::default()),
        ..Sections::default()
    };
    let found = plugins(&sections, stanzas, Path::new("witlet.toml"), &mut problems);
    assert_eq!(problems, Problems::default());
    assert!(found.plugins["pg-probe"].shadow.is_some());
}

#[test]
fn log_settings_are_checked() {
    let config = load("[standalone]\n[logs]\nmax_size = \"0B\"\n").unwrap();
    assert_eq!(config.sections.logs.rotation().policy.max_size, None, "never");
    let text = "[standalone]\n[logs]\nmax_files = 1\nworkers = 0\ninterval = \"2s\"\n[eviction.hard]\n\"memory.free\" = \"1Mi\"\n\"pid.available\" = \"x\"\n";
    let all = load(text).unwrap_err().to_string();
    for part in [
        "logs.max_files",
        "logs.workers",
        "logs.interval",
        "memory.free",
        "pid.available",
    ] {
        assert!(all.contains(part), "{part}: {all}");
    }
}

#[test]
fn reservations_are_checked() {
    let good = "[standalone]\n[node]\nsystem_reserved = { cpu = \"500m\", pid = \"100\" }\nenforce_allocatable = [\"pods\", \"system-reserved\"]\nsystem_reserved_cgroup = \"/system.slice\"\n";
    assert!(load(good).unwrap().sections.node.enforcement().unwrap().of_pods());
    let bad = "[standalone]\n[node]\nsystem_reserved = { gpu = \"1\" }\nkube_reserved = { memory = \"-1\" }\nenforce_allocatable = [\"kube-reserved\", \"none\"]\n";
    let all = load(bad).unwrap_err().to_string();
    for part in [
        "node.system_reserved: cannot reserve \"gpu\"",
        "node.kube_reserved: ",
        "node.kube_reserved_cgroup must be specified",
        "\"none\"",
    ] {
        assert!(all.contains(part), "{part}: {all}");
    }
}

#[test]
fn garbage_is_looked_for_now_and_then() {
    let sections = load("[standalone]\n").unwrap().sections;
    let seconds = |span: &Span| span.0.as_secs();
    assert_eq!(
        (seconds(&sections.gc.interval), seconds(&sections.images.gc_interval)),
        (60, 300)
    );
    let all = load("[standalone]\n[gc]\ninterval = \"0s\"\n[images]\ngc_interval = \"0s\"\n").unwrap_err();
    let all = all.to_string();
    assert!(
        all.contains("gc.interval") && all.contains("images.gc_interval"),
        "{all}"
    );
}
